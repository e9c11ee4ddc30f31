use meridian_proofs::committee::Region;

use super::*;

/// Seats by region, number and signer.
type Seats = &'static [(u16, u16, u8)];

fn signer(name: u8) -> Address {
    Address::repeat_byte(name)
}

/// Epoch e begins at 100 e and closes 50 s after the next began; entries live for 1000 s at most.
fn epochs(seats: &[Seats]) -> Epochs {
    let term = |(place, seats): (usize, &Seats)| {
        let epoch = u64::try_from(place).unwrap() + 1;
        let region =
            |id| Region { id: RegionId(id), label: format!("region-{id}"), latitude: 0.0, longitude: 0.0 };
        let mut regions: Vec<u16> = seats.iter().map(|(region, _, _)| *region).collect();
        regions.sort_unstable();
        regions.dedup();
        let committee = Committee::new(CommitteeParts {
            chain_id: 1,
            verifying_contract: Address::ZERO,
            epoch,
            min_copies: 1,
            min_retention: 1,
            max_retention: 1000,
            regions: regions.into_iter().map(region).collect(),
            seats: seats
                .iter()
                .map(|(region, number, name)| Seat {
                    region: RegionId(*region),
                    number: *number,
                    address: signer(*name),
                    endpoint: format!("http://host:{name}"),
                })
                .collect(),
            gateways: Vec::new(),
        });
        Term {
            committee: Arc::new(committee.unwrap()),
            activation: 100 * epoch,
            closes: Some(100 * (epoch + 1) + 50),
        }
    };
    let mut terms: Vec<Term> = seats.iter().enumerate().map(term).collect();
    terms.last_mut().unwrap().closes = None;
    Epochs::new(terms).unwrap()
}

/// Epoch and signer before of each seat that passed to a signer.
fn taken(epochs: &Epochs, now: u64, name: u8) -> Vec<(u64, u8)> {
    let seats = inherited(epochs, now, &signer(name));
    seats.iter().map(|standing| (standing.epoch(), standing.seat.address[0])).collect()
}

#[test]
fn a_seat_that_passes_on_is_owed_by_its_new_holder_from_the_activation_to_the_last_expiry() {
    let epochs = epochs(&[&[(1, 0, 0xa), (2, 0, 0xb)], &[(1, 0, 0xc), (2, 0, 0xb)]]);
    assert!(taken(&epochs, 199, 0xc).is_empty());
    assert_eq!(taken(&epochs, 200, 0xc), [(1, 0xa)]);
    // Closed at 250, signed at most 60 s later, kept for at most 1000 s.
    assert_eq!(taken(&epochs, 1309, 0xc), [(1, 0xa)]);
    assert!(taken(&epochs, 1310, 0xc).is_empty());
    for name in [0xa, 0xb, 0xd] {
        assert!(taken(&epochs, 200, name).is_empty());
    }
}

#[test]
fn a_seat_is_followed_through_all_its_holders() {
    let first: Seats = &[(1, 0, 0xa), (2, 0, 0xb)];
    let second: Seats = &[(1, 0, 0xc), (2, 0, 0xb)];
    let thrice = epochs(&[first, second, &[(1, 0, 0xd), (2, 0, 0xb)]]);
    assert_eq!(taken(&thrice, 299, 0xc), [(1, 0xa)]);
    assert_eq!(taken(&thrice, 300, 0xd), [(2, 0xc), (1, 0xa)]);
    assert!(taken(&thrice, 300, 0xc).is_empty(), "who passed it on owes nothing of before");
    let removed = epochs(&[first, second, &[(2, 0, 0xb)]]);
    assert_eq!(taken(&removed, 300, 0xc), [(1, 0xa)], "a removed seat owes to the end");
    let back = epochs(&[first, second, first]);
    assert_eq!(taken(&back, 300, 0xa), [(2, 0xc)]);
    let gap = epochs(&[first, &[(2, 0, 0xb)], second]);
    assert!(taken(&gap, 300, 0xc).is_empty(), "a seat that comes again is another");
    assert!(taken(&gap, 300, 0xa).is_empty());
    let swapped = epochs(&[first, &[(1, 0, 0xb), (2, 0, 0xa)]]);
    assert_eq!((taken(&swapped, 200, 0xa), taken(&swapped, 200, 0xb)), (vec![(1, 0xb)], vec![(1, 0xa)]));
    let other_number = epochs(&[first, &[(1, 1, 0xc), (2, 0, 0xb)]]);
    assert!(taken(&other_number, 200, 0xc).is_empty());
}

#[test]
fn present_holders_hold_the_same_rows() {
    let passed = epochs(&[
        &[(1, 0, 0xa), (1, 1, 0xe), (2, 0, 0xb)],
        &[(1, 0, 0xc), (1, 1, 0xe), (2, 0, 0xb)],
        &[(1, 0, 0xd), (2, 0, 0xf)],
    ]);
    let holders = |now| {
        let committee = present_holders(&passed, &passed.terms()[0], now)?;
        let name = |region, number| seat_at(&committee, RegionId(region), number).unwrap().address[0];
        Some([name(1, 0), name(1, 1), name(2, 0)])
    };
    assert_eq!(holders(199), None);
    assert_eq!(holders(200), Some([0xc, 0xe, 0xb]));
    assert_eq!(holders(300), Some([0xd, 0xe, 0xf]), "whose seat was removed holds it still");
    let present = present_holders(&passed, &passed.terms()[0], 300).unwrap();
    let before = &passed.terms()[0].committee;
    assert_eq!(present.epoch(), 1);
    let shape = Shape::of(100_000.try_into().unwrap());
    for seat in before.seats() {
        let now = seat_at(&present, seat.region, seat.number).unwrap();
        let id = BlobId::from([7; 32]);
        assert_eq!(interval(&present, now, &id, shape), interval(before, seat, &id, shape));
    }
    // One signer with two seats of the first epoch: its old holders are asked.
    let moved = epochs(&[&[(1, 0, 0xa), (2, 0, 0xb)], &[(2, 0, 0xa)]]);
    assert!(present_holders(&moved, &moved.terms()[0], 200).is_none());
}

#[test]
fn the_latest_seat_that_has_begun_counts() {
    let epochs = epochs(&[&[(1, 0, 0xa)], &[(2, 0, 0xa), (3, 0, 0xb)], &[(3, 0, 0xb)]]);
    let region = |now, name| latest_seat(&epochs, now, &signer(name)).map(|own| own.seat.region.0);
    assert_eq!([99, 199, 200, 300].map(|now| region(now, 0xa)), [Some(1), Some(1), Some(2), Some(2)]);
    assert_eq!(region(100, 0xb), Some(3), "before its first epoch has begun");
    assert_eq!(region(300, 0xc), None);
}
