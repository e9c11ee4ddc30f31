//! The way of one blob: who put it, who vouched for it, where it is anchored, and how its copies stand now.

use std::sync::Arc;

use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::Committee;
use meridian_proofs::ids::BlobId;
use thiserror::Error;

use super::{BlobAudit, Listed, SeatAudit, glance};
use crate::certificates::FetchedCertificate;
use crate::chain::anchored::{Anchored, Sought};
use crate::chain::contract::Contract;
use crate::chain::source::SourceError;
use crate::chain::view::Head;
use crate::fetch::{ReadError, Reader, Readers};
use crate::submit::unix_now;

/// Why a blob's way cannot be told.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TrailError {
    /// Its certificate or a proof cannot be had.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] SourceError),
}

/// What is known of a blob's way.
#[derive(Clone, Debug)]
pub struct Trail {
    /// Unix seconds at which it was asked for.
    pub at: u64,
    /// The fullest certificate: entry, checkpoint and who cosigned it.
    pub certificate: FetchedCertificate,
    /// The committee of its epoch.
    pub committee: Arc<Committee>,
    /// The settled block up to which the chain was read; nothing where there is no chain.
    pub head: Option<Head>,
    /// The first anchor that covers the entry. That it does was proved.
    pub anchored: Option<Anchored>,
    /// The copies, by a few rows of each replica.
    pub blob: BlobAudit,
    /// The replicas.
    pub seats: Vec<SeatAudit>,
}

/// Finds out about a blob. `gateways` are asked for certificates, `samples` rows of each replica are looked at.
///
/// # Errors
/// [`TrailError::Read`] where no certificate can be had, or no proof that an anchor covers the entry.
pub async fn trail(
    readers: &Readers,
    contract: Option<&Contract>,
    gateways: &[String],
    id: BlobId,
    known: Option<Certificate>,
    samples: usize,
) -> Result<Trail, TrailError> {
    let at = unix_now();
    let epoch = known.as_ref().map(|known| known.entry.epoch);
    let namespace = known.as_ref().map(|known| known.entry.namespace);
    let known = &known;
    let fetch =
        |reader: Reader| async move { reader.certificate(gateways, id, namespace, known.clone()).await };
    let (certificate, reader) = readers.first(epoch, fetch).await?;
    let Certificate { entry, index, checkpoint, .. } = &certificate.certificate;
    let (entry, index, log) = (*entry, *index, checkpoint.signed.checkpoint.gateway);

    let view = readers.view();
    let covering = view.latest_anchor(&log).filter(|anchor| anchor.size > index);
    let anchored = match (contract, covering, view.head) {
        (Some(contract), Some(latest), Some(_)) => {
            let sought = Sought { gateway: log, index, time: entry.time, last: latest.block };
            let found = contract.first_anchor(sought).await?;
            if let Some(found) = &found {
                readers.prove_anchored(&certificate.certificate, &found.anchor).await?;
            }
            found
        }
        _ => None,
    };
    let listed = Listed { log, index, entry, is_anchored: anchored.is_some() };
    let (blob, seats) = glance(&reader, listed, samples).await;
    let (committee, head) = (Arc::clone(reader.committee()), view.head);
    Ok(Trail { at, certificate, committee, head, anchored, blob, seats })
}
