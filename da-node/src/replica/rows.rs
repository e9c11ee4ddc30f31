//! The blobs on disk: rows in checked pieces, leaves, RLC vectors, and which entries name them.

use bytes::{Bytes, BytesMut};
use meridian_proofs::hash::Blake3;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::merkle::PartialTree;
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::RowRange;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::{EntryRef, LookupKey};

use super::record::{Record, StoredRange, wide};
use crate::store::{Batch, Db, StoreError};

mod quarantine;

const BLOBS: &str = "blobs";
const RLCS: &str = "rlc_vectors";
const LEAVES: &str = "row_leaves";
const ROWS: &str = "rows";
const NAMED: &str = "entries_by_blob";
const ALIASES: &str = "aliases";
const OWED: &str = "owed";
const EXPIRIES: &str = "expiries";
const EXPIRED: &str = "expired";
const QUARANTINE: &str = "quarantine";
const SCRUB: &str = "scrub";

/// Columns of the blobs.
pub(super) const COLUMNS: [&str; 11] =
    [BLOBS, RLCS, LEAVES, ROWS, NAMED, ALIASES, OWED, EXPIRIES, EXPIRED, QUARANTINE, SCRUB];

/// Bytes of rows under one key: what a read of one row has to check.
const PIECE: usize = 64 << 10;
/// Key of how far the scrub is.
const PASS: &[u8] = b"pass";
/// Records that are read at once at the start.
const PAGE: usize = 1024;
/// Entries of one alias that are looked at.
const ALIAS_SCAN: usize = 256;

/// The blobs on disk.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    db: Db,
}

/// What a gateway owes room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owed {
    pub(super) gateway: Address,
    pub(super) blob: BlobId,
    /// Unix seconds.
    pub(super) until: u64,
    pub(super) bytes: u64,
}

/// When an entry that names a blob expires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Expiry {
    /// Unix seconds.
    pub(super) at: u64,
    pub(super) blob: BlobId,
    /// Where the entry is noted.
    named: Vec<u8>,
}

impl Expiry {
    fn of(gateway: &Address, index: u64, entry: &LogEntry) -> Self {
        Self { at: entry.expiry, blob: entry.blob_id, named: named_key(gateway, index, entry) }
    }

    fn key(&self) -> Vec<u8> {
        [&self.at.to_be_bytes()[..], &self.named].concat()
    }
}

/// A value that is kept of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Part {
    /// The record, without which nothing is known of the rest.
    Record,
    /// The RLC vector.
    Rlc,
    /// Leaves of the stored range with this number.
    Leaves(usize),
    /// Rows of a piece of a stored range.
    Rows(usize, usize),
}

impl Part {
    fn encode(self) -> Vec<u8> {
        let (kind, place, piece) = match self {
            Self::Record => (0, 0, 0),
            Self::Rlc => (1, 0, 0),
            Self::Leaves(place) => (2, place, 0),
            Self::Rows(place, piece) => (3, place, piece),
        };
        [&[kind][..], &wide(place).to_be_bytes(), &wide(piece).to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (place, piece) = rest.split_first_chunk()?;
        let place = usize::try_from(u64::from_be_bytes(*place)).ok()?;
        let piece = usize::try_from(u64::from_be_bytes(piece.try_into().ok()?)).ok()?;
        match kind {
            0 => Some(Self::Record),
            1 => Some(Self::Rlc),
            2 => Some(Self::Leaves(place)),
            3 => Some(Self::Rows(place, piece)),
            _ => None,
        }
    }

    /// Its name in logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Rlc => "rlc",
            Self::Leaves(_) => "leaves",
            Self::Rows(..) => "rows",
        }
    }
}

/// How far all that is held has been checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Pass {
    /// Unix seconds at which it began, 0 for never.
    pub(super) began: u64,
    /// Unix seconds at which the last one ended, 0 for never.
    pub(super) ended: u64,
    /// Blob that was checked last; nothing before the first.
    pub(super) done: Option<BlobId>,
}

/// Rows that are to be read from one stored value.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    key: Vec<u8>,
    skip: usize,
    bytes: usize,
}

impl Rows {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// What is on disk of a blob.
    pub(super) fn record(&self, id: &BlobId) -> Result<Option<Record>, StoreError> {
        let Some(bytes) = self.db.get(BLOBS, id.as_bytes())? else { return Ok(None) };
        Record::decode(&bytes).map(Some).ok_or_else(|| self.db.damage(BLOBS, id.as_bytes()))
    }

    /// The RLC vector of a blob that is on disk.
    pub(super) fn rlc(&self, id: &BlobId) -> Result<RlcVector, StoreError> {
        let found = self.db.get(RLCS, id.as_bytes())?.ok_or_else(|| self.missing(RLCS, id.as_bytes()))?;
        RlcVector::from_bytes(&found).map_err(|_| self.db.damage(RLCS, id.as_bytes()))
    }

    /// Every record. Those that are damaged are left to the scrub.
    pub(super) fn each_record(&self, mut each: impl FnMut(BlobId, &Record)) -> Result<(), StoreError> {
        let mut last = None;
        while let Some(id) = self.next_blob(last.as_ref())? {
            match self.record(&id) {
                Ok(Some(record)) => each(id, &record),
                Ok(None) | Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            last = Some(id);
        }
        Ok(())
    }

    /// Everything that gateways owe room for.
    pub(super) fn each_owed(&self, mut each: impl FnMut(Owed)) -> Result<(), StoreError> {
        self.each(OWED, |key, value| {
            let owed = decode_owed(key, value).ok_or_else(|| self.db.damage(OWED, key))?;
            each(owed);
            Ok(())
        })
    }

    /// The blob that follows another, by its key alone.
    pub(super) fn next_blob(&self, after: Option<&BlobId>) -> Result<Option<BlobId>, StoreError> {
        let start = after.map(|id| [&id.as_bytes()[..], &[0]].concat()).unwrap_or_default();
        let Some(key) = self.db.next_key(BLOBS, &start)? else { return Ok(None) };
        let id = <[u8; 32]>::try_from(&key[..]).map_err(|_| self.db.damage(BLOBS, &key))?;
        Ok(Some(id.into()))
    }

    /// How many pieces a stored range has.
    pub(super) fn piece_count(record: &Record, stored: &StoredRange) -> usize {
        let rows = usize::try_from(stored.range.count()).unwrap_or(usize::MAX);
        rows.div_ceil(piece_rows(record.shape().row_bytes()))
    }

    /// The rows of a piece of a stored range.
    pub(super) fn piece_range(record: &Record, stored: &StoredRange, piece: usize) -> Option<RowRange> {
        let step = piece_rows(record.shape().row_bytes());
        let start = piece.checked_mul(step)?;
        let count = usize::try_from(stored.range.count()).ok()?.checked_sub(start)?.min(step);
        let start = stored.range.start().checked_add(u32::try_from(start).ok()?)?;
        record.shape().range(start, u32::try_from(count).ok()?)
    }

    fn each(
        &self,
        column: &'static str,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut start = Vec::new();
        loop {
            let page = self.db.scan(column, &[], &start, PAGE)?;
            for (key, value) in &page {
                each(key, value)?;
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => start = [key, &[0][..]].concat(),
                _ => return Ok(()),
            }
        }
    }

    /// Puts checked ranges of a blob into a batch, after those that are on disk already. Gives the new record.
    pub(super) fn put(
        &self,
        batch: &mut Batch,
        context: &BlobContext,
        old: Option<Record>,
        ranges: &[VerifiedRange],
        now: u64,
    ) -> Record {
        let id = context.id();
        let mut record = old.unwrap_or_else(|| {
            batch.put(RLCS, *id.as_bytes(), context.rlc().to_bytes());
            Record { header: *context.header(), inconsistent: false, stored_at: now, ranges: Vec::new() }
        });
        let row_bytes = context.shape().row_bytes();
        for verified in ranges {
            let place = record.ranges.len();
            let leaves = verified.leaves().concat();
            batch.put(LEAVES, place_key(&id, place), leaves);
            let step = piece_rows(row_bytes) * row_bytes;
            for start in (0..verified.rows().len()).step_by(step) {
                let end = verified.rows().len().min(start + step);
                let piece = start / step;
                batch.put(ROWS, piece_key(&id, place, piece), verified.rows().slice(start..end));
            }
            record.ranges.push(StoredRange { range: verified.range(), proof: verified.proof().clone() });
        }
        self.put_record(batch, &id, &record);
        record
    }

    /// Replaces a record.
    pub(super) fn put_record(&self, batch: &mut Batch, id: &BlobId, record: &Record) {
        batch.put(BLOBS, *id.as_bytes(), record.encode());
    }

    /// Deletes a blob and all its rows.
    pub(super) fn delete(&self, batch: &mut Batch, id: &BlobId, record: &Record) {
        batch.delete(BLOBS, *id.as_bytes());
        batch.delete(RLCS, *id.as_bytes());
        for (place, stored) in record.ranges.iter().enumerate() {
            batch.delete(LEAVES, place_key(id, place));
            for piece in 0..Self::piece_count(record, stored) {
                batch.delete(ROWS, piece_key(id, place, piece));
            }
        }
    }

    /// The tree over a stored range.
    pub(super) fn tree(&self, id: &BlobId, record: &Record, place: usize) -> Result<PartialTree, StoreError> {
        let key = place_key(id, place);
        let damaged = || self.db.damage(LEAVES, &key);
        let stored = record.ranges.get(place).ok_or_else(damaged)?;
        let bytes = self.db.get(LEAVES, &key)?.ok_or_else(|| self.missing(LEAVES, &key))?;
        let leaves = bytes.chunks_exact(32).map(B256::from_slice).collect();
        let tree =
            PartialTree::new::<Blake3>(record.shape().total_rows(), stored.range, leaves, &stored.proof);
        tree.ok().filter(|tree| tree.root() == record.header.row_root).ok_or_else(damaged)
    }

    /// Whether the leaves of a stored range can be read.
    pub(super) fn has_leaves(&self, id: &BlobId, place: usize) -> bool {
        matches!(self.db.get(LEAVES, &place_key(id, place)), Ok(Some(_)))
    }

    /// Where the rows of a range are that lies within the stored range at `place`.
    pub(super) fn pieces(&self, id: &BlobId, record: &Record, place: usize, range: &RowRange) -> Vec<Piece> {
        let Some(stored) = record.ranges.get(place) else { return Vec::new() };
        let row_bytes = record.shape().row_bytes();
        let step = piece_rows(row_bytes);
        let offset =
            |row: u32| usize::try_from(row.saturating_sub(stored.range.start())).unwrap_or(usize::MAX);
        let (start, end) = (offset(range.start()), offset(range.end()));
        (start / step..end.div_ceil(step))
            .map(|piece| {
                let (from, to) = (start.max(piece * step), end.min((piece + 1) * step));
                Piece {
                    key: piece_key(id, place, piece),
                    skip: (from - piece * step) * row_bytes,
                    bytes: (to - from) * row_bytes,
                }
            })
            .collect()
    }

    /// The rows of a piece, checked.
    pub(super) fn read(&self, piece: &Piece) -> Result<Bytes, StoreError> {
        let value = self.db.get(ROWS, &piece.key)?.ok_or_else(|| self.missing(ROWS, &piece.key))?;
        let end = piece.skip + piece.bytes;
        if value.len() < end {
            return Err(self.db.damage(ROWS, &piece.key));
        }
        Ok(value.slice(piece.skip..end))
    }

    /// All rows of a range that lies within the stored range at `place`.
    pub(super) fn rows(
        &self,
        id: &BlobId,
        record: &Record,
        place: usize,
        range: &RowRange,
    ) -> Result<Bytes, StoreError> {
        let pieces = self.pieces(id, record, place, range);
        let mut rows = BytesMut::with_capacity(pieces.iter().map(|piece| piece.bytes).sum());
        for piece in &pieces {
            rows.extend_from_slice(&self.read(piece)?);
        }
        Ok(rows.freeze())
    }

    /// A value is not there that a blob's record named: the blob was dropped meanwhile, or the disk has lost it.
    fn missing(&self, column: &'static str, key: &[u8]) -> StoreError {
        match key.get(..32).map(|id| self.db.contains(BLOBS, id)) {
            Some(Ok(false)) => StoreError::Dropped,
            _ => self.db.damage(column, key),
        }
    }

    /// Notes that a cosigned entry names a blob.
    pub(super) fn put_entry(&self, batch: &mut Batch, gateway: &Address, index: u64, entry: &LogEntry) {
        let key = named_key(gateway, index, entry);
        batch.put(NAMED, key, Bytes::copy_from_slice(&entry.encode()));
        batch.put(EXPIRIES, Expiry::of(gateway, index, entry).key(), Bytes::new());
        if entry.payload_hash.is_bound() {
            batch.put(ALIASES, alias_key(gateway, index, entry), Bytes::new());
        }
    }

    /// The entry that expires, if it is noted.
    pub(super) fn expiring(&self, expiry: &Expiry) -> Result<Option<EntryRef>, StoreError> {
        let found = self.db.get(NAMED, &expiry.named)?;
        found.map(|value| self.decode_named(&expiry.named, &value)).transpose()
    }

    /// Forgets an entry that named a blob.
    pub(super) fn delete_entry(&self, batch: &mut Batch, expiry: &Expiry, named: Option<&EntryRef>) {
        batch.delete(EXPIRIES, expiry.key());
        batch.delete(NAMED, expiry.named.clone());
        if let Some(EntryRef { gateway, index, entry }) = named.filter(|it| it.entry.payload_hash.is_bound())
        {
            batch.delete(ALIASES, alias_key(gateway, *index, entry));
        }
    }

    /// The first expiry of an entry that names a blob, or the next one.
    pub(super) fn next_expiry(&self, after: Option<&Expiry>) -> Result<Option<Expiry>, StoreError> {
        let start = after.map(|expiry| [&expiry.key()[..], &[0]].concat());
        let Some(key) = self.db.next_key(EXPIRIES, &start.unwrap_or_default())? else { return Ok(None) };
        let decoded = key.split_first_chunk::<8>().and_then(|(at, named)| {
            let blob = BlobId::from(*named.first_chunk::<32>()?);
            Some(Expiry { at: u64::from_be_bytes(*at), blob, named: named.to_vec() })
        });
        decoded.map(Some).ok_or_else(|| self.db.damage(EXPIRIES, &key))
    }

    /// Keeps in mind that a blob was here until then, for those who ask for it or for the payload of the entry.
    pub(super) fn put_expired(&self, batch: &mut Batch, entry: &LogEntry) -> Result<(), StoreError> {
        let bound = entry.payload_hash.is_bound().then_some(LookupKey::Payload(entry.payload_hash));
        for key in bound.into_iter().chain([LookupKey::Blob(entry.blob_id)]) {
            let before = self.expired(&key)?.unwrap_or_default();
            batch.put(EXPIRED, expired_key(&key), before.max(entry.expiry).to_be_bytes().to_vec());
        }
        Ok(())
    }

    /// When the last entry of a blob, or of a payload, expired that was here.
    pub(super) fn expired(&self, key: &LookupKey) -> Result<Option<u64>, StoreError> {
        let key = expired_key(key);
        let Some(value) = self.db.get(EXPIRED, &key)? else { return Ok(None) };
        let expiry = <[u8; 8]>::try_from(&value[..]).map_err(|_| self.db.damage(EXPIRED, &key))?;
        Ok(Some(u64::from_be_bytes(expiry)))
    }

    /// Whether it is noted that an entry names its blob.
    pub(super) fn is_entry(
        &self,
        gateway: &Address,
        index: u64,
        entry: &LogEntry,
    ) -> Result<bool, StoreError> {
        self.db.contains(NAMED, &named_key(gateway, index, entry))
    }

    /// The cosigned entries that name a blob, the latest first.
    pub(super) fn entries(&self, id: &BlobId, limit: usize) -> Result<Vec<EntryRef>, StoreError> {
        let pairs = self.db.scan(NAMED, id.as_bytes(), &[], limit)?;
        pairs.into_iter().map(|(key, value)| self.decode_named(&key, &value)).collect()
    }

    fn decode_named(&self, key: &[u8], value: &[u8]) -> Result<EntryRef, StoreError> {
        let decoded = key.get(40..).and_then(|rest| {
            let (gateway, index) = rest.split_first_chunk::<20>()?;
            let index = u64::from_be_bytes(index.try_into().ok()?);
            let entry = LogEntry::decode(value).ok()?;
            Some(EntryRef { gateway: Address::new(*gateway), index, entry })
        });
        decoded.ok_or_else(|| self.db.damage(NAMED, key))
    }

    /// Whether another cosigned entry than the one that expires names its blob.
    pub(super) fn is_named_otherwise(&self, expiry: &Expiry) -> Result<bool, StoreError> {
        let start = self.db.next_key(NAMED, expiry.blob.as_bytes())?;
        let next = match start {
            Some(first) if *first == *expiry.named => {
                self.db.next_key(NAMED, &[&expiry.named[..], &[0]].concat())?
            }
            other => other,
        };
        Ok(next.is_some_and(|key| key.starts_with(expiry.blob.as_bytes())))
    }

    /// Whether a cosigned entry names a blob.
    pub(super) fn is_named(&self, id: &BlobId) -> Result<bool, StoreError> {
        let next = self.db.next_key(NAMED, id.as_bytes())?;
        Ok(next.is_some_and(|key| key.starts_with(id.as_bytes())))
    }

    /// The blobs that entries with a payload hash name, the one that was named first before the others: whoever names
    /// more of them later, with KZG roots of his own, does not hide it.
    pub(super) fn aliases(&self, hash: &PayloadHash) -> Result<Vec<BlobId>, StoreError> {
        let mut found = Vec::new();
        for (key, _) in self.db.scan(ALIASES, hash.as_bytes(), &[], ALIAS_SCAN)? {
            let id = key.get(40..).and_then(<[u8]>::first_chunk::<32>).map(|id| BlobId::from(*id));
            let id = id.ok_or_else(|| self.db.damage(ALIASES, &key))?;
            if !found.contains(&id) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Notes what a gateway owes room for.
    pub(super) fn put_owed(&self, batch: &mut Batch, owed: &Owed) {
        let value = [owed.until.to_be_bytes(), owed.bytes.to_be_bytes()].concat();
        batch.put(OWED, owed_key(&owed.gateway, &owed.blob), value);
    }

    /// Forgets what a gateway owes room for.
    pub(super) fn delete_owed(&self, batch: &mut Batch, gateway: &Address, blob: &BlobId) {
        batch.delete(OWED, owed_key(gateway, blob));
    }
}

/// What a context knows of a blob, read again from disk.
pub(super) fn context(rows: &Rows, id: BlobId, header: BlobHeader) -> Result<BlobContext, StoreError> {
    let rlc = rows.rlc(&id)?;
    BlobContext::new(id, header, rlc).map_err(|_| rows.db.damage(RLCS, id.as_bytes()))
}

fn piece_rows(row_bytes: usize) -> usize {
    (PIECE / row_bytes).max(1)
}

fn place_key(id: &BlobId, place: usize) -> Vec<u8> {
    [&id.as_bytes()[..], &wide(place).to_be_bytes()].concat()
}

fn piece_key(id: &BlobId, place: usize, piece: usize) -> Vec<u8> {
    [&id.as_bytes()[..], &wide(place).to_be_bytes(), &wide(piece).to_be_bytes()].concat()
}

fn named_key(gateway: &Address, index: u64, entry: &LogEntry) -> Vec<u8> {
    let age = (u64::MAX - entry.time).to_be_bytes();
    [&entry.blob_id.as_bytes()[..], &age, gateway.as_slice(), &index.to_be_bytes()].concat()
}

fn alias_key(gateway: &Address, index: u64, entry: &LogEntry) -> Vec<u8> {
    let (time, id) = (entry.time.to_be_bytes(), entry.blob_id);
    let (hash, index) = (entry.payload_hash, index.to_be_bytes());
    [&hash.as_bytes()[..], &time, id.as_bytes(), gateway.as_slice(), &index].concat()
}

fn expired_key(key: &LookupKey) -> Vec<u8> {
    match key {
        LookupKey::Blob(id) => [&[0][..], id.as_bytes()].concat(),
        LookupKey::Payload(hash) => [&[1][..], hash.as_bytes()].concat(),
    }
}

fn part_key(id: &BlobId, part: Part) -> (&'static str, Vec<u8>) {
    match part {
        Part::Record => (BLOBS, id.as_bytes().to_vec()),
        Part::Rlc => (RLCS, id.as_bytes().to_vec()),
        Part::Leaves(place) => (LEAVES, place_key(id, place)),
        Part::Rows(place, piece) => (ROWS, piece_key(id, place, piece)),
    }
}

fn quarantine_key(id: &BlobId, part: Part) -> Vec<u8> {
    [&id.as_bytes()[..], &part.encode()].concat()
}

fn owed_key(gateway: &Address, blob: &BlobId) -> Vec<u8> {
    [gateway.as_slice(), blob.as_bytes()].concat()
}

fn decode_owed(key: &[u8], value: &[u8]) -> Option<Owed> {
    let (gateway, blob) = key.split_first_chunk::<20>()?;
    let (until, bytes) = value.split_first_chunk::<8>()?;
    Some(Owed {
        gateway: Address::new(*gateway),
        blob: <[u8; 32]>::try_from(blob).ok()?.into(),
        until: u64::from_be_bytes(*until),
        bytes: u64::from_be_bytes(bytes.try_into().ok()?),
    })
}
