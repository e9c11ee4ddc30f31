//! What `da audit` and `da trace` print.

use crate::cli::schema::report;

report! {
    /// What `da audit` prints.
    AuditReport {
        /// Version of the program.
        version: String,
        /// When it began, in unix seconds.
        begun: u64,
        /// When it was done, in unix seconds.
        ended: u64,
        /// Entries made before this time are left out, in unix seconds; null where one blob was asked for.
        since: Option<u64>,
        /// Whether all rows of all blobs were asked for.
        deep: bool,
        /// Rows of each replica and blob that were drawn where not all were asked for.
        samples: usize,
        /// `identical`; `unavailable`: too much is out of reach or on its way still; `faulty`: somebody gives what is wrong
        /// or does not hold what it cosigned, or an entry is wrong.
        outcome: String,
        /// What it comes to, in one line.
        verdict: String,
        /// What the blobs were checked against.
        basis: String,
        /// Settled block up to which the chain was read; null without a chain.
        block: Option<u64>,
        /// Unix seconds of that block.
        block_timestamp: Option<u64>,
        /// Regions that a certificate needs.
        min_copies: usize,
        /// Entries that were audited.
        entries: usize,
        /// Those of them that are not under an anchor, and were checked against what `min_copies` regions cosigned.
        unanchored: usize,
        /// Distinct blobs that they name.
        distinct_blobs: usize,
        /// The logs.
        logs: Vec<AuditedLog>,
        /// The regions.
        regions: Vec<AuditedRegion>,
        /// The replicas.
        replicas: Vec<AuditedReplica>,
        /// The blobs, once for each epoch whose committee holds their rows.
        blobs: Vec<AuditedBlob>,
        /// The faults in the order in which they were seen, 1,000 at most.
        faults: Vec<SightingReport>,
        /// How many faults more there were.
        more_faults: usize,
        /// File that the page was written to.
        html: Option<String>,
    }
}

report! {
    /// A log as it was audited.
    AuditedLog {
        /// Address of the gateway whose log it is.
        log: String,
        /// Entries that were enumerated.
        size: u64,
        /// The root that they lead to.
        root: String,
        /// Those of them that are audited.
        entries: usize,
        /// Entries under its latest anchor.
        anchored_size: Option<u64>,
        /// Root of its latest anchor, to which the entries lead.
        anchored_root: Option<String>,
        /// Block of its latest anchor.
        anchored_block: Option<u64>,
        /// Entries that `min_copies` regions cosigned, as far as cosignatures are to be had.
        certified_size: Option<u64>,
        /// Epoch of the committee that cosigned.
        certified_epoch: Option<u64>,
        /// When that checkpoint was made, in unix seconds.
        certified_timestamp: Option<u64>,
        /// Labels of the regions that cosigned.
        certified_regions: Vec<String>,
        /// Items of which everybody who was asked gives only the hash: expired, or withheld.
        hidden: usize,
        /// Those of them that have certainly not expired.
        withheld: u64,
        /// Endpoint of the node that served the entries.
        from: Option<String>,
        /// What is wrong with the log.
        problems: Vec<String>,
    }
}

report! {
    /// What was found in a region.
    AuditedRegion {
        /// Its number.
        id: u16,
        /// Its label.
        label: String,
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
        /// `complete`, `faulty` or `unreachable`.
        state: String,
        /// Blobs of which it has to hold a copy.
        blobs: usize,
        /// Those whose copy is complete.
        complete: usize,
        /// Those whose payload was rebuilt from this region alone.
        rebuilt: usize,
    }
}

report! {
    /// What was found at a replica.
    AuditedReplica {
        /// Its address.
        replica: String,
        /// Label of its region.
        region: String,
        /// Number of its seat.
        seat: u16,
        /// Where it answers.
        endpoint: String,
        /// Audited entries of the epochs in which it has the seat.
        entries: usize,
        /// Those that it cosigned, as far as cosignatures are to be had.
        cosigned: usize,
        /// Rows that are those of the commitment.
        rows_right: u64,
        /// Rows in answers that are provably not right.
        rows_wrong: u64,
        /// Rows that it says it does not hold.
        rows_missing: u64,
        /// Rows about which it kept silent.
        rows_silent: u64,
        /// Microseconds that half of its answers took at most.
        latency_p50_us: Option<u64>,
        /// Microseconds that its slowest answer took.
        latency_max_us: Option<u64>,
        /// Its first fault.
        first_fault: Option<SightingReport>,
        /// Its last fault.
        last_fault: Option<SightingReport>,
    }
}

report! {
    /// A fault, and when it was seen.
    SightingReport {
        /// When, in unix seconds.
        at: u64,
        /// Address of the replica.
        replica: String,
        /// Label of its region.
        region: String,
        /// `silent`, `missing` or `wrong`.
        kind: String,
        /// What happened.
        message: String,
        /// The blob; null where it is about a log.
        blob_id: Option<String>,
        /// Rows of the blob that it is about.
        rows: u64,
        /// Whether the replica had cosigned the blob's entry.
        cosigned: bool,
    }
}

report! {
    /// What was found of a blob.
    AuditedBlob {
        /// Its id.
        blob_id: String,
        /// Epoch of the committee that holds its rows.
        epoch: u64,
        /// Length of the payload in bytes.
        length: u64,
        /// Whether all rows were asked for and the payload was rebuilt from each region alone.
        whole: bool,
        /// keccak256 of the payload, the same from every region that it was rebuilt from.
        payload_hash: Option<String>,
        /// What is wrong with the blob itself.
        defect: Option<String>,
        /// Labels of the regions whose copies are complete.
        complete: Vec<String>,
        /// Labels of the regions whose copies are not.
        incomplete: Vec<String>,
        /// Labels of the regions in which nobody answers.
        unreachable: Vec<String>,
        /// Its entries.
        entries: Vec<AuditedEntry>,
    }
}

report! {
    /// An entry that was audited.
    AuditedEntry {
        /// Address of the gateway whose log it is in.
        log: String,
        /// Place in the log, from 0.
        index: u64,
        /// When it was made, in unix seconds.
        time: u64,
        /// When the blob expires, in unix seconds.
        expiry: u64,
        /// Whether it is under an anchor.
        anchored: bool,
    }
}

report! {
    /// What `da trace` prints.
    TraceReport {
        /// The blob's id.
        blob_id: String,
        /// Length of the payload in bytes.
        length: u64,
        /// Whose blob it is.
        namespace: String,
        /// When the entry was made, in unix seconds.
        time: u64,
        /// When the blob expires, in unix seconds.
        expiry: u64,
        /// Seconds until then, 0 once it has expired.
        left_s: u64,
        /// Address of the gateway whose log it is in.
        gateway: String,
        /// Where that gateway answers.
        gateway_endpoint: Option<String>,
        /// Place in the log, from 0.
        index: u64,
        /// Epoch of the committee that holds its rows.
        epoch: u64,
        /// Entries under the checkpoint.
        checkpoint_size: u64,
        /// Root of the checkpoint.
        checkpoint_root: String,
        /// When the checkpoint was made, in unix seconds. No cosignature carries a time of its own.
        checkpoint_timestamp: u64,
        /// Settled block up to which the chain was read; null without a chain.
        block: Option<u64>,
        /// The first anchor that covers the entry; null without a chain, or while there is none.
        anchor: Option<TracedAnchor>,
        /// The regions.
        regions: Vec<TracedRegion>,
    }
}

report! {
    /// The first anchor that covers an entry.
    TracedAnchor {
        /// Hash of its transaction.
        transaction: String,
        /// Its block.
        block: u64,
        /// Unix seconds of the block.
        block_timestamp: u64,
        /// Entries under it.
        size: u64,
        /// Its root.
        root: String,
        /// When its checkpoint was made, in unix seconds.
        timestamp: u64,
        /// Epoch of the quorum that signed it.
        epoch: u64,
    }
}

report! {
    /// A region's copy.
    TracedRegion {
        /// Label of the region.
        region: String,
        /// Whether it is complete in the certificate.
        certified: bool,
        /// `complete`, `incomplete` or `unreachable` now, by a few rows of each replica.
        state: String,
        /// Its replicas.
        replicas: Vec<TracedReplica>,
    }
}

report! {
    /// A replica's part of a copy.
    TracedReplica {
        /// Its address.
        replica: String,
        /// Whether it cosigned the checkpoint.
        cosigned: bool,
        /// `right`, `wrong`, `missing` or `silent` now.
        state: String,
        /// Rows that were looked at.
        rows: u64,
        /// What happened instead of a right answer.
        message: Option<String>,
    }
}
