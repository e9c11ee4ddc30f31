//! Puts: one for each input, whoever asks for it and goes away.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::certificate::Certificate;
use tokio::time::Instant;
use tracing::Instrument;

use super::body::Body;
use super::commitment::{Commitment, Mode};
use super::refusal::Refusal;
use super::{AltDa, internal};
use crate::Silent;
use crate::submit::{
    Attempt, CLOCK_SLACK, Identity, PutError, PutOptions, Submitter, least_expiry, unix_now,
};

/// Shortest time for one gateway, beside what the upload takes.
const PUT_TRY: Duration = Duration::from_secs(5);
/// How long a gateway that failed is asked after the others.
const AVOID: Duration = Duration::from_secs(60);

impl AltDa {
    /// Puts an input, and gives its commitment once a certificate for it holds. What is asked for again while it is on its
    /// way, or after that, is put once.
    ///
    /// A put goes on when its caller goes away: whoever gives up asks for the same again.
    pub(super) async fn put(
        self: &Arc<Self>,
        mode: Mode,
        stated: Option<Commitment>,
        body: Body,
        deadline: Instant,
    ) -> Result<Commitment, Refusal> {
        let Body { input, permit } = body;
        if input.is_empty() {
            return Err(Refusal::Invalid("the input is empty".to_owned()));
        }
        let hashed = input.clone();
        let identity = move || Identity::of(&hashed, mode == Mode::Keccak, B256::ZERO);
        let identity = self.readers.current().compute(identity).await.map_err(internal)?;
        let identity = identity.map_err(|error| Refusal::Invalid(error.to_string()))?;
        let commitment = match mode {
            Mode::Keccak => Commitment::Keccak(identity.payload_hash),
            Mode::Generic => Commitment::Generic(identity.id),
        };
        if let Some(stated) = stated.filter(|stated| *stated != commitment) {
            return Err(Refusal::Mismatch { stated, computed: commitment });
        }
        let least = least_expiry(unix_now(), self.retention());
        if let Some(known) = self.certificates.get(&commitment).await
            && known.entry.expiry.saturating_add(CLOCK_SLACK) < least
        {
            self.certificates.invalidate(&commitment).await;
        }
        let this = Arc::clone(self);
        let put = async move {
            let in_flight = this.metrics.put();
            let put = this.certify(mode, identity, input.clone(), deadline);
            let entry = this.certificates.entry(commitment).or_try_insert_with(put).await;
            let is_fresh = entry.map_err(|refusal| Refusal::clone(&refusal))?.is_fresh();
            this.keep(commitment, &input, false).await;
            this.metrics.repeated(!is_fresh);
            if is_fresh {
                this.inputs.insert(commitment, input).await;
            }
            drop((in_flight, permit));
            Ok(commitment)
        };
        self.puts.spawn(put.in_current_span()).await.map_err(internal)?
    }

    /// A certificate for an input, from the first gateway that gives one that holds.
    async fn certify(
        &self,
        mode: Mode,
        identity: Identity,
        input: Bytes,
        deadline: Instant,
    ) -> Result<Arc<Certificate>, Refusal> {
        let options = PutOptions {
            namespace: self.settings.namespace,
            retention: self.retention(),
            bind_payload_hash: mode == Mode::Keccak,
            expected: None,
            kzg_root: None,
        };
        let try_once = |left: Duration| {
            let gateways = self.gateways();
            let share = left / u32::try_from(gateways.len().max(1)).unwrap_or(u32::MAX);
            let submitter = Submitter::new(self.readers.watch(), self.readers.channels().clone(), gateways);
            let submitter = submitter.waiting(share.max(PUT_TRY)).insisting();
            let submitter = match &self.settings.signer {
                Some(key) => submitter.signing(Arc::clone(key)),
                None => submitter,
            };
            let input = input.clone();
            async move {
                let put = submitter.put_as(input, identity, &options, &Silent).await;
                let failed = match &put {
                    Ok(receipt) => &receipt.failed,
                    Err(PutError::Failed(attempts)) => attempts,
                    Err(_) => &Vec::new(),
                };
                self.avoid(failed);
                put.map(|receipt| Arc::new(receipt.certificate)).map_err(|error| Refusal::of_put(&error))
            }
        };
        let certificate = self.patiently("put", deadline, try_once).await?;
        tracing::info!(blob = %identity.id, index = certificate.index, "input certified");
        Ok(certificate)
    }

    /// The gateways that were named, or those of the current committee; those that have just failed last.
    pub(super) fn gateways(&self) -> Vec<String> {
        let mut gateways = self.settings.gateways.clone();
        if gateways.is_empty() {
            let committee = self.committee();
            gateways = committee.gateways().iter().map(|gateway| gateway.endpoint.clone()).collect();
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.sort_by_key(|gateway| failed.get(gateway).is_some_and(|at| at.elapsed() < AVOID));
        gateways
    }

    /// Has the others asked before a gateway that has just failed.
    fn avoid(&self, attempts: &[Attempt]) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, at| at.elapsed() < AVOID);
        failed.extend(attempts.iter().map(|attempt| (attempt.gateway.clone(), Instant::now())));
    }

    /// Seconds to keep inputs: what was asked for, or the limit of the current committee next to it.
    pub(super) fn retention(&self) -> u64 {
        let committee = self.committee();
        self.settings.retention.clamp(committee.min_retention(), committee.max_retention())
    }
}
