//! Calls to a gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proto::MAX_MESSAGE;
use meridian_proto::convert::{GatewayStatus, GetCertificate, PutPart, PutStart};
use meridian_proto::error::ApiError;
use meridian_proto::wire;
use meridian_proto::wire::gateway_client::GatewayClient;
use tonic::transport::Channel;

use super::{DEADLINE, answer, chunks, traced};

/// Time for a put that was given none: the largest payload over a slow line.
const PUT_DEADLINE: Duration = Duration::from_secs(600);

/// Calls to one gateway.
#[derive(Clone, Debug)]
pub struct GatewayRpc {
    client: GatewayClient<Channel>,
    deadline: Option<Duration>,
}

impl GatewayRpc {
    pub(super) fn new(channel: Channel) -> Self {
        let client = GatewayClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Self { client, deadline: None }
    }

    /// Gives every call at most this time.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(DEADLINE)
    }

    /// Puts a payload and returns what the gateway claims to be its certificate.
    ///
    /// Sending stops when the gateway answers, also in the middle of the payload.
    ///
    /// # Errors
    ///
    /// The gateway's refusal, or that it is out of reach.
    pub async fn put(&self, start: PutStart, payload: Bytes) -> Result<Certificate, ApiError> {
        self.put_counted(start, payload, Arc::default()).await
    }

    /// Like [`GatewayRpc::put`], and counts the payload's bytes that went out.
    ///
    /// # Errors
    ///
    /// As [`GatewayRpc::put`].
    pub async fn put_counted(
        &self,
        start: PutStart,
        payload: Bytes,
        sent: Arc<AtomicU64>,
    ) -> Result<Certificate, ApiError> {
        let chunks = chunks(payload).inspect(move |chunk| {
            sent.fetch_add(u64::try_from(chunk.len()).unwrap_or(0), Ordering::Relaxed);
        });
        let parts = std::iter::once(PutPart::Start(start)).chain(chunks.map(PutPart::Chunk));
        let request = traced(stream::iter(parts.map(wire::PutRequest::from)));
        answer(self.deadline.unwrap_or(PUT_DEADLINE), self.client.clone().put(request)).await
    }

    /// The certificate of a blob, under one namespace or the latest under any.
    ///
    /// # Errors
    ///
    /// The gateway's refusal, or that it is out of reach.
    pub async fn certificate(
        &self,
        blob_id: BlobId,
        namespace: Option<Namespace>,
    ) -> Result<Certificate, ApiError> {
        let request = traced(GetCertificate { blob_id, namespace }.into());
        answer(self.deadline(), self.client.clone().get_certificate(request)).await
    }

    /// The committee that the gateway works with. Nothing proves it.
    ///
    /// # Errors
    ///
    /// The gateway's refusal, or that it is out of reach.
    pub async fn committee(&self) -> Result<Committee, ApiError> {
        let request = traced(wire::GetCommitteeRequest {});
        answer(self.deadline(), self.client.clone().get_committee(request)).await
    }

    /// What the gateway is doing.
    ///
    /// # Errors
    ///
    /// The gateway's refusal, or that it is out of reach.
    pub async fn status(&self) -> Result<GatewayStatus, ApiError> {
        let request = traced(wire::GetGatewayStatusRequest {});
        answer(self.deadline(), self.client.clone().get_status(request)).await
    }
}
