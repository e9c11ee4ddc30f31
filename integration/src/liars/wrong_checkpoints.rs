//! A replica that serves checkpoints that nobody signed.

use bytes::Bytes;
use meridian_proto::wire::{
    Checkpoint, CosignedCheckpoint, GetCheckpointRequest, ListLogsRequest, ListLogsResponse,
};
use tonic::Status;

use super::wrong_rows::flipped;
use super::{ReplicaLie, Truth};

/// What is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongCheckpoints {
    /// The root is another.
    Root,
    /// The log is longer than it is.
    Longer,
    /// They are of a gateway that does not exist.
    OtherGateway,
    /// The gateway's signature has another bit.
    Signature,
    /// Nobody's signatures stand among the cosignatures.
    Cosignatures,
}

impl WrongCheckpoints {
    fn spoil(self, cosigned: &mut CosignedCheckpoint) {
        let Some(signed) = &mut cosigned.signed else { return };
        let change = |checkpoint: &mut Checkpoint| match self {
            Self::Root => checkpoint.root = flipped(&checkpoint.root),
            Self::Longer => checkpoint.size += 1,
            Self::OtherGateway => checkpoint.gateway = flipped(&checkpoint.gateway),
            Self::Signature | Self::Cosignatures => {}
        };
        signed.checkpoint.iter_mut().for_each(change);
        match self {
            Self::Signature => {
                // A bit of r: the rest still looks like a signature.
                let mut signature = signed.signature.to_vec();
                if let Some(byte) = signature.get_mut(31) {
                    *byte ^= 1;
                }
                signed.signature = signature.into();
            }
            Self::Cosignatures => {
                for cosignature in &mut cosigned.cosignatures {
                    let mut other = cosignature.to_vec();
                    if let Some(byte) = other.get_mut(31) {
                        *byte ^= 1;
                    }
                    *cosignature = Bytes::from(other);
                }
            }
            Self::Root | Self::Longer | Self::OtherGateway => {}
        }
    }
}

#[tonic::async_trait]
impl ReplicaLie for WrongCheckpoints {
    async fn logs(&self, truth: &Truth, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        let mut answer = truth.logs(request).await?;
        answer.checkpoints.iter_mut().for_each(|cosigned| self.spoil(cosigned));
        Ok(answer)
    }

    async fn checkpoint(
        &self,
        truth: &Truth,
        request: GetCheckpointRequest,
    ) -> Result<CosignedCheckpoint, Status> {
        let mut answer = truth.checkpoint(request).await?;
        self.spoil(&mut answer);
        Ok(answer)
    }
}
