//! A network of one process: gateways and replicas that answer from memory, honestly or not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meridian_client::submit::unix_now;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{B256, keccak256};
use meridian_proto::convert::{
    Candidate, EntryRef, GatewayPhase, GatewayStatus, GetCertificate, GetEntries, GetInclusionProof, GetRows,
    GetSamples, InclusionProof, LogItem, Lookup, LookupKey, PutPart, ReplicaStatus, RowsPart, Sample,
};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// How a replica behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Replica {
    Honest,
    /// Nothing listens.
    Down,
    /// Says that it knows no blob.
    Ignorant,
    /// Answers with the header of another blob.
    OtherHeader,
    /// Answers with the RLC vector of another blob.
    OtherRlc,
    /// One byte of every answer's rows is wrong.
    WrongRows,
    /// Says that the blob is not a codeword.
    Slanderer,
    /// Names the blob for every payload hash.
    Misnamer,
}

/// How a gateway behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gateway {
    Honest,
    Down,
    /// Certifies another payload.
    OtherBlob,
    /// Certifies under another namespace.
    OtherNamespace,
    /// Certifies for an hour and a bit less than was asked for.
    ShortExpiry,
    /// Certifies a payload hash that nobody asked for.
    UnaskedHash,
    /// Leaves the KZG root out of the header.
    NoKzg,
    /// Too few regions have signed.
    NoQuorum,
    Overloaded,
    Forbids,
}

/// Everything that a test talks to.
pub(crate) struct Network {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) committee: Arc<Committee>,
    pub(crate) blob: Arc<EncodedBlob>,
    pub(crate) certificate: Certificate,
    pub(crate) gateways: Vec<String>,
    /// Payload chunks that gateways have received.
    pub(crate) chunks: Arc<AtomicUsize>,
    runtime: tokio::runtime::Runtime,
}

/// The keys behind a committee.
pub(crate) struct Keys {
    pub(crate) committee: Arc<Committee>,
    pub(crate) seats: Vec<SecretKey>,
    pub(crate) gateways: Vec<SecretKey>,
}

struct World {
    keys: Keys,
    blob: Arc<EncodedBlob>,
    other: EncodedBlob,
    entries: Vec<LogEntry>,
    certificate: Certificate,
    chunks: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Node<B> {
    world: Arc<World>,
    place: usize,
    behaviour: B,
}

pub(crate) const NAMESPACE: [u8; 32] = [7; 32];
pub(crate) const RETENTION: u64 = 14 * 24 * 3600;

/// A payload of some length that is not periodic.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap()).collect()
}

/// A committee of one seat in each region, with keys that follow from their places.
pub(crate) fn keys(seats: &[String], gateways: &[String]) -> Keys {
    let key = |kind: u8, place: usize| {
        let mut bytes = [kind; 32];
        bytes[31] = u8::try_from(place + 1).unwrap();
        SecretKey::from_bytes(bytes).unwrap()
    };
    let seat_keys: Vec<SecretKey> = (0..seats.len()).map(|place| key(1, place)).collect();
    let gateway_keys: Vec<SecretKey> = (0..gateways.len()).map(|place| key(2, place)).collect();
    let id = |place: usize| RegionId(u16::try_from(place + 1).unwrap());
    let regions = u16::try_from(seats.len()).unwrap();
    let parts = CommitteeParts {
        chain_id: 0,
        verifying_contract: Default::default(),
        epoch: 1,
        min_copies: Committee::default_min_copies(regions),
        min_retention: 3600,
        max_retention: 30 * 24 * 3600,
        regions: (0..seats.len())
            .map(|place| Region {
                id: id(place),
                label: format!("region-{}", place + 1),
                latitude: 0.0,
                longitude: 0.0,
            })
            .collect(),
        seats: seats
            .iter()
            .enumerate()
            .map(|(place, endpoint)| Seat {
                region: id(place),
                number: 0,
                address: seat_keys[place].address(),
                endpoint: endpoint.clone(),
            })
            .collect(),
        gateways: gateways
            .iter()
            .enumerate()
            .map(|(place, endpoint)| GatewayMember {
                address: gateway_keys[place].address(),
                endpoint: endpoint.clone(),
                max_bytes: 1 << 40,
                max_entries_per_hour: 1 << 20,
            })
            .collect(),
    };
    Keys { committee: Arc::new(Committee::new(parts).unwrap()), seats: seat_keys, gateways: gateway_keys }
}

impl Keys {
    /// The last entry of a log of three, certified by some of the seats.
    pub(crate) fn certify(
        &self,
        gateway: usize,
        blob: &EncodedBlob,
        entries: &[LogEntry],
        seats: usize,
    ) -> Certificate {
        let [first, second, third] = entries else { panic!("three entries") };
        let inner = node(first.leaf(), second.leaf());
        let checkpoint = Checkpoint {
            gateway: self.gateways[gateway].address(),
            epoch: self.committee.epoch(),
            size: 3,
            root: node(inner, third.leaf()),
            timestamp: third.time,
        };
        let domain = self.committee.domain();
        let signed = SignedCheckpoint::sign(checkpoint, &domain, &self.gateways[gateway]);
        let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        for key in &self.seats[..seats] {
            cosigned.insert(&domain, key.sign(&checkpoint.digest(&domain))).unwrap();
        }
        let header = *blob.header();
        Certificate { header, entry: *third, index: 2, inclusion: vec![inner], checkpoint: cosigned }
    }

    /// Three entries, of which the last is of a blob.
    pub(crate) fn entries(
        &self,
        id: BlobId,
        length: u64,
        namespace: Namespace,
        hash: PayloadHash,
        retention: u64,
    ) -> Vec<LogEntry> {
        let time = unix_now() - 5;
        let entry = |blob_id| LogEntry {
            blob_id,
            namespace,
            payload_hash: hash,
            length,
            epoch: self.committee.epoch(),
            time,
            expiry: time + retention,
        };
        vec![entry(BlobId::from([1; 32])), entry(BlobId::from([2; 32])), entry(id)]
    }
}

fn node(left: B256, right: B256) -> B256 {
    keccak256([&[1], left.as_slice(), right.as_slice()].concat())
}

impl Network {
    /// Starts servers that hold one blob.
    pub(crate) fn start(length: usize, replicas: &[Replica], gateways: &[Gateway]) -> Self {
        Self::start_bound(length, B256::ZERO, replicas, gateways)
    }

    /// Starts servers that hold one blob, whose header names a KZG root.
    pub(crate) fn start_bound(
        length: usize,
        kzg_root: B256,
        replicas: &[Replica],
        gateways: &[Gateway],
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bind = |_: usize| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let replica_listeners: Vec<_> = (0..replicas.len()).map(bind).collect();
        let gateway_listeners: Vec<_> = (0..gateways.len()).map(bind).collect();
        let url = |listener: &std::net::TcpListener| {
            let address: SocketAddr = listener.local_addr().unwrap();
            format!("http://{address}")
        };
        let gateway_urls: Vec<String> = gateway_listeners.iter().map(url).collect();
        let keys = keys(&replica_listeners.iter().map(url).collect::<Vec<_>>(), &gateway_urls);
        let committee = keys.committee.clone();
        let blob = Arc::new(encode::<Blake3>(&payload(length), kzg_root).unwrap());
        let hash = PayloadHash(keccak256(payload(length)));
        let length = blob.header().length.get();
        let entries = keys.entries(blob.id(), length, Namespace::from(NAMESPACE), hash, RETENTION);
        let certificate = keys.certify(0, &blob, &entries, keys.seats.len());
        let chunks = Arc::new(AtomicUsize::new(0));
        let world = Arc::new(World {
            keys,
            blob: blob.clone(),
            other: encode::<Blake3>(b"something else", B256::ZERO).unwrap(),
            entries,
            certificate: certificate.clone(),
            chunks: chunks.clone(),
        });
        for (place, (listener, behaviour)) in replica_listeners.into_iter().zip(replicas).enumerate() {
            if *behaviour != Replica::Down {
                let node = Node { world: world.clone(), place, behaviour: *behaviour };
                let server = Server::builder()
                    .add_service(wire::replica_server::ReplicaServer::new(node.clone()))
                    .add_service(wire::log_server::LogServer::new(node));
                runtime.spawn(async move { server.serve_with_incoming(incoming(listener)).await });
            }
        }
        for (place, (listener, behaviour)) in gateway_listeners.into_iter().zip(gateways).enumerate() {
            if *behaviour != Gateway::Down {
                let node = Node { world: world.clone(), place, behaviour: *behaviour };
                let server = Server::builder()
                    .add_service(wire::gateway_server::GatewayServer::new(node.clone()))
                    .add_service(wire::log_server::LogServer::new(node));
                runtime.spawn(async move { server.serve_with_incoming(incoming(listener)).await });
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let network = Self { folder, committee, blob, certificate, gateways: gateway_urls, chunks, runtime };
        meridian_client::committee_source::save(&network.path("committee.toml"), &network.committee).unwrap();
        std::fs::write(network.path("payload"), network.blob.payload()).unwrap();
        std::fs::write(network.path("cert"), network.certificate.encode()).unwrap();
        network
    }

    /// A path in the network's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs something against the servers.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

fn incoming(listener: std::net::TcpListener) -> TcpListenerStream {
    TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap())
}

fn refuse<T>(reason: Reason) -> Result<T, Status> {
    Err(ApiError::new(reason, "as the test wants it").into())
}

fn parse<W, T: TryFrom<W, Error = E>, E: std::fmt::Debug>(request: Request<W>) -> T {
    T::try_from(request.into_inner()).unwrap()
}

/// Some rows with one wrong byte, for those who lie.
fn spoil(rows: &Bytes, lie: bool) -> Bytes {
    let mut rows = rows.to_vec();
    if lie {
        rows[5] ^= 1;
    }
    rows.into()
}

#[tonic::async_trait]
impl wire::replica_server::Replica for Node<Replica> {
    async fn disperse(
        &self,
        _: Request<Streaming<wire::DisperseRequest>>,
    ) -> Result<Response<wire::DisperseResponse>, Status> {
        refuse(Reason::NotPermitted)
    }

    async fn cosign(
        &self,
        _: Request<wire::CosignRequest>,
    ) -> Result<Response<wire::CosignResponse>, Status> {
        refuse(Reason::NotPermitted)
    }

    type GetRowsStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::GetRowsResponse, Status>> + Send>>;

    async fn get_rows(
        &self,
        request: Request<wire::GetRowsRequest>,
    ) -> Result<Response<Self::GetRowsStream>, Status> {
        let GetRows { blob_id, start, count, .. } = parse(request);
        if self.behaviour == Replica::Ignorant {
            return refuse(Reason::BlobUnknown);
        }
        let blob = &self.world.blob;
        assert_eq!(blob_id, blob.id());
        let range = blob.shape().range(start, count).unwrap();
        let rows = spoil(&blob.rows(range), self.behaviour == Replica::WrongRows);
        let parts = std::iter::once(RowsPart::Proof(blob.range_proof(range)))
            .chain(rows.chunks(1 << 20).map(|rows| RowsPart::Rows(Bytes::copy_from_slice(rows))));
        let parts: Vec<_> = parts.map(|part| Ok(part.into())).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn get_samples(
        &self,
        request: Request<wire::GetSamplesRequest>,
    ) -> Result<Response<wire::GetSamplesResponse>, Status> {
        let GetSamples { indices, .. } = parse(request);
        let blob = &self.world.blob;
        let samples: Vec<Sample> = indices
            .into_iter()
            .map(|index| Sample {
                index,
                row: spoil(&blob.row(index), self.behaviour == Replica::WrongRows),
                path: blob.row_proof(index),
            })
            .collect();
        Ok(Response::new(samples.into()))
    }

    async fn lookup(
        &self,
        request: Request<wire::LookupRequest>,
    ) -> Result<Response<wire::LookupResponse>, Status> {
        let Lookup { key, include_rlc } = parse(request);
        let world = &self.world;
        let known = match key {
            LookupKey::Blob(id) => id == world.blob.id(),
            LookupKey::Payload(hash) => {
                hash == world.entries[2].payload_hash || self.behaviour == Replica::Misnamer
            }
        };
        if !known || self.behaviour == Replica::Ignorant {
            return refuse(Reason::BlobUnknown);
        }
        let header = if self.behaviour == Replica::OtherHeader { &world.other } else { &world.blob };
        let rlc = if self.behaviour == Replica::OtherRlc { &world.other } else { header };
        let gateway = world.certificate.checkpoint.signed.checkpoint.gateway;
        let candidate = Candidate {
            header: *header.header(),
            rlc: include_rlc.then(|| rlc.rlc().clone()),
            entries: vec![EntryRef { gateway, index: 2, entry: world.entries[2] }],
            inconsistent: self.behaviour == Replica::Slanderer,
        };
        Ok(Response::new(vec![candidate].into()))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetReplicaStatusRequest>,
    ) -> Result<Response<wire::ReplicaStatus>, Status> {
        let address = self.world.keys.seats[self.place].address();
        let seat = self.world.keys.committee.seat(&address).unwrap();
        Ok(Response::new(
            ReplicaStatus {
                address,
                region: seat.region,
                seat: seat.number,
                epoch: 1,
                blobs: 1,
                row_bytes: 4096,
                max_bytes: 0,
                logs: 1,
                version: "test".to_owned(),
                seated_epochs: vec![1],
                logs_behind: 0,
                takeover_left: 0,
            }
            .into(),
        ))
    }
}

#[tonic::async_trait]
impl wire::gateway_server::Gateway for Node<Gateway> {
    async fn put(
        &self,
        request: Request<Streaming<wire::PutRequest>>,
    ) -> Result<Response<wire::PutResponse>, Status> {
        match self.behaviour {
            Gateway::Overloaded => return refuse(Reason::MemoryBudget),
            Gateway::Forbids => return refuse(Reason::NotPermitted),
            _ => {}
        }
        let mut parts = request.into_inner();
        let mut start = None;
        let mut payload = Vec::new();
        while let Some(part) = parts.message().await? {
            match PutPart::try_from(part).unwrap() {
                PutPart::Start(first) => start = Some(first),
                PutPart::Chunk(chunk) => {
                    self.world.chunks.fetch_add(1, Ordering::Relaxed);
                    payload.extend_from_slice(&chunk);
                }
            }
        }
        let start = start.unwrap();
        if self.behaviour == Gateway::OtherBlob {
            payload[0] ^= 1;
        }
        let keys = &self.world.keys;
        let kzg_root = start.kzg_root.filter(|_| self.behaviour != Gateway::NoKzg).unwrap_or_default();
        let blob = encode::<Blake3>(&payload, kzg_root).unwrap();
        let namespace = match self.behaviour {
            Gateway::OtherNamespace => Namespace::from([9; 32]),
            _ => start.namespace,
        };
        let bound = start.bind_payload_hash || self.behaviour == Gateway::UnaskedHash;
        let hash = if bound { PayloadHash(keccak256(&payload)) } else { PayloadHash::UNBOUND };
        let retention = match self.behaviour {
            Gateway::ShortExpiry => start.retention - 3600,
            _ => start.retention,
        };
        let entries = keys.entries(blob.id(), start.length.get(), namespace, hash, retention);
        let signers = if self.behaviour == Gateway::NoQuorum { 1 } else { keys.seats.len() };
        Ok(Response::new((&keys.certify(self.place, &blob, &entries, signers)).into()))
    }

    async fn get_certificate(
        &self,
        request: Request<wire::GetCertificateRequest>,
    ) -> Result<Response<wire::GetCertificateResponse>, Status> {
        let GetCertificate { blob_id, .. } = parse(request);
        if blob_id != self.world.blob.id() && self.behaviour != Gateway::OtherBlob {
            return refuse(Reason::CertificateUnknown);
        }
        Ok(Response::new((&self.world.certificate).into()))
    }

    async fn get_committee(
        &self,
        _: Request<wire::GetCommitteeRequest>,
    ) -> Result<Response<wire::Committee>, Status> {
        Ok(Response::new(self.world.keys.committee.as_ref().into()))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetGatewayStatusRequest>,
    ) -> Result<Response<wire::GatewayStatus>, Status> {
        Ok(Response::new(
            GatewayStatus {
                address: self.world.keys.gateways[self.place].address(),
                epoch: 1,
                log_size: 3,
                certified_size: 3,
                puts_in_flight: 0,
                uploads_pending: 0,
                memory_used: 0,
                memory_budget: 1 << 20,
                seats: Vec::new(),
                version: "test".to_owned(),
                anchor: None,
                phase: GatewayPhase::Working,
                closings: Vec::new(),
            }
            .into(),
        ))
    }
}

#[tonic::async_trait]
impl<B: Send + Sync + 'static> wire::log_server::Log for Node<B> {
    async fn list_logs(
        &self,
        _: Request<wire::ListLogsRequest>,
    ) -> Result<Response<wire::ListLogsResponse>, Status> {
        Ok(Response::new(vec![self.cosigned()].into()))
    }

    async fn get_checkpoint(
        &self,
        _: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::CosignedCheckpoint>, Status> {
        Ok(Response::new(self.cosigned().into()))
    }

    async fn get_entries(
        &self,
        request: Request<wire::GetEntriesRequest>,
    ) -> Result<Response<wire::GetEntriesResponse>, Status> {
        let GetEntries { start, count, .. } = parse(request);
        // One at a time, so that callers have to ask again; the first entry has expired.
        assert!(start < 3 && count > 0);
        let entry = self.world.entries[usize::try_from(start).unwrap()];
        let item = if start == 0 { LogItem::Leaf(entry.leaf()) } else { LogItem::Entry(entry) };
        Ok(Response::new(vec![item].into()))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<wire::GetInclusionProofRequest>,
    ) -> Result<Response<wire::GetInclusionProofResponse>, Status> {
        let GetInclusionProof { index, size, .. } = parse(request);
        assert_eq!((index, size), (2, 3));
        let proof = InclusionProof {
            item: LogItem::Entry(self.world.entries[2]),
            path: self.world.certificate.inclusion.clone(),
        };
        Ok(Response::new(proof.into()))
    }

    async fn get_consistency_proof(
        &self,
        _: Request<wire::GetConsistencyProofRequest>,
    ) -> Result<Response<wire::GetConsistencyProofResponse>, Status> {
        refuse(Reason::NotPermitted)
    }
}

impl<B> Node<B> {
    /// The checkpoint as a replica has it: with its own cosignature alone.
    fn cosigned(&self) -> CosignedCheckpoint {
        let domain = self.world.keys.committee.domain();
        let signed = self.world.certificate.checkpoint.signed;
        let key = &self.world.keys.seats[self.place];
        let cosignatures = vec![key.sign(&signed.checkpoint.digest(&domain))];
        CosignedCheckpoint { signed, cosignatures }
    }
}

/// Longest that a command may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
