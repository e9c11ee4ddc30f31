//! Which rows are asked for, and which blobs as a whole.

use meridian_proofs::committee::{Committee, Seat};
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement;
use meridian_proofs::shape::{PayloadLength, RowIndex, RowRange, Shape};

use super::AuditError;
use super::blob::Target;

/// Bytes of rows in one call.
const PART_BYTES: usize = 1 << 20;

/// Blobs that are rebuilt from every region where rows are sampled, and bytes of their payloads.
const REBUILT: usize = 8;
const REBUILT_BYTES: u64 = 64 << 20;

/// The shape of a blob by what its entry says.
pub(super) fn shape(target: &Target) -> Option<Shape> {
    let length = target.entries.first()?.entry.length;
    PayloadLength::try_from(length).ok().map(Shape::of)
}

/// Rows of a seat that are asked for in one call each: all of its rows, or as many single ones drawn at random.
pub(super) fn ranges(
    committee: &Committee,
    seat: &Seat,
    id: &BlobId,
    shape: Shape,
    samples: usize,
    is_whole: bool,
) -> Vec<RowRange> {
    let interval = placement::interval(committee, seat, id, shape);
    if is_whole || samples >= interval.rows() {
        return interval.ranges().iter().flat_map(|range| parts(shape, *range)).collect();
    }
    let mut rows: Vec<RowIndex> = interval.ranges().iter().flat_map(RowRange::indices).collect();
    shuffle(&mut rows, samples);
    rows.truncate(samples);
    rows.into_iter().map(RowRange::of_row).collect()
}

/// A range in parts of about 1 MiB.
fn parts(shape: Shape, range: RowRange) -> impl Iterator<Item = RowRange> {
    let most = u32::try_from((PART_BYTES / shape.row_bytes()).max(1)).unwrap_or(u32::MAX);
    let starts = (range.start()..range.end()).step_by(usize::try_from(most).unwrap_or(usize::MAX));
    starts.filter_map(move |start| shape.range(start, most.min(range.end() - start)))
}

/// Number of rows in ranges.
pub(super) fn rows(ranges: &[RowRange]) -> u64 {
    ranges.iter().map(|range| u64::from(range.count())).sum()
}

/// Bytes of a row.
pub(super) fn row_bytes(shape: Shape) -> u64 {
    u64::try_from(shape.row_bytes()).unwrap_or(u64::MAX)
}

/// Bytes of rows that a blob is audited with.
pub(super) fn bytes(committee: &Committee, target: &Target, samples: usize) -> u64 {
    let Some(shape) = shape(target) else { return 0 };
    let of_seat = |seat: &Seat| {
        let all = placement::interval(committee, seat, &target.id, shape).rows();
        if target.is_whole { all } else { all.min(samples) }
    };
    let rows: usize = committee.seats().iter().map(of_seat).sum();
    u64::try_from(rows).unwrap_or(u64::MAX).saturating_mul(row_bytes(shape))
}

/// Marks the blobs that are asked for as a whole: all, or some at random.
///
/// # Errors
/// The operating system has no randomness.
pub(super) fn choose(targets: &mut [Target], is_deep: bool) -> Result<(), AuditError> {
    let mut probe = [0; 1];
    getrandom::fill(&mut probe).map_err(|error| AuditError::Internal(error.to_string()))?;
    let mut order: Vec<usize> = (0..targets.len()).collect();
    let count = order.len();
    shuffle(&mut order, count);
    let (mut rebuilt, mut bytes) = (0, 0_u64);
    for place in order {
        let Some(target) = targets.get_mut(place) else { continue };
        let length = target.entries.first().map_or(0, |listed| listed.entry.length);
        let fits = rebuilt < REBUILT && bytes.saturating_add(length) <= REBUILT_BYTES;
        target.is_whole = is_deep || rebuilt == 0 || fits;
        if target.is_whole {
            rebuilt += 1;
            bytes = bytes.saturating_add(length);
        }
    }
    Ok(())
}

/// Draws the first so many of these, each set of them equally likely: the first steps of a Fisher-Yates shuffle.
fn shuffle<T>(items: &mut [T], first: usize) {
    for at in 0..first.min(items.len()) {
        let mut random = [0; 8];
        // Without randomness the rows are those in front: `choose` has seen that there is some.
        if getrandom::fill(&mut random).is_err() {
            return;
        }
        let left = u64::try_from(items.len() - at).unwrap_or(u64::MAX);
        let other = usize::try_from(u64::from_le_bytes(random) % left).unwrap_or(0);
        items.swap(at, at + other);
    }
}
