//! Logs, traces and metrics of the process.
//!
//! Every request has a trace id, made by the first party of a call and carried on by the others as W3C `traceparent`;
//! log lines written while it is served carry it. Traces and metrics leave the process only when an OTLP endpoint is
//! configured. Nothing here ever sees a secret: keys are never put into fields.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::trace::{TraceContextExt, TracerProvider as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::host::{Log, LogFormat, Telemetry as Settings};
use crate::metrics;

/// What is set up for the process; [`Telemetry::shutdown`] sends what is left.
pub struct Telemetry {
    /// Where Prometheus reads the metrics.
    pub registry: prometheus::Registry,
    /// Which lines are logged.
    pub log: LogFilter,
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
}

/// Which lines are logged, while the process runs.
#[derive(Clone)]
pub struct LogFilter {
    current: Arc<Mutex<String>>,
    replace: Arc<dyn Fn(EnvFilter) -> Result<()> + Send + Sync>,
}

impl LogFilter {
    fn new<S: 'static>(filter: &str, handle: reload::Handle<EnvFilter, S>) -> Self {
        Self {
            current: Arc::new(Mutex::new(filter.to_owned())),
            replace: Arc::new(move |filter| handle.reload(filter).context("the log has ended")),
        }
    }

    /// Logs other lines from now on. Gives what was logged until now.
    ///
    /// # Errors
    /// When that is no filter.
    pub fn set(&self, filter: &str) -> Result<String> {
        let parsed = EnvFilter::try_new(filter)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (self.replace)(parsed)?;
        Ok(std::mem::replace(&mut *current, filter.to_owned()))
    }
}

impl Telemetry {
    /// Sends what has not been sent yet and ends all exports; blocks for some seconds at most.
    pub fn shutdown(&self) {
        // Nothing can be done about what a collector does not take any more.
        let _ = self.traces.shutdown_with_timeout(Duration::from_secs(3));
        let _ = self.metrics.shutdown_with_timeout(Duration::from_secs(3));
    }
}

/// Sets up logs, traces and metrics of the process, under the name of the service. Once for each process, inside a
/// runtime.
///
/// # Errors
/// When a setting is wrong or the process has it all set up already.
pub fn init(log: &Log, settings: &Settings, service: &str, instance: &str) -> Result<Telemetry> {
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .build();
    let traces = tracer_provider(settings, resource.clone())?;
    let registry = prometheus::Registry::new();
    let metrics = meter_provider(settings, resource, &registry)?;
    metrics::install(&metrics);
    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(traces.clone());

    let filter = EnvFilter::try_new(&log.filter).context("bad log filter")?;
    let (filter, handle) = reload::Layer::new(filter);
    let filters = LogFilter::new(&log.filter, handle);
    // Traces do not depend on what is logged.
    let ours = Targets::new()
        .with_target("meridian_node", LevelFilter::DEBUG)
        .with_target("meridian_client", LevelFilter::DEBUG);
    let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer("meridian")).with_filter(ours);
    let registered = tracing_subscriber::registry().with(spans);
    match log.format {
        LogFormat::Text => registered.with(text_layer(std::io::stderr).with_filter(filter)).try_init(),
        LogFormat::Json => registered.with(json_layer(std::io::stderr).with_filter(filter)).try_init(),
    }
    .context("logging is set up already")?;
    Ok(Telemetry { registry, log: filters, traces, metrics })
}

fn tracer_provider(settings: &Settings, resource: Resource) -> Result<SdkTracerProvider> {
    let builder = SdkTracerProvider::builder().with_resource(resource);
    if settings.otlp_endpoint.is_empty() {
        // Trace ids are made and carried on all the same.
        return Ok(builder.with_sampler(Sampler::AlwaysOff).build());
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&settings.otlp_endpoint)
        .build()
        .context("bad telemetry.otlp_endpoint")?;
    // By trace id alone, so that all hosts send the same traces, whatever the caller of the first of them thinks.
    let sampler = Sampler::TraceIdRatioBased(settings.sample_ratio);
    Ok(builder.with_sampler(sampler).with_batch_exporter(exporter).build())
}

fn meter_provider(
    settings: &Settings,
    resource: Resource,
    registry: &prometheus::Registry,
) -> Result<SdkMeterProvider> {
    let builder = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(metrics::prometheus_reader(registry).context("cannot set up prometheus")?);
    if settings.otlp_endpoint.is_empty() {
        return Ok(builder.build());
    }
    let exporter = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(&settings.otlp_endpoint)
        .build()
        .context("bad telemetry.otlp_endpoint")?;
    let interval = Duration::from_millis(settings.metrics_interval_ms);
    Ok(builder.with_reader(PeriodicReader::builder(exporter).with_interval(interval).build()).build())
}

/// The trace id of what is being done now, if there is one.
#[must_use]
pub fn trace_id() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id().to_string())
    })
}

fn text_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Traced(Format::default()))
        .with_writer(writer)
}

fn json_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    let format = Format::default().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(Traced(format))
        .with_writer(writer)
}

/// A format with the trace id added to every line that has one.
struct Traced<F>(F);

impl<S, N> FormatEvent<S, N> for Traced<Format>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        match trace_id() {
            Some(id) => writeln!(out, "{} trace_id={id}", line.trim_end()),
            None => out.write_str(&line),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Traced<Format<Json>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        match (trace_id(), line.strip_prefix('{')) {
            (Some(id), Some(rest)) => write!(out, "{{\"trace_id\":\"{id}\",{rest}"),
            _ => out.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::info;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn spans<S>() -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let provider = tracer_provider(&Settings::default(), Resource::builder_empty().build()).unwrap();
        tracing_opentelemetry::layer().with_tracer(provider.tracer("test"))
    }

    fn log_inside_and_outside() -> String {
        info!("outside");
        tracing::info_span!("request").in_scope(|| {
            info!(size = 3, "inside");
            trace_id().unwrap()
        })
    }

    #[test]
    fn text_lines_carry_the_trace_id() {
        let lines = Lines::default();
        let copy = lines.clone();
        let subscriber = tracing_subscriber::registry().with(spans()).with(text_layer(move || copy.clone()));
        let id = tracing::subscriber::with_default(subscriber, log_inside_and_outside);
        let text = lines.text();
        let (first, second) = text.trim_end().split_once('\n').unwrap();
        assert!(!first.contains("trace_id"), "{first}");
        assert!(second.contains("inside size=3") && second.ends_with(&format!("trace_id={id}")), "{second}");
    }

    #[test]
    fn other_lines_are_logged_from_then_on() {
        let lines = Lines::default();
        let copy = lines.clone();
        let (filter, handle) = reload::Layer::new(EnvFilter::new("warn"));
        let log = LogFilter::new("warn", handle);
        let layer = text_layer(move || copy.clone()).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            info!("first");
            assert_eq!(log.set("info").unwrap(), "warn");
            info!("second");
            assert!(log.set("loud=very").is_err());
            info!("third");
            assert_eq!(log.set("warn").unwrap(), "info");
            info!("fourth");
        });
        let text = lines.text();
        let seen: Vec<bool> = ["first", "second", "third", "fourth"].map(|it| text.contains(it)).into();
        assert_eq!(seen, [false, true, true, false], "{text}");
    }

    #[test]
    fn json_lines_carry_the_trace_id() {
        let lines = Lines::default();
        let copy = lines.clone();
        let subscriber = tracing_subscriber::registry().with(spans()).with(json_layer(move || copy.clone()));
        let id = tracing::subscriber::with_default(subscriber, log_inside_and_outside);
        let objects: Vec<serde_json::Value> =
            lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(objects[0].get("trace_id").is_none());
        assert_eq!(objects[1]["trace_id"], id);
        assert_eq!(objects[1]["size"], 3);
        assert_eq!(objects[1]["message"], "inside");
    }
}
