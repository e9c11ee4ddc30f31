//! Sends messages whose lengths lie: longer than any may be, longer than what comes, and with something behind the last.

use super::wire::{Wire, call, whole};
use super::{Aim, again, crowd};

pub(super) async fn run(aim: Aim) -> u64 {
    let bodies: [&[u8]; 4] = [
        &[0, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0x40, 0, 1, 9],
        &[0, 0, 0, 0, 9, 1],
        &[0, 0, 0, 0, 0, 0xee, 0xee, 0xee],
    ];
    crowd(4, |place| {
        let body = bodies[place % 4];
        again(aim, move |done| async move {
            let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
            let block = call("/meridian.da.v1.Log/GetEntries");
            loop {
                let mut bytes = Vec::new();
                for _ in 0..20 {
                    let stream = wire.stream();
                    bytes.extend(whole(stream, &block, body));
                }
                wire.send(&bytes).await?;
                done.add(20);
                tokio::time::sleep(super::PAUSE / 5).await;
            }
        })
    })
    .await
}
