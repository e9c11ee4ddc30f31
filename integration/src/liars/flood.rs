//! A replica that sends more than was asked for.

use bytes::Bytes;
use futures::StreamExt;
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::{
    CosignedCheckpoint, GetCheckpointRequest, GetConsistencyProofRequest, GetConsistencyProofResponse,
    GetEntriesRequest, GetEntriesResponse, GetInclusionProofRequest, GetInclusionProofResponse,
    GetRowsRequest, GetRowsResponse, GetSamplesRequest, GetSamplesResponse, ListLogsRequest,
    ListLogsResponse, LookupRequest, LookupResponse, Sample,
};
use meridian_proto::{MAX_CHUNK, MAX_MESSAGE};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// How much more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// One byte after the last row, one sample, one candidate too many, one byte more than a lookup may bring.
    OneMore,
    /// Rows without end, messages over the limit.
    Endless,
}

impl Flood {
    /// Lets a list be longer than it is.
    fn lengthen<T: Clone>(self, list: &mut Vec<T>) {
        if let Some(last) = list.last().cloned() {
            let copies = if self == Self::OneMore { 1 } else { 100_000 };
            list.extend(std::iter::repeat_n(last, copies));
        }
    }
}

fn rows(bytes: Bytes) -> GetRowsResponse {
    GetRowsResponse { part: Some(Part::Rows(bytes)) }
}

#[tonic::async_trait]
impl ReplicaLie for Flood {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        let mut answer = truth.rows(request).await?;
        if *self == Self::OneMore {
            answer.push(rows(Bytes::from_static(&[0])));
            return Ok(parts(answer));
        }
        let chunk = Bytes::from(vec![0; MAX_CHUNK]);
        Ok(parts(answer).chain(futures::stream::repeat_with(move || Ok(rows(chunk.clone())))).boxed())
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        let mut answer = truth.samples(request).await?;
        let row = if *self == Self::OneMore { 64 } else { MAX_MESSAGE + 1 };
        answer.samples.push(Sample { index: 0, row: vec![0; row].into(), path: Vec::new() });
        Ok(answer)
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        for held in answer.candidates.iter_mut().flat_map(|candidate| &mut candidate.rows) {
            held.rows = [held.rows.as_ref(), &[0]].concat().into();
        }
        self.lengthen(&mut answer.candidates);
        Ok(answer)
    }

    async fn logs(&self, truth: &Truth, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        let mut answer = truth.logs(request).await?;
        self.lengthen(&mut answer.checkpoints);
        Ok(answer)
    }

    async fn checkpoint(
        &self,
        truth: &Truth,
        request: GetCheckpointRequest,
    ) -> Result<CosignedCheckpoint, Status> {
        let mut answer = truth.checkpoint(request).await?;
        self.lengthen(&mut answer.cosignatures);
        Ok(answer)
    }

    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        let mut answer = truth.entries(request).await?;
        self.lengthen(&mut answer.items);
        Ok(answer)
    }

    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        let mut answer = truth.inclusion(request).await?;
        self.lengthen(&mut answer.path);
        Ok(answer)
    }

    async fn consistency(
        &self,
        truth: &Truth,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        let mut answer = truth.consistency(request).await?;
        self.lengthen(&mut answer.path);
        Ok(answer)
    }
}
