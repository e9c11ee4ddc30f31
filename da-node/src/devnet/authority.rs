//! An authority that issues certificates.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// Seconds in a day.
const DAY: i64 = 86_400;
/// Seconds that other clocks may be behind.
const SLACK: i64 = 3_600;

/// Issues certificates.
pub struct Authority {
    params: CertificateParams,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// Names and addresses that it is called by.
    pub names: &'a [&'a str],
    /// Unix seconds from which on it is valid.
    pub now: i64,
    /// Days that it lives.
    pub days: i64,
}

impl Authority {
    /// An authority with this key. It is the same authority whenever its key and name are the same.
    ///
    /// # Errors
    /// When the time is out of range.
    pub fn new(name: &str, key: KeyPair, now: i64, days: i64) -> Result<Self> {
        let mut params = params(name, &[], now, days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = Issuer::new(params.clone(), key);
        Ok(Self { params, issuer })
    }

    /// Its own certificate in PEM, which those who trust it have.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn pem(&self) -> Result<String> {
        Ok(self.params.self_signed(self.issuer.key())?.pem())
    }

    /// A certificate in PEM, for servers and clients alike.
    ///
    /// # Errors
    /// When a name is none.
    pub fn issue(&self, wanted: &Wanted<'_>, key: &KeyPair) -> Result<String> {
        let mut params = params(wanted.name, wanted.names, wanted.now, wanted.days)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

fn params(name: &str, names: &[&str], now: i64, days: i64) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).context("no name of a host")?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from_unix_timestamp(now.saturating_sub(SLACK))?;
    params.not_after = OffsetDateTime::from_unix_timestamp(now.saturating_add(days.saturating_mul(DAY)))?;
    Ok(params)
}

/// A key that is kept in a file.
pub struct Kept {
    /// The key.
    pub key: KeyPair,
    /// Whether it was made right now.
    pub is_new: bool,
}

/// The key in a file that only its owner can read, made where there is none.
///
/// # Errors
/// When the file cannot be read or written, or is no key.
pub fn kept_key(path: &Path) -> Result<Kept> {
    if path.exists() {
        let text = Zeroizing::new(
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        );
        let key = KeyPair::from_pem(&text).ok();
        let key = key.with_context(|| format!("{} holds no private key", path.display()))?;
        return Ok(Kept { key, is_new: false });
    }
    let key = KeyPair::generate().context("no key can be made")?;
    write(path, &Zeroizing::new(key.serialize_pem()), 0o600)?;
    Ok(Kept { key, is_new: true })
}

/// Puts a text in the place of a file, at once.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let part = path.with_extension("part");
    ensure!(part != path, "{} is no name for a file", path.display());
    // What an interrupted run has left.
    let _ = fs::remove_file(&part);
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
