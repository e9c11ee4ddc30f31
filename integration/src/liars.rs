//! Members that lie: real gRPC servers and clients, one file for each kind of lie.
//!
//! A lying replica or gateway stands in front of an honest one and passes everything on, except where it lies. A gateway
//! that lies to replicas is a [`crooked::Crooked`] log, from which each kind of lie crafts signed requests.

use std::sync::Arc;

use anyhow::Result;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use meridian_proofs::checkpoint::Domain;
use meridian_proto::MAX_MESSAGE;
use meridian_proto::wire::gateway_client::GatewayClient;
use meridian_proto::wire::gateway_server::{Gateway, GatewayServer};
use meridian_proto::wire::log_client::LogClient;
use meridian_proto::wire::log_server::{Log, LogServer};
use meridian_proto::wire::replica_client::ReplicaClient;
use meridian_proto::wire::replica_server::{Replica, ReplicaServer};
use meridian_proto::wire::{
    Committee, CosignRequest, CosignResponse, CosignedCheckpoint, DisperseRequest, DisperseResponse,
    GatewayStatus, GetCertificateRequest, GetCertificateResponse, GetCheckpointRequest, GetCommitteeRequest,
    GetConsistencyProofRequest, GetConsistencyProofResponse, GetEntriesRequest, GetEntriesResponse,
    GetGatewayStatusRequest, GetInclusionProofRequest, GetInclusionProofResponse, GetReplicaStatusRequest,
    GetRowsRequest, GetRowsResponse, GetSamplesRequest, GetSamplesResponse, ListLogsRequest,
    ListLogsResponse, LookupRequest, LookupResponse, PutRequest, PutResponse, ReplicaStatus,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

pub mod bad_cosigner;
pub mod crooked;
pub mod denier;
pub mod empty_claims;
pub mod false_alarm;
pub mod false_alias;
pub mod false_certificate;
pub mod flood;
pub mod foreign_epoch;
pub mod forker;
pub mod half_stream;
pub mod hidden_entries;
pub mod misplaced;
pub mod other_blob;
pub mod roller_back;
pub mod rows_never_sent;
pub mod silent;
pub mod skipper;
pub mod stranger;
pub mod turncoat;
pub mod withholder;
pub mod wrong_checkpoints;
pub mod wrong_entries;
pub mod wrong_expiry;
pub mod wrong_lengths;
pub mod wrong_log_proofs;
pub mod wrong_proofs;
pub mod wrong_rlc;
pub mod wrong_rows;
pub mod wrong_time;

/// The parts of an answer with rows.
pub type RowParts = BoxStream<'static, Result<GetRowsResponse, Status>>;

/// What an honest member behind a lying one would answer.
#[derive(Clone, Debug)]
pub struct Truth {
    channel: Channel,
    /// Domain of every signature.
    pub domain: Domain,
}

impl Truth {
    /// The honest member at an endpoint.
    ///
    /// # Errors
    /// When the endpoint is not an address.
    pub fn at(endpoint: String, domain: Domain) -> Result<Self> {
        Ok(Self { channel: Endpoint::from_shared(endpoint)?.tcp_nodelay(true).connect_lazy(), domain })
    }

    fn replica(&self) -> ReplicaClient<Channel> {
        ReplicaClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn gateway(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn log(&self) -> LogClient<Channel> {
        LogClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// The honest answer to an upload.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn disperse(&self, upload: Streaming<DisperseRequest>) -> Result<DisperseResponse, Status> {
        let upload = honest_part(upload);
        Ok(self.replica().disperse(upload).await?.into_inner())
    }

    /// The honest answer to a request for a cosignature.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn cosign(&self, request: CosignRequest) -> Result<CosignResponse, Status> {
        Ok(self.replica().cosign(request).await?.into_inner())
    }

    /// The honest answer with rows, all parts of it.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn rows(&self, request: GetRowsRequest) -> Result<Vec<GetRowsResponse>, Status> {
        self.replica().get_rows(request).await?.into_inner().try_collect().await
    }

    /// The honest samples.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn samples(&self, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        Ok(self.replica().get_samples(request).await?.into_inner())
    }

    /// The honest checkpoints of all logs.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn logs(&self, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        Ok(self.log().list_logs(request).await?.into_inner())
    }

    /// The honest checkpoint of a log.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn checkpoint(&self, request: GetCheckpointRequest) -> Result<CosignedCheckpoint, Status> {
        Ok(self.log().get_checkpoint(request).await?.into_inner())
    }

    /// The honest items of a log.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn entries(&self, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        Ok(self.log().get_entries(request).await?.into_inner())
    }

    /// The honest inclusion proof.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn inclusion(
        &self,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        Ok(self.log().get_inclusion_proof(request).await?.into_inner())
    }

    /// The honest consistency proof.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn consistency(
        &self,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        Ok(self.log().get_consistency_proof(request).await?.into_inner())
    }

    /// The honest answer to a lookup.
    ///
    /// # Errors
    /// What the honest member refuses.
    pub async fn lookup(&self, request: LookupRequest) -> Result<LookupResponse, Status> {
        Ok(self.replica().lookup(request).await?.into_inner())
    }
}

/// What arrives of a stream until it ends or breaks.
fn honest_part<T: Send + 'static>(stream: Streaming<T>) -> impl futures::Stream<Item = T> + Send {
    stream
        .take_while(|part| std::future::ready(part.is_ok()))
        .filter_map(|part| std::future::ready(part.ok()))
}

/// Parts of an answer as a stream.
#[must_use]
pub fn parts(parts: Vec<GetRowsResponse>) -> RowParts {
    tokio_stream::iter(parts.into_iter().map(Ok)).boxed()
}

/// What a lying replica says. Every method tells the truth until a lie overrides it.
#[tonic::async_trait]
pub trait ReplicaLie: Send + Sync + 'static {
    /// Answers an upload.
    async fn disperse(
        &self,
        truth: &Truth,
        upload: Streaming<DisperseRequest>,
    ) -> Result<DisperseResponse, Status> {
        truth.disperse(upload).await
    }

    /// Answers a request for a cosignature.
    async fn cosign(&self, truth: &Truth, request: CosignRequest) -> Result<CosignResponse, Status> {
        truth.cosign(request).await
    }

    /// Answers a request for rows.
    async fn rows(&self, truth: &Truth, request: GetRowsRequest) -> Result<RowParts, Status> {
        Ok(parts(truth.rows(request).await?))
    }

    /// Answers a request for samples.
    async fn samples(&self, truth: &Truth, request: GetSamplesRequest) -> Result<GetSamplesResponse, Status> {
        truth.samples(request).await
    }

    /// Answers a lookup.
    async fn lookup(&self, truth: &Truth, request: LookupRequest) -> Result<LookupResponse, Status> {
        truth.lookup(request).await
    }

    /// Answers with the checkpoints of all logs.
    async fn logs(&self, truth: &Truth, request: ListLogsRequest) -> Result<ListLogsResponse, Status> {
        truth.logs(request).await
    }

    /// Answers with the checkpoint of a log.
    async fn checkpoint(
        &self,
        truth: &Truth,
        request: GetCheckpointRequest,
    ) -> Result<CosignedCheckpoint, Status> {
        truth.checkpoint(request).await
    }

    /// Answers with items of a log.
    async fn entries(&self, truth: &Truth, request: GetEntriesRequest) -> Result<GetEntriesResponse, Status> {
        truth.entries(request).await
    }

    /// Answers with an inclusion proof.
    async fn inclusion(
        &self,
        truth: &Truth,
        request: GetInclusionProofRequest,
    ) -> Result<GetInclusionProofResponse, Status> {
        truth.inclusion(request).await
    }

    /// Answers with a consistency proof.
    async fn consistency(
        &self,
        truth: &Truth,
        request: GetConsistencyProofRequest,
    ) -> Result<GetConsistencyProofResponse, Status> {
        truth.consistency(request).await
    }
}

/// Tells the truth about everything.
#[derive(Clone, Copy, Debug)]
pub struct Honest;

impl ReplicaLie for Honest {}

/// What a lying gateway says to clients. Every method tells the truth until a lie overrides it.
#[tonic::async_trait]
pub trait GatewayLie: Send + Sync + 'static {
    /// Turns the honest certificate into the one that is handed out.
    async fn certificate(&self, truth: &Truth, certificate: Vec<u8>) -> Result<Vec<u8>, Status>;
}

struct LyingReplica {
    truth: Truth,
    lie: Arc<dyn ReplicaLie>,
}

#[tonic::async_trait]
impl Replica for LyingReplica {
    async fn disperse(
        &self,
        request: Request<Streaming<DisperseRequest>>,
    ) -> Result<Response<DisperseResponse>, Status> {
        self.lie.disperse(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn cosign(&self, request: Request<CosignRequest>) -> Result<Response<CosignResponse>, Status> {
        self.lie.cosign(&self.truth, request.into_inner()).await.map(Response::new)
    }

    type GetRowsStream = RowParts;

    async fn get_rows(&self, request: Request<GetRowsRequest>) -> Result<Response<RowParts>, Status> {
        self.lie.rows(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn get_samples(
        &self,
        request: Request<GetSamplesRequest>,
    ) -> Result<Response<GetSamplesResponse>, Status> {
        self.lie.samples(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        self.lie.lookup(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn get_status(
        &self,
        request: Request<GetReplicaStatusRequest>,
    ) -> Result<Response<ReplicaStatus>, Status> {
        self.truth.replica().get_status(request.into_inner()).await
    }
}

struct LyingGateway {
    truth: Truth,
    lie: Arc<dyn GatewayLie>,
}

#[tonic::async_trait]
impl Gateway for LyingGateway {
    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<PutResponse>, Status> {
        let payload = honest_part(request.into_inner());
        let honest = self.truth.gateway().put(payload).await?.into_inner().certificate;
        let certificate = self.lie.certificate(&self.truth, honest.into()).await?.into();
        Ok(Response::new(PutResponse { certificate }))
    }

    async fn get_certificate(
        &self,
        request: Request<GetCertificateRequest>,
    ) -> Result<Response<GetCertificateResponse>, Status> {
        let honest =
            self.truth.gateway().get_certificate(request.into_inner()).await?.into_inner().certificate;
        let certificate = self.lie.certificate(&self.truth, honest.into()).await?.into();
        Ok(Response::new(GetCertificateResponse { certificate }))
    }

    async fn get_committee(
        &self,
        request: Request<GetCommitteeRequest>,
    ) -> Result<Response<Committee>, Status> {
        self.truth.gateway().get_committee(request.into_inner()).await
    }

    async fn get_status(
        &self,
        request: Request<GetGatewayStatusRequest>,
    ) -> Result<Response<GatewayStatus>, Status> {
        self.truth.gateway().get_status(request.into_inner()).await
    }
}

struct LyingLog {
    truth: Truth,
    lie: Arc<dyn ReplicaLie>,
}

#[tonic::async_trait]
impl Log for LyingLog {
    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        self.lie.logs(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<CosignedCheckpoint>, Status> {
        self.lie.checkpoint(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn get_entries(
        &self,
        request: Request<GetEntriesRequest>,
    ) -> Result<Response<GetEntriesResponse>, Status> {
        self.lie.entries(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<GetInclusionProofResponse>, Status> {
        self.lie.inclusion(&self.truth, request.into_inner()).await.map(Response::new)
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        self.lie.consistency(&self.truth, request.into_inner()).await.map(Response::new)
    }
}

/// Serves a lying replica until the task is aborted.
#[must_use]
pub fn serve_replica(listener: TcpListener, truth: Truth, lie: Arc<dyn ReplicaLie>) -> JoinHandle<()> {
    let log = LogServer::new(LyingLog { truth: truth.clone(), lie: Arc::clone(&lie) });
    // A liar sends what it likes: only what it takes is limited.
    let replica = ReplicaServer::new(LyingReplica { truth, lie }).max_decoding_message_size(MAX_MESSAGE);
    serve(listener, Server::builder().tcp_nodelay(true).add_service(replica).add_service(log))
}

/// Serves a lying gateway until the task is aborted.
#[must_use]
pub fn serve_gateway(listener: TcpListener, truth: Truth, lie: Arc<dyn GatewayLie>) -> JoinHandle<()> {
    let log = LogServer::new(LyingLog { truth: truth.clone(), lie: Arc::new(Honest) });
    let gateway = GatewayServer::new(LyingGateway { truth, lie }).max_decoding_message_size(MAX_MESSAGE);
    serve(listener, Server::builder().tcp_nodelay(true).add_service(gateway).add_service(log))
}

fn serve(listener: TcpListener, router: tonic::transport::server::Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = router.serve_with_incoming(TcpListenerStream::new(listener)).await {
            tracing::warn!(%error, "a lying member stopped");
        }
    })
}
