//! Counts HTTP/2 frames that ask for nothing: pings, settings, resets, priorities, empty data.
//!
//! Each costs the server work, an answer even, and no flow control holds them back. The bodies of frames are skipped, not
//! looked at; what is malformed is for the protocol's own implementation to find out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use meridian_client::guard::Cut;
use meridian_client::guard::places::Visit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::rates::Rates;

/// Bytes before the first frame, RFC 9113 section 3.4.
const PREFACE: usize = 24;
/// Bytes of a frame's head, RFC 9113 section 4.1.
const HEAD: usize = 9;
/// Types of frames, RFC 9113 section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
/// Flag of the last frame of a request.
const END_STREAM: u8 = 1;

/// Cost of a frame that asks for nothing. Headers are a fourth of one: most are requests, which are counted as such, and
/// some are refused before they are any. Windows are a part of one, since they are many where much is read.
const WHOLE: u32 = 32;

/// Where in the stream of frames a connection is.
#[derive(Debug)]
struct Frames {
    /// Bytes to skip: of the preface at first, then of bodies.
    skip: usize,
    head: [u8; HEAD],
    have: usize,
    /// Cost of frames that do not make a whole one yet.
    owed: u32,
}

impl Frames {
    fn new() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], have: 0, owed: 0 }
    }

    /// Goes on over these bytes, and says how many frames began in them that ask for nothing.
    fn pass(&mut self, mut bytes: &[u8]) -> u32 {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            if taken == 0 {
                let count = self.owed / WHOLE;
                self.owed %= WHOLE;
                return count;
            }
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.have = 0;
                let [high, middle, low, kind, flags, ..] = self.head;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                let cost = match kind {
                    DATA if self.skip > 0 || flags & END_STREAM != 0 => 0,
                    HEADERS => WHOLE / 4,
                    WINDOW_UPDATE => WHOLE / 32,
                    _ => WHOLE,
                };
                self.owed = self.owed.saturating_add(cost);
            }
        }
    }
}

/// A stream that fails once its address sends too many such frames.
pub(super) struct Counted<S> {
    stream: S,
    frames: Frames,
    rates: Arc<Rates>,
    visit: Arc<Visit>,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, rates: Arc<Rates>, visit: Arc<Visit>) -> Self {
        Self { stream, frames: Frames::new(), rates, visit }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        let count = self.frames.pass(&buf.filled()[before..]);
        if let Some(origin) = self.visit.origin()
            && !self.rates.frames(origin, count)
        {
            self.visit.note(Cut::Frames);
            return Poll::Ready(Err(io::Error::other("too many frames that ask for nothing")));
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut frame = vec![0, high, low, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(6, usize::from(length)));
        frame
    }

    #[test]
    fn headers_and_windows_are_parts_of_one() {
        let mut frames = Frames { skip: 0, ..Frames::new() };
        for (kind, times) in [(HEADERS, 4), (WINDOW_UPDATE, 32), (6, 1)] {
            assert_eq!(frames.pass(&frame(kind, 0, 4).repeat(times - 1)), 0);
            assert_eq!(frames.pass(&frame(kind, 0, 4)), 1);
        }
    }

    #[test]
    fn frames_that_ask_for_nothing_are_counted_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let frames = [
            (frame(4, 0, 6), 1),
            (frame(HEADERS, 4, 40), 0),
            (frame(DATA, 0, 300), 0),
            (frame(DATA, 0, 0), 1),
            (frame(DATA, END_STREAM, 0), 0),
            (frame(6, 0, 8), 1),
            (frame(3, 0, 4), 1),
            (frame(WINDOW_UPDATE, 0, 4), 0),
            (frame(9, 0, 3), 1),
            (frame(77, 0, 0), 1),
        ];
        let expected: u32 = frames.iter().map(|(_, count)| count).sum();
        bytes.extend(frames.into_iter().flat_map(|(frame, _)| frame));
        for size in 1..=bytes.len() {
            let mut frames = Frames::new();
            let found: u32 = bytes.chunks(size).map(|chunk| frames.pass(chunk)).sum();
            assert_eq!((found, frames.skip, frames.have), (expected, 0, 0), "in pieces of {size}");
        }
    }
}
