//! `da audit`.

mod page;

use meridian_proofs::committee::RegionId;

use super::Printed;
use super::args::AuditArgs;
use super::exit::{Exit, Problem, kind};
use super::input;
use super::progress::Bar;
use super::report::{
    AuditReport, AuditedBlob, AuditedEntry, AuditedLog, AuditedRegion, AuditedReplica, SightingReport,
};
use super::session::Session;
use super::text::{known, micros, table};
use crate::audit::{
    Audit, AuditError, BlobAudit, CopyState, LogAudit, Outcome, RegionState, Scope, SeatAudit, Sighting,
    audit,
};
use crate::files;
use crate::submit::unix_now;
use crate::time::utc;

/// Audits the copies of every region.
pub(crate) async fn run(args: AuditArgs, session: &Session) -> Result<Printed, Problem> {
    let blob = args.blob.as_deref().map(input::blob).transpose()?;
    let scope = Scope {
        since: args.since.unix(unix_now()),
        blob: blob.as_ref().map(|(id, _)| *id),
        log: blob.and_then(|(_, known)| known).map(|known| known.checkpoint.signed.checkpoint.gateway),
        is_deep: args.deep,
        samples: usize::try_from(args.samples).map_err(Problem::local)?,
    };
    let readers = session.readers().await?;
    let audit = audit(&readers, scope, &Bar::new("logs"), &Bar::new("rows")).await?;
    let mut report = report(&audit);
    if let Some(path) = &args.html {
        let page = page::html(&report);
        files::write_whole(path, page.as_bytes()).map_err(|error| Problem::file(path, &error))?;
        report.html = Some(path.display().to_string());
    }
    let outcome = audit.outcome();
    let printed = Printed::new(&report, text(&report, outcome))?;
    let (exit, reason) = match outcome {
        Outcome::Identical => return Ok(printed),
        Outcome::Unavailable => (Exit::Unavailable, "AUDIT_INCOMPLETE"),
        Outcome::Faulty => (Exit::Verification, "AUDIT_FAULTS"),
    };
    Ok(printed.but(Problem::new(exit, reason, audit.verdict(), &audit.advice())))
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::TooMany => {
                Self::new(Exit::Refused, "TOO_MANY_ENTRIES", error, "begin later with --since")
            }
            AuditError::NotListed => Self::new(
                Exit::Unavailable,
                "NOT_LISTED",
                error,
                "check the id; if it was put a moment ago, try again; da trace shows what is known of it",
            ),
            AuditError::Internal(_) => Self::local(error),
        }
    }
}

fn report(audit: &Audit) -> AuditReport {
    let label = |id: RegionId| {
        let found = audit.regions.iter().find(|it| it.region.id == id);
        found.map_or_else(|| id.to_string(), |it| it.region.label.clone())
    };
    let sighting = |seen: &Sighting| SightingReport {
        at: seen.at,
        replica: seen.fault.seat.to_string(),
        region: label(seen.fault.region),
        kind: kind(seen.fault.kind).to_owned(),
        message: seen.fault.what.clone(),
        blob_id: seen.blob.map(|id| id.to_string()),
        rows: seen.rows,
        cosigned: seen.is_cosigned,
    };
    let replica = |it: &SeatAudit| AuditedReplica {
        replica: it.seat.address.to_string(),
        region: label(it.seat.region),
        seat: it.seat.number,
        endpoint: it.seat.endpoint.clone(),
        entries: it.entries,
        cosigned: it.cosigned,
        rows_right: it.rows.right,
        rows_wrong: it.rows.wrong,
        rows_missing: it.rows.missing,
        rows_silent: it.rows.silent,
        latency_p50_us: it.latency.map(|(middle, _)| micros(middle)),
        latency_max_us: it.latency.map(|(_, slowest)| micros(slowest)),
        first_fault: it.first.as_ref().map(sighting),
        last_fault: it.last.as_ref().map(sighting),
    };
    let region = |it: &crate::audit::RegionAudit| AuditedRegion {
        id: it.region.id.0,
        label: it.region.label.clone(),
        latitude: it.region.latitude,
        longitude: it.region.longitude,
        state: match it.state {
            RegionState::Complete => "complete",
            RegionState::Faulty => "faulty",
            RegionState::Unreachable => "unreachable",
        }
        .to_owned(),
        blobs: it.blobs,
        complete: it.complete,
        rebuilt: it.rebuilt,
    };
    let log = |it: &LogAudit| {
        let certified = it.certified.as_ref();
        AuditedLog {
            log: it.log.to_string(),
            size: it.size,
            root: it.root.to_string(),
            entries: it.entries,
            anchored_size: it.anchor.map(|anchor| anchor.size),
            anchored_root: it.anchor.map(|anchor| anchor.root.to_string()),
            anchored_block: it.anchor.map(|anchor| anchor.block),
            certified_size: certified.map(|certified| certified.size),
            certified_epoch: certified.map(|certified| certified.epoch),
            certified_timestamp: certified.map(|certified| certified.timestamp),
            certified_regions: certified
                .map(|it| it.regions.iter().copied().map(label).collect())
                .unwrap_or_default(),
            hidden: it.hidden,
            withheld: it.withheld,
            from: it.from.clone(),
            problems: it.problems.clone(),
        }
    };
    let blob = |it: &BlobAudit| {
        let of_state = |state| {
            let copies = it.copies.iter().filter(|copy| copy.state == state);
            copies.map(|copy| label(copy.region)).collect()
        };
        AuditedBlob {
            blob_id: it.id.to_string(),
            epoch: it.epoch,
            length: it.entries.first().map_or(0, |listed| listed.entry.length),
            whole: it.is_whole,
            payload_hash: it.copies.iter().find_map(|copy| copy.payload_hash).map(|hash| hash.to_string()),
            defect: it.defect.map(|defect| defect.what().to_owned()),
            complete: of_state(CopyState::Complete),
            incomplete: of_state(CopyState::Incomplete),
            unreachable: of_state(CopyState::Unreachable),
            entries: it
                .entries
                .iter()
                .map(|listed| AuditedEntry {
                    log: listed.log.to_string(),
                    index: listed.index,
                    time: listed.entry.time,
                    expiry: listed.entry.expiry,
                    anchored: listed.is_anchored,
                })
                .collect(),
        }
    };
    AuditReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        begun: audit.begun,
        ended: audit.ended,
        since: audit.scope.blob.is_none().then_some(audit.scope.since),
        deep: audit.scope.is_deep,
        samples: audit.scope.samples,
        outcome: match audit.outcome() {
            Outcome::Identical => "identical",
            Outcome::Unavailable => "unavailable",
            Outcome::Faulty => "faulty",
        }
        .to_owned(),
        verdict: audit.verdict(),
        basis: audit.basis(),
        block: audit.head.map(|head| head.number),
        block_timestamp: audit.head.map(|head| head.timestamp),
        min_copies: audit.min_copies,
        entries: audit.blobs.iter().map(|blob| blob.entries.len()).sum(),
        unanchored: audit.unanchored(),
        distinct_blobs: audit.distinct_blobs(),
        logs: audit.logs.iter().map(log).collect(),
        regions: audit.regions.iter().map(region).collect(),
        replicas: audit.seats.iter().map(replica).collect(),
        blobs: audit.blobs.iter().map(blob).collect(),
        faults: audit.faults.iter().map(sighting).collect(),
        more_faults: audit.more_faults,
        html: None,
    }
}

/// Tables, and below them the line that says what it comes to; where that is a problem it is printed as one.
fn text(report: &AuditReport, outcome: Outcome) -> String {
    let regions = report.regions.iter().map(|region| {
        vec![
            region.label.clone(),
            region.state.clone(),
            format!("{} of {}", region.complete, region.blobs),
            region.rebuilt.to_string(),
        ]
    });
    let replicas = report.replicas.iter().map(|replica| {
        let millis = |micros: Option<u64>| {
            micros.map_or_else(|| known::<u64>(None), |it| format!("{}.{} ms", it / 1000, it % 1000 / 100))
        };
        vec![
            format!("{}-{}", replica.region, replica.seat),
            replica.replica.clone(),
            format!("{} of {}", replica.cosigned, replica.entries),
            replica.rows_right.to_string(),
            replica.rows_wrong.to_string(),
            replica.rows_missing.to_string(),
            replica.rows_silent.to_string(),
            millis(replica.latency_p50_us),
            millis(replica.latency_max_us),
        ]
    });
    let heads = ["replica", "address", "cosigned", "right", "wrong", "missing", "silent", "p50", "max"];
    let mut text = format!(
        "{}\n{}\n",
        table(&["region", "state", "complete copies", "rebuilt"], regions),
        table(&heads, replicas)
    );
    let faults: Vec<Vec<String>> = report.replicas.iter().flat_map(faults).collect();
    if !faults.is_empty() {
        text.push_str(&table(&["replica", "seen", "fault", "rows", "blob", "what"], faults));
        let all = report.faults.len() + report.more_faults;
        text.push_str(&format!("\nof each the first fault and the last; there were {all}\n"));
    }
    if outcome == Outcome::Identical {
        text.push_str(&report.verdict);
    }
    text
}

/// The first fault of a replica, and the last one where that is another.
fn faults(replica: &AuditedReplica) -> impl Iterator<Item = Vec<String>> {
    let first = replica.first_fault.as_ref();
    let is_same = |seen: &&SightingReport| {
        first.is_some_and(|first| {
            (first.at, &first.blob_id, &first.message) == (seen.at, &seen.blob_id, &seen.message)
        })
    };
    let last = replica.last_fault.as_ref().filter(|seen| !is_same(seen));
    first.into_iter().chain(last).map(|seen| {
        vec![
            format!("{}-{}", replica.region, replica.seat),
            utc(seen.at),
            seen.kind.clone(),
            seen.rows.to_string(),
            seen.blob_id.clone().unwrap_or_else(|| known::<u64>(None)),
            seen.message.clone(),
        ]
    })
}
