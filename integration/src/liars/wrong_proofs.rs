//! A replica that serves right rows with proofs that lead elsewhere.

use bytes::Bytes;
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::wrong_rows::flipped;
use super::{ReplicaLie, RowParts, Truth, parts};

/// What is wrong with each proof.
#[derive(Clone, Copy, Debug)]
pub enum WrongProofs {
    /// One bit of the last hash.
    Flipped,
    /// The last hash is missing.
    Short,
    /// One hash too many.
    Long,
    /// The hashes in another order.
    Reversed,
}

impl WrongProofs {
    pub(super) fn spoil(self, proof: &mut Vec<Bytes>) {
        match self {
            Self::Flipped => {
                if let Some(last) = proof.last_mut() {
                    *last = flipped(last);
                }
            }
            Self::Short => drop(proof.pop()),
            Self::Long => proof.push(Bytes::from_static(&[7; 32])),
            Self::Reversed => proof.reverse(),
        }
    }
}

#[tonic::async_trait]
impl ReplicaLie for WrongProofs {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        let mut answer = truth.rows(request).await?;
        for part in &mut answer {
            if let Some(Part::Proof(proof)) = &mut part.part {
                self.spoil(&mut proof.siblings);
            }
        }
        Ok(parts(answer))
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        let mut answer = truth.samples(request).await?;
        for sample in &mut answer.samples {
            self.spoil(&mut sample.path);
        }
        Ok(answer)
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        for held in answer.candidates.iter_mut().flat_map(|candidate| &mut candidate.rows) {
            self.spoil(&mut held.proof);
        }
        Ok(answer)
    }
}
