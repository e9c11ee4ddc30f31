//! What is on the chain, in lines for people and as JSON.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::Args;
use meridian_client::chain::view::{Anchor, View};
use meridian_proofs::Address;
use meridian_proofs::committee::epochs::{EpochState, Term};
use serde_json::{Value, json};

use super::{OnChain, read};
use crate::committee_cmd;

/// Which anchors are shown.
#[derive(Debug, Args)]
pub struct Anchors {
    #[command(flatten)]
    chain: OnChain,
    /// Only the log of this gateway.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<Address>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Anchors {
    pub(super) async fn run(self) -> Result<()> {
        let contract = self.chain.contract().await?;
        let view =
            read(&contract).await?.context("the contract has no committee yet, so nothing is anchored")?;
        let wanted = |anchor: &&Anchor| self.gateway.is_none_or(|gateway| anchor.gateway == gateway);
        let anchors: Vec<&Anchor> = view.anchors.values().flatten().filter(wanted).collect();
        if self.json {
            println!("{:#}", Value::Array(anchors.iter().map(|anchor| anchor_json(anchor)).collect()));
        } else {
            print!("{}", table(&anchors, now(&view)));
        }
        Ok(())
    }
}

/// Unix seconds of the newest block.
pub(super) fn now(view: &View) -> u64 {
    view.head.map_or(0, |head| head.timestamp)
}

fn anchor_json(anchor: &Anchor) -> Value {
    json!({
        "gateway": anchor.gateway,
        "epoch": anchor.epoch,
        "size": anchor.size,
        "root": anchor.root,
        "timestamp": anchor.timestamp,
        "block": anchor.block,
    })
}

/// The last anchor of each log in each epoch; `now` is the newest block's time.
fn table(anchors: &[&Anchor], now: u64) -> String {
    let mut out = format!("{:<42} {:>8} {:>12} {:>12} {:>12}\n", "gateway", "epoch", "size", "age", "block");
    for anchor in anchors {
        let age = duration(now.saturating_sub(anchor.timestamp));
        let gateway = anchor.gateway.to_string();
        let _ = writeln!(
            out,
            "{gateway:<42} {:>8} {:>12} {age:>12} {:>12}",
            anchor.epoch, anchor.size, anchor.block
        );
    }
    out
}

/// Seconds in the two greatest units that they fill.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// How an epoch stands.
pub(super) fn standing(view: &View, term: &Term) -> String {
    let now = now(view);
    let until = |then: u64| format!("{then}, in {}", duration(then.saturating_sub(now)));
    match view.epochs.state(term.committee.epoch(), now) {
        EpochState::NotYet => format!("begins at {}", until(term.activation)),
        EpochState::Closed => format!("closed at {}", term.closes.unwrap_or_default()),
        EpochState::Open | EpochState::Unknown => match term.closes {
            None => format!("open since {}", term.activation),
            Some(closes) => format!("open since {}, closes at {}", term.activation, until(closes)),
        },
    }
}

/// An epoch and its committee in lines for people.
pub(super) fn describe(view: &View, term: &Term) -> String {
    format!("{}\n{}", standing(view, term), committee_cmd::describe(&term.committee))
}

/// An epoch and its committee.
pub(super) fn term_json(term: &Term) -> Result<Value> {
    Ok(json!({
        "epoch": term.committee.epoch(),
        "activation": term.activation,
        "closes": term.closes,
        "fingerprint": term.committee.fingerprint(),
        "committee": serde_json::to_value(&*term.committee)?,
    }))
}

#[cfg(test)]
mod tests {
    use meridian_proofs::B256;

    use super::*;

    #[test]
    fn a_table_has_one_line_for_each_anchor() {
        let gateway = Address::repeat_byte(7);
        let anchor = Anchor { gateway, epoch: 2, size: 1234, root: B256::ZERO, timestamp: 940, block: 55 };
        let text = table(&[&anchor], 1_000);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines[0], ["gateway", "epoch", "size", "age", "block"]);
        assert_eq!(lines[1], [&*gateway.to_string(), "2", "1234", "1", "min", "0", "s", "55"]);
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3_599, "59 min 59 s")] {
            assert_eq!(duration(seconds), text);
        }
        for (seconds, text) in [(3_600, "1 h 0 min"), (86_399, "23 h 59 min"), (86_400, "1 d 0 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
