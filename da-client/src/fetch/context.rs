//! Finds a blob: header and RLC vector by id, ids by payload hash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::committee::{RegionId, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::{BlobId, PayloadHash};
use meridian_proofs::rlc::RlcVector;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::convert::{Candidate, EntryRef, LookupKey};
use meridian_proto::error::{ApiError, Class, EXPIRY, Reason};

use super::race::Race;
use super::{Fault, FaultKind, ReadError, Reader};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

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
    /// # Errors
    /// As [`Reader::context`].
    pub async fn find(&self, id: BlobId) -> Result<Found, ReadError> {
        let mut denials = Denials::default();
        let mut faults = Vec::new();
        let mut race = self.lookup(LookupKey::Blob(id), true);
        while let Some((seat, answer)) = race.next().await {
            let fault = match answer {
                Ok(candidates) => match self.check(&seat, id, candidates).await? {
                    Ok(mut found) => {
                        found.faults = faults;
                        return Ok(found);
                    }
                    Err(fault) => {
                        self.nearest.failed(fault.seat);
                        fault
                    }
                },
                Err(error) => denials.fault(&seat, &error),
            };
            fault.report();
            if fault.kind != FaultKind::Silent {
                // One seat's word, or a liar's, settles nothing.
                race.widen();
            }
            faults.push(fault);
        }
        Err(self.not_found(&denials, faults))
    }

    /// The blobs that replicas name for a payload hash: those that most regions name first, among them those that
    /// replicas name first.
    ///
    /// Only the headers are proved to belong to the ids: whether a payload has the hash shows when it is read.
    ///
    /// # Errors
    /// As [`Reader::context`].
    pub async fn resolve(&self, hash: PayloadHash) -> Result<Vec<BlobId>, ReadError> {
        let mut denials = Denials::default();
        let mut faults = Vec::new();
        let mut named: BTreeMap<BlobId, (usize, BTreeSet<RegionId>)> = BTreeMap::new();
        let mut race = self.lookup(LookupKey::Payload(hash), false);
        race.widen();
        while let Some((seat, answer)) = race.next().await {
            match answer {
                Ok(candidates) => {
                    for (place, candidate) in candidates.iter().enumerate() {
                        let (first, regions) =
                            named.entry(candidate.header.id()).or_insert((place, BTreeSet::new()));
                        *first = place.min(*first);
                        regions.insert(seat.region);
                    }
                }
                Err(error) => {
                    let fault = denials.fault(&seat, &error);
                    fault.report();
                    faults.push(fault);
                }
            }
        }
        if named.is_empty() {
            return Err(self.not_found(&denials, faults));
        }
        let mut order: Vec<_> = named
            .into_iter()
            .map(|(id, (place, regions))| (std::cmp::Reverse(regions.len()), place, id))
            .collect();
        order.sort_unstable();
        order.truncate(MAX_ALIASES);
        Ok(order.into_iter().map(|(_, _, id)| id).collect())
    }

    /// Asks for a blob: the nearest seat when distances are known, one seat of every region at once when not.
    fn lookup(&self, key: LookupKey, include_rlc: bool) -> Race<'_, Vec<Candidate>> {
        let order = self.nearest.regions(&self.committee, 0, |_| Duration::ZERO);
        let at_once = if self.is_warm() { 1 } else { order.len() };
        let by_region: Vec<Vec<Seat>> = order.iter().map(|region| self.seats(*region, 0)).collect();
        let deepest = by_region.iter().map(Vec::len).max().unwrap_or(0);
        // First seats of all regions, then second ones.
        let seats = (0..deepest)
            .flat_map(|place| by_region.iter().filter_map(move |seats| seats.get(place).cloned()));
        let channels = self.channels.clone();
        Race::new(&self.nearest, seats.collect(), at_once, move |seat: Seat| {
            let channels = channels.clone();
            async move { channels.replica(&seat.endpoint)?.within(DEADLINE).lookup(key, include_rlc).await }
        })
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
        Ok(Ok(Found {
            context,
            entries: candidate.entries,
            suspect: candidate.inconsistent,
            faults: Vec::new(),
        }))
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
        if regions >= self.committee.min_copies() {
            ReadError::Unknown { regions, expired: denials.expired(quorum, self.committee.min_copies()) }
        } else {
            ReadError::Unreachable { faults }
        }
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
