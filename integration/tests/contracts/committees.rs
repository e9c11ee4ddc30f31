//! What the contract keeps of a committee, and what it tells.

use alloy::primitives::{Address, B256, keccak256};
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proto::contract::Meridian;

use crate::evm::{Chain, nobody};
use crate::members::{self, Keys};
use crate::random::Random;
use crate::world::{self, CHAIN_ID, GRACE, NOTICE, START, owner};

/// The parts that a call names.
pub(crate) fn parts_of(call: &Meridian::scheduleCommitteeCall, domain: Domain) -> CommitteeParts {
    CommitteeParts {
        chain_id: domain.chain_id,
        verifying_contract: domain.verifying_contract,
        epoch: call.epoch,
        min_copies: call.terms.minCopies,
        min_retention: call.terms.minRetention,
        max_retention: call.terms.maxRetention,
        regions: call
            .regions
            .iter()
            .map(|region| Region {
                id: RegionId(region.id),
                label: region.label.clone(),
                latitude: f64::from(region.latitude) / 1e6,
                longitude: f64::from(region.longitude) / 1e6,
            })
            .collect(),
        seats: call
            .seats
            .iter()
            .map(|seat| Seat {
                region: RegionId(seat.region),
                number: u16::from(seat.number),
                address: seat.signer,
                endpoint: seat.endpoint.clone(),
            })
            .collect(),
        gateways: call
            .gateways
            .iter()
            .map(|gateway| GatewayMember {
                address: gateway.signer,
                endpoint: gateway.endpoint.clone(),
                max_bytes: gateway.maxBytes,
                max_entries_per_hour: gateway.maxEntriesPerHour,
            })
            .collect(),
    }
}

/// Hash, activation and closing time of an epoch.
#[track_caller]
fn epoch(chain: &mut Chain, contract: Address, epoch: u64) -> (B256, u64, u64) {
    let said = chain.call(contract, &Meridian::epochOfCall { epoch }).returned::<Meridian::epochOfCall>();
    (said.membersHash, said.activation, said.closes)
}

#[track_caller]
fn latest(chain: &mut Chain, contract: Address) -> u64 {
    chain.call(contract, &Meridian::latestEpochCall {}).returned::<Meridian::latestEpochCall>()
}

fn start(seed: u64) -> (Random, Keys, Chain, Domain) {
    let mut chain = Chain::paris(CHAIN_ID);
    chain.set_now(START);
    let contract = world::deploy(&mut chain);
    let domain = Domain { chain_id: CHAIN_ID, verifying_contract: contract };
    (Random::new(seed), Keys::default(), chain, domain)
}

#[test]
fn the_event_tells_the_committee_and_its_hash() {
    let (mut random, mut keys, mut chain, domain) = start(60);
    let contract = domain.verifying_contract;
    for _ in 0..60 {
        let regions = match random.below(4) {
            0 => 1 + random.place(31),
            _ => 1 + random.place(6),
        };
        let seats: Vec<usize> = (0..regions).map(|_| 1 + random.place(256 / regions).min(31)).collect();
        let gateways = random.place(65);
        let parts = members::parts(&mut random, &mut keys, domain, 1, &seats, gateways);
        let committee = Committee::new(parts).unwrap();
        let call = members::schedule(committee.parts(), 0);
        let outcome = chain.call_as(owner(), contract, &call);
        let event: Meridian::CommitteeScheduled = outcome.event();
        assert_eq!(event.membersHash, keccak256(committee.members().unwrap()));
        assert_eq!((event.epoch, event.activation), (1, START));
        // Whoever reads the event has the whole committee.
        let told = Meridian::scheduleCommitteeCall {
            epoch: event.epoch,
            regions: event.regions,
            seats: event.seats,
            gateways: event.gateways,
            terms: event.terms,
            activation: 0,
        };
        assert_eq!(Committee::new(parts_of(&told, domain)).unwrap(), committee);
    }
}

#[test]
fn epochs_begin_close_and_are_cancelled() {
    let (mut random, mut keys, mut chain, domain) = start(61);
    let contract = domain.verifying_contract;
    assert_eq!(latest(&mut chain, contract), 0);
    assert_eq!(chain.call(contract, &Meridian::noticeCall {}).returned::<Meridian::noticeCall>(), NOTICE);
    assert_eq!(chain.call(contract, &Meridian::graceCall {}).returned::<Meridian::graceCall>(), GRACE);
    for number in [0, 1, u64::MAX] {
        assert_eq!(epoch(&mut chain, contract, number), (B256::ZERO, 0, 0));
    }
    let mut committee =
        |epoch| Committee::new(members::parts(&mut random, &mut keys, domain, epoch, &[1; 5], 1)).unwrap();
    let hash = |committee: &Committee| keccak256(committee.members().unwrap());
    let (first, second, third) = (committee(1), committee(2), committee(2));

    // The first can be taken back as well, and comes again.
    chain.send(owner(), contract, &members::schedule(first.parts(), START + GRACE + 1));
    let cancelled = chain.send(owner(), contract, &Meridian::cancelCommitteeCall { epoch: 1 });
    assert_eq!(cancelled.event::<Meridian::CommitteeCancelled>().epoch, 1);
    assert_eq!(latest(&mut chain, contract), 0);
    assert_eq!(epoch(&mut chain, contract, 1), (B256::ZERO, 0, 0));
    chain.send(owner(), contract, &members::schedule(first.parts(), 0));
    assert_eq!(latest(&mut chain, contract), 1);
    assert_eq!(epoch(&mut chain, contract, 1), (hash(&first), START, u64::MAX));

    let activation = START + 5_000;
    chain.set_now(START + 100);
    chain.send(owner(), contract, &members::schedule(second.parts(), activation));
    assert_eq!(epoch(&mut chain, contract, 1), (hash(&first), START, activation + GRACE));
    assert_eq!(epoch(&mut chain, contract, 2), (hash(&second), activation, u64::MAX));
    chain.set_now(activation - GRACE - 1);
    chain.send(owner(), contract, &Meridian::cancelCommitteeCall { epoch: 2 });
    assert_eq!(latest(&mut chain, contract), 1);
    assert_eq!(epoch(&mut chain, contract, 1), (hash(&first), START, u64::MAX));
    assert_eq!(epoch(&mut chain, contract, 2), (B256::ZERO, 0, 0));
    chain.send(owner(), contract, &members::schedule(third.parts(), 0));
    let activation = activation - GRACE - 1 + NOTICE;
    assert_eq!(epoch(&mut chain, contract, 2), (hash(&third), activation, u64::MAX));
    assert_eq!(epoch(&mut chain, contract, 1), (hash(&first), START, activation + GRACE));
    assert_eq!(latest(&mut chain, contract), 2);
}

/// A seat passes at every place of the list to a signer who belongs before, between and behind the others.
#[test]
fn a_passed_seat_is_the_same_committee_with_another_signer() {
    let (mut random, mut keys, mut chain, domain) = start(62);
    let contract = domain.verifying_contract;
    let parts = members::parts(&mut random, &mut keys, domain, 1, &[2, 1, 4, 1], 2);
    let committee = Committee::new(parts).unwrap();
    let members = committee.members().unwrap();
    chain.send(owner(), contract, &members::schedule(committee.parts(), 0));

    let seats = committee.seats();
    let mut takers = vec![nobody(1), Address::repeat_byte(0xff)];
    for seat in seats {
        // Right before and right behind every seat.
        let number = alloy::primitives::U160::from_be_bytes(seat.address.0.0);
        takers.extend(
            [1, 2].map(|step| Address::from(number.wrapping_sub(alloy::primitives::U160::from(step)))),
        );
        takers.extend(
            [1, 2].map(|step| Address::from(number.wrapping_add(alloy::primitives::U160::from(step)))),
        );
    }
    for from in seats {
        for to in &takers {
            let mut parts = committee.parts().clone();
            parts.epoch = 2;
            for seat in &mut parts.seats {
                if seat.address == from.address {
                    seat.address = *to;
                    seat.endpoint = "http://next:9000".into();
                }
            }
            let expected = Committee::new(parts).unwrap();
            let call = Meridian::passSeatCall {
                epoch: 2,
                members: members.clone().into(),
                from: from.address,
                to: *to,
                endpoint: "http://next:9000".into(),
                activation: 0,
            };
            let outcome = chain.call_as(owner(), contract, &call);
            let event: Meridian::SeatPassed = outcome.event();
            assert_eq!(event.membersHash, keccak256(expected.members().unwrap()), "{} to {to}", from.address);
            assert_eq!((event.epoch, event.activation), (2, START + GRACE));
            assert_eq!(
                (event.from, event.to, event.endpoint.as_str()),
                (from.address, *to, "http://next:9000")
            );
        }
    }
    // It is kept as it was told, and the next one goes on from there.
    let call = Meridian::passSeatCall {
        epoch: 2,
        members: members.into(),
        from: seats[0].address,
        to: nobody(1),
        endpoint: "http://next:9000".into(),
        activation: 0,
    };
    let told = chain.send(owner(), contract, &call).event::<Meridian::SeatPassed>();
    assert_eq!(epoch(&mut chain, contract, 2), (told.membersHash, START + GRACE, u64::MAX));
    assert_eq!(epoch(&mut chain, contract, 1).2, START + 2 * GRACE);
    assert_eq!(latest(&mut chain, contract), 2);
}

/// The largest committee, with the longest endpoints, fits a block of 20 million gas.
#[test]
fn the_largest_committee_fits_a_block() {
    let (mut random, mut keys, mut chain, domain) = start(63);
    let mut parts = members::parts(&mut random, &mut keys, domain, 1, &[32; 8], 64);
    let endpoint = format!("http://{}:26657", "x".repeat(243));
    parts.seats.iter_mut().for_each(|seat| seat.endpoint.clone_from(&endpoint));
    parts.gateways.iter_mut().for_each(|gateway| gateway.endpoint.clone_from(&endpoint));
    let committee = Committee::new(parts).unwrap();
    let outcome = chain.send(owner(), domain.verifying_contract, &members::schedule(committee.parts(), 0));
    outcome.event::<Meridian::CommitteeScheduled>();
    println!("{} gas", outcome.gas);
    assert!(outcome.gas < 20_000_000, "{}", outcome.gas);
}
