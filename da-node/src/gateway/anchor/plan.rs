//! What is anchored next, and with whose signatures.

use meridian_client::chain::view::Anchor;
use meridian_proofs::Address;
use meridian_proofs::checkpoint::CosignedCheckpoint;
use meridian_proofs::committee::Committee;

/// The checkpoint that is anchored next: an epoch is closed before anything of a later one is anchored (protocol section
/// 5.7). `closings` ascend by epoch.
pub(super) fn next<'a>(
    anchored: Option<&Anchor>,
    closings: &'a [CosignedCheckpoint],
    certified: Option<&'a CosignedCheckpoint>,
) -> Option<&'a CosignedCheckpoint> {
    let (epoch, size) = anchored.map_or((0, 0), |anchor| (anchor.epoch, anchor.size));
    closings.iter().chain(certified).find(|cosigned| {
        let checkpoint = &cosigned.signed.checkpoint;
        checkpoint.epoch >= epoch && checkpoint.size > size
    })
}

/// The cosigners of the cheapest quorum, as places in `signers`, ascending: `minCopies` complete regions with the
/// smallest quorums, and of each no more than its quorum. None when too few regions are complete.
pub(super) fn smallest_quorum(committee: &Committee, signers: &[Address]) -> Option<Vec<usize>> {
    let mut complete: Vec<(usize, Vec<usize>)> = Vec::new();
    for region in committee.regions() {
        let quorum = committee.quorum(region.id);
        let of_region =
            |place: &usize| committee.seat(&signers[*place]).is_some_and(|seat| seat.region == region.id);
        let places: Vec<usize> = (0..signers.len()).filter(of_region).take(quorum).collect();
        if places.len() == quorum {
            complete.push((quorum, places));
        }
    }
    complete.sort_by_key(|(quorum, _)| *quorum);
    if complete.len() < committee.min_copies() {
        return None;
    }
    let chosen = complete.into_iter().take(committee.min_copies());
    let mut places: Vec<usize> = chosen.flat_map(|(_, places)| places).collect();
    places.sort_unstable();
    Some(places)
}

#[cfg(test)]
mod tests {
    use meridian_proofs::B256;
    use meridian_proofs::checkpoint::{Checkpoint, Domain, SignedCheckpoint};
    use meridian_proofs::committee::{CommitteeParts, Region, RegionId, Seat};
    use meridian_proofs::signature::SecretKey;
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(epoch: u64, size: u64) -> CosignedCheckpoint {
        let key = SecretKey::from_bytes([7; 32]).unwrap();
        let gateway = key.address();
        let checkpoint = Checkpoint { gateway, epoch, size, root: B256::ZERO, timestamp: 9 };
        let domain = Domain { chain_id: 1, verifying_contract: gateway };
        CosignedCheckpoint {
            signed: SignedCheckpoint::sign(checkpoint, &domain, &key),
            cosignatures: Vec::new(),
        }
    }

    fn anchor(epoch: u64, size: u64) -> Anchor {
        Anchor { gateway: Address::ZERO, epoch, size, root: B256::ZERO, timestamp: 8, block: 1 }
    }

    #[test]
    fn epochs_are_closed_in_order() {
        let closings = [checkpoint(1, 10), checkpoint(3, 20)];
        let certified = checkpoint(4, 25);
        let next = |anchored: Option<Anchor>| {
            let cosigned = next(anchored.as_ref(), &closings, Some(&certified))?;
            Some((cosigned.signed.checkpoint.epoch, cosigned.signed.checkpoint.size))
        };
        assert_eq!(next(None), Some((1, 10)));
        assert_eq!(next(Some(anchor(1, 9))), Some((1, 10)));
        assert_eq!(next(Some(anchor(1, 10))), Some((3, 20)));
        assert_eq!(next(Some(anchor(3, 20))), Some((4, 25)));
        assert_eq!(next(Some(anchor(4, 24))), Some((4, 25)));
        assert_eq!(next(Some(anchor(4, 25))), None);
        assert_eq!(next(Some(anchor(4, 26))), None);
        // Somebody anchored a later epoch without closing the one before: the contract takes no earlier one.
        assert_eq!(next(Some(anchor(2, 15))), Some((3, 20)));
        assert_eq!(super::next(None, &[], None), None);
        assert_eq!(super::next(None, &[], Some(&checkpoint(1, 0))), None);
    }

    fn committee(seats: &[u16], min_copies: u16) -> Committee {
        let region =
            |id: u16| Region { id: RegionId(id), label: format!("r{id}"), latitude: 0.0, longitude: 0.0 };
        let mut parts = CommitteeParts {
            chain_id: 1,
            verifying_contract: Address::ZERO,
            epoch: 1,
            min_copies,
            min_retention: 1,
            max_retention: 1,
            regions: (1..).zip(seats).map(|(id, _)| region(id)).collect(),
            seats: Vec::new(),
            gateways: Vec::new(),
        };
        for (id, count) in (1..).zip(seats) {
            for number in 0..*count {
                // Spread, so that regions mix in the order of addresses.
                let place = u8::try_from(parts.seats.len()).unwrap();
                let address = Address::repeat_byte(place.wrapping_mul(37).wrapping_add(1));
                let endpoint = format!("http://127.0.0.1:{}", 1000 + u16::from(place));
                parts.seats.push(Seat { region: RegionId(id), number, address, endpoint });
            }
        }
        Committee::new(parts).unwrap()
    }

    proptest! {
        #[test]
        fn the_smallest_quorum_is_one_and_has_nobody_to_spare(
            seats in proptest::collection::vec(1u16..8, 1..6), copies: u16, mask: u64,
        ) {
            let regions = u16::try_from(seats.len()).unwrap();
            let committee = committee(&seats, copies % regions + 1);
            let signs = |(place, _): &(usize, &Seat)| mask >> place & 1 == 1;
            let all = committee.seats().iter().enumerate().filter(signs);
            let signers: Vec<Address> = all.map(|(_, seat)| seat.address).collect();
            let complete = committee.complete_regions(signers.iter());
            let Some(places) = smallest_quorum(&committee, &signers) else {
                prop_assert!(complete.len() < committee.min_copies());
                return Ok(());
            };
            prop_assert!(places.is_sorted_by(|a, b| a < b));
            let chosen: Vec<Address> = places.iter().map(|place| signers[*place]).collect();
            prop_assert_eq!(committee.complete_regions(chosen.iter()).len(), committee.min_copies());
            let mut quorums: Vec<usize> = complete.iter().map(|region| committee.quorum(*region)).collect();
            quorums.sort_unstable();
            prop_assert_eq!(places.len(), quorums.iter().take(committee.min_copies()).sum::<usize>());
        }
    }
}
