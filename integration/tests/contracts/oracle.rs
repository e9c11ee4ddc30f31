//! What the contract has to say, from the certificate's own code, the epochs and the clock.

use meridian_proofs::certificate::{Certificate, CertificateError};
use meridian_proofs::committee::epochs::{EpochState, Epochs};
use meridian_proofs::committee::{MAX_CHAIN_SEATS, RegionId};
use meridian_proto::contract::Status;

/// How far a checkpoint's timestamp may be ahead of the block, in seconds.
const AHEAD: u64 = 60;

/// One question to the contract.
pub(crate) struct Question {
    pub certificate: Vec<u8>,
    pub members: Vec<u8>,
    /// A time that the certificate must reach, 0 for none.
    pub until: u64,
}

/// The status of a certificate, and its complete regions where the signatures hold.
pub(crate) fn answer(epochs: &Epochs, now: u64, question: &Question) -> (Status, Vec<RegionId>) {
    let nothing = |status| (status, Vec::new());
    let Ok(certificate) = Certificate::decode(&question.certificate) else {
        return nothing(Status::Malformed);
    };
    if certificate.checkpoint.cosignatures.len() > MAX_CHAIN_SEATS {
        return nothing(Status::Malformed);
    }
    let checkpoint = &certificate.checkpoint.signed.checkpoint;
    if certificate.entry.epoch != checkpoint.epoch {
        return nothing(Status::EntryOfAnotherEpoch);
    }
    match epochs.state(checkpoint.epoch, now) {
        EpochState::Unknown | EpochState::NotYet => return nothing(Status::EpochUnknown),
        EpochState::Closed => return nothing(Status::EpochClosed),
        EpochState::Open => {}
    }
    let committee = epochs.committee(checkpoint.epoch).unwrap();
    if committee.members().unwrap() != question.members {
        return nothing(Status::WrongMembers);
    }
    let verdict = certificate.verify(committee);
    match &verdict {
        Err(CertificateError::UnknownGateway(_)) => return nothing(Status::NotAGateway),
        Err(CertificateError::Retention { .. } | CertificateError::EntryFromFuture { .. }) => {
            return nothing(Status::BadTimes);
        }
        _ => {}
    }
    if u128::from(checkpoint.timestamp) > u128::from(now) + u128::from(AHEAD) {
        return nothing(Status::FromTheFuture);
    }
    match verdict {
        Err(CertificateError::Inclusion(_)) => nothing(Status::BadProof),
        Err(CertificateError::Gateway(_)) => nothing(Status::BadGatewaySignature),
        Err(
            CertificateError::TooManyCosignatures { .. }
            | CertificateError::Cosignatures(_)
            | CertificateError::UnknownSigner(_),
        ) => nothing(Status::BadCosignature),
        Err(CertificateError::Quorum { complete, .. }) => (Status::NoQuorum, complete),
        Err(other) => panic!("{other}"),
        Ok(verified) if certificate.entry.expiry <= now => (Status::Expired, verified.complete),
        Ok(verified) if certificate.entry.expiry < question.until => {
            (Status::ExpiresTooSoon, verified.complete)
        }
        Ok(verified) => (Status::Valid, verified.complete),
    }
}
