//! A replica that serves right rows with right proofs in the place of others.

use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// Serves the row before the one that was asked for, and its neighbour for a sample.
#[derive(Clone, Copy, Debug)]
pub struct Misplaced;

#[tonic::async_trait]
impl ReplicaLie for Misplaced {
    async fn rows(&self, truth: &Truth, mut request: GetRowsRequest) -> Result<RowParts, Status> {
        request.start = request.start.saturating_sub(1);
        // One of them it does not hold.
        request.held_only = false;
        Ok(parts(truth.rows(request).await?))
    }

    async fn samples(
        &self,
        truth: &Truth,
        mut request: GetSamplesRequest,
    ) -> Result<GetSamplesResponse, Status> {
        let asked = request.indices.clone();
        request.indices.iter_mut().for_each(|index| *index ^= 1);
        let mut answer = truth.samples(request).await?;
        for (sample, index) in answer.samples.iter_mut().zip(asked) {
            sample.index = index;
        }
        Ok(answer)
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        for held in answer.candidates.iter_mut().flat_map(|candidate| &mut candidate.rows) {
            held.start = held.start.saturating_add(1);
        }
        Ok(answer)
    }
}
