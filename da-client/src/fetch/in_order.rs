//! Gives out a payload while it is read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, ready};
use meridian_proofs::B256;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::ids::BlobId;
use meridian_proofs::row_proof::VerifiedRange;
use meridian_proofs::shape::Shape;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::{ReadError, Reader};
use crate::Silent;

/// The bytes of a payload, in order, each given out once it is verified.
///
/// What was given out before an error was right, and what follows is not to be had: whoever must not act on a part of a
/// payload waits for the end. To drop it stops the work.
pub struct PayloadStream {
    pieces: mpsc::UnboundedReceiver<Piece>,
    /// Aborts the work when it is dropped.
    _work: JoinSet<()>,
    is_over: bool,
}

enum Piece {
    Bytes(Bytes),
    /// The last one.
    End(Result<(), ReadError>),
}

impl Reader {
    /// The payload of a blob, in order, while it is read: each row is of the blob, whatever the others are.
    ///
    /// The rows with padding are read first, because nobody has a payload of a blob with another padding than zero. From a
    /// region without data rows nothing comes before all is decoded; nor does anything of a blob with a KZG root, unless the
    /// reader ignores it, before the root is checked, or of one of which a replica says that it is no codeword.
    #[must_use]
    pub fn stream(&self, id: BlobId) -> PayloadStream {
        let (sender, pieces) = mpsc::unbounded_channel();
        let reader = self.clone();
        let mut work = JoinSet::new();
        let read = async move {
            let end = reader.give_out(id, &sender).await;
            drop(sender.send(Piece::End(end)));
        };
        work.spawn(read.in_current_span());
        PayloadStream { pieces, _work: work, is_over: false }
    }

    async fn give_out(&self, id: BlobId, pieces: &mpsc::UnboundedSender<Piece>) -> Result<(), ReadError> {
        let found = self.open(id).await?;
        let header = *found.context.header();
        let is_bound = header.kzg_root != B256::ZERO && !self.ignores_kzg;
        let in_order = (!is_bound && !found.suspect).then(|| InOrder::new(header, pieces.clone()));
        let fetched = self.read_unbound(found, in_order.as_ref(), &Silent).await?;
        let fetched = self.bind(fetched, &Silent).await?;
        let given = in_order.map_or(0, InOrder::given);
        if given < fetched.payload.len() {
            drop(pieces.send(Piece::Bytes(fetched.payload.slice(given..))));
        }
        Ok(())
    }
}

impl Stream for PayloadStream {
    type Item = Result<Bytes, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(context));
        Poll::Ready(match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            Some(Piece::End(end)) => {
                self.is_over = true;
                end.err().map(Err)
            }
            None => {
                self.is_over = true;
                Some(Err(ReadError::Internal("the task that reads has failed".to_owned())))
            }
        })
    }
}

/// Gives out data rows in their order, once the padding is known to be zero.
pub(super) struct InOrder {
    shape: Shape,
    length: usize,
    pieces: mpsc::UnboundedSender<Piece>,
    state: Mutex<State>,
}

struct State {
    /// Data rows that wait for others, by their first.
    waiting: BTreeMap<usize, (usize, Bytes)>,
    /// Rows with padding that are not here yet.
    padded: Vec<usize>,
    /// There is no payload.
    is_malformed: bool,
    /// Bytes that were given out.
    given: usize,
}

impl InOrder {
    fn new(header: BlobHeader, pieces: mpsc::UnboundedSender<Piece>) -> Self {
        let (shape, length) = (header.shape(), header.length.to_usize());
        let padded = (length / shape.row_bytes()..shape.data_rows()).collect();
        let state = State { waiting: BTreeMap::new(), padded, is_malformed: false, given: 0 };
        Self { shape, length, pieces, state: Mutex::new(state) }
    }

    /// Bytes that were given out.
    fn given(self) -> usize {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).given
    }

    /// Takes rows, and gives out what has become ready.
    pub(super) fn add(&self, rows: &VerifiedRange) {
        let width = self.shape.row_bytes();
        let at = |row: u32| usize::try_from(row).unwrap_or(usize::MAX);
        let (start, end) = (at(rows.range().start()), at(rows.range().end()).min(self.shape.data_rows()));
        if start >= end {
            return;
        }
        let bytes = rows.rows().slice(..(end - start) * width);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let padding = self.length.clamp(start * width, end * width) - start * width;
        state.is_malformed |= bytes[padding..].iter().any(|byte| *byte != 0);
        state.padded.retain(|row| !(start..end).contains(row));
        let waiting = state.waiting.entry(start).or_default();
        if waiting.0 < end {
            *waiting = (end, bytes);
        }
        if !state.padded.is_empty() || state.is_malformed {
            return;
        }
        while let Some(piece) = state.next(width, self.length) {
            let bytes = piece.1.slice(piece.0);
            state.given += bytes.len();
            drop(self.pieces.send(Piece::Bytes(bytes)));
        }
    }
}

impl State {
    /// Which bytes of which rows come next, if they are here.
    fn next(&mut self, width: usize, length: usize) -> Option<(Range<usize>, Bytes)> {
        while let Some(rows) = self.waiting.first_entry() {
            let (start, end) = (rows.key() * width, (rows.get().0 * width).min(length));
            if start > self.given {
                return None;
            }
            let (_, bytes) = rows.remove();
            // Others may have brought the same rows before.
            if end > self.given {
                return Some((self.given - start..end - start, bytes));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meridian_proofs::encode::encode;
    use meridian_proofs::hash::Blake3;
    use meridian_proofs::row_proof::BlobContext;
    use proptest::prelude::*;

    use super::*;

    fn drain(pieces: &mut mpsc::UnboundedReceiver<Piece>) -> Vec<u8> {
        let mut all = Vec::new();
        while let Ok(Piece::Bytes(bytes)) = pieces.try_recv() {
            assert!(!bytes.is_empty());
            all.extend_from_slice(&bytes);
        }
        all
    }

    proptest! {
        #[test]
        fn rows_in_any_order_and_twice_come_out_once_and_in_order(
            length in 1_usize..40_000,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            order in any::<prop::sample::Index>(),
            again in any::<prop::sample::Index>(),
        ) {
            let payload: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0] | 1).collect();
            let blob = encode::<Blake3>(&payload, B256::ZERO).unwrap();
            let context = BlobContext::<Blake3>::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap();
            let (sender, mut pieces) = mpsc::unbounded_channel();
            let in_order = InOrder::new(*blob.header(), sender);
            // Some parity rows as well.
            let total = blob.shape().data_rows() + 3;
            let cuts: BTreeSet<usize> = cuts.iter().map(|cut| cut.index(total)).chain([0, total]).collect();
            let cuts: Vec<usize> = cuts.into_iter().collect();
            let mut parts: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let places = parts.len();
            parts.rotate_left(order.index(places));
            parts.push(parts[again.index(places)]);
            let mut seen = Vec::new();
            for (start, end) in parts {
                let range = blob.shape().range(u32::try_from(start).unwrap(), u32::try_from(end - start).unwrap());
                in_order.add(&context.rows_of(&blob, range.unwrap()).unwrap());
                seen.extend(drain(&mut pieces));
                prop_assert_eq!(&seen[..], &payload[..seen.len()]);
            }
            prop_assert_eq!(in_order.given(), length);
            prop_assert_eq!(seen, payload);
        }
    }

    #[test]
    fn nothing_comes_out_before_the_padding_is_known_or_where_it_is_not_zero() {
        let blob = encode::<Blake3>(&[7; 40_000], B256::ZERO).unwrap();
        let context = BlobContext::<Blake3>::new(blob.id(), *blob.header(), blob.rlc().clone()).unwrap();
        let rows = |start, count| context.rows_of(&blob, blob.shape().range(start, count).unwrap()).unwrap();
        let data = u32::try_from(blob.shape().data_rows()).unwrap();
        for (shorter, expected) in [(0, 40_000), (1, 0), (3_000, 0)] {
            let length = (40_000_u64 - shorter).try_into().unwrap();
            let (sender, mut pieces) = mpsc::unbounded_channel();
            let in_order = InOrder::new(BlobHeader { length, ..*blob.header() }, sender);
            assert_eq!(Shape::of(length), blob.shape());
            in_order.add(&rows(0, data - 1));
            assert_eq!(drain(&mut pieces).len(), 0);
            in_order.add(&rows(data - 1, 1));
            assert_eq!(drain(&mut pieces).len(), expected);
        }
    }

    #[tokio::test]
    async fn work_that_fails_is_no_end() {
        use futures::StreamExt;
        let (sender, pieces) = mpsc::unbounded_channel();
        drop(sender.send(Piece::Bytes(Bytes::from_static(b"x"))));
        drop(sender);
        let mut stream = PayloadStream { pieces, _work: JoinSet::new(), is_over: false };
        assert_eq!(stream.next().await, Some(Ok(Bytes::from_static(b"x"))));
        assert!(matches!(stream.next().await, Some(Err(ReadError::Internal(_)))));
        assert_eq!(stream.next().await, None);
    }
}
