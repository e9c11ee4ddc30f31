//! Opens a span for every request, under the caller's trace, and counts and times it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Frame, SizeHint};
use tonic::Code;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::Service;
use tracing::{Instrument, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::metrics::{self, KeyValue};

/// A service whose requests are seen.
#[derive(Clone)]
pub(super) struct Observe<S> {
    inner: S,
}

impl<S> Observe<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<ObservedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Call::begin(request.uri().path(), request.headers());
        let answer = {
            let _entered = call.span.enter();
            self.inner.call(request)
        };
        Box::pin(async move {
            let response = answer.instrument(call.span.clone()).await?;
            Ok(call.answered(response))
        })
    }
}

/// A request from its headers to the end of its answer.
struct Call {
    method: String,
    span: Span,
    begun: Instant,
    code: Option<Code>,
}

impl Call {
    fn begin(path: &str, headers: &HeaderMap) -> Self {
        let method = path.trim_start_matches('/').to_owned();
        let span = tracing::info_span!(
            "request",
            otel.name = %method,
            otel.kind = "server",
            method = %method,
            code = field::Empty,
        );
        // Before the span is entered for the first time: from then on its trace is fixed.
        let _ = span.set_parent(meridian_client::trace::extract(headers));
        metrics::get().requests_in_flight.add(1, &[]);
        Call { method, span, begun: Instant::now(), code: None }
    }

    fn answered<R>(mut self, response: Response<R>) -> Response<ObservedBody<R>> {
        // An answer without messages has its status among the headers.
        self.code = status(response.headers());
        response.map(|body| ObservedBody { body, call: self })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Without a status the caller went away.
        let code = self.code.unwrap_or(Code::Cancelled);
        let name = format!("{code:?}");
        self.span.record("code", name.as_str());
        // Names that callers make up are not kept apart.
        let method = match code {
            Code::Unimplemented => "unknown".to_owned(),
            _ => std::mem::take(&mut self.method),
        };
        let method = KeyValue::new("method", method);
        let metrics = metrics::get();
        metrics.requests_in_flight.add(-1, &[]);
        metrics.request_seconds.record(self.begun.elapsed().as_secs_f64(), std::slice::from_ref(&method));
        metrics.requests.add(1, &[method, KeyValue::new("code", name)]);
    }
}

fn status(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

/// The body of an answer; when it ends, the request has ended.
pub(super) struct ObservedBody<R> {
    body: R,
    call: Call,
}

impl<R: Body + Unpin> Body for ObservedBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let this = self.get_mut();
        let _entered = this.call.span.enter();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.call.code = status(trailers).or(this.call.code);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
