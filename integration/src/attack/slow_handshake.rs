//! Connects and says nothing, or half of what one says first; to gRPC and to the pages.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use super::wire::{PREFACE, connect};
use super::{Aim, again, crowd};

/// Connections to each port.
const CONNECTIONS: usize = 200;

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(2, |place| {
        let to = if place == 0 { aim.grpc } else { aim.http };
        again(aim, move |done| async move {
            let mut held: Vec<TcpStream> = Vec::new();
            let opened: io::Result<()> = async {
                for number in 0..CONNECTIONS {
                    let mut stream = connect(aim.from, to).await?;
                    if number % 2 == 0 {
                        stream.write_all(&PREFACE[..12]).await?;
                    }
                    held.push(stream);
                    done.add(1);
                }
                Ok(())
            }
            .await;
            opened?;
            sleep_until(aim.until).await;
            Ok(())
        })
    })
    .await
}
