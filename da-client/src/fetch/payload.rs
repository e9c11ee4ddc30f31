//! Reads whole payloads.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use meridian_proofs::committee::RegionId;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::kzg::{KzgBinding, KzgError};
use meridian_proofs::placement;
use meridian_proofs::reconstruct::{DecodeError, Rebuilt};
use meridian_proofs::row_proof::VerifiedRange;
use meridian_proofs::{B256, keccak256};

use super::gather::{Gathered, Manner};
use super::in_order::InOrder;
use super::{Fault, Found, ReadError, Reader, gather};
use crate::{Progress, Silent, kzg};

/// Bytes a second that decoding takes at least: what a region without the data rows is behind by.
const DECODE_RATE: u64 = 300 << 20;

/// Blobs that are tried at a time for one payload hash.
const ALIASES_AT_ONCE: usize = 4;

/// A payload that was read and checked.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The blob.
    pub id: BlobId,
    /// Its header.
    pub header: BlobHeader,
    /// The payload's KZG commitments, which are those that the header names. Absent when it names none, and when the
    /// reader ignores them.
    pub binding: Option<KzgBinding>,
    /// Its payload.
    pub payload: Bytes,
    /// The regions that gave rows, the one that gave most first.
    pub regions: Vec<RegionId>,
    /// What went wrong on the way.
    pub faults: Vec<Fault>,
}

impl Reader {
    /// The payload of a blob.
    ///
    /// Reads from the region that is expected to finish first, and from the next ones what it does not give. Every
    /// row is checked; of any K verified rows the same payload comes out. Of a blob with a KZG root the commitments are
    /// made again and compared, which takes some 80 ms of a core for each 124 KiB.
    ///
    /// # Errors
    /// See [`ReadError`]. Nothing is returned unless all of it is right.
    pub async fn payload(&self, id: BlobId, progress: &dyn Progress) -> Result<Fetched, ReadError> {
        let found = self.open(id).await?;
        self.read(found, progress).await
    }

    /// The payloads of blobs, in the order of the ids, so many at once at most. Blobs share connections; to drop the stream
    /// stops the work.
    pub fn payloads(
        &self,
        ids: impl IntoIterator<Item = BlobId>,
        at_once: usize,
    ) -> impl Stream<Item = (BlobId, Result<Fetched, ReadError>)> {
        let reads = ids.into_iter().map(move |id| async move { (id, self.payload(id, &Silent).await) });
        stream::iter(reads).buffered(at_once.max(1))
    }

    /// The payload with a hash, for blobs that were put with a payload hash.
    ///
    /// # Errors
    /// See [`ReadError`]. A blob that is named for the hash and does not have it is passed over.
    pub async fn payload_by_hash(
        &self,
        hash: PayloadHash,
        progress: &dyn Progress,
    ) -> Result<Fetched, ReadError> {
        let ids = self.resolve(hash).await?;
        self.payload_among(&ids, hash, u64::MAX, progress).await
    }

    /// The payload with a hash, of one of these blobs. Blobs longer than `longest` bytes are passed over, too.
    pub(crate) async fn payload_among(
        &self,
        ids: &[BlobId],
        hash: PayloadHash,
        longest: u64,
        progress: &dyn Progress,
    ) -> Result<Fetched, ReadError> {
        let mut worst: Option<ReadError> = None;
        let read =
            |id: BlobId| async move { (id, self.payload_with_hash(id, hash, longest, progress).await) };
        // Together, so that one which somebody made up and does not give out keeps nobody from the others.
        let mut reads = stream::iter(ids.iter().copied()).map(read).buffer_unordered(ALIASES_AT_ONCE);
        while let Some((id, read)) = reads.next().await {
            match read {
                Ok(Some(fetched)) => return Ok(fetched),
                Ok(None) => tracing::warn!(%id, %hash, "a replica named a blob that it cannot be"),
                // What cannot be had now may be the blob that was asked for, whatever is certain of the others.
                Err(error) if worst.as_ref().is_some_and(ReadError::is_passing) => drop(error),
                Err(error) => worst = Some(error),
            }
        }
        Err(worst.unwrap_or(ReadError::Unreachable { faults: Vec::new() }))
    }

    /// The payload of a blob if it has this hash, which is looked at before KZG commitments are made.
    async fn payload_with_hash(
        &self,
        id: BlobId,
        hash: PayloadHash,
        longest: u64,
        progress: &dyn Progress,
    ) -> Result<Option<Fetched>, ReadError> {
        let found = self.open(id).await?;
        if found.context.header().length.get() > longest {
            return Ok(None);
        }
        let fetched = self.read_unbound(found, None, progress).await?;
        let payload = fetched.payload.clone();
        if self.compute(move || keccak256(&payload)).await? != hash.0 {
            return Ok(None);
        }
        self.bind(fetched, progress).await.map(Some)
    }

    /// Reads what was found.
    pub(crate) async fn read(&self, found: Found, progress: &dyn Progress) -> Result<Fetched, ReadError> {
        let fetched = self.read_unbound(found, None, progress).await?;
        self.bind(fetched, progress).await
    }

    /// Reads what was found, and leaves its KZG binding to [`Self::bind`]. `rows` is given the data rows as they come.
    pub(super) async fn read_unbound(
        &self,
        found: Found,
        rows: Option<&InOrder>,
        progress: &dyn Progress,
    ) -> Result<Fetched, ReadError> {
        let Found { context, suspect, faults, rows: begun, .. } = found;
        let (id, header, shape) = (context.id(), *context.header(), context.shape());
        let length = header.length.get();
        progress.start(length);
        let decode = Duration::from_micros(length.saturating_mul(1_000_000) / DECODE_RATE);
        self.probe(&context);
        let order = self.nearest.regions(&self.committee, gather::bytes(shape, shape.data()), |region| {
            if placement::is_data_region(&self.committee, region, &id, shape) {
                Duration::ZERO
            } else {
                decode
            }
        });
        let row_bytes = u64::try_from(shape.row_bytes()).unwrap_or(u64::MAX);
        let verified = |verified: &VerifiedRange, fresh| {
            progress.advance(u64::try_from(fresh).unwrap_or(0).saturating_mul(row_bytes));
            if let Some(rows) = rows {
                rows.add(verified);
            }
        };
        let manner =
            Manner { hurries: true, in_order: rows.is_some(), begun, faults, verified: Some(&verified) };
        let Gathered { rows, regions, faults } = self.gather_in(&context, &order, false, manner).await?;
        let payload = self
            .compute(move || {
                // A replica's word is not enough to give up a blob, and enough to look closer.
                if suspect && matches!(rows.rebuild(), Ok(Rebuilt::Inconsistent)) {
                    return Err(ReadError::Inconsistent);
                }
                rows.payload().map_err(|error| match error {
                    DecodeError::Malformed => ReadError::Malformed,
                    other => ReadError::Internal(other.to_string()),
                })
            })
            .await??;
        Ok(Fetched { id, header, binding: None, payload, regions, faults })
    }

    /// Adds the KZG binding to what was read, if it has one.
    pub(super) async fn bind(&self, fetched: Fetched, progress: &dyn Progress) -> Result<Fetched, ReadError> {
        let binding = self.check_binding(&fetched.header, &fetched.payload, progress).await?;
        progress.finish();
        Ok(Fetched { binding, ..fetched })
    }

    /// Makes the KZG commitments that a header names again.
    async fn check_binding(
        &self,
        header: &BlobHeader,
        payload: &Bytes,
        progress: &dyn Progress,
    ) -> Result<Option<KzgBinding>, ReadError> {
        if self.ignores_kzg || header.kzg_root == B256::ZERO {
            return Ok(None);
        }
        let internal = |error: KzgError| ReadError::Internal(error.to_string());
        let binding = kzg::commit(payload.clone(), progress).await.map_err(internal)?;
        let (computed, stated) = (binding.root(), header.kzg_root);
        if computed == stated { Ok(Some(binding)) } else { Err(ReadError::KzgMismatch { computed, stated }) }
    }
}
