//! TLS 1.3 on both sides: whom a client trusts, with what a server shows who it is, and what a failure means.
//!
//! Everything is `rustls` with the `aws-lc-rs` provider. Sessions are resumed; early data is off, because whoever records it
//! could send it again.

mod accept;
mod connect;
mod connection;
mod fault;
mod files;
mod identity;
mod pin;
mod trust;
mod watched;

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use accept::Door;
pub use connect::pages;
pub(crate) use connect::{Opener, open};
pub use connection::Wire;
pub use files::{TlsError, Validity, pin, validity};
pub use identity::{Acceptor, Event, Identity, IdentityFiles, Observer, Purpose};
pub use pin::{Pin, PinError};
pub use trust::{ClientFiles, Trust, TrustSettings};

/// The only version that is spoken.
static VERSIONS: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// The cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}
