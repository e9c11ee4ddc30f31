//! Who may write under a namespace, as the registry on the chain has it (protocol section 15, *Namespaces*).

use alloy::primitives::{Address, B256};
use alloy::sol_types::SolCall;
use meridian_proofs::ids::Namespace;
use meridian_proto::contract::namespaces::NamespaceRegistry as Registry;

use super::contract;
use super::rpc::{ChainError, Pool};

/// The registry of namespaces behind a pool of endpoints.
#[derive(Clone)]
pub struct Namespaces {
    pool: Pool,
    registry: Address,
}

/// What the registry keeps of a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ownership {
    /// Whose it is.
    pub owner: Address,
    /// Whom its owner offers it to, if to anybody.
    pub offered: Option<Address>,
}

impl Namespaces {
    /// The registry at an address. Nothing is asked yet.
    #[must_use]
    pub fn new(pool: Pool, registry: Address) -> Self {
        Self { pool, registry }
    }

    /// Where it is.
    #[must_use]
    pub fn registry(&self) -> Address {
        self.registry
    }

    /// Whether somebody was the owner or a writer of a namespace at a block: as two endpoints have it, or the only one that
    /// answers; nothing where they contradict each other.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn may_write(
        &self,
        namespace: Namespace,
        writer: Address,
        block: u64,
    ) -> Result<Option<bool>, ChainError> {
        let registry = self.registry;
        let asked = Registry::mayWriteCall { namespace: namespace.0, writer };
        self.pool
            .agreed(|provider| {
                let asked = asked.clone();
                async move { contract::call(&provider, registry, asked, Some(block)).await }
            })
            .await
    }

    /// Whose a namespace is as of the latest block; nothing when nobody has made it.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn ownership(&self, namespace: Namespace) -> Result<Option<Ownership>, ChainError> {
        let namespace = namespace.0;
        let owner = self.ask(Registry::ownerOfCall { namespace }).await?;
        let offered = self.ask(Registry::offeredToCall { namespace }).await?;
        let somebody = |address: Address| (!address.is_zero()).then_some(address);
        Ok(somebody(owner).map(|owner| Ownership { owner, offered: somebody(offered) }))
    }

    /// The namespace that somebody makes, or has made, with a salt.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn namespace_of(&self, creator: Address, salt: B256) -> Result<Namespace, ChainError> {
        self.ask(Registry::namespaceOfCall { creator, salt }).await.map(Namespace)
    }

    async fn ask<C: SolCall + Clone>(&self, asked: C) -> Result<C::Return, ChainError> {
        let registry = self.registry;
        self.pool
            .ask(|provider| {
                let asked = asked.clone();
                async move { contract::call(&provider, registry, asked, None).await }
            })
            .await
    }
}
