//! A replica that tells the truth until it is told to lie.

use std::sync::atomic::{AtomicBool, Ordering};

use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// Tells one kind of lie about blobs, while it lies.
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
}
