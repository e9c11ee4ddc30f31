//! What was certified, and whether a replica has it on disk.

use anyhow::{Result, ensure};
use bytes::Bytes;
use meridian_client::rpc::Channels;
use meridian_proofs::B256;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::encode::{EncodedBlob, encode};
use meridian_proofs::hash::Blake3;
use meridian_proofs::placement;

/// A blob that somebody was given a certificate for.
pub struct Kept {
    /// The certificate.
    pub certificate: Certificate,
    /// What was put.
    pub payload: Bytes,
    blob: Box<EncodedBlob<Blake3>>,
}

impl Kept {
    /// Encodes what was put.
    ///
    /// # Errors
    /// When the certificate is another blob's.
    pub fn new(certificate: Certificate, payload: Bytes) -> Result<Self> {
        let blob = Box::new(encode(&payload, B256::ZERO)?);
        ensure!(blob.id() == certificate.id(), "the certificate of {} names {}", blob.id(), certificate.id());
        Ok(Self { certificate, payload, blob })
    }

    /// Whether the replica of a seat has every row that it owes on disk.
    ///
    /// # Errors
    /// When it answers with anything but the blob's rows.
    pub async fn is_held(&self, channels: &Channels, committee: &Committee, seat: &Seat) -> Result<bool> {
        let (calls, shape) = (channels.replica(&seat.endpoint)?, self.blob.shape());
        for range in placement::interval(committee, seat, &self.blob.id(), shape).ranges() {
            let answer = calls.rows(self.blob.id(), *range, shape.row_bytes(), true).await;
            let Ok((rows, proof)) = answer else { return Ok(false) };
            ensure!(rows == self.blob.rows(*range), "{} served rows that are not the blob's", seat.endpoint);
            ensure!(proof == self.blob.range_proof(*range), "{} served a wrong proof", seat.endpoint);
        }
        Ok(true)
    }
}
