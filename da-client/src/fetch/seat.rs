//! What one seat holds of a blob: asked of nobody else, and named where it is not right.

use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::committee::Seat;
use meridian_proofs::ids::BlobId;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::RowRange;
use meridian_proto::convert::{Candidate, LookupKey};
use meridian_proto::error::{ApiError, Reason};
use tokio::time::Instant;

use super::{Fault, Reader};

/// An answer of a seat, and the time until all of it was there.
type Timed<T> = Result<(T, Duration), Fault>;

impl Reader {
    /// What a seat says of a blob. Its header has the blob's id, nothing else is checked.
    pub(crate) async fn look_up_at(&self, seat: &Seat, id: BlobId, patience: Duration) -> Timed<Candidate> {
        let started = Instant::now();
        let call = async {
            let replica = self.channels.replica(&seat.endpoint)?.within(patience);
            replica.lookup(LookupKey::Blob(id), true).await
        };
        let candidates: Vec<Candidate> = call.await.map_err(|error: ApiError| Fault::of(seat, &error))?;
        let took = started.elapsed();
        let candidate = candidates.into_iter().find(|candidate| candidate.header.id() == id);
        let candidate = candidate.ok_or_else(|| Fault::wrong(seat, "the header is of another blob"))?;
        Ok((candidate, took))
    }

    /// Verified rows that a seat has on disk.
    pub(crate) async fn held_by(
        &self,
        context: &Arc<BlobContext>,
        seat: &Seat,
        range: RowRange,
        patience: Duration,
    ) -> Timed<VerifiedRange> {
        let started = Instant::now();
        let call = async {
            let replica = self.channels.replica(&seat.endpoint)?.within(patience);
            replica.rows(context.id(), range, context.shape().row_bytes(), true).await
        };
        let (rows, proof) = call.await.map_err(|error: ApiError| match error.reason {
            // On its disk they are not, whatever it does about that.
            Reason::RowsMissing | Reason::StoreDamaged => Fault::missing(seat, error.message),
            _ => Fault::of(seat, &error),
        })?;
        let (took, context) = (started.elapsed(), Arc::clone(context));
        let checked = self.compute(move || context.check_range(range, rows, &proof)).await;
        match checked {
            Ok(checked) => checked.map(|rows| (rows, took)).map_err(|error| Fault::wrong(seat, error)),
            // A failure of this program is nobody's lie.
            Err(error) => Err(Fault { kind: super::FaultKind::Silent, ..Fault::wrong(seat, error) }),
        }
    }
}
