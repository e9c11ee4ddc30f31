//! A replica that claims to have stored what it threw away, and cosigns all the same.

use futures::StreamExt;
use meridian_proofs::checkpoint::SignedCheckpoint;
use meridian_proto::wire::cosign_response::Answer;
use meridian_proto::wire::disperse_response::Outcome;
use meridian_proto::wire::{
    CosignRequest, CosignResponse, DisperseRequest, DisperseResponse, GetRowsRequest, GetSamplesRequest,
    GetSamplesResponse, LookupRequest, LookupResponse,
};
use meridian_proto::{ApiError, Reason};
use tonic::{Status, Streaming};

use super::{ReplicaLie, RowParts, Truth};
use crate::keys;

/// Claims and cosigns with the key of its seat, and has nothing.
#[derive(Clone, Debug)]
pub struct EmptyClaims {
    /// Seed of the seat's key, see [`keys::secret`].
    pub key: String,
    /// Says that it holds the rows already, before the first of them is sent.
    pub held: bool,
}

fn nothing_here() -> Status {
    ApiError::new(Reason::BlobUnknown, "no such blob").into()
}

#[tonic::async_trait]
impl ReplicaLie for EmptyClaims {
    async fn disperse(
        &self,
        _: &Truth,
        mut upload: Streaming<DisperseRequest>,
    ) -> Result<DisperseResponse, Status> {
        if self.held {
            return Ok(DisperseResponse { outcome: Outcome::Held.into() });
        }
        while upload.next().await.is_some_and(|part| part.is_ok()) {}
        Ok(DisperseResponse { outcome: Outcome::Stored.into() })
    }

    async fn cosign(&self, truth: &Truth, request: CosignRequest) -> Result<CosignResponse, Status> {
        let signed = SignedCheckpoint::try_from(request.signed.unwrap_or_default())?;
        let key = keys::secret(&self.key).map_err(|_| Status::internal("no key"))?;
        let signature = key.sign(&signed.checkpoint.digest(&truth.domain));
        let answer = Some(Answer::Cosignature(signature.as_bytes().to_vec().into()));
        Ok(CosignResponse { answer })
    }

    async fn rows(&self, _: &Truth, _: GetRowsRequest) -> Result<RowParts, Status> {
        Err(nothing_here())
    }

    async fn samples(&self, _: &Truth, _: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        Err(nothing_here())
    }

    async fn lookup(&self, _: &Truth, _: LookupRequest) -> Result<LookupResponse, Status> {
        Err(nothing_here())
    }
}
