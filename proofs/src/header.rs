//! The header of a blob, and the id that follows from it (protocol section 3).

use crate::{
    B256,
    ids::BlobId,
    keccak256,
    shape::{LengthError, PayloadLength, Shape},
};
use thiserror::Error;

/// What a blob is: its length and the roots that commit to it. The codec is 1 by type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlobHeader {
    /// Payload length in bytes.
    pub length: PayloadLength,
    /// Root of the tree over all rows.
    pub row_root: B256,
    /// Root over the RLC vector.
    pub rlc_root: B256,
    /// Hash of the KZG commitments, zero when unbound.
    pub kzg_root: B256,
}

/// Bytes that are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    /// Not [`BlobHeader::ENCODED_BYTES`] bytes.
    #[error("header has {0} bytes, not {bytes}", bytes = BlobHeader::ENCODED_BYTES)]
    Bytes(usize),
    /// A codec this version does not know.
    #[error("codec {0} is unknown")]
    Codec(u8),
    /// A payload length out of bounds.
    #[error(transparent)]
    Length(#[from] LengthError),
}

impl BlobHeader {
    /// The codec of version 1.
    pub const CODEC: u8 = 1;

    /// Bytes of the flat form.
    pub const ENCODED_BYTES: usize = 105;

    /// keccak256(abi.encode(header)).
    #[must_use]
    pub fn id(&self) -> BlobId {
        let mut words = [0; 160];
        words[31] = Self::CODEC;
        words[56..64].copy_from_slice(&self.length.get().to_be_bytes());
        words[64..96].copy_from_slice(self.row_root.as_slice());
        words[96..128].copy_from_slice(self.rlc_root.as_slice());
        words[128..].copy_from_slice(self.kzg_root.as_slice());
        BlobId(keccak256(words))
    }

    /// The shape that follows from the length.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape::of(self.length)
    }

    /// Flat form: codec u8, length u64 big-endian, row root, RLC root, KZG root.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let mut bytes = [0; Self::ENCODED_BYTES];
        bytes[0] = Self::CODEC;
        bytes[1..9].copy_from_slice(&self.length.get().to_be_bytes());
        bytes[9..41].copy_from_slice(self.row_root.as_slice());
        bytes[41..73].copy_from_slice(self.rlc_root.as_slice());
        bytes[73..].copy_from_slice(self.kzg_root.as_slice());
        bytes
    }

    /// Reads the flat form.
    ///
    /// # Errors
    /// Another number of bytes, another codec, a length out of bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; Self::ENCODED_BYTES] =
            bytes.try_into().map_err(|_| HeaderError::Bytes(bytes.len()))?;
        if bytes[0] != Self::CODEC {
            return Err(HeaderError::Codec(bytes[0]));
        }
        let mut length = [0; 8];
        length.copy_from_slice(&bytes[1..9]);
        Ok(Self {
            length: PayloadLength::try_from(u64::from_be_bytes(length))?,
            row_root: B256::from_slice(&bytes[9..41]),
            rlc_root: B256::from_slice(&bytes[41..73]),
            kzg_root: B256::from_slice(&bytes[73..]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::{SolValue, sol};

    sol! {
        struct AbiHeader { uint8 codec; uint64 length; bytes32 rowRoot; bytes32 rlcRoot; bytes32 kzgRoot; }
    }

    fn header() -> BlobHeader {
        BlobHeader {
            length: 108_114.try_into().unwrap(),
            row_root: B256::repeat_byte(2),
            rlc_root: B256::repeat_byte(3),
            kzg_root: B256::repeat_byte(4),
        }
    }

    #[test]
    fn the_id_is_the_hash_of_the_abi_encoding() {
        let header = header();
        let abi = AbiHeader {
            codec: 1,
            length: header.length.get(),
            rowRoot: header.row_root,
            rlcRoot: header.rlc_root,
            kzgRoot: header.kzg_root,
        };
        assert_eq!(header.id(), BlobId(keccak256(abi.abi_encode())));
    }

    #[test]
    fn the_flat_form_is_strict() {
        let header = header();
        let bytes = header.encode();
        assert_eq!(BlobHeader::decode(&bytes), Ok(header));
        assert_eq!(BlobHeader::decode(&bytes[..104]), Err(HeaderError::Bytes(104)));
        assert_eq!(BlobHeader::decode(&[bytes.as_slice(), &[0]].concat()), Err(HeaderError::Bytes(106)));
        for codec in [0, 2, 255] {
            let mut other = bytes;
            other[0] = codec;
            assert_eq!(BlobHeader::decode(&other), Err(HeaderError::Codec(codec)));
        }
        for length in [0, (1 << 27) + 1, u64::MAX] {
            let mut other = bytes;
            other[1..9].copy_from_slice(&u64::to_be_bytes(length));
            assert!(matches!(BlobHeader::decode(&other), Err(HeaderError::Length(_))));
        }
    }
}
