//! `da sample`.

use std::time::Instant;

use super::Printed;
use super::args::SampleArgs;
use super::exit::{Exit, Problem, fault_reports};
use super::input;
use super::report::{SampleReport, SampleRow};
use super::session::{Session, labels};
use super::text::millis;
use crate::fetch::FaultKind;

/// Samples random rows of a blob.
pub(crate) async fn run(args: SampleArgs, session: &Session) -> Result<Printed, Problem> {
    let (id, known) = input::blob(&args.blob)?;
    let epoch = known.map(|known| known.entry.epoch);
    let readers = session.readers().await?;
    let started = Instant::now();
    let samples = usize::try_from(args.samples).map_err(Problem::local)?;
    let (sampled, reader) =
        readers.first(epoch, |reader| async move { reader.sample(id, samples).await }).await?;
    let committee = reader.committee();
    let report = SampleReport {
        blob_id: sampled.id.to_string(),
        drawn: sampled.drawn.len(),
        verified: sampled.verified.len(),
        data_rows: sampled.shape.data_rows(),
        total_rows: sampled.shape.total_rows(),
        bound_unavailable: sampled.bound_unavailable(),
        bound_misencoded: sampled.bound_misencoded(),
        clients_fooled: sampled.clients_fooled(),
        exact: sampled.exact,
        rows: sampled
            .drawn
            .iter()
            .map(|row| SampleRow { index: row.0, verified: sampled.verified.contains(row) })
            .collect(),
        regions: labels(committee, &sampled.regions),
        faults: fault_reports(&sampled.faults, Some(committee)),
        millis: millis(started.elapsed()),
    };
    let text = if report.exact {
        format!(
            "all of it: {} rows were fetched, decoded, encoded again and compared with the row root",
            report.verified
        )
    } else {
        format!(
            "{} of {} rows verified\nthat many would verify with probability at most {:.3e} if the blob were \
             unavailable, {:.3e} if it were badly encoded\nwhoever answers {} rows and no more fools {} such clients at least",
            report.verified,
            report.drawn,
            report.bound_unavailable,
            report.bound_misencoded,
            report.data_rows - 1,
            report.clients_fooled
        )
    };
    let printed = Printed::new(&report, text)?;
    if report.verified == report.drawn {
        return Ok(printed);
    }
    // What was found is printed all the same: v of s is an answer too.
    let lied = sampled.faults.iter().all(|fault| fault.kind == FaultKind::Wrong);
    let exit = if lied { Exit::Verification } else { Exit::Unavailable };
    let message = format!("{} of {} rows cannot be had now", report.drawn - report.verified, report.drawn);
    Ok(printed.but(Problem::new(exit, "SAMPLES_MISSING", message, "da regions shows who answers; try again")))
}
