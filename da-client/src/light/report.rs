//! What a light client tells: over HTTP, and what `da light` prints.

use std::collections::BTreeMap;

use meridian_proofs::Address;
use meridian_proofs::committee::epochs::Epochs;
use meridian_proofs::ids::BlobId;

use super::record::{BlobRecord, FaultRecord, Head, LogRecord, Standing};
use super::statement::Combined;
use super::{LightClient, LightError};
use crate::cli::schema::report;
use crate::submit::unix_now;

/// Blobs in trouble that a status names.
const NAMED: usize = 20;

report! {
    /// What `da light --once` and `da light status` print.
    LightReport {
        /// Version of the light client.
        version: String,
        /// Chain id of the network, 0 without a chain.
        chain_id: u64,
        /// Its contract, the zero address without a chain.
        contract: String,
        /// The settled block up to which the chain was read; null without a chain.
        block: Option<u64>,
        /// Its unix seconds.
        block_timestamp: Option<u64>,
        /// Rows that are drawn of each blob.
        samples: usize,
        /// Seconds after which what nobody gives is called withheld.
        patience_s: u64,
        /// One line on what may be concluded.
        verdict: String,
        /// Blobs by how they stand, of all that were ever seen.
        blobs: LightCounts,
        /// The logs.
        logs: Vec<LightLogReport>,
        /// Blobs that are withheld or inconsistent, at most 20 of them.
        trouble: Vec<LightBlobReport>,
        /// Gateways against which there is evidence, by the name of its file in the state's folder.
        evidence: Vec<String>,
    }
}

report! {
    /// Blobs by how they stand.
    LightCounts {
        /// Not all samples are in yet.
        pending: u64,
        /// Samples are missing for longer than patience lasts.
        withheld: u64,
        /// All samples verified.
        sampled: u64,
        /// All of it was fetched, encoded again and compared.
        exact: u64,
        /// Certain: nobody has a payload of it.
        inconsistent: u64,
        /// Expired before the samples were in.
        missed: u64,
    }
}

report! {
    /// A log.
    LightLogReport {
        /// Address of the gateway whose log it is.
        log: String,
        /// followed, behind, withheld (nobody gives entries of an anchored range), or contradicts (its head does not continue what was seen before).
        state: String,
        /// Items that were proved to be under a head.
        size: u64,
        /// Items under the latest head.
        head_size: u64,
        /// Root of the latest head.
        head_root: Option<String>,
        /// Epoch of the latest head.
        epoch: Option<u64>,
        /// Unix seconds of the latest head.
        timestamp: Option<u64>,
        /// Block of its anchor; null for a checkpoint that is not anchored.
        block: Option<u64>,
        /// Unix seconds since when entries are missing.
        since: Option<u64>,
        /// Items of which nobody keeps the entry, because it has expired for certain.
        expired: u64,
        /// Size and root that a contradicting head does not continue.
        before: Option<LightHeadReport>,
        /// Who did not give the missing entries, and why.
        faults: Vec<LightFaultReport>,
    }
}

report! {
    /// The state of a log at one moment.
    LightHeadReport {
        /// Entries.
        size: u64,
        /// Root.
        root: String,
        /// Epoch.
        epoch: u64,
        /// Unix seconds.
        timestamp: u64,
        /// Block of its anchor.
        block: Option<u64>,
    }
}

report! {
    /// What a replica did instead of answering rightly.
    LightFaultReport {
        /// Address of the seat.
        replica: String,
        /// Label of its region.
        region: String,
        /// silent, missing or wrong.
        kind: String,
        /// What happened.
        message: String,
        /// Unix seconds.
        at: u64,
    }
}

report! {
    /// A blob.
    LightBlobReport {
        /// Its id.
        blob_id: String,
        /// pending, withheld, sampled, exact, inconsistent or missed.
        standing: String,
        /// Address of the gateway whose log was the first seen to name it.
        log: String,
        /// Index of that entry.
        index: u64,
        /// Epoch of the committee that holds its rows.
        epoch: u64,
        /// Bytes of the payload.
        length: u64,
        /// When it expires, in unix seconds.
        expiry: u64,
        /// When it was first seen, in unix seconds.
        noted: u64,
        /// When it was first asked for, in unix seconds.
        asked: Option<u64>,
        /// When it was settled, in unix seconds.
        settled: Option<u64>,
        /// How often it was asked for.
        tries: u32,
        /// K.
        data_rows: usize,
        /// T.
        total_rows: usize,
        /// s: rows that were drawn; 0 where all of it is checked.
        drawn: usize,
        /// v: those of them that verified.
        verified: usize,
        /// Indices of rows that were asked for and are not in.
        missing: Vec<u32>,
        /// So likely at most would v of s have verified, were fewer than K rows to be had.
        bound_unavailable: f64,
        /// So likely at most would v of s have verified, were the blob badly encoded and nobody honest had a copy.
        bound_misencoded: f64,
        /// How many such clients an adversary fools at least who answers K-1 distinct rows and no more.
        clients_fooled: u64,
        /// A replica said that it has proof that the blob is no codeword.
        suspect: bool,
        /// Why the last try was in vain.
        problem: Option<String>,
        /// What replicas did instead of answering rightly.
        faults: Vec<LightFaultReport>,
    }
}

report! {
    /// Some of the blobs.
    LightBlobsReport {
        /// The blobs, by id.
        blobs: Vec<LightBlobReport>,
        /// Ask again with after=ID for more; null at the end.
        next: Option<String>,
    }
}

report! {
    /// What may be said of a range of a log.
    LightRangeReport {
        /// Address of the gateway whose log it is.
        log: String,
        /// Index of the first entry.
        from: u64,
        /// Index after the last.
        to: u64,
        /// Blobs by how they stand; one that is named twice counts twice.
        blobs: LightCounts,
        /// Entries of which nothing is known: forgotten, expired before they were seen, not followed to, or of no possible blob.
        unknown: u64,
        /// Were one blob of the range unavailable, whichever an adversary chose, so likely at most would all samples have verified; null while a sample is missing or an entry unknown.
        bound_unavailable: Option<f64>,
        /// The same for one that is badly encoded.
        bound_misencoded: Option<f64>,
        /// How many such clients an adversary fools at least who answers K-1 rows of the blob with the most.
        clients_fooled: Option<u64>,
    }
}

impl LightCounts {
    fn of(count: impl Fn(Standing) -> u64) -> Self {
        Self {
            pending: count(Standing::Pending),
            withheld: count(Standing::Withheld),
            sampled: count(Standing::Sampled),
            exact: count(Standing::Exact),
            inconsistent: count(Standing::Inconsistent),
            missed: count(Standing::Missed),
        }
    }
}

impl From<Head> for LightHeadReport {
    fn from(head: Head) -> Self {
        let Head { size, root, epoch, timestamp, block } = head;
        Self { size, root: root.to_string(), epoch, timestamp, block }
    }
}

/// Faults with the labels that regions have in an epoch.
fn faults(epochs: &Epochs, epoch: u64, faults: &[FaultRecord]) -> Vec<LightFaultReport> {
    let committee = epochs.committee(epoch).or_else(|| epochs.terms().last().map(|term| &term.committee));
    let label = |region: u16| {
        let region = meridian_proofs::committee::RegionId(region);
        let known = committee.and_then(|committee| committee.region(region));
        known.map_or_else(|| region.to_string(), |known| known.label.clone())
    };
    let report = |fault: &FaultRecord| LightFaultReport {
        replica: fault.seat.to_string(),
        region: label(fault.region),
        kind: fault.kind.clone(),
        message: fault.what.clone(),
        at: fault.at,
    };
    faults.iter().map(report).collect()
}

impl LightLogReport {
    fn of(epochs: &Epochs, log: &Address, record: &LogRecord) -> Self {
        let head = match (&record.contradiction, &record.target) {
            (Some(contradiction), _) => Some(contradiction.head),
            (None, Some(target)) => Some(target.head),
            (None, None) => record.reached,
        };
        let state = match (&record.contradiction, &record.target) {
            (Some(_), _) => "contradicts",
            (None, Some(target)) if target.is_withheld => "withheld",
            (None, Some(_)) => "behind",
            (None, None) => "followed",
        };
        let missing = record.target.as_ref().filter(|_| record.contradiction.is_none());
        Self {
            log: log.to_string(),
            state: state.to_owned(),
            size: record.size,
            head_size: head.map_or(0, |head| head.size),
            head_root: head.map(|head| head.root.to_string()),
            epoch: head.map(|head| head.epoch),
            timestamp: head.map(|head| head.timestamp),
            block: head.and_then(|head| head.block),
            since: missing.map(|target| target.since),
            expired: record.expired,
            before: record.contradiction.map(|contradiction| contradiction.before.into()),
            faults: missing.map_or_else(Vec::new, |target| {
                faults(epochs, head.map_or(0, |head| head.epoch), &target.faults)
            }),
        }
    }
}

impl LightBlobReport {
    fn of(epochs: &Epochs, id: &BlobId, record: &BlobRecord) -> Self {
        let (shape, bounds) = (record.shape(), record.bounds());
        Self {
            blob_id: id.to_string(),
            standing: record.standing.as_str().to_owned(),
            log: record.log.to_string(),
            index: record.index,
            epoch: record.epoch,
            length: record.length.into(),
            expiry: record.expiry,
            noted: record.noted,
            asked: record.asked,
            settled: record.settled,
            tries: record.tries,
            data_rows: shape.data_rows(),
            total_rows: shape.total_rows(),
            drawn: record.draw.len(),
            verified: record.verified.len(),
            // What nobody was asked for stays private.
            missing: record.missing().into_iter().filter(|row| record.requested.contains(row)).collect(),
            bound_unavailable: bounds.unavailable,
            bound_misencoded: bounds.misencoded,
            clients_fooled: bounds.clients_fooled,
            suspect: record.suspect,
            problem: record.problem.clone(),
            faults: faults(epochs, record.epoch, &record.faults),
        }
    }
}

impl LightClient {
    /// What there is to say of all.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn report(&self) -> Result<LightReport, LightError> {
        let view = self.readers.view();
        let domain = view.epochs.latest().committee.domain();
        let (logs, counts, trouble) =
            self.with_state(|state| Ok((state.logs()?, state.counts()?, state.trouble(NAMED)?))).await?;
        let counts = LightCounts::of(|standing| counts.get(&standing).copied().unwrap_or(0));
        let logs: Vec<_> =
            logs.iter().map(|(log, record)| LightLogReport::of(&view.epochs, log, record)).collect();
        Ok(LightReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            chain_id: domain.chain_id,
            contract: domain.verifying_contract.to_string(),
            block: view.head.map(|head| head.number),
            block_timestamp: view.head.map(|head| head.timestamp),
            samples: self.settings.samples,
            patience_s: self.settings.patience.as_secs(),
            verdict: verdict(&counts, &logs),
            blobs: counts,
            logs,
            trouble: trouble
                .iter()
                .map(|(id, record)| LightBlobReport::of(&view.epochs, id, record))
                .collect(),
            evidence: self.evidence_files().await?,
        })
    }

    /// What there is to say of a blob; nothing of one that no followed log names.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn blob_report(&self, id: BlobId) -> Result<Option<LightBlobReport>, LightError> {
        let view = self.readers.view();
        let record = self.with_state(move |state| state.blob(&id)).await?;
        Ok(record.map(|record| LightBlobReport::of(&view.epochs, &id, &record)))
    }

    /// Blobs by id, from after one on, of those that stand in one of some ways.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn blobs_report(
        &self,
        after: Option<BlobId>,
        standings: Vec<Standing>,
        most: usize,
    ) -> Result<LightBlobsReport, LightError> {
        const LOOK: usize = 100_000;
        let view = self.readers.view();
        let (blobs, next) = self.with_state(move |state| state.blobs(after, &standings, most, LOOK)).await?;
        let blobs = blobs.iter().map(|(id, record)| LightBlobReport::of(&view.epochs, id, record)).collect();
        Ok(LightBlobsReport { blobs, next: next.map(|id| id.to_string()) })
    }

    /// What may be said of entries of a log together; nothing of a log that is not followed. Past what was followed nothing
    /// is said.
    ///
    /// # Errors
    /// The state cannot be read.
    pub async fn range_report(
        &self,
        log: Address,
        from: u64,
        to: u64,
    ) -> Result<Option<LightRangeReport>, LightError> {
        let (size, combined) = self
            .with_state(move |state| {
                let size = state.log(&log)?.size;
                Ok((size, state.combined(&log, from, to)?))
            })
            .await?;
        if size == 0 {
            return Ok(None);
        }
        let Combined { standings, unknown, bounds } = combined;
        let count = |standing| {
            let place = Standing::ALL.iter().position(|each| *each == standing);
            place.and_then(|place| standings.get(place)).copied().unwrap_or(0)
        };
        Ok(Some(LightRangeReport {
            log: log.to_string(),
            from,
            to,
            blobs: LightCounts::of(count),
            unknown,
            bound_unavailable: bounds.map(|bounds| bounds.unavailable),
            bound_misencoded: bounds.map(|bounds| bounds.misencoded),
            clients_fooled: bounds.map(|bounds| bounds.clients_fooled),
        }))
    }
}

/// One line on what may be concluded.
fn verdict(blobs: &LightCounts, logs: &[LightLogReport]) -> String {
    let in_state = |state: &str| logs.iter().filter(|log| log.state == state).count();
    let mut bad: BTreeMap<&str, String> = BTreeMap::new();
    for (state, text) in [
        ("contradicts", "logs contradict what was seen of them before"),
        ("withheld", "logs have entries that nobody gives"),
    ] {
        if in_state(state) > 0 {
            bad.insert(state, format!("{} {text}", in_state(state)));
        }
    }
    if blobs.inconsistent > 0 {
        bad.insert("inconsistent", format!("{} blobs are inconsistent", blobs.inconsistent));
    }
    if blobs.withheld > 0 {
        bad.insert("withheld blobs", format!("{} blobs are withheld", blobs.withheld));
    }
    let checked = blobs.sampled + blobs.exact;
    let mut line = match bad.is_empty() {
        true if checked == 0 && blobs.pending == 0 => "nothing to sample yet".to_owned(),
        true => format!("all samples of {checked} blobs verified"),
        false => bad.into_values().collect::<Vec<_>>().join(", "),
    };
    if blobs.pending > 0 {
        line.push_str(&format!(", {} pending", blobs.pending));
    }
    if in_state("behind") > 0 {
        line.push_str(&format!(", {} logs behind", in_state("behind")));
    }
    if blobs.missed > 0 {
        line.push_str(&format!(", {} expired before their samples were in", blobs.missed));
    }
    line
}

/// Seconds since a time.
pub(crate) fn age(time: u64) -> u64 {
    unix_now().saturating_sub(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pending: u64, withheld: u64, sampled: u64, inconsistent: u64) -> LightCounts {
        LightCounts { pending, withheld, sampled, exact: 0, inconsistent, missed: 0 }
    }

    #[test]
    fn the_verdict_never_says_more_than_is_known() {
        assert_eq!(verdict(&counts(0, 0, 0, 0), &[]), "nothing to sample yet");
        assert_eq!(verdict(&counts(2, 0, 0, 0), &[]), "all samples of 0 blobs verified, 2 pending");
        assert_eq!(verdict(&counts(0, 0, 5, 0), &[]), "all samples of 5 blobs verified");
        let bad = verdict(&counts(1, 2, 5, 3), &[]);
        assert_eq!(bad, "3 blobs are inconsistent, 2 blobs are withheld, 1 pending");
    }
}
