//! What keys vouch for: nothing verifies that the holders of the keys did not sign.

use super::{input::Input, logs::LOG};
use meridian_proofs::{
    Address,
    certificate::Certificate,
    checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint},
    committee::RegionId,
    conflict::{Conflict, SignedLeaf},
    signature::{SIGNATURE_LEN, Signature},
};

/// A certificate's flat form.
///
/// Read certificates are written back as they were; a valid one speaks of an entry that is in the log, under a
/// checkpoint that the gateway signed, and enough seats cosigned that very checkpoint.
pub fn certificate(data: &[u8]) {
    let Ok(certificate) = Certificate::decode(data) else { return };
    assert_eq!(certificate.encode(), data);
    let Ok(verified) = certificate.verify(&LOG.committee) else { return };

    let checkpoint = &certificate.checkpoint;
    let signed_once = LOG.checkpoint(checkpoint.signed.checkpoint.size).expect("a size of the log");
    assert_eq!(checkpoint.signed, signed_once.signed);
    assert!(checkpoint.cosignatures.iter().all(|signature| signed_once.cosignatures.contains(signature)));
    assert_eq!(verified.signers.len(), checkpoint.cosignatures.len());
    let honest = LOG.certificate(certificate.index, checkpoint.signed.checkpoint.size);
    assert_eq!(certificate, Certificate { checkpoint: checkpoint.clone(), ..honest });

    let complete: Vec<RegionId> =
        (1..=3).map(RegionId).filter(|id| is_complete(*id, &verified.signers)).collect();
    assert_eq!(verified.complete, complete);
    assert!(complete.len() >= 2);
}

/// Whether at most f of the region's m seats are missing, m >= 3f + 1.
fn is_complete(region: RegionId, signers: &[Address]) -> bool {
    let (present, missing): (Vec<_>, Vec<_>) =
        LOG.committee.seats_of(region).partition(|seat| signers.contains(&seat.address));
    3 * missing.len() < present.len() + missing.len()
}

/// A checkpoint's 76 bytes as in a certificate, its gateway's signature, then cosignatures.
///
/// Only what was signed verifies; only seats that cosigned are among the cosigners of an honest checkpoint; nothing
/// convicts a gateway that keeps one log.
pub fn checkpoint(data: &[u8]) {
    let mut input = Input(data);
    let checkpoint = Checkpoint {
        gateway: Address::from(input.array()),
        epoch: input.u64(),
        size: input.u64(),
        root: input.hash(),
        timestamp: input.u64(),
    };
    let Some(signature) = signature(input.take(SIGNATURE_LEN)) else { return };
    let cosignatures: Vec<Signature> = input.0.chunks(SIGNATURE_LEN).filter_map(self::signature).collect();
    let signed = SignedCheckpoint { checkpoint, signature };
    let honest = LOG.checkpoint(checkpoint.size).filter(|honest| honest.signed.checkpoint == checkpoint);
    let same = honest.is_some_and(|honest| honest.signed == signed);

    let by_gateway = |address: &Address| LOG.committee.gateway(address).is_some();
    assert_eq!(signed.verify(&LOG.domain).is_ok() && by_gateway(&checkpoint.gateway), same);
    cosigned(&CosignedCheckpoint { signed, cosignatures }, honest);
    for other in &LOG.checkpoints {
        convicts_nobody(signed, other.signed);
    }
}

/// A signature in its only spelling.
fn signature(bytes: &[u8]) -> Option<Signature> {
    let signature = Signature::from_bytes(bytes).ok()?;
    assert_eq!(signature.as_bytes(), bytes);
    // The other half of the group would be a second spelling.
    assert!(bytes[32] < 0x80);
    Some(signature)
}

fn cosigned(cosigned: &CosignedCheckpoint, honest: Option<&CosignedCheckpoint>) {
    let Ok(signers) = cosigned.signers(&LOG.domain) else { return };
    assert_eq!(signers.len(), cosigned.cosignatures.len());
    assert!(signers.is_sorted_by(|a, b| a < b));
    for (signer, cosignature) in signers.iter().zip(&cosigned.cosignatures) {
        let signed = honest.is_some_and(|honest| honest.cosignatures.contains(cosignature));
        assert_eq!(LOG.committee.seat(signer).is_some(), signed);
    }
    // A seat's cosignature is taken once, at its place.
    let Some(honest) = honest else { return };
    let cosignature = honest.cosignatures[signers.len() % honest.cosignatures.len()];
    let (mut more, known) = (cosigned.clone(), cosigned.cosignatures.contains(&cosignature));
    assert_eq!(more.insert(&LOG.domain, cosignature).is_ok(), !known);
    assert_eq!(more.signers(&LOG.domain).unwrap().len(), signers.len() + usize::from(!known));
}

/// No statement beside one of the log's own is evidence against the log's gateway.
fn convicts_nobody(statement: SignedCheckpoint, own: SignedCheckpoint) {
    assert!(Conflict::Roots([statement, own]).verify(&LOG.domain).is_err());
    let (index, size) = (statement.checkpoint.timestamp % own.checkpoint.size, own.checkpoint.size);
    let leaf = |signed: SignedCheckpoint, index| SignedLeaf {
        signed,
        leaf: LOG.entry(index).unwrap().leaf(),
        inclusion: LOG.inclusion(index, signed.checkpoint.size.clamp(index + 1, size)),
    };
    let leaves = [leaf(own, index), leaf(statement, (index + 1) % size)];
    assert!(Conflict::Leaves { index, leaves }.verify(&LOG.domain).is_err());
}
