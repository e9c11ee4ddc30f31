use std::collections::HashMap;

use meridian_proofs::checkpoint::{Checkpoint, SignedCheckpoint};
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::SecretKey;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::light::statement::Bounds;

const DOMAIN: Domain = Domain { chain_id: 1, verifying_contract: Address::repeat_byte(0xcc) };
const LOG: Address = Address::repeat_byte(1);
const NOW: u64 = 1_000_000;

fn state() -> (TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), &DOMAIN).unwrap();
    (folder, state)
}

fn id(number: u8) -> BlobId {
    BlobId::from([number; 32])
}

fn entry(blob: u8, expiry: u64) -> LogEntry {
    LogEntry {
        blob_id: id(blob),
        namespace: Namespace::default(),
        payload_hash: PayloadHash::UNBOUND,
        length: 100_000,
        epoch: 1,
        time: NOW,
        expiry,
    }
}

fn ids(blobs: &[Known]) -> Vec<BlobId> {
    blobs.iter().map(|(id, _)| *id).collect()
}

fn count(state: &State, standing: Standing) -> u64 {
    state.counts().unwrap()[&standing]
}

#[test]
fn a_state_is_of_one_network_and_one_process() {
    let (folder, state) = state();
    assert!(matches!(State::open(folder.path(), &DOMAIN), Err(StateError::InUse(_))));
    drop(state);
    let other = Domain { chain_id: 2, ..DOMAIN };
    assert!(matches!(State::open(folder.path(), &other), Err(StateError::Other { .. })));
    drop(State::open(folder.path(), &DOMAIN).unwrap());
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(State::open(&file, &DOMAIN), Err(StateError::Folder { .. })));
}

#[test]
fn what_a_log_names_is_due_at_once_and_survives_a_restart() {
    let (folder, state) = state();
    let record = LogRecord {
        size: 3,
        peaks: vec![B256::repeat_byte(1), B256::repeat_byte(2)],
        ..LogRecord::default()
    };
    let entries = [(0, entry(2, NOW + 10)), (1, entry(1, NOW + 20)), (2, entry(3, NOW))];
    state.grow(&LOG, &record, &entries, NOW).unwrap();
    drop(state);
    let state = State::open(folder.path(), &DOMAIN).unwrap();
    assert_eq!(state.log(&LOG).unwrap(), record);
    assert_eq!(state.log(&Address::ZERO).unwrap(), LogRecord::default());
    assert_eq!(state.logs().unwrap(), BTreeMap::from([(LOG, record)]));
    let due = state.due(NOW * 1_000, false, 9, &BTreeSet::new()).unwrap();
    assert_eq!(ids(&due), [id(1), id(2)]);
    assert_eq!(ids(&state.due(NOW * 1_000, false, 9, &BTreeSet::from([id(1)])).unwrap()), [id(2)]);
    assert_eq!(ids(&state.due(NOW * 1_000, false, 1, &BTreeSet::new()).unwrap()), [id(1)]);
    assert_eq!(state.due(NOW * 1_000 - 1, false, 9, &BTreeSet::new()).unwrap(), []);
    assert_eq!(state.next_due(&BTreeSet::from([id(1)])).unwrap(), Some(NOW * 1_000));
    // The third had expired before it was seen.
    assert_eq!(state.blob(&id(3)).unwrap().unwrap().standing, Standing::Missed);
    assert_eq!((count(&state, Standing::Pending), count(&state, Standing::Missed)), (2, 1));
}

#[test]
fn a_blob_that_is_named_again_is_kept_longer_and_is_not_drawn_again() {
    let (_folder, state) = state();
    let log = LogRecord::default();
    state.grow(&LOG, &log, &[(0, entry(1, NOW + 10))], NOW).unwrap();
    let mut blob = state.blob(&id(1)).unwrap().unwrap();
    (blob.draw, blob.standing, blob.due) = (vec![1, 2], Standing::Sampled, None);
    state.save(&[(id(1), blob.clone())], NOW, true).unwrap();
    let later = LogEntry { epoch: 2, ..entry(1, NOW + 50) };
    state.grow(&LOG, &log, &[(1, later), (2, entry(1, NOW + 30))], NOW + 5).unwrap();
    let again = state.blob(&id(1)).unwrap().unwrap();
    assert_eq!(again, BlobRecord { expiry: NOW + 50, epoch: 2, ..blob.clone() });
    assert_eq!(count(&state, Standing::Sampled), 1);
    // Who sampled it meanwhile does not take that back.
    state.save(&[(id(1), blob)], NOW, false).unwrap();
    assert_eq!(state.blob(&id(1)).unwrap().unwrap(), again);
}

#[test]
fn a_blob_that_expired_before_it_was_sampled_is_taken_up_when_it_is_named_again() {
    let (_folder, state) = state();
    let log = LogRecord::default();
    state.grow(&LOG, &log, &[(0, entry(1, NOW)), (1, entry(1, NOW + 20))], NOW).unwrap();
    let blob = state.blob(&id(1)).unwrap().unwrap();
    assert_eq!((blob.standing, blob.due), (Standing::Pending, Some(NOW * 1_000)));
    // A try that ends when the first entry has expired, while the second one came.
    let mut late = BlobRecord { expiry: NOW + 20, draw: vec![5], ..blob };
    (late.standing, late.settled, late.due) = (Standing::Missed, Some(NOW + 20), None);
    state.grow(&LOG, &log, &[(2, entry(1, NOW + 90))], NOW + 19).unwrap();
    state.save(&[(id(1), late)], NOW + 20, false).unwrap();
    let blob = state.blob(&id(1)).unwrap().unwrap();
    assert_eq!((blob.standing, blob.expiry, blob.draw), (Standing::Pending, NOW + 90, vec![5]));
    assert_eq!((count(&state, Standing::Pending), count(&state, Standing::Missed)), (1, 0));
}

#[test]
fn fresh_blobs_do_not_wait_behind_those_that_were_asked_for_in_vain() {
    let (_folder, state) = state();
    let entries: Vec<Placed> = (0..3).map(|number| (u64::from(number), entry(number, NOW + 90))).collect();
    state.grow(&LOG, &LogRecord::default(), &entries, NOW).unwrap();
    let mut blob = state.blob(&id(1)).unwrap().unwrap();
    (blob.tries, blob.due, blob.asked) = (1, Some(7), Some(NOW));
    state.save(&[(id(1), blob)], NOW, false).unwrap();
    let due = |again| ids(&state.due(u64::MAX, again, 9, &BTreeSet::new()).unwrap());
    assert_eq!((due(false), due(true)), (vec![id(0), id(2)], vec![id(1)]));
    assert_eq!(state.next_due(&BTreeSet::new()).unwrap(), Some(7));
    state.hurry(3).unwrap();
    assert_eq!(state.next_due(&BTreeSet::new()).unwrap(), Some(3));
    // After so long, and not for the time before the client began.
    for (now, from, withheld) in [(NOW + 4, 0, 0), (NOW + 9, NOW + 5, 0), (NOW + 5, 0, 1)] {
        state.judge(now, from, 5).unwrap();
        assert_eq!(count(&state, Standing::Withheld), withheld);
        assert_eq!(ids(&state.trouble(9).unwrap()).len(), usize::try_from(withheld).unwrap());
    }
    let blob = state.blob(&id(1)).unwrap().unwrap();
    state
        .save(&[(id(1), BlobRecord { standing: Standing::Sampled, due: None, ..blob })], NOW, false)
        .unwrap();
    assert_eq!(state.trouble(9).unwrap(), []);
    assert_eq!(state.next_due(&BTreeSet::new()).unwrap(), Some(NOW * 1_000));
}

#[test]
fn blobs_are_listed_in_pages() {
    let (_folder, state) = state();
    let entries: Vec<Placed> = (0..9).map(|number| (u64::from(number), entry(number, NOW + 10))).collect();
    state.grow(&LOG, &LogRecord::default(), &entries, NOW).unwrap();
    let page = |after, most, look| {
        let (blobs, next) = state.blobs(after, &[Standing::Pending], most, look).unwrap();
        (ids(&blobs), next)
    };
    assert_eq!(page(None, 4, 99), ((0..4).map(id).collect(), Some(id(3))));
    assert_eq!(page(Some(id(3)), 99, 2), (vec![id(4), id(5)], Some(id(5))));
    assert_eq!(page(Some(id(5)), 99, 99), (vec![id(6), id(7), id(8)], None));
    assert_eq!(state.blobs(None, &[Standing::Exact], 9, 99).unwrap(), (Vec::new(), None));
}

#[test]
fn a_range_says_what_holds_for_all_of_its_blobs() {
    let (_folder, state) = state();
    let entries: Vec<Placed> = (0..4).map(|number| (u64::from(number), entry(number, NOW + 10))).collect();
    let no_blob = LogEntry { length: 0, ..entry(9, NOW + 10) };
    state.grow(&LOG, &LogRecord::default(), &[entries, vec![(4, no_blob)]].concat(), NOW).unwrap();
    for number in 0..3 {
        let mut blob = state.blob(&id(number)).unwrap().unwrap();
        (blob.draw, blob.standing) = ((0..16).collect(), Standing::Sampled);
        blob.verified = blob.draw.clone();
        state.save(&[(id(number), blob)], NOW, false).unwrap();
    }
    let combined = |from, to| state.combined(&LOG, from, to).unwrap();
    let bounds = combined(0, 3).bounds.unwrap();
    assert_eq!(bounds, Bounds::of(state.blob(&id(0)).unwrap().unwrap().shape(), 16, 16));
    assert_eq!(combined(0, 4).bounds, None);
    assert_eq!(combined(0, 4).standings.iter().sum::<u64>(), 4);
    assert_eq!((combined(4, 5).bounds, combined(4, 5).unknown), (None, 1));
    // Of nothing, or of what was not followed to, nothing is said.
    for (from, to, unknown) in [(3, 3, 0), (5, 3, 0), (2, 3, 0), (2, 9, 5)] {
        let combined = combined(from, to);
        assert_eq!((combined.unknown, combined.bounds.is_some()), (unknown, (from, to) == (2, 3)));
    }
}

#[test]
fn what_expired_a_day_ago_is_forgotten() {
    let (_folder, state) = state();
    let entries = [(0, entry(1, NOW + 10)), (1, entry(2, NOW + 20)), (2, entry(1, NOW + 10))];
    state.grow(&LOG, &LogRecord::default(), &entries, NOW).unwrap();
    assert_eq!(state.prune(NOW + 10 + KEEP).unwrap(), 0);
    assert_eq!(state.prune(NOW + 11 + KEEP).unwrap(), 1);
    assert_eq!(state.blob(&id(1)).unwrap(), None);
    assert_eq!(ids(&state.due(NOW * 1_000, false, 9, &BTreeSet::new()).unwrap()), [id(2)]);
    // Of the first entry nothing is left; the one behind a blob that is kept says that something is not known.
    let combined = state.combined(&LOG, 0, 2).unwrap();
    assert_eq!(combined.standings.iter().sum::<u64>(), 1);
    assert_eq!(state.prune(NOW + 21 + KEEP).unwrap(), 1);
    let combined = state.combined(&LOG, 0, 3).unwrap();
    assert_eq!((combined.unknown, combined.bounds), (3, None));
    // What was seen is counted for good.
    assert_eq!((count(&state, Standing::Pending), count(&state, Standing::Missed)), (0, 2));
}

fn checkpoint(size: u64) -> CosignedCheckpoint {
    let key = SecretKey::from_bytes([7; 32]).unwrap();
    let checkpoint =
        Checkpoint { gateway: key.address(), epoch: 1, size, root: B256::repeat_byte(3), timestamp: 5 };
    CosignedCheckpoint { signed: SignedCheckpoint::sign(checkpoint, &DOMAIN, &key), cosignatures: Vec::new() }
}

#[test]
fn the_longest_checkpoints_are_kept() {
    let (_folder, state) = state();
    let most = u64::try_from(MAX_CHECKPOINTS).unwrap();
    let log = checkpoint(1).signed.checkpoint.gateway;
    let sizes = || -> Vec<u64> {
        let kept = state.checkpoints(Some(&log)).unwrap();
        kept.iter().map(|checkpoint| checkpoint.signed.checkpoint.size).collect()
    };
    for size in 1..=most + 1 {
        let checkpoint = checkpoint(size);
        state.keep_checkpoint(&checkpoint).unwrap();
        let kept = sizes();
        assert_eq!(kept.len(), MAX_CHECKPOINTS.min(usize::try_from(size).unwrap()));
        assert_eq!(kept.last(), Some(&size));
    }
    assert_eq!(sizes()[0], 2);
    assert_eq!(state.checkpoints(None).unwrap().len(), MAX_CHECKPOINTS);
    assert_eq!(state.checkpoints(Some(&Address::ZERO)).unwrap(), []);
}

#[test]
fn cosignatures_that_are_known_stay() {
    let (_folder, state) = state();
    let (bare, mut full) = (checkpoint(5), checkpoint(5));
    let digest = bare.signed.checkpoint.digest(&DOMAIN);
    full.insert(&DOMAIN, SecretKey::from_bytes([8; 32]).unwrap().sign(&digest)).unwrap();
    for checkpoint in [&bare, &full, &bare] {
        state.keep_checkpoint(checkpoint).unwrap();
    }
    assert_eq!(state.checkpoints(None).unwrap(), [full]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn counts_and_what_is_due_follow_the_records(
        steps in prop::collection::vec((0..6_u8, 0..Standing::ALL.len(), prop::option::of(0..50_u64)), 1..60),
    ) {
        let (_folder, state) = state();
        let entries: Vec<Placed> = (0..6).map(|number| (u64::from(number), entry(number, NOW + 10))).collect();
        state.grow(&LOG, &LogRecord::default(), &entries, NOW).unwrap();
        let mut model: HashMap<BlobId, (Standing, Option<u64>)> =
            (0..6).map(|number| (id(number), (Standing::Pending, Some(NOW * 1_000)))).collect();
        for (number, standing, due) in steps {
            let mut blob = state.blob(&id(number)).unwrap().unwrap();
            (blob.standing, blob.due) = (Standing::ALL[standing], due);
            state.save(&[(id(number), blob)], NOW, false).unwrap();
            model.insert(id(number), (Standing::ALL[standing], due));
            for each in Standing::ALL {
                let expected = model.values().filter(|(standing, _)| *standing == each).count();
                prop_assert_eq!(count(&state, each), u64::try_from(expected).unwrap());
            }
            let mut expected: Vec<_> =
                model.iter().filter_map(|(id, (_, due))| due.map(|due| (due, *id))).collect();
            expected.sort_unstable();
            let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
            prop_assert_eq!(ids(&state.due(u64::MAX, false, 99, &BTreeSet::new()).unwrap()), expected);
        }
    }
}
