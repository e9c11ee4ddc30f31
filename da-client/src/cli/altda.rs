//! `da altda`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::ids::Namespace;
use tokio::net::TcpSocket;

use super::Printed;
use super::args::{AltDaArgs, DEFAULT_RETENTION, FailoverArg};
use super::exit::{Exit, Problem};
use super::key::signer;
use super::serving;
use super::session::Session;
use super::stop;
use crate::altda::{AltDa, Failover, Settings, http};
use crate::fetch::Readers;
use crate::submit::unix_now;
use crate::tokens::TokenFile;

/// Longest time for what has begun when it is stopped.
const STOP: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Longest patience in seconds.
const MOST_PATIENCE: u64 = 3_600;

/// Serves until it is stopped.
pub(crate) async fn serve(args: AltDaArgs, session: &Session) -> Result<Printed, Problem> {
    let bytes = |number: u64| usize::try_from(number).map_err(Problem::local);
    if args.memory < args.keccak_limit.max(args.generic_limit) {
        let next = "raise --memory, or lower --generic-limit";
        return Err(Problem::usage("the longest input does not fit into --memory", next));
    }
    if args.patience > MOST_PATIENCE {
        let message = format!("--patience is longer than {MOST_PATIENCE} s");
        return Err(Problem::usage(message, "give a shorter time"));
    }
    let address_problem = |error: std::io::Error| {
        let next = "name another address with --listen";
        Problem::new(Exit::Local, "LISTEN", format!("{}: {error}", args.listen), next)
    };
    // Bound before anything is asked for, so that an address in use is found out at once; clients are refused until there is
    // somebody to listen to them.
    let socket = bind(args.listen).map_err(address_problem)?;
    let acceptor = serving::acceptor(&args.serving, args.listen)?;
    let stop = stop::signalled()?;
    session.keep_looking();
    let source = session.source_until(&stop).await?;
    let committee = Arc::clone(&source.view().borrow().epochs.current(unix_now()).committee);
    let limits = committee.min_retention()..=committee.max_retention();
    let retention = args.retention.unwrap_or_else(|| DEFAULT_RETENTION.clamp(*limits.start(), *limits.end()));
    if !limits.contains(&retention) {
        let message = format!(
            "--retention {retention} is outside the committee's limits, {} to {} s",
            limits.start(),
            limits.end()
        );
        return Err(Problem::usage(message, "give a time between them"));
    }
    let settings = Settings {
        gateways: session.named_gateways().to_vec(),
        namespace: args.namespace.unwrap_or(Namespace::from([0; 32])),
        signer: signer(args.key).await?,
        retention,
        keccak_limit: bytes(args.keccak_limit)?,
        generic_limit: bytes(args.generic_limit)?,
        patience: Duration::from_secs(args.patience),
        failover: match args.failover {
            FailoverArg::Never => Failover::Never,
            FailoverArg::Generic => Failover::Generic,
        },
        drop_status: args.drop_status,
        cache_bytes: args.cache,
        memory_bytes: bytes(args.memory)?,
        archive: args.archive,
    };
    let tokens = args.tokens.map(TokenFile::open).transpose().map_err(super::token::problem)?;
    if tokens.is_none() && !args.listen.ip().is_loopback() {
        tracing::warn!(listen = %args.listen, "whoever gets to this address may put: see --tokens");
    }
    let archive = settings.archive.clone();
    let readers = Readers::new(source.view(), session.channels().clone()).measuring(session.nearest());
    let sidecar = AltDa::new(readers, settings, stop.clone()).map_err(|error| match archive {
        Some(folder) => Problem::file(&folder, &error),
        None => Problem::local(error),
    })?;
    let sidecar = Arc::new(match tokens {
        Some(tokens) => sidecar.with_tokens(tokens),
        None => sidecar,
    });
    let listener = socket.listen(BACKLOG).map_err(address_problem)?;
    let address = listener.local_addr().map_err(Problem::local)?;
    tracing::info!(listen = %address, committee = %committee.fingerprint(), "DA server runs");
    let url = format!("{}://{address}", serving::scheme(acceptor.as_ref()));
    eprintln!("da: OP Stack clients are served at {url}; for both: --altda.da-server={url}");
    let serving = async {
        let served = http::serve(listener, acceptor, Arc::clone(&sidecar), stop.clone()).await;
        sidecar.finish().await;
        served
    };
    let outcome = tokio::select! {
        outcome = serving => outcome,
        // Whoever was not answered by now asks again.
        () = async { stop.cancelled().await; tokio::time::sleep(STOP).await; } => Ok(()),
    };
    outcome.map_err(Problem::local)?;
    Ok(Printed::nothing())
}

fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port that an earlier run has left is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
