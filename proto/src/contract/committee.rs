//! Committees as the contract takes and tells them.
//!
//! The contract checks less than [`Committee::new`] does (it does not look into labels and endpoints), so whatever an
//! event says is outside input: it becomes a committee only through all checks, and only with the members' hash that
//! the contract states.

use alloy_primitives::{Address, B256, keccak256};
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::{
    self, ChainLimitError, Committee, CommitteeError, CommitteeParts, GatewayMember, RegionId,
};
use thiserror::Error;

use super::{Gateway, Meridian, Region, Seat, Terms};

/// Millionths of a degree in a degree.
const MICRO: f64 = 1e6;

/// Why an event does not tell of a committee that can be worked with.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum EventError {
    /// The committee is not valid.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// The committee is larger than the contract takes.
    #[error(transparent)]
    ChainLimit(#[from] ChainLimitError),
    /// The members are not those that the contract keeps the hash of.
    #[error("the members hash to {computed}, the contract states {stated}")]
    MembersHash {
        /// What the event states.
        stated: B256,
        /// What its members hash to.
        computed: B256,
    },
    /// The seat was passed in another epoch than the next.
    #[error("the seat passes in epoch {passed}, the committee before it is of epoch {before}")]
    Epoch {
        /// Epoch of the event.
        passed: u64,
        /// Epoch of the committee it was applied to.
        before: u64,
    },
    /// Who passed the seat had none.
    #[error("{0} holds no seat that it could pass")]
    NoSeat(Address),
}

/// The call that schedules a committee. `activation` is in unix seconds, 0 for as soon as allowed.
///
/// # Errors
/// The contract would not take the committee.
pub fn schedule(
    committee: &Committee,
    activation: u64,
) -> Result<Meridian::scheduleCommitteeCall, ChainLimitError> {
    committee.check_chain_limits()?;
    let parts = committee.parts();
    let region = |region: &committee::Region| Region {
        id: region.id.0,
        latitude: micro(region.latitude),
        longitude: micro(region.longitude),
        label: region.label.clone(),
    };
    let seat = |seat: &committee::Seat| {
        let number = u8::try_from(seat.number)
            .map_err(|_| ChainLimitError::SeatNumber { region: seat.region, number: seat.number })?;
        Ok(Seat { region: seat.region.0, number, signer: seat.address, endpoint: seat.endpoint.clone() })
    };
    let gateway = |gateway: &GatewayMember| Gateway {
        signer: gateway.address,
        maxBytes: gateway.max_bytes,
        maxEntriesPerHour: gateway.max_entries_per_hour,
        endpoint: gateway.endpoint.clone(),
    };
    Ok(Meridian::scheduleCommitteeCall {
        epoch: parts.epoch,
        regions: parts.regions.iter().map(region).collect(),
        seats: parts.seats.iter().map(seat).collect::<Result<_, ChainLimitError>>()?,
        gateways: parts.gateways.iter().map(gateway).collect(),
        terms: Terms {
            minCopies: parts.min_copies,
            minRetention: parts.min_retention,
            maxRetention: parts.max_retention,
        },
        activation,
    })
}

/// The committee that an event tells of.
///
/// # Errors
/// See [`EventError`].
pub fn scheduled(domain: Domain, event: &Meridian::CommitteeScheduled) -> Result<Committee, EventError> {
    let committee = Committee::new(CommitteeParts {
        chain_id: domain.chain_id,
        verifying_contract: domain.verifying_contract,
        epoch: event.epoch,
        min_copies: event.terms.minCopies,
        min_retention: event.terms.minRetention,
        max_retention: event.terms.maxRetention,
        regions: event.regions.iter().map(region).collect(),
        seats: event.seats.iter().map(seat).collect(),
        gateways: event.gateways.iter().map(gateway).collect(),
    })?;
    with_hash(committee, event.membersHash)
}

/// The committee after a seat passed to another signer, from the committee of the epoch before.
///
/// # Errors
/// See [`EventError`].
pub fn passed(before: &Committee, event: &Meridian::SeatPassed) -> Result<Committee, EventError> {
    let mut parts = before.parts().clone();
    if parts.epoch.checked_add(1) != Some(event.epoch) {
        return Err(EventError::Epoch { passed: event.epoch, before: parts.epoch });
    }
    parts.epoch = event.epoch;
    let seat = parts.seats.iter_mut().find(|seat| seat.address == event.from);
    let seat = seat.ok_or(EventError::NoSeat(event.from))?;
    seat.address = event.to;
    seat.endpoint.clone_from(&event.endpoint);
    with_hash(Committee::new(parts)?, event.membersHash)
}

/// The committee, if its members have this hash.
fn with_hash(committee: Committee, stated: B256) -> Result<Committee, EventError> {
    let computed = keccak256(committee.members()?);
    if computed == stated { Ok(committee) } else { Err(EventError::MembersHash { stated, computed }) }
}

fn region(region: &Region) -> committee::Region {
    committee::Region {
        id: RegionId(region.id),
        label: region.label.clone(),
        latitude: f64::from(region.latitude) / MICRO,
        longitude: f64::from(region.longitude) / MICRO,
    }
}

fn seat(seat: &Seat) -> committee::Seat {
    committee::Seat {
        region: RegionId(seat.region),
        number: seat.number.into(),
        address: seat.signer,
        endpoint: seat.endpoint.clone(),
    }
}

fn gateway(gateway: &Gateway) -> GatewayMember {
    GatewayMember {
        address: gateway.signer,
        endpoint: gateway.endpoint.clone(),
        max_bytes: gateway.maxBytes,
        max_entries_per_hour: gateway.maxEntriesPerHour,
    }
}

/// Millionths of a degree of a coordinate that is a whole number of them.
#[allow(clippy::cast_possible_truncation, reason = "at most 180 degrees, whole millionths")]
fn micro(degrees: f64) -> i32 {
    (degrees * MICRO).round() as i32
}

#[cfg(test)]
mod tests;
