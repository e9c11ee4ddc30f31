//! Whom a client trusts, and who it says that it is.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::files::{TlsError, certified_key, roots};
use super::pin::{Pin, PinVerifier};
use super::watched::{LOOK_EVERY, Look, Watched};
use super::{VERSIONS, provider};

/// The protocol of gRPC.
pub(super) const H2: &[u8] = b"h2";
/// The protocol of the pages.
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// Files with which a client shows who it is to servers that ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientFiles {
    /// The chain of certificates.
    pub certificate: PathBuf,
    /// The key of the first of them.
    pub key: PathBuf,
}

/// Whom a client trusts.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TrustSettings {
    /// A file of authorities that stand in for those of the system.
    pub ca: Option<PathBuf>,
    /// Keys that servers must have, one of them: then nothing else about them counts.
    pub pins: Vec<Pin>,
    /// Who the client is.
    pub client: Option<ClientFiles>,
}

/// Whom a client trusts, ready to be used. By default it trusts whom the system trusts. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Trust(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// What comes from files or pins.
    own: Option<Watched<ClientConfig>>,
    /// What the system trusts, read when it is needed.
    system: Mutex<Option<Arc<ClientConfig>>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.own.is_some() { "Trust(own)" } else { "Trust(system)" })
    }
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is of no use.
    pub fn new(settings: TrustSettings) -> Result<Self, TlsError> {
        if settings == TrustSettings::default() {
            return Ok(Self::default());
        }
        let client = settings.client.iter().flat_map(|files| [files.certificate.clone(), files.key.clone()]);
        let files = settings.ca.iter().cloned().chain(client).collect();
        let own = Watched::new(files, move |_| config(&settings))?;
        Ok(Self(Arc::new(Inner { own: Some(own), system: Mutex::default() })))
    }

    /// Whether it is other than what the system trusts.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.0.own.is_some()
    }

    /// Looks whether files have changed: from the next connection on they count. True when they do.
    ///
    /// # Errors
    /// They are of no use: what there was stays.
    pub fn look(&self) -> Result<bool, TlsError> {
        match self.0.own.as_ref().map_or(Look::Same, Watched::look) {
            Look::Same => Ok(false),
            Look::Renewed => Ok(true),
            Look::Kept(error) => Err(error),
        }
    }

    /// Looks at the files again and again, and tells whether what has changed is used.
    pub async fn keep_looking(self, tell: impl Fn(bool)) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let trust = self.clone();
            match tokio::task::spawn_blocking(move || trust.look()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => {
                    tracing::info!("whom to trust, and the client certificate, were read again");
                    tell(true);
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "new files of whom to trust are of no use: the old ones stay");
                    tell(false);
                }
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    /// For gRPC.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(own) = &self.0.own {
            return Ok(own.current());
        }
        let mut system = self.0.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*system {
            return Ok(Arc::clone(config));
        }
        let made = Arc::new(config(&TrustSettings::default())?);
        *system = Some(Arc::clone(&made));
        Ok(made)
    }

    /// For HTTP clients of other makes, where it is not what the system trusts.
    pub(crate) fn pages(&self) -> Option<ClientConfig> {
        let mut config = (*self.0.own.as_ref()?.current()).clone();
        config.alpn_protocols = vec![HTTP1.to_vec()];
        Some(config)
    }
}

fn config(settings: &TrustSettings) -> Result<ClientConfig, TlsError> {
    let setup = |error: rustls::Error| TlsError::Setup(error.to_string());
    let verifier: Arc<dyn ServerCertVerifier> = if settings.pins.is_empty() {
        let roots = settings.ca.as_deref().map_or_else(system_roots, roots)?;
        WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?
    } else {
        Arc::new(PinVerifier::new(settings.pins.clone(), provider()))
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&VERSIONS)
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &settings.client {
        None => builder.with_no_client_auth(),
        Some(ClientFiles { certificate, key }) => {
            let certified = certified_key(certificate, key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

/// The authorities that this system trusts. Those among them that cannot be used are passed over, as everybody does.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "an authority of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(Arc::new(roots)) }
}
