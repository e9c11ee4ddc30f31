//! Reads a range of a payload's bytes, from just the rows that cover it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, FuturesUnordered, StreamExt};
use meridian_proofs::committee::{RegionId, Seat};
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::BlobId;
use meridian_proofs::placement::{self, Interval};
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::{RowRange, Shape};
use meridian_proofs::{Address, B256};
use tokio::time::Instant;

use super::{Fault, FaultKind, Fetched, Found, ReadError, Reader, gather};
use crate::Progress;

/// Bytes of rows in one call.
const PART_BYTES: usize = 1 << 20;
/// Parts at once.
const PARTS: usize = 8;

/// A range of a payload that was read and checked.
#[derive(Clone, Debug)]
pub struct FetchedRange {
    /// The blob.
    pub id: BlobId,
    /// Its header.
    pub header: BlobHeader,
    /// The bytes of the range.
    pub bytes: Bytes,
    /// Bytes of the rows that were read for it.
    pub row_bytes: u64,
    /// The regions that gave rows, ascending.
    pub regions: Vec<RegionId>,
    /// What went wrong on the way.
    pub faults: Vec<Fault>,
}

impl Reader {
    /// Bytes of a blob's payload, from the first up to and without the last of the range.
    ///
    /// Fetches and checks only the rows that cover the range, and those with padding: where that is not zero nobody gets a
    /// payload. A blob with a KZG root, unless the reader ignores it, and one of which the replica that finds it says that it
    /// is no codeword, are read whole, because nothing less shows whether they have a payload; and so is one of which
    /// nobody gives just these rows.
    ///
    /// # Errors
    /// See [`ReadError`]. [`ReadError::Range`] when the payload has no such bytes.
    pub async fn range(
        &self,
        id: BlobId,
        range: Range<u64>,
        progress: &dyn Progress,
    ) -> Result<FetchedRange, ReadError> {
        let found = self.find(id).await?;
        let header = *found.context.header();
        let length = header.length.get();
        let outside = || ReadError::Range { start: range.start, end: range.end, length };
        if range.start >= range.end || range.end > length {
            return Err(outside());
        }
        let is_bound = header.kzg_root != B256::ZERO && !self.ignores_kzg;
        if is_bound || found.suspect {
            return self.read_whole(found, range, progress).await;
        }
        self.read_rows(found, range, progress).await
    }

    async fn read_rows(
        &self,
        found: Found,
        range: Range<u64>,
        progress: &dyn Progress,
    ) -> Result<FetchedRange, ReadError> {
        let context = Arc::clone(&found.context);
        let (id, header, shape) = (context.id(), *context.header(), context.shape());
        let wanted = wanted(shape, header.length.to_usize(), size(range.start)..size(range.end));
        self.probe(&context);
        progress.start(wanted.iter().map(|rows| gather::bytes(shape, *rows)).sum());
        let bytes = wanted.iter().map(|rows| gather::bytes(shape, *rows)).max().unwrap_or(0);
        let order = self.nearest.regions(&self.committee, bytes, |_| Duration::ZERO);
        let seats: Vec<Seat> = order.iter().flat_map(|region| self.seats(*region, bytes)).collect();
        let copies = Copies { reader: self, context: &context, seats: &seats, faults: Mutex::default() };
        let parts: Vec<RowRange> = wanted.into_iter().flat_map(|rows| copies.parts(rows)).collect();
        let row_bytes = parts.iter().map(|part| gather::bytes(shape, *part)).sum();
        let copied = &copies;
        let fetches = parts.into_iter().map(|part| async move {
            let rows = copied.any(part).await?;
            progress.advance(gather::bytes(shape, part));
            Some(rows)
        });
        // Collected: a stream of borrowing futures that is not is not known to be `Send`.
        let fetches: Vec<_> = fetches.collect();
        let mut fetched = stream::iter(fetches).buffered(PARTS);
        let (mut all, mut regions) = (Vec::new(), Vec::new());
        while let Some(rows) = fetched.next().await {
            let Some((rows, region)) = rows else {
                // What is left may hold places at the processor that nobody would give back.
                drop(fetched);
                let mut found = found;
                found.faults.extend(copies.into_faults());
                return self.read_whole(found, range, progress).await;
            };
            all.push(rows);
            regions.push(region);
        }
        drop(fetched);
        regions.sort_unstable();
        regions.dedup();
        let bytes = cut(shape, header.length.to_usize(), size(range.start)..size(range.end), &all)?;
        progress.finish();
        let mut faults = found.faults;
        faults.extend(copies.into_faults());
        Ok(FetchedRange { id, header, bytes, row_bytes, regions, faults })
    }

    /// Reads all of the payload, and cuts the range out of it.
    async fn read_whole(
        &self,
        found: Found,
        range: Range<u64>,
        progress: &dyn Progress,
    ) -> Result<FetchedRange, ReadError> {
        let Fetched { id, header, payload, regions, faults, .. } = self.read(found, progress).await?;
        let bytes = payload.slice(size(range.start)..size(range.end));
        let shape = Shape::of(header.length);
        Ok(FetchedRange { id, header, bytes, row_bytes: gather::bytes(shape, shape.data()), regions, faults })
    }
}

/// The copies of a blob's rows, and who did not give theirs.
struct Copies<'a> {
    reader: &'a Reader,
    context: &'a Arc<BlobContext>,
    /// In the order of asking.
    seats: &'a [Seat],
    /// Each seat's first.
    faults: Mutex<BTreeMap<Address, Fault>>,
}

impl Copies<'_> {
    fn faults(&self) -> MutexGuard<'_, BTreeMap<Address, Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_faults(self) -> impl Iterator<Item = Fault> {
        self.faults.into_inner().unwrap_or_else(PoisonError::into_inner).into_values()
    }

    fn interval(&self, seat: &Seat) -> Interval {
        placement::interval(&self.reader.committee, seat, &self.context.id(), self.context.shape())
    }

    /// A range of rows in parts, each of which is held by one seat where all of it is held by any.
    fn parts(&self, rows: RowRange) -> Vec<RowRange> {
        let shape = self.context.shape();
        let most = u32::try_from((PART_BYTES / shape.row_bytes()).max(1)).unwrap_or(u32::MAX);
        let mut parts = Vec::new();
        let mut next = rows.start();
        while next < rows.end() {
            let holds = |seat: &Seat| {
                let interval = self.interval(seat);
                let range = interval.ranges().iter().find(|held| (held.start()..held.end()).contains(&next));
                range.map(RowRange::end)
            };
            let held = self.seats.iter().find_map(holds).unwrap_or(rows.end());
            let end = held.min(rows.end()).min(next.saturating_add(most));
            parts.extend(shape.range(next, end - next));
            next = end;
        }
        parts
    }

    /// Verified rows from whoever has them: of the seats that hold them, and of the others, which have to rebuild them, only
    /// when none of those gives them in time. Whoever lied once is not asked, and whoever failed or is slow is asked last.
    async fn any(&self, rows: RowRange) -> Option<(VerifiedRange, RegionId)> {
        let bytes = gather::bytes(self.context.shape(), rows);
        let mut waiting: Vec<(bool, bool, &Seat)> = Vec::new();
        for seat in self.seats {
            let fault = self.faults().get(&seat.address).map(|fault| fault.kind);
            if fault != Some(FaultKind::Wrong) {
                let holds = self.interval(seat).ranges().iter().any(|held| held.contains_range(&rows));
                let expected = self.reader.nearest.expected(&seat.address, bytes);
                let is_slow = expected.is_some_and(|time| time >= gather::OVERDUE);
                waiting.push((is_slow || fault.is_some(), !holds, seat));
            }
        }
        waiting.sort_by_key(|(is_last, rebuilds, _)| (*is_last, *rebuilds));
        let mut waiting: VecDeque<_> = waiting.into();
        let mut calls = FuturesUnordered::new();
        // Who has not answered, how long that may take, and since when it was asked.
        let mut silent: Vec<(&Seat, Duration, Instant)> = Vec::new();
        loop {
            let (_, rebuilds, seat) = waiting.pop_front()?;
            // Soon only where it costs nobody more than reading: elsewhere rows are rebuilt.
            let is_held_elsewhere = waiting.front().is_some_and(|(_, rebuilds, _)| !rebuilds);
            let patience = if is_held_elsewhere {
                self.reader.nearest.patience(&seat.address, bytes)
            } else {
                gather::OVERDUE
            };
            let asked = Instant::now();
            silent.push((seat, patience, asked));
            let (reader, context) = (self.reader.clone(), Arc::clone(self.context));
            calls.push(
                async move { (seat, gather::fetch(reader, context, seat.clone(), rows, !rebuilds).await) },
            );
            let late = tokio::time::sleep_until(asked + patience);
            tokio::pin!(late);
            loop {
                tokio::select! {
                    Some((seat, answer)) = calls.next() => {
                        silent.retain(|(other, ..)| other.address != seat.address);
                        match answer {
                            Ok(rows) => {
                                self.reader.hedges.earn(bytes);
                                for (seat, patience, asked) in silent {
                                    self.note_silent(seat, patience, asked.elapsed());
                                }
                                return Some((rows, seat.region));
                            }
                            Err(fault) => {
                                fault.report();
                                self.reader.note(&fault);
                                self.faults().entry(fault.seat).or_insert(fault);
                            }
                        }
                        if !waiting.is_empty() {
                            break;
                        }
                        if calls.is_empty() {
                            return None;
                        }
                    }
                    () = &mut late, if !waiting.is_empty() => {
                        if asked.elapsed() >= gather::OVERDUE || self.reader.hedges.spend(bytes) {
                            break;
                        }
                        late.as_mut().reset(asked + gather::OVERDUE);
                    }
                }
            }
        }
    }

    /// Notes who did not answer before another did.
    fn note_silent(&self, seat: &Seat, patience: Duration, waited: Duration) {
        if waited > patience {
            self.reader.nearest.late(seat.address, waited);
        }
        if waited >= gather::OVERDUE {
            let fault = Fault::silent(seat, waited);
            fault.report();
            self.faults().entry(seat.address).or_insert(fault);
        }
    }
}

/// The data rows that cover a range of bytes, and those with padding.
fn wanted(shape: Shape, length: usize, range: Range<usize>) -> Vec<RowRange> {
    let width = shape.row_bytes();
    let covering = range.start / width..range.end.div_ceil(width);
    let padded = length / width..shape.data_rows();
    let (first, second) = if covering.end < padded.start {
        (covering, padded)
    } else {
        // Both in one, or no padding at all.
        (covering.start..covering.end.max(padded.end), 0..0)
    };
    let rows =
        |rows: Range<usize>| shape.range(u32::try_from(rows.start).ok()?, u32::try_from(rows.len()).ok()?);
    [first, second].into_iter().filter_map(rows).collect()
}

/// The bytes of a range from rows that cover it, in their order, once the padding is known to be zero.
fn cut(shape: Shape, length: usize, range: Range<usize>, rows: &[VerifiedRange]) -> Result<Bytes, ReadError> {
    let mut bytes = BytesMut::with_capacity(range.len());
    for rows in rows {
        let start = size(u64::from(rows.range().start())) * shape.row_bytes();
        let end = start + rows.rows().len();
        let padding = length.clamp(start, end) - start;
        if rows.rows()[padding..].iter().any(|byte| *byte != 0) {
            return Err(ReadError::Malformed);
        }
        let (from, to) = (range.start.clamp(start, end), range.end.clamp(start, end));
        bytes.extend_from_slice(&rows.rows()[from - start..to - start]);
    }
    if bytes.len() == range.len() {
        Ok(bytes.freeze())
    } else {
        Err(ReadError::Internal("rows do not cover the range".to_owned()))
    }
}

/// Bytes or rows of one blob.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use meridian_proofs::encode::encode;
    use meridian_proofs::hash::Blake3;
    use meridian_proofs::shape::PayloadLength;
    use proptest::prelude::*;

    use super::*;

    fn rows(shape: Shape, range: Range<usize>) -> Vec<(u32, u32)> {
        let length = shape.data_bytes() - 100;
        wanted(shape, length, range).iter().map(|rows| (rows.start(), rows.end())).collect()
    }

    #[test]
    fn rows_are_those_that_cover_the_range_and_the_padding() {
        // 256 rows of 512 bytes, the last of which has padding.
        let shape = Shape::of(PayloadLength::try_from(130_000_u64).unwrap());
        assert_eq!((shape.data_rows(), shape.row_bytes()), (256, 512));
        assert_eq!(rows(shape, 0..1), [(0, 1), (255, 256)]);
        assert_eq!(rows(shape, 511..512), [(0, 1), (255, 256)]);
        assert_eq!(rows(shape, 511..513), [(0, 2), (255, 256)]);
        assert_eq!(rows(shape, 512..1024), [(1, 2), (255, 256)]);
        assert_eq!(rows(shape, 130_000..130_560), [(253, 256)]);
        assert_eq!(rows(shape, 130_900..130_972), [(255, 256)]);
        assert_eq!(rows(shape, 0..130_972), [(0, 256)]);
        let full = wanted(shape, shape.data_bytes(), 0..1);
        assert_eq!(full.iter().map(|rows| (rows.start(), rows.end())).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn padding_that_is_not_zero_makes_every_range_malformed() {
        // As if the payload ended where there are other bytes still.
        let blob = encode::<Blake3>(&[7; 40_000], B256::ZERO).unwrap();
        let context = BlobContext::<Blake3>::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap();
        for length in [39_999, 39_000, 33_000] {
            let rows = wanted(blob.shape(), length, 0..5).into_iter();
            let rows: Vec<_> = rows.map(|rows| context.rows_of(&blob, rows).unwrap()).collect();
            assert_eq!(cut(blob.shape(), length, 0..5, &rows), Err(ReadError::Malformed), "{length}");
        }
        let rows: Vec<_> = wanted(blob.shape(), 40_000, 0..5)
            .into_iter()
            .map(|rows| context.rows_of(&blob, rows).unwrap())
            .collect();
        assert_eq!(cut(blob.shape(), 40_000, 0..5, &rows).unwrap(), vec![7; 5]);
    }

    proptest! {
        #[test]
        fn any_range_is_cut_from_its_rows(
            length in 1usize..40_000,
            range in any::<(prop::sample::Index, prop::sample::Index)>(),
            split in any::<prop::sample::Index>(),
        ) {
            let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0] | 1).collect();
            let blob = encode::<Blake3>(&payload, B256::ZERO).unwrap();
            let (from, to) = (range.0.index(length), range.1.index(length));
            let range = from.min(to)..from.max(to) + 1;
            let shape = blob.shape();
            let rlc = blob.rlc().clone();
            let context = BlobContext::<Blake3>::new(blob.id(), *blob.header(), rlc).unwrap();
            let mut verified = Vec::new();
            for rows in wanted(shape, length, range.clone()) {
                let cut = 1 + split.index(size(u64::from(rows.count())));
                let cut = u32::try_from(cut).unwrap();
                let parts = [(rows.start(), cut), (rows.start() + cut, rows.count() - cut)];
                for part in parts.into_iter().filter_map(|(start, count)| shape.range(start, count)) {
                    verified.push(context.rows_of(&blob, part).unwrap());
                }
            }
            prop_assert_eq!(cut(shape, length, range.clone(), &verified).unwrap(), &payload[range]);
        }
    }
}
