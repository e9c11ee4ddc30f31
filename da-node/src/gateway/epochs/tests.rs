//! What there is to do, for every way in which log and view can stand to each other.

use std::collections::BTreeMap;

use meridian_client::chain::view::{Anchor, Head};
use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint};
use meridian_proofs::committee::CommitteeParts;
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};

use super::*;
use crate::gateway::testing;

/// Three epochs that begin at 100, 200 and 300, with a grace of 50.
fn view(members: [bool; 3], head: Option<u64>, anchored: &[(u64, u64)]) -> View {
    let gateway = testing::gateway_key().address();
    let term = |(epoch, is_member): (u64, bool)| {
        let parts = testing::committee(1, 1, 1).parts().clone();
        let gateways = if is_member { parts.gateways.clone() } else { Vec::new() };
        let committee = Committee::new(CommitteeParts { epoch, gateways, ..parts }).unwrap();
        let closes = (epoch < 3).then_some((epoch + 1) * 100 + 50);
        Term { committee: Arc::new(committee), activation: epoch * 100, closes }
    };
    let anchor = |&(epoch, size)| Anchor { gateway, epoch, size, root: B256::ZERO, timestamp: 0, block: 0 };
    View {
        epochs: Epochs::new((1..).zip(members).map(term).collect()).unwrap(),
        anchors: BTreeMap::from([(gateway, anchored.iter().map(anchor).collect())]),
        head: head.map(|timestamp| Head { number: 1, timestamp }),
        grace: 50,
        final_by: head.map_or(u64::MAX, |head| head + 50),
    }
}

/// A log of entries of these epochs, with the closings of some.
fn log(entries: &[u64], closed: &[u64]) -> Loaded {
    let (key, domain) = (testing::gateway_key(), testing::committee(1, 1, 1).domain());
    let mut range = CompactRange::empty();
    let mut last = None;
    for &epoch in entries {
        let entry = LogEntry {
            blob_id: BlobId::from([1; 32]),
            namespace: Namespace::default(),
            payload_hash: PayloadHash::UNBOUND,
            length: 1,
            epoch,
            time: epoch * 100,
            expiry: 10_000,
        };
        range.append(entry.leaf());
        last = Some(entry);
    }
    let closing = |&epoch: &u64| {
        let size = entries.iter().filter(|of| **of <= epoch).count();
        let (gateway, size) = (key.address(), u64::try_from(size).unwrap());
        let checkpoint = Checkpoint { gateway, epoch, size, root: B256::ZERO, timestamp: 0 };
        let signed = SignedCheckpoint::sign(checkpoint, &domain, &key);
        CosignedCheckpoint { signed, cosignatures: Vec::new() }
    };
    let closings = closed.iter().map(closing).collect();
    Loaded { range, last, head: None, certified: None, closings }
}

/// The epoch to work in or to close, or the reason of the refusal.
fn decide(loaded: &Loaded, view: &View, now: u64) -> Result<(&'static str, u64), Reason> {
    match next(testing::gateway_key().address(), loaded, view, now) {
        Next::Work(committee) => Ok(("work", committee.epoch())),
        Next::Close(committee) => Ok(("close", committee.epoch())),
        Next::Wait(error) | Next::Retire(error) => Err(error.reason),
    }
}

#[test]
fn what_there_is_to_do_follows_from_log_and_view() {
    let all = [true; 3];
    let (work, close) = (|epoch| Ok(("work", epoch)), |epoch| Ok(("close", epoch)));
    let (wait, gone) = (Err(Reason::NotReady), Err(Reason::LogRetired));
    let plain = view(all, None, &[]);
    // Without a chain: by the clock alone.
    for (entries, closed, now, expected) in [
        (&[][..], &[][..], 99, wait),
        (&[], &[], 100, work(1)),
        (&[], &[], 250, work(2)),
        (&[1], &[], 150, work(1)),
        (&[1], &[], 200, close(1)),
        (&[1], &[], 249, close(1)),
        (&[1], &[], 250, close(1)),
        (&[1], &[], 99, wait),
        (&[1], &[1], 200, work(2)),
        (&[1], &[1], 199, wait),
        (&[1], &[1], 320, work(3)),
        (&[1, 2], &[1], 200, work(2)),
        (&[1, 2], &[1], 199, wait),
        (&[1, 2], &[1], 300, close(2)),
        (&[1, 3], &[1], 300, work(3)),
        (&[9], &[], 300, wait),
    ] {
        assert_eq!(decide(&log(entries, closed), &plain, now), expected, "{entries:?} {closed:?} {now}");
    }
    // With a chain: what is not anchored when the grace is over, at the settled block, retires the log.
    for (entries, closed, head, anchored, expected) in [
        (&[1][..], &[][..], 249, &[][..], close(1)),
        (&[1], &[], 250, &[], gone),
        (&[1], &[], 250, &[(1, 1)], work(2)),
        (&[1, 1], &[], 250, &[(1, 1)], gone),
        (&[1], &[1], 249, &[], work(2)),
        (&[1], &[1], 250, &[], gone),
        (&[1, 1], &[1], 250, &[(1, 1)], gone),
        (&[1], &[1], 250, &[(1, 1)], work(2)),
        (&[1, 2], &[1], 250, &[(2, 2)], work(2)),
        (&[1, 2], &[1], 250, &[], gone),
        (&[], &[], 250, &[], work(2)),
    ] {
        let seen = view(all, Some(head), anchored);
        assert_eq!(decide(&log(entries, closed), &seen, 260), expected, "{entries:?} {closed:?} {head}");
    }
}

/// Nobody can work with the second of three epochs: it is not among those that are known.
#[test]
fn an_epoch_that_nobody_can_work_with_is_waited_out() {
    let gap = |head, anchored: &[(u64, u64)]| {
        let view = view([true; 3], head, anchored);
        let usable = [0, 2].map(|place| view.epochs.terms()[place].clone());
        View { epochs: Epochs::new(usable.to_vec()).unwrap(), ..view }
    };
    let (work, close) = (|epoch| Ok(("work", epoch)), |epoch| Ok(("close", epoch)));
    let (wait, gone) = (Err(Reason::NotReady), Err(Reason::LogRetired));
    for (entries, closed, now, expected) in [
        (&[][..], &[][..], 199, work(1)),
        (&[], &[], 200, wait),
        (&[], &[], 250, wait),
        (&[], &[], 300, work(3)),
        (&[1], &[], 199, work(1)),
        (&[1], &[], 200, close(1)),
        (&[1], &[], 249, close(1)),
        (&[1], &[1], 200, wait),
        (&[1], &[1], 250, wait),
        (&[1], &[1], 299, wait),
        (&[1], &[1], 300, work(3)),
        (&[1], &[], 300, close(1)),
        (&[1, 3], &[1], 299, wait),
        (&[1, 3], &[1], 300, work(3)),
    ] {
        let decided = decide(&log(entries, closed), &gap(None, &[]), now);
        assert_eq!(decided, expected, "{entries:?} {closed:?} {now}");
    }
    for (closed, head, anchored, now, expected) in [
        (&[][..], 249, &[][..], 260, close(1)),
        (&[], 250, &[], 260, gone),
        (&[], 250, &[(1, 1)], 260, wait),
        (&[1], 249, &[], 260, wait),
        (&[1], 250, &[], 260, gone),
        (&[1], 250, &[(1, 1)], 299, wait),
        (&[1], 250, &[(1, 1)], 300, work(3)),
        (&[], 250, &[(1, 1)], 300, work(3)),
    ] {
        let decided = decide(&log(&[1], closed), &gap(Some(head), anchored), now);
        assert_eq!(decided, expected, "{closed:?} {head} {anchored:?} {now}");
    }
    let Next::Wait(error) = next(testing::gateway_key().address(), &log(&[1], &[1]), &gap(None, &[]), 250)
    else {
        panic!("there is nothing to do");
    };
    assert!(error.message.contains("nobody can use") && error.retry_after.is_some(), "{error}");
}

#[test]
fn a_gateway_waits_for_its_epoch_and_leaves_after_it() {
    let (empty, closed) = (log(&[], &[]), log(&[1], &[1]));
    let later = view([false, true, false], None, &[]);
    assert_eq!(decide(&empty, &later, 150), Err(Reason::NotReady));
    assert_eq!(decide(&empty, &later, 200), Ok(("work", 2)));
    assert_eq!(decide(&empty, &later, 300), Err(Reason::LogRetired));
    let pause = view([true, false, true], None, &[]);
    assert_eq!(decide(&log(&[1], &[]), &pause, 200), Ok(("close", 1)));
    assert_eq!(decide(&closed, &pause, 200), Err(Reason::NotReady));
    assert_eq!(decide(&closed, &pause, 300), Ok(("work", 3)));
    assert_eq!(decide(&closed, &view([true, false, false], None, &[]), 200), Err(Reason::LogRetired));
}
