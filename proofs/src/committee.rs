//! The members of one epoch (protocol section 4).

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::Domain;

/// Number of a region: 1 to 65535. Regions are ordered by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegionId(pub u16);

impl core::fmt::Display for RegionId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.0, f)
    }
}

/// A region: one complete copy of every blob.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Unique in the committee.
    pub id: RegionId,
    /// Short name, unique in the committee.
    pub label: String,
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
}

/// A seat: one replica's place in a region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// A region of the same committee.
    pub region: RegionId,
    /// Unique in the region; numbers may have gaps.
    pub number: u16,
    /// Address of the replica's key, unique in the committee.
    pub address: Address,
    /// Where the replica answers: `http://HOST:PORT`.
    pub endpoint: String,
}

/// A gateway of the epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayMember {
    /// Address of the gateway's key, unique in the committee.
    pub address: Address,
    /// Where the gateway answers: `http://HOST:PORT`.
    pub endpoint: String,
    /// Most bytes of unexpired rows that one replica keeps for this gateway.
    pub max_bytes: u64,
    /// Most log entries an hour.
    pub max_entries_per_hour: u64,
}

/// What a committee is made of, before it is checked.
#[derive(Clone, PartialEq, Debug)]
pub struct CommitteeParts {
    /// Chain id of the EIP-712 domain, 0 without a chain.
    pub chain_id: u64,
    /// Contract of the EIP-712 domain, zero without a chain.
    pub verifying_contract: Address,
    /// Number of the epoch.
    pub epoch: u64,
    /// Complete regions that a certificate needs, 1 to the number of regions.
    pub min_copies: u16,
    /// Shortest retention in seconds.
    pub min_retention: u64,
    /// Longest retention in seconds.
    pub max_retention: u64,
    /// In any order.
    pub regions: Vec<Region>,
    /// In any order.
    pub seats: Vec<Seat>,
    /// In any order.
    pub gateways: Vec<GatewayMember>,
}

/// Why parts do not make a committee.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum CommitteeError {
    /// The file has another format.
    #[error("committee format {0} is not supported")]
    Format(u32),
}

/// The members of one epoch, checked and in canonical order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "CommitteeFile", into = "CommitteeFile")]
pub struct Committee {
    parts: CommitteeParts,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitteeFile {
    format_version: u32,
}

impl TryFrom<CommitteeFile> for Committee {
    type Error = CommitteeError;
    fn try_from(_file: CommitteeFile) -> Result<Self, CommitteeError> {
        todo!()
    }
}
impl From<Committee> for CommitteeFile {
    fn from(_committee: Committee) -> Self {
        todo!()
    }
}

impl Committee {
    /// Checks parts.
    ///
    /// # Errors
    ///
    /// See [`CommitteeError`].
    pub fn new(_parts: CommitteeParts) -> Result<Self, CommitteeError> {
        todo!()
    }
    /// The parts, in canonical order.
    pub fn parts(&self) -> &CommitteeParts {
        &self.parts
    }
    /// Domain of every signature of this committee.
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.parts.chain_id, verifying_contract: self.parts.verifying_contract }
    }
    /// Number of the epoch.
    pub fn epoch(&self) -> u64 {
        self.parts.epoch
    }
    /// Complete regions that a certificate needs.
    pub fn min_copies(&self) -> usize {
        usize::from(self.parts.min_copies)
    }
    /// Regions, ascending by id.
    pub fn regions(&self) -> &[Region] {
        &self.parts.regions
    }
    /// Seats, ascending by address.
    pub fn seats(&self) -> &[Seat] {
        &self.parts.seats
    }
    /// Gateways, ascending by address.
    pub fn gateways(&self) -> &[GatewayMember] {
        &self.parts.gateways
    }
    /// Seats of a region, ascending by number.
    pub fn seats_of(&self, _region: RegionId) -> impl Iterator<Item = &Seat> {
        self.parts.seats.iter()
    }
    /// The seat of a signer.
    pub fn seat(&self, _address: &Address) -> Option<&Seat> {
        todo!()
    }
    /// The gateway of a signer.
    pub fn gateway(&self, _address: &Address) -> Option<&GatewayMember> {
        todo!()
    }
    /// A region by its id.
    pub fn region(&self, _id: RegionId) -> Option<&Region> {
        todo!()
    }
    /// Seats of a region: m.
    pub fn seats_per_region(&self, _region: RegionId) -> usize {
        todo!()
    }
    /// Seats of a region that may fail: f.
    pub fn tolerance(&self, _region: RegionId) -> usize {
        todo!()
    }
    /// Seats of a region that make it complete: m-f.
    pub fn quorum(&self, _region: RegionId) -> usize {
        todo!()
    }
    /// Regions that these signers make complete, ascending.
    pub fn complete_regions<'a>(&self, _signers: impl IntoIterator<Item = &'a Address>) -> Vec<RegionId> {
        todo!()
    }
    /// Hash of the canonical encoding.
    pub fn fingerprint(&self) -> B256 {
        todo!()
    }
    /// The Byzantine quorum over regions.
    pub fn default_min_copies(regions: u16) -> u16 {
        regions - regions.saturating_sub(1) / 3
    }
}
