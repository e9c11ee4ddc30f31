//! Any ranges of rows, in any order: the payload as soon as there are K distinct ones, and nothing before.

use super::{blobs::Honest, input::Input};
use meridian_proofs::{
    reconstruct::{DecodeError, Rebuilt, RowSet},
    shape::RowRange,
};

/// Ranges that are taken from one input.
const MOST_RANGES: usize = 64;

/// A blob's choice, how many bytes the header leaves out, then start u16 and count u8 of each range.
pub fn reconstruct(data: &[u8]) {
    let mut input = Input(data);
    let honest = Honest::choose(input.byte());
    let (shape, length) = (honest.blob.shape(), honest.blob.header().length.get());
    let left_out = u64::from(input.byte());
    let context = match length.checked_sub(left_out).and_then(|length| honest.shortened(length)) {
        Some(context) => context,
        None => honest.context.clone(),
    };
    let payload = honest.blob.payload();
    let (payload, beyond) = payload.split_at(context.header().length.to_usize());

    let mut set = RowSet::new(context.clone());
    let mut held = vec![false; shape.total_rows()];
    for _ in 0..MOST_RANGES {
        let Some(range) = honest.range(input.u16(), input.byte().into()) else { continue };
        let new = RowRange::indices(&range).any(|row| !held[usize::try_from(row.0).unwrap()]);
        for row in range.indices() {
            held[usize::try_from(row.0).unwrap()] = true;
        }
        let proof = honest.blob.range_proof(range);
        set.insert(context.check_range(range, honest.blob.rows(range), &proof).unwrap()).unwrap();
        let distinct = held.iter().filter(|held| **held).count();
        assert_eq!(set.distinct_rows(), distinct);
        assert_eq!(set.missing_for_decode(), shape.data_rows().saturating_sub(distinct));
        // Only where it can change anything: decoding is the costly part.
        let last = input.0.is_empty();
        if last || (new && distinct.abs_diff(shape.data_rows()) < 2) {
            decodes(&set, distinct >= shape.data_rows(), payload, beyond);
        }
        if last {
            break;
        }
    }
}

fn decodes(set: &RowSet, enough: bool, payload: &[u8], beyond: &[u8]) {
    match set.payload() {
        Ok(decoded) => {
            assert!(enough && beyond.iter().all(|byte| *byte == 0));
            assert_eq!(decoded, payload);
        }
        Err(DecodeError::NotEnough { .. }) => return assert!(!enough && set.rebuild().is_err()),
        Err(DecodeError::Malformed) => assert!(enough && beyond.iter().any(|byte| *byte != 0)),
        Err(error) => panic!("{error}"),
    }
    let Rebuilt::Consistent(rebuilt) = set.rebuild().unwrap() else { panic!("honest rows are inconsistent") };
    assert_eq!(rebuilt.payload(), payload);
}
