use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::checkpoint::SignedCheckpoint;
use meridian_proofs::signature::SecretKey;
use meridian_proto::convert::{CosignAnswer, CosignRequest, GetRows, Lookup, LookupKey};
use meridian_proto::error::Class;

use super::*;
use crate::replica::Replica;
use crate::replica::testing::*;

/// Asks until the replica has heard of enough others.
async fn cosign(replica: &Arc<Replica>, request: &CosignRequest) -> Result<CosignAnswer, ApiError> {
    loop {
        match replica.cosign(request.clone()).await {
            Err(error) if error.reason == Reason::NotSyncedWithPeers => {
                assert_eq!(error.class(), Class::Unavailable);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

fn is_signed(answer: Result<CosignAnswer, ApiError>) -> bool {
    matches!(answer.unwrap(), CosignAnswer::Cosignature(_))
}

#[tokio::test]
async fn a_disk_from_a_backup_signs_only_what_leads_to_what_others_have_seen() {
    let mut net = Net::new(3, 2, |_| {}).await;
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let blobs = [Blob::of(3000, 1), Blob::of(3000, 2), Blob::of(3000, 3)];
    let first = net.open(1, folders[0].path()).await;
    let second = net.open(2, folders[1].path()).await;
    let (one, two) = (net.log().with(&blobs[0]), net.log().with(&blobs[0]).with(&blobs[1]));
    let fork = net.log().with(&blobs[2]).with(&blobs[1]);
    for blob in &blobs {
        send(&first, net.upload(1, blob)).await.unwrap();
        send(&second, net.upload(2, blob)).await.unwrap();
    }
    // Nobody else is up: two regions have to have answered, and one has.
    assert_eq!(refused(first.cosign(two.request(0)).await), Reason::NotSyncedWithPeers);
    net.serve(1, &first);
    assert!(is_signed(cosign(&second, &two.request(0)).await));
    net.serve(2, &second);
    // The first replica has signed nothing on this disk; the second knows that the log has two entries.
    let other = net.log().with(&blobs[2]);
    assert_eq!(refused(cosign(&first, &other.request(0)).await), Reason::LogRollback);
    assert_eq!(refused(cosign(&first, &fork.request(0)).await), Reason::LogFork);
    let longer_fork = fork.clone().with(&blobs[0]);
    assert_eq!(refused(cosign(&first, &longer_fork.request(0)).await), Reason::LogFork);
    assert!(is_signed(cosign(&first, &one.request(0)).await));
    assert!(is_signed(cosign(&first, &two.clone().with(&blobs[2]).request(0)).await));
}

#[tokio::test]
async fn answers_count_by_region_and_only_with_the_signature_of_the_gateway() {
    let net = Net::new(5, 3, |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let replica = net.open(1, folder.path()).await;
    let blob = Blob::of(3000, 1);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let log = net.log().with(&blob);
    let gateway = gateway_key().address();
    let asks = async || replica.cosign(log.request(0)).await.map_err(|error| error.reason);
    let seat = |region| Some(seat_key(region).address());
    let stranger = SecretKey::from_bytes([66; 32]).unwrap();
    let forged = SignedCheckpoint::sign(log.checkpoint(), &net.committee.domain(), &stranger);
    for region in [2, 3] {
        replica.note_answer(&gateway, seat(region), Some(forged));
    }
    replica.note_answer(&gateway, None, None);
    replica.note_answer(&gateway, seat(1), None);
    replica.note_answer(&gateway, seat(2), None);
    assert_eq!(asks().await, Err(Reason::NotSyncedWithPeers));
    replica.note_answer(&gateway, seat(4), None);
    assert!(asks().await.is_ok());
}

#[tokio::test]
async fn contradicting_checkpoints_elsewhere_stop_the_log() {
    let net = Net::new(3, 2, |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let replica = net.open(1, folder.path()).await;
    let (a, b) = (net.log().with(&Blob::of(9, 1)), net.log().with(&Blob::of(9, 2)));
    for (region, log) in [(2, &a), (3, &b)] {
        let answer = Some(log.request(0).signed);
        replica.note_answer(&gateway_key().address(), Some(seat_key(region).address()), answer);
    }
    assert_eq!(refused(replica.cosign(a.request(0)).await), Reason::LogFork);
}

#[tokio::test]
async fn missing_rows_are_repaired_before_the_cosignature() {
    let mut net = Net::new(3, 1, |_| {}).await;
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let blobs = [Blob::of(100_000, 1), Blob::of(3000, 2)];
    let (lacking, holding) = (net.open(1, folders[0].path()).await, net.open(2, folders[1].path()).await);
    for blob in &blobs {
        send(&holding, net.upload(2, blob)).await.unwrap();
    }
    let log = net.log().with(&blobs[0]).with(&blobs[1]);
    assert_eq!(refused(lacking.cosign(log.request(0)).await), Reason::RowsMissing);
    net.serve(2, &holding);
    assert!(is_signed(lacking.cosign(log.request(0)).await));
    for blob in &blobs {
        check_held(&lacking, blob, net.interval(1, blob).ranges()).await;
    }
}

#[tokio::test]
async fn proof_that_a_blob_is_no_code_word_is_kept_and_counts_as_holding() {
    let mut net = Net::alone().await;
    let crooked = Blob::crooked(100_000, 1);
    // One region takes the data rows; the others refuse what they are sent.
    let mut holding = None;
    let mut folders = Vec::new();
    for region in 1..=5 {
        folders.push(tempfile::tempdir().unwrap());
        let replica = net.open(region, folders[folders.len() - 1].path()).await;
        if send(&replica, net.upload(region, &crooked)).await.is_ok() {
            net.serve(region, &replica);
            holding = Some((region, replica));
        } else {
            replica.shutdown().await;
        }
    }
    let (data_region, holding) = holding.unwrap();
    let lacking_region = data_region % 5 + 1;
    let folder = &folders[usize::from(lacking_region - 1)];
    let lacking = net.open(lacking_region, folder.path()).await;
    let log = net.log().with(&crooked);
    assert!(is_signed(lacking.cosign(log.request(0)).await));
    let lookup = Lookup { key: LookupKey::Blob(crooked.id()), include_rlc: false, max_row_bytes: 0 };
    assert!(lacking.lookup(lookup).await.unwrap()[0].inconsistent);
    // The rows that show it are served; no others are made up.
    let count = u32::try_from(crooked.shape().data_rows()).unwrap();
    let rows = |start, count| GetRows { blob_id: crooked.id(), start, count, held_only: false };
    assert!(lacking.rows(rows(0, 1)).await.is_ok());
    assert_eq!(refused(lacking.rows(rows(count, 1)).await), Reason::BlobInconsistent);
    // Who was sent the data rows finds out when it is asked for others.
    assert!(!holding.lookup(lookup).await.unwrap()[0].inconsistent);
    assert_eq!(refused(holding.rows(rows(count, 1)).await), Reason::BlobInconsistent);
    assert!(holding.lookup(lookup).await.unwrap()[0].inconsistent);
    lacking.shutdown().await;
    drop(lacking);
    let lacking = net.open(lacking_region, folder.path()).await;
    assert!(lacking.lookup(lookup).await.unwrap()[0].inconsistent);
}
