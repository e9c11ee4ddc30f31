//! `da log`.

use std::collections::BTreeSet;

use meridian_proofs::Address;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Committee;
use meridian_proto::convert::LogItem;
use meridian_proto::error::Reason;

use super::Printed;
use super::args::{LogArgs, LogEntriesArgs, LogListArgs};
use super::exit::{Exit, Problem};
use super::progress::Bar;
use super::report::{LogEntriesReport, LogItemReport, LogListReport, LogReport, LogVerifyReport};
use super::session::{Session, labels};
use super::text::{fields, known, table};
use crate::logs::{LogError, LogNode};
use crate::time::utc;

/// Lists the logs that a node knows.
pub(crate) async fn list(args: LogListArgs, session: &Session) -> Result<Printed, Problem> {
    let committee = session.committee().await?;
    let node = open(args.from, &committee, session).await?;
    let report = LogListReport {
        from: node.endpoint().to_owned(),
        logs: node
            .logs()
            .iter()
            .map(|known| {
                let checkpoint = &known.signed.checkpoint;
                LogReport {
                    log: checkpoint.gateway.to_string(),
                    epoch: checkpoint.epoch,
                    size: checkpoint.size,
                    root: checkpoint.root.to_string(),
                    timestamp: checkpoint.timestamp,
                    cosignatures: known.cosignatures.len(),
                }
            })
            .collect(),
    };
    let rows = report.logs.iter().map(|log| {
        vec![
            log.log.clone(),
            log.size.to_string(),
            log.epoch.to_string(),
            utc(log.timestamp),
            log.cosignatures.to_string(),
            log.root.clone(),
        ]
    });
    let text = table(&["log", "size", "epoch", "checkpoint", "cosignatures", "root"], rows);
    Printed::new(&report, text)
}

/// Prints entries of a log.
pub(crate) async fn entries(args: LogEntriesArgs, session: &Session) -> Result<Printed, Problem> {
    let committee = session.committee().await?;
    let node = open(args.log.from, &committee, session).await?;
    let checkpoint = the_log(&node, args.log.log)?;
    let (log, size) = (checkpoint.signed.checkpoint.gateway, checkpoint.signed.checkpoint.size);
    let end = args.start.saturating_add(args.count).min(size);
    let mut items = Vec::new();
    node.enumerate(log, args.start..end, &Bar::new("log"), |index, item| {
        items.push(item_report(index, item));
    })
    .await?;
    let rows = items.iter().map(|item| {
        vec![
            item.index.to_string(),
            item.blob_id.clone().unwrap_or_else(|| "expired".to_owned()),
            known(item.length),
            item.time.map_or_else(|| known::<u64>(None), utc),
            item.expiry.map_or_else(|| known::<u64>(None), utc),
        ]
    });
    let text = table(&["index", "blob", "length", "made", "expires"], rows);
    let report = LogEntriesReport { from: node.endpoint().to_owned(), log: log.to_string(), size, items };
    Printed::new(&report, text)
}

/// Enumerates a log and compares its root with the signed checkpoint.
pub(crate) async fn verify(args: LogArgs, session: &Session) -> Result<Printed, Problem> {
    let committee = session.committee().await?;
    let node = open(args.from, &committee, session).await?;
    let known = the_log(&node, args.log)?;
    let checkpoint = known.signed.checkpoint;
    let view = session.view().await?;
    let committee = view.borrow().epochs.committee(checkpoint.epoch).cloned().unwrap_or(committee);
    let signers = known
        .signers(&committee.domain())
        .map_err(|error| wrong(format!("a cosignature does not hold: {error}")))?;
    let (sizes, bar) = (BTreeSet::from([checkpoint.size]), Bar::new("log"));
    let walk = node.walk(checkpoint.gateway, &sizes, checkpoint.timestamp, &bar, |_, _| ()).await?;
    let root = walk.roots.get(&checkpoint.size).copied().unwrap_or_default();
    if root != checkpoint.root {
        let message =
            format!("the entries lead to root {root}, the signed checkpoint says {}", checkpoint.root);
        return Err(wrong(message));
    }
    if let Some(index) = walk.disorder {
        return Err(wrong(format!("the time of entry {index} is out of order")));
    }
    let entries = walk.entries;
    let report = LogVerifyReport {
        from: node.endpoint().to_owned(),
        log: checkpoint.gateway.to_string(),
        size: checkpoint.size,
        root: checkpoint.root.to_string(),
        timestamp: checkpoint.timestamp,
        entries,
        leaves: checkpoint.size - entries,
        regions: labels(&committee, &committee.complete_regions(&signers)),
    };
    let text = fields(&[
        ("log", report.log.clone()),
        ("size", report.size.to_string()),
        (
            "root",
            format!("{}, recomputed from {} entries and {} leaves", report.root, entries, report.leaves),
        ),
        ("checkpoint", utc(report.timestamp)),
        ("cosigned in", report.regions.join(", ")),
    ]);
    Printed::new(&report, text)
}

/// The node that was named, or the first replica that answers.
async fn open(from: Option<String>, committee: &Committee, session: &Session) -> Result<LogNode, Problem> {
    let endpoints: Vec<String> = match from {
        Some(endpoint) => vec![endpoint],
        None => {
            let seats = committee.seats().iter().map(|seat| seat.endpoint.clone());
            seats.chain(session.gateways(committee)).collect()
        }
    };
    let domain = &committee.domain();
    let asked =
        endpoints.iter().map(|endpoint| Box::pin(LogNode::open(session.channels(), endpoint, domain)));
    Ok(futures::future::select_ok(asked).await?.0)
}

/// The log that was named, or the only one that a node knows.
fn the_log(node: &LogNode, log: Option<Address>) -> Result<&CosignedCheckpoint, Problem> {
    let mut logs =
        node.logs().iter().filter(|known| log.is_none_or(|log| known.signed.checkpoint.gateway == log));
    match (logs.next(), logs.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => {
            Err(Problem::usage("the node knows several logs", "name one with --log; da log list shows them"))
        }
        (None, _) => Err(Problem::new(
            Exit::Unknown,
            Reason::LogUnknown.as_str(),
            "the node has no such log",
            "da log list shows what it has; ask another node with --from",
        )),
    }
}

fn item_report(index: u64, item: &LogItem) -> LogItemReport {
    let entry = match item {
        LogItem::Entry(entry) => Some(entry),
        LogItem::Leaf(_) => None,
    };
    LogItemReport {
        index,
        leaf: item.leaf().to_string(),
        blob_id: entry.map(|entry| entry.blob_id.to_string()),
        namespace: entry.map(|entry| entry.namespace.to_string()),
        payload_hash: entry.map(|entry| entry.payload_hash.to_string()),
        length: entry.map(|entry| entry.length),
        epoch: entry.map(|entry| entry.epoch),
        time: entry.map(|entry| entry.time),
        expiry: entry.map(|entry| entry.expiry),
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Call(error) => error.into(),
            LogError::Invalid(message) => wrong(message),
        }
    }
}

fn wrong(message: impl ToString) -> Problem {
    let next = "keep what the node serves as evidence, and ask another one with --from";
    Problem::new(Exit::Verification, "LOG_INVALID", message, next)
}
