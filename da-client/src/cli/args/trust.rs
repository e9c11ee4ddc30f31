//! Arguments about TLS.

use std::path::PathBuf;

use clap::Args;

use crate::tls::{ClientFiles, Pin, TlsError, Trust, TrustSettings};

/// Whom endpoints with https:// have to convince.
#[derive(Args, Clone, Debug, Default)]
pub struct TrustArgs {
    /// File of authorities (PEM) that stand in for those of the system at endpoints with https://
    #[arg(long, global = true, env = "MERIDIAN_CA", value_name = "FILE", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// Keys that endpoints with https:// must have, separated by commas: sha256/BASE64 of the SubjectPublicKeyInfo. Then names,
    /// dates and authorities do not count
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_PIN",
        value_delimiter = ',',
        value_name = "PIN",
        hide_env_values = true
    )]
    pub pin: Vec<Pin>,
    /// Certificate (PEM) for endpoints that ask who calls
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_CLIENT_CERTIFICATE",
        value_name = "FILE",
        requires = "client_key",
        hide_env_values = true
    )]
    pub client_certificate: Option<PathBuf>,
    /// Key of that certificate (PEM), readable by its owner only
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_CLIENT_KEY",
        value_name = "FILE",
        requires = "client_certificate",
        hide_env_values = true
    )]
    pub client_key: Option<PathBuf>,
}

impl TrustArgs {
    /// Reads what they name.
    ///
    /// # Errors
    /// A file is of no use.
    pub fn trust(&self) -> Result<Trust, TlsError> {
        let client = self.client_certificate.clone().zip(self.client_key.clone());
        let client = client.map(|(certificate, key)| ClientFiles { certificate, key });
        Trust::new(TrustSettings { ca: self.ca.clone(), pins: self.pin.clone(), client })
    }
}

/// With what a page is served.
#[derive(Args, Clone, Debug, Default)]
pub struct ServingArgs {
    /// Serve over TLS with this chain of certificates (PEM), which is read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Key of the certificate (PEM), readable by its owner only
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Serve without TLS on an address that others reach, as behind a proxy that speaks it
    #[arg(long)]
    pub insecure: bool,
}
