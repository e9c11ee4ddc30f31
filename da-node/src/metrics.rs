//! Every metric of the program, defined once for Prometheus and for OTLP.
//!
//! A metric is one line of the table below: `metrics::get().puts.add(1, &[KeyValue::new("result", "ok")])`. Names are
//! used as they stand by both exporters. Nothing is recorded before [`install`]: the instruments are inert until then.

pub mod process;
#[cfg(test)]
mod watched;

use std::sync::{LazyLock, OnceLock};

pub use opentelemetry::KeyValue;
use opentelemetry::metrics::noop::NoopMeterProvider;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider, UpDownCounter};

use meridian_proto::error::ApiError;
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkError;

use process::{CpuTime, OpenFiles, ResidentMemory, Tasks, WallClock};

/// What one line of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name in every exporter, with the unit and, for counters, `_total` as suffix.
    pub name: &'static str,
    /// `counter`, `gauge`, `up-down counter` or `histogram`.
    pub kind: &'static str,
    /// UCUM unit: `s`, `By`, or what is counted in braces.
    pub unit: &'static str,
    /// Names of the attributes that its points carry.
    pub attributes: &'static [&'static str],
    /// One sentence of help.
    pub help: &'static str,
}

/// A kind of instrument that can be made from its line of the table.
pub(crate) trait Instrument {
    const KIND: &'static str;
    fn build(meter: &Meter, definition: &Definition) -> Self;
}

impl Instrument for Counter<u64> {
    const KIND: &'static str = "counter";
    fn build(meter: &Meter, d: &Definition) -> Self {
        meter.u64_counter(d.name).with_unit(d.unit).with_description(d.help).build()
    }
}

impl Instrument for UpDownCounter<i64> {
    const KIND: &'static str = "up-down counter";
    fn build(meter: &Meter, d: &Definition) -> Self {
        meter.i64_up_down_counter(d.name).with_unit(d.unit).with_description(d.help).build()
    }
}

impl Instrument for Gauge<u64> {
    const KIND: &'static str = "gauge";
    fn build(meter: &Meter, d: &Definition) -> Self {
        meter.u64_gauge(d.name).with_unit(d.unit).with_description(d.help).build()
    }
}

impl Instrument for Counter<f64> {
    const KIND: &'static str = "counter";
    fn build(meter: &Meter, d: &Definition) -> Self {
        meter.f64_counter(d.name).with_unit(d.unit).with_description(d.help).build()
    }
}

impl Instrument for Gauge<f64> {
    const KIND: &'static str = "gauge";
    fn build(meter: &Meter, d: &Definition) -> Self {
        meter.f64_gauge(d.name).with_unit(d.unit).with_description(d.help).build()
    }
}

/// Upper bounds of the buckets of histograms of seconds.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 15.0, 60.0];
/// Upper bounds of the buckets of every other histogram.
const COUNTS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

impl Instrument for Histogram<f64> {
    const KIND: &'static str = "histogram";
    fn build(meter: &Meter, d: &Definition) -> Self {
        let boundaries = if d.unit == "s" { SECONDS.to_vec() } else { COUNTS.to_vec() };
        meter
            .f64_histogram(d.name)
            .with_unit(d.unit)
            .with_description(d.help)
            .with_boundaries(boundaries)
            .build()
    }
}

macro_rules! metrics {
    ($(
        #[doc = $help:literal]
        $field:ident: $kind:ty, $name:literal, $unit:literal, [$($attribute:literal),*];
    )*) => {
        /// Every instrument of the program.
        pub struct Metrics {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            /// Every line of the table.
            pub const TABLE: &[Definition] = &[$(Definition {
                name: $name,
                kind: <$kind as Instrument>::KIND,
                unit: $unit,
                attributes: &[$($attribute),*],
                help: $help.trim_ascii(),
            }),*];

            fn new(meter: &Meter) -> Self {
                let mut lines = Self::TABLE.iter();
                Metrics { $($field: build(meter, lines.next()),)* }
            }
        }
    };
}

metrics! {
    /// Requests answered, by method and gRPC status code.
    requests: Counter<u64>, "meridian_requests_total", "{request}", ["method", "code"];
    /// Time from a request's headers to the end of its answer.
    request_seconds: Histogram<f64>, "meridian_request_seconds", "s", ["method"];
    /// Requests being served now.
    requests_in_flight: UpDownCounter<i64>, "meridian_requests_in_flight", "{request}", [];
    /// Requests that were not taken: their address asked too often (`rate`), has too many in work (`address`) or does not take its answers (`unread`), the host has too many in work (`full`), or their body did not come in time (`slow`).
    refused_requests: Counter<u64>, "meridian_refused_requests_total", "{request}", ["reason"];
    /// Connections that are open.
    connections: UpDownCounter<i64>, "meridian_connections", "{connection}", [];
    /// Connections, of gRPC and of pages, that were closed as they came: their address opens too many (`rate`) or has its share (`address`), or nobody had to give way (`full`).
    refused_connections: Counter<u64>, "meridian_refused_connections_total", "{connection}", ["reason"];
    /// Connections that this host ended: `displaced` by another, an answer was not taken (`stalled`), `silent` at the beginning, `idle`, `old`, or busy with `frames` that ask for nothing.
    closed_connections: Counter<u64>, "meridian_closed_connections_total", "{connection}", ["reason"];
    /// Puts, uploads and checkpoints refused, by the reason that the caller was given.
    refusals: Counter<u64>, "meridian_refusals_total", "{request}", ["reason"];

    /// Puts answered by a gateway: `ok`, or the class of the error.
    puts: Counter<u64>, "meridian_gateway_puts_total", "{put}", ["result"];
    /// Namespaces in the file that says who may put.
    namespaces: Gauge<u64>, "meridian_gateway_namespaces", "{namespace}", [];
    /// Times that this file was read because it had changed: `ok`, or `broken` where the last good one stays in force.
    namespace_loads: Counter<u64>, "meridian_gateway_namespace_loads_total", "{load}", ["result"];
    /// Signatures of puts that are remembered until they have expired.
    used_nonces: Gauge<u64>, "meridian_gateway_used_nonces", "{signature}", [];
    /// Time from a put's first message to its certificate.
    put_seconds: Histogram<f64>, "meridian_gateway_put_seconds", "s", [];
    /// Puts in flight now.
    puts_in_flight: UpDownCounter<i64>, "meridian_gateway_puts_in_flight", "{put}", [];
    /// Puts that may be in work at a time, beyond which they are refused: it shrinks where they wait long for each other.
    put_window: Gauge<u64>, "meridian_gateway_put_window", "{put}", [];
    /// Payload bytes that were accepted and encoded.
    put_bytes: Counter<u64>, "meridian_gateway_put_bytes_total", "By", [];
    /// Time to encode a payload after its last byte arrived.
    encode_seconds: Histogram<f64>, "meridian_gateway_encode_seconds", "s", [];
    /// Uploads to replicas: `stored`, `held`, or the class of the error.
    dispersals: Counter<u64>, "meridian_gateway_dispersals_total", "{upload}", ["region", "result"];
    /// Time to upload a replica's rows and have them synced.
    dispersal_seconds: Histogram<f64>, "meridian_gateway_dispersal_seconds", "s", ["region"];
    /// Blobs that at least one region does not hold yet.
    uploads_pending: Gauge<u64>, "meridian_gateway_uploads_pending", "{blob}", [];
    /// Times that the set of replicas that puts wait for was chosen again.
    quorum_changes: Counter<u64>, "meridian_gateway_quorum_changes_total", "{change}", [];
    /// Seats that answered the last call.
    seats_connected: Gauge<u64>, "meridian_gateway_seats_connected", "{seat}", [];
    /// Seats of the committee that the gateway works with.
    seats: Gauge<u64>, "meridian_gateway_seats", "{seat}", [];
    /// Regions in which too few seats answer, while a certificate lacks one of them; 0 while there are enough others.
    regions_missing: Gauge<u64>, "meridian_gateway_regions_missing", "{region}", [];
    /// Epoch that the gateway works in.
    gateway_epoch: Gauge<u64>, "meridian_gateway_epoch", "{epoch}", [];
    /// Epochs that the gateway closed.
    epoch_changes: Counter<u64>, "meridian_gateway_epoch_changes_total", "{epoch}", [];
    /// Time from the end of an epoch to the begin of the next, in which puts wait.
    epoch_change_seconds: Histogram<f64>, "meridian_gateway_epoch_change_seconds", "s", [];
    /// Entries in the gateway's log.
    log_size: Gauge<u64>, "meridian_gateway_log_entries", "{entry}", [];
    /// Entries under the last certified checkpoint.
    certified_size: Gauge<u64>, "meridian_gateway_certified_entries", "{entry}", [];
    /// Checkpoints signed by a gateway, by outcome: `certified` or `superseded`.
    checkpoints: Counter<u64>, "meridian_gateway_checkpoints_total", "{checkpoint}", ["result"];
    /// Time from signing a checkpoint to its quorum of cosignatures.
    checkpoint_seconds: Histogram<f64>, "meridian_gateway_checkpoint_seconds", "s", [];
    /// New entries in one checkpoint.
    checkpoint_entries: Histogram<f64>, "meridian_gateway_checkpoint_entries", "{entry}", [];
    /// Cosignatures asked for: `ok`, or the class of the error.
    cosign_requests: Counter<u64>, "meridian_gateway_cosign_requests_total", "{request}", ["region", "result"];
    /// Entries of the gateway's log under its settled anchor.
    anchored_size: Gauge<u64>, "meridian_gateway_anchored_entries", "{entry}", [];
    /// Certified entries that no settled anchor covers.
    anchor_waiting: Gauge<u64>, "meridian_gateway_anchor_waiting_entries", "{entry}", [];
    /// Time since the checkpoint of the settled anchor was signed.
    anchor_age: Gauge<u64>, "meridian_gateway_anchor_age_seconds", "s", [];
    /// Anchors by how they went: `mined`, `reverted`, `waiting` when one is replaced, `dropped`, `refused` in a simulation, `forked` when what is anchored is not the beginning of the log, `failed` when it cannot be sent, `vanished` by a reorganisation.
    anchor_transactions: Counter<u64>, "meridian_gateway_anchor_transactions_total", "{transaction}", ["result"];
    /// Gas that anchors used.
    anchor_gas: Counter<u64>, "meridian_gateway_anchor_gas_total", "{gas}", [];
    /// What anchors cost.
    anchor_fees: Counter<f64>, "meridian_gateway_anchor_fees_wei_total", "{wei}", [];
    /// What the anchoring account holds.
    anchor_balance: Gauge<f64>, "meridian_gateway_anchor_balance_wei", "{wei}", [];
    /// Anchors that the account can pay at current prices.
    anchor_funds: Gauge<u64>, "meridian_gateway_anchor_funded_transactions", "{transaction}", [];
    /// Attempts to anchor that failed since the last that did not; the last error is in the status and the log.
    anchor_failures: Gauge<u64>, "meridian_gateway_anchor_failures", "{attempt}", [];

    /// Uploads taken by a replica: `stored`, `held`, or the class of the error.
    ingests: Counter<u64>, "meridian_replica_ingests_total", "{upload}", ["result"];
    /// Time from an upload's first message to its rows being synced.
    ingest_seconds: Histogram<f64>, "meridian_replica_ingest_seconds", "s", [];
    /// Row bytes that were verified and stored.
    ingest_bytes: Counter<u64>, "meridian_replica_ingest_bytes_total", "By", [];
    /// Checkpoints put before a replica: `signed`, `behind`, or the class of the error.
    cosigns: Counter<u64>, "meridian_replica_cosigns_total", "{checkpoint}", ["result"];
    /// Time to check a checkpoint, sync it and sign.
    cosign_seconds: Histogram<f64>, "meridian_replica_cosign_seconds", "s", [];
    /// Log items taken from others up to an anchor, for a seat that is new.
    filled_entries: Counter<u64>, "meridian_replica_filled_entries_total", "{entry}", [];
    /// Entries whose rows this replica owes and does not hold, of its own seats and of those that passed to it.
    repair_left: Gauge<u64>, "meridian_replica_repair_entries_left", "{entry}", [];
    /// Bytes read and checked by the scrub.
    scrubbed_bytes: Counter<u64>, "meridian_replica_scrubbed_bytes_total", "By", [];
    /// Stored values found damaged: `record`, `rlc`, `leaves` or `rows`.
    scrub_findings: Counter<u64>, "meridian_replica_scrub_findings_total", "{value}", ["part"];
    /// Damaged values that were repaired.
    scrub_repairs: Counter<u64>, "meridian_replica_scrub_repairs_total", "{value}", [];
    /// Damaged values that are not repaired yet.
    quarantined: Gauge<u64>, "meridian_replica_quarantined_values", "{value}", [];
    /// When the scrub last finished to check everything.
    scrubbed_at: Gauge<u64>, "meridian_replica_scrub_finished_timestamp_seconds", "s", [];
    /// Log entries cosigned.
    cosigned_entries: Counter<u64>, "meridian_replica_cosigned_entries_total", "{entry}", [];
    /// Row bytes answered to readers: from `disk`, from the `cache` of rebuilt blobs, or `rebuilt`.
    served_bytes: Counter<u64>, "meridian_replica_served_bytes_total", "By", ["source"];
    /// Single rows answered to samplers: from `disk`, from the `cache` of rebuilt blobs, or `rebuilt`.
    samples: Counter<u64>, "meridian_replica_samples_total", "{row}", ["source"];
    /// Lookups answered: `ok`, or the class of the error.
    lookups: Counter<u64>, "meridian_replica_lookups_total", "{lookup}", ["result"];
    /// Blobs rebuilt from other replicas' rows: `ok`, `inconsistent`, or the class of the error.
    rebuilds: Counter<u64>, "meridian_replica_rebuilds_total", "{blob}", ["result"];
    /// Time to gather the rows of a blob, decode it and encode it again.
    rebuild_seconds: Histogram<f64>, "meridian_replica_rebuild_seconds", "s", [];
    /// Requests for rows that are not on disk: `hit` where the blob is kept since it was rebuilt, `joined` where it is being rebuilt, `miss` where that begins.
    cache_requests: Counter<u64>, "meridian_replica_cache_requests_total", "{request}", ["result"];
    /// Memory of the rebuilt blobs that are kept.
    cache_bytes: Gauge<u64>, "meridian_replica_cache_bytes", "By", [];
    /// Rebuilt blobs that are kept no longer: others needed the `room`, nobody asked for them (`idle`), or they were `dropped` from disk.
    cache_evictions: Counter<u64>, "meridian_replica_cache_evictions_total", "{blob}", ["reason"];
    /// Blobs of which missing rows were put back: `ok`, or the class of the error.
    repairs: Counter<u64>, "meridian_replica_repairs_total", "{blob}", ["result"];
    /// Blobs found not to be codewords.
    inconsistent_blobs: Counter<u64>, "meridian_replica_inconsistent_blobs_total", "{blob}", [];
    /// Uploads dropped because no cosigned entry named them in time.
    dropped_uploads: Counter<u64>, "meridian_replica_dropped_uploads_total", "{blob}", [];
    /// Blobs dropped because their last entry has expired.
    expired_blobs: Counter<u64>, "meridian_replica_expired_blobs_total", "{blob}", [];
    /// Answers of other replicas that were wrong, or did not come in time, by the region of the seat.
    peer_faults: Counter<u64>, "meridian_replica_peer_faults_total", "{answer}", ["region", "kind"];
    /// Row bytes on disk.
    stored_bytes: Gauge<u64>, "meridian_replica_stored_bytes", "By", [];
    /// Blobs of which rows are on disk.
    stored_blobs: Gauge<u64>, "meridian_replica_stored_blobs", "{blob}", [];

    /// TLS handshakes, by how they went: `ok`, `timeout`, `closed` by the caller, `no_tls` spoken, `incompatible` version or algorithms, another `protocol`, `refused` by the caller, `no_client_certificate` or a `client_certificate` that is not accepted, or `other`.
    tls_handshakes: Counter<u64>, "meridian_tls_handshakes_total", "{handshake}", ["result"];
    /// Times that files of TLS had changed and were read again: `ok`, or `failed` where the old ones stay in use.
    tls_reloads: Counter<u64>, "meridian_tls_reloads_total", "{reload}", ["result"];
    /// Days until the host's certificate ends; less than 0 when it has.
    tls_days_left: Gauge<f64>, "meridian_tls_certificate_days_left", "{day}", [];

    /// Memory reserved for payloads and rows in flight, within the configured budgets.
    memory_reserved: UpDownCounter<i64>, "meridian_memory_reserved_bytes", "By", ["budget"];
    /// What may be reserved of each budget: of `puts` on a gateway, of `uploads`, `rebuilds`, `repairs` and the `cache` on a replica.
    memory_budget: Gauge<u64>, "meridian_memory_budget_bytes", "By", ["budget"];
    /// Bytes of the store's disk that are free.
    store_free: Gauge<u64>, "meridian_store_free_bytes", "By", [];
    /// Bytes of the store's disk below which new rows and payloads are refused.
    store_min_free: Gauge<u64>, "meridian_store_min_free_bytes", "By", [];
    /// 1 from a write that failed until the host has started itself again, else 0.
    store_failed: Gauge<u64>, "meridian_store_failed", "{store}", [];
    /// Time of a synced write to the store.
    store_sync_seconds: Histogram<f64>, "meridian_store_sync_seconds", "s", [];
    /// Stored values whose checksum was wrong when they were read.
    checksum_failures: Counter<u64>, "meridian_store_checksum_failures_total", "{value}", [];
    /// Time that CPU work waited for its pool.
    cpu_wait_seconds: Histogram<f64>, "meridian_cpu_wait_seconds", "s", [];

    /// Time since the chain was last read. While no endpoint answers, what was known before stays.
    chain_age: Gauge<u64>, "meridian_chain_age_seconds", "s", [];
    /// The settled block up to which the chain was read.
    chain_block: Gauge<u64>, "meridian_chain_block", "{block}", [];

    /// Resident memory of the process.
    process_memory: ResidentMemory, "meridian_process_resident_bytes", "By", [];
    /// CPU time of the process, user and system.
    process_cpu: CpuTime, "meridian_process_cpu_seconds_total", "s", [];
    /// File descriptors that the process has open.
    process_files: OpenFiles, "meridian_process_open_files", "{file}", [];
    /// The host's clock, to be compared with that of whoever reads it.
    process_clock: WallClock, "meridian_process_clock_seconds", "s", [];
    /// Asynchronous tasks of the process that have not ended.
    process_tasks: Tasks, "meridian_process_tasks", "{task}", [];
}

/// Makes the instrument of a line of the table.
fn build<I: Instrument>(meter: &Meter, line: Option<&Definition>) -> I {
    I::build(meter, line.unwrap_or(&Metrics::TABLE[0]))
}

static INSTALLED: OnceLock<Metrics> = OnceLock::new();
static INERT: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(&NoopMeterProvider::new().meter("meridian")));

/// A reader that shows the instruments to a Prometheus registry under the names of the table.
///
/// # Errors
/// When the registry has such a reader already.
pub fn prometheus_reader(registry: &prometheus::Registry) -> Result<PrometheusExporter, OTelSdkError> {
    opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .without_units()
        .without_counter_suffixes()
        .scope_info_enabled(false)
        .build()
}

/// Makes every instrument from a provider; only the first call of a process has an effect.
///
/// The caller keeps the provider: instruments of a dropped one record nothing.
pub fn install(provider: &impl MeterProvider) {
    INSTALLED.get_or_init(|| Metrics::new(&provider.meter("meridian")));
}

/// The instruments of the process.
pub fn get() -> &'static Metrics {
    INSTALLED.get().unwrap_or(&INERT)
}

/// Counts a request that was refused.
pub(crate) fn refused(error: &ApiError) {
    get().refusals.add(1, &[KeyValue::new("reason", error.reason.as_str())]);
}

/// The table as Markdown, for `docs/operations.md`.
pub fn markdown() -> String {
    let mut out = String::from("| metric | kind | unit | attributes | meaning |\n|---|---|---|---|---|\n");
    for d in Metrics::TABLE {
        let attributes = d.attributes.join(", ");
        out.push_str(&format!("| `{}` | {} | {} | {attributes} | {} |\n", d.name, d.kind, d.unit, d.help));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use opentelemetry_sdk::metrics::SdkMeterProvider;
    use prometheus::{Encoder, TextEncoder};

    use super::*;

    #[test]
    fn every_metric_has_a_unit_a_help_text_and_a_proper_name() {
        let mut names = HashSet::new();
        for d in Metrics::TABLE {
            assert!(names.insert(d.name), "{} is there twice", d.name);
            assert!(d.name.starts_with("meridian_"), "{}", d.name);
            assert!(d.help.len() > 10 && d.help.ends_with('.'), "{} has no sentence of help", d.name);
            let braced = d.unit.starts_with('{') && d.unit.ends_with('}') && d.unit.len() > 2;
            assert!(d.unit == "s" || d.unit == "By" || braced, "{} has unit {:?}", d.name, d.unit);
            let stem = d.name.strip_suffix("_total");
            assert_eq!(stem.is_some(), d.kind == "counter", "{}: only counters end in _total", d.name);
            let stem = stem.unwrap_or(d.name);
            assert_eq!(stem.ends_with("_seconds"), d.unit == "s", "{}", d.name);
            assert_eq!(stem.ends_with("_bytes"), d.unit == "By", "{}", d.name);
        }
    }

    #[test]
    fn docs_list_every_metric() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
        crate::test_docs::check_section(&path, "metrics", &markdown());
    }

    #[test]
    fn prometheus_shows_name_help_and_value() {
        let registry = prometheus::Registry::new();
        let exporter = prometheus_reader(&registry).unwrap();
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let metrics = Metrics::new(&provider.meter("meridian"));
        metrics.puts.add(3, &[KeyValue::new("result", "ok")]);
        metrics.put_seconds.record(0.018, &[]);
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("# HELP meridian_gateway_puts_total Puts answered by a gateway"), "{text}");
        assert!(text.contains("meridian_gateway_puts_total{result=\"ok\"} 3"), "{text}");
        assert!(text.contains("meridian_gateway_put_seconds_bucket{le=\"0.02\"} 1"), "{text}");
        assert!(text.contains("# TYPE meridian_process_resident_bytes gauge"), "{text}");
    }
}
