//! Committees, logs and uploads made for tests, and replicas that talk to each other.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use meridian_client::chain::view::{Anchor, Head, View};
use meridian_client::rpc::Channels;
use meridian_proofs::checkpoint::{Checkpoint, Dispersal, SignedCheckpoint, SignedDispersal};
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::field::{Gf128, mul};
use meridian_proofs::hash::{Blake3, HashProfile};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::merkle::{RangeProof, RowTree};
use meridian_proofs::placement::{Interval, interval};
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::shape::{RowRange, Shape};
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::{
    CosignRequest, DisperseOutcome, DispersePart, DisperseStart, GetRows, RangeStart,
};
use meridian_proto::error::ApiError;
use meridian_proto::wire;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

use super::{Replica, Service, Settings};
use crate::clock::Clock;
use crate::log_service::LogService;
use crate::store::log::LogStore;

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const MIN_RETENTION: u64 = 3600;
pub(super) const MAX_RETENTION: u64 = 30 * 86_400;
pub(super) const GRACE: u64 = 100;

pub(super) fn gateway_key() -> SecretKey {
    SecretKey::from_bytes([7; 32]).unwrap()
}

pub(super) fn seat_key(region: u16) -> SecretKey {
    SecretKey::from_bytes([u8::try_from(region).unwrap(); 32]).unwrap()
}

/// A network of one seat a region and one gateway.
pub(super) struct Net {
    /// The committee of the latest epoch.
    pub(super) committee: Arc<Committee>,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) clock: Clock,
    listeners: Vec<Option<TcpListener>>,
}

/// Changes to what a committee is made of.
pub(super) type Change = fn(&mut CommitteeParts);

impl Net {
    pub(super) async fn new(regions: u16, min_copies: u16, change: Change) -> Self {
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for _ in 0..regions {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            endpoints.push(format!("http://{}", listener.local_addr().unwrap()));
            listeners.push(Some(listener));
        }
        let region = |id: u16| Region {
            id: RegionId(id),
            label: format!("region-{id}"),
            latitude: 0.0,
            longitude: 0.0,
        };
        let seat = |(id, endpoint)| Seat {
            region: RegionId(id),
            number: 0,
            address: seat_key(id).address(),
            endpoint,
        };
        let mut parts = CommitteeParts {
            chain_id: 5,
            verifying_contract: Address::ZERO,
            epoch: 3,
            min_copies,
            min_retention: MIN_RETENTION,
            max_retention: MAX_RETENTION,
            regions: (1..=regions).map(region).collect(),
            seats: (1..).zip(endpoints).map(seat).collect(),
            gateways: vec![GatewayMember {
                address: gateway_key().address(),
                endpoint: "http://127.0.0.1:1".to_owned(),
                max_bytes: 1 << 40,
                max_entries_per_hour: 1 << 40,
            }],
        };
        change(&mut parts);
        let committee = Arc::new(Committee::new(parts).unwrap());
        let view = watch::Sender::new(Arc::new(View::fixed(Arc::clone(&committee))));
        Self { committee, view, clock: Clock::manual(NOW), listeners }
    }

    /// Schedules the next epoch, which begins in some seconds; the one before closes after [`GRACE`].
    pub(super) fn next_epoch(&mut self, begins_in: u64, change: impl FnOnce(&mut CommitteeParts)) {
        let mut parts = self.committee.parts().clone();
        parts.epoch += 1;
        change(&mut parts);
        self.committee = Arc::new(Committee::new(parts).unwrap());
        let view = View::clone(&self.view.borrow());
        let mut terms = view.epochs.terms().to_vec();
        let activation = self.clock.now() + begins_in;
        terms.last_mut().unwrap().closes = Some(activation + GRACE);
        terms.push(Term { committee: Arc::clone(&self.committee), activation, closes: None });
        let head = Some(Head { number: 1, timestamp: self.clock.now() });
        self.view.send_replace(Arc::new(View { epochs: Epochs::new(terms).unwrap(), head, ..view }));
    }

    /// Makes what comes next of an epoch that there is already.
    pub(super) fn back_to(&mut self, epoch: u64) {
        self.committee = Arc::clone(self.view.borrow().epochs.committee(epoch).unwrap());
    }

    /// Anchors a log as it is, in its epoch.
    pub(super) fn anchor(&self, log: &Log) {
        let Checkpoint { gateway, epoch, size, root, timestamp } = log.checkpoint();
        let mut view = View::clone(&self.view.borrow());
        let anchors = view.anchors.entry(gateway).or_default();
        anchors.retain(|anchor| anchor.epoch != epoch);
        anchors.push(Anchor { gateway, epoch, size, root, timestamp, block: 1 });
        self.view.send_replace(Arc::new(view));
    }

    /// Sets clock and settled block.
    pub(super) fn wait_until(&self, now: u64) {
        self.clock.set(now);
        let mut view = View::clone(&self.view.borrow());
        view.head = view.head.map(|head| Head { timestamp: now, ..head });
        self.view.send_replace(Arc::new(view));
    }

    /// A network of which one replica alone is enough to work.
    pub(super) async fn alone() -> Self {
        Self::new(5, 1, |_| {}).await
    }

    pub(super) fn seat(&self, region: u16) -> &Seat {
        self.committee.seat(&seat_key(region).address()).unwrap()
    }

    pub(super) async fn open(&self, region: u16, folder: &Path) -> Arc<Replica> {
        let settings = Settings { repair_wait_ms: 200, ..Settings::default() };
        self.open_with(settings, region, folder).await
    }

    pub(super) async fn open_with(&self, settings: Settings, region: u16, folder: &Path) -> Arc<Replica> {
        let (view, clock) = (self.view.subscribe(), self.clock.clone());
        let key = seat_key(region);
        Replica::open_with(settings, folder, view, key, Channels::new(), clock).await.unwrap()
    }

    /// The rows of a blob that a region's seat holds.
    pub(super) fn interval(&self, region: u16, blob: &Blob) -> Interval {
        interval(&self.committee, self.seat(region), &blob.id(), blob.shape())
    }

    /// Where somebody may serve, and the endpoint.
    pub(super) async fn listener(&self) -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        (listener, endpoint)
    }

    /// Serves logs that are on disk; `before` runs before each answer. The endpoint.
    pub(super) async fn serve_log(
        &self,
        logs: LogStore,
        before: impl Fn() + Clone + Send + Sync + 'static,
    ) -> String {
        let (listener, endpoint) = self.listener().await;
        let service = wire::log_server::LogServer::with_interceptor(LogService::new(logs), move |request| {
            before();
            Ok(request)
        });
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { server.await.unwrap() });
        endpoint
    }

    /// Another place for [`Net::serve`], and its endpoint.
    pub(super) async fn place(&mut self) -> (u16, String) {
        let (listener, endpoint) = self.listener().await;
        self.listeners.push(Some(listener));
        (u16::try_from(self.listeners.len()).unwrap(), endpoint)
    }

    /// Lets others reach a replica.
    pub(super) fn serve(&mut self, region: u16, replica: &Arc<Replica>) -> JoinHandle<()> {
        let listener = self.listeners[usize::from(region - 1)].take().unwrap();
        let logs = LogService::new(replica.logs().clone());
        let server = tonic::transport::Server::builder()
            .add_service(wire::replica_server::ReplicaServer::new(Service(Arc::clone(replica))))
            .add_service(wire::log_server::LogServer::new(logs))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { server.await.unwrap() })
    }

    pub(super) fn dispersal(&self, region: u16, id: BlobId) -> Dispersal {
        Dispersal {
            gateway: gateway_key().address(),
            replica: seat_key(region).address(),
            epoch: self.committee.epoch(),
            blob_id: id,
            deadline: self.clock.now() + 30,
        }
    }

    pub(super) fn start(&self, region: u16, header: BlobHeader) -> DisperseStart {
        let dispersal = self.dispersal(region, header.id());
        DisperseStart { dispersal: self.permission(dispersal), header }
    }

    pub(super) fn permission(&self, dispersal: Dispersal) -> SignedDispersal {
        SignedDispersal::sign(dispersal, &self.committee.domain(), &gateway_key())
    }

    /// All messages of a good upload.
    pub(super) fn upload(&self, region: u16, blob: &Blob) -> Vec<DispersePart> {
        let interval = self.interval(region, blob);
        let mut parts = vec![
            DispersePart::Start(self.start(region, blob.header)),
            DispersePart::Rlc(blob.rlc.to_bytes().into()),
        ];
        for range in interval.ranges() {
            let (start, count) = (range.start(), range.count());
            let proof = blob.tree.prove_range(*range);
            parts.push(DispersePart::Range(RangeStart { start, count, proof }));
            let rows = blob.rows(*range);
            parts.extend(rows.chunks(5000).map(|c| DispersePart::Rows(Bytes::copy_from_slice(c))));
        }
        parts
    }

    pub(super) fn log(&self) -> Log {
        Log {
            key: gateway_key().to_bytes(),
            committee: Arc::clone(&self.committee),
            epoch: self.committee.epoch(),
            entries: Vec::new(),
            timestamp: NOW,
        }
    }
}

/// Checks that a replica serves these rows of a blob from what it holds.
pub(super) async fn check_held(replica: &Arc<Replica>, blob: &Blob, ranges: &[RowRange]) {
    for range in ranges {
        let (start, count) = (range.start(), range.count());
        let request = GetRows { blob_id: blob.id(), start, count, held_only: true };
        let answer = replica.rows(request).await.unwrap();
        assert_eq!(answer.proof, blob.proof(*range));
        let rows: Vec<_> = answer.rows.map(Result::unwrap).collect().await;
        assert_eq!(rows.concat(), blob.rows(*range));
    }
}

pub(super) async fn send(
    replica: &Arc<Replica>,
    parts: Vec<DispersePart>,
) -> Result<DisperseOutcome, ApiError> {
    replica.disperse(stream::iter(parts.into_iter().map(Ok))).await
}

/// A log as a gateway has it.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) key: [u8; 32],
    pub(super) committee: Arc<Committee>,
    pub(super) epoch: u64,
    pub(super) entries: Vec<LogEntry>,
    pub(super) timestamp: u64,
}

impl Log {
    fn key(&self) -> SecretKey {
        SecretKey::from_bytes(self.key).unwrap()
    }

    pub(super) fn entry(&self, blob: &Blob) -> LogEntry {
        LogEntry {
            blob_id: blob.id(),
            namespace: [9; 32].into(),
            payload_hash: PayloadHash::UNBOUND,
            length: blob.header.length.get(),
            epoch: self.epoch,
            time: self.timestamp,
            expiry: self.timestamp + MIN_RETENTION,
        }
    }

    pub(super) fn with(mut self, blob: &Blob) -> Self {
        self.entries.push(self.entry(blob));
        self
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        let mut range = CompactRange::empty();
        self.entries.iter().for_each(|entry| drop(range.append(entry.leaf())));
        Checkpoint {
            gateway: self.key().address(),
            epoch: self.epoch,
            size: range.size(),
            root: range.root(),
            timestamp: self.timestamp,
        }
    }

    pub(super) fn sign(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
        SignedCheckpoint::sign(checkpoint, &self.committee.domain(), &self.key())
    }

    pub(super) fn request(&self, start: u64) -> CosignRequest {
        let entries = self.entries[usize::try_from(start).unwrap()..].to_vec();
        CosignRequest { signed: self.sign(self.checkpoint()), start, entries }
    }
}

/// A blob that commits honestly to its rows, whatever they are.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) header: BlobHeader,
    pub(super) all: Bytes,
    pub(super) rlc: RlcVector,
    pub(super) tree: Arc<RowTree>,
}

impl Blob {
    /// The blob of a payload of `length` bytes.
    pub(super) fn of(length: usize, seed: u8) -> Self {
        let payload: Vec<u8> = (0..=250_u8).cycle().map(|i| seed.wrapping_add(i)).take(length).collect();
        let encoded: EncodedBlob = encode(&payload, B256::ZERO).unwrap();
        Self::committing(length, encoded.rows(encoded.shape().all()).to_vec())
    }

    /// A blob whose parity rows are not those of its data rows.
    pub(super) fn crooked(length: usize, seed: u8) -> Self {
        let mut all = Self::of(length, seed).all.to_vec();
        let parity = all.len() / 4;
        all[parity..].iter_mut().for_each(|byte| *byte ^= 0x55);
        Self::committing(length, all)
    }

    fn committing(length: usize, all: Vec<u8>) -> Self {
        let length = u64::try_from(length).unwrap().try_into().unwrap();
        let shape = Shape::of(length);
        let tree = RowTree::build::<Blake3>(Blake3::row_leaves(&all, shape.row_bytes()));
        let coefficients = Blake3::coefficients(&tree.root(), &shape);
        let data = all[..shape.data_bytes()].chunks(shape.row_bytes());
        let values: Vec<u8> = data.flat_map(|row| combine(row, &coefficients).to_bytes()).collect();
        let rlc = RlcVector::from_bytes(&values).unwrap();
        let header = BlobHeader {
            length,
            row_root: tree.root(),
            rlc_root: rlc.root::<Blake3>(),
            kzg_root: B256::ZERO,
        };
        Self { header, all: all.into(), rlc, tree: Arc::new(tree) }
    }

    pub(super) fn id(&self) -> BlobId {
        self.header.id()
    }

    pub(super) fn shape(&self) -> Shape {
        self.header.shape()
    }

    pub(super) fn rows(&self, range: RowRange) -> Bytes {
        let row_bytes = self.shape().row_bytes();
        let (start, end) = (range.start() as usize * row_bytes, range.end() as usize * row_bytes);
        self.all.slice(start..end)
    }

    pub(super) fn proof(&self, range: RowRange) -> RangeProof {
        self.tree.prove_range(range)
    }
}

/// The combination of a row by its definition: the sum of symbol times coefficient, limb by limb.
fn combine(row: &[u8], coefficients: &[Gf128]) -> Gf128 {
    let mut sum = [0; 8];
    for (s, coefficient) in coefficients.iter().enumerate() {
        let block = &row[s / 32 * 64..][..64];
        let symbol = u16::from_le_bytes([block[s % 32], block[32 + s % 32]]);
        for (limb, factor) in sum.iter_mut().zip(coefficient.0) {
            *limb ^= mul(symbol, factor);
        }
    }
    Gf128(sum)
}
