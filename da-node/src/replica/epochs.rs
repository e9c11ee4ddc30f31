//! Which epochs there are for this replica: its seats, the seats that passed to it, and who holds rows by now.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use meridian_client::chain::view::View;
use meridian_client::fetch::Reader;
use meridian_proofs::Address;
use meridian_proofs::committee::epochs::{EpochState, Epochs, Term};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, RegionId, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement::{Interval, interval};
use meridian_proofs::shape::Shape;
use meridian_proto::error::{ApiError, Reason};

use super::Replica;
use super::judge::MAX_SKEW;
use super::record::Record;

#[cfg(test)]
mod tests;

/// How long to wait until the chain may be seen further.
pub(super) const CHAIN_WAIT: Duration = Duration::from_secs(1);

/// A seat in the committee of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) committee: Arc<Committee>,
    pub(super) seat: Seat,
}

impl Standing {
    fn of(committee: &Arc<Committee>, address: &Address) -> Option<Self> {
        let seat = committee.seat(address)?.clone();
        Some(Self { committee: Arc::clone(committee), seat })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.committee.epoch()
    }

    /// The rows of a blob that the seat holds.
    pub(super) fn interval(&self, id: &BlobId, shape: Shape) -> Interval {
        interval(&self.committee, &self.seat, id, shape)
    }

    /// Whether all is on disk that the seat has to hold of a blob.
    pub(super) fn holds(&self, id: &BlobId, record: &Record) -> bool {
        let interval = self.interval(id, record.shape());
        record.inconsistent || interval.ranges().iter().all(|range| record.find(range).is_some())
    }

    /// A gateway of the epoch.
    pub(super) fn gateway(&self, address: &Address) -> Result<&GatewayMember, ApiError> {
        self.committee.gateway(address).ok_or_else(|| no_gateway(address, Some(self.epoch())))
    }
}

impl Replica {
    /// Epochs and anchors as they are known now.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// This replica's seat in an epoch, be it open or not.
    pub(super) fn standing(&self, epoch: u64) -> Option<Standing> {
        Standing::of(self.view().epochs.committee(epoch)?, &self.address())
    }

    /// Whether this replica has a seat in an epoch, be it open or not.
    pub(super) fn has_seat(&self, epoch: u64) -> bool {
        has_seat(&self.view.borrow().epochs, epoch, &self.address())
    }

    /// This replica's seat in an epoch whose signatures are taken now.
    pub(super) fn open_standing(&self, view: &View, epoch: u64) -> Result<Standing, ApiError> {
        let (epochs, now) = (&view.epochs, self.clock.now());
        let pending = |text| Err(ApiError::new(Reason::EpochPending, text).retry_after(CHAIN_WAIT));
        match epochs.state(epoch, now) {
            EpochState::Open => {}
            EpochState::NotYet => return pending(format!("epoch {epoch} has not begun")),
            // The chain may be further than this replica has seen.
            EpochState::Unknown if view.head.is_some() && epoch > epochs.latest().committee.epoch() => {
                return pending(format!("epoch {epoch} is not known here"));
            }
            EpochState::Unknown | EpochState::Closed => {
                let current = epochs.current(now).committee.epoch();
                let text = if current == epoch {
                    format!("epoch {epoch} is over, and the next has a committee that nobody can use")
                } else {
                    format!("epoch {epoch} is not current, epoch {current} is")
                };
                return Err(ApiError::new(Reason::WrongEpoch, text));
            }
        }
        self.standing(epoch).ok_or_else(|| {
            let text = format!("{} has no seat in epoch {epoch}", self.address());
            ApiError::new(Reason::NoSeat, text)
        })
    }

    /// Refuses an address that is a gateway in no epoch.
    pub(super) fn check_gateway(&self, view: &View, address: &Address) -> Result<(), ApiError> {
        if is_gateway(&view.epochs, address) { Ok(()) } else { Err(no_gateway(address, None)) }
    }

    /// Readers of blobs whose rows were placed in an epoch: from who holds the seats by now, then, where seats passed
    /// on, from who held them.
    pub(super) fn readers(&self, epoch: u64) -> Vec<Reader> {
        let view = self.view();
        let Some(term) = view.epochs.term(epoch) else { return Vec::new() };
        let present = present_holders(&view.epochs, term, self.clock.now());
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reader = |committee: Arc<Committee>, passed_on| match readers.get(&(epoch, passed_on)) {
            Some(reader) if **reader.committee() == *committee => reader.clone(),
            _ => {
                let reader = Reader::new(committee, self.channels.clone()).without(self.address());
                readers.insert((epoch, passed_on), reader.clone());
                reader
            }
        };
        let present = present.map(|committee| reader(committee, true));
        present.into_iter().chain([reader(Arc::clone(&term.committee), false)]).collect()
    }

    /// Where other members of the epochs that are open, or about to be, answer questions about a log: seats, then the
    /// gateway itself.
    pub(super) fn log_endpoints(&self, view: &View, log: &Address) -> Vec<String> {
        let now = self.clock.now();
        let terms: Vec<_> = view.epochs.terms().iter().rev().collect();
        let live = terms.iter().filter(|term| term.closes.is_none_or(|closes| now < closes));
        let seats = live.flat_map(|term| term.committee.seats());
        let seats = seats.filter(|seat| seat.address != self.address()).map(|seat| &seat.endpoint);
        let gateway =
            terms.iter().find_map(|term| term.committee.gateway(log)).map(|member| &member.endpoint);
        let mut endpoints: Vec<String> = Vec::new();
        for endpoint in seats.chain(gateway) {
            if !endpoints.contains(endpoint) {
                endpoints.push(endpoint.clone());
            }
        }
        endpoints
    }
}

/// Whether an address is a gateway in any epoch.
pub(super) fn is_gateway(epochs: &Epochs, address: &Address) -> bool {
    epochs.terms().iter().any(|term| term.committee.gateway(address).is_some())
}

/// Whether a signer has a seat in an epoch.
pub(super) fn has_seat(epochs: &Epochs, epoch: u64, address: &Address) -> bool {
    epochs.committee(epoch).is_some_and(|committee| committee.seat(address).is_some())
}

fn no_gateway(address: &Address, epoch: Option<u64>) -> ApiError {
    let which = epoch.map_or_else(|| "any epoch".to_owned(), |epoch| format!("epoch {epoch}"));
    ApiError::new(Reason::NotAGateway, format!("{address} is no gateway of {which}"))
}

fn seat_at(committee: &Committee, region: RegionId, number: u16) -> Option<&Seat> {
    committee.seats_of(region).find(|seat| seat.number == number)
}

/// The latest seat of a signer in an epoch that has begun, or else its first.
pub(super) fn latest_seat(epochs: &Epochs, now: u64, address: &Address) -> Option<Standing> {
    let standing = |term: &Term| Standing::of(&term.committee, address);
    let begun = epochs.terms().iter().rev().filter(|term| term.activation <= now);
    begun.filter_map(standing).next().or_else(|| epochs.terms().iter().find_map(standing))
}

/// The seats whose rows a signer owes: its own of all epochs that have begun, and those of earlier epochs that passed to it.
/// Rows of an epoch that expired for certain are left out.
pub(super) fn owed(epochs: &Epochs, now: u64, address: &Address) -> Vec<Standing> {
    let begun = epochs.terms().iter().filter(|term| term.activation <= now && !is_over(term, now));
    let own = begun.filter_map(|term| Standing::of(&term.committee, address));
    own.chain(inherited(epochs, now, address)).collect()
}

/// The seats of earlier epochs whose rows a signer owes because it holds those seats by now: from epoch to epoch the
/// same region and number, with other signers before. Rows of an epoch that expired for certain are left out.
fn inherited(epochs: &Epochs, now: u64, address: &Address) -> Vec<Standing> {
    let begun: Vec<&Term> = epochs.terms().iter().filter(|term| term.activation <= now).collect();
    let mut found = Vec::new();
    for (place, term) in begun.iter().enumerate() {
        let Some(own) = term.committee.seat(address) else { continue };
        let passed_on = begun.get(place + 1).is_some_and(|next| holder(next, own).is_some());
        if passed_on {
            continue;
        }
        for earlier in begun[..place].iter().rev() {
            let Some(seat) = holder(earlier, own) else { break };
            if seat.address != *address && !is_over(earlier, now) {
                found.push(Standing { committee: Arc::clone(&earlier.committee), seat: seat.clone() });
            }
        }
    }
    found
}

fn holder<'a>(term: &'a Term, seat: &Seat) -> Option<&'a Seat> {
    seat_at(&term.committee, seat.region, seat.number)
}

/// Whether every entry of an epoch has expired: the last could be made until it closed.
fn is_over(term: &Term, now: u64) -> bool {
    let last = term.closes.map(|closes| closes.saturating_add(MAX_SKEW));
    last.is_some_and(|last| last.saturating_add(term.committee.max_retention()) <= now)
}

/// The committee of an epoch with each seat at the signer to whom it passed since; nothing where none passed on.
fn present_holders(epochs: &Epochs, term: &Term, now: u64) -> Option<Arc<Committee>> {
    let later = epochs.terms().iter().filter(|other| other.activation <= now);
    let later: Vec<&Term> = later.filter(|other| other.committee.epoch() > term.committee.epoch()).collect();
    let parts = term.committee.parts();
    let present =
        |seat: &Seat| later.iter().map_while(|term| holder(term, seat)).last().unwrap_or(seat).clone();
    let seats: Vec<Seat> = parts.seats.iter().map(present).collect();
    if seats == parts.seats {
        return None;
    }
    // Gateways are not asked for rows, and one may have become a seat since. Where one signer holds two of the seats
    // by now there is no such committee, and the old holders are asked.
    Committee::new(CommitteeParts { seats, gateways: Vec::new(), ..parts.clone() }).ok().map(Arc::new)
}
