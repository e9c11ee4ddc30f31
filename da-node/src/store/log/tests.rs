use proptest::prelude::*;

use meridian_proofs::checkpoint::{Checkpoint, Domain, SignedCheckpoint};
use meridian_proofs::log::{verify_consistency, verify_inclusion};
use meridian_proofs::signature::SecretKey;

use super::*;
use crate::store::{Durability, Role};

fn open(path: &std::path::Path) -> LogStore {
    LogStore::new(Db::open(path, Role::Replica, &LogStore::COLUMNS).unwrap())
}

fn entry(log: u8, i: u64) -> LogEntry {
    LogEntry {
        blob_id: [log; 32].into(),
        namespace: [2; 32].into(),
        payload_hash: [3; 32].into(),
        length: i + 1,
        epoch: 1,
        time: i,
        expiry: i + 100,
    }
}

/// The root by the definition of RFC 6962, section 2.1.
fn slow_root(leaves: &[B256]) -> B256 {
    match leaves.len() {
        0 => B256::ZERO,
        1 => leaves[0],
        n => {
            let left = n.next_power_of_two() / 2;
            let (a, b) = (slow_root(&leaves[..left]), slow_root(&leaves[left..]));
            meridian_proofs::keccak256([&[1], a.as_slice(), b.as_slice()].concat())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn logs_agree_with_lists_in_memory(batches in prop::collection::vec((0..2_u8, 0..20_u64), 1..8)) {
        let folder = tempfile::tempdir().unwrap();
        let mut lists = [Vec::new(), Vec::new()];
        for (log, count) in batches {
            // Opened anew each time: nothing is kept in memory.
            let store = open(folder.path());
            let list = &mut lists[usize::from(log)];
            let address = Address::repeat_byte(log);
            let mut range = store.range(&address).unwrap();
            let begin = u64::try_from(list.len()).unwrap();
            prop_assert_eq!(range.size(), begin);
            let new: Vec<_> = (begin..begin + count).map(|i| entry(log, i)).collect();
            let mut batch = Batch::new();
            store.append(&mut batch, &address, &mut range, &new);
            store.db.commit(batch, Durability::Synced).unwrap();
            list.extend(new);
        }
        let store = open(folder.path());
        for (log, list) in (0_u8..).zip(&lists) {
            let address = Address::repeat_byte(log);
            let leaves: Vec<_> = list.iter().map(LogEntry::leaf).collect();
            let size = u64::try_from(list.len()).unwrap();
            prop_assert_eq!(store.range(&address).unwrap().root(), slow_root(&leaves));
            let items: Vec<_> = list.iter().copied().map(LogItem::Entry).collect();
            prop_assert_eq!(store.items(&address, 0, size).unwrap(), items);
            prop_assert_eq!(store.entry(&address, size).unwrap(), None);
            for (n, i) in (0..=list.len()).zip(0_u64..) {
                let root = slow_root(&leaves[..n]);
                prop_assert_eq!(store.root_at(&address, i).unwrap(), root);
                let proof = store.consistency(&address, i, size).unwrap();
                prop_assert!(verify_consistency(i, &root, size, &slow_root(&leaves), &proof).is_ok());
                if i < size {
                    prop_assert_eq!(store.leaf(&address, i).unwrap(), leaves[n]);
                    let proof = store.inclusion(&address, i, size).unwrap();
                    prop_assert!(verify_inclusion(leaves[n], i, size, &proof, &slow_root(&leaves)).is_ok());
                }
            }
        }
    }

    #[test]
    fn stored_forms_come_back(size in 0..300_u64, cosignatures in 0..4_u8) {
        let mut range = CompactRange::empty();
        (0..size).for_each(|i| drop(range.append(entry(1, i).leaf())));
        let bytes = codec::encode_range(&range);
        prop_assert_eq!(codec::decode_range(&bytes), Some(range.clone()));
        prop_assert_eq!(codec::decode_range(&bytes[..bytes.len() - 1]), None);
        prop_assert_eq!(codec::decode_range(&[&bytes[..], &[0; 32]].concat()), None);
        let cosigned = checkpoint(size, cosignatures);
        let bytes = codec::encode_checkpoint(&cosigned);
        prop_assert_eq!(codec::decode_checkpoint(&bytes), Some(cosigned));
        prop_assert_eq!(codec::decode_checkpoint(&bytes[..bytes.len() - 1]), None);
        prop_assert_eq!(codec::decode_checkpoint(&[&bytes[..], &[0]].concat()), None);
    }
}

fn checkpoint(size: u64, cosignatures: u8) -> CosignedCheckpoint {
    let domain = Domain { chain_id: 1, verifying_contract: Address::ZERO };
    let key = SecretKey::from_bytes([9; 32]).unwrap();
    let root = B256::repeat_byte(4);
    let checkpoint = Checkpoint { gateway: key.address(), epoch: 3, size, root, timestamp: 77 };
    let signed = SignedCheckpoint::sign(checkpoint, &domain, &key);
    let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
    for i in 0..cosignatures {
        let key = SecretKey::from_bytes([i + 1; 32]).unwrap();
        cosigned.insert(&domain, key.sign(&checkpoint.digest(&domain))).unwrap();
    }
    cosigned
}

#[test]
fn the_latest_checkpoint_of_each_log_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (old, new) = (checkpoint(1, 0), checkpoint(2, 3));
    let log = old.signed.checkpoint.gateway;
    assert_eq!(store.checkpoint(&log).unwrap(), None);
    for cosigned in [&old, &new] {
        let mut batch = Batch::new();
        store.set_checkpoint(&mut batch, cosigned);
        store.db.commit(batch, Durability::Synced).unwrap();
        assert_eq!(store.checkpoint(&log).unwrap().as_ref(), Some(cosigned));
    }
    assert_eq!(store.checkpoints().unwrap(), [new]);
}

#[test]
fn a_node_that_is_not_there_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert!(matches!(store.root_at(&Address::ZERO, 1), Err(StoreError::Damaged { .. })));
}
