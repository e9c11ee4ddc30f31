//! What the commands about logs print.

use crate::cli::schema::report;

report! {
    /// What `da log list` prints.
    LogListReport {
        /// Endpoint of the node that was asked.
        from: String,
        /// The logs that it knows.
        logs: Vec<LogReport>,
    }
}

report! {
    /// A log as a node knows it.
    LogReport {
        /// Address of the gateway whose log it is.
        log: String,
        /// Epoch of the latest checkpoint.
        epoch: u64,
        /// Entries under it.
        size: u64,
        /// Its root.
        root: String,
        /// When it was made, in unix seconds.
        timestamp: u64,
        /// Cosignatures that the node knows of.
        cosignatures: usize,
    }
}

report! {
    /// What `da log entries` prints.
    LogEntriesReport {
        /// Endpoint of the node that was asked.
        from: String,
        /// Address of the gateway whose log it is.
        log: String,
        /// Entries under the latest checkpoint.
        size: u64,
        /// The items from the start that was asked for.
        items: Vec<LogItemReport>,
    }
}

report! {
    /// An item of a log: an entry, or its leaf alone once it has expired.
    LogItemReport {
        /// Place in the log, from 0.
        index: u64,
        /// Hash of the entry.
        leaf: String,
        /// The blob's id.
        blob_id: Option<String>,
        /// Whose blob it is.
        namespace: Option<String>,
        /// keccak256(payload), or 32 zero bytes.
        payload_hash: Option<String>,
        /// Length of the payload in bytes.
        length: Option<u64>,
        /// Epoch of the committee that holds the rows.
        epoch: Option<u64>,
        /// When the entry was made, in unix seconds.
        time: Option<u64>,
        /// When the blob expires, in unix seconds.
        expiry: Option<u64>,
    }
}

report! {
    /// What `da log verify` prints.
    LogVerifyReport {
        /// Endpoint of the node that was asked.
        from: String,
        /// Address of the gateway whose log it is.
        log: String,
        /// Entries that were enumerated.
        size: u64,
        /// The root that they lead to, which is that of the checkpoint.
        root: String,
        /// When the checkpoint was made, in unix seconds.
        timestamp: u64,
        /// Items that are entries still.
        entries: u64,
        /// Items of which only the leaf is kept.
        leaves: u64,
        /// Labels of the regions whose cosignatures of this checkpoint the node has.
        regions: Vec<String>,
    }
}
