//! Committees and replicas made for tests.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use meridian_client::rpc::{CosignAnswer, DisperseOutcome};
use meridian_proofs::Address;
use meridian_proofs::checkpoint::{CosignedCheckpoint, Dispersal, Domain, SignedCheckpoint, SignedDispersal};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::signature::SecretKey;
use meridian_proto::error::{ApiError, Reason};
use tokio::sync::watch;

use super::link::{Links, Rows, SeatLink};

/// Shortest retention of every committee here, in seconds.
pub(super) const MIN_RETENTION: u64 = 3600;
/// Longest retention of every committee here, in seconds.
pub(super) const MAX_RETENTION: u64 = 30 * 86_400;

/// The gateway's key.
pub(super) fn gateway_key() -> SecretKey {
    SecretKey::from_bytes([7; 32]).unwrap()
}

/// The key of a seat.
pub(super) fn seat_key(region: u16, number: u16) -> SecretKey {
    let mut bytes = [1; 32];
    bytes[0..2].copy_from_slice(&region.to_be_bytes());
    bytes[2..4].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_bytes(bytes).unwrap()
}

/// Regions 1, 2, ... named `region-1`, ..., each with seats 0, 1, ...
pub(crate) fn committee(regions: u16, seats: u16, min_copies: u16) -> Committee {
    let region =
        |id| Region { id: RegionId(id), label: format!("region-{id}"), latitude: 0.0, longitude: 0.0 };
    let seat = |id, number| Seat {
        region: RegionId(id),
        number,
        address: seat_key(id, number).address(),
        endpoint: "http://127.0.0.1:1".to_owned(),
    };
    let gateway = GatewayMember {
        address: gateway_key().address(),
        endpoint: "http://127.0.0.1:1".to_owned(),
        max_bytes: 1 << 50,
        max_entries_per_hour: 1 << 40,
    };
    Committee::new(CommitteeParts {
        chain_id: 0,
        verifying_contract: Address::ZERO,
        epoch: 1,
        min_copies,
        min_retention: MIN_RETENTION,
        max_retention: MAX_RETENTION,
        regions: (1..=regions).map(region).collect(),
        seats: (1..=regions).flat_map(|id| (0..seats).map(move |number| seat(id, number))).collect(),
        gateways: vec![gateway],
    })
    .unwrap()
}

/// How a replica behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As it should.
    Good,
    /// Nobody there.
    Dead,
    /// Takes calls and answers none until its mode changes.
    Silent,
    /// Takes rows and does not answer about checkpoints until its mode changes.
    SilentCosign,
    /// Takes rows and refuses to cosign.
    RefusesCosign,
    /// Cosigns with a key that is not its seat's.
    Liar,
}

/// A replica that keeps what it is sent in memory.
pub(super) struct FakeSeat {
    pub(super) region: u16,
    key: SecretKey,
    domain: Domain,
    pub(super) mode: watch::Sender<Mode>,
    state: Mutex<FakeState>,
}

#[derive(Default)]
struct FakeState {
    blobs: HashSet<BlobId>,
    uploads: usize,
    cosigns: usize,
    /// Every permission to upload.
    permits: Vec<Dispersal>,
    /// Every checkpoint that it was asked to cosign.
    asked: Vec<SignedCheckpoint>,
    /// Entries that it knows to be anchored: only below may an entry have an earlier epoch than its checkpoint.
    anchored: u64,
    log: Option<CompactRange>,
    checkpoint: Option<CosignedCheckpoint>,
}

/// Links to replicas that are made for a test, by address.
pub(super) struct FakeLinks(pub(super) Vec<Arc<FakeSeat>>);

impl Links for FakeLinks {
    fn link(&self, committee: &Arc<Committee>, place: usize) -> Arc<dyn SeatLink> {
        let address = committee.seats()[place].address;
        self.0.iter().find(|seat| seat.key.address() == address).unwrap().clone()
    }
}

impl FakeSeat {
    /// The seats of a committee, in its order.
    pub(super) fn all(committee: &Committee) -> Vec<Arc<Self>> {
        let fake = |seat: &Seat| {
            Arc::new(Self {
                region: seat.region.0,
                key: seat_key(seat.region.0, seat.number),
                domain: committee.domain(),
                mode: watch::Sender::new(Mode::Good),
                state: Mutex::default(),
            })
        };
        committee.seats().iter().map(fake).collect()
    }

    /// Uploads that were answered with `stored`.
    pub(super) fn uploads(&self) -> usize {
        self.state.lock().unwrap().uploads
    }

    /// Cosignatures that were given.
    pub(super) fn cosigns(&self) -> usize {
        self.state.lock().unwrap().cosigns
    }

    /// Epochs under which it was permitted to be sent a blob.
    pub(super) fn permits(&self, id: BlobId) -> Vec<u64> {
        let state = self.state.lock().unwrap();
        state.permits.iter().filter(|permit| permit.blob_id == id).map(|permit| permit.epoch).collect()
    }

    /// Until when it was last permitted to be sent anything.
    pub(super) fn permitted_until(&self) -> Option<u64> {
        self.state.lock().unwrap().permits.last().map(|permit| permit.deadline)
    }

    /// Every checkpoint that it was asked to cosign, in order.
    pub(super) fn asked(&self) -> Vec<SignedCheckpoint> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Lets it know that the first entries of the log are anchored.
    pub(super) fn anchor(&self, size: u64) {
        self.state.lock().unwrap().anchored = size;
    }

    /// Has it start from a log that it did not cosign.
    pub(super) fn start_from(&self, log: CompactRange) {
        self.state.lock().unwrap().log = Some(log);
    }

    pub(super) fn holds(&self, id: &BlobId) -> bool {
        self.state.lock().unwrap().blobs.contains(id)
    }

    /// Lets it hold a blob that it was never sent.
    pub(super) fn give(&self, id: BlobId) {
        self.state.lock().unwrap().blobs.insert(id);
    }

    /// Has it say that this is what it cosigned last.
    pub(super) fn remember(&self, signed: SignedCheckpoint) {
        self.state.lock().unwrap().checkpoint = Some(CosignedCheckpoint { signed, cosignatures: Vec::new() });
    }

    async fn answering(&self, cosign: bool) -> Result<Mode, ApiError> {
        let silent = |mode: &Mode| *mode == Mode::Silent || (cosign && *mode == Mode::SilentCosign);
        let mut mode = self.mode.subscribe();
        let mode = *mode.wait_for(|mode| !silent(mode)).await.unwrap();
        if mode == Mode::Dead { Err(ApiError::new(Reason::Unreachable, "nobody there")) } else { Ok(mode) }
    }

    fn sign(
        &self,
        signed: &SignedCheckpoint,
        start: u64,
        entries: &[LogEntry],
    ) -> Result<CosignAnswer, ApiError> {
        let mut state = self.state.lock().unwrap();
        state.asked.push(*signed);
        let mut log = state.log.clone().unwrap_or_else(CompactRange::empty);
        if start > log.size() {
            return Ok(CosignAnswer::EntriesFrom(log.size()));
        }
        let skip = usize::try_from(log.size() - start).unwrap();
        for entry in entries.get(skip..).unwrap_or_default() {
            if !state.blobs.contains(&entry.blob_id) {
                return Err(ApiError::new(Reason::RowsMissing, "rows are missing"));
            }
            if entry.epoch != signed.checkpoint.epoch && log.size() >= state.anchored {
                return Err(ApiError::new(Reason::NotReady, "the closing is not anchored yet"));
            }
            log.append(entry.leaf());
        }
        if entries.len() > 4096
            || log.size() != signed.checkpoint.size
            || log.root() != signed.checkpoint.root
        {
            return Err(ApiError::new(Reason::RootMismatch, "another root"));
        }
        let stale =
            |last: &CosignedCheckpoint| last.signed.checkpoint.timestamp > signed.checkpoint.timestamp;
        if state.checkpoint.as_ref().is_some_and(stale) {
            return Err(ApiError::new(Reason::TimestampOutOfRange, "time falls"));
        }
        state.log = Some(log);
        state.cosigns += 1;
        state.checkpoint = Some(CosignedCheckpoint { signed: *signed, cosignatures: Vec::new() });
        Ok(CosignAnswer::Cosignature(self.key.sign(&signed.checkpoint.digest(&self.domain))))
    }
}

impl SeatLink for FakeSeat {
    fn disperse(
        &self,
        permit: SignedDispersal,
        rows: Arc<Rows>,
    ) -> BoxFuture<'_, Result<DisperseOutcome, ApiError>> {
        Box::pin(async move {
            self.answering(false).await?;
            assert_eq!(permit.verify(&self.domain), Ok(()));
            assert_eq!(permit.dispersal.replica, self.key.address());
            assert_eq!(permit.dispersal.blob_id, rows.blob.id());
            let mut state = self.state.lock().unwrap();
            state.permits.push(permit.dispersal);
            if !state.blobs.insert(rows.blob.id()) {
                return Ok(DisperseOutcome::Held);
            }
            state.uploads += 1;
            Ok(DisperseOutcome::Stored)
        })
    }

    fn cosign<'a>(
        &'a self,
        signed: &'a SignedCheckpoint,
        start: u64,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<CosignAnswer, ApiError>> {
        Box::pin(async move {
            let mode = self.answering(true).await?;
            if mode == Mode::RefusesCosign {
                return Err(ApiError::new(Reason::NotSyncedWithPeers, "not yet"));
            }
            if mode == Mode::Liar {
                let digest = signed.checkpoint.digest(&self.domain);
                return Ok(CosignAnswer::Cosignature(seat_key(999, 9).sign(&digest)));
            }
            self.sign(signed, start, entries)
        })
    }

    fn checkpoint(&self, _gateway: Address) -> BoxFuture<'_, Result<Option<CosignedCheckpoint>, ApiError>> {
        Box::pin(async move {
            self.answering(false).await?;
            Ok(self.state.lock().unwrap().checkpoint.clone())
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(async move { self.answering(false).await.map(drop) })
    }
}
