#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]

use alloy_sol_types::SolEvent;
use proptest::prelude::*;

use super::*;

const DOMAIN: Domain = Domain { chain_id: 31337, verifying_contract: Address::repeat_byte(0x11) };

/// A committee of regions with these numbers of seats, all coordinates from one seed.
fn parts(seats: &[usize], gateways: usize, seed: i32) -> CommitteeParts {
    let address = |kind: u8, number: usize| {
        let mut address = [kind; 20];
        // Spread, so that canonical order is not the order of making.
        address[..8].copy_from_slice(&keccak256([kind, number as u8])[..8]);
        Address::from(address)
    };
    let mut members = Vec::new();
    for (rank, count) in seats.iter().enumerate() {
        for number in 0..*count {
            members.push(committee::Seat {
                region: RegionId(3 * rank as u16 + 1),
                number: 2 * number as u16,
                address: address(1, members.len()),
                endpoint: format!("http://seat-{rank}-{number}.example:7700"),
            });
        }
    }
    CommitteeParts {
        chain_id: DOMAIN.chain_id,
        verifying_contract: DOMAIN.verifying_contract,
        epoch: 7,
        min_copies: 1,
        min_retention: 60,
        max_retention: 1 << 20,
        regions: (0..seats.len())
            .map(|rank| committee::Region {
                id: RegionId(3 * rank as u16 + 1),
                label: format!("region-{rank}"),
                latitude: f64::from((seed + rank as i32) % 90_000_001) / MICRO,
                longitude: f64::from((seed - rank as i32) % 180_000_001) / MICRO,
            })
            .collect(),
        seats: members,
        gateways: (0..gateways)
            .map(|number| GatewayMember {
                address: address(2, number),
                endpoint: format!("http://gateway-{number}.example:7700"),
                max_bytes: 1 << 40,
                max_entries_per_hour: 3600,
            })
            .collect(),
    }
}

/// What the contract emits for a call that it took.
fn event(call: &Meridian::scheduleCommitteeCall, members: &[u8]) -> Meridian::CommitteeScheduled {
    let event = Meridian::CommitteeScheduled {
        epoch: call.epoch,
        activation: call.activation,
        membersHash: keccak256(members),
        terms: call.terms.clone(),
        regions: call.regions.clone(),
        seats: call.seats.clone(),
        gateways: call.gateways.clone(),
    };
    // Through bytes, as it comes.
    Meridian::CommitteeScheduled::decode_log_data(&event.encode_log_data()).unwrap()
}

fn committee(parts: CommitteeParts) -> (Committee, Meridian::CommitteeScheduled) {
    let committee = Committee::new(parts).unwrap();
    let event = event(&schedule(&committee, 99).unwrap(), &committee.members().unwrap());
    (committee, event)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_event_tells_the_committee_that_was_scheduled(
        seats in proptest::collection::vec(1_usize..5, 1..8),
        gateways in 0_usize..4,
        seed in -180_000_000_i32..=180_000_000,
    ) {
        let (committee, event) = committee(parts(&seats, gateways, seed));
        let told = scheduled(DOMAIN, &event).unwrap();
        prop_assert_eq!(told.fingerprint(), committee.fingerprint());
        prop_assert_eq!(told, committee);
        prop_assert_eq!(event.activation, 99);
    }

    #[test]
    fn every_millionth_of_a_degree_comes_back(number in -180_000_000_i32..=180_000_000) {
        prop_assert_eq!(micro(f64::from(number) / MICRO), number);
    }

    #[test]
    fn a_passed_seat_keeps_its_place(
        seats in proptest::collection::vec(1_usize..5, 1..8),
        which in any::<prop::sample::Index>(),
    ) {
        let before = parts(&seats, 1, 5);
        let place = which.index(before.seats.len());
        let (from, to) = (before.seats[place].address, Address::repeat_byte(0x77));
        let mut after = CommitteeParts { epoch: 8, ..before.clone() };
        after.seats[place].address = to;
        after.seats[place].endpoint = "http://new.example:1".to_owned();
        let (before, after) = (Committee::new(before).unwrap(), Committee::new(after).unwrap());
        let event = Meridian::SeatPassed {
            epoch: 8,
            activation: 1,
            membersHash: keccak256(after.members().unwrap()),
            from,
            to,
            endpoint: "http://new.example:1".to_owned(),
        };
        prop_assert_eq!(passed(&before, &event).unwrap(), after);
    }
}

#[test]
fn what_an_event_says_is_checked() {
    let (_, right) = committee(parts(&[2, 1], 1, 0));
    scheduled(DOMAIN, &right).unwrap();
    let refused = |change: &dyn Fn(&mut Meridian::CommitteeScheduled)| {
        let mut event = right.clone();
        change(&mut event);
        scheduled(DOMAIN, &event).unwrap_err()
    };
    let endpoint = refused(&|event| event.seats[0].endpoint = "ftp://x".to_owned());
    assert!(matches!(endpoint, EventError::Committee(CommitteeError::Endpoint(_))));
    let label = refused(&|event| event.regions[0].label = "A B".to_owned());
    assert!(matches!(label, EventError::Committee(CommitteeError::Label(_))));
    let quota = refused(&|event| event.gateways[0].maxBytes = u64::MAX);
    assert!(matches!(quota, EventError::Committee(CommitteeError::Number(_))));
    let position = refused(&|event| event.regions[0].latitude = 90_000_001);
    assert!(matches!(position, EventError::Committee(CommitteeError::Position(_))));
    let position = refused(&|event| event.regions[0].longitude = i32::MIN);
    assert!(matches!(position, EventError::Committee(CommitteeError::Position(_))));
    let stranger = refused(&|event| event.seats[0].signer = Address::repeat_byte(9));
    assert!(matches!(stranger, EventError::MembersHash { .. }));
    let hash = refused(&|event| event.membersHash = B256::ZERO);
    assert!(matches!(hash, EventError::MembersHash { .. }));
    let none = refused(&|event| event.seats.clear());
    assert!(matches!(none, EventError::Committee(CommitteeError::Seats { .. })));
    let many = refused(&|event| {
        event.regions =
            (1..=32).map(|id| Region { id, latitude: 0, longitude: 0, label: format!("r{id}") }).collect();
        event.seats = (1..=32)
            .map(|id: u16| Seat {
                region: id,
                number: 0,
                signer: Address::repeat_byte(0x40 + id as u8),
                endpoint: "http://a:1".to_owned(),
            })
            .collect();
    });
    assert!(matches!(many, EventError::ChainLimit(ChainLimitError::TooMany { limit: 31, .. })));
}

#[test]
fn a_seat_passes_only_in_the_next_epoch_from_its_holder() {
    let before = Committee::new(parts(&[2, 1], 1, 0)).unwrap();
    let event = |epoch, from, to| Meridian::SeatPassed {
        epoch,
        activation: 1,
        membersHash: B256::ZERO,
        from,
        to,
        endpoint: "http://a:1".to_owned(),
    };
    let (holder, gateway) = (before.seats()[0].address, before.gateways()[0].address);
    let fresh = Address::repeat_byte(0x77);
    for epoch in [0, 7, 9, u64::MAX] {
        assert_eq!(
            passed(&before, &event(epoch, holder, fresh)),
            Err(EventError::Epoch { passed: epoch, before: 7 })
        );
    }
    assert_eq!(passed(&before, &event(8, fresh, holder)), Err(EventError::NoSeat(fresh)));
    for taken in [gateway, before.seats()[1].address] {
        assert_eq!(
            passed(&before, &event(8, holder, taken)),
            Err(EventError::Committee(CommitteeError::DuplicateAddress(taken)))
        );
    }
    assert!(matches!(passed(&before, &event(8, holder, fresh)), Err(EventError::MembersHash { .. })));
}

#[test]
fn what_the_contract_would_not_take_is_not_sent() {
    let mut wide = parts(&[1], 1, 0);
    wide.seats[0].number = 256;
    assert!(matches!(
        schedule(&Committee::new(wide).unwrap(), 0),
        Err(ChainLimitError::SeatNumber { number: 256, .. })
    ));
    let mut fine = parts(&[1], 1, 0);
    fine.seats[0].number = 255;
    assert_eq!(schedule(&Committee::new(fine).unwrap(), 0).unwrap().seats[0].number, 255);
    let mut between = parts(&[1], 1, 0);
    between.regions[0].latitude = 0.000_000_5;
    assert!(matches!(schedule(&Committee::new(between).unwrap(), 0), Err(ChainLimitError::Coordinates(_))));
}
