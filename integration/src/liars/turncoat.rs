//! A replica that tells the truth until it is told to lie.

use std::sync::atomic::{AtomicBool, Ordering};

use meridian_proto::wire::{
    CosignedCheckpoint, GetCheckpointRequest, GetConsistencyProofRequest, GetConsistencyProofResponse,
    GetEntriesRequest, GetEntriesResponse, GetInclusionProofRequest, GetInclusionProofResponse,
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, ListLogsRequest, ListLogsResponse, LookupRequest,
    LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// Tells one kind of lie to readers, while it lies.
#[derive(Debug, Default)]
pub struct Turncoat<L> {
    lie: L,
    lies: AtomicBool,
}

impl<L> Turncoat<L> {
    /// Tells the truth at first.
    pub fn new(lie: L) -> Self {
        Self { lie, lies: AtomicBool::new(false) }
    }

    /// From now on lies, or tells the truth.
    pub fn turn(&self, lies: bool) {
        self.lies.store(lies, Ordering::Relaxed);
    }

    fn lies(&self) -> bool {
        self.lies.load(Ordering::Relaxed)
    }
}

#[tonic::async_trait]
impl<L: ReplicaLie> ReplicaLie for Turncoat<L> {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        if self.lies() { self.lie.rows(truth, request).await } else { Ok(parts(truth.rows(request).await?)) }
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        if self.lies() { self.lie.samples(truth, request).await } else { truth.samples(request).await }
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        if self.lies() { self.lie.lookup(truth, request).await } else { truth.lookup(request).await }
    }

    async fn logs(&self, truth: &Truth, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        if self.lies() { self.lie.logs(truth, request).await } else { truth.logs(request).await }
    }

    async fn checkpoint(
        &self,
        truth: &Truth,
        request: GetCheckpointRequest,
    ) -> Result<CosignedCheckpoint, Status> {
        if self.lies() { self.lie.checkpoint(truth, request).await } else { truth.checkpoint(request).await }
    }

    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        if self.lies() { self.lie.entries(truth, request).await } else { truth.entries(request).await }
    }

    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        if self.lies() { self.lie.inclusion(truth, request).await } else { truth.inclusion(request).await }
    }

    async fn consistency(
        &self,
        truth: &Truth,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        if self.lies() {
            self.lie.consistency(truth, request).await
        } else {
            truth.consistency(request).await
        }
    }
}
