//! HTTP/2 by hand: frames as an attacker wants them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Done;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// Setting of the window that new streams of the other side have.
pub(super) const INITIAL_WINDOW: u16 = 4;

/// Longest wait for the server to take something, or to let somebody in.
const PATIENCE: Duration = Duration::from_secs(2);

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let [_, _, _, _, _, high, middle, low] = u64::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(body);
    frame
}

/// An integer as in RFC 7541 section 5.1, with seven bits in the first byte.
fn integer(to: &mut Vec<u8>, value: usize) {
    let byte = |value: usize| u8::try_from(value).unwrap_or(0);
    if value < 127 {
        to.push(byte(value));
        return;
    }
    to.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        to.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    to.push(byte(rest));
}

/// A header that no table remembers, RFC 7541 section 6.2.2.
pub(super) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        integer(&mut block, text.len());
        block.extend(text.as_bytes());
    }
    block
}

/// The headers of a call.
pub(super) fn call(path: &str) -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .into_iter()
    .flat_map(|(name, value)| header(name, value))
    .collect()
}

/// A message as gRPC frames it.
pub(super) fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    [&[0], length.to_be_bytes().as_slice(), bytes].concat()
}

/// A whole call with one message.
pub(super) fn whole(stream: u32, block: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frames = frame(HEADERS, END_HEADERS, stream, block);
    frames.extend(frame(DATA, END_STREAM, stream, body));
    frames
}

/// A connection from an address of the loopback network.
pub(super) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = timeout(PATIENCE, socket.connect(to)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection whose answers are read and thrown away.
pub(super) struct Wire {
    write: OwnedWriteHalf,
    ended: Arc<AtomicU64>,
    reader: JoinHandle<()>,
    next: u32,
}

impl Wire {
    /// Opens one and says what is needed to be heard: settings, and a wide window.
    pub(super) async fn open(from: Ipv4Addr, to: SocketAddr, settings: &[(u16, u32)]) -> io::Result<Self> {
        let (read, write) = connect(from, to).await?.into_split();
        let ended = Arc::new(AtomicU64::new(0));
        let reader = tokio::spawn(read_away(read, Arc::clone(&ended)));
        let mut wire = Self { write, ended, reader, next: 1 };
        let values: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &values));
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes()));
        wire.send(&bytes).await?;
        Ok(wire)
    }

    /// Sends bytes, unless nobody takes them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.reader.is_finished() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        timeout(PATIENCE, self.write.write_all(bytes)).await?
    }

    /// The number of a stream that was not used yet.
    pub(super) fn stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Makes calls as fast as they are answered, so many at a time.
    pub(super) async fn storm(
        &mut self,
        at_once: u64,
        done: &Done,
        mut body: impl FnMut() -> (&'static str, Vec<u8>),
    ) -> io::Result<()> {
        let mut sent = 0;
        loop {
            while sent - self.ended.load(Ordering::Relaxed).min(sent) < at_once {
                let (path, body) = body();
                let stream = self.stream();
                self.send(&whole(stream, &call(path), &message(&body))).await?;
                sent += 1;
                done.add(1);
            }
            self.send(&[]).await?;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Reads to the end, and counts the streams that end.
async fn read_away(mut from: OwnedReadHalf, ended: Arc<AtomicU64>) {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        if from.read_exact(&mut head).await.is_err() {
            return;
        }
        let [high, middle, low, kind, flags, ..] = head;
        body.resize(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low), 0);
        if from.read_exact(&mut body).await.is_err() {
            return;
        }
        if kind == RESET || (matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0) {
            ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_the_standard() {
        let encoded = |value| {
            let mut bytes = Vec::new();
            integer(&mut bytes, value);
            bytes
        };
        assert_eq!(encoded(10), [10]);
        assert_eq!(encoded(127), [127, 0]);
        assert_eq!(encoded(127 + 1337), [127, 0b1011_1001, 0b0000_1010]);
        assert_eq!(frame(PING, 1, 3, &[7, 8]), [0, 0, 2, 6, 1, 0, 0, 0, 3, 7, 8]);
        assert_eq!(header("a", "bc"), [0, 1, b'a', 2, b'b', b'c']);
    }
}
