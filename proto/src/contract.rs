//! The contract's calls and events, and the status that its verification answers with (protocol sections 4, 5.6).

pub mod committee;
pub mod errors;
mod log;
pub mod namespaces;

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::{SolConstructor, sol};

/// Generated types of the contract's interface.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod generated {
    use super::sol;

    sol! {
        #![sol(extra_derives(Debug))]

        struct Region { uint16 id; int32 latitude; int32 longitude; string label; }
        struct Seat { uint16 region; uint8 number; address signer; string endpoint; }
        struct Gateway { address signer; uint64 maxBytes; uint64 maxEntriesPerHour; string endpoint; }
        struct Terms { uint16 minCopies; uint64 minRetention; uint64 maxRetention; }
        struct Checkpoint { address gateway; uint64 epoch; uint64 size; bytes32 root; uint64 timestamp; }
        struct LogEntry {
            bytes32 blobId; bytes32 namespace; bytes32 payloadHash;
            uint64 length; uint64 epoch; uint64 time; uint64 expiry;
        }

        contract Meridian {
            constructor(address owner, uint64 notice, uint64 grace);

            event CommitteeScheduled(
                uint64 indexed epoch, uint64 activation, bytes32 membersHash,
                Terms terms, Region[] regions, Seat[] seats, Gateway[] gateways
            );
            event SeatPassed(
                uint64 indexed epoch, uint64 activation, bytes32 membersHash,
                address indexed from, address indexed to, string endpoint
            );
            event CommitteeCancelled(uint64 indexed epoch);
            event Anchored(
                address indexed gateway, uint64 indexed epoch, uint64 size, bytes32 root, uint64 timestamp
            );

            function scheduleCommittee(
                uint64 epoch, Region[] regions, Seat[] seats, Gateway[] gateways, Terms terms, uint64 activation
            ) external;
            function passSeat(
                uint64 epoch, bytes members, address from, address to, string endpoint, uint64 activation
            ) external;
            function cancelCommittee(uint64 epoch) external;
            function anchor(
                Checkpoint checkpoint, bytes signatures, bytes members, bytes32[] consistency
            ) external;

            function verifyCertificate(bytes certificate, bytes members) external view returns (uint8 status);
            function verifyCertificateUntil(bytes certificate, bytes members, uint64 until)
                external view returns (uint8 status);
            function regionsOf(bytes certificate, bytes members)
                external view returns (uint8 status, uint16[] regions);
            function verifyAnchored(LogEntry entry, uint64 index, bytes32[] proof, address gateway)
                external view returns (bool);

            function epochOf(uint64 epoch)
                external view returns (bytes32 membersHash, uint64 activation, uint64 closes);
            function latestEpoch() external view returns (uint64);
            function anchorOf(address gateway)
                external view returns (uint64 size, bytes32 root, uint64 blockNumber, uint64 timestamp, uint64 epoch);
            function notice() external view returns (uint64);
            function grace() external view returns (uint64);
            function owner() external view returns (address);

            error ActivationOutOfRange(uint64 activation);
            error ActivationTooEarly(uint64 activation, uint256 earliest);
            error AlreadyMember(address signer);
            error BadCosignature();
            error BadGatewaySignature();
            error EmptyLog();
            error EndpointLength(address signer);
            error EpochClosed(uint64 epoch);
            error EpochFalls(uint64 epoch, uint64 anchored);
            error EpochUnknown(uint64 epoch);
            error FromTheFuture(uint64 timestamp);
            error GatewaysNotAscending(address signer);
            error GraceOutOfRange();
            error Inconsistent();
            error LabelLength(uint16 region);
            error LatestEpochNotActive(uint64 activation);
            error LatitudeOutOfRange(uint16 region);
            error LongitudeOutOfRange(uint16 region);
            error MalformedSignatures();
            error MaxRetentionTooLong();
            error MinCopiesOutOfRange(uint16 minCopies);
            error MinRetentionZero();
            error NoQuorum();
            error NoRegions();
            error NotAGateway(address gateway);
            error NotASeat(address signer);
            error NotTheLatestEpoch(uint64 epoch, uint64 latest);
            error NotTheNextEpoch(uint64 epoch, uint64 next);
            error NoticeTooLong();
            error OwnableInvalidOwner(address owner);
            error OwnableUnauthorizedAccount(address account);
            error OwnershipIsKept();
            error QuotaOutOfRange(address signer);
            error RegionWithoutSeats(uint16 region);
            error RegionZero();
            error RegionsNotAscending(uint16 region);
            error RetentionLimitsCrossed();
            error SeatNumberTaken(uint16 region, uint8 number);
            error SeatsNotAscending(address signer);
            error Stale(uint64 size, uint64 timestamp);
            error TooLateToCancel(uint64 activation);
            error TooManyGateways(uint256 gateways);
            error TooManyRegions(uint256 regions);
            error TooManySeats(uint256 seats);
            error TooManySeatsInRegion(uint16 region);
            error UnknownRegion(address signer, uint16 region);
            error WrongMembers();
            error ZeroAddress();
        }
    }
}

pub use generated::*;

/// The contract's creation code, without its constructor's arguments.
pub const BYTECODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/Meridian.bin"));

/// What a transaction deploys the contract with: `notice` is the least time before a committee takes effect, `grace`
/// how long an epoch stays open after the next has begun, both in seconds.
#[must_use]
pub fn creation_code(owner: Address, notice: u64, grace: u64) -> Bytes {
    let arguments = Meridian::constructorCall { owner, notice, grace }.abi_encode();
    [BYTECODE, &arguments].concat().into()
}

/// What the contract says of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Status {
    /// It holds.
    Valid = 0,
    /// The bytes are no certificate.
    Malformed = 1,
    /// Its epoch is not scheduled, or has not begun.
    EpochUnknown = 2,
    /// Its epoch and the grace after it are over.
    EpochClosed = 3,
    /// The members that were given are not those of its epoch.
    WrongMembers = 4,
    /// Its entry is of another epoch than its checkpoint.
    EntryOfAnotherEpoch = 5,
    /// Its gateway is not one of the epoch's.
    NotAGateway = 6,
    /// Its retention is outside the limits, or its entry is later than its checkpoint.
    BadTimes = 7,
    /// Its entry is not in the log at its index.
    BadProof = 8,
    /// Its gateway did not sign.
    BadGatewaySignature = 9,
    /// A cosignature is nobody's or a stranger's, out of order, or there are more than seats.
    BadCosignature = 10,
    /// Too few regions are complete.
    NoQuorum = 11,
    /// It has expired.
    Expired = 12,
    /// It expires before the time that the caller asked for.
    ExpiresTooSoon = 13,
    /// Its checkpoint is more than a minute ahead of the chain.
    FromTheFuture = 14,
}

impl Status {
    /// All of them, by number.
    pub const ALL: [Self; 15] = [
        Self::Valid,
        Self::Malformed,
        Self::EpochUnknown,
        Self::EpochClosed,
        Self::WrongMembers,
        Self::EntryOfAnotherEpoch,
        Self::NotAGateway,
        Self::BadTimes,
        Self::BadProof,
        Self::BadGatewaySignature,
        Self::BadCosignature,
        Self::NoQuorum,
        Self::Expired,
        Self::ExpiresTooSoon,
        Self::FromTheFuture,
    ];

    /// The status of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Malformed => "MALFORMED",
            Self::EpochUnknown => "EPOCH_UNKNOWN",
            Self::EpochClosed => "EPOCH_CLOSED",
            Self::WrongMembers => "WRONG_MEMBERS",
            Self::EntryOfAnotherEpoch => "ENTRY_OF_ANOTHER_EPOCH",
            Self::NotAGateway => "NOT_A_GATEWAY",
            Self::BadTimes => "BAD_TIMES",
            Self::BadProof => "BAD_PROOF",
            Self::BadGatewaySignature => "BAD_GATEWAY_SIGNATURE",
            Self::BadCosignature => "BAD_COSIGNATURE",
            Self::NoQuorum => "NO_QUORUM",
            Self::Expired => "EXPIRED",
            Self::ExpiresTooSoon => "EXPIRES_TOO_SOON",
            Self::FromTheFuture => "FROM_THE_FUTURE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn numbers_and_statuses_are_one_to_one() {
        for (number, status) in (0_u8..).zip(Status::ALL) {
            assert_eq!(status as u8, number);
            assert_eq!(Status::from_number(number), Some(status));
        }
        assert_eq!(Status::from_number(15), None);
        assert_eq!(Status::from_number(255), None);
    }
}
