//! A collector of traces, for tests that follow one call through every process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// A span that arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// `service.name` and, where there is one, `service.instance.id` of who sent it.
    pub sender: String,
    /// The span's name.
    pub name: String,
}

type Spans = Arc<Mutex<BTreeMap<Vec<u8>, Vec<Span>>>>;

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    spans: Spans,
    server: tokio::task::JoinHandle<()>,
}

struct Export(Spans);

fn sender(resource: Option<&Resource>) -> String {
    let text = |key: &str| {
        let found = resource?.attributes.iter().find(|a| a.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            _ => None,
        }
    };
    let names: Vec<String> = ["service.name", "service.instance.id"].into_iter().filter_map(text).collect();
    names.join("/")
}

#[tonic::async_trait]
impl TraceService for Export {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let sender = sender(resource.resource.as_ref());
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans
                    .entry(span.trace_id)
                    .or_default()
                    .push(Span { sender: sender.clone(), name: span.name });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts a collector on a free port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans = Spans::default();
        let service = TraceServiceServer::new(Export(Arc::clone(&spans)));
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            if let Err(error) = Server::builder().add_service(service).serve_with_incoming(incoming).await {
                tracing::warn!(%error, "the collector stopped");
            }
        });
        Ok(Self { endpoint, spans, server })
    }

    /// Where it listens, for the OTLP endpoint setting.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The spans of every trace that arrived so far, by trace id.
    #[must_use]
    pub fn traces(&self) -> BTreeMap<Vec<u8>, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}
