//! How far away seats are, as measured by the calls that were made to them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, RegionId, Seat};

/// Distance of a seat whose last call failed.
const FAR: Duration = Duration::from_secs(60);

/// Measured round trips by seat.
///
/// A seat that was never called has none; one whose last call failed counts as far until it answers again.
#[derive(Debug, Default)]
pub struct Nearest {
    seats: Mutex<HashMap<Address, Duration>>,
}

impl Nearest {
    /// Records an answer of a seat. Later answers weigh a quarter each.
    pub fn answered(&self, seat: Address, round_trip: Duration) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seats.entry(seat).or_insert(round_trip);
        *known = if *known >= FAR { round_trip } else { (*known * 3 + round_trip) / 4 };
    }

    /// Records that a seat did not answer.
    pub fn failed(&self, seat: Address) {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).insert(seat, FAR);
    }

    /// The round trip to a seat, when one was measured.
    #[must_use]
    pub fn round_trip(&self, seat: &Address) -> Option<Duration> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).get(seat).copied()
    }

    /// The distance of a region: of the last of the seats that it takes to read a blob there.
    #[must_use]
    pub fn region(&self, committee: &Committee, region: RegionId) -> Option<Duration> {
        let mut known: Vec<Duration> =
            committee.seats_of(region).filter_map(|seat| self.round_trip(&seat.address)).collect();
        known.sort_unstable();
        // m - 2f seats hold K rows between them; with fewer known, the last known one stands for the rest.
        let needed = committee.quorum(region).saturating_sub(committee.tolerance(region)).max(1);
        known.get(needed.min(known.len()).checked_sub(1)?).copied()
    }

    /// The regions, nearest first; those not measured follow in the order of their ids.
    ///
    /// `handicap` is added to a region's distance: what reading there costs beside the round trip.
    pub fn regions(&self, committee: &Committee, handicap: impl Fn(RegionId) -> Duration) -> Vec<RegionId> {
        let mut order: Vec<RegionId> = committee.regions().iter().map(|region| region.id).collect();
        order.sort_by_key(|&region| {
            (self.region(committee, region).map_or(Duration::MAX, |known| known + handicap(region)), region)
        });
        order
    }

    /// The seats of a region, nearest first; those not measured follow in the order of their numbers.
    #[must_use]
    pub fn seats(&self, committee: &Committee, region: RegionId) -> Vec<Seat> {
        let mut seats: Vec<Seat> = committee.seats_of(region).cloned().collect();
        seats.sort_by_key(|seat| {
            (self.round_trip(&seat.address).filter(|known| *known < FAR).unwrap_or(FAR), seat.number)
        });
        seats
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::{CommitteeParts, GatewayMember, Region};
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn address(region: u16, number: u16) -> Address {
        let mut bytes = [1; 20];
        bytes[..2].copy_from_slice(&region.to_be_bytes());
        bytes[2..4].copy_from_slice(&number.to_be_bytes());
        Address::from(bytes)
    }

    fn committee(regions: u16, seats: u16) -> Committee {
        let endpoint = "http://127.0.0.1:1".to_owned();
        Committee::new(CommitteeParts {
            chain_id: 0,
            verifying_contract: Address::ZERO,
            epoch: 1,
            min_copies: 1,
            min_retention: 1,
            max_retention: 2,
            regions: (1..=regions)
                .map(|id| Region { id: RegionId(id), label: format!("r{id}"), latitude: 0.0, longitude: 0.0 })
                .collect(),
            seats: (1..=regions)
                .flat_map(|region| (0..seats).map(move |number| (region, number)))
                .map(|(region, number)| Seat {
                    region: RegionId(region),
                    number,
                    address: address(region, number),
                    endpoint: endpoint.clone(),
                })
                .collect(),
            gateways: vec![GatewayMember {
                address: Address::repeat_byte(9),
                endpoint,
                max_bytes: 1,
                max_entries_per_hour: 1,
            }],
        })
        .unwrap()
    }

    #[test]
    fn measured_regions_come_first_and_failed_ones_last_of_them() {
        let committee = committee(4, 1);
        let nearest = Nearest::default();
        nearest.answered(address(3, 0), 2 * MS);
        nearest.answered(address(4, 0), MS);
        nearest.failed(address(1, 0));
        let order = |handicap: fn(RegionId) -> Duration| nearest.regions(&committee, handicap);
        assert_eq!(order(|_| Duration::ZERO), [4, 3, 1, 2].map(RegionId));
        assert_eq!(order(|id| if id.0 == 4 { 5 * MS } else { Duration::ZERO }), [3, 4, 1, 2].map(RegionId));
        // One answer is enough to be near again.
        nearest.answered(address(1, 0), MS / 2);
        assert_eq!(order(|_| Duration::ZERO)[0], RegionId(1));
    }

    #[test]
    fn a_region_is_as_far_as_the_last_seat_that_it_takes() {
        // Four seats, one of which may fail: two hold K rows between them.
        let committee = committee(1, 4);
        let nearest = Nearest::default();
        for (number, distance) in [(0, 9), (1, 3), (2, 7), (3, 1)] {
            nearest.answered(address(1, number), distance * MS);
        }
        assert_eq!(nearest.region(&committee, RegionId(1)), Some(3 * MS));
        let seats = nearest.seats(&committee, RegionId(1));
        assert_eq!(seats.iter().map(|seat| seat.number).collect::<Vec<_>>(), [3, 1, 2, 0]);
    }

    proptest! {
        #[test]
        fn the_order_has_every_region_once(
            answers in proptest::collection::vec((1u16..6, 0u16..2, proptest::option::of(0u64..1000)), 0..20),
        ) {
            let committee = committee(5, 2);
            let nearest = Nearest::default();
            for (region, number, distance) in answers {
                match distance {
                    Some(distance) => nearest.answered(address(region, number), Duration::from_millis(distance)),
                    None => nearest.failed(address(region, number)),
                }
            }
            let mut order = nearest.regions(&committee, |_| MS);
            order.sort_unstable();
            prop_assert_eq!(order, [1, 2, 3, 4, 5].map(RegionId));
        }
    }
}
