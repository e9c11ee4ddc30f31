//! With too little gas the contract says nothing: never a status that is not true.

use std::collections::BTreeSet;

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::SolCall;
use meridian_proto::contract::{Meridian, Status};

use crate::anchors::Log;
use crate::certificates::{Draft, smallest_quorum};
use crate::evm::{Ending, PLENTY, intrinsic_gas};
use crate::mutate::spoil;
use crate::oracle::{Question, answer};
use crate::random::Random;
use crate::world::World;

/// Calls with every limit from that of the transaction alone to more than enough, in steps, and in steps of one where
/// the last of it runs out.
fn sweep(world: &mut World, question: &Question, step: usize) -> Status {
    let (status, _) = answer(&world.epochs, world.chain.now(), question);
    let call = Meridian::verifyCertificateCall {
        certificate: question.certificate.clone().into(),
        members: question.members.clone().into(),
    };
    let data = Bytes::from(call.abi_encode());
    // What is kept back from a call (EIP-150) may make more necessary than is used.
    let enough = world.chain.raw(world.contract, data.clone(), PLENTY).gas * 11 / 10;
    let mut answers = 0;
    let mut ask = |limit: u64| {
        let outcome = world.chain.raw(world.contract, data.clone(), limit);
        match outcome.ending {
            Ending::Returned(_) => {
                let said = outcome.returned::<Meridian::verifyCertificateCall>();
                assert_eq!(Status::from_number(said), Some(status), "with {limit} gas");
                answers += 1;
                true
            }
            Ending::Halted(_) | Ending::NotStarted => false,
            Ending::Reverted(_) => panic!("reverted with {limit} gas"),
        }
    };
    let first = intrinsic_gas(&data) - 1;
    for limit in (first..enough).step_by(step) {
        ask(limit);
    }
    let (mut no, mut yes) = (first, enough);
    while yes - no > 1 {
        let middle = no.midpoint(yes);
        if ask(middle) { yes = middle } else { no = middle }
    }
    for limit in no - 200..yes + 200 {
        ask(limit);
    }
    assert!(answers > 0);
    status
}

#[test]
fn every_gas_limit_gives_the_true_status_or_none() {
    let random = &mut Random::new(90);
    let world = &mut World::new(random, &[vec![1], vec![1], vec![1; 5], vec![1]]);
    let committee = world.committee(3).clone();
    let members = world.members(3);
    let now = world.chain.now();
    let mut draft = Draft::valid(random, &committee, world.domain, now);
    draft.resize(random, 21);
    let mut seen = BTreeSet::new();
    let mut run = |world: &mut World, draft: &Draft, step: usize| {
        let certificate = draft.sign(&world.keys).encode();
        let question = Question { certificate, members: members.clone(), until: 0 };
        seen.insert(sweep(world, &question, step));
    };

    draft.cosigners = smallest_quorum(random, &committee, committee.min_copies());
    run(world, &draft, 1);
    let stranger = world.keys.random(random);
    run(world, &Draft { signer: stranger, ..draft.clone() }, 3);
    let fewer = smallest_quorum(random, &committee, committee.min_copies() - 1);
    run(world, &Draft { cosigners: fewer, ..draft.clone() }, 3);
    let mut strangers = draft.cosigners.clone();
    strangers.push(world.keys.random(random));
    strangers.sort_unstable();
    run(world, &Draft { cosigners: strangers, ..draft.clone() }, 3);
    let mut expired = draft.clone();
    expired.entry.expiry = now;
    expired.entry.time = now - committee.min_retention();
    expired.checkpoint.timestamp = expired.entry.time;
    run(world, &expired, 11);
    let path = draft.path.iter().copied().rev().collect();
    let root = draft.sign(&world.keys).checkpoint.signed.checkpoint.root;
    let mut elsewhere = Draft { path, root_follows: false, ..draft.clone() };
    elsewhere.checkpoint.root = root;
    run(world, &elsewhere, 11);

    let expected = [
        Status::Valid,
        Status::BadProof,
        Status::BadGatewaySignature,
        Status::BadCosignature,
        Status::NoQuorum,
        Status::Expired,
    ];
    assert_eq!(seen, BTreeSet::from(expected));
    // Whatever else bytes can be, in wide steps.
    for _ in 0..40 {
        let mut certificate = draft.sign(&world.keys).encode();
        spoil(random, &mut certificate, draft.path.len());
        sweep(world, &Question { certificate, members: members.clone(), until: 0 }, 307);
    }
}

/// The same of an anchor: with less gas it is not made, and no reason is made up.
#[test]
fn every_gas_limit_anchors_or_halts() {
    let random = &mut Random::new(91);
    let world = &mut World::new(random, &[vec![1], vec![1], vec![1; 5], vec![1]]);
    let log = Log::new(world, 3, 50);
    let call = log.anchor(world, random);
    let data = Bytes::from(call.abi_encode());
    let whole = world.chain.raw(world.contract, data.clone(), PLENTY);
    assert!(matches!(whole.ending, Ending::Returned(_)), "{:?}", whole.ending);
    let mut wrong = log.anchor(world, random);
    wrong.checkpoint.gateway = Address::repeat_byte(1);
    let refused = Bytes::from(wrong.abi_encode());
    let reason = world.chain.raw(world.contract, refused.clone(), PLENTY).ending;
    for limit in (intrinsic_gas(&data)..whole.gas * 11 / 10).step_by(7) {
        match world.chain.raw(world.contract, data.clone(), limit).ending {
            Ending::Returned(_) | Ending::Halted(_) | Ending::NotStarted => {}
            Ending::Reverted(reason) => panic!("{reason} with {limit} gas"),
        }
        match world.chain.raw(world.contract, refused.clone(), limit).ending {
            Ending::Halted(_) | Ending::NotStarted => {}
            ending => assert_eq!(ending, reason, "with {limit} gas"),
        }
    }
}
