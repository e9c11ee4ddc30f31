//! What each command prints with `--json`.

use super::schema::{Described, Key, keys_of, report};

report! {
    /// What `da put` prints.
    PutReport {
        /// The blob's id, computed from the payload.
        blob_id: String,
        /// Length of the payload in bytes.
        length: u64,
        /// Namespace of the entry, 32 bytes in hex.
        namespace: String,
        /// keccak256(payload) when `--bind-payload-hash` was given, else 32 zero bytes.
        payload_hash: String,
        /// Root of the payload's KZG commitments with `--kzg`, else 32 zero bytes.
        kzg_root: String,
        /// Endpoint of the gateway that gave the certificate.
        gateway: String,
        /// Address of the log that the entry is in.
        log: String,
        /// Place of the entry in the log, from 0.
        index: u64,
        /// Epoch of the committee.
        epoch: u64,
        /// When the entry was made, in unix seconds.
        time: u64,
        /// When the blob expires, in unix seconds.
        expiry: u64,
        /// Labels of the regions that are complete in the certificate.
        regions: Vec<String>,
        /// Number of replicas that signed.
        signers: usize,
        /// The certificate in its flat form, in hex.
        certificate: String,
        /// File that the certificate was written to.
        certificate_file: Option<String>,
        /// Gateways that were tried before and failed.
        failed: Vec<FailedGateway>,
        /// Milliseconds from the first byte sent to the certificate checked.
        millis: u64,
    }
}

report! {
    /// A gateway that failed.
    FailedGateway {
        /// Its endpoint.
        gateway: String,
        /// Stable reason.
        reason: String,
        /// What happened.
        message: String,
    }
}

report! {
    /// What `da id` prints.
    IdReport {
        /// The blob's id.
        blob_id: String,
        /// Length of the payload in bytes.
        length: u64,
        /// keccak256(payload).
        payload_hash: String,
        /// Root of the payload's KZG commitments with `--kzg`, else 32 zero bytes.
        kzg_root: String,
        /// Data rows, K. Four times as many are stored.
        data_rows: usize,
        /// Bytes of a row, W.
        row_bytes: usize,
    }
}

report! {
    /// What `da get` prints.
    GetReport {
        /// The blob's id.
        blob_id: String,
        /// Length of the payload in bytes.
        length: u64,
        /// Root of KZG commitments that the header names, which are those of the payload unless `--ignore-kzg` was given;
        /// 32 zero bytes without.
        kzg_root: String,
        /// File that the payload was written to.
        out: String,
        /// Labels of the regions that it was read from, the one that gave most first.
        regions: Vec<String>,
        /// What replicas did instead of answering rightly.
        faults: Vec<FaultReport>,
        /// Milliseconds from the first question to the payload checked.
        millis: u64,
    }
}

report! {
    /// What `da open` prints. Whoever has the header's `kzg_root` needs nothing else to check it.
    OpenReport {
        /// The blob's id.
        blob_id: String,
        /// Length of the payload in bytes.
        length: u64,
        /// keccak256 of all commitments, as the header has it.
        kzg_root: String,
        /// First byte of the range.
        start: u64,
        /// Byte after the range's last.
        end: u64,
        /// The bytes of the range, in hex.
        bytes: String,
        /// Commitments to all polynomials of the payload, in order, 48 bytes in hex each.
        commitments: Vec<String>,
        /// Openings of all elements of 31 bytes that the range touches, in order, each checked.
        openings: Vec<OpeningReport>,
        /// Milliseconds that it took.
        millis: u64,
    }
}

report! {
    /// An opening of one element.
    OpeningReport {
        /// Offset in the payload of the element's first byte.
        offset: u64,
        /// The polynomial, from 0.
        polynomial: usize,
        /// The element of the polynomial, from 0 to 4095.
        element: usize,
        /// SHA-256 of the commitment with the first byte set to 1.
        versioned_hash: String,
        /// Point of evaluation.
        z: String,
        /// Value there: a zero byte, then the element's 31 bytes.
        y: String,
        /// Commitment to the polynomial.
        commitment: String,
        /// Proof.
        proof: String,
        /// Input of the point-evaluation precompile: the five above, 192 bytes in hex.
        input: String,
    }
}

report! {
    /// A replica that failed to answer.
    FaultReport {
        /// Address of the replica's seat.
        replica: String,
        /// Label of its region.
        region: String,
        /// `silent`, `missing` or `wrong`.
        kind: String,
        /// What happened.
        message: String,
    }
}

report! {
    /// What `da cert show`, `da cert verify` and `da cert fetch` print.
    CertReport {
        /// The blob's id.
        blob_id: String,
        /// Length of the payload in bytes.
        length: u64,
        /// Root of the tree over the rows.
        row_root: String,
        /// Commitment to the RLC vector.
        rlc_root: String,
        /// Commitment to the KZG binding, zero without one.
        kzg_root: String,
        /// Namespace of the entry.
        namespace: String,
        /// keccak256(payload), or 32 zero bytes.
        payload_hash: String,
        /// When the entry was made, in unix seconds.
        time: u64,
        /// When the blob expires, in unix seconds.
        expiry: u64,
        /// Address of the gateway whose log it is in.
        log: String,
        /// Place of the entry in the log, from 0.
        index: u64,
        /// Epoch of entry and checkpoint.
        epoch: u64,
        /// Entries under the checkpoint.
        checkpoint_size: u64,
        /// Root of the log under the checkpoint.
        checkpoint_root: String,
        /// When the checkpoint was made, in unix seconds.
        checkpoint_timestamp: u64,
        /// Number of cosignatures.
        cosignatures: usize,
        /// Whether it holds under the committee of its epoch. False for `cert show` without a committee.
        verified: bool,
        /// What is wrong with it. Only `cert verify` with `--chain`.
        problem: Option<String>,
        /// What the contract says of it, as in protocol section 15. Only `cert verify` with `--chain`.
        contract_status: Option<String>,
        /// Whether the contract knows its entry under an anchored root. Only where its epoch has closed.
        contract_anchored: Option<bool>,
        /// Whether a payload was compared with it, KZG binding included. Only `cert verify --payload`.
        payload_verified: bool,
        /// Labels of the regions that are complete in it. Empty when it was not checked.
        regions: Vec<String>,
        /// Addresses of the replicas that signed. Empty when it was not checked.
        signers: Vec<String>,
        /// The certificate in its flat form, in hex.
        certificate: String,
        /// File that the certificate was written to.
        certificate_file: Option<String>,
    }
}

report! {
    /// What `da sample` prints.
    SampleReport {
        /// The blob's id.
        blob_id: String,
        /// Rows that were drawn, s.
        drawn: usize,
        /// Rows that verified, v.
        verified: usize,
        /// Rows that are enough to decode, K.
        data_rows: usize,
        /// All rows, T.
        total_rows: usize,
        /// Probability of at least v at most this, if fewer than K rows could be had.
        bound_unavailable: f64,
        /// Probability of at least v at most this, if the blob were badly encoded and nobody honest held it.
        bound_misencoded: f64,
        /// Clients that an adversary who answers K-1 rows can fool: floor((K-1)/s).
        clients_fooled: usize,
        /// Whether the blob was decoded, encoded again and compared instead, because s is K or more.
        exact: bool,
        /// The rows that were drawn.
        rows: Vec<SampleRow>,
        /// Labels of the regions that gave verified rows.
        regions: Vec<String>,
        /// What replicas did instead of answering rightly.
        faults: Vec<FaultReport>,
        /// Milliseconds that it took.
        millis: u64,
    }
}

report! {
    /// A row that was drawn.
    SampleRow {
        /// Its index.
        index: u32,
        /// Whether it verified.
        verified: bool,
    }
}

report! {
    /// What `da regions` prints.
    RegionsReport {
        /// Epoch of the committee.
        epoch: u64,
        /// Complete regions that a certificate needs.
        min_copies: usize,
        /// The regions, nearest first.
        regions: Vec<RegionReport>,
    }
}

report! {
    /// A region.
    RegionReport {
        /// Its id.
        id: u16,
        /// Its label.
        label: String,
        /// Microseconds of the round trip to its nearest seat.
        round_trip_us: Option<u64>,
        /// Seats that answer.
        reachable: usize,
        /// All seats.
        seats: usize,
        /// Seats that make it complete.
        quorum: usize,
        /// Logs that its seats cosign, with the largest size that one of them knows.
        logs: Vec<LogSize>,
    }
}

report! {
    /// A log and its size.
    LogSize {
        /// Address of the gateway whose log it is.
        log: String,
        /// Entries.
        size: u64,
    }
}

report! {
    /// What `da committee` prints.
    CommitteeReport {
        /// Chain id of all signatures, 0 without a chain.
        chain_id: u64,
        /// Contract of all signatures, zero without a chain.
        contract: String,
        /// Settled block that this is as of. Absent without a chain.
        block: Option<u64>,
        /// Its time, in unix seconds. Absent without a chain.
        block_timestamp: Option<u64>,
        /// The epochs, the latest first. Without a chain the only one.
        epochs: Vec<EpochReport>,
    }
}

report! {
    /// An epoch.
    EpochReport {
        /// Its number.
        epoch: u64,
        /// `scheduled`, `current`, `grace` or `closed`.
        state: String,
        /// When it begins, in unix seconds. Absent without a chain.
        activation: Option<u64>,
        /// When its grace ends, in unix seconds. Absent while no epoch follows.
        closes: Option<u64>,
        /// Fingerprint of the committee.
        fingerprint: String,
        /// keccak256 of the members, which the contract keeps. Absent where a contract would not take the committee.
        members: Option<String>,
        /// Number of regions.
        regions: usize,
        /// Number of seats.
        seats: usize,
        /// Number of gateways.
        gateways: usize,
        /// Complete regions that a certificate needs.
        min_copies: usize,
    }
}

report! {
    /// What `da status` prints.
    StatusReport {
        /// Epoch of the committee.
        epoch: u64,
        /// Fingerprint of the committee.
        committee: String,
        /// Settled block of the chain that anchors are as of. Absent without a chain.
        block: Option<u64>,
        /// Its time, in unix seconds. Absent without a chain.
        block_timestamp: Option<u64>,
        /// The gateways.
        gateways: Vec<GatewayReport>,
        /// The replicas.
        replicas: Vec<ReplicaReport>,
    }
}

report! {
    /// A gateway's state.
    GatewayReport {
        /// Its endpoint.
        endpoint: String,
        /// Whether it answers.
        reachable: bool,
        /// Its address, as it says.
        address: Option<String>,
        /// Entries in its log.
        log_size: Option<u64>,
        /// Entries under its last certified checkpoint.
        certified_size: Option<u64>,
        /// Puts in flight.
        puts_in_flight: Option<u64>,
        /// Blobs that at least one region does not hold yet.
        uploads_pending: Option<u64>,
        /// Entries under its last anchor. Absent without one, as the next three.
        anchored_size: Option<u64>,
        /// Epoch of its last anchor.
        anchored_epoch: Option<u64>,
        /// Block of its last anchor.
        anchored_block: Option<u64>,
        /// Seconds since the checkpoint of its last anchor.
        anchor_age_s: Option<u64>,
        /// Certified entries that are not anchored yet. Absent without a chain.
        anchor_waiting: Option<u64>,
        /// Version of its program.
        version: Option<String>,
        /// Why it does not answer.
        error: Option<String>,
    }
}

report! {
    /// A replica's state.
    ReplicaReport {
        /// Address of its seat.
        address: String,
        /// Label of its region.
        region: String,
        /// Number of its seat.
        seat: u16,
        /// Its endpoint.
        endpoint: String,
        /// Whether it answers.
        reachable: bool,
        /// Microseconds of the round trip.
        round_trip_us: Option<u64>,
        /// Blobs of which it holds its rows.
        blobs: Option<u64>,
        /// Bytes of rows that it holds.
        row_bytes: Option<u64>,
        /// Most bytes of rows that it takes, 0 for no limit.
        max_bytes: Option<u64>,
        /// Logs that it cosigns.
        logs: Option<u64>,
        /// Version of its program.
        version: Option<String>,
        /// Why it does not answer.
        error: Option<String>,
    }
}

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

report! {
    /// What `da completions` prints.
    CompletionsReport {
        /// The shell.
        shell: String,
        /// The script.
        script: String,
    }
}

report! {
    /// What `da man` prints.
    ManReport {
        /// The folder.
        folder: String,
        /// Names of the pages that were written there.
        pages: Vec<String>,
    }
}

report! {
    /// What every command prints when it fails.
    ErrorReport {
        /// The error.
        error: ErrorBody,
    }
}

report! {
    /// An error.
    ErrorBody {
        /// Stable reason, upper case.
        reason: String,
        /// What happened.
        message: String,
        /// What to do next.
        next: String,
        /// Exit code of the program.
        exit_code: u8,
        /// What replicas did instead of answering rightly.
        faults: Vec<FaultReport>,
    }
}

/// The keys that each command prints, in the order of the documentation.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Vec<Key>)> {
    fn of<T: Described>(command: &'static str) -> (&'static str, Vec<Key>) {
        (command, keys_of::<T>())
    }
    vec![
        of::<PutReport>("put"),
        of::<IdReport>("id"),
        of::<GetReport>("get"),
        of::<OpenReport>("open"),
        of::<CertReport>("cert show"),
        of::<CertReport>("cert verify"),
        of::<CertReport>("cert fetch"),
        of::<SampleReport>("sample"),
        of::<RegionsReport>("regions"),
        of::<StatusReport>("status"),
        of::<CommitteeReport>("committee"),
        of::<LogListReport>("log list"),
        of::<LogEntriesReport>("log entries"),
        of::<LogVerifyReport>("log verify"),
        of::<CompletionsReport>("completions"),
        of::<ManReport>("man"),
        of::<ErrorReport>("error"),
    ]
}
