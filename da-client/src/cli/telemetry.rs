//! Logs on standard error as RUST_LOG says, traces to an OTLP endpoint where one is given.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::exit::Problem;

/// What sends traces until it is shut down.
pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Installs logs and traces. Needs a tokio runtime when an endpoint is given.
    ///
    /// `level` is what is logged without RUST_LOG. Trace ids are made in any case: nodes log them, so that a call can be followed without a collector.
    pub(crate) fn install(otlp: Option<&str>, level: LevelFilter) -> Result<Self, Problem> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let resource = Resource::builder().with_service_name("da").build();
        let mut provider = SdkTracerProvider::builder().with_resource(resource);
        if let Some(endpoint) = otlp {
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|error| Problem::usage(error, "check --otlp and OTEL_EXPORTER_OTLP_ENDPOINT"))?;
            provider = provider.with_batch_exporter(exporter);
        }
        let provider = provider.build();
        let traces =
            tracing_opentelemetry::layer().with_tracer(provider.tracer("da")).with_filter(LevelFilter::INFO);
        let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
        let stderr = std::io::stderr;
        let logs = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
        let logs = logs.with_filter(filter);
        tracing_subscriber::registry().with(traces).with(logs).try_init().map_err(Problem::local)?;
        Ok(Self { provider })
    }

    /// Sends what is left. A collector that is gone is no failure of the command.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "traces could not be sent");
        }
    }
}
