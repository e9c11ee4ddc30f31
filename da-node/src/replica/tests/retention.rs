use std::sync::Arc;

use meridian_client::chain::view::{Head, View};
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::PayloadHash;
use meridian_proto::convert::{DisperseOutcome, Lookup, LookupKey};
use meridian_proto::error::EXPIRY;

use super::*;
use crate::replica::testing::*;
use crate::replica::{Dropped, Replica};
use crate::store::log::LogStore;
use crate::store::{Batch, Db, Durability, Role};

const GRACE_SECONDS: u64 = 3600;
/// Second at which rows of an entry of now may go.
const END: u64 = NOW + MIN_RETENTION + GRACE_SECONDS;
const NOTHING: Dropped = Dropped { unsigned: 0, expired: 0 };
const ONE: Dropped = Dropped { unsigned: 0, expired: 1 };

/// Sets the time of the settled block alone.
fn settle(net: &Net, timestamp: u64) {
    net.view.send_modify(|view| {
        let head = Some(Head { number: 1, timestamp });
        *view = Arc::new(View { head, ..View::clone(view) });
    });
}

async fn is_here(replica: &Replica, blob: &Blob) -> bool {
    replica.known(blob.id()).await.is_ok()
}

/// A replica that has cosigned a blob, and the log.
async fn one(net: &Net, folder: &std::path::Path) -> (Arc<Replica>, Blob, Log) {
    let replica = net.open(1, folder).await;
    let blob = Blob::of(3000, 1);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let log = net.log().with(&blob);
    replica.cosign(log.request(0)).await.unwrap();
    (replica, blob, log)
}

#[tokio::test]
async fn rows_go_when_clock_and_chain_say_so_and_not_a_second_earlier() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blob, _) = one(&net, folder.path()).await;
    for (clock, settled, expected) in [
        (NOW + 365 * 86_400, NOW, NOTHING),
        (NOW + 365 * 86_400, END - 1, NOTHING),
        (END - 1, NOW + 365 * 86_400, NOTHING),
        (NOW - 86_400, END, NOTHING),
        (END, END, ONE),
        (END, END, NOTHING),
    ] {
        net.clock.set(clock);
        settle(&net, settled);
        assert_eq!(is_here(&replica, &blob).await, expected != NOTHING || clock != END || settled != END);
        assert_eq!(replica.sweep().await.unwrap(), expected, "{clock} {settled}");
    }
    let refused = replica.known(blob.id()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::BlobExpired);
    assert_eq!(refused.metadata[EXPIRY], (NOW + MIN_RETENTION).to_string());
    assert_eq!(replica.accounts.totals(), (0, 0));
    assert!(!replica.rows.is_named(&blob.id()).unwrap());
    assert_eq!(replica.rows.next_expiry(None).unwrap(), None);
    // So it is after a start, and the log goes on.
    replica.shutdown().await;
    drop(replica);
    let replica = net.open(1, folder.path()).await;
    assert_eq!(replica.known(blob.id()).await.unwrap_err().reason, Reason::BlobExpired);
    assert_eq!(replica.known(Blob::of(9, 9).id()).await.unwrap_err().reason, Reason::BlobUnknown);
    assert_eq!(replica.logs().range(&gateway_key().address()).unwrap().size(), 1);
}

#[tokio::test]
async fn a_later_entry_prolongs_what_is_kept() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blob, mut log) = one(&net, folder.path()).await;
    net.clock.set(NOW + 600);
    log.timestamp = NOW + 600;
    let log = log.with(&blob);
    replica.cosign(log.request(1)).await.unwrap();
    net.clock.set(END + 599);
    settle(&net, END + 599);
    assert_eq!(replica.sweep().await.unwrap(), NOTHING);
    // The first entry is gone, and the blob stays.
    assert_eq!(replica.rows.next_expiry(None).unwrap().map(|it| it.at), Some(NOW + 600 + MIN_RETENTION));
    assert_eq!(replica.rows.entries(&blob.id(), 9).unwrap().len(), 1);
    assert!(is_here(&replica, &blob).await);
    net.clock.set(END + 600);
    settle(&net, END + 600);
    assert_eq!(replica.sweep().await.unwrap(), ONE);
}

/// Between the answer that rows are held and the entry that names them they must not go.
#[tokio::test]
async fn what_a_gateway_was_promised_stays_for_its_entry() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blob, mut log) = one(&net, folder.path()).await;
    net.clock.set(END);
    settle(&net, END);
    assert_eq!(send(&replica, net.upload(1, &blob)).await.unwrap(), DisperseOutcome::Held);
    assert_eq!(replica.sweep().await.unwrap(), NOTHING);
    log.timestamp = END;
    let log = log.with(&blob);
    replica.cosign(log.request(1)).await.unwrap();
    let end = END + MIN_RETENTION + GRACE_SECONDS;
    for (time, expected) in [(end - 1, NOTHING), (end, ONE)] {
        net.clock.set(time);
        settle(&net, time);
        assert_eq!(replica.sweep().await.unwrap(), expected);
    }
    // An entry that never comes does not keep them for ever.
    send(&replica, net.upload(1, &blob)).await.unwrap();
    assert!(is_here(&replica, &blob).await);
    for (time, expected) in [(end + 3599, NOTHING), (end + 3600, Dropped { unsigned: 1, expired: 0 })] {
        net.clock.set(time);
        assert_eq!(replica.sweep().await.unwrap(), expected);
    }
    assert_eq!(replica.known(blob.id()).await.unwrap_err().reason, Reason::BlobExpired);
}

#[tokio::test]
async fn deletion_and_cosigning_of_one_blob_never_leave_a_signature_without_rows() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blob, mut log) = one(&net, folder.path()).await;
    for round in 1..=4 {
        let now = NOW + round * (MIN_RETENTION + 2 * GRACE_SECONDS);
        net.clock.set(now);
        settle(&net, now);
        log.timestamp = now;
        let next = log.clone().with(&blob);
        let request = next.request(round.checked_sub(1).unwrap());
        let (swept, cosigned) = tokio::join!(replica.sweep(), replica.cosign(request.clone()));
        swept.unwrap();
        // Nobody else has the rows: where they went first, nothing was signed.
        if cosigned.is_err() {
            assert!(!is_here(&replica, &blob).await);
            send(&replica, net.upload(1, &blob)).await.unwrap();
            let start = replica.logs().range(&gateway_key().address()).unwrap().size();
            replica.cosign(next.request(start)).await.unwrap();
        }
        assert!(is_here(&replica, &blob).await);
        assert_eq!(replica.sweep().await.unwrap(), NOTHING);
        log = next;
    }
}

#[tokio::test]
async fn who_asks_by_payload_is_told_the_date_too() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let blob = Blob::of(3000, 1);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let hash = PayloadHash::from([5; 32]);
    let mut log = net.log().with(&blob);
    log.entries[0].payload_hash = hash;
    replica.cosign(log.request(0)).await.unwrap();
    let lookup = async |key| replica.lookup(Lookup { key, include_rlc: false, max_row_bytes: 0 }).await;
    assert_eq!(lookup(LookupKey::Payload(hash)).await.unwrap().len(), 1);
    net.clock.set(END);
    settle(&net, END);
    assert_eq!(replica.sweep().await.unwrap(), ONE);
    for key in [LookupKey::Payload(hash), LookupKey::Blob(blob.id())] {
        let error = lookup(key).await.unwrap_err();
        assert_eq!(error.reason, Reason::BlobExpired);
        assert_eq!(error.metadata[EXPIRY], (NOW + MIN_RETENTION).to_string());
    }
    let other = LookupKey::Payload(PayloadHash::from([6; 32]));
    assert_eq!(lookup(other).await.unwrap_err().reason, Reason::BlobUnknown);
}

/// Without a chain a checkpoint that enough regions have cosigned tells the time.
#[tokio::test]
async fn without_a_chain_a_quorum_confirms_the_time() {
    let mut net = Net::new(3, 2, |_| {}).await;
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let db = Db::open(folders[0].path(), Role::Gateway, &LogStore::COLUMNS).unwrap();
    let logs = LogStore::new(db.clone());
    let endpoint = net.serve_log(logs.clone(), || {}).await;
    let mut parts = net.committee.parts().clone();
    parts.gateways[0].endpoint = endpoint;
    net.committee = Arc::new(Committee::new(parts).unwrap());
    net.view.send_replace(Arc::new(View::fixed(Arc::clone(&net.committee))));

    let replica = net.open(1, folders[1].path()).await;
    let blob = Blob::of(3000, 1);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let log = net.log().with(&blob);
    // Alone in a network of three it may not sign: what it would have written is written here.
    let mut batch = Batch::new();
    replica.rows.put_entry(&mut batch, &gateway_key().address(), 0, &log.entries[0]);
    replica.db.commit(batch, Durability::Synced).unwrap();
    replica.note_signed(&blob.id());
    net.clock.set(END + 86_400);

    let domain = net.committee.domain();
    let tell = |timestamp: u64, signers: &[u16]| {
        let checkpoint = Log { timestamp, ..log.clone() }.checkpoint();
        let signed = log.sign(checkpoint);
        let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        for region in signers {
            let cosignature = seat_key(*region).sign(&checkpoint.digest(&domain));
            // A stranger's signature is one, too.
            let _ = cosigned.insert(&domain, cosignature);
        }
        let mut batch = Batch::new();
        let mut range = meridian_proofs::log::CompactRange::empty();
        logs.append(&mut batch, &gateway_key().address(), &mut range, &log.entries);
        logs.set_checkpoint(&mut batch, &cosigned);
        db.commit(batch, Durability::Synced).unwrap();
    };
    assert_eq!(replica.sweep().await.unwrap(), NOTHING, "nobody tells the time");
    for (timestamp, signers, expected) in
        [(END, &[1][..], NOTHING), (END, &[1, 9], NOTHING), (END - 1, &[1, 2], NOTHING), (END, &[2, 3], ONE)]
    {
        tell(timestamp, signers);
        assert_eq!(replica.sweep().await.unwrap(), expected, "{timestamp} {signers:?}");
    }
}

/// Whom it told before that rows are held it does not know any more.
#[tokio::test]
async fn for_an_hour_after_a_start_nothing_that_expired_goes() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blob, _) = one(&net, folder.path()).await;
    replica.shutdown().await;
    drop(replica);
    net.clock.set(END);
    settle(&net, END + 86_400);
    let replica = net.open(1, folder.path()).await;
    for (time, expected) in [(END + 3599, NOTHING), (END + 3600, ONE)] {
        net.clock.set(time);
        assert!(is_here(&replica, &blob).await);
        assert_eq!(replica.sweep().await.unwrap(), expected);
    }
}

/// An entry that is dated back and has expired takes no promise away.
#[tokio::test]
async fn an_entry_that_has_expired_ends_no_promise() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let blob = Blob::of(3000, 1);
    net.clock.set(END);
    settle(&net, END);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let mut log = net.log().with(&blob);
    log.timestamp = END;
    replica.cosign(log.request(0)).await.unwrap();
    assert_eq!(replica.sweep().await.unwrap(), NOTHING);
    assert!(is_here(&replica, &blob).await);
    net.clock.set(END + 3600);
    assert_eq!(replica.sweep().await.unwrap(), Dropped { unsigned: 0, expired: 1 });
}

#[tokio::test]
async fn what_is_damaged_does_not_keep_the_rest() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let blobs = [1, 2, 3].map(|seed| Blob::of(3000, seed));
    let mut log = net.log();
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
        log = log.with(blob);
    }
    replica.cosign(log.request(0)).await.unwrap();
    let named = "entries_by_blob";
    let (key, _) = replica.db.scan(named, blobs[1].id().as_bytes(), &[], 1).unwrap().remove(0);
    let mut batch = Batch::new();
    batch.put(named, key, &b"no entry"[..]);
    replica.db.commit(batch, Durability::Synced).unwrap();
    net.clock.set(END);
    settle(&net, END);
    assert_eq!(replica.sweep().await.unwrap(), Dropped { unsigned: 0, expired: 2 });
    assert!(is_here(&replica, &blobs[1]).await);
}
