//! What was found damaged of the rows on disk, and how far they have been looked through.

use bytes::Bytes;
use meridian_proofs::ids::BlobId;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};

use super::{BLOBS, LEAVES, PASS, Part, Pass, QUARANTINE, RLCS, ROWS, Rows, SCRUB, part_key, quarantine_key};
use crate::replica::record::Record;
use crate::store::{Batch, Durability, StoreError};

impl Rows {
    /// Puts a part that was damaged in its place again.
    pub(in crate::replica) fn put_part(
        &self,
        batch: &mut Batch,
        id: &BlobId,
        part: Part,
        value: impl Into<Bytes>,
    ) {
        let (column, key) = part_key(id, part);
        batch.put(column, key, value);
        batch.delete(QUARANTINE, quarantine_key(id, part));
    }

    /// Takes a damaged part away, so that it is never read again, and notes that it is missing.
    pub(in crate::replica) fn quarantine(&self, batch: &mut Batch, id: &BlobId, part: Part, now: u64) {
        let (column, key) = part_key(id, part);
        batch.delete(column, key);
        batch.put(QUARANTINE, quarantine_key(id, part), now.to_be_bytes().to_vec());
    }

    /// Forgets that parts of a blob are missing.
    pub(in crate::replica) fn release(&self, batch: &mut Batch, id: &BlobId, parts: &[Part]) {
        parts.iter().for_each(|part| batch.delete(QUARANTINE, quarantine_key(id, *part)));
    }

    /// How many values are quarantined, at most `limit`.
    pub(in crate::replica) fn quarantined(&self, limit: usize) -> Result<usize, StoreError> {
        Ok(self.db.scan(QUARANTINE, &[], &[], limit)?.len())
    }

    /// The next blob after another of which something is quarantined.
    pub(in crate::replica) fn next_quarantined(
        &self,
        after: Option<&BlobId>,
    ) -> Result<Option<BlobId>, StoreError> {
        // No part begins with this byte.
        let start = after.map(|id| [&id.as_bytes()[..], &[u8::MAX]].concat()).unwrap_or_default();
        let Some(key) = self.db.next_key(QUARANTINE, &start)? else { return Ok(None) };
        let id = key.first_chunk::<32>().ok_or_else(|| self.db.damage(QUARANTINE, &key))?;
        Ok(Some(BlobId::from(*id)))
    }

    /// What is quarantined of a blob.
    pub(in crate::replica) fn quarantined_of(&self, id: &BlobId) -> Result<Vec<Part>, StoreError> {
        let keys = self.db.scan(QUARANTINE, id.as_bytes(), &[], usize::MAX)?;
        let decode = |(key, _): (Box<[u8]>, Bytes)| {
            key.get(32..).and_then(Part::decode).ok_or_else(|| self.db.damage(QUARANTINE, &key))
        };
        keys.into_iter().map(decode).collect()
    }

    /// Whether nothing of a blob is quarantined.
    pub(in crate::replica) fn is_whole(&self, id: &BlobId) -> Result<bool, StoreError> {
        Ok(!self.db.has_any(QUARANTINE, id.as_bytes())?)
    }

    /// Writes checked ranges again over those on disk of which something is quarantined.
    pub(in crate::replica) fn put_again(
        &self,
        batch: &mut Batch,
        context: &BlobContext,
        record: &Record,
        ranges: &[VerifiedRange],
    ) -> Result<(), StoreError> {
        let id = context.id();
        for part in self.quarantined_of(&id)? {
            let of_place = |place: usize| {
                let stored = record.ranges.get(place)?;
                Some((stored, ranges.iter().find(|verified| verified.range() == stored.range)))
            };
            let value = match part {
                Part::Record => None,
                Part::Rlc => Some(context.rlc().to_bytes().into()),
                Part::Leaves(place) => {
                    let same = of_place(place).and_then(|(_, same)| same);
                    same.map(|verified| Bytes::from(verified.leaves().concat()))
                }
                Part::Rows(place, piece) => of_place(place).and_then(|(stored, _)| {
                    let wanted = Self::piece_range(record, stored, piece)?;
                    let whole = ranges.iter().find(|verified| verified.range().contains_range(&wanted))?;
                    let row_bytes = context.shape().row_bytes();
                    let offset =
                        |row: u32| usize::try_from(row - whole.range().start()).map(|rows| rows * row_bytes);
                    let (start, end) = (offset(wanted.start()).ok()?, offset(wanted.end()).ok()?);
                    Some(Bytes::copy_from_slice(whole.rows().get(start..end)?))
                }),
            };
            if let Some(value) = value {
                self.put_part(batch, &id, part, value);
            }
        }
        Ok(())
    }

    /// Deletes what there is of a blob whose record cannot be read, by the keys. Gives the bytes of its rows.
    pub(in crate::replica) fn delete_unread(
        &self,
        batch: &mut Batch,
        id: &BlobId,
    ) -> Result<u64, StoreError> {
        let mut row_bytes = 0;
        for column in [BLOBS, RLCS, LEAVES, ROWS] {
            let mut start = id.as_bytes().to_vec();
            while let Some(key) = self.db.next_key(column, &start)?.filter(|it| it.starts_with(id.as_bytes()))
            {
                start = [&key[..], &[0]].concat();
                if column == ROWS {
                    row_bytes += self.db.length(column, &key)?;
                }
                batch.delete(column, key);
            }
        }
        Ok(row_bytes)
    }

    /// How far the scrub is.
    pub(in crate::replica) fn pass(&self) -> Result<Pass, StoreError> {
        let Some(value) = self.db.get(SCRUB, PASS)? else { return Ok(Pass::default()) };
        let decoded = value.split_first_chunk::<8>().and_then(|(began, rest)| {
            let (ended, done) = rest.split_first_chunk()?;
            let done = match done {
                [] => None,
                done => Some(BlobId::from(<[u8; 32]>::try_from(done).ok()?)),
            };
            Some(Pass { began: u64::from_be_bytes(*began), ended: u64::from_be_bytes(*ended), done })
        });
        decoded.ok_or_else(|| self.db.damage(SCRUB, PASS))
    }

    /// Notes how far the scrub is.
    pub(in crate::replica) fn put_pass(&self, pass: &Pass) -> Result<(), StoreError> {
        let done: &[u8] = pass.done.as_ref().map_or(&[], |id| id.as_bytes());
        let value = [&pass.began.to_be_bytes()[..], &pass.ended.to_be_bytes(), done].concat();
        let mut batch = Batch::new();
        batch.put(SCRUB, PASS, value);
        self.db.commit(batch, Durability::Relaxed)
    }
}
