use std::sync::Arc;
use std::time::Duration;

use meridian_proto::convert::{CosignAnswer, DisperseOutcome};
use tempfile::TempDir;

use super::*;
use crate::replica::rows::Part;
use crate::replica::testing::*;
use crate::replica::{Replica, Settings};
use crate::store::tests::copy_folder;
use crate::store::{Batch, Durability};

const LENGTH: usize = 300_000;

/// Where a part is kept.
fn place(blob: &Blob, part: Part) -> (&'static str, Vec<u8>) {
    let numbered = |numbers: &[usize]| {
        let numbers: Vec<_> = numbers.iter().flat_map(|n| u64::try_from(*n).unwrap().to_be_bytes()).collect();
        [&blob.id().as_bytes()[..], &numbers].concat()
    };
    match part {
        Part::Record => ("blobs", numbered(&[])),
        Part::Rlc => ("rlc_vectors", numbered(&[])),
        Part::Leaves(place) => ("row_leaves", numbered(&[place])),
        Part::Rows(place, piece) => ("rows", numbered(&[place, piece])),
    }
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Lost,
    /// Another one, with a right checksum.
    Wrong,
}

fn harm(replica: &Replica, blob: &Blob, part: Part, harm: Harm) {
    let (column, key) = place(blob, part);
    let before = replica.db.get(column, &key).unwrap().unwrap();
    let mut batch = Batch::new();
    match harm {
        Harm::Lost => batch.delete(column, key),
        Harm::Wrong => {
            let mut wrong = before.to_vec();
            wrong[before.len() / 2] ^= 1;
            batch.put(column, key, wrong);
        }
    }
    replica.db.commit(batch, Durability::Synced).unwrap();
}

async fn quarantined(replica: &Arc<Replica>) -> u64 {
    replica.status().await.unwrap().quarantined
}

/// A network of five replicas that all hold a blob and have cosigned it.
async fn all(net: &mut Net, blob: &Blob) -> (Vec<Arc<Replica>>, Vec<TempDir>) {
    let (mut replicas, mut folders) = (Vec::new(), Vec::new());
    for region in 1..=5 {
        let folder = tempfile::tempdir().unwrap();
        let replica = net.open(region, folder.path()).await;
        send(&replica, net.upload(region, blob)).await.unwrap();
        net.serve(region, &replica);
        replicas.push(replica);
        folders.push(folder);
    }
    let request = net.log().with(blob).request(0);
    for replica in &replicas {
        replica.cosign(request.clone()).await.unwrap();
    }
    (replicas, folders)
}

#[tokio::test]
async fn what_is_damaged_is_found_set_aside_and_repaired() {
    let mut net = Net::new(5, 1, |_| {}).await;
    let blob = Blob::of(LENGTH, 1);
    let (replicas, _folders) = all(&mut net, &blob).await;
    for (region, replica) in (1..).zip(&replicas) {
        let held = net.interval(region, &blob);
        let mut parts = vec![Part::Rlc, Part::Leaves(0), Part::Rows(0, 0), Part::Rows(0, 1)];
        if region == 1 {
            parts.push(Part::Record);
        }
        for part in parts {
            for how in [Harm::Lost, Harm::Wrong] {
                if let (Part::Record, Harm::Lost) = (part, how) {
                    // Then nothing of it is known: the log's entry says that it is owed.
                    continue;
                }
                let (column, key) = place(&blob, part);
                let before = replica.db.get(column, &key).unwrap();
                harm(replica, &blob, part, how);
                replica.scrub_blob(blob.id()).await.unwrap();
                assert!(replica.repair_blob(blob.id()).await, "{region} {part:?} {how:?}");
                assert_eq!(quarantined(replica).await, 0, "{region} {part:?} {how:?}");
                assert_eq!(replica.db.get(column, &key).unwrap(), before, "{region} {part:?} {how:?}");
                check_held(replica, &blob, held.ranges()).await;
            }
        }
        // Everything at once.
        for part in [Part::Rlc, Part::Leaves(0), Part::Rows(0, 0), Part::Rows(0, 1)] {
            harm(replica, &blob, part, Harm::Lost);
        }
        replica.scrub_blob(blob.id()).await.unwrap();
        assert!(replica.repair_blob(blob.id()).await);
        assert_eq!(quarantined(replica).await, 0);
        check_held(replica, &blob, held.ranges()).await;
    }
}

#[tokio::test]
async fn nothing_damaged_is_served_or_vouched_for_until_it_is_repaired() {
    let net = Net::alone().await;
    let blob = Blob::of(LENGTH, 1);
    let folder = tempfile::tempdir().unwrap();
    let replica = net.open(1, folder.path()).await;
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let log = net.log().with(&blob);
    replica.cosign(log.request(0)).await.unwrap();
    let held = net.interval(1, &blob);
    harm(&replica, &blob, Part::Rows(0, 1), Harm::Wrong);
    replica.scrub_blob(blob.id()).await.unwrap();
    assert_eq!(quarantined(&replica).await, 1);
    // Nobody else has it: no reader gets it, no checkpoint that names it again is cosigned.
    assert!(get_all(&replica, &blob, &held).await.is_err());
    let mut again = log.clone();
    again.timestamp += 1;
    let again = again.with(&blob);
    assert_eq!(refused(replica.cosign(again.request(1)).await), Reason::RowsMissing);
    // So it is after a start.
    replica.shutdown().await;
    drop(replica);
    let replica = net.open(1, folder.path()).await;
    assert_eq!(quarantined(&replica).await, 1);
    // Whoever uploads it again is taken at his word that it is needed.
    assert_eq!(send(&replica, net.upload(1, &blob)).await.unwrap(), DisperseOutcome::Stored);
    assert_eq!(quarantined(&replica).await, 0);
    check_held(&replica, &blob, held.ranges()).await;
    assert!(matches!(replica.cosign(again.request(1)).await.unwrap(), CosignAnswer::Cosignature(_)));
    assert_eq!(send(&replica, net.upload(1, &blob)).await.unwrap(), DisperseOutcome::Held);
}

async fn get_all(
    replica: &Arc<Replica>,
    blob: &Blob,
    held: &meridian_proofs::placement::Interval,
) -> Result<Vec<bytes::Bytes>, ApiError> {
    use futures::TryStreamExt;
    let (start, count) = (held.ranges()[0].start(), held.ranges()[0].count());
    let request = meridian_proto::convert::GetRows { blob_id: blob.id(), start, count, held_only: false };
    replica.rows(request).await?.rows.try_collect().await
}

/// A reader that comes across damage has it repaired.
#[tokio::test]
async fn what_readers_come_across_is_repaired_soon() {
    let mut net = Net::new(5, 1, |_| {}).await;
    let blob = Blob::of(LENGTH, 1);
    let (replicas, _folders) = all(&mut net, &blob).await;
    let held = net.interval(2, &blob);
    harm(&replicas[1], &blob, Part::Rows(0, 1), Harm::Lost);
    get_all(&replicas[1], &blob, &held).await.ok();
    for _ in 0..200 {
        if get_held(&replicas[1], &blob, &held).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not repaired");
}

async fn get_held(replica: &Arc<Replica>, blob: &Blob, held: &meridian_proofs::placement::Interval) -> bool {
    let (column, key) = place(blob, Part::Rows(0, 1));
    assert!(!held.ranges().is_empty());
    replica.db.get(column, &key).unwrap().is_some()
}

/// The entry of a log says what is owed, also when nothing else is left of it.
#[tokio::test]
async fn a_blob_that_was_lost_whole_is_brought_back_by_its_entry() {
    let mut net = Net::new(5, 1, |_| {}).await;
    let blob = Blob::of(LENGTH, 1);
    let (mut replicas, folders) = all(&mut net, &blob).await;
    let replica = replicas.remove(2);
    let mut batch = Batch::new();
    replica.rows.delete_unread(&mut batch, &blob.id()).unwrap();
    replica.db.commit(batch, Durability::Synced).unwrap();
    replica.shutdown().await;
    drop(replica);
    // Whoever is served from a store that is closed would keep it open: this one is opened beside it.
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folders[2].path(), copy.path());
    let replica = net.open(3, copy.path()).await;
    let held = net.interval(3, &blob);
    for _ in 0..200 {
        if replica.known(blob.id()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check_held(&replica, &blob, held.ranges()).await;
}

#[tokio::test]
async fn a_pass_goes_on_where_it_was_and_ends() {
    let net = Net::alone().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { scrub_period_seconds: 1000, ..Settings::default() };
    let replica = net.open_with(settings.clone(), 1, folder.path()).await;
    for _ in 0..200 {
        if replica.status().await.unwrap().scrubbed_at != 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let blobs: Vec<Blob> = (0..5).map(|seed| Blob::of(3000, seed)).collect();
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
    }
    replica.shutdown().await;
    let mut ids: Vec<_> = blobs.iter().map(Blob::id).collect();
    ids.sort();
    net.clock.set(NOW + 2000);
    let mut seen = Vec::new();
    while replica.scrub_next().await.unwrap() {
        let pass = replica.rows.pass().unwrap();
        assert!(pass.began > pass.ended);
        seen.extend(pass.done);
    }
    assert_eq!(seen, ids);
    let pass = replica.rows.pass().unwrap();
    assert_eq!((pass.began, pass.ended), (NOW + 2000, NOW + 2000));
    assert!(!replica.scrub_next().await.unwrap(), "the next is not due");
    net.clock.set(NOW + 2999);
    assert!(!replica.scrub_next().await.unwrap());
    net.clock.set(NOW + 3000);
    assert!(replica.scrub_next().await.unwrap());
    assert_eq!(replica.rows.pass().unwrap().done, Some(ids[0]));
}

#[tokio::test]
async fn a_pass_that_is_asked_for_begins_whether_it_is_due_or_not() {
    let net = Net::alone().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { scrub_period_seconds: 1000, ..Settings::default() };
    let replica = net.open_with(settings, 1, folder.path()).await;
    for _ in 0..200 {
        if replica.status().await.unwrap().scrubbed_at != 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let blob = Blob::of(3000, 1);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    replica.shutdown().await;
    assert!(!replica.scrub_next().await.unwrap(), "none is due");
    assert!(!replica.scrub_now().await);
    assert!(replica.scrub_next().await.unwrap());
    assert_eq!(replica.rows.pass().unwrap().done, Some(blob.id()));
    // The next one follows that.
    assert!(replica.scrub_now().await);
    let mut passes = 1;
    for _ in 0..3 {
        let began = replica.rows.pass().unwrap().began;
        replica.scrub_next().await.unwrap();
        passes += usize::from(replica.rows.pass().unwrap().began != began);
    }
    assert_eq!(passes, 2);
    assert!(!replica.scrub_next().await.unwrap(), "nobody has asked again");
}
