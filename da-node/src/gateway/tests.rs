//! A whole gateway over replicas that are made for the test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use meridian_client::chain::view::View;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint};
use meridian_proofs::committee::Committee;
use meridian_proofs::encode::{self, EncodedBlob};
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::shape::PayloadLength;
use meridian_proofs::{B256, keccak256};
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Reason};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::core::Core;
use super::testing::{self, FakeLinks, FakeSeat, MAX_RETENTION, MIN_RETENTION, Mode};
use super::{Gateway, Settings};
use crate::clock::Clock;

mod access;
mod epochs;
mod faults;
mod restart;

const NOW: u64 = 1_800_000_000;

/// A gateway, its replicas, its folder and its clock.
struct Bench {
    gateway: Arc<Gateway>,
    committee: Arc<Committee>,
    seats: Vec<Arc<FakeSeat>>,
    clock: Clock,
    folder: TempDir,
    view: watch::Sender<Arc<View>>,
}

fn settings() -> Settings {
    Settings {
        silence_ms: 150,
        probe_ms: 10,
        shutdown_ms: 200,
        supersede_ms: 300,
        change_finish_ms: 100,
        ..Settings::default()
    }
}

impl Bench {
    /// Five regions of one seat, four copies.
    async fn new() -> Self {
        Self::with(settings(), 5, 1, 4).await
    }

    async fn with(settings: Settings, regions: u16, per_region: u16, min_copies: u16) -> Self {
        let committee = Arc::new(testing::committee(regions, per_region, min_copies));
        let seats = FakeSeat::all(&committee);
        let bench = Self::over(settings, View::fixed(committee), seats);
        bench.eventually(|bench| bench.gateway.status().seats.iter().all(|seat| seat.connected)).await;
        bench
    }

    /// A gateway over a view that can be changed; its committee is that of the first epoch.
    fn over(settings: Settings, view: View, seats: Vec<Arc<FakeSeat>>) -> Self {
        let committee = view.epochs.terms()[0].committee.clone();
        let (folder, clock) = (TempDir::new().unwrap(), Clock::manual(NOW));
        let view = watch::Sender::new(Arc::new(view));
        let gateway = open(&view, &seats, &folder, &clock, settings).unwrap();
        Self { gateway, committee, seats, clock, folder, view }
    }

    /// What the gateway works with in its epoch.
    fn core(&self) -> Arc<Core> {
        self.gateway.stage().core().unwrap().clone()
    }

    /// The same folder and replicas under a new gateway.
    async fn restart(self, settings: Settings) -> Self {
        self.gateway.shutdown().await;
        let Self { gateway, committee, seats, clock, folder, view } = self;
        drop(gateway);
        // A call to the disk that was begun ends after the stop, and holds the store open until then.
        for _ in 0..6000 {
            match open(&view, &seats, &folder, &clock, settings.clone()) {
                Ok(gateway) => return Self { gateway, committee, seats, clock, folder, view },
                Err(error) if format!("{error:#}").contains("lock hold by current process") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error:#}"),
            }
        }
        panic!("the store stays open");
    }

    fn seat(&self, region: u16) -> &FakeSeat {
        self.seats.iter().find(|seat| seat.region == region).unwrap()
    }

    fn set(&self, region: u16, mode: Mode) {
        for seat in self.seats.iter().filter(|seat| seat.region == region) {
            seat.mode.send_replace(mode);
        }
    }

    fn uploads(&self) -> Vec<usize> {
        self.seats.iter().map(|seat| seat.uploads()).collect()
    }

    async fn put(&self, payload: &[u8]) -> Result<Certificate, ApiError> {
        self.gateway.put(start(payload), whole(payload)).await
    }

    /// Waits for something that has to come, however long a busy machine takes.
    async fn eventually(&self, holds: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it did not come: {:?}", self.gateway.status());
    }

    fn check(&self, certificate: &Certificate, payload: &[u8]) {
        let verified = certificate.verify(&self.committee).unwrap();
        assert!(verified.complete.len() >= self.committee.min_copies());
        assert_eq!(certificate.id(), id(payload));
        assert_eq!(Certificate::decode(&certificate.encode()).as_ref(), Ok(certificate));
    }
}

fn open(
    view: &watch::Sender<Arc<View>>,
    seats: &[Arc<FakeSeat>],
    folder: &TempDir,
    clock: &Clock,
    settings: Settings,
) -> anyhow::Result<Arc<Gateway>> {
    let (key, links) = (testing::gateway_key(), Arc::new(FakeLinks(seats.to_vec())));
    Gateway::open_over(settings, folder.path(), view.subscribe(), key, links, clock.clone())
}

fn start(payload: &[u8]) -> PutStart {
    PutStart {
        namespace: Namespace::default(),
        length: PayloadLength::try_from(u64::try_from(payload.len()).unwrap()).unwrap(),
        retention: 86_400,
        bind_payload_hash: false,
        expected_blob_id: None,
        kzg_root: None,
        authorization: None,
    }
}

/// A payload in chunks of 100 kB.
fn whole(payload: &[u8]) -> impl stream::Stream<Item = Result<Bytes, ApiError>> + Send + use<> {
    let chunks: Vec<_> = payload.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

fn payload(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 31 % 251).unwrap().wrapping_mul(seed)).collect()
}

fn id(payload: &[u8]) -> BlobId {
    let blob: EncodedBlob = encode::encode(payload, B256::ZERO).unwrap();
    blob.id()
}

fn reason<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Reason {
    result.unwrap_err().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_gets_a_certificate_and_later_a_fuller_one() {
    let bench = Bench::new().await;
    for length in [1, 16 << 10, 130_000] {
        let payload = payload(3, length);
        let certificate = bench.put(&payload).await.unwrap();
        bench.check(&certificate, &payload);
        assert_eq!(certificate.entry.time, NOW);
        assert_eq!(certificate.entry.expiry, NOW + 86_400);
        assert_eq!(certificate.entry.payload_hash, PayloadHash::UNBOUND);
        bench.eventually(|bench| bench.seats.iter().all(|seat| seat.holds(&certificate.id()))).await;
    }
    bench.eventually(|bench| bench.gateway.status().seats.iter().all(|seat| seat.cosigned_size == 3)).await;
    let payload = payload(3, 1);
    let full = bench.gateway.certificate(id(&payload), None).await.unwrap();
    bench.check(&full, &payload);
    assert_eq!(full.verify(&bench.committee).unwrap().complete.len(), 5);
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
    assert_eq!(bench.gateway.status().memory_used, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payload_hash_is_bound_when_asked_for() {
    let bench = Bench::new().await;
    let payload = payload(5, 1000);
    let bound = PutStart { bind_payload_hash: true, ..start(&payload) };
    let certificate = bench.gateway.put(bound, whole(&payload)).await.unwrap();
    assert_eq!(certificate.entry.payload_hash, PayloadHash(keccak256(&payload)));
    let plain = bench.put(&payload).await.unwrap();
    assert_eq!(plain.entry.payload_hash, PayloadHash::UNBOUND);
    assert_eq!((certificate.index, plain.index), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kzg_root_makes_another_blob() {
    let bench = Bench::new().await;
    let payload = payload(6, 1000);
    let put = |kzg_root| bench.gateway.put(PutStart { kzg_root, ..start(&payload) }, whole(&payload));
    let roots = [None, Some(B256::repeat_byte(1)), Some(B256::repeat_byte(2))];
    for (index, kzg_root) in (0..).zip(roots) {
        let certificate = put(kzg_root).await.unwrap();
        let blob: EncodedBlob = encode::encode(&payload, kzg_root.unwrap_or_default()).unwrap();
        assert_eq!((certificate.header, certificate.index), (*blob.header(), index));
        certificate.verify(&bench.committee).unwrap();
    }
    for (index, kzg_root) in (0..).zip(roots) {
        assert_eq!(put(kzg_root).await.unwrap().index, index);
    }
    // The expected id is that of payload and root together.
    let expected = PutStart { expected_blob_id: Some(id(&payload)), ..start(&payload) };
    let bound = PutStart { kzg_root: roots[1], ..expected };
    assert_eq!(reason(bench.gateway.put(bound, whole(&payload)).await), Reason::IdMismatch);
    assert_eq!(bench.gateway.put(expected, whole(&payload)).await.unwrap().index, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_put_finds_its_entry() {
    let bench = Bench::new().await;
    let payload = payload(3, 5000);
    let first = bench.put(&payload).await.unwrap();
    let again = bench.put(&payload).await.unwrap();
    assert_eq!((first.index, again.index), (0, 0));
    bench.clock.set(NOW + 3600);
    assert_eq!(bench.put(&payload).await.unwrap().index, 0);
    bench.clock.set(NOW + 3601);
    assert_eq!(bench.put(&payload).await.unwrap().index, 1);
    bench.eventually(|bench| bench.uploads() == [1; 5]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_equal_puts_are_one() {
    let bench = Bench::new().await;
    let payload = payload(9, 50_000);
    let puts = (0..8).map(|_| bench.put(&payload));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.unwrap().index, 0);
    }
    bench.eventually(|bench| bench.uploads() == [1; 5]).await;
    assert_eq!(bench.gateway.status().log_size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_needs_no_second_dispersal() {
    let bench = Bench::new().await;
    let payload = payload(9, 50_000);
    let first = bench.put(&payload).await.unwrap();
    bench.eventually(|bench| bench.uploads() == [1; 5]).await;
    let other = PutStart { namespace: Namespace::from([9; 32]), ..start(&payload) };
    let second = bench.gateway.put(other, whole(&payload)).await.unwrap();
    assert_eq!((first.index, second.index), (0, 1));
    assert_eq!(second.entry.namespace, other.namespace);
    assert_eq!(bench.uploads(), [1; 5]);
    let mine = bench.gateway.certificate(id(&payload), Some(Namespace::default())).await.unwrap();
    assert_eq!(mine.index, 0);
    assert_eq!(bench.gateway.certificate(id(&payload), None).await.unwrap().index, 1);
    let nobody = bench.gateway.certificate(id(&payload), Some(Namespace::from([1; 32]))).await;
    assert_eq!(reason(nobody), Reason::CertificateUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_puts_at_once_all_get_their_own_entry() {
    let bench = Bench::new().await;
    let payloads: Vec<Vec<u8>> = (1..=60).map(|seed| payload(seed, 700)).collect();
    let certificates = futures::future::join_all(payloads.iter().map(|payload| bench.put(payload))).await;
    let mut indices = Vec::new();
    for (certificate, payload) in certificates.into_iter().zip(&payloads) {
        let certificate = certificate.unwrap();
        bench.check(&certificate, payload);
        indices.push(certificate.index);
    }
    indices.sort_unstable();
    assert_eq!(indices, (0..60).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_is_held_to_the_committee_at_its_boundaries() {
    let bench = Bench::new().await;
    let payload = payload(2, 10);
    let refused = [0, 1, MIN_RETENTION - 1, MAX_RETENTION + 1, u64::MAX - NOW, u64::MAX];
    for retention in refused {
        let put = bench.gateway.put(PutStart { retention, ..start(&payload) }, stream::pending()).await;
        assert_eq!(reason(put), Reason::RetentionOutOfRange, "{retention}");
    }
    for retention in [MIN_RETENTION, MIN_RETENTION + 1, MAX_RETENTION - 1, MAX_RETENTION] {
        let put = bench.gateway.put(PutStart { retention, ..start(&payload) }, whole(&payload)).await;
        put.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_is_refused() {
    let bench = Bench::new().await;
    let payload = payload(2, 250_000);
    for length in [payload.len() - 1, payload.len() + 1, 1] {
        let length = PayloadLength::try_from(u64::try_from(length).unwrap()).unwrap();
        let put = bench.gateway.put(PutStart { length, ..start(&payload) }, whole(&payload)).await;
        assert_eq!(reason(put), Reason::LengthMismatch, "{length:?}");
    }
    assert_eq!(bench.uploads(), [0; 5]);
    assert_eq!(bench.gateway.status().memory_used, 0);
    bench.put(&payload).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_id_than_expected_stores_nothing() {
    let bench = Bench::new().await;
    let payload = payload(2, 300);
    let wrong = PutStart { expected_blob_id: Some(BlobId::from([1; 32])), ..start(&payload) };
    assert_eq!(reason(bench.gateway.put(wrong, whole(&payload)).await), Reason::IdMismatch);
    assert_eq!((bench.uploads(), bench.gateway.status().log_size), (vec![0; 5], 0));
    let right = PutStart { expected_blob_id: Some(id(&payload)), ..start(&payload) };
    bench.gateway.put(right, whole(&payload)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_half_way_leaves_nothing() {
    let bench = Bench::new().await;
    let payload = payload(4, 200_000);
    let (sender, chunks) = mpsc::unbounded_channel();
    let gateway = bench.gateway.clone();
    let begin = start(&payload);
    let put = tokio::spawn(async move {
        gateway.put(begin, tokio_stream::wrappers::UnboundedReceiverStream::new(chunks)).await
    });
    sender.send(Ok(Bytes::copy_from_slice(&payload[..100_000]))).unwrap();
    bench.eventually(|bench| bench.gateway.status().memory_used > 0).await;
    put.abort();
    bench.eventually(|bench| bench.gateway.status().memory_used == 0).await;
    let status = bench.gateway.status();
    assert_eq!((status.log_size, status.puts_in_flight, bench.uploads()), (0, 0, vec![0; 5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_after_the_last_byte_finds_the_entry_later() {
    let slow = Settings { silence_ms: 60_000, ..settings() };
    let bench = Bench::with(slow, 5, 1, 4).await;
    (1..=5).for_each(|region| bench.set(region, Mode::SilentCosign));
    let payload = payload(4, 20_000);
    let (gateway, begin, body) = (bench.gateway.clone(), start(&payload), whole(&payload));
    let put = tokio::spawn(async move { gateway.put(begin, body).await });
    bench.eventually(|bench| bench.gateway.status().log_size == 1).await;
    put.abort();
    let early = bench.gateway.certificate(id(&payload), None).await;
    assert_eq!(reason(early), Reason::CertificatePending);
    (1..=5).for_each(|region| bench.set(region, Mode::Good));
    let retry = bench.put(&payload).await.unwrap();
    assert_eq!(retry.index, 0);
    assert_eq!(bench.gateway.status().log_size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_gives_its_memory_back() {
    let bench = Bench::with(Settings { body_timeout_ms: 20, ..settings() }, 5, 1, 4).await;
    let put = bench.gateway.put(start(&[1, 2, 3]), stream::pending()).await;
    assert_eq!(reason(put), Reason::Timeout);
    assert_eq!(bench.gateway.status().memory_used, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_by_the_budget() {
    let one = super::submit::footprint(PayloadLength::try_from(100_000).unwrap());
    let tight = Settings { memory_bytes: one * 2 - 1, memory_wait_ms: 20, ..settings() };
    let bench = Bench::with(tight, 5, 1, 4).await;
    let payload = payload(4, 100_000);
    let (gateway, begin) = (bench.gateway.clone(), start(&payload));
    let hanging = tokio::spawn(async move { gateway.put(begin, stream::pending()).await });
    bench.eventually(|bench| bench.gateway.status().memory_used == one).await;
    let refused = bench.put(&payload).await.unwrap_err();
    assert_eq!(refused.reason, Reason::MemoryBudget);
    assert!(refused.retry_after.is_some());
    hanging.abort();
    bench.eventually(|bench| bench.gateway.status().memory_used == 0).await;
    bench.put(&payload).await.unwrap();
    let huge = PutStart { length: PayloadLength::try_from(1 << 20).unwrap(), ..start(&payload) };
    assert_eq!(reason(bench.gateway.put(huge, stream::pending()).await), Reason::PayloadTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_puts_than_are_finished_in_time_are_told_to_come_back() {
    let slow = Settings { silence_ms: 60_000, ..settings() };
    let bench = Bench::with(slow, 5, 1, 4).await;
    (1..=5).for_each(|region| bench.set(region, Mode::SilentCosign));
    let puts: Vec<_> = (0..256)
        .map(|number| {
            let (gateway, payload) = (bench.gateway.clone(), payload(7, 100 + number));
            tokio::spawn(async move { gateway.put(start(&payload), whole(&payload)).await })
        })
        .collect();
    let last = payload(8, 100);
    let refused = loop {
        let put = bench.gateway.put(start(&last), stream::pending());
        if let Ok(outcome) = tokio::time::timeout(Duration::from_millis(100), put).await {
            break outcome.unwrap_err();
        }
    };
    assert_eq!(refused.reason, Reason::GatewayBusy);
    assert!(refused.retry_after.is_some());
    (1..=5).for_each(|region| bench.set(region, Mode::Good));
    for put in puts {
        put.await.unwrap().unwrap();
    }
    bench.put(&last).await.unwrap();
}
