//! The certificate's bytes.

use alloy_primitives::{Address, B256};

use super::{CERTIFICATE_VERSION, Certificate, CertificateError, MAX_COSIGNATURES};
use crate::{
    checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint},
    header::BlobHeader,
    ids::{Namespace, PayloadHash},
    log::{LogEntry, inclusion_proof_len},
    signature::{SIGNATURE_LEN, Signature},
};

/// Bytes of a header: codec, length, three roots.
const HEADER_LEN: usize = 1 + 8 + 3 * 32;

/// Bytes of a certificate without inclusion path and cosignatures.
pub(super) const FIXED_LEN: usize =
    1 + HEADER_LEN + (2 * 32 + 3 * 8) + 8 + (20 + 8 + 8 + 32 + 8) + SIGNATURE_LEN + 2;

impl Certificate {
    /// The flat form. Blob id and length of the entry are not written: the header gives them.
    ///
    /// No committee has seats for more than [`MAX_COSIGNATURES`]; any beyond are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let SignedCheckpoint { checkpoint, signature } = &self.checkpoint.signed;
        let cosignatures =
            &self.checkpoint.cosignatures[..self.checkpoint.cosignatures.len().min(MAX_COSIGNATURES)];
        let len = FIXED_LEN + 32 * self.inclusion.len() + SIGNATURE_LEN * cosignatures.len();

        let mut out = Vec::with_capacity(len);
        out.push(CERTIFICATE_VERSION);
        out.extend(self.header.encode());
        out.extend(self.entry.namespace.as_bytes());
        out.extend(self.entry.payload_hash.as_bytes());
        for number in [self.entry.epoch, self.entry.time, self.entry.expiry, self.index] {
            out.extend(number.to_be_bytes());
        }
        out.extend(checkpoint.gateway.as_slice());
        out.extend(checkpoint.epoch.to_be_bytes());
        out.extend(checkpoint.size.to_be_bytes());
        out.extend(checkpoint.root.as_slice());
        out.extend(checkpoint.timestamp.to_be_bytes());
        for hash in &self.inclusion {
            out.extend(hash.as_slice());
        }
        out.extend(signature.as_bytes());
        out.extend(u16::try_from(cosignatures.len()).unwrap_or(u16::MAX).to_be_bytes());
        for cosignature in cosignatures {
            out.extend(cosignature.as_bytes());
        }
        out
    }

    /// Reads the flat form, in the only spelling that there is.
    ///
    /// The order of the cosignatures needs the domain, so [`Certificate::verify`] checks it.
    ///
    /// # Errors
    ///
    /// Another version, an invalid header, an index past the log's end, too many cosignatures, a signature that is not
    /// canonical, missing or trailing bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CertificateError> {
        let mut input = Input { bytes, at: 0 };
        let [version] = input.take()?;
        if version != CERTIFICATE_VERSION {
            return Err(CertificateError::Version(version));
        }
        let header = BlobHeader::decode(&input.take::<HEADER_LEN>()?)?;
        let entry = LogEntry {
            blob_id: header.id(),
            length: header.length.get(),
            namespace: Namespace(input.hash()?),
            payload_hash: PayloadHash(input.hash()?),
            epoch: input.number()?,
            time: input.number()?,
            expiry: input.number()?,
        };
        let index = input.number()?;
        let checkpoint = Checkpoint {
            gateway: Address::from(input.take()?),
            epoch: input.number()?,
            size: input.number()?,
            root: input.hash()?,
            timestamp: input.number()?,
        };
        if index >= checkpoint.size {
            return Err(CertificateError::Index { index, size: checkpoint.size });
        }
        let inclusion = (0..inclusion_proof_len(index, checkpoint.size))
            .map(|_| input.hash())
            .collect::<Result<_, _>>()?;
        let signature = Signature::from_bytes(&input.take::<SIGNATURE_LEN>()?)
            .map_err(CertificateError::GatewaySignature)?;

        let count = usize::from(u16::from_be_bytes(input.take()?));
        if count > MAX_COSIGNATURES {
            return Err(CertificateError::TooManyCosignatures { have: count, limit: MAX_COSIGNATURES });
        }
        // Lengths before work: each cosignature costs a curve check.
        let end = input.at + count * SIGNATURE_LEN;
        if bytes.len() < end {
            return Err(CertificateError::Truncated { need: end, have: bytes.len() });
        }
        if bytes.len() > end {
            return Err(CertificateError::Trailing(bytes.len() - end));
        }
        let cosignatures = (0..count)
            .map(|position| {
                Signature::from_bytes(&input.take::<SIGNATURE_LEN>()?)
                    .map_err(|problem| CertificateError::Cosignature { position, problem })
            })
            .collect::<Result<_, _>>()?;
        let signed = SignedCheckpoint { checkpoint, signature };
        Ok(Self { header, entry, index, inclusion, checkpoint: CosignedCheckpoint { signed, cosignatures } })
    }
}

/// Bytes that are read from the front.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CertificateError> {
        let end = self.at + N;
        let field = self
            .bytes
            .get(self.at..end)
            .and_then(|field| field.try_into().ok())
            .ok_or(CertificateError::Truncated { need: end, have: self.bytes.len() })?;
        self.at = end;
        Ok(field)
    }

    fn hash(&mut self) -> Result<B256, CertificateError> {
        self.take().map(B256::new)
    }

    fn number(&mut self) -> Result<u64, CertificateError> {
        self.take().map(u64::from_be_bytes)
    }
}
