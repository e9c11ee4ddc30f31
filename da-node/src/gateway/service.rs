//! The gateway's service on the wire.

use std::sync::Arc;

use futures::StreamExt;
use meridian_proto::convert::{GetCertificate, PutPart};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use tonic::{Request, Response, Status, Streaming};

use super::Gateway;
use crate::metrics;

/// Answers [`wire::gateway_server::Gateway`].
#[derive(Clone)]
pub struct Service(pub Arc<Gateway>);

#[tonic::async_trait]
impl wire::gateway_server::Gateway for Service {
    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        let origin = request.extensions().get().copied();
        let mut parts = request.into_inner();
        let limit = self.0.shared.settings.body_timeout();
        let first = tokio::time::timeout(limit, parts.next()).await;
        let first =
            first.map_err(|_| ApiError::new(Reason::Timeout, "the first message did not come in time"))?;
        let first = first.ok_or_else(|| ApiError::new(Reason::StreamInvalid, "the stream is empty"))?;
        let PutPart::Start(start) = part(first)? else {
            let message = "the first message of a put says what is put";
            return Err(ApiError::new(Reason::StreamInvalid, message).into());
        };
        let chunks = parts.map(|message| match part(message)? {
            PutPart::Chunk(chunk) => Ok(chunk),
            PutPart::Start(_) => Err(ApiError::new(Reason::StreamInvalid, "a put starts once")),
        });
        let certificate = self.0.put_from(origin, start, chunks).await.inspect_err(metrics::refused)?;
        Ok(Response::new(wire::PutResponse { certificate: certificate.encode().into() }))
    }

    async fn get_certificate(
        &self,
        request: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        let asked = GetCertificate::try_from(request.into_inner()).map_err(ApiError::from)?;
        let certificate = self.0.certificate(asked.blob_id, asked.namespace).await?;
        Ok(Response::new(wire::GetCertificateResponse { certificate: certificate.encode().into() }))
    }

    async fn get_committee(
        &self,
        _request: Request<wire::GetCommitteeRequest>,
    ) -> Result<Response<wire::Committee>, Status> {
        Ok(Response::new(self.0.committee().as_ref().into()))
    }

    async fn get_status(
        &self,
        _request: Request<wire::GetGatewayStatusRequest>,
    ) -> Result<Response<wire::GatewayStatus>, Status> {
        Ok(Response::new(self.0.status().into()))
    }
}

/// One message of a put.
fn part(message: Result<wire::PutRequest, Status>) -> Result<PutPart, ApiError> {
    let message = message.map_err(|status| match status.code() {
        tonic::Code::OutOfRange => ApiError::new(Reason::MessageTooLarge, status.message()),
        tonic::Code::InvalidArgument | tonic::Code::Internal => {
            ApiError::new(Reason::StreamInvalid, status.message())
        }
        _ => ApiError::new(Reason::StreamBroken, "the caller went away before the payload was complete"),
    })?;
    PutPart::try_from(message).map_err(ApiError::from)
}
