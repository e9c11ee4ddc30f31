//! Namespaces whose owner is the registry's to say.
//!
//! The chain is asked about a signer once in a while, and about few unknown ones at a time: whoever signs with ever new keys
//! finds nobody to ask. Those that were let in are always asked about again, and stay let in for an hour while the chain does
//! not answer.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use meridian_client::chain::namespaces::Namespaces;
use meridian_proofs::Address;
use meridian_proofs::ids::Namespace;
use meridian_proto::error::{ApiError, Reason};
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long an answer holds before the chain is asked again.
const FRESH: Duration = Duration::from_secs(30);
/// How long somebody who was let in stays so while nobody can be asked.
const STALE: Duration = Duration::from_secs(3_600);
/// Most answers that are remembered.
const REMEMBERED: u64 = 65_536;
/// Most questions at a time, and in a second.
const AT_A_TIME: usize = 8;
const A_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// How long somebody who was let in waits for the chain.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// When to come again after too many questions.
const WAIT: Duration = Duration::from_secs(1);

type Key = (Namespace, Address);

/// Asks the registry.
pub(super) struct Registry {
    namespaces: Namespaces,
    fresh: Cache<Key, bool>,
    /// Who was let in within the hour.
    let_in: Cache<Key, ()>,
    asking: Semaphore,
    rate: DefaultDirectRateLimiter,
}

impl Registry {
    pub(super) fn new(namespaces: Namespaces) -> Self {
        Self {
            namespaces,
            fresh: Cache::builder().max_capacity(REMEMBERED).time_to_live(FRESH).build(),
            let_in: Cache::builder().max_capacity(REMEMBERED).time_to_live(STALE).build(),
            asking: Semaphore::new(AT_A_TIME),
            rate: RateLimiter::direct(Quota::per_second(A_SECOND)),
        }
    }

    /// Whether a signer may put under a namespace, as of a block or what was known in the last hour.
    ///
    /// Equal questions at a time are one.
    pub(super) async fn may_write(
        &self,
        namespace: Namespace,
        signer: Address,
        block: u64,
    ) -> Result<bool, ApiError> {
        let key = (namespace, signer);
        let is_known = self.let_in.contains_key(&key);
        let asking = self.fresh.try_get_with(key, self.ask(key, block, is_known));
        let answer = match is_known {
            false => asking.await,
            true => timeout(KNOWN_WITHIN, asking)
                .await
                .unwrap_or_else(|_| Err(Arc::new(out_of_reach("the chain does not answer in time")))),
        };
        match answer {
            Ok(true) => {
                self.let_in.insert(key, ()).await;
                Ok(true)
            }
            Ok(false) => {
                self.let_in.invalidate(&key).await;
                Ok(false)
            }
            Err(error) if is_known => {
                tracing::warn!(%namespace, %signer, %error, "the registry is out of reach: a known writer goes on");
                Ok(true)
            }
            Err(error) => Err(ApiError::clone(&error)),
        }
    }

    async fn ask(&self, (namespace, signer): Key, block: u64, is_known: bool) -> Result<bool, ApiError> {
        let busy = || {
            let message = "too many unknown signers are being looked up in the registry of namespaces";
            ApiError::new(Reason::TooManyRequests, message).retry_after(WAIT)
        };
        // Whoever is known is asked about twice a minute at most.
        let _asking = match is_known {
            true => None,
            false => {
                self.rate.check().map_err(|_| busy())?;
                Some(self.asking.try_acquire().map_err(|_| busy())?)
            }
        };
        match self.namespaces.may_write(namespace, signer, block).await {
            Ok(Some(may)) => Ok(may),
            Ok(None) => Err(out_of_reach("endpoints of the chain contradict each other")),
            Err(error) => {
                tracing::warn!(%namespace, %signer, %error, "the registry of namespaces cannot be asked");
                Err(out_of_reach("the chain does not answer"))
            }
        }
    }
}

/// The error of a put that nobody can be asked about.
pub(super) fn out_of_reach(why: &str) -> ApiError {
    ApiError::new(Reason::NotReady, format!("whose the namespace is cannot be found out now: {why}"))
}
