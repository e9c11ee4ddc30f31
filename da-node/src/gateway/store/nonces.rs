//! Signed puts that were taken: each is, once.

use meridian_proofs::ids::Namespace;
use meridian_proofs::{Address, B256};

use super::{FORGOTTEN, STATE, Store, StoreError};
use crate::store::{Batch, Durability};

pub(super) const NONCES: &str = "gateway_nonces";

/// Bytes of a deadline, a signer and a nonce.
const KEY: usize = 8 + 20 + 32;

/// The nonce of a signed put that was taken. Ascends by deadline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::gateway) struct Used {
    pub(in crate::gateway) deadline: u64,
    pub(in crate::gateway) signer: Address,
    pub(in crate::gateway) nonce: B256,
}

impl Used {
    fn key(&self) -> Vec<u8> {
        [self.deadline.to_be_bytes().as_slice(), self.signer.as_slice(), self.nonce.as_slice()].concat()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY] = key.try_into().ok()?;
        let (deadline, rest) = key.split_first_chunk::<8>()?;
        let (signer, nonce) = rest.split_first_chunk::<20>()?;
        Some(Self {
            deadline: u64::from_be_bytes(*deadline),
            signer: Address::from(*signer),
            nonce: B256::try_from(nonce).ok()?,
        })
    }
}

impl Store {
    /// Keeps a nonce. Not synced: what is written later and synced, such as the entry, brings it along.
    pub(in crate::gateway) fn use_nonce(&self, used: &Used, namespace: Namespace) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(NONCES, used.key(), namespace.as_bytes().to_vec());
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Drops nonces, and notes that those of no later deadline may be gone.
    pub(in crate::gateway) fn forget_nonces(
        &self,
        expired: &[Used],
        forgotten: u64,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for used in expired {
            batch.delete(NONCES, used.key());
        }
        batch.put(STATE, FORGOTTEN, forgotten.to_be_bytes().to_vec());
        Ok(self.db.commit(batch, Durability::Relaxed)?)
    }

    /// Every nonce with its namespace, and the latest deadline of which nonces were dropped.
    pub(in crate::gateway) fn nonces(&self) -> Result<(Vec<(Used, Namespace)>, u64), StoreError> {
        let malformed = || StoreError::Malformed("a nonce");
        let mut all = Vec::new();
        for (key, namespace) in self.db.scan(NONCES, &[], &[], usize::MAX)? {
            let namespace: [u8; 32] = namespace.as_ref().try_into().map_err(|_| malformed())?;
            all.push((Used::of_key(&key).ok_or_else(malformed)?, Namespace::from(namespace)));
        }
        let forgotten = match self.db.get(STATE, FORGOTTEN)? {
            Some(bytes) => bytes.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| malformed())?,
            None => 0,
        };
        Ok((all, forgotten))
    }
}
