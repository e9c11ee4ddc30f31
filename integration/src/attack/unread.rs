//! Asks for rows and takes none of them: without a window for the stream, or without reading the connection.

use meridian_proto::wire;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep_until;

use super::wire::{INITIAL_WINDOW, PREFACE, SETTINGS, Wire, call, connect, frame, message, whole};
use super::{Aim, again, crowd};

/// Calls on each connection.
const CALLS: u32 = 200;

pub(super) async fn run(aim: Aim) -> u64 {
    let rows = wire::GetRowsRequest {
        blob_id: aim.blob.0.to_vec().into(),
        start: 0,
        count: 64,
        ..Default::default()
    };
    let body = message(&rows.encode_to_vec());
    crowd(12, |place| {
        let (aim, body) = (aim.beside(u8::try_from(place % 3).unwrap_or(0) + 1), body.clone());
        again(aim, move |done| {
            let body = body.clone();
            async move {
                let path = ["/meridian.da.v1.Replica/GetRows", "/meridian.da.v1.Log/ListLogs"][place % 2];
                let calls = |stream| whole(stream, &call(path), if place % 2 == 0 { &body } else { &[0; 5] });
                if place < 6 {
                    let mut wire = Wire::open(aim.from, aim.grpc, &[(INITIAL_WINDOW, 0)]).await?;
                    for _ in 0..CALLS {
                        let stream = wire.stream();
                        wire.send(&calls(stream)).await?;
                        done.add(1);
                    }
                    loop {
                        wire.send(&[]).await?;
                        tokio::time::sleep(super::PAUSE).await;
                    }
                }
                let mut stream = connect(aim.from, aim.grpc).await?;
                let window = [&INITIAL_WINDOW.to_be_bytes()[..], &0x7fff_ffffu32.to_be_bytes()].concat();
                let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &window)].concat();
                bytes.extend((0..CALLS).flat_map(|number| calls(2 * number + 1)));
                stream.write_all(&bytes).await?;
                done.add(u64::from(CALLS));
                sleep_until(aim.until).await;
                Ok(())
            }
        })
    })
    .await
}
