//! Checks what is on disk of a blob: every value against its checksum, and every row against the blob id.

use std::ops::ControlFlow;

use meridian_proofs::ids::BlobId;

use super::record::Record;
use super::rows::{Part, Rows, context};
use crate::store::StoreError;

/// What is told of the bytes that were read, and says whether to go on.
pub(super) type Pace<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

impl Rows {
    /// What is damaged or missing of a blob. Nothing when `pace` has it stopped.
    ///
    /// # Errors
    /// When the disk fails otherwise, or the blob is dropped meanwhile.
    pub(super) fn check(&self, id: &BlobId, pace: Pace<'_>) -> Result<Option<Vec<Part>>, StoreError> {
        let record = match self.record(id) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Some(Vec::new())),
            Err(StoreError::Damaged { .. }) => return Ok(Some(vec![Part::Record])),
            Err(error) => return Err(error),
        };
        let mut damaged = Vec::new();
        let context = sound(context(self, *id, record.header), Part::Rlc, &mut damaged)?;
        for (place, stored) in record.ranges.iter().enumerate() {
            // Leaves that are what was written, and yet do not lead to the root: then the record may be wrong.
            let culprit = if self.has_leaves(id, place) { Part::Record } else { Part::Leaves(place) };
            let tree = sound(self.tree(id, &record, place), culprit, &mut damaged)?;
            if damaged.contains(&Part::Record) {
                return Ok(Some(vec![Part::Record]));
            }
            for piece in 0..Self::piece_count(&record, stored) {
                let part = Part::Rows(place, piece);
                let Some(range) = Self::piece_range(&record, stored, piece) else { continue };
                let Some(rows) = sound(self.rows(id, &record, place, &range), part, &mut damaged)? else {
                    continue;
                };
                if pace(rows.len()).is_break() {
                    return Ok(None);
                }
                // Without the vector or the leaves it is seen once those are repaired.
                let (Some(context), Some(proof)) =
                    (&context, tree.as_ref().and_then(|tree| tree.prove_range(range)))
                else {
                    continue;
                };
                if context.check_range(range, rows, &proof).is_err() {
                    damaged.push(part);
                }
            }
        }
        Ok(Some(damaged))
    }

    /// The first row of a part, for people.
    pub(super) fn first_row(record: &Record, part: Part) -> Option<u32> {
        match part {
            Part::Record | Part::Rlc => None,
            Part::Leaves(place) => record.ranges.get(place).map(|stored| stored.range.start()),
            Part::Rows(place, piece) => {
                let range = Self::piece_range(record, record.ranges.get(place)?, piece)?;
                Some(range.start())
            }
        }
    }
}

fn sound<T>(
    read: Result<T, StoreError>,
    part: Part,
    damaged: &mut Vec<Part>,
) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Damaged { .. }) => {
            damaged.push(part);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
