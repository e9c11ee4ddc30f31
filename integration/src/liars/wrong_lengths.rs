//! A replica whose answers have fields of a wrong length.

use bytes::Bytes;
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::log_item::Item;
use meridian_proto::wire::{
    CosignedCheckpoint, GetCheckpointRequest, GetConsistencyProofRequest, GetConsistencyProofResponse,
    GetEntriesRequest, GetEntriesResponse, GetInclusionProofRequest, GetInclusionProofResponse,
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, ListLogsRequest, ListLogsResponse, LogItem,
    LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// Whether fields are a byte too long, or a byte too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongLengths {
    /// One byte too long.
    Long,
    /// One byte too short.
    Short,
    /// Not there at all.
    Absent,
}

impl WrongLengths {
    fn spoil(self, field: &mut Bytes) {
        match self {
            Self::Long => *field = [field.as_ref(), &[0]].concat().into(),
            Self::Short => *field = field.slice(..field.len().saturating_sub(1)),
            Self::Absent => field.clear(),
        }
    }

    fn spoil_item(self, item: &mut LogItem) {
        match &mut item.item {
            Some(Item::Entry(entry)) => self.spoil(&mut entry.blob_id),
            Some(Item::Leaf(leaf)) => self.spoil(leaf),
            None => {}
        }
        if self == Self::Absent {
            item.item = None;
        }
    }

    fn spoil_checkpoint(self, cosigned: &mut CosignedCheckpoint) {
        if let Some(signed) = &mut cosigned.signed {
            self.spoil(&mut signed.signature);
        }
        if self == Self::Absent {
            cosigned.signed = None;
        }
    }
}

#[tonic::async_trait]
impl ReplicaLie for WrongLengths {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        let mut answer = truth.rows(request).await?;
        for part in &mut answer {
            match &mut part.part {
                Some(Part::Proof(proof)) => proof.siblings.iter_mut().for_each(|hash| self.spoil(hash)),
                Some(Part::Rows(rows)) => self.spoil(rows),
                None => {}
            }
            if *self == Self::Absent {
                part.part = None;
            }
        }
        Ok(parts(answer))
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        let mut answer = truth.samples(request).await?;
        for sample in &mut answer.samples {
            self.spoil(&mut sample.row);
            sample.path.iter_mut().for_each(|hash| self.spoil(hash));
        }
        Ok(answer)
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        for candidate in &mut answer.candidates {
            self.spoil(&mut candidate.rlc);
            for held in &mut candidate.rows {
                self.spoil(&mut held.rows);
                held.proof.iter_mut().for_each(|hash| self.spoil(hash));
            }
            if *self == Self::Absent {
                candidate.header = None;
            }
        }
        Ok(answer)
    }

    async fn logs(&self, truth: &Truth, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        let mut answer = truth.logs(request).await?;
        answer.checkpoints.iter_mut().for_each(|cosigned| self.spoil_checkpoint(cosigned));
        Ok(answer)
    }

    async fn checkpoint(
        &self,
        truth: &Truth,
        request: GetCheckpointRequest,
    ) -> Result<CosignedCheckpoint, Status> {
        let mut answer = truth.checkpoint(request).await?;
        self.spoil_checkpoint(&mut answer);
        Ok(answer)
    }

    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        let mut answer = truth.entries(request).await?;
        answer.items.iter_mut().for_each(|item| self.spoil_item(item));
        Ok(answer)
    }

    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        let mut answer = truth.inclusion(request).await?;
        answer.path.iter_mut().for_each(|hash| self.spoil(hash));
        answer.item.iter_mut().for_each(|item| self.spoil_item(item));
        Ok(answer)
    }

    async fn consistency(
        &self,
        truth: &Truth,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        let mut answer = truth.consistency(request).await?;
        answer.path.iter_mut().for_each(|hash| self.spoil(hash));
        Ok(answer)
    }
}
