//! The gRPC server of a host: limits, health, reflection, tracing, a graceful stop.

mod connections;
mod observe;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::config::host::Server as Settings;

/// Silence on a connection after which its peer is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// Time that the peer has to give one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that services are added to.
pub struct Server {
    settings: Settings,
    routes: Routes,
    health: HealthReporter,
    names: Vec<&'static str>,
}

impl Server {
    /// A server with `grpc.health.v1` and reflection.
    ///
    /// # Errors
    /// When the compiled protobuf files do not decode.
    pub fn new(settings: Settings) -> Result<Self> {
        let health = HealthReporter::new();
        let service = HealthService::from_health_reporter(health.clone());
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(meridian_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .context("cannot set up reflection")?;
        let routes =
            Routes::new(tonic_health::pb::health_server::HealthServer::new(service)).add_service(reflection);
        Ok(Server { settings, routes, health, names: vec![""] })
    }

    /// Adds a service, whose health is then reported under its name.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }

    /// Serves until `stop` is there; then turns NOT_SERVING, goes on for the lame-duck time, takes no more requests and
    /// waits a bounded time for those in flight.
    ///
    /// # Errors
    /// When the server fails before it is asked to stop.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<()> {
        let incoming = connections::accept(listener, self.settings.max_connections);
        self.serve_incoming(incoming, stop).await
    }

    /// Like [`Server::serve`], over connections that come from elsewhere, and as many as come.
    ///
    /// # Errors
    /// When the server fails before it is asked to stop.
    pub async fn serve_incoming<C>(
        mut self,
        incoming: impl Stream<Item = io::Result<C>>,
        stop: impl Future<Output = ()>,
    ) -> Result<()>
    where
        C: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
        C::ConnectInfo: Clone + Send + Sync + 'static,
    {
        for name in &self.names {
            self.health.set_service_status(name, ServingStatus::Serving).await;
        }
        let (stop_accepting, stopped) = oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .max_concurrent_streams(self.settings.max_concurrent_streams)
            .initial_stream_window_size(self.settings.stream_window_bytes)
            .initial_connection_window_size(self.settings.connection_window_bytes)
            .http2_max_header_list_size(self.settings.max_header_bytes)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .layer(observe::ObserveLayer)
            .add_routes(self.routes.clone())
            .serve_with_incoming_shutdown(incoming, async {
                let _ = stopped.await;
            });
        let mut server = Box::pin(server);

        tokio::select! {
            result = &mut server => {
                result.context("the grpc server failed")?;
                bail!("the grpc server ended");
            }
            () = stop => {}
        }
        for name in &self.names {
            self.health.set_service_status(name, ServingStatus::NotServing).await;
        }
        // The server goes on meanwhile; it ends early only when it fails.
        if let Ok(result) = timeout(Duration::from_millis(self.settings.lame_duck_ms), &mut server).await {
            return result.context("the grpc server failed");
        }
        // Without this, everyone who watches the health would hold the server back to the end of the drain.
        for name in &self.names {
            self.health.clear_service_status(name).await;
        }
        let _ = stop_accepting.send(());
        match timeout(Duration::from_millis(self.settings.drain_ms), server).await {
            Ok(result) => result.context("the grpc server failed"),
            Err(_) => {
                tracing::warn!(drain_ms = self.settings.drain_ms, "stopped with requests in flight");
                Ok(())
            }
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_signal() -> Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[cfg(test)]
mod tests;
