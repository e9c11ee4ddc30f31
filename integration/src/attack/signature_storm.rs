//! Sends what only a gateway may send, in perfect form and signed by somebody else, so that each costs a signature check.

use std::io;

use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Checkpoint, Dispersal, SignedCheckpoint, SignedDispersal};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::shape::PayloadLength;
use meridian_proto::convert::{CosignRequest, DispersePart, DisperseStart};
use meridian_proto::wire;
use prost::Message;

use super::wire::Wire;
use super::{Aim, again, crowd};
use crate::keys;

pub(super) async fn run(aim: Aim) -> u64 {
    let Ok(messages) = messages(aim) else { return 0 };
    crowd(4, |_| {
        let messages = messages.clone();
        again(aim, move |done| {
            let messages = messages.clone();
            async move {
                let mut wire = Wire::open(aim.from, aim.grpc, &[]).await?;
                let mut next = messages.iter().cycle();
                wire.storm(100, &done, || next.next().cloned().unwrap_or_default()).await
            }
        })
    })
    .await
}

/// A checkpoint to cosign and an upload.
fn messages(aim: Aim) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let key = keys::secret("a stranger")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    let checkpoint = Checkpoint {
        gateway: aim.gateway,
        epoch: aim.epoch,
        size: 1_000,
        root: B256::repeat_byte(7),
        timestamp: now.as_secs(),
    };
    let signed = SignedCheckpoint::sign(checkpoint, &aim.domain, &key);
    let cosign = wire::CosignRequest::from(CosignRequest { signed, start: 0, entries: Vec::new() });
    let header = BlobHeader {
        length: PayloadLength::try_from(1_000u64)?,
        row_root: B256::repeat_byte(1),
        rlc_root: B256::repeat_byte(2),
        kzg_root: B256::ZERO,
    };
    let dispersal = Dispersal {
        gateway: aim.gateway,
        replica: aim.replica,
        epoch: aim.epoch,
        blob_id: header.id(),
        deadline: now.as_secs() + 30,
    };
    let dispersal = SignedDispersal::sign(dispersal, &aim.domain, &key);
    let disperse = wire::DisperseRequest::from(DispersePart::Start(DisperseStart { dispersal, header }));
    Ok(vec![
        ("/meridian.da.v1.Replica/Cosign", cosign.encode_to_vec()),
        ("/meridian.da.v1.Replica/Disperse", disperse.encode_to_vec()),
    ])
}
