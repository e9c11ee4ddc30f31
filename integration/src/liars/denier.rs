//! A replica that takes and signs everything, and answers no reader.

use meridian_proto::error::EXPIRY;
use meridian_proto::wire::{
    CosignedCheckpoint, GetCheckpointRequest, GetConsistencyProofRequest, GetConsistencyProofResponse,
    GetEntriesRequest, GetEntriesResponse, GetInclusionProofRequest, GetInclusionProofResponse,
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, ListLogsRequest, ListLogsResponse, LookupRequest,
    LookupResponse,
};
use meridian_proto::{ApiError, Reason};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth};

/// What it says instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denier {
    /// There is no such thing.
    Unknown,
    /// It expired long ago.
    Expired,
    /// Too much is going on, for ever.
    Overloaded,
    /// A status that no program of the network has.
    Nonsense,
}

impl Denier {
    fn no<T>(self, unknown: Reason) -> Result<T, Status> {
        Err(match self {
            Self::Unknown => ApiError::new(unknown, "there is none").into(),
            Self::Expired => ApiError::new(Reason::BlobExpired, "it expired").with(EXPIRY, 1).into(),
            Self::Overloaded => ApiError::new(Reason::TooManyRequests, "busy").into(),
            Self::Nonsense => Status::data_loss("\u{1f525}".repeat(1_000)),
        })
    }
}

#[tonic::async_trait]
impl ReplicaLie for Denier {
    async fn rows(&self, _: &Truth, _: GetRowsRequest) -> Result<RowParts, Status> {
        self.no(Reason::BlobUnknown)
    }

    async fn samples(&self, _: &Truth, _: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        self.no(Reason::BlobUnknown)
    }

    async fn lookup(&self, _: &Truth, _: LookupRequest) -> Result<LookupResponse, Status> {
        self.no(Reason::BlobUnknown)
    }

    async fn logs(&self, _: &Truth, _: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        self.no(Reason::LogUnknown)
    }

    async fn checkpoint(&self, _: &Truth, _: GetCheckpointRequest) -> Result<CosignedCheckpoint, Status> {
        self.no(Reason::LogUnknown)
    }

    async fn entries(&self, _: &Truth, _: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        self.no(Reason::LogUnknown)
    }

    async fn inclusion(
        &self,
        _: &Truth,
        _: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        self.no(Reason::LogUnknown)
    }

    async fn consistency(
        &self,
        _: &Truth,
        _: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        self.no(Reason::LogUnknown)
    }
}
