//! Checkpoints of a log, and the calls that anchor them.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes};
use meridian_proofs::checkpoint::{Checkpoint, Domain};
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry, NodeSource, consistency_proof, inclusion_proof, root_at};
use meridian_proto::contract::Meridian;

use crate::certificates::smallest_quorum;
use crate::members::Keys;
use crate::random::Random;
use crate::world::World;

/// All complete nodes of a log, in memory.
#[derive(Default, Clone)]
pub(crate) struct Nodes {
    range: CompactRange,
    nodes: BTreeMap<(u8, u64), B256>,
}

impl Nodes {
    pub(crate) fn append(&mut self, leaf: B256) {
        for node in self.range.append(leaf) {
            self.nodes.insert((node.level, node.index), node.hash);
        }
    }

    pub(crate) fn root(&self, size: u64) -> B256 {
        root_at(self, size).unwrap()
    }

    pub(crate) fn consistency(&self, old_size: u64, size: u64) -> Vec<B256> {
        consistency_proof(self, old_size, size).unwrap()
    }

    pub(crate) fn inclusion(&self, index: u64, size: u64) -> Vec<B256> {
        inclusion_proof(self, index, size).unwrap()
    }
}

impl NodeSource for Nodes {
    type Error = (u8, u64);

    fn node(&self, level: u8, index: u64) -> Result<B256, Self::Error> {
        self.nodes.get(&(level, index)).copied().ok_or((level, index))
    }
}

/// A gateway's log and what is next to anchor of it.
#[derive(Clone)]
pub(crate) struct Log {
    pub entries: Vec<LogEntry>,
    pub nodes: Nodes,
    pub domain: Domain,
    pub checkpoint: Checkpoint,
    /// Size at the last anchor.
    pub anchored: u64,
    /// The epoch whose members sign.
    pub epoch: u64,
    /// Who signs in the gateway's place.
    pub signer: Address,
}

impl Log {
    /// A log of the first gateway of an epoch.
    pub(crate) fn new(world: &World, epoch: u64, size: u64) -> Self {
        let gateway = world.committee(epoch).gateways()[0].address;
        let timestamp = world.chain.now();
        let checkpoint = Checkpoint { gateway, epoch, size: 0, root: B256::ZERO, timestamp };
        let mut log = Self {
            entries: Vec::new(),
            nodes: Nodes::default(),
            domain: world.domain,
            checkpoint,
            anchored: 0,
            epoch,
            signer: gateway,
        };
        log.grow(size);
        log
    }

    /// Appends entries and brings the checkpoint to the new size.
    pub(crate) fn grow(&mut self, by: u64) {
        for _ in 0..by {
            let number = B256::from(alloy::primitives::U256::from(self.entries.len()));
            let time = self.checkpoint.timestamp;
            let entry = LogEntry {
                blob_id: BlobId(number),
                namespace: Namespace(B256::repeat_byte(7)),
                payload_hash: PayloadHash(B256::ZERO),
                length: 1,
                epoch: self.checkpoint.epoch,
                time,
                expiry: time + 86_400,
            };
            self.nodes.append(entry.leaf());
            self.entries.push(entry);
        }
        self.checkpoint.size += by;
        self.checkpoint.root = self.nodes.root(self.checkpoint.size);
    }

    /// The call with a smallest quorum, signed by everybody.
    pub(crate) fn anchor(&self, world: &World, random: &mut Random) -> Meridian::anchorCall {
        let committee = world.committee(self.epoch);
        let cosigners = smallest_quorum(random, committee, committee.min_copies());
        self.anchor_with(world, &cosigners)
    }

    /// The call with these cosigners.
    pub(crate) fn anchor_with(&self, world: &World, cosigners: &[Address]) -> Meridian::anchorCall {
        Meridian::anchorCall {
            checkpoint: (&self.checkpoint).into(),
            signatures: signatures(&self.checkpoint, &self.domain, &world.keys, self.signer, cosigners),
            members: world.members(self.epoch).into(),
            consistency: self.nodes.consistency(self.anchored, self.checkpoint.size),
        }
    }
}

/// The gateway's signature, then the cosignatures.
pub(crate) fn signatures(
    checkpoint: &Checkpoint,
    domain: &Domain,
    keys: &Keys,
    gateway: Address,
    cosigners: &[Address],
) -> Bytes {
    let digest = checkpoint.digest(domain);
    let signers = std::iter::once(&gateway).chain(cosigners);
    signers.flat_map(|signer| *keys.of(signer).sign(&digest).as_bytes()).collect()
}
