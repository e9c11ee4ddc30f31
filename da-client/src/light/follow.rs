//! Follows logs: from the anchors of the chain, or checkpoints that enough regions cosigned, to every entry under them.
//!
//! Items are taken a block at a time from whichever replica gives them, and each block is proved to be under the head before
//! it is kept, so a lie costs one block and the memory of one. The client keeps the compact range of all it has seen, so
//! that a head which does not continue that is found out, whoever signed it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::log::{CompactRange, block_len, verify_block};
use meridian_proofs::{Address, B256};
use meridian_proto::MAX_ENTRIES;
use meridian_proto::convert::LogItem;
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use super::record::{Contradiction, Head, LogRecord, Placed, Target, keep_faults};
use super::{LightClient, LightError};
use crate::fetch::{Fault, FaultKind, Reader};
use crate::submit::unix_now;

/// Logs that are followed at a time.
const LOGS: usize = 16;
/// Longest wait for items or a proof.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for a checkpoint.
const ASK: Duration = Duration::from_secs(3);
/// How long a block may take before the next source gets its turn.
const SLOW: Duration = Duration::from_secs(2);
/// Most items in an answer.
const MOST: u64 = MAX_ENTRIES as u64;

/// What is known of a gateway's checkpoints.
enum Certified {
    /// Enough regions cosigned it.
    Checkpoint(Box<CosignedCheckpoint>),
    /// Enough regions answered, and there is none.
    Nothing,
    /// Too few answered.
    Unknown,
}

/// How far a log was followed.
enum Grown {
    /// To the head.
    Reached,
    /// Nobody gives the next entries.
    Lacks(Vec<Fault>),
    /// To the head's size, and not to its root, though each block is under that.
    Contradicts,
}

/// What became of a block of items from one source.
enum Block {
    /// They are under the head, and these are their leaves.
    Proved(Vec<LogItem>, CompactRange),
    /// They do not lead to the head's root, and are not proved one by one: the source lies, or the head does not continue
    /// what was seen before.
    Elsewhere,
}

/// Where logs are said to lead.
pub(super) struct Heads {
    /// The latest anchor of each log, and the longest checkpoint that enough regions cosigned.
    pub(super) logs: BTreeMap<Address, (Option<Head>, Option<Head>)>,
    /// Nobody told how far some log goes.
    pub(super) is_unknown: bool,
}

impl LightClient {
    /// Follows every log to its latest head, as far as replicas give its entries. Says whether all of them got there.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub async fn follow(&self) -> Result<bool, LightError> {
        let heads = self.heads().await?;
        let follows = heads.logs.into_iter().map(|(log, heads)| self.follow_heads(log, heads));
        let outcomes: Vec<Result<bool, LightError>> =
            stream::iter(follows.collect::<Vec<_>>()).buffer_unordered(LOGS).collect().await;
        let mut is_done = !heads.is_unknown;
        for outcome in outcomes {
            is_done &= outcome?;
        }
        Ok(is_done)
    }

    /// The heads of each log now.
    pub(super) async fn heads(&self) -> Result<Heads, LightError> {
        let view = self.readers.view();
        let mut heads = Heads { logs: BTreeMap::new(), is_unknown: false };
        for (log, anchors) in &view.anchors {
            let anchor = anchors.last().map(|anchor| Head {
                size: anchor.size,
                root: anchor.root,
                epoch: anchor.epoch,
                timestamp: anchor.timestamp,
                block: Some(anchor.block),
            });
            heads.logs.insert(*log, (anchor, None));
        }
        if self.settings.checkpoints {
            let open: Vec<_> = view.epochs.open(unix_now()).map(|term| term.committee.clone()).collect();
            let gateways = open.iter().flat_map(|committee| {
                committee.gateways().iter().map(move |gateway| (gateway.address, committee.clone()))
            });
            let asked = gateways.map(|(gateway, committee)| async move {
                (gateway, self.certified(gateway, &committee).await)
            });
            let answers: Vec<_> =
                stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(LOGS).collect().await;
            for (log, certified) in answers {
                match certified {
                    Certified::Checkpoint(checkpoint) => {
                        let signed = checkpoint.signed.checkpoint;
                        let head = Head {
                            size: signed.size,
                            root: signed.root,
                            epoch: signed.epoch,
                            timestamp: signed.timestamp,
                            block: None,
                        };
                        self.keep_checkpoint(*checkpoint).await?;
                        let known = &mut heads.logs.entry(log).or_default().1;
                        if known.is_none_or(|known| known.size < head.size) {
                            *known = Some(head);
                        }
                    }
                    Certified::Nothing => {}
                    Certified::Unknown => heads.is_unknown = true,
                }
            }
        }
        Ok(heads)
    }

    /// The longest checkpoint of a gateway that minCopies regions cosigned, by what the gateway and the replicas show.
    async fn certified(&self, gateway: Address, committee: &Committee) -> Certified {
        let (Some(reader), Some(member)) = (self.readers.of(committee.epoch()), committee.gateway(&gateway))
        else {
            return Certified::Unknown;
        };
        let from_gateway = async {
            let calls = reader.channels().log(&member.endpoint)?.within(ASK);
            calls.checkpoint(gateway).await
        };
        // Which of them are at fault is for those to say who rely on a certificate.
        let mut faults = Vec::new();
        let (from_gateway, (answered, checkpoints)): (Result<_, ApiError>, _) =
            tokio::join!(from_gateway, reader.checkpoints(gateway, &mut faults));
        let shown = from_gateway.ok().flatten().into_iter().chain(checkpoints);
        let certified = shown.filter(|checkpoint| is_certified(checkpoint, committee));
        match certified.max_by_key(|checkpoint| checkpoint.signed.checkpoint.size) {
            Some(checkpoint) => Certified::Checkpoint(Box::new(checkpoint)),
            // As many regions as it takes for a certificate would have to have forgotten it.
            None if committee.complete_regions(&answered).len() >= committee.min_copies() => {
                Certified::Nothing
            }
            None => Certified::Unknown,
        }
    }

    /// Follows a log to its anchor, and from there to its checkpoint. Says whether it leads to both now.
    pub(super) async fn follow_heads(
        &self,
        log: Address,
        (anchor, checkpoint): (Option<Head>, Option<Head>),
    ) -> Result<bool, LightError> {
        let offered: Vec<Head> = [anchor, checkpoint].into_iter().flatten().collect();
        let is_offered =
            |head: &Head| offered.iter().any(|each| (each.size, each.root) == (head.size, head.root));
        let mut record = self.with_state(move |state| state.log(&log)).await?;
        if record.contradiction.is_some_and(|it| !is_offered(&it.head)) {
            // What is said now is another thing.
            record.contradiction = None;
            record.go_back();
        }
        let reached = record.reached.map_or(0, |reached| reached.size);
        let is_left =
            |target: &Target| is_offered(&target.head) || offered.iter().any(|it| it.size > reached);
        if record.target.as_ref().is_some_and(|target| !is_left(target)) {
            record.target = None;
            record.go_back();
        }
        let has_contradiction = record.contradiction.is_some();
        self.keep_log(log, record).await?;
        if has_contradiction {
            return Ok(false);
        }
        for head in offered {
            if !self.follow_log(log, head).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Follows one log. Says whether it leads to the head now.
    async fn follow_log(&self, log: Address, head: Head) -> Result<bool, LightError> {
        let mut record = self.with_state(move |state| state.log(&log)).await?;
        if let Some(reached) = record.reached {
            if (head.size, head.root) == (reached.size, reached.root) {
                // What was a checkpoint may have become an anchor.
                if head.block.is_some() {
                    (record.reached, record.anchored) = (Some(head), Some(head));
                    self.keep_log(log, record).await?;
                }
                return Ok(true);
            }
            if head.size < reached.size {
                return self.follow_back(log, record, reached, head).await;
            }
        }
        if record.size > head.size {
            record.go_back();
        }
        let (since, is_withheld, faults) = match record.target.take() {
            Some(target) => (target.since, target.is_withheld, target.faults),
            None => (unix_now(), false, Vec::new()),
        };
        record.target = Some(Target { head, since, is_withheld, faults });
        self.keep_log(log, record.clone()).await?;
        let is_resumed = record.size > record.reached.map_or(0, |reached| reached.size);
        match self.grow_to(log, &mut record, head).await? {
            Grown::Reached => Ok(true),
            Grown::Lacks(faults) => {
                self.cannot_follow(log, record, &faults).await?;
                Ok(false)
            }
            // What was kept on the way to another head may have been of none.
            Grown::Contradicts if is_resumed => {
                record.go_back();
                self.keep_log(log, record).await?;
                Ok(false)
            }
            Grown::Contradicts => self.contradict(log, record, head).await,
        }
    }

    /// Looks whether an anchor below what was reached is of the same log.
    async fn follow_back(
        &self,
        log: Address,
        mut record: LogRecord,
        reached: Head,
        head: Head,
    ) -> Result<bool, LightError> {
        let is_known = record.anchored.is_some_and(|anchored| anchored.size >= head.size);
        if head.block.is_none() || is_known {
            // A shorter checkpoint tells nothing new.
            return Ok(true);
        }
        let readers: Vec<Reader> =
            self.readers.of(head.epoch).into_iter().chain([self.readers.current()]).collect();
        let is_same =
            self.is_consistent(&readers, log, (head.size, head.root), (reached.size, reached.root)).await;
        if is_same {
            (record.anchored, record.target) = (Some(head), None);
        } else {
            let since = record.target.as_ref().map_or_else(unix_now, |target| target.since);
            record.target = Some(Target { head, since, is_withheld: false, faults: Vec::new() });
        }
        self.keep_log(log, record).await?;
        Ok(is_same)
    }

    /// Takes blocks of a log until it has the size of a head.
    async fn grow_to(&self, log: Address, record: &mut LogRecord, head: Head) -> Result<Grown, LightError> {
        let mut range = CompactRange::from_parts(record.size, record.peaks.clone())
            .map_err(|error| LightError::Damaged(error.to_string()))?;
        let (mut sources, mut faults) = (self.sources(&head), Vec::new());
        // Set once items that were given do not lead to the head: then each block has to be proved by itself.
        let mut by_blocks = false;
        while range.size() < head.size {
            let left = head.size - range.size();
            let count =
                if by_blocks || left > MOST { block_len(range.size(), head.size, MOST) } else { left };
            let begun = Instant::now();
            let block = self.block(log, &head, &range, count, by_blocks, &mut sources, &mut faults).await?;
            match block {
                Some(Block::Proved(items, grown)) => {
                    let expired = items.iter().filter(|item| matches!(item, LogItem::Leaf(_))).count();
                    record.expired += u64::try_from(expired).unwrap_or(u64::MAX);
                    let entries: Vec<Placed> = (range.size()..)
                        .zip(items)
                        .filter_map(|(index, item)| match item {
                            LogItem::Entry(entry) => Some((index, entry)),
                            LogItem::Leaf(_) => None,
                        })
                        .collect();
                    range = grown;
                    (record.size, record.peaks) = (range.size(), range.peaks().to_vec());
                    if range.size() == head.size && range.root() == head.root {
                        record.reach(head);
                    } else if let Some(target) = &mut record.target {
                        (target.since, target.is_withheld) = (unix_now(), false);
                    }
                    let saved = record.clone();
                    self.with_state(move |state| state.grow(&log, &saved, &entries, unix_now())).await?;
                    self.wake.notify_one();
                }
                Some(Block::Elsewhere) => by_blocks = true,
                None => return Ok(Grown::Lacks(faults)),
            }
            if begun.elapsed() > SLOW && sources.len() > 1 {
                // Right and slow: it is the next one's turn.
                sources.rotate_left(1);
            }
        }
        for fault in &faults {
            tracing::info!(%log, seat = %fault.seat, what = fault.what, "another replica gave the log");
        }
        // Where each block is under the head and all of them are not, what was seen before is not.
        Ok(if range.root() == head.root { Grown::Reached } else { Grown::Contradicts })
    }

    async fn keep_log(&self, log: Address, record: LogRecord) -> Result<(), LightError> {
        self.with_state(move |state| {
            if state.log(&log)? == record {
                return Ok(());
            }
            state.grow(&log, &record, &[], unix_now())
        })
        .await
    }

    /// The next block of a log from the first source that gives it; nothing when nobody does.
    #[allow(clippy::too_many_arguments, reason = "where a log stands")]
    async fn block(
        &self,
        log: Address,
        head: &Head,
        range: &CompactRange,
        count: u64,
        by_blocks: bool,
        sources: &mut Vec<(Reader, Seat)>,
        faults: &mut Vec<Fault>,
    ) -> Result<Option<Block>, LightError> {
        while let Some((reader, seat)) = sources.first().cloned() {
            match self.block_from(&reader, &seat, log, head, range, count, by_blocks).await? {
                Ok(block) => return Ok(Some(block)),
                Err(fault) => {
                    if fault.kind != FaultKind::Missing {
                        reader.nearest().failed(seat.address);
                    }
                    fault.report();
                    faults.push(fault);
                    sources.remove(0);
                }
            }
        }
        Ok(None)
    }

    #[allow(clippy::too_many_arguments, reason = "where a log stands")]
    async fn block_from(
        &self,
        reader: &Reader,
        seat: &Seat,
        log: Address,
        head: &Head,
        range: &CompactRange,
        count: u64,
        by_blocks: bool,
    ) -> Result<Result<Block, Fault>, LightError> {
        let start = range.size();
        let is_last = start + count == head.size && !by_blocks;
        let call = async {
            let calls = reader.channels().log(&seat.endpoint)?.within(DEADLINE);
            let items = calls.entries(log, start, count).await?;
            let path = if is_last { Vec::new() } else { calls.inclusion(log, start, head.size).await?.path };
            Ok::<_, ApiError>((items, path))
        };
        let (items, path) = match call.await {
            Ok(answer) => answer,
            // It may only be behind.
            Err(error) if error.reason == Reason::RangeInvalid => {
                return Ok(Err(Fault { kind: FaultKind::Missing, ..Fault::of(seat, &error) }));
            }
            Err(error) => return Ok(Err(Fault::of(seat, &error))),
        };
        if u64::try_from(items.len()) != Ok(count) {
            let fault = Fault::wrong(seat, "items of the log are missing");
            return Ok(Err(Fault { kind: FaultKind::Missing, ..fault }));
        }
        let latest = self.latest_expiry(head);
        if unix_now() < latest && items.iter().any(|item| matches!(item, LogItem::Leaf(_))) {
            let fault = Fault::wrong(seat, "entries of the log that may not have expired are held back");
            return Ok(Err(Fault { kind: FaultKind::Missing, ..fault }));
        }
        let (range, head) = (range.clone(), *head);
        let work = move || {
            let leaves: Vec<B256> = items.iter().map(LogItem::leaf).collect();
            let mut grown = range;
            leaves.iter().for_each(|leaf| drop(grown.append(*leaf)));
            if is_last {
                return Ok(if grown.root() == head.root {
                    Block::Proved(items, grown)
                } else {
                    Block::Elsewhere
                });
            }
            match verify_block(&leaves, start, head.size, &path, &head.root) {
                Ok(()) => Ok(Block::Proved(items, grown)),
                Err(error) => Err(format!("items of the log are not under its head: {error}")),
            }
        };
        let checked = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| LightError::Internal(error.to_string()))?;
        Ok(checked.map_err(|what| Fault::wrong(seat, what)))
    }

    /// Until when an entry under a head may have to be kept, whatever it says.
    fn latest_expiry(&self, head: &Head) -> u64 {
        let view = self.readers.view();
        let terms = view.epochs.terms().iter().filter(|term| term.committee.epoch() <= head.epoch);
        let longest = terms.map(|term| term.committee.max_retention()).max().unwrap_or(u64::MAX);
        head.timestamp.saturating_add(longest)
    }

    /// Who is asked for the entries of a log: replicas of the head's epoch and of the current one, nearest first.
    fn sources(&self, head: &Head) -> Vec<(Reader, Seat)> {
        let (mut seen, mut sources) = (BTreeSet::new(), Vec::new());
        for reader in self.readers.of(head.epoch).into_iter().chain([self.readers.current()]) {
            for region in reader.nearest().regions(reader.committee(), 0, |_| Duration::ZERO) {
                for seat in reader.nearest().seats(reader.committee(), region, 0) {
                    if seen.insert(seat.address) {
                        sources.push((reader.clone(), seat));
                    }
                }
            }
        }
        sources
    }

    /// Nobody gives the entries that lead to a head.
    async fn cannot_follow(
        &self,
        log: Address,
        mut record: LogRecord,
        faults: &[Fault],
    ) -> Result<(), LightError> {
        let now = unix_now();
        if let Some(target) = &mut record.target {
            let waited = now.saturating_sub(target.since.max(self.started));
            target.is_withheld = waited >= self.settings.patience.as_secs();
            keep_faults(&mut target.faults, faults, now);
            let (size, reached) = (target.head.size, record.size);
            tracing::warn!(%log, size, reached, withheld = target.is_withheld, "nobody gives the entries of a log");
        }
        self.keep_log(log, record).await
    }

    /// A head does not continue what was seen before. The log is not followed any further.
    async fn contradict(&self, log: Address, mut record: LogRecord, head: Head) -> Result<bool, LightError> {
        let before = record.reached.unwrap_or(Head { size: 0, ..head });
        tracing::error!(%log, before = before.size, head = head.size, "a log contradicts what was seen of it before");
        record.contradiction = Some(Contradiction { before, head, found: unix_now() });
        record.target = None;
        self.keep_log(log, record).await?;
        Ok(false)
    }
}

/// Whether enough regions cosigned a checkpoint that its gateway signed.
fn is_certified(checkpoint: &CosignedCheckpoint, committee: &Committee) -> bool {
    let domain = committee.domain();
    let is_of_epoch = checkpoint.signed.checkpoint.epoch == committee.epoch();
    let is_short = checkpoint.cosignatures.len() <= committee.seats().len();
    is_of_epoch
        && is_short
        && checkpoint.signed.verify(&domain).is_ok()
        && checkpoint
            .signers(&domain)
            .is_ok_and(|signers| committee.complete_regions(&signers).len() >= committee.min_copies())
}
