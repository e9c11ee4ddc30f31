//! `da cert`.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_proofs::certificate::{Certificate, Verified};
use meridian_proofs::committee::Committee;
use meridian_proofs::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::PayloadHash;
use meridian_proofs::{B256, keccak256};
use meridian_proto::contract::Status;

use super::Printed;
use super::args::{CertFetchArgs, CertFile, CertVerifyArgs};
use super::exit::{Exit, Problem};
use super::input;
use super::report::CertReport;
use super::session::{Session, labels};
use super::text::fields;
use crate::chain::contract::Contract;
use crate::fetch::{Reader, Readers};
use crate::files;
use crate::submit::unix_now;
use crate::time::utc;

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

/// Checks a certificate, without any network unless a chain is named; and that it is of a payload, where one is.
pub(crate) async fn verify(args: &CertVerifyArgs, session: &Session) -> Result<Printed, Problem> {
    let file = &args.certificate.file;
    if args.payload.as_deref() == Some(file.as_path()) {
        return Err(Problem::usage("certificate and payload are the same file", "name two different ones"));
    }
    let certificate = input::certificate(file)?;
    let invalid = |message: &dyn Display| Problem::certificate(format!("{}: {message}", file.display()));
    let word = match session.contract().await? {
        Some(contract) => Some(ask(&certificate, args.until, contract, session).await?),
        None => None,
    };
    let committee = match &word {
        Some(word) => word.committee.clone(),
        None => Some(session.committee_offline()?),
    };
    let verified = match &committee {
        Some(committee) => certificate.verify(committee).map_err(|error| error.to_string()),
        None => Err(format!("epoch {} is not on the chain", certificate.entry.epoch)),
    };
    let verified = verified.and_then(|verified| match args.until {
        Some(until) if certificate.entry.expiry < until => {
            Err(format!("it expires at {}, before {until}", certificate.entry.expiry))
        }
        _ => Ok(verified),
    });
    let (verified, problem) = match verified {
        Ok(verified) => (Some(verified), None),
        Err(problem) => (None, Some(problem)),
    };
    if let Some(path) = args.payload.as_ref().filter(|_| problem.is_none()) {
        check_payload(&certificate, &input::payload(path)?).await?;
    }
    let mut report = report(&certificate, committee.zip(verified).as_ref(), None);
    report.payload_verified = args.payload.is_some() && problem.is_none();
    let Some(word) = word else {
        if let Some(problem) = problem {
            return Err(invalid(&problem));
        }
        let text = text(&report);
        return Printed::new(&report, text);
    };
    report.problem.clone_from(&problem);
    report.contract_status = Some(word.status.name().to_owned());
    report.contract_anchored = word.anchored;
    let printed = Printed::new(&report, text(&report))?;
    // Of anchored entries the contract knows only that they are in the log.
    let lasts = certificate.entry.expiry > unix_now();
    let holds = word.status == Status::Valid || (word.anchored == Some(true) && lasts);
    Ok(match problem {
        Some(problem) => printed.but(invalid(&problem)),
        None if !holds => printed.but(invalid(&format!("the contract says {}", word.status.name()))),
        None => printed,
    })
}

/// What the contract says of a certificate.
struct Word {
    /// Of the certificate's epoch.
    committee: Option<Arc<Committee>>,
    status: Status,
    /// Whether the entry is under an anchored root, which is what counts once its epoch has closed.
    anchored: Option<bool>,
}

/// Asks the contract, which goes by the latest block.
async fn ask(
    certificate: &Certificate,
    until: Option<u64>,
    contract: &Contract,
    session: &Session,
) -> Result<Word, Problem> {
    let readers = session.readers().await?;
    let committee = readers.view().epochs.committee(certificate.entry.epoch).cloned();
    let members = committee.as_ref().map(|committee| committee.members()).transpose();
    let members = members.map_err(Problem::local)?.unwrap_or_default();
    let status = contract.verify_certificate(&certificate.encode(), &members, until).await?;
    let anchored = match status {
        Status::EpochClosed => Some(is_anchored(certificate, contract, &readers).await?),
        _ => None,
    };
    Ok(Word { committee, status, anchored })
}

/// Proves to the contract that the entry is under the log's latest anchor.
async fn is_anchored(
    certificate: &Certificate,
    contract: &Contract,
    readers: &Readers,
) -> Result<bool, Problem> {
    let Certificate { entry, index, checkpoint, .. } = certificate;
    let gateway = checkpoint.signed.checkpoint.gateway;
    let mut last = None;
    loop {
        let anchor = contract.anchor_of(gateway).await?;
        // A refusal says nothing while the log is anchored anew.
        let Some(anchor) = anchor.filter(|anchor| last != Some(*anchor)) else { return Ok(false) };
        let Some(path) = readers.prove_anchored(certificate, &anchor).await? else { return Ok(false) };
        if contract.verify_anchored(entry, *index, &path, gateway).await? {
            return Ok(true);
        }
        last = Some(anchor);
    }
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
    let epoch = known.as_ref().map(|known| known.entry.epoch);
    let readers = session.readers().await?;
    let gateways = &session.gateways(readers.current().committee());
    let known = &known;
    let fetch =
        |reader: Reader| async move { reader.certificate(gateways, id, namespace, known.clone()).await };
    let (fetched, reader) = readers.first(epoch, fetch).await?;
    let committee = reader.committee().clone();
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
        problem: None,
        contract_status: None,
        contract_anchored: None,
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
    } else if let Some(problem) = &report.problem {
        format!("does not hold: {problem}")
    } else {
        "not verified: no committee is at hand, or the certificate does not hold under it; see da cert verify"
            .to_owned()
    };
    let mut text = fields(&[
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
    ]);
    if let Some(status) = &report.contract_status {
        let anchored = match report.contract_anchored {
            Some(true) => ", and its entry is under an anchored root",
            Some(false) => ", and its entry is under no anchored root",
            None => "",
        };
        text.push_str(&fields(&[("contract    ", format!("{status}{anchored}"))]));
    }
    text
}
