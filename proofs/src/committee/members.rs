//! The members as a contract takes them: packed, and known to it by their hash alone.

use thiserror::Error;

use super::{Committee, RegionId};

/// Most regions that a contract takes: one byte for each beside `minCopies` in one word.
pub const MAX_CHAIN_REGIONS: usize = 31;
/// Most seats that a contract takes.
pub const MAX_CHAIN_SEATS: usize = 256;
/// Most gateways that a contract takes.
pub const MAX_CHAIN_GATEWAYS: usize = 64;
/// Greatest number of a seat that a contract takes.
pub const MAX_CHAIN_SEAT_NUMBER: u16 = 255;

/// Quorum of a region that does not exist: more than the seats that any region has.
const NO_REGION: u8 = 0x7f;

/// Why a contract would not take a committee.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ChainLimitError {
    /// More regions, seats or gateways than [`MAX_CHAIN_REGIONS`], [`MAX_CHAIN_SEATS`], [`MAX_CHAIN_GATEWAYS`].
    #[error("a contract takes at most {limit} {what}, the committee has {have}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A seat's number is over [`MAX_CHAIN_SEAT_NUMBER`].
    #[error("a contract takes seat numbers up to {MAX_CHAIN_SEAT_NUMBER}, region {region} has {number}")]
    SeatNumber {
        /// Region of the seat.
        region: RegionId,
        /// Its number.
        number: u16,
    },
    /// A coordinate is no multiple of a millionth of a degree.
    #[error("a contract keeps millionths of a degree, region {0} lies between two")]
    Coordinates(RegionId),
}

impl Committee {
    /// The members as the contract's calls take them: the word of quorums (`minCopies` in the top byte, m-f of the
    /// region of rank k in bits 8k to 8k+7), minimum and maximum retention as u64, the numbers of regions (u8), seats
    /// (u16) and gateways (u8), region ids (u16), seats (address, rank of the region as u8), gateways (address); all
    /// big-endian, lists in canonical order. Its keccak256 is what the contract stores for the epoch.
    ///
    /// # Errors
    ///
    /// The committee is larger than a contract takes.
    pub fn members(&self) -> Result<Vec<u8>, ChainLimitError> {
        self.check_chain_limits()?;
        let parts = &self.parts;
        let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let mut out = vec![NO_REGION; 32];
        out[0] = byte(self.min_copies());
        for (rank, region) in parts.regions.iter().enumerate() {
            out[31 - rank] = byte(self.quorum(region.id));
        }
        out.extend(parts.min_retention.to_be_bytes());
        out.extend(parts.max_retention.to_be_bytes());
        out.push(byte(parts.regions.len()));
        super::count(&mut out, parts.seats.len());
        out.push(byte(parts.gateways.len()));
        for region in &parts.regions {
            out.extend(region.id.0.to_be_bytes());
        }
        for seat in &parts.seats {
            out.extend(seat.address);
            out.push(byte(self.region_rank(seat.region).unwrap_or(usize::MAX)));
        }
        for gateway in &parts.gateways {
            out.extend(gateway.address);
        }
        Ok(out)
    }

    /// Checks the limits that a contract has beyond those of every committee.
    ///
    /// # Errors
    ///
    /// See [`ChainLimitError`].
    pub fn check_chain_limits(&self) -> Result<(), ChainLimitError> {
        let parts = &self.parts;
        for (what, have, limit) in [
            ("regions", parts.regions.len(), MAX_CHAIN_REGIONS),
            ("seats", parts.seats.len(), MAX_CHAIN_SEATS),
            ("gateways", parts.gateways.len(), MAX_CHAIN_GATEWAYS),
        ] {
            if have > limit {
                return Err(ChainLimitError::TooMany { what, have, limit });
            }
        }
        if let Some(seat) = parts.seats.iter().find(|seat| seat.number > MAX_CHAIN_SEAT_NUMBER) {
            return Err(ChainLimitError::SeatNumber { region: seat.region, number: seat.number });
        }
        let exact = |degrees: f64| (degrees * 1e6).round() / 1e6 == degrees;
        match parts.regions.iter().find(|region| !exact(region.latitude) || !exact(region.longitude)) {
            Some(region) => Err(ChainLimitError::Coordinates(region.id)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
