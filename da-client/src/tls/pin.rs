//! A pinned key: whoever has it is who is called, whatever a certificate says.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, PeerIncompatible, SignatureScheme};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

const PREFIX: &str = "sha256/";

/// SHA-256 of a SubjectPublicKeyInfo, written as `sha256/` and 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

/// Why a text is no pin.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("not of the form sha256/BASE64 with 32 bytes: {0:?}")]
pub struct PinError(String);

impl Pin {
    /// The pin of a certificate's key.
    ///
    /// # Errors
    /// The certificate cannot be understood.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        Ok(Self(Sha256::digest(parsed.subject_public_key_info()).into()))
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| PinError(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for Pin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server that has another key than the pinned ones.
#[derive(Debug, Error)]
#[error("the key of the other side is {0}, which is not pinned")]
pub(super) struct NotPinned(pub(super) Pin);

/// Takes a server for who it should be when it has one of some keys. Names, dates and issuers say nothing then.
#[derive(Debug)]
pub(super) struct PinVerifier {
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    pub(super) fn new(pins: Vec<Pin>, provider: Arc<CryptoProvider>) -> Self {
        Self { pins, provider }
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pin = Pin::of(end_entity)?;
        if self.pins.contains(&pin) {
            return Ok(ServerCertVerified::assertion());
        }
        let other = CertificateError::Other(OtherError(Arc::new(NotPinned(pin))));
        Err(rustls::Error::InvalidCertificate(other))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_one_form() {
        let text = format!("sha256/{}", STANDARD.encode([7; 32]));
        let pin: Pin = text.parse().unwrap();
        assert_eq!((pin, pin.to_string()), (Pin([7; 32]), text.clone()));
        let short = format!("sha256/{}", STANDARD.encode([7; 31]));
        let long = format!("sha256/{}", STANDARD.encode([7; 33]));
        let spaced = format!("{text} ");
        for wrong in ["", "sha256/", &text[7..], &text[..text.len() - 1], &short, &long, &spaced, "sha1/AAAA"]
        {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
        let said = "x".repeat(1_000).parse::<Pin>().unwrap_err().to_string();
        assert!(said.len() < 200, "{said}");
    }
}
