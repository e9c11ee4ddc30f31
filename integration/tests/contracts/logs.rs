//! The contract's proofs of inclusion and consistency say what the log's own code says.

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol;
use alloy::sol_types::SolCall;
use meridian_proofs::log::{
    consistency_proof_len, inclusion_proof_len, verify_consistency, verify_inclusion,
};

use crate::anchors::{Log, Nodes};
use crate::certificates::{place, root, size};
use crate::evm::{Artifact, Chain, intrinsic_gas};
use crate::random::Random;
use crate::world::World;

sol! {
    #[allow(missing_docs)]
    contract LogHarness {
        struct Entry {
            bytes32 blobId; bytes32 namespace; bytes32 payloadHash;
            uint64 length; uint64 epoch; uint64 time; uint64 expiry;
        }
        function pathLength(uint64 index, uint64 size) external pure returns (uint256);
        function isIncluded(bytes32 leaf, uint64 index, uint64 size, bytes32[] proof, bytes32 root)
            external pure returns (bool);
        function isConsistent(uint64 oldSize, bytes32 oldRoot, uint64 size, bytes32 root, bytes32[] proof)
            external pure returns (bool);
    }
}

/// Largest size of which all pairs are tried.
const ALL: u64 = 130;

fn harness() -> (Chain, Address) {
    let mut chain = Chain::paris(1);
    let address = chain.deploy(&Artifact::load("LogHarness"), &[]);
    (chain, address)
}

fn nodes() -> Nodes {
    let mut nodes = Nodes::default();
    for leaf in 0..=ALL {
        nodes.append(keccak256(leaf.to_be_bytes()));
    }
    nodes
}

/// Asks the contract about a consistency proof, and compares.
#[track_caller]
fn consistent(chain: &mut Chain, harness: Address, call: &LogHarness::isConsistentCall) -> bool {
    let LogHarness::isConsistentCall { oldSize, oldRoot, size, root, proof } = call;
    let expected = verify_consistency(*oldSize, oldRoot, *size, root, proof).is_ok();
    let said = chain.call(harness, call).returned::<LogHarness::isConsistentCall>();
    assert_eq!(said, expected, "{oldSize} to {size}, {} hashes", proof.len());
    said
}

#[track_caller]
fn included(chain: &mut Chain, harness: Address, call: &LogHarness::isIncludedCall) -> bool {
    let LogHarness::isIncludedCall { leaf, index, size, proof, root } = call;
    let expected = verify_inclusion(*leaf, *index, *size, proof, root).is_ok();
    let said = chain.call(harness, call).returned::<LogHarness::isIncludedCall>();
    assert_eq!(said, expected, "{index} of {size}, {} hashes", proof.len());
    said
}

/// Changes a proof's hashes.
fn spoil(random: &mut Random, proof: &mut Vec<B256>) {
    let len = proof.len();
    match random.below(5) {
        0 => proof.push(random.hash()),
        1 => proof.truncate(len.saturating_sub(1)),
        2 if len > 1 => proof.reverse(),
        3 => proof.insert(0, random.hash()),
        _ if len > 0 => proof[random.place(len)][random.place(32)] ^= 1 << random.below(8),
        _ => proof.push(B256::ZERO),
    }
}

fn near(random: &mut Random, number: u64) -> u64 {
    match random.below(4) {
        0 => number.wrapping_add(1),
        1 => number.wrapping_sub(1),
        2 => number ^ (1 << random.below(64)),
        _ => random.number(),
    }
}

/// Both roots that a consistency proof leads to, as RFC 9162 (section 2.1.4.2) writes it down.
fn roots(old_size: u64, size: u64, old_root: B256, proof: &[B256]) -> (B256, B256) {
    let node = |left: &B256, right: &B256| keccak256([&[1], left.as_slice(), right.as_slice()].concat());
    let (mut place, mut last) = (old_size - 1, size - 1);
    while place & 1 == 1 {
        (place, last) = (place >> 1, last >> 1);
    }
    let mut path = proof.to_vec();
    if old_size.is_power_of_two() {
        path.insert(0, old_root);
    }
    let (mut old, mut new) = (path[0], path[0]);
    for sibling in &path[1..] {
        if place & 1 == 1 || place == last {
            (old, new) = (node(sibling, &old), node(sibling, &new));
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            new = node(&new, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    (old, new)
}

/// Roots of two sizes of a log that nobody has to hash, and the proof from one to the other.
pub(crate) fn synthetic(random: &mut Random, old_size: u64, size: u64) -> (B256, B256, Vec<B256>) {
    let proof: Vec<B256> = (0..consistency_proof_len(old_size, size)).map(|_| random.hash()).collect();
    let (old_root, root) = roots(old_size, size, random.hash(), &proof);
    (old_root, root, proof)
}

#[test]
fn all_consistency_proofs_of_small_logs() {
    let (mut chain, harness) = harness();
    let (nodes, random) = (nodes(), &mut Random::new(30));
    for size in 0..=ALL {
        for old_size in 0..=ALL {
            let proof = if old_size <= size {
                nodes.consistency(old_size, size)
            } else {
                nodes.consistency(size, old_size)
            };
            let (old_root, root) = (nodes.root(old_size), nodes.root(size));
            let call =
                LogHarness::isConsistentCall { oldSize: old_size, oldRoot: old_root, size, root, proof };
            assert_eq!(consistent(&mut chain, harness, &call), old_size <= size);
            let mut other = call;
            match random.below(5) {
                0 => other.oldRoot = nodes.root(random.below(ALL)),
                1 => other.root = random.hash(),
                2 => other.oldSize = near(random, old_size),
                3 => other.size = near(random, size),
                _ => spoil(random, &mut other.proof),
            }
            consistent(&mut chain, harness, &other);
        }
    }
}

#[test]
fn consistency_proofs_of_large_logs() {
    let (mut chain, harness) = harness();
    let random = &mut Random::new(31);
    for _ in 0..3_000 {
        let (one, other) = (size(random), size(random));
        let (old_size, size) = (one.min(other), one.max(other));
        if old_size == size {
            continue;
        }
        let (old_root, root, proof) = synthetic(random, old_size, size);
        let call = LogHarness::isConsistentCall { oldSize: old_size, oldRoot: old_root, size, root, proof };
        assert!(consistent(&mut chain, harness, &call), "{old_size} to {size}");
        let mut spoiled = call;
        match random.below(6) {
            0 => spoiled.oldRoot = random.hash(),
            1 => spoiled.root = spoiled.oldRoot,
            2 => spoiled.oldSize = near(random, old_size),
            3 => spoiled.size = near(random, size),
            4 => (spoiled.size, spoiled.oldSize) = (old_size, size),
            _ => spoil(random, &mut spoiled.proof),
        }
        consistent(&mut chain, harness, &spoiled);
    }
}

#[test]
fn all_inclusion_proofs_of_small_logs() {
    let (mut chain, harness) = harness();
    let (nodes, random) = (nodes(), &mut Random::new(32));
    for size in 0..=ALL {
        let root = nodes.root(size);
        for index in 0..=size {
            let proof = nodes.inclusion(index, size);
            let leaf = keccak256(index.to_be_bytes());
            let call = LogHarness::isIncludedCall { leaf, index, size, proof, root };
            assert_eq!(included(&mut chain, harness, &call), index < size);
            let mut other = call;
            match random.below(5) {
                0 => other.leaf = random.hash(),
                1 => other.root = random.hash(),
                2 => other.index = near(random, index),
                3 => other.size = near(random, size),
                _ => spoil(random, &mut other.proof),
            }
            included(&mut chain, harness, &other);
        }
    }
}

#[test]
fn inclusion_proofs_of_large_logs() {
    let (mut chain, harness) = harness();
    let random = &mut Random::new(33);
    for _ in 0..3_000 {
        let size = size(random);
        let index = place(random, size);
        let need = inclusion_proof_len(index, size);
        let call = LogHarness::pathLengthCall { index, size };
        let said = chain.call(harness, &call).returned::<LogHarness::pathLengthCall>();
        assert_eq!(said, alloy::primitives::U256::from(need), "{index} of {size}");
        let proof: Vec<B256> = (0..need).map(|_| random.hash()).collect();
        let leaf = random.hash();
        let root = root(leaf, index, size, &proof);
        let call = LogHarness::isIncludedCall { leaf, index, size, proof, root };
        assert!(included(&mut chain, harness, &call), "{index} of {size}");
        let mut other = call;
        match random.below(4) {
            0 => other.leaf = random.hash(),
            1 => other.index = near(random, index),
            2 => other.size = near(random, size),
            _ => spoil(random, &mut other.proof),
        }
        included(&mut chain, harness, &other);
    }
}

/// Entries under an anchored root, and everything near them.
#[test]
fn anchored_entries_are_found_and_no_others() {
    use meridian_proto::contract::Meridian::verifyAnchoredCall;
    let random = &mut Random::new(34);
    let world = &mut World::new(random, &[vec![1], vec![1], vec![1; 5], vec![1]]);
    let mut log = Log::new(world, 3, 77);
    let gateway = log.checkpoint.gateway;
    let call = |log: &Log, index: u64, size: u64| verifyAnchoredCall {
        entry: (&log.entries[usize::try_from(index).unwrap()]).into(),
        index,
        proof: log.nodes.inclusion(index, size),
        gateway,
    };
    let said = |world: &mut World, call: &verifyAnchoredCall| {
        world.chain.call(world.contract, call).returned::<verifyAnchoredCall>()
    };
    // Nothing is anchored yet.
    assert!(!said(world, &call(&log, 0, 77)));
    assert!(!said(world, &verifyAnchoredCall { proof: Vec::new(), ..call(&log, 0, 77) }));

    let anchor = log.anchor(world, random);
    world
        .chain
        .send(gateway, world.contract, &anchor)
        .returned::<meridian_proto::contract::Meridian::anchorCall>();
    for index in 0..77 {
        let right = call(&log, index, 77);
        assert!(said(world, &right), "{index}");
        assert!(!said(world, &verifyAnchoredCall { gateway: Address::repeat_byte(3), ..right.clone() }));
        for number in [index + 1, index.wrapping_sub(1), 77, u64::MAX] {
            assert!(!said(world, &verifyAnchoredCall { index: number, ..right.clone() }));
        }
        let mut other = right.clone();
        match random.below(7) {
            0 => other.entry.blobId = random.hash(),
            1 => other.entry.namespace = random.hash(),
            2 => other.entry.payloadHash = random.hash(),
            3 => other.entry.length += 1,
            4 => other.entry.epoch += 1,
            5 => other.entry.time += 1,
            _ => other.entry.expiry += 1,
        }
        assert!(!said(world, &other), "{index}");
        let mut other = right;
        spoil(random, &mut other.proof);
        assert!(!said(world, &other), "{index}");
    }
    // A proof without end costs no more than one of the right length.
    let mut long = call(&log, 5, 77);
    long.proof.resize(20_000, B256::ZERO);
    assert!(!said(world, &long));
    let outcome = world.chain.call(world.contract, &long);
    assert!(outcome.gas - intrinsic_gas(&long.abi_encode()) < 100_000, "{}", outcome.gas);
    // The next anchor takes the place of the first, and holds all that was under it.
    log.anchored = 77;
    log.grow(23);
    let anchor = log.anchor(world, random);
    assert!(!said(world, &call(&log, 80, 100)));
    world
        .chain
        .send(gateway, world.contract, &anchor)
        .returned::<meridian_proto::contract::Meridian::anchorCall>();
    for index in [0, 5, 76, 77, 80, 99] {
        assert!(said(world, &call(&log, index, 100)), "{index}");
    }
    assert!(!said(world, &call(&log, 5, 77)));
}
