//! Outside the system: remembers everything that was signed and certified, and compares.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::fetch::{FaultKind, Reader};
use meridian_client::rpc::Channels;
use meridian_client::submit::Receipt;
use meridian_integration::oracle::mirror::Mirror;
use meridian_integration::payload;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::SignedCheckpoint;
use meridian_proofs::committee::Committee;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::log::LogEntry;
use meridian_proofs::row_proof::BlobContext;
use meridian_proofs::signature::Signature;
use meridian_proofs::{Address, B256, placement};

/// A payload, by what it is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    pub(crate) length: usize,
    pub(crate) seed: u64,
}

impl Draft {
    pub(crate) fn payload(self) -> Bytes {
        payload::noise(self.length, self.seed)
    }
}

/// A put that got its certificate.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) draft: Draft,
    pub(crate) certificate: Certificate,
}

/// What is known from what hosts signed and clients were given.
///
/// There is one gateway, so there is one log, and everything that anybody ever signs has to be a prefix of it.
pub(crate) struct Oracle {
    committee: Arc<Committee>,
    pub(crate) log: Mirror,
    pub(crate) acknowledged: Vec<Arc<Acknowledged>>,
    /// What each replica cosigned: the digests, and the largest size.
    cosigned: BTreeMap<Address, (HashSet<B256>, u64)>,
}

impl Oracle {
    pub(crate) fn new(committee: Arc<Committee>) -> Self {
        Self { committee, log: Mirror::default(), acknowledged: Vec::new(), cosigned: BTreeMap::new() }
    }

    /// The gateway has signed this: it is of the one log.
    pub(crate) fn signed(&mut self, signed: &SignedCheckpoint) -> Result<()> {
        signed.verify(&self.committee.domain()).context("a checkpoint that the gateway has not signed")?;
        let gateway = signed.checkpoint.gateway;
        ensure!(self.committee.gateway(&gateway).is_some(), "{gateway} is no gateway");
        self.log.see(signed.checkpoint)
    }

    /// A replica has cosigned this, which is never less than what it cosigned before.
    pub(crate) fn cosigned(
        &mut self,
        replica: Address,
        signed: &SignedCheckpoint,
        cosignature: &Signature,
    ) -> Result<()> {
        self.signed(signed)?;
        let digest = signed.checkpoint.digest(&self.committee.domain());
        ensure!(cosignature.recover(&digest).ok() == Some(replica), "a cosignature not of {replica}");
        let (digests, largest) = self.cosigned.entry(replica).or_default();
        let size = signed.checkpoint.size;
        // What it signed before it gives again.
        let is_new = digests.insert(digest);
        ensure!(!is_new || size >= *largest, "{replica} cosigned size {size} after {largest}");
        *largest = size.max(*largest);
        Ok(())
    }

    /// Somebody was given a certificate.
    pub(crate) fn certified(&mut self, draft: Draft, receipt: Receipt) -> Result<()> {
        let certificate = receipt.certificate;
        let verified = certificate.verify(&self.committee).context("a certificate does not verify")?;
        self.signed(&certificate.checkpoint.signed)?;
        let digest = certificate.checkpoint.signed.checkpoint.digest(&self.committee.domain());
        for signer in &verified.signers {
            let known = self.cosigned.get(signer).is_some_and(|(digests, _)| digests.contains(&digest));
            ensure!(known, "{signer} was not seen to cosign {:?}", certificate.checkpoint.signed.checkpoint);
        }
        self.acknowledged.push(Arc::new(Acknowledged { draft, certificate }));
        Ok(())
    }

    /// The gateway's log goes on with these.
    pub(crate) fn appended(&mut self, entries: &[LogEntry]) -> Result<()> {
        self.log.extend(entries)
    }

    /// Compares every certificate with the log, when all of that is known.
    pub(crate) fn check_log(&self) -> Result<()> {
        ensure!(self.log.unlinked().is_empty(), "nobody has the entries under {:?}", self.log.unlinked());
        for Acknowledged { certificate, .. } in self.acknowledged.iter().map(AsRef::as_ref) {
            let found = self.log.entry(certificate.index);
            ensure!(found == Some(&certificate.entry), "the log has {found:?}, not {certificate:?}");
        }
        Ok(())
    }
}

/// Reads everything that was certified, and at every replica what it holds of it on its own disk.
pub(crate) async fn audit(
    committee: Arc<Committee>,
    channels: Channels,
    acknowledged: Vec<Arc<Acknowledged>>,
) -> Result<()> {
    let reader = Reader::new(Arc::clone(&committee), channels.clone());
    for blob in acknowledged {
        let index = blob.certificate.index;
        audit_blob(&committee, &reader, &blob).await.with_context(|| format!("the blob of entry {index}"))?;
    }
    Ok(())
}

async fn audit_blob(committee: &Committee, reader: &Reader, blob: &Acknowledged) -> Result<()> {
    let (id, payload) = (blob.certificate.id(), blob.draft.payload());
    let fetched = reader.payload(id, &Silent).await?;
    ensure!(fetched.payload == payload, "it was read with other bytes");
    let wrong = fetched.faults.iter().find(|fault| fault.kind == FaultKind::Wrong);
    ensure!(wrong.is_none(), "{wrong:?}");
    let encoded = encode::<Blake3>(&payload, B256::ZERO)?;
    ensure!(encoded.id() == id, "it has the id {}", encoded.id());
    let context = BlobContext::<Blake3>::new(id, *encoded.header(), encoded.rlc().clone())?;
    for seat in committee.seats() {
        let replica = reader.channels().replica(&seat.endpoint)?;
        let interval = placement::interval(committee, seat, &id, encoded.shape());
        ensure!(!interval.ranges().is_empty(), "a seat without rows");
        for range in interval.ranges() {
            let (rows, proof) = replica
                .rows(id, *range, encoded.shape().row_bytes(), true)
                .await
                .with_context(|| format!("{range:?} at {}", seat.endpoint))?;
            let checked = context.check_range(*range, rows, &proof)?;
            ensure!(*checked.rows() == encoded.rows(*range), "other bytes at {}", seat.endpoint);
        }
    }
    Ok(())
}
