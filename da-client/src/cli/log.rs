//! `da log`.

use std::time::Duration;

use meridian_proofs::Address;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Committee;
use meridian_proofs::log::CompactRange;
use meridian_proto::MAX_ENTRIES;
use meridian_proto::convert::LogItem;
use meridian_proto::error::{ApiError, Reason};

use super::Printed;
use super::args::{LogArgs, LogEntriesArgs, LogListArgs};
use super::exit::{Exit, Problem};
use super::progress::Bar;
use super::report::{LogEntriesReport, LogItemReport, LogListReport, LogReport, LogVerifyReport};
use super::session::{Session, labels};
use super::text::{fields, known, table};
use crate::Progress;
use crate::rpc::LogRpc;
use crate::time::utc;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Lists the logs that a node knows.
pub(crate) async fn list(args: LogListArgs, session: &Session) -> Result<Printed, Problem> {
    let committee = session.committee().await?;
    let node = Node::open(args.from, &committee, session).await?;
    let report = LogListReport {
        from: node.endpoint,
        logs: node
            .logs
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
    let node = Node::open(args.log.from, &committee, session).await?;
    let checkpoint = node.log(args.log.log)?;
    let (log, size) = (checkpoint.signed.checkpoint.gateway, checkpoint.signed.checkpoint.size);
    let end = args.start.saturating_add(args.count).min(size);
    let mut items = Vec::new();
    node.enumerate(log, args.start, end, |index, item| items.push(item_report(index, item))).await?;
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
    let report = LogEntriesReport { from: node.endpoint, log: log.to_string(), size, items };
    Printed::new(&report, text)
}

/// Enumerates a log and compares its root with the signed checkpoint.
pub(crate) async fn verify(args: LogArgs, session: &Session) -> Result<Printed, Problem> {
    let committee = session.committee().await?;
    let node = Node::open(args.from, &committee, session).await?;
    let known = node.log(args.log)?;
    let checkpoint = known.signed.checkpoint;
    let view = session.view().await?;
    let committee = view.borrow().epochs.committee(checkpoint.epoch).cloned().unwrap_or(committee);
    let signers = known
        .signers(&committee.domain())
        .map_err(|error| wrong(format!("a cosignature does not hold: {error}")))?;
    let (mut range, mut entries, mut time) = (CompactRange::empty(), 0, 0);
    let mut falls = None;
    node.enumerate(checkpoint.gateway, 0, checkpoint.size, |index, item| {
        if let LogItem::Entry(entry) = item {
            entries += 1;
            if entry.time < time || entry.time > checkpoint.timestamp {
                falls.get_or_insert(index);
            }
            time = entry.time;
        }
        range.append(item.leaf());
    })
    .await?;
    if range.root() != checkpoint.root {
        return Err(wrong(format!(
            "the entries lead to root {}, the signed checkpoint says {}",
            range.root(),
            checkpoint.root
        )));
    }
    if let Some(index) = falls {
        return Err(wrong(format!("the time of entry {index} is out of order")));
    }
    let report = LogVerifyReport {
        from: node.endpoint,
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

/// A node that serves logs.
struct Node {
    endpoint: String,
    rpc: LogRpc,
    logs: Vec<CosignedCheckpoint>,
}

impl Node {
    /// The node that was named, or the first replica that answers. Its checkpoints are checked.
    async fn open(from: Option<String>, committee: &Committee, session: &Session) -> Result<Self, Problem> {
        let endpoints = match from {
            Some(endpoint) => vec![endpoint],
            None => {
                let seats = committee.seats().iter().map(|seat| seat.endpoint.clone());
                seats.chain(session.gateways(committee)).collect()
            }
        };
        let asked = futures::future::select_ok(endpoints.into_iter().map(|endpoint| {
            Box::pin(async move {
                let rpc = session.channels().log(&endpoint)?.within(DEADLINE);
                let logs = rpc.list().await?;
                Ok::<_, ApiError>(Self { endpoint, rpc, logs })
            })
        }));
        let (node, _) = asked.await?;
        for log in &node.logs {
            log.signed
                .verify(&committee.domain())
                .map_err(|error| wrong(format!("a checkpoint does not hold: {error}")))?;
        }
        Ok(node)
    }

    /// The log that was named, or the only one.
    fn log(&self, log: Option<Address>) -> Result<&CosignedCheckpoint, Problem> {
        let mut logs =
            self.logs.iter().filter(|known| log.is_none_or(|log| known.signed.checkpoint.gateway == log));
        match (logs.next(), logs.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(Problem::usage(
                "the node knows several logs",
                "name one with --log; da log list shows them",
            )),
            (None, _) => Err(Problem::new(
                Exit::Unknown,
                Reason::LogUnknown.as_str(),
                "the node has no such log",
                "da log list shows what it has; ask another node with --from",
            )),
        }
    }

    /// Goes through the items of a log.
    async fn enumerate(
        &self,
        log: Address,
        start: u64,
        end: u64,
        mut item: impl FnMut(u64, &LogItem),
    ) -> Result<(), Problem> {
        let page = u64::try_from(MAX_ENTRIES).map_err(Problem::local)?;
        let bar = Bar::new("log");
        bar.start(end.saturating_sub(start));
        let mut next = start;
        while next < end {
            let items = self.rpc.entries(log, next, page.min(end - next)).await?;
            if items.is_empty() {
                return Err(wrong(format!("the node signed {end} entries and serves only {next}")));
            }
            let count = u64::try_from(items.len()).map_err(Problem::local)?;
            if count > end - next {
                return Err(wrong("the node answers with more entries than were asked for"));
            }
            for (index, each) in (next..).zip(&items) {
                item(index, each);
            }
            next += count;
            bar.advance(count);
        }
        bar.finish();
        Ok(())
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

fn wrong(message: impl ToString) -> Problem {
    let next = "keep what the node serves as evidence, and ask another one with --from";
    Problem::new(Exit::Verification, "LOG_INVALID", message, next)
}
