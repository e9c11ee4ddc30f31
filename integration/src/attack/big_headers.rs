//! Sends more headers than any call needs: one that is long, and many that are short.

use super::wire::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, Wire, call, frame, header};
use super::{Aim, again, crowd};

/// Most bytes of a frame unless the server says otherwise.
const FRAME: usize = 16_384;

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |place| {
        again(aim, move |done| async move {
            let more = match place % 2 {
                0 => header("x", &"v".repeat(60_000)),
                _ => header("x", "").repeat(5_000),
            };
            let block = [call("/meridian.da.v1.Log/ListLogs"), more].concat();
            let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
            loop {
                let stream = wire.stream();
                let mut parts = block.chunks(FRAME).peekable();
                let mut bytes = Vec::new();
                let mut kind = HEADERS;
                while let Some(part) = parts.next() {
                    let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
                    let end = if kind == HEADERS { END_STREAM } else { 0 };
                    bytes.extend(frame(kind, last | end, stream, part));
                    kind = CONTINUATION;
                }
                wire.send(&bytes).await?;
                done.add(1);
            }
        })
    })
    .await
}
