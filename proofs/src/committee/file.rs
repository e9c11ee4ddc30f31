//! The committee as a file.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use super::{COMMITTEE_FORMAT, Committee, CommitteeError, CommitteeParts, GatewayMember, Region, Seat};

/// Plain values first, then tables, as TOML wants it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitteeFile {
    format_version: u32,
    chain_id: u64,
    verifying_contract: Address,
    epoch: u64,
    min_copies: u16,
    min_retention: u64,
    max_retention: u64,
    regions: Vec<Region>,
    seats: Vec<Seat>,
    gateways: Vec<GatewayMember>,
}

impl TryFrom<CommitteeFile> for Committee {
    type Error = CommitteeError;

    fn try_from(file: CommitteeFile) -> Result<Self, CommitteeError> {
        if file.format_version != COMMITTEE_FORMAT {
            return Err(CommitteeError::Format(file.format_version));
        }
        Self::new(CommitteeParts {
            chain_id: file.chain_id,
            verifying_contract: file.verifying_contract,
            epoch: file.epoch,
            min_copies: file.min_copies,
            min_retention: file.min_retention,
            max_retention: file.max_retention,
            regions: file.regions,
            seats: file.seats,
            gateways: file.gateways,
        })
    }
}

impl From<Committee> for CommitteeFile {
    fn from(committee: Committee) -> Self {
        let parts = committee.parts;
        Self {
            format_version: COMMITTEE_FORMAT,
            chain_id: parts.chain_id,
            verifying_contract: parts.verifying_contract,
            epoch: parts.epoch,
            min_copies: parts.min_copies,
            min_retention: parts.min_retention,
            max_retention: parts.max_retention,
            regions: parts.regions,
            seats: parts.seats,
            gateways: parts.gateways,
        }
    }
}
