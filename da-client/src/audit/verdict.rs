//! What an audit comes to, in one line that somebody can act on.

use std::collections::{BTreeMap, BTreeSet};

use meridian_proofs::ids::BlobId;

use super::{Audit, BlobAudit, CopyState, Defect, RegionAudit, RegionState, SeatAudit};
use crate::fetch::FaultKind;

/// What an audit comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// Every region holds the same copy of everything that was audited, as far as it was asked for.
    Identical,
    /// Too much is out of reach, or on its way still, to say so.
    Unavailable,
    /// Somebody gives what is wrong, or does not hold what it cosigned; or an entry is wrong.
    Faulty,
}

impl Defect {
    /// What it is, in a few words.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::NoCommittee => "nobody knows the committee that holds it",
            Self::Length => "its entry names another length than its header",
            Self::PayloadHash => "its payload has another hash than its entry says",
            Self::Differs => "regions give different payloads",
            Self::Malformed => "its submitter encoded it wrongly: its padding is not zero",
            Self::Inconsistent => "its submitter encoded it wrongly: its rows are not a codeword",
        }
    }

    /// Whether it is the submitter's own matter: the copies are identical all the same.
    #[must_use]
    pub fn is_of_submitter(self) -> bool {
        matches!(self, Self::Malformed | Self::Inconsistent)
    }
}

impl Audit {
    /// What it comes to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let defects = self.blobs.iter().filter_map(|blob| blob.defect);
        let is_faulty = self.faults.iter().any(|seen| match seen.fault.kind {
            FaultKind::Wrong => true,
            FaultKind::Missing => seen.is_cosigned,
            FaultKind::Silent => false,
        });
        let is_wrong = defects.clone().any(|it| !it.is_of_submitter() && it != Defect::NoCommittee);
        let is_lacking = !self.faults.is_empty()
            || defects.clone().any(|defect| defect == Defect::NoCommittee)
            || self.regions.iter().any(|region| region.state != RegionState::Complete)
            || self.logs.iter().any(|log| log.withheld > 0 || !log.problems.is_empty());
        match () {
            () if is_faulty || is_wrong => Outcome::Faulty,
            () if is_lacking => Outcome::Unavailable,
            () => Outcome::Identical,
        }
    }

    /// Distinct blobs.
    #[must_use]
    pub fn distinct_blobs(&self) -> usize {
        self.blobs.iter().map(|blob| blob.id).collect::<BTreeSet<BlobId>>().len()
    }

    /// Entries that are not under an anchor.
    #[must_use]
    pub fn unanchored(&self) -> usize {
        self.blobs.iter().flat_map(|blob| &blob.entries).filter(|listed| !listed.is_anchored).count()
    }

    /// What the blobs were checked against.
    #[must_use]
    pub fn basis(&self) -> String {
        let cosigned = format!("checkpoints that {} regions or more cosigned", self.min_copies);
        match (self.head, self.unanchored()) {
            (None, _) => cosigned,
            (Some(head), 0) => format!("anchors up to block {}", head.number),
            (Some(head), waiting) => {
                format!(
                    "anchors up to block {}, and {} not anchored yet against {cosigned}",
                    head.number,
                    count(waiting, "entry", "entries")
                )
            }
        }
    }

    /// What it comes to, in one line.
    #[must_use]
    pub fn verdict(&self) -> String {
        if self.outcome() != Outcome::Identical {
            return self.complaints().join("; ");
        }
        if self.blobs.is_empty() {
            return "no blob to audit: no unexpired entry was made in that time".to_owned();
        }
        let rows: u64 = self.seats.iter().map(|audit| audit.rows.right).sum();
        let whole = self.blobs.iter().filter(|blob| blob.is_whole).count();
        let spoilt = self.blobs.iter().filter(|blob| blob.defect.is_some()).count();
        let spoilt = match spoilt {
            0 => String::new(),
            spoilt => {
                format!(", {spoilt} of which nobody can read since their submitters encoded them wrongly")
            }
        };
        format!(
            "all {} hold identical copies of {}{spoilt}, checked against {} ({rows} rows, {} rebuilt from each region alone)",
            count(self.regions.len(), "region", "regions"),
            count(self.distinct_blobs(), "blob", "blobs"),
            self.basis(),
            count(whole, "blob", "blobs"),
        )
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        let labels: Vec<&str> = self
            .regions
            .iter()
            .filter(|region| region.state != RegionState::Complete)
            .map(|region| region.region.label.as_str())
            .collect();
        match &labels[..] {
            [] => "keep what was found, and ask the gateway's operator".to_owned(),
            labels => format!("ask the operators in {}, and audit again", labels.join(", ")),
        }
    }

    /// What is wrong, region by region, then the logs and the blobs.
    fn complaints(&self) -> Vec<String> {
        let at_fault = self.regions.iter().filter(|region| region.state != RegionState::Complete);
        let regions = at_fault.map(|region| self.complaint(region));
        let logs = self.logs.iter().flat_map(|log| {
            let withheld =
                (log.withheld > 0).then(|| count(log.withheld, "entry is withheld", "entries are withheld"));
            log.problems.iter().cloned().chain(withheld).map(|problem| format!("log {}: {problem}", log.log))
        });
        let mut by_defect: BTreeMap<&str, Vec<&BlobAudit>> = BTreeMap::new();
        for blob in &self.blobs {
            if let Some(defect) = blob.defect {
                by_defect.entry(defect.what()).or_default().push(blob);
            }
        }
        let blobs = by_defect.into_iter().filter_map(|(what, blobs)| {
            let first = blobs.first()?;
            let others = match blobs.len() {
                1 => String::new(),
                many => format!(" and {}", count(many - 1, "other", "others")),
            };
            Some(format!("blob {}{others}: {what}", first.id))
        });
        regions.chain(logs).chain(blobs).collect()
    }

    fn complaint(&self, region: &RegionAudit) -> String {
        let id = region.region.id;
        let mut parts: Vec<String> = Vec::new();
        if region.state == RegionState::Unreachable {
            parts.push("out of reach".to_owned());
        }
        let seats = self.seats.iter().filter(|audit| audit.seat.region == id && audit.first.is_some());
        parts.extend(seats.map(complaint));
        let incomplete = self.blobs.iter().filter(|blob| {
            blob.copies.iter().any(|copy| copy.region == id && copy.state == CopyState::Incomplete)
        });
        let incomplete = incomplete.count();
        if incomplete > 0 {
            parts.push(count(incomplete, "blob incomplete", "blobs incomplete"));
        }
        format!("region {}: {}", region.region.label, parts.join(", "))
    }
}

/// What a replica did.
fn complaint(audit: &SeatAudit) -> String {
    let rows = &audit.rows;
    let counts: Vec<String> = [(rows.wrong, "wrong"), (rows.missing, "missing"), (rows.silent, "silent")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(number, kind)| match kind {
            "silent" => format!("no answer about {}", count(number, "row", "rows")),
            kind => format!("{number} {kind} {}", if number == 1 { "row" } else { "rows" }),
        })
        .collect();
    let what = match (&counts[..], &audit.first) {
        ([], Some(first)) => first.fault.what.clone(),
        (counts, _) => counts.join(" and "),
    };
    format!("{what} from replica {}", audit.seat.address)
}

fn count(number: impl TryInto<u64>, one: &str, many: &str) -> String {
    let number: u64 = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {}", if number == 1 { one } else { many })
}
