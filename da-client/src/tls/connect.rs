//! Opens connections, with TLS where an endpoint asks for it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::ServiceExt;

use super::fault::explained;
use super::trust::Trust;

/// The first byte of an alert of TLS. HTTP/2 begins with a frame of settings, which are not a megabyte long.
const ALERT: u8 = 0x15;

/// What bytes go through both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) type Opening = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// How a connection is opened, where it is not over TCP.
#[derive(Clone)]
pub(crate) struct Opener(Arc<dyn Fn(Uri) -> Opening + Send + Sync>);

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

impl Opener {
    pub(crate) fn new<O, F, S>(open: O) -> Self
    where
        O: Fn(Uri) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self(Arc::new(move |uri| {
            let opening = open(uri);
            Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Stream>) })
        }))
    }
}

/// Opens a connection, whose other side must have this name where the URI says `https`.
pub(crate) async fn open(
    uri: Uri,
    name: String,
    opener: Option<Opener>,
    trust: Trust,
) -> io::Result<TokioIo<Box<dyn Stream>>> {
    let is_tls = uri.scheme_str() == Some("https");
    let stream = match opener {
        Some(Opener(open)) => open(uri).await?,
        None => tcp(uri).await?,
    };
    if !is_tls {
        return Ok(TokioIo::new(Box::new(Heard { stream, is_tls, is_new: true })));
    }
    let config = trust.config().map_err(io::Error::other)?;
    let name = ServerName::try_from(name.clone())
        .map_err(|_| io::Error::other(format!("tls: {name:?} cannot be the name of a host")))?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let what =
                "tls: the other side has closed the connection: it may speak no tls, or have too much to do";
            return io::Error::new(error.kind(), what);
        }
        explained(error)
    })?;
    Ok(TokioIo::new(Box::new(Heard { stream, is_tls, is_new: true })))
}

/// Opens a connection with TLS to a port with HTTP pages, whose other side is trusted as `trust` says.
///
/// # Errors
/// Nobody listens there, or it is somebody else.
pub async fn pages(
    address: SocketAddr,
    trust: &Trust,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    let config = trust.pages().ok_or_else(|| io::Error::other("tls: whom to trust cannot be read"))?;
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(explained)
}

/// A connection over TCP. Names with several addresses are tried at all of them.
async fn tcp(uri: Uri) -> io::Result<Box<dyn Stream>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let stream = connector.oneshot(uri).await.map_err(|error| io::Error::other(chain(&error)))?;
    Ok(Box::new(stream.into_inner()))
}

/// An error with what it comes from.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
        next = error.source();
    }
    text
}

/// A connection that says in words what goes wrong with TLS after its handshake, or for lack of one.
struct Heard<S> {
    stream: S,
    is_tls: bool,
    /// Whether nothing was read yet.
    is_new: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if self.is_tls {
            return Poll::Ready(read.map_err(explained));
        }
        if self.is_new
            && let Some(first) = buf.filled().get(before)
        {
            self.is_new = false;
            if *first == ALERT {
                let what = "the other side speaks tls: name it with https://";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
            }
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncRead + Unpin> Heard<S> {
    /// What the other side has said before it closed the connection, where nothing was heard of it yet: that it has gone is
    /// often noticed first by whoever writes.
    fn last_words(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        if !self.is_new {
            return error;
        }
        let (mut byte, this) = ([0], Pin::new(self));
        match this.poll_read(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Err(said)) if said.kind() == io::ErrorKind::InvalidData => said,
            _ => error,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|error| self.last_words(cx, error)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        Poll::Ready(written.map_err(|error| self.last_words(cx, error)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
