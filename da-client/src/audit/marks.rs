//! Who cosigned how much of a log.

use std::collections::{BTreeMap, BTreeSet};

use meridian_proofs::Address;
use meridian_proofs::B256;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint};
use meridian_proofs::committee::epochs::Epochs;
use meridian_proofs::committee::{Committee, RegionId};
use meridian_proofs::log::verify_consistency;

/// A checkpoint and the seats of its epoch whose cosignatures over it are right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) checkpoint: Checkpoint,
    pub(super) seats: Vec<Address>,
    /// Which of the nodes gave it.
    pub(super) node: usize,
}

/// The most of a log that enough regions cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certified {
    /// Entries.
    pub size: u64,
    /// Epoch of the committee that cosigned.
    pub epoch: u64,
    /// The latest checkpoint's unix seconds.
    pub timestamp: u64,
    /// The regions that are complete.
    pub regions: Vec<RegionId>,
}

impl Mark {
    /// What a node knows of a log, if the log's gateway is one of its epoch's.
    pub(super) fn of(known: &CosignedCheckpoint, epochs: &Epochs, node: usize) -> Option<Self> {
        let checkpoint = known.signed.checkpoint;
        let committee = epochs.committee(checkpoint.epoch)?;
        committee.gateway(&checkpoint.gateway)?;
        let digest = checkpoint.digest(&committee.domain());
        // Recovering a signer is dear: a list that is longer than this has some twice.
        let cosignatures = known.cosignatures.iter().take(committee.seats().len());
        let signers: BTreeSet<Address> =
            cosignatures.filter_map(|cosignature| cosignature.recover(&digest).ok()).collect();
        let seats = signers.into_iter().filter(|signer| committee.seat(signer).is_some()).collect();
        Some(Self { checkpoint, seats, node })
    }

    /// Whether the log up to a size and root begins with the checkpoint's, or the other way round, as a proof says.
    pub(super) fn agrees(&self, size: u64, root: &B256, proof: &[B256]) -> bool {
        let Checkpoint { size: own_size, root: own_root, .. } = &self.checkpoint;
        let agrees = if *own_size <= size {
            verify_consistency(*own_size, own_root, size, root, proof)
        } else {
            verify_consistency(size, root, *own_size, own_root, proof)
        };
        agrees.is_ok()
    }
}

/// The most of a log that as many regions as a certificate needs cosigned: whoever cosigned more of the same log cosigned
/// this as well.
pub(super) fn certified<'a>(
    marks: impl IntoIterator<Item = &'a Mark, IntoIter: Clone>,
    epochs: &Epochs,
) -> Option<Certified> {
    let marks = marks.into_iter();
    let numbers: BTreeSet<u64> = marks.clone().map(|mark| mark.checkpoint.epoch).collect();
    let of_epoch = |epoch: u64| {
        let committee: &Committee = epochs.committee(epoch)?;
        let marks = marks.clone().filter(move |mark| mark.checkpoint.epoch == epoch);
        let sizes: BTreeSet<u64> = marks.clone().map(|mark| mark.checkpoint.size).collect();
        sizes.into_iter().rev().find_map(|size| {
            let above = marks.clone().filter(|mark| mark.checkpoint.size >= size);
            let regions = committee.complete_regions(above.flat_map(|mark| &mark.seats));
            let at = marks.clone().filter(|mark| mark.checkpoint.size == size);
            let timestamp = at.map(|mark| mark.checkpoint.timestamp).max().unwrap_or(0);
            let is_enough = regions.len() >= committee.min_copies();
            is_enough.then_some(Certified { size, epoch, timestamp, regions })
        })
    };
    numbers.into_iter().filter_map(of_epoch).max_by_key(|certified| certified.size)
}

/// How much of each log each seat cosigned in each epoch.
#[derive(Clone, Default, Debug)]
pub(super) struct Marks(BTreeMap<(Address, u64, Address), u64>);

impl Marks {
    /// Notes a checkpoint that was found to be of the log.
    pub(super) fn add(&mut self, mark: &Mark) {
        let Checkpoint { gateway, epoch, size, .. } = mark.checkpoint;
        for seat in &mark.seats {
            let known = self.0.entry((gateway, epoch, *seat)).or_insert(0);
            *known = size.max(*known);
        }
    }

    /// Whether a seat cosigned the entry at an index of a log, in the entry's epoch.
    pub(super) fn has(&self, log: Address, epoch: u64, seat: Address, index: u64) -> bool {
        self.0.get(&(log, epoch, seat)).is_some_and(|size| *size > index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meridian_proofs::committee::epochs::Term;
    use meridian_proofs::committee::{CommitteeParts, GatewayMember, Region, Seat};

    use super::*;

    const LOG: Address = Address::repeat_byte(0xaa);

    /// A committee of so many regions with one seat each, of which two have to be complete.
    fn term(epoch: u64, regions: u16) -> Term {
        let parts = CommitteeParts {
            chain_id: 0,
            verifying_contract: Address::ZERO,
            epoch,
            min_copies: 2,
            min_retention: 1,
            max_retention: 9,
            regions: (1..=regions)
                .map(|id| Region { id: RegionId(id), label: format!("r{id}"), latitude: 0.0, longitude: 0.0 })
                .collect(),
            seats: (1..=regions)
                .map(|id| Seat {
                    region: RegionId(id),
                    number: 0,
                    address: seat(u8::try_from(id).unwrap()),
                    endpoint: format!("http://seat{id}:1"),
                })
                .collect(),
            gateways: vec![GatewayMember {
                address: LOG,
                endpoint: "http://gateway:1".to_owned(),
                max_bytes: 1,
                max_entries_per_hour: 1,
            }],
        };
        Term { committee: Arc::new(Committee::new(parts).unwrap()), activation: epoch, closes: None }
    }

    fn seat(id: u8) -> Address {
        Address::repeat_byte(id)
    }

    fn mark(epoch: u64, size: u64, seats: &[u8]) -> Mark {
        let checkpoint = Checkpoint { gateway: LOG, epoch, size, root: B256::ZERO, timestamp: 100 + size };
        Mark { checkpoint, seats: seats.iter().copied().map(seat).collect(), node: 0 }
    }

    #[test]
    fn the_most_that_enough_regions_cosigned_is_certified() {
        let epochs = Epochs::new(vec![term(1, 3), term(2, 3)]).unwrap();
        let certified =
            |marks: &[Mark]| certified(marks.iter(), &epochs).map(|it| (it.epoch, it.size, it.timestamp));
        assert_eq!(certified(&[]), None);
        assert_eq!(certified(&[mark(1, 9, &[1])]), None);
        assert_eq!(certified(&[mark(1, 9, &[1, 2])]), Some((1, 9, 109)));
        // Whoever cosigned more cosigned less as well.
        assert_eq!(certified(&[mark(1, 9, &[1]), mark(1, 7, &[2]), mark(1, 5, &[3])]), Some((1, 7, 107)));
        // Not across epochs: each has a committee of its own.
        assert_eq!(certified(&[mark(1, 9, &[1]), mark(2, 9, &[2])]), None);
        assert_eq!(certified(&[mark(1, 9, &[1, 2]), mark(2, 12, &[1, 3])]), Some((2, 12, 112)));
        assert_eq!(certified(&[mark(3, 9, &[1, 2, 3])]), None);
    }

    #[test]
    fn an_entry_is_cosigned_in_its_own_epoch_below_the_size() {
        let mut marks = Marks::default();
        marks.add(&mark(1, 5, &[1, 2]));
        marks.add(&mark(1, 3, &[1]));
        assert!(marks.has(LOG, 1, seat(1), 4) && !marks.has(LOG, 1, seat(1), 5));
        assert!(!marks.has(LOG, 2, seat(1), 0) && !marks.has(LOG, 1, seat(3), 0));
    }
}
