//! The gRPC server of a host: limits, health, reflection, tracing, a graceful stop.

mod accept;
mod admission;
mod converse;
mod frames;
mod observe;
mod paced;
mod rates;
mod taken;
pub mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt, TryStreamExt};
use meridian_client::guard::{Limits, Place, Places};
use meridian_client::tls::{Acceptor, Door};
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::config::host::Server as Settings;
use accept::Accepted;
use admission::Admission;
use converse::{Host, let_in};
use observe::Observe;
use rates::Rates;

/// A server that services are added to.
pub struct Server {
    settings: Settings,
    routes: Routes,
    health: HealthReporter,
    names: Vec<&'static str>,
    acceptor: Option<Acceptor>,
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
        Ok(Server { settings, routes, health, names: vec![""], acceptor: None })
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

    /// Lets connections in with this; without TLS, where there is nothing.
    #[must_use]
    pub fn secured(mut self, acceptor: Option<Acceptor>) -> Self {
        self.acceptor = acceptor;
        self
    }

    /// Serves until `stop` is there; then turns NOT_SERVING, goes on for the lame-duck time, takes no more requests and
    /// waits a bounded time for those in flight.
    ///
    /// # Errors
    /// When the server fails before it is asked to stop.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<()> {
        let limits = Limits {
            connections: within_open_files(self.settings.max_connections),
            per_address: self.settings.max_connections_per_address,
            stall: Duration::from_millis(self.settings.stall_ms),
        };
        let rates = Arc::new(Rates::new(&self.settings));
        let incoming = accept::accept(listener, Places::new(limits), Arc::clone(&rates));
        self.serve_accepted(incoming, rates, stop).await
    }

    /// Like [`Server::serve`], over connections that come from elsewhere, and as many as come.
    ///
    /// # Errors
    /// When the server fails before it is asked to stop.
    pub async fn serve_incoming<C>(
        self,
        incoming: impl Stream<Item = io::Result<C>>,
        stop: impl Future<Output = ()>,
    ) -> Result<()>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let rates = Arc::new(Rates::new(&self.settings));
        let incoming = incoming.map_ok(|stream| Accepted { stream, place: Place::uncounted() });
        self.serve_accepted(incoming, rates, stop).await
    }

    async fn serve_accepted<C>(
        mut self,
        incoming: impl Stream<Item = io::Result<Accepted<C>>>,
        rates: Arc<Rates>,
        stop: impl Future<Output = ()>,
    ) -> Result<()>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        for name in &self.names {
            self.health.set_service_status(name, ServingStatus::Serving).await;
        }
        let cut = CancellationToken::new();
        // Whatever is left at the end goes with this.
        let _cut = cut.clone().drop_guard();
        let host = Arc::new(Host {
            admission: Admission::new(&self.settings, Arc::clone(&rates)),
            service: Observe::new(self.routes.clone().prepare()),
            settings: self.settings.clone(),
            rates,
            door: Door::new(self.acceptor.take()),
            closing: CancellationToken::new(),
            cut,
        });
        let connections = TaskTracker::new();
        {
            let mut incoming = std::pin::pin!(incoming);
            take(&host, incoming.as_mut(), &connections, stop).await?;
            for name in &self.names {
                self.health.set_service_status(name, ServingStatus::NotServing).await;
            }
            let lame_duck = tokio::time::sleep(Duration::from_millis(self.settings.lame_duck_ms));
            take(&host, incoming, &connections, lame_duck).await?;
        }
        // Without this, everyone who watches the health would hold the server back to the end of the drain.
        for name in &self.names {
            self.health.clear_service_status(name).await;
        }
        host.closing.cancel();
        connections.close();
        if timeout(Duration::from_millis(self.settings.drain_ms), connections.wait()).await.is_err() {
            tracing::warn!(drain_ms = self.settings.drain_ms, "stopped with requests in flight");
        }
        Ok(())
    }
}

/// Takes connections until something is there.
async fn take<C>(
    host: &Arc<Host>,
    mut incoming: Pin<&mut impl Stream<Item = io::Result<Accepted<C>>>>,
    connections: &TaskTracker,
    until: impl Future<Output = ()>,
) -> Result<()>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut until = std::pin::pin!(until);
    loop {
        let next = tokio::select! {
            () = &mut until => return Ok(()),
            next = incoming.next() => next,
        };
        match next {
            Some(Ok(accepted)) => {
                connections.spawn(let_in(Arc::clone(host), accepted));
            }
            Some(Err(error)) => tracing::debug!(%error, "a connection broke before it was served"),
            None => bail!("no more connections can be accepted"),
        }
    }
}

/// As many connections, and no more than half of the files that the process may open: the store needs some too.
fn within_open_files(connections: usize) -> usize {
    let Ok((open_files, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return connections };
    let most = usize::try_from(open_files / 2).unwrap_or(usize::MAX).max(1);
    if most < connections {
        tracing::warn!(
            open_files,
            connections = most,
            "fewer connections than server.max_connections: raise the limit of open files"
        );
    }
    connections.min(most)
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
