//! What a gateway finds on its disk, and what replicas know of it.

use meridian_proofs::log::CompactRange;

use super::super::log::{Plan, Wanted, plan};
use super::super::store::Store;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_outstanding_checkpoint_is_finished_after_a_restart() {
    let bench = Bench::new().await;
    (1..=5).for_each(|region| bench.set(region, Mode::SilentCosign));
    let payload = payload(4, 20_000);
    let unfinished = bench.put(&payload).await.unwrap_err();
    assert_eq!(unfinished.reason, Reason::QuorumUnreachable);
    assert_eq!(bench.gateway.status().log_size, 1);
    (1..=5).for_each(|region| bench.set(region, Mode::Dead));
    let bench = bench.restart(settings()).await;
    assert_eq!(bench.gateway.status().log_size, 1);
    (1..=5).for_each(|region| bench.set(region, Mode::Good));
    bench.eventually(|bench| bench.gateway.status().certified_size == 1).await;
    let found = bench.gateway.certificate(id(&payload), None).await.unwrap();
    bench.check(&found, &payload);
    assert_eq!(bench.put(&payload).await.unwrap().index, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_checkpoint_is_signed_again_after_a_restart() {
    let bench = Bench::new().await;
    let payload = payload(4, 20_000);
    bench.put(&payload).await.unwrap();
    bench.eventually(|bench| bench.seats.iter().all(|seat| seat.cosigns() == 1)).await;
    let bench = bench.restart(settings()).await;
    assert_eq!(bench.gateway.certificate(id(&payload), None).await.unwrap().index, 0);
    bench.clock.set(NOW + 500);
    let other = super::payload(5, 20_000);
    let certificate = loop {
        match bench.put(&other).await {
            Err(error) if error.reason == Reason::QuorumUnreachable => tokio::task::yield_now().await,
            done => break done.unwrap(),
        }
    };
    bench.check(&certificate, &other);
    assert_eq!((certificate.index, certificate.entry.time), (1, NOW + 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_after_a_restart() {
    let bench = Bench::new().await;
    bench.set(5, Mode::Dead);
    let payload = payload(4, 1_500_000);
    bench.put(&payload).await.unwrap();
    let bench = bench.restart(settings()).await;
    assert_eq!(bench.gateway.status().uploads_pending, 1);
    bench.set(5, Mode::Good);
    bench.eventually(|bench| bench.gateway.status().uploads_pending == 0).await;
    assert!(bench.seat(5).holds(&id(&payload)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_lost_its_log_signs_nothing() {
    let committee = Arc::new(testing::committee(5, 1, 4));
    let seats = FakeSeat::all(&committee);
    let key = testing::gateway_key();
    let lost =
        Checkpoint { gateway: key.address(), epoch: 1, size: 5, root: B256::repeat_byte(1), timestamp: NOW };
    seats[0].remember(SignedCheckpoint::sign(lost, &committee.domain(), &key));
    let bench = Bench::over(settings(), View::fixed(committee), seats);
    let payload = payload(4, 1000);
    let refusal = loop {
        match bench.put(&payload).await {
            Err(error) if error.reason == Reason::LogRetired => break error,
            Err(error) => assert_eq!(error.reason, Reason::QuorumUnreachable),
            Ok(_) => {}
        }
        tokio::task::yield_now().await;
    };
    assert!(refusal.message.contains("retire its key"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_appended_before_enough_regions_were_asked() {
    let committee = Arc::new(testing::committee(5, 1, 4));
    let seats = FakeSeat::all(&committee);
    for seat in &seats[..2] {
        seat.mode.send_replace(Mode::Silent);
    }
    let bench = Bench::over(settings(), View::fixed(committee), seats);
    bench
        .eventually(|bench| bench.gateway.status().seats.iter().filter(|seat| seat.connected).count() == 3)
        .await;
    assert_eq!(reason(bench.put(&payload(4, 10)).await), Reason::QuorumUnreachable);
    bench.seats[0].mode.send_replace(Mode::Good);
    bench
        .eventually(|bench| bench.gateway.status().seats.iter().filter(|seat| seat.connected).count() == 4)
        .await;
    bench.put(&payload(4, 10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_belongs_to_one_key_and_a_key_to_the_committee() {
    let committee = Arc::new(testing::committee(5, 1, 4));
    let (seats, folder, clock) = (FakeSeat::all(&committee), TempDir::new().unwrap(), Clock::manual(NOW));
    drop(Store::open(folder.path(), testing::gateway_key().address(), &committee.domain()).unwrap());
    let mut parts = committee.parts().clone();
    let other = testing::seat_key(50, 50);
    let open = |committee: Arc<Committee>, key| {
        let view = watch::Sender::new(Arc::new(View::fixed(committee))).subscribe();
        let links = Arc::new(FakeLinks(seats.clone()));
        Gateway::open_over(settings(), folder.path(), view, key, links, clock.clone())
    };
    let stranger = open(committee.clone(), testing::seat_key(50, 50));
    assert!(format!("{:#}", stranger.err().unwrap()).contains("not that of a gateway"));
    parts.gateways[0].address = other.address();
    let taken = open(Arc::new(Committee::new(parts).unwrap()), other);
    assert!(format!("{:#}", taken.err().unwrap()).contains("a key and its log stay together"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_refuses_new_puts() {
    let bench = Bench::new().await;
    bench.gateway.shutdown().await;
    assert_eq!(reason(bench.put(&payload(4, 10)).await), Reason::ShuttingDown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_far_behind_is_brought_up_in_steps() {
    let committee = Arc::new(testing::committee(5, 1, 4));
    let folder = TempDir::new().unwrap();
    let payload = payload(4, 10);
    let blob: EncodedBlob = encode::encode(&payload, B256::ZERO).unwrap();
    let entries = 4096 * 2 + 1;
    fill(&folder, &committee, &blob, entries);
    let seats = FakeSeat::all(&committee);
    seats.iter().for_each(|seat| seat.give(blob.id()));
    let (clock, view) = (Clock::manual(NOW), watch::Sender::new(Arc::new(View::fixed(committee.clone()))));
    let gateway = open(&view, &seats, &folder, &clock, settings()).unwrap();
    let bench = Bench { gateway, committee, seats, clock, folder, view };
    bench.eventually(|bench| bench.gateway.status().certified_size == entries).await;
    bench.eventually(|bench| bench.seats.iter().all(|seat| seat.cosigns() == 3)).await;
    let certificate = bench.gateway.certificate(blob.id(), Some(namespace(17))).await.unwrap();
    assert_eq!(certificate.index, 17);
    bench.check(&certificate, &payload);
}

fn namespace(number: u64) -> Namespace {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Namespace::from(bytes)
}

/// Writes a log of epoch 1 whose entries are of one blob.
pub(super) fn fill(folder: &TempDir, committee: &Committee, blob: &EncodedBlob, entries: u64) {
    let (key, domain) = (testing::gateway_key(), committee.domain());
    let (store, loaded) = Store::open(folder.path(), key.address(), &domain).unwrap();
    let mut range = loaded.range;
    let wanted: Vec<_> = (0..entries).map(|number| wanted(blob, number)).collect();
    let plan = plan(&wanted, 0, 1, NOW, |_| Ok(None)).unwrap();
    let sign = |range: &CompactRange| {
        let (size, root) = (range.size(), range.root());
        let checkpoint = Checkpoint { gateway: key.address(), epoch: 1, size, root, timestamp: NOW };
        SignedCheckpoint::sign(checkpoint, &domain, &key)
    };
    store.append(&mut range, &plan, &wanted, Vec::new(), sign).unwrap();
}

fn wanted(blob: &EncodedBlob, number: u64) -> Wanted {
    Wanted {
        id: blob.id(),
        header: *blob.header(),
        namespace: namespace(number),
        payload_hash: PayloadHash::UNBOUND,
        retention: MIN_RETENTION,
    }
}

#[test]
fn a_plan_joins_what_one_entry_serves() {
    const HALF: u64 = MIN_RETENTION / 2;
    let blob: EncodedBlob = encode::encode(&[1, 2, 3], B256::ZERO).unwrap();
    let first = wanted(&blob, 1);
    let longer = Wanted { retention: MIN_RETENTION + 3600, ..first };
    let too_long = Wanted { retention: MIN_RETENTION + 3601, ..first };
    let bound = Wanted { payload_hash: PayloadHash::from([3; 32]), ..first };
    let indices = |wanted: &[Wanted]| -> Plan { plan(wanted, 10, 1, NOW, |_| Ok(None)).unwrap() };
    assert_eq!(indices(&[first, first, longer]).indices, [10, 10, 10]);
    assert_eq!(indices(&[first, too_long, longer]).indices, [10, 11, 11]);
    assert_eq!(indices(&[first, bound, wanted(&blob, 2)]).indices, [10, 11, 12]);
    let earlier = indices(&[first]).entries[0];
    for (now, epoch, expected) in [(NOW, 1, 4), (NOW + HALF, 1, 4), (NOW + HALF + 1, 1, 10), (NOW, 2, 10)] {
        let found = plan(&[first], 10, epoch, now, |_| Ok(Some((4, earlier)))).unwrap();
        assert_eq!(found.indices, [expected], "{now} {epoch}");
        assert_eq!(found.entries.len(), usize::from(expected == 10));
    }
}
