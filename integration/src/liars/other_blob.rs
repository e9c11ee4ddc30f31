//! A replica that answers every question with another blob, which is right in itself.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use meridian_proto::wire::lookup_request::Key;
use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// Serves the rows, and where `headers` is set also the header and RLC vector, of a blob of its choice.
#[derive(Debug, Default)]
pub struct OtherBlob {
    chosen: Mutex<Option<Bytes>>,
    headers: bool,
}

impl OtherBlob {
    /// Tells the truth until a blob is [chosen](Self::choose).
    #[must_use]
    pub fn new(headers: bool) -> Self {
        Self { chosen: Mutex::default(), headers }
    }

    /// From now on answers with this blob.
    pub fn choose(&self, blob_id: &[u8]) {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Bytes::copy_from_slice(blob_id));
    }

    fn instead_of(&self, blob_id: Bytes) -> Bytes {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(blob_id)
    }
}

#[tonic::async_trait]
impl ReplicaLie for OtherBlob {
    async fn rows(&self, truth: &Truth, mut request: GetRowsRequest) -> Result<RowParts, Status> {
        request.blob_id = self.instead_of(request.blob_id);
        Ok(parts(truth.rows(request).await?))
    }

    async fn samples(
        &self,
        truth: &Truth,
        mut request: GetSamplesRequest,
    ) -> Result<GetSamplesResponse, Status> {
        request.blob_id = self.instead_of(request.blob_id);
        truth.samples(request).await
    }

    async fn lookup(&self, truth: &Truth, mut request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer =
            if self.headers { LookupResponse::default() } else { truth.lookup(request.clone()).await? };
        if let Some(Key::BlobId(id)) = &mut request.key {
            *id = self.instead_of(id.clone());
        }
        let other = truth.lookup(request).await?;
        if self.headers {
            return Ok(other);
        }
        for (candidate, other) in answer.candidates.iter_mut().zip(other.candidates) {
            candidate.rows = other.rows;
        }
        Ok(answer)
    }
}
