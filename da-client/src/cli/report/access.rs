//! What the commands about keys and namespaces print.

use crate::cli::schema::report;
use crate::namespaces::{Limits, Namespaces};

report! {
    /// What `da key` prints.
    KeyReport {
        /// The file.
        file: String,
        /// Address that the key signs as.
        address: String,
    }
}

report! {
    /// What `da namespace` prints: all that the file says.
    NamespacesReport {
        /// The file.
        file: String,
        /// Whether anybody may put under namespaces that are not listed.
        open: bool,
        /// What holds for namespaces that say nothing else.
        limits: LimitsReport,
        /// The namespaces, ascending.
        namespaces: Vec<NamespaceReport>,
    }
}

report! {
    /// A namespace.
    NamespaceReport {
        /// The namespace.
        namespace: String,
        /// Address of its owner. Null where the registry on the chain says who owns it.
        owner: Option<String>,
        /// Addresses that may put beside the owner.
        writers: Vec<String>,
        /// Its own limits.
        limits: LimitsReport,
    }
}

report! {
    /// Limits; null where there is none.
    LimitsReport {
        /// Puts a second.
        requests_per_second: Option<u64>,
        /// Puts that may come at once.
        burst_requests: Option<u64>,
        /// Payload bytes a second.
        bytes_per_second: Option<u64>,
        /// Payload bytes that may come at once.
        burst_bytes: Option<u64>,
        /// Payload bytes of entries that have not expired.
        stored_bytes: Option<u64>,
    }
}

impl From<Limits> for LimitsReport {
    fn from(limits: Limits) -> Self {
        let Limits { requests_per_second, burst_requests, bytes_per_second, burst_bytes, stored_bytes } =
            limits;
        Self { requests_per_second, burst_requests, bytes_per_second, burst_bytes, stored_bytes }
    }
}

impl NamespacesReport {
    /// What a file says.
    pub(crate) fn of(file: String, namespaces: &Namespaces) -> Self {
        let listed = namespaces.listed.iter().map(|(id, listed)| NamespaceReport {
            namespace: id.to_string(),
            owner: listed.owner.map(|owner| owner.to_string()),
            writers: listed.writers.iter().map(ToString::to_string).collect(),
            limits: listed.limits.into(),
        });
        Self { file, open: namespaces.open, limits: namespaces.limits.into(), namespaces: listed.collect() }
    }
}
