//! What gateways and replicas sign: checkpoints of a log and permissions to disperse (protocol section 3).
//!
//! Both are EIP-712 structs under the domain "Meridian", version "1", so that a contract and a wallet see the same
//! digest. Gateway and replicas sign one digest for a checkpoint: the gateway's signature says that this is its log, a
//! cosignature says what protocol section 4 lists.

use alloy_primitives::{Address, B256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use thiserror::Error;

use crate::{
    ids::BlobId,
    signature::{SecretKey, Signature, SignatureError},
};

/// EIP-712 name of the domain.
pub const DOMAIN_NAME: &str = "Meridian";

/// EIP-712 version of the domain.
pub const DOMAIN_VERSION: &str = "1";

/// The struct types that are hashed; their names are part of the digest.
mod typed {
    use super::sol;

    sol! {
        struct Checkpoint { address gateway; uint64 epoch; uint64 size; bytes32 root; uint64 timestamp; }
        struct Dispersal { address gateway; address replica; uint64 epoch; bytes32 blobId; uint64 deadline; }
    }
}

/// What separates the signatures of one network from those of another: chain and contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Domain {
    /// Chain id, 0 without a chain.
    pub chain_id: u64,
    /// The registry's address, zero without a chain.
    pub verifying_contract: Address,
}

impl Domain {
    pub(crate) fn eip712(&self) -> Eip712Domain {
        Eip712Domain {
            name: Some(DOMAIN_NAME.into()),
            version: Some(DOMAIN_VERSION.into()),
            chain_id: Some(alloy_primitives::U256::from(self.chain_id)),
            verifying_contract: Some(self.verifying_contract),
            salt: None,
        }
    }
}

/// Why a signed statement does not stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StatementError {
    /// The signature recovers to nobody.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Somebody else signed.
    #[error("signed by {signer} instead of {expected}")]
    WrongSigner {
        /// Who should have signed.
        expected: Address,
        /// Who did.
        signer: Address,
    },
}

/// Why cosignatures do not stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CosignatureError {
    /// A cosignature recovers to nobody.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A signer appears twice, or the order is not ascending.
    #[error("cosignature {0} is not above the one before it by signer address")]
    NotAscending(usize),
    /// The signer has cosigned already.
    #[error("{0} has cosigned already")]
    Duplicate(Address),
}

/// The state of a gateway's log at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Checkpoint {
    /// Whose log it is.
    pub gateway: Address,
    /// Epoch of the committee that cosigns.
    pub epoch: u64,
    /// Entries under the root.
    pub size: u64,
    /// RFC 6962 root of the entries' leaves, zero for an empty log.
    pub root: B256,
    /// Unix seconds.
    pub timestamp: u64,
}

impl Checkpoint {
    /// EIP-712 digest: what the gateway signs and replicas cosign.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        typed::Checkpoint {
            gateway: self.gateway,
            epoch: self.epoch,
            size: self.size,
            root: self.root,
            timestamp: self.timestamp,
        }
        .eip712_signing_hash(&domain.eip712())
    }
}

/// A checkpoint with the signature of its gateway. Not checked until [`SignedCheckpoint::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedCheckpoint {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Should be the gateway's.
    pub signature: Signature,
}

impl SignedCheckpoint {
    /// Signs a checkpoint, with the key of its gateway.
    #[must_use]
    pub fn sign(checkpoint: Checkpoint, domain: &Domain, key: &SecretKey) -> Self {
        Self { signature: key.sign(&checkpoint.digest(domain)), checkpoint }
    }

    /// Checks that the checkpoint's own gateway signed.
    ///
    /// # Errors
    ///
    /// Somebody else signed, or nobody.
    pub fn verify(&self, domain: &Domain) -> Result<(), StatementError> {
        expect_signer(&self.signature, &self.checkpoint.digest(domain), self.checkpoint.gateway)
    }
}

/// A signed checkpoint with cosignatures, ascending by recovered address. Not checked until asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CosignedCheckpoint {
    /// What is cosigned.
    pub signed: SignedCheckpoint,
    /// Over the same digest.
    pub cosignatures: Vec<Signature>,
}

impl CosignedCheckpoint {
    /// Who cosigned, strictly ascending. Whether they hold a seat is for the committee to say.
    ///
    /// # Errors
    ///
    /// A cosignature of nobody, a duplicate, or another order.
    pub fn signers(&self, domain: &Domain) -> Result<Vec<Address>, CosignatureError> {
        let digest = self.signed.checkpoint.digest(domain);
        let mut signers: Vec<Address> = Vec::with_capacity(self.cosignatures.len());
        for (position, cosignature) in self.cosignatures.iter().enumerate() {
            let signer = cosignature.recover(&digest)?;
            if signers.last().is_some_and(|last| *last >= signer) {
                return Err(CosignatureError::NotAscending(position));
            }
            signers.push(signer);
        }
        Ok(signers)
    }

    /// Adds a cosignature at its place and tells whose it is.
    ///
    /// # Errors
    ///
    /// The new cosignature is nobody's or is there already, or the present ones are not in order.
    pub fn insert(&mut self, domain: &Domain, cosignature: Signature) -> Result<Address, CosignatureError> {
        let signers = self.signers(domain)?;
        let signer = cosignature.recover(&self.signed.checkpoint.digest(domain))?;
        match signers.binary_search(&signer) {
            Ok(_) => Err(CosignatureError::Duplicate(signer)),
            Err(position) => {
                self.cosignatures.insert(position, cosignature);
                Ok(signer)
            }
        }
    }
}

/// A gateway's permission for one replica to take its rows of one blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dispersal {
    /// Who permits.
    pub gateway: Address,
    /// Who may take the rows.
    pub replica: Address,
    /// Epoch of the committee.
    pub epoch: u64,
    /// Which blob.
    pub blob_id: BlobId,
    /// Unix seconds, at most a minute ahead.
    pub deadline: u64,
}

impl Dispersal {
    /// EIP-712 digest: what the gateway signs.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        typed::Dispersal {
            gateway: self.gateway,
            replica: self.replica,
            epoch: self.epoch,
            blobId: self.blob_id.0,
            deadline: self.deadline,
        }
        .eip712_signing_hash(&domain.eip712())
    }
}

/// A dispersal with the signature of its gateway. Not checked until [`SignedDispersal::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedDispersal {
    /// What is signed.
    pub dispersal: Dispersal,
    /// Should be the gateway's.
    pub signature: Signature,
}

impl SignedDispersal {
    /// Signs a dispersal, with the key of its gateway.
    #[must_use]
    pub fn sign(dispersal: Dispersal, domain: &Domain, key: &SecretKey) -> Self {
        Self { signature: key.sign(&dispersal.digest(domain)), dispersal }
    }

    /// Checks that the gateway it names signed.
    ///
    /// # Errors
    ///
    /// Somebody else signed, or nobody.
    pub fn verify(&self, domain: &Domain) -> Result<(), StatementError> {
        expect_signer(&self.signature, &self.dispersal.digest(domain), self.dispersal.gateway)
    }
}

/// Whether two checkpoints contradict each other: one gateway, one size, different roots.
///
/// With both signatures checked this is evidence against the gateway that anybody can verify.
#[must_use]
pub fn is_conflict(a: &Checkpoint, b: &Checkpoint) -> bool {
    a.gateway == b.gateway && a.size == b.size && a.root != b.root
}

fn expect_signer(signature: &Signature, digest: &B256, expected: Address) -> Result<(), StatementError> {
    let signer = signature.recover(digest)?;
    if signer == expected { Ok(()) } else { Err(StatementError::WrongSigner { expected, signer }) }
}

#[cfg(test)]
mod tests;
