//! A server that behaves as a test wants it to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::pending;
use futures::stream::{self, BoxStream};
use meridian_proofs::checkpoint::{CosignedCheckpoint, SignedCheckpoint};
use meridian_proofs::committee::RegionId;
use meridian_proofs::encode::EncodedBlob;
use meridian_proofs::hash::Blake3;
use meridian_proofs::merkle::RowProof;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::{
    DisperseOutcome, DispersePart, DisperseStart, GetSamples, RangeStart, ReplicaStatus, Sample,
};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use meridian_proto::wire::gateway_server::{Gateway, GatewayServer};
use meridian_proto::wire::get_rows_response::Part;
use meridian_proto::wire::log_server::{Log, LogServer};
use meridian_proto::wire::replica_server::{Replica, ReplicaServer};
use opentelemetry::trace::{TraceContextExt, TraceId};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

use crate::rpc::{Channels, GatewayRpc, LogRpc, ReplicaRpc};

/// How a server answers.
#[derive(Clone)]
pub(super) enum Behaviour {
    /// Takes uploads whole.
    Store,
    /// Says that it holds the rows, as soon as it has seen the start.
    Held,
    /// Refuses as soon as it has seen the first message.
    Refuse(Reason),
    /// Refuses a put after so many messages.
    RefusePut(Reason, usize),
    /// Never answers.
    Silence,
    /// Answers with these rows.
    Rows(wire::RangeProof, Vec<Bytes>),
    /// Answers with rows but no proof.
    NoProof,
    /// Answers with two proofs.
    TwoProofs,
    /// Ends an answer without a message.
    Nothing,
    /// Answers with rows without end.
    Flood,
    /// Ends an answer with an error.
    BreakOff(Reason),
    /// Answers with samples of this blob, changed.
    Samples(EncodedBlob<Blake3>, fn(Vec<wire::Sample>) -> Vec<wire::Sample>),
    /// Answers with rows of so many bytes and the longest proofs.
    LargeSamples(usize),
    /// Answers with this checkpoint.
    Checkpoint(SignedCheckpoint),
}

/// What an upload brought.
#[derive(Clone, Default)]
pub(super) struct Received {
    pub(super) start: Option<DisperseStart>,
    pub(super) rlc: Bytes,
    pub(super) ranges: Vec<RangeStart>,
    pub(super) rows: Vec<u8>,
}

/// A running server, in a runtime of its own so that it can go away with all its connections.
pub(super) struct Server {
    address: SocketAddr,
    service: Service,
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Service {
    behaviour: Behaviour,
    received: Arc<Mutex<Received>>,
    called: Arc<Notify>,
    sample_calls: Arc<AtomicUsize>,
    trace: Arc<Mutex<Option<TraceId>>>,
}

impl Server {
    pub(super) fn start(behaviour: Behaviour) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), behaviour)
    }

    pub(super) fn start_at(address: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service {
            behaviour,
            received: Arc::default(),
            called: Arc::default(),
            sample_calls: Arc::default(),
            trace: Arc::default(),
        };
        let router = tonic::transport::Server::builder()
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .add_service(ReplicaServer::new(service.clone()))
            .add_service(GatewayServer::new(service.clone()))
            .add_service(LogServer::new(service.clone()));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, service, runtime: Some(runtime) }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn replica(&self) -> ReplicaRpc {
        Channels::new().replica(&self.endpoint()).unwrap()
    }

    pub(super) fn gateway(&self) -> GatewayRpc {
        Channels::new().gateway(&self.endpoint()).unwrap()
    }

    pub(super) fn log(&self) -> LogRpc {
        Channels::new().log(&self.endpoint()).unwrap()
    }

    pub(super) fn received(&self) -> Received {
        self.service.received.lock().unwrap().clone()
    }

    pub(super) fn sample_calls(&self) -> usize {
        self.service.sample_calls.load(Ordering::SeqCst)
    }

    pub(super) fn trace(&self) -> Option<TraceId> {
        *self.service.trace.lock().unwrap()
    }

    /// Waits until a call has come.
    pub(super) async fn called(&self) {
        self.service.called.notified().await;
    }

    /// Closes the port and every connection.
    pub(super) async fn stop(mut self) {
        let runtime = self.runtime.take().unwrap();
        let stop = move || runtime.shutdown_timeout(Duration::from_secs(60));
        tokio::task::spawn_blocking(stop).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Service {
    /// What is the same for every call: silence, refusal, and notes of what came.
    async fn common<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let context = crate::trace::extract(&request.metadata().clone().into_headers());
        let span = context.span();
        *self.trace.lock().unwrap() = Some(span.span_context().trace_id());
        self.called.notify_one();
        match &self.behaviour {
            Behaviour::Silence => pending().await,
            Behaviour::Refuse(reason) => Err(refusal(*reason)),
            _ => Ok(()),
        }
    }
}

fn refusal(reason: Reason) -> Status {
    ApiError::new(reason, "no").retry_after(Duration::from_millis(250)).into()
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not used by any test"))
}

#[tonic::async_trait]
impl Replica for Service {
    type GetRowsStream = BoxStream<'static, Result<wire::GetRowsResponse, Status>>;

    async fn disperse(
        &self,
        request: Request<Streaming<wire::DisperseRequest>>,
    ) -> Result<Response<wire::DisperseResponse>, Status> {
        let held = matches!(self.behaviour, Behaviour::Held);
        let early = match &self.behaviour {
            Behaviour::Refuse(reason) => Some(Err(refusal(*reason))),
            Behaviour::Held => Some(Ok(Response::new(DisperseOutcome::Held.into()))),
            _ => None,
        };
        let mut parts = request.into_inner();
        let mut received = Received::default();
        while let Some(part) = parts.message().await? {
            if let Some(answer) = early {
                return answer;
            }
            match DispersePart::try_from(part)? {
                DispersePart::Start(start) => received.start = Some(start),
                DispersePart::Rlc(rlc) => received.rlc = rlc,
                DispersePart::Range(range) => received.ranges.push(range),
                DispersePart::Rows(rows) => received.rows.extend_from_slice(&rows),
            }
        }
        assert!(!held);
        *self.received.lock().unwrap() = received;
        Ok(Response::new(DisperseOutcome::Stored.into()))
    }

    async fn cosign(
        &self,
        _: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        unused()
    }

    async fn get_rows(
        &self,
        request: Request<wire::GetRowsRequest>,
    ) -> Result<Response<Self::GetRowsStream>, Status> {
        self.common(&request).await?;
        let message = |part| Ok(wire::GetRowsResponse { part: Some(part) });
        let proof = move || message(Part::Proof(wire::RangeProof::default()));
        let rows = move || message(Part::Rows(Bytes::from(vec![0; 1 << 20])));
        let answer: Self::GetRowsStream = match self.behaviour.clone() {
            Behaviour::Rows(proof, rows) => {
                let parts = std::iter::once(Part::Proof(proof)).chain(rows.into_iter().map(Part::Rows));
                stream::iter(parts.map(message)).boxed()
            }
            Behaviour::NoProof => stream::iter([rows()]).boxed(),
            Behaviour::TwoProofs => stream::iter([proof(), proof()]).boxed(),
            Behaviour::Flood => stream::iter([proof()]).chain(stream::repeat_with(rows)).boxed(),
            Behaviour::BreakOff(reason) => stream::iter([proof(), Err(refusal(reason))]).boxed(),
            _ => stream::empty().boxed(),
        };
        Ok(Response::new(answer))
    }

    async fn get_samples(
        &self,
        request: Request<wire::GetSamplesRequest>,
    ) -> Result<Response<wire::GetSamplesResponse>, Status> {
        self.sample_calls.fetch_add(1, Ordering::SeqCst);
        let indices = GetSamples::try_from(request.into_inner())?.indices;
        let samples = match &self.behaviour {
            Behaviour::Samples(blob, change) => {
                let sample =
                    |index| Sample { index, row: blob.row(index), path: blob.row_proof(index) }.into();
                change(indices.into_iter().map(sample).collect())
            }
            Behaviour::LargeSamples(row_bytes) => {
                let row = Bytes::from(vec![0xff; *row_bytes]);
                let path = RowProof(vec![B256::repeat_byte(0xff); 15]);
                let sample = |index| Sample { index, row: row.clone(), path: path.clone() }.into();
                indices.into_iter().map(sample).collect()
            }
            _ => return unused(),
        };
        Ok(Response::new(wire::GetSamplesResponse { samples }))
    }

    async fn lookup(
        &self,
        _: Request<wire::LookupRequest>,
    ) -> Result<Response<wire::LookupResponse>, Status> {
        unused()
    }

    async fn get_status(
        &self,
        request: Request<wire::GetReplicaStatusRequest>,
    ) -> Result<Response<wire::ReplicaStatus>, Status> {
        self.common(&request).await?;
        let status = ReplicaStatus {
            address: Address::ZERO,
            region: RegionId(1),
            seat: 0,
            epoch: 1,
            blobs: 0,
            row_bytes: 0,
            max_bytes: 0,
            logs: 0,
            version: "test".to_owned(),
            seated_epochs: vec![1],
            logs_behind: 0,
            repair_left: 0,
            quarantined: 0,
            scrubbed_at: 0,
            store_failed: false,
            now_ms: 0,
        };
        Ok(Response::new(status.into()))
    }
}

#[tonic::async_trait]
impl Gateway for Service {
    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        let Behaviour::RefusePut(reason, after) = self.behaviour else { return unused() };
        let mut parts = request.into_inner();
        for _ in 0..after {
            parts.message().await?.unwrap();
        }
        Err(refusal(reason))
    }

    async fn get_certificate(
        &self,
        _: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        unused()
    }

    async fn get_committee(
        &self,
        _: Request<wire::GetCommitteeRequest>,
    ) -> Result<Response<wire::Committee>, Status> {
        unused()
    }

    async fn get_status(
        &self,
        _: Request<wire::GetGatewayStatusRequest>,
    ) -> Result<Response<wire::GatewayStatus>, Status> {
        unused()
    }
}

#[tonic::async_trait]
impl Log for Service {
    async fn list_logs(
        &self,
        _: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        unused()
    }

    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::CosignedCheckpoint>, Status> {
        self.common(&request).await?;
        let Behaviour::Checkpoint(signed) = self.behaviour else { return unused() };
        Ok(Response::new(CosignedCheckpoint { signed, cosignatures: Vec::new() }.into()))
    }

    async fn get_entries(
        &self,
        _: Request<wire::GetEntriesRequest>,
    ) -> Result<Response<wire::GetEntriesResponse>, Status> {
        unused()
    }

    async fn get_inclusion_proof(
        &self,
        _: Request<wire::GetInclusionProofRequest>,
    ) -> Result<Response<wire::GetInclusionProofResponse>, Status> {
        unused()
    }

    async fn get_consistency_proof(
        &self,
        _: Request<wire::GetConsistencyProofRequest>,
    ) -> Result<Response<wire::GetConsistencyProofResponse>, Status> {
        unused()
    }
}
