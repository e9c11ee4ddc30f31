//! What a sidecar counts, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::guard::pages::{self, Count};

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0];

/// The counters.
pub(super) struct Metrics {
    requests: HistogramVec,
    refusals: IntCounterVec,
    received: IntCounter,
    sent: IntCounter,
    reads: IntCounterVec,
    puts: IntCounterVec,
    retries: IntCounterVec,
    in_flight: IntGauge,
    cache_bytes: IntGauge,
    archive_failures: IntCounter,
    endings: Count,
}

/// A put that is on its way.
pub(super) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let requests = HistogramVec::new(
            HistogramOpts::new(
                "meridian_altda_request_seconds",
                "Time from the head of a request to its answer, by call and status.",
            )
            .buckets(BUCKETS.to_vec()),
            &["call", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let (ended, endings) = pages::counter("meridian_altda_ended_connections_total")?;
        registry.register(Box::new(ended))?;
        let metrics = Self {
            endings,
            requests,
            refusals: counters(
                "meridian_altda_refusals_total",
                "Requests that did not get what they asked for, by call and reason.",
                &["call", "reason"],
            )?,
            received: counter("meridian_altda_received_bytes_total", "Bytes of inputs that were taken.")?,
            sent: counter("meridian_altda_sent_bytes_total", "Bytes of inputs that were given out.")?,
            reads: counters(
                "meridian_altda_reads_total",
                "Reads by where the input came from: memory or a read that was on its way, archive, network.",
                &["from"],
            )?,
            puts: counters(
                "meridian_altda_puts_total",
                "Puts that were answered with a commitment: fresh ones, and repeated ones that cost no other put.",
                &["kind"],
            )?,
            retries: counters(
                "meridian_altda_retries_total",
                "Tries that were made again because the failure could pass, by call.",
                &["call"],
            )?,
            in_flight: gauge("meridian_altda_puts_in_flight", "Puts that wait for a certificate.")?,
            cache_bytes: gauge("meridian_altda_cache_bytes", "Bytes of inputs in memory.")?,
            archive_failures: counter(
                "meridian_altda_archive_failures_total",
                "Copies that could not be written to the archive, or not be read from there.",
            )?,
        };
        for call in ["put", "get"] {
            metrics.retries.with_label_values(&[call]);
        }
        for from in ["memory", "archive", "network"] {
            metrics.reads.with_label_values(&[from]);
        }
        for kind in ["fresh", "repeated"] {
            metrics.puts.with_label_values(&[kind]);
        }
        Ok(metrics)
    }

    /// Counts connections that did not end by themselves.
    pub(super) fn endings(&self) -> Count {
        Arc::clone(&self.endings)
    }

    pub(super) fn answered(&self, call: &str, status: u16, took: Duration) {
        let status = status.to_string();
        let histogram: Histogram = self.requests.with_label_values(&[call, &status]);
        histogram.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, call: &str, reason: &str) {
        self.refusals.with_label_values(&[call, reason]).inc();
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A read that was answered, and from where.
    pub(super) fn read_from(&self, place: &str) {
        self.reads.with_label_values(&[place]).inc();
    }

    pub(super) fn repeated(&self, is_repeated: bool) {
        self.puts.with_label_values(&[if is_repeated { "repeated" } else { "fresh" }]).inc();
    }

    pub(super) fn again(&self, call: &str) {
        self.retries.with_label_values(&[call]).inc();
    }

    pub(super) fn put(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(super) fn cached(&self, bytes: u64) {
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn archive_failed(&self) {
        self.archive_failures.inc();
    }
}
