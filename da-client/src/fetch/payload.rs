//! Reads whole payloads.

use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::committee::RegionId;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::keccak256;
use meridian_proofs::placement;
use meridian_proofs::reconstruct::{DecodeError, Rebuilt};

use super::{Fault, Found, ReadError, Reader};
use crate::Progress;

/// Bytes a second that decoding takes at least: what a region without the data rows is behind by.
const DECODE_RATE: u64 = 300 << 20;

/// A payload that was read and checked.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The blob.
    pub id: BlobId,
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
    /// row is checked; of any K verified rows the same payload comes out.
    ///
    /// # Errors
    /// See [`ReadError`]. Nothing is returned unless all of it is right.
    pub async fn payload(&self, id: BlobId, progress: &dyn Progress) -> Result<Fetched, ReadError> {
        let found = self.find(id).await?;
        self.read(found, progress).await
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
        let mut last = None;
        let ids = self.resolve(hash).await?;
        for id in ids {
            match self.payload(id, progress).await {
                Ok(fetched) => {
                    let payload = fetched.payload.clone();
                    if self.compute(move || keccak256(&payload)).await? == hash.0 {
                        return Ok(fetched);
                    }
                    tracing::warn!(%id, %hash, "a replica named a blob of another payload hash");
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(ReadError::Unreachable { faults: Vec::new() }))
    }

    async fn read(&self, found: Found, progress: &dyn Progress) -> Result<Fetched, ReadError> {
        let Found { context, suspect, mut faults, .. } = found;
        let (id, shape, length) = (context.id(), context.shape(), context.header().length.get());
        progress.start(length);
        let decode = Duration::from_micros(length.saturating_mul(1_000_000) / DECODE_RATE);
        let order = self.nearest.regions(&self.committee, |region| {
            if placement::is_data_region(&self.committee, region, &id, shape) {
                Duration::ZERO
            } else {
                decode
            }
        });
        let row_bytes = u64::try_from(shape.row_bytes()).unwrap_or(u64::MAX);
        let gathered = self
            .gather_in(&context, &order, None, false, &|rows| {
                progress.advance(u64::try_from(rows).unwrap_or(0).saturating_mul(row_bytes));
            })
            .await?;
        faults.extend(gathered.faults);
        let rows = gathered.rows;
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
        progress.finish();
        Ok(Fetched { id, payload, regions: gathered.regions, faults })
    }
}
