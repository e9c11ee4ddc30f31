//! Puts the longest payload and goes away after a part of it.

use super::slow_body;
use super::wire::{DATA, END_HEADERS, HEADERS, RESET, Wire, call, frame, message};
use super::{Aim, again, crowd};

/// `CANCEL`, RFC 9113 section 7.
const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// Bytes of a chunk: field 2 of the message, 8,000 bytes.
const CHUNK: [u8; 3] = [0x12, 0xc0, 0x3e];

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |place| {
        let aim = aim.beside(u8::try_from(place % 2).unwrap_or(0) + 1);
        again(aim, move |done| {
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                let block = call("/meridian.da.v1.Gateway/Put");
                let chunk = message(&[&CHUNK[..], &[7; 8_000]].concat());
                loop {
                    let stream = wire.stream();
                    let mut bytes = frame(HEADERS, END_HEADERS, stream, &block);
                    bytes.extend(frame(DATA, 0, stream, &message(&slow_body::start())));
                    bytes.extend(frame(DATA, 0, stream, &chunk).repeat(4));
                    wire.send(&bytes).await?;
                    tokio::time::sleep(super::PAUSE).await;
                    match place {
                        0 | 1 => wire.send(&frame(RESET, 0, stream, &CANCEL)).await?,
                        // The others go with their connection.
                        _ => wire = Wire::open(aim.from, aim.grpc, &[]).await?,
                    }
                    done.add(1);
                }
            }
        })
    })
    .await
}
