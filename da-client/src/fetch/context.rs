//! Finds a blob: header and RLC vector by id, ids by payload hash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use meridian_proofs::Address;
use meridian_proofs::committee::{Committee, RegionId, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proto::convert::{Candidate, EntryRef, HeldRows, Lookup, LookupKey};
use meridian_proto::error::{ApiError, Class, EXPIRY, Reason};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::race::{self, Race};
use super::{Fault, FaultKind, ReadError, Reader, gather};
use crate::nearest::{Nearest, Took};
use crate::rpc::Channels;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Most bytes of rows that come with it.
const OPENING: u32 = 1 << 20;

/// Most blobs that are tried for one payload hash.
const MAX_ALIASES: usize = 16;

/// A blob that was found.
pub struct Found {
    /// Header and RLC vector, proved to belong to the id.
    pub context: Arc<BlobContext>,
    /// Entries of logs that name the blob, as the replica says: nothing proves them yet.
    pub entries: Vec<EntryRef>,
    /// A replica says that it has proof that the blob is not a codeword. To be checked by whoever reads it.
    pub suspect: bool,
    /// What went wrong on the way.
    pub faults: Vec<Fault>,
    /// Rows that came with the answers, each with the seat that gave them.
    pub(super) rows: Vec<(Address, VerifiedRange)>,
}

impl Reader {
    /// Header and RLC vector of a blob, proved to belong to its id.
    ///
    /// # Errors
    /// [`ReadError::Unknown`] only when as many regions as a certificate needs say that they do not know the blob;
    /// [`ReadError::Unreachable`] when too few answer.
    pub async fn context(&self, id: BlobId) -> Result<Arc<BlobContext>, ReadError> {
        Ok(self.find(id).await?.context)
    }

    /// Like [`Reader::context`], with what else the replica said.
    ///
    /// Where it is not known who is near, all regions are asked whether they have the blob, and only the first that says so
    /// for the RLC vector, which may be longer than all samples.
    ///
    /// # Errors
    /// As [`Reader::context`].
    pub async fn find(&self, id: BlobId) -> Result<Found, ReadError> {
        let (first, faults) = if self.is_warm() { (None, Vec::new()) } else { self.locate(id).await? };
        let mut found = self.find_by(id, self.lookup(LookupKey::Blob(id), true, 0, first)).await?;
        found.faults.splice(0..0, faults);
        Ok(found)
    }

    /// The first seat to say that it has a blob, and what went wrong before.
    async fn locate(&self, id: BlobId) -> Result<(Option<Address>, Vec<Fault>), ReadError> {
        let (mut denials, mut faults) = (Denials::default(), Vec::new());
        let mut race = self.lookup(LookupKey::Blob(id), false, 0, None);
        while let Some((seat, answer)) = race.next().await {
            let fault = match answer {
                Ok(candidates) if candidates.iter().any(|candidate| candidate.header.id() == id) => {
                    return Ok((Some(seat.address), faults));
                }
                Ok(_) => Fault::wrong(&seat, "the header is of another blob"),
                Err(error) => denials.fault(&seat, &error),
            };
            self.settle(fault, &mut race, &mut faults);
        }
        Err(self.not_found(&denials, faults))
    }

    /// Like [`Reader::find`], with the first rows of the nearest region where it is known which that is: of a small blob
    /// all that it takes, in one round trip.
    ///
    /// # Errors
    /// As [`Reader::context`].
    pub(crate) async fn open(&self, id: BlobId) -> Result<Found, ReadError> {
        if !self.is_warm() {
            // Who reads all of it can bear several vectors, and a round trip would be lost.
            return self.find_by(id, self.lookup(LookupKey::Blob(id), true, 0, None)).await;
        }
        let beside = self.beside(id);
        let mut found = self.find_by(id, self.lookup(LookupKey::Blob(id), true, OPENING, None)).await?;
        self.join(&mut found, beside).await?;
        Ok(found)
    }

    async fn find_by(&self, id: BlobId, mut race: Race<'_>) -> Result<Found, ReadError> {
        let mut denials = Denials::default();
        let mut faults = Vec::new();
        while let Some((seat, answer)) = race.next().await {
            let fault = match answer {
                Ok(candidates) => match self.check(&seat, id, candidates).await? {
                    Ok(mut found) => {
                        found.faults.splice(0..0, faults);
                        return Ok(found);
                    }
                    Err(fault) => fault,
                },
                Err(error) => denials.fault(&seat, &error),
            };
            self.settle(fault, &mut race, &mut faults);
        }
        Err(self.not_found(&denials, faults))
    }

    /// Goes on after a fault: one seat's word, or a liar's, settles nothing.
    fn settle(&self, fault: Fault, race: &mut Race<'_>, faults: &mut Vec<Fault>) {
        fault.report();
        if fault.kind == FaultKind::Wrong {
            self.nearest.failed(fault.seat);
        }
        if fault.kind != FaultKind::Silent {
            race.widen();
        }
        faults.push(fault);
    }

    /// The blobs that replicas name for a payload hash: those that most regions name first, among them those that
    /// replicas name first.
    ///
    /// Only the headers are proved to belong to the ids: whether a payload has the hash shows when it is read.
    ///
    /// # Errors
    /// As [`Reader::context`].
    pub async fn resolve(&self, hash: PayloadHash) -> Result<Vec<BlobId>, ReadError> {
        Ok(self.named(hash).await?.0)
    }

    /// Like [`Reader::resolve`], and whether it is certain all the same that there is none: enough regions deny it, and
    /// those who name blobs lie.
    pub(crate) async fn named(
        &self,
        hash: PayloadHash,
    ) -> Result<(Vec<BlobId>, Option<ReadError>), ReadError> {
        let mut denials = Denials::default();
        let mut faults = Vec::new();
        let mut named: BTreeMap<BlobId, Naming> = BTreeMap::new();
        let mut race = self.lookup(LookupKey::Payload(hash), false, 0, None);
        race.widen();
        while let Some((seat, answer)) = race.next().await {
            match answer {
                Ok(candidates) => {
                    for (place, candidate) in candidates.iter().enumerate() {
                        let fresh = || Naming { place, seats: BTreeMap::new() };
                        let naming = named.entry(candidate.header.id()).or_insert_with(fresh);
                        naming.place = naming.place.min(place);
                        naming.seats.entry(seat.region).or_default().insert(seat.address);
                    }
                    // What most regions name needs no waiting for who is slow.
                    let most = self.committee.regions().len() / 2;
                    if named.values().any(|naming| naming.regions(&self.committee) > most) {
                        break;
                    }
                }
                Err(error) => {
                    let fault = denials.fault(&seat, &error);
                    fault.report();
                    faults.push(fault);
                }
            }
        }
        let absence = self.not_found(&denials, faults);
        if named.is_empty() {
            return Err(absence);
        }
        let mut order: Vec<_> = named
            .into_iter()
            .map(|(id, naming)| {
                (Reverse((naming.regions(&self.committee), naming.seats.len())), naming.place, id)
            })
            .collect();
        order.sort_unstable();
        order.truncate(MAX_ALIASES);
        let ids = order.into_iter().map(|(_, _, id)| id).collect();
        Ok((ids, Some(absence).filter(|absence| !absence.is_passing())))
    }

    /// Asks for a blob, and for no more than so many bytes of its rows: the nearest seat when distances are known, or `first`
    /// before it, one seat of every region at once when not.
    fn lookup(
        &self,
        key: LookupKey,
        include_rlc: bool,
        max_row_bytes: u32,
        first: Option<Address>,
    ) -> Race<'_> {
        let usual = if max_row_bytes == 0 { 0 } else { self.hedges.usual() };
        let order = self.nearest.regions(&self.committee, usual, |_| Duration::ZERO);
        let at_once = if first.is_some() || self.is_warm() { 1 } else { order.len() };
        let by_region: Vec<Vec<Seat>> = order.iter().map(|region| self.seats(*region, usual)).collect();
        let deepest = by_region.iter().map(Vec::len).max().unwrap_or(0);
        // First seats of all regions, then second ones.
        let seats = (0..deepest)
            .flat_map(|place| by_region.iter().filter_map(move |seats| seats.get(place).cloned()));
        let mut seats: Vec<Seat> = seats.collect();
        seats.sort_by_key(|seat| Some(seat.address) != first);
        let channels = self.channels.clone();
        Race::new(&self.nearest, usual, seats, at_once, move |seat: Seat, again| {
            let rows = match again {
                false => max_row_bytes,
                true if self.hedges.spend(usual) => {
                    max_row_bytes.min(u32::try_from(usual).unwrap_or(u32::MAX))
                }
                true => 0,
            };
            let lookup = Lookup { key, include_rlc, max_row_bytes: rows };
            ask(channels.clone(), seat, lookup)
        })
    }

    /// Asks the other seats of the nearest region that it takes to read a blob there for their first rows.
    fn beside(&self, id: BlobId) -> Beside {
        let usual = self.hedges.usual();
        let order = self.nearest.regions(&self.committee, usual, |_| Duration::ZERO);
        let needed = order.first().map_or(0, |region| Nearest::needed(&self.committee, *region));
        let seats = order.first().map(|region| self.seats(*region, usual)).unwrap_or_default();
        let mut beside = Beside { calls: JoinSet::new(), silent: Vec::new(), begun: Instant::now() };
        for seat in seats.into_iter().take(needed).skip(1) {
            beside.silent.push((seat.address, self.nearest.patience(&seat.address, usual)));
            let lookup = Lookup { key: LookupKey::Blob(id), include_rlc: false, max_row_bytes: OPENING };
            let (nearest, channels) = (Arc::clone(&self.nearest), self.channels.clone());
            let call = async move {
                let begun = Instant::now();
                let answer = ask(channels, seat.clone(), lookup).await;
                if let Ok(candidates) = &answer {
                    let took = Took::Answer(race::row_bytes(candidates), begun.elapsed());
                    nearest.answered(seat.address, took);
                }
                (seat, answer)
            };
            beside.calls.spawn(call.in_current_span());
        }
        beside
    }

    /// Adds the rows of those that were asked beside, as far as they come in time.
    async fn join(&self, found: &mut Found, mut beside: Beside) -> Result<(), ReadError> {
        let until = beside.silent.iter().map(|(_, patience)| beside.begun + *patience).max();
        let until = until.unwrap_or(beside.begun);
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, beside.calls.join_next()).await {
            let (seat, answer) = answer.map_err(|failed| ReadError::Internal(failed.to_string()))?;
            beside.silent.retain(|(silent, _)| *silent != seat.address);
            let fault = match answer {
                Err(error) => Some(Fault::of(&seat, &error)),
                Ok(candidates) => {
                    let id = found.context.id();
                    match candidates.into_iter().find(|candidate| candidate.header.id() == id) {
                        None => Some(Fault::wrong(&seat, "the header is of another blob")),
                        Some(candidate) => {
                            found.suspect |= candidate.inconsistent;
                            let (rows, fault) = self.take(&seat, &found.context, candidate.rows).await?;
                            found.rows.extend(rows.into_iter().map(|rows| (seat.address, rows)));
                            fault
                        }
                    }
                }
            };
            if let Some(fault) = fault {
                fault.report();
                self.note(&fault);
                found.faults.push(fault);
            }
        }
        for (seat, _) in beside.silent {
            self.nearest.late(seat, beside.begun.elapsed());
        }
        Ok(())
    }

    /// Checks what a seat says of a blob.
    async fn check(
        &self,
        seat: &Seat,
        id: BlobId,
        candidates: Vec<Candidate>,
    ) -> Result<Result<Found, Fault>, ReadError> {
        let Some(candidate) = candidates.into_iter().find(|candidate| candidate.header.id() == id) else {
            return Ok(Err(Fault::wrong(seat, "the header is of another blob")));
        };
        let Some(rlc) = candidate.rlc else {
            return Ok(Err(Fault::wrong(seat, "the rlc vector is missing")));
        };
        let header = candidate.header;
        let context = match self.prepare(id, header, rlc).await? {
            Ok(context) => context,
            Err(error) => return Ok(Err(Fault::wrong(seat, error))),
        };
        let (rows, fault) = self.take(seat, &context, candidate.rows).await?;
        if let Some(fault) = &fault {
            fault.report();
            self.note(fault);
        }
        Ok(Ok(Found {
            context,
            entries: candidate.entries,
            suspect: candidate.inconsistent,
            faults: fault.into_iter().collect(),
            rows: rows.into_iter().map(|rows| (seat.address, rows)).collect(),
        }))
    }

    /// Checks rows that came with what a seat says of a blob. Gives those that are right, and what is wrong with the others.
    async fn take(
        &self,
        seat: &Seat,
        context: &Arc<BlobContext>,
        held: Vec<HeldRows>,
    ) -> Result<(Vec<VerifiedRange>, Option<Fault>), ReadError> {
        if held.is_empty() {
            return Ok((Vec::new(), None));
        }
        let bytes = held.iter().map(|held| u64::try_from(held.rows.len()).unwrap_or(u64::MAX)).sum();
        self.hedges.gave(bytes);
        let context = Arc::clone(context);
        let checked = self
            .compute(move || {
                let mut verified = Vec::new();
                for HeldRows { start, count, proof, rows } in held {
                    let range = context.shape().range(start, count);
                    let range = range.ok_or_else(|| "there are no such rows".to_owned());
                    let check =
                        |range| context.check_range(range, rows, &proof).map_err(|error| error.to_string());
                    match range.and_then(check) {
                        Ok(rows) => verified.push(rows),
                        Err(what) => return (verified, Some(what)),
                    }
                }
                (verified, None)
            })
            .await?;
        let (verified, wrong) = checked;
        let good = verified.iter().map(|rows| u64::try_from(rows.rows().len()).unwrap_or(u64::MAX)).sum();
        self.hedges.earn(good);
        Ok((verified, wrong.map(|what| Fault::wrong(seat, what))))
    }

    async fn prepare(
        &self,
        id: BlobId,
        header: BlobHeader,
        rlc: RlcVector,
    ) -> Result<Result<Arc<BlobContext>, String>, ReadError> {
        let context = self.compute(move || BlobContext::new(id, header, rlc)).await?;
        Ok(context.map(Arc::new).map_err(|error| error.to_string()))
    }

    fn not_found(&self, denials: &Denials, faults: Vec<Fault>) -> ReadError {
        let quorum = |region| self.committee.quorum(region);
        let regions = denials.regions(quorum);
        // As many as a certificate needs, and so many that one of them would have what is certified.
        let copies = self.committee.min_copies();
        let enough = copies.max(self.committee.regions().len() + 1 - copies);
        if regions >= enough {
            ReadError::Unknown { regions, expired: denials.expired(quorum, enough) }
        } else {
            ReadError::Unreachable { faults }
        }
    }
}

/// Who names a blob for a payload hash.
struct Naming {
    /// The first place that somebody gives it.
    place: usize,
    seats: BTreeMap<RegionId, BTreeSet<Address>>,
}

impl Naming {
    /// Regions in which more seats name it than may lie.
    fn regions(&self, committee: &Committee) -> usize {
        let vouches = |(region, seats): &(&RegionId, &BTreeSet<Address>)| {
            let all = committee.seats_of(**region).count();
            seats.len() > all.saturating_sub(committee.quorum(**region))
        };
        self.seats.iter().filter(vouches).count()
    }
}

/// Seats that were asked for rows beside the one that says what blob it is.
struct Beside {
    calls: JoinSet<(Seat, Result<Vec<Candidate>, ApiError>)>,
    /// Who has not answered, and how long that may take.
    silent: Vec<(Address, Duration)>,
    begun: Instant,
}

/// Asks a seat for a blob, and once more over a new connection where no answer comes: the one that was there may be dead
/// without anybody having said so.
async fn ask(channels: Channels, seat: Seat, lookup: Lookup) -> Result<Vec<Candidate>, ApiError> {
    let call = |lookup| {
        let replica = channels.replica(&seat.endpoint).map(|replica| replica.within(DEADLINE));
        async move { replica?.lookup_with_rows(lookup).await }
    };
    let mut first = pin!(call(lookup));
    if let Ok(answer) = tokio::time::timeout(gather::OVERDUE, &mut first).await {
        return answer;
    }
    channels.renew(&seat.endpoint);
    // It may as well be the rows that take so long.
    let second = pin!(call(Lookup { max_row_bytes: 0, ..lookup }));
    match futures::future::select(first, second).await {
        Either::Left((Err(_), second)) => second.await,
        Either::Right((Err(_), first)) => first.await,
        Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
    }
}

/// Who said that it does not know the blob.
#[derive(Default)]
struct Denials(BTreeMap<RegionId, Vec<Option<u64>>>);

impl Denials {
    /// The fault of a failed lookup; one that denies the blob is counted.
    fn fault(&mut self, seat: &Seat, error: &ApiError) -> Fault {
        if error.class() == Class::Unknown && error.reason != Reason::LogUnknown {
            let expiry = error.metadata.get(EXPIRY).filter(|_| error.reason == Reason::BlobExpired);
            let expiry = expiry.and_then(|expiry| expiry.parse().ok());
            self.0.entry(seat.region).or_default().push(expiry);
        }
        Fault::of(seat, error)
    }

    /// Regions in which as many seats deny the blob as would have to hold it.
    fn regions(&self, quorum: impl Fn(RegionId) -> usize) -> usize {
        self.0.iter().filter(|(region, seats)| seats.len() >= quorum(**region)).count()
    }

    /// When the blob expired, if enough regions say the same.
    fn expired(&self, quorum: impl Fn(RegionId) -> usize, enough: usize) -> Option<u64> {
        let said: BTreeSet<u64> = self.0.values().flatten().flatten().copied().collect();
        said.into_iter().rev().find(|expiry| {
            let agree = |seats: &[Option<u64>]| seats.iter().filter(|it| **it == Some(*expiry)).count();
            self.0.iter().filter(|(region, seats)| agree(seats) >= quorum(**region)).count() >= enough
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::committee::{CommitteeParts, GatewayMember, Region};

    use super::*;

    fn committee(regions: u16, seats: u16, min_copies: u16) -> Arc<Committee> {
        let endpoint = "http://127.0.0.1:1".to_owned();
        let address = |number: u16| Address::left_padding_from(&number.to_be_bytes());
        let seat = |region, number| Seat {
            region: RegionId(region),
            number,
            address: address(region * 100 + number),
            endpoint: endpoint.clone(),
        };
        let region = |id| Region { id: RegionId(id), label: format!("r{id}"), latitude: 0.0, longitude: 0.0 };
        let parts = CommitteeParts {
            chain_id: 0,
            verifying_contract: Address::ZERO,
            epoch: 1,
            min_copies,
            min_retention: 1,
            max_retention: 2,
            regions: (1..=regions).map(region).collect(),
            seats: (1..=regions)
                .flat_map(|region| (0..seats).map(move |n| (region, n)))
                .map(|(r, n)| seat(r, n))
                .collect(),
            gateways: vec![GatewayMember {
                address: address(9_999),
                endpoint: endpoint.clone(),
                max_bytes: 1,
                max_entries_per_hour: 1,
            }],
        };
        Arc::new(Committee::new(parts).unwrap())
    }

    /// A certified blob is in minCopies regions, so as many may deny it as are left, and no more without a lie.
    #[test]
    fn a_blob_is_unknown_when_one_of_those_who_deny_it_would_have_it() {
        for (regions, min_copies, enough) in
            [(1, 1, 1), (2, 1, 2), (4, 2, 3), (5, 2, 4), (5, 3, 3), (5, 4, 4), (5, 5, 5)]
        {
            let committee = committee(regions, 1, min_copies);
            let reader = Reader::new(Arc::clone(&committee), Channels::new());
            for deny in 0..=regions {
                let mut denials = Denials::default();
                for seat in committee.seats().iter().take(usize::from(deny)) {
                    denials.fault(seat, &ApiError::new(Reason::BlobUnknown, "none"));
                }
                let is_unknown = matches!(reader.not_found(&denials, Vec::new()), ReadError::Unknown { .. });
                assert_eq!(is_unknown, deny >= enough, "{deny} of {regions} deny, {min_copies} copies");
            }
        }
    }

    #[test]
    fn a_region_names_a_blob_when_more_of_its_seats_do_than_may_lie() {
        for (seats, needed) in [(1, 1), (3, 1), (4, 2), (7, 3)] {
            let committee = committee(2, seats, 1);
            let mut naming = Naming { place: 0, seats: BTreeMap::new() };
            for (named, seat) in (1..).zip(committee.seats_of(RegionId(1))) {
                naming.seats.entry(seat.region).or_default().insert(seat.address);
                assert_eq!(naming.regions(&committee), usize::from(named >= needed), "{named} of {seats}");
            }
        }
    }
}
