//! The stable reasons of errors, each with its class.

use core::fmt;

use tonic::Code;

/// What an error means for the caller, protocol section 9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// The request can never succeed: drop it.
    Invalid,
    /// A signature or key is missing or wrong.
    Unauthenticated,
    /// The caller is known, and may not do this.
    Forbidden,
    /// It is certain that there is no such thing, or that it has expired.
    Unknown,
    /// Something is out of reach now: try again.
    Unavailable,
    /// Back off: the error says for how long.
    Overloaded,
    /// Over a limit, which the error names.
    TooLarge,
    /// A fault of the program: the error carries a trace id and no detail.
    Internal,
}

impl Class {
    /// The gRPC code that carries this class.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::Unknown => Code::NotFound,
            Self::Unavailable => Code::Unavailable,
            Self::Overloaded => Code::ResourceExhausted,
            Self::TooLarge => Code::OutOfRange,
            Self::Internal => Code::Internal,
        }
    }

    /// The name of the class, as in protocol section 9.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Unknown => "unknown",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::TooLarge => "too large",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($class:ident { $($name:ident = $text:literal: $doc:literal,)* })*) => {
        /// Why a request failed, in a form that programs can rely on.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $($(#[doc = $doc] $name,)*)*
        }

        impl Reason {
            /// Every reason, class by class.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// What it means for the caller.
            #[must_use]
            pub fn class(self) -> Class {
                match self {
                    $($(Self::$name => Class::$class,)*)*
                }
            }

            /// The stable name, upper case.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$name => $text,)*)*
                }
            }

            /// One line that says what happened.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self {
                    $($(Self::$name => $doc,)*)*
                }
            }
        }
    };
}

reasons! {
    Invalid {
        FieldInvalid = "FIELD_INVALID": "A field is missing, has a wrong length or a value that is not allowed; `field` names it.",
        MessageInvalid = "MESSAGE_INVALID": "The bytes of a message are no protobuf message of its type.",
        FormatUnsupported = "FORMAT_UNSUPPORTED": "The message states a format version that this node does not know.",
        StreamInvalid = "STREAM_INVALID": "The messages of a stream come in a wrong order, or one of them is empty.",
        Refused = "REFUSED": "The request is invalid for a reason that this version has no name for; `peer_reason` has it.",
        EmptyPayload = "EMPTY_PAYLOAD": "The payload is empty.",
        LengthMismatch = "LENGTH_MISMATCH": "The stream is longer or shorter than announced.",
        NamespaceInvalid = "NAMESPACE_INVALID": "The namespace is not 32 bytes.",
        RetentionOutOfRange = "RETENTION_OUT_OF_RANGE": "The retention is outside the committee's limits, which the message names.",
        IdMismatch = "ID_MISMATCH": "The payload has another blob id than the caller expected.",
        RangeInvalid = "RANGE_INVALID": "Rows, entries or sizes were asked for that the blob or log does not have.",
        HeaderInvalid = "HEADER_INVALID": "The blob header has an unknown codec or a length outside 1 to 2^27, or does not have the stated blob id.",
        WrongReplica = "WRONG_REPLICA": "The permission to upload is meant for another replica.",
        WrongEpoch = "WRONG_EPOCH": "The request is signed for an epoch that is not current.",
        NoSeat = "NO_SEAT": "The replica has no seat in the epoch of the request.",
        DeadlineOutOfRange = "DEADLINE_OUT_OF_RANGE": "The permission to upload has expired or reaches too far into the future.",
        PlacementMismatch = "PLACEMENT_MISMATCH": "The uploaded rows are not those that this replica's seat holds.",
        RlcMismatch = "RLC_MISMATCH": "The RLC vector has a wrong length or does not lead to the header's root.",
        RowProofInvalid = "ROW_PROOF_INVALID": "The proof of a range of rows has a wrong length or does not lead to the header's root.",
        RowCombinationInvalid = "ROW_COMBINATION_INVALID": "A row does not combine to its value of the extended RLC vector.",
        LogFork = "LOG_FORK": "The checkpoint and one that was cosigned before have the same size and different roots.",
        LogRollback = "LOG_ROLLBACK": "The checkpoint is smaller than one that was cosigned before.",
        LogGap = "LOG_GAP": "The entries do not reach from the last cosigned size to the size of the checkpoint.",
        RootMismatch = "ROOT_MISMATCH": "The entries do not lead from the last cosigned root to the root of the checkpoint.",
        TimestampOutOfRange = "TIMESTAMP_OUT_OF_RANGE": "The timestamp of the checkpoint is below an earlier one or too far from this node's clock.",
        TimeFalls = "TIME_FALLS": "The time of an entry is below that of the entry before it, or above the timestamp of the checkpoint.",
        EntryEpochMismatch = "ENTRY_EPOCH_MISMATCH": "An entry has another epoch than the checkpoint.",
        EntryLengthMismatch = "ENTRY_LENGTH_MISMATCH": "An entry has another length than the header of its blob.",
        EntryRetentionOutOfRange = "ENTRY_RETENTION_OUT_OF_RANGE": "The expiry of an entry is nearer or farther than the committee allows.",
        PayloadHashMismatch = "PAYLOAD_HASH_MISMATCH": "The payload hash of an entry, or of a signed put, is not the hash of the payload.",
        BlobInconsistent = "BLOB_INCONSISTENT": "There is proof that the blob is not a codeword: nobody can read a payload from it.",
    }
    Unauthenticated {
        SignatureInvalid = "SIGNATURE_INVALID": "A signature is malformed or was not made by the address that it is said to be of.",
        AuthorizationMissing = "AUTHORIZATION_MISSING": "The namespace takes signed puts only, and this one is not signed.",
        AuthorizationExpired = "AUTHORIZATION_EXPIRED": "The deadline of a signed put has passed by the clock of this gateway, which `gateway_time` has.",
        AuthorizationTooEarly = "AUTHORIZATION_TOO_EARLY": "The deadline of a signed put is farther ahead than the clock of this gateway allows, which `gateway_time` has.",
        AuthorizationReplayed = "AUTHORIZATION_REPLAYED": "The signature of this put was used before: sign each attempt anew.",
        WrongGateway = "WRONG_GATEWAY": "The put is signed for another gateway.",
    }
    Forbidden {
        NotAGateway = "NOT_A_GATEWAY": "The signer is not a gateway of the committee.",
        NotPermitted = "NOT_PERMITTED": "The caller may not do this.",
        NamespaceUnlisted = "NAMESPACE_UNLISTED": "This gateway takes puts under listed namespaces only, and this one is not among them.",
    }
    Unknown {
        BlobUnknown = "BLOB_UNKNOWN": "There is no such blob.",
        BlobExpired = "BLOB_EXPIRED": "The blob was here and has expired.",
        LogUnknown = "LOG_UNKNOWN": "This node has no log of that gateway.",
        CertificateUnknown = "CERTIFICATE_UNKNOWN": "The log of this gateway has no such entry.",
    }
    Unavailable {
        Unreachable = "UNREACHABLE": "The other side did not answer, or the connection broke.",
        QuorumUnreachable = "QUORUM_UNREACHABLE": "Too few regions answer for a certificate; `missing_regions` names those that do not.",
        CertificatePending = "CERTIFICATE_PENDING": "The entry is in the log, and its certificate is not complete yet.",
        RowsMissing = "ROWS_MISSING": "The replica does not hold rows that it needs for this and is fetching them.",
        RebuildFailed = "REBUILD_FAILED": "Too few rows of the blob are within reach to rebuild the others.",
        NotSyncedWithPeers = "NOT_SYNCED_WITH_PEERS": "The replica does not sign until enough regions confirmed what it last signed.",
        EpochPending = "EPOCH_PENDING": "The epoch has not begun here, or the anchor of an earlier one that the entries need is not seen yet.",
        LogRetired = "LOG_RETIRED": "The gateway signs nothing any more: it lost a part of its log, did not anchor one in time, or left the committee. Put to another gateway.",
        NotReady = "NOT_READY": "The node is starting, or the epoch that it is to work in is not there yet.",
        ShuttingDown = "SHUTTING_DOWN": "The node is stopping.",
        Timeout = "TIMEOUT": "The work was not done in time, or the caller sent nothing for too long.",
        StreamBroken = "STREAM_BROKEN": "The caller's stream broke before it was complete.",
        StoreDamaged = "STORE_DAMAGED": "A stored value failed its checksum and is not served.",
        StoreFailed = "STORE_FAILED": "The disk failed: the node takes no writes until it is started again.",
    }
    Overloaded {
        StorageFull = "STORAGE_FULL": "The storage limit is reached, or the disk is full.",
        MemoryBudget = "MEMORY_BUDGET": "The payloads in flight take the whole memory budget.",
        QuotaExceeded = "QUOTA_EXCEEDED": "A quota of bytes or entries is used up: that of the gateway, or that of the namespace that `namespace` names.",
        GatewayBusy = "GATEWAY_BUSY": "As many puts are in work as this gateway finishes in time.",
        TooManyRequests = "TOO_MANY_REQUESTS": "Too many requests of this kind are in work, or came in a short time.",
    }
    TooLarge {
        PayloadTooLarge = "PAYLOAD_TOO_LARGE": "The payload is longer than the limit, which the message names.",
        MessageTooLarge = "MESSAGE_TOO_LARGE": "A message or chunk is longer than the limit, which the message names.",
        TooManyItems = "TOO_MANY_ITEMS": "A list is longer than the limit, which the message names.",
    }
    Internal {
        Internal = "INTERNAL": "A fault of the program; `trace_id` finds it in the node's log.",
        PeerInternal = "PEER_INTERNAL": "The other side failed in a way that is no part of the protocol.",
        AnswerInvalid = "ANSWER_INVALID": "The other side's answer is malformed or too long; `field` names the part.",
    }
}

impl Reason {
    /// The reason of a stable name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    /// All reasons as a Markdown table, for the protocol's page.
    #[must_use]
    pub fn markdown_table() -> String {
        let mut table = String::from("| reason | class | gRPC | meaning |\n|---|---|---|---|\n");
        for reason in Self::ALL {
            let class = reason.class();
            let code = grpc_name(class.code());
            table.push_str(&format!("| `{reason}` | {class} | {code} | {} |\n", reason.meaning()));
        }
        table
    }
}

/// The name of a code as the gRPC specification writes it: `InvalidArgument` is `INVALID_ARGUMENT`.
fn grpc_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_error_info() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(name.len() <= 63);
            assert!(name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{name}");
        }
    }

    #[test]
    fn names_are_the_variants() {
        for reason in Reason::ALL {
            let joined: String = reason.as_str().split('_').collect();
            assert_eq!(joined, format!("{reason:?}").to_ascii_uppercase());
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
            assert!(reason.meaning().ends_with('.'));
        }
        assert_eq!(Reason::from_name("blob_unknown"), None);
        assert_eq!(grpc_name(Code::InvalidArgument), "INVALID_ARGUMENT");
    }
}
