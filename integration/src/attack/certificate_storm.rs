//! Asks for certificates, of blobs that there are and of others, as fast as it is answered.

use meridian_proto::wire;
use prost::Message;

use super::wire::Wire;
use super::{Aim, again, crowd};

pub(super) async fn run(aim: Aim) -> u64 {
    crowd(4, |place| {
        again(aim, move |done| async move {
            let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
            let mut number = 0u64;
            let ask = || {
                number += 1;
                let mut id = aim.blob.0.0;
                if place % 2 == 0 {
                    id[..8].copy_from_slice(&number.to_be_bytes());
                }
                let request =
                    wire::GetCertificateRequest { blob_id: id.to_vec().into(), ..Default::default() };
                ("/meridian.da.v1.Gateway/GetCertificate", request.encode_to_vec())
            };
            wire.storm(100, &done, ask).await
        })
    })
    .await
}
