//! `da open`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use meridian_proofs::B256;
use meridian_proofs::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::BlobId;
use meridian_proofs::kzg::{ElementIndex, ElementRange, KzgBinding, Opening};

use super::Printed;
use super::args::OpenArgs;
use super::exit::{Exit, Problem};
use super::input;
use super::progress::Bar;
use super::report::{OpenReport, OpeningReport};
use super::session::Session;
use super::text::{fields, millis, table};
use crate::fetch::Reader;
use crate::{Progress, kzg};

/// Opens a range of bytes of a blob, and prints what a verifier of its KZG root needs.
pub(crate) async fn run(args: OpenArgs, session: &Session) -> Result<Printed, Problem> {
    let started = Instant::now();
    if args.payload.as_deref() == Some(Path::new(&args.blob)) {
        return Err(Problem::usage("certificate and payload are the same file", "name two different ones"));
    }
    let (id, certificate) = input::blob(&args.blob)?;
    let epoch = certificate.as_ref().map(|certificate| certificate.entry.epoch);
    let (payload, binding) = match &args.payload {
        Some(path) => {
            let header = certificate.map(|certificate| certificate.header);
            from_file(id, header, input::payload(path)?, &args).await?
        }
        None => from_network(id, epoch, session, &args).await?,
    };
    let (binding, range) = (Arc::new(binding), args.range);
    let bar = Bar::new("open");
    let openings = kzg::open(payload.clone(), binding.clone(), range.clone(), &bar).await?;
    bar.finish();
    let elements = ElementRange::new(binding.length(), &range)?.elements();
    let offset = |byte| usize::try_from(byte).map_err(Problem::local);
    let report = OpenReport {
        blob_id: id.to_string(),
        length: binding.length().get(),
        kzg_root: binding.root().to_string(),
        start: range.start,
        end: range.end,
        bytes: format!("0x{}", hex::encode(&payload[offset(range.start)?..offset(range.end)?])),
        commitments: binding.commitments().iter().map(ToString::to_string).collect(),
        openings: elements
            .zip(&openings)
            .map(|(index, opening)| shown(index, opening))
            .collect::<Result<_, Problem>>()?,
        millis: millis(started.elapsed()),
    };
    let text = text(&report);
    Printed::new(&report, text)
}

/// The payload in a file, once it is known to be the blob's.
async fn from_file(
    id: BlobId,
    header: Option<BlobHeader>,
    payload: Bytes,
    args: &OpenArgs,
) -> Result<(Bytes, KzgBinding), Problem> {
    if let Some(header) = &header {
        openable(header, args)?;
    }
    let length = u64::try_from(payload.len()).map_err(Problem::local)?.try_into().map_err(Problem::local)?;
    ElementRange::new(length, &args.range)?;
    let binding = input::binding(&payload, true).await?.ok_or_else(unbound)?;
    let kzg_root = header.map_or_else(|| binding.root(), |header| header.kzg_root);
    let found = encode::encode::<Blake3>(&payload, kzg_root).map_err(Problem::local)?.id();
    if found != id {
        let message = format!("under the kzg root {kzg_root} the payload has the blob id {found}, not {id}");
        let next = "check the file, and whether the blob was put with --kzg";
        return Err(Problem::new(Exit::Verification, "PAYLOAD_MISMATCH", message, next));
    }
    binding.check(&kzg_root)?;
    Ok((payload, binding))
}

/// The payload from the network, once its binding is known to match.
async fn from_network(
    id: BlobId,
    epoch: Option<u64>,
    session: &Session,
    args: &OpenArgs,
) -> Result<(Bytes, KzgBinding), Problem> {
    let bar = &Bar::new("get");
    let read = |reader: Reader| async move {
        let found = reader.open(id).await?;
        match openable(found.context.header(), args) {
            Ok(()) => reader.read(found, bar).await.map(Ok),
            Err(problem) => Ok(Err(problem)),
        }
    };
    let (fetched, _) = session.readers().await?.first(epoch, read).await?;
    let fetched = fetched?;
    Ok((fetched.payload, fetched.binding.ok_or_else(unbound)?))
}

/// Refuses what cannot be opened before anything is fetched or computed.
fn openable(header: &BlobHeader, args: &OpenArgs) -> Result<(), Problem> {
    if header.kzg_root == B256::ZERO {
        return Err(unbound());
    }
    ElementRange::new(header.length, &args.range)?;
    Ok(())
}

fn unbound() -> Problem {
    let next = "only a blob that was put with da put --kzg can be opened";
    Problem::new(Exit::Refused, "KZG_UNBOUND", "the blob has no kzg binding", next)
}

fn shown(index: ElementIndex, opening: &Opening) -> Result<OpeningReport, Problem> {
    Ok(OpeningReport {
        offset: u64::try_from(index.offset()).map_err(Problem::local)?,
        polynomial: index.polynomial,
        element: index.element,
        versioned_hash: opening.commitment().versioned_hash().to_string(),
        z: opening.z().to_string(),
        y: opening.y().to_string(),
        commitment: opening.commitment().to_string(),
        proof: format!("0x{}", hex::encode(opening.proof())),
        input: format!("0x{}", hex::encode(opening.to_bytes())),
    })
}

fn text(report: &OpenReport) -> String {
    let head = fields(&[
        ("blob", report.blob_id.clone()),
        ("kzg root", report.kzg_root.clone()),
        ("range", format!("{}..{} of {} bytes", report.start, report.end, report.length)),
        ("bytes", report.bytes.clone()),
        ("openings", format!("{}, all verified; --json prints them in full", report.openings.len())),
    ]);
    let row = |opening: &OpeningReport| {
        vec![
            opening.offset.to_string(),
            opening.polynomial.to_string(),
            opening.element.to_string(),
            opening.y.clone(),
        ]
    };
    let openings = table(&["from byte", "polynomial", "element", "value y"], report.openings.iter().map(row));
    format!("{head}{openings}")
}
