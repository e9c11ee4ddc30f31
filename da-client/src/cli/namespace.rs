//! `da namespace`.

use std::path::{Path, PathBuf};

use super::Printed;
use super::args::{NamespaceAllowArgs, NamespaceCommand, NamespaceCreateArgs, NamespaceDenyArgs};
use super::exit::{Exit, Problem};
use super::report::{LimitsReport, NamespacesReport};
use crate::namespaces::{Namespaces, NamespacesError};

/// Changes or prints a file of namespaces.
pub(crate) async fn run(command: NamespaceCommand) -> Result<Printed, Problem> {
    let work = move || match command {
        NamespaceCommand::Create(NamespaceCreateArgs { file, namespace, owner, limits }) => {
            let create = |list: &mut Namespaces| list.create(namespace, owner, limits.into());
            (Namespaces::change(&file, true, create), file)
        }
        NamespaceCommand::Allow(NamespaceAllowArgs { file, namespace, writer }) => {
            (Namespaces::change(&file, false, |list| list.allow(namespace, &writer)), file)
        }
        NamespaceCommand::Deny(NamespaceDenyArgs { file, namespace, writer, everybody }) => {
            let deny = |list: &mut Namespaces| match everybody {
                true => list.remove(namespace),
                false => list.deny(namespace, &writer),
            };
            (Namespaces::change(&file, false, deny), file)
        }
        NamespaceCommand::List(args) => (Namespaces::load(&args.file), args.file),
    };
    let (namespaces, file): (Result<Namespaces, NamespacesError>, PathBuf) =
        tokio::task::spawn_blocking(work).await.map_err(Problem::local)?;
    let namespaces = namespaces.map_err(|error| problem(&file, &error))?;
    let report = NamespacesReport::of(file.display().to_string(), &namespaces);
    Printed::new(&report, text(&report))
}

fn problem(file: &Path, error: &NamespacesError) -> Problem {
    let (reason, next) = match error {
        NamespacesError::File { source, .. } => return Problem::file(file, source),
        NamespacesError::Exists(_) => {
            ("NAMESPACE_EXISTS", "see da namespace list; change it with allow and deny")
        }
        NamespacesError::Missing(_) => ("NAMESPACE_UNLISTED", "see da namespace list; add it with create"),
        NamespacesError::Owner(_) => ("NAMESPACE_OWNER", "take the whole namespace away with --everybody"),
        _ => ("NAMESPACES_INVALID", "correct the file or the arguments; nothing was changed"),
    };
    Problem::new(Exit::Refused, reason, format!("{}: {error}", file.display()), next)
}

fn text(report: &NamespacesReport) -> String {
    let mut lines: Vec<String> = Vec::new();
    for listed in &report.namespaces {
        let owner = listed.owner.as_deref().unwrap_or("and writers as the registry on the chain says");
        lines.push(format!("{} owner {owner}", listed.namespace));
        lines.extend(listed.writers.iter().map(|writer| format!("  writer {writer}")));
        lines.extend(limits(&listed.limits).map(|limits| format!("  {limits}")));
    }
    lines.extend(limits(&report.limits).map(|limits| format!("every other limit: {limits}")));
    lines.push(match report.open {
        true => "anybody may put under other namespaces".to_owned(),
        false => "nobody may put under other namespaces".to_owned(),
    });
    lines.join("\n")
}

/// The limits that there are, in one line.
fn limits(report: &LimitsReport) -> Option<String> {
    let all = [
        ("puts a second", report.requests_per_second),
        ("puts at once", report.burst_requests),
        ("bytes a second", report.bytes_per_second),
        ("bytes at once", report.burst_bytes),
        ("bytes stored", report.stored_bytes),
    ];
    let some = all.iter().filter_map(|(name, value)| value.map(|value| format!("{value} {name}")));
    let some: Vec<String> = some.collect();
    (!some.is_empty()).then(|| some.join(", "))
}
