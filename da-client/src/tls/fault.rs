//! What a failure means, and what to do about it.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::pin::NotPinned;

/// The error of rustls that is inside, if one is.
fn inside(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The same error in words that say what to do, where it is one of TLS.
pub(super) fn explained(error: io::Error) -> io::Error {
    match inside(&error) {
        Some(cause) => io::Error::new(error.kind(), format!("tls: {}", explain(cause))),
        None => error,
    }
}

/// What the error means to who calls.
fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidMessage(_) => {
            "the other side speaks no tls: name it with http://, or give it a certificate".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the other side does not speak tls 1.3: it has to be updated".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the other side asks who calls: name a client certificate and its key".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => format!(
            "the other side refuses the client certificate ({alert:?}): use one of an authority that it takes, \
             which has not ended"
        ),
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the other side speaks tls, and another protocol than grpc: name its grpc port".to_owned()
        }
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate has expired ({error}): its host needs a new one, and this clock must be right"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate is not valid yet ({error}): check the clock of this machine")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the certificate is for another name ({error}): call its host by a name that is in it, or pin its key"
        ),
        CertificateError::UnknownIssuer => "nobody who is trusted has issued the certificate: name the authority \
             with --ca FILE (setting tls.ca), or pin the key"
            .to_owned(),
        CertificateError::Other(other) => match other.0.downcast_ref::<NotPinned>() {
            Some(NotPinned(pin)) => {
                format!("the key of the other side is {pin}, which is not pinned: pin it if it is right")
            }
            // What webpki says of an authority's certificate in the place of a host's.
            None if other.0.to_string().contains("CaUsedAsEndEntity") => {
                "the certificate is that of an authority, as one is that its host has made for itself: pin its key, or \
                 give its host one that an authority has issued"
                    .to_owned()
            }
            None => format!("the certificate is not accepted: {}", other.0),
        },
        other => format!("the certificate is not accepted: {other}"),
    }
}

/// A word for why a handshake failed, on the side of the server.
pub(super) fn kind(error: &io::Error) -> &'static str {
    match inside(error) {
        Some(Error::InvalidMessage(_)) => "no_tls",
        Some(Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon)) => {
            "other"
        }
        Some(Error::PeerIncompatible(_)) => "incompatible",
        Some(Error::NoCertificatesPresented) => "no_client_certificate",
        Some(Error::InvalidCertificate(_)) => "client_certificate",
        Some(Error::AlertReceived(_)) => "refused",
        Some(Error::NoApplicationProtocol) => "protocol",
        Some(_) => "other",
        None => "closed",
    }
}
