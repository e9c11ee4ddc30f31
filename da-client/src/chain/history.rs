//! What the contract's events tell, read block by block and never twice.
//!
//! Logs are asked for in ranges that fit what chains allow: at most 10,000 blocks at once, fewer where an endpoint refuses or
//! gives 10,000 logs. Every range ends in a block whose hash is kept and asked for again before the next range, whoever
//! answers it.

mod state;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, Keccak256, keccak256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::{SolEvent, SolEventInterface};
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::Committee;
use meridian_proofs::committee::epochs::{Epochs, Term};
use meridian_proto::contract::Meridian::{self, MeridianEvents};
use meridian_proto::contract::committee::{EventError, passed, scheduled};

use super::contract;
use super::rpc::Fault;
use super::settled::{Block, Settled};
use super::view::{Anchor, Head, View};

/// Most blocks in a range, and most logs in an answer: what some chains cap both at.
pub(super) const CAP: u64 = 10_000;

/// Ranges that are read before what they told is confirmed: what an endpoint makes up is found out in time.
const RANGES: usize = 4;

/// Where to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) domain: Domain,
    pub(super) settled: Settled,
    /// First block that can have an event; looked for when it is not known.
    pub(super) from_block: Option<u64>,
}

/// An epoch as it was scheduled.
#[derive(Clone, PartialEq, Debug)]
struct Scheduled {
    activation: u64,
    members_hash: B256,
    /// Nothing where nobody can work with it: the contract does not look into labels and endpoints.
    committee: Option<Arc<Committee>>,
}

/// Blocks whose events no second endpoint has confirmed.
#[derive(Clone, PartialEq, Debug)]
struct Stretch {
    first: u64,
    last: u64,
    /// Over all events in it.
    digest: B256,
}

/// Everything up to one block.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct History {
    place: Place,
    /// First block that was not read; nothing before the first range.
    next: Option<u64>,
    /// Ranges that were read and not yet asked others about.
    ranges: usize,
    /// Ascending. Each fits one answer; they are few unless only one of several endpoints has answered for long.
    unconfirmed: VecDeque<Stretch>,
    /// Last block that was read.
    mark: Option<Block>,
    /// Blocks in the next range.
    span: u64,
    grace: u64,
    /// By epoch, from 1 and without gaps.
    epochs: Vec<Scheduled>,
    anchors: BTreeMap<Address, Vec<Anchor>>,
}

impl History {
    /// Nothing read yet.
    pub(super) fn new(place: Place) -> Self {
        let (epochs, anchors) = (Vec::new(), BTreeMap::new());
        Self {
            place,
            next: None,
            ranges: 0,
            unconfirmed: VecDeque::new(),
            mark: None,
            span: CAP,
            grace: 0,
            epochs,
            anchors,
        }
    }

    /// Throws away what was read.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.place);
    }

    /// The contract that is read.
    pub(super) fn contract(&self) -> Address {
        self.place.domain.verifying_contract
    }

    /// The block up to which was read.
    pub(super) fn reached(&self) -> u64 {
        self.mark.map_or(0, |mark| mark.number())
    }

    /// Reads on towards the block `limit`, which must be settled. Says whether it got there: there may be more ranges than
    /// are read at once.
    ///
    /// What was read before a fault stays and is gone on from, with whatever endpoint.
    pub(super) async fn advance(&mut self, provider: &RootProvider, limit: u64) -> Result<bool, Fault> {
        let settled = self.place.settled.block(provider).await?;
        let head = if settled.number() == limit { Some(settled) } else { Block::at(provider, limit).await? };
        let head = head.filter(|_| settled.number() >= limit);
        let behind = || Fault::Behind(format!("its settled block {} is below {limit}", settled.number()));
        let head = head.ok_or_else(behind)?;
        self.check_mark(provider, &head).await?;
        let mut next = match self.next {
            Some(next) => next,
            None => self.first_block(provider, &head).await?,
        };
        while self.ranges < RANGES && next <= head.number() {
            let (end, logs) = self.range(provider, next, &head).await?;
            let after = end.number().checked_add(1);
            let after =
                after.ok_or_else(|| Fault::wrong("a block with the greatest number that there is"))?;
            // All of a range or nothing: another endpoint may go on from here.
            let before = (self.epochs.clone(), self.anchors.clone());
            if let Err(fault) = logs.iter().try_for_each(|log| self.apply(log, next..=end.number())) {
                (self.epochs, self.anchors) = before;
                return Err(fault);
            }
            self.note(next, end.number(), &logs);
            next = after;
            (self.next, self.mark) = (Some(next), Some(end));
            self.ranges += 1;
        }
        if self.mark.is_none() {
            return Err(Fault::Behind("nothing is settled since the deployment".to_owned()));
        }
        Ok(next > head.number())
    }

    /// Keeps what others are to confirm.
    fn note(&mut self, first: u64, last: u64, logs: &[Log]) {
        let goes_on = |before: &&mut Stretch| {
            before.last.checked_add(1) == Some(first) && last - before.first < self.span
        };
        match self.unconfirmed.back_mut().filter(goes_on) {
            Some(before) => {
                before.last = last;
                before.digest = logs.iter().fold(before.digest, fold);
            }
            None => {
                let digest = logs.iter().fold(B256::ZERO, fold);
                self.unconfirmed.push_back(Stretch { first, last, digest });
            }
        }
    }

    /// How many of the oldest stretches others are asked about next, and from which one on also the latest: all that is
    /// new, and a part of what there is from a time in which nobody else answered.
    fn asked(&self) -> (usize, usize) {
        let oldest = self.unconfirmed.len().min(RANGES);
        (oldest, self.unconfirmed.len().saturating_sub(RANGES).max(oldest))
    }

    /// Goes on. With `agreed` nobody is asked about these events again. Says whether all events are agreed on.
    pub(super) fn confirmed(&mut self, agreed: bool) -> bool {
        self.ranges = 0;
        if agreed {
            let (oldest, latest) = self.asked();
            self.unconfirmed.truncate(latest);
            self.unconfirmed.drain(..oldest);
        }
        self.unconfirmed.is_empty()
    }

    /// Begins with long ranges again.
    pub(super) fn widen(&mut self) {
        self.span = CAP;
    }

    /// Checks that what was read is still part of the chain, and that the endpoint has got there.
    async fn check_mark(&self, provider: &RootProvider, head: &Block) -> Result<(), Fault> {
        let Some(mark) = self.mark else { return Ok(()) };
        if head.number() < mark.number() {
            let (settled, known) = (head.number(), mark.number());
            return Err(Fault::Behind(format!("its settled block {settled} is below {known}")));
        }
        let there = if head.number() == mark.number() {
            *head
        } else {
            let there = Block::at(provider, mark.number()).await?;
            there.ok_or_else(|| Fault::Behind(format!("it lacks block {}", mark.number())))?
        };
        if there != mark {
            let number = mark.number();
            return Err(Fault::Contradicts(format!("settled block {number} is another than it was")));
        }
        Ok(())
    }

    /// The first block to read, and what the contract says once and for all.
    async fn first_block(&mut self, provider: &RootProvider, head: &Block) -> Result<u64, Fault> {
        let address = self.contract();
        if !has_code(provider, address, head.number()).await? {
            return Err(Fault::Behind(format!("no contract at {address} as of block {}", head.number())));
        }
        self.grace = contract::call(provider, address, Meridian::graceCall {}, Some(head.number())).await?;
        match self.place.from_block {
            Some(number) => Ok(number),
            None => deployment(provider, address, head.number()).await,
        }
    }

    /// The logs of a range, as long as the endpoint gives it, and the block that it ends with.
    async fn range(
        &mut self,
        provider: &RootProvider,
        start: u64,
        head: &Block,
    ) -> Result<(Block, Vec<Log>), Fault> {
        loop {
            let last = start.saturating_add(self.span - 1).min(head.number());
            // Before the logs: where it changes meanwhile, the next check of the mark shows it.
            let end = if last == head.number() {
                *head
            } else {
                let end = Block::at(provider, last).await?;
                end.ok_or_else(|| Fault::Behind(format!("it lacks block {last}")))?
            };
            let contract = self.contract();
            if let Some(logs) = logs(provider, events(contract), start, last, &mut self.span).await? {
                return Ok((end, logs));
            }
        }
    }

    /// Takes one event.
    fn apply(&mut self, log: &Log, blocks: std::ops::RangeInclusive<u64>) -> Result<(), Fault> {
        let number = log.block_number.filter(|number| blocks.contains(number) && !log.removed);
        let Some(number) = number.filter(|_| log.address() == self.contract()) else {
            return Err(Fault::wrong("a log that was not asked for"));
        };
        let event = MeridianEvents::decode_raw_log(log.topics(), &log.data().data).map_err(Fault::wrong)?;
        let latest = u64::try_from(self.epochs.len()).unwrap_or(u64::MAX);
        match event {
            MeridianEvents::CommitteeScheduled(event) => {
                let committee = usable(event.epoch, scheduled(self.place.domain, &event))?;
                self.schedule(event.epoch, event.activation, event.membersHash, committee)
            }
            MeridianEvents::SeatPassed(event) => {
                let before = self.epochs.last().ok_or_else(|| odd("a seat passes before the first epoch"))?;
                let committee = match &before.committee {
                    Some(before) => usable(event.epoch, passed(before, &event))?,
                    None => None,
                };
                self.schedule(event.epoch, event.activation, event.membersHash, committee)
            }
            MeridianEvents::CommitteeCancelled(event) if event.epoch == latest && latest > 0 => {
                self.epochs.pop();
                Ok(())
            }
            MeridianEvents::CommitteeCancelled(event) => {
                Err(odd(format!("epoch {} is cancelled, the latest is {latest}", event.epoch)))
            }
            MeridianEvents::Anchored(event) => self.anchor(Anchor {
                gateway: event.gateway,
                epoch: event.epoch,
                size: event.size,
                root: event.root,
                timestamp: event.timestamp,
                block: number,
            }),
        }
    }

    fn schedule(
        &mut self,
        epoch: u64,
        activation: u64,
        members_hash: B256,
        committee: Option<Arc<Committee>>,
    ) -> Result<(), Fault> {
        let follows = u64::try_from(self.epochs.len()).is_ok_and(|latest| epoch == latest + 1);
        let in_time = self.epochs.last().is_none_or(|before| before.activation <= activation);
        if !follows || !in_time || activation == 0 {
            return Err(odd(format!("epoch {epoch} does not follow the one before it")));
        }
        self.epochs.push(Scheduled { activation, members_hash, committee });
        Ok(())
    }

    fn anchor(&mut self, anchor: Anchor) -> Result<(), Fault> {
        let place = anchor.epoch.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        let epoch = place.and_then(|place| self.epochs.get(place));
        let is_member = match epoch {
            None => false,
            Some(Scheduled { committee: None, .. }) => true,
            Some(Scheduled { committee: Some(members), .. }) => members.gateway(&anchor.gateway).is_some(),
        };
        if !is_member || anchor.size == 0 {
            return Err(odd(format!("{} anchors in epoch {}", anchor.gateway, anchor.epoch)));
        }
        let anchors = self.anchors.entry(anchor.gateway).or_default();
        if let Some(last) = anchors.last() {
            let grows = (anchor.size, anchor.timestamp) > (last.size, last.timestamp);
            if !grows || anchor.epoch < last.epoch {
                return Err(odd(format!("the log of {} shrinks", anchor.gateway)));
            }
            if anchor.epoch == last.epoch {
                anchors.pop();
            }
        }
        anchors.push(anchor);
        Ok(())
    }

    /// What is known, if any committee can be worked with.
    ///
    /// With `certain` without an epoch that may still be cancelled: the contract refuses that once no more than the grace
    /// is left until it begins, as of the settled block. So whoever enters an epoch by its own clock and a view that is
    /// long out of date enters none that is not. When the one before it closes is told all the same.
    ///
    /// On a chain that makes no blocks for long, an epoch that `stands` has begun and is there in the latest block: see
    /// [`Self::doubtful`].
    pub(super) fn view(&self, certain: bool, stands: bool) -> Option<View> {
        let head = self.mark.map(|mark| Head { number: mark.number(), timestamp: mark.timestamp() })?;
        let mut final_by = head.timestamp.saturating_add(self.grace);
        if let Some(latest) = self.epochs.last().filter(|_| stands) {
            final_by = final_by.max(latest.activation);
        }
        let mut terms = Vec::new();
        for (place, epoch) in self.epochs.iter().enumerate() {
            let Some(committee) = epoch.committee.clone() else { continue };
            if !certain || epoch.activation <= final_by {
                terms.push(Term { committee, activation: epoch.activation, closes: self.closes(place) });
            }
        }
        let epochs = Epochs::new(terms).ok()?;
        Some(View { epochs, anchors: self.anchors.clone(), head: Some(head), grace: self.grace, final_by })
    }

    /// The latest epoch if it has begun by our clock and the settled block is more than a grace older: number, activation
    /// and what its members hash to.
    ///
    /// Where nothing has settled for so long because nobody sends anything, or the chain does not finalize, it would never
    /// begin. It does when the latest block has it: no block that comes can cancel it, unless the chain gives it a
    /// time more than a grace ago.
    pub(super) fn doubtful(&self, now: u64) -> Option<(u64, u64, B256)> {
        let head = self.mark?.timestamp();
        let latest = self.epochs.last()?;
        let is_doubtful = latest.activation > head.saturating_add(self.grace) && latest.activation <= now;
        let number = u64::try_from(self.epochs.len()).ok()?;
        is_doubtful.then_some((number, latest.activation, latest.members_hash))
    }

    /// When the epoch in a place closes.
    fn closes(&self, place: usize) -> Option<u64> {
        self.epochs.get(place + 1).map(|next| next.activation.saturating_add(self.grace))
    }
}

/// All events that count.
fn events(contract: Address) -> Filter {
    Filter::new().address(contract).event_signature(vec![
        Meridian::CommitteeScheduled::SIGNATURE_HASH,
        Meridian::SeatPassed::SIGNATURE_HASH,
        Meridian::CommitteeCancelled::SIGNATURE_HASH,
        Meridian::Anchored::SIGNATURE_HASH,
    ])
}

/// The logs from one block to another; nothing where that is too much for one answer, and `span` is less then.
pub(super) async fn logs(
    provider: &RootProvider,
    filter: Filter,
    start: u64,
    last: u64,
    span: &mut u64,
) -> Result<Option<Vec<Log>>, Fault> {
    let filter = filter.from_block(start).to_block(last);
    let alone = last == start;
    match provider.get_logs(&filter).await.map_err(Fault::from) {
        Ok(logs) if alone || u64::try_from(logs.len()).is_ok_and(|count| count < CAP) => {
            *span = span.saturating_mul(2).min(CAP);
            Ok(Some(logs))
        }
        // Every chain has its own words for too much. An answer of just the cap may be cut off.
        Ok(_) | Err(Fault::Refused { .. }) if !alone => {
            *span = (last - start).div_ceil(2);
            Ok(None)
        }
        Ok(_) => Err(Fault::wrong("too many logs")),
        Err(fault) => {
            // It may have been too much to answer in time.
            *span = span.div_ceil(2);
            Err(fault)
        }
    }
}

/// A digest over one more log, whatever the ranges they come in.
fn fold(digest: B256, log: &Log) -> B256 {
    let number = log.block_number.unwrap_or(u64::MAX).to_be_bytes();
    let mut hasher = Keccak256::new();
    hasher.update(digest);
    hasher.update(number);
    hasher.update([u8::from(log.removed), u8::try_from(log.topics().len()).unwrap_or(u8::MAX)]);
    for topic in log.topics() {
        hasher.update(topic);
    }
    hasher.update(keccak256(&log.data().data));
    hasher.finalize()
}

/// The committee of an event, or nothing where the contract took what nobody can work with.
fn usable(epoch: u64, told: Result<Committee, EventError>) -> Result<Option<Arc<Committee>>, Fault> {
    match told {
        Ok(committee) => Ok(Some(Arc::new(committee))),
        Err(EventError::Committee(problem)) => {
            tracing::error!(epoch, %problem, "epoch has a committee that nobody can work with");
            Ok(None)
        }
        // The contract would not have taken it.
        Err(lie) => Err(odd(lie)),
    }
}

/// Events that no contract of ours emits.
#[allow(clippy::needless_pass_by_value, reason = "texts and errors alike are given as they are")]
fn odd(what: impl ToString) -> Fault {
    Fault::Contradicts(what.to_string())
}

async fn has_code(provider: &RootProvider, address: Address, block: u64) -> Result<bool, Fault> {
    let params = (address, format!("{block:#x}"));
    let code: Bytes = provider.raw_request("eth_getCode".into(), params).await?;
    Ok(!code.is_empty())
}

/// The block of a contract's deployment, or an earlier one: endpoints without the state of old blocks cannot say.
async fn deployment(provider: &RootProvider, address: Address, head: u64) -> Result<u64, Fault> {
    let (mut low, mut high) = (0, head);
    while low < high {
        let middle = low + (high - low) / 2;
        match has_code(provider, address, middle).await {
            Ok(true) => high = middle,
            Ok(false) => low = middle + 1,
            Err(Fault::Refused { .. }) => {
                tracing::warn!(from_block = low, "where the contract was deployed cannot be found out");
                break;
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(low)
}
