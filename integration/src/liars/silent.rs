//! A replica that takes every request and never answers.

use std::future::pending;

use meridian_proto::wire::{
    CosignRequest, CosignResponse, DisperseRequest, DisperseResponse, GetRowsRequest, GetSamplesRequest,
    GetSamplesResponse, LookupRequest, LookupResponse,
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
    /// Uploads and cosignatures: reads are served.
    Writes,
}

#[tonic::async_trait]
impl ReplicaLie for Silent {
    async fn disperse(
        &self,
        truth: &Truth,
        upload: Streaming<DisperseRequest>,
    ) -> Result<DisperseResponse, Status> {
        if *self == Self::Rows { truth.disperse(upload).await } else { pending().await }
    }

    async fn cosign(&self, truth: &Truth, request: CosignRequest) -> Result<CosignResponse, Status> {
        if *self == Self::Rows { truth.cosign(request).await } else { pending().await }
    }

    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        if *self == Self::Writes { Ok(super::parts(truth.rows(request).await?)) } else { pending().await }
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        if *self == Self::Writes { truth.samples(request).await } else { pending().await }
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        match self {
            Self::Everything => pending().await,
            Self::Rows => truth.lookup(LookupRequest { max_row_bytes: 0, ..request }).await,
            Self::Writes => truth.lookup(request).await,
        }
    }
}
