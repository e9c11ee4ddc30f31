use std::collections::HashMap;

use proptest::prelude::*;

use super::super::{Node, NodeSource, inclusion_proof, root_at};
use super::*;

/// Most leaves of a block here.
const MOST: u64 = 4096;

/// All nodes of a log.
struct Nodes(HashMap<(u8, u64), B256>);

impl NodeSource for Nodes {
    type Error = (u8, u64);

    fn node(&self, level: u8, index: u64) -> Result<B256, Self::Error> {
        self.0.get(&(level, index)).copied().ok_or((level, index))
    }
}

fn log(size: u64) -> (Vec<B256>, Nodes) {
    let leaves: Vec<B256> =
        (0..size).map(|index| B256::from_slice(&[index.to_be_bytes(); 4].concat())).collect();
    let mut range = CompactRange::empty();
    let mut nodes = HashMap::new();
    for leaf in &leaves {
        nodes.extend(
            range.append(*leaf).into_iter().map(|Node { level, index, hash }| ((level, index), hash)),
        );
    }
    (leaves, Nodes(nodes))
}

fn at(index: u64) -> usize {
    usize::try_from(index).unwrap()
}

#[test]
fn blocks_are_subtrees_and_no_longer_than_an_answer() {
    let most = MOST;
    for (start, size, count) in [
        (0, 1, 1),
        (0, most - 1, most - 1),
        (0, most, most),
        (0, most + 1, most),
        (most, most + 1, 1),
        (2 * most, 9 * most, most),
        (10, 100, 2),
        (12, 13, 1),
        (12, 100, 4),
        (13, 100, 1),
        (13, 13, 0),
        (14, 13, 0),
    ] {
        assert_eq!(block_len(start, size, most), count, "{start} of {size}");
    }
}

#[test]
fn every_block_of_every_log_is_proved_by_its_first_path() {
    for size in 1..=70 {
        let (leaves, nodes) = log(size);
        let root = root_at(&nodes, size).unwrap();
        let mut start = 0;
        while start < size {
            // Small blocks, so that inner ones are met.
            let count = block_len(start, size, MOST).min(if start == 0 { 8 } else { u64::MAX });
            let path = inclusion_proof(&nodes, start, size).unwrap();
            let block = &leaves[at(start)..at(start + count)];
            let complete = count.is_power_of_two() || start + count == size;
            assert_eq!(
                verify_block(block, start, size, &path, &root).is_ok(),
                complete,
                "{start} + {count} of {size}"
            );
            start += count;
        }
    }
}

proptest! {
    #[test]
    fn another_leaf_root_path_or_place_is_refused(
        size in 1..5000_u64, start in 0..5000_u64, wrong in any::<prop::sample::Index>(), bit in 0..256_usize,
    ) {
        let start = start % size;
        let (mut leaves, nodes) = log(size);
        let count = block_len(start, size, MOST);
        let root = root_at(&nodes, size).unwrap();
        let mut path = inclusion_proof(&nodes, start, size).unwrap();
        let block = at(start)..at(start + count);
        prop_assert!(verify_block(&leaves[block.clone()], start, size, &path, &root).is_ok());
        prop_assert!(verify_block(&leaves[block.clone()], start, size, &path, &B256::repeat_byte(1)).is_err());
        let flip = |hash: &mut B256| hash.0[bit / 8] ^= 1 << (bit % 8);
        if !path.is_empty() {
            let place = wrong.index(path.len());
            flip(&mut path[place]);
            prop_assert!(verify_block(&leaves[block.clone()], start, size, &path, &root).is_err());
            flip(&mut path[place]);
        }
        flip(&mut leaves[block.start + wrong.index(block.len())]);
        prop_assert!(verify_block(&leaves[block], start, size, &path, &root).is_err());
        prop_assert!(verify_block(&[], start, size, &path, &root).is_err());
    }
}
