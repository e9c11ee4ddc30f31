//! Lets connections in, with handshakes beside each other: a slow one holds up nobody.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::identity::Acceptor;
use super::wire::Wire;

/// Most handshakes at a time on one port; more connections wait for theirs.
pub const MAX_HANDSHAKES: usize = 256;

/// What a port lets connections in by. Clones share the limit.
#[derive(Clone)]
pub struct Door {
    acceptor: Option<Acceptor>,
    turns: Arc<Semaphore>,
}

impl Door {
    /// Through a handshake, where there is something to go through one with.
    #[must_use]
    pub fn new(acceptor: Option<Acceptor>) -> Self {
        Self { acceptor, turns: Arc::new(Semaphore::new(MAX_HANDSHAKES)) }
    }

    /// The connection once it is let in; nothing when its handshake failed.
    pub async fn admit<S>(&self, stream: S) -> Option<Wire<S>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(acceptor) = &self.acceptor else { return Some(Wire::Plain(stream)) };
        let _turn = self.turns.acquire().await.ok()?;
        let stream = acceptor.handshake(stream).await?;
        Some(Wire::Tls(Box::new(stream)))
    }
}
