use futures::stream;
use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Dispersal, Domain, SignedDispersal};
use meridian_proofs::signature::SecretKey;
use meridian_proto::convert::{DisperseOutcome, DispersePart, Lookup, LookupKey};
use meridian_proto::error::{ApiError, Class};

use super::*;
use crate::replica::testing::*;
use crate::replica::{Replica, Settings};

const LENGTH: usize = 100_000;

async fn is_unknown(replica: &std::sync::Arc<Replica>, blob: &Blob) -> bool {
    let lookup = Lookup { key: LookupKey::Blob(blob.id()), include_rlc: true, max_row_bytes: 0 };
    let unknown = matches!(replica.lookup(lookup).await, Err(e) if e.reason == Reason::BlobUnknown);
    assert_eq!(replica.upload_memory.used(), 0, "memory is given back");
    assert_eq!(replica.accounts.totals() == (0, 0), unknown);
    unknown
}

#[tokio::test]
async fn an_upload_is_on_disk_when_it_is_answered_and_held_from_then_on() {
    let (net, blob) = (Net::alone().await, Blob::of(LENGTH, 1));
    let mut pieces = 0;
    for region in 1..=5 {
        let folder = tempfile::tempdir().unwrap();
        let replica = net.open(region, folder.path()).await;
        assert!(is_unknown(&replica, &blob).await);
        let parts = net.upload(region, &blob);
        assert_eq!(send(&replica, parts.clone()).await.unwrap(), DisperseOutcome::Stored);
        // Held is answered before anything but the start is read.
        assert_eq!(send(&replica, parts[..1].to_vec()).await.unwrap(), DisperseOutcome::Held);
        let bytes = u64::try_from(blob.shape().data_bytes()).unwrap();
        assert_eq!(replica.accounts.totals(), (1, bytes));
        replica.shutdown().await;
        drop(replica);
        let replica = net.open(region, folder.path()).await;
        assert_eq!(replica.accounts.totals(), (1, bytes));
        assert_eq!(send(&replica, parts[..1].to_vec()).await.unwrap(), DisperseOutcome::Held);
        let interval = net.interval(region, &blob);
        pieces += interval.ranges().len();
        check_held(&replica, &blob, interval.ranges()).await;
    }
    assert!(pieces > 5, "one of the regions wraps");
}

#[tokio::test]
async fn a_permission_is_for_this_replica_this_blob_this_epoch_and_now() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let good = net.dispersal(1, blob.id());
    let stranger = SecretKey::from_bytes([66; 32]).unwrap();
    let domain = net.committee.domain();
    let other_domain = Domain { chain_id: domain.chain_id + 1, ..domain };
    let ask = async |signed: SignedDispersal| {
        let start = meridian_proto::convert::DisperseStart { dispersal: signed, header: blob.header };
        refused(send(&replica, vec![DispersePart::Start(start)]).await)
    };
    let posing = SignedDispersal::sign(Dispersal { gateway: stranger.address(), ..good }, &domain, &stranger);
    assert_eq!(ask(posing).await, Reason::NotAGateway);
    assert_eq!(ask(SignedDispersal::sign(good, &domain, &stranger)).await, Reason::SignatureInvalid);
    assert_eq!(
        ask(SignedDispersal::sign(good, &other_domain, &gateway_key())).await,
        Reason::SignatureInvalid
    );
    let table = [
        (net.dispersal(2, blob.id()), Reason::WrongReplica),
        (Dispersal { epoch: good.epoch + 1, ..good }, Reason::WrongEpoch),
        (Dispersal { epoch: good.epoch - 1, ..good }, Reason::WrongEpoch),
        (Dispersal { deadline: NOW - 1, ..good }, Reason::DeadlineOutOfRange),
        (Dispersal { deadline: NOW + 61, ..good }, Reason::DeadlineOutOfRange),
        (Dispersal { deadline: u64::MAX, ..good }, Reason::DeadlineOutOfRange),
        (net.dispersal(1, Blob::of(9, 1).id()), Reason::HeaderInvalid),
        // These are good: the stream ends too early, that is all.
        (Dispersal { deadline: NOW, ..good }, Reason::LengthMismatch),
        (Dispersal { deadline: NOW + 60, ..good }, Reason::LengthMismatch),
    ];
    for (dispersal, reason) in table {
        assert_eq!(ask(net.permission(dispersal)).await, reason, "{dispersal:?}");
    }
    assert!(is_unknown(&replica, &blob).await);
}

#[tokio::test]
async fn nothing_of_a_wrong_upload_is_kept() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let (blob, other) = (Blob::of(LENGTH, 1), Blob::of(LENGTH, 2));
    // The region whose rows wrap has two ranges.
    let region = (1..=5).find(|region| {
        net.upload(*region, &blob).iter().filter(|part| matches!(part, DispersePart::Range(_))).count() == 2
    });
    let region = region.unwrap();
    let replica = net.open(region, folder.path()).await;
    let good = net.upload(region, &blob);
    let foreign = Blob { header: blob.header, ..other };
    let foreign = net.upload(region, &foreign);
    let starts: Vec<_> = (0..good.len()).filter(|i| matches!(good[*i], DispersePart::Range(_))).collect();
    let (first, second) = (starts[0], starts[1]);
    let end = good.len();
    type Spoil<'a> = Box<dyn Fn(&mut Vec<DispersePart>) + 'a>;
    let edit = |at: usize, change: fn(&mut DispersePart)| -> Spoil { Box::new(move |p| change(&mut p[at])) };
    let flip: fn(&mut DispersePart) = |part| {
        if let DispersePart::Rows(rows) = part {
            let mut bytes = rows.to_vec();
            bytes[4] ^= 1;
            *rows = bytes.into();
        }
    };
    let table: Vec<(&str, Spoil, Reason)> = vec![
        ("nothing", Box::new(|p| p.clear()), Reason::StreamInvalid),
        ("no start", Box::new(|p| drop(p.remove(0))), Reason::StreamInvalid),
        ("start twice", Box::new(|p| p.insert(1, p[0].clone())), Reason::StreamInvalid),
        ("no rlc vector", Box::new(|p| drop(p.remove(1))), Reason::StreamInvalid),
        ("rlc vector of another blob", Box::new(|p| p[1] = foreign[1].clone()), Reason::RlcMismatch),
        (
            "short rlc vector",
            edit(1, |part| {
                if let DispersePart::Rlc(rlc) = part {
                    *rlc = rlc.slice(16..);
                }
            }),
            Reason::RlcMismatch,
        ),
        (
            "long rlc vector",
            edit(1, |part| {
                if let DispersePart::Rlc(rlc) = part {
                    *rlc = [&rlc[..], &[0; 16]].concat().into();
                }
            }),
            Reason::RlcMismatch,
        ),
        ("flipped bit", edit(first + 1, flip), Reason::RowProofInvalid),
        ("flipped bit at the end", edit(end - 1, flip), Reason::RowProofInvalid),
        (
            "another blob's rows",
            Box::new(|p| p[2..].clone_from_slice(&foreign[2..])),
            Reason::RowProofInvalid,
        ),
        (
            "wrong proof",
            edit(first, |part| {
                if let DispersePart::Range(range) = part {
                    range.proof.0[0] = B256::ZERO;
                }
            }),
            Reason::RowProofInvalid,
        ),
        (
            "long proof",
            edit(first, |part| {
                if let DispersePart::Range(range) = part {
                    range.proof.0.push(B256::ZERO);
                }
            }),
            Reason::RowProofInvalid,
        ),
        (
            "short proof",
            edit(second, |part| {
                if let DispersePart::Range(range) = part {
                    range.proof.0.pop();
                }
            }),
            Reason::RowProofInvalid,
        ),
        (
            "moved range",
            edit(first, |part| {
                if let DispersePart::Range(range) = part {
                    range.start -= 1;
                }
            }),
            Reason::PlacementMismatch,
        ),
        (
            "short range",
            edit(first, |part| {
                if let DispersePart::Range(range) = part {
                    range.count -= 1;
                }
            }),
            Reason::PlacementMismatch,
        ),
        ("ranges swapped", Box::new(|p| p.swap(first, second)), Reason::PlacementMismatch),
        ("second range alone", Box::new(|p| drop(p.drain(first..second))), Reason::PlacementMismatch),
        ("first range alone", Box::new(|p| p.truncate(second)), Reason::LengthMismatch),
        ("last bytes missing", Box::new(|p| drop(p.pop())), Reason::LengthMismatch),
        ("first bytes missing", Box::new(|p| drop(p.remove(first + 1))), Reason::StreamInvalid),
        ("rows again", Box::new(|p| p.push(p[end - 1].clone())), Reason::LengthMismatch),
        ("range again", Box::new(|p| p.push(p[second].clone())), Reason::LengthMismatch),
        ("rows before a range", Box::new(|p| p.insert(first, p[first + 1].clone())), Reason::LengthMismatch),
        (
            "too much for a range",
            Box::new(|p| p.insert(second, p[second - 1].clone())),
            Reason::LengthMismatch,
        ),
    ];
    for (what, spoil, reason) in table {
        let mut parts = good.clone();
        spoil(&mut parts);
        assert_eq!(refused(send(&replica, parts).await), reason, "{what}");
        assert!(is_unknown(&replica, &blob).await, "{what}");
    }
    let broken = good[..first + 2].iter().cloned().map(Ok);
    let broken = broken.chain([Err(ApiError::new(Reason::StreamBroken, "gone"))]);
    assert_eq!(refused(replica.disperse(stream::iter(broken)).await), Reason::StreamBroken);
    assert!(is_unknown(&replica, &blob).await);
    assert_eq!(send(&replica, good).await.unwrap(), DisperseOutcome::Stored);
}

#[tokio::test]
async fn rows_that_are_committed_to_and_do_not_combine_are_refused() {
    let net = Net::alone().await;
    let crooked = Blob::crooked(LENGTH, 1);
    let mut outcomes = Vec::new();
    for region in 1..=5 {
        let folder = tempfile::tempdir().unwrap();
        let replica = net.open(region, folder.path()).await;
        outcomes.push(send(&replica, net.upload(region, &crooked)).await.map_err(|error| error.reason));
    }
    // The rows of the data region are a code word by themselves.
    assert_eq!(outcomes.iter().filter(|o| **o == Ok(DisperseOutcome::Stored)).count(), 1);
    let refused = outcomes.iter().filter(|o| **o == Err(Reason::RowCombinationInvalid)).count();
    assert_eq!(refused, 4);
}

#[tokio::test]
async fn room_is_limited_for_all_for_each_gateway_and_in_memory() {
    let blob = Blob::of(LENGTH, 1);
    let bytes = u64::try_from(blob.shape().data_bytes()).unwrap();
    let quota: Change = |parts| {
        let bytes = Blob::of(LENGTH, 1).shape().data_bytes();
        parts.gateways[0].max_bytes = u64::try_from(bytes).unwrap();
    };
    let net = Net::new(5, 1, quota).await;
    let cases = [
        (Settings { max_bytes: bytes - 1, ..Settings::default() }, Some(Reason::StorageFull)),
        (Settings { max_bytes: bytes, ..Settings::default() }, None),
        (Settings { upload_memory_bytes: bytes, ..Settings::default() }, Some(Reason::MemoryBudget)),
    ];
    for (settings, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        let replica = net.open_with(settings, 1, folder.path()).await;
        let outcome = send(&replica, net.upload(1, &blob)).await;
        match reason {
            Some(reason) => {
                let error = outcome.unwrap_err();
                assert_eq!((error.reason, error.class()), (reason, Class::Overloaded));
                assert!(error.retry_after.is_some());
                assert!(is_unknown(&replica, &blob).await);
            }
            None => {
                outcome.unwrap();
                let second = send(&replica, net.upload(1, &Blob::of(9, 2))).await;
                assert_eq!(refused(second), Reason::QuotaExceeded);
                replica.shutdown().await;
                drop(replica);
                let replica = net.open(1, folder.path()).await;
                let second = send(&replica, net.upload(1, &Blob::of(9, 2))).await;
                assert_eq!(refused(second), Reason::QuotaExceeded, "the books are on disk");
            }
        }
    }
}

#[tokio::test]
async fn uploads_of_one_blob_at_once_store_it_once() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(LENGTH, 1), tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let uploads = (0..8).map(|_| send(&replica, net.upload(1, &blob)));
    let outcomes = futures::future::join_all(uploads).await;
    let stored = outcomes.into_iter().filter(|o| *o.as_ref().unwrap() == DisperseOutcome::Stored).count();
    assert_eq!(stored, 1);
    assert_eq!(replica.accounts.totals(), (1, u64::try_from(blob.shape().data_bytes()).unwrap()));
}

#[tokio::test]
async fn rows_that_no_entry_names_are_dropped_after_an_hour() {
    let (net, folder) = (Net::alone().await, tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    let (named, unnamed) = (Blob::of(LENGTH, 1), Blob::of(LENGTH, 2));
    for blob in [&named, &unnamed] {
        send(&replica, net.upload(1, blob)).await.unwrap();
    }
    replica.cosign(net.log().with(&named).request(0)).await.unwrap();
    net.clock.set(NOW + 3599);
    assert_eq!(replica.sweep().await.unwrap().unsigned, 0);
    replica.shutdown().await;
    drop(replica);
    let replica = net.open(1, folder.path()).await;
    net.clock.set(NOW + 3600);
    assert_eq!(replica.sweep().await.unwrap().unsigned, 1);
    assert_eq!(replica.sweep().await.unwrap().unsigned, 0);
    let known = async |blob: &Blob| replica.known(blob.id()).await.is_ok();
    assert!(known(&named).await && !known(&unnamed).await);
    assert_eq!(replica.accounts.totals().0, 1);
    assert_eq!(send(&replica, net.upload(1, &unnamed)).await.unwrap(), DisperseOutcome::Stored);
}

#[tokio::test]
async fn a_gateway_that_is_told_held_has_an_hour_from_then() {
    let (net, blob, folder) = (Net::alone().await, Blob::of(9, 1), tempfile::tempdir().unwrap());
    let replica = net.open(1, folder.path()).await;
    send(&replica, net.upload(1, &blob)).await.unwrap();
    net.clock.set(NOW + 3000);
    assert_eq!(send(&replica, net.upload(1, &blob)).await.unwrap(), DisperseOutcome::Held);
    net.clock.set(NOW + 3600);
    assert_eq!(replica.sweep().await.unwrap().unsigned, 0);
    net.clock.set(NOW + 6600);
    assert_eq!(replica.sweep().await.unwrap().unsigned, 1);
}
