//! What the commands about members and epochs print.

use crate::cli::schema::report;

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
