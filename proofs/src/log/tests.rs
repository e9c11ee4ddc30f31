#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use proptest::prelude::*;

use super::*;

/// A log as the RFC writes it: recursive functions over all leaves.
mod naive {
    use super::{B256, keccak256};

    pub(super) fn root(leaves: &[B256]) -> B256 {
        match leaves {
            [] => B256::ZERO,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                keccak256([[1].as_slice(), root(left).as_slice(), root(right).as_slice()].concat())
            }
        }
    }

    pub(super) fn path(index: usize, leaves: &[B256]) -> Vec<B256> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        if index < k {
            [path(index, left), vec![root(right)]].concat()
        } else {
            [path(index - k, right), vec![root(left)]].concat()
        }
    }

    pub(super) fn consistency(old: usize, leaves: &[B256]) -> Vec<B256> {
        if old == 0 { Vec::new() } else { subproof(old, leaves, true) }
    }

    fn subproof(old: usize, leaves: &[B256], whole: bool) -> Vec<B256> {
        if old == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        if old <= k {
            [subproof(old, left, whole), vec![root(right)]].concat()
        } else {
            [subproof(old - k, right, false), vec![root(left)]].concat()
        }
    }

    fn split(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }
}

/// All leaves of a log; refuses nodes that are not complete.
struct Leaves(Vec<B256>);

impl NodeSource for Leaves {
    type Error = String;

    fn node(&self, level: u8, index: u64) -> Result<B256, String> {
        let (start, count) = ((index as usize) << level, 1_usize << level);
        self.0
            .get(start..start + count)
            .map(naive::root)
            .ok_or_else(|| format!("node ({level}, {index}) is not complete"))
    }
}

fn leaves(count: usize) -> Leaves {
    Leaves((0..count).map(|i| keccak256((i as u64).to_be_bytes())).collect())
}

fn entry() -> LogEntry {
    LogEntry {
        blob_id: BlobId::from([1; 32]),
        namespace: Namespace::from([2; 32]),
        payload_hash: PayloadHash::from([3; 32]),
        length: 4,
        epoch: 5,
        time: u64::MAX,
        expiry: 0x0102_0304_0506_0708,
    }
}

#[test]
fn the_leaf_is_the_hash_of_the_abi_encoding() {
    let mut bytes = vec![0];
    for hash in [[1; 32], [2; 32], [3; 32]] {
        bytes.extend(hash);
    }
    for number in [4, 5, u64::MAX, 0x0102_0304_0506_0708] {
        bytes.extend([0; 24]);
        bytes.extend(number.to_be_bytes());
    }
    assert_eq!(bytes.len(), 1 + 7 * 32);
    assert_eq!(entry().leaf(), keccak256(bytes));
}

#[test]
fn the_flat_form_of_an_entry_is_strict() {
    let bytes = entry().encode();
    assert_eq!(bytes[..96], [[1; 32], [2; 32], [3; 32]].concat());
    assert_eq!(bytes[96..], [4, 5, u64::MAX, 0x0102_0304_0506_0708].map(u64::to_be_bytes).concat());
    assert_eq!(LogEntry::decode(&bytes), Ok(entry()));
    for len in [0, ENTRY_LEN - 1, ENTRY_LEN + 1] {
        assert_eq!(LogEntry::decode(&vec![0; len]), Err(EntryError(len)));
    }
}

#[test]
fn a_compact_range_grows_like_the_log() {
    let all = leaves(300).0;
    let mut range = CompactRange::empty();
    let mut nodes = std::collections::BTreeMap::new();
    assert_eq!(range.root(), B256::ZERO);
    for (index, leaf) in all.iter().enumerate() {
        let created = range.append(*leaf);
        assert_eq!(created[0], Node { level: 0, index: index as u64, hash: *leaf });
        for node in created {
            assert!(nodes.insert((node.level, node.index), node.hash).is_none(), "a node is made once");
        }
        assert_eq!(range.size(), index as u64 + 1);
        assert_eq!(range.root(), naive::root(&all[..=index]));
        assert_eq!(CompactRange::from_parts(range.size(), range.peaks().to_vec()), Ok(range.clone()));
        // Exactly the complete nodes are there.
        let complete: u32 = (0..10).map(|level| (index as u32 + 1) >> level).sum();
        assert_eq!(nodes.len(), complete as usize);
    }
    for ((level, index), hash) in nodes {
        assert_eq!(Ok(hash), Leaves(all.clone()).node(level, index));
    }
}

#[test]
fn a_compact_range_has_one_peak_for_each_bit() {
    for (size, need) in
        [(0, 0), (1, 1), (6, 2), (7, 3), (1 << 40, 1), (MAX_LOG_SIZE - 1, 62), (MAX_LOG_SIZE, 1)]
    {
        for peaks in 0..70 {
            let range = CompactRange::from_parts(size, vec![B256::ZERO; peaks]);
            if peaks == need {
                assert_eq!(range.unwrap().size(), size);
            } else {
                assert_eq!(range, Err(CompactRangeError::Peaks { size, peaks }));
            }
        }
    }
    for size in [MAX_LOG_SIZE + 1, u64::MAX] {
        let peaks = vec![B256::ZERO; size.count_ones() as usize];
        assert_eq!(CompactRange::from_parts(size, peaks), Err(CompactRangeError::Size(size)));
    }
}

#[test]
fn every_small_proof_is_the_rfcs_and_holds() {
    let source = leaves(130);
    let roots: Vec<B256> = (0..=130).map(|size| naive::root(&source.0[..size])).collect();
    for size in 0..=130_usize {
        let (n, root) = (size as u64, roots[size]);
        assert_eq!(root_at(&source, n), Ok(root));
        let mut range = CompactRange::empty();
        source.0[..size].iter().for_each(|leaf| drop(range.append(*leaf)));
        assert_eq!(range_at(&source, n), Ok(range));
        for index in 0..size {
            let (i, leaf) = (index as u64, source.0[index]);
            let proof = inclusion_proof(&source, i, n).unwrap();
            assert_eq!(proof, naive::path(index, &source.0[..size]));
            assert_eq!(proof.len(), inclusion_proof_len(i, n));
            assert_eq!(verify_inclusion(leaf, i, n, &proof, &root), Ok(()));
            // Another index or another root is refused.
            assert!(verify_inclusion(leaf, (i + 1) % n, n, &proof, &root).is_err() || n == 1);
            assert_eq!(verify_inclusion(leaf, i, n, &proof, &B256::ZERO), Err(ProofError::Root));
        }
        for (old, old_root) in roots.iter().enumerate().take(size + 1) {
            let o = old as u64;
            let proof = consistency_proof(&source, o, n).unwrap();
            assert_eq!(proof, naive::consistency(old, &source.0[..size]));
            assert_eq!(proof.len(), consistency_proof_len(o, n));
            assert_eq!(verify_consistency(o, old_root, n, &root, &proof), Ok(()));
            let fork = B256::repeat_byte(7);
            assert!(verify_consistency(o, &fork, n, &root, &proof).is_err());
            // Any log begins with the empty one.
            assert!(verify_consistency(o, old_root, n, &fork, &proof).is_err() || old == 0);
        }
    }
}

#[test]
fn proofs_past_the_end_are_refused() {
    let source = leaves(8);
    let root = naive::root(&source.0);
    for index in [8, 9, u64::MAX] {
        assert_eq!(inclusion_proof(&source, index, 8), Ok(Vec::new()));
        assert_eq!(inclusion_proof_len(index, 8), 0);
        assert_eq!(
            verify_inclusion(source.0[0], index, 8, &[], &root),
            Err(ProofError::Index { index, size: 8 })
        );
    }
    assert_eq!(
        verify_inclusion(B256::ZERO, 0, 0, &[], &B256::ZERO),
        Err(ProofError::Index { index: 0, size: 0 })
    );
    assert_eq!(consistency_proof(&source, 9, 8), Ok(Vec::new()));
    assert_eq!(
        verify_consistency(9, &root, 8, &root, &[]),
        Err(ProofError::Shrunk { old_size: 9, new_size: 8 })
    );
    assert_eq!(verify_consistency(0, &root, 8, &root, &[]), Err(ProofError::OldRoot));
    assert_eq!(verify_consistency(0, &root, 0, &root, &[]), Err(ProofError::OldRoot));
    assert_eq!(verify_consistency(0, &B256::ZERO, 8, &root, &[]), Ok(()));
    assert_eq!(
        verify_consistency(0, &B256::ZERO, 8, &root, &[root]),
        Err(ProofError::Length { have: 1, need: 0 })
    );
}

#[test]
fn numbers_at_the_end_of_their_range_do_no_harm() {
    let many = vec![B256::ZERO; 70];
    for size in [1, 2, u64::MAX / 2, 1 << 63, u64::MAX - 1, u64::MAX] {
        for index in [0, 1, (1 << 63) - 1, 1 << 63, u64::MAX - 2, u64::MAX - 1, u64::MAX] {
            let proof = &many[..inclusion_proof_len(index, size)];
            assert!(proof.len() <= 64);
            assert!(verify_inclusion(B256::ZERO, index, size, proof, &B256::ZERO).is_err() || size == 1);
            assert!(verify_inclusion(B256::ZERO, index, size, &many, &B256::ZERO).is_err());
            let proof = &many[..consistency_proof_len(index, size)];
            let fork = B256::repeat_byte(7);
            assert!(verify_consistency(index, &fork, size, &B256::ZERO, proof).is_err());
        }
    }
    struct Any;
    impl NodeSource for Any {
        type Error = std::convert::Infallible;
        fn node(&self, _: u8, _: u64) -> Result<B256, Self::Error> {
            Ok(B256::ZERO)
        }
    }
    for size in [1 << 63, u64::MAX] {
        let index = size - 1;
        let (Ok(_), Ok(proof)) = (root_at(&Any, size), inclusion_proof(&Any, index, size));
        assert_eq!(proof.len(), inclusion_proof_len(index, size));
        let Ok(proof) = consistency_proof(&Any, index, size);
        assert_eq!(proof.len(), consistency_proof_len(index, size));
    }
}

/// One change to a proof.
fn mutate(proof: &mut Vec<B256>, at: usize, byte: usize, kind: u8) {
    let len = proof.len();
    match kind {
        0 => proof.push(B256::ZERO),
        1 if len > 0 => drop(proof.remove(at % len)),
        2 if len > 0 => proof[at % len].0[byte % 32] ^= 1,
        3 if len > 1 => proof.swap(at % len, (at + 1) % len),
        _ => proof.insert(at % (len + 1), B256::ZERO),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn large_proofs_hold_and_changed_ones_do_not(
        size in 131_usize..3000, at in 0_usize..3000, change in 0_usize..64, byte in 0_usize..32, kind in 0_u8..5,
    ) {
        let source = leaves(size);
        let at = at % size;
        let (i, n, root) = (at as u64, size as u64, naive::root(&source.0));

        let mut proof = inclusion_proof(&source, i, n).unwrap();
        prop_assert_eq!(&proof, &naive::path(at, &source.0));
        prop_assert_eq!(verify_inclusion(source.0[at], i, n, &proof, &root), Ok(()));
        mutate(&mut proof, change, byte, kind);
        prop_assert!(verify_inclusion(source.0[at], i, n, &proof, &root).is_err());

        let old_root = naive::root(&source.0[..at]);
        let mut proof = consistency_proof(&source, i, n).unwrap();
        prop_assert_eq!(&proof, &naive::consistency(at, &source.0));
        prop_assert_eq!(verify_consistency(i, &old_root, n, &root, &proof), Ok(()));
        mutate(&mut proof, change, byte, kind);
        prop_assert!(verify_consistency(i, &old_root, n, &root, &proof).is_err());
    }

    #[test]
    fn entries_go_through_their_flat_form(bytes in proptest::array::uniform32(any::<u8>()), rest: [u64; 4]) {
        let entry = LogEntry {
            blob_id: bytes.into(), namespace: bytes.into(), payload_hash: bytes.into(),
            length: rest[0], epoch: rest[1], time: rest[2], expiry: rest[3],
        };
        prop_assert_eq!(LogEntry::decode(&entry.encode()), Ok(entry));
    }
}
