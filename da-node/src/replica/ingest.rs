//! Takes uploads: permission first, then the room, then the rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fail::fail_point;
use futures::{Stream, StreamExt};
use meridian_proofs::merkle::{RangeProof, range_proof_len};
use meridian_proofs::placement::Interval;
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::row_proof::{BlobContext, RowError, VerifiedRange};
use meridian_proofs::shape::{RowRange, Shape};
use meridian_proto::convert::{DisperseOutcome, DispersePart, DisperseStart};
use meridian_proto::error::{ApiError, Reason};

use super::Replica;
use super::epochs::Standing;
use super::keep::{Debtor, Kind};
use super::record::wide;
use crate::metrics::{self, KeyValue};

/// How far ahead a permission to upload may reach, seconds.
const MAX_DEADLINE: u64 = 60;
/// Bytes of one value of the RLC vector.
const RLC_VALUE: usize = 16;
/// How long to wait when there is no room on disk.
pub(super) const FULL_WAIT: Duration = Duration::from_secs(30);
/// How long to wait when there is no room in memory.
const MEMORY_WAIT: Duration = Duration::from_millis(500);

/// Rows as they came.
struct Unverified {
    range: RowRange,
    proof: RangeProof,
    rows: Bytes,
}

impl Replica {
    /// Takes an upload and answers when its rows are verified and synced to disk.
    ///
    /// # Errors
    /// Protocol section 9: whatever is wrong with the permission, the messages or the rows; no room; a broken stream.
    pub async fn disperse<S>(self: &Arc<Self>, parts: S) -> Result<DisperseOutcome, ApiError>
    where
        S: Stream<Item = Result<DispersePart, ApiError>> + Send + Unpin,
    {
        let begun = Instant::now();
        let outcome = self.take(parts).await;
        let result = match &outcome {
            Ok(DisperseOutcome::Stored) => {
                metrics::get().ingest_seconds.record(begun.elapsed().as_secs_f64(), &[]);
                "stored"
            }
            Ok(DisperseOutcome::Held) => "held",
            Err(error) => error.class().as_str(),
        };
        metrics::get().ingests.add(1, &[KeyValue::new("result", result)]);
        fail_point!("upload-answer");
        outcome
    }

    async fn take<S>(self: &Arc<Self>, mut parts: S) -> Result<DisperseOutcome, ApiError>
    where
        S: Stream<Item = Result<DispersePart, ApiError>> + Send + Unpin,
    {
        let limit = Duration::from_millis(self.settings.upload_ms);
        let late = |_| ApiError::new(Reason::Timeout, "the upload took too long");
        let end = tokio::time::Instant::now() + limit;
        let first = tokio::time::timeout_at(end, next(&mut parts)).await.map_err(late)??;
        let DispersePart::Start(start) = first.ok_or_else(|| stream("the stream is empty"))? else {
            return Err(stream("the first message is not the start"));
        };
        let standing = self.permit(&start)?;
        let (gateway, id, header) = (start.dispersal.dispersal.gateway, start.header.id(), start.header);
        // With others, so that the rows are not dropped between the look and the answer.
        let shared = Arc::clone(&self.locks[self.lock_of(&id)]).read_owned().await;
        let record = self.read(move |rows| rows.record(&id)).await?;
        if let Some(record) = record
            && self.holds(&standing, &id, &record)?
        {
            self.charge_held(standing.gateway(&gateway)?, id, &record)?;
            self.promise(id);
            return Ok(DisperseOutcome::Held);
        }
        drop(shared);
        let shape = header.shape();
        let interval = standing.interval(&id, shape);
        let bytes = wide(interval.rows() * shape.row_bytes());
        let room = self.reserve(bytes, Some(standing.gateway(&gateway)?))?;
        // The rows as they come, the batch with its sealed copy, and the RLC vector with its extension.
        let memory = bytes * 3 + wide(shape.total_rows() * RLC_VALUE * 2);
        let _memory = self.upload_memory.try_reserve(memory).ok_or_else(|| {
            ApiError::new(Reason::MemoryBudget, "the uploads in flight take the whole memory budget")
                .retry_after(MEMORY_WAIT)
        })?;
        let _arrival = self.arrivals.begin(id);
        let body = async {
            let rlc = read_rlc(&mut parts, shape).await?;
            let context = self.cpu.run(move || BlobContext::new(id, header, rlc)).await;
            let context =
                Arc::new(context.map_err(|error| ApiError::new(Reason::RlcMismatch, error.to_string()))?);
            Ok::<_, ApiError>((context, read_ranges(&mut parts, &interval, shape).await?))
        };
        let (context, ranges) = tokio::time::timeout_at(end, body).await.map_err(late)??;
        let checker = Arc::clone(&context);
        let verified = self.cpu.run(move || verify(&checker, ranges)).await?;
        let until = self.clock.now().saturating_add(self.settings.unsigned_seconds);
        let debtor = Debtor { gateway, until };
        let written = self.keep(context, verified, Kind::Share, Some(debtor), room).await?;
        if !written {
            return Ok(DisperseOutcome::Held);
        }
        metrics::get().ingest_bytes.add(bytes, &[]);
        Ok(DisperseOutcome::Stored)
    }

    /// Whether a gateway of an open epoch permits this replica to take the rows of this header now, for which seat.
    fn permit(&self, start: &DisperseStart) -> Result<Standing, ApiError> {
        let signed = &start.dispersal;
        let dispersal = &signed.dispersal;
        let view = self.view();
        self.check_gateway(&view, &dispersal.gateway)?;
        signed
            .verify(&self.domain)
            .map_err(|error| ApiError::new(Reason::SignatureInvalid, error.to_string()))?;
        if dispersal.replica != self.address() {
            let text = format!("the permission is for {}, this is {}", dispersal.replica, self.address());
            return Err(ApiError::new(Reason::WrongReplica, text));
        }
        let standing = self.open_standing(&view, dispersal.epoch)?;
        standing.gateway(&dispersal.gateway)?;
        let now = self.clock.now();
        if dispersal.deadline < now || dispersal.deadline > now.saturating_add(MAX_DEADLINE) {
            let text = format!("deadline {} is not within {MAX_DEADLINE} s after {now}", dispersal.deadline);
            return Err(ApiError::new(Reason::DeadlineOutOfRange, text));
        }
        if start.header.id() != dispersal.blob_id {
            let text =
                format!("the header is of {}, the permission of {}", start.header.id(), dispersal.blob_id);
            return Err(ApiError::new(Reason::HeaderInvalid, text));
        }
        Ok(standing)
    }
}

fn stream(text: &str) -> ApiError {
    ApiError::new(Reason::StreamInvalid, text)
}

fn length(text: String) -> ApiError {
    ApiError::new(Reason::LengthMismatch, text)
}

async fn next<S>(parts: &mut S) -> Result<Option<DispersePart>, ApiError>
where
    S: Stream<Item = Result<DispersePart, ApiError>> + Unpin,
{
    parts.next().await.transpose()
}

async fn read_rlc<S>(parts: &mut S, shape: Shape) -> Result<RlcVector, ApiError>
where
    S: Stream<Item = Result<DispersePart, ApiError>> + Unpin,
{
    let bytes = match next(parts).await? {
        Some(DispersePart::Rlc(bytes)) => bytes,
        Some(_) => return Err(stream("the second message is not the rlc vector")),
        None => return Err(length("the stream ended before the rlc vector".to_owned())),
    };
    let expected = shape.data_rows() * RLC_VALUE;
    if bytes.len() != expected {
        let text = format!("the rlc vector has {} bytes instead of {expected}", bytes.len());
        return Err(ApiError::new(Reason::RlcMismatch, text));
    }
    RlcVector::from_bytes(&bytes).map_err(|error| ApiError::new(Reason::RlcMismatch, error.to_string()))
}

/// Exactly the ranges of the interval, then the end of the stream.
async fn read_ranges<S>(parts: &mut S, interval: &Interval, shape: Shape) -> Result<Vec<Unverified>, ApiError>
where
    S: Stream<Item = Result<DispersePart, ApiError>> + Unpin,
{
    let mut ranges = Vec::new();
    for range in interval.ranges() {
        let opened = match next(parts).await? {
            Some(DispersePart::Range(opened)) => opened,
            Some(DispersePart::Rows(_)) => {
                return Err(length("more rows came than were announced".to_owned()));
            }
            Some(_) => return Err(stream("a range is not opened where it has to be")),
            None => return Err(length(format!("the stream ended before row {}", range.start()))),
        };
        if (opened.start, opened.count) != (range.start(), range.count()) {
            let text = format!(
                "{} rows from {} came, this seat holds {} from {}",
                opened.count,
                opened.start,
                range.count(),
                range.start()
            );
            return Err(ApiError::new(Reason::PlacementMismatch, text));
        }
        let expected = range_proof_len(shape.total_rows(), *range);
        if opened.proof.0.len() != expected {
            let text = format!("the range proof has {} hashes instead of {expected}", opened.proof.0.len());
            return Err(ApiError::new(Reason::RowProofInvalid, text));
        }
        let rows = read_rows(parts, range.indices().count() * shape.row_bytes()).await?;
        ranges.push(Unverified { range: *range, proof: opened.proof, rows });
    }
    match next(parts).await? {
        None => Ok(ranges),
        Some(_) => Err(length("messages came after the last row".to_owned())),
    }
}

/// Exactly `expected` bytes.
async fn read_rows<S>(parts: &mut S, expected: usize) -> Result<Bytes, ApiError>
where
    S: Stream<Item = Result<DispersePart, ApiError>> + Unpin,
{
    let mut rows = BytesMut::new();
    while rows.len() < expected {
        let missing = expected - rows.len();
        match next(parts).await? {
            Some(DispersePart::Rows(bytes)) if bytes.len() == expected => return Ok(bytes),
            Some(DispersePart::Rows(bytes)) if bytes.len() <= missing => {
                rows.reserve(missing);
                rows.extend_from_slice(&bytes);
            }
            Some(DispersePart::Rows(bytes)) => {
                return Err(length(format!(
                    "{} bytes of rows came where {missing} were missing",
                    bytes.len()
                )));
            }
            Some(_) => return Err(stream("a message other than rows came in the middle of a range")),
            None => {
                return Err(length(format!("the stream ended {missing} bytes before the end of a range")));
            }
        }
    }
    Ok(rows.freeze())
}

/// Checks every row.
fn verify(context: &BlobContext, ranges: Vec<Unverified>) -> Result<Vec<VerifiedRange>, ApiError> {
    let check = |Unverified { range, proof, rows }| {
        context.check_range(range, rows, &proof).map_err(|error| {
            let reason = match error {
                RowError::Bytes { .. } => Reason::LengthMismatch,
                RowError::Proof(_) | RowError::RowRoot => Reason::RowProofInvalid,
                RowError::Combination { .. } => Reason::RowCombinationInvalid,
            };
            ApiError::new(reason, error.to_string())
        })
    };
    ranges.into_iter().map(check).collect()
}
