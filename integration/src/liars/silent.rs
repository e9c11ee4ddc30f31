//! A replica that takes every request and never answers.

use std::future::pending;

use meridian_proto::wire::{
    CosignRequest, CosignResponse, CosignedCheckpoint, DisperseRequest, DisperseResponse,
    GetCheckpointRequest, GetConsistencyProofRequest, GetConsistencyProofResponse, GetEntriesRequest,
    GetEntriesResponse, GetInclusionProofRequest, GetInclusionProofResponse, GetRowsRequest,
    GetSamplesRequest, GetSamplesResponse, ListLogsRequest, ListLogsResponse, LookupRequest, LookupResponse,
};
use tonic::{Status, Streaming};

use super::{ReplicaLie, RowParts, Truth};

/// What is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// Nothing at all.
    Everything,
    /// Rows and samples: headers are served without any.
    Rows,
    /// Logs.
    Logs,
    /// Uploads and cosignatures: reads are served.
    Writes,
}

impl Silent {
    /// The answer about a log, or none.
    async fn of_log<T>(self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        if matches!(self, Self::Everything | Self::Logs) { pending().await } else { answer.await }
    }
}

#[tonic::async_trait]
impl ReplicaLie for Silent {
    async fn disperse(
        &self,
        truth: &Truth,
        upload: Streaming<DisperseRequest>,
    ) -> Result<DisperseResponse, Status> {
        if matches!(self, Self::Rows | Self::Logs) { truth.disperse(upload).await } else { pending().await }
    }

    async fn cosign(&self, truth: &Truth, request: CosignRequest) -> Result<CosignResponse, Status> {
        if matches!(self, Self::Rows | Self::Logs) { truth.cosign(request).await } else { pending().await }
    }

    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        if matches!(self, Self::Writes | Self::Logs) {
            Ok(super::parts(truth.rows(request).await?))
        } else {
            pending().await
        }
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        if matches!(self, Self::Writes | Self::Logs) { truth.samples(request).await } else { pending().await }
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        match self {
            Self::Everything => pending().await,
            Self::Rows => truth.lookup(LookupRequest { max_row_bytes: 0, ..request }).await,
            Self::Writes | Self::Logs => truth.lookup(request).await,
        }
    }

    async fn logs(&self, truth: &Truth, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        self.of_log(truth.logs(request)).await
    }

    async fn checkpoint(
        &self,
        truth: &Truth,
        request: GetCheckpointRequest,
    ) -> Result<CosignedCheckpoint, Status> {
        self.of_log(truth.checkpoint(request)).await
    }

    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        self.of_log(truth.entries(request)).await
    }

    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        self.of_log(truth.inclusion(request)).await
    }

    async fn consistency(
        &self,
        truth: &Truth,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        self.of_log(truth.consistency(request)).await
    }
}
