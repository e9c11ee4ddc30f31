//! Seats that are new, and seats that pass from one replica to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::RegionId;
use meridian_proofs::log::{CompactRange, LogEntry, verify_consistency, verify_inclusion};
use meridian_proto::convert::{CosignAnswer, LogItem};

use super::*;
use crate::replica::Replica;
use crate::replica::testing::*;
use crate::store::log::LogStore;
use crate::store::{Batch, Db, Durability, Role};

const FIRST: u64 = 3;

/// Waits until something holds; the replica looks every second.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A log of entries that expired long ago, so that no rows are owed.
fn expired(net: &Net, count: u64) -> Log {
    let mut log = net.log();
    let template = log.entry(&Blob::of(9, 1));
    let entry = |index: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&index.to_be_bytes());
        let time = NOW - 2 * MIN_RETENTION;
        LogEntry { blob_id: id.into(), time, expiry: time + MIN_RETENTION, ..template }
    };
    log.entries = (0..count).map(entry).collect();
    log
}

/// Serves a log as one who has all of it; `spoil` changes what is on disk.
async fn keeper(
    net: &mut Net,
    log: &Log,
    folder: &std::path::Path,
    spoil: impl Fn(&LogStore, &mut Batch),
) -> String {
    let db = Db::open(folder, Role::Gateway, &LogStore::COLUMNS).unwrap();
    let logs = LogStore::new(db.clone());
    let signed = log.sign(log.checkpoint());
    let mut batch = Batch::new();
    logs.append(&mut batch, &signed.checkpoint.gateway, &mut CompactRange::empty(), &log.entries);
    logs.set_checkpoint(&mut batch, &CosignedCheckpoint { signed, cosignatures: Vec::new() });
    spoil(&logs, &mut batch);
    db.commit(batch, Durability::Relaxed).unwrap();
    net.serve_log(logs, || {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_seat_fills_its_log_up_to_the_anchor_whoever_lies() {
    const SIZE: u64 = 4096 + 37;
    let mut net = Net::new(4, 1, |parts| {
        // Region 1 comes later.
        parts.regions.remove(0);
        parts.seats.remove(0);
    })
    .await;
    let log = expired(&net, SIZE);
    let gateway = gateway_key().address();
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let forked = Log { entries: log.entries[1..].to_vec(), ..log.clone() }.with(&Blob::of(9, 2));
    let fork = keeper(&mut net, &forked, folders[0].path(), |logs, batch| {
        let stranger = Log { key: seat_key(9).to_bytes(), ..forked.clone() };
        let signed = stranger.sign(forked.checkpoint());
        logs.set_checkpoint(batch, &CosignedCheckpoint { signed, cosignatures: Vec::new() });
    })
    .await;
    // All proofs are right, and the second block has an entry that is not under them.
    let wrong = LogEntry { length: 7, ..log.entries[4100] };
    let liar = keeper(&mut net, &log, folders[1].path(), |logs, batch| {
        logs.put_entry(batch, &gateway, 4100, &wrong);
    })
    .await;
    let honest = keeper(&mut net, &log, folders[2].path(), |_, _| {}).await;
    net.anchor(&log);
    let own = seat_key(1).address();
    net.next_epoch(0, |parts| {
        let endpoints = [fork, liar, honest];
        for (seat, endpoint) in parts.seats.iter_mut().zip(endpoints) {
            seat.endpoint = endpoint;
        }
        let (mut region, mut seat) = (parts.regions[0].clone(), parts.seats[0].clone());
        (region.id, region.label) = (RegionId(1), "region-1".to_owned());
        (seat.region, seat.address, seat.endpoint) = (RegionId(1), own, "http://127.0.0.1:1".to_owned());
        parts.regions.push(region);
        parts.seats.push(seat);
    });
    let replica = net.open(1, folders[3].path()).await;
    eventually(async || replica.status().await.unwrap().logs_behind == 0).await;
    let logs = replica.logs();
    assert_eq!(logs.served_size(&gateway).unwrap(), Some(SIZE));
    let range = logs.range(&gateway).unwrap();
    assert_eq!((range.size(), range.root()), (SIZE, log.checkpoint().root));
    assert_eq!(logs.item(&gateway, 4100).unwrap(), LogItem::Entry(log.entries[4100]));
    for index in [0, 4095, 4096, SIZE - 1] {
        let (leaf, path) =
            (logs.leaf(&gateway, index).unwrap(), logs.inclusion(&gateway, index, SIZE).unwrap());
        assert!(verify_inclusion(leaf, index, SIZE, &path, &range.root()).is_ok());
    }
    let proof = logs.consistency(&gateway, 1000, SIZE).unwrap();
    let old = logs.root_at(&gateway, 1000).unwrap();
    assert!(verify_consistency(1000, &old, SIZE, &range.root(), &proof).is_ok());
    // From there on it owes what it is sent.
    let blob = Blob::of(3000, 3);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let next = Log { epoch: FIRST + 1, ..log.clone() }.with(&blob);
    assert!(matches!(replica.cosign(next.request(SIZE)).await.unwrap(), CosignAnswer::Cosignature(_)));
    let mut other = Log { epoch: FIRST + 1, timestamp: NOW + 1, ..log.clone() };
    other.entries[5].length = 5;
    assert_eq!(refused(replica.cosign(other.with(&blob).request(SIZE + 1)).await), Reason::LogFork);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_right_and_slow_makes_room_for_the_next() {
    const SIZE: u64 = 4 * 4096;
    const NOBODY: usize = usize::MAX;
    let mut net = Net::new(3, 1, |parts| parts.seats[0].address = seat_key(9).address()).await;
    let log = expired(&net, SIZE);
    let gateway = gateway_key().address();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let (slow, asked) = (Arc::new(AtomicUsize::new(NOBODY)), Arc::new(AtomicUsize::new(0)));
    let mut endpoints = Vec::new();
    for (place, folder) in folders[..2].iter().enumerate() {
        let db = Db::open(folder.path(), Role::Gateway, &LogStore::COLUMNS).unwrap();
        let logs = LogStore::new(db.clone());
        let mut batch = Batch::new();
        logs.append(&mut batch, &gateway, &mut CompactRange::empty(), &log.entries);
        logs.set_anchored(&mut batch, &gateway, SIZE);
        db.commit(batch, Durability::Relaxed).unwrap();
        let (slow, asked) = (Arc::clone(&slow), Arc::clone(&asked));
        let wait = move || {
            if slow.load(Ordering::Relaxed) == place {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(1100)));
            }
        };
        endpoints.push(net.serve_log(logs, wait).await);
    }
    net.next_epoch(0, |parts| {
        for seat in &mut parts.seats {
            match seat.region.0 {
                1 => seat.address = seat_key(1).address(),
                region => seat.endpoint.clone_from(&endpoints[usize::from(region) - 2]),
            }
        }
    });
    let replica = net.open(1, folders[2].path()).await;
    let sources = replica.sources(&replica.view(), &gateway);
    let first = sources.iter().find_map(|source| endpoints.iter().position(|endpoint| endpoint == source));
    slow.store(first.unwrap(), Ordering::Relaxed);
    net.anchor(&log);
    eventually(async || replica.logs().served_size(&gateway).unwrap() == Some(SIZE)).await;
    // Two questions about one block, and perhaps how far the log is and what was certified of it; not two for each of
    // four blocks.
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..8).contains(&asked), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_behind_its_anchor_signs_steps_that_lead_there() {
    let mut net = Net::alone().await;
    let log = expired(&net, 10);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let honest = keeper(&mut net, &log, folders[0].path(), |_, _| {}).await;
    net.anchor(&log);
    net.next_epoch(0, |parts| parts.gateways[0].endpoint = honest);
    // Its seat is the same in both epochs: it owes the entries itself, and the gateway brings them step by step.
    let replica = net.open(1, folders[1].path()).await;
    let step = |size: usize| {
        let entries = log.entries[..size].to_vec();
        Log { epoch: FIRST + 1, entries, ..log.clone() }
    };
    let mut crooked = step(4);
    crooked.entries[2].length = 77;
    // The gateway may have said by now how far its log is.
    let refusal = refused(replica.cosign(crooked.request(0)).await);
    assert!(matches!(refusal, Reason::EpochPending | Reason::LogRollback), "{refusal:?}");
    assert!(matches!(replica.cosign(step(4).request(0)).await.unwrap(), CosignAnswer::Cosignature(_)));
    assert!(matches!(replica.cosign(step(10).request(4)).await.unwrap(), CosignAnswer::Cosignature(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_passed_on_is_rebuilt_without_its_old_holder() {
    // Region 1 is signer 9's in the first epoch, and he is gone.
    let mut net = Net::new(3, 1, |parts| parts.seats[0].address = seat_key(9).address()).await;
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let blobs: Vec<_> = [3000, 100_000, 40_000].into_iter().zip(1..).map(|(l, s)| Blob::of(l, s)).collect();
    let crooked = Blob::of(500, 9);
    let mut others = Vec::new();
    let mut log = net.log();
    log.entries = expired(&net, 5).entries;
    for blob in &blobs {
        log = log.with(blob);
    }
    for region in [2, 3] {
        let replica = net.open(region, folders[usize::from(region) - 1].path()).await;
        for blob in &blobs {
            send(&replica, net.upload(region, blob)).await.unwrap();
        }
        assert!(matches!(replica.cosign(log.request(0)).await.unwrap(), CosignAnswer::Cosignature(_)));
        net.serve(region, &replica);
        others.push(replica);
    }
    let owed: Vec<_> = {
        let old = net.committee.seats().iter().find(|seat| seat.region == RegionId(1)).unwrap();
        let rows =
            |blob: &Blob| meridian_proofs::placement::interval(&net.committee, old, &blob.id(), blob.shape());
        blobs.iter().map(rows).collect()
    };
    net.anchor(&log);
    net.next_epoch(0, |parts| {
        parts.seats.iter_mut().find(|seat| seat.region == RegionId(1)).unwrap().address =
            seat_key(1).address();
        // The rows of new blobs lie elsewhere.
        parts.regions.pop();
        parts.seats.retain(|seat| seat.region != RegionId(3));
    });
    let open = async || {
        let settings = crate::replica::Settings { repair_wait_ms: 200, ..Default::default() };
        net.open_with(settings, 1, folders[0].path()).await
    };
    let check = async |replica: &Arc<Replica>| {
        for (blob, owed) in blobs.iter().zip(&owed) {
            check_held(replica, blob, owed.ranges()).await;
            assert!(replica.rows.is_named(&blob.id()).unwrap(), "or it would be dropped after an hour");
        }
        assert_eq!(replica.accounts.totals().0, 3);
    };
    let replica = open().await;
    let is_held = |replica: &Arc<Replica>, blob: &Blob| replica.rows.is_named(&blob.id()).unwrap();
    eventually(async || blobs.iter().all(|blob| is_held(&replica, blob))).await;
    check(&replica).await;
    eventually(async || replica.status().await.unwrap().repair_left == 0).await;
    let (until, bytes) = replica.accounts.charged(&gateway_key().address(), &blobs[1].id()).unwrap();
    assert_eq!(until, NOW + MIN_RETENTION);
    assert!(bytes > 0);
    // Nothing of it hangs on memory.
    replica.shutdown().await;
    drop(replica);
    let replica = open().await;
    check(&replica).await;
    // What comes into the old epoch until it closes is owed too.
    for (region, other) in [2, 3].into_iter().zip(&others) {
        net.back_to(FIRST);
        send(other, net.upload(region, &crooked)).await.unwrap();
        let last = Log { timestamp: NOW + 1, ..log.clone() }.with(&crooked);
        assert!(matches!(other.cosign(last.request(8)).await.unwrap(), CosignAnswer::Cosignature(_)));
        net.anchor(&last);
    }
    eventually(async || is_held(&replica, &crooked)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_seat_that_passed_on_are_waited_for() {
    let mut net = Net::new(2, 1, |parts| parts.seats[0].address = seat_key(9).address()).await;
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let blob = Blob::of(100_000, 1);
    let second = net.open(2, folders[1].path()).await;
    send(&second, net.upload(2, &blob)).await.unwrap();
    let log = net.log().with(&blob);
    second.cosign(log.request(0)).await.unwrap();
    let (place, endpoint) = net.place().await;
    net.anchor(&log);
    let gateway_folder = tempfile::tempdir().unwrap();
    let honest = keeper(&mut net, &log, gateway_folder.path(), |_, _| {}).await;
    net.next_epoch(0, |parts| {
        parts.seats.iter_mut().find(|seat| seat.region == RegionId(1)).unwrap().address =
            seat_key(1).address();
        parts.seats.iter_mut().find(|seat| seat.region == RegionId(2)).unwrap().endpoint = endpoint;
        parts.gateways[0].endpoint = honest;
    });
    let replica = net.open(1, folders[0].path()).await;
    // The gateway has the log, and nobody who is up has the rows.
    eventually(async || replica.status().await.unwrap().repair_left == 1).await;
    net.serve(place, &second);
    eventually(async || replica.status().await.unwrap().repair_left == 0).await;
    assert!(replica.rows.is_named(&blob.id()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_only_somebody_who_is_away_has_are_waited_for() {
    let mut net = Net::new(5, 1, |parts| {
        parts.seats[0].address = seat_key(9).address();
        parts.seats[0].endpoint = "http://127.0.0.1:1".to_owned();
    })
    .await;
    let folders: Vec<_> = (0..6).map(|_| tempfile::tempdir().unwrap()).collect();
    let blob = Blob::of(100_000, 1);
    let second = net.open(2, folders[0].path()).await;
    send(&second, net.upload(2, &blob)).await.unwrap();
    let log = net.log().with(&blob);
    second.cosign(log.request(0)).await.unwrap();
    let gateway = gateway_key().address();
    // Everybody else began later, and has the leaves alone.
    let (mut endpoints, asked) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
    for folder in &folders[1..5] {
        let db = Db::open(folder.path(), Role::Gateway, &LogStore::COLUMNS).unwrap();
        let logs = LogStore::new(db.clone());
        let mut batch = Batch::new();
        let leaves = [LogItem::Leaf(log.entries[0].leaf())];
        logs.append_items(&mut batch, &gateway, &mut CompactRange::empty(), &leaves);
        logs.set_anchored(&mut batch, &gateway, 1);
        db.commit(batch, Durability::Relaxed).unwrap();
        let asked = Arc::clone(&asked);
        let is_gateway = endpoints.len() == 3;
        let count = move || {
            asked.fetch_add(usize::from(is_gateway), Ordering::Relaxed);
        };
        endpoints.push(net.serve_log(logs, count).await);
    }
    net.anchor(&log);
    net.next_epoch(0, |parts| {
        for seat in &mut parts.seats {
            match seat.region.0 {
                1 => seat.address = seat_key(1).address(),
                2 => {}
                region => seat.endpoint.clone_from(&endpoints[usize::from(region) - 3]),
            }
        }
        parts.gateways[0].endpoint.clone_from(&endpoints[3]);
    });
    let replica = net.open(1, folders[5].path()).await;
    eventually(async || replica.status().await.unwrap().logs_behind == 0).await;
    // The gateway is asked last: from then on a first search has ended without the entry.
    asked.store(0, Ordering::Relaxed);
    eventually(async || asked.load(Ordering::Relaxed) > 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(replica.status().await.unwrap().repair_left, 1);
    assert_eq!(replica.logs().item(&gateway, 0).unwrap(), LogItem::Leaf(log.entries[0].leaf()));
    net.serve(2, &second);
    eventually(async || replica.rows.is_named(&blob.id()).unwrap()).await;
    eventually(async || replica.status().await.unwrap().repair_left == 0).await;
}
