//! What a light client says of blobs, and of ranges of a log: two bounds, never one number.

use meridian_proofs::sampling;
use meridian_proofs::shape::Shape;
use serde::{Deserialize, Serialize};

use super::record::{BlobRecord, Standing};

/// What samples prove about a blob (protocol section 2, *Sampling*).
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// So likely at most would as many rows have verified, were fewer than K rows to be had.
    pub unavailable: f64,
    /// So likely at most would as many rows have verified, were the blob badly encoded and nobody honest had a copy.
    pub misencoded: f64,
    /// How many such clients an adversary fools at least who answers K-1 distinct rows and no more.
    pub clients_fooled: u64,
}

impl Bounds {
    /// All of a blob was encoded again and compared.
    pub const CERTAIN: Self = Self { unavailable: 0.0, misencoded: 0.0, clients_fooled: 0 };

    /// What follows from so many rows of so many that were drawn.
    #[must_use]
    pub fn of(shape: Shape, drawn: usize, verified: usize) -> Self {
        Self {
            unavailable: sampling::bound_unavailable(shape, drawn, verified),
            misencoded: sampling::bound_misencoded(shape, drawn, verified),
            clients_fooled: u64::try_from(sampling::fooled_clients(shape, drawn)).unwrap_or(u64::MAX),
        }
    }

    /// Of either of two blobs the weaker statement: what holds for whichever of them is not available.
    fn weaker(self, other: Self) -> Self {
        Self {
            unavailable: self.unavailable.max(other.unavailable),
            misencoded: self.misencoded.max(other.misencoded),
            clients_fooled: self.clients_fooled.max(other.clients_fooled),
        }
    }
}

/// What may be said of all blobs of a range of a log together.
///
/// Were one of them unavailable, whichever an adversary chose without knowing what was drawn, all that verified would have
/// verified with probability at most that of the blob with the weakest bound; were there more of them, with less.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Combined {
    /// Blobs by how they stand, in the order of [`Standing::ALL`].
    pub standings: [u64; Standing::ALL.len()],
    /// Entries of which nothing is known: forgotten, expired before they were seen, or of no possible blob.
    pub unknown: u64,
    /// Over all of them; nothing while samples of one are missing or nothing is known of one.
    pub bounds: Option<Bounds>,
}

impl Combined {
    /// Of so many entries, none of which was looked at yet.
    pub(super) fn of(entries: u64) -> Self {
        let bounds = (entries > 0).then_some(Bounds::CERTAIN);
        Self { standings: [0; Standing::ALL.len()], unknown: entries, bounds }
    }

    /// Adds a blob.
    pub(super) fn add(&mut self, blob: &BlobRecord) {
        self.unknown = self.unknown.saturating_sub(1);
        let place = Standing::ALL.iter().position(|standing| *standing == blob.standing);
        if let Some(count) = place.and_then(|place| self.standings.get_mut(place)) {
            *count += 1;
        }
        let is_good = matches!(blob.standing, Standing::Sampled | Standing::Exact);
        self.bounds = self.bounds.filter(|_| is_good).map(|bounds| bounds.weaker(blob.bounds()));
    }

    /// All blobs that are known were added.
    pub(super) fn end(self) -> Self {
        Self { bounds: self.bounds.filter(|_| self.unknown == 0), ..self }
    }
}

#[cfg(test)]
mod tests {
    use meridian_proofs::Address;

    use super::*;

    fn blob(length: u64, standing: Standing, drawn: u32, verified: u32) -> BlobRecord {
        BlobRecord {
            length: length.try_into().unwrap(),
            epoch: 1,
            expiry: 2,
            log: Address::ZERO,
            index: 0,
            standing,
            noted: 1,
            draw: (0..drawn).collect(),
            verified: (0..verified).collect(),
            requested: Vec::new(),
            asked: None,
            tries: 0,
            settled: None,
            suspect: false,
            due: None,
            problem: None,
            faults: Vec::new(),
        }
    }

    #[test]
    fn a_range_is_as_sure_as_its_least_sure_blob() {
        assert_eq!(Combined::of(0).end().bounds, None);
        assert_eq!(Combined::of(1).end().bounds, None);
        let mut combined = Combined::of(4);
        combined.add(&blob(10, Standing::Exact, 0, 0));
        assert_eq!(combined.bounds, Some(Bounds::CERTAIN));
        combined.add(&blob(1 << 20, Standing::Sampled, 16, 16));
        let sure = combined.bounds.unwrap();
        assert!(sure.unavailable > 0.0 && sure.unavailable < 1e-9 && sure.misencoded < 6e-4);
        combined.add(&blob(1 << 20, Standing::Sampled, 4, 4));
        let less = combined.bounds.unwrap();
        assert!(less.unavailable > sure.unavailable && less.misencoded > sure.misencoded);
        assert_eq!(combined.end().bounds, None);
        combined.add(&blob(1 << 20, Standing::Sampled, 16, 16));
        assert_eq!(combined.end().bounds, Some(less));
        // One whose samples are not all in leaves nothing to be said of all of them.
        for standing in [Standing::Pending, Standing::Withheld, Standing::Inconsistent, Standing::Missed] {
            let mut combined = combined;
            combined.add(&blob(1 << 20, standing, 16, 15));
            assert_eq!(combined.bounds, None);
        }
        assert_eq!(combined.standings.iter().sum::<u64>(), 4);
    }

    #[test]
    fn missing_samples_weaken_both_bounds() {
        let all = Bounds::of(blob(1 << 20, Standing::Sampled, 16, 16).shape(), 16, 16);
        let most = Bounds::of(blob(1 << 20, Standing::Pending, 16, 12).shape(), 16, 12);
        assert!(most.unavailable > all.unavailable && most.misencoded > all.misencoded);
        assert_eq!(all.clients_fooled, 1023 / 16);
        let nothing = Bounds::of(blob(1 << 20, Standing::Pending, 0, 0).shape(), 0, 0);
        assert_eq!((nothing.unavailable, nothing.misencoded), (1.0, 1.0));
    }
}
