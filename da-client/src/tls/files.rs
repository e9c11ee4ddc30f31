//! PEM files: certificates, and keys that only their owner can read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

use super::pin::Pin;

/// Longest file of certificates that is looked at: those of a whole system have a quarter of it.
pub(super) const MAX_CERTIFICATES: u64 = 1 << 20;
/// Longest file of a key that is looked at.
pub(super) const MAX_KEY: u64 = 16 << 10;
/// The bits of a mode that let others than the owner read a file.
const OTHERS: u32 = 0o077;

/// Why files are of no use for TLS. No message holds what is in a key file.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate whose time has not come.
    #[error("{0}: the certificate is not valid yet")]
    Early(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key lies open.
    #[error("key file {} can be read by others (mode {mode:04o}): chmod 600 it, and make a new key if it was ever shared", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is too long.
    #[error("{} is longer than {most} bytes", path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// Most bytes that it may have.
        most: u64,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nobody to trust.
    #[error(
        "this system trusts no certificate authority: name a file of certificates, or pin the key of who is called"
    )]
    NoRoots,
    /// The parts do not go together.
    #[error("cannot set up tls: {0}")]
    Setup(String),
}

impl TlsError {
    pub(super) fn unusable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), problem: problem.into() }
    }
}

/// From when to when a certificate is valid, in unix seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The first second.
    pub from: i64,
    /// The last second.
    pub to: i64,
}

/// Reads a whole file of at most so many bytes; a private one only where nobody else can.
pub(super) fn read(path: &Path, most: u64, is_private: bool) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let mode = about.permissions().mode() & 0o7777;
    if is_private && mode & OTHERS != 0 {
        return Err(TlsError::Open { path: path.to_owned(), mode });
    }
    // Room for all of it, so that no copy of a key stays behind where a buffer has grown.
    let room = usize::try_from(about.len().min(most) + 1).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(TlsError::Long { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// The certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, MAX_CERTIFICATES, false)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| TlsError::unusable(path, format!("not in PEM: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::unusable(path, "there is no certificate in PEM in it"));
    }
    Ok(found)
}

/// The authorities of a file.
pub(super) fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::unusable(path, error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// A chain of certificates and the key of the first of them.
pub(super) fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let text = read(key, MAX_KEY, true)?;
    let mut secret = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| TlsError::unusable(key, "there is no private key in PEM in it"))?;
    let signer = any_supported_type(&secret);
    secret.zeroize();
    let signer = signer.map_err(|_| TlsError::unusable(key, "not a key that can be used"))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::unusable(
            key,
            format!("not the key of the certificate in {}", certificate.display()),
        )),
        Err(error) => Err(TlsError::unusable(certificate, error.to_string())),
    }
}

/// When the first certificate of a file is valid.
///
/// # Errors
/// The file cannot be read, or the certificate cannot be understood.
pub fn validity(path: &Path) -> Result<Validity, TlsError> {
    let chain = certificates(path)?;
    let first = chain.first().ok_or_else(|| TlsError::unusable(path, "no certificate"))?;
    validity_of(first).map_err(|problem| TlsError::unusable(path, problem))
}

/// The pin of the first certificate in a file: who trusts it trusts this host and no other.
///
/// # Errors
/// It cannot be read, or there is none in it.
pub fn pin(path: &Path) -> Result<Pin, TlsError> {
    let chain = certificates(path)?;
    let first = chain.first().ok_or_else(|| TlsError::unusable(path, "no certificate"))?;
    Pin::of(first).map_err(|error| TlsError::unusable(path, error.to_string()))
}

/// When a certificate is valid.
pub(super) fn validity_of(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let validity = parsed.validity();
    Ok(Validity { from: validity.not_before.timestamp(), to: validity.not_after.timestamp() })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn files_have_a_longest_length_and_keys_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (length, fine) in [(15, true), (16, true), (17, false)] {
            fs::write(&path, "x".repeat(length)).unwrap();
            assert_eq!(read(&path, 16, false).is_ok(), fine, "{length}");
        }
        fs::write(&path, "secret").unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, 16, true).is_ok(), fine, "{mode:o}");
            assert!(read(&path, 16, false).is_ok());
        }
        assert!(matches!(read(&folder.path().join("none"), 16, false), Err(TlsError::Read { .. })));
    }

    #[test]
    fn anything_but_pem_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let texts = [
            "",
            "hunter2",
            "-----BEGIN CERTIFICATE-----\nhunter2\n",
            "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
        ];
        for text in texts {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            for error in [certificates(&path).err(), roots(&path).err(), certified_key(&path, &path).err()] {
                let said = format!("{:?}", error.as_ref().map(ToString::to_string));
                assert!(
                    error.is_some() && !said.contains("hunter2") && !said.contains("aHVudGVyMg"),
                    "{said}"
                );
            }
            assert!(validity(&path).is_err());
        }
    }
}
