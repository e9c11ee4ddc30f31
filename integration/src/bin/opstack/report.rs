//! What came of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;

use super::Mode;
use super::faults::Faults;
use super::inbox::Posted;
use super::measured::{Calls, Measured};
use super::node::Heads;

/// What came of one mode.
pub(crate) struct Outcome {
    /// The mode.
    pub(crate) mode: Mode,
    /// How far both nodes are.
    pub(crate) heads: [Heads; 2],
    /// The first node's newest and safe block when the load ended.
    pub(crate) at_end: Heads,
    /// From the end of the load until all of it was safe on the second node.
    pub(crate) caught_up: Duration,
    /// Blocks that are the same on both.
    pub(crate) compared: usize,
    /// Transactions of the load, all of them in those blocks.
    pub(crate) transactions: u64,
    /// What L1 has.
    pub(crate) posted: Posted,
    /// What the sidecars measured, before everything was read back.
    pub(crate) measured: [Measured; 2],
    /// Who was killed.
    pub(crate) faults: Faults,
    /// Longest standstill of the second node's safe head.
    pub(crate) longest_pause: Duration,
    /// From the return of the gateway until that head moved.
    pub(crate) moved_on: Option<Duration>,
}

/// Prints all of it.
pub(crate) fn print(outcomes: &[Outcome]) {
    let mut table = Table::new();
    let mut header = vec![String::new()];
    header.extend(outcomes.iter().map(|outcome| outcome.mode.to_string()));
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    for (name, cell) in ROWS {
        let mut row = vec![(*name).to_owned()];
        row.extend(outcomes.iter().map(cell));
        table.add_row(row);
    }
    println!("{table}");
    println!("p50 and p99 are interpolated in the buckets of the sidecars' histograms.");
}

type Row = (&'static str, fn(&Outcome) -> String);

const ROWS: &[Row] = &[
    ("first node: unsafe / safe at the end of the load", |o| head(&o.at_end)),
    ("first node: unsafe / safe at the end", |o| head(&o.heads[0])),
    ("second node: unsafe / safe at the end", |o| head(&o.heads[1])),
    ("all of the load safe on the second node after", |o| seconds(o.caught_up)),
    ("blocks compared, all equal", |o| o.compared.to_string()),
    ("transactions of the load, all in them", |o| o.transactions.to_string()),
    ("bytes posted", |o| format!("{:.0}", o.measured[0].received())),
    ("commitments on L1, all read back", |o| o.posted.commitments.to_string()),
    ("bytes behind them", |o| o.posted.bytes.to_string()),
    ("puts, p50 / p99", |o| calls(o.measured[0].calls("put"))),
    ("gets of the second node, p50 / p99", |o| calls(o.measured[1].calls("get"))),
    ("gets of the first node, p50 / p99", |o| calls(o.measured[0].calls("get"))),
    ("puts by status", |o| statuses(&o.measured[0].statuses("put"))),
    ("gets of the second node by status", |o| statuses(&o.measured[1].statuses("get"))),
    ("gets of the first node by status", |o| statuses(&o.measured[0].statuses("get"))),
    ("replicas killed and started again", |o| o.faults.replicas.to_string()),
    ("gateway away for", |o| {
        o.faults.gateway.map_or_else(String::new, |(killed, back)| seconds(back - killed))
    }),
    ("from its return until the second safe head moved", |o| o.moved_on.map_or_else(String::new, seconds)),
    ("longest standstill of the second safe head", |o| seconds(o.longest_pause)),
];

fn head(heads: &Heads) -> String {
    format!("{} / {}", heads.newest, heads.safe)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn calls(calls: Calls) -> String {
    format!("{:.0}, {:.1} ms / {:.1} ms", calls.count, calls.p50_ms, calls.p99_ms)
}

fn statuses(statuses: &BTreeMap<String, f64>) -> String {
    let said: Vec<String> = statuses.iter().map(|(status, count)| format!("{status}: {count:.0}")).collect();
    said.join(", ")
}
