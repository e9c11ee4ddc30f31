//! A gateway that hands clients certificates that are not what they say.

use std::sync::{Mutex, PoisonError};

use meridian_proofs::B256;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::SignedCheckpoint;
use meridian_proofs::ids::Namespace;
use meridian_proofs::signature::Signature;
use tonic::Status;

use super::bad_cosigner::high_s;
use super::{GatewayLie, Truth};
use crate::keys;

/// What is wrong with the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum False {
    /// It is right, and of the first blob that was put here.
    OfAnotherBlob,
    /// Two cosignatures changed places.
    Reordered,
    /// One cosignature stands twice.
    Duplicated,
    /// All cosignatures but one are missing.
    TooFew,
    /// A stranger's signatures stand for the replicas'.
    Forged,
    /// A signature has the high value of s.
    HighS,
    /// The entry names another namespace.
    OtherNamespace,
    /// The entry expires earlier than was asked for.
    EarlyExpiry,
    /// The entry's index is another.
    OtherIndex,
    /// The checkpoint is signed by somebody else than its gateway.
    ForeignGateway,
    /// A byte follows the last.
    Trailing,
    /// The last byte is missing.
    Cut,
    /// It is empty.
    Nothing,
}

impl False {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::OfAnotherBlob,
        Self::Reordered,
        Self::Duplicated,
        Self::TooFew,
        Self::Forged,
        Self::HighS,
        Self::OtherNamespace,
        Self::EarlyExpiry,
        Self::OtherIndex,
        Self::ForeignGateway,
        Self::Trailing,
        Self::Cut,
        Self::Nothing,
    ];
}

/// Turns honest certificates into false ones.
#[derive(Debug)]
pub struct FalseCertificate {
    kind: Mutex<Option<False>>,
    first: Mutex<Option<Vec<u8>>>,
}

impl Default for FalseCertificate {
    fn default() -> Self {
        Self { kind: Mutex::new(None), first: Mutex::new(None) }
    }
}

impl FalseCertificate {
    /// From now on lies in this way; before the first call it tells the truth.
    pub fn turn(&self, kind: False) {
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
    }
}

fn forge(kind: False, truth: &Truth, honest: &[u8]) -> Result<Vec<u8>, Status> {
    let decoded = |_| Status::internal("the honest gateway gave no certificate");
    let mut certificate = Certificate::decode(honest).map_err(|_| decoded(()))?;
    let stranger = keys::secret("a stranger with a key").map_err(|_| decoded(()))?;
    let mut bytes = None;
    let digest = certificate.checkpoint.signed.checkpoint.digest(&truth.domain);
    let cosignatures = &mut certificate.checkpoint.cosignatures;
    match kind {
        False::Reordered => cosignatures.swap(0, 1),
        False::Duplicated => cosignatures[1] = cosignatures[0],
        False::TooFew => cosignatures.truncate(1),
        False::Forged => {
            for (place, cosignature) in cosignatures.iter_mut().enumerate() {
                let key = keys::secret(&format!("stranger {place}")).map_err(|_| decoded(()))?;
                *cosignature = key.sign(&digest);
            }
            cosignatures.sort_by_key(|signature: &Signature| signature.recover(&digest).unwrap_or_default());
        }
        False::HighS => {
            // Not a signature that the domain type allows: found in the bytes and replaced there.
            let own = *cosignatures[0].as_bytes();
            let mut raw = honest.to_vec();
            if let Some(at) = raw.windows(own.len()).position(|window| window == own) {
                raw.splice(at..at + own.len(), high_s(&own));
            }
            bytes = Some(raw);
        }
        False::OtherNamespace => certificate.entry.namespace = Namespace::from([0xee; 32]),
        False::EarlyExpiry => certificate.entry.expiry -= 7_200,
        False::OtherIndex => certificate.index += 1,
        False::ForeignGateway => {
            let checkpoint = certificate.checkpoint.signed.checkpoint;
            certificate.checkpoint.signed = SignedCheckpoint::sign(checkpoint, &truth.domain, &stranger);
        }
        False::Trailing => bytes = Some([honest, &[0]].concat()),
        False::Cut => bytes = Some(honest[..honest.len() - 1].to_vec()),
        False::Nothing => bytes = Some(Vec::new()),
        False::OfAnotherBlob => certificate.entry.blob_id = B256::from([3; 32]).0.into(),
    }
    Ok(bytes.unwrap_or_else(|| certificate.encode()))
}

#[tonic::async_trait]
impl GatewayLie for FalseCertificate {
    async fn certificate(&self, truth: &Truth, honest: Vec<u8>) -> Result<Vec<u8>, Status> {
        let first = {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| honest.clone()).clone()
        };
        match *self.kind.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(honest),
            Some(False::OfAnotherBlob) => Ok(first),
            Some(kind) => forge(kind, truth, &honest),
        }
    }
}
