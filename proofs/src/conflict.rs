//! Evidence that a gateway's log forked (protocol section 3). Whoever holds it can convince everybody.

use alloy_primitives::{Address, B256};
use thiserror::Error;

use crate::{
    checkpoint::{Domain, SignedCheckpoint, StatementError, is_conflict},
    log::{ProofError, verify_inclusion},
};

/// A leaf of a gateway's log, under a checkpoint that the gateway signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedLeaf {
    /// The checkpoint.
    pub signed: SignedCheckpoint,
    /// Hash of the entry.
    pub leaf: B256,
    /// Hashes from the leaf to the checkpoint's root.
    pub inclusion: Vec<B256>,
}

/// Two statements of one gateway that cannot both be of one log. Not checked until [`Conflict::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// Checkpoints of one size with different roots.
    Roots([SignedCheckpoint; 2]),
    /// Different leaves at one index, under checkpoints of any two sizes.
    Leaves {
        /// Index of both.
        index: u64,
        /// The leaves.
        leaves: [SignedLeaf; 2],
    },
}

/// Why a conflict is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConflictError {
    /// The statements are of different gateways, or can both be true.
    #[error("the statements do not contradict each other")]
    Compatible,
    /// The gateway did not sign both.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// A leaf is not in the log that was signed.
    #[error("inclusion in the log: {0}")]
    Inclusion(#[from] ProofError),
}

impl Conflict {
    /// Checks the evidence and tells which gateway it convicts.
    ///
    /// # Errors
    ///
    /// One variant of [`ConflictError`] for each thing that can be wrong.
    pub fn verify(&self, domain: &Domain) -> Result<Address, ConflictError> {
        let ([one, other], contradict) = match self {
            Self::Roots([a, b]) => ([a, b], is_conflict(&a.checkpoint, &b.checkpoint)),
            Self::Leaves { leaves: [a, b], .. } => ([&a.signed, &b.signed], a.leaf != b.leaf),
        };
        if !contradict || one.checkpoint.gateway != other.checkpoint.gateway {
            return Err(ConflictError::Compatible);
        }
        if let Self::Leaves { index, leaves } = self {
            for SignedLeaf { signed, leaf, inclusion } in leaves {
                let checkpoint = &signed.checkpoint;
                verify_inclusion(*leaf, *index, checkpoint.size, inclusion, &checkpoint.root)?;
            }
        }
        one.verify(domain)?;
        other.verify(domain)?;
        Ok(one.checkpoint.gateway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::Checkpoint, log::CompactRange, signature::SecretKey};

    const DOMAIN: Domain = Domain { chain_id: 1, verifying_contract: Address::repeat_byte(0xcc) };

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes([byte; 32]).unwrap()
    }

    fn leaf(byte: u8) -> B256 {
        B256::repeat_byte(byte)
    }

    /// The signed checkpoint of a log of these leaves.
    fn signed(gateway: u8, leaves: &[u8]) -> SignedCheckpoint {
        let mut log = CompactRange::empty();
        for byte in leaves {
            log.append(leaf(*byte));
        }
        let checkpoint = Checkpoint {
            gateway: key(gateway).address(),
            epoch: 1,
            size: log.size(),
            root: log.root(),
            timestamp: 1,
        };
        SignedCheckpoint::sign(checkpoint, &DOMAIN, &key(gateway))
    }

    /// The second leaf of a log of two or three.
    fn second(gateway: u8, leaves: &[u8]) -> SignedLeaf {
        let inclusion = [0].into_iter().chain(2..leaves.len()).map(|at| leaf(leaves[at])).collect();
        SignedLeaf { signed: signed(gateway, leaves), leaf: leaf(leaves[1]), inclusion }
    }

    fn leaves(one: SignedLeaf, other: SignedLeaf) -> Conflict {
        Conflict::Leaves { index: 1, leaves: [one, other] }
    }

    #[test]
    fn a_gateway_that_signs_two_logs_is_convicted() {
        let gateway = Ok(key(1).address());
        assert_eq!(Conflict::Roots([signed(1, &[5, 6]), signed(1, &[5, 7])]).verify(&DOMAIN), gateway);
        assert_eq!(leaves(second(1, &[5, 6]), second(1, &[5, 7, 8])).verify(&DOMAIN), gateway);
        assert_eq!(leaves(second(1, &[5, 6, 9]), second(1, &[5, 7, 8])).verify(&DOMAIN), gateway);
    }

    #[test]
    fn nobody_else_is() {
        let compatible = Err(ConflictError::Compatible);
        for (one, other) in [
            (signed(1, &[5, 6]), signed(1, &[5, 6])),
            (signed(1, &[5, 6]), signed(1, &[5, 7, 8])),
            (signed(1, &[5, 6]), signed(2, &[5, 7])),
        ] {
            assert_eq!(Conflict::Roots([one, other]).verify(&DOMAIN), compatible);
        }
        assert_eq!(leaves(second(1, &[5, 6]), second(1, &[5, 6, 8])).verify(&DOMAIN), compatible);
        assert_eq!(leaves(second(1, &[5, 6]), second(2, &[5, 7, 8])).verify(&DOMAIN), compatible);

        // A signature by somebody else, or under another domain.
        let mut forged = signed(1, &[5, 7]);
        forged.signature = signed(2, &[5, 7]).signature;
        for pair in [[signed(1, &[5, 6]), forged], [forged, signed(1, &[5, 6])]] {
            assert!(matches!(Conflict::Roots(pair).verify(&DOMAIN), Err(ConflictError::Statement(_))));
        }
        let elsewhere = Domain { chain_id: 2, ..DOMAIN };
        let conflict = leaves(second(1, &[5, 6]), second(1, &[5, 7, 8]));
        assert!(matches!(conflict.verify(&elsewhere), Err(ConflictError::Statement(_))));

        // An inner node, another index, a leaf that is not there.
        let mut inner = second(1, &[5, 7, 8]);
        inner.leaf = signed(1, &[5, 7]).checkpoint.root;
        inner.inclusion.remove(0);
        let mut absent = second(1, &[5, 7, 8]);
        absent.leaf = leaf(9);
        for wrong in [inner, absent] {
            let conflict = leaves(second(1, &[5, 6]), wrong);
            assert!(matches!(conflict.verify(&DOMAIN), Err(ConflictError::Inclusion(_))));
        }
        for index in [0, 2, u64::MAX] {
            let leaves = [second(1, &[5, 6]), second(1, &[5, 7, 8])];
            let conflict = Conflict::Leaves { index, leaves };
            assert!(matches!(conflict.verify(&DOMAIN), Err(ConflictError::Inclusion(_))));
        }
    }
}
