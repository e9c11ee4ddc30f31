//! What the calls cost. `REGENERATE=1` writes the table of `docs/benchmarks.md`; without it the test compares.

use std::fmt::Write;

use alloy::primitives::{Address, B256};
use alloy::sol;
use alloy::sol_types::SolCall;
use meridian_proofs::checkpoint::Checkpoint;
use meridian_proofs::committee::{Committee, RegionId};
use meridian_proto::contract::{Meridian, Status};

use crate::anchors::signatures;
use crate::certificates::Draft;
use crate::evm::{Artifact, nobody};
use crate::logs::synthetic;
use crate::random::Random;
use crate::world::World;

sol! {
    #[allow(missing_docs)]
    contract Probe {
        function run(address target, bytes data) external view returns (uint256 gasUsed, bool ok, bytes result);
    }
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
const START: &str = "<!-- gas: begin -->\n";
const END: &str = "<!-- gas: end -->";

/// Sizes of a log of a million entries before and after fifty more, with the shortest proof and with the longest.
const SHORT: (u64, u64) = (1_048_576, 1_048_626);
const LONG: (u64, u64) = (1_048_575, 1_048_625);

/// What one committee's calls cost.
struct Row {
    replicas: usize,
    cosignatures: usize,
    first: u64,
    later: u64,
    longest: u64,
    verify: u64,
    anchored: u64,
}

/// The regions that are complete with the fewest signatures, with just so many of each.
fn fewest(committee: &Committee) -> Vec<Address> {
    let mut regions: Vec<RegionId> = committee.regions().iter().map(|region| region.id).collect();
    regions.sort_by_key(|region| committee.quorum(*region));
    let mut signers: Vec<Address> = regions[..committee.min_copies()]
        .iter()
        .flat_map(|region| committee.seats_of(*region).take(committee.quorum(*region)))
        .map(|seat| seat.address)
        .collect();
    signers.sort_unstable();
    signers
}

/// Gas of a call from within a contract, and its answer.
fn probe<C: SolCall>(world: &mut World, call: &C) -> (u64, C::Return) {
    let probe = world.chain.deploy(&Artifact::load("Probe"), &[]);
    let run = Probe::runCall { target: world.contract, data: call.abi_encode().into() };
    let said = world.chain.call(probe, &run).returned::<Probe::runCall>();
    assert!(said.ok);
    (said.gasUsed.to(), C::abi_decode_returns(&said.result).unwrap())
}

/// The same contract with the same committee of five regions in every call.
fn world(replicas: usize) -> World {
    let seats = (0..5).map(|rank| replicas / 5 + usize::from(rank < replicas % 5)).collect();
    let mut world = World::with(&mut Random::new(10), &[vec![1], vec![1], seats, vec![1]], |parts| {
        parts.gateways.truncate(1);
        parts.min_copies = if parts.regions.len() == 5 { 4 } else { 1 };
    });
    world.chain.set_number(19_000_000);
    world
}

/// Gas of a whole transaction that anchors.
fn anchor(world: &mut World, size: u64, root: B256, consistency: &[B256]) -> u64 {
    let committee = world.committee(3).clone();
    let gateway = committee.gateways()[0].address;
    let checkpoint = Checkpoint { gateway, epoch: 3, size, root, timestamp: world.chain.now() };
    let call = Meridian::anchorCall {
        checkpoint: (&checkpoint).into(),
        signatures: signatures(&checkpoint, &world.domain, &world.keys, gateway, &fewest(&committee)),
        members: world.members(3).into(),
        consistency: consistency.to_vec(),
    };
    let outcome = world.chain.send(nobody(3), world.contract, &call);
    outcome.event::<Meridian::Anchored>();
    outcome.gas
}

fn measure(replicas: usize) -> Row {
    let random = &mut Random::new(11);
    let mut steps = |old_size: u64, size: u64, hashes: usize| {
        let world = &mut world(replicas);
        let (old_root, root, proof) = synthetic(random, old_size, size);
        assert_eq!(proof.len(), hashes);
        (anchor(world, old_size, old_root, &[]), anchor(world, size, root, &proof))
    };
    let (_, later) = steps(SHORT.0, SHORT.1, 1);
    let (first, longest) = steps(LONG.0, LONG.1, 22);

    let world = &mut world(replicas);
    let committee = world.committee(3).clone();
    let mut draft = Draft::valid(random, &committee, world.domain, world.chain.now());
    draft.checkpoint.size = LONG.1;
    draft.put_at(random, LONG.1 / 2);
    draft.cosigners = fewest(&committee);
    let members = world.members(3);
    let certificate = draft.sign(&world.keys);
    let root = certificate.checkpoint.signed.checkpoint.root;
    let call =
        Meridian::verifyCertificateCall { certificate: certificate.encode().into(), members: members.into() };
    let (verify, status) = probe(world, &call);
    assert_eq!(Status::from_number(status), Some(Status::Valid));

    anchor(world, LONG.1, root, &[]);
    let call = Meridian::verifyAnchoredCall {
        entry: (&draft.entry).into(),
        index: draft.index,
        proof: draft.path.clone(),
        gateway: draft.checkpoint.gateway,
    };
    let (anchored, holds) = probe(world, &call);
    assert!(holds);
    Row { replicas, cosignatures: draft.cosigners.len(), first, later, longest, verify, anchored }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1_000), number % 1_000)
    }
}

fn table(rows: &[Row]) -> String {
    let mut table =
        "| replicas / cosignatures | anchor: first | later, 1 hash | later, 22 hashes | verifyCertificate | \
         verifyAnchored |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let [first, later, longest, verify, anchored] =
            [row.first, row.later, row.longest, row.verify, row.anchored].map(grouped);
        let (replicas, cosignatures) = (row.replicas, row.cosignatures);
        writeln!(
            table,
            "| {replicas} / {cosignatures} | {first} | {later} | {longest} | {verify} | {anchored} |"
        )
        .unwrap();
    }
    table
}

#[test]
fn the_page_says_what_the_calls_cost() {
    let rows = [5, 13, 50, 100].map(measure);
    let table = table(&rows);
    println!("{table}");
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(START).unwrap();
    let (listed, after) = rest.split_once(END).unwrap();
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(PAGE, format!("{before}{START}{table}{END}{after}")).unwrap();
    } else {
        assert_eq!(listed, table, "the table has drifted: run with REGENERATE=1");
    }
    let five = &rows[0];
    assert_eq!(five.cosignatures, 4);
    assert!(
        five.first <= 120_000 && five.later <= 100_000 && five.longest <= 100_000 && five.verify <= 40_000
    );
}
