//! A put, from its first message to its certificate.
//!
//! Everything that can be refused is refused before a chunk is read. A caller that goes away before the payload is
//! complete leaves nothing behind; after that the put goes on without it, and the retry finds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use meridian_proofs::certificate::Certificate;
use meridian_proofs::encode::{EncodedBlob, StreamEncoder};
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::shape::{PayloadLength, Shape};
use meridian_proofs::{B256, keccak256};
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::core::Core;
use super::dispersal::Dispersals;
use super::link::Rows;
use super::log::{Outcome, Ready, Wanted};
use super::seats::class_of;
use crate::memory::Reservation;
use crate::metrics::{self, KeyValue};

/// Chunks up to this length are hashed where they arrive; longer ones in the pool for CPU work.
const SMALL_CHUNK: usize = 256 << 10;

/// Bytes a second that a payload has to come at, beyond the time that it may stop for.
const SLOWEST_BODY: u64 = 128 << 10;

/// What a put takes besides its bytes: tasks, proofs, signatures.
const PUT_OVERHEAD: u64 = 32 << 10;

/// Seconds that an earlier entry must have left for its rows to be counted on.
const DISPERSED_MARGIN: u64 = 60;

/// A put that passed every check that needs no payload.
struct Admitted {
    start: PutStart,
    memory: Reservation,
}

/// A payload that arrived whole.
struct Received {
    start: PutStart,
    encoder: StreamEncoder,
    memory: Reservation,
}

/// What is known once the payload is encoded.
struct Encoded {
    rows: Rows,
    wanted: Wanted,
    /// The index of an entry that serves the put.
    served: Option<u64>,
    /// Whether the seats have the blob by an earlier entry.
    dispersed: bool,
}

/// Takes a payload and gives its certificate.
pub(super) async fn put(
    core: &Arc<Core>,
    start: PutStart,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
) -> Result<Certificate, ApiError> {
    let started = Instant::now();
    let _counted = InFlight::new(core);
    let answer = async {
        let admitted = admit(core, start).await?;
        let received = receive(core, admitted, chunks).await?;
        let work = finish(core.clone(), received).in_current_span();
        let done = core.finishing.spawn(work).await;
        done.unwrap_or_else(|error| Err(ApiError::internal(format!("a put failed: {error}"))))
    };
    let answer = answer.await;
    let result = answer.as_ref().map_or_else(class_of, |_| "ok");
    metrics::get().puts.add(1, &[KeyValue::new("result", result)]);
    metrics::get().put_seconds.record(started.elapsed().as_secs_f64(), &[]);
    answer
}

/// Bytes that a put holds at most: its rows, the payload twice while it is being written, the RLC vector.
pub(super) fn footprint(length: PayloadLength) -> u64 {
    let shape = Shape::of(length);
    let rows = u64::try_from(shape.total_bytes() + shape.data_rows() * 16).unwrap_or(u64::MAX);
    rows.saturating_add(length.get().saturating_mul(2)).saturating_add(PUT_OVERHEAD)
}

/// Everything that can be refused before the payload is read.
async fn admit(core: &Core, start: PutStart) -> Result<Admitted, ApiError> {
    if core.draining.is_cancelled() {
        return Err(stopped());
    }
    check_retention(core, start.retention)?;
    core.may_append()?;
    let bytes = footprint(start.length);
    if bytes > core.memory.total() {
        let limit = core.memory.total();
        let message =
            format!("this payload needs {bytes} bytes of memory, more than the gateway's budget of {limit}");
        return Err(ApiError::new(Reason::PayloadTooLarge, message).with("limit", limit));
    }
    let memory = core.reserve(bytes, core.settings.memory_wait()).await?;
    Ok(Admitted { start, memory })
}

fn check_retention(core: &Core, retention: u64) -> Result<(), ApiError> {
    let parts = core.committee.parts();
    let (shortest, longest) = (parts.min_retention, parts.max_retention);
    let fits = retention > 0 && (shortest..=longest).contains(&retention);
    if fits && core.clock.now().checked_add(retention).is_some() {
        return Ok(());
    }
    let message =
        format!("the retention is {retention} s, outside the limits of {shortest} s to {longest} s");
    Err(ApiError::new(Reason::RetentionOutOfRange, message)
        .with("min_retention", shortest)
        .with("max_retention", longest))
}

/// Reads the payload, hashing it meanwhile.
async fn receive(
    core: &Core,
    admitted: Admitted,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
) -> Result<Received, ApiError> {
    let Admitted { start, memory } = admitted;
    let announced = start.length.get();
    let mut chunks = std::pin::pin!(chunks);
    let mut encoder: StreamEncoder = StreamEncoder::reusing(&core.buffers, start.length);
    let (begun, limit) = (tokio::time::Instant::now(), core.settings.body_timeout());
    loop {
        let received = announced - encoder.remaining();
        // Whoever drips holds memory that others need.
        let slowest = begun + limit + Duration::from_millis(received * 1000 / SLOWEST_BODY);
        let end = slowest.min(tokio::time::Instant::now() + limit);
        let chunk = tokio::select! {
            chunk = tokio::time::timeout_at(end, chunks.next()) => chunk,
            () = core.draining.cancelled() => return Err(stopped()),
        };
        let chunk = chunk.map_err(|_| {
            let message = format!(
                "the payload stopped for {} ms, or came at less than {SLOWEST_BODY} bytes a second",
                limit.as_millis()
            );
            ApiError::new(Reason::Timeout, message)
        })?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk?;
        let remaining = encoder.remaining();
        if u64::try_from(chunk.len()).is_ok_and(|length| length > remaining) {
            return Err(mismatch(announced));
        }
        if chunk.len() <= SMALL_CHUNK {
            encoder.push(&chunk).map_err(|_| mismatch(announced))?;
        } else {
            let push = move || encoder.push(&chunk).map(|()| encoder);
            encoder = core.cpu.run(push).await.map_err(|_| mismatch(announced))?;
        }
    }
    if encoder.remaining() > 0 {
        let missing = encoder.remaining();
        return Err(mismatch(announced).with("missing", missing));
    }
    Ok(Received { start, encoder, memory })
}

fn mismatch(announced: u64) -> ApiError {
    let message = format!("the payload does not have the {announced} bytes that were announced");
    ApiError::new(Reason::LengthMismatch, message).with("announced", announced)
}

/// From the whole payload to the certificate, whether or not the caller is still there.
async fn finish(core: Arc<Core>, received: Received) -> Result<Certificate, ApiError> {
    let Encoded { rows, wanted, served, dispersed } = encode(&core, received).await?;
    let index = match served {
        Some(index) => {
            drop(rows);
            index
        }
        None if dispersed => {
            drop(rows);
            append(&core, wanted, None).await?
        }
        None => append(&core, wanted, Some(rows)).await?,
    };
    core.certificate_of(index).await
}

/// Encodes, and looks for what the log has of the blob already.
async fn encode(core: &Arc<Core>, received: Received) -> Result<Encoded, ApiError> {
    let Received { start, encoder, memory } = received;
    let length = start.length.get();
    let kzg_root = start.kzg_root.unwrap_or(B256::ZERO);
    let started = Instant::now();
    let worker = core.clone();
    let work = move || -> Result<Encoded, ApiError> {
        let blob: EncodedBlob = encoder.finish(kzg_root).map_err(|_| mismatch(length))?;
        let payload_hash = if start.bind_payload_hash { hash(&blob) } else { PayloadHash::UNBOUND };
        let id = blob.id();
        check_id(start.expected_blob_id, id)?;
        let wanted = Wanted {
            id,
            header: *blob.header(),
            namespace: start.namespace,
            payload_hash,
            retention: start.retention,
        };
        let (epoch, now) = (worker.committee.epoch(), worker.clock.now());
        let earlier = worker.store.find(id, start.namespace, payload_hash.is_bound())?;
        let served = earlier.filter(|(_, entry)| wanted.served_by(entry, epoch, now)).map(|(index, _)| index);
        let latest = worker.store.latest(id, None)?;
        let dispersed = latest.is_some_and(|(_, entry)| {
            entry.epoch == epoch && entry.expiry > now.saturating_add(DISPERSED_MARGIN)
        });
        Ok(Encoded { rows: Rows::new(blob, memory), wanted, served, dispersed })
    };
    let encoded = core.cpu.run(work).await?;
    metrics::get().encode_seconds.record(started.elapsed().as_secs_f64(), &[]);
    metrics::get().put_bytes.add(length, &[]);
    Ok(encoded)
}

fn hash(blob: &EncodedBlob) -> PayloadHash {
    PayloadHash(keccak256(blob.payload()))
}

fn check_id(expected: Option<BlobId>, found: BlobId) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != found => {
            let message = format!("the payload has the blob id {found}, not {expected}");
            Err(ApiError::new(Reason::IdMismatch, message).with("blob_id", found))
        }
        _ => Ok(()),
    }
}

/// Waits until S holds the blob, and for the entry.
async fn append(core: &Arc<Core>, wanted: Wanted, rows: Option<Rows>) -> Result<u64, ApiError> {
    let share = rows.map(|rows| Dispersals::join(core, rows));
    loop {
        if let Some(share) = &share {
            share.complete(core).await?;
        }
        let (reply, answer) = oneshot::channel();
        let dispersal = share.as_ref().map(|share| (**share).clone());
        core.ready.send(Ready { wanted, dispersal, reply }).map_err(|_| stopped())?;
        match answer.await.map_err(|_| stopped())?? {
            Outcome::Entry(index) => return Ok(index),
            Outcome::NotCovered => {}
        }
    }
}

fn stopped() -> ApiError {
    ApiError::new(Reason::ShuttingDown, "the gateway is stopping")
}

/// Counts a put for as long as it lives.
struct InFlight<'a>(&'a Core);

impl<'a> InFlight<'a> {
    fn new(core: &'a Core) -> Self {
        core.puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        metrics::get().puts_in_flight.add(1, &[]);
        Self(core)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.puts.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        metrics::get().puts_in_flight.add(-1, &[]);
    }
}
