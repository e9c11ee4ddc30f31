//! Ports that commands answer on, with TLS where they have to.

use std::net::SocketAddr;
use std::sync::Arc;

use super::args::ServingArgs;
use super::exit::{Exit, Problem};
use crate::tls::{Acceptor, Identity, IdentityFiles, Purpose};

/// What lets connections in on an address; nothing where they come without TLS.
pub(crate) fn acceptor(args: &ServingArgs, address: SocketAddr) -> Result<Option<Acceptor>, Problem> {
    if let Some((certificate, key)) = args.tls_certificate.clone().zip(args.tls_key.clone()) {
        let files = IdentityFiles { certificate, key, client_ca: None, admin_ca: None };
        let identity = Identity::new(files, Arc::new(|_| ())).map_err(|error| {
            Problem::new(Exit::Local, "TLS", error, "check --tls-certificate and --tls-key")
        })?;
        return Ok(Some(identity.acceptor(Purpose::Pages)));
    }
    if !address.ip().to_canonical().is_loopback() {
        if !args.insecure {
            return Err(Problem::usage(
                format!("others reach {address}, and what passes there would not be encrypted"),
                "name --tls-certificate and --tls-key, or a loopback address, or say --insecure",
            ));
        }
        tracing::warn!(%address, "served without tls");
        eprintln!(
            "da: warning: {address} is served without TLS: whoever is on the way can read and change what passes"
        );
    }
    Ok(None)
}

/// How URLs of a port begin.
pub(crate) fn scheme(acceptor: Option<&Acceptor>) -> &'static str {
    if acceptor.is_some() { "https" } else { "http" }
}
