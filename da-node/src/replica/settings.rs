//! What can be set of a replica.

use serde::{Deserialize, Serialize};

use crate::config::documented;

documented! {
    /// Settings of a replica.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Settings {
        /// Bytes for uploads in flight. The largest blob's rows need up to 512 MiB.
        pub upload_memory_bytes: u64,
        /// Bytes for blobs that are being rebuilt for readers, and as many again for repairs. The largest one needs 1 GiB.
        pub rebuild_memory_bytes: u64,
        /// Blobs that are rebuilt at a time, for readers and for repairs each.
        pub rebuilds: usize,
        /// Blobs that may wait to be rebuilt, for readers and for repairs each; more are refused as overloaded.
        pub rebuild_queue: usize,
        /// Bytes of rebuilt blobs that are kept while they are sampled, beside those that are being rebuilt; 0 for none. A blob
        /// takes four times its payload and its tree: the largest one 515 MiB.
        pub cache_bytes: u64,
        /// Seconds after which such a blob goes that nobody asks for.
        pub cache_idle_seconds: u64,
        /// Closures of work for the processor that run at a time, 0 for one a core.
        pub cpu_threads: usize,
        /// Milliseconds that an upload may take from its first message to its last.
        pub upload_ms: u64,
        /// Milliseconds that a repair waits for an upload of the same blob.
        pub repair_wait_ms: u64,
        /// Seconds after which rows are dropped that no cosigned entry names.
        pub unsigned_seconds: u64,
        /// Seconds for which rows are kept after their last entry has expired, no less than `unsigned_seconds`: a gateway may
        /// count on them that long for an entry that is to come.
        pub expiry_grace_seconds: u64,
        /// Seconds between two looks for rows that nobody is owed.
        pub sweep_seconds: u64,
        /// Seconds from the beginning of one check of all that is on disk to the beginning of the next.
        pub scrub_period_seconds: u64,
        /// Bytes a second that this check reads at most.
        pub scrub_bytes_per_second: u64,
    }
    elsewhere {
        /// Most bytes of rows that are kept, 0 for no limit: `storage.max_bytes`.
        pub max_bytes: u64,
        /// Bytes of the disk that stay free: `node.min_free_bytes`.
        pub min_free_bytes: u64,
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_bytes: 0,
            min_free_bytes: 0,
            upload_memory_bytes: 1 << 30,
            rebuild_memory_bytes: 1 << 30,
            rebuilds: 2,
            rebuild_queue: 64,
            cache_bytes: 1 << 30,
            cache_idle_seconds: 300,
            cpu_threads: 0,
            upload_ms: 60_000,
            repair_wait_ms: 60_000,
            unsigned_seconds: 3600,
            expiry_grace_seconds: 3600,
            sweep_seconds: 60,
            scrub_period_seconds: 7 * 24 * 3600,
            scrub_bytes_per_second: 32 << 20,
        }
    }
}

impl Settings {
    /// Checks that the values make sense.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("upload_memory_bytes", self.upload_memory_bytes),
            ("rebuild_memory_bytes", self.rebuild_memory_bytes),
            ("cache_idle_seconds", self.cache_idle_seconds),
            ("upload_ms", self.upload_ms),
            ("unsigned_seconds", self.unsigned_seconds),
            ("sweep_seconds", self.sweep_seconds),
            ("scrub_period_seconds", self.scrub_period_seconds),
            ("scrub_bytes_per_second", self.scrub_bytes_per_second),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name} is 0")),
            None if self.expiry_grace_seconds < self.unsigned_seconds => {
                Err("expiry_grace_seconds is less than unsigned_seconds".to_owned())
            }
            None if self.rebuilds == 0 => Err("rebuilds is 0".to_owned()),
            None => Ok(()),
        }
    }
}
