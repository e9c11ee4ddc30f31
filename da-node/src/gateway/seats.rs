//! How the gateway sees each seat, and the set S that follows from it.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meridian_proofs::Address;
use meridian_proofs::committee::{self, Committee, RegionId};
use tokio::time::Instant;

use meridian_proto::convert::SeatHealth;
use meridian_proto::error::{ApiError, Class, Reason};
use tokio::sync::watch;

use super::quorum::{self, View};
use super::settings::Settings;
use crate::metrics;

/// S, or the regions without enough seats that answer.
pub(super) type Quorum = Result<Arc<[usize]>, Arc<[RegionId]>>;

/// A seat of the committee.
type Member = committee::Seat;

/// What a call to a seat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Sends this many bytes of rows.
    Upload(u64),
    /// Asks for a cosignature.
    Cosign,
}

/// Longest wait before a seat that was given up is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Time that a member of S has at least after others would do without it, so that no hiccup changes S.
const LEAST_GRACE: Duration = Duration::from_millis(25);

/// The seats of the committee, each under its place in [`Committee::seats`].
pub(super) struct Seats {
    committee: Arc<Committee>,
    silence: Duration,
    probe: Duration,
    floor: u64,
    seats: Mutex<Vec<Seat>>,
    quorum: watch::Sender<Quorum>,
    up: Vec<watch::Sender<bool>>,
}

/// One seat.
struct Seat {
    view: View,
    cosigned_size: u64,
    sending: u64,
    heard: Option<Instant>,
    ask_after: Instant,
    error: String,
}

impl Seats {
    /// Nothing is known of the seats but what those before, if they are given with the size that the log had at the end
    /// of their epoch, tell of the same ones.
    pub(super) fn new(committee: Arc<Committee>, settings: &Settings, before: Option<(&Self, u64)>) -> Self {
        let now = Instant::now();
        let fresh = || Seat {
            view: View::default(),
            cosigned_size: 0,
            sending: 0,
            heard: None,
            ask_after: now,
            error: "not asked yet".to_owned(),
        };
        let inherited = |member: &Member| {
            let (before, size) = before?;
            let place = before
                .committee
                .seats()
                .iter()
                .position(|seat| seat.address == member.address && seat.endpoint == member.endpoint)?;
            let seats = before.lock();
            let Seat { view, cosigned_size, heard, ask_after, ref error, .. } = seats[place];
            let view = View { refusing: false, behind: cosigned_size < size, ..view };
            Some(Seat { view, cosigned_size, sending: 0, heard, ask_after, error: error.clone() })
        };
        let seats: Vec<Seat> =
            committee.seats().iter().map(|member| inherited(member).unwrap_or_else(fresh)).collect();
        let views: Vec<View> = seats.iter().map(|seat| seat.view).collect();
        let chosen: Quorum = quorum::choose(&committee, &views, None).map(Arc::from).map_err(Arc::from);
        show(&views, &chosen);
        Self {
            silence: settings.silence(),
            probe: settings.probe(),
            floor: settings.floor_bytes_per_second,
            quorum: watch::Sender::new(chosen),
            up: views.iter().map(|view| watch::Sender::new(view.up)).collect(),
            seats: Mutex::new(seats),
            committee,
        }
    }

    /// S as it is now and as it changes.
    pub(super) fn quorum(&self) -> watch::Receiver<Quorum> {
        self.quorum.subscribe()
    }

    /// S, if there is one.
    ///
    /// # Errors
    /// `QUORUM_UNREACHABLE`, naming the regions that are missing.
    pub(super) fn current(&self) -> Result<Arc<[usize]>, ApiError> {
        self.quorum.borrow().clone().map_err(|missing| self.unreachable(&missing))
    }

    /// Whether there would be an S if every seat that answers cosigned.
    pub(super) fn are_reached(&self) -> bool {
        let views: Vec<View> = self.lock().iter().map(|seat| View { refusing: false, ..seat.view }).collect();
        quorum::choose(&self.committee, &views, None).is_ok()
    }

    /// The error that says which regions are missing.
    pub(super) fn unreachable(&self, missing: &[RegionId]) -> ApiError {
        let label = |id: &RegionId| match self.committee.region(*id) {
            Some(region) => region.label.clone(),
            None => id.to_string(),
        };
        let labels = missing.iter().map(label).collect::<Vec<_>>().join(", ");
        let needed = self.committee.min_copies();
        let message =
            format!("a certificate needs {needed} regions, and too few replicas answer in: {labels}");
        ApiError::new(Reason::QuorumUnreachable, message)
            .with("missing_regions", labels)
            .retry_after(self.probe.saturating_mul(2))
    }

    /// Whether a seat answers, now and as it changes.
    pub(super) fn up(&self, seat: usize) -> watch::Receiver<bool> {
        self.up[seat].subscribe()
    }

    /// Runs a call to a seat, and takes note of how it ends.
    ///
    /// A call that is silent for too long voids the seat, and goes on: if it is answered after all, the seat is back.
    /// A seat that does not cosign may have rows to fetch first: nothing waits for it, and it is sent rows all the same.
    pub(super) async fn watched<T>(
        &self,
        seat: usize,
        kind: Call,
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let started = Instant::now();
        let bytes = if let Call::Upload(bytes) = kind { bytes } else { 0 };
        let _sending = Sending::new(self, seat, bytes);
        let allowance = self.silence.saturating_add(self.transfer_time(seat));
        let mut call = std::pin::pin!(call);
        let answer = match tokio::time::timeout(allowance, call.as_mut()).await {
            Ok(answer) => answer,
            Err(_) => {
                self.silent(seat, kind, allowance);
                call.await
            }
        };
        match (&answer, kind) {
            (Ok(_), Call::Upload(_)) => self.heard(seat, None),
            (Ok(_), Call::Cosign) => self.heard(seat, Some(started.elapsed())),
            (Err(error), Call::Cosign) if error.reason != Reason::Unreachable => {
                self.cosigns_not(seat, error.to_string());
            }
            (Err(error), _) => self.failed(seat, error),
        }
        answer
    }

    /// The time for everything that is being sent to a seat at the lowest speed that counts as answering.
    fn transfer_time(&self, seat: usize) -> Duration {
        let milliseconds = u128::from(self.lock()[seat].sending) * 1000 / u128::from(self.floor.max(1));
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }

    /// A seat answered. A round trip is only given for calls that move no bulk.
    pub(super) fn heard(&self, seat: usize, round_trip: Option<Duration>) {
        self.update(seat, |seat| {
            seat.view.up = true;
            seat.view.strikes = 0;
            seat.heard = Some(Instant::now());
            seat.error.clear();
            if let Some(sample) = round_trip {
                let old = seat.view.round_trip;
                seat.view.round_trip = if old.is_zero() { sample } else { (old * 7 + sample) / 8 };
            }
        });
    }

    /// A look at a seat that was away found it answering: it counts again, after those that were never away.
    pub(super) fn probed(&self, seat: usize, round_trip: Duration) {
        self.update(seat, |seat| {
            seat.view.up = true;
            seat.heard = Some(Instant::now());
            seat.error.clear();
            if seat.view.round_trip.is_zero() {
                seat.view.round_trip = round_trip;
            }
        });
    }

    /// A call to a seat failed: nothing waits for it until it answers again.
    pub(super) fn failed(&self, seat: usize, error: &ApiError) {
        let broken = error.reason == Reason::Unreachable;
        if !broken {
            let address = self.committee.seats()[seat].address;
            tracing::warn!(%address, reason = %error.reason, message = %error.message, "replica refused a call");
        }
        self.give_up(seat, error.to_string(), !broken);
    }

    /// A seat's answer is wrong in a way that only it can have made.
    pub(super) fn lied(&self, seat: usize, what: &'static str) -> ApiError {
        let address = self.committee.seats()[seat].address;
        tracing::warn!(%address, what, "replica gave a wrong answer");
        let error = ApiError::new(Reason::AnswerInvalid, what).with("seat", address);
        self.give_up(seat, error.to_string(), true);
        error
    }

    fn silent(&self, seat: usize, kind: Call, allowance: Duration) {
        let address = self.committee.seats()[seat].address;
        tracing::warn!(%address, ?kind, ?allowance, "replica is silent");
        let error = format!("no answer within {} ms", allowance.as_millis());
        match kind {
            Call::Upload(_) => self.give_up(seat, error, true),
            Call::Cosign => self.cosigns_not(seat, error),
        }
    }

    /// A seat is there and does not cosign.
    pub(super) fn cosigns_not(&self, seat: usize, error: String) {
        let address = self.committee.seats()[seat].address;
        tracing::info!(%address, error, "replica does not cosign now");
        self.update(seat, |seat| {
            seat.view.refusing = true;
            seat.error = error;
        });
    }

    /// Voids a seat. One that is reached and still of no use is asked again ever more rarely.
    fn give_up(&self, seat: usize, error: String, strike: bool) {
        let probe = self.probe;
        self.update(seat, |seat| {
            seat.view.up = false;
            seat.error = error;
            seat.ask_after = Instant::now();
            if strike {
                let wait = probe.saturating_mul(1 << seat.view.strikes.min(6));
                seat.ask_after += wait.min(LONGEST_WAIT);
                seat.view.strikes = seat.view.strikes.saturating_add(1);
            }
        });
    }

    /// Whether it is time to look at a seat: it is away and its wait is over, or nothing was heard of it for long.
    pub(super) fn wants_probe(&self, seat: usize, idle: Duration) -> bool {
        let seats = self.lock();
        let seat = &seats[seat];
        if seat.view.up {
            seat.heard.is_none_or(|heard| heard.elapsed() >= idle)
        } else {
            seat.ask_after <= Instant::now()
        }
    }

    /// A seat's size, and whether it has cosigned the latest checkpoint.
    pub(super) fn cosigned(&self, seat: usize, size: u64, latest: bool) {
        self.update(seat, |seat| {
            seat.cosigned_size = size;
            seat.view.behind = !latest;
            seat.view.refusing &= !latest;
        });
    }

    /// Entries of the log that a seat is known to have cosigned.
    pub(super) fn cosigned_size(&self, seat: usize) -> u64 {
        self.lock()[seat].cosigned_size
    }

    /// A seat has yet to cosign what others have cosigned.
    pub(super) fn behind(&self, seat: usize) {
        self.update(seat, |seat| seat.view.behind = true);
    }

    /// Whether some seats, of those that answer, would do without the others.
    pub(super) fn would_do(&self, have: impl Fn(usize) -> bool) -> bool {
        let seats = self.lock();
        let views = seats
            .iter()
            .enumerate()
            .map(|(place, seat)| View { up: seat.view.up && have(place), ..seat.view });
        let views: Vec<View> = views.collect();
        drop(seats);
        quorum::choose(&self.committee, &views, None).is_ok()
    }

    /// Ranks last, until they have caught up, those members of S that have let the others wait: where these would do, S
    /// is chosen without them.
    pub(super) fn leave_behind(&self, late: impl Fn(usize) -> bool) {
        let Ok(members) = self.current() else { return };
        let late: Vec<usize> = members.iter().copied().filter(|seat| late(*seat)).collect();
        for seat in &late {
            tracing::debug!(address = %self.committee.seats()[*seat].address, "others were twice as fast");
        }
        self.update_all(&late, |seat| seat.view.behind = true);
    }

    /// Every seat for the status, in the committee's order.
    pub(super) fn health(&self) -> Vec<SeatHealth> {
        let quorum = self.quorum.borrow().clone();
        let seats = self.lock();
        let members = self.committee.seats().iter().zip(seats.iter()).enumerate();
        let health = |(place, (member, seat)): (usize, (&Member, &Seat))| SeatHealth {
            address: member.address,
            connected: seat.view.up,
            in_quorum: quorum.as_ref().is_ok_and(|quorum| quorum.contains(&place)),
            cosigned_size: seat.cosigned_size,
            round_trip: seat.view.round_trip,
            last_error: seat.error.clone(),
        };
        members.map(health).collect()
    }

    /// Addresses of the seats that answer, and cosigned when they were last asked.
    pub(super) fn answering(&self) -> Vec<Address> {
        let seats = self.lock();
        let members = self.committee.seats().iter().zip(seats.iter());
        let live = members.filter(|(_, seat)| seat.view.up && !seat.view.refusing);
        live.map(|(member, _)| member.address).collect()
    }

    /// The addresses of some seats.
    pub(super) fn addresses<'a>(&'a self, places: &'a [usize]) -> impl Iterator<Item = &'a Address> {
        places.iter().map(|&place| &self.committee.seats()[place].address)
    }

    fn update(&self, place: usize, change: impl FnOnce(&mut Seat)) {
        let mut change = Some(change);
        self.update_all(&[place], |seat| change.take().into_iter().for_each(|change| change(seat)));
    }

    /// Changes some seats at once, and then S. Nobody may look at a seat who holds on to S: here it is the other way round.
    fn update_all(&self, places: &[usize], mut change: impl FnMut(&mut Seat)) {
        let mut seats = self.lock();
        let signs = |view: &View| (view.up, view.behind, view.refusing);
        let mut is_changed = false;
        for place in places {
            let before = signs(&seats[*place].view);
            change(&mut seats[*place]);
            is_changed |= signs(&seats[*place].view) != before;
        }
        if !is_changed {
            return;
        }
        let views: Vec<View> = seats.iter().map(|seat| seat.view).collect();
        self.quorum.send_if_modified(|quorum| {
            let chosen = quorum::choose(&self.committee, &views, quorum.as_deref().ok());
            let changed = match (&*quorum, &chosen) {
                (Ok(old), Ok(new)) => **old != **new,
                (Err(old), Err(new)) => **old != **new,
                _ => true,
            };
            if changed {
                metrics::get().quorum_changes.add(1, &[]);
                *quorum = chosen.map(Arc::from).map_err(Arc::from);
            }
            changed
        });
        show(&views, &self.quorum.borrow());
        for place in places {
            let up = views[*place].up;
            self.up[*place].send_if_modified(|was| std::mem::replace(was, up) != up);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures how many seats answer, and how many regions are missing.
fn show(views: &[View], quorum: &Quorum) {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let connected = views.iter().filter(|view| view.up).count();
    let missing = quorum.as_ref().err().map_or(0, |regions| regions.len());
    let metrics = metrics::get();
    metrics.seats.record(wide(views.len()), &[]);
    metrics.seats_connected.record(wide(connected), &[]);
    metrics.regions_missing.record(wide(missing), &[]);
}

/// Bytes on their way to a seat, for as long as it lives.
struct Sending<'a> {
    seats: &'a Seats,
    seat: usize,
    bytes: u64,
}

impl<'a> Sending<'a> {
    fn new(seats: &'a Seats, seat: usize, bytes: u64) -> Self {
        seats.lock()[seat].sending += bytes;
        Self { seats, seat, bytes }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.seats.lock()[self.seat].sending -= self.bytes;
    }
}

/// How much longer those are waited for that let others wait, when they did what was asked `since` then: as long again.
pub(super) fn grace(since: Instant) -> Instant {
    Instant::now() + since.elapsed().max(LEAST_GRACE)
}

/// The `result` attribute of a metric about a call.
pub(super) fn class_of(error: &ApiError) -> &'static str {
    match error.class() {
        Class::Internal => "internal",
        class => class.as_str(),
    }
}
