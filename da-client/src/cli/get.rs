//! `da get`.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use futures::TryStreamExt;
use meridian_proofs::committee::RegionId;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::BlobId;
use meridian_proofs::shape::Shape;

use super::Printed;
use super::args::GetArgs;
use super::exit::{Problem, fault_reports};
use super::input;
use super::progress::Bar;
use super::report::GetReport;
use super::session::{Session, labels};
use super::text::millis;
use crate::fetch::{Fault, Fetched, FetchedRange, Reader, Readers};
use crate::files;

/// What was read: a payload, or a range of it.
struct Read {
    id: BlobId,
    header: BlobHeader,
    start: u64,
    bytes: Bytes,
    row_bytes: u64,
    regions: Vec<RegionId>,
    faults: Vec<Fault>,
}

impl Read {
    fn whole(fetched: Fetched) -> Self {
        let Fetched { id, header, payload: bytes, regions, faults, .. } = fetched;
        let shape = Shape::of(header.length);
        let row_bytes = u64::try_from(shape.data_bytes()).unwrap_or(u64::MAX);
        Self { id, header, start: 0, bytes, row_bytes, regions, faults }
    }

    fn part(fetched: FetchedRange, range: &Range<u64>) -> Self {
        let FetchedRange { id, header, bytes, row_bytes, regions, faults } = fetched;
        Self { id, header, start: range.start, bytes, row_bytes, regions, faults }
    }
}

/// Reads a payload, or a range of it, and writes it, once all of it is right.
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
    if args.stream {
        let (id, _) =
            blob.ok_or_else(|| Problem::usage("no blob is named", "give its id or its certificate"))?;
        return stream(&readers, epoch, id).await;
    }
    let started = Instant::now();
    let bar = Bar::new("get");
    let bar = &bar;
    let range = args.range;
    let (read, reader) = match (blob, args.alias) {
        (Some((id, _)), _) => {
            let read = |reader: Reader| {
                let range = range.clone();
                async move {
                    match range {
                        Some(range) => {
                            reader.range(id, range.clone(), bar).await.map(|read| Read::part(read, &range))
                        }
                        None => reader.payload(id, bar).await.map(Read::whole),
                    }
                }
            };
            readers.first(epoch, read).await?
        }
        (None, Some(hash)) => {
            let read =
                |reader: Reader| async move { reader.payload_by_hash(hash, bar).await.map(Read::whole) };
            readers.first(None, read).await?
        }
        (None, None) => {
            return Err(Problem::usage("no blob is named", "give its id, its certificate or --alias"));
        }
    };
    let millis = millis(started.elapsed());
    let written = if to_stdout {
        let mut out = std::io::stdout().lock();
        out.write_all(&read.bytes).and_then(|()| out.flush())
    } else {
        files::write_whole(&args.out, &read.bytes)
    };
    written.map_err(|error| Problem::file(&args.out, &error))?;
    let committee = reader.committee();
    let report = GetReport {
        blob_id: read.id.to_string(),
        length: read.header.length.get(),
        start: read.start,
        end: read.start + u64::try_from(read.bytes.len()).map_err(Problem::local)?,
        row_bytes: read.row_bytes,
        kzg_root: read.header.kzg_root.to_string(),
        out: args.out.display().to_string(),
        regions: labels(committee, &read.regions),
        faults: fault_reports(&read.faults, Some(committee)),
        millis,
    };
    let text = if to_stdout {
        String::new()
    } else {
        format!("{} bytes from {} to {}", report.end - report.start, report.regions.join(", "), report.out)
    };
    Printed::new(&report, text)
}

/// Writes a payload to standard output while it is read.
async fn stream(readers: &Readers, epoch: Option<u64>, id: BlobId) -> Result<Printed, Problem> {
    // Whoever has the first bytes has the others.
    let begin = |reader: Reader| async move {
        let mut pieces = reader.stream(id);
        let first = pieces.try_next().await?;
        Ok((first, pieces))
    };
    let ((mut piece, mut pieces), _) = readers.first(epoch, begin).await?;
    while let Some(bytes) = piece {
        let written = tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        });
        let written = written.await.map_err(Problem::local)?;
        written.map_err(|error| Problem::file(Path::new("-"), &error))?;
        piece = pieces.try_next().await?;
    }
    Ok(Printed::nothing())
}
