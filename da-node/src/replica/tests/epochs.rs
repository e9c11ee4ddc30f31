//! What a replica takes and signs in which epoch.

use std::sync::Arc;

use meridian_client::chain::view::View;
use meridian_proofs::committee::epochs::Epochs;
use meridian_proofs::committee::{CommitteeParts, GatewayMember, RegionId};
use meridian_proofs::signature::SecretKey;
use meridian_proto::convert::{CosignAnswer, DisperseOutcome};
use meridian_proto::error::Class;

use super::*;
use crate::replica::Replica;
use crate::replica::testing::*;

/// The first epoch of a test network, and how soon the next begins.
const FIRST: u64 = 3;
const SOON: u64 = 50;

fn stranger() -> SecretKey {
    SecretKey::from_bytes([66; 32]).unwrap()
}

fn is_signed(answer: Result<CosignAnswer, ApiError>) -> bool {
    matches!(answer.unwrap(), CosignAnswer::Cosignature(_))
}

/// Without the last region: rows are placed anew.
fn four_regions(parts: &mut CommitteeParts) {
    parts.regions.pop();
    parts.seats.retain(|seat| seat.region != RegionId(5));
}

/// The seat of region 1 was another's.
fn other_first(parts: &mut CommitteeParts) {
    parts.seats[0].address = stranger().address();
}

fn own_first(parts: &mut CommitteeParts) {
    let seat = parts.seats.iter_mut().find(|seat| seat.region == RegionId(1)).unwrap();
    seat.address = seat_key(1).address();
}

#[tokio::test]
async fn uploads_are_taken_from_the_activation_until_the_epoch_closes() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let blob = |seed| Blob::of(3000, seed);
    net.next_epoch(SOON, four_regions);
    net.clock.set(NOW + SOON - 1);
    let error = send(&replica, net.upload(1, &blob(1))).await.unwrap_err();
    assert_eq!((error.reason, error.class()), (Reason::EpochPending, Class::Unavailable));
    net.clock.set(NOW + SOON);
    assert_eq!(send(&replica, net.upload(1, &blob(1))).await.unwrap(), DisperseOutcome::Stored);
    net.back_to(FIRST);
    net.clock.set(NOW + SOON + GRACE - 1);
    assert_eq!(send(&replica, net.upload(1, &blob(2))).await.unwrap(), DisperseOutcome::Stored);
    net.clock.set(NOW + SOON + GRACE);
    assert_eq!(refused(send(&replica, net.upload(1, &blob(3))).await), Reason::WrongEpoch);
}

#[tokio::test]
async fn an_epoch_that_is_not_known_is_waited_for_where_there_is_a_chain() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let log = |epoch| Log { epoch, ..net.log() };
    let (past, next) = (log(FIRST - 1), log(FIRST + 1));
    assert_eq!(refused(replica.cosign(next.request(0)).await), Reason::WrongEpoch);
    net.next_epoch(SOON, |_| {});
    let unknown = Log { epoch: FIRST + 2, ..net.log() };
    assert_eq!(refused(replica.cosign(unknown.request(0)).await), Reason::EpochPending);
    assert_eq!(refused(replica.cosign(past.request(0)).await), Reason::WrongEpoch);
}

#[tokio::test]
async fn each_epoch_has_rows_of_its_own_and_the_gateway_owes_room_for_both() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let (mut seed, mut blob) = (0, Blob::of(3000, 0));
    let mut before = net.interval(1, &blob);
    let old = Arc::clone(&net.committee);
    net.next_epoch(0, four_regions);
    // A blob whose rows move.
    while net.interval(1, &blob) == before {
        seed += 1;
        blob = Blob::of(3000, seed);
        before = meridian_proofs::placement::interval(
            &old,
            old.seat(&seat_key(1).address()).unwrap(),
            &blob.id(),
            blob.shape(),
        );
    }
    net.back_to(FIRST);
    assert_eq!(send(&replica, net.upload(1, &blob)).await.unwrap(), DisperseOutcome::Stored);
    let one = net.log().with(&blob);
    assert!(is_signed(replica.cosign(one.request(0)).await));
    let charged = || replica.accounts.charged(&gateway_key().address(), &blob.id()).unwrap();
    let (_, bytes) = charged();
    net.back_to(FIRST + 1);
    let mut two = Log { epoch: FIRST + 1, ..one.clone() };
    two = two.with(&blob);
    // One region's rows are enough to make those of any other place.
    assert!(is_signed(replica.cosign(two.request(1)).await));
    assert_eq!(send(&replica, net.upload(1, &blob)).await.unwrap(), DisperseOutcome::Held);
    let held = replica.known(blob.id()).await.unwrap();
    assert!(held.row_bytes() > bytes);
    assert_eq!(charged().1, held.row_bytes());
    check_held(&replica, &blob, before.ranges()).await;
    check_held(&replica, &blob, net.interval(1, &blob).ranges()).await;
}

#[tokio::test]
async fn checkpoints_are_cosigned_from_the_activation_until_the_epoch_closes() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let at = |log: &Log, timestamp| Log { timestamp, ..log.clone() }.request(0);
    let old = net.log();
    net.next_epoch(SOON, |_| {});
    let new = net.log();
    let closes = NOW + SOON + GRACE;
    net.clock.set(NOW + SOON - 1);
    assert_eq!(refused(replica.cosign(at(&new, NOW + SOON - 1)).await), Reason::EpochPending);
    net.clock.set(closes - 1);
    let last = at(&old, closes - 1);
    assert!(is_signed(replica.cosign(last.clone()).await));
    net.clock.set(closes);
    assert_eq!(refused(replica.cosign(at(&old, closes)).await), Reason::WrongEpoch);
    assert!(is_signed(replica.cosign(last).await), "what was signed before is answered again");
    net.clock.set(NOW + SOON);
    let folder = tempfile::tempdir().unwrap();
    let replica = net.open(1, folder.path()).await;
    assert!(is_signed(replica.cosign(at(&new, NOW + SOON)).await));
    assert_eq!(refused(replica.cosign(at(&old, NOW + SOON + 1)).await), Reason::WrongEpoch, "never back");
}

/// Nobody can work with the next epoch: the last one closes all the same.
#[tokio::test]
async fn what_is_of_a_closed_epoch_is_refused_also_where_no_other_can_be_used() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let mut view = View::clone(&net.view.borrow());
    let mut terms = view.epochs.terms().to_vec();
    terms[0].closes = Some(NOW + SOON + GRACE);
    view.epochs = Epochs::new(terms).unwrap();
    net.view.send_replace(Arc::new(view));
    let at = |timestamp| Log { timestamp, ..net.log() }.request(0);
    let last = NOW + SOON + GRACE - 1;
    net.clock.set(last);
    let blob = |seed| Blob::of(3000, seed);
    assert_eq!(send(&replica, net.upload(1, &blob(1))).await.unwrap(), DisperseOutcome::Stored);
    assert!(is_signed(replica.cosign(at(last)).await));
    net.clock.set(last + 1);
    assert_eq!(refused(send(&replica, net.upload(1, &blob(2))).await), Reason::WrongEpoch);
    let error = replica.cosign(at(last + 1)).await.unwrap_err();
    assert_eq!(error.reason, Reason::WrongEpoch);
    assert!(error.message.contains("nobody can use"), "{error}");
}

#[tokio::test]
async fn a_log_never_goes_back_below_the_epoch_of_an_anchor() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let old = net.log();
    net.next_epoch(0, |_| {});
    let replica = net.open(1, folder.path()).await;
    net.anchor(&net.log());
    assert_eq!(refused(replica.cosign(old.request(0)).await), Reason::WrongEpoch);
    assert!(is_signed(replica.cosign(net.log().request(0)).await));
}

#[tokio::test]
async fn entries_of_an_earlier_epoch_are_held_against_its_anchor() {
    let mut net = Net::new(5, 1, other_first).await;
    let blobs: Vec<_> = (0..4).map(|seed| Blob::of(3000, seed)).collect();
    let closing = net.log().with(&blobs[0]).with(&blobs[1]);
    let late = closing.clone().with(&blobs[2]);
    net.next_epoch(0, own_first);
    let in_new = |log: &Log| Log { epoch: FIRST + 1, ..log.clone() };
    let fresh = async || {
        let folder = tempfile::tempdir().unwrap();
        let replica = net.open(1, folder.path()).await;
        for blob in &blobs {
            send(&replica, net.upload(1, blob)).await.unwrap();
        }
        (replica, folder)
    };
    let answer = async |replica: &Arc<Replica>, log: &Log| {
        let answer = replica.cosign(log.request(0)).await;
        answer.map(|answer| assert!(matches!(answer, CosignAnswer::Cosignature(_)))).map_err(|e| e.reason)
    };

    // Without an anchor nothing says that those entries were accepted.
    let (replica, _folder) = fresh().await;
    assert_eq!(answer(&replica, &in_new(&closing)).await, Err(Reason::EpochPending));
    net.anchor(&closing);
    // Size N - 1 under the new epoch: somebody has to prove that it leads to the anchor.
    let mut shorter = in_new(&closing);
    shorter.entries.pop();
    assert_eq!(answer(&replica, &shorter).await, Err(Reason::EpochPending));
    // N + 1, the last of the old epoch: it may still be anchored. A stranger's entry never will be.
    assert_eq!(answer(&replica, &in_new(&late)).await, Err(Reason::EpochPending));
    let mut unknown = in_new(&late);
    unknown.entries[2].epoch = FIRST - 1;
    assert_eq!(answer(&replica, &unknown).await, Err(Reason::EntryEpochMismatch));
    unknown.entries[2].epoch = FIRST + 2;
    assert_eq!(answer(&replica, &unknown).await, Err(Reason::EntryEpochMismatch));
    // An entry of the new epoch below N, and another log than the anchored one.
    let mut early = in_new(&closing);
    early.entries[1].epoch = FIRST + 1;
    assert_eq!(answer(&replica, &early).await, Err(Reason::EntryEpochMismatch));
    let mut fork = in_new(&closing).with(&blobs[2]);
    fork.entries[0].namespace = [1; 32].into();
    assert_eq!(answer(&replica, &fork).await, Err(Reason::LogFork));
    assert_eq!(replica.logs().range(&gateway_key().address()).unwrap().size(), 0);
    // N + 1 with an entry of the new epoch.
    assert_eq!(answer(&replica, &in_new(&closing).with(&blobs[2])).await, Ok(()));
    assert!(!replica.rows.is_named(&blobs[0].id()).unwrap(), "its rows are owed by others");
    assert!(replica.rows.is_named(&blobs[2].id()).unwrap());
    // What is cosigned here already is held against the anchor too.
    let mut longer = closing.clone();
    longer.entries.push(late.entry(&blobs[3]));
    net.anchor(&longer);
    assert_eq!(
        answer(&replica, &in_new(&closing).with(&blobs[2]).with(&blobs[3])).await,
        Err(Reason::LogFork)
    );
    net.anchor(&closing);
    // N.
    let (replica, _folder) = fresh().await;
    assert_eq!(answer(&replica, &in_new(&closing)).await, Ok(()));
    // When the epoch is over on the chain no anchor will come.
    let (replica, _folder) = fresh().await;
    net.wait_until(NOW + GRACE - 1);
    let at = |log: &Log, timestamp| Log { timestamp, ..in_new(log) };
    assert_eq!(answer(&replica, &at(&late, NOW + GRACE - 1)).await, Err(Reason::EpochPending));
    net.wait_until(NOW + GRACE);
    assert_eq!(answer(&replica, &at(&late, NOW + GRACE)).await, Err(Reason::EntryEpochMismatch));
    assert_eq!(answer(&replica, &at(&closing, NOW + GRACE)).await, Ok(()));
}

/// Anybody may anchor the next epoch before the closing of the last one got there: that closing never comes.
#[tokio::test]
async fn an_anchor_of_the_next_epoch_settles_what_the_last_one_left_open() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let blobs: Vec<_> = (0..4).map(|seed| Blob::of(3000, seed)).collect();
    let anchored = net.log().with(&blobs[0]);
    let closing = anchored.clone().with(&blobs[1]);
    net.next_epoch(0, |_| {});
    let in_new = |log: &Log| Log { epoch: FIRST + 1, ..log.clone() };
    let replica = net.open(1, folder.path()).await;
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
    }
    net.anchor(&anchored);
    let next = in_new(&closing).with(&blobs[2]);
    assert_eq!(refused(replica.cosign(next.request(0)).await), Reason::EpochPending);
    net.anchor(&next);
    // Below it somebody has to prove that the checkpoint leads there.
    assert_eq!(refused(replica.cosign(in_new(&closing).request(0)).await), Reason::EpochPending);
    // At its size, another log; above it, an entry of the last epoch.
    let mut fork = next.clone();
    fork.entries[1].namespace = [1; 32].into();
    assert_eq!(refused(replica.cosign(fork.request(0)).await), Reason::LogFork);
    let mut late = next.clone();
    late.entries.push(closing.entry(&blobs[3]));
    assert_eq!(refused(replica.cosign(late.request(0)).await), Reason::EntryEpochMismatch);
    assert!(is_signed(replica.cosign(next.request(0)).await));
    assert!(is_signed(replica.cosign(next.with(&blobs[3]).request(3)).await));
}

#[tokio::test]
async fn entries_that_were_cosigned_need_no_anchor() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let blobs: Vec<_> = (0..2).map(|seed| Blob::of(3000, seed)).collect();
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
    }
    let old = net.log().with(&blobs[0]);
    assert!(is_signed(replica.cosign(old.request(0)).await));
    net.next_epoch(0, |_| {});
    let new = Log { epoch: FIRST + 1, ..old }.with(&blobs[1]);
    assert!(is_signed(replica.cosign(new.request(0)).await));
}

#[tokio::test]
async fn gateways_and_their_quotas_are_those_of_the_epoch() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let blobs: Vec<_> = (0..2).map(|seed| Blob::of(3000, seed)).collect();
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
    }
    let before = net.log().with(&blobs[0]);
    let newcomer = stranger();
    net.next_epoch(SOON, |parts| {
        parts.gateways = vec![GatewayMember {
            address: stranger().address(),
            max_entries_per_hour: 1,
            ..parts.gateways[0].clone()
        }];
    });
    let theirs = Log { key: newcomer.to_bytes(), timestamp: NOW + SOON, ..net.log() };
    let of_old = Log { epoch: FIRST, ..theirs.clone() };
    assert_eq!(refused(replica.cosign(of_old.request(0)).await), Reason::NotAGateway);
    assert_eq!(refused(replica.cosign(theirs.request(0)).await), Reason::EpochPending);
    net.clock.set(NOW + SOON);
    // The one that is gone closes its epoch, and begins nothing in the new one.
    let gone = Log { epoch: FIRST + 1, timestamp: NOW + SOON, ..net.log() };
    assert_eq!(refused(replica.cosign(gone.request(0)).await), Reason::NotAGateway);
    assert_eq!(refused(send(&replica, net.upload(1, &blobs[0])).await), Reason::NotAGateway);
    let closing = Log { timestamp: NOW + SOON, ..before };
    assert!(is_signed(replica.cosign(closing.request(0)).await));
    let two = theirs.clone().with(&blobs[0]).with(&blobs[1]);
    assert_eq!(refused(replica.cosign(two.request(0)).await), Reason::QuotaExceeded);
    assert!(is_signed(replica.cosign(theirs.with(&blobs[0]).request(0)).await));
    net.clock.set(NOW + SOON + GRACE);
    let late = Log { timestamp: NOW + SOON + GRACE, ..closing };
    assert_eq!(refused(replica.cosign(late.request(0)).await), Reason::WrongEpoch);
    assert_eq!(replica.logs().checkpoints().unwrap().len(), 2, "its log is still served");
}

#[tokio::test]
async fn a_gateway_that_comes_with_an_epoch_is_asked_about_first() {
    let mut net = Net::new(3, 2, |_| {}).await;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    net.next_epoch(0, |parts| {
        parts.gateways.push(GatewayMember { address: stranger().address(), ..parts.gateways[0].clone() });
    });
    let log = Log { key: stranger().to_bytes(), ..net.log() };
    assert_eq!(refused(replica.cosign(log.request(0)).await), Reason::NotSyncedWithPeers);
    let second = net.open(2, other.path()).await;
    net.serve(2, &second);
    loop {
        match replica.cosign(log.request(0)).await {
            Err(error) if error.reason == Reason::NotSyncedWithPeers => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            answer => break assert!(is_signed(answer)),
        }
    }
}

#[tokio::test]
async fn an_epoch_that_begins_while_the_replica_runs_asks_nobody_again() {
    let mut net = Net::new(3, 2, |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let replica = net.open(1, folder.path()).await;
    replica.note_answer(&gateway_key().address(), Some(seat_key(2).address()), None);
    assert!(is_signed(replica.cosign(net.log().request(0)).await));
    let mut keys = (70..).map(|byte| SecretKey::from_bytes([byte; 32]).unwrap().address());
    net.next_epoch(SOON, |parts| {
        parts.seats.iter_mut().for_each(|seat| {
            if seat.region != RegionId(1) {
                seat.address = keys.next().unwrap();
            }
        });
    });
    net.clock.set(NOW + SOON);
    let log = Log { timestamp: NOW + SOON, ..net.log() };
    assert!(is_signed(replica.cosign(log.request(0)).await));
    // After a start the regions of the open epochs have to answer.
    replica.shutdown().await;
    drop(replica);
    let replica = net.open(1, folder.path()).await;
    let again = Log { timestamp: NOW + SOON + 1, ..net.log() };
    assert_eq!(refused(replica.cosign(again.request(0)).await), Reason::NotSyncedWithPeers);
    replica.note_answer(&gateway_key().address(), Some(seat_key(2).address()), None);
    assert_eq!(refused(replica.cosign(again.request(0)).await), Reason::NotSyncedWithPeers);
    let new = net.committee.seats().iter().find(|seat| seat.region == RegionId(2)).unwrap().address;
    replica.note_answer(&gateway_key().address(), Some(new), None);
    assert!(is_signed(replica.cosign(again.request(0)).await));
}

#[tokio::test]
async fn a_removed_seat_serves_and_takes_nothing_new() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(5, folder.path()).await;
    let blob = Blob::of(3000, 1);
    let (upload, held) = (net.upload(5, &blob), net.interval(5, &blob));
    send(&replica, upload.clone()).await.unwrap();
    let old = net.log().with(&blob);
    let mut permission = net.dispersal(5, blob.id());
    net.next_epoch(SOON, four_regions);
    net.clock.set(NOW + SOON);
    let old = Log { timestamp: NOW + SOON, ..old };
    assert!(is_signed(replica.cosign(old.request(0)).await), "its epoch is in its grace");
    assert_eq!(replica.status().await.unwrap().seated_epochs, [FIRST]);
    net.clock.set(NOW + SOON + GRACE);
    let new = Log { timestamp: NOW + SOON + GRACE, ..net.log() };
    let error = replica.cosign(new.request(0)).await.unwrap_err();
    assert_eq!((error.reason, error.class()), (Reason::NoSeat, Class::Invalid));
    (permission.epoch, permission.deadline) = (FIRST + 1, NOW + SOON + GRACE);
    let start =
        meridian_proto::convert::DisperseStart { dispersal: net.permission(permission), header: blob.header };
    let start = vec![meridian_proto::convert::DispersePart::Start(start)];
    assert_eq!(refused(send(&replica, start).await), Reason::NoSeat);
    replica.shutdown().await;
    drop(replica);
    let replica = net.open(5, folder.path()).await;
    let status = replica.status().await.unwrap();
    assert_eq!((status.region, status.epoch, status.blobs, status.logs), (RegionId(5), FIRST + 1, 1, 1));
    assert!(status.seated_epochs.is_empty());
    check_held(&replica, &blob, held.ranges()).await;
    assert_eq!(replica.logs().served_size(&gateway_key().address()).unwrap(), Some(1));
}

#[tokio::test]
async fn a_key_needs_a_seat_in_some_epoch() {
    let (mut net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let open = async |net: &Net| {
        let (view, clock) = (net.view.subscribe(), net.clock.clone());
        let channels = meridian_client::rpc::Channels::new();
        Replica::open_with(Default::default(), folder.path(), view, stranger(), channels, clock).await
    };
    assert!(open(&net).await.is_err());
    net.next_epoch(SOON, other_first);
    assert!(open(&net).await.is_ok());
}
