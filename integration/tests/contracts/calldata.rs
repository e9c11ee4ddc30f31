//! Calls whose arguments are no arguments: an answer or a revert, for little gas.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use meridian_proto::contract::{Meridian, Status};

use crate::anchors::Log;
use crate::certificates::Draft;
use crate::evm::{Ending, PLENTY, intrinsic_gas};
use crate::members::schedule;
use crate::random::Random;
use crate::world::World;

/// More than any view may take.
const VERIFY_GAS_CAP: u64 = 1_500_000;

/// A call of every view, valid ones where there are arguments.
fn views(world: &mut World, random: &mut Random) -> Vec<Vec<u8>> {
    let committee = world.committee(3).clone();
    let draft = Draft::valid(random, &committee, world.domain, world.chain.now());
    let certificate = Bytes::from(draft.sign(&world.keys).encode());
    let members = Bytes::from(world.members(3));
    let log = Log::new(world, 3, 9);
    let gateway = log.checkpoint.gateway;
    let anchor = log.anchor(world, random);
    world.chain.send(gateway, world.contract, &anchor).event::<Meridian::Anchored>();
    let anchored = Meridian::verifyAnchoredCall {
        entry: (&log.entries[4]).into(),
        index: 4,
        proof: log.nodes.inclusion(4, 9),
        gateway,
    };
    let (one, other) = (certificate.clone(), members.clone());
    vec![
        Meridian::verifyCertificateCall { certificate: one.clone(), members: other.clone() }.abi_encode(),
        Meridian::verifyCertificateUntilCall { certificate: one, members: other, until: 5 }.abi_encode(),
        Meridian::regionsOfCall { certificate, members }.abi_encode(),
        anchored.abi_encode(),
        Meridian::epochOfCall { epoch: 3 }.abi_encode(),
        Meridian::anchorOfCall { gateway }.abi_encode(),
        Meridian::latestEpochCall {}.abi_encode(),
        Meridian::noticeCall {}.abi_encode(),
        Meridian::graceCall {}.abi_encode(),
        Meridian::ownerCall {}.abi_encode(),
    ]
}

/// A word that is a bad offset or length, or just another.
fn word(random: &mut Random, len: usize) -> [u8; 32] {
    let near = U256::from(len).wrapping_add(U256::from(random.below(70))).wrapping_sub(U256::from(35));
    let words = [
        U256::ZERO,
        U256::ONE,
        U256::MAX,
        U256::MAX - U256::from(31),
        U256::ONE << 255,
        U256::ONE << 64,
        (U256::ONE << 64) - U256::ONE,
        (U256::ONE << 160) | U256::ONE,
        U256::from(random.below(400)),
        U256::from(32 * random.below(20)),
        near,
        U256::from_be_bytes(random.hash().0),
    ];
    random.pick(&words).to_be_bytes()
}

/// Random bytes, fewer than so many.
fn some(random: &mut Random, fewer: usize) -> Vec<u8> {
    let len = random.place(fewer);
    random.bytes(len)
}

/// Changes the arguments' heads and lengths more often than what they hold.
fn spoil(random: &mut Random, data: &mut Vec<u8>) {
    for _ in 0..=random.below(2) {
        let words = (data.len().saturating_sub(4)) / 32;
        match random.below(8) {
            0 => data.truncate(random.place(data.len() + 1)),
            1 => data.extend(some(random, 100)),
            2 if data.len() > 4 => {
                let at = 4 + random.place(data.len() - 4);
                data[at] ^= 1 << random.below(8);
            }
            3 => {
                data.truncate(4);
                data.extend(some(random, 600));
            }
            _ if words > 0 => {
                let at = 4 + 32 * random.place(words.min(16));
                let word = word(random, data.len());
                data[at..at + 32].copy_from_slice(&word);
            }
            _ => {}
        }
    }
}

#[test]
fn any_calldata_is_answered_or_reverted() {
    let random = &mut Random::new(20);
    let world = &mut World::new(random, &[vec![1], vec![1], vec![1; 5], vec![1]]);
    let views = views(world, random);
    let arguments = Meridian::verifyCertificateCall::abi_decode(&views[0]).unwrap();
    let (mut answered, mut valid, mut reverted) = (0, 0, 0);
    for round in 0..12_000 {
        // The calls with arguments of any length three times as often.
        let view = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9][round % 15];
        let mut data = views[view].clone();
        if random.one_in(20) {
            data = some(random, 300);
        } else {
            spoil(random, &mut data);
        }
        let outcome = world.chain.raw(world.contract, data.clone().into(), PLENTY);
        assert!(outcome.gas - intrinsic_gas(&data) <= VERIFY_GAS_CAP, "{}", outcome.gas);
        match &outcome.ending {
            Ending::Returned(_) => answered += 1,
            Ending::Reverted(_) => reverted += 1,
            other => panic!("{other:?} of {}", alloy::primitives::hex::encode(&data)),
        }
        if view == 0 && matches!(outcome.ending, Ending::Returned(_)) && data.starts_with(&views[0][..4]) {
            let status = Status::from_number(outcome.returned::<Meridian::verifyCertificateCall>()).unwrap();
            if status == Status::Valid {
                // However they were written, the arguments are those that are valid.
                let read = Meridian::verifyCertificateCall::abi_decode(&data).unwrap();
                assert_eq!(read.certificate, arguments.certificate);
                assert_eq!(read.members, arguments.members);
                valid += 1;
            }
        }
    }
    println!("{answered} answered, {valid} of them valid, {reverted} reverted");
    assert!(answered > 1_000 && reverted > 1_000 && valid > 10);
}

/// Transactions with such calldata change nothing, or are refused.
#[test]
fn any_calldata_of_a_transaction_is_taken_or_reverted() {
    let random = &mut Random::new(21);
    let world = &mut World::new(random, &[vec![1], vec![1], vec![1; 5], vec![2, 3]]);
    let log = Log::new(world, 3, 9);
    let calls = [
        log.anchor(world, random).abi_encode(),
        schedule(world.committee(4).parts(), 0).abi_encode(),
        Meridian::passSeatCall {
            epoch: 4,
            members: world.members(3).into(),
            from: world.committee(3).seats()[2].address,
            to: Address::repeat_byte(5),
            endpoint: "http://x:1".into(),
            activation: 0,
        }
        .abi_encode(),
        Meridian::cancelCommitteeCall { epoch: 4 }.abi_encode(),
    ];
    for round in 0..4_000 {
        let mut data = calls[round % calls.len()].clone();
        spoil(random, &mut data);
        let outcome = world.chain.raw_as(crate::world::owner(), world.contract, data.clone().into());
        assert!(
            matches!(outcome.ending, Ending::Returned(_) | Ending::Reverted(_)),
            "{:?} of {}",
            outcome.ending,
            alloy::primitives::hex::encode(&data)
        );
        assert!(outcome.gas - intrinsic_gas(&data).min(outcome.gas) <= VERIFY_GAS_CAP, "{}", outcome.gas);
    }
}
