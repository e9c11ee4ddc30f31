//! Accepts connections: each has its place before a byte of it is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use meridian_client::guard::{Place, Places};
use tokio::net::{TcpListener, TcpStream};

use super::rates::Rates;
use crate::metrics::{self, KeyValue};

/// Pause after a connection could not be accepted, as when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection that came, and its place.
pub(super) struct Accepted<S> {
    pub(super) stream: S,
    pub(super) place: Place,
}

/// Connections as they come; those that may not are closed.
pub(super) fn accept(
    listener: TcpListener,
    places: Arc<Places>,
    rates: Arc<Rates>,
) -> impl Stream<Item = io::Result<Accepted<TcpStream>>> {
    futures::stream::unfold((listener, places, rates), |(listener, places, rates)| async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let place = match rates.connection(peer.ip().into()) {
                true => places.take(peer.ip()).map_err(|refusal| refusal.as_str()),
                false => Err("rate"),
            };
            match place {
                Ok(place) => {
                    let accepted = stream.set_nodelay(true).map(|()| Accepted { stream, place });
                    return Some((accepted, (listener, places, rates)));
                }
                Err(why) => {
                    tracing::debug!(%peer, why, "a connection is refused");
                    metrics::get().refused_connections.add(1, &[KeyValue::new("reason", why)]);
                }
            }
        }
    })
}
