//! Sends messages that are said to be compressed, and that would be large if anybody took them apart.

use super::wire::{Wire, call, header, whole};
use super::{Aim, again, crowd};

/// A gzip stream that begins as one of a gigabyte of zeros would.
const GZIP: [u8; 24] =
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 1, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 8, 0];

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |place| {
        again(aim, move |done| {
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                let mut block = call("/meridian.da.v1.Log/GetEntries");
                // Half of them do not even say how.
                if place % 2 == 0 {
                    block.extend(header("grpc-encoding", "gzip"));
                }
                let body = [&[1, 0, 0, 0, 24][..], &GZIP].concat();
                loop {
                    let mut bytes = Vec::new();
                    for _ in 0..20 {
                        let stream = wire.stream();
                        bytes.extend(whole(stream, &block, &body));
                    }
                    wire.send(&bytes).await?;
                    done.add(20);
                    tokio::time::sleep(super::PAUSE / 5).await;
                }
            }
        })
    })
    .await
}
