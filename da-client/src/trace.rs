//! One trace from the client through gateway and replicas: W3C `traceparent` in the metadata of every call.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Puts the trace context of the current span into the metadata of a request.
pub fn inject(metadata: &mut MetadataMap) {
    let context = tracing::Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Metadata(metadata));
}

/// Takes the caller's trace context out of the headers of a request. Headers that are none give a context without one.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_trace_of_a_span_arrives_at_the_other_side() {
        let tracer = SdkTracerProvider::default().tracer("test");
        let subscriber =
            tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("put");
            let _entered = span.enter();
            let mut metadata = MetadataMap::new();
            inject(&mut metadata);
            let arrived = extract(&metadata.into_headers());
            let (sent, arrived) = (span.context(), arrived.span().span_context().clone());
            assert!(arrived.is_valid() && arrived.is_remote());
            assert_eq!(arrived.trace_id(), sent.span().span_context().trace_id());
        });
    }

    #[test]
    fn no_trace_and_garbage_are_no_trace() {
        let mut metadata = MetadataMap::new();
        inject(&mut metadata);
        assert!(metadata.is_empty());
        for value in ["", "00", "00-xyz-1-1", "00-00000000000000000000000000000000-0000000000000000-01"] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            assert!(!extract(&headers).span().span_context().is_valid());
        }
    }
}
