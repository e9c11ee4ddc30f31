//! Tries ways that may have become better.

use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::committee::Seat;
use meridian_proofs::placement;
use meridian_proofs::row_proof::BlobContext;
use meridian_proto::convert::LookupKey;
use meridian_proto::error::{Class, Reason};
use tokio::time::Instant;

use super::{Reader, gather};
use crate::nearest::Took;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Reader {
    /// Asks seats of which nothing was heard for a while for a row of a blob, beside whatever goes on. Nobody waits for it.
    pub(super) fn probe(&self, context: &Arc<BlobContext>) {
        let seats = self.committee.seats().iter().filter(|seat| Some(seat.address) != self.without);
        for seat in self.nearest.to_probe(seats) {
            let (reader, context) = (self.clone(), Arc::clone(context));
            tokio::spawn(async move {
                if tokio::time::timeout(PATIENCE, reader.try_way(&context, &seat)).await.is_err() {
                    reader.nearest.failed(seat.address);
                }
                reader.nearest.probed(seat.address);
            });
        }
    }

    /// Measures a round trip and the time to the first byte of a row.
    async fn try_way(&self, context: &Arc<BlobContext>, seat: &Seat) {
        let begun = Instant::now();
        let lookup = async {
            let replica = self.channels.replica(&seat.endpoint)?.within(PATIENCE);
            replica.lookup(LookupKey::Blob(context.id()), false).await
        };
        match lookup.await {
            Err(error) if error.reason == Reason::Unreachable => self.nearest.failed(seat.address),
            // Whoever does not know the blob has answered all the same.
            Err(error) if error.class() == Class::Unknown => {
                self.nearest.answered(seat.address, Took::RoundTrip(begun.elapsed()));
            }
            Err(_) => self.nearest.failed(seat.address),
            Ok(_) => {
                self.nearest.answered(seat.address, Took::RoundTrip(begun.elapsed()));
                let interval = placement::interval(&self.committee, seat, &context.id(), context.shape());
                let first =
                    interval.ranges().first().and_then(|range| context.shape().range(range.start(), 1));
                let Some(row) = first else { return };
                let row = gather::fetch(self.clone(), Arc::clone(context), seat.clone(), row, true);
                if let Err(fault) = row.await {
                    fault.report();
                    self.nearest.failed(seat.address);
                }
            }
        }
    }
}
