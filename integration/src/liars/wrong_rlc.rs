//! A replica whose headers come with an RLC vector that is not theirs.

use meridian_proto::wire::{LookupRequest, LookupResponse};
use tonic::Status;

use super::wrong_rows::flipped;
use super::{ReplicaLie, Truth};

/// Flips a bit in the last value of every RLC vector.
#[derive(Clone, Copy, Debug)]
pub struct WrongRlc;

#[tonic::async_trait]
impl ReplicaLie for WrongRlc {
    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        for candidate in &mut answer.candidates {
            candidate.rlc = flipped(&candidate.rlc);
        }
        Ok(answer)
    }
}
