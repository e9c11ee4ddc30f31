//! A replica whose proofs about logs lead elsewhere.

use meridian_proto::wire::{
    GetConsistencyProofRequest, GetConsistencyProofResponse, GetInclusionProofRequest,
    GetInclusionProofResponse,
};
use tonic::Status;

use super::wrong_proofs::WrongProofs;
use super::{ReplicaLie, Truth};

/// Spoils every inclusion and consistency proof in this way.
#[derive(Clone, Copy, Debug)]
pub struct WrongLogProofs(pub WrongProofs);

#[tonic::async_trait]
impl ReplicaLie for WrongLogProofs {
    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        let mut answer = truth.inclusion(request).await?;
        self.0.spoil(&mut answer.path);
        Ok(answer)
    }

    async fn consistency(
        &self,
        truth: &Truth,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        let mut answer = truth.consistency(request).await?;
        self.0.spoil(&mut answer.path);
        Ok(answer)
    }
}
