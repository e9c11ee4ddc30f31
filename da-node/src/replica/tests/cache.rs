use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use meridian_client::chain::view::{Head, View};
use meridian_proofs::B256;
use meridian_proofs::encode::encode;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowIndex;
use meridian_proto::convert::{GetRows, GetSamples};

use super::*;
use crate::replica::cache::weight;
use crate::replica::rebuild::{Purpose, Source, Whole};
use crate::replica::testing::*;
use crate::replica::{Replica, Settings};

const LENGTH: usize = 100_000;
const STEP: Duration = Duration::from_millis(5);

/// A replica that holds its rows of some blobs, by itself enough to rebuild them.
async fn holding(net: &Net, settings: Settings, folder: &Path, blobs: &[Blob]) -> Arc<Replica> {
    let replica = net.open_with(settings, 2, folder).await;
    for blob in blobs {
        send(&replica, net.upload(2, blob)).await.unwrap();
    }
    replica
}

/// A row that the replica does not hold.
fn foreign(net: &Net, blob: &Blob) -> RowIndex {
    let held = net.interval(2, blob);
    blob.shape().all().indices().find(|row| !held.contains(*row)).unwrap()
}

/// Samples a row that the replica does not hold, and checks it.
async fn sample(net: &Net, replica: &Arc<Replica>, blob: &Blob) {
    let row = foreign(net, blob);
    let samples = replica.samples(GetSamples { blob_id: blob.id(), indices: vec![row] }).await.unwrap();
    let context = <BlobContext>::new(blob.id(), blob.header, blob.rlc.clone()).unwrap();
    let sample = samples.into_iter().next().unwrap();
    assert_eq!(sample.index, row);
    context.check_row(row, sample.row, &sample.path).unwrap();
}

async fn eventually(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(STEP).await;
    }
}

/// Bytes of the budget that rebuilding takes.
fn rebuilding(blob: &Blob) -> u64 {
    u64::try_from(blob.shape().total_bytes() + 2 * blob.shape().data_bytes()).unwrap()
}

#[tokio::test]
async fn many_who_ask_at_once_cost_one_rebuild_and_who_comes_later_none() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let replica = holding(&net, Settings::default(), folder.path(), std::slice::from_ref(&blob)).await;
    let all = join_all((0..50).map(|_| replica.whole_to_read(blob.id()))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let (first, source) = &all[0];
    assert_eq!(*source, Source::Rebuilt);
    assert!(all.iter().all(|(whole, _)| Arc::ptr_eq(whole, first)));
    for _ in 0..3 {
        let (whole, source) = replica.whole_to_read(blob.id()).await.unwrap();
        assert!(Arc::ptr_eq(&whole, first) && source == Source::Cache);
    }
    assert_eq!(replica.memory_used(), weight(blob.shape()));
    sample(&net, &replica, &blob).await;
    // What is on disk is read from there, and what only that may answer does not ask here.
    let start = foreign(&net, &blob).0;
    let request = GetRows { blob_id: blob.id(), start, count: 1, held_only: true };
    assert_eq!(refused(replica.rows(request).await), Reason::RowsMissing);
    // A whole range of rows, as a reader has it.
    let total = u32::try_from(blob.shape().total_rows()).unwrap();
    let request = GetRows { blob_id: blob.id(), start: 0, count: total, held_only: false };
    let rows: Vec<_> = replica.rows(request).await.unwrap().rows.map(Result::unwrap).collect().await;
    assert_eq!(rows.concat(), blob.all);
}

#[tokio::test]
async fn what_only_the_disk_may_answer_and_what_is_unknown_rebuilds_nothing() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let replica = holding(&net, Settings::default(), folder.path(), std::slice::from_ref(&blob)).await;
    let start = foreign(&net, &blob).0;
    let request = GetRows { blob_id: blob.id(), start, count: 1, held_only: true };
    assert_eq!(refused(replica.rows(request).await), Reason::RowsMissing);
    let stranger = Blob::of(LENGTH, 2).id();
    let request = GetRows { blob_id: stranger, start, count: 1, held_only: false };
    assert_eq!(refused(replica.rows(request).await), Reason::BlobUnknown);
    let request = GetSamples { blob_id: stranger, indices: vec![RowIndex(start)] };
    assert_eq!(refused(replica.samples(request).await), Reason::BlobUnknown);
    assert_eq!((replica.memory_used(), replica.rebuilds.count()), (0, 0));
    // The same row may be rebuilt for a reader.
    sample(&net, &replica, &blob).await;
    assert_eq!(replica.memory_used(), weight(blob.shape()));
}

#[tokio::test]
async fn a_cache_holds_what_fits_and_no_more() {
    let blobs = [1, 2, 3].map(|seed| Blob::of(LENGTH, seed));
    let one = weight(blobs[0].shape());
    for (cache_bytes, held) in [(0, 0), (one - 1, 0), (one, 1), (2 * one - 1, 1), (2 * one, 2)] {
        let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
        let settings = Settings { cache_bytes, ..Settings::default() };
        let replica = holding(&net, settings, folder.path(), &blobs).await;
        for blob in &blobs {
            sample(&net, &replica, blob).await;
            assert!(replica.memory_used() <= cache_bytes);
        }
        assert_eq!(replica.memory_used(), held * one, "{cache_bytes}");
        // The last ones stay.
        for (age, blob) in (0..).zip(blobs.iter().rev()) {
            assert_eq!(replica.cache.get(&blob.id()).is_some(), age < held);
        }
        // Those that do not fit are answered all the same.
        sample(&net, &replica, &blobs[0]).await;
    }
}

#[tokio::test]
async fn what_is_kept_takes_no_memory_from_rebuilding() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let blobs = [1, 2].map(|seed| Blob::of(LENGTH, seed));
    let settings = Settings {
        rebuild_memory_bytes: rebuilding(&blobs[0]),
        cache_bytes: weight(blobs[0].shape()),
        ..Settings::default()
    };
    let replica = holding(&net, settings, folder.path(), &blobs).await;
    let (first, _) = replica.whole_to_read(blobs[0].id()).await.unwrap();
    // Somebody still reads the first: it leaves the cache, and its memory stays counted there.
    let (second, source) = replica.whole_to_read(blobs[1].id()).await.unwrap();
    assert_eq!(source, Source::Rebuilt);
    assert!(replica.cache.get(&blobs[1].id()).is_none());
    // Of what it took to rebuild the second only the blob itself is left.
    assert_eq!(replica.rebuilds.memory_used(), weight(blobs[1].shape()));
    assert_eq!(refused(replica.whole_to_read(blobs[0].id()).await), Reason::MemoryBudget);
    drop((first, second));
    assert_eq!(replica.memory_used(), 0);
    sample(&net, &replica, &blobs[1]).await;
    assert_eq!(replica.memory_used(), weight(blobs[1].shape()));
}

#[tokio::test]
async fn what_is_dropped_from_disk_leaves_the_cache() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let settings = Settings::default();
    let end = NOW + MIN_RETENTION + settings.expiry_grace_seconds;
    let replica = holding(&net, settings, folder.path(), std::slice::from_ref(&blob)).await;
    // No entry names it yet: it is dropped for that.
    sample(&net, &replica, &blob).await;
    net.clock.set(NOW + 3600);
    assert_eq!(replica.sweep().await.unwrap().unsigned, 1);
    assert_eq!(replica.memory_used(), 0);
    // What is rebuilt while its blob is dropped does not come back.
    let encoded = Box::new(encode(&[7; LENGTH], B256::ZERO).unwrap());
    let context = <BlobContext>::new(encoded.id(), *encoded.header(), encoded.rlc().clone()).unwrap();
    let bytes = weight(encoded.shape());
    let (room, memory) = (replica.cache.room(bytes), replica.upload_memory.try_reserve(0).unwrap());
    let id = encoded.id();
    drop(replica.done(Arc::new(context), encoded, Purpose::Read, room, memory).await);
    assert!(replica.cache.get(&id).is_none());
    assert_eq!(replica.memory_used(), 0);
    replica.shutdown().await;
    drop(replica);

    net.clock.set(NOW);
    let replica = holding(&net, Settings::default(), folder.path(), std::slice::from_ref(&blob)).await;
    replica.cosign(net.log().with(&blob).request(0)).await.unwrap();
    sample(&net, &replica, &blob).await;
    net.clock.set(end + 3600);
    net.view.send_modify(|view| {
        let head = Some(Head { number: 1, timestamp: end + 3600 });
        *view = Arc::new(View { head, ..View::clone(view) });
    });
    assert_eq!(replica.sweep().await.unwrap().expired, 1);
    assert_eq!(replica.memory_used(), 0);
    let request = GetSamples { blob_id: blob.id(), indices: vec![foreign(&net, &blob)] };
    assert_eq!(refused(replica.samples(request).await), Reason::BlobExpired);
}

#[tokio::test]
async fn what_is_no_code_word_is_never_kept() {
    let (net, crooked) = (Net::alone().await, Blob::crooked(LENGTH, 1));
    // One region takes the data rows; the others refuse what they are sent.
    for region in 1..=5 {
        let folder = tempfile::tempdir().unwrap();
        let replica = net.open(region, folder.path()).await;
        if send(&replica, net.upload(region, &crooked)).await.is_ok() {
            let parity = RowIndex(u32::try_from(crooked.shape().data_rows()).unwrap());
            for _ in 0..2 {
                let request = GetSamples { blob_id: crooked.id(), indices: vec![parity] };
                assert_eq!(refused(replica.samples(request).await), Reason::BlobInconsistent);
                assert!(replica.cache.get(&crooked.id()).is_none());
                assert_eq!(replica.memory_used(), 0);
            }
            return;
        }
        replica.shutdown().await;
    }
    panic!("nobody took the data rows");
}

#[tokio::test]
async fn a_rebuild_goes_on_without_its_caller_once_it_has_begun_and_not_before() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let blobs = [1, 2].map(|seed| Blob::of(LENGTH, seed));
    let settings = Settings { rebuilds: 1, rebuild_queue: 1, ..Settings::default() };
    let replica = holding(&net, settings, folder.path(), &blobs).await;
    let ask = |blob: &Blob| {
        let (replica, id) = (Arc::clone(&replica), blob.id());
        tokio::spawn(async move { replica.whole_to_read(id).await.map(drop) })
    };
    // All places are taken: the caller goes before there is one.
    let place = replica.rebuilds.take_place().await;
    let caller = ask(&blobs[0]);
    eventually(|| replica.rebuilds.count() == 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let (caller, stays) = (ask(&blobs[1]), ask(&blobs[1]));
    eventually(|| replica.rebuilds.count() == 2).await;
    // The queue is full for others, and not for who waits for the same.
    assert_eq!(refused(replica.whole_to_read(Blob::of(LENGTH, 3).id()).await), Reason::TooManyRequests);
    caller.abort();
    drop(place);
    stays.await.unwrap().unwrap();
    eventually(|| replica.rebuilds.count() == 0).await;
    assert!(replica.cache.get(&blobs[0].id()).is_none(), "rebuilt for nobody");
    assert!(replica.cache.get(&blobs[1].id()).is_some());
    // The caller goes once it has begun.
    let caller = ask(&blobs[0]);
    eventually(|| replica.rebuilds.memory_used() > 0 || replica.cache.get(&blobs[0].id()).is_some()).await;
    caller.abort();
    eventually(|| replica.cache.get(&blobs[0].id()).is_some()).await;
    let (whole, source) = replica.whole_to_read(blobs[0].id()).await.unwrap();
    assert!(matches!(&*whole, Whole::Blob { .. }) && source == Source::Cache);
    drop(whole);
    let kept = weight(blobs[0].shape()) + weight(blobs[1].shape());
    eventually(|| replica.memory_used() == kept).await;
}

#[tokio::test]
async fn what_nobody_asks_for_is_given_back() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let settings = Settings { cache_idle_seconds: 1, ..Settings::default() };
    let replica = holding(&net, settings, folder.path(), std::slice::from_ref(&blob)).await;
    sample(&net, &replica, &blob).await;
    eventually(|| replica.memory_used() == 0).await;
    sample(&net, &replica, &blob).await;
}
