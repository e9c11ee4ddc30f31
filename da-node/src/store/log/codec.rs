//! The stored forms of compact ranges and checkpoints: flat, big-endian, without spare bytes.

use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint};
use meridian_proofs::log::CompactRange;
use meridian_proofs::signature::Signature;
use meridian_proofs::{Address, B256};

const SIGNATURE_LEN: usize = 65;

/// Size, then the peaks.
#[must_use]
pub fn encode_range(range: &CompactRange) -> Vec<u8> {
    let mut bytes = range.size().to_be_bytes().to_vec();
    range.peaks().iter().for_each(|peak| bytes.extend_from_slice(peak.as_slice()));
    bytes
}

/// What [`encode_range`] wrote.
#[must_use]
pub fn decode_range(mut bytes: &[u8]) -> Option<CompactRange> {
    let size = take_u64(&mut bytes)?;
    let mut peaks = Vec::new();
    while !bytes.is_empty() {
        peaks.push(B256::new(take(&mut bytes)?));
    }
    CompactRange::from_parts(size, peaks).ok()
}

/// Gateway, epoch, size, root, timestamp, the gateway's signature, then the cosignatures.
#[must_use]
pub fn encode_checkpoint(cosigned: &CosignedCheckpoint) -> Vec<u8> {
    let Checkpoint { gateway, epoch, size, root, timestamp } = cosigned.signed.checkpoint;
    let mut bytes = gateway.to_vec();
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(root.as_slice());
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    bytes.extend_from_slice(cosigned.signed.signature.as_bytes());
    cosigned.cosignatures.iter().for_each(|signature| bytes.extend_from_slice(signature.as_bytes()));
    bytes
}

/// What [`encode_checkpoint`] wrote.
#[must_use]
pub fn decode_checkpoint(mut bytes: &[u8]) -> Option<CosignedCheckpoint> {
    let checkpoint = Checkpoint {
        gateway: Address::new(take(&mut bytes)?),
        epoch: take_u64(&mut bytes)?,
        size: take_u64(&mut bytes)?,
        root: B256::new(take(&mut bytes)?),
        timestamp: take_u64(&mut bytes)?,
    };
    let signature = take_signature(&mut bytes)?;
    let mut cosignatures = Vec::new();
    while !bytes.is_empty() {
        cosignatures.push(take_signature(&mut bytes)?);
    }
    Some(CosignedCheckpoint { signed: SignedCheckpoint { checkpoint, signature }, cosignatures })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_be_bytes)
}

fn take_signature(bytes: &mut &[u8]) -> Option<Signature> {
    Signature::from_bytes(&take::<SIGNATURE_LEN>(bytes)?).ok()
}
