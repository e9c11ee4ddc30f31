//! Which ports of a host speak TLS, and with what.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use meridian_client::tls::{Acceptor, Event, Identity, Observer, Purpose, Trust};

use crate::config::host::{Listen, Tls};
use crate::metrics::{self, KeyValue};

/// Whether others than this machine reach an address.
fn is_open(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Checks that nothing passes over a network in the clear unless that is wanted.
///
/// # Errors
/// Names the port, and says what to do.
pub fn check(listen: &Listen, tls: &Tls) -> Result<()> {
    let has_certificate = tls.identity().is_some();
    for (name, address) in [("listen.grpc", listen.grpc), ("listen.http", listen.http)] {
        ensure!(
            has_certificate || listen.insecure || !is_open(address),
            "{name} is {address}, which others reach, and there is no certificate: set tls.certificate and tls.key, \
             or listen on a loopback address, or let it go without TLS with --insecure (listen.insecure = true)"
        );
    }
    if let Some(address) = listen.admin().map_err(anyhow::Error::msg)? {
        ensure!(
            !is_open(address) || (has_certificate && !tls.admin_ca.as_os_str().is_empty()),
            "listen.admin is {address}, which others reach: set tls.certificate, tls.key and tls.admin_ca, which says who \
             may call, or listen on a loopback address"
        );
    }
    Ok(())
}

/// What lets connections in on the ports of a host; nothing where they come without TLS.
pub struct Acceptors {
    /// On gRPC's.
    pub grpc: Option<Acceptor>,
    /// On that of the pages.
    pub pages: Option<Acceptor>,
    /// On that of the admin service.
    pub admin: Option<Acceptor>,
}

impl Acceptors {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is of no use, or there should be some.
    pub fn new(listen: &Listen, tls: &Tls) -> Result<Self> {
        check(listen, tls)?;
        let identity = tls.identity().map(|files| Identity::new(files, observer())).transpose();
        let identity = identity.context("cannot use the files of [tls]")?;
        if identity.is_none() {
            for address in [listen.grpc, listen.http].into_iter().filter(|address| is_open(*address)) {
                tracing::warn!(%address, "listens without tls where others reach it, as listen.insecure says");
            }
        }
        let acceptor = |purpose| identity.as_ref().map(|identity| identity.acceptor(purpose));
        let is_admin_secured = !tls.admin_ca.as_os_str().is_empty();
        Ok(Self {
            grpc: acceptor(Purpose::Grpc),
            pages: acceptor(Purpose::Pages).filter(|_| is_open(listen.http)),
            admin: acceptor(Purpose::Admin).filter(|_| is_admin_secured),
        })
    }
}

fn observer() -> Observer {
    Arc::new(|event| {
        let metrics = metrics::get();
        match event {
            Event::Handshake(result) => metrics.tls_handshakes.add(1, &[KeyValue::new("result", result)]),
            Event::Changed(is_used) => count_reload(is_used),
            Event::DaysLeft(days) => metrics.tls_days_left.record(days, &[]),
        }
    })
}

fn count_reload(is_used: bool) {
    let result = if is_used { "ok" } else { "failed" };
    metrics::get().tls_reloads.add(1, &[KeyValue::new("result", result)]);
}

/// Whom the host trusts, as its files are now.
///
/// # Errors
/// One of the files is of no use.
pub fn trust_once(tls: &Tls) -> Result<Trust> {
    Trust::new(tls.trust()).context("cannot use the files of [tls]")
}

/// Whom the host trusts, with files that are looked at as long as it runs.
///
/// # Errors
/// One of the files is of no use.
pub fn trust(tls: &Tls) -> Result<Trust> {
    let trust = trust_once(tls)?;
    tokio::spawn(trust.clone().keep_looking(count_reload));
    Ok(trust)
}

#[cfg(test)]
mod tests;
