//! Bytes that are stored for each namespace: those of entries that have not expired.
//!
//! Nothing of it is on disk: the log says all of it, so it is right after every start and every crash.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::ids::Namespace;
use meridian_proofs::log::LogEntry;
use meridian_proto::error::{ApiError, Reason};

use super::super::store::Store;

/// Entries that are read from the log at a time.
const CHUNK: u64 = 1024;

/// Longest time that a caller is asked to wait for room.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How many expiries are looked at to tell when there will be room.
const LOOK_AHEAD: usize = 1024;

/// The bytes stored for each namespace that is listed, and for all others together.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// Entries of the log that are counted.
    counted: u64,
    listed: HashMap<Namespace, Stored>,
    others: Stored,
    /// Bytes of puts on their way into the log, by namespace, listed or not.
    held: HashMap<Namespace, u64>,
}

#[derive(Default)]
struct Stored {
    /// Bytes by the time at which they expire.
    expiring: BTreeMap<u64, u64>,
    total: u64,
    /// Bytes of puts on their way into the log.
    held: u64,
}

/// Room for a put that is on its way into the log.
pub(super) struct Hold {
    ledger: Ledger,
    namespace: Namespace,
    bytes: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut books = self.ledger.books();
        if let Entry::Occupied(mut held) = books.held.entry(self.namespace) {
            *held.get_mut() = held.get().saturating_sub(self.bytes);
            if *held.get() == 0 {
                held.remove();
            }
        }
        let stored = books.of(&self.namespace);
        stored.held = stored.held.saturating_sub(self.bytes);
    }
}

impl Ledger {
    /// Counts the log for these namespaces and no others. What is appended meanwhile is counted too.
    pub(super) fn count(
        &self,
        store: &Store,
        names: impl Iterator<Item = Namespace>,
        size: u64,
        (now, longest): (u64, u64),
    ) {
        let mut books = Books {
            listed: names.map(|name| (name, Stored::default())).collect(),
            counted: first_unexpired(store, size, now, longest),
            ..Books::default()
        };
        books.read(store, size, now);
        let mut current = self.books();
        let last = current.counted;
        books.read(store, last, now);
        books.take_over(&mut current);
        *current = books;
    }

    /// Entries of the log that are counted.
    pub(super) fn counted(&self) -> u64 {
        self.books().counted
    }

    /// Counts entries that were appended.
    pub(super) fn appended(&self, first: u64, entries: &[LogEntry]) {
        let mut books = self.books();
        for (entry, index) in entries.iter().zip(first..) {
            if index >= books.counted {
                books.of(&entry.namespace).add(entry);
                books.counted = index.saturating_add(1);
            }
        }
    }

    /// Takes room for a put under a namespace.
    pub(super) fn hold(
        &self,
        namespace: Namespace,
        bytes: u64,
        limit: Option<u64>,
        now: u64,
    ) -> Result<Hold, ApiError> {
        let mut books = self.books();
        let stored = books.of(&namespace);
        stored.expire(now);
        if let Some(limit) = limit {
            stored.check(namespace, bytes, limit, now)?;
        }
        stored.held = stored.held.saturating_add(bytes);
        let held = books.held.entry(namespace).or_default();
        *held = held.saturating_add(bytes);
        Ok(Hold { ledger: self.clone(), namespace, bytes })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn of(&mut self, namespace: &Namespace) -> &mut Stored {
        self.listed.get_mut(namespace).unwrap_or(&mut self.others)
    }

    /// Takes what is held, each under its namespace as that is listed here.
    fn take_over(&mut self, before: &mut Self) {
        let held = std::mem::take(&mut before.held);
        for (name, bytes) in &held {
            let stored = self.of(name);
            stored.held = stored.held.saturating_add(*bytes);
        }
        self.held = held;
    }

    /// Counts the entries of the log up to a size. One that is damaged counts for nobody: it holds up neither a start nor a
    /// change of who may put.
    fn read(&mut self, store: &Store, size: u64, now: u64) {
        while self.counted < size {
            let count = CHUNK.min(size - self.counted);
            let entries = match store.entries(self.counted, count) {
                Ok(entries) if !entries.is_empty() => entries,
                _ => {
                    (self.counted..self.counted.saturating_add(count)).filter_map(|i| one(store, i)).collect()
                }
            };
            for entry in entries.iter().filter(|entry| entry.expiry > now) {
                self.of(&entry.namespace).add(entry);
            }
            self.counted = self.counted.saturating_add(count);
        }
    }
}

impl Stored {
    fn add(&mut self, entry: &LogEntry) {
        let bytes = self.expiring.entry(entry.expiry).or_default();
        *bytes = bytes.saturating_add(entry.length);
        self.total = self.total.saturating_add(entry.length);
    }

    fn expire(&mut self, now: u64) {
        while let Some(first) = self.expiring.first_entry().filter(|first| *first.key() <= now) {
            self.total = self.total.saturating_sub(first.remove());
        }
    }

    fn check(&self, namespace: Namespace, bytes: u64, limit: u64, now: u64) -> Result<(), ApiError> {
        let used = self.total.saturating_add(self.held);
        let wanted = used.saturating_add(bytes);
        let Some(excess) = wanted.checked_sub(limit).filter(|excess| *excess > 0) else { return Ok(()) };
        let message = format!("{used} of {limit} bytes are used here, and the payload has {bytes}");
        let error = ApiError::new(Reason::QuotaExceeded, message)
            .with("namespace", namespace)
            .with("limit", limit)
            .with("used", used);
        if bytes > limit {
            return Err(error.with("limit_name", "stored_bytes"));
        }
        let mut freed = 0u64;
        let room = self.expiring.iter().take(LOOK_AHEAD).find(|(_, bytes)| {
            freed = freed.saturating_add(**bytes);
            freed >= excess
        });
        let wait = room.map_or(LONGEST_WAIT, |(expiry, _)| Duration::from_secs(expiry.saturating_sub(now)));
        Err(error.with("limit_name", "stored_bytes").retry_after(wait.min(LONGEST_WAIT)))
    }
}

/// An entry of the log, if it can be read.
fn one(store: &Store, index: u64) -> Option<LogEntry> {
    match store.entries(index, 1) {
        Ok(entries) => entries.into_iter().next(),
        Err(error) => {
            tracing::error!(index, %error, "an entry of the log is not counted among what is stored");
            None
        }
    }
}

/// The first entry that may not have expired: time never falls along a log, and nothing is kept for longer than `longest`.
fn first_unexpired(store: &Store, size: u64, now: u64, longest: u64) -> u64 {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let has_expired = one(store, middle).is_some_and(|entry| entry.time.saturating_add(longest) <= now);
        if has_expired {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use meridian_proofs::ids::{BlobId, PayloadHash};

    use super::*;

    fn ledger(names: &[u8]) -> Ledger {
        let listed = names.iter().map(|name| (Namespace::from([*name; 32]), Stored::default())).collect();
        Ledger(Arc::new(Mutex::new(Books { listed, ..Books::default() })))
    }

    /// As [`Ledger::count`] does it, over an empty log.
    fn recount(ledger: &Ledger, names: &[u8]) {
        let listed = names.iter().map(|name| (Namespace::from([*name; 32]), Stored::default())).collect();
        let mut books = Books { listed, ..Books::default() };
        let mut current = ledger.books();
        books.take_over(&mut current);
        *current = books;
    }

    #[test]
    fn what_is_held_follows_its_namespace_when_that_is_listed_and_when_it_is_not_any_more() {
        let ledger = ledger(&[1]);
        let one = ledger.hold(Namespace::from([1; 32]), 10, None, 0).unwrap();
        let two = ledger.hold(Namespace::from([2; 32]), 20, None, 0).unwrap();
        let held = |name: u8| ledger.books().of(&Namespace::from([name; 32])).held;
        assert_eq!((held(1), held(9)), (10, 20));
        recount(&ledger, &[2]);
        assert_eq!((held(2), held(9)), (20, 10));
        drop(two);
        assert_eq!((held(2), held(9)), (0, 10));
        recount(&ledger, &[1, 2]);
        drop(one);
        recount(&ledger, &[]);
        assert_eq!(held(9), 0);
        assert!(ledger.books().held.is_empty());
    }

    fn entry(name: u8, length: u64, expiry: u64) -> LogEntry {
        LogEntry {
            blob_id: BlobId::from([1; 32]),
            namespace: Namespace::from([name; 32]),
            payload_hash: PayloadHash::UNBOUND,
            length,
            epoch: 1,
            time: 0,
            expiry,
        }
    }

    fn hold(ledger: &Ledger, name: u8, bytes: u64, now: u64) -> Result<Hold, ApiError> {
        ledger.hold(Namespace::from([name; 32]), bytes, Some(100), now)
    }

    #[test]
    fn room_is_what_is_neither_stored_nor_on_its_way() {
        for (bytes, fine) in [(99, true), (100, true), (101, false)] {
            assert_eq!(hold(&ledger(&[1]), 1, bytes, 0).is_ok(), fine, "{bytes}");
        }
        let ledger = ledger(&[1]);
        ledger.appended(0, &[entry(1, 40, 10), entry(1, 20, 20), entry(2, 90, 10)]);
        let held = hold(&ledger, 1, 40, 5).unwrap();
        let full = hold(&ledger, 1, 1, 5).err().unwrap();
        assert_eq!((full.reason, full.retry_after), (Reason::QuotaExceeded, Some(Duration::from_secs(5))));
        assert_eq!((full.metadata["used"].as_str(), full.metadata["limit"].as_str()), ("100", "100"));
        let more = hold(&ledger, 1, 41, 5).err().unwrap();
        assert_eq!(more.retry_after, Some(Duration::from_secs(15)), "both have to expire");
        assert_eq!(hold(&ledger, 1, 101, 5).err().unwrap().retry_after, None, "it will never fit");
        drop(held);
        assert!(hold(&ledger, 1, 40, 5).is_ok(), "what does not get into the log is given back");
        assert!(hold(&ledger, 1, 41, 9).is_err());
        assert!(hold(&ledger, 1, 80, 10).is_ok(), "an entry counts until it expires");
    }

    #[test]
    fn those_that_are_not_listed_share_one_account() {
        let ledger = ledger(&[1]);
        ledger.appended(0, &[entry(2, 60, 10), entry(3, 40, 10)]);
        assert!(hold(&ledger, 4, 1, 5).is_err());
        assert!(hold(&ledger, 1, 100, 5).is_ok());
        assert!(hold(&ledger, 4, 100, 10).is_ok());
    }

    #[test]
    fn an_entry_counts_once() {
        let ledger = ledger(&[1]);
        ledger.appended(0, &[entry(1, 60, 10)]);
        ledger.appended(0, &[entry(1, 60, 10), entry(1, 40, 10)]);
        assert!(hold(&ledger, 1, 1, 5).is_err());
        assert_eq!(ledger.counted(), 2);
        assert!(hold(&ledger, 1, 100, 10).is_ok());
    }
}
