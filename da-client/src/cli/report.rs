//! What each command prints with `--json`.

mod access;
mod audit;
mod blob;
mod evidence;
mod log;
mod network;
mod token;

pub use access::{KeyReport, LimitsReport, NamespaceReport, NamespacesReport};
pub use audit::{
    AuditReport, AuditedBlob, AuditedEntry, AuditedLog, AuditedRegion, AuditedReplica, SightingReport,
    TraceReport, TracedAnchor, TracedRegion, TracedReplica,
};
pub use blob::{
    CertReport, FailedGateway, FaultReport, GetReport, IdReport, OpenReport, OpeningReport, PutReport,
    SampleReport, SampleRow,
};
pub use evidence::{ConflictingCheckpoint, EvidenceReport};
pub use log::{LogEntriesReport, LogItemReport, LogListReport, LogReport, LogVerifyReport};
pub use network::{
    CommitteeReport, EpochReport, GatewayReport, LogSize, RegionReport, RegionsReport, ReplicaReport,
    StatusReport,
};
pub use token::{TokenMadeReport, TokenReport, TokensReport};

use crate::light::report::LightReport;

use super::schema::{Described, Key, keys_of, report};

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
        of::<AuditReport>("audit"),
        of::<TraceReport>("trace"),
        of::<RegionsReport>("regions"),
        of::<StatusReport>("status"),
        of::<CommitteeReport>("committee"),
        of::<LogListReport>("log list"),
        of::<LogEntriesReport>("log entries"),
        of::<LogVerifyReport>("log verify"),
        of::<LightReport>("light --once"),
        of::<LightReport>("light status"),
        of::<EvidenceReport>("evidence verify"),
        of::<EvidenceReport>("evidence import"),
        of::<KeyReport>("key new"),
        of::<KeyReport>("key show"),
        of::<NamespacesReport>("namespace create"),
        of::<NamespacesReport>("namespace allow"),
        of::<NamespacesReport>("namespace deny"),
        of::<NamespacesReport>("namespace list"),
        of::<TokenMadeReport>("token new"),
        of::<TokensReport>("token list"),
        of::<TokenReport>("token revoke"),
        of::<CompletionsReport>("completions"),
        of::<ManReport>("man"),
        of::<ErrorReport>("error"),
    ]
}
