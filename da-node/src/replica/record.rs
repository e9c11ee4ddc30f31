//! What is kept of a blob beside its rows: header, which rows there are, and their proofs.

use meridian_proofs::B256;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::merkle::RangeProof;
use meridian_proofs::shape::{RowRange, Shape};

/// Consecutive rows on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredRange {
    pub(super) range: RowRange,
    pub(super) proof: RangeProof,
}

/// A blob on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) header: BlobHeader,
    /// The rows on disk re-encode to another row root.
    pub(super) inconsistent: bool,
    /// Unix seconds of the first write.
    pub(super) stored_at: u64,
    pub(super) ranges: Vec<StoredRange>,
}

impl Record {
    /// Flat, big-endian: header, flag, time, then for each range start, count, number of hashes and the hashes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.header.encode().to_vec();
        bytes.push(u8::from(self.inconsistent));
        bytes.extend_from_slice(&self.stored_at.to_be_bytes());
        for StoredRange { range, proof } in &self.ranges {
            bytes.extend_from_slice(&range.start().to_be_bytes());
            bytes.extend_from_slice(&range.count().to_be_bytes());
            // A range proof has at most two hashes for each of at most 15 levels.
            bytes.push(u8::try_from(proof.0.len()).unwrap_or(u8::MAX));
            proof.0.iter().for_each(|hash| bytes.extend_from_slice(hash.as_slice()));
        }
        bytes
    }

    /// What [`Record::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, mut rest) = bytes.split_first_chunk::<{ BlobHeader::ENCODED_BYTES }>()?;
        let header = BlobHeader::decode(header).ok()?;
        let rest = &mut rest;
        let inconsistent = match take::<1>(rest)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let stored_at = u64::from_be_bytes(take(rest)?);
        let mut ranges = Vec::new();
        while !rest.is_empty() {
            let (start, count) = (u32::from_be_bytes(take(rest)?), u32::from_be_bytes(take(rest)?));
            let range = header.shape().range(start, count)?;
            let [hashes] = take::<1>(rest)?;
            let proof = (0..hashes).map(|_| take::<32>(rest).map(B256::new)).collect::<Option<_>>()?;
            ranges.push(StoredRange { range, proof: RangeProof(proof) });
        }
        Some(Self { header, inconsistent, stored_at, ranges })
    }

    pub(super) fn shape(&self) -> Shape {
        self.header.shape()
    }

    /// Bytes of rows on disk.
    pub(super) fn row_bytes(&self) -> u64 {
        let rows: u64 = self.ranges.iter().map(|stored| u64::from(stored.range.count())).sum();
        rows * wide(self.shape().row_bytes())
    }

    /// Whether all rows of a range are on disk in one piece, and in which.
    pub(super) fn find(&self, range: &RowRange) -> Option<(usize, &StoredRange)> {
        self.ranges.iter().enumerate().find(|(_, stored)| stored.range.contains_range(range))
    }
}

/// A length as the store and the budgets count it.
pub(super) fn wide(length: usize) -> u64 {
    // No platform has a usize above 64 bits.
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_nothing_else_does() {
        let header = BlobHeader {
            length: 100_000.try_into().unwrap(),
            row_root: B256::repeat_byte(1),
            rlc_root: B256::repeat_byte(2),
            kzg_root: B256::ZERO,
        };
        let range = |start, count| header.shape().range(start, count).unwrap();
        let ranges = vec![
            StoredRange { range: range(1000, 24), proof: RangeProof(vec![B256::repeat_byte(3); 30]) },
            StoredRange { range: range(0, 5), proof: RangeProof(Vec::new()) },
        ];
        let record = Record { header, inconsistent: true, stored_at: 77, ranges };
        let bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Some(record.clone()));
        assert_eq!(Record::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Record::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(record.row_bytes(), 29 * u64::try_from(header.shape().row_bytes()).unwrap());
        assert_eq!(record.find(&range(1001, 23)).unwrap().0, 0);
        assert_eq!(record.find(&range(4, 1)).unwrap().0, 1);
        assert!(record.find(&range(4, 2)).is_none());
    }
}
