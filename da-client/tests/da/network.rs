//! A network of one process: gateways and replicas that answer from memory, honestly or not.

mod gateway;
mod keys;
mod log;
mod replica;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::shape::RowIndex;
use meridian_proofs::{B256, keccak256};
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::wire;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Status};

pub(crate) use keys::{Keys, keys};

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
    /// Finds blobs, and gives no rows, ever.
    NoRows,
    /// Gives any rows but those from the first on.
    NotTheFirst,
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
    /// Lets nobody put.
    Forbids,
    /// Says that the request can never succeed.
    Refuses,
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
    /// Calls for rows that replicas have received.
    pub(crate) row_calls: Arc<AtomicUsize>,
    /// What light clients have asked replicas for.
    pub(crate) asked: Arc<Asked>,
    runtime: tokio::runtime::Runtime,
}

/// What replicas were asked for.
#[derive(Default)]
pub(crate) struct Asked {
    /// RLC vectors.
    pub(crate) rlcs: AtomicUsize,
    /// Samples, by the place of the replica.
    pub(crate) samples: Mutex<Vec<(usize, Vec<RowIndex>)>>,
}

struct World {
    keys: Keys,
    blob: Arc<EncodedBlob>,
    other: EncodedBlob,
    entries: Vec<LogEntry>,
    certificate: Certificate,
    chunks: Arc<AtomicUsize>,
    row_calls: Arc<AtomicUsize>,
    asked: Arc<Asked>,
}

#[derive(Clone)]
struct Node<B> {
    world: Arc<World>,
    place: usize,
    behaviour: B,
}

pub(crate) const NAMESPACE: [u8; 32] = [7; 32];
pub(crate) const RETENTION: u64 = 14 * 24 * 3600;
/// Longest that a command may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A payload of some length that is not periodic.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap()).collect()
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
        let (chunks, row_calls) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let asked = Arc::<Asked>::default();
        let world = Arc::new(World {
            keys,
            blob: blob.clone(),
            other: encode::<Blake3>(b"something else", B256::ZERO).unwrap(),
            entries,
            certificate: certificate.clone(),
            chunks: chunks.clone(),
            row_calls: row_calls.clone(),
            asked: asked.clone(),
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
        let gateways = gateway_urls;
        let network =
            Self { folder, committee, blob, certificate, gateways, chunks, row_calls, asked, runtime };
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
