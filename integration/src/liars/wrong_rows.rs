//! A replica that serves rows with one bit flipped.

use bytes::Bytes;
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::{
    GetRowsRequest, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// Flips a bit in the last byte of every part with rows, of every sample, and of rows that come with a lookup.
#[derive(Clone, Copy, Debug)]
pub struct WrongRows;

/// The same bytes but for the lowest bit of the last one.
#[must_use]
pub fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

#[tonic::async_trait]
impl ReplicaLie for WrongRows {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        let mut answer = truth.rows(request).await?;
        for part in &mut answer {
            if let Some(Part::Rows(rows)) = &mut part.part {
                *rows = flipped(rows);
            }
        }
        Ok(parts(answer))
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        let mut answer = truth.samples(request).await?;
        for sample in &mut answer.samples {
            sample.row = flipped(&sample.row);
        }
        Ok(answer)
    }

    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        let mut answer = truth.lookup(request).await?;
        for held in answer.candidates.iter_mut().flat_map(|candidate| &mut candidate.rows) {
            held.rows = flipped(&held.rows);
        }
        Ok(answer)
    }
}
