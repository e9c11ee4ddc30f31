//! `da cert`.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_proofs::certificate::{Certificate, Verified};
use meridian_proofs::committee::Committee;
use meridian_proofs::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::PayloadHash;
use meridian_proofs::{B256, keccak256};

use super::Printed;
use super::args::{CertFetchArgs, CertFile, CertVerifyArgs};
use super::exit::{Exit, Problem};
use super::input;
use super::report::CertReport;
use super::session::{Session, labels};
use super::text::{fields, utc};
use crate::files;

/// Shows what a certificate says, checked where a committee is at hand.
pub(crate) fn show(args: &CertFile, session: &Session) -> Result<Printed, Problem> {
    let certificate = input::certificate(&args.file)?;
    let checked = match session.committee_offline() {
        Ok(committee) => certificate.verify(&committee).ok().map(|verified| (committee, verified)),
        Err(_) => None,
    };
    let report = report(&certificate, checked.as_ref(), None);
    let text = text(&report);
    Printed::new(&report, text)
}

/// Checks a certificate, without any network; and that it is of a payload, where one is named.
pub(crate) async fn verify(args: &CertVerifyArgs, session: &Session) -> Result<Printed, Problem> {
    let file = &args.certificate.file;
    if args.payload.as_deref() == Some(file.as_path()) {
        return Err(Problem::usage("certificate and payload are the same file", "name two different ones"));
    }
    let certificate = input::certificate(file)?;
    let committee = session.committee_offline()?;
    let verified = certificate
        .verify(&committee)
        .map_err(|error| Problem::certificate(format!("{}: {error}", file.display())))?;
    if let Some(path) = &args.payload {
        check_payload(&certificate, &input::payload(path)?).await?;
    }
    let mut report = report(&certificate, Some(&(committee, verified)), None);
    report.payload_verified = args.payload.is_some();
    let text = text(&report);
    Printed::new(&report, text)
}

/// Checks that a certificate is of a payload: its id, its payload hash, its KZG binding.
async fn check_payload(certificate: &Certificate, payload: &Bytes) -> Result<(), Problem> {
    let other = |message: String| {
        let next = "certificate and payload do not belong together; get the payload with da get";
        Problem::new(Exit::Verification, "PAYLOAD_MISMATCH", message, next)
    };
    let header = &certificate.header;
    let found = encode::encode::<Blake3>(payload, header.kzg_root).map_err(Problem::local)?.id();
    if found != certificate.id() {
        return Err(other(format!("the payload has the blob id {found}, not {}", certificate.id())));
    }
    let stated = certificate.entry.payload_hash;
    let hash = PayloadHash(keccak256(payload));
    if stated.is_bound() && stated != hash {
        return Err(other(format!("the payload has the hash {hash}, not {stated}")));
    }
    let binding = input::binding(payload, header.kzg_root != B256::ZERO).await?;
    binding.map_or(Ok(()), |binding| binding.check(&header.kzg_root)).map_err(Problem::from)
}

/// Fetches the fullest certificate of a blob.
pub(crate) async fn fetch(args: CertFetchArgs, session: &Session) -> Result<Printed, Problem> {
    let (id, known) = input::blob(&args.blob)?;
    let namespace = args.namespace.or_else(|| known.as_ref().map(|known| known.entry.namespace));
    let reader = session.reader().await?;
    let committee = reader.committee().clone();
    let fetched = reader.certificate(&session.gateways(&committee), id, namespace, known).await?;
    let file = write(args.out.as_deref(), &fetched.certificate)?;
    let report = report(&fetched.certificate, Some(&(committee, fetched.verified)), file);
    let text = text(&report);
    Printed::new(&report, text)
}

/// Writes a certificate where a file is named, and tells which.
pub(crate) fn write(path: Option<&Path>, certificate: &Certificate) -> Result<Option<String>, Problem> {
    let Some(path) = path else { return Ok(None) };
    files::write_whole(path, &certificate.encode()).map_err(|error| Problem::file(path, &error))?;
    Ok(Some(path.display().to_string()))
}

fn report(
    certificate: &Certificate,
    checked: Option<&(Arc<Committee>, Verified)>,
    certificate_file: Option<String>,
) -> CertReport {
    let Certificate { header, entry, index, checkpoint, .. } = certificate;
    let signed = &checkpoint.signed.checkpoint;
    CertReport {
        blob_id: certificate.id().to_string(),
        length: header.length.get(),
        row_root: header.row_root.to_string(),
        rlc_root: header.rlc_root.to_string(),
        kzg_root: header.kzg_root.to_string(),
        namespace: entry.namespace.to_string(),
        payload_hash: entry.payload_hash.to_string(),
        time: entry.time,
        expiry: entry.expiry,
        log: signed.gateway.to_string(),
        index: *index,
        epoch: entry.epoch,
        checkpoint_size: signed.size,
        checkpoint_root: signed.root.to_string(),
        checkpoint_timestamp: signed.timestamp,
        cosignatures: checkpoint.cosignatures.len(),
        verified: checked.is_some(),
        payload_verified: false,
        regions: checked
            .map(|(committee, verified)| labels(committee, &verified.complete))
            .unwrap_or_default(),
        signers: checked
            .map(|(_, verified)| verified.signers.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        certificate: format!("0x{}", hex::encode(certificate.encode())),
        certificate_file,
    }
}

fn text(report: &CertReport) -> String {
    let verdict = if report.verified {
        let of = if report.payload_verified { " and of this payload" } else { "" };
        format!("verified{of}: {} complete regions ({})", report.regions.len(), report.regions.join(", "))
    } else {
        "not verified: no committee is at hand, or the certificate does not hold under it; see da cert verify"
            .to_owned()
    };
    fields(&[
        ("blob", report.blob_id.clone()),
        ("length", report.length.to_string()),
        ("namespace", report.namespace.clone()),
        ("payload hash", report.payload_hash.clone()),
        ("kzg root", report.kzg_root.clone()),
        ("made", utc(report.time)),
        ("expires", utc(report.expiry)),
        ("log", format!("{}, entry {} of {}", report.log, report.index, report.checkpoint_size)),
        ("log root", report.checkpoint_root.clone()),
        ("epoch", report.epoch.to_string()),
        ("cosignatures", report.cosignatures.to_string()),
        ("certificate", verdict),
    ])
}
