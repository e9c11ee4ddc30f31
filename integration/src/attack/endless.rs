//! Streams that never end: messages without end where the server answers each, and a payload that is longer than announced.

use super::slow_body;
use super::wire::{DATA, END_HEADERS, HEADERS, Wire, call, frame, message};
use super::{Aim, again, crowd};

/// Bytes of a frame.
const FRAME: usize = 16_000;

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |place| {
        again(aim, move |done| {
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                let stream = wire.stream();
                let (path, first, more) = match place % 2 {
                    0 => (
                        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                        message(&[]),
                        message(&[0x3a, 0]).repeat(500),
                    ),
                    // One message that goes on and on: a chunk over the limit, of which the length lies.
                    _ => (
                        "/meridian.da.v1.Gateway/Put",
                        [message(&slow_body::start()), vec![0, 0, 0x10, 0, 0]].concat(),
                        vec![0x12; FRAME],
                    ),
                };
                wire.send(&frame(HEADERS, END_HEADERS, stream, &call(path))).await?;
                wire.send(&frame(DATA, 0, stream, &first)).await?;
                loop {
                    wire.send(&frame(DATA, 0, stream, &more)).await?;
                    done.add(1);
                }
            }
        })
    })
    .await
}
