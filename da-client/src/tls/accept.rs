//! Lets connections in, with handshakes beside each other: a slow one holds up nobody.

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Wire;
use super::identity::Acceptor;

/// What a port lets connections in by.
///
/// There is no number of handshakes at a time of its own: each has the place of its connection, and whoever stands still in
/// one could keep a turn from others.
#[derive(Clone)]
pub struct Door(Option<Acceptor>);

impl Door {
    /// Through a handshake, where there is something to go through one with.
    #[must_use]
    pub fn new(acceptor: Option<Acceptor>) -> Self {
        Self(acceptor)
    }

    /// The connection once it is let in; nothing when its handshake failed or took too long.
    pub async fn admit<S>(&self, stream: S) -> Option<Wire<S>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(acceptor) = &self.0 else { return Some(Wire::Plain(stream)) };
        let stream = acceptor.handshake(stream).await?;
        Some(Wire::Tls(Box::new(stream)))
    }
}
