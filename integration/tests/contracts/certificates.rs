//! Certificates from parts, each of which a test may change before everything is signed.

use alloy::primitives::{Address, B256, keccak256};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, Domain, SignedCheckpoint};
use meridian_proofs::committee::{Committee, RegionId};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::{LogEntry, inclusion_proof_len};
use meridian_proofs::shape::PayloadLength;

use crate::members::{Keys, RETENTION};
use crate::random::Random;

/// A certificate before it is signed.
#[derive(Clone)]
pub(crate) struct Draft {
    pub domain: Domain,
    pub header: BlobHeader,
    pub entry: LogEntry,
    pub index: u64,
    pub path: Vec<B256>,
    pub checkpoint: Checkpoint,
    /// Whether the root is that of the path, or stays as it is.
    pub root_follows: bool,
    /// Who signs in the gateway's place.
    pub signer: Address,
    /// In the order in which they are written.
    pub cosigners: Vec<Address>,
}

impl Draft {
    /// A valid one of a committee, with a random quorum of cosigners and a log of any size.
    pub(crate) fn valid(random: &mut Random, committee: &Committee, domain: Domain, now: u64) -> Self {
        let header = BlobHeader {
            length: PayloadLength::try_from(1 + random.below(1 << 27)).unwrap(),
            row_root: random.hash(),
            rlc_root: random.hash(),
            kzg_root: if random.one_in(2) { B256::ZERO } else { random.hash() },
        };
        let age = random.below(RETENTION.0);
        let (min, max) = (committee.min_retention(), committee.max_retention());
        let retention = match random.below(4) {
            0 => min,
            1 => max,
            _ => min + random.below(max - min + 1),
        };
        let time = now - age;
        let entry = LogEntry {
            blob_id: header.id(),
            namespace: Namespace(random.hash()),
            payload_hash: PayloadHash(if random.one_in(2) { B256::ZERO } else { random.hash() }),
            length: header.length.get(),
            epoch: committee.epoch(),
            time,
            expiry: time + retention,
        };
        let gateway = random.pick(committee.gateways()).address;
        let checkpoint = Checkpoint {
            gateway,
            epoch: committee.epoch(),
            size: size(random),
            root: B256::ZERO,
            timestamp: time + random.below(age + 61),
        };
        let mut draft = Self {
            domain,
            header,
            entry,
            index: 0,
            path: Vec::new(),
            checkpoint,
            root_follows: true,
            signer: gateway,
            cosigners: quorum(random, committee),
        };
        let index = place(random, draft.checkpoint.size);
        draft.put_at(random, index);
        draft
    }

    /// Moves the entry within the log.
    pub(crate) fn put_at(&mut self, random: &mut Random, index: u64) {
        self.index = index;
        self.path = (0..inclusion_proof_len(index, self.checkpoint.size)).map(|_| random.hash()).collect();
    }

    /// Gives the log another size, and the entry its last place in it.
    pub(crate) fn resize(&mut self, random: &mut Random, size: u64) {
        self.checkpoint.size = size;
        self.put_at(random, size.saturating_sub(1));
    }

    /// Signs with the keys of all who are named.
    pub(crate) fn sign(&self, keys: &Keys) -> Certificate {
        let mut checkpoint = self.checkpoint;
        if self.root_follows {
            checkpoint.root = root(self.entry.leaf(), self.index, checkpoint.size, &self.path);
        }
        let digest = checkpoint.digest(&self.domain);
        let signed = SignedCheckpoint::sign(checkpoint, &self.domain, keys.of(&self.signer));
        let cosignatures = self.cosigners.iter().map(|cosigner| keys.of(cosigner).sign(&digest)).collect();
        Certificate {
            header: self.header,
            entry: self.entry,
            index: self.index,
            inclusion: self.path.clone(),
            checkpoint: CosignedCheckpoint { signed, cosignatures },
        }
    }
}

/// Root from an audit path, as RFC 9162 (section 2.1.3.2) writes it down.
pub(crate) fn root(leaf: B256, index: u64, size: u64, path: &[B256]) -> B256 {
    let node = |left: &B256, right: &B256| keccak256([&[1], left.as_slice(), right.as_slice()].concat());
    let (mut place, mut last, mut hash) = (index, size.wrapping_sub(1), leaf);
    for sibling in path {
        if place & 1 == 1 || place == last {
            hash = node(sibling, &hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    hash
}

/// Signers that make so many regions complete, with exactly m - f seats each, ascending.
pub(crate) fn smallest_quorum(random: &mut Random, committee: &Committee, complete: usize) -> Vec<Address> {
    let mut regions: Vec<RegionId> = committee.regions().iter().map(|region| region.id).collect();
    random.shuffle(&mut regions);
    let mut signers = Vec::new();
    for region in &regions[..complete] {
        let mut seats: Vec<Address> = committee.seats_of(*region).map(|seat| seat.address).collect();
        random.shuffle(&mut seats);
        signers.extend(&seats[..committee.quorum(*region)]);
    }
    signers.sort_unstable();
    signers
}

/// Signers that are enough: a smallest quorum, with more seats or without.
fn quorum(random: &mut Random, committee: &Committee) -> Vec<Address> {
    let mut signers = smallest_quorum(random, committee, committee.min_copies());
    if random.one_in(2) {
        signers.extend(committee.seats().iter().map(|seat| seat.address).filter(|_| random.one_in(3)));
        signers.sort_unstable();
        signers.dedup();
    }
    signers
}

/// Sizes of every length, the edges of powers of two more often than others.
pub(crate) fn size(random: &mut Random) -> u64 {
    let power = 1_u64 << random.below(64);
    match random.below(6) {
        0 => power,
        1 => power.saturating_sub(1).max(1),
        2 => power.saturating_add(1),
        3 => u64::MAX - random.below(3),
        _ => power | (random.number() & (power - 1)),
    }
}

/// A place in a log of this size, its ends more often than others.
pub(crate) fn place(random: &mut Random, size: u64) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => size - 1,
        _ => random.below(size),
    }
}
