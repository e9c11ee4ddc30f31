#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use proptest::prelude::*;

use super::*;

const NONE: [u16; 0] = [];

/// An address that nobody has the key of.
pub(crate) fn address(kind: u8, region: usize, number: usize) -> Address {
    let mut bytes = [kind; 20];
    bytes[..8].copy_from_slice(&keccak256([kind, region as u8, number as u8])[..8]);
    bytes[17] = region as u8;
    bytes[18] = number as u8;
    Address::from(bytes)
}

/// Parts with these many seats in each region, ids and numbers with gaps.
pub(crate) fn parts(seats: &[usize]) -> CommitteeParts {
    let id = |rank: usize| RegionId(rank as u16 * 2 + 1);
    CommitteeParts {
        chain_id: 7,
        verifying_contract: Address::repeat_byte(9),
        epoch: 3,
        min_copies: Committee::default_min_copies(seats.len() as u16),
        min_retention: 3600,
        max_retention: 30 * 24 * 3600,
        regions: (0..seats.len())
            .map(|rank| Region {
                id: id(rank),
                label: format!("region-{rank}"),
                latitude: -1.5,
                longitude: 179.25,
            })
            .collect(),
        seats: seats
            .iter()
            .enumerate()
            .flat_map(|(rank, count)| (0..*count).map(move |number| (rank, number)))
            .map(|(rank, number)| Seat {
                region: id(rank),
                number: number as u16 * 3,
                address: address(1, rank, number),
                endpoint: format!("http://replica-{rank}-{number}:7000"),
            })
            .collect(),
        gateways: vec![GatewayMember {
            address: address(2, 0, 0),
            endpoint: "http://127.0.0.1:9000".into(),
            max_bytes: 1 << 40,
            max_entries_per_hour: 100_000,
        }],
    }
}

pub(crate) fn committee(seats: &[usize]) -> Committee {
    Committee::new(parts(seats)).unwrap()
}

fn refused(change: impl FnOnce(&mut CommitteeParts)) -> CommitteeError {
    let mut parts = parts(&[1, 4]);
    change(&mut parts);
    Committee::new(parts).unwrap_err()
}

fn accepted(change: impl FnOnce(&mut CommitteeParts)) -> Committee {
    let mut parts = parts(&[1, 4]);
    change(&mut parts);
    Committee::new(parts).unwrap()
}

#[test]
fn tolerance_and_quorum_follow_the_seats() {
    for (m, f) in [(1, 0), (2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (10, 3), (31, 10), (32, 10)] {
        let committee = committee(&[m]);
        let region = RegionId(1);
        assert_eq!(committee.seats_per_region(region), m);
        assert_eq!(committee.tolerance(region), f);
        assert_eq!(committee.quorum(region), m - f);
    }
    for (regions, copies) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (256, 171)] {
        assert_eq!(Committee::default_min_copies(regions), copies);
    }
}

#[test]
fn a_region_is_complete_at_its_quorum() {
    let committee = committee(&[1, 4, 2]);
    let of =
        |region| -> Vec<Address> { committee.seats_of(RegionId(region)).map(|seat| seat.address).collect() };
    let (one, four, two) = (of(1), of(3), of(5));
    let complete = |signers: &[Address]| -> Vec<u16> {
        committee.complete_regions(signers).into_iter().map(|id| id.0).collect()
    };
    assert_eq!(complete(&[]), NONE);
    assert_eq!(complete(&one), [1]);
    assert_eq!(complete(&four[..2]), NONE);
    assert_eq!(complete(&four[1..]), [3]);
    assert_eq!(complete(&[four[0], four[1], four[0], four[1]]), NONE, "nobody counts twice");
    assert_eq!(complete(&two[..1]), NONE);
    assert_eq!(complete(&[four, two, one].concat()), [1, 3, 5]);
    assert_eq!(complete(&[address(2, 0, 0), Address::ZERO]), NONE, "strangers do not count");
}

#[test]
fn members_are_found() {
    let committee = committee(&[3, 5, 2]);
    for seat in &parts(&[3, 5, 2]).seats {
        assert_eq!(committee.seat(&seat.address), Some(seat));
        assert_eq!(committee.gateway(&seat.address), None);
    }
    assert_eq!(committee.seat(&Address::ZERO), None);
    assert_eq!(committee.gateway(&address(2, 0, 0)), Some(&parts(&[1]).gateways[0]));
    assert!(committee.seats().is_sorted_by(|a, b| a.address < b.address));
    let numbers = |id| committee.seats_of(RegionId(id)).map(|seat| seat.number).collect::<Vec<_>>();
    assert_eq!(numbers(3), [0, 3, 6, 9, 12]);
    assert_eq!(numbers(2), NONE);
    assert_eq!(committee.region(RegionId(3)).unwrap().label, "region-1");
    assert_eq!(committee.region(RegionId(2)), None);
    assert_eq!((committee.seats_per_region(RegionId(2)), committee.quorum(RegionId(2))), (0, 0));
}

#[test]
fn the_number_of_regions_and_seats_is_limited() {
    assert_eq!(Committee::new(parts(&[])), Err(CommitteeError::Regions(0)));
    for regions in [MAX_REGIONS - 1, MAX_REGIONS] {
        assert_eq!(committee(&vec![1; regions]).regions().len(), regions);
    }
    let many = MAX_REGIONS + 1;
    let mut over = parts(&vec![1; many]);
    // The helper's addresses run out of numbers here.
    over.seats.dedup_by_key(|seat| seat.address);
    assert_eq!(Committee::new(over), Err(CommitteeError::Regions(many)));

    let seats = |count| Committee::new(parts(&[1, count]));
    for count in [1, MAX_SEATS_PER_REGION - 1, MAX_SEATS_PER_REGION] {
        assert_eq!(seats(count).unwrap().seats().len(), count + 1);
    }
    for count in [0, MAX_SEATS_PER_REGION + 1] {
        assert_eq!(seats(count), Err(CommitteeError::Seats { region: RegionId(3), seats: count }));
    }

    let gateways = |count: usize| {
        let mut parts = parts(&[1]);
        parts.gateways = (0..count)
            .map(|i| GatewayMember { address: address(2, i / 256, i % 256), ..parts.gateways[0].clone() })
            .collect();
        Committee::new(parts)
    };
    for count in [0, MAX_GATEWAYS - 1, MAX_GATEWAYS] {
        assert_eq!(gateways(count).unwrap().gateways().len(), count);
    }
    assert_eq!(gateways(MAX_GATEWAYS + 1), Err(CommitteeError::Gateways(MAX_GATEWAYS + 1)));
}

#[test]
fn numbers_are_limited() {
    for copies in [1, 2] {
        assert_eq!(accepted(|parts| parts.min_copies = copies).min_copies(), usize::from(copies));
    }
    for min_copies in [0, 3] {
        let error = CommitteeError::MinCopies { min_copies, regions: 2 };
        assert_eq!(refused(|parts| parts.min_copies = min_copies), error);
    }
    for (min, max) in [(1, 1), (1, MAX_RETENTION - 1), (MAX_RETENTION, MAX_RETENTION)] {
        accepted(|parts| (parts.min_retention, parts.max_retention) = (min, max));
    }
    for (min, max) in [(0, 1), (0, 0), (2, 1), (1, MAX_RETENTION + 1), (u64::MAX, u64::MAX)] {
        let error = CommitteeError::Retention { min, max };
        assert_eq!(refused(|parts| (parts.min_retention, parts.max_retention) = (min, max)), error);
    }
    type Field = fn(&mut CommitteeParts) -> &mut u64;
    let fields: [(&str, Field); 4] = [
        ("chain_id", |parts| &mut parts.chain_id),
        ("epoch", |parts| &mut parts.epoch),
        ("max_bytes", |parts| &mut parts.gateways[0].max_bytes),
        ("max_entries_per_hour", |parts| &mut parts.gateways[0].max_entries_per_hour),
    ];
    for (name, field) in fields {
        for number in [0, MAX_NUMBER - 1, MAX_NUMBER] {
            accepted(|parts| *field(parts) = number);
        }
        for number in [MAX_NUMBER + 1, u64::MAX] {
            assert_eq!(refused(|parts| *field(parts) = number), CommitteeError::Number(name));
        }
    }
}

#[test]
fn retention_has_both_ends_in_bounds() {
    let committee = accepted(|parts| (parts.min_retention, parts.max_retention) = (10, 20));
    for (expiry, allowed) in [(0, false), (99, false), (109, false), (110, true), (120, true), (121, false)] {
        assert_eq!(committee.allows_retention(100, expiry), allowed);
    }
    assert!(committee.allows_retention(u64::MAX - 10, u64::MAX));
    assert!(!committee.allows_retention(u64::MAX, 0));
    assert!(!committee.allows_retention(0, u64::MAX));
}

#[test]
fn regions_are_checked() {
    assert_eq!(refused(|parts| parts.regions[0].id = RegionId(0)), CommitteeError::RegionZero);
    let twice = |parts: &mut CommitteeParts| parts.regions[0].id = RegionId(3);
    assert_eq!(refused(twice), CommitteeError::DuplicateRegion(RegionId(3)));
    let twice = |parts: &mut CommitteeParts| parts.regions[0].label = "region-1".into();
    assert_eq!(refused(twice), CommitteeError::DuplicateLabel("region-1".into()));
    for len in [1, MAX_LABEL_LEN - 1, MAX_LABEL_LEN] {
        accepted(|parts| parts.regions[0].label = "x".repeat(len));
    }
    for label in ["", &"x".repeat(MAX_LABEL_LEN + 1), "A", "a b", "a_b", "ä", "a\n"] {
        assert_eq!(
            refused(|parts| parts.regions[0].label = label.into()),
            CommitteeError::Label(RegionId(1))
        );
    }
    let place = |latitude, longitude| {
        move |parts: &mut CommitteeParts| {
            (parts.regions[0].latitude, parts.regions[0].longitude) = (latitude, longitude);
        }
    };
    for (latitude, longitude) in [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0)] {
        accepted(place(latitude, longitude));
    }
    for (latitude, longitude) in [
        (90.001, 0.0),
        (-90.001, 0.0),
        (0.0, 180.001),
        (0.0, -180.001),
        (f64::NAN, 0.0),
        (0.0, f64::INFINITY),
    ] {
        assert_eq!(refused(place(latitude, longitude)), CommitteeError::Position(RegionId(1)));
    }
    assert_eq!(accepted(place(-0.0, -0.0)).fingerprint(), accepted(place(0.0, 0.0)).fingerprint());
}

#[test]
fn members_are_checked() {
    let (seat, other, gateway) = (address(1, 0, 0), address(1, 1, 0), address(2, 0, 0));
    assert_eq!(
        refused(|parts| parts.seats[0].region = RegionId(2)),
        CommitteeError::UnknownRegion { address: seat, region: RegionId(2) }
    );
    assert_eq!(
        refused(|parts| parts.seats[1].number = 3),
        CommitteeError::DuplicateSeat { region: RegionId(3), number: 3 }
    );
    assert_eq!(refused(|parts| parts.seats[0].address = other), CommitteeError::DuplicateAddress(other));
    assert_eq!(refused(|parts| parts.gateways[0].address = seat), CommitteeError::DuplicateAddress(seat));
    let twice = |parts: &mut CommitteeParts| parts.gateways.push(parts.gateways[0].clone());
    assert_eq!(refused(twice), CommitteeError::DuplicateAddress(gateway));
    assert_eq!(refused(|parts| parts.seats[0].address = Address::ZERO), CommitteeError::ZeroAddress);
    assert_eq!(refused(|parts| parts.gateways[0].address = Address::ZERO), CommitteeError::ZeroAddress);
}

#[test]
fn endpoints_have_one_form() {
    let named = |len: usize| format!("http://{}:1", "h".repeat(len - "http://:1".len()));
    let secured = |len: usize| format!("https://{}:1", "h".repeat(len - "https://:1".len()));
    for endpoint in [
        "http://localhost:1",
        "http://10.0.0.1:65535",
        "http://[::1]:7000",
        "http://sds_1.example.org:443",
        "https://localhost:1",
        "https://10.0.0.1:65535",
        "https://[::1]:7000",
        "https://sds_1.example.org:443",
        &named(MAX_ENDPOINT_LEN - 1),
        &named(MAX_ENDPOINT_LEN),
        &secured(MAX_ENDPOINT_LEN - 1),
        &secured(MAX_ENDPOINT_LEN),
    ] {
        accepted(|parts| parts.seats[0].endpoint = endpoint.into());
        accepted(|parts| parts.gateways[0].endpoint = endpoint.into());
    }
    for endpoint in [
        "",
        "localhost:1",
        "ftp://localhost:1",
        "HTTP://localhost:1",
        "HTTPS://localhost:1",
        "https://localhost",
        "https://:1",
        "https://localhost:0",
        "https://localhost:1/",
        "https://user@localhost:1",
        "https://http://localhost:1",
        "http://localhost",
        "http://:1",
        "http://localhost:",
        "http://localhost:0",
        "http://localhost:01",
        "http://localhost:+1",
        "http://localhost:65536",
        "http://localhost:1/",
        "http://user@localhost:1",
        "http://local host:1",
        "http://::1:1",
        "http://[::1:1",
        "http://[localhost]:1",
        &named(MAX_ENDPOINT_LEN + 1),
        &secured(MAX_ENDPOINT_LEN + 1),
    ] {
        let error = CommitteeError::Endpoint(endpoint.into());
        assert_eq!(refused(|parts| parts.seats[0].endpoint = endpoint.into()), error);
        assert_eq!(refused(|parts| parts.gateways[0].endpoint = endpoint.into()), error);
    }
}

#[test]
fn the_order_of_the_lists_does_not_matter() {
    let mut shuffled = parts(&[2, 4, 1]);
    shuffled.regions.reverse();
    shuffled.seats.rotate_left(3);
    let (a, b) = (committee(&[2, 4, 1]), Committee::new(shuffled).unwrap());
    assert_eq!(a, b);
    assert_eq!(a.fingerprint(), b.fingerprint());
    assert_eq!(Committee::new(a.parts().clone()), Ok(a));
}

#[test]
fn the_fingerprint_covers_every_field() {
    let changes: [fn(&mut CommitteeParts); 19] = [
        |_| (),
        |parts| parts.chain_id = 8,
        |parts| parts.verifying_contract = Address::ZERO,
        |parts| parts.epoch = 4,
        |parts| parts.min_copies = 1,
        |parts| parts.min_retention += 1,
        |parts| parts.max_retention += 1,
        |parts| parts.regions[0].id = RegionId(2),
        |parts| parts.regions[0].label = "else".into(),
        |parts| parts.regions[0].latitude = 1.0,
        |parts| parts.regions[0].longitude = 1.0,
        |parts| parts.seats[0].region = RegionId(3),
        |parts| parts.seats[0].number = 100,
        |parts| parts.seats[0].address = Address::repeat_byte(1),
        |parts| parts.seats[0].endpoint = "http://else:1".into(),
        |parts| parts.gateways[0].address = Address::repeat_byte(1),
        |parts| parts.gateways[0].endpoint = "http://else:1".into(),
        |parts| parts.gateways[0].max_bytes = 1,
        |parts| parts.gateways[0].max_entries_per_hour = 1,
    ];
    let fingerprints: std::collections::BTreeSet<B256> = changes
        .into_iter()
        .enumerate()
        .map(|(number, change)| {
            let mut parts = parts(&[2, 4]);
            change(&mut parts);
            if number == 7 {
                // The seats move with their region.
                parts.seats.iter_mut().filter(|seat| seat.region == RegionId(1)).for_each(|seat| {
                    seat.region = RegionId(2);
                });
            }
            if number == 11 {
                parts.seats[0].number = 50;
            }
            Committee::new(parts).unwrap().fingerprint()
        })
        .collect();
    assert_eq!(fingerprints.len(), 19);
}

#[test]
fn a_committee_goes_through_its_file() {
    let committee = committee(&[1, 4]);
    let file = toml::to_string(&committee).unwrap();
    assert_eq!(toml::from_str::<Committee>(&file).unwrap(), committee);
    let json = serde_json::to_string(&committee).unwrap();
    assert_eq!(serde_json::from_str::<Committee>(&json).unwrap(), committee);

    let problem = |from: &str, to: &str| {
        assert!(file.contains(from), "{from} is in the file");
        toml::from_str::<Committee>(&file.replacen(from, to, 1)).unwrap_err().to_string()
    };
    assert!(problem("format_version = 1", "format_version = 2").contains("format 2 is not supported"));
    assert!(problem("format_version = 1", "").contains("format_version"));
    assert!(problem("epoch = 3", "epoch = 3\nepochs = 3").contains("epochs"));
    assert!(problem("label =", "color = 1\nlabel =").contains("color"));
    assert!(problem("number =", "color = 1\nnumber =").contains("color"));
    assert!(problem("max_bytes =", "color = 1\nmax_bytes =").contains("color"));
    assert!(problem("min_copies = 2", "min_copies = 3").contains("3 copies"));
    assert!(problem("epoch = 3", "epoch = -3").contains("epoch"));
}

proptest! {
    #[test]
    fn any_text_is_a_committee_or_an_error(text in ".{0,200}") {
        prop_assert!(toml::from_str::<Committee>(&text).is_err());
    }
}
