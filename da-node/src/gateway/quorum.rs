//! The set S: the replicas that puts and checkpoints wait for, protocol section 5.3.
//!
//! A pure choice: m - f replicas in each of `minCopies` regions, out of the seats that answer.

use std::time::Duration;

use meridian_proofs::committee::{Committee, RegionId};

/// What the choice depends on, for one seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Whether it answers.
    pub(super) up: bool,
    /// Whether it did not cosign when it was last asked.
    pub(super) refusing: bool,
    /// Whether it has yet to cosign what others have cosigned.
    pub(super) behind: bool,
    /// How often in a row it was given up.
    pub(super) strikes: u32,
    /// How fast it answers.
    pub(super) round_trip: Duration,
}

impl View {
    /// Whether anything can be expected of the seat.
    fn is_live(&self) -> bool {
        self.up && !self.refusing
    }
}

/// The places of the chosen seats in [`Committee::seats`], ascending; or the regions without enough seats that answer.
pub(super) type Choice = Result<Vec<usize>, Vec<RegionId>>;

/// Chooses S. `views` are in the order of [`Committee::seats`].
///
/// The current set stays while each of its members answers and keeps up: a change costs puts in flight a wait.
pub(super) fn choose(committee: &Committee, views: &[View], current: Option<&[usize]>) -> Choice {
    if let Some(current) = current
        && current.iter().all(|&seat| views[seat].is_live() && !views[seat].behind)
    {
        return Ok(current.to_vec());
    }
    let mut complete = Vec::new();
    let mut missing = Vec::new();
    for region in committee.regions() {
        let mut live: Vec<usize> =
            places(committee, region.id).filter(|&seat| views[seat].is_live()).collect();
        live.sort_by_key(|&seat| rank(&views[seat]));
        live.truncate(committee.quorum(region.id));
        if live.len() < committee.quorum(region.id) {
            missing.push(region.id);
        } else {
            let worst = live.iter().map(|&seat| rank(&views[seat])).max();
            complete.push((worst, live));
        }
    }
    if complete.len() < committee.min_copies() {
        return Err(missing);
    }
    complete.sort_by_key(|(worst, _)| *worst);
    complete.truncate(committee.min_copies());
    let mut chosen: Vec<usize> = complete.into_iter().flat_map(|(_, seats)| seats).collect();
    chosen.sort_unstable();
    Ok(chosen)
}

/// The lower, the better.
fn rank(view: &View) -> (bool, u32, Duration) {
    (view.behind, view.strikes, view.round_trip)
}

/// The places of a region's seats in [`Committee::seats`].
fn places(committee: &Committee, region: RegionId) -> impl Iterator<Item = usize> {
    committee
        .seats()
        .iter()
        .enumerate()
        .filter(move |(_, seat)| seat.region == region)
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing;

    fn up(ms: u64) -> View {
        View { up: true, refusing: false, behind: false, strikes: 0, round_trip: Duration::from_millis(ms) }
    }

    fn down() -> View {
        View::default()
    }

    /// Regions of the chosen seats, ascending, one for each seat.
    fn regions(committee: &Committee, choice: &Choice) -> Vec<u16> {
        let seats = choice.as_ref().expect("a choice");
        let mut regions: Vec<u16> = seats.iter().map(|&seat| committee.seats()[seat].region.0).collect();
        regions.sort_unstable();
        regions
    }

    /// Views given by region, whatever the order of addresses.
    fn by_region(committee: &Committee, of: impl Fn(u16, u16) -> View) -> Vec<View> {
        committee.seats().iter().map(|seat| of(seat.region.0, seat.number)).collect()
    }

    #[test]
    fn five_regions_of_one_seat() {
        let committee = testing::committee(5, 1, 4);
        /// Regions that are down, the slow region, expected or missing regions.
        type Line = (&'static [u16], u16, Result<&'static [u16], &'static [u16]>);
        let table: [Line; 6] = [
            (&[], 5, Ok(&[1, 2, 3, 4])),
            (&[], 1, Ok(&[2, 3, 4, 5])),
            (&[3], 1, Ok(&[1, 2, 4, 5])),
            (&[5], 5, Ok(&[1, 2, 3, 4])),
            (&[2, 4], 1, Err(&[2, 4])),
            (&[1, 2, 3, 4, 5], 1, Err(&[1, 2, 3, 4, 5])),
        ];
        for (dead, slow, expected) in table {
            let views = by_region(&committee, |region, _| match region {
                region if dead.contains(&region) => down(),
                region if region == slow => up(100),
                _ => up(1),
            });
            let choice = choose(&committee, &views, None);
            match expected {
                Ok(expected) => assert_eq!(regions(&committee, &choice), expected, "{dead:?} {slow}"),
                Err(expected) => {
                    let missing: Vec<u16> = choice.unwrap_err().iter().map(|id| id.0).collect();
                    assert_eq!(missing, expected, "{dead:?}");
                }
            }
        }
    }

    #[test]
    fn a_region_of_four_needs_three() {
        let committee = testing::committee(2, 4, 2);
        for dead in 0..=4u16 {
            let views = by_region(&committee, |region, number| {
                if region == 1 && number < dead { down() } else { up(u64::from(number)) }
            });
            let choice = choose(&committee, &views, None);
            if dead <= 1 {
                assert_eq!(regions(&committee, &choice), [1, 1, 1, 2, 2, 2], "{dead}");
            } else {
                assert_eq!(choice, Err(vec![RegionId(1)]), "{dead}");
            }
        }
    }

    #[test]
    fn the_fastest_of_a_region_are_chosen() {
        let committee = testing::committee(1, 4, 1);
        let views = by_region(&committee, |_, number| up(u64::from(9 - number)));
        let chosen = choose(&committee, &views, None).unwrap();
        let mut numbers: Vec<u16> = chosen.iter().map(|&seat| committee.seats()[seat].number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn who_is_behind_or_was_given_up_comes_last() {
        let committee = testing::committee(5, 1, 4);
        let behind = by_region(&committee, |region, _| View { behind: region == 2, ..up(5) });
        assert_eq!(regions(&committee, &choose(&committee, &behind, None)), [1, 3, 4, 5]);
        let struck = by_region(&committee, |region, _| View { strikes: u32::from(region == 3), ..up(5) });
        assert_eq!(regions(&committee, &choose(&committee, &struck, None)), [1, 2, 4, 5]);
        let needed = by_region(&committee, |region, _| match region {
            1 => down(),
            region => View { behind: region == 2, strikes: u32::from(region == 3), ..up(5) },
        });
        assert_eq!(regions(&committee, &choose(&committee, &needed, None)), [2, 3, 4, 5]);
    }

    #[test]
    fn who_does_not_cosign_does_not_count() {
        let committee = testing::committee(5, 1, 4);
        let refusing = |count: u16| {
            let views = by_region(&committee, |region, _| View { refusing: region <= count, ..up(5) });
            choose(&committee, &views, None)
        };
        assert_eq!(regions(&committee, &refusing(1)), [2, 3, 4, 5]);
        assert_eq!(refusing(2), Err(vec![RegionId(1), RegionId(2)]));
    }

    #[test]
    fn the_current_set_stays_while_it_answers() {
        let committee = testing::committee(5, 1, 4);
        let fast_five = by_region(&committee, |region, _| up(if region == 5 { 1 } else { 50 }));
        let current =
            choose(&committee, &by_region(&committee, |region, _| up(u64::from(region))), None).unwrap();
        assert_eq!(choose(&committee, &fast_five, Some(&current)), Ok(current.clone()));
        let mut broken = fast_five.clone();
        broken[current[0]].up = false;
        assert_ne!(choose(&committee, &broken, Some(&current)), Ok(current.clone()));
        let mut late = fast_five;
        late[current[0]].behind = true;
        assert_ne!(choose(&committee, &late, Some(&current)), Ok(current));
    }
}
