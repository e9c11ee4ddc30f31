//! Rows from just those replicas that hold them: what a repair of a few rows needs.

use std::sync::Arc;
use std::time::Duration;

use meridian_proofs::placement;
use meridian_proofs::row_proof::{BlobContext, VerifiedRange};
use meridian_proofs::shape::RowRange;

use super::{Fault, Reader, gather};

/// Longest wait for one replica.
const PATIENCE: Duration = Duration::from_secs(3);

impl Reader {
    /// Verified rows of a range from one replica that has to hold all of it, nearest region first.
    /// Nothing where none has to, or none of those gives them now. Also what went wrong.
    pub async fn held_range(
        &self,
        context: &Arc<BlobContext>,
        range: RowRange,
    ) -> (Option<VerifiedRange>, Vec<Fault>) {
        let (id, shape) = (context.id(), context.shape());
        let bytes = gather::bytes(shape, range);
        let mut faults = Vec::new();
        for region in self.nearest.regions(&self.committee, bytes, |_| Duration::ZERO) {
            for seat in self.seats(region, bytes) {
                let interval = placement::interval(&self.committee, &seat, &id, shape);
                let holds = interval.ranges().iter().any(|held| held.contains_range(&range));
                if !holds {
                    continue;
                }
                let call = gather::fetch(self.clone(), Arc::clone(context), seat.clone(), range, true);
                match tokio::time::timeout(PATIENCE, call).await {
                    Ok(Ok(rows)) => return (Some(rows), faults),
                    Ok(Err(fault)) => {
                        fault.report();
                        faults.push(fault);
                    }
                    Err(_) => {
                        self.nearest.failed(seat.address);
                        faults.push(Fault::silent(&seat, PATIENCE));
                    }
                }
            }
        }
        (None, faults)
    }
}
