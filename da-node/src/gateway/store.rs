//! What a gateway keeps on disk.
//!
//! | column | key | value |
//! |---|---|---|
//! | `gateway_state` | `owner`, `head` | whose log it is; the latest checkpoint that was signed |
//! | `gateway_headers` | blob id | header |
//! | `gateway_index` | blob id, then namespace, then whether a payload hash is bound | index of the latest such entry |
//! | `gateway_uploads` | blob id | expiry, length, addresses of the seats that lack the blob |
//! | `gateway_payloads` | blob id, number of the chunk | a chunk of a payload that is kept for `gateway_uploads` |
//!
//! beside the columns of [`LogStore`], whose latest checkpoint is the latest certified one. An entry, its tree nodes, its header, its index, its payload and the signed
//! checkpoint over it are one synced batch.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{CosignedCheckpoint, Domain, SignedCheckpoint};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::{Address, B256};
use meridian_proto::error::{ApiError, Reason};

use super::log::{Plan, Wanted};
use crate::store::log::{LogStore, codec};
use crate::store::{self, Batch, Db, Durability, Role};

const STATE: &str = "gateway_state";
const HEADERS: &str = "gateway_headers";
const INDEX: &str = "gateway_index";
const UPLOADS: &str = "gateway_uploads";
const PAYLOADS: &str = "gateway_payloads";

const OWNER: &[u8] = b"owner";
const HEAD: &[u8] = b"head";

/// Bytes of a kept payload under one key.
const CHUNK: usize = 1 << 20;

/// Records that are read at once.
const PAGE: usize = 256;

/// Bytes of an upload before its addresses: expiry, length.
const UPLOAD_LEN: usize = 16;

/// Why the gateway's store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StoreError {
    /// The disk, or a damaged value.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The store was made by another key.
    #[error("the store belongs to the gateway {found}, not to {expected}: a key and its log stay together")]
    OtherOwner {
        /// Who made it.
        found: Address,
        /// Who opens it.
        expected: Address,
    },
    /// A value has a form that this program does not write.
    #[error("the value of {0} is malformed")]
    Malformed(&'static str),
    /// A call was not carried out.
    #[error("a call to the store failed: {0}")]
    Task(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Malformed(_) | StoreError::Store(store::StoreError::Damaged { .. }) => {
                Self::new(Reason::StoreDamaged, "a stored value is damaged")
            }
            StoreError::Store(store::StoreError::Failed { .. } | store::StoreError::Poisoned) => {
                Self::new(Reason::StoreFailed, "the gateway's disk failed")
            }
            error => Self::internal(error.to_string()),
        }
    }
}

/// What a start finds.
pub(super) struct Loaded {
    pub(super) range: CompactRange,
    pub(super) last_time: u64,
    pub(super) head: Option<SignedCheckpoint>,
    pub(super) certified: Option<CosignedCheckpoint>,
}

/// What is kept of a blob with its entry.
pub(super) struct Keep {
    /// Absent when it is kept already.
    pub(super) payload: Option<Bytes>,
    /// Who lacks the blob.
    pub(super) missing: Vec<Address>,
}

/// A batch that was written.
pub(super) struct Appended {
    pub(super) range: CompactRange,
    /// Index of the first entry.
    pub(super) first: u64,
    pub(super) entries: Vec<LogEntry>,
    pub(super) signed: SignedCheckpoint,
}

/// A blob that a seat lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) id: BlobId,
    pub(super) expiry: u64,
    pub(super) length: u64,
}

/// A record of `gateway_uploads`.
struct Upload {
    expiry: u64,
    length: u64,
    missing: Vec<Address>,
}

/// The gateway's store.
pub(super) struct Store {
    db: Db,
    log: LogStore,
    gateway: Address,
    /// Records in `gateway_uploads`.
    pending: AtomicU64,
    /// One change of `gateway_uploads` at a time.
    uploads: Mutex<()>,
}

impl Store {
    /// Opens the store of this gateway's log, or makes it.
    pub(super) fn open(path: &Path, gateway: Address, domain: &Domain) -> Result<(Self, Loaded), StoreError> {
        let columns = [STATE, HEADERS, INDEX, UPLOADS, PAYLOADS];
        let columns: Vec<&'static str> = LogStore::COLUMNS.iter().chain(&columns).copied().collect();
        let db = Db::open(path, Role::Gateway, &columns)?;
        let log = LogStore::new(db.clone());
        let store = Self { db, log, gateway, pending: AtomicU64::new(0), uploads: Mutex::new(()) };
        store.claim()?;
        let range = store.log.range(&gateway)?;
        let last = match range.size().checked_sub(1) {
            Some(last) => store.log.entry(&gateway, last)?,
            None => None,
        };
        let head = store.db.get(STATE, HEAD)?.map(|bytes| decode_checkpoint(&bytes)).transpose()?;
        let head = head.map(|head| head.signed);
        let certified = store.log.checkpoint(&gateway)?;
        for signed in head.iter().chain(certified.iter().map(|certified| &certified.signed)) {
            let fits = signed.checkpoint.size <= range.size() && signed.verify(domain).is_ok();
            if !fits {
                return Err(StoreError::Malformed("a stored checkpoint"));
            }
        }
        store.pending.store(store.count_uploads()?, Ordering::Relaxed);
        let last_time = last.map_or(0, |entry| entry.time);
        Ok((store, Loaded { range, last_time, head, certified }))
    }

    fn count_uploads(&self) -> Result<u64, StoreError> {
        let (mut count, mut from) = (0, Vec::new());
        loop {
            let page = self.db.scan(UPLOADS, &[], &from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            from = [last, [0u8].as_slice()].concat();
            count += u64::try_from(page.len()).unwrap_or(u64::MAX);
        }
    }

    /// Takes the store for this gateway, or finds out that it is another's.
    fn claim(&self) -> Result<(), StoreError> {
        let Some(owner) = self.db.get(STATE, OWNER)? else {
            let mut batch = Batch::default();
            batch.put(STATE, OWNER, self.gateway.to_vec());
            return Ok(self.db.commit(batch, Durability::Synced)?);
        };
        let found: [u8; 20] = owner.as_ref().try_into().map_err(|_| StoreError::Malformed("owner"))?;
        let found = Address::from(found);
        if found == self.gateway {
            Ok(())
        } else {
            Err(StoreError::OtherOwner { found, expected: self.gateway })
        }
    }

    pub(super) fn log(&self) -> &LogStore {
        &self.log
    }

    /// Blobs that a seat lacks.
    pub(super) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// The latest entry of a blob under a namespace, with or without a payload hash.
    pub(super) fn find(
        &self,
        id: BlobId,
        namespace: Namespace,
        bound: bool,
    ) -> Result<Option<(u64, LogEntry)>, StoreError> {
        self.at(&bound_key(id, namespace, bound))
    }

    /// The latest entry of a blob under one namespace or any.
    pub(super) fn latest(
        &self,
        id: BlobId,
        namespace: Option<Namespace>,
    ) -> Result<Option<(u64, LogEntry)>, StoreError> {
        match namespace {
            Some(namespace) => self.at(&namespace_key(id, namespace)),
            None => self.at(id.as_bytes()),
        }
    }

    fn at(&self, key: &[u8]) -> Result<Option<(u64, LogEntry)>, StoreError> {
        let Some(index) = self.db.get(INDEX, key)? else { return Ok(None) };
        let index = index
            .as_ref()
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| StoreError::Malformed("an index"))?;
        let entry = self.log.entry(&self.gateway, index)?.ok_or(StoreError::Malformed("an index"))?;
        Ok(Some((index, entry)))
    }

    /// Appends what was planned together with the checkpoint over it; all of it is on disk when this returns.
    pub(super) fn append(
        &self,
        range: &mut CompactRange,
        plan: &Plan,
        wanted: &[Wanted],
        keeps: Vec<Option<Keep>>,
        sign: impl FnOnce(&CompactRange) -> SignedCheckpoint,
    ) -> Result<SignedCheckpoint, StoreError> {
        let _one = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Batch::default();
        let first = range.size();
        self.log.append(&mut batch, &self.gateway, range, &plan.entries);
        let mut longest: HashMap<BlobId, u64> = HashMap::new();
        for ((entry, origin), index) in plan.entries.iter().zip(&plan.origins).zip(first..) {
            let index = Bytes::copy_from_slice(&index.to_be_bytes());
            let bound = entry.payload_hash.is_bound();
            batch.put(INDEX, *entry.blob_id.as_bytes(), index.clone());
            batch.put(INDEX, namespace_key(entry.blob_id, entry.namespace), index.clone());
            batch.put(INDEX, bound_key(entry.blob_id, entry.namespace, bound), index);
            batch.put(HEADERS, *entry.blob_id.as_bytes(), wanted[*origin].header.encode().to_vec());
            let expiry = longest.entry(entry.blob_id).or_default();
            *expiry = entry.expiry.max(*expiry);
        }
        let mut begun = HashSet::new();
        for (want, keep) in wanted.iter().zip(keeps) {
            let (Some(&expiry), false) = (longest.get(&want.id), begun.contains(&want.id)) else { continue };
            if self.keep(&mut batch, want, expiry, keep)? {
                begun.insert(want.id);
            }
        }
        let signed = sign(range);
        batch.put(STATE, HEAD, encode_signed(&signed));
        self.db.commit(batch, Durability::Synced)?;
        self.pending.fetch_add(u64::try_from(begun.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(signed)
    }

    /// Keeps the payload for the seats that lack the blob, until the expiry of its last entry. Says whether that is new.
    fn keep(
        &self,
        batch: &mut Batch,
        want: &Wanted,
        expiry: u64,
        keep: Option<Keep>,
    ) -> Result<bool, StoreError> {
        let id = want.id;
        if let Some(mut upload) = self.upload(id)? {
            upload.expiry = upload.expiry.max(expiry);
            batch.put(UPLOADS, *id.as_bytes(), upload.encode());
            return Ok(false);
        }
        let Some(Keep { payload: Some(payload), missing }) = keep else { return Ok(false) };
        if missing.is_empty() {
            return Ok(false);
        }
        let upload = Upload { expiry, length: want.header.length.get(), missing };
        batch.put(UPLOADS, *id.as_bytes(), upload.encode());
        for (start, number) in (0..payload.len()).step_by(CHUNK).zip(0u32..) {
            batch.put(
                PAYLOADS,
                chunk_key(id, number),
                payload.slice(start..payload.len().min(start + CHUNK)),
            );
        }
        Ok(true)
    }

    /// Writes the latest checkpoint, without a sync: entries are synced, and the checkpoint can be signed again.
    pub(super) fn keep_head(&self, signed: &SignedCheckpoint) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(STATE, HEAD, encode_signed(signed));
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Writes the latest certified checkpoint, without a sync: replicas give their cosignatures again.
    pub(super) fn keep_certified(&self, cosigned: &CosignedCheckpoint) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        self.log.set_checkpoint(&mut batch, cosigned);
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Notes that a seat has a blob; with the last seat the payload goes.
    pub(super) fn delivered(&self, id: BlobId, seat: Address) -> Result<(), StoreError> {
        let _one = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut upload) = self.upload(id)? else { return Ok(()) };
        upload.missing.retain(|address| *address != seat);
        let mut batch = Batch::default();
        if upload.missing.is_empty() {
            self.drop_kept(&mut batch, id, upload.length);
        } else {
            batch.put(UPLOADS, *id.as_bytes(), upload.encode());
        }
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Drops what is kept of a blob whose last entry has expired, also one appended since somebody looked.
    pub(super) fn forget(&self, id: BlobId, now: u64) -> Result<(), StoreError> {
        let _one = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(upload) = self.upload(id)?.filter(|upload| upload.expiry <= now) else { return Ok(()) };
        let mut batch = Batch::default();
        self.drop_kept(&mut batch, id, upload.length);
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    fn drop_kept(&self, batch: &mut Batch, id: BlobId, length: u64) {
        batch.delete(UPLOADS, *id.as_bytes());
        for number in 0..chunks(length) {
            batch.delete(PAYLOADS, chunk_key(id, number));
        }
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// The next blob after another, in the order of ids, that a seat lacks.
    pub(super) fn owed(&self, seat: Address, after: Option<BlobId>) -> Result<Option<Owed>, StoreError> {
        let mut from = after.map_or(Vec::new(), |id| [id.as_bytes(), [0u8].as_slice()].concat());
        loop {
            let page = self.db.scan(UPLOADS, &[], &from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            from = [last, [0u8].as_slice()].concat();
            for (key, value) in &page {
                let id: [u8; 32] =
                    key.as_ref().try_into().map_err(|_| StoreError::Malformed("an upload's key"))?;
                let upload = Upload::decode(value)?;
                if upload.missing.contains(&seat) {
                    return Ok(Some(Owed {
                        id: BlobId::from(id),
                        expiry: upload.expiry,
                        length: upload.length,
                    }));
                }
            }
        }
    }

    /// The header and the kept payload of a blob, if it is still kept.
    pub(super) fn kept(&self, id: BlobId) -> Result<Option<(BlobHeader, Bytes)>, StoreError> {
        let Some(header) = self.header(id)? else { return Ok(None) };
        let mut payload = BytesMut::with_capacity(header.length.to_usize());
        for number in 0..chunks(header.length.get()) {
            let Some(chunk) = self.db.get(PAYLOADS, &chunk_key(id, number))? else { return Ok(None) };
            payload.extend_from_slice(&chunk);
        }
        Ok(Some((header, payload.freeze())))
    }

    /// Entries of the log.
    pub(super) fn entries(&self, start: u64, count: u64) -> Result<Vec<LogEntry>, StoreError> {
        let end = start.saturating_add(count);
        let entry = |index| self.log.entry(&self.gateway, index)?.ok_or(StoreError::Malformed("an entry"));
        (start..end).map(entry).collect()
    }

    /// The root over the first entries; none when there are fewer.
    pub(super) fn root_at(&self, size: u64) -> Result<Option<B256>, StoreError> {
        if size > self.log.range(&self.gateway)?.size() {
            return Ok(None);
        }
        Ok(Some(self.log.root_at(&self.gateway, size)?))
    }

    /// The certificate of an entry under a checkpoint that covers it.
    pub(super) fn certificate(
        &self,
        index: u64,
        checkpoint: &CosignedCheckpoint,
    ) -> Result<Certificate, StoreError> {
        let entry = self.log.entry(&self.gateway, index)?.ok_or(StoreError::Malformed("an entry"))?;
        let header = self.header(entry.blob_id)?.ok_or(StoreError::Malformed("a header"))?;
        let size = checkpoint.signed.checkpoint.size;
        let inclusion = self.log.inclusion(&self.gateway, index, size)?;
        Ok(Certificate { header, entry, index, inclusion, checkpoint: checkpoint.clone() })
    }

    fn header(&self, id: BlobId) -> Result<Option<BlobHeader>, StoreError> {
        let header = self.db.get(HEADERS, id.as_bytes())?;
        let decode = |bytes: Bytes| BlobHeader::decode(&bytes).map_err(|_| StoreError::Malformed("a header"));
        header.map(decode).transpose()
    }

    fn upload(&self, id: BlobId) -> Result<Option<Upload>, StoreError> {
        self.db.get(UPLOADS, id.as_bytes())?.map(|bytes| Upload::decode(&bytes)).transpose()
    }
}

impl Upload {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(UPLOAD_LEN + self.missing.len() * 20);
        out.extend_from_slice(&self.expiry.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
        self.missing.iter().for_each(|address| out.extend_from_slice(address.as_slice()));
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let malformed = || StoreError::Malformed("an upload");
        let (expiry, rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (addresses, rest) = rest.as_chunks::<20>();
        if !rest.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            expiry: u64::from_be_bytes(*expiry),
            length: u64::from_be_bytes(*length),
            missing: addresses.iter().map(|address| Address::from(*address)).collect(),
        })
    }
}

fn namespace_key(id: BlobId, namespace: Namespace) -> Vec<u8> {
    [id.as_bytes().as_slice(), namespace.as_bytes()].concat()
}

fn bound_key(id: BlobId, namespace: Namespace, bound: bool) -> Vec<u8> {
    [id.as_bytes().as_slice(), namespace.as_bytes(), &[u8::from(bound)]].concat()
}

fn chunk_key(id: BlobId, number: u32) -> Vec<u8> {
    [id.as_bytes().as_slice(), &number.to_be_bytes()].concat()
}

/// Keys that a kept payload takes.
fn chunks(length: u64) -> u32 {
    let chunk = u64::try_from(CHUNK).unwrap_or(u64::MAX);
    u32::try_from(length.div_ceil(chunk)).unwrap_or(u32::MAX)
}

/// A signed checkpoint, in the form of one without cosignatures.
fn encode_signed(signed: &SignedCheckpoint) -> Vec<u8> {
    codec::encode_checkpoint(&CosignedCheckpoint { signed: *signed, cosignatures: Vec::new() })
}

fn decode_checkpoint(bytes: &[u8]) -> Result<CosignedCheckpoint, StoreError> {
    codec::decode_checkpoint(bytes).ok_or(StoreError::Malformed("a checkpoint"))
}
