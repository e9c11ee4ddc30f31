//! What a sidecar measures.

use std::collections::BTreeMap;

use alloy::transports::http::reqwest;
use anyhow::{Context, Result};

/// Times of calls.
const SECONDS: &str = "meridian_altda_request_seconds";
/// Bytes of the puts.
const RECEIVED: &str = "meridian_altda_received_bytes_total";

/// One line of Prometheus' text format.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All that a sidecar measures at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    samples: Vec<Sample>,
}

/// How long the calls of one kind took that went well, in milliseconds, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Calls {
    /// Calls.
    pub(crate) count: f64,
    /// Half of them took no longer.
    pub(crate) p50_ms: f64,
    /// 99 of 100 took no longer.
    pub(crate) p99_ms: f64,
}

impl Measured {
    /// Asks a sidecar.
    ///
    /// # Errors
    /// When it does not answer, or with something else.
    pub(crate) async fn of(sidecar: &str) -> Result<Self> {
        let answer = reqwest::get(format!("{sidecar}/metrics")).await?.error_for_status()?;
        Self::parse(&answer.text().await?)
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("no metric: {line}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// Bytes that were put.
    pub(crate) fn received(&self) -> f64 {
        self.samples.iter().filter(|sample| sample.name == RECEIVED).map(|sample| sample.value).sum()
    }

    /// Calls of a kind by the status that they were answered with.
    pub(crate) fn statuses(&self, call: &str) -> BTreeMap<String, f64> {
        let name = format!("{SECONDS}_count");
        let mut statuses = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name && sample.is("call", call)) {
            let status = sample.labels.get("status").cloned().unwrap_or_default();
            *statuses.entry(status).or_default() += sample.value;
        }
        statuses
    }

    /// The times of the calls of a kind that went well.
    pub(crate) fn calls(&self, call: &str) -> Calls {
        let name = format!("{SECONDS}_bucket");
        let buckets =
            self.samples.iter().filter(|s| s.name == name && s.is("call", call) && s.is("status", "200"));
        let mut upto: Vec<(f64, f64)> =
            buckets.filter_map(|s| Some((s.labels.get("le")?.parse().ok()?, s.value))).collect();
        upto.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = upto.last().map_or(0.0, |last| last.1);
        Calls { count, p50_ms: quantile(&upto, 0.5) * 1e3, p99_ms: quantile(&upto, 0.99) * 1e3 }
    }
}

impl Sample {
    fn is(&self, label: &str, value: &str) -> bool {
        self.labels.get(label).is_some_and(|is| is == value)
    }
}

/// Reads a line; no label that is asked for here has an escaped character.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample { name: series.into(), labels: BTreeMap::new(), value });
    };
    let labels = labels.strip_suffix('}')?.split("\",").filter_map(|label| {
        let (name, value) = label.split_once("=\"")?;
        Some((name.into(), value.trim_end_matches('"').into()))
    });
    Some(Sample { name: name.into(), labels: labels.collect(), value })
}

/// The value below which such a part of all lies, when those in one bucket are spread evenly in it.
fn quantile(upto: &[(f64, f64)], part: f64) -> f64 {
    let place = upto.last().map_or(0.0, |last| last.1) * part;
    let (mut floor, mut below) = (0.0, 0.0);
    for &(bound, count) in upto {
        if count >= place && count > below {
            // The last bucket has no upper bound.
            return if bound.is_finite() {
                floor + (bound - floor) * (place - below) / (count - below)
            } else {
                floor
            };
        }
        (floor, below) = (bound, count);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE meridian_altda_request_seconds histogram
meridian_altda_request_seconds_bucket{call=\"put\",status=\"200\",le=\"0.1\"} 10
meridian_altda_request_seconds_bucket{call=\"put\",status=\"200\",le=\"0.2\"} 90
meridian_altda_request_seconds_bucket{call=\"put\",status=\"200\",le=\"+Inf\"} 100
meridian_altda_request_seconds_sum{call=\"put\",status=\"200\"} 17.5
meridian_altda_request_seconds_count{call=\"put\",status=\"200\"} 100
meridian_altda_request_seconds_count{call=\"put\",status=\"503\"} 3
meridian_altda_received_bytes_total 4096
";

    #[test]
    fn times_are_spread_evenly_in_their_bucket() {
        let measured = Measured::parse(TEXT).unwrap();
        let puts = measured.calls("put");
        assert_eq!((puts.count, puts.p50_ms.round(), puts.p99_ms), (100.0, 150.0, 200.0));
        assert_eq!(measured.calls("get"), Calls::default());
        assert_eq!(measured.statuses("put"), [("200".into(), 100.0), ("503".into(), 3.0)].into());
        assert_eq!(measured.received(), 4096.0);
        assert!(Measured::parse("nonsense").is_err());
    }
}
