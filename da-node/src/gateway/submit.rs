//! A put, from its first message to its certificate.
//!
//! Everything that can be refused is refused before a chunk is read. A caller that goes away before the payload is
//! complete leaves nothing behind; after that the put goes on without it, and the retry finds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fail::fail_point;
use futures::{Stream, StreamExt};
use meridian_client::guard::Origin;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::encode::{EncodedBlob, StreamEncoder};
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::shape::{PayloadLength, Shape};
use meridian_proofs::{B256, keccak256};
use meridian_proto::convert::PutStart;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::access::Pass;
use super::core::{Core, OVERLOAD_WAIT, Shared, blocking};
use super::dispersal::Dispersals;
use super::epochs::Door;
use super::link::Rows;
use super::log::{Outcome, Ready, Wanted};
use super::seats::class_of;
use super::store::StoreError;
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
    origin: Option<Origin>,
    start: PutStart,
    pass: Pass,
    memory: Reservation,
}

/// A payload that arrived whole.
struct Received {
    origin: Option<Origin>,
    start: PutStart,
    encoder: StreamEncoder,
    pass: Pass,
    memory: Reservation,
}

/// What is known once the payload is encoded.
struct Encoded {
    rows: Arc<Rows>,
    wanted: Wanted,
    earlier: Earlier,
}

/// What the log has of a blob in an epoch.
struct Earlier {
    /// The index of an entry that serves the put.
    served: Option<u64>,
    /// Whether the seats have the blob by an entry.
    dispersed: bool,
}

/// Where a put stands.
enum Place {
    /// In the log.
    Entry(u64),
    /// Not in the log, and the epoch takes no more entries.
    Closed(Arc<Rows>),
}

/// Takes a payload and gives its certificate.
pub(super) async fn put(
    door: &Door,
    origin: Option<Origin>,
    start: PutStart,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
) -> Result<Certificate, ApiError> {
    let started = Instant::now();
    let shared = &door.shared;
    let _counted = InFlight::new(shared);
    let answer = async {
        let admitted = admit(door, origin, start).await?;
        let received = receive(shared, admitted, chunks).await?;
        let work = finish(door.clone(), received).in_current_span();
        let done = shared.finishing.spawn(work).await;
        done.unwrap_or_else(|error| Err(ApiError::internal(format!("a put failed: {error}"))))
    };
    let answer = answer.await;
    let result = answer.as_ref().map_or_else(class_of, |_| "ok");
    metrics::get().puts.add(1, &[KeyValue::new("result", result)]);
    metrics::get().put_seconds.record(started.elapsed().as_secs_f64(), &[]);
    fail_point!("put-answer");
    answer
}

/// Bytes that a put holds at most: its rows, the payload twice while it is being written, the RLC vector.
pub(super) fn footprint(length: PayloadLength) -> u64 {
    let shape = Shape::of(length);
    let rows = u64::try_from(shape.total_bytes() + shape.data_rows() * 16).unwrap_or(u64::MAX);
    rows.saturating_add(length.get().saturating_mul(2)).saturating_add(PUT_OVERHEAD)
}

/// Everything that can be refused before the payload is read.
async fn admit(door: &Door, origin: Option<Origin>, start: PutStart) -> Result<Admitted, ApiError> {
    if door.shared.draining.is_cancelled() {
        return Err(stopped());
    }
    door.shared.congestion.check(origin)?;
    door.shared.access.check(&start)?;
    let core = tokio::select! {
        core = door.core() => core?,
        () = door.shared.draining.cancelled() => return Err(stopped()),
    };
    check_retention(&core, start.retention)?;
    core.may_append()?;
    let bytes = footprint(start.length);
    if bytes > core.memory.total() {
        let limit = core.memory.total();
        let message =
            format!("this payload needs {bytes} bytes of memory, more than the gateway's budget of {limit}");
        return Err(ApiError::new(Reason::PayloadTooLarge, message).with("limit", limit));
    }
    core.store.db().check_room(start.length.get())?;
    let pass = core.access.admit(&start).await?;
    match core.reserve(bytes, core.settings.memory_wait()).await {
        Ok(memory) => Ok(Admitted { origin, start, pass, memory }),
        Err(error) => {
            pass.failed(&error);
            Err(error)
        }
    }
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
    shared: &Shared,
    admitted: Admitted,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
) -> Result<Received, ApiError> {
    let Admitted { origin, start, pass, memory } = admitted;
    match read(shared, start, memory.bytes(), chunks).await {
        Ok(encoder) => Ok(Received { origin, start, encoder, pass, memory }),
        Err(error) => {
            pass.failed(&error);
            Err(error)
        }
    }
}

/// Reads the payload into an encoder, while it holds so many bytes of memory.
async fn read(
    shared: &Shared,
    start: PutStart,
    holds: u64,
    chunks: impl Stream<Item = Result<Bytes, ApiError>> + Send,
) -> Result<StreamEncoder, ApiError> {
    let announced = start.length.get();
    let mut chunks = std::pin::pin!(chunks);
    let mut encoder: StreamEncoder = StreamEncoder::reusing(&shared.buffers, start.length);
    let (begun, limit) = (tokio::time::Instant::now(), shared.settings.body_timeout());
    let underway = shared.arriving.begin(holds);
    loop {
        let received = announced - encoder.remaining();
        underway.received(received);
        // Whoever drips holds memory that others need.
        let slowest = begun + limit + Duration::from_millis(received * 1000 / SLOWEST_BODY);
        let end = slowest.min(tokio::time::Instant::now() + limit);
        let chunk = tokio::select! {
            chunk = tokio::time::timeout_at(end, chunks.next()) => chunk,
            () = shared.draining.cancelled() => return Err(stopped()),
            () = underway.gives_way() => {
                let message = "memory is short, and this payload comes more slowly than others";
                return Err(ApiError::new(Reason::MemoryBudget, message).retry_after(OVERLOAD_WAIT));
            }
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
            encoder = shared.cpu.run(push).await.map_err(|_| mismatch(announced))?;
        }
    }
    if encoder.remaining() > 0 {
        let missing = encoder.remaining();
        return Err(mismatch(announced).with("missing", missing));
    }
    Ok(encoder)
}

fn mismatch(announced: u64) -> ApiError {
    let message = format!("the payload does not have the {announced} bytes that were announced");
    ApiError::new(Reason::LengthMismatch, message).with("announced", announced)
}

/// From the whole payload to the certificate, whether or not the caller is still there.
///
/// A put that an epoch's end finds before its entry goes on in the next epoch.
async fn finish(door: Door, mut received: Received) -> Result<Certificate, ApiError> {
    let mut pass = std::mem::take(&mut received.pass);
    let certified = certify(&door, received, &mut pass).await;
    if let Err(error) = &certified {
        pass.failed(error);
    }
    certified
}

async fn certify(door: &Door, received: Received, pass: &mut Pass) -> Result<Certificate, ApiError> {
    let retention = received.start.retention;
    let in_work = door.shared.congestion.enter(received.origin, received.start.length);
    let mut core = door.core().await?;
    let Encoded { mut rows, wanted, mut earlier } = encode(&core, received).await?;
    loop {
        check_retention(&core, retention)?;
        let appending = core.appending.token();
        let place = match earlier.served {
            Some(index) => Place::Entry(index),
            None => append(&core, wanted, rows, earlier.dispersed).await?,
        };
        drop(appending);
        match place {
            Place::Entry(index) => {
                pass.entered();
                let certificate = core.certificate_of(index).await?;
                if earlier.served.is_none() && !earlier.dispersed {
                    in_work.certified();
                }
                return Ok(certificate);
            }
            Place::Closed(back) => rows = back,
        }
        core = door.core().await?;
        let worker = core.clone();
        earlier = blocking(move || look_up(&worker, &wanted)).await?;
    }
}

/// Looks for what the log has of a blob in the epoch.
fn look_up(core: &Core, wanted: &Wanted) -> Result<Earlier, StoreError> {
    let (epoch, now) = (core.committee.epoch(), core.clock.now());
    let found = core.store.find(wanted.id, wanted.namespace, wanted.payload_hash.is_bound())?;
    let served = found.filter(|(_, entry)| wanted.served_by(entry, epoch, now)).map(|(index, _)| index);
    let latest = core.store.latest(wanted.id, None)?;
    let dispersed = latest.is_some_and(|(_, entry)| {
        entry.epoch == epoch && entry.expiry > now.saturating_add(DISPERSED_MARGIN)
    });
    Ok(Earlier { served, dispersed })
}

/// Encodes, and looks for what the log has of the blob already.
async fn encode(core: &Arc<Core>, received: Received) -> Result<Encoded, ApiError> {
    let Received { start, encoder, memory, .. } = received;
    let length = start.length.get();
    let kzg_root = start.kzg_root.unwrap_or(B256::ZERO);
    let started = Instant::now();
    let worker = core.clone();
    let work = move || -> Result<Encoded, ApiError> {
        let blob: EncodedBlob = encoder.finish(kzg_root).map_err(|_| mismatch(length))?;
        let stated = start.authorization.map(|authorization| authorization.payload_hash);
        let payload_hash = match start.bind_payload_hash || stated.is_some() {
            true => hash(&blob),
            false => PayloadHash::UNBOUND,
        };
        check_hash(stated, payload_hash)?;
        let payload_hash = if start.bind_payload_hash { payload_hash } else { PayloadHash::UNBOUND };
        let id = blob.id();
        check_id(start.expected_blob_id, id)?;
        let wanted = Wanted {
            id,
            header: *blob.header(),
            namespace: start.namespace,
            payload_hash,
            retention: start.retention,
        };
        let earlier = look_up(&worker, &wanted)?;
        Ok(Encoded { rows: Arc::new(Rows::new(blob, memory)), wanted, earlier })
    };
    let encoded = core.cpu.run(work).await?;
    fail_point!("payload-encoded");
    metrics::get().encode_seconds.record(started.elapsed().as_secs_f64(), &[]);
    metrics::get().put_bytes.add(length, &[]);
    Ok(encoded)
}

fn hash(blob: &EncodedBlob) -> PayloadHash {
    PayloadHash(keccak256(blob.payload()))
}

fn check_hash(stated: Option<PayloadHash>, found: PayloadHash) -> Result<(), ApiError> {
    match stated {
        Some(stated) if stated != found => {
            let message = format!("the payload has the hash {found}, and {stated} was signed");
            Err(ApiError::new(Reason::PayloadHashMismatch, message).with("payload_hash", found))
        }
        _ => Ok(()),
    }
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
async fn append(
    core: &Arc<Core>,
    wanted: Wanted,
    rows: Arc<Rows>,
    dispersed: bool,
) -> Result<Place, ApiError> {
    let (share, rows) = if dispersed {
        (None, rows)
    } else {
        let share = Dispersals::join(core, rows);
        let rows = share.rows();
        (Some(share), rows)
    };
    loop {
        if let Some(share) = &share
            && !share.complete(core).await?
        {
            return Ok(Place::Closed(rows));
        }
        let (reply, answer) = oneshot::channel();
        let dispersal = share.as_ref().map(|share| (**share).clone());
        // A log that is gone drops the put, and with it the answer.
        let _ = core.ready.send(Ready { wanted, dispersal, reply });
        match answer.await {
            Ok(outcome) => match outcome? {
                Outcome::Entry(index) => return Ok(Place::Entry(index)),
                Outcome::NotCovered => {}
                Outcome::Closed => return Ok(Place::Closed(rows)),
            },
            Err(_) if core.cut.is_cancelled() => return Ok(Place::Closed(rows)),
            Err(_) => return Err(stopped()),
        }
    }
}

fn stopped() -> ApiError {
    ApiError::new(Reason::ShuttingDown, "the gateway is stopping")
}

/// Counts a put for as long as it lives.
struct InFlight<'a>(&'a Shared);

impl<'a> InFlight<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.puts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        metrics::get().puts_in_flight.add(1, &[]);
        Self(shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.puts.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        metrics::get().puts_in_flight.add(-1, &[]);
    }
}
