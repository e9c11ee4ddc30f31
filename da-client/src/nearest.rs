//! Which copy is the nearest: what is known of the ways to seats, measured by the calls that are made over them.
//!
//! What counts is the time in which an answer is expected to be complete: until its first byte, and from there by the
//! bytes that are asked for, with a cost for calls that fail. A way on which an answer was late is as slow as that until it
//! was quicker again; ways that may have become better get probes.

mod position;
mod way;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, RegionId, Seat};
use serde::{Deserialize, Serialize};

pub use self::position::Position;
use self::way::{Kept, Way, usual_transfer};
pub use self::way::{MEASURABLE, Took};
use crate::files;
use crate::submit::unix_now;

/// A way that may have become the best again is tried after so long, any other one after so long.
const PROBE_BETTER: Duration = Duration::from_millis(500);
const PROBE_OTHER: Duration = Duration::from_secs(60);
/// Wait before somebody else is asked as well, where nothing is known.
const BLIND: Duration = Duration::from_millis(500);
/// What was learned so long ago is not kept.
const KEEP_SECONDS: u64 = 7 * 24 * 3_600;
/// Most seats of which anything is kept.
const KEEP_SEATS: usize = 1_000;

/// Measured ways to seats.
#[derive(Debug, Default)]
pub struct Nearest {
    ways: Mutex<HashMap<Address, Way>>,
    /// Where this program is, if that is known.
    here: Option<Position>,
}

/// The file in the user's cache folder in which `da` keeps what it measured: `meridian/nearest.json`.
#[must_use]
pub fn kept_path() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "meridian").map(|dirs| dirs.cache_dir().join("nearest.json"))
}

/// The file with what was measured.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    seats: HashMap<Address, Kept>,
}

const VERSION: u32 = 1;

impl Nearest {
    /// Nothing measured yet, at a place that may be known.
    #[must_use]
    pub fn at(here: Option<Position>) -> Self {
        Self { here, ..Self::default() }
    }

    /// What an earlier run has [saved](Self::save). Nothing where there is no such file, or another one: it is only a
    /// matter of speed.
    #[must_use]
    pub fn load(path: &Path, here: Option<Position>) -> Self {
        let file = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok());
        let seats = file.filter(|file| file.version == VERSION).map(|file| file.seats).unwrap_or_default();
        let (now, nearest) = (unix_now(), Self::at(here));
        let way = |(seat, kept): (Address, Kept)| {
            let age = now.saturating_sub(kept.at);
            (age < KEEP_SECONDS).then(|| Way::of(kept, age).map(|way| (seat, way)))?
        };
        *nearest.ways() = seats.into_iter().filter_map(way).collect();
        nearest
    }

    /// Keeps what was measured for the next run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut seats: Vec<(Address, Kept)> =
            self.ways().iter().map(|(seat, way)| (*seat, way.kept())).collect();
        seats.sort_by_key(|(seat, kept)| (std::cmp::Reverse(kept.at), *seat));
        seats.truncate(KEEP_SEATS);
        let file = File { version: VERSION, seats: seats.into_iter().collect() };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        files::write_whole(path, &serde_json::to_vec(&file)?)
    }

    /// Whether anything is known that was measured.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        !self.ways().is_empty()
    }

    fn ways(&self) -> MutexGuard<'_, HashMap<Address, Way>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an answer of a seat.
    pub fn answered(&self, seat: Address, took: Took) {
        self.ways().entry(seat).or_insert_with(Way::new).answered(took);
    }

    /// Records that a seat did not answer.
    pub fn failed(&self, seat: Address) {
        self.ways().entry(seat).or_insert_with(Way::new).failed();
    }

    /// Records that no answer of a seat has begun after so long.
    pub fn late(&self, seat: Address, waited: Duration) {
        self.ways().entry(seat).or_insert_with(Way::new).late(waited);
    }

    /// Records that not all of so many bytes of rows are here, so long after the first of them.
    pub fn slow(&self, seat: Address, bytes: u64, time: Duration) {
        self.ways().entry(seat).or_insert_with(Way::new).slow(bytes, time);
    }

    /// The time in which an answer of a seat with so many bytes of rows, or none, is expected. Nothing where no call was
    /// made yet.
    #[must_use]
    pub fn expected(&self, seat: &Address, bytes: u64) -> Option<Duration> {
        self.ways().get(seat)?.expected(bytes).map(Duration::from_secs_f64)
    }

    /// How long to wait for such an answer before somebody else is asked as well: as long as nineteen of twenty take.
    #[must_use]
    pub fn patience(&self, seat: &Address, bytes: u64) -> Duration {
        self.ways().get(seat).and_then(|way| way.patience(bytes)).map_or(BLIND, Duration::from_secs_f64)
    }

    /// The time in which so many bytes of rows, or an answer with none, are expected from a region: until the last of the
    /// seats has answered that it takes to read a blob there. Nothing where none of its seats was ever called.
    #[must_use]
    pub fn region(&self, committee: &Committee, region: RegionId, bytes: u64) -> Option<Duration> {
        // With fewer known, the last known one stands for the rest.
        let needed = Self::needed(committee, region);
        let share = bytes.div_ceil(u64::try_from(needed).unwrap_or(u64::MAX));
        let seats = committee.seats_of(region);
        let mut known: Vec<Duration> = seats.filter_map(|seat| self.expected(&seat.address, share)).collect();
        known.sort_unstable();
        known.get(needed.min(known.len()).checked_sub(1)?).copied()
    }

    /// Seats of a region that hold K rows between them: m - 2f.
    #[must_use]
    pub fn needed(committee: &Committee, region: RegionId) -> usize {
        committee.quorum(region).saturating_sub(committee.tolerance(region)).max(1)
    }

    /// The same, guessed from the map where nothing was measured: from here, or from the nearest region that was measured.
    #[must_use]
    pub fn guess(&self, committee: &Committee, region: RegionId, bytes: u64) -> Option<Duration> {
        if let Some(known) = self.region(committee, region, bytes) {
            return Some(known);
        }
        let place = Position::of(committee.region(region)?);
        if let Some(here) = &self.here {
            return Some(here.round_trip(&place) + usual_transfer(bytes));
        }
        let others = committee.regions().iter().filter_map(|other| {
            Some(self.region(committee, other.id, bytes)? + Position::of(other).round_trip(&place))
        });
        others.min()
    }

    /// The regions, those first from which so many bytes of rows, or an answer with none, are expected first. Where nothing
    /// at all is known, in the order of their ids.
    ///
    /// `handicap` is added to a region's time: what reading there costs beside the transfer.
    pub fn regions(
        &self,
        committee: &Committee,
        bytes: u64,
        handicap: impl Fn(RegionId) -> Duration,
    ) -> Vec<RegionId> {
        let mut order: Vec<RegionId> = committee.regions().iter().map(|region| region.id).collect();
        order.sort_by_cached_key(|&region| {
            let time = self.guess(committee, region, bytes);
            (time.map_or(Duration::MAX, |time| time.saturating_add(handicap(region))), region)
        });
        order
    }

    /// The seats of a region, those first from which so many bytes of rows, or an answer with none, are expected first;
    /// those not measured follow in the order of their numbers.
    #[must_use]
    pub fn seats(&self, committee: &Committee, region: RegionId, bytes: u64) -> Vec<Seat> {
        let mut seats: Vec<Seat> = committee.seats_of(region).cloned().collect();
        let time = |seat: &Seat| self.expected(&seat.address, bytes).unwrap_or(Duration::MAX);
        seats.sort_by_cached_key(|seat| (time(seat), seat.number));
        seats
    }

    /// Whether it is known where to ask first: every region was measured or can be guessed.
    #[must_use]
    pub fn is_known(&self, committee: &Committee, regions: impl IntoIterator<Item = RegionId>) -> bool {
        self.here.is_some() || regions.into_iter().all(|region| self.region(committee, region, 0).is_some())
    }

    /// Some of these seats: those of which nothing was heard for a while, and whose way may have become the best. Each is
    /// given once, until it was [probed](Self::probed).
    pub fn to_probe<'a>(&self, seats: impl Iterator<Item = &'a Seat>) -> Vec<Seat> {
        let mut ways = self.ways();
        let usual = |way: &Way| way.usual_and_best().map(|(usual, _)| usual);
        let Some(nearest) = ways.values().filter_map(usual).min_by(f64::total_cmp) else { return Vec::new() };
        let is_due = |seat: &&Seat| {
            let way = ways.entry(seat.address).or_insert_with(Way::new);
            let could_be =
                way.usual_and_best().is_none_or(|(usual, best)| best <= nearest && usual > nearest);
            let after = if could_be { PROBE_BETTER } else { PROBE_OTHER };
            let is_due = !way.is_probed && way.heard.elapsed() >= after;
            way.is_probed |= is_due;
            is_due
        };
        seats.filter(is_due).cloned().collect()
    }

    /// A probe has come back, or is given up.
    pub fn probed(&self, seat: Address) {
        if let Some(way) = self.ways().get_mut(&seat) {
            way.is_probed = false;
        }
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

    fn trip(time: Duration) -> Took {
        Took::RoundTrip(time)
    }

    fn rows(nearest: &Nearest, seat: Address, first_byte: Duration, bytes: u64, transfer: Duration) {
        nearest.answered(seat, Took::FirstByte(first_byte));
        nearest.answered(seat, Took::Transfer(bytes, transfer));
    }

    #[test]
    fn measured_regions_come_first_and_failed_ones_last() {
        let committee = committee(4, 1);
        let nearest = Nearest::default();
        nearest.answered(address(3, 0), trip(2 * MS));
        nearest.answered(address(4, 0), trip(MS));
        nearest.failed(address(1, 0));
        let order = |handicap: fn(RegionId) -> Duration| nearest.regions(&committee, 0, handicap);
        // All regions are at one place: the one that was never called is taken to be as far as the nearest.
        assert_eq!(order(|_| Duration::ZERO), [2, 4, 3, 1].map(RegionId));
        assert_eq!(order(|id| if id.0 == 4 { 5 * MS } else { Duration::ZERO }), [2, 3, 4, 1].map(RegionId));
    }

    #[test]
    fn a_region_is_as_far_as_the_last_seat_that_it_takes() {
        // Four seats, one of which may fail: two hold K rows between them.
        let committee = committee(1, 4);
        let nearest = Nearest::default();
        for (number, distance) in [(0, 9), (1, 3), (2, 7), (3, 1)] {
            nearest.answered(address(1, number), trip(distance * MS));
        }
        assert_eq!(nearest.region(&committee, RegionId(1), 0), Some(3 * MS));
        let seats = nearest.seats(&committee, RegionId(1), 0);
        assert_eq!(seats.iter().map(|seat| seat.number).collect::<Vec<_>>(), [3, 1, 2, 0]);
    }

    #[test]
    fn what_is_expected_depends_on_how_much_is_asked_for() {
        let committee = committee(2, 1);
        let nearest = Nearest::default();
        // Near and thin, far and thick.
        rows(&nearest, address(1, 0), 5 * MS, 1_000_000, 100 * MS);
        rows(&nearest, address(2, 0), 50 * MS, 1_000_000, 10 * MS);
        let first = |bytes| nearest.regions(&committee, bytes, |_| Duration::ZERO)[0];
        assert_eq!([first(0), first(100_000), first(10_000_000)], [1, 1, 2].map(RegionId));
        let expected = nearest.expected(&address(1, 0), 1_000_000).unwrap();
        assert!(expected.abs_diff(105 * MS) < MS, "{expected:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_was_late_loses_its_place_at_once_and_wins_it_back() {
        let committee = committee(2, 1);
        let nearest = Nearest::default();
        let (near, far) = (address(1, 0), address(2, 0));
        for _ in 0..30 {
            rows(&nearest, near, 10 * MS, 0, Duration::ZERO);
            rows(&nearest, far, 40 * MS, 0, Duration::ZERO);
        }
        let order = || nearest.regions(&committee, 1_000, |_| Duration::ZERO);
        assert_eq!(order(), [1, 2].map(RegionId));
        assert!(nearest.patience(&near, 1) < 12 * MS);
        assert!(nearest.to_probe(committee.seats().iter()).is_empty());
        nearest.late(near, 60 * MS);
        assert_eq!(order(), [2, 1].map(RegionId));
        // It may be as good as it was: it is tried once, and again only when that has come back.
        tokio::time::sleep(PROBE_BETTER).await;
        let probes = || {
            let seats = nearest.to_probe(committee.seats().iter());
            seats.iter().map(|seat| seat.region.0).collect::<Vec<_>>()
        };
        assert_eq!((probes(), probes()), (vec![1], vec![]));
        nearest.probed(near);
        assert_eq!(probes(), [1]);
        nearest.probed(near);
        rows(&nearest, near, 10 * MS, 0, Duration::ZERO);
        assert_eq!(order(), [1, 2].map(RegionId));
        // The far one cannot be better, but things change.
        tokio::time::sleep(PROBE_OTHER).await;
        rows(&nearest, near, 10 * MS, 0, Duration::ZERO);
        assert_eq!(probes(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_cost_a_place_and_are_forgotten() {
        let committee = committee(2, 1);
        let nearest = Nearest::default();
        nearest.answered(address(1, 0), trip(MS));
        nearest.answered(address(2, 0), trip(100 * MS));
        let first = || nearest.regions(&committee, 0, |_| Duration::ZERO)[0].0;
        nearest.failed(address(1, 0));
        assert_eq!(first(), 2);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(first(), 1);
        for _ in 0..5 {
            nearest.failed(address(1, 0));
        }
        assert!(nearest.expected(&address(1, 0), 0) > Some(1_500 * MS));
        // Answers make up for it in seconds.
        for _ in 0..5 {
            nearest.answered(address(1, 0), trip(MS));
        }
        assert_eq!(first(), 1);
    }

    #[test]
    fn the_map_says_where_to_ask_first() {
        let mut parts = committee(3, 1).parts().clone();
        for (region, (north, east)) in
            parts.regions.iter_mut().zip([(45.6, -121.2), (50.1, 8.7), (35.7, 139.7)])
        {
            (region.latitude, region.longitude) = (north, east);
        }
        let committee = Committee::new(parts).unwrap();
        let regions = || committee.regions().iter().map(|region| region.id);
        let order = |nearest: &Nearest| nearest.regions(&committee, 0, |_| Duration::ZERO);
        let unknown = Nearest::default();
        assert_eq!(order(&unknown), [1, 2, 3].map(RegionId));
        assert!(!unknown.is_known(&committee, regions()));
        let in_vienna = Nearest::at(Position::new(48.2, 16.4));
        assert_eq!(order(&in_vienna), [2, 1, 3].map(RegionId));
        assert!(in_vienna.is_known(&committee, regions()));
        // Who is near Frankfurt is nearer to Oregon than to Tokyo.
        unknown.answered(address(2, 0), trip(MS));
        assert_eq!(order(&unknown), [2, 1, 3].map(RegionId));
    }

    #[test]
    fn what_was_measured_is_kept_from_run_to_run() {
        let (committee, folder) = (committee(3, 1), tempfile::tempdir().unwrap());
        let path = folder.path().join("cache").join("nearest.json");
        let nearest = Nearest::load(&path, None);
        for (region, distance) in [(1, 30), (2, 10), (3, 20)] {
            rows(&nearest, address(region, 0), distance * MS, 1_000_000, 50 * MS);
        }
        nearest.save(&path).unwrap();
        let again = Nearest::load(&path, None);
        let order = again.regions(&committee, 1_000_000, |_| Duration::ZERO);
        assert_eq!(order, [2, 3, 1].map(RegionId));
        let expected = [&again, &nearest].map(|known| known.expected(&address(2, 0), 1_000_000).unwrap());
        assert!(expected[0].abs_diff(expected[1]) < MS, "{expected:?}");

        let text = std::fs::read_to_string(&path).unwrap();
        for (what, with) in [
            ("\"version\":1", "\"version\":2"),
            ("\"rate\":", "\"rate\":-"),
            ("\"rate\":20000000.0", "\"rate\":1e-300"),
            ("\"first_byte\":", "\"first_byte\":9999"),
            ("\"at\":", "\"at\":-"),
            ("{", ""),
        ] {
            assert!(text.contains(what), "{text}");
            std::fs::write(&path, text.replace(what, with)).unwrap();
            assert!(Nearest::load(&path, None).expected(&address(2, 0), 0).is_none(), "{what}");
        }
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
                    Some(distance) => nearest.answered(address(region, number), trip(Duration::from_millis(distance))),
                    None => nearest.failed(address(region, number)),
                }
            }
            let mut order = nearest.regions(&committee, 1 << 20, |_| MS);
            order.sort_unstable();
            prop_assert_eq!(order, [1, 2, 3, 4, 5].map(RegionId));
        }
    }
}
