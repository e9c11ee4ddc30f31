//! A replica whose cosignatures are not its own, or not signatures.

use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::signature::SecretKey;
use meridian_proto::wire::cosign_response::Answer;
use meridian_proto::wire::{CosignRequest, CosignResponse};
use tonic::Status;

use super::{ReplicaLie, Truth};
use crate::keys;

/// What comes in place of a cosignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCosigner {
    /// A signature of the right digest by somebody without a seat.
    Foreign,
    /// Its own signature of another digest.
    OtherDigest,
    /// 65 bytes of nothing.
    Garbage,
    /// Its own signature with the other, high value of s.
    HighS,
    /// Its own signature with v 0 or 1.
    WrongV,
    /// A signature of 64 bytes.
    Short,
    /// No answer in the answer.
    Empty,
    /// A demand for entries from the far end of the log, again and again.
    EntriesFromBeyond,
}

/// The order of secp256k1's group, big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
    0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// The same signature with s replaced by the group's order minus s, and v to match: it recovers to the same address.
#[must_use]
pub fn high_s(signature: &[u8]) -> Vec<u8> {
    let mut other = signature.to_vec();
    let mut borrow = false;
    for place in (0..32).rev() {
        let (difference, under) = ORDER[place].overflowing_sub(signature[32 + place]);
        let (difference, again) = difference.overflowing_sub(u8::from(borrow));
        other[32 + place] = difference;
        borrow = under || again;
    }
    other[64] = 27 + 28 - signature[64];
    other
}

#[tonic::async_trait]
impl ReplicaLie for BadCosigner {
    async fn cosign(&self, truth: &Truth, request: CosignRequest) -> Result<CosignResponse, Status> {
        let signed = meridian_proofs::checkpoint::SignedCheckpoint::try_from(
            request.signed.clone().unwrap_or_default(),
        )?;
        let stranger = keys::secret("a stranger with a key").map_err(|_| Status::internal("no key"))?;
        let by = |key: &SecretKey, digest: &B256| Bytes::copy_from_slice(key.sign(digest).as_bytes());
        let answer = truth.cosign(request).await?;
        let Some(Answer::Cosignature(own)) = &answer.answer else { return Ok(answer) };
        let answer = match self {
            Self::Foreign => {
                Some(Answer::Cosignature(by(&stranger, &signed.checkpoint.digest(&truth.domain))))
            }
            Self::OtherDigest => {
                let mut other = own.to_vec();
                other[31] ^= 1;
                Some(Answer::Cosignature(other.into()))
            }
            Self::Garbage => Some(Answer::Cosignature(vec![0xa5; 65].into())),
            Self::HighS => Some(Answer::Cosignature(high_s(own).into())),
            Self::WrongV => {
                let mut other = own.to_vec();
                other[64] -= 27;
                Some(Answer::Cosignature(other.into()))
            }
            Self::Short => Some(Answer::Cosignature(own.slice(..64))),
            Self::Empty => None,
            Self::EntriesFromBeyond => Some(Answer::EntriesFrom(u64::MAX)),
        };
        Ok(CosignResponse { answer })
    }
}
