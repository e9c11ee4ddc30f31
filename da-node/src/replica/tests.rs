mod cache;
mod cosign;
mod epochs;
mod ingest;
mod peers;
mod retention;
mod scrub;
mod seats;
mod serve;

use meridian_proto::error::{ApiError, Reason};

/// The reason of a refusal.
fn refused<T>(result: Result<T, ApiError>) -> Reason {
    result.err().expect("not refused").reason
}
