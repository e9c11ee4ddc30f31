//! What a certificate has to be, and why it is not.

use meridian_proofs::certificate::{Certificate, CertificateError, Verified};
use meridian_proofs::committee::Committee;
use meridian_proofs::committee::epochs::Epochs;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use thiserror::Error;

use super::{CLOCK_SLACK, least_expiry, unix_now};

/// Why a certificate is not the one that was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CertificateFault {
    /// It does not stand by itself.
    #[error(transparent)]
    Invalid(#[from] CertificateError),
    /// It is of another blob.
    #[error("it is of blob {0}")]
    OtherBlob(BlobId),
    /// Its entry is of another namespace.
    #[error("its namespace is {0}")]
    OtherNamespace(Namespace),
    /// Its entry states another length.
    #[error("its entry states {0} bytes")]
    OtherLength(u64),
    /// Its entry carries another payload hash, or one that was not asked for, or none that was.
    #[error("its payload hash is {0}")]
    OtherPayloadHash(PayloadHash),
    /// Its entry is of another epoch than the committee, or of one that is not open.
    #[error("its epoch is {0}, which is not open")]
    OtherEpoch(u64),
    /// It expires before what was asked for.
    #[error("it expires at {expiry}, {wanted} was asked for")]
    ExpiresEarly {
        /// Unix seconds.
        expiry: u64,
        /// Unix seconds.
        wanted: u64,
    },
    /// Its retention is outside the committee's limits.
    #[error("its retention of {0} s is outside the committee's limits")]
    RetentionOutOfRange(u64),
    /// It was made in the future.
    #[error("its time {0} is in the future")]
    FromTheFuture(u64),
}

/// What the payload must be certified as.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The id, computed by ourselves.
    pub id: BlobId,
    /// Length of the payload.
    pub length: u64,
    /// Hash of the payload where it was asked for, else unbound.
    pub payload_hash: PayloadHash,
    /// Whose blob it is.
    pub namespace: Namespace,
    /// Seconds to keep it.
    pub retention: u64,
    /// Unix seconds when the put began.
    pub now: u64,
}

impl Expectation {
    /// Checks a certificate in full, with the committee of its own epoch, which must be open.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check_open(
        &self,
        certificate: &Certificate,
        epochs: &Epochs,
    ) -> Result<Verified, CertificateFault> {
        let epoch = certificate.entry.epoch;
        let now = unix_now().max(self.now);
        // A gateway whose clock is ahead is in the next epoch before us.
        let open = [now, now.saturating_add(CLOCK_SLACK)];
        match epochs.term(epoch) {
            Some(term) if open.iter().any(|now| term.is_open(*now)) => {
                self.check(certificate, &term.committee)
            }
            _ => Err(CertificateFault::OtherEpoch(epoch)),
        }
    }

    /// Checks a certificate in full, protocol section 5.5.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(
        &self,
        certificate: &Certificate,
        committee: &Committee,
    ) -> Result<Verified, CertificateFault> {
        let entry = &certificate.entry;
        let id = certificate.header.id();
        if id != self.id || entry.blob_id != self.id {
            return Err(CertificateFault::OtherBlob(if id == self.id { entry.blob_id } else { id }));
        }
        if entry.namespace != self.namespace {
            return Err(CertificateFault::OtherNamespace(entry.namespace));
        }
        if entry.length != self.length {
            return Err(CertificateFault::OtherLength(entry.length));
        }
        if entry.payload_hash != self.payload_hash {
            return Err(CertificateFault::OtherPayloadHash(entry.payload_hash));
        }
        if entry.epoch != committee.epoch() {
            return Err(CertificateFault::OtherEpoch(entry.epoch));
        }
        let wanted = least_expiry(self.now, self.retention).saturating_sub(CLOCK_SLACK);
        if entry.expiry < wanted {
            return Err(CertificateFault::ExpiresEarly { expiry: entry.expiry, wanted });
        }
        let retention = entry.expiry.saturating_sub(entry.time);
        let limits = committee.parts().min_retention..=committee.parts().max_retention;
        if !limits.contains(&retention) {
            return Err(CertificateFault::RetentionOutOfRange(retention));
        }
        let latest = unix_now().max(self.now).saturating_add(CLOCK_SLACK);
        let time = entry.time.max(certificate.checkpoint.signed.checkpoint.timestamp);
        if time > latest {
            return Err(CertificateFault::FromTheFuture(time));
        }
        Ok(certificate.verify(committee)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint};
    use meridian_proofs::committee::epochs::Term;
    use meridian_proofs::encode;
    use meridian_proofs::hash::Blake3;
    use meridian_proofs::log::LogEntry;
    use meridian_proofs::signature::SecretKey;
    use meridian_proofs::{Address, B256};

    use super::*;
    use crate::chain::testing::committee;

    /// A certificate of an epoch, of another blob than the expected one.
    fn certificate(epoch: u64) -> Certificate {
        let header = encode::encode::<Blake3>(b"a", B256::ZERO).unwrap().header().to_owned();
        let entry = LogEntry {
            blob_id: header.id(),
            namespace: Namespace::from([0; 32]),
            payload_hash: PayloadHash::UNBOUND,
            length: 1,
            epoch,
            time: 1,
            expiry: 2,
        };
        let checkpoint =
            Checkpoint { gateway: Address::ZERO, epoch, size: 1, root: entry.leaf(), timestamp: 1 };
        let key = SecretKey::from_bytes([1; 32]).unwrap();
        let signed = SignedCheckpoint::sign(checkpoint, &committee(1).domain(), &key);
        let checkpoint = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        Certificate { header, entry, index: 0, inclusion: Vec::new(), checkpoint }
    }

    #[test]
    fn a_certificate_is_judged_by_its_own_epoch_which_must_be_open() {
        let now = unix_now();
        let expectation = Expectation {
            id: BlobId::from([0; 32]),
            length: 1,
            payload_hash: PayloadHash::UNBOUND,
            namespace: Namespace::from([0; 32]),
            retention: 60,
            now,
        };
        let term =
            |epoch, activation, closes| Term { committee: Arc::new(committee(epoch)), activation, closes };
        let epochs = Epochs::new(vec![
            term(1, 1, Some(now)),
            term(2, 2, Some(now + 1000)),
            term(3, now + CLOCK_SLACK, Some(now + 9999)),
            term(4, now + 2000, None),
        ]);
        let epochs = epochs.unwrap();
        let closed = |epoch| Err(CertificateFault::OtherEpoch(epoch));
        let judged = Err(CertificateFault::OtherBlob(certificate(1).header.id()));
        for (epoch, verdict) in
            [(0, closed(0)), (1, closed(1)), (2, judged.clone()), (3, judged), (4, closed(4)), (5, closed(5))]
        {
            assert_eq!(expectation.check_open(&certificate(epoch), &epochs), verdict, "epoch {epoch}");
        }
    }
}
