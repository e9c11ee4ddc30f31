//! `da put`.

use std::time::Instant;

use meridian_proofs::ids::Namespace;
use meridian_proofs::kzg::KzgBinding;

use super::Printed;
use super::args::{DEFAULT_RETENTION, PutArgs};
use super::exit::Problem;
use super::key::signer;
use super::progress::Bar;
use super::report::{FailedGateway, PutReport};
use super::session::{Session, labels};
use super::text::millis;
use super::{cert, input};
use crate::kzg;
use crate::submit::{Attempt, PutOptions, Submitter};
use crate::time::utc;

/// Puts a payload and prints its certificate.
pub(crate) async fn run(args: PutArgs, session: &Session) -> Result<Printed, Problem> {
    let payload = input::payload(&args.file)?;
    let length = u64::try_from(payload.len()).map_err(Problem::local)?;
    let signer = signer(args.key).await?;
    let committee = session.committee().await?;
    let limits = (committee.parts().min_retention, committee.parts().max_retention);
    let binding = input::binding(&payload, args.kzg).await?;
    let options = PutOptions {
        namespace: args.namespace.unwrap_or(Namespace::from([0; 32])),
        retention: args.retention.unwrap_or_else(|| DEFAULT_RETENTION.clamp(limits.0, limits.1)),
        bind_payload_hash: args.bind_payload_hash,
        expected: args.expect,
        kzg_root: binding.as_ref().map(KzgBinding::root),
    };
    let started = Instant::now();
    let view = session.view().await?;
    let submitter = Submitter::new(view.clone(), session.channels().clone(), session.gateways(&committee));
    let submitter = match signer {
        Some(key) => submitter.signing(key),
        None => submitter,
    };
    let receipt = submitter.put(payload, &options, &Bar::new("put")).await?;
    let millis = millis(started.elapsed());
    let certificate = receipt.certificate;
    let certificate_file = cert::write(args.cert_out.as_deref(), &certificate)?;
    let (entry, checkpoint) = (certificate.entry, &certificate.checkpoint.signed.checkpoint);
    let committee = view.borrow().epochs.committee(entry.epoch).cloned().unwrap_or(committee);
    let report = PutReport {
        blob_id: certificate.id().to_string(),
        length,
        namespace: entry.namespace.to_string(),
        payload_hash: entry.payload_hash.to_string(),
        kzg_root: kzg::root_of(binding.as_ref()).to_string(),
        gateway: receipt.gateway,
        log: checkpoint.gateway.to_string(),
        index: certificate.index,
        epoch: entry.epoch,
        time: entry.time,
        expiry: entry.expiry,
        regions: labels(&committee, &receipt.complete),
        signers: receipt.signers.len(),
        certificate: format!("0x{}", hex::encode(certificate.encode())),
        certificate_file,
        failed: receipt.failed.iter().map(failed).collect(),
        millis,
    };
    let bound = if args.kzg { format!("\nkzg root {}", report.kzg_root) } else { String::new() };
    let text = format!(
        "{}\n{} bytes in {} of {} regions ({}), entry {} of log {}, kept until {}{bound}",
        report.blob_id,
        report.length,
        report.regions.len(),
        committee.regions().len(),
        report.regions.join(", "),
        report.index,
        report.log,
        utc(report.expiry)
    );
    Printed::new(&report, text)
}

fn failed(attempt: &Attempt) -> FailedGateway {
    FailedGateway {
        gateway: attempt.gateway.clone(),
        reason: attempt.failure.name().to_owned(),
        message: attempt.failure.to_string(),
    }
}
