//! Calls of the contract that change nothing.

use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::{Provider, RootProvider};
use alloy::sol_types::SolCall;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::log::LogEntry;
use meridian_proto::contract::{Meridian, Status};
use serde_json::json;

use super::rpc::{ChainError, Fault, Pool};
use super::settled::Block;
use super::view::{Anchor, Head};

/// The contract behind a pool of endpoints. Every call is answered as of the latest block.
#[derive(Clone)]
pub struct Contract {
    pool: Pool,
    address: Address,
}

/// What the contract keeps of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochRecord {
    /// keccak256 of the members.
    pub members_hash: B256,
    /// Unix seconds from which it is current.
    pub activation: u64,
    /// Unix seconds at which its grace ends; nothing while no epoch follows.
    pub closes: Option<u64>,
}

impl Contract {
    /// The contract at an address. Nothing is asked yet.
    #[must_use]
    pub fn new(pool: Pool, address: Address) -> Self {
        Self { pool, address }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The endpoints.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Domain of every signature that it takes.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.pool.chain_id(), verifying_contract: self.address }
    }

    /// What the contract says of a certificate under the packed members of its epoch; with `until`, also whether it
    /// expires before that time, in unix seconds.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn verify_certificate(
        &self,
        certificate: &[u8],
        members: &[u8],
        until: Option<u64>,
    ) -> Result<Status, ChainError> {
        let (certificate, members) = (Bytes::copy_from_slice(certificate), Bytes::copy_from_slice(members));
        let status =
            |number| Status::from_number(number).ok_or_else(|| Fault::wrong(format!("status {number}")));
        match until {
            None => self.ask(Meridian::verifyCertificateCall { certificate, members }, status).await,
            Some(until) => {
                self.ask(Meridian::verifyCertificateUntilCall { certificate, members, until }, status).await
            }
        }
    }

    /// Whether an entry is in a log under its anchored root.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn verify_anchored(
        &self,
        entry: &LogEntry,
        index: u64,
        proof: &[B256],
        gateway: Address,
    ) -> Result<bool, ChainError> {
        let (entry, proof) = (entry.into(), proof.to_vec());
        self.call(Meridian::verifyAnchoredCall { entry, index, proof, gateway }).await
    }

    /// The latest anchor of a gateway's log.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn anchor_of(&self, gateway: Address) -> Result<Option<Anchor>, ChainError> {
        let address = self.address;
        self.pool.ask(move |provider| async move { anchor_of(&provider, address, gateway, None).await }).await
    }

    /// What the contract keeps of an epoch.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn epoch_of(&self, epoch: u64) -> Result<Option<EpochRecord>, ChainError> {
        let address = self.address;
        self.pool.ask(move |provider| async move { epoch_of(&provider, address, epoch, None).await }).await
    }

    /// The latest epoch, which may not have begun; 0 when there is none.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn latest_epoch(&self) -> Result<u64, ChainError> {
        self.call(Meridian::latestEpochCall {}).await
    }

    /// Seconds between scheduling a committee and its activation, at least.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn notice(&self) -> Result<u64, ChainError> {
        self.call(Meridian::noticeCall {}).await
    }

    /// Seconds for which an epoch stays open after the next has begun.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn grace(&self) -> Result<u64, ChainError> {
        self.call(Meridian::graceCall {}).await
    }

    /// Who schedules committees.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn owner(&self) -> Result<Address, ChainError> {
        self.call(Meridian::ownerCall {}).await
    }

    /// The latest block.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub async fn latest_block(&self) -> Result<Head, ChainError> {
        let block = self.pool.ask(|provider| async move { Block::latest(&provider).await }).await?;
        Ok(Head { number: block.number(), timestamp: block.timestamp() })
    }

    async fn call<C: SolCall>(&self, what: C) -> Result<C::Return, ChainError> {
        self.ask(what, Ok).await
    }

    /// Calls, and takes what the answer is understood as.
    async fn ask<C: SolCall, T>(
        &self,
        what: C,
        understand: impl Fn(C::Return) -> Result<T, Fault>,
    ) -> Result<T, ChainError> {
        let (address, data) = (self.address, Bytes::from(what.abi_encode()));
        self.pool
            .ask(|provider| {
                let (data, understand) = (data.clone(), &understand);
                async move { understand(raw_call::<C>(&provider, address, data, None).await?) }
            })
            .await
    }
}

/// What the contract keeps of an epoch, as of a block or the latest.
pub(super) async fn epoch_of(
    provider: &RootProvider,
    contract: Address,
    epoch: u64,
    block: Option<u64>,
) -> Result<Option<EpochRecord>, Fault> {
    let kept = call(provider, contract, Meridian::epochOfCall { epoch }, block).await?;
    let closes = (kept.closes != u64::MAX).then_some(kept.closes);
    let known = kept.activation != 0;
    Ok(known.then_some(EpochRecord { members_hash: kept.membersHash, activation: kept.activation, closes }))
}

/// The latest anchor of a log, as of a block or the latest.
pub(super) async fn anchor_of(
    provider: &RootProvider,
    contract: Address,
    gateway: Address,
    block: Option<u64>,
) -> Result<Option<Anchor>, Fault> {
    let kept = call(provider, contract, Meridian::anchorOfCall { gateway }, block).await?;
    let Meridian::anchorOfReturn { size, root, blockNumber, timestamp, epoch } = kept;
    Ok((size != 0).then_some(Anchor { gateway, epoch, size, root, timestamp, block: blockNumber }))
}

/// A call as of a block or the latest.
pub(super) async fn call<C: SolCall>(
    provider: &RootProvider,
    contract: Address,
    call: C,
    block: Option<u64>,
) -> Result<C::Return, Fault> {
    raw_call::<C>(provider, contract, call.abi_encode().into(), block).await
}

async fn raw_call<C: SolCall>(
    provider: &RootProvider,
    contract: Address,
    data: Bytes,
    block: Option<u64>,
) -> Result<C::Return, Fault> {
    let tag = block.map_or_else(|| "latest".to_owned(), |number| format!("{number:#x}"));
    let call = json!({ "to": contract, "data": data });
    let answer: Bytes = provider.raw_request("eth_call".into(), (call, tag)).await?;
    if answer.is_empty() {
        return Err(Fault::Behind(format!("no contract at {contract}")));
    }
    C::abi_decode_returns_validate(&answer).map_err(Fault::wrong)
}
