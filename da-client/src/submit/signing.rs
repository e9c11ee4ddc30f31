//! Signing puts: each attempt anew, for the gateway that it goes to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_proofs::authorization::SignedAuthorization;
use meridian_proofs::ids::PayloadHash;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, B256, keccak256};
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::OnceCell;

use super::Submitter;

/// Seconds for which a signature holds: a gateway's clock may be so much ahead, and the put may take so long to begin.
const LIFE: u64 = 120;

/// Longest wait for a gateway to say who it is.
const ASK: Duration = Duration::from_secs(10);

/// What is signed for a put, at whichever gateway.
pub(super) struct Signing<'a> {
    key: &'a Arc<SecretKey>,
    payload: Bytes,
    hash: OnceCell<PayloadHash>,
}

impl Submitter {
    /// Signs each put with this key, for gateways that ask who puts.
    #[must_use]
    pub fn signing(self, key: Arc<SecretKey>) -> Self {
        Self { signer: Some(key), ..self }
    }

    /// What a put is signed with; nothing without a key.
    pub(super) fn to_sign(&self, payload: &Bytes) -> Option<Signing<'_>> {
        let key = self.signer.as_ref()?;
        Some(Signing { key, payload: payload.clone(), hash: OnceCell::new() })
    }

    /// The start of a put, signed for one gateway.
    pub(super) async fn signed(
        &self,
        signing: &Signing<'_>,
        gateway: &str,
        start: PutStart,
    ) -> Result<PutStart, ApiError> {
        let address = self.address_of(gateway).await?;
        let hash = signing.hash.get_or_try_init(|| async {
            let payload = signing.payload.clone();
            let hash = tokio::task::spawn_blocking(move || PayloadHash(keccak256(payload)));
            hash.await.map_err(|error| ApiError::internal(format!("a payload cannot be hashed: {error}")))
        });
        let mut nonce = B256::ZERO;
        getrandom::fill(nonce.as_mut_slice())
            .map_err(|error| ApiError::internal(format!("no randomness from the system: {error}")))?;
        let now = (self.now)();
        let domain = self.view.borrow().epochs.current(now).committee.domain();
        let authorization = start.to_authorize(address, *hash.await?, nonce, now.saturating_add(LIFE));
        let signed = SignedAuthorization::sign(authorization, &domain, signing.key);
        Ok(PutStart { authorization: Some(signed.into()), ..start })
    }

    /// Whose gateway an endpoint is: the committee says so, or else it says so itself and the committee has it.
    async fn address_of(&self, endpoint: &str) -> Result<Address, ApiError> {
        let committee = Arc::clone(&self.view.borrow().epochs.current((self.now)()).committee);
        if let Some(member) = committee.gateways().iter().find(|member| member.endpoint == endpoint) {
            return Ok(member.address);
        }
        let status = self.channels.gateway(endpoint)?.within(ASK.min(self.wait)).status().await?;
        let view = Arc::clone(&self.view.borrow());
        let known = view.epochs.terms().iter().any(|term| term.committee.gateway(&status.address).is_some());
        if known {
            return Ok(status.address);
        }
        let message =
            format!("{endpoint} says that it is {}, which is no gateway of the committee", status.address);
        Err(ApiError::new(Reason::NotAGateway, message))
    }
}
