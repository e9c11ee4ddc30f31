//! The members of one epoch (protocol section 4).
//!
//! A [`Committee`] is always valid and in canonical order: regions ascending by id, seats and gateways ascending by
//! address. Lists may come in any order; duplicates are refused.

mod check;
pub mod epochs;
mod file;
mod members;

use alloy_primitives::{Address, B256, keccak256};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Domain;

pub use check::CommitteeError;
pub use members::{
    ChainLimitError, MAX_CHAIN_GATEWAYS, MAX_CHAIN_REGIONS, MAX_CHAIN_SEAT_NUMBER, MAX_CHAIN_SEATS,
};

/// Format of the committee file.
pub const COMMITTEE_FORMAT: u32 = 1;
/// Most regions.
pub const MAX_REGIONS: usize = 256;
/// Most seats in a region.
pub const MAX_SEATS_PER_REGION: usize = 32;
/// Most gateways.
pub const MAX_GATEWAYS: usize = 256;
/// Most bytes of a region's label.
pub const MAX_LABEL_LEN: usize = 64;
/// Most bytes of an endpoint.
pub const MAX_ENDPOINT_LEN: usize = 256;
/// Longest retention that a committee may allow: ten years of 365 days, in seconds.
pub const MAX_RETENTION: u64 = 10 * 365 * 24 * 3600;
/// Greatest number anywhere in a committee: what the integers of a TOML file can hold.
pub const MAX_NUMBER: u64 = i64::MAX.unsigned_abs();

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
    /// 1 to [`MAX_LABEL_LEN`] bytes of `a-z`, `0-9` and `-`, unique in the committee.
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
    /// Where the replica answers: `http://HOST:PORT`, at most [`MAX_ENDPOINT_LEN`] bytes.
    pub endpoint: String,
}

/// A gateway of the epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayMember {
    /// Address of the gateway's key, unique in the committee.
    pub address: Address,
    /// Where the gateway answers: `http://HOST:PORT`, at most [`MAX_ENDPOINT_LEN`] bytes.
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
    /// Shortest retention in seconds, at least 1.
    pub min_retention: u64,
    /// Longest retention in seconds, at most [`MAX_RETENTION`].
    pub max_retention: u64,
    /// 1 to [`MAX_REGIONS`], in any order.
    pub regions: Vec<Region>,
    /// 1 to [`MAX_SEATS_PER_REGION`] in each region, in any order.
    pub seats: Vec<Seat>,
    /// Up to [`MAX_GATEWAYS`], in any order.
    pub gateways: Vec<GatewayMember>,
}

/// The members of one epoch, checked and in canonical order. In a file it is TOML.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "file::CommitteeFile", into = "file::CommitteeFile")]
pub struct Committee {
    parts: CommitteeParts,
    /// For each region, in order, the places of its seats in the list of seats, ascending by number.
    seats_by_region: Vec<Vec<usize>>,
}

impl Committee {
    /// Checks parts and brings them into canonical order.
    ///
    /// # Errors
    ///
    /// See [`CommitteeError`].
    pub fn new(mut parts: CommitteeParts) -> Result<Self, CommitteeError> {
        parts.regions.sort_by_key(|region| region.id);
        parts.seats.sort_by_key(|seat| seat.address);
        parts.gateways.sort_by_key(|gateway| gateway.address);
        for region in &mut parts.regions {
            // Minus zero is zero: one place has one spelling.
            region.latitude += 0.0;
            region.longitude += 0.0;
        }
        check::check(&parts)?;
        let seats_by_region = parts
            .regions
            .iter()
            .map(|region| {
                let mut places: Vec<usize> =
                    (0..parts.seats.len()).filter(|place| parts.seats[*place].region == region.id).collect();
                places.sort_by_key(|place| parts.seats[*place].number);
                places
            })
            .collect();
        Ok(Self { parts, seats_by_region })
    }

    /// The parts, in canonical order.
    #[must_use]
    pub fn parts(&self) -> &CommitteeParts {
        &self.parts
    }

    /// Domain of every signature under this committee.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.parts.chain_id, verifying_contract: self.parts.verifying_contract }
    }

    /// Number of the epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.parts.epoch
    }

    /// Complete regions that a certificate needs.
    #[must_use]
    pub fn min_copies(&self) -> usize {
        usize::from(self.parts.min_copies)
    }

    /// Shortest retention in seconds.
    #[must_use]
    pub fn min_retention(&self) -> u64 {
        self.parts.min_retention
    }

    /// Longest retention in seconds.
    #[must_use]
    pub fn max_retention(&self) -> u64 {
        self.parts.max_retention
    }

    /// Whether an entry may have this time and this expiry, both unix seconds.
    #[must_use]
    pub fn allows_retention(&self, time: u64, expiry: u64) -> bool {
        expiry
            .checked_sub(time)
            .is_some_and(|retention| (self.min_retention()..=self.max_retention()).contains(&retention))
    }

    /// Regions, ascending by id.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.parts.regions
    }

    /// Seats, ascending by address.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.parts.seats
    }

    /// Gateways, ascending by address.
    #[must_use]
    pub fn gateways(&self) -> &[GatewayMember] {
        &self.parts.gateways
    }

    /// A region by its id.
    #[must_use]
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.region_rank(id).map(|rank| &self.parts.regions[rank])
    }

    /// The seat of a signer.
    #[must_use]
    pub fn seat(&self, address: &Address) -> Option<&Seat> {
        let seats = &self.parts.seats;
        seats.binary_search_by_key(address, |seat| seat.address).ok().map(|place| &seats[place])
    }

    /// The gateway of a signer.
    #[must_use]
    pub fn gateway(&self, address: &Address) -> Option<&GatewayMember> {
        let gateways = &self.parts.gateways;
        gateways.binary_search_by_key(address, |gateway| gateway.address).ok().map(|place| &gateways[place])
    }

    /// Seats of a region, ascending by number; none where the region is unknown.
    pub fn seats_of(&self, region: RegionId) -> impl Iterator<Item = &Seat> {
        self.region_rank(region)
            .into_iter()
            .flat_map(|rank| &self.seats_by_region[rank])
            .map(|place| &self.parts.seats[*place])
    }

    /// Number of seats of a region: m.
    #[must_use]
    pub fn seats_per_region(&self, region: RegionId) -> usize {
        self.region_rank(region).map_or(0, |rank| self.seats_by_region[rank].len())
    }

    /// Seats of a region that may lie or be lost: f = floor((m-1)/3).
    #[must_use]
    pub fn tolerance(&self, region: RegionId) -> usize {
        self.seats_per_region(region).saturating_sub(1) / 3
    }

    /// Cosigners that make a region complete: m-f.
    #[must_use]
    pub fn quorum(&self, region: RegionId) -> usize {
        self.seats_per_region(region) - self.tolerance(region)
    }

    /// Regions that these signers make complete, ascending. Strangers and repeated signers count for nothing.
    #[must_use]
    pub fn complete_regions<'a>(&self, signers: impl IntoIterator<Item = &'a Address>) -> Vec<RegionId> {
        let signers: std::collections::BTreeSet<&Address> = signers.into_iter().collect();
        let signed = |region| self.seats_of(region).filter(|seat| signers.contains(&seat.address)).count();
        self.regions().iter().map(|region| region.id).filter(|id| signed(*id) >= self.quorum(*id)).collect()
    }

    /// The complete regions that a certificate needs unless a committee says otherwise: R - floor((R-1)/3).
    #[must_use]
    pub fn default_min_copies(regions: u16) -> u16 {
        regions - regions.saturating_sub(1) / 3
    }

    /// keccak256 of the canonical encoding: what clients pin.
    ///
    /// Every field in order, numbers big-endian, lists and texts after their length as u16, degrees as IEEE 754 bits.
    #[must_use]
    pub fn fingerprint(&self) -> B256 {
        let parts = &self.parts;
        let mut out = Vec::new();
        let text = |out: &mut Vec<u8>, text: &str| {
            count(out, text.len());
            out.extend(text.as_bytes());
        };
        out.extend(b"meridian committee");
        out.extend(COMMITTEE_FORMAT.to_be_bytes());
        out.extend(parts.chain_id.to_be_bytes());
        out.extend(parts.verifying_contract);
        out.extend(parts.epoch.to_be_bytes());
        out.extend(parts.min_copies.to_be_bytes());
        out.extend(parts.min_retention.to_be_bytes());
        out.extend(parts.max_retention.to_be_bytes());
        count(&mut out, parts.regions.len());
        for region in &parts.regions {
            out.extend(region.id.0.to_be_bytes());
            text(&mut out, &region.label);
            out.extend(region.latitude.to_bits().to_be_bytes());
            out.extend(region.longitude.to_bits().to_be_bytes());
        }
        count(&mut out, parts.seats.len());
        for seat in &parts.seats {
            out.extend(seat.region.0.to_be_bytes());
            out.extend(seat.number.to_be_bytes());
            out.extend(seat.address);
            text(&mut out, &seat.endpoint);
        }
        count(&mut out, parts.gateways.len());
        for gateway in &parts.gateways {
            out.extend(gateway.address);
            text(&mut out, &gateway.endpoint);
            out.extend(gateway.max_bytes.to_be_bytes());
            out.extend(gateway.max_entries_per_hour.to_be_bytes());
        }
        keccak256(out)
    }

    /// Place of a region in the order of ids.
    pub(crate) fn region_rank(&self, id: RegionId) -> Option<usize> {
        self.parts.regions.binary_search_by_key(&id, |region| region.id).ok()
    }
}

/// Writes a length. Every length in a committee is far below 65536.
fn count(out: &mut Vec<u8>, len: usize) {
    out.extend(u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
}

#[cfg(test)]
pub(crate) mod tests;
