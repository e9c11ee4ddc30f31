//! Opens ten thousand connections, from a hundred addresses, and holds them.

use nix::sys::resource::{Resource, getrlimit};
use tokio::time::sleep_until;

use super::wire::{Wire, connect};
use super::{Aim, again, crowd};

/// Connections in all, where this process may have as many open.
const CONNECTIONS: u64 = 10_000;
const ADDRESSES: u8 = 100;

pub(super) async fn run(aim: Aim) -> u64 {
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
    let each = CONNECTIONS.min(open_files / 4) / u64::from(ADDRESSES);
    crowd(ADDRESSES.into(), |place| {
        let aim = aim.beside(u8::try_from(place).unwrap_or(0) + 1);
        again(aim, move |done| async move {
            let (mut silent, mut greeted) = (Vec::new(), Vec::new());
            for number in 0..each {
                if number % 2 == 0 {
                    silent.push(connect(aim.from, aim.grpc).await?);
                } else {
                    greeted.push(Wire::open(aim.from, aim.grpc, &[]).await?);
                }
                done.add(1);
            }
            sleep_until(aim.until).await;
            Ok(())
        })
    })
    .await
}
