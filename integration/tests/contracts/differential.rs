//! The contract and the Rust give every certificate the same status.

use std::collections::BTreeMap;
use std::sync::Mutex;

use alloy::primitives::Bytes;
use alloy::sol_types::SolCall;
use meridian_proto::contract::{Meridian, Status};
use revm::primitives::hardfork::SpecId;

use crate::certificates::Draft;
use crate::evm::{Ending, Outcome, PLENTY, intrinsic_gas};
use crate::mutate::{CHANGES, spoil};
use crate::oracle::{Question, answer};
use crate::random::Random;
use crate::world::World;

/// What the contract promises.
const VERIFY_GAS_CAP: u64 = 1_500_000;

/// What was seen.
#[derive(Default)]
struct Seen {
    questions: u64,
    statuses: BTreeMap<Status, u64>,
    most_gas: u64,
}

impl Seen {
    /// Asks the contract and the oracle, and compares.
    #[track_caller]
    fn ask(&mut self, world: &mut World, question: &Question) -> Status {
        let (status, regions) = answer(&world.epochs, world.chain.now(), question);
        let (certificate, members) =
            (Bytes::from(question.certificate.clone()), Bytes::from(question.members.clone()));
        if question.until == 0 {
            let call = Meridian::verifyCertificateCall {
                certificate: certificate.clone(),
                members: members.clone(),
            };
            let said = self.call::<Meridian::verifyCertificateCall>(world, &call);
            assert_eq!(Status::from_number(said), Some(status), "{}", describe(world, question));
        } else {
            let (certificate, members) = (certificate.clone(), members.clone());
            let call = Meridian::verifyCertificateUntilCall { certificate, members, until: question.until };
            let said = self.call::<Meridian::verifyCertificateUntilCall>(world, &call);
            assert_eq!(Status::from_number(said), Some(status), "{}", describe(world, question));
        }
        if self.questions.is_multiple_of(3) && status != Status::ExpiresTooSoon {
            let call = Meridian::regionsOfCall { certificate, members };
            let said = self.call::<Meridian::regionsOfCall>(world, &call);
            assert_eq!(Status::from_number(said.status), Some(status));
            let regions: Vec<u16> = regions.iter().map(|region| region.0).collect();
            assert_eq!(said.regions, regions, "{}", describe(world, question));
        }
        self.questions += 1;
        *self.statuses.entry(status).or_default() += 1;
        status
    }

    #[track_caller]
    fn call<C: SolCall>(&mut self, world: &mut World, call: &C) -> C::Return {
        let data = Bytes::from(call.abi_encode());
        let outcome: Outcome = world.chain.raw(world.contract, data.clone(), PLENTY);
        assert!(matches!(outcome.ending, Ending::Returned(_)), "{:?}", outcome.ending);
        let gas = outcome.gas - intrinsic_gas(&data);
        assert!(gas <= VERIFY_GAS_CAP, "{gas} gas");
        self.most_gas = self.most_gas.max(gas);
        outcome.returned::<C>()
    }

    fn add(&mut self, other: Self) {
        self.questions += other.questions;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.most_gas = self.most_gas.max(other.most_gas);
    }
}

fn describe(world: &World, question: &Question) -> String {
    let hex = alloy::primitives::hex::encode;
    format!(
        "at {} until {}: certificate {} members {}",
        world.chain.now(),
        question.until,
        hex(&question.certificate),
        hex(&question.members)
    )
}

/// Rounds of a world: a valid certificate, a changed one, and spoiled bytes.
fn rounds(spec: SpecId, seed: u64, shapes: &[Vec<usize>], count: usize) -> Seen {
    let random = &mut Random::new(seed);
    let world = &mut World::at(spec, random, shapes);
    let mut seen = Seen::default();
    for round in 0..count {
        let epoch = *random.pick(&[2, 2, 2, 3, 3, 3, 3, 1, 4]);
        let committee = world.committee(epoch).clone();
        let members = world.members(epoch);
        let now = world.chain.now();
        let draft = Draft::valid(random, &committee, world.domain, now);

        let certificate = draft.sign(&world.keys).encode();
        let expiry = draft.entry.expiry;
        let until = *random.pick(&[0, 0, expiry - 1, expiry, expiry + 1, u64::MAX]);
        let question = Question { certificate, members, until };
        let status = seen.ask(world, &question);
        assert!(
            match epoch {
                1 => status == Status::EpochClosed,
                4 => status == Status::EpochUnknown,
                _ if until > expiry => status == Status::ExpiresTooSoon,
                _ => status == Status::Valid,
            },
            "{status:?}"
        );

        for _ in 0..2 {
            let mut certificate = question.certificate.clone();
            spoil(random, &mut certificate, draft.path.len());
            seen.ask(world, &Question { certificate, members: question.members.clone(), until: 0 });
        }
        if round % 8 == 0 {
            let members = other_members(random, world, &question.members);
            seen.ask(world, &Question { members, ..question });
        }

        // Every kind of change in its turn, from another one on in every world.
        let mut changed = draft.clone();
        let turn = (round + usize::try_from(seed).unwrap() * 7) % CHANGES.len();
        CHANGES[turn](random, world, &mut changed);
        let mut certificate = changed.sign(&world.keys).encode();
        if random.one_in(12) {
            spoil(random, &mut certificate, changed.path.len());
        }
        let epoch = if random.one_in(3) { epoch } else { changed.checkpoint.epoch };
        let members = world.members(epoch);
        seen.ask(world, &Question { certificate, members, until: 0 });
    }
    seen
}

/// Members that are not those of the epoch, or are.
fn other_members(random: &mut Random, world: &World, members: &[u8]) -> Vec<u8> {
    let mut members = members.to_vec();
    match random.below(7) {
        0 => members.clear(),
        1 => members.truncate(random.place(members.len())),
        2 => members.push(0),
        3 => members.extend(random.bytes(21)),
        4 => members = world.members(1 + random.below(4)),
        5 => {
            // The counts, so that lists reach past the end.
            let at = 48 + random.place(4);
            members[at] = random.number().to_be_bytes()[0];
        }
        _ => {
            let at = random.place(members.len());
            members[at] ^= 1 << random.below(8);
        }
    }
    members
}

/// Sizes of the committees of a world, small ones more often.
fn shapes(random: &mut Random) -> Vec<Vec<usize>> {
    let mut shape = || -> Vec<usize> {
        match random.below(8) {
            0 => vec![1],
            1 => vec![1; 5],
            2 => vec![1 + random.place(32)],
            3 => vec![1; 1 + random.place(31)],
            _ => (0..1 + random.place(6)).map(|_| 1 + random.place(5)).collect(),
        }
    };
    (0..4).map(|_| shape()).collect()
}

#[test]
fn ten_thousand_certificates_get_the_same_status() {
    let large = [
        vec![vec![32; 8], vec![32; 8], vec![8; 31], vec![1]],
        vec![vec![1; 31], vec![1], vec![32], vec![32; 8]],
        vec![vec![1], vec![1, 32, 2, 31, 3], vec![4; 31], vec![1; 31]],
        vec![vec![20; 5], vec![10; 5], vec![20; 5], vec![1; 5]],
    ];
    let mut worlds: Vec<(u64, Vec<Vec<usize>>, usize)> =
        (0_u64..).zip(large).map(|(seed, shapes)| (seed, shapes, 12)).collect();
    worlds.extend((4..36).map(|seed| (seed, shapes(&mut Random::new(1_000 + seed)), 80)));
    let (queue, total) = (Mutex::new(worlds), Mutex::new(Seen::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((seed, shapes, count)) = queue.lock().unwrap().pop() else { return };
                    let seen = rounds(SpecId::MERGE, seed, &shapes, count);
                    total.lock().unwrap().add(seen);
                }
            });
        }
    });
    let seen = total.into_inner().unwrap();
    println!("{} certificates, at most {} gas: {:?}", seen.questions, seen.most_gas, seen.statuses);
    assert!(seen.questions >= 10_000, "{}", seen.questions);
    for status in Status::ALL {
        assert!(
            seen.statuses.get(&status).is_some_and(|count| *count >= 20),
            "{status:?}: {:?}",
            seen.statuses
        );
    }
}

/// The same before the merge and on chains of later levels.
#[test]
fn other_levels_give_the_same_status() {
    for (seed, spec) in (100..).zip([SpecId::LONDON, SpecId::SHANGHAI, SpecId::CANCUN, SpecId::OSAKA]) {
        let seen = rounds(spec, seed, &shapes(&mut Random::new(seed)), 24);
        assert!(seen.questions > 90 && seen.statuses[&Status::Valid] > 5, "{:?}", seen.statuses);
    }
}

/// Every byte of one certificate, with one bit or all bits changed, and every length.
#[test]
fn no_byte_of_a_certificate_can_change() {
    let random = &mut Random::new(77);
    let world = &mut World::new(random, &[vec![1], vec![1; 5], vec![2, 1, 1, 1, 4], vec![1]]);
    let committee = world.committee(3).clone();
    let mut draft = Draft::valid(random, &committee, world.domain, world.chain.now());
    draft.checkpoint.size = 37;
    draft.put_at(random, 20);
    let certificate = draft.sign(&world.keys).encode();
    let members = world.members(3);
    let mut seen = Seen::default();
    let mut ask =
        |certificate: Vec<u8>| seen.ask(world, &Question { certificate, members: members.clone(), until: 0 });
    assert_eq!(ask(certificate.clone()), Status::Valid);
    for at in 0..certificate.len() {
        let mut bytes = certificate.clone();
        bytes[at] ^= if at % 3 == 0 { 0xff } else { 1 << (at % 8) };
        assert_ne!(ask(bytes), Status::Valid, "byte {at}");
        assert_eq!(ask(certificate[..at].to_vec()), Status::Malformed, "length {at}");
    }
    for more in 1..70 {
        assert_eq!(ask([certificate.as_slice(), &vec![0; more]].concat()), Status::Malformed);
    }
}

/// The most work that bytes can ask for: the largest committee, the longest path, every seat.
#[test]
fn the_costliest_certificate_stays_under_the_cap() {
    let random = &mut Random::new(78);
    let world = &mut World::new(random, &[vec![1], vec![1], vec![32; 8], vec![1]]);
    let committee = world.committee(3).clone();
    let mut draft = Draft::valid(random, &committee, world.domain, world.chain.now());
    draft.resize(random, u64::MAX);
    draft.cosigners = committee.seats().iter().map(|seat| seat.address).collect();
    let mut seen = Seen::default();
    let members = world.members(3);
    let certificate = draft.sign(&world.keys).encode();
    let valid = Question { certificate, members: members.clone(), until: 1 };
    assert_eq!(seen.ask(world, &valid), Status::Valid);
    assert_eq!(seen.ask(world, &Question { until: 0, ..valid }), Status::Valid);
    // The last cosigner is not a seat; 257 are not read at all, however many bytes there are.
    let last = draft.cosigners.pop().unwrap();
    let stranger = std::iter::repeat_with(|| world.keys.random(random)).find(|stranger| *stranger > last);
    draft.cosigners.extend(stranger);
    let certificate = draft.sign(&world.keys).encode();
    assert_eq!(
        seen.ask(world, &Question { certificate: certificate.clone(), members: members.clone(), until: 0 }),
        Status::BadCosignature
    );
    for count in [256, 257, 8_192, 8_193] {
        let signature = draft.sign(&world.keys).checkpoint.signed.signature;
        let mut certificate = draft.sign(&world.keys);
        certificate.checkpoint.cosignatures = vec![signature; count];
        let status = if count == 256 { Status::BadCosignature } else { Status::Malformed };
        let question = Question { certificate: certificate.encode(), members: members.clone(), until: 0 };
        assert_eq!(seen.ask(world, &question), status, "{count}");
    }
    // Bytes by the hundred thousand are not read either.
    let much = vec![1; 400_000];
    let long = [certificate.as_slice(), &much].concat();
    let question = Question { certificate: long, members: members.clone(), until: 0 };
    assert_eq!(seen.ask(world, &question), Status::Malformed);
    let question = Question { certificate, members: [members.as_slice(), &much].concat(), until: 0 };
    assert_eq!(seen.ask(world, &question), Status::WrongMembers);
    println!("at most {} gas", seen.most_gas);
}
