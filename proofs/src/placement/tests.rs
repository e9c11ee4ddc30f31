#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::committee::tests::committee;

/// The text of the protocol, row by row.
fn naive(committee: &Committee, seat: &Seat, id: &BlobId, shape: Shape) -> Vec<u32> {
    let (k, t) = (shape.data_rows() as u128, shape.total_rows() as u128);
    let regions = committee.regions().len() as u128;
    let r = committee.regions().iter().filter(|region| region.id < seat.region).count() as u128;
    let m = committee.seats().iter().filter(|other| other.region == seat.region).count() as u128;
    let j = committee
        .seats()
        .iter()
        .filter(|other| other.region == seat.region && other.number < seat.number)
        .count() as u128;
    let f = (m - 1) / 3;
    let h = u128::from(u64::from_be_bytes(id.as_bytes()[..8].try_into().unwrap())) % regions;
    let start = ((r + h) % regions) * t / regions;
    let ceil = |a: u128, b: u128| a / b + u128::from(!a.is_multiple_of(b));
    let c = t.min(ceil(k * m, m - 2 * f).max(ceil(t, regions)));
    let each = ceil(c, m);
    (0..each).map(|i| ((start + j * each + i) % t) as u32).collect()
}

fn rows(interval: &Interval) -> Vec<u32> {
    interval.ranges().iter().flat_map(|range| range.start()..range.end()).collect()
}

fn shape(k: u32) -> Shape {
    Shape::custom(k, 3 * k, 64).unwrap()
}

fn id(start: u64) -> BlobId {
    let mut bytes = [0xee; 32];
    bytes[..8].copy_from_slice(&start.to_be_bytes());
    BlobId::from(bytes)
}

#[test]
fn five_regions_of_one_seat_spread_over_the_ring() {
    let committee = committee(&[1; 5]);
    let shape = shape(64);
    let ranges = |h: u64| -> Vec<Vec<(u32, u32)>> {
        committee
            .regions()
            .iter()
            .map(|region| {
                let seat = committee.seats_of(region.id).next().unwrap();
                let interval = interval(&committee, seat, &id(h), shape);
                assert_eq!(interval, region_interval(&committee, region.id, &id(h), shape));
                interval.ranges().iter().map(|range| (range.start(), range.end())).collect()
            })
            .collect()
    };
    let spread: Vec<Vec<(u32, u32)>> =
        vec![vec![(0, 64)], vec![(51, 115)], vec![(102, 166)], vec![(153, 217)], vec![(204, 256), (0, 12)]];
    assert_eq!(ranges(0), spread);
    assert_eq!(ranges(5), spread);
    // A turn by one hands each region the start of the next.
    let mut turned = spread;
    turned.rotate_left(1);
    assert_eq!(ranges(1), turned);
    assert_eq!(ranges(u64::MAX), ranges(u64::MAX % 5));
}

#[test]
fn the_data_region_holds_the_data_rows() {
    for seats in [1, 2, 4, 7, 32] {
        for regions in 1..=7 {
            let committee = committee(&vec![seats; regions]);
            for (k, h) in [(16, 0), (16, 3), (64, 4), (2048, 6)] {
                let (shape, id) = (shape(k), id(h));
                let mut data = 0;
                for region in committee.regions() {
                    let held: BTreeSet<u32> =
                        rows(&region_interval(&committee, region.id, &id, shape)).into_iter().collect();
                    let expected = (0..k).all(|row| held.contains(&row));
                    assert_eq!(is_data_region(&committee, region.id, &id, shape), expected);
                    data += usize::from(expected);
                }
                assert!(data >= 1, "m {seats} R {regions} k {k} h {h}");
                if seats == 1 && regions >= 4 {
                    // C = K: nothing else than the data rows.
                    assert_eq!(data, 1);
                }
            }
        }
    }
}

/// The fewest distinct rows that `keep` seats hold together, over all choices of one or two runs of seats.
///
/// Seats are neighbours on the ring, so what is shared is shared by runs.
fn fewest_rows(intervals: &[Vec<u32>], keep: usize) -> usize {
    let m = intervals.len();
    let mut fewest = usize::MAX;
    for second in 0..m {
        for split in 0..=keep {
            let kept = (0..split).chain((0..keep - split).map(|i| (second + i) % m));
            let kept: BTreeSet<usize> = kept.collect();
            if kept.len() == keep {
                let rows: BTreeSet<u32> = kept.iter().flat_map(|seat| &intervals[*seat]).copied().collect();
                fewest = fewest.min(rows.len());
            }
        }
    }
    fewest
}

#[test]
fn a_region_rebuilds_from_its_quorum_even_if_its_tolerance_lies() {
    for k in [16, 64, 256] {
        for regions in [1, 2, 3, 5] {
            for m in 1..=32 {
                if k > 16 && m % 5 > 1 {
                    continue;
                }
                let mut seats = vec![1; regions];
                seats[0] = m;
                let (committee, shape) = (committee(&seats), shape(k));
                let region = committee.regions()[0].id;
                let intervals: Vec<Vec<u32>> = committee
                    .seats_of(region)
                    .map(|seat| rows(&interval(&committee, seat, &id(2), shape)))
                    .collect();
                let keep = committee.quorum(region) - committee.tolerance(region);
                assert!(fewest_rows(&intervals, keep) >= k as usize, "k {k} R {regions} m {m}");
            }
        }
    }
}

#[test]
fn strangers_hold_nothing() {
    let committee = committee(&[1, 4]);
    let mut seat = committee.seats()[0].clone();
    seat.number = 1000;
    assert_eq!(interval(&committee, &seat, &id(0), shape(16)).rows(), 0);
    seat.region = RegionId(1000);
    assert_eq!(interval(&committee, &seat, &id(0), shape(16)).rows(), 0);
    assert_eq!(region_interval(&committee, seat.region, &id(0), shape(16)).rows(), 0);
    assert!(!is_data_region(&committee, seat.region, &id(0), shape(16)));
}

proptest! {
    #[test]
    fn placement_is_what_the_protocol_says(
        seats in proptest::collection::vec(1_usize..=32, 1..12), size in 4_u32..13, first in any::<u64>(),
    ) {
        let (committee, shape, id) = (committee(&seats), shape(1 << size), id(first));
        let mut held = BTreeSet::new();
        for region in committee.regions() {
            let mut of_region = BTreeSet::new();
            for seat in committee.seats_of(region.id) {
                let interval = interval(&committee, seat, &id, shape);
                let rows = rows(&interval);
                prop_assert_eq!(&rows, &naive(&committee, seat, &id, shape));
                prop_assert_eq!(interval.rows(), rows.len());
                let distinct: BTreeSet<u32> = rows.iter().copied().collect();
                prop_assert_eq!(distinct.len(), rows.len(), "no row twice");
                prop_assert!(matches!(interval.ranges().len(), 1 | 2));
                prop_assert!(rows.iter().all(|row| (*row as usize) < shape.total_rows()));
                prop_assert!(rows.iter().all(|row| interval.contains(RowIndex(*row))));
                let outside = (0..shape.total_rows() as u32).find(|row| !distinct.contains(row));
                prop_assert!(outside.is_none_or(|row| !interval.contains(RowIndex(row))));
                of_region.extend(rows);
            }
            let whole: BTreeSet<u32> = self::rows(&region_interval(&committee, region.id, &id, shape)).into_iter().collect();
            prop_assert_eq!(&whole, &of_region);
            prop_assert!(of_region.len() >= shape.data_rows());
            held.extend(of_region);
        }
        prop_assert_eq!(held.len(), shape.total_rows(), "every row has a holder");
    }
}
