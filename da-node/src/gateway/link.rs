//! What the gateway asks of a replica, and how it asks over the network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use meridian_client::rpc::{Channels, CosignAnswer, DisperseOutcome, Upload};
use meridian_proofs::Address;
use meridian_proofs::checkpoint::{CosignedCheckpoint, SignedCheckpoint, SignedDispersal};
use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::encode::EncodedBlob;
use meridian_proofs::log::LogEntry;
use meridian_proofs::placement::interval;
use meridian_proto::error::ApiError;

use crate::memory::Reservation;

/// Longest that a replica may take to answer a look.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// Longest that a replica may take to cosign: it may have rows to fetch first.
const COSIGN_DEADLINE: Duration = Duration::from_secs(120);

/// Longest that one upload may take.
const DISPERSE_DEADLINE: Duration = Duration::from_secs(120);

/// A blob that is held to be sent, with the memory that it takes.
pub(super) struct Rows {
    /// The encoded blob.
    pub(super) blob: EncodedBlob,
    /// Its RLC vector as it is sent.
    pub(super) rlc: Bytes,
    /// What it takes of the budget, given back with it.
    _memory: Reservation,
}

impl Rows {
    pub(super) fn new(blob: EncodedBlob, memory: Reservation) -> Self {
        let rlc = Bytes::from(blob.rlc().to_bytes());
        Self { blob, rlc, _memory: memory }
    }

    /// What one seat is sent of it. Copies no rows.
    pub(super) fn upload(&self, committee: &Committee, seat: &Seat) -> Upload {
        let interval = interval(committee, seat, &self.blob.id(), self.blob.shape());
        let ranges = interval.ranges().iter();
        let ranges = ranges.map(|range| (*range, self.blob.range_proof(*range), self.blob.rows(*range)));
        Upload { rlc: self.rlc.clone(), ranges: ranges.collect() }
    }

    /// Bytes of rows that one seat is sent.
    pub(super) fn upload_bytes(&self, committee: &Committee, seat: &Seat) -> u64 {
        let shape = self.blob.shape();
        let rows = interval(committee, seat, &self.blob.id(), shape).rows();
        u64::try_from(rows * shape.row_bytes()).unwrap_or(u64::MAX)
    }
}

/// One replica, as the gateway needs it.
pub(super) trait SeatLink: Send + Sync + 'static {
    /// Sends the replica its rows; done when they are on its disk.
    fn disperse(
        &self,
        permit: SignedDispersal,
        rows: Arc<Rows>,
    ) -> BoxFuture<'_, Result<DisperseOutcome, ApiError>>;

    /// Asks for a cosignature, with the log's entries from `start` on.
    fn cosign<'a>(
        &'a self,
        signed: &'a SignedCheckpoint,
        start: u64,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<CosignAnswer, ApiError>>;

    /// The last checkpoint of a gateway's log that the replica cosigned.
    fn checkpoint(&self, gateway: Address) -> BoxFuture<'_, Result<Option<CosignedCheckpoint>, ApiError>>;

    /// Whether the replica answers.
    fn probe(&self) -> BoxFuture<'_, Result<(), ApiError>>;
}

/// Makes links to replicas.
pub(super) trait Links: Send + Sync + 'static {
    /// The link of the seat at a place in [`Committee::seats`].
    fn link(&self, committee: &Arc<Committee>, place: usize) -> Arc<dyn SeatLink>;
}

/// Replicas at their endpoints.
pub(super) struct RpcLinks(pub(super) Channels);

impl Links for RpcLinks {
    fn link(&self, committee: &Arc<Committee>, place: usize) -> Arc<dyn SeatLink> {
        let seat = committee.seats()[place].clone();
        Arc::new(RpcLink { committee: committee.clone(), seat, channels: self.0.clone() })
    }
}

/// A replica at its endpoint.
struct RpcLink {
    committee: Arc<Committee>,
    seat: Seat,
    channels: Channels,
}

impl SeatLink for RpcLink {
    fn disperse(
        &self,
        permit: SignedDispersal,
        rows: Arc<Rows>,
    ) -> BoxFuture<'_, Result<DisperseOutcome, ApiError>> {
        Box::pin(async move {
            let replica = self.channels.replica(&self.seat.endpoint)?.within(DISPERSE_DEADLINE);
            let upload = rows.upload(&self.committee, &self.seat);
            replica.disperse(permit, *rows.blob.header(), upload).await
        })
    }

    fn cosign<'a>(
        &'a self,
        signed: &'a SignedCheckpoint,
        start: u64,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<CosignAnswer, ApiError>> {
        Box::pin(async move {
            let replica = self.channels.replica(&self.seat.endpoint)?.within(COSIGN_DEADLINE);
            replica.cosign(signed, start, entries).await
        })
    }

    fn checkpoint(&self, gateway: Address) -> BoxFuture<'_, Result<Option<CosignedCheckpoint>, ApiError>> {
        Box::pin(async move {
            self.channels.log(&self.seat.endpoint)?.within(PROBE_DEADLINE).checkpoint(gateway).await
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move {
            self.channels.replica(&self.seat.endpoint)?.within(PROBE_DEADLINE).status().await.map(drop)
        })
    }
}
