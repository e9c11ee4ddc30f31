//! Commitments of OP Stack Alt-DA, as they are named in paths and posted to L1.
//!
//! A type byte and what follows from it (OP Stack specs, *Alt-DA mode*): `0x00` and keccak256 of the input, or `0x01` and
//! bytes that only the DA layer understands. Ours are the layer byte `0xff`, which the reference server and Base's client
//! have, and the blob id: 34 bytes, so that clients which take no other length take them too.

use core::fmt;
use core::str::FromStr;

use meridian_proofs::encode::{self, EncodeError};
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::{B256, keccak256};
use thiserror::Error;

/// Type byte of keccak commitments.
const KECCAK: u8 = 0x00;
/// Type byte of generic commitments.
const GENERIC: u8 = 0x01;
/// DA layer byte of ours.
const LAYER: u8 = 0xff;
/// Most bytes of a text that is decoded at all: generic commitments of other layers are a few hundred bytes long.
const MOST_TEXT: usize = 16 << 10;

/// What an input is asked for by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Commitment {
    /// keccak256 of the input.
    Keccak(PayloadHash),
    /// The blob id of the input.
    Generic(BlobId),
}

/// The two kinds of commitments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// The client makes the commitment.
    Keccak,
    /// The server makes it.
    Generic,
}

/// Why a text is no commitment of ours.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CommitmentError {
    /// It is no text that stands for bytes.
    #[error("the commitment is not hexadecimal")]
    NotHex,
    /// It is none that an OP Stack client makes.
    #[error("the commitment is of the unknown type 0x{0:02x}")]
    UnknownType(u8),
    /// It is of another DA layer.
    #[error("the commitment is of another da layer, 0x{0:02x}")]
    OtherLayer(u8),
    /// It is too short or too long for its type.
    #[error("the commitment has {0} bytes, a keccak one has 33 and a generic one of this layer 34")]
    Length(usize),
}

impl Commitment {
    /// The commitment of an input, which takes the time of hashing or of encoding it.
    ///
    /// # Errors
    /// The input is empty or longer than a payload can be.
    pub fn of(mode: Mode, input: &[u8]) -> Result<Self, EncodeError> {
        Ok(match mode {
            Mode::Keccak => Self::Keccak(PayloadHash(keccak256(input))),
            Mode::Generic => Self::Generic(encode::encode::<Blake3>(input, B256::ZERO)?.id()),
        })
    }

    /// Which kind it is.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Self::Keccak(_) => Mode::Keccak,
            Self::Generic(_) => Mode::Generic,
        }
    }

    /// The bytes that clients post to L1 behind their own version byte: 33 of them, or 34.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Keccak(hash) => [&[KECCAK], hash.as_bytes().as_slice()].concat(),
            Self::Generic(id) => [&[GENERIC, LAYER], id.as_bytes().as_slice()].concat(),
        }
    }

    /// The commitment that bytes stand for.
    ///
    /// # Errors
    /// It is none of ours.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommitmentError> {
        let length = || CommitmentError::Length(bytes.len());
        let word = |rest: &[u8]| <[u8; 32]>::try_from(rest).map_err(|_| length());
        match bytes {
            [] => Err(length()),
            [KECCAK, hash @ ..] => Ok(Self::Keccak(word(hash)?.into())),
            [GENERIC, LAYER, id @ ..] => Ok(Self::Generic(word(id)?.into())),
            [GENERIC] => Err(length()),
            [GENERIC, layer, ..] => Err(CommitmentError::OtherLayer(*layer)),
            [other, ..] => Err(CommitmentError::UnknownType(*other)),
        }
    }
}

impl Mode {
    /// As metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keccak => "keccak",
            Self::Generic => "generic",
        }
    }
}

/// As in paths: hexadecimal, lower case, with `0x`.
impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.encode()))
    }
}

/// Takes either case, and no `0x` as well.
impl FromStr for Commitment {
    type Err = CommitmentError;

    fn from_str(text: &str) -> Result<Self, CommitmentError> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.is_empty() || digits.len() > MOST_TEXT {
            return Err(CommitmentError::NotHex);
        }
        Self::decode(&hex::decode(digits).map_err(|_| CommitmentError::NotHex)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_input_has_the_commitments_that_clients_compute() {
        // keccak256("hello"), from the Ethereum documentation of the precompile-free hash.
        let keccak = Commitment::of(Mode::Keccak, b"hello").unwrap();
        let text = "0x001c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8";
        assert_eq!(keccak.to_string(), text);
        let generic = Commitment::of(Mode::Generic, b"hello").unwrap();
        assert_eq!(generic.encode().len(), 34);
        assert_eq!(generic.encode()[..2], [0x01, 0xff]);
        assert!(Commitment::of(Mode::Generic, b"").is_err());
    }

    #[test]
    fn prefix_and_case_do_not_matter() {
        let commitment = Commitment::Generic(BlobId::from([0xab; 32]));
        let text = commitment.to_string();
        for other in [text[2..].to_owned(), text.to_uppercase(), text[2..].to_uppercase()] {
            assert_eq!(other.parse(), Ok(commitment), "{other}");
        }
    }

    #[test]
    fn what_is_not_ours_is_said_to_be_what_it_is() {
        use CommitmentError::{Length, NotHex, OtherLayer, UnknownType};
        let bytes = |first: &[u8], length: usize| {
            let mut bytes = first.to_vec();
            bytes.resize(length, 7);
            hex::encode(bytes)
        };
        for (text, error) in [
            (String::new(), NotHex),
            ("0x".to_owned(), NotHex),
            ("0xzz".to_owned(), NotHex),
            ("0x0".to_owned(), NotHex),
            ("00".repeat(MOST_TEXT), NotHex),
            (bytes(&[0x00], 32), Length(32)),
            (bytes(&[0x00], 34), Length(34)),
            (bytes(&[0x01], 1), Length(1)),
            (bytes(&[0x01, 0xff], 33), Length(33)),
            (bytes(&[0x01, 0xff], 35), Length(35)),
            (bytes(&[0x01, 0x00], 34), OtherLayer(0x00)),
            (bytes(&[0x01, 0x0c], 200), OtherLayer(0x0c)),
            (bytes(&[0x02], 33), UnknownType(0x02)),
        ] {
            assert_eq!(text.parse::<Commitment>(), Err(error), "{text:.80}");
        }
    }

    proptest! {
        #[test]
        fn a_commitment_survives_its_text(word in any::<[u8; 32]>(), generic in any::<bool>()) {
            let commitment =
                if generic { Commitment::Generic(word.into()) } else { Commitment::Keccak(word.into()) };
            prop_assert_eq!(commitment.to_string().parse(), Ok(commitment));
        }

        #[test]
        fn bytes_that_decode_are_the_encoding(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(commitment) = Commitment::decode(&bytes) {
                prop_assert_eq!(commitment.encode(), bytes);
            }
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Commitment>();
        }
    }
}
