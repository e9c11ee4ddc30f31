//! What makes parts a committee.

use std::{collections::BTreeSet, net::Ipv6Addr};

use alloy_primitives::Address;
use thiserror::Error;

use super::{
    COMMITTEE_FORMAT, CommitteeParts, MAX_ENDPOINT_LEN, MAX_GATEWAYS, MAX_LABEL_LEN, MAX_NUMBER, MAX_REGIONS,
    MAX_RETENTION, MAX_SEATS_PER_REGION, Region, RegionId,
};

/// Why parts do not make a committee.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum CommitteeError {
    /// The file has another format.
    #[error("committee format {0} is not supported, only {COMMITTEE_FORMAT}")]
    Format(u32),
    /// A number does not fit a committee file.
    #[error("{0} is over the limit of {MAX_NUMBER}")]
    Number(&'static str),
    /// No region, or too many.
    #[error("committee has {0} regions instead of 1 to {MAX_REGIONS}")]
    Regions(usize),
    /// No seat in a region, or too many.
    #[error("region {region} has {seats} seats instead of 1 to {MAX_SEATS_PER_REGION}")]
    Seats {
        /// Which region.
        region: RegionId,
        /// Its seats.
        seats: usize,
    },
    /// Too many gateways.
    #[error("committee has {0} gateways, over the limit of {MAX_GATEWAYS}")]
    Gateways(usize),
    /// Region ids start at 1.
    #[error("region id 0 is not allowed")]
    RegionZero,
    /// Two regions have one id.
    #[error("region id {0} appears twice")]
    DuplicateRegion(RegionId),
    /// The label is empty, too long or has other characters.
    #[error("label of region {0} is not 1 to {MAX_LABEL_LEN} characters of a-z, 0-9 and '-'")]
    Label(RegionId),
    /// Two regions have one label.
    #[error("region label {0} appears twice")]
    DuplicateLabel(String),
    /// The position is not on Earth.
    #[error("region {0} is not within -90 to 90 degrees north and -180 to 180 degrees east")]
    Position(RegionId),
    /// A seat is in a region that is not there.
    #[error("seat {address} is in region {region}, which the committee does not have")]
    UnknownRegion {
        /// Whose seat.
        address: Address,
        /// The region it names.
        region: RegionId,
    },
    /// Two seats of a region have one number.
    #[error("region {region} has two seats with number {number}")]
    DuplicateSeat {
        /// Which region.
        region: RegionId,
        /// The number.
        number: u16,
    },
    /// Two members have one address.
    #[error("address {0} belongs to two members")]
    DuplicateAddress(Address),
    /// A member has the zero address.
    #[error("the zero address cannot be a member")]
    ZeroAddress,
    /// An endpoint has another form.
    #[error(
        "endpoint {0:?} is not http://HOST:PORT or https://HOST:PORT of at most {MAX_ENDPOINT_LEN} bytes"
    )]
    Endpoint(String),
    /// No copy, or more copies than regions.
    #[error("{min_copies} copies are asked for where 1 to {regions} are possible")]
    MinCopies {
        /// Copies asked for.
        min_copies: u16,
        /// Regions there are.
        regions: usize,
    },
    /// The limits of retention are out of bounds or crossed.
    #[error("retention limits {min} to {max} are not within 1 to {MAX_RETENTION} seconds")]
    Retention {
        /// Shortest, in seconds.
        min: u64,
        /// Longest, in seconds.
        max: u64,
    },
}

/// Checks parts that are in canonical order already.
pub(super) fn check(parts: &CommitteeParts) -> Result<(), CommitteeError> {
    check_numbers(parts)?;
    check_regions(&parts.regions)?;
    if !(1..=parts.regions.len()).contains(&usize::from(parts.min_copies)) {
        return Err(CommitteeError::MinCopies { min_copies: parts.min_copies, regions: parts.regions.len() });
    }
    check_seats(parts)?;
    check_members(parts)
}

fn check_numbers(parts: &CommitteeParts) -> Result<(), CommitteeError> {
    let numbers = [("chain_id", parts.chain_id), ("epoch", parts.epoch)].into_iter();
    let quotas = parts.gateways.iter().flat_map(|gateway| {
        [("max_bytes", gateway.max_bytes), ("max_entries_per_hour", gateway.max_entries_per_hour)]
    });
    if let Some((name, _)) = numbers.chain(quotas).find(|(_, number)| *number > MAX_NUMBER) {
        return Err(CommitteeError::Number(name));
    }
    let (min, max) = (parts.min_retention, parts.max_retention);
    if min == 0 || min > max || max > MAX_RETENTION {
        return Err(CommitteeError::Retention { min, max });
    }
    Ok(())
}

fn check_regions(regions: &[Region]) -> Result<(), CommitteeError> {
    if !(1..=MAX_REGIONS).contains(&regions.len()) {
        return Err(CommitteeError::Regions(regions.len()));
    }
    let mut labels = BTreeSet::new();
    let mut last = RegionId(0);
    for region in regions {
        if region.id == RegionId(0) {
            return Err(CommitteeError::RegionZero);
        }
        if region.id == last {
            return Err(CommitteeError::DuplicateRegion(region.id));
        }
        last = region.id;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=MAX_LABEL_LEN).contains(&region.label.len()) || !region.label.bytes().all(plain) {
            return Err(CommitteeError::Label(region.id));
        }
        if !labels.insert(&region.label) {
            return Err(CommitteeError::DuplicateLabel(region.label.clone()));
        }
        // Not a number is in no range.
        if !(-90.0..=90.0).contains(&region.latitude) || !(-180.0..=180.0).contains(&region.longitude) {
            return Err(CommitteeError::Position(region.id));
        }
    }
    Ok(())
}

fn check_seats(parts: &CommitteeParts) -> Result<(), CommitteeError> {
    let mut numbers = BTreeSet::new();
    for seat in &parts.seats {
        let region = seat.region;
        if parts.regions.binary_search_by_key(&region, |region| region.id).is_err() {
            return Err(CommitteeError::UnknownRegion { address: seat.address, region });
        }
        if !numbers.insert((region, seat.number)) {
            return Err(CommitteeError::DuplicateSeat { region, number: seat.number });
        }
    }
    for region in &parts.regions {
        let seats = numbers.range((region.id, 0)..=(region.id, u16::MAX)).count();
        if !(1..=MAX_SEATS_PER_REGION).contains(&seats) {
            return Err(CommitteeError::Seats { region: region.id, seats });
        }
    }
    Ok(())
}

fn check_members(parts: &CommitteeParts) -> Result<(), CommitteeError> {
    if parts.gateways.len() > MAX_GATEWAYS {
        return Err(CommitteeError::Gateways(parts.gateways.len()));
    }
    let seats = parts.seats.iter().map(|seat| (seat.address, &seat.endpoint));
    let gateways = parts.gateways.iter().map(|gateway| (gateway.address, &gateway.endpoint));
    let mut addresses = BTreeSet::new();
    for (address, endpoint) in seats.chain(gateways) {
        if address == Address::ZERO {
            return Err(CommitteeError::ZeroAddress);
        }
        if !addresses.insert(address) {
            return Err(CommitteeError::DuplicateAddress(address));
        }
        if !is_endpoint(endpoint) {
            return Err(CommitteeError::Endpoint(endpoint.clone()));
        }
    }
    Ok(())
}

/// Whether this is `http://HOST:PORT` or `https://HOST:PORT`: a name or IPv4 address, or an IPv6 address in brackets; a port
/// without leading zeros.
fn is_endpoint(endpoint: &str) -> bool {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else { return false };
    let host_is_right = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !host.is_empty() && host.bytes().all(plain)
        }
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    endpoint.len() <= MAX_ENDPOINT_LEN && host_is_right && digits && port.parse::<u16>().is_ok()
}
