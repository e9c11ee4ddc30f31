//! `da evidence`.

use std::path::Path;

use super::Printed;
use super::args::{EvidenceFile, EvidenceImportArgs};
use super::exit::{Exit, Problem};
use super::input;
use super::report::{ConflictingCheckpoint, EvidenceReport};
use super::session::Session;
use super::text::fields;
use crate::evidence::{Convicted, Evidence, EvidenceError, MAX_FILE};
use crate::files;
use crate::light::default_folder;
use crate::time::utc;

/// Checks a file of evidence without any network.
pub(crate) fn verify(args: &EvidenceFile, session: &Session) -> Result<Printed, Problem> {
    let (evidence, convicted) = read(&args.file)?;
    report(&args.file, &evidence, &convicted, session)
}

/// Checks a file of evidence and puts it beside what a light client has found itself.
pub(crate) fn import(args: &EvidenceImportArgs, session: &Session) -> Result<Printed, Problem> {
    let (evidence, convicted) = read(&args.file.file)?;
    let folder = match &args.state {
        Some(folder) => folder.clone(),
        None => default_folder()
            .ok_or_else(|| Problem::usage("this user has no folder for data", "name one with --state"))?,
    };
    let path = folder.join(evidence.file_name());
    // Anybody can make evidence against a key of their own.
    let printed = report(&path, &evidence, &convicted, session)?;
    let is_stranger = session.committee_offline().is_ok_and(|it| it.gateway(&convicted.gateway).is_none());
    if is_stranger {
        let message = format!("{} is no gateway of the committee at hand", convicted.gateway);
        let next = "nothing was written; name the committee of its epoch with --committee";
        return Err(Problem::new(Exit::Verification, "EVIDENCE_INVALID", message, next));
    }
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| files::write_whole(&path, &evidence.encode()));
    written.map_err(|error| Problem::file(&path, &error))?;
    Ok(printed)
}

fn read(path: &Path) -> Result<(Evidence, Convicted), Problem> {
    let bytes = input::read(path, u64::try_from(MAX_FILE).unwrap_or(u64::MAX))?;
    let evidence = Evidence::decode(&bytes);
    let checked = evidence.and_then(|evidence| evidence.verify().map(|convicted| (evidence, convicted)));
    checked.map_err(|error: EvidenceError| {
        let message = format!("{}: {error}", path.display());
        let next = "it proves nothing: ask who gave it for another";
        Problem::new(Exit::Verification, "EVIDENCE_INVALID", message, next)
    })
}

fn report(
    path: &Path,
    evidence: &Evidence,
    convicted: &Convicted,
    session: &Session,
) -> Result<Printed, Problem> {
    let committee = session.committee_offline().ok();
    if let Some(committee) = &committee
        && committee.domain() != convicted.domain
    {
        let message = format!(
            "{}: it is of the network of chain {} and contract {}, the committee is of another",
            path.display(),
            convicted.domain.chain_id,
            convicted.domain.verifying_contract
        );
        let next = "name the committee of that network with --committee";
        return Err(Problem::new(Exit::Verification, "EVIDENCE_INVALID", message, next));
    }
    let checkpoints: Vec<ConflictingCheckpoint> = evidence
        .statements()
        .iter()
        .zip(&convicted.cosigners)
        .map(|(statement, cosigners)| ConflictingCheckpoint {
            epoch: statement.epoch(),
            size: statement.size(),
            root: statement.root().to_string(),
            timestamp: statement.timestamp(),
            leaf: statement.leaf().map(|leaf| leaf.to_string()),
            cosigners: cosigners.iter().map(ToString::to_string).collect(),
        })
        .collect();
    let report = EvidenceReport {
        file: path.display().to_string(),
        gateway: convicted.gateway.to_string(),
        chain_id: convicted.domain.chain_id,
        contract: convicted.domain.verifying_contract.to_string(),
        member: committee.map(|committee| committee.gateway(&convicted.gateway).is_some()),
        index: evidence.index(),
        checkpoints,
        cosigned_both: convicted.both.iter().map(ToString::to_string).collect(),
    };
    let member = match report.member {
        Some(true) => ", a gateway of the committee",
        Some(false) => ", no gateway of the committee at hand",
        None => "",
    };
    let mut lines = vec![
        ("signed two logs", format!("{}{member}", report.gateway)),
        ("network", format!("chain {}, contract {}", report.chain_id, report.contract)),
    ];
    for checkpoint in &report.checkpoints {
        let leaf = match (&checkpoint.leaf, report.index) {
            (Some(leaf), Some(index)) => format!(", with {leaf} at {index}"),
            _ => String::new(),
        };
        lines.push((
            "checkpoint",
            format!(
                "{} entries, root {}, epoch {}, {}{leaf}, {} cosignatures",
                checkpoint.size,
                checkpoint.root,
                checkpoint.epoch,
                utc(checkpoint.timestamp),
                checkpoint.cosigners.len()
            ),
        ));
    }
    let both =
        if report.cosigned_both.is_empty() { "nobody".to_owned() } else { report.cosigned_both.join(", ") };
    lines.push(("cosigned both", both));
    Printed::new(&report, fields(&lines))
}
