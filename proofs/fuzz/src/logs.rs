//! A log with checkpoints, and the proofs over it.

use super::input::Input;
use meridian_proofs::{
    Address, B256,
    certificate::Certificate,
    checkpoint::{Checkpoint, CosignedCheckpoint, Domain, SignedCheckpoint},
    committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat},
    encode::encode,
    hash::Blake3,
    header::BlobHeader,
    ids::{Namespace, PayloadHash},
    keccak256,
    log::{
        CompactRange, LogEntry, Node, NodeSource, consistency_proof, inclusion_proof, verify_consistency,
        verify_inclusion,
    },
    signature::SecretKey,
};
use std::{collections::BTreeMap, convert::Infallible, sync::LazyLock};

const TIME: u64 = 1_800_000_000;
const RETENTION: u64 = 1_209_600;

/// Entries of the log: a size with peaks of three heights.
pub const ENTRIES: u64 = 7;

/// Seats of each region; a region of four is complete with three.
const SEATS: [u16; 3] = [1, 4, 1];

/// A gateway's log, its committee, and the checkpoint of every size with every seat's cosignature.
pub struct Log {
    pub committee: Committee,
    pub domain: Domain,
    pub header: BlobHeader,
    pub entries: Vec<LogEntry>,
    pub checkpoints: Vec<CosignedCheckpoint>,
    nodes: BTreeMap<(u8, u64), B256>,
}

/// The log that inputs are held against.
pub static LOG: LazyLock<Log> = LazyLock::new(Log::new);

impl NodeSource for Log {
    type Error = Infallible;

    fn node(&self, level: u8, index: u64) -> Result<B256, Infallible> {
        Ok(self.nodes[&(level, index)])
    }
}

fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(keccak256(name).0).unwrap()
}

/// Region and number of every seat.
fn seats() -> impl Iterator<Item = (RegionId, u16)> {
    (1..).zip(SEATS).flat_map(|(region, seats)| (0..seats).map(move |number| (RegionId(region), number)))
}

fn seat_key((region, number): (RegionId, u16)) -> SecretKey {
    key(&format!("seat {} {number}", region.0))
}

fn committee() -> Committee {
    let region = |id: u16| Region {
        id: RegionId(id),
        label: format!("region-{id}"),
        latitude: f64::from(id),
        longitude: f64::from(id),
    };
    let seat = |(region, number)| Seat {
        region,
        number,
        address: seat_key((region, number)).address(),
        endpoint: format!("http://127.0.0.1:{}", 9000 + 10 * region.0 + number),
    };
    Committee::new(CommitteeParts {
        chain_id: 31337,
        verifying_contract: Address::repeat_byte(0x11),
        epoch: 1,
        min_copies: 2,
        min_retention: 3600,
        max_retention: RETENTION,
        regions: (1..=3).map(region).collect(),
        seats: seats().map(seat).collect(),
        gateways: vec![GatewayMember {
            address: key("gateway").address(),
            endpoint: "http://127.0.0.1:9000".into(),
            max_bytes: 1 << 40,
            max_entries_per_hour: 100_000,
        }],
    })
    .unwrap()
}

impl Log {
    fn new() -> Self {
        let committee = committee();
        let domain = committee.domain();
        let header = *encode::<Blake3>(b"a", B256::ZERO).unwrap().header();
        let entry = |place: u64| LogEntry {
            blob_id: header.id(),
            namespace: Namespace(keccak256(place.to_be_bytes())),
            payload_hash: PayloadHash(keccak256(b"a")),
            length: 1,
            epoch: 1,
            time: TIME + place,
            expiry: TIME + place + RETENTION,
        };
        let entries: Vec<LogEntry> = (0..ENTRIES).map(entry).collect();
        let (mut range, mut nodes, mut checkpoints) = (CompactRange::empty(), BTreeMap::new(), Vec::new());
        for entry in &entries {
            let created = range.append(entry.leaf());
            nodes.extend(created.into_iter().map(|Node { level, index, hash }| ((level, index), hash)));
            let checkpoint = Checkpoint {
                gateway: key("gateway").address(),
                epoch: 1,
                size: range.size(),
                root: range.root(),
                timestamp: entry.time + 1,
            };
            let signed = SignedCheckpoint::sign(checkpoint, &domain, &key("gateway"));
            let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
            for seat in seats() {
                cosigned.insert(&domain, seat_key(seat).sign(&checkpoint.digest(&domain))).unwrap();
            }
            checkpoints.push(cosigned);
        }
        Self { committee, domain, header, entries, checkpoints, nodes }
    }

    /// The entry at an index.
    pub fn entry(&self, index: u64) -> Option<&LogEntry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The cosigned checkpoint of a size.
    pub fn checkpoint(&self, size: u64) -> Option<&CosignedCheckpoint> {
        self.checkpoints.get(usize::try_from(size.checked_sub(1)?).ok()?)
    }

    /// The root of a size.
    fn root(&self, size: u64) -> Option<B256> {
        let root = self.checkpoint(size).map(|cosigned| cosigned.signed.checkpoint.root);
        root.or((size == 0).then_some(B256::ZERO))
    }

    /// The proof that an entry is under a checkpoint that has it.
    pub fn inclusion(&self, index: u64, size: u64) -> Vec<B256> {
        inclusion_proof(self, index, size).unwrap()
    }

    /// The proof that one checkpoint's log begins with another's.
    pub fn consistency(&self, old_size: u64, new_size: u64) -> Vec<B256> {
        consistency_proof(self, old_size, new_size).unwrap()
    }

    /// The certificate of an entry under a checkpoint, with every cosignature.
    pub fn certificate(&self, index: u64, size: u64) -> Certificate {
        Certificate {
            header: self.header,
            entry: *self.entry(index).unwrap(),
            index,
            inclusion: self.inclusion(index, size),
            checkpoint: self.checkpoint(size).unwrap().clone(),
        }
    }
}

/// An entry of 128 bytes, two numbers u64, then a proof: of the entry at the one under the size of the other, and of
/// the one size before the other.
pub fn log(data: &[u8]) {
    let mut input = Input(data);
    let flat = input.take(128);
    let entry = match LogEntry::decode(flat) {
        Ok(entry) => entry,
        Err(error) => return assert!(error.0 == flat.len() && flat.len() < 128),
    };
    assert_eq!(entry.encode(), flat);

    let (index, size, proof) = (input.u64(), input.u64(), input.hashes());
    let root = LOG.root(size).unwrap_or_default();
    let same = index < size && LOG.entry(index) == Some(&entry) && LOG.root(size).is_some();
    let same = same && LOG.inclusion(index, size) == proof;
    assert_eq!(verify_inclusion(entry.leaf(), index, size, &proof, &root).is_ok(), same);

    let old_root = LOG.root(index).unwrap_or_default();
    let accepted = verify_consistency(index, &old_root, size, &root, &proof).is_ok();
    if let (Some(_), Some(_)) = (LOG.root(index), LOG.root(size)) {
        assert_eq!(accepted, index <= size && LOG.consistency(index, size) == proof);
    } else {
        // Sizes that this log never had have no roots here: only nothing at all leads to no root.
        assert!(!accepted || proof.is_empty() && (index == 0 || index == size));
    }
}
