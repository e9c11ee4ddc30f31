//! A replica that stops in the middle of its rows.

use futures::StreamExt;
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::{
    GetRowsRequest, GetRowsResponse, GetSamplesRequest, GetSamplesResponse, LookupRequest, LookupResponse,
};
use tonic::Status;

use super::{ReplicaLie, RowParts, Truth, parts};

/// How the stream ends after half of the rows.
#[derive(Clone, Copy, Debug)]
pub enum HalfStream {
    /// As if that were all.
    Ends,
    /// With an error.
    Breaks,
    /// Never: the rest does not come.
    Stalls,
}

#[tonic::async_trait]
impl ReplicaLie for HalfStream {
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        let mut half = Vec::new();
        for part in truth.rows(request).await? {
            half.push(match part.part {
                Some(Part::Rows(rows)) => {
                    GetRowsResponse { part: Some(Part::Rows(rows.slice(..rows.len() / 2))) }
                }
                _ => part,
            });
        }
        Ok(match self {
            Self::Ends => parts(half),
            Self::Breaks => {
                parts(half).chain(futures::stream::once(async { Err(Status::unavailable("gone")) })).boxed()
            }
            Self::Stalls => parts(half).chain(futures::stream::pending()).boxed(),
        })
    }

    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        let mut answer = truth.samples(request).await?;
        answer.samples.truncate(answer.samples.len() / 2);
        Ok(answer)
    }

    async fn lookup(&self, truth: &Truth, mut request: LookupRequest) -> Result<LookupResponse, Status> {
        // Half of a lookup is none: of its rows whole ones come, and the stream is where it stops.
        request.max_row_bytes /= 64;
        truth.lookup(request).await
    }
}
