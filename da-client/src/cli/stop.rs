//! Commands that run until they are stopped.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::Problem;

/// What is cancelled by SIGTERM or SIGINT.
pub(crate) fn signalled() -> Result<CancellationToken, Problem> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(Problem::local)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Problem::local)?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}
