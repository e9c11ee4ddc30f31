//! With what a server shows who it is, and whom it lets in.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::fault::kind;
use super::files::{TlsError, Validity, certified_key, roots, validity_of};
use super::trust::{H2, HTTP1};
use super::watched::{IsFirst, LOOK_EVERY, Look, Watched};
use super::{VERSIONS, provider};
use crate::submit::unix_now;

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Seconds in a day.
const DAY: f64 = 86_400.0;

/// The files of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityFiles {
    /// The chain of certificates.
    pub certificate: PathBuf,
    /// The key of the first of them.
    pub key: PathBuf,
    /// The authorities of those who may call gRPC; everybody may, without.
    pub client_ca: Option<PathBuf>,
    /// The authorities of those who may call the admin service; nobody may, without.
    pub admin_ca: Option<PathBuf>,
}

/// What a port is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// gRPC for everybody.
    Grpc,
    /// HTTP pages.
    Pages,
    /// gRPC for those who run the host.
    Admin,
}

/// What happened, for whoever counts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event {
    /// A handshake ended: `ok`, or why not.
    Handshake(&'static str),
    /// The files have changed: whether they are used.
    Changed(bool),
    /// The certificate ends in so many days.
    DaysLeft(f64),
}

/// Hears what happens.
pub type Observer = Arc<dyn Fn(Event) + Send + Sync>;

/// Who a server is. Its files are read again when they change; connections that are open stay.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    made: Watched<Made>,
    observer: Observer,
}

struct Made {
    grpc: Arc<ServerConfig>,
    pages: Arc<ServerConfig>,
    admin: Option<Arc<ServerConfig>>,
    validity: Validity,
}

impl Identity {
    /// Reads the files, and goes on looking at them until the last clone is gone. Takes a runtime.
    ///
    /// # Errors
    /// One of them is of no use.
    pub fn new(files: IdentityFiles, observer: Observer) -> Result<Self, TlsError> {
        let others = files.client_ca.iter().chain(&files.admin_ca).cloned();
        let paths = [files.certificate.clone(), files.key.clone()].into_iter().chain(others).collect();
        let made = Watched::new(paths, move |is_first| make(&files, is_first))?;
        let inner = Arc::new(Inner { made, observer });
        tokio::spawn(keep_looking(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// What a port of this server lets connections in with.
    #[must_use]
    pub fn acceptor(&self, purpose: Purpose) -> Acceptor {
        Acceptor { identity: self.clone(), purpose }
    }
}

async fn keep_looking(identity: Weak<Inner>) {
    while let Some(inner) = identity.upgrade() {
        let looked = tokio::task::spawn_blocking(move || inner.look()).await;
        if looked.is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Inner {
    fn look(&self) {
        match self.made.look() {
            Look::Same => {}
            Look::Renewed => {
                tracing::info!("the tls certificate was read again");
                (self.observer)(Event::Changed(true));
            }
            Look::Kept(error) => {
                tracing::error!(%error, "the new tls certificate is of no use: the old one stays");
                (self.observer)(Event::Changed(false));
            }
        }
        (self.observer)(Event::DaysLeft(days_left(self.made.current().validity)));
    }
}

fn days_left(validity: Validity) -> f64 {
    let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
    let seconds = validity.to.saturating_sub(now);
    let seconds =
        Duration::from_secs(seconds.unsigned_abs()).as_secs_f64() * if seconds < 0 { -1.0 } else { 1.0 };
    seconds / DAY
}

fn make(files: &IdentityFiles, is_first: IsFirst) -> Result<Made, TlsError> {
    let key = Arc::new(certified_key(&files.certificate, &files.key)?);
    let first =
        key.end_entity_cert().map_err(|error| TlsError::unusable(&files.certificate, error.to_string()))?;
    let validity = validity_of(first).map_err(|problem| TlsError::unusable(&files.certificate, problem))?;
    if days_left(validity) <= 0.0 {
        // Better than not to start: who has pinned the key does not mind.
        if !is_first {
            return Err(TlsError::unusable(&files.certificate, "the certificate has expired"));
        }
        tracing::error!(file = %files.certificate.display(), "the tls certificate has expired: callers refuse it");
    }
    let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
    if !is_first && validity.from > now {
        return Err(TlsError::Early(files.certificate.clone()));
    }
    let config = |ca: Option<&PathBuf>, protocols: &[&[u8]]| config(&key, ca, protocols);
    Ok(Made {
        grpc: config(files.client_ca.as_ref(), &[H2])?,
        pages: config(None, &[HTTP1])?,
        admin: files.admin_ca.as_ref().map(|ca| config(Some(ca), &[H2])).transpose()?,
        validity,
    })
}

fn config(
    key: &Arc<CertifiedKey>,
    client_ca: Option<&PathBuf>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS).map_err(setup)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(path)?, provider());
            builder.with_client_cert_verifier(
                verifier.build().map_err(|error| TlsError::unusable(path, error.to_string()))?,
            )
        }
    };
    let resolver = SingleCertAndKey::from(Arc::clone(key));
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Tickets take no memory here, and end with the certificates that they were given under.
    config.ticketer = Ticketer::new().map_err(setup)?;
    Ok(Arc::new(config))
}

/// Lets connections of one port in.
#[derive(Clone)]
pub struct Acceptor {
    identity: Identity,
    purpose: Purpose,
}

impl Acceptor {
    /// Goes through a handshake, within a bounded time; nothing when it fails, which is counted.
    pub fn handshake<S>(&self, stream: S) -> impl Future<Output = Option<TlsStream<S>>> + Send + use<S>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let made = self.identity.0.made.current();
        let config = match self.purpose {
            Purpose::Grpc => Some(Arc::clone(&made.grpc)),
            Purpose::Pages => Some(Arc::clone(&made.pages)),
            Purpose::Admin => made.admin.clone(),
        };
        let observer = Arc::clone(&self.identity.0.observer);
        async move {
            // Without anybody who may call there is nobody to let in.
            let config = config?;
            let outcome = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
            let (stream, result) = match outcome {
                Ok(Ok(stream)) => (Some(stream), "ok"),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a tls handshake failed");
                    (None, kind(&error))
                }
                Err(_) => (None, "timeout"),
            };
            observer(Event::Handshake(result));
            stream
        }
    }
}
