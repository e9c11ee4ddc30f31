//! The committee.

use meridian_proofs::Address;
use meridian_proofs::committee::{
    Committee, CommitteeParts, GatewayMember, MAX_ENDPOINT_LEN, MAX_GATEWAYS, MAX_LABEL_LEN, MAX_REGIONS,
    Region, RegionId, Seat,
};

use super::{WireError, address, at_most, bytes, format_version};
use crate::{FORMAT_VERSION, MAX_SEATS, wire};

/// A number that fits 16 bits.
pub(super) fn small(field: &'static str, number: u32) -> Result<u16, WireError> {
    u16::try_from(number).map_err(|_| WireError::value(field, format!("{number} is over 65535")))
}

/// Degrees in their only spelling: minus zero is zero.
fn degrees(field: &'static str, degrees: f64) -> Result<f64, WireError> {
    if degrees.to_bits() == (-0.0_f64).to_bits() {
        return Err(WireError::value(field, "is minus zero"));
    }
    Ok(degrees)
}

/// Refuses a list whose keys do not rise from item to item.
pub(super) fn ascending<T, K: Ord>(
    field: &'static str,
    list: &[T],
    key: impl Fn(&T) -> K,
) -> Result<(), WireError> {
    if list.is_sorted_by(|one, next| key(one) < key(next)) {
        return Ok(());
    }
    Err(WireError::value(field, "is not in ascending order"))
}

impl TryFrom<wire::Region> for Region {
    type Error = WireError;

    fn try_from(region: wire::Region) -> Result<Self, WireError> {
        at_most("Region.label", region.label.len(), MAX_LABEL_LEN)?;
        Ok(Self {
            id: RegionId(small("Region.id", region.id)?),
            label: region.label,
            latitude: degrees("Region.latitude", region.latitude)?,
            longitude: degrees("Region.longitude", region.longitude)?,
        })
    }
}

impl From<Region> for wire::Region {
    fn from(region: Region) -> Self {
        Self {
            id: region.id.0.into(),
            label: region.label,
            latitude: region.latitude,
            longitude: region.longitude,
        }
    }
}

impl TryFrom<wire::Seat> for Seat {
    type Error = WireError;

    fn try_from(seat: wire::Seat) -> Result<Self, WireError> {
        at_most("Seat.endpoint", seat.endpoint.len(), MAX_ENDPOINT_LEN)?;
        Ok(Self {
            region: RegionId(small("Seat.region", seat.region)?),
            number: small("Seat.number", seat.number)?,
            address: address("Seat.address", &seat.address)?,
            endpoint: seat.endpoint,
        })
    }
}

impl From<Seat> for wire::Seat {
    fn from(seat: Seat) -> Self {
        Self {
            region: seat.region.0.into(),
            number: seat.number.into(),
            address: bytes(seat.address),
            endpoint: seat.endpoint,
        }
    }
}

impl TryFrom<wire::GatewayMember> for GatewayMember {
    type Error = WireError;

    fn try_from(gateway: wire::GatewayMember) -> Result<Self, WireError> {
        at_most("GatewayMember.endpoint", gateway.endpoint.len(), MAX_ENDPOINT_LEN)?;
        Ok(Self {
            address: address("GatewayMember.address", &gateway.address)?,
            endpoint: gateway.endpoint,
            max_bytes: gateway.max_bytes,
            max_entries_per_hour: gateway.max_entries_per_hour,
        })
    }
}

impl From<GatewayMember> for wire::GatewayMember {
    fn from(gateway: GatewayMember) -> Self {
        Self {
            address: bytes(gateway.address),
            endpoint: gateway.endpoint,
            max_bytes: gateway.max_bytes,
            max_entries_per_hour: gateway.max_entries_per_hour,
        }
    }
}

impl TryFrom<wire::Committee> for Committee {
    type Error = WireError;

    fn try_from(committee: wire::Committee) -> Result<Self, WireError> {
        format_version("Committee.format_version", committee.format_version)?;
        at_most("Committee.regions", committee.regions.len(), MAX_REGIONS)?;
        at_most("Committee.seats", committee.seats.len(), MAX_SEATS)?;
        at_most("Committee.gateways", committee.gateways.len(), MAX_GATEWAYS)?;
        let parts = CommitteeParts {
            chain_id: committee.chain_id,
            verifying_contract: address("Committee.verifying_contract", &committee.verifying_contract)?,
            epoch: committee.epoch,
            min_copies: small("Committee.min_copies", committee.min_copies)?,
            min_retention: committee.min_retention,
            max_retention: committee.max_retention,
            regions: list(committee.regions)?,
            seats: list(committee.seats)?,
            gateways: list(committee.gateways)?,
        };
        ascending("Committee.regions", &parts.regions, |region| region.id)?;
        ascending::<_, Address>("Committee.seats", &parts.seats, |seat| seat.address)?;
        ascending::<_, Address>("Committee.gateways", &parts.gateways, |gateway| gateway.address)?;
        Self::new(parts).map_err(|error| WireError::value("Committee", error.to_string()))
    }
}

impl From<&Committee> for wire::Committee {
    fn from(committee: &Committee) -> Self {
        let parts = committee.parts().clone();
        Self {
            format_version: FORMAT_VERSION,
            chain_id: parts.chain_id,
            verifying_contract: bytes(parts.verifying_contract),
            epoch: parts.epoch,
            min_copies: parts.min_copies.into(),
            min_retention: parts.min_retention,
            max_retention: parts.max_retention,
            regions: parts.regions.into_iter().map(Into::into).collect(),
            seats: parts.seats.into_iter().map(Into::into).collect(),
            gateways: parts.gateways.into_iter().map(Into::into).collect(),
        }
    }
}

/// Every item of a list, or the first fault.
pub(super) fn list<W, T: TryFrom<W, Error = WireError>>(list: Vec<W>) -> Result<Vec<T>, WireError> {
    list.into_iter().map(T::try_from).collect()
}
