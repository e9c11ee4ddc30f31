use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use meridian_proofs::ids::PayloadHash;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::shape::RowIndex;
use meridian_proto::convert::{GetRows, GetSamples, HeldRows, Lookup, LookupKey};
use meridian_proto::error::Class;

use super::*;
use crate::replica::Replica;
use crate::replica::testing::*;
use crate::store::{Batch, Durability};

const LENGTH: usize = 100_000;

async fn get(
    replica: &Arc<Replica>,
    blob: &Blob,
    start: u32,
    count: u32,
    held_only: bool,
) -> Result<(), ApiError> {
    let answer = replica.rows(GetRows { blob_id: blob.id(), start, count, held_only }).await?;
    let mut rows = Vec::new();
    let mut stream = answer.rows;
    while let Some(part) = stream.next().await {
        rows.extend_from_slice(&part?);
    }
    let range = blob.shape().range(start, count).unwrap();
    let context =
        BlobContext::<meridian_proofs::hash::Blake3>::new(blob.id(), blob.header, blob.rlc.clone()).unwrap();
    context.check_range(range, Bytes::from(rows), &answer.proof).unwrap();
    Ok(())
}

#[tokio::test]
async fn every_row_is_answered_held_or_not() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let replica = net.open(2, folder.path()).await;
    send(&replica, net.upload(2, &blob)).await.unwrap();
    let total = u32::try_from(blob.shape().total_rows()).unwrap();
    let interval = net.interval(2, &blob);
    let held = interval.ranges()[0];
    for (start, count) in [(held.start(), 1), (held.start() + 3, held.count() - 3), (held.end() - 1, 1)] {
        get(&replica, &blob, start, count, true).await.unwrap();
    }
    get(&replica, &blob, 0, total, false).await.unwrap();
    assert_eq!(refused(get(&replica, &blob, 0, total, true).await), Reason::RowsMissing);
    let context =
        BlobContext::<meridian_proofs::hash::Blake3>::new(blob.id(), blob.header, blob.rlc.clone()).unwrap();
    let sets = [vec![held.start(), held.end() - 1], vec![total - 1, 0, held.start(), total / 2]];
    for indices in sets {
        let indices: Vec<_> = indices.into_iter().map(RowIndex).collect();
        let request = GetSamples { blob_id: blob.id(), indices: indices.clone() };
        let samples = replica.samples(request).await.unwrap();
        assert_eq!(samples.iter().map(|sample| sample.index).collect::<Vec<_>>(), indices);
        for sample in samples {
            context.check_row(sample.index, sample.row, &sample.path).unwrap();
        }
    }
}

#[tokio::test]
async fn a_lookup_brings_the_first_rows_that_are_held() {
    let net = Net::alone().await;
    for region in 1..=5 {
        let (blob, folder) = (Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
        let replica = net.open(region, folder.path()).await;
        send(&replica, net.upload(region, &blob)).await.unwrap();
        let context =
            BlobContext::<meridian_proofs::hash::Blake3>::new(blob.id(), blob.header, blob.rlc.clone())
                .unwrap();
        let interval = net.interval(region, &blob);
        let held: Vec<u32> = interval.ranges().iter().flat_map(|range| range.start()..range.end()).collect();
        let row = u32::try_from(blob.shape().row_bytes()).unwrap();
        let data = u32::try_from(blob.shape().data_rows()).unwrap();
        for (most, rows) in [
            (0, 0),
            (row - 1, 0),
            (row, 1),
            (2 * row - 1, 1),
            (data * row - 1, data - 1),
            (data * row, data),
            (1 << 20, data),
        ] {
            let lookup = Lookup { key: LookupKey::Blob(blob.id()), include_rlc: false, max_row_bytes: most };
            let found = replica.lookup(lookup).await.unwrap().remove(0).rows;
            let mut seen = Vec::new();
            for HeldRows { start, count, proof, rows } in found {
                context.check_range(blob.shape().range(start, count).unwrap(), rows, &proof).unwrap();
                seen.extend(start..start + count);
            }
            assert_eq!(seen, held[..usize::try_from(rows).unwrap()], "{most}");
        }
    }
}

#[tokio::test]
async fn requests_for_what_is_not_there_are_refused() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    assert_eq!(refused(get(&replica, &blob, 0, 1, false).await), Reason::BlobUnknown);
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let total = u32::try_from(blob.shape().total_rows()).unwrap();
    for (start, count) in [(total, 1), (0, total + 1), (total - 1, 2), (0, 0)] {
        let request = GetRows { blob_id: blob.id(), start, count, held_only: false };
        assert_eq!(refused(replica.rows(request).await), Reason::RangeInvalid);
    }
    let sample = async |index| {
        let request = GetSamples { blob_id: blob.id(), indices: vec![RowIndex(index)] };
        replica.samples(request).await
    };
    assert!(sample(total - 1).await.is_ok());
    assert_eq!(refused(sample(total).await), Reason::RangeInvalid);
}

#[tokio::test]
async fn a_payload_hash_finds_its_blobs_the_first_named_first() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let hash = PayloadHash::from([5; 32]);
    let lookup = Lookup { key: LookupKey::Payload(hash), include_rlc: false, max_row_bytes: 0 };
    assert_eq!(refused(replica.lookup(lookup).await), Reason::BlobUnknown);
    let mut log = net.log();
    let blobs: Vec<_> = (0..18).map(|seed| Blob::of(100, seed)).collect();
    for blob in &blobs {
        send(&replica, net.upload(1, blob)).await.unwrap();
        log.timestamp += 1;
        let mut entry = log.entry(blob);
        entry.payload_hash = hash;
        log.entries.push(entry);
    }
    // Named once more, which changes nothing.
    log.timestamp += 1;
    let mut entry = log.entry(&blobs[0]);
    entry.payload_hash = hash;
    log.entries.push(entry);
    replica.cosign(log.request(0)).await.unwrap();
    let found = replica.lookup(lookup).await.unwrap();
    let ids: Vec<_> = found.iter().map(|candidate| candidate.header.id()).collect();
    assert_eq!(ids, blobs.iter().take(16).map(Blob::id).collect::<Vec<_>>());
    assert!(found.iter().all(|candidate| candidate.rlc.is_none()));
    let entries: Vec<_> = found.iter().map(|candidate| candidate.entries.len()).collect();
    assert_eq!((entries[0], &entries[1..]), (2, &[1; 15][..]));
}

/// Replaces every stored piece of a blob by other bytes, with a right checksum or without the value.
fn spoil(replica: &Replica, blob: &Blob, with: Option<u8>) {
    let prefix = blob.id();
    let mut batch = Batch::new();
    for (key, value) in replica.db.scan("rows", prefix.as_bytes(), &[], 1000).unwrap() {
        match with {
            Some(byte) => batch.put("rows", key, vec![byte; value.len()]),
            None => batch.delete("rows", key),
        }
    }
    replica.db.commit(batch, Durability::Synced).unwrap();
}

#[tokio::test]
async fn lost_rows_are_never_made_up_and_others_stand_in_for_them() {
    let mut net = Net::new(3, 1, |_| {}).await;
    let blob = Blob::of(LENGTH, 1);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let replica = net.open(1, folders[0].path()).await;
    send(&replica, net.upload(1, &blob)).await.unwrap();
    let held = net.interval(1, &blob).ranges()[0];
    for with in [None, Some(7)] {
        spoil(&replica, &blob, with);
        let request = GetSamples { blob_id: blob.id(), indices: vec![RowIndex(held.start())] };
        if with.is_none() {
            let error = get(&replica, &blob, held.start(), 1, true).await.unwrap_err();
            assert_eq!((error.reason, error.class()), (Reason::StoreDamaged, Class::Unavailable));
            assert!(replica.db.damaged() > 0);
            let error = replica.samples(request).await.unwrap_err();
            assert_eq!(error.class(), Class::Unavailable);
        }
    }
    spoil(&replica, &blob, None);
    let other = net.open(2, folders[1].path()).await;
    send(&other, net.upload(2, &blob)).await.unwrap();
    net.serve(2, &other);
    get(&replica, &blob, held.start(), held.count(), false).await.unwrap();
}
