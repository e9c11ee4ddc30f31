//! Answers readers: rows, samples, lookups.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use meridian_proofs::ids::BlobId;
use meridian_proofs::merkle::RangeProof;
use meridian_proofs::shape::RowRange;
use meridian_proto::convert::{Candidate, GetRows, GetSamples, HeldRows, Lookup, LookupKey, Sample};
use meridian_proto::error::{ApiError, EXPIRY, Reason};
use meridian_proto::{MAX_CANDIDATES, MAX_HELD_RANGES, MAX_MESSAGE, MAX_ROW_PROOF};
use tokio::sync::mpsc;

use super::rebuild::Whole;
use super::record::{Record, wide};
use super::{Replica, rows};
use crate::metrics::{self, KeyValue};
use crate::store::StoreError;

/// Bytes of rows in one message.
const CHUNK: usize = 256 << 10;
/// How long a reader may take for rows that were rebuilt, beside the time for their bytes.
const READ_TIME: Duration = Duration::from_secs(30);
/// Bytes a millisecond at which they have to be read: 1 MiB a second.
const SLOWEST_READ_PER_MS: u64 = (1 << 20) / 1000;
/// Bytes of a sample's proof and numbers in a message, at most.
const SAMPLE_OVERHEAD: usize = MAX_ROW_PROOF * 34 + 32;

/// Rows as they are read, in order.
pub type RowsStream = BoxStream<'static, Result<Bytes, ApiError>>;

/// An answer with consecutive rows.
pub struct Rows {
    /// Proof of the range.
    pub proof: RangeProof,
    /// The rows, each read from disk when it is asked for.
    pub rows: RowsStream,
}

impl Replica {
    /// Consecutive rows with one proof: from disk, or else as they were rebuilt before, or rebuilt.
    ///
    /// # Errors
    /// [`Reason::BlobUnknown`], [`Reason::RangeInvalid`], [`Reason::RowsMissing`] when only held rows were asked for;
    /// why they could not be rebuilt.
    pub async fn rows(self: &Arc<Self>, request: GetRows) -> Result<Rows, ApiError> {
        let id = request.blob_id;
        let record = self.known(id).await?;
        let range = record.shape().range(request.start, request.count).ok_or_else(|| {
            let text = format!("the blob has {} rows", record.shape().total_rows());
            ApiError::new(Reason::RangeInvalid, text)
        })?;
        let is_inconsistent = record.inconsistent;
        match self.held_rows(id, record, range).await {
            Ok(Some(Rows { proof, rows })) => {
                let replica = Arc::clone(self);
                let rows = rows.inspect_err(move |_| replica.suspect(id)).boxed();
                return Ok(Rows { proof, rows });
            }
            Ok(None) if request.held_only => {
                return Err(ApiError::new(Reason::RowsMissing, "not all of these rows are on disk here"));
            }
            Ok(None) => {}
            Err(error) if request.held_only || error == StoreError::Dropped => {
                if error != StoreError::Dropped {
                    self.suspect(id);
                }
                return Err(error.into());
            }
            Err(error) => {
                tracing::error!(blob = %id, first_row = range.start(), %error, "stored rows are damaged, rebuilding");
                self.suspect(id);
            }
        }
        if is_inconsistent {
            return Err(inconsistent(id));
        }
        let (whole, source) = self.whole_to_read(id).await?;
        let Whole::Blob { blob, .. } = &*whole else { return Err(inconsistent(id)) };
        let (proof, bytes) = (blob.range_proof(range), blob.rows(range));
        count_served(bytes.len(), source.name());
        Ok(Rows { proof, rows: self.send_rebuilt(whole, bytes) })
    }

    /// Rows of a rebuilt blob, whose memory stays reserved while they are read, and no longer than a reader may take:
    /// one that stops reading is not heard of again, so a task of its own keeps the time.
    fn send_rebuilt(&self, whole: Arc<Whole>, bytes: Bytes) -> RowsStream {
        let total = bytes.len();
        let limit = READ_TIME + Duration::from_millis(wide(total) / SLOWEST_READ_PER_MS);
        let (sender, receiver) = mpsc::channel(1);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _memory = whole;
            let send = async {
                for start in (0..total).step_by(CHUNK) {
                    // A copy: what waits to be read must not keep the whole blob in memory.
                    let chunk = Bytes::copy_from_slice(&bytes[start..total.min(start + CHUNK)]);
                    if sender.send(chunk).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(limit) => {}
                () = send => {}
            }
        });
        futures::stream::unfold((receiver, total), |(mut receiver, left)| async move {
            if left == 0 {
                return None;
            }
            let chunk: Option<Bytes> = receiver.recv().await;
            Some(match chunk {
                Some(chunk) => {
                    let left = left - chunk.len();
                    (Ok(chunk), (receiver, left))
                }
                None => {
                    let error = ApiError::new(Reason::Timeout, "the rows were not read in time");
                    (Err(error), (receiver, 0))
                }
            })
        })
        .boxed()
    }

    /// Rows that are on disk in one piece.
    async fn held_rows(
        &self,
        id: BlobId,
        record: Record,
        range: RowRange,
    ) -> Result<Option<Rows>, StoreError> {
        let Some((place, _)) = record.find(&range) else { return Ok(None) };
        let store = self.rows.clone();
        let read = move || {
            let proof = store.tree(&id, &record, place)?.prove_range(range);
            let pieces = store.pieces(&id, &record, place, &range);
            // The first piece is read now: where it is damaged, the rows can still be rebuilt.
            let first = pieces.first().map(|piece| store.read(piece)).transpose()?;
            Ok((proof, first, pieces))
        };
        let (proof, first, pieces) = self.cpu.run(read).await?;
        let (Some(proof), Some(first)) = (proof, first) else { return Ok(None) };
        let store = self.rows.clone();
        let later = futures::stream::iter(pieces.into_iter().skip(1)).then(move |piece| {
            let store = store.clone();
            async move { crate::cpu::blocking(move || store.read(&piece)).await }
        });
        let rows = futures::stream::iter([Ok(first)]).chain(later).map_err(ApiError::from);
        let rows = rows.inspect_ok(|bytes| count_served(bytes.len(), "disk"));
        Ok(Some(Rows { proof, rows: rows.boxed() }))
    }

    /// Single rows, each with its proof: from disk, or else as they were rebuilt before, or rebuilt.
    ///
    /// # Errors
    /// As [`Replica::rows`]; and [`Reason::TooManyItems`] when the rows do not fit one message.
    pub async fn samples(self: &Arc<Self>, request: GetSamples) -> Result<Vec<Sample>, ApiError> {
        let id = request.blob_id;
        let record = self.known(id).await?;
        let shape = record.shape();
        if let Some(index) = request.indices.iter().find(|index| shape.index(index.0).is_none()) {
            let text = format!("the blob has {} rows, none with index {}", shape.total_rows(), index.0);
            return Err(ApiError::new(Reason::RangeInvalid, text));
        }
        let most = (MAX_MESSAGE / (shape.row_bytes() + SAMPLE_OVERHEAD)).max(1);
        if request.indices.len() > most {
            let text = format!("at most {most} rows of {} bytes fit one message", shape.row_bytes());
            return Err(ApiError::new(Reason::TooManyItems, text).with("limit", most));
        }
        let is_inconsistent = record.inconsistent;
        let (store, wanted) = (self.rows.clone(), request.clone());
        let held = self.cpu.run(move || held_samples(&store, &record, &wanted)).await;
        let held = match held {
            Err(error @ StoreError::Dropped) => return Err(error.into()),
            Err(error) => {
                tracing::error!(blob = %id, %error, "stored rows are damaged, rebuilding");
                self.suspect(id);
                None
            }
            Ok(held) => held,
        };
        let (samples, source) = match held {
            Some(samples) => (samples, "disk"),
            None if is_inconsistent => return Err(inconsistent(id)),
            None => {
                let (whole, source) = self.whole_to_read(id).await?;
                let Whole::Blob { blob, .. } = &*whole else { return Err(inconsistent(id)) };
                let sample = |index: &_| Sample {
                    index: *index,
                    // A copy: the row must not keep the whole blob in memory.
                    row: Bytes::copy_from_slice(&blob.row(*index)),
                    path: blob.row_proof(*index),
                };
                (request.indices.iter().map(sample).collect(), source.name())
            }
        };
        metrics::get().samples.add(wide(samples.len()), &[KeyValue::new("source", source)]);
        Ok(samples)
    }

    /// Header, entries and, when asked for, RLC vector of a blob, or of each blob with a payload hash; of the first also
    /// rows.
    ///
    /// # Errors
    /// [`Reason::BlobUnknown`]; or when the store cannot be read.
    pub async fn lookup(&self, request: Lookup) -> Result<Vec<Candidate>, ApiError> {
        let found = self
            .read(move |rows| {
                let ids = match request.key {
                    LookupKey::Blob(id) => vec![id],
                    LookupKey::Payload(hash) => rows.aliases(&hash)?,
                };
                let (mut candidates, mut damaged) = (Vec::new(), Vec::new());
                for id in &ids {
                    if candidates.len() == MAX_CANDIDATES {
                        break;
                    }
                    match candidate(rows, id, request.include_rlc) {
                        Ok(found) => candidates.extend(found),
                        // Of several that one alias may mean, the others are as good as before.
                        Err(StoreError::Damaged { .. }) => damaged.push(*id),
                        Err(error) => return Err(error),
                    }
                }
                let missing = match (candidates.is_empty(), damaged.is_empty(), &ids[..]) {
                    (false, ..) => None,
                    (_, false, _) => Some(damaged_here()),
                    (_, _, [id]) => Some(no_record(rows, id)?),
                    _ => Some(unknown(rows.expired(&request.key)?)),
                };
                Ok((missing.map_or(Ok(candidates), Err), damaged))
            })
            .await;
        let mut answer = match found {
            Ok((answer, damaged)) => {
                damaged.into_iter().for_each(|id| self.suspect(id));
                answer
            }
            Err(error) => Err(error.into()),
        };
        if let Ok([first, ..]) = answer.as_deref_mut()
            && request.max_row_bytes > 0
        {
            first.rows = self.first_rows(first.header.id(), request.max_row_bytes).await;
        }
        let result = answer.as_ref().map_or_else(|error: &ApiError| error.class().as_str(), |_| "ok");
        metrics::get().lookups.add(1, &[KeyValue::new("result", result)]);
        answer
    }

    /// The first rows of a blob that are on disk, no more bytes of them than these and no more rows than K. None where they
    /// cannot be read: whoever asks for them then hears why.
    async fn first_rows(&self, id: BlobId, most: u32) -> Vec<HeldRows> {
        let store = self.rows.clone();
        match self.cpu.run(move || first_rows(&store, &id, most)).await {
            Ok(rows) => rows,
            Err(error) => {
                if error != StoreError::Dropped {
                    self.suspect(id);
                }
                Vec::new()
            }
        }
    }

    /// The record of a blob. Strangers' ids cost one read and nothing else.
    pub(super) async fn known(&self, id: BlobId) -> Result<Record, ApiError> {
        let read = move |rows: &rows::Rows| match rows.record(&id)? {
            Some(record) => Ok(Ok(record)),
            None => Ok(Err(no_record(rows, &id)?)),
        };
        let known = self.read(read).await;
        known.inspect_err(|_| self.suspect(id))?
    }
}

/// The samples, if all of them are on disk.
fn held_samples(
    store: &rows::Rows,
    record: &Record,
    request: &GetSamples,
) -> Result<Option<Vec<Sample>>, StoreError> {
    let id = &request.blob_id;
    let mut trees = std::collections::HashMap::new();
    let mut samples = Vec::with_capacity(request.indices.len());
    for index in &request.indices {
        let range = RowRange::of_row(*index);
        let Some((place, _)) = record.find(&range) else { return Ok(None) };
        let tree = match trees.entry(place) {
            std::collections::hash_map::Entry::Occupied(tree) => tree.into_mut(),
            std::collections::hash_map::Entry::Vacant(slot) => slot.insert(store.tree(id, record, place)?),
        };
        let Some(path) = tree.prove_row(*index) else { return Ok(None) };
        samples.push(Sample { index: *index, row: store.rows(id, record, place, &range)?, path });
    }
    Ok(Some(samples))
}

/// What to say of a blob without a record: it may be that this was damaged, and is being brought back.
fn no_record(rows: &rows::Rows, id: &BlobId) -> Result<ApiError, StoreError> {
    if rows.is_whole(id)? {
        return Ok(unknown(rows.expired(&LookupKey::Blob(*id))?));
    }
    Ok(damaged_here())
}

fn damaged_here() -> ApiError {
    ApiError::new(Reason::StoreDamaged, "the blob is damaged here, and is being repaired")
}

/// What a lookup answers about a blob.
fn candidate(rows: &rows::Rows, id: &BlobId, include_rlc: bool) -> Result<Option<Candidate>, StoreError> {
    let Some(record) = rows.record(id)? else { return Ok(None) };
    Ok(Some(Candidate {
        header: record.header,
        rlc: if include_rlc { Some(rows.rlc(id)?) } else { None },
        entries: rows.entries(id, MAX_CANDIDATES)?,
        inconsistent: record.inconsistent,
        rows: Vec::new(),
    }))
}

/// The first rows on disk, no more bytes of them than these and no more rows than K.
fn first_rows(store: &rows::Rows, id: &BlobId, most: u32) -> Result<Vec<HeldRows>, StoreError> {
    let Some(record) = store.record(id)? else { return Ok(Vec::new()) };
    let shape = record.shape();
    let most = usize::try_from(most).unwrap_or(usize::MAX) / shape.row_bytes();
    let mut left = u32::try_from(most.min(shape.data_rows())).unwrap_or(u32::MAX);
    let mut held = Vec::new();
    for (place, stored) in record.ranges.iter().enumerate().take(MAX_HELD_RANGES) {
        let Some(range) = shape.range(stored.range.start(), left.min(stored.range.count())) else { break };
        let Some(proof) = store.tree(id, &record, place)?.prove_range(range) else { break };
        let rows = store.rows(id, &record, place, &range)?;
        left -= range.count();
        count_served(rows.len(), "disk");
        held.push(HeldRows { start: range.start(), count: range.count(), proof, rows });
    }
    Ok(held)
}

/// Of a blob that is not here, or not any more: unix seconds of its last expiry.
fn unknown(expired: Option<u64>) -> ApiError {
    match expired {
        None => ApiError::new(Reason::BlobUnknown, "no such blob here"),
        Some(expiry) => {
            ApiError::new(Reason::BlobExpired, "the blob was here and has expired").with(EXPIRY, expiry)
        }
    }
}

fn inconsistent(id: BlobId) -> ApiError {
    ApiError::new(Reason::BlobInconsistent, format!("the rows of blob {id} are not of one code word"))
}

fn count_served(bytes: usize, source: &'static str) {
    metrics::get().served_bytes.add(wide(bytes), &[KeyValue::new("source", source)]);
}
