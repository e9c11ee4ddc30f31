//! `da get`.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::Printed;
use super::args::GetArgs;
use super::exit::{Problem, fault_reports};
use super::input;
use super::progress::Bar;
use super::report::GetReport;
use super::session::{Session, labels};
use super::text::millis;
use crate::files;

/// Reads a payload and writes it, once all of it is right.
pub(crate) async fn run(args: GetArgs, session: &Session) -> Result<Printed, Problem> {
    let to_stdout = args.out == Path::new("-");
    if to_stdout && session.json() {
        return Err(Problem::usage(
            "--json needs standard output, which the payload takes",
            "name a file with --out",
        ));
    }
    let blob = args.blob.as_deref().map(input::blob).transpose()?;
    let epoch = blob.as_ref().and_then(|(_, known)| known.as_ref()).map(|known| known.entry.epoch);
    let readers = session.readers().await?;
    let readers = if args.ignore_kzg { readers.ignoring_kzg() } else { readers };
    let started = Instant::now();
    let bar = Bar::new("get");
    let bar = &bar;
    let (fetched, reader) = match (blob, args.alias) {
        (Some((id, _)), _) => {
            readers.first(epoch, |reader| async move { reader.payload(id, bar).await }).await?
        }
        (None, Some(hash)) => {
            readers.first(None, |reader| async move { reader.payload_by_hash(hash, bar).await }).await?
        }
        (None, None) => {
            return Err(Problem::usage("no blob is named", "give its id, its certificate or --alias"));
        }
    };
    let millis = millis(started.elapsed());
    let written = if to_stdout {
        let mut out = std::io::stdout().lock();
        out.write_all(&fetched.payload).and_then(|()| out.flush())
    } else {
        files::write_whole(&args.out, &fetched.payload)
    };
    written.map_err(|error| Problem::file(&args.out, &error))?;
    let committee = reader.committee();
    let report = GetReport {
        blob_id: fetched.id.to_string(),
        length: u64::try_from(fetched.payload.len()).map_err(Problem::local)?,
        kzg_root: fetched.header.kzg_root.to_string(),
        out: args.out.display().to_string(),
        regions: labels(committee, &fetched.regions),
        faults: fault_reports(&fetched.faults, Some(committee)),
        millis,
    };
    let text = if to_stdout {
        String::new()
    } else {
        format!("{} bytes from {} to {}", report.length, report.regions.join(", "), report.out)
    };
    Printed::new(&report, text)
}
