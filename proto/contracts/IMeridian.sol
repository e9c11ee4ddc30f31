// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// A region of replicas. Coordinates are in millionths of a degree, north and east positive.
struct Region {
    uint16 id;
    int32 latitude;
    int32 longitude;
    string label;
}

/// A seat: the replica of a region that signs with `signer`.
struct Seat {
    uint16 region;
    uint8 number;
    address signer;
    string endpoint;
}

/// A gateway with its quotas: bytes of unexpired rows, and log entries in an hour.
struct Gateway {
    address signer;
    uint64 maxBytes;
    uint64 maxEntriesPerHour;
    string endpoint;
}

/// How many regions must be complete in a certificate, and how long entries live, in seconds.
struct Terms {
    uint16 minCopies;
    uint64 minRetention;
    uint64 maxRetention;
}

/// The state of a gateway's log at one moment. Signed by the gateway, cosigned by replicas (EIP-712).
struct Checkpoint {
    address gateway;
    uint64 epoch;
    uint64 size;
    bytes32 root;
    uint64 timestamp;
}

/// One line of a gateway's log.
struct LogEntry {
    bytes32 blobId;
    bytes32 namespace;
    bytes32 payloadHash;
    uint64 length;
    uint64 epoch;
    uint64 time;
    uint64 expiry;
}

/// @title The registry of committees and anchored logs, and the judge of certificates.
/// @notice A certificate is a claim, signed by the replicas of enough regions, that they keep a blob until its expiry.
/// `members` is the packed committee of an epoch (see `MeridianCommittee`); the registry stores its hash alone, and
/// its bytes follow from the events `CommitteeScheduled` and `SeatPassed`.
interface IMeridian {
    /// @notice Epoch `epoch` will have this committee from `activation` (unix seconds) on.
    event CommitteeScheduled(
        uint64 indexed epoch,
        uint64 activation,
        bytes32 membersHash,
        Terms terms,
        Region[] regions,
        Seat[] seats,
        Gateway[] gateways
    );

    /// @notice Epoch `epoch` will have the committee of the epoch before it, with one seat in other hands.
    event SeatPassed(
        uint64 indexed epoch,
        uint64 activation,
        bytes32 membersHash,
        address indexed from,
        address indexed to,
        string endpoint
    );

    /// @notice The epoch, which was more than `grace()` ahead, will not come; its number is free again.
    event CommitteeCancelled(uint64 indexed epoch);

    /// @notice The log of `gateway` has `size` entries under `root`, and everything anchored before is a part of it.
    event Anchored(address indexed gateway, uint64 indexed epoch, uint64 size, bytes32 root, uint64 timestamp);

    /// @notice Schedules the committee of the next epoch. For the owner.
    /// @param epoch One more than `latestEpoch()`.
    /// @param regions Ascending by id.
    /// @param seats Ascending by signer; every region has 1 to 32, and numbers are unique in a region.
    /// @param gateways Ascending by signer; no address is both a seat's and a gateway's.
    /// @param activation Unix seconds, at least `notice()` ahead, and `grace()` after the activation before; 0 for as
    /// soon as allowed. The first epoch needs no notice.
    function scheduleCommittee(
        uint64 epoch,
        Region[] calldata regions,
        Seat[] calldata seats,
        Gateway[] calldata gateways,
        Terms calldata terms,
        uint64 activation
    ) external;

    /// @notice Schedules the next epoch with the committee of the latest, but one seat passes to another signer. For
    /// the owner.
    /// @param epoch One more than `latestEpoch()`.
    /// @param members Of the latest epoch.
    /// @param from Who holds the seat.
    /// @param to Who shall hold it: not a member yet.
    /// @param endpoint Of the new holder.
    /// @param activation As in `scheduleCommittee`.
    function passSeat(
        uint64 epoch,
        bytes calldata members,
        address from,
        address to,
        string calldata endpoint,
        uint64 activation
    ) external;

    /// @notice Takes the latest epoch back while more than `grace()` is left until its activation. For the owner.
    /// @dev Members go by settled blocks and learn of it late: closer to the activation some could have entered the
    /// epoch, and its number could come back with other members. Where `notice()` is no more than `grace()`, an epoch
    /// that was scheduled for as soon as allowed can never be cancelled.
    function cancelCommittee(uint64 epoch) external;

    /// @notice Stores a checkpoint of a gateway's log. For anyone: it stands by its signatures.
    /// @param signatures The gateway's, then cosignatures ascending by signer, 65 bytes (r, s, v) each.
    /// @param members Of the checkpoint's epoch.
    /// @param consistency RFC 6962 proof that the log begins with what is anchored; empty for the first anchor of a
    /// gateway, and where the size is the same.
    function anchor(
        Checkpoint calldata checkpoint,
        bytes calldata signatures,
        bytes calldata members,
        bytes32[] calldata consistency
    ) external;

    /// @notice Whether a certificate holds now. Never reverts, and never burns more than
    /// `MeridianCertificate.VERIFY_GAS_CAP`, on any contents of the two arguments. With too little gas it runs out of
    /// gas and never answers wrongly.
    /// @dev The certificate's epoch must be open, so a valid certificate becomes invalid when its epoch's grace ends.
    /// Rely on the answer of the block in which it was asked; for older entries use `verifyAnchored`.
    /// @param certificate In the flat layout; `MeridianCertificate` reads its fields.
    /// @param members Of the certificate's epoch.
    /// @return status A constant of `MeridianStatus`; 0 is valid, and nothing else is.
    function verifyCertificate(bytes calldata certificate, bytes calldata members)
        external
        view
        returns (uint8 status);

    /// @notice As `verifyCertificate`, and the blob must be kept at least until `until` (unix seconds).
    function verifyCertificateUntil(bytes calldata certificate, bytes calldata members, uint64 until)
        external
        view
        returns (uint8 status);

    /// @notice As `verifyCertificate`, and which regions are complete: ids, ascending. They are told wherever all
    /// signatures hold, also where they are too few (`NO_QUORUM`) or the blob has expired; otherwise there are none.
    function regionsOf(bytes calldata certificate, bytes calldata members)
        external
        view
        returns (uint8 status, uint16[] memory regions);

    /// @notice Whether an entry is in the anchored log of a gateway, at `index`.
    /// @dev It says nothing of the time: compare `entry.expiry` with your own needs. The proof is against the latest
    /// anchor (`anchorOf`), so a proof made before a later anchor has to be made again.
    /// @param proof RFC 6962 inclusion path, from leaf to root.
    function verifyAnchored(LogEntry calldata entry, uint64 index, bytes32[] calldata proof, address gateway)
        external
        view
        returns (bool);

    /// @notice An epoch: open iff `activation <= block.timestamp < closes`. All zero when unknown; `closes` is
    /// `type(uint64).max` while no later epoch is scheduled.
    function epochOf(uint64 epoch) external view returns (bytes32 membersHash, uint64 activation, uint64 closes);

    /// @notice The latest scheduled epoch, 0 when there is none. The first is 1.
    function latestEpoch() external view returns (uint64);

    /// @notice The latest anchor of a gateway's log, all zero when there is none.
    /// @return size Entries.
    /// @return root RFC 6962 root over them.
    /// @return blockNumber Block that stored it.
    /// @return timestamp Of the checkpoint, unix seconds.
    /// @return epoch Of the checkpoint.
    function anchorOf(address gateway)
        external
        view
        returns (uint64 size, bytes32 root, uint64 blockNumber, uint64 timestamp, uint64 epoch);

    /// @notice Seconds between the scheduling of a committee and its first moment, at least.
    function notice() external view returns (uint64);

    /// @notice Seconds for which an epoch stays open after the next has begun, and before its activation from which on
    /// it cannot be cancelled.
    function grace() external view returns (uint64);
}
