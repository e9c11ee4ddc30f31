//! What the owner of a namespace signs: that a gateway may take one payload (protocol section 3).
//!
//! An EIP-712 struct under the domain of checkpoints. It names everything that decides the entry, and the gateway, so
//! that what somebody records serves for no other put.

use alloy_primitives::{Address, B256};
use alloy_sol_types::{SolStruct, sol};

use crate::{
    checkpoint::Domain,
    ids::{Namespace, PayloadHash},
    signature::{SecretKey, Signature, SignatureError},
};

/// The struct type that is hashed; its name is part of the digest.
mod typed {
    use super::sol;

    sol! {
        struct Put {
            address gateway;
            bytes32 namespace;
            bytes32 payloadHash;
            uint64 length;
            uint64 retention;
            bytes32 kzgRoot;
            bool bindPayloadHash;
            bytes32 nonce;
            uint64 deadline;
        }
    }
}

/// A permission for one gateway to take one payload once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Authorization {
    /// Who may take it.
    pub gateway: Address,
    /// Whose blob it is.
    pub namespace: Namespace,
    /// keccak256 of the payload, whether or not the entry shall carry it.
    pub payload_hash: PayloadHash,
    /// Length of the payload in bytes.
    pub length: u64,
    /// Seconds to keep it.
    pub retention: u64,
    /// Root of the payload's KZG commitments, zero without.
    pub kzg_root: B256,
    /// Whether the entry shall carry the payload hash.
    pub bind_payload_hash: bool,
    /// Random: no signer uses one twice.
    pub nonce: B256,
    /// Unix seconds until which the put may begin.
    pub deadline: u64,
}

impl Authorization {
    /// EIP-712 digest: what the signer signs.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> B256 {
        typed::Put {
            gateway: self.gateway,
            namespace: self.namespace.0,
            payloadHash: self.payload_hash.0,
            length: self.length,
            retention: self.retention,
            kzgRoot: self.kzg_root,
            bindPayloadHash: self.bind_payload_hash,
            nonce: self.nonce,
            deadline: self.deadline,
        }
        .eip712_signing_hash(&domain.eip712())
    }
}

/// An authorization with a signature. Whose it is has to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedAuthorization {
    /// What is signed.
    pub authorization: Authorization,
    /// Should be that of somebody who may write in the namespace.
    pub signature: Signature,
}

impl SignedAuthorization {
    /// Signs an authorization.
    #[must_use]
    pub fn sign(authorization: Authorization, domain: &Domain, key: &SecretKey) -> Self {
        Self { signature: key.sign(&authorization.digest(domain)), authorization }
    }

    /// Who signed. Whether that is somebody who may write in the namespace is for its list to say.
    ///
    /// # Errors
    ///
    /// The signature recovers to nobody.
    pub fn signer(&self, domain: &Domain) -> Result<Address, SignatureError> {
        self.signature.recover(&self.authorization.digest(domain))
    }
}

#[cfg(test)]
mod tests;
