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

    /// Whether every region has been measured at least once.
    #[must_use]
    pub fn is_warm(&self, committee: &Committee) -> bool {
        committee.regions().iter().all(|region| self.region(committee, region.id).is_some())
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
