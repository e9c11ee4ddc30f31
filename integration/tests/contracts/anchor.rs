//! Anchoring: what is taken and kept, and what is refused.

use alloy::primitives::{Address, B256};
use meridian_proofs::checkpoint::{Checkpoint, Domain};
use meridian_proofs::committee::GatewayMember;
use meridian_proto::contract::Meridian;

use crate::anchors::{Log, signatures};
use crate::certificates::smallest_quorum;
use crate::evm::nobody;
use crate::logs::synthetic;
use crate::members::{Keys, schedule};
use crate::random::Random;
use crate::refusals::{Refusals, accepted};
use crate::world::{CHAIN_ID, START, World, deploy, owner};

type Anchor = Meridian::anchorCall;

/// A gateway of every epoch.
const GATEWAY: &str = "gateway of every epoch";

/// Epochs that share one gateway beside their own.
fn world(random: &mut Random) -> World {
    let address = Keys::default().named(GATEWAY);
    let gateway =
        GatewayMember { address, endpoint: "http://gateway:1".into(), max_bytes: 1, max_entries_per_hour: 1 };
    let shapes = [vec![1; 5], vec![2, 1, 4, 1, 1], vec![3, 1, 1, 4, 2], vec![1; 5]];
    let mut world = World::with(random, &shapes, |parts| parts.gateways.push(gateway.clone()));
    world.keys.named(GATEWAY);
    world
}

/// A log of that gateway.
fn log(world: &World, epoch: u64, size: u64) -> Log {
    let gateway = Keys::default().named(GATEWAY);
    let mut log = Log::new(world, epoch, size);
    log.checkpoint.gateway = gateway;
    log.signer = gateway;
    log
}

/// A log with another checkpoint, signed for it.
fn with(log: &Log, change: impl FnOnce(&mut Log)) -> Log {
    let mut log = log.clone();
    change(&mut log);
    log
}

/// Sends an anchor and compares what the contract tells and keeps.
#[track_caller]
fn anchored(world: &mut World, call: &Anchor, number: u64) {
    world.chain.set_number(number);
    let outcome = world.chain.send(nobody(3), world.contract, call);
    let event: Meridian::Anchored = outcome.event();
    let told = (event.gateway, event.epoch, event.size, event.root, event.timestamp);
    let checkpoint = &call.checkpoint;
    let sent = (checkpoint.gateway, checkpoint.epoch, checkpoint.size, checkpoint.root, checkpoint.timestamp);
    assert_eq!(told, sent);
    let kept = kept(world, checkpoint.gateway);
    assert_eq!(kept, (checkpoint.size, checkpoint.root, number, checkpoint.timestamp, checkpoint.epoch));
}

fn kept(world: &mut World, gateway: Address) -> (u64, B256, u64, u64, u64) {
    let call = Meridian::anchorOfCall { gateway };
    let kept = world.chain.call(world.contract, &call).returned::<Meridian::anchorOfCall>();
    (kept.size, kept.root, kept.blockNumber, kept.timestamp, kept.epoch)
}

#[test]
fn a_log_is_anchored_as_it_grows() {
    let random = &mut Random::new(40);
    let world = &mut world(random);
    let mut log = log(world, 2, 1);
    assert_eq!(kept(world, log.checkpoint.gateway), (0, B256::ZERO, 0, 0, 0));
    // In the grace of its epoch, then in the next one, by steps of every kind.
    for (number, (epoch, by)) in
        (100..).zip([(2, 0), (2, 1), (2, 5), (3, 0), (3, 1), (3, 56), (3, 64), (3, 2), (3, 0), (3, 300)])
    {
        log.grow(by);
        log.epoch = epoch;
        log.checkpoint.epoch = epoch;
        // The same size again is taken when it is newer.
        log.checkpoint.timestamp += 1;
        anchored(world, &log.anchor(world, random), number);
        log.anchored = log.checkpoint.size;
    }
    // Another gateway's log stands beside it.
    let other = Log::new(world, 3, 9);
    let before = kept(world, log.checkpoint.gateway);
    anchored(world, &other.anchor(world, random), 200);
    assert_eq!(kept(world, log.checkpoint.gateway), before);
}

#[test]
fn logs_of_any_size_are_anchored() {
    let random = &mut Random::new(41);
    for _ in 0..12 {
        let world = &mut world(random);
        let sizes = {
            let mut sizes = [0; 4].map(|_| crate::certificates::size(random));
            sizes.sort_unstable();
            sizes
        };
        let committee = world.committee(3).clone();
        let gateway = Keys::default().named(GATEWAY);
        let mut anchor = |world: &mut World, size, root, consistency, number| {
            let timestamp = world.chain.now() + number;
            let checkpoint = Checkpoint { gateway, epoch: 3, size, root, timestamp };
            let cosigners = smallest_quorum(random, &committee, committee.min_copies());
            let call = Anchor {
                checkpoint: (&checkpoint).into(),
                signatures: signatures(&checkpoint, &world.domain, &world.keys, gateway, &cosigners),
                members: world.members(3).into(),
                consistency,
            };
            anchored(world, &call, number);
        };
        // One step: roots of more than two sizes would have to fit each other.
        let (old_root, root, proof) =
            synthetic(&mut Random::new(sizes[0]), sizes[1], sizes[3].max(sizes[1] + 1));
        anchor(world, sizes[1], old_root, Vec::new(), 1);
        anchor(world, sizes[3].max(sizes[1] + 1), root, proof, 2);
    }
}

/// What one contract took another does not, nor the same one on another chain.
#[test]
fn a_checkpoint_is_of_one_contract_on_one_chain() {
    let random = &mut Random::new(42);
    let world = &mut world(random);
    let refusals = &mut Refusals::new();
    let log = log(world, 3, 20);
    let call = log.anchor(world, random);
    accepted(&mut world.chain, nobody(3), world.contract, &call);
    let certificate = Meridian::verifyCertificateCall {
        certificate: crate::certificates::Draft::valid(
            random,
            world.committee(3),
            world.domain,
            world.chain.now(),
        )
        .sign(&world.keys)
        .encode()
        .into(),
        members: world.members(3).into(),
    };
    let status = |world: &mut World, contract| {
        world.chain.call(contract, &certificate).returned::<Meridian::verifyCertificateCall>()
    };
    assert_eq!(status(world, world.contract), 0);

    // A second contract with the very same epochs.
    let now = world.chain.now();
    world.chain.set_now(START);
    let other = deploy(&mut world.chain);
    assert_ne!(other, world.contract);
    let mut at = START;
    for epoch in 1..=3 {
        world.chain.set_now(at);
        let committee = world.committee(epoch).clone();
        world.chain.send(owner(), other, &schedule(committee.parts(), 0));
        at += 1_001;
    }
    world.chain.set_now(now);
    refusals.refused(&mut world.chain, nobody(3), other, &call, "BadGatewaySignature");
    assert_eq!(status(world, other), 9);
    let domain = Domain { verifying_contract: other, ..world.domain };
    let signed = with(&log, |log| log.domain = domain).anchor(world, random);
    accepted(&mut world.chain, nobody(3), other, &signed);
    refusals.refused(&mut world.chain, nobody(3), world.contract, &signed, "BadGatewaySignature");

    // The same contract on the other side of a fork of the network.
    world.chain.set_chain_id(CHAIN_ID + 1);
    refusals.refused(&mut world.chain, nobody(3), world.contract, &call, "BadGatewaySignature");
    assert_eq!(status(world, world.contract), 9);
    let domain = Domain { chain_id: CHAIN_ID + 1, ..world.domain };
    let signed = with(&log, |log| log.domain = domain).anchor(world, random);
    accepted(&mut world.chain, nobody(3), world.contract, &signed);
    world.chain.set_chain_id(CHAIN_ID);
    refusals.refused(&mut world.chain, nobody(3), world.contract, &signed, "BadGatewaySignature");
}

/// Every reason not to anchor, on both sides of every limit.
pub(crate) fn refusals(refusals: &mut Refusals) {
    let random = &mut Random::new(43);
    let world = &mut world(random);
    let contract = world.contract;
    let now = world.chain.now();
    let first = log(world, 3, 33);
    let call = first.anchor(world, random);
    let mut refused = |world: &mut World, call: &Anchor, error: &str| {
        refusals.refused(&mut world.chain, nobody(3), contract, call, error);
    };
    let taken = |world: &mut World, call: &Anchor| accepted(&mut world.chain, nobody(3), contract, call);

    taken(world, &call);
    // Time.
    for (timestamp, fits) in [(0, true), (now, true), (now + 59, true), (now + 60, true), (now + 61, false)] {
        let call = with(&first, |log| log.checkpoint.timestamp = timestamp).anchor(world, random);
        if fits { taken(world, &call) } else { refused(world, &call, "FromTheFuture") }
    }
    let call_at_the_end = with(&first, |log| log.checkpoint.timestamp = u64::MAX).anchor(world, random);
    refused(world, &call_at_the_end, "FromTheFuture");
    // Size.
    let empty = with(&first, |log| {
        log.checkpoint.size = 0;
        log.checkpoint.root = B256::ZERO;
    });
    refused(world, &empty.anchor(world, random), "EmptyLog");
    // Epoch.
    for (epoch, error) in [
        (0, Some("EpochUnknown")),
        (1, Some("EpochClosed")),
        (2, None),
        (4, Some("EpochUnknown")),
        (5, Some("EpochUnknown")),
        (u64::MAX, Some("EpochUnknown")),
    ] {
        let moved = with(&first, |log| {
            log.checkpoint.epoch = epoch;
            log.epoch = epoch.clamp(1, 4);
        });
        let call = moved.anchor(world, random);
        match error {
            None => taken(world, &call),
            Some(error) => refused(world, &call, error),
        }
    }
    // An epoch is open from its activation until it closes.
    let terms = world.epochs.terms().to_vec();
    for (epoch, term) in (1..).zip(&terms[..3]) {
        let log = with(&first, |log| {
            log.checkpoint.epoch = epoch;
            log.checkpoint.timestamp = START;
            log.epoch = epoch;
        });
        let call = log.anchor(world, random);
        let closes = term.closes.unwrap();
        for (at, error) in [
            (term.activation - 1, Some("EpochUnknown")),
            (term.activation, None),
            (closes - 1, None),
            (closes, Some("EpochClosed")),
        ] {
            world.chain.set_now(at);
            match error {
                None => taken(world, &call),
                Some(error) => refused(world, &call, error),
            }
        }
    }
    world.chain.set_now(now);
    // Members and gateway.
    let members = world.members(3);
    for other in [
        Vec::new(),
        world.members(2),
        members[..members.len() - 1].to_vec(),
        [members.as_slice(), &[0]].concat(),
        vec![0; 7_000],
        vec![0xff; 200],
    ] {
        refused(world, &Anchor { members: other.into(), ..call.clone() }, "WrongMembers");
    }
    let seat = world.committee(3).seats()[0].address;
    let gateways = world.committee(2).gateways().iter().map(|gateway| gateway.address);
    let stranger = gateways.into_iter().find(|gateway| *gateway != first.signer).unwrap();
    for other in [seat, stranger] {
        let call = with(&first, |log| {
            log.checkpoint.gateway = other;
            log.signer = other;
        });
        refused(world, &call.anchor(world, random), "NotAGateway");
    }
    // Signatures.
    let signed = call.signatures.to_vec();
    let put = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = signed.clone();
        change(&mut bytes);
        Anchor { signatures: bytes.into(), ..call.clone() }
    };
    let malformed: [fn(&mut Vec<u8>); 9] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(64),
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
        |bytes| bytes.extend([0; 65]),
        |bytes| bytes[64] -= 27,
        |bytes| bytes[65 + 64] = 29,
        |bytes| bytes[..32].fill(0),
        |bytes| bytes[65 + 32..65 + 64].fill(0xff),
    ];
    for change in malformed {
        refused(world, &put(&change), "MalformedSignatures");
    }
    let other = with(&first, |log| log.signer = seat);
    refused(world, &other.anchor(world, random), "BadGatewaySignature");
    refused(world, &put(&|bytes| bytes[64] = 27 + 28 - bytes[64]), "BadGatewaySignature");
    // Of half of all r there is no point of the curve, so nobody signed.
    for number in 1..=40 {
        refused(world, &put(&|bytes| bytes[..32].fill(number)), "BadGatewaySignature");
    }
    let committee = world.committee(3).clone();
    let everybody: Vec<Address> = committee.seats().iter().map(|seat| seat.address).collect();
    taken(world, &first.anchor_with(world, &everybody));
    let mut more = everybody.clone();
    more.push(world.keys.random(random));
    more.sort_unstable();
    let twice: Vec<Address> = everybody.iter().flat_map(|seat| [*seat, *seat]).collect();
    let backwards: Vec<Address> = everybody.iter().rev().copied().collect();
    let own: Vec<Address> = std::iter::once(first.signer).collect();
    for cosigners in [&more, &twice, &backwards, &own] {
        refused(world, &first.anchor_with(world, cosigners), "BadCosignature");
    }
    for number in 1..=40 {
        refused(world, &put(&|bytes| bytes[65..97].fill(number)), "BadCosignature");
    }
    for short in 0..committee.min_copies() {
        let cosigners = smallest_quorum(random, &committee, short);
        refused(world, &first.anchor_with(world, &cosigners), "NoQuorum");
    }
    for _ in 0..20 {
        let mut cosigners = smallest_quorum(random, &committee, committee.min_copies());
        taken(world, &first.anchor_with(world, &cosigners));
        cosigners.remove(random.place(cosigners.len()));
        refused(world, &first.anchor_with(world, &cosigners), "NoQuorum");
    }
    // The first anchor proves nothing.
    let needless = Anchor { consistency: vec![B256::ZERO], ..call.clone() };
    refused(world, &needless, "Inconsistent");

    // From here on there is an anchor.
    anchored(world, &call, 7);
    refused(world, &call, "Stale");
    let older = with(&first, |log| log.checkpoint.timestamp -= 1);
    let newer = with(&first, |log| log.checkpoint.timestamp += 1);
    let own_size = |log: &Log| with(log, |log| log.anchored = log.checkpoint.size);
    refused(world, &own_size(&older).anchor(world, random), "Stale");
    taken(world, &own_size(&newer).anchor(world, random));
    let shorter = with(&newer, |log| {
        log.checkpoint.size = 32;
        log.checkpoint.root = log.nodes.root(32);
    });
    refused(world, &shorter.anchor(world, random), "Stale");
    let back = with(&own_size(&newer), |log| {
        log.epoch = 2;
        log.checkpoint.epoch = 2;
        log.anchored = 33;
        log.grow(1);
    });
    refused(world, &back.anchor(world, random), "EpochFalls");
    // Growth that is not of this log: forks, wrong proofs.
    let longer = with(&first, |log| {
        log.anchored = 33;
        log.grow(7);
    });
    let growth = longer.anchor(world, random);
    taken(world, &growth);
    let mut fork = first.clone();
    (fork.entries, fork.nodes) = (Vec::new(), crate::anchors::Nodes::default());
    fork.checkpoint.size = 0;
    fork.checkpoint.timestamp -= 1;
    fork.grow(40);
    fork.checkpoint.timestamp += 2;
    fork.anchored = 33;
    let forked = fork.anchor(world, random);
    refused(world, &forked, "Inconsistent");
    refused(world, &Anchor { consistency: growth.consistency.clone(), ..forked }, "Inconsistent");
    for place in 0..growth.consistency.len() {
        let mut wrong = growth.clone();
        wrong.consistency[place].0[0] ^= 1;
        refused(world, &wrong, "Inconsistent");
        let mut short = growth.clone();
        short.consistency.remove(place);
        refused(world, &short, "Inconsistent");
        let mut long = growth.clone();
        long.consistency.insert(place, B256::ZERO);
        refused(world, &long, "Inconsistent");
    }
    let same_size = with(&own_size(&newer), |log| log.checkpoint.root = B256::repeat_byte(1));
    refused(world, &same_size.anchor(world, random), "Inconsistent");
    // Nothing of all that left a trace.
    let checkpoint = &call.checkpoint;
    let expected = (checkpoint.size, checkpoint.root, 7, checkpoint.timestamp, checkpoint.epoch);
    assert_eq!(kept(world, checkpoint.gateway), expected);
}
