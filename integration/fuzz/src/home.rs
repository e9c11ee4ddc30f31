//! The network that all inputs go to, and what is known to be in it.

use std::cell::{OnceCell, RefCell};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use meridian_client::Silent;
use meridian_client::altda::{AltDa, Failover, KECCAK_LIMIT, Settings as AltDaSettings};
use meridian_client::fetch::Readers;
use meridian_client::light::{LightClient, Settings as LightSettings};
use meridian_integration::keys;
use meridian_integration::network::{Name, Network, Plan, complete, options};
use meridian_node::config::host::{Log as LogSettings, Telemetry as TelemetrySettings};
use meridian_node::gateway::Gateway;
use meridian_node::log_service::LogService;
use meridian_node::replica::{Replica, Settings as ReplicaSettings};
use meridian_node::telemetry::{self, Telemetry};
use meridian_node::{gateway, replica};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, Domain};
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{B256, keccak256};
use meridian_proto::MAX_MESSAGE;
use meridian_proto::wire::gateway_server::GatewayServer;
use meridian_proto::wire::log_server::LogServer;
use meridian_proto::wire::replica_server::ReplicaServer;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::draft::Signer;
use super::input::{Input, noise};

/// Replicas, each a region.
pub const REPLICAS: usize = 3;
/// Most calls of one input.
const CALLS: usize = 4;
/// Lengths of the payloads that are there from the beginning.
const LENGTHS: [usize; 6] = [700, 5, 1024, 1025, 4000, 16_385];
/// No line at all.
pub const QUIET: &str = "off";
/// Longest time for what has to happen at the start.
const START: Duration = Duration::from_secs(60);

thread_local! {
    /// Ends with the thread, that of `main` too: a store that is still in use when the process ends takes locks that are
    /// gone, and nobody would remove the folders.
    static HELD: Held = Held(Some(Home::start()));
}
/// A process has one.
static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();

struct Held(Option<Home>);

impl Drop for Held {
    fn drop(&mut self) {
        let home = self.0.take();
        // Runtimes want a thread whose own variables are still there.
        let _ = std::thread::spawn(move || drop(home)).join();
    }
}

/// A blob that every region has.
pub struct Blob {
    pub blob: EncodedBlob,
    pub context: Arc<BlobContext>,
    pub certificate: Certificate,
}

/// The log that a replica has of the gateway that inputs speak for.
#[derive(Default)]
pub struct Log {
    pub entries: Vec<LogEntry>,
    /// What leads on from each size, but 0.
    pub ranges: Vec<CompactRange>,
    /// The last checkpoint that was cosigned.
    pub last: Option<Checkpoint>,
}

/// The network. Its parts are dropped in this order.
pub struct Home {
    runtime: Runtime,
    altda: OnceCell<Arc<AltDa>>,
    light: OnceCell<Arc<LightClient>>,
    pub gateway: Arc<Gateway>,
    pub replicas: Vec<Arc<Replica>>,
    pub blobs: Vec<Blob>,
    known: Vec<Vec<u8>>,
    pub committee: Arc<Committee>,
    pub domain: Domain,
    pub logs: RefCell<[Log; REPLICAS]>,
    /// The items of the running gateway's log, as far as they were looked at.
    pub entries: RefCell<Vec<LogEntry>>,
    /// Which lines are logged.
    pub filter: RefCell<String>,
    network: Network,
    folder: TempDir,
}

/// Reads an input as a few calls, each by `body`.
pub fn run(data: &[u8], body: impl AsyncFn(&Home, &mut Input<'_>)) {
    HELD.with(|held| {
        let home = held.0.as_ref().unwrap();
        home.runtime.block_on(async {
            let mut input = Input(data);
            for _ in 0..CALLS {
                body(home, &mut input).await;
                if input.0.is_empty() {
                    break;
                }
            }
        });
    });
}

impl Blob {
    pub fn id(&self) -> BlobId {
        self.blob.id()
    }
}

impl Log {
    /// What leads on from a size, or from the last where there are not so many entries.
    pub fn range(&self, size: usize) -> CompactRange {
        let place = size.min(self.ranges.len()).checked_sub(1);
        place.map_or_else(CompactRange::empty, |place| self.ranges[place].clone())
    }

    /// Adds entries that were cosigned under this checkpoint.
    pub fn add(&mut self, entries: &[LogEntry], checkpoint: Checkpoint) {
        for entry in entries {
            let mut range = self.range(self.entries.len());
            range.append(entry.leaf());
            self.entries.push(*entry);
            self.ranges.push(range);
        }
        self.last = Some(checkpoint);
    }
}

impl Home {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (network, blobs) = runtime.block_on(async {
            // A fuzzer's `main` leaves it as it is: then a connection that ends ends the process.
            let _ = signal(SignalKind::pipe()).unwrap();
            TELEMETRY.get_or_init(|| {
                let log = LogSettings { filter: QUIET.to_owned(), ..LogSettings::default() };
                telemetry::init(&log, &TelemetrySettings::default(), "meridian-fuzz", "fuzz").unwrap()
            });
            let replica = ReplicaSettings { repair_wait_ms: 200, ..ReplicaSettings::default() };
            // Inputs speak for one gateway to each replica, beside the one that runs.
            let network = Plan { regions: 3, vacant_gateways: REPLICAS, replica, ..Plan::default() };
            let network = Network::start(network).await.unwrap();
            let mut blobs = Vec::new();
            for (place, length) in LENGTHS.into_iter().enumerate() {
                blobs.push(blob(&network, place, length).await);
            }
            (network, blobs)
        });
        let committee = Arc::clone(network.committee());
        let mut home = Self {
            altda: OnceCell::new(),
            light: OnceCell::new(),
            gateway: network.gateway(0).unwrap(),
            replicas: (0..REPLICAS).map(|place| network.replica(place).unwrap()).collect(),
            blobs,
            known: Vec::new(),
            domain: committee.domain(),
            committee,
            logs: RefCell::default(),
            entries: RefCell::default(),
            filter: RefCell::new(QUIET.to_owned()),
            network,
            folder: tempfile::tempdir().unwrap(),
            runtime,
        };
        home.known = home.everything();
        home
    }

    /// What may stand where something else should.
    fn everything(&self) -> Vec<Vec<u8>> {
        let mut known = vec![vec![0; 32], b"info".to_vec()];
        for Blob { blob, certificate, .. } in &self.blobs {
            let (id, header) = (blob.id(), blob.header());
            known.extend([id.as_bytes(), &header.row_root.0, &header.rlc_root.0].map(|hash| hash.to_vec()));
            known.push(keccak256(blob.payload()).to_vec());
            known.push(certificate.checkpoint.signed.checkpoint.root.to_vec());
            known.push(certificate.checkpoint.signed.signature.as_bytes().to_vec());
            known.extend(certificate.checkpoint.cosignatures.iter().map(|it| it.as_bytes().to_vec()));
        }
        known.extend(self.committee.seats().iter().map(|seat| seat.address.to_vec()));
        known.extend(self.committee.gateways().iter().map(|gateway| gateway.address.to_vec()));
        known.push(stranger().address().to_vec());
        known
    }

    pub fn known(&self, choice: u8) -> &[u8] {
        &self.known[usize::from(choice) % self.known.len()]
    }

    /// Something of this length, where there is.
    pub fn known_like(&self, choice: u8, length: usize) -> &[u8] {
        let like: Vec<&Vec<u8>> = self.known.iter().filter(|known| known.len() == length).collect();
        usize::from(choice).checked_rem(like.len()).map_or(&[], |place| like[place])
    }

    pub fn blob(&self, choice: u8) -> &Blob {
        &self.blobs[usize::from(choice) % self.blobs.len()]
    }

    /// The blob that is there from the beginning with this id.
    pub fn by_id(&self, id: BlobId) -> Option<&Blob> {
        self.blobs.iter().find(|blob| blob.id() == id)
    }

    pub fn seat(&self, replica: usize) -> &Seat {
        self.network.seat(replica).unwrap()
    }

    /// Who signs what an input sends to a replica.
    pub fn key(&self, replica: usize, signer: Signer) -> SecretKey {
        match signer {
            Signer::Right | Signer::Fitting | Signer::Nobody => speaker(replica),
            Signer::Stranger => stranger(),
            Signer::Other => keys::secret(&Name::Replica(replica).key_word()).unwrap(),
        }
    }

    pub fn gateway_service(&self) -> GatewayServer<gateway::Service> {
        let service = GatewayServer::new(gateway::Service(Arc::clone(&self.gateway)));
        service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    pub fn replica_service(&self, replica: usize) -> ReplicaServer<replica::Service> {
        let service = ReplicaServer::new(replica::Service(Arc::clone(&self.replicas[replica])));
        service.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// The logs of a replica, or past them of the gateway.
    pub fn log_service(&self, member: usize) -> LogServer<LogService> {
        let logs =
            self.replicas.get(member).map_or_else(|| self.gateway.log_store(), |replica| replica.logs());
        LogServer::new(LogService::new(logs.clone()))
    }

    pub fn telemetry(&self) -> &'static Telemetry {
        TELEMETRY.get().unwrap()
    }

    fn readers(&self) -> Readers {
        Readers::new(self.network.view().subscribe(), self.network.channels().clone())
    }

    /// A sidecar of OP Stack clients.
    pub fn altda(&self) -> Arc<AltDa> {
        let make = || {
            let settings = AltDaSettings {
                gateways: Vec::new(),
                namespace: Namespace::default(),
                signer: None,
                retention: 3_600,
                keccak_limit: KECCAK_LIMIT,
                generic_limit: 1 << 18,
                patience: Duration::from_secs(5),
                failover: Failover::Never,
                drop_status: false,
                cache_bytes: 1 << 20,
                memory_bytes: 1 << 20,
                archive: None,
            };
            // Not those of the committee: some of them do not run.
            let gateways = vec![self.network.endpoint(Name::Gateway(0)).unwrap().to_owned()];
            let settings = AltDaSettings { gateways, ..settings };
            Arc::new(AltDa::new(self.readers(), settings, CancellationToken::new()).unwrap())
        };
        Arc::clone(self.altda.get_or_init(make))
    }

    /// A light client that has followed the log and sampled all of it.
    pub async fn light(&self) -> Arc<LightClient> {
        if let Some(light) = self.light.get() {
            return Arc::clone(light);
        }
        let settings = LightSettings {
            samples: 4,
            folder: self.folder.path().to_owned(),
            at_once: 4,
            patience: Duration::from_secs(5),
            spread: Duration::ZERO,
            checkpoints: true,
            peers: Vec::new(),
        };
        let light = Arc::new(LightClient::open(self.readers(), settings).unwrap());
        light.run_once().await.unwrap();
        Arc::clone(self.light.get_or_init(|| light))
    }
}

/// The gateway that inputs speak for to a replica. It does not run.
fn speaker(replica: usize) -> SecretKey {
    keys::secret(&Name::Gateway(1 + replica).key_word()).unwrap()
}

pub fn stranger() -> SecretKey {
    keys::secret("stranger").unwrap()
}

/// The payload of a blob that is there from the beginning, which nothing else has.
pub fn payload(place: usize, length: usize) -> Vec<u8> {
    noise(1_000 + place as u64, length)
}

async fn blob(network: &Network, place: usize, length: usize) -> Blob {
    let payload = payload(place, length);
    let options =
        meridian_client::submit::PutOptions { bind_payload_hash: place.is_multiple_of(2), ..options() };
    let gateway = vec![network.endpoint(Name::Gateway(0)).unwrap().to_owned()];
    let put = network.submitter_to(gateway).put(payload.clone().into(), &options, &Silent).await.unwrap();
    let (certificate, _) =
        complete(network.committee(), network.channels(), &put.certificate, START).await.unwrap();
    let blob: EncodedBlob = encode(&payload, B256::ZERO).unwrap();
    let hash =
        if options.bind_payload_hash { PayloadHash(keccak256(&payload)) } else { PayloadHash::UNBOUND };
    assert_eq!(certificate.entry.payload_hash, hash);
    Blob { context: context(&blob), blob, certificate }
}

pub fn context(blob: &EncodedBlob) -> Arc<BlobContext> {
    Arc::new(BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap())
}
