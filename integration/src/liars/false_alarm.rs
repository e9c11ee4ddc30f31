//! A replica that says of good blobs that they are not codewords.

use meridian_proto::wire::{LookupRequest, LookupResponse};
use tonic::Status;

use super::{ReplicaLie, Truth};

/// Everything else that it says is right.
#[derive(Clone, Copy, Debug)]
pub struct FalseAlarm;

#[tonic::async_trait]
impl ReplicaLie for FalseAlarm {
    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        answer.candidates.iter_mut().for_each(|candidate| candidate.inconsistent = true);
        Ok(answer)
    }
}
