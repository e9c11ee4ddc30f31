//! Calls to gateways and replicas: domain types in, domain types out.
//!
//! Every answer is converted by `meridian_proto::convert` and bounded by what was asked for. Signatures and proofs in
//! answers remain to be checked: the functions here do not know whom to trust.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use meridian_proto::error::{ApiError, Reason};
use meridian_proto::{MAX_CHUNK, WireError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::tls::{self, Opener, Trust};
use crate::trace;

mod admin;
mod gateway;
mod log;
mod replica;

pub use admin::AdminRpc;
pub use gateway::GatewayRpc;
pub use log::LogRpc;
pub use meridian_proto::convert::{CosignAnswer, DisperseOutcome};
pub use replica::{ReplicaRpc, Upload};

/// Time to open a connection, and as much again for a handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Silence on a connection with calls in flight after which the other side is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Time for that sign of life.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes in flight to us on one stream.
const STREAM_WINDOW: u32 = 8 << 20;

/// Bytes in flight to us on one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Time for a call that was given none.
const DEADLINE: Duration = Duration::from_secs(60);

/// Bytes in one message of an upload: less than the limit, so that encoding and sending overlap.
const UPLOAD_CHUNK: usize = 256 << 10;

const _: () = assert!(UPLOAD_CHUNK <= MAX_CHUNK);

/// How long a connection is kept at least before another one takes its place.
const RENEW_AFTER: Duration = Duration::from_secs(2);

/// Connections to the members of the network, one for each endpoint, opened when they are needed.
///
/// Clones share their connections. A connection that breaks is opened again by the next call.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    open: Arc<Mutex<HashMap<String, (Channel, Instant)>>>,
    /// How a connection is opened, where it is not over TCP.
    opener: Option<Opener>,
    /// Where endpoints are reached that are reached elsewhere.
    routes: Arc<HashMap<String, String>>,
    /// Whom endpoints with `https` have to convince.
    trust: Trust,
}

impl Channels {
    /// No connection yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No connection yet; each will be one that `open` gives for an endpoint, instead of one over TCP. Time limits are
    /// the same.
    #[must_use]
    pub fn over<O, F, S>(open: O) -> Self
    where
        O: Fn(Uri) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self { opener: Some(Opener::new(open)), ..Self::default() }
    }

    /// No connection yet; those to the endpoints that are named will lead to the other endpoint that stands beside each.
    ///
    /// # Errors
    ///
    /// [`Reason::FieldInvalid`] when one of them is no endpoint.
    pub fn routed(routes: HashMap<String, String>) -> Result<Self, ApiError> {
        for (endpoint, elsewhere) in &routes {
            connector(endpoint).and(connector(elsewhere))?;
            if endpoint.starts_with("https://") && elsewhere.starts_with("http://") {
                let message =
                    "a route must not lead from https:// to http://: nobody would be asked who they are";
                return Err(ApiError::new(Reason::FieldInvalid, message).with("endpoint", endpoint));
            }
        }
        Ok(Self { routes: Arc::new(routes), ..Self::default() })
    }

    /// No connection yet; those to endpoints with `https` will be to whom this trusts. By default, whom the system trusts.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { open: Arc::default(), trust, ..self }
    }

    /// Whom endpoints with `https` have to convince.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Calls to the replica at an endpoint, `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`Reason::FieldInvalid`] when that is no endpoint. Nothing is connected here.
    pub fn replica(&self, endpoint: &str) -> Result<ReplicaRpc, ApiError> {
        self.channel(endpoint).map(ReplicaRpc::new)
    }

    /// Calls to the gateway at an endpoint, `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`Reason::FieldInvalid`] when that is no endpoint. Nothing is connected here.
    pub fn gateway(&self, endpoint: &str) -> Result<GatewayRpc, ApiError> {
        self.channel(endpoint).map(GatewayRpc::new)
    }

    /// Calls to the log service of the gateway or replica at an endpoint, `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`Reason::FieldInvalid`] when that is no endpoint. Nothing is connected here.
    pub fn log(&self, endpoint: &str) -> Result<LogRpc, ApiError> {
        self.channel(endpoint).map(LogRpc::new)
    }

    /// Orders to the host whose admin service is at an endpoint, `http://HOST:PORT` or `https://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// [`Reason::FieldInvalid`] when that is no endpoint. Nothing is connected here.
    pub fn admin(&self, endpoint: &str) -> Result<AdminRpc, ApiError> {
        self.channel(endpoint).map(AdminRpc::new)
    }

    /// Lets the next call to an endpoint open a new connection, unless the one that is there is new itself. For whoever
    /// waits for an answer in vain: a router may have forgotten the connection, which nobody is told. Calls that go on keep
    /// theirs.
    pub fn renew(&self, endpoint: &str) {
        let mut open = self.open();
        if open.get(endpoint).is_some_and(|(_, opened)| opened.elapsed() >= RENEW_AFTER) {
            open.remove(endpoint);
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, (Channel, Instant)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to an endpoint, for calls of other services.
    ///
    /// # Errors
    ///
    /// [`Reason::FieldInvalid`] when that is no endpoint. Nothing is connected here.
    pub fn channel(&self, endpoint: &str) -> Result<Channel, ApiError> {
        let mut open = self.open();
        if let Some((channel, _)) = open.get(endpoint) {
            return Ok(channel.clone());
        }
        // Wherever a route leads, who answers there has to be who is called.
        let name = connector(endpoint)?.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let connector = connector(self.routes.get(endpoint).map_or(endpoint, String::as_str))?;
        let is_near =
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        if self.trust.is_given() && connector.uri().scheme_str() == Some("http") && !is_near {
            tracing::warn!(
                endpoint,
                "no TLS there: the authority or the keys that are to be trusted vouch for nobody"
            );
        }
        let (opener, trust) = (self.opener.clone(), self.trust.clone());
        let channel = connector.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            tls::open(uri, name.clone(), opener.clone(), trust.clone())
        }));
        open.insert(endpoint.to_owned(), (channel.clone(), Instant::now()));
        Ok(channel)
    }
}

/// How an endpoint is connected to.
fn connector(endpoint: &str) -> Result<Endpoint, ApiError> {
    let refused = |why: String| {
        ApiError::new(Reason::FieldInvalid, format!("no endpoint: {why}")).with("endpoint", endpoint)
    };
    let connector = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| refused(error.to_string()))?;
    let timeout = match connector.uri().scheme_str() {
        Some("http") => CONNECT_TIMEOUT,
        Some("https") => 2 * CONNECT_TIMEOUT,
        _ => return Err(refused("it has to be http://HOST:PORT or https://HOST:PORT".to_owned())),
    };
    if connector.uri().authority().is_none() {
        return Err(refused("it names no host".to_owned()));
    }
    Ok(connector
        .connect_timeout(timeout)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

/// A request that carries the trace of the current span.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    trace::inject(request.metadata_mut());
    request
}

/// The result of a call that is given up after a time.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
        Err(ApiError::new(Reason::Unreachable, format!("no answer within {} ms", deadline.as_millis())))
    })
}

/// The converted answer of a call with one message in and one out.
async fn answer<W, T: TryFrom<W, Error = WireError>>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<W>, Status>>,
) -> Result<T, ApiError> {
    within(deadline, async {
        let response = call.await.map_err(|status| failure(&status))?;
        T::try_from(response.into_inner()).map_err(|error| error.in_answer())
    })
    .await
}

/// The error of a call that failed.
fn failure(status: &Status) -> ApiError {
    // Requests are bounded, so a message over the limit is one that came.
    if status.code() == Code::OutOfRange && status.details().is_empty() {
        return bad_answer(status.message());
    }
    let mut error = ApiError::from_status(status);
    // A connection that broke says why at the end of what its error comes from.
    if error.reason == Reason::Unreachable
        && let Some(cause) = root(status)
        && !error.message.contains(&cause)
    {
        error.message = format!("{}: {cause}", error.message);
    }
    error
}

/// What an error comes from in the end, where it comes from something.
fn root(error: &dyn Error) -> Option<String> {
    let mut root = error.source()?;
    while let Some(cause) = root.source() {
        root = cause;
    }
    Some(root.to_string())
}

/// The error of an answer that is not what was asked for.
fn bad_answer(what: impl Into<String>) -> ApiError {
    ApiError::new(Reason::AnswerInvalid, what)
}

/// The slices of some bytes that go out one by one.
fn chunks(bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    let starts = (0..bytes.len()).step_by(UPLOAD_CHUNK);
    starts.map(move |start| bytes.slice(start..bytes.len().min(start + UPLOAD_CHUNK)))
}

#[cfg(test)]
mod tests;
