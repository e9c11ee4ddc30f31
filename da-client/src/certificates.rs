//! Certificates of blobs that are in a log already: fetched from gateways, or put together from replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use meridian_proofs::Address;
use meridian_proofs::B256;
use meridian_proofs::certificate::{Certificate, Verified};
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, Namespace};
use meridian_proofs::log::verify_inclusion;
use meridian_proto::convert::{EntryRef, InclusionProof};
use meridian_proto::error::{ApiError, Reason};

use crate::fetch::{Fault, FaultKind, ReadError, Reader};

/// Longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A certificate that was fetched and checked.
#[derive(Clone, Debug)]
pub struct FetchedCertificate {
    /// The certificate.
    pub certificate: Certificate,
    /// What it proves.
    pub verified: Verified,
    /// What replicas did wrong where it was put together from what they have.
    pub faults: Vec<Fault>,
}

impl Reader {
    /// The fullest certificate of a blob: of what gateways answer and what is known already.
    ///
    /// When no gateway has one, it is put together from the checkpoints, cosignatures and proofs of replicas.
    ///
    /// # Errors
    /// [`ReadError::Unknown`] when that is certain, [`ReadError::Unreachable`] when too few answer,
    /// [`ReadError::Uncertified`] when too few cosignatures can be had.
    pub async fn certificate(
        &self,
        gateways: &[String],
        id: BlobId,
        namespace: Option<Namespace>,
        known: Option<Certificate>,
    ) -> Result<FetchedCertificate, ReadError> {
        let asked = join_all(gateways.iter().map(|gateway| async move {
            let call =
                async { self.channels().gateway(gateway)?.within(DEADLINE).certificate(id, namespace).await };
            (gateway, call.await)
        }));
        let mut best = known.and_then(|known| accept(known, id, namespace, self.committee()));
        for (gateway, answer) in asked.await {
            match answer {
                Ok(certificate) => match accept(certificate, id, namespace, self.committee()) {
                    Some(fetched) => best = Some(fuller(best, fetched, self.committee())),
                    None => tracing::warn!(
                        gateway,
                        epoch = self.committee().epoch(),
                        "gateway gave a certificate that is bad or of another epoch"
                    ),
                },
                Err(error) => tracing::info!(gateway, %error, "gateway gave no certificate"),
            }
        }
        match best {
            Some(best) => Ok(best),
            None => self.assemble(id, namespace).await,
        }
    }

    /// Puts a certificate together from what replicas have.
    async fn assemble(
        &self,
        id: BlobId,
        namespace: Option<Namespace>,
    ) -> Result<FetchedCertificate, ReadError> {
        let found = self.find(id).await?;
        let (header, mut faults) = (*found.context.header(), found.faults);
        let mut best = None;
        let wanted = |reference: &&EntryRef| {
            reference.entry.blob_id == id
                && namespace.is_none_or(|wanted| reference.entry.namespace == wanted)
        };
        for reference in found.entries.iter().filter(wanted) {
            for checkpoint in self.checkpoints(reference.gateway, &mut faults).await.1 {
                let size = checkpoint.signed.checkpoint.size;
                if size <= reference.index {
                    continue;
                }
                if let Some(certificate) = self.include(header, reference, checkpoint, &mut faults).await
                    && let Some(fetched) = accept(certificate, id, namespace, self.committee())
                {
                    best = Some(fuller(best, fetched, self.committee()));
                }
            }
        }
        best.map(|best| FetchedCertificate { faults, ..best }).ok_or(ReadError::Uncertified)
    }

    /// The checkpoints of a log that enough replicas cosigned, each with all cosignatures that can be had; and which seats
    /// answered.
    pub(crate) async fn checkpoints(
        &self,
        log: Address,
        faults: &mut Vec<Fault>,
    ) -> (Vec<Address>, Vec<CosignedCheckpoint>) {
        let domain = self.committee().domain();
        let answers = join_all(self.committee().seats().iter().map(|seat| async move {
            let call = async { self.channels().log(&seat.endpoint)?.within(DEADLINE).checkpoint(log).await };
            (seat, call.await)
        }));
        let mut answered = Vec::new();
        let mut known: BTreeMap<B256, CosignedCheckpoint> = BTreeMap::new();
        for (seat, answer) in answers.await {
            let checkpoint = match answer {
                Ok(checkpoint) => {
                    answered.push(seat.address);
                    let Some(checkpoint) = checkpoint else { continue };
                    checkpoint
                }
                Err(error) => {
                    self.blame(Fault::of(seat, &error), faults);
                    continue;
                }
            };
            if checkpoint.signed.verify(&domain).is_err() {
                self.blame(Fault::wrong(seat, "the checkpoint is not signed by its gateway"), faults);
                continue;
            }
            let digest = checkpoint.signed.checkpoint.digest(&domain);
            let merged = known.entry(digest).or_insert_with(|| CosignedCheckpoint {
                signed: checkpoint.signed,
                cosignatures: Vec::new(),
            });
            let is_ours = checkpoint.signed.checkpoint.epoch == self.committee().epoch();
            if !merge(merged, &checkpoint, self.committee()) && is_ours {
                self.blame(Fault::wrong(seat, "a cosignature is of no seat"), faults);
            }
        }
        // Of one that too few have signed nobody honest has to know.
        let is_certified = |checkpoint: &CosignedCheckpoint| {
            let signers = checkpoint.signers(&domain).unwrap_or_default();
            self.committee().complete_regions(&signers).len() >= self.committee().min_copies()
        };
        (answered, known.into_values().filter(is_certified).collect())
    }

    /// The certificate of an entry under a checkpoint, with the inclusion proof of any replica.
    async fn include(
        &self,
        header: BlobHeader,
        reference: &EntryRef,
        checkpoint: CosignedCheckpoint,
        faults: &mut Vec<Fault>,
    ) -> Option<Certificate> {
        let EntryRef { gateway, index, entry } = *reference;
        let (size, root) = (checkpoint.signed.checkpoint.size, checkpoint.signed.checkpoint.root);
        for seat in self.committee().seats() {
            let fault = match self.inclusion_from(seat, gateway, index, size).await {
                Ok(InclusionProof { item, path }) => {
                    match verify_inclusion(item.leaf(), index, size, &path, &root) {
                        // What is there is something else: then nobody can prove the entry.
                        Ok(()) if item.leaf() != entry.leaf() => return None,
                        Ok(()) => {
                            return Some(Certificate { header, entry, index, inclusion: path, checkpoint });
                        }
                        Err(error) => Fault::wrong(seat, error),
                    }
                }
                // It may only be behind.
                Err(error) if error.reason == Reason::RangeInvalid => {
                    Fault { kind: FaultKind::Missing, ..Fault::of(seat, &error) }
                }
                Err(error) => Fault::of(seat, &error),
            };
            self.blame(fault, faults);
        }
        None
    }

    fn blame(&self, fault: Fault, faults: &mut Vec<Fault>) {
        fault.report();
        self.note(&fault);
        faults.push(fault);
    }
}

impl Reader {
    /// The inclusion proof of an entry that a replica gives, unchecked.
    pub(crate) async fn inclusion_from(
        &self,
        seat: &Seat,
        log: Address,
        index: u64,
        size: u64,
    ) -> Result<InclusionProof, ApiError> {
        self.channels().log(&seat.endpoint)?.within(DEADLINE).inclusion(log, index, size).await
    }
}

/// Checks a certificate of a blob and a namespace.
fn accept(
    certificate: Certificate,
    id: BlobId,
    namespace: Option<Namespace>,
    committee: &Committee,
) -> Option<FetchedCertificate> {
    let right = certificate.header.id() == id
        && certificate.entry.blob_id == id
        && namespace.is_none_or(|wanted| certificate.entry.namespace == wanted);
    let verified = if right { certificate.verify(committee).ok()? } else { return None };
    Some(FetchedCertificate { certificate, verified, faults: Vec::new() })
}

/// The fuller of two certificates; one with the cosignatures of both where they are over the same checkpoint.
fn fuller(
    best: Option<FetchedCertificate>,
    other: FetchedCertificate,
    committee: &Committee,
) -> FetchedCertificate {
    let Some(mut best) = best else { return other };
    let same = best.certificate.entry == other.certificate.entry
        && best.certificate.index == other.certificate.index
        && best.certificate.checkpoint.signed.checkpoint == other.certificate.checkpoint.signed.checkpoint;
    if same {
        merge(&mut best.certificate.checkpoint, &other.certificate.checkpoint, committee);
        if let Ok(verified) = best.certificate.verify(committee) {
            best.verified = verified;
        }
        return best;
    }
    let weight = |fetched: &FetchedCertificate| {
        (fetched.verified.complete.len(), fetched.verified.signers.len(), fetched.certificate.entry.expiry)
    };
    if weight(&other) > weight(&best) { other } else { best }
}

/// Adds the cosignatures of seats that another copy of the same checkpoint has. Says whether there is no other among them.
pub(crate) fn merge(
    checkpoint: &mut CosignedCheckpoint,
    other: &CosignedCheckpoint,
    committee: &Committee,
) -> bool {
    let domain = committee.domain();
    let digest = checkpoint.signed.checkpoint.digest(&domain);
    let mut present: BTreeSet<Address> =
        checkpoint.signers(&domain).map(|signers| signers.into_iter().collect()).unwrap_or_default();
    let mut are_seats = true;
    // Recovering a signer is dear, and one seat can make any number of signatures: a list has one of each seat.
    for cosignature in other.cosignatures.iter().take(committee.seats().len()) {
        let signer = cosignature.recover(&digest).ok().filter(|signer| committee.seat(signer).is_some());
        are_seats &= signer.is_some();
        if signer.is_some_and(|signer| present.insert(signer))
            && let Err(error) = checkpoint.insert(&domain, *cosignature)
        {
            tracing::debug!(%error, "cosignature passed over");
        }
    }
    are_seats
}
