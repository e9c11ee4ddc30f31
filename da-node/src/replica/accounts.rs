//! How much room is taken: by all rows together, and by each gateway.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meridian_proofs::Address;
use meridian_proofs::ids::BlobId;

use super::rows::Owed;

/// Seconds over which entries are counted.
const HOUR: u64 = 3600;

/// The books of a replica. Rebuilt from disk at each start; entries an hour are counted from the start on.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    gateways: HashMap<Address, Account>,
    blobs: u64,
    stored: u64,
    arriving: u64,
}

#[derive(Debug, Default)]
struct Account {
    owed: HashMap<BlobId, (u64, u64)>,
    by_end: BTreeSet<(u64, BlobId)>,
    bytes: u64,
    arriving: u64,
    entries: VecDeque<(u64, u64)>,
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoRoom {
    /// The replica is full.
    Storage,
    /// The gateway has used its share.
    Quota,
}

/// Room that is kept free for rows on their way to the disk.
#[derive(Debug)]
pub(super) struct Room {
    accounts: Arc<Accounts>,
    gateway: Option<Address>,
    bytes: u64,
}

impl Accounts {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps room free for `bytes`, within the limit of the replica (0 for none) and, for an upload, of its gateway.
    pub(super) fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        limit: u64,
        upload: Option<(Address, u64)>,
        now: u64,
    ) -> Result<Room, NoRoom> {
        let mut books = self.books();
        if let Some((gateway, quota)) = upload {
            let account = books.gateways.entry(gateway).or_default();
            account.forget_expired(now);
            let sum = account.bytes.saturating_add(account.arriving).saturating_add(bytes);
            if sum > quota {
                return Err(NoRoom::Quota);
            }
        }
        let sum = books.stored.saturating_add(books.arriving).saturating_add(bytes);
        if limit != 0 && sum > limit {
            return Err(NoRoom::Storage);
        }
        books.arriving += bytes;
        let gateway = upload.map(|(gateway, _)| gateway);
        if let Some(account) = gateway.and_then(|gateway| books.gateways.get_mut(&gateway)) {
            account.arriving += bytes;
        }
        Ok(Room { accounts: Arc::clone(self), gateway, bytes })
    }

    /// Whether a gateway may be charged with this much more.
    pub(super) fn fits(&self, gateway: &Address, more: u64, quota: u64, now: u64) -> bool {
        let mut books = self.books();
        let account = books.gateways.entry(*gateway).or_default();
        account.forget_expired(now);
        account.bytes.saturating_add(account.arriving).saturating_add(more) <= quota
    }

    /// What a gateway is charged with for a blob: until when, and how much.
    pub(super) fn charged(&self, gateway: &Address, blob: &BlobId) -> Option<(u64, u64)> {
        self.books().gateways.get(gateway)?.owed.get(blob).copied()
    }

    /// Charges a gateway, in place of what it was charged with for the blob.
    pub(super) fn charge(&self, owed: &Owed) {
        self.books().gateways.entry(owed.gateway).or_default().charge(owed);
    }

    /// Charges a gateway with a blob, at least until then, if it is charged with it already or has the room.
    pub(super) fn charge_if_fits(&self, owed: &Owed, quota: u64, now: u64) -> bool {
        let mut books = self.books();
        let account = books.gateways.entry(owed.gateway).or_default();
        account.forget_expired(now);
        match account.owed.get(&owed.blob) {
            Some(&(until, bytes)) => account.charge(&Owed { until: until.max(owed.until), bytes, ..*owed }),
            None if account.bytes.saturating_add(account.arriving).saturating_add(owed.bytes) > quota => {
                return false;
            }
            None => account.charge(owed),
        }
        true
    }

    /// Rows of a blob came to the disk.
    pub(super) fn stored(&self, bytes: u64, new_blob: bool) {
        self.replaced(0, bytes, new_blob);
    }

    /// Rows of a blob came to the disk, in the place of others.
    pub(super) fn replaced(&self, before: u64, after: u64, new_blob: bool) {
        let mut books = self.books();
        books.stored = books.stored.saturating_sub(before) + after;
        books.blobs += u64::from(new_blob);
    }

    /// A blob was deleted.
    pub(super) fn deleted(&self, blob: &BlobId, bytes: u64) {
        let mut books = self.books();
        books.stored = books.stored.saturating_sub(bytes);
        books.blobs = books.blobs.saturating_sub(1);
        books.gateways.values_mut().for_each(|account| account.forget(blob));
    }

    /// A blob was lost; what its gateways owe stays.
    pub(super) fn lost(&self, bytes: u64) {
        let mut books = self.books();
        books.stored = books.stored.saturating_sub(bytes);
        books.blobs = books.blobs.saturating_sub(1);
    }

    /// Blobs and bytes of rows on disk.
    pub(super) fn totals(&self) -> (u64, u64) {
        let books = self.books();
        (books.blobs, books.stored)
    }

    /// Whether a gateway may append this many entries within the hour.
    pub(super) fn may_append(&self, gateway: &Address, count: u64, limit: u64, now: u64) -> bool {
        let mut books = self.books();
        let entries = &mut books.gateways.entry(*gateway).or_default().entries;
        while entries.front().is_some_and(|(at, _)| at.saturating_add(HOUR) <= now) {
            entries.pop_front();
        }
        let before: u64 = entries.iter().map(|(_, count)| count).sum();
        before.saturating_add(count) <= limit
    }

    /// A gateway appended entries.
    pub(super) fn appended(&self, gateway: &Address, count: u64, now: u64) {
        let mut books = self.books();
        let entries = &mut books.gateways.entry(*gateway).or_default().entries;
        match entries.back_mut() {
            Some((at, counted)) if *at == now => *counted += count,
            _ => entries.push_back((now, count)),
        }
    }
}

impl Account {
    fn charge(&mut self, owed: &Owed) {
        self.forget(&owed.blob);
        self.owed.insert(owed.blob, (owed.until, owed.bytes));
        self.by_end.insert((owed.until, owed.blob));
        self.bytes += owed.bytes;
    }

    fn forget(&mut self, blob: &BlobId) {
        if let Some((until, bytes)) = self.owed.remove(blob) {
            self.by_end.remove(&(until, *blob));
            self.bytes -= bytes;
        }
    }

    fn forget_expired(&mut self, now: u64) {
        while let Some((_, blob)) = self.by_end.first().copied().filter(|(until, _)| *until <= now) {
            self.forget(&blob);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut books = self.accounts.books();
        books.arriving -= self.bytes;
        if let Some(account) = self.gateway.and_then(|gateway| books.gateways.get_mut(&gateway)) {
            account.arriving -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Address = Address::repeat_byte(1);

    fn owed(blob: u8, until: u64, bytes: u64) -> Owed {
        Owed { gateway: GATEWAY, blob: [blob; 32].into(), until, bytes }
    }

    #[test]
    fn quota_and_storage_hold_at_their_boundaries() {
        let accounts = Arc::new(Accounts::default());
        let reserve = |bytes, limit, quota| accounts.reserve(bytes, limit, Some((GATEWAY, quota)), 0);
        assert_eq!(reserve(11, 0, 10).unwrap_err(), NoRoom::Quota);
        assert_eq!(reserve(11, 10, 11).unwrap_err(), NoRoom::Storage);
        let room = reserve(10, 10, 10).unwrap();
        assert_eq!(reserve(1, 0, 10).unwrap_err(), NoRoom::Quota);
        assert_eq!(accounts.reserve(1, 10, None, 0).unwrap_err(), NoRoom::Storage);
        drop(room);
        assert!(reserve(10, 10, 10).is_ok());
    }

    #[test]
    fn what_expired_is_owed_no_longer_and_a_blob_counts_once() {
        let accounts = Arc::new(Accounts::default());
        accounts.charge(&owed(1, 100, 5));
        accounts.charge(&owed(1, 200, 5));
        accounts.charge(&owed(2, 150, 7));
        assert!(accounts.fits(&GATEWAY, 8, 20, 0) && !accounts.fits(&GATEWAY, 9, 20, 149));
        assert!(accounts.fits(&GATEWAY, 15, 20, 150) && !accounts.fits(&GATEWAY, 16, 20, 199));
        assert!(accounts.fits(&GATEWAY, 20, 20, 200));
    }

    #[test]
    fn rows_that_are_held_are_charged_once_and_within_the_quota() {
        let accounts = Arc::new(Accounts::default());
        assert!(!accounts.charge_if_fits(&owed(1, 100, 11), 10, 0));
        assert!(accounts.charge_if_fits(&owed(1, 100, 10), 10, 0));
        assert!(accounts.charge_if_fits(&owed(1, 50, 10), 10, 0));
        assert_eq!(accounts.charged(&GATEWAY, &[1; 32].into()), Some((100, 10)));
        assert!(!accounts.charge_if_fits(&owed(2, 100, 1), 10, 99));
        assert!(accounts.charge_if_fits(&owed(2, 200, 1), 10, 100));
    }

    #[test]
    fn entries_are_counted_for_an_hour() {
        let accounts = Accounts::default();
        assert!(accounts.may_append(&GATEWAY, 10, 10, 0) && !accounts.may_append(&GATEWAY, 11, 10, 0));
        accounts.appended(&GATEWAY, 6, 0);
        accounts.appended(&GATEWAY, 4, 1);
        assert!(!accounts.may_append(&GATEWAY, 1, 10, HOUR - 1));
        assert!(accounts.may_append(&GATEWAY, 6, 10, HOUR) && !accounts.may_append(&GATEWAY, 7, 10, HOUR));
    }
}
