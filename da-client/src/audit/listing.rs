//! Which entries are to be audited: from the logs, under roots that are anchored or certified.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use meridian_proofs::committee::Seat;
use meridian_proofs::committee::epochs::Term;
use meridian_proofs::log::LogEntry;
use meridian_proofs::{Address, B256};
use meridian_proto::convert::LogItem;

use super::marks::{Certified, Mark, Marks, certified};
use super::tally::printable;
use super::{AuditError, LogAudit, Wanted};
use crate::Progress;
use crate::chain::view::{Anchor, View};
use crate::fetch::{Fault, Readers};
use crate::logs::{LogError, LogNode, Walk};
use crate::rpc::Channels;

/// Nodes that are asked for their logs at once.
const AT_ONCE: usize = 16;

/// Longest wait for a certificate.
const DEADLINE: Duration = Duration::from_secs(5);

/// Most entries of an audit.
pub const MAX_AUDITED: usize = 100_000;

/// An entry that is proved to be in its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Address of the gateway whose log it is.
    pub log: Address,
    /// Its place there, from 0.
    pub index: u64,
    /// The entry.
    pub entry: LogEntry,
    /// Whether it is under an anchor, and not only under what enough regions cosigned.
    pub is_anchored: bool,
}

/// What is to be audited.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) logs: Vec<LogAudit>,
    /// By log and index.
    pub(super) entries: Vec<Listed>,
    pub(super) marks: Marks,
    pub(super) faults: Vec<Fault>,
}

/// A node, and its seat unless it is a gateway.
struct Source {
    node: LogNode,
    seat: Option<Seat>,
}

/// What a log should be.
struct Expected {
    marks: Vec<Mark>,
    claimed: Option<Certified>,
    anchor: Option<Anchor>,
    /// Entries that are gone through.
    target: u64,
}

/// What a log is.
struct Found<'a> {
    entries: BTreeMap<u64, LogEntry>,
    roots: BTreeMap<u64, B256>,
    passes: Vec<Pass<'a>>,
}

/// One way through a log.
struct Pass<'a> {
    /// Of the node; nothing where it is a gateway.
    seat: Option<&'a Seat>,
    /// Items of which the node gives only the hash, though they may be wanted.
    hidden: Vec<Range<u64>>,
    /// How many of them were certainly not expired.
    withheld: u64,
}

impl Expected {
    /// The sizes at which there is a root to compare with.
    fn sizes(&self) -> BTreeSet<u64> {
        let sizes = self.marks.iter().map(|mark| mark.checkpoint.size).filter(|size| *size < self.target);
        sizes.chain(self.anchor.map(|anchor| anchor.size)).chain([self.target]).collect()
    }

    /// No entry is younger; unix seconds.
    fn timestamp(&self) -> u64 {
        let timestamps = self.marks.iter().map(|mark| mark.checkpoint.timestamp);
        timestamps.chain(self.anchor.map(|anchor| anchor.timestamp)).max().unwrap_or(0)
    }
}

/// The epochs whose blobs may still be kept.
pub(super) fn kept(view: &View, now: u64) -> impl Iterator<Item = &Term> {
    view.epochs.terms().iter().filter(move |term| {
        let longest = term.committee.max_retention();
        let is_kept = term.closes.is_none_or(|closes| now < closes.saturating_add(longest));
        is_kept && term.activation <= now
    })
}

/// Finds the wanted entries of all logs.
pub(super) async fn list(
    readers: &Readers,
    wanted: &Wanted,
    progress: &dyn Progress,
) -> Result<Listing, AuditError> {
    let view = readers.view();
    let mut listing = Listing::default();
    let sources = sources(readers, &view, wanted, &mut listing.faults).await;
    let logs: BTreeSet<Address> = match wanted.log {
        Some(log) => BTreeSet::from([log]),
        None => {
            let gateways = kept(&view, wanted.now).flat_map(|term| term.committee.gateways());
            gateways.map(|gateway| gateway.address).collect()
        }
    };
    for log in logs {
        let reading = Reading { log, view: &view, sources: &sources, wanted };
        reading.add_to(&mut listing, readers.current().channels(), progress).await?;
        if listing.entries.len() > MAX_AUDITED {
            return Err(AuditError::TooMany);
        }
    }
    Ok(listing)
}

/// Everybody who serves logs, replicas first and the nearest region first among them.
async fn sources(readers: &Readers, view: &View, wanted: &Wanted, faults: &mut Vec<Fault>) -> Vec<Source> {
    let current = readers.current();
    let (channels, domain) = (current.channels(), current.committee().domain());
    // A seat that is there in several epochs is asked where it answers now.
    let (mut seats, mut gateways) = (BTreeMap::new(), BTreeMap::new());
    for term in kept(view, wanted.now) {
        seats.extend(term.committee.seats().iter().map(|seat| (seat.address, seat.clone())));
        gateways.extend(term.committee.gateways().iter().map(|it| (it.address, it.endpoint.clone())));
    }
    let near = current.nearest().regions(current.committee(), 0, |_| Duration::ZERO);
    let rank = |seat: &Seat| near.iter().position(|region| *region == seat.region).unwrap_or(usize::MAX);
    let mut seats: Vec<Seat> = seats.into_values().collect();
    seats.sort_by_key(|seat| (rank(seat), seat.region, seat.number));
    let seats = seats.into_iter().map(|seat| (seat.endpoint.clone(), Some(seat)));
    let asked = seats.chain(gateways.into_values().map(|endpoint| (endpoint, None)));
    let answers = stream::iter(asked)
        .map(|(endpoint, seat)| async move { (LogNode::open(channels, &endpoint, &domain).await, seat) });
    let answers: Vec<_> = answers.buffered(AT_ONCE).collect().await;
    let mut sources = Vec::new();
    for (answer, seat) in answers {
        match answer {
            Ok(node) => sources.push(Source { node, seat }),
            Err(error) => faults.extend(seat.map(|seat| blame(&seat, &error))),
        }
    }
    sources
}

fn blame(seat: &Seat, error: &LogError) -> Fault {
    match error {
        LogError::Call(error) => Fault::of(seat, error),
        LogError::Invalid(what) => Fault::wrong(seat, what),
    }
}

/// A log that is read.
struct Reading<'a> {
    log: Address,
    view: &'a View,
    sources: &'a [Source],
    wanted: &'a Wanted,
}

impl Reading<'_> {
    async fn add_to(
        &self,
        listing: &mut Listing,
        channels: &Channels,
        progress: &dyn Progress,
    ) -> Result<(), AuditError> {
        let marks: Vec<Mark> = self.marks().collect();
        let claimed = certified(&marks, &self.view.epochs);
        let anchor = self.view.latest_anchor(&self.log).copied();
        let anchored = anchor.map_or(0, |anchor| anchor.size);
        let target = claimed.as_ref().map_or(0, |it| it.size).max(anchored);
        let mut audit = LogAudit::new(self.log, anchor);
        if target == 0 {
            listing.logs.push(audit);
            return Ok(());
        }
        let expected = Expected { marks, claimed, anchor, target };
        let Found { mut entries, roots, passes } =
            self.read(&expected, &mut audit, &mut listing.faults, progress).await?;
        if passes.is_empty() {
            audit.problems.push(format!("nobody serves its {target} entries"));
            listing.logs.push(audit);
            return Ok(());
        }
        listing.faults.extend(self.hiders(&passes, &entries));
        let left = |pass: &Pass<'_>| {
            pass.hidden.iter().cloned().flatten().filter(|index| !entries.contains_key(index)).count()
        };
        audit.hidden = passes.iter().map(left).min().unwrap_or(0);
        audit.withheld = passes.iter().map(|pass| pass.withheld).min().unwrap_or(0);

        let root = roots.get(&target).copied().unwrap_or_default();
        let fitting = self.fitting(expected.marks, &roots, target, &root, &mut audit).await;
        fitting.iter().for_each(|mark| listing.marks.add(mark));
        audit.certified = certified(&fitting, &self.view.epochs);
        let sure = audit.certified.as_ref().map_or(0, |certified| certified.size).max(anchored);
        if sure < target {
            audit.problems.push(format!("too few regions cosigned its entries from {sure} to {target}"));
            entries.retain(|index, _| *index < sure);
        }
        (audit.size, audit.root, audit.entries) = (target, root, entries.len());
        let log = self.log;
        listing.entries.extend(entries.into_iter().map(|(index, entry)| Listed {
            log,
            index,
            entry,
            is_anchored: index < anchored,
        }));
        self.add_certificates(listing, channels, target, &root).await;
        listing.logs.push(audit);
        Ok(())
    }

    /// Goes through the log at one node of each region, until nothing that is wanted is hidden.
    async fn read<'a>(
        &'a self,
        expected: &Expected,
        audit: &mut LogAudit,
        faults: &mut Vec<Fault>,
        progress: &dyn Progress,
    ) -> Result<Found<'a>, AuditError> {
        let (sizes, timestamp) = (expected.sizes(), expected.timestamp());
        let mut found = Found { entries: BTreeMap::new(), roots: BTreeMap::new(), passes: Vec::new() };
        let mut regions = BTreeSet::new();
        // Some serve more than they cosigned, and are not to blame where they do not.
        let serves = |source: &&Source| self.serves(source, expected.target);
        let (sure, others): (Vec<_>, Vec<_>) = self.sources.iter().partition(serves);
        for source in sure.into_iter().chain(others) {
            let region = source.seat.as_ref().map(|seat| seat.region);
            if regions.contains(&region) {
                continue;
            }
            let read = match self.pass(source, &sizes, timestamp, progress).await {
                Err(_) if !serves(&source) => continue,
                read => read,
            };
            let read = read.and_then(|(walk, entries, pass)| match self.lie(&walk.roots, expected) {
                Some(lie) => Err(LogError::Invalid(lie)),
                None => Ok((walk, entries, pass)),
            });
            let (walk, entries, pass) = match read {
                Ok(read) => read,
                Err(error) => {
                    match &source.seat {
                        Some(seat) => faults.push(blame(seat, &error)),
                        None => {
                            let problem = format!("gateway at {}: {error}", source.node.endpoint());
                            audit.problems.push(printable(&problem));
                        }
                    }
                    continue;
                }
            };
            if found.passes.is_empty() {
                audit.from = Some(source.node.endpoint().to_owned());
                let disorder =
                    walk.disorder.map(|index| format!("the time of entry {index} is out of order"));
                audit.problems.extend(disorder);
            }
            found.roots = walk.roots;
            found.entries.extend(entries);
            if found.entries.len() > MAX_AUDITED {
                return Err(AuditError::TooMany);
            }
            regions.insert(region);
            let is_done = pass.hidden.is_empty() || (self.wanted.blob.is_some() && !found.entries.is_empty());
            found.passes.push(pass);
            if is_done {
                break;
            }
        }
        Ok(found)
    }

    /// What nodes know of the log.
    fn marks(&self) -> impl Iterator<Item = Mark> {
        let known = |(node, source): (usize, &Source)| {
            let logs = source.node.logs();
            let known = logs.iter().find(|known| known.signed.checkpoint.gateway == self.log)?;
            Mark::of(known, &self.view.epochs, node)
        };
        self.sources.iter().enumerate().filter_map(known)
    }

    /// Whether a node has so many entries by its own words.
    fn serves(&self, source: &Source, size: u64) -> bool {
        let logs = source.node.logs().iter().map(|known| known.signed.checkpoint);
        logs.clone().any(|checkpoint| checkpoint.gateway == self.log && checkpoint.size >= size)
    }

    /// Goes through the log at a node. Gives the entries that are wanted beside.
    async fn pass<'a>(
        &self,
        source: &'a Source,
        sizes: &BTreeSet<u64>,
        timestamp: u64,
        progress: &dyn Progress,
    ) -> Result<(Walk, BTreeMap<u64, LogEntry>, Pass<'a>), LogError> {
        let Wanted { now, since, blob, .. } = *self.wanted;
        let shortest = kept(self.view, now).map(|term| term.committee.min_retention()).min().unwrap_or(0);
        let longest = kept(self.view, now).map(|term| term.committee.max_retention()).max().unwrap_or(0);
        let must_be_kept = blob.is_none() && since.saturating_add(shortest) > now;
        let (mut found, mut hidden, mut withheld) = (BTreeMap::new(), Vec::<Range<u64>>::new(), 0);
        let mut is_within = false;
        let keep = |index: u64, item: &LogItem| match item {
            LogItem::Entry(entry) if entry.time < since || entry.time.saturating_add(longest) <= now => {
                // What comes before it is older.
                hidden.clear();
            }
            LogItem::Entry(entry) => {
                is_within = true;
                let is_wanted = entry.expiry > now && blob.is_none_or(|blob| entry.blob_id == blob);
                if is_wanted && found.len() <= MAX_AUDITED {
                    found.insert(index, *entry);
                }
            }
            LogItem::Leaf(_) => {
                withheld += u64::from(is_within && must_be_kept);
                match hidden.last_mut().filter(|last| last.end == index) {
                    Some(last) => last.end = index + 1,
                    None => hidden.push(index..index + 1),
                }
            }
        };
        let walk = source.node.walk(self.log, sizes, timestamp, progress, keep).await?;
        Ok((walk, found, Pass { seat: source.seat.as_ref(), hidden, withheld }))
    }

    /// What is wrong with the roots that a node's entries lead to, by the anchor and by what enough regions cosigned.
    fn lie(&self, roots: &BTreeMap<u64, B256>, expected: &Expected) -> Option<String> {
        let Expected { marks, claimed, anchor, .. } = expected;
        if let Some(anchor) = anchor
            && roots.get(&anchor.size) != Some(&anchor.root)
        {
            return Some(format!(
                "the entries of log {} do not lead to its anchored root {}",
                self.log, anchor.root
            ));
        }
        let claimed = claimed.as_ref()?;
        let fits =
            |mark: &&Mark| roots.get(&mark.checkpoint.size).is_none_or(|root| *root == mark.checkpoint.root);
        let fitting = certified(marks.iter().filter(fits), &self.view.epochs);
        fitting.is_none_or(|fitting| fitting.size < claimed.size).then(|| {
            format!(
                "the entries of log {} do not lead to the roots that {} regions cosigned",
                self.log,
                claimed.regions.len()
            )
        })
    }

    /// Seats that give only the hashes of entries that others have, and that they have to keep.
    fn hiders(&self, passes: &[Pass<'_>], found: &BTreeMap<u64, LogEntry>) -> Vec<Fault> {
        let fault = |pass: &Pass<'_>| {
            let seat = pass.seat?;
            let owes = |entry: &LogEntry| {
                let committee = self.view.epochs.committee(entry.epoch);
                committee.is_some_and(|committee| committee.seat(&seat.address).is_some())
            };
            let ranges = pass.hidden.iter().flat_map(|range| found.range(range.clone()));
            let count = ranges.filter(|(_, entry)| owes(entry)).count();
            let what = || format!("gives only the hashes of {count} entries of log {}", self.log);
            (count > 0).then(|| Fault::missing(seat, what()))
        };
        passes.iter().filter_map(fault).collect()
    }

    /// The checkpoints that are of this log, and not of another one under the same gateway's name.
    async fn fitting(
        &self,
        marks: Vec<Mark>,
        roots: &BTreeMap<u64, B256>,
        size: u64,
        root: &B256,
        audit: &mut LogAudit,
    ) -> Vec<Mark> {
        let mut fitting = Vec::new();
        for mark in marks {
            let (own_size, own_root) = (mark.checkpoint.size, mark.checkpoint.root);
            let fits = match roots.get(&own_size) {
                Some(root) => *root == own_root,
                // The log grows all the time.
                None => {
                    let rpc = self.sources.get(mark.node).map(|source| source.node.rpc());
                    let proof = match rpc {
                        Some(rpc) => rpc.consistency(self.log, size, own_size).await.ok(),
                        None => None,
                    };
                    let Some(proof) = proof else { continue };
                    mark.agrees(size, root, &proof)
                }
            };
            if fits {
                fitting.push(mark);
            } else {
                audit.problems.push(format!(
                    "its gateway signed another log as well: root {own_root} at {own_size} entries, which {} cosigned",
                    if mark.seats.is_empty() { "nobody".to_owned() } else { join(&mark.seats) }
                ));
            }
        }
        fitting
    }

    /// Adds what gateways know of who cosigned: nodes keep only their latest checkpoints, gateways also the closings of
    /// epochs that are over.
    async fn add_certificates(&self, listing: &mut Listing, channels: &Channels, size: u64, root: &B256) {
        let mut last: BTreeMap<u64, Listed> = BTreeMap::new();
        let of_log = listing.entries.iter().filter(|listed| listed.log == self.log);
        last.extend(of_log.map(|listed| (listed.entry.epoch, *listed)));
        for (epoch, Listed { index, entry, .. }) in last {
            let Some(committee) = self.view.epochs.committee(epoch) else { continue };
            let has = |seat: &Seat| listing.marks.has(self.log, epoch, seat.address, index);
            if committee.seats().iter().all(has) {
                continue;
            }
            let latest = self.view.epochs.terms().iter().rev();
            let mut endpoints = latest.filter_map(|term| term.committee.gateway(&self.log));
            let Some(endpoint) = endpoints.next().map(|gateway| &gateway.endpoint) else { continue };
            let asked = async {
                let rpc = channels.gateway(endpoint)?.within(DEADLINE);
                rpc.certificate(entry.blob_id, Some(entry.namespace)).await
            };
            let Ok(certificate) = asked.await else { continue };
            let (Ok(_), Some(mark)) = (
                certificate.verify(committee),
                Mark::of(&certificate.checkpoint, &self.view.epochs, usize::MAX),
            ) else {
                continue;
            };
            if mark.checkpoint.gateway == self.log && self.is_of_log(&mark, size, root).await {
                listing.marks.add(&mark);
            }
        }
    }

    /// Whether a checkpoint is of the same log as a root, by the proof of any node.
    async fn is_of_log(&self, mark: &Mark, size: u64, root: &B256) -> bool {
        let own_size = mark.checkpoint.size;
        if own_size == size {
            return mark.agrees(size, root, &[]);
        }
        let (old, new) = (own_size.min(size), own_size.max(size));
        for source in self.sources.iter().filter(|source| self.serves(source, new)) {
            if let Ok(proof) = source.node.rpc().consistency(self.log, old, new).await
                && mark.agrees(size, root, &proof)
            {
                return true;
            }
        }
        false
    }
}

fn join(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
