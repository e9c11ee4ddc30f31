//! Places at which tests have this process killed: before and after each write, sync, append, signature and answer.
//!
//! They are marked with `fail_point!` and are there only with the feature `points`, which the tests' package asks for and a
//! program that is built alone has not.

/// Places in the store, in the order in which a write comes to them; then those of giving space back.
pub const OF_STORE: [&str; 9] = [
    "before-values",
    "segment-made",
    "values-written",
    "values-synced",
    "before-batch",
    "batch-written",
    "values-moved",
    "before-segments-go",
    "segment-gone",
];

/// Places in a replica.
pub const OF_REPLICA: [&str; 4] = ["rows-kept", "upload-answer", "before-cosignature", "cosigned"];

/// Places in a gateway.
pub const OF_GATEWAY: [&str; 6] =
    ["payload-encoded", "before-entries", "entries-appended", "cosignature-taken", "certified", "put-answer"];

/// Environment variable that says where and when: `PLACE:N`, at the Nth time.
pub const KILL_AT: &str = "KILL_AT";

/// Has this process killed where [`KILL_AT`] says.
#[cfg(feature = "points")]
pub fn arm() {
    use std::sync::atomic::{AtomicU64, Ordering};

    let Ok(at) = std::env::var(KILL_AT) else { return };
    let Some((place, Ok(times))) = at.split_once(':').map(|(place, times)| (place, times.parse())) else {
        return tracing::error!(at, "this names no place and number");
    };
    let left = AtomicU64::new(times);
    let reached = move || {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nothing else of this process goes on, as when the kernel ends it.
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        }
    };
    if let Err(error) = fail::cfg_callback(place, reached) {
        tracing::error!(place, error, "no process can be killed there");
    }
}
