//! What the commands about evidence print.

use crate::cli::schema::report;

report! {
    /// What `da evidence verify` and `da evidence import` print.
    EvidenceReport {
        /// The file: the one that was read, or the one that was written.
        file: String,
        /// Address of the gateway that signed two logs.
        gateway: String,
        /// Chain id of the network that it signed for, 0 without a chain.
        chain_id: u64,
        /// Contract of that network, the zero address without a chain.
        contract: String,
        /// Whether it is a gateway of the committee at hand; null without one.
        member: Option<bool>,
        /// Index at which the logs differ; null where two checkpoints of one size have different roots.
        index: Option<u64>,
        /// The two checkpoints.
        checkpoints: Vec<ConflictingCheckpoint>,
        /// Addresses that cosigned both.
        cosigned_both: Vec<String>,
    }
}

report! {
    /// One of two checkpoints that contradict each other.
    ConflictingCheckpoint {
        /// Its epoch.
        epoch: u64,
        /// Entries under it.
        size: u64,
        /// Its root.
        root: String,
        /// When it was made, in unix seconds.
        timestamp: u64,
        /// The leaf at the index; null where the roots are what differs.
        leaf: Option<String>,
        /// Addresses that cosigned it.
        cosigners: Vec<String>,
    }
}
