//! A replica whose answers have fields of a wrong length.

use bytes::Bytes;
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
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
}
