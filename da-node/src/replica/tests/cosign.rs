use std::sync::Arc;

use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Checkpoint, Domain, SignedCheckpoint};
use meridian_proofs::log::CompactRange;
use meridian_proto::convert::{CosignAnswer, CosignRequest, LogItem, Lookup, LookupKey};
use meridian_proto::error::Class;

use super::*;
use crate::replica::Replica;
use crate::replica::testing::*;
use crate::store::{Batch, Durability};

/// A replica that holds three small blobs.
async fn ready(net: &Net, folder: &std::path::Path) -> (Arc<Replica>, Vec<Blob>) {
    let replica = net.open(1, folder).await;
    let blobs: Vec<_> = (1..4).map(|seed| Blob::of(3000, seed)).collect();
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
    }
    (replica, blobs)
}

fn own_signature(net: &Net, request: &CosignRequest) -> CosignAnswer {
    CosignAnswer::Cosignature(seat_key(1).sign(&request.signed.checkpoint.digest(&net.committee.domain())))
}

fn size(replica: &Replica) -> u64 {
    replica.logs().range(&gateway_key().address()).unwrap().size()
}

#[tokio::test]
async fn a_growing_log_is_cosigned_and_what_is_signed_is_on_disk() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let empty = net.log();
    let one = net.log().with(&blobs[0]);
    let mut three = one.clone();
    three.timestamp += 5;
    let three = three.with(&blobs[1]).with(&blobs[2]);
    for request in [empty.request(0), one.request(0), three.request(1)] {
        assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
    }
    replica.shutdown().await;
    drop(replica);
    let replica = net.open(1, folder.path()).await;
    let log = gateway_key().address();
    assert_eq!(size(&replica), 3);
    let latest = replica.logs().checkpoint(&log).unwrap().unwrap();
    assert_eq!(latest.signed, three.request(0).signed);
    assert_eq!(latest.signers(&net.committee.domain()).unwrap(), [seat_key(1).address()]);
    let items: Vec<_> = three.entries.iter().copied().map(LogItem::Entry).collect();
    assert_eq!(replica.logs().items(&log, 0, 3).unwrap(), items);
    let lookup = Lookup { key: LookupKey::Blob(blobs[1].id()), include_rlc: true, max_row_bytes: 0 };
    let found = replica.lookup(lookup).await.unwrap();
    assert_eq!(
        found[0].entries.iter().map(|e| (e.index, e.entry)).collect::<Vec<_>>(),
        [(1, three.entries[1])]
    );
    assert_eq!(found[0].rlc.as_ref(), Some(&blobs[1].rlc));
    // A rollback and a fork are refused after a start as before.
    let mut rollback = one.clone();
    rollback.timestamp += 9;
    assert_eq!(refused(replica.cosign(rollback.request(0)).await), Reason::LogRollback);
    let mut fork = net.log().with(&blobs[1]).with(&blobs[0]).with(&blobs[2]);
    fork.timestamp += 9;
    assert_eq!(refused(replica.cosign(fork.request(3)).await), Reason::LogFork);
}

#[tokio::test]
async fn what_was_cosigned_is_answered_again_and_a_newer_timestamp_signed() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let mut log = net.log().with(&blobs[0]);
    let first = log.request(0);
    let answer = replica.cosign(first.clone()).await.unwrap();
    net.clock.set(NOW + 1_000_000);
    assert_eq!(replica.cosign(first.clone()).await.unwrap(), answer, "whatever the clock says");
    assert_eq!(replica.cosign(log.request(1)).await.unwrap(), answer);
    log.timestamp = NOW + 1_000_000;
    let newer = log.request(1);
    assert_eq!(replica.cosign(newer.clone()).await.unwrap(), own_signature(&net, &newer));
    assert_eq!(size(&replica), 1);
    log.timestamp -= 1;
    assert_eq!(refused(replica.cosign(log.request(1)).await), Reason::TimestampOutOfRange);
    net.clock.set(NOW);
    assert_eq!(refused(replica.cosign(first).await), Reason::TimestampOutOfRange);
}

#[tokio::test]
async fn entries_are_asked_for_from_what_is_here_and_overlaps_compared() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let one = net.log().with(&blobs[0]);
    let three = one.clone().with(&blobs[1]).with(&blobs[2]);
    assert_eq!(replica.cosign(three.request(1)).await.unwrap(), CosignAnswer::EntriesFrom(0));
    replica.cosign(one.request(0)).await.unwrap();
    assert_eq!(replica.cosign(three.request(2)).await.unwrap(), CosignAnswer::EntriesFrom(1));
    let mut request = three.request(0);
    request.entries[0].namespace = [8; 32].into();
    assert_eq!(refused(replica.cosign(request).await), Reason::LogFork);
    let request = three.request(0);
    assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
}

#[tokio::test]
async fn a_checkpoint_that_breaks_a_rule_is_refused_and_changes_nothing() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let base = net.log().with(&blobs[0]);
    replica.cosign(base.request(0)).await.unwrap();
    let good = base.clone().with(&blobs[1]);
    type Spoil = Box<dyn Fn(&mut Log)>;
    let entry = |change: fn(&mut meridian_proofs::log::LogEntry)| -> Spoil {
        Box::new(move |log| change(&mut log.entries[1]))
    };
    let logs: Vec<(&str, Spoil, Reason)> = vec![
        ("stranger", Box::new(|l| l.key = [66; 32]), Reason::NotAGateway),
        ("epoch of the checkpoint", Box::new(|l| l.epoch += 1), Reason::WrongEpoch),
        ("epoch of an entry", entry(|e| e.epoch -= 1), Reason::EntryEpochMismatch),
        ("expiry in a minute", entry(|e| e.expiry = e.time + 60), Reason::EntryRetentionOutOfRange),
        (
            "just too short",
            entry(|e| e.expiry = e.time + MIN_RETENTION - 1),
            Reason::EntryRetentionOutOfRange,
        ),
        ("just too long", entry(|e| e.expiry = e.time + MAX_RETENTION + 1), Reason::EntryRetentionOutOfRange),
        (
            "expiry in a century",
            entry(|e| e.expiry = e.time + 100 * 365 * 86_400),
            Reason::EntryRetentionOutOfRange,
        ),
        ("expiry before time", entry(|e| e.expiry = e.time - 1), Reason::EntryRetentionOutOfRange),
        ("end of time", entry(|e| e.expiry = u64::MAX), Reason::EntryRetentionOutOfRange),
        ("length", entry(|e| e.length += 1), Reason::EntryLengthMismatch),
        (
            "time falls",
            entry(|e| {
                e.time -= 1;
                e.expiry -= 1;
            }),
            Reason::TimeFalls,
        ),
        (
            "time ahead",
            entry(|e| {
                e.time += 1;
                e.expiry += 1;
            }),
            Reason::TimeFalls,
        ),
        ("far behind", Box::new(|l| l.timestamp = NOW - 61), Reason::TimestampOutOfRange),
        ("below the last", Box::new(|l| l.timestamp = NOW - 1), Reason::TimestampOutOfRange),
        ("far ahead", Box::new(|l| l.timestamp = NOW + 61), Reason::TimestampOutOfRange),
        ("rollback", Box::new(|l| l.entries.clear()), Reason::LogRollback),
        ("fork of the same size", Box::new(|l| l.entries = l.entries.split_off(1)), Reason::LogFork),
        ("rewritten entry", Box::new(|l| l.entries[0].namespace = [1; 32].into()), Reason::LogFork),
    ];
    for (what, spoil, reason) in logs {
        let mut log = good.clone();
        spoil(&mut log);
        let start = u64::from(reason != Reason::LogFork && !log.entries.is_empty());
        let error = replica.cosign(log.request(start.min(log.entries.len() as u64))).await.unwrap_err();
        assert_eq!(error.reason, reason, "{what}: {error}");
        assert_eq!(size(&replica), 1, "{what}");
    }
    let signed = |checkpoint| CosignRequest { signed: good.sign(checkpoint), ..good.request(1) };
    let right = good.checkpoint();
    let root = signed(Checkpoint { root: B256::repeat_byte(1), ..right });
    assert_eq!(refused(replica.cosign(root).await), Reason::RootMismatch);
    let skip = signed(Checkpoint { size: 3, ..right });
    assert_eq!(refused(replica.cosign(skip).await), Reason::LogGap);
    let mut forged = good.request(1);
    forged.signed.checkpoint.timestamp += 1;
    assert_eq!(refused(replica.cosign(forged).await), Reason::SignatureInvalid);
    let domain = net.committee.domain();
    for other in [
        Domain { chain_id: domain.chain_id + 1, ..domain },
        Domain { verifying_contract: gateway_key().address(), ..domain },
    ] {
        let replayed = SignedCheckpoint::sign(right, &other, &gateway_key());
        let request = CosignRequest { signed: replayed, ..good.request(1) };
        assert_eq!(refused(replica.cosign(request).await), Reason::SignatureInvalid);
    }
    let mut unsent = base.clone();
    unsent.entries.push(base.entry(&Blob::of(5000, 77)));
    let error = replica.cosign(unsent.request(1)).await.unwrap_err();
    assert_eq!((error.reason, error.class()), (Reason::RowsMissing, Class::Unavailable));
    assert_eq!(size(&replica), 1);
    let request = good.request(1);
    assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
}

#[tokio::test]
async fn timestamps_at_the_edge_are_cosigned() {
    for offset in [-60_i64, 60] {
        let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
        let (replica, blobs) = ready(&net, folder.path()).await;
        let mut log = net.log();
        log.timestamp = NOW.checked_add_signed(offset).unwrap();
        let request = log.with(&blobs[0]).request(0);
        assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
    }
}

#[tokio::test]
async fn expired_entries_need_no_rows() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let mut log = net.log();
    let mut entry = log.entry(&Blob::of(3000, 1));
    (entry.time, entry.expiry) = (NOW - MIN_RETENTION, NOW);
    log.entries.push(entry);
    replica.cosign(log.request(0)).await.unwrap();
}

#[tokio::test]
async fn entries_an_hour_are_limited() {
    let net = Net::new(5, 1, |parts| parts.gateways[0].max_entries_per_hour = 2).await;
    let folder = tempfile::tempdir().unwrap();
    let (replica, blobs) = ready(&net, folder.path()).await;
    let two = net.log().with(&blobs[0]).with(&blobs[1]);
    let mut three = two.clone().with(&blobs[2]);
    assert_eq!(refused(replica.cosign(three.request(0)).await), Reason::QuotaExceeded);
    replica.cosign(two.request(0)).await.unwrap();
    let error = replica.cosign(three.request(2)).await.unwrap_err();
    assert_eq!((error.class(), error.retry_after.is_some()), (Class::Overloaded, true));
    net.clock.set(NOW + 3600);
    three.timestamp = NOW + 3600;
    three.entries[2] = three.entry(&blobs[2]);
    replica.cosign(three.request(2)).await.unwrap();
}

#[tokio::test]
async fn the_same_request_many_times_at_once_has_one_outcome() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let one = net.log().with(&blobs[0]);
    let fork = net.log().with(&blobs[1]);
    let calls = (0..12).map(|i| replica.cosign(if i % 2 == 0 { one.request(0) } else { fork.request(0) }));
    let answers = futures::future::join_all(calls).await;
    let signed = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(signed, 6, "one of the two, every time");
    assert!(answers.into_iter().filter_map(Result::err).all(|error| error.reason == Reason::LogFork));
    assert_eq!(size(&replica), 1);
}

/// Puts a log on disk as one that came from others, who have certified it.
fn fill(replica: &Replica, log: &Log) {
    let (gateway, mut batch) = (log.checkpoint().gateway, Batch::new());
    replica.logs.append(&mut batch, &gateway, &mut CompactRange::empty(), &log.entries);
    replica.logs.set_anchored(&mut batch, &gateway, log.checkpoint().size);
    replica.db.commit(batch, Durability::Relaxed).unwrap();
}

#[tokio::test]
async fn entries_that_came_from_others_are_cosigned_with_their_rows_alone() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let missing = Blob::of(3000, 9);
    let log = net.log().with(&blobs[0]).with(&missing);
    fill(&replica, &log);
    let next = log.with(&blobs[1]);
    for start in [2, 3] {
        let answer = replica.cosign(next.request(start)).await.unwrap();
        assert_eq!(answer, CosignAnswer::EntriesFrom(0), "from {start}");
    }
    assert_eq!(refused(replica.cosign(next.request(0)).await), Reason::RowsMissing);
    assert_eq!(replica.logs().checkpoint(&gateway_key().address()).unwrap(), None);
    send(&replica, net.upload(1, &missing)).await.unwrap();
    let request = next.request(0);
    assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
    assert_eq!(size(&replica), 3);
    // They are named, so that no sweep takes their rows.
    let lookup = Lookup { key: LookupKey::Blob(missing.id()), include_rlc: false, max_row_bytes: 0 };
    let found = replica.lookup(lookup).await.unwrap();
    assert_eq!(found[0].entries.iter().map(|e| e.index).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_log_that_came_from_others_is_cosigned_step_by_step_and_in_no_other_form() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (replica, blobs) = ready(&net, folder.path()).await;
    let one = net.log().with(&blobs[0]);
    let all = one.clone().with(&blobs[1]).with(&blobs[2]);
    fill(&replica, &all);
    let request = one.request(0);
    assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
    assert_eq!(size(&replica), 3);
    let mut fork = one.clone().with(&blobs[2]);
    fork.timestamp += 1;
    assert_eq!(refused(replica.cosign(fork.request(1)).await), Reason::LogFork);
    let mut none = net.log();
    none.timestamp += 1;
    assert_eq!(refused(replica.cosign(none.request(0)).await), Reason::LogRollback);
    let request = all.request(1);
    assert_eq!(replica.cosign(request.clone()).await.unwrap(), own_signature(&net, &request));
    assert_eq!(size(&replica), 3);
}
