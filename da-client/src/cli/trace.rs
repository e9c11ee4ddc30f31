//! `da trace`.

use super::Printed;
use super::args::TraceArgs;
use super::exit::{Problem, kind};
use super::input;
use super::report::{TraceReport, TracedAnchor, TracedRegion, TracedReplica};
use super::session::{Session, label};
use super::text::{fields, table};
use crate::audit::trail::{Trail, TrailError, trail};
use crate::audit::{CopyState, SeatAudit};
use crate::chain::anchored::Anchored;
use crate::time::utc;

/// Shows the way of a blob.
pub(crate) async fn run(args: TraceArgs, session: &Session) -> Result<Printed, Problem> {
    let (id, known) = input::blob(&args.blob)?;
    let samples = usize::try_from(args.samples).map_err(Problem::local)?;
    let contract = session.contract().await?;
    let readers = session.readers().await?;
    let gateways = session.gateways(readers.current().committee());
    let report = report(&trail(&readers, contract, &gateways, id, known, samples).await?);
    let text = text(&report);
    Printed::new(&report, text)
}

impl From<TrailError> for Problem {
    fn from(error: TrailError) -> Self {
        match error {
            TrailError::Read(error) => error.into(),
            TrailError::Chain(error) => error.into(),
        }
    }
}

fn report(trail: &Trail) -> TraceReport {
    let (certificate, verified) = (&trail.certificate.certificate, &trail.certificate.verified);
    let (entry, checkpoint) = (&certificate.entry, &certificate.checkpoint.signed.checkpoint);
    let committee = &trail.committee;
    let replica = |audit: &SeatAudit| {
        let fault = audit.first.as_ref().map(|seen| &seen.fault);
        TracedReplica {
            replica: audit.seat.address.to_string(),
            cosigned: verified.signers.contains(&audit.seat.address),
            state: fault.map_or("right", |fault| kind(fault.kind)).to_owned(),
            rows: audit.rows.asked(),
            message: fault.map(|fault| fault.what.clone()),
        }
    };
    let regions = trail.blob.copies.iter().map(|copy| TracedRegion {
        region: label(committee, copy.region),
        certified: verified.complete.contains(&copy.region),
        state: match copy.state {
            CopyState::Complete => "complete",
            CopyState::Incomplete => "incomplete",
            CopyState::Unreachable => "unreachable",
        }
        .to_owned(),
        replicas: trail.seats.iter().filter(|audit| audit.seat.region == copy.region).map(replica).collect(),
    });
    TraceReport {
        blob_id: certificate.id().to_string(),
        length: entry.length,
        namespace: entry.namespace.to_string(),
        time: entry.time,
        expiry: entry.expiry,
        left_s: entry.expiry.saturating_sub(trail.at),
        gateway: checkpoint.gateway.to_string(),
        gateway_endpoint: committee.gateway(&checkpoint.gateway).map(|gateway| gateway.endpoint.clone()),
        index: certificate.index,
        epoch: entry.epoch,
        checkpoint_size: checkpoint.size,
        checkpoint_root: checkpoint.root.to_string(),
        checkpoint_timestamp: checkpoint.timestamp,
        block: trail.head.map(|head| head.number),
        anchor: trail.anchored.map(|Anchored { anchor, transaction, block_timestamp }| TracedAnchor {
            transaction: transaction.to_string(),
            block: anchor.block,
            block_timestamp,
            size: anchor.size,
            root: anchor.root.to_string(),
            timestamp: anchor.timestamp,
            epoch: anchor.epoch,
        }),
        regions: regions.collect(),
    }
}

fn text(report: &TraceReport) -> String {
    let anchor = match (&report.anchor, report.block) {
        (Some(anchor), _) => format!(
            "transaction {} in block {}, {}: {} entries under {}",
            anchor.transaction,
            anchor.block,
            utc(anchor.block_timestamp),
            anchor.size,
            anchor.root
        ),
        (None, Some(block)) => format!("not yet, up to block {block}"),
        (None, None) => "there is no chain; name one with --chain and --contract".to_owned(),
    };
    let left = match report.left_s {
        0 => "expired".to_owned(),
        left => {
            let (days, hours, minutes) = (left / 86_400, left / 3_600 % 24, left / 60 % 60);
            format!("{days} d {hours} h {minutes} min left")
        }
    };
    let gateway = report.gateway_endpoint.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
    let fields = fields(&[
        ("blob", report.blob_id.clone()),
        ("length", report.length.to_string()),
        ("namespace", report.namespace.clone()),
        ("put", format!("{} through gateway {}{gateway}", utc(report.time), report.gateway)),
        ("log", format!("entry {} of that gateway's log, epoch {}", report.index, report.epoch)),
        (
            "checkpoint",
            format!(
                "{} entries under {}, made {}; cosignatures carry no time of their own",
                report.checkpoint_size,
                report.checkpoint_root,
                utc(report.checkpoint_timestamp)
            ),
        ),
        ("anchor", anchor),
        ("expires", format!("{}, {left}", utc(report.expiry))),
    ]);
    let rows = report.regions.iter().flat_map(|region| {
        region.replicas.iter().enumerate().map(move |(place, replica)| {
            let first = |text: String| if place == 0 { text } else { String::new() };
            vec![
                first(region.region.clone()),
                first(if region.certified { "complete" } else { "not complete" }.to_owned()),
                first(region.state.clone()),
                replica.replica.clone(),
                if replica.cosigned { "cosigned" } else { "no cosignature" }.to_owned(),
                replica.message.clone().unwrap_or_else(|| format!("{} rows right", replica.rows)),
            ]
        })
    });
    let heads = ["region", "in the certificate", "copy now", "replica", "checkpoint", "rows now"];
    format!("{fields}{}", table(&heads, rows))
}
