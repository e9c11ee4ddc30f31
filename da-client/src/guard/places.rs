//! The places of a server, and who has them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Cut, Limits, Origin, Refusal};

/// The places of a server.
#[derive(Debug)]
pub struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    visits: HashMap<u64, Arc<Visit>>,
    origins: HashMap<Origin, Arc<AtomicUsize>>,
    next: u64,
}

impl Taken {
    fn remove(&mut self, visit: &Visit) {
        if self.visits.remove(&visit.number).is_none() {
            return;
        }
        if let Some(origin) = visit.origin
            && visit.of_origin.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.origins.remove(&origin);
        }
    }

    /// Whoever has to go where one more comes, of an origin that has so many: idle ones first, then of whoever has most.
    fn weakest(&self, have: usize) -> Option<Arc<Visit>> {
        let rank = |visit: &&Arc<Visit>| {
            let share = visit.of_origin.load(Ordering::Relaxed);
            (visit.is_idle(), share, visit.since_last_use())
        };
        let weakest = self.visits.values().max_by_key(rank)?;
        // One that is in use goes only where the shares are more even afterwards.
        let goes = weakest.is_idle() || weakest.of_origin.load(Ordering::Relaxed) > have + 1;
        goes.then(|| Arc::clone(weakest))
    }
}

/// A connection, as the server sees it.
#[derive(Debug)]
pub struct Visit {
    number: u64,
    origin: Option<Origin>,
    /// Connections of the same origin.
    of_origin: Arc<AtomicUsize>,
    begun: Instant,
    /// Requests that it is being used for.
    requests: AtomicUsize,
    /// Requests that wait for something to happen, and may do so for ever.
    watches: AtomicUsize,
    /// Milliseconds from its beginning to the end of the last of them.
    last_use: AtomicU64,
    /// Bytes that came.
    received: AtomicU64,
    displaced: CancellationToken,
    cut: OnceLock<Cut>,
    is_told: AtomicBool,
}

impl Visit {
    fn new(number: u64, origin: Option<Origin>, of_origin: Arc<AtomicUsize>) -> Self {
        Self {
            number,
            origin,
            of_origin,
            begun: Instant::now(),
            requests: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            last_use: AtomicU64::new(0),
            received: AtomicU64::new(0),
            displaced: CancellationToken::new(),
            cut: OnceLock::new(),
            is_told: AtomicBool::new(false),
        }
    }

    /// Its number among those that came.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where it comes from, where that is known.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// How long it has been there.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether no request is in work.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Whether somebody waits on it for something to happen. It is idle all the same: who does no more than that gives way.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        self.watches.load(Ordering::Relaxed) > 0
    }

    /// Time since a request was in work the last time, or since it came.
    #[must_use]
    pub fn since_last_use(&self) -> Duration {
        self.age().saturating_sub(Duration::from_millis(self.last_use.load(Ordering::Relaxed)))
    }

    /// Bytes that came on it.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts bytes that came on it.
    pub fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Waits until it has to give its place to another.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Notes why it ends. What was noted first stays.
    pub fn note(&self, cut: Cut) {
        let _ = self.cut.set(cut);
    }

    /// Why it ends, where that is not the peer's doing: told once.
    #[must_use]
    pub fn why(&self) -> Option<Cut> {
        let cut = self.cut.get().copied()?;
        (!self.is_told.swap(true, Ordering::Relaxed)).then_some(cut)
    }

    /// A request is in work until what comes back is dropped.
    #[must_use]
    pub fn request(self: &Arc<Self>) -> InUse {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InUse { visit: Arc::clone(self), is_watch: false }
    }

    /// Somebody waits for something to happen until what comes back is dropped.
    #[must_use]
    pub fn watch(self: &Arc<Self>) -> InUse {
        self.watches.fetch_add(1, Ordering::Relaxed);
        InUse { visit: Arc::clone(self), is_watch: true }
    }
}

/// A request on a connection.
#[derive(Debug)]
pub struct InUse {
    visit: Arc<Visit>,
    is_watch: bool,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let visit = &self.visit;
        let now = u64::try_from(visit.age().as_millis()).unwrap_or(u64::MAX);
        visit.last_use.fetch_max(now, Ordering::Relaxed);
        let counted = if self.is_watch { &visit.watches } else { &visit.requests };
        counted.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place that is taken while it lives.
#[derive(Debug)]
pub struct Place {
    places: Option<Arc<Places>>,
    visit: Arc<Visit>,
}

impl Place {
    /// A place where they are not counted.
    #[must_use]
    pub fn uncounted() -> Self {
        Self { places: None, visit: Arc::new(Visit::new(0, None, Arc::default())) }
    }

    /// The connection that has it.
    #[must_use]
    pub fn visit(&self) -> &Arc<Visit> {
        &self.visit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = &self.places {
            places.taken().remove(&self.visit);
        }
    }
}

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// What holds for connections.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a place for a connection from an address.
    ///
    /// # Errors
    /// Whoever comes has its share, or nobody has to give way.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let origin = Origin::from(address);
        let mut taken = self.taken();
        let have = taken.origins.get(&origin).map_or(0, |count| count.load(Ordering::Relaxed));
        if have >= self.limits.per_address {
            return Err(Refusal::Address);
        }
        if taken.visits.len() >= self.limits.connections {
            let weakest = taken.weakest(have).ok_or(Refusal::Full)?;
            taken.remove(&weakest);
            weakest.note(Cut::Displaced);
            weakest.displaced.cancel();
        }
        let count = Arc::clone(taken.origins.entry(origin).or_default());
        count.fetch_add(1, Ordering::Relaxed);
        let visit = Arc::new(Visit::new(taken.next, Some(origin), count));
        taken.next += 1;
        taken.visits.insert(visit.number, Arc::clone(&visit));
        Ok(Place { places: Some(Arc::clone(self)), visit })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(connections: usize, per_address: usize) -> Arc<Places> {
        Places::new(Limits { connections, per_address, stall: Duration::from_secs(1) })
    }

    fn host(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_and_no_more() {
        let places = places(100, 3);
        let mut own: Vec<_> = (0..2).map(|_| places.take(host(1)).unwrap()).collect();
        own.push(places.take(host(1)).unwrap());
        assert_eq!(places.take(host(1)).unwrap_err(), Refusal::Address);
        let other = places.take(host(2)).unwrap();
        own.pop();
        own.push(places.take(host(1)).unwrap());
        assert_eq!(places.take(host(1)).unwrap_err(), Refusal::Address);
        drop((own, other));
        let taken = places.taken();
        assert!(taken.visits.is_empty() && taken.origins.is_empty(), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_of_whoever_has_most_gives_way() {
        let places = places(4, 3);
        let greedy: Vec<_> = (0..3).map(|_| places.take(host(1)).unwrap()).collect();
        tokio::time::advance(Duration::from_secs(1)).await;
        let older = places.take(host(2)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(greedy[0].visit().request());
        let newcomer = places.take(host(3)).unwrap();
        let went: Vec<_> = greedy.iter().map(|place| place.visit().why()).collect();
        assert_eq!(went.iter().flatten().collect::<Vec<_>>(), [&Cut::Displaced]);
        assert_eq!(went[0], None, "what was used last stays");
        assert_eq!((older.visit().why(), newcomer.visit().why()), (None, None));
        // The place of whoever was sent away is free once, not twice.
        drop(greedy);
        assert_eq!(places.taken().visits.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_in_use_give_way_only_to_those_who_have_less() {
        let places = places(3, 3);
        let held: Vec<_> = [1, 1, 2].into_iter().map(|n| places.take(host(n)).unwrap()).collect();
        let _busy: Vec<_> = held.iter().map(|place| place.visit().request()).collect();
        assert_eq!(places.take(host(2)).unwrap_err(), Refusal::Full);
        let fourth = places.take(host(3)).unwrap();
        let _in_use = fourth.visit().request();
        assert_eq!(held.iter().filter(|place| place.visit().why().is_some()).count(), 1);
        assert_eq!(held[2].visit().why(), None);
        assert_eq!(places.take(host(4)).unwrap_err(), Refusal::Full);
    }
}
