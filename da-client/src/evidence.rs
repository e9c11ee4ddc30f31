//! Evidence that a gateway's log forked, in a file that anybody can check without any network (protocol section 3,
//! *Conflict*).

use std::collections::BTreeSet;

use alloy::primitives::Bytes;
use meridian_proofs::checkpoint::{
    Checkpoint, CosignatureError, CosignedCheckpoint, Domain, SignedCheckpoint,
};
use meridian_proofs::conflict::{Conflict, ConflictError, SignedLeaf};
use meridian_proofs::signature::{Signature, SignatureError};
use meridian_proofs::{Address, B256, keccak256};
use meridian_proto::{MAX_LOG_PROOF, MAX_SEATS};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the file.
const FORMAT: u32 = 1;

/// Most bytes of a file: two checkpoints with all the cosignatures that there can be.
pub const MAX_FILE: usize = 4 << 20;

/// Two statements of one gateway that cannot both be of one log. Not checked until [`Evidence::verify`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    format: u32,
    chain_id: u64,
    verifying_contract: Address,
    /// Index of both leaves, where the statements are of leaves.
    index: Option<u64>,
    statements: [Statement; 2],
}

/// A signed checkpoint as JSON, with the leaf under it that is meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    gateway: Address,
    epoch: u64,
    size: u64,
    root: B256,
    timestamp: u64,
    signature: Bytes,
    cosignatures: Vec<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<B256>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inclusion: Vec<B256>,
}

/// What a file convicts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Convicted {
    /// The network that the statements were signed for.
    pub domain: Domain,
    /// The gateway that signed both.
    pub gateway: Address,
    /// Who cosigned each of them.
    pub cosigners: [Vec<Address>; 2],
    /// Who cosigned both, and so signed for two logs as well.
    pub both: Vec<Address>,
}

/// Why a file is no evidence.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum EvidenceError {
    /// The bytes are no such file.
    #[error("not a file of evidence: {0}")]
    Malformed(String),
    /// It has more than there can be.
    #[error("a list of it is longer than {0}")]
    TooLong(usize),
    /// A signature has another form.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The cosignatures do not hold.
    #[error("cosignatures: {0}")]
    Cosignatures(#[from] CosignatureError),
    /// The statements convict nobody.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
}

impl From<&CosignedCheckpoint> for Statement {
    fn from(cosigned: &CosignedCheckpoint) -> Self {
        let Checkpoint { gateway, epoch, size, root, timestamp } = cosigned.signed.checkpoint;
        let bytes = |signature: &Signature| Bytes::copy_from_slice(signature.as_bytes());
        Self {
            gateway,
            epoch,
            size,
            root,
            timestamp,
            signature: bytes(&cosigned.signed.signature),
            cosignatures: cosigned.cosignatures.iter().map(bytes).collect(),
            leaf: None,
            inclusion: Vec::new(),
        }
    }
}

impl Statement {
    /// Epoch of the checkpoint.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Entries under it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> B256 {
        self.root
    }

    /// Its unix seconds.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// The leaf that is meant, where one is.
    #[must_use]
    pub fn leaf(&self) -> Option<B256> {
        self.leaf
    }

    /// The checkpoint. No signature is checked.
    ///
    /// # Errors
    /// A signature of another form, or more of them than there can be.
    pub fn checkpoint(&self) -> Result<CosignedCheckpoint, EvidenceError> {
        let Self { gateway, epoch, size, root, timestamp, .. } = *self;
        if self.cosignatures.len() > MAX_SEATS {
            return Err(EvidenceError::TooLong(MAX_SEATS));
        }
        let checkpoint = Checkpoint { gateway, epoch, size, root, timestamp };
        let signed = SignedCheckpoint { checkpoint, signature: Signature::from_bytes(&self.signature)? };
        let cosignatures = self.cosignatures.iter().map(|bytes| Signature::from_bytes(bytes));
        Ok(CosignedCheckpoint { signed, cosignatures: cosignatures.collect::<Result<_, _>>()? })
    }
}

impl Evidence {
    /// Two checkpoints of one size with different roots.
    #[must_use]
    pub fn of_roots(domain: &Domain, checkpoints: [&CosignedCheckpoint; 2]) -> Self {
        Self::new(domain, None, checkpoints.map(Statement::from))
    }

    /// Different leaves at one index, each with its inclusion proof.
    #[must_use]
    pub fn of_leaves(
        domain: &Domain,
        index: u64,
        leaves: [(&CosignedCheckpoint, B256, Vec<B256>); 2],
    ) -> Self {
        let statements = leaves.map(|(checkpoint, leaf, inclusion)| Statement {
            leaf: Some(leaf),
            inclusion,
            ..checkpoint.into()
        });
        Self::new(domain, Some(index), statements)
    }

    fn new(domain: &Domain, index: Option<u64>, statements: [Statement; 2]) -> Self {
        let Domain { chain_id, verifying_contract } = *domain;
        Self { format: FORMAT, chain_id, verifying_contract, index, statements }
    }

    /// Reads a file. Nothing of it is checked.
    ///
    /// # Errors
    /// It is no such file.
    pub fn decode(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_FILE {
            return Err(EvidenceError::TooLong(MAX_FILE));
        }
        let evidence: Self =
            serde_json::from_slice(bytes).map_err(|error| EvidenceError::Malformed(error.to_string()))?;
        if evidence.format != FORMAT {
            let text = format!("format {} is unknown, this program knows {FORMAT}", evidence.format);
            return Err(EvidenceError::Malformed(text));
        }
        Ok(evidence)
    }

    /// The file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Numbers, texts and lists of them: nothing that JSON lacks.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The statements.
    #[must_use]
    pub fn statements(&self) -> &[Statement; 2] {
        &self.statements
    }

    /// The index at which leaves differ, where leaves are what differs.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.index
    }

    /// A name for its file, which is the same for whoever finds the same.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut roots = self.statements.each_ref().map(|statement| statement.root);
        roots.sort_unstable();
        let hash = keccak256([roots[0].as_slice(), roots[1].as_slice()].concat());
        format!("evidence-{}-{}.json", self.statements[0].gateway, hex::encode(&hash[..8]))
    }

    /// Checks all of it, and tells whom it convicts.
    ///
    /// Whether they are members of a network is for its committees to say.
    ///
    /// # Errors
    /// See [`EvidenceError`].
    pub fn verify(&self) -> Result<Convicted, EvidenceError> {
        let domain = Domain { chain_id: self.chain_id, verifying_contract: self.verifying_contract };
        let [one, other] = &self.statements;
        let checkpoints = [one.checkpoint()?, other.checkpoint()?];
        let conflict = match self.index {
            None if one.leaf.is_none() && other.leaf.is_none() => {
                Conflict::Roots(checkpoints.each_ref().map(|checkpoint| checkpoint.signed))
            }
            None => return Err(EvidenceError::Malformed("leaves without an index".to_owned())),
            Some(index) => {
                let leaf = |statement: &Statement, checkpoint: &CosignedCheckpoint| {
                    if statement.inclusion.len() > MAX_LOG_PROOF {
                        return Err(EvidenceError::TooLong(MAX_LOG_PROOF));
                    }
                    let leaf =
                        statement.leaf.ok_or_else(|| EvidenceError::Malformed("no leaf".to_owned()))?;
                    let inclusion = statement.inclusion.clone();
                    Ok(SignedLeaf { signed: checkpoint.signed, leaf, inclusion })
                };
                Conflict::Leaves {
                    index,
                    leaves: [leaf(one, &checkpoints[0])?, leaf(other, &checkpoints[1])?],
                }
            }
        };
        let gateway = conflict.verify(&domain)?;
        let cosigners = [checkpoints[0].signers(&domain)?, checkpoints[1].signers(&domain)?];
        let second: BTreeSet<&Address> = cosigners[1].iter().collect();
        let both = cosigners[0].iter().filter(|signer| second.contains(signer)).copied().collect();
        Ok(Convicted { domain, gateway, cosigners, both })
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::log::CompactRange;
    use meridian_proofs::signature::SecretKey;
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: Domain = Domain { chain_id: 7, verifying_contract: Address::repeat_byte(0xcc) };

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes([byte; 32]).unwrap()
    }

    fn leaf(byte: u8) -> B256 {
        B256::repeat_byte(byte)
    }

    /// The checkpoint of a log of these leaves, with its cosignatures.
    fn checkpoint(gateway: u8, leaves: &[u8], seats: &[u8]) -> CosignedCheckpoint {
        let mut log = CompactRange::empty();
        leaves.iter().for_each(|byte| drop(log.append(leaf(*byte))));
        let checkpoint = Checkpoint {
            gateway: key(gateway).address(),
            epoch: 1,
            size: log.size(),
            root: log.root(),
            timestamp: 1,
        };
        let signed = SignedCheckpoint::sign(checkpoint, &DOMAIN, &key(gateway));
        let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        for seat in seats {
            cosigned.insert(&DOMAIN, key(*seat).sign(&checkpoint.digest(&DOMAIN))).unwrap();
        }
        cosigned
    }

    fn roots() -> Evidence {
        Evidence::of_roots(&DOMAIN, [&checkpoint(1, &[5, 6], &[11, 12]), &checkpoint(1, &[5, 7], &[12, 13])])
    }

    fn leaves() -> Evidence {
        let (short, long) = (checkpoint(1, &[5, 6], &[11]), checkpoint(1, &[5, 7, 8], &[]));
        let paths = [vec![leaf(5)], vec![leaf(5), leaf(8)]];
        let [one, other] = paths;
        Evidence::of_leaves(&DOMAIN, 1, [(&short, leaf(6), one), (&long, leaf(7), other)])
    }

    #[test]
    fn a_file_convicts_the_gateway_and_who_cosigned_both() {
        for evidence in [roots(), leaves()] {
            let read = Evidence::decode(&evidence.encode()).unwrap();
            assert_eq!(read, evidence);
            let convicted = read.verify().unwrap();
            assert_eq!((convicted.gateway, convicted.domain), (key(1).address(), DOMAIN));
        }
        let convicted = roots().verify().unwrap();
        assert_eq!(convicted.both, [key(12).address()]);
        assert_eq!(convicted.cosigners.each_ref().map(Vec::len), [2, 2]);
        assert!(leaves().verify().unwrap().both.is_empty());
        let [a, b] = roots().statements;
        let turned = Evidence { statements: [b, a], ..roots() };
        assert_eq!(turned.file_name(), roots().file_name());
        assert_ne!(leaves().file_name(), roots().file_name());
    }

    #[test]
    fn what_convicts_nobody_is_refused() {
        let same = checkpoint(1, &[5, 6], &[]);
        let compatible = Evidence::of_roots(&DOMAIN, [&same, &same]);
        assert_eq!(compatible.verify(), Err(EvidenceError::Conflict(ConflictError::Compatible)));
        let mut other_chain = roots();
        other_chain.chain_id = 8;
        assert!(matches!(other_chain.verify(), Err(EvidenceError::Conflict(ConflictError::Statement(_)))));
        let mut twice = roots();
        let again = twice.statements[0].cosignatures[0].clone();
        twice.statements[0].cosignatures.push(again);
        assert!(matches!(twice.verify(), Err(EvidenceError::Cosignatures(_))));
        let mut short = roots();
        short.statements[0].signature = Bytes::from(vec![1; 64]);
        assert!(matches!(short.verify(), Err(EvidenceError::Signature(_))));
        let mut no_leaf = leaves();
        no_leaf.statements[0].leaf = None;
        assert!(matches!(no_leaf.verify(), Err(EvidenceError::Malformed(_))));
        let mut no_index = leaves();
        no_index.index = None;
        assert!(matches!(no_index.verify(), Err(EvidenceError::Malformed(_))));
        let mut elsewhere = leaves();
        elsewhere.index = Some(0);
        assert!(matches!(elsewhere.verify(), Err(EvidenceError::Conflict(ConflictError::Inclusion(_)))));
        for (count, fits) in [(MAX_LOG_PROOF, true), (MAX_LOG_PROOF + 1, false)] {
            let mut long = leaves();
            long.statements[0].inclusion = vec![leaf(1); count];
            assert_eq!(long.verify() != Err(EvidenceError::TooLong(MAX_LOG_PROOF)), fits);
        }
        for (count, fits) in [(MAX_SEATS, true), (MAX_SEATS + 1, false)] {
            let mut long = roots();
            long.statements[0].cosignatures = vec![long.statements[0].cosignatures[0].clone(); count];
            assert_eq!(long.verify() != Err(EvidenceError::TooLong(MAX_SEATS)), fits);
        }
        let text = String::from_utf8(roots().encode()).unwrap();
        for wrong in [
            text.replace("\"format\": 1", "\"format\": 2"),
            text.replace("\"format\"", "\"form\""),
            text[1..].to_owned(),
            " ".repeat(MAX_FILE + 1),
        ] {
            assert!(Evidence::decode(wrong.as_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_flipped_bit_convicts_somebody_else(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u32,
            of_leaves in any::<bool>(),
        ) {
            prop_assert!(Evidence::decode(&noise).is_err());
            let mut bytes = if of_leaves { leaves() } else { roots() }.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(convicted) = Evidence::decode(&bytes).and_then(|evidence| evidence.verify()) {
                prop_assert_eq!(convicted.gateway, key(1).address());
            }
        }
    }
}
