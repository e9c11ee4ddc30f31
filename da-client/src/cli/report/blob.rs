//! What the commands about blobs print.

use crate::cli::schema::report;

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
        /// First byte that was read: 0 without `--range`.
        start: u64,
        /// The byte after the last one that was read.
        end: u64,
        /// Bytes of the rows that it takes to read them.
        row_bytes: u64,
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
