//! Opens connections, with TLS where an endpoint asks for it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;
use tower::ServiceExt;

use super::fault::explained;
use super::trust::Trust;

/// The first byte of an alert of TLS. HTTP/2 begins with a frame of settings, which are not a megabyte long.
const ALERT: u8 = 0x15;
/// How long what is heard first is held back: the call that the connection was opened for is on it by then.
const HOLD: Duration = Duration::from_millis(300);

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
        return Ok(TokioIo::new(Box::new(Heard::new(stream, is_tls))));
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
    Ok(TokioIo::new(Box::new(Heard::new(stream, is_tls))))
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
///
/// Who refuses a connection may say so before the first call is on it, and only calls that are on it hear why it ends. So what
/// is heard before anything else is told a moment later, and what is written until then is dropped.
struct Heard<S> {
    stream: S,
    is_tls: bool,
    /// Whether nothing was read yet.
    is_new: bool,
    /// Why the connection ends, and when that is told.
    end: Option<End>,
}

struct End {
    error: Option<io::Error>,
    told: Pin<Box<Sleep>>,
}

impl<S> Heard<S> {
    fn new(stream: S, is_tls: bool) -> Self {
        Self { stream, is_tls, is_new: true, end: None }
    }

    fn end_with(&mut self, error: io::Error) {
        self.end = Some(End { error: Some(error), told: Box::pin(tokio::time::sleep(HOLD)) });
    }
}

impl<S: AsyncRead + Unpin> Heard<S> {
    /// Reads, unless the connection has ended.
    fn hear(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let is_first = std::mem::take(&mut self.is_new);
        let read = if self.is_tls { read.map_err(explained) } else { read };
        match read {
            Err(error) if is_first => self.end_with(error),
            Ok(()) if is_first && !self.is_tls && buf.filled().get(before) == Some(&ALERT) => {
                buf.set_filled(before);
                let what = "the other side speaks tls: name it with https://";
                self.end_with(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            read => return Poll::Ready(read),
        }
        self.poll_end(cx)
    }

    /// Waits until it is told why the connection ends.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(end) = &mut self.end else { return Poll::Ready(Ok(())) };
        ready!(end.told.as_mut().poll(cx));
        let error = end.error.take();
        Poll::Ready(Err(error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())))
    }

    /// What comes of a write. That the other side has gone is often noticed first by whoever writes: what it has said is heard
    /// before.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: io::Result<usize>,
        length: usize,
    ) -> io::Result<usize> {
        if written.is_err() && self.is_new {
            // Whatever else is read of a connection that is broken is of no use to anybody.
            let _ = self.hear(cx, &mut ReadBuf::new(&mut [0]));
        }
        if self.end.is_some() { Ok(length) } else { written }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_some() { this.poll_end(cx) } else { this.hear(cx, buf) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.end.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        Poll::Ready(this.written(cx, written, bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (this, length) = (self.get_mut(), slices.iter().map(|slice| slice.len()).sum());
        if this.end.is_some() {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, slices));
        Poll::Ready(this.written(cx, written, length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        Poll::Ready(this.written(cx, flushed.map(|()| 0), 0).map(drop))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
