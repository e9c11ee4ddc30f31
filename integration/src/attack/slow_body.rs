//! Announces much and sends a byte at a time.

use std::time::Duration;

use meridian_proofs::ids::Namespace;
use meridian_proofs::shape::{MAX_PAYLOAD, PayloadLength};
use meridian_proto::convert::{PutPart, PutStart};
use meridian_proto::wire;
use prost::Message;
use tokio::time::sleep;

use super::wire::{DATA, END_HEADERS, HEADERS, Wire, call, frame, message};
use super::{Aim, again, crowd};

/// Between two bytes.
const DRIP: Duration = Duration::from_millis(100);
/// Calls on each connection.
const CALLS: usize = 50;

/// The first message of a put of the longest payload.
pub(super) fn start() -> Vec<u8> {
    let length = PayloadLength::try_from(MAX_PAYLOAD).map(|length| PutStart {
        namespace: Namespace::from([7; 32]),
        length,
        retention: 3_600,
        bind_payload_hash: false,
        expected_blob_id: None,
        kzg_root: None,
        authorization: None,
    });
    length.map_or_else(|_| Vec::new(), |start| wire::PutRequest::from(PutPart::Start(start)).encode_to_vec())
}

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(12, |place| {
        let aim = aim.beside(u8::try_from(place % 3).unwrap_or(0) + 1);
        again(aim, move |done| {
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                // A put whose payload drips, and a call of one message that does.
                let calls = [("Gateway/Put", message(&start())), ("Log/GetEntries", vec![0, 0, 0, 1, 0])];
                let mut streams = Vec::new();
                for number in 0..CALLS {
                    let (method, first) = &calls[number % 2];
                    let stream = wire.stream();
                    let block = call(&format!("/meridian.da.v1.{method}"));
                    wire.send(&frame(HEADERS, END_HEADERS, stream, &block)).await?;
                    wire.send(&frame(DATA, 0, stream, first)).await?;
                    streams.push(stream);
                }
                loop {
                    for stream in &streams {
                        wire.send(&frame(DATA, 0, *stream, &[0])).await?;
                        done.add(1);
                    }
                    sleep(DRIP).await;
                }
            }
        })
    })
    .await
}
