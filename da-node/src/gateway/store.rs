//! What a gateway keeps on disk.
//!
//! | column | key | value |
//! |---|---|---|
//! | `gateway_state` | `owner`, `head` | whose log it is; the latest checkpoint that was signed |
//! | `gateway_state` | `closing`, then an epoch | the certified checkpoint over all entries up to the epoch's last |
//! | `gateway_headers` | blob id | header |
//! | `gateway_index` | blob id, then namespace, then whether a payload hash is bound | index of the latest such entry |
//! | `gateway_uploads` | blob id | expiry, length, addresses of the seats that lack the blob |
//! | `gateway_state` | `forgotten` | the latest deadline of a signed put that is not in `gateway_nonces` any more |
//! | `gateway_nonces` | deadline, signer, nonce | namespace under which a signed put was taken |
//! | `gateway_payloads` | blob id, number of the chunk | a chunk of a payload that is kept for `gateway_uploads` |
//!
//! beside the columns of [`LogStore`], whose latest checkpoint is the latest certified one. An entry, its tree nodes, its
//! header, its index, its payload and the signed checkpoint over it are one synced batch; a closing is synced before
//! anything of a later epoch is signed.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fail::fail_point;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, Domain, SignedCheckpoint};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::{Address, B256};
use meridian_proto::error::{ApiError, Reason};

use super::log::{Plan, Wanted};
use crate::store::log::{LogStore, codec};
use crate::store::{self, Batch, Db, Durability, Role};

mod nonces;
mod uploads;

use nonces::NONCES;
pub(super) use nonces::Used;
pub(super) use uploads::{Keep, Owed};
use uploads::{Kept, PAYLOADS, UPLOADS};

const STATE: &str = "gateway_state";
const HEADERS: &str = "gateway_headers";
const INDEX: &str = "gateway_index";

const OWNER: &[u8] = b"owner";
const HEAD: &[u8] = b"head";
const CLOSING: &[u8] = b"closing";
const FORGOTTEN: &[u8] = b"forgotten";

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

impl StoreError {
    /// Whether nothing was written because there is no room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Store(store::StoreError::Full { .. }))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Malformed(_) | StoreError::Store(store::StoreError::Damaged { .. }) => {
                Self::new(Reason::StoreDamaged, "a stored value is damaged")
            }
            StoreError::Store(error @ store::StoreError::Full { .. }) => error.into(),
            StoreError::Store(store::StoreError::Failed { .. } | store::StoreError::Poisoned) => {
                Self::new(Reason::StoreFailed, "the gateway's disk failed")
            }
            error => Self::internal(error.to_string()),
        }
    }
}

/// Where the log stands on disk.
pub(super) struct Loaded {
    pub(super) range: CompactRange,
    /// The last entry.
    pub(super) last: Option<LogEntry>,
    pub(super) head: Option<SignedCheckpoint>,
    pub(super) certified: Option<CosignedCheckpoint>,
    /// Ascending by epoch.
    pub(super) closings: Vec<CosignedCheckpoint>,
}

impl Loaded {
    /// Time of the last entry.
    pub(super) fn last_time(&self) -> u64 {
        self.last.map_or(0, |entry| entry.time)
    }

    /// Timestamp of the latest checkpoint that was signed.
    pub(super) fn last_timestamp(&self) -> u64 {
        self.head.map_or(0, |head| head.checkpoint.timestamp)
    }
}

/// A batch that was written.
pub(super) struct Appended {
    pub(super) range: CompactRange,
    /// Index of the first entry.
    pub(super) first: u64,
    pub(super) entries: Vec<LogEntry>,
    pub(super) signed: SignedCheckpoint,
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
        let columns = [STATE, HEADERS, INDEX, UPLOADS, PAYLOADS, NONCES];
        let columns: Vec<&'static str> = LogStore::COLUMNS.iter().chain(&columns).copied().collect();
        let db = Db::open(path, Role::Gateway, &columns)?;
        let log = LogStore::new(db.clone());
        let store = Self { db, log, gateway, pending: AtomicU64::new(0), uploads: Mutex::new(()) };
        store.claim()?;
        let loaded = store.load()?;
        let cosigned = loaded.certified.iter().chain(&loaded.closings).map(|cosigned| &cosigned.signed);
        for signed in loaded.head.iter().chain(cosigned) {
            let fits = signed.checkpoint.size <= loaded.range.size() && signed.verify(domain).is_ok();
            if !fits {
                return Err(StoreError::Malformed("a stored checkpoint"));
            }
        }
        store.pending.store(store.count_uploads()?, Ordering::Relaxed);
        Ok((store, loaded))
    }

    /// The database.
    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Where the log stands.
    pub(super) fn load(&self) -> Result<Loaded, StoreError> {
        let range = self.log.range(&self.gateway)?;
        let last = match range.size().checked_sub(1) {
            Some(last) => self.log.entry(&self.gateway, last)?,
            None => None,
        };
        let head = self.db.get(STATE, HEAD)?.map(|bytes| decode_checkpoint(&bytes)).transpose()?;
        let closings = self.closings()?;
        // A certified checkpoint is not synced, a closing is.
        let certified = self.log.checkpoint(&self.gateway)?;
        let certified = certified.into_iter().chain(closings.last().cloned());
        let certified = certified.max_by_key(|cosigned| {
            let Checkpoint { epoch, size, timestamp, .. } = cosigned.signed.checkpoint;
            (epoch, size, timestamp)
        });
        Ok(Loaded { range, last, head: head.map(|head| head.signed), certified, closings })
    }

    /// Keeps the certified checkpoint over all entries up to the last of its epoch; it is on disk when this returns.
    pub(super) fn close(&self, closing: &CosignedCheckpoint) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(STATE, closing_key(closing.signed.checkpoint.epoch), codec::encode_checkpoint(closing));
        self.log.set_checkpoint(&mut batch, closing);
        Ok(self.db.commit(batch, Durability::Synced)?)
    }

    /// The certified checkpoint that closed an epoch: over all entries of the log up to the epoch's last.
    ///
    /// None while the epoch is not closed, and for one in which nothing was appended. It has to be anchored before any
    /// checkpoint of a later epoch.
    pub(super) fn closing(&self, epoch: u64) -> Result<Option<CosignedCheckpoint>, StoreError> {
        self.db.get(STATE, &closing_key(epoch))?.map(|bytes| decode_checkpoint(&bytes)).transpose()
    }

    /// The closings of all epochs, ascending.
    pub(super) fn closings(&self) -> Result<Vec<CosignedCheckpoint>, StoreError> {
        let pairs = self.db.scan(STATE, CLOSING, &[], usize::MAX)?;
        pairs.iter().map(|(_, bytes)| decode_checkpoint(bytes)).collect()
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
        let (mut begun, mut records) = (HashSet::new(), 0);
        let epoch = plan.entries.first().map_or(0, |entry| entry.epoch);
        for (want, keep) in wanted.iter().zip(keeps) {
            let (Some(&expiry), false) = (longest.get(&want.id), begun.contains(&want.id)) else { continue };
            let kept = self.keep(&mut batch, want, epoch, expiry, keep)?;
            records += u64::from(kept == Kept::New);
            if kept != Kept::Not {
                begun.insert(want.id);
            }
        }
        let signed = sign(range);
        batch.put(STATE, HEAD, encode_signed(&signed));
        fail_point!("before-entries");
        self.db.commit(batch, Durability::Synced)?;
        fail_point!("entries-appended");
        self.pending.fetch_add(records, Ordering::Relaxed);
        Ok(signed)
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

    /// Entries of the log.
    pub(super) fn entries(&self, start: u64, count: u64) -> Result<Vec<LogEntry>, StoreError> {
        let end = start.saturating_add(count);
        let entry = |index| self.log.entry(&self.gateway, index)?.ok_or(StoreError::Malformed("an entry"));
        (start..end).map(entry).collect()
    }

    /// Epoch of the entry at an index; none where there is no entry.
    pub(super) fn epoch_at(&self, index: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.log.entry(&self.gateway, index)?.map(|entry| entry.epoch))
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
}

fn closing_key(epoch: u64) -> Vec<u8> {
    [CLOSING, &epoch.to_be_bytes()].concat()
}

fn namespace_key(id: BlobId, namespace: Namespace) -> Vec<u8> {
    [id.as_bytes().as_slice(), namespace.as_bytes()].concat()
}

fn bound_key(id: BlobId, namespace: Namespace, bound: bool) -> Vec<u8> {
    [id.as_bytes().as_slice(), namespace.as_bytes(), &[u8::from(bound)]].concat()
}

/// A signed checkpoint, in the form of one without cosignatures.
fn encode_signed(signed: &SignedCheckpoint) -> Vec<u8> {
    codec::encode_checkpoint(&CosignedCheckpoint { signed: *signed, cosignatures: Vec::new() })
}

fn decode_checkpoint(bytes: &[u8]) -> Result<CosignedCheckpoint, StoreError> {
    codec::decode_checkpoint(bytes).ok_or(StoreError::Malformed("a checkpoint"))
}
