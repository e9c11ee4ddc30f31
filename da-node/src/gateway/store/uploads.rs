//! Payloads that are kept for seats that lack them.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use meridian_proofs::Address;
use meridian_proofs::committee::Committee;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::BlobId;

use super::{Store, StoreError};
use crate::gateway::log::Wanted;
use crate::store::{Batch, Durability};

pub(super) const UPLOADS: &str = "gateway_uploads";
pub(super) const PAYLOADS: &str = "gateway_payloads";

/// Bytes of a kept payload under one key.
const CHUNK: usize = 1 << 20;

/// Records that are read at once.
const PAGE: usize = 256;

/// Bytes of an upload before its addresses: expiry, length.
const UPLOAD_LEN: usize = 16;

/// What is kept of a blob with its entry.
pub(in crate::gateway) struct Keep {
    /// Absent when it is kept already.
    pub(in crate::gateway) payload: Option<Bytes>,
    /// Who lacks the blob.
    pub(in crate::gateway) missing: Vec<Address>,
}

/// What a batch does for the seats that lack a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Nothing new.
    Not,
    /// A record.
    New,
    /// The seats of the record.
    Renewed,
}

/// A blob that a seat lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Owed {
    pub(in crate::gateway) id: BlobId,
    /// Of the blob's latest entry.
    pub(in crate::gateway) epoch: u64,
    pub(in crate::gateway) expiry: u64,
    pub(in crate::gateway) length: u64,
}

/// A record of `gateway_uploads`.
struct Upload {
    expiry: u64,
    length: u64,
    missing: Vec<Address>,
}

impl Store {
    pub(super) fn count_uploads(&self) -> Result<u64, StoreError> {
        let (mut count, mut from) = (0, Vec::new());
        loop {
            let page = self.db.scan(UPLOADS, &[], &from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            from = [last, [0u8].as_slice()].concat();
            count += u64::try_from(page.len()).unwrap_or(u64::MAX);
        }
    }

    /// Keeps the payload for the seats that lack the blob, until the expiry of its last entry.
    ///
    /// One record for a blob: a dispersal of a later epoch takes the place of an earlier one's, whose uploads are given
    /// up. Seats that stay have the same rows by the new one where their place is the same, and repair them where not.
    pub(super) fn keep(
        &self,
        batch: &mut Batch,
        want: &Wanted,
        epoch: u64,
        expiry: u64,
        keep: Option<Keep>,
    ) -> Result<Kept, StoreError> {
        let id = want.id;
        let fresh = keep.and_then(|keep| keep.payload.map(|payload| (payload, keep.missing)));
        if let Some(mut upload) = self.upload(id)? {
            upload.expiry = upload.expiry.max(expiry);
            let renewed = match fresh {
                Some((_, missing)) if self.epoch_of(id)? != epoch => {
                    upload.missing = missing;
                    Kept::Renewed
                }
                _ => Kept::Not,
            };
            self.put_upload(batch, id, &upload);
            return Ok(renewed);
        }
        let Some((payload, missing)) = fresh.filter(|(_, missing)| !missing.is_empty()) else {
            return Ok(Kept::Not);
        };
        let upload = Upload { expiry, length: want.header.length.get(), missing };
        batch.put(UPLOADS, *id.as_bytes(), upload.encode());
        for (start, number) in (0..payload.len()).step_by(CHUNK).zip(0u32..) {
            batch.put(
                PAYLOADS,
                chunk_key(id, number),
                payload.slice(start..payload.len().min(start + CHUNK)),
            );
        }
        Ok(Kept::New)
    }

    /// Notes that a seat has a blob, under an epoch, or is to get it no more; with the last seat the payload goes.
    pub(in crate::gateway) fn delivered(
        &self,
        id: BlobId,
        epoch: u64,
        seat: Address,
    ) -> Result<(), StoreError> {
        let _one = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut upload) = self.upload(id)? else { return Ok(()) };
        if self.epoch_of(id)? != epoch {
            return Ok(());
        }
        upload.missing.retain(|address| *address != seat);
        let mut batch = Batch::default();
        self.put_upload(&mut batch, id, &upload);
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Drops what is kept for seats that are no longer of the network. A removed seat serves what it has; what it lacks
    /// is with the others of its epoch, and it is not worth holding payloads and connections for it.
    pub(in crate::gateway) fn keep_only(&self, committee: &Committee) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let page = self.db.scan(UPLOADS, &[], &from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = [last, [0u8].as_slice()].concat();
            let _one = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            let mut batch = Batch::default();
            for (key, _) in &page {
                let id = blob_id(key)?;
                let Some(mut upload) = self.upload(id)? else { continue };
                let before = upload.missing.len();
                upload.missing.retain(|address| committee.seat(address).is_some());
                if upload.missing.len() < before {
                    self.put_upload(&mut batch, id, &upload);
                }
            }
            if !batch.is_empty() {
                self.db.commit(batch, Durability::Relaxed)?;
            }
        }
    }

    /// Drops what is kept of a blob whose last entry has expired, also one appended since somebody looked.
    pub(in crate::gateway) fn forget(&self, id: BlobId, now: u64) -> Result<(), StoreError> {
        let _one = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(upload) = self.upload(id)?.filter(|upload| upload.expiry <= now) else { return Ok(()) };
        let mut batch = Batch::default();
        self.drop_kept(&mut batch, id, upload.length);
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Writes a record, or with the last seat drops it and the payload.
    fn put_upload(&self, batch: &mut Batch, id: BlobId, upload: &Upload) {
        if upload.missing.is_empty() {
            self.drop_kept(batch, id, upload.length);
        } else {
            batch.put(UPLOADS, *id.as_bytes(), upload.encode());
        }
    }

    /// Epoch of a blob's latest entry, which is that of its dispersal and so of its record.
    fn epoch_of(&self, id: BlobId) -> Result<u64, StoreError> {
        let (_, entry) = self.latest(id, None)?.ok_or(StoreError::Malformed("an upload without an entry"))?;
        Ok(entry.epoch)
    }

    fn drop_kept(&self, batch: &mut Batch, id: BlobId, length: u64) {
        batch.delete(UPLOADS, *id.as_bytes());
        for number in 0..chunks(length) {
            batch.delete(PAYLOADS, chunk_key(id, number));
        }
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// The next blob after another, in the order of ids, that a seat lacks.
    pub(in crate::gateway) fn owed(
        &self,
        seat: Address,
        after: Option<BlobId>,
    ) -> Result<Option<Owed>, StoreError> {
        let mut from = after.map_or(Vec::new(), |id| [id.as_bytes(), [0u8].as_slice()].concat());
        loop {
            let page = self.db.scan(UPLOADS, &[], &from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(None) };
            from = [last, [0u8].as_slice()].concat();
            for (key, value) in &page {
                let id = blob_id(key)?;
                let upload = Upload::decode(value)?;
                if upload.missing.contains(&seat) {
                    return Ok(Some(Owed {
                        id,
                        epoch: self.epoch_of(id)?,
                        expiry: upload.expiry,
                        length: upload.length,
                    }));
                }
            }
        }
    }

    /// The header and the kept payload of a blob, if it is still kept.
    pub(in crate::gateway) fn kept(&self, id: BlobId) -> Result<Option<(BlobHeader, Bytes)>, StoreError> {
        let Some(header) = self.header(id)? else { return Ok(None) };
        let mut payload = BytesMut::with_capacity(header.length.to_usize());
        for number in 0..chunks(header.length.get()) {
            let Some(chunk) = self.db.get(PAYLOADS, &chunk_key(id, number))? else { return Ok(None) };
            payload.extend_from_slice(&chunk);
        }
        Ok(Some((header, payload.freeze())))
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

fn blob_id(key: &[u8]) -> Result<BlobId, StoreError> {
    let id: [u8; 32] = key.try_into().map_err(|_| StoreError::Malformed("an upload's key"))?;
    Ok(BlobId::from(id))
}

fn chunk_key(id: BlobId, number: u32) -> Vec<u8> {
    [id.as_bytes().as_slice(), &number.to_be_bytes()].concat()
}

/// Keys that a kept payload takes.
fn chunks(length: u64) -> u32 {
    let chunk = u64::try_from(CHUNK).unwrap_or(u64::MAX);
    u32::try_from(length.div_ceil(chunk)).unwrap_or(u32::MAX)
}
