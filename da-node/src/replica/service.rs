//! The Replica service on the wire.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use meridian_proto::convert::{CosignRequest, DispersePart, GetRows, GetSamples, Lookup, RowsPart};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use tonic::{Request, Response, Status, Streaming};

use super::Replica;
use crate::metrics;

/// Serves a replica.
#[derive(Clone)]
pub struct Service(pub Arc<Replica>);

#[tonic::async_trait]
impl wire::replica_server::Replica for Service {
    type GetRowsStream = BoxStream<'static, Result<wire::GetRowsResponse, Status>>;

    async fn disperse(
        &self,
        request: Request<Streaming<wire::DisperseRequest>>,
    ) -> Result<Response<wire::DisperseResponse>, Status> {
        let parts = request.into_inner().map(|message| match message {
            Ok(message) => DispersePart::try_from(message).map_err(ApiError::from),
            Err(status) => Err(broken(&status)),
        });
        let outcome = self.0.disperse(parts).await.inspect_err(metrics::refused)?;
        Ok(Response::new(outcome.into()))
    }

    async fn cosign(
        &self,
        request: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        let answer = self.0.cosign(CosignRequest::try_from(request.into_inner())?).await;
        let answer = answer.inspect_err(metrics::refused)?;
        Ok(Response::new(answer.into()))
    }

    async fn get_rows(
        &self,
        request: Request<wire::GetRowsRequest>,
    ) -> Result<Response<Self::GetRowsStream>, Status> {
        let answer = self.0.rows(GetRows::try_from(request.into_inner())?).await?;
        let rows = answer.rows.map(|bytes| Ok(wire::GetRowsResponse::from(RowsPart::Rows(bytes?))));
        let proof = futures::stream::iter([Ok(RowsPart::Proof(answer.proof).into())]);
        Ok(Response::new(proof.chain(rows).boxed()))
    }

    async fn get_samples(
        &self,
        request: Request<wire::GetSamplesRequest>,
    ) -> Result<Response<wire::GetSamplesResponse>, Status> {
        let samples = self.0.samples(GetSamples::try_from(request.into_inner())?).await?;
        Ok(Response::new(samples.into()))
    }

    async fn lookup(
        &self,
        request: Request<wire::LookupRequest>,
    ) -> Result<Response<wire::LookupResponse>, Status> {
        let candidates = self.0.lookup(Lookup::try_from(request.into_inner())?).await?;
        Ok(Response::new(candidates.into()))
    }

    async fn get_status(
        &self,
        _request: Request<wire::GetReplicaStatusRequest>,
    ) -> Result<Response<wire::ReplicaStatus>, Status> {
        Ok(Response::new(self.0.status().await?.into()))
    }
}

/// A stream that does not go on: its messages do not parse, or the caller is gone.
fn broken(status: &Status) -> ApiError {
    let reason = match status.code() {
        tonic::Code::Internal | tonic::Code::InvalidArgument => Reason::MessageInvalid,
        tonic::Code::OutOfRange => Reason::MessageTooLarge,
        _ => Reason::StreamBroken,
    };
    ApiError::new(reason, status.message())
}
