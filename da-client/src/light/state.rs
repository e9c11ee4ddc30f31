//! What a light client keeps on disk, so that a draw is never drawn again and a log never followed from its begin.
//!
//! Logs and blobs are kept as JSON under their keys, with one index by log and place, one by when a blob is due and one by
//! when it expires. What must be on disk before a request leaves, the draws, is synced; what comes in is synced with the
//! next draws or items of a log: lost, it is asked for again, unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use meridian_proofs::checkpoint::{CosignedCheckpoint, Domain};
use meridian_proofs::ids::BlobId;
use meridian_proofs::{Address, B256};
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::record::{BlobRecord, Known, LogRecord, Placed, Standing};
use super::statement::Combined;
use crate::evidence::Statement;

/// Bytes of the database that are kept in memory.
const CACHE: usize = 8 << 20;
/// Checkpoints that are kept of a log, the longest.
const MAX_CHECKPOINTS: usize = 256;
/// Seconds for which an expired blob is kept.
const KEEP: u64 = 24 * 3_600;
/// Most blobs that are forgotten at once.
const PRUNE: usize = 4_096;

/// What the state is of: format, chain id and contract.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// By gateway.
const LOGS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("logs");
/// By blob id.
const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
/// Blob ids by gateway and index.
const ENTRIES: TableDefinition<'_, &[u8; 28], &[u8; 32]> = TableDefinition::new("entries");
/// Unix milliseconds and blob id, of blobs that were never asked for.
const DUE: TableDefinition<'_, &[u8; 40], ()> = TableDefinition::new("due");
/// The same of those that were asked for in vain: fresh ones do not wait behind them.
const AGAIN: TableDefinition<'_, &[u8; 40], ()> = TableDefinition::new("again");
/// Ids of blobs that are withheld or inconsistent.
const TROUBLE: TableDefinition<'_, &[u8; 32], ()> = TableDefinition::new("trouble");
/// Unix seconds of the expiry and blob id.
const EXPIRES: TableDefinition<'_, &[u8; 40], ()> = TableDefinition::new("expires");
/// Signed checkpoints by gateway, size and root.
const CHECKPOINTS: TableDefinition<'_, &[u8; 60], &[u8]> = TableDefinition::new("checkpoints");
/// Blobs by how they stand.
const COUNTS: TableDefinition<'_, &str, u64> = TableDefinition::new("counts");

const FORMAT: &[u8] = b"meridian light 1";

/// Why a state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The folder cannot be made.
    #[error("{}: {error}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It is of another network, or of another version of this program.
    #[error("{} is the state of another network or version: it is {found:?}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// The disk failed, or the file is damaged.
    #[error("the state cannot be read or written: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A record is damaged.
    #[error("a record of the state is damaged: {0}")]
    Record(#[from] serde_json::Error),
}

macro_rules! database_errors {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for StateError {
            fn from(error: redb::$error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

database_errors!(StorageError, TableError, TransactionError, CommitError, SetDurabilityError);

/// The state of one light client.
pub struct State {
    database: Database,
}

fn entry_key(log: &Address, index: u64) -> [u8; 28] {
    let mut key = [0; 28];
    key[..20].copy_from_slice(log.as_slice());
    key[20..].copy_from_slice(&index.to_be_bytes());
    key
}

fn time_key(time: u64, id: &BlobId) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&time.to_be_bytes());
    key[8..].copy_from_slice(id.as_bytes());
    key
}

fn checkpoint_key(log: &Address, size: u64, root: &B256) -> [u8; 60] {
    let mut key = [0; 60];
    key[..20].copy_from_slice(log.as_slice());
    key[20..28].copy_from_slice(&size.to_be_bytes());
    key[28..].copy_from_slice(root.as_slice());
    key
}

/// Time and blob of a key.
fn split(key: &[u8; 40]) -> (u64, BlobId) {
    let (mut time, mut id) = ([0; 8], [0; 32]);
    time.copy_from_slice(&key[..8]);
    id.copy_from_slice(&key[8..]);
    (u64::from_be_bytes(time), BlobId::from(id))
}

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, StateError> {
    Ok(serde_json::to_vec(record)?)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    Ok(serde_json::from_slice(bytes)?)
}

impl State {
    /// Opens the state in a folder, or begins one.
    ///
    /// # Errors
    /// The folder cannot be made or is in use, or holds the state of another network.
    pub fn open(folder: &Path, domain: &Domain) -> Result<Self, StateError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| StateError::Folder { path: folder.to_owned(), error })?;
        let path = folder.join("light.redb");
        let database =
            Database::builder().set_cache_size(CACHE).create(&path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StateError::InUse(path.clone()),
                error => StateError::Database(Box::new(error.into())),
            })?;
        let about = format!("chain {} contract {}", domain.chain_id, domain.verifying_contract);
        let about = [FORMAT, b" ", about.as_bytes()].concat();
        let write = database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            let found = meta.get("about")?.map(|found| found.value().to_vec());
            match found {
                None => drop(meta.insert("about", about.as_slice())?),
                Some(found) if found == about => {}
                Some(found) => {
                    let found = String::from_utf8_lossy(&found).into_owned();
                    return Err(StateError::Other { path, found });
                }
            }
            // Whoever reads finds every table.
            write.open_table(LOGS)?;
            write.open_table(BLOBS)?;
            write.open_table(ENTRIES)?;
            write.open_table(DUE)?;
            write.open_table(AGAIN)?;
            write.open_table(TROUBLE)?;
            write.open_table(EXPIRES)?;
            write.open_table(CHECKPOINTS)?;
            write.open_table(COUNTS)?;
        }
        write.commit()?;
        Ok(Self { database })
    }

    fn read(&self) -> Result<ReadTransaction, StateError> {
        Ok(self.database.begin_read()?)
    }

    fn write(&self, durability: Durability) -> Result<WriteTransaction, StateError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(durability)?;
        Ok(write)
    }

    /// Syncs everything that was saved.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn sync(&self) -> Result<(), StateError> {
        Ok(self.write(Durability::Immediate)?.commit()?)
    }

    /// All logs.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn logs(&self) -> Result<BTreeMap<Address, LogRecord>, StateError> {
        let table = self.read()?.open_table(LOGS)?;
        let mut logs = BTreeMap::new();
        for found in table.iter()? {
            let (log, record) = found?;
            logs.insert(Address::from(*log.value()), decode(record.value())?);
        }
        Ok(logs)
    }

    /// A log; one that was never followed is empty.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn log(&self, log: &Address) -> Result<LogRecord, StateError> {
        let table = self.read()?.open_table(LOGS)?;
        let found = table.get(&log.into_array())?;
        found.map_or_else(|| Ok(LogRecord::default()), |found| decode(found.value()))
    }

    /// Saves a log and the entries by which it has grown, synced. Those are due at once.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn grow(
        &self,
        log: &Address,
        record: &LogRecord,
        entries: &[Placed],
        now: u64,
    ) -> Result<(), StateError> {
        let write = self.write(Durability::Immediate)?;
        {
            let mut saving = Saving::new(&write)?;
            let mut places = write.open_table(ENTRIES)?;
            for (index, entry) in entries {
                places.insert(&entry_key(log, *index), entry.blob_id.as_bytes())?;
                let Some(fresh) = BlobRecord::new(*log, *index, entry, now) else {
                    // Without a blob there is nothing to be said of a range with this entry.
                    tracing::error!(%log, index, length = entry.length, "an entry has a length that no blob has");
                    continue;
                };
                let known = saving.blob(&entry.blob_id)?;
                let mut blob = match known {
                    Some(known) if known.expiry >= entry.expiry => continue,
                    Some(known) => BlobRecord { expiry: entry.expiry, epoch: entry.epoch, ..known },
                    None => fresh,
                };
                if entry.expiry <= now {
                    (blob.standing, blob.settled) = match blob.standing {
                        standing if standing.is_settled() => (standing, blob.settled),
                        _ => (Standing::Missed, Some(now)),
                    };
                }
                blob.revive(now);
                blob.due = (!blob.standing.is_settled()).then_some(now.saturating_mul(1_000));
                saving.save(&entry.blob_id, &blob)?;
            }
            write.open_table(LOGS)?.insert(&log.into_array(), encode(record)?.as_slice())?;
        }
        Ok(write.commit()?)
    }

    /// Blobs that are due at a time in unix milliseconds, the longest due first, without some: those that were never asked
    /// for, or those that are asked for `again`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn due(
        &self,
        now: u64,
        again: bool,
        most: usize,
        without: &BTreeSet<BlobId>,
    ) -> Result<Vec<Known>, StateError> {
        let read = self.read()?;
        let (table, blobs) = (read.open_table(if again { AGAIN } else { DUE })?, read.open_table(BLOBS)?);
        let end = time_key(now, &BlobId::from([0xff; 32]));
        let mut due = Vec::new();
        for found in table.range::<&[u8; 40]>(..=&end)? {
            if due.len() >= most {
                break;
            }
            let (_, id) = split(found?.0.value());
            if !without.contains(&id)
                && let Some(record) = blobs.get(id.as_bytes())?
            {
                due.push((id, decode(record.value())?));
            }
        }
        Ok(due)
    }

    /// When the next blob is due, in unix milliseconds, without some.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn next_due(&self, without: &BTreeSet<BlobId>) -> Result<Option<u64>, StateError> {
        let read = self.read()?;
        let mut next = None;
        for table in [read.open_table(DUE)?, read.open_table(AGAIN)?] {
            for found in table.iter()? {
                let (time, id) = split(found?.0.value());
                if !without.contains(&id) {
                    next = Some(next.map_or(time, |next: u64| next.min(time)));
                    break;
                }
            }
        }
        Ok(next)
    }

    /// Saves blobs; `synced` before a request that depends on what is saved.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn save(&self, blobs: &[Known], now: u64, synced: bool) -> Result<(), StateError> {
        let write = self.write(if synced { Durability::Immediate } else { Durability::None })?;
        {
            let mut saving = Saving::new(&write)?;
            for (id, blob) in blobs {
                // It may have been noted once more meanwhile.
                match saving.blob(id)? {
                    Some(known) if known.expiry > blob.expiry => {
                        let (expiry, epoch) = (known.expiry, known.epoch);
                        let mut blob = BlobRecord { expiry, epoch, ..blob.clone() };
                        blob.revive(now);
                        saving.save(id, &blob)?;
                    }
                    _ => saving.save(id, blob)?,
                }
            }
        }
        Ok(write.commit()?)
    }

    /// Makes everything due that was asked for in vain, at a time in unix milliseconds: whoever begins anew does not wait.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn hurry(&self, now: u64) -> Result<(), StateError> {
        let write = self.write(Durability::None)?;
        {
            let mut saving = Saving::new(&write)?;
            let again = saving.again.iter()?.map(|found| found.map(|(key, _)| split(key.value()).1));
            for id in again.collect::<Result<Vec<_>, _>>()? {
                if let Some(blob) = saving.blob(&id)? {
                    saving.save(&id, &BlobRecord { due: Some(now), ..blob })?;
                }
            }
        }
        Ok(write.commit()?)
    }

    /// Calls withheld whatever was asked for in vain for so many seconds, none of them before `from`: blobs, and entries of
    /// logs.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn judge(&self, now: u64, from: u64, patience: u64) -> Result<(), StateError> {
        let is_over = |since: u64| now.saturating_sub(since.max(from)) >= patience;
        let write = self.write(Durability::None)?;
        {
            let mut saving = Saving::new(&write)?;
            let due = saving.again.iter()?.map(|found| found.map(|(key, _)| split(key.value()).1));
            for id in due.collect::<Result<Vec<_>, _>>()? {
                let Some(blob) = saving.blob(&id)? else { continue };
                if blob.standing == Standing::Pending && blob.asked.is_some_and(is_over) {
                    saving.save(&id, &BlobRecord { standing: Standing::Withheld, ..blob })?;
                }
            }
            let mut table = write.open_table(LOGS)?;
            let mut judged = Vec::new();
            for found in table.iter()? {
                let (log, record) = found?;
                let mut record: LogRecord = decode(record.value())?;
                if let Some(target) = record.target.as_mut().filter(|target| is_over(target.since)) {
                    target.is_withheld = true;
                    judged.push((*log.value(), encode(&record)?));
                }
            }
            for (log, record) in judged {
                table.insert(&log, record.as_slice())?;
            }
        }
        Ok(write.commit()?)
    }

    /// A blob.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn blob(&self, id: &BlobId) -> Result<Option<BlobRecord>, StateError> {
        let table = self.read()?.open_table(BLOBS)?;
        table.get(id.as_bytes())?.map(|found| decode(found.value())).transpose()
    }

    /// Blobs by id from after one on, of those that stand in one of some ways; looks at no more than `look` of them. Says
    /// too up to which one it looked, unless that was the last.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn blobs(
        &self,
        after: Option<BlobId>,
        standings: &[Standing],
        most: usize,
        look: usize,
    ) -> Result<(Vec<Known>, Option<BlobId>), StateError> {
        let table = self.read()?.open_table(BLOBS)?;
        let after = after.map(|id| *id.as_bytes());
        let range = match &after {
            Some(after) => table.range::<&[u8; 32]>((
                std::ops::Bound::Excluded(after),
                std::ops::Bound::<&[u8; 32]>::Unbounded,
            ))?,
            None => table.iter()?,
        };
        let (mut blobs, mut last) = (Vec::new(), None);
        for (seen, found) in range.enumerate() {
            if blobs.len() >= most || seen >= look {
                return Ok((blobs, last));
            }
            let (id, record) = found?;
            let (id, record): (BlobId, BlobRecord) = (BlobId::from(*id.value()), decode(record.value())?);
            last = Some(id);
            if standings.contains(&record.standing) {
                blobs.push((id, record));
            }
        }
        Ok((blobs, None))
    }

    /// Blobs that are withheld or inconsistent, by id.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn trouble(&self, most: usize) -> Result<Vec<Known>, StateError> {
        let read = self.read()?;
        let (table, blobs) = (read.open_table(TROUBLE)?, read.open_table(BLOBS)?);
        let mut trouble = Vec::new();
        for found in table.iter()?.take(most) {
            let id = BlobId::from(*found?.0.value());
            if let Some(record) = blobs.get(id.as_bytes())? {
                trouble.push((id, decode(record.value())?));
            }
        }
        Ok(trouble)
    }

    /// What may be said of the entries of a log from one index up to and without another.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn combined(&self, log: &Address, from: u64, to: u64) -> Result<Combined, StateError> {
        let read = self.read()?;
        let (places, blobs) = (read.open_table(ENTRIES)?, read.open_table(BLOBS)?);
        let mut combined = Combined::of(to.saturating_sub(from));
        if from < to {
            let (from, to) = (entry_key(log, from), entry_key(log, to));
            for found in places.range::<&[u8; 28]>(&from..&to)? {
                if let Some(record) = blobs.get(found?.1.value())? {
                    combined.add(&decode(record.value())?);
                }
            }
        }
        Ok(combined.end())
    }

    /// How many blobs stand in which way, of all that were ever seen.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn counts(&self) -> Result<BTreeMap<Standing, u64>, StateError> {
        let table = self.read()?.open_table(COUNTS)?;
        let mut counts = BTreeMap::new();
        for standing in Standing::ALL {
            counts.insert(standing, table.get(standing.as_str())?.map_or(0, |count| count.value()));
        }
        Ok(counts)
    }

    /// Forgets blobs that expired a day ago, and their entries. Says how many.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn prune(&self, now: u64) -> Result<usize, StateError> {
        let write = self.write(Durability::None)?;
        let mut pruned = 0;
        {
            let mut expires = write.open_table(EXPIRES)?;
            let end = time_key(now.saturating_sub(KEEP), &BlobId::default());
            let keys: Vec<[u8; 40]> = expires
                .range::<&[u8; 40]>(..&end)?
                .take(PRUNE)
                .map(|found| found.map(|(key, _)| *key.value()))
                .collect::<Result<_, _>>()?;
            let mut blobs = write.open_table(BLOBS)?;
            let (mut due, mut again) = (write.open_table(DUE)?, write.open_table(AGAIN)?);
            let (mut trouble, mut counts) = (write.open_table(TROUBLE)?, write.open_table(COUNTS)?);
            for key in keys {
                expires.remove(&key)?;
                let (_, id) = split(&key);
                let record = blobs.remove(id.as_bytes())?.map(|record| decode::<BlobRecord>(record.value()));
                let Some(record) = record.transpose()? else { continue };
                if let Some(time) = record.due {
                    due.remove(&time_key(time, &id))?;
                    again.remove(&time_key(time, &id))?;
                }
                trouble.remove(id.as_bytes())?;
                if !record.standing.is_settled() {
                    count(&mut counts, record.standing, |count| count.saturating_sub(1))?;
                    count(&mut counts, Standing::Missed, |count| count.saturating_add(1))?;
                }
                pruned += 1;
            }
            let mut places = write.open_table(ENTRIES)?;
            for found in write.open_table(LOGS)?.iter()? {
                let log = Address::from(*found?.0.value());
                let (first, last) = (entry_key(&log, 0), entry_key(&log, u64::MAX));
                let mut gone = Vec::new();
                for found in places.range::<&[u8; 28]>(&first..=&last)?.take(PRUNE) {
                    let (place, id) = found?;
                    if blobs.get(id.value())?.is_some() {
                        break;
                    }
                    gone.push(*place.value());
                }
                for place in gone {
                    places.remove(&place)?;
                }
            }
        }
        write.commit()?;
        Ok(pruned)
    }

    /// Keeps a signed checkpoint, one for each size and root. Of one log the longest are kept.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn keep_checkpoint(&self, checkpoint: &CosignedCheckpoint) -> Result<(), StateError> {
        let signed = checkpoint.signed.checkpoint;
        let key = checkpoint_key(&signed.gateway, signed.size, &signed.root);
        let message = encode(&Statement::from(checkpoint))?;
        // Cosignatures that are known already stay.
        let known = self.read()?.open_table(CHECKPOINTS)?.get(&key)?.map(|known| known.value().len());
        if known.is_some_and(|known| known >= message.len()) {
            return Ok(());
        }
        let write = self.write(Durability::None)?;
        {
            let mut table = write.open_table(CHECKPOINTS)?;
            table.insert(&key, message.as_slice())?;
            let (first, last) = log_keys(&signed.gateway);
            let count = table.range::<&[u8; 60]>(&first..=&last)?.count();
            let over: Vec<[u8; 60]> = table
                .range::<&[u8; 60]>(&first..=&last)?
                .take(count.saturating_sub(MAX_CHECKPOINTS))
                .map(|found| found.map(|(key, _)| *key.value()))
                .collect::<Result<_, _>>()?;
            for key in over {
                table.remove(&key)?;
            }
        }
        Ok(write.commit()?)
    }

    /// The signed checkpoints that are kept: of one log, or of all; ascending by log and size.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn checkpoints(&self, log: Option<&Address>) -> Result<Vec<CosignedCheckpoint>, StateError> {
        let table = self.read()?.open_table(CHECKPOINTS)?;
        let (first, last) = log.map_or(([0; 60], [0xff; 60]), log_keys);
        let mut checkpoints = Vec::new();
        for found in table.range::<&[u8; 60]>(&first..=&last)? {
            let (_, message) = found?;
            let statement: Statement = decode(message.value())?;
            match statement.checkpoint() {
                Ok(checkpoint) => checkpoints.push(checkpoint),
                Err(error) => tracing::error!(%error, "a kept checkpoint is damaged"),
            }
        }
        Ok(checkpoints)
    }
}

/// The first and the last key of a log's checkpoints.
fn log_keys(log: &Address) -> ([u8; 60], [u8; 60]) {
    (checkpoint_key(log, 0, &B256::ZERO), checkpoint_key(log, u64::MAX, &B256::repeat_byte(0xff)))
}

/// Saves blobs with their indexes.
struct Saving<'a> {
    blobs: redb::Table<'a, &'static [u8; 32], &'static [u8]>,
    due: redb::Table<'a, &'static [u8; 40], ()>,
    again: redb::Table<'a, &'static [u8; 40], ()>,
    trouble: redb::Table<'a, &'static [u8; 32], ()>,
    expires: redb::Table<'a, &'static [u8; 40], ()>,
    counts: redb::Table<'a, &'static str, u64>,
}

impl<'a> Saving<'a> {
    fn new(write: &'a WriteTransaction) -> Result<Self, StateError> {
        Ok(Self {
            blobs: write.open_table(BLOBS)?,
            due: write.open_table(DUE)?,
            again: write.open_table(AGAIN)?,
            trouble: write.open_table(TROUBLE)?,
            expires: write.open_table(EXPIRES)?,
            counts: write.open_table(COUNTS)?,
        })
    }

    fn blob(&self, id: &BlobId) -> Result<Option<BlobRecord>, StateError> {
        self.blobs.get(id.as_bytes())?.map(|found| decode(found.value())).transpose()
    }

    fn save(&mut self, id: &BlobId, blob: &BlobRecord) -> Result<(), StateError> {
        if let Some(old) = self.blob(id)? {
            if let Some(time) = old.due {
                self.due.remove(&time_key(time, id))?;
                self.again.remove(&time_key(time, id))?;
            }
            self.expires.remove(&time_key(old.expiry, id))?;
            count(&mut self.counts, old.standing, |count| count.saturating_sub(1))?;
        }
        if let Some(time) = blob.due {
            let table = if blob.tries > 0 { &mut self.again } else { &mut self.due };
            table.insert(&time_key(time, id), ())?;
        }
        if matches!(blob.standing, Standing::Withheld | Standing::Inconsistent) {
            self.trouble.insert(id.as_bytes(), ())?;
        } else {
            self.trouble.remove(id.as_bytes())?;
        }
        self.expires.insert(&time_key(blob.expiry, id), ())?;
        count(&mut self.counts, blob.standing, |count| count.saturating_add(1))?;
        self.blobs.insert(id.as_bytes(), encode(blob)?.as_slice())?;
        Ok(())
    }
}

fn count(
    counts: &mut redb::Table<'_, &'static str, u64>,
    standing: Standing,
    change: impl Fn(u64) -> u64,
) -> Result<(), StateError> {
    let count = counts.get(standing.as_str())?.map_or(0, |count| count.value());
    counts.insert(standing.as_str(), change(count))?;
    Ok(())
}

#[cfg(test)]
mod tests;
