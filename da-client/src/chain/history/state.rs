//! Compares what events told with what the contract keeps.

use std::collections::BTreeSet;

use alloy::providers::RootProvider;
use futures::stream::{self, StreamExt, TryStreamExt};
use meridian_proofs::{Address, B256};
use meridian_proto::contract::Meridian;

use super::super::contract::{self, EpochRecord, anchor_of, epoch_of};
use super::super::rpc::Fault;
use super::super::settled::Block;
use super::{CAP, History, Stretch, events, fold, logs};

/// Calls to one endpoint at once.
const AT_ONCE: usize = 8;

/// Epochs whose records are compared: those that can be open, and the one that is to come.
const EPOCHS: usize = 3;

impl History {
    /// Asks an endpoint whether it has the block up to which was read, with `events` whether it knows the same ones in
    /// what is not confirmed, and whether the contract's state at that block is what they told: the records of the latest
    /// epochs, and the latest anchors of all gateways. Short of the `end`, whoever has no state of old blocks need not
    /// say that.
    ///
    /// # Errors
    /// [`Fault::Contradicts`] when something is otherwise, another fault when the endpoint cannot say.
    pub(in super::super) async fn confirm(
        &self,
        provider: &RootProvider,
        events: bool,
        end: bool,
    ) -> Result<(), Fault> {
        let Some(mark) = self.mark else { return Ok(()) };
        let number = mark.number();
        let there = Block::at(provider, number).await?;
        let there = there.ok_or_else(|| Fault::Behind(format!("it lacks block {number}")))?;
        if there != mark {
            return Err(differs(format!("block {number} is {there:?}, not {mark:?}")));
        }
        if events {
            self.confirm_events(provider).await?;
        }
        match self.confirm_state(provider, number).await {
            Err(Fault::Refused { .. }) if !end => Ok(()),
            word => word,
        }
    }

    async fn confirm_events(&self, provider: &RootProvider) -> Result<(), Fault> {
        let (oldest, latest) = self.asked();
        for stretch in self.unconfirmed.range(..oldest).chain(self.unconfirmed.range(latest..)) {
            self.confirm_stretch(provider, stretch).await?;
        }
        Ok(())
    }

    async fn confirm_stretch(&self, provider: &RootProvider, stretch: &Stretch) -> Result<(), Fault> {
        let (contract, mut span, mut digest) = (self.contract(), CAP, B256::ZERO);
        let Stretch { first, last, .. } = *stretch;
        let mut next = first;
        while next <= last {
            let end = next.saturating_add(span - 1).min(last);
            let most = span;
            if let Some(logs) = logs(provider, events(contract), next, end, &mut span).await? {
                digest = logs.iter().fold(digest, fold);
                next = end.saturating_add(1);
                // It need not find out again and again that more is too much.
                span = most;
            }
        }
        if digest == stretch.digest {
            Ok(())
        } else {
            Err(differs(format!("the events of blocks {first} to {last} are others")))
        }
    }

    async fn confirm_state(&self, provider: &RootProvider, number: u64) -> Result<(), Fault> {
        let (at, address) = (Some(number), self.contract());
        let grace = contract::call(provider, address, Meridian::graceCall {}, at).await?;
        if grace != self.grace {
            return Err(differs(format!("the grace is {grace}, not {}", self.grace)));
        }
        let latest = contract::call(provider, address, Meridian::latestEpochCall {}, at).await?;
        let known = u64::try_from(self.epochs.len()).unwrap_or(u64::MAX);
        if latest != known {
            return Err(differs(format!("the latest epoch is {latest}, events told {known}")));
        }
        let epochs = (1_u64..).zip(self.epochs.iter().enumerate());
        for (epoch, (place, scheduled)) in epochs.skip(self.epochs.len().saturating_sub(EPOCHS)) {
            let told = EpochRecord {
                members_hash: scheduled.members_hash,
                activation: scheduled.activation,
                closes: self.closes(place),
            };
            if epoch_of(provider, address, epoch, at).await? != Some(told) {
                return Err(differs(format!("epoch {epoch} is not what events told")));
            }
        }
        let compare = |gateway: Address| async move {
            let kept = anchor_of(provider, address, gateway, at).await?;
            let told = self.anchors.get(&gateway).and_then(|anchors| anchors.last());
            if kept.as_ref() == told {
                Ok(())
            } else {
                Err(differs(format!("the anchor of {gateway} is not what events told")))
            }
        };
        stream::iter(self.gateways()).map(compare).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Gateways of the latest epochs.
    fn gateways(&self) -> BTreeSet<Address> {
        let committees = self.epochs.iter().rev().take(EPOCHS).filter_map(|epoch| epoch.committee.as_ref());
        committees.flat_map(|committee| committee.gateways()).map(|gateway| gateway.address).collect()
    }
}

fn differs(what: String) -> Fault {
    Fault::Contradicts(what)
}
