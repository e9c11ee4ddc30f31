//! The simulated network under the real client and the real server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{self, Stream};
use meridian_client::rpc::Channels;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use turmoil::net::{TcpListener, TcpStream};

/// Where every member listens.
pub(crate) const PORT: u16 = 7_000;

/// Connections of the host that this is called on.
pub(crate) fn channels() -> Channels {
    Channels::over(|uri| async move {
        let host = uri.host().map(str::to_owned);
        let host = host.ok_or_else(|| io::Error::other("an endpoint without a host"))?;
        TcpStream::connect((host, uri.port_u16().unwrap_or(PORT))).await
    })
}

/// Connections to the host that this is called on, as they come.
pub(crate) async fn incoming() -> io::Result<impl Stream<Item = io::Result<Connection>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    Ok(stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| Connection(stream));
        Some((accepted, listener))
    }))
}

/// One connection, as the server wants it.
pub(crate) struct Connection(TcpStream);

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
