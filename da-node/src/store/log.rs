//! The logs that a node keeps: entries, tree nodes, compact range and latest checkpoint of each.

use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::log::{self, CompactRange, LogEntry, NodeSource};
use meridian_proofs::{Address, B256};
use meridian_proto::convert::LogItem;

use super::{Batch, Db, StoreError};

pub mod codec;
#[cfg(test)]
mod tests;

const ENTRIES: &str = "log_entries";
const NODES: &str = "log_nodes";
const RANGES: &str = "log_ranges";
const CHECKPOINTS: &str = "log_checkpoints";
const ANCHORED: &str = "log_anchored";

/// Logs in a database, one for each gateway address.
///
/// A log whose entries were appended but not committed is not seen by anybody: the compact range, the entries and the
/// nodes are written in one batch.
#[derive(Clone, Debug)]
pub struct LogStore {
    db: Db,
}

impl LogStore {
    /// Columns that the database has to be opened with.
    pub const COLUMNS: [&'static str; 5] = [ENTRIES, NODES, RANGES, CHECKPOINTS, ANCHORED];

    /// The logs of a database that was opened with [`LogStore::COLUMNS`].
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The compact range of a log as it was last committed, empty for an unknown one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn range(&self, log: &Address) -> Result<CompactRange, StoreError> {
        let Some(bytes) = self.db.get(RANGES, log.as_slice())? else {
            return Ok(CompactRange::empty());
        };
        codec::decode_range(&bytes).ok_or_else(|| self.db.damage(RANGES, log.as_slice()))
    }

    /// The gateways of all logs of which there is anything.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn gateways(&self) -> Result<Vec<Address>, StoreError> {
        let (mut found, mut start) = (Vec::new(), Vec::new());
        while let Some(key) = self.db.next_key(RANGES, &start)? {
            found.push(Address::try_from(&key[..]).map_err(|_| self.db.damage(RANGES, &key))?);
            start = [&key[..], &[0]].concat();
        }
        Ok(found)
    }

    /// Puts entries at the end of a log, in the batch and in `range`, which has to be the log's.
    pub fn append(&self, batch: &mut Batch, log: &Address, range: &mut CompactRange, entries: &[LogEntry]) {
        for entry in entries {
            batch.put(ENTRIES, entry_key(log, range.size()), entry.encode().to_vec());
            for node in range.append(entry.leaf()) {
                batch.put(NODES, node_key(log, node.level, node.index), node.hash.to_vec());
            }
        }
        batch.put(RANGES, log.to_vec(), codec::encode_range(range));
    }

    /// Like [`LogStore::append`], with items: of an entry that is nowhere kept any more there is only the leaf.
    pub fn append_items(
        &self,
        batch: &mut Batch,
        log: &Address,
        range: &mut CompactRange,
        items: &[LogItem],
    ) {
        for item in items {
            let leaf = match item {
                LogItem::Entry(entry) => {
                    batch.put(ENTRIES, entry_key(log, range.size()), entry.encode().to_vec());
                    entry.leaf()
                }
                LogItem::Leaf(leaf) => *leaf,
            };
            for node in range.append(leaf) {
                batch.put(NODES, node_key(log, node.level, node.index), node.hash.to_vec());
            }
        }
        batch.put(RANGES, log.to_vec(), codec::encode_range(range));
    }

    /// Keeps an entry whose leaf is in the log already. The caller has compared the two.
    pub fn put_entry(&self, batch: &mut Batch, log: &Address, index: u64, entry: &LogEntry) {
        batch.put(ENTRIES, entry_key(log, index), entry.encode().to_vec());
    }

    /// Notes that the log was compared with an anchored root of this size: it is served up to there although nothing
    /// of it was cosigned here.
    pub fn set_anchored(&self, batch: &mut Batch, log: &Address, size: u64) {
        batch.put(ANCHORED, log.to_vec(), size.to_be_bytes().to_vec());
    }

    /// The size up to which a log is served: that of its latest checkpoint, or an anchored one above it. Nothing for
    /// an unknown log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn served_size(&self, log: &Address) -> Result<Option<u64>, StoreError> {
        let cosigned = self.checkpoint(log)?.map(|latest| latest.signed.checkpoint.size);
        let anchored = match self.db.get(ANCHORED, log.as_slice())? {
            Some(bytes) => {
                let size =
                    <[u8; 8]>::try_from(&bytes[..]).map_err(|_| self.db.damage(ANCHORED, log.as_slice()))?;
                Some(u64::from_be_bytes(size))
            }
            None => None,
        };
        Ok(cosigned.max(anchored))
    }

    /// Makes a checkpoint the latest of its log.
    pub fn set_checkpoint(&self, batch: &mut Batch, cosigned: &CosignedCheckpoint) {
        let key = cosigned.signed.checkpoint.gateway.to_vec();
        batch.put(CHECKPOINTS, key, codec::encode_checkpoint(cosigned));
    }

    /// The latest checkpoint of a log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checkpoint(&self, log: &Address) -> Result<Option<CosignedCheckpoint>, StoreError> {
        let Some(bytes) = self.db.get(CHECKPOINTS, log.as_slice())? else {
            return Ok(None);
        };
        let decoded = codec::decode_checkpoint(&bytes);
        decoded.map(Some).ok_or_else(|| self.db.damage(CHECKPOINTS, log.as_slice()))
    }

    /// The latest checkpoints of all logs, ascending by gateway address.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<CosignedCheckpoint>, StoreError> {
        let pairs = self.db.scan(CHECKPOINTS, &[], &[], usize::MAX)?;
        let decode = |(key, bytes): super::Pair| {
            codec::decode_checkpoint(&bytes).ok_or_else(|| self.db.damage(CHECKPOINTS, &key))
        };
        pairs.into_iter().map(decode).collect()
    }

    /// The entry at an index, while it is kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entry(&self, log: &Address, index: u64) -> Result<Option<LogEntry>, StoreError> {
        let key = entry_key(log, index);
        let Some(bytes) = self.db.get(ENTRIES, &key)? else {
            return Ok(None);
        };
        LogEntry::decode(&bytes).map(Some).map_err(|_| self.db.damage(ENTRIES, &key))
    }

    /// The item at an index below the size of the log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn item(&self, log: &Address, index: u64) -> Result<LogItem, StoreError> {
        match self.entry(log, index)? {
            Some(entry) => Ok(LogItem::Entry(entry)),
            None => Ok(LogItem::Leaf(self.leaf(log, index)?)),
        }
    }

    /// The items of `start..end`, which has to be within the log.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn items(&self, log: &Address, start: u64, end: u64) -> Result<Vec<LogItem>, StoreError> {
        (start..end).map(|index| self.item(log, index)).collect()
    }

    /// The leaf at an index below the size of the log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn leaf(&self, log: &Address, index: u64) -> Result<B256, StoreError> {
        self.tree(log).node(0, index)
    }

    /// The root of the first `size` entries.
    ///
    /// # Errors
    /// When a node cannot be read, also because the log is shorter.
    pub fn root_at(&self, log: &Address, size: u64) -> Result<B256, StoreError> {
        log::root_at(&self.tree(log), size)
    }

    /// The compact range of the first `size` entries.
    ///
    /// # Errors
    /// When a node cannot be read, also because the log is shorter.
    pub fn range_at(&self, log: &Address, size: u64) -> Result<CompactRange, StoreError> {
        log::range_at(&self.tree(log), size)
    }

    /// Proof that the entry at `index` is under the root of `size`.
    ///
    /// # Errors
    /// When a node cannot be read, also because the log is shorter.
    pub fn inclusion(&self, log: &Address, index: u64, size: u64) -> Result<Vec<B256>, StoreError> {
        log::inclusion_proof(&self.tree(log), index, size)
    }

    /// Proof that the log of `old` entries is a prefix of the log of `new` entries.
    ///
    /// # Errors
    /// When a node cannot be read, also because the log is shorter.
    pub fn consistency(&self, log: &Address, old: u64, new: u64) -> Result<Vec<B256>, StoreError> {
        log::consistency_proof(&self.tree(log), old, new)
    }

    fn tree<'a>(&'a self, log: &'a Address) -> Tree<'a> {
        Tree { store: self, log }
    }
}

/// The nodes of one log.
struct Tree<'a> {
    store: &'a LogStore,
    log: &'a Address,
}

impl NodeSource for Tree<'_> {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<B256, StoreError> {
        let key = node_key(self.log, level, index);
        let found = self.store.db.get(NODES, &key)?;
        // Nodes are never deleted: one that is asked for within the log and is not there was lost.
        found.and_then(|hash| B256::try_from(&hash[..]).ok()).ok_or_else(|| self.store.db.damage(NODES, &key))
    }
}

fn entry_key(log: &Address, index: u64) -> Vec<u8> {
    [log.as_slice(), &index.to_be_bytes()].concat()
}

fn node_key(log: &Address, level: u8, index: u64) -> Vec<u8> {
    [log.as_slice(), &[level], &index.to_be_bytes()].concat()
}
