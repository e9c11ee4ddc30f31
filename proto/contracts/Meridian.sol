// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Checkpoint, Gateway, IMeridian, LogEntry, Region, Seat, Terms} from "./IMeridian.sol";
import {MeridianCertificate} from "./MeridianCertificate.sol";
import {MeridianCommittee} from "./MeridianCommittee.sol";
import {MeridianLog} from "./MeridianLog.sol";
import {MeridianSignatures} from "./MeridianSignatures.sol";
import {MeridianStatus} from "./MeridianStatus.sol";

/// @title The registry of committees and anchored logs, and the judge of certificates.
/// @notice The owner decides who is a member, after a notice, and nothing else: anchors and certificates stand by
/// their signatures. There is no proxy, no upgrade, no token and no pause.
contract Meridian is IMeridian, Ownable2Step {
    using MeridianCertificate for bytes;

    struct Epoch {
        bytes32 membersHash;
        uint64 activation;
        /// `NEVER` while there is no later epoch.
        uint64 closes;
    }

    struct Anchor {
        bytes32 root;
        uint64 size;
        uint64 timestamp;
        uint64 blockNumber;
        uint64 epoch;
    }

    /// @notice Longest notice and grace in seconds: ten years of 365 days.
    uint256 internal constant MAX_DELAY = 315_360_000;

    uint64 private constant NEVER = type(uint64).max;

    /// @inheritdoc IMeridian
    uint64 public immutable notice;
    /// @inheritdoc IMeridian
    uint64 public immutable grace;
    /// @inheritdoc IMeridian
    uint64 public latestEpoch;

    uint256 private immutable _chainId;
    bytes32 private immutable _domain;

    mapping(uint256 epoch => Epoch) private _epochs;
    mapping(address gateway => Anchor) private _anchors;

    error NoticeTooLong();
    error GraceOutOfRange();
    error OwnershipIsKept();
    error NotTheNextEpoch(uint64 epoch, uint64 next);
    error NotTheLatestEpoch(uint64 epoch, uint64 latest);
    error LatestEpochNotActive(uint64 activation);
    error TooLateToCancel(uint64 activation);
    error ActivationTooEarly(uint64 activation, uint256 earliest);
    error ActivationOutOfRange(uint64 activation);
    error EpochUnknown(uint64 epoch);
    error EpochClosed(uint64 epoch);
    error EpochFalls(uint64 epoch, uint64 anchored);
    error WrongMembers();
    error NotAGateway(address gateway);
    error FromTheFuture(uint64 timestamp);
    error EmptyLog();
    error Stale(uint64 size, uint64 timestamp);
    error Inconsistent();
    error MalformedSignatures();
    error BadGatewaySignature();
    error BadCosignature();
    error NoQuorum();

    /// @param owner_ Who decides on members.
    /// @param notice_ Seconds before a committee takes effect, at least. With a notice of no more than the grace, a
    /// committee that takes effect as soon as allowed cannot be cancelled.
    /// @param grace_ Seconds for which an epoch stays open after the next has begun; at least 1, and well above the
    /// time in which blocks settle.
    constructor(address owner_, uint64 notice_, uint64 grace_) Ownable(owner_) {
        if (notice_ > MAX_DELAY) revert NoticeTooLong();
        if (grace_ == 0 || grace_ > MAX_DELAY) revert GraceOutOfRange();
        notice = notice_;
        grace = grace_;
        _chainId = block.chainid;
        _domain = MeridianSignatures.domainSeparator(block.chainid, address(this));
    }

    /// @inheritdoc IMeridian
    function scheduleCommittee(
        uint64 epoch,
        Region[] calldata regions,
        Seat[] calldata seats,
        Gateway[] calldata gateways,
        Terms calldata terms,
        uint64 activation
    ) external onlyOwner {
        bytes32 membersHash = keccak256(MeridianCommittee.pack(regions, seats, gateways, terms));
        activation = _schedule(epoch, membersHash, activation);
        emit CommitteeScheduled(epoch, activation, membersHash, terms, regions, seats, gateways);
    }

    /// @inheritdoc IMeridian
    function passSeat(
        uint64 epoch,
        bytes calldata members,
        address from,
        address to,
        string calldata endpoint,
        uint64 activation
    ) external onlyOwner {
        if (!_areMembers(_epochs[latestEpoch], members)) revert WrongMembers();
        bytes32 membersHash = keccak256(MeridianCommittee.pass(members, from, to, endpoint));
        activation = _schedule(epoch, membersHash, activation);
        emit SeatPassed(epoch, activation, membersHash, from, to, endpoint);
    }

    /// @inheritdoc IMeridian
    function cancelCommittee(uint64 epoch) external onlyOwner {
        uint64 latest = latestEpoch;
        if (epoch == 0 || epoch != latest) revert NotTheLatestEpoch(epoch, latest);
        uint64 activation = _epochs[epoch].activation;
        // Members act on settled blocks. An epoch that some of them may have entered must not come back as another.
        if (activation <= block.timestamp + grace) revert TooLateToCancel(activation);
        delete _epochs[epoch];
        if (epoch > 1) _epochs[epoch - 1].closes = NEVER;
        latestEpoch = epoch - 1;
        emit CommitteeCancelled(epoch);
    }

    /// @inheritdoc IMeridian
    function anchor(
        Checkpoint calldata checkpoint,
        bytes calldata signatures,
        bytes calldata members,
        bytes32[] calldata consistency
    ) external {
        address gateway = checkpoint.gateway;
        uint64 epoch = checkpoint.epoch;
        uint64 size = checkpoint.size;
        bytes32 root = checkpoint.root;
        uint64 timestamp = checkpoint.timestamp;

        if (size == 0) revert EmptyLog();
        if (timestamp > block.timestamp + MeridianCertificate.MAX_AHEAD) revert FromTheFuture(timestamp);
        if (signatures.length == 0 || !MeridianSignatures.areCanonical(signatures)) revert MalformedSignatures();
        {
            Epoch storage term = _epochs[epoch];
            uint8 state = _state(term);
            if (state == MeridianStatus.EPOCH_UNKNOWN) revert EpochUnknown(epoch);
            if (state == MeridianStatus.EPOCH_CLOSED) revert EpochClosed(epoch);
            if (!_areMembers(term, members)) revert WrongMembers();
        }
        if (!MeridianCommittee.isGateway(members, gateway)) revert NotAGateway(gateway);

        Anchor storage stored = _anchors[gateway];
        {
            uint64 oldSize = stored.size;
            uint64 oldTimestamp = stored.timestamp;
            uint64 oldEpoch = stored.epoch;
            if (epoch < oldEpoch) revert EpochFalls(epoch, oldEpoch);
            if (size < oldSize || (size == oldSize && timestamp <= oldTimestamp)) revert Stale(oldSize, oldTimestamp);
            if (!MeridianLog.isConsistent(oldSize, stored.root, size, root, consistency)) revert Inconsistent();
        }
        {
            bytes32 digest =
                MeridianSignatures.checkpointDigest(_domainSeparator(), gateway, epoch, size, root, timestamp);
            if (!MeridianSignatures.isSignedBy(digest, signatures, gateway)) revert BadGatewaySignature();
            (bool ok, uint256 counts) =
                MeridianSignatures.count(digest, signatures[MeridianSignatures.SIGNATURE_LENGTH:], members);
            if (!ok) revert BadCosignature();
            uint256 quorums = MeridianCommittee.quorumsOf(members);
            uint256 complete = MeridianSignatures.completeRegions(counts, quorums);
            if (!MeridianSignatures.isQuorum(complete, quorums)) revert NoQuorum();
        }

        stored.root = root;
        (stored.size, stored.timestamp, stored.blockNumber, stored.epoch) =
            (size, timestamp, uint64(block.number), epoch);
        emit Anchored(gateway, epoch, size, root, timestamp);
    }

    /// @inheritdoc IMeridian
    function verifyCertificate(bytes calldata certificate, bytes calldata members)
        external
        view
        returns (uint8 status)
    {
        (status,) = _verify(certificate, members, 0);
    }

    /// @inheritdoc IMeridian
    function verifyCertificateUntil(bytes calldata certificate, bytes calldata members, uint64 until)
        external
        view
        returns (uint8 status)
    {
        (status,) = _verify(certificate, members, until);
    }

    /// @inheritdoc IMeridian
    function regionsOf(bytes calldata certificate, bytes calldata members)
        external
        view
        returns (uint8 status, uint16[] memory regions)
    {
        uint256 complete;
        (status, complete) = _verify(certificate, members, 0);
        regions = MeridianCommittee.regionIds(members, complete);
    }

    /// @inheritdoc IMeridian
    function verifyAnchored(LogEntry calldata entry, uint64 index, bytes32[] calldata proof, address gateway)
        external
        view
        returns (bool)
    {
        Anchor storage stored = _anchors[gateway];
        return MeridianLog.isIncluded(MeridianLog.leafOf(entry), index, stored.size, proof, stored.root);
    }

    /// @inheritdoc IMeridian
    function epochOf(uint64 epoch) external view returns (bytes32 membersHash, uint64 activation, uint64 closes) {
        Epoch storage term = _epochs[epoch];
        return (term.membersHash, term.activation, term.closes);
    }

    /// @inheritdoc IMeridian
    function anchorOf(address gateway)
        external
        view
        returns (uint64 size, bytes32 root, uint64 blockNumber, uint64 timestamp, uint64 epoch)
    {
        Anchor storage stored = _anchors[gateway];
        return (stored.size, stored.root, stored.blockNumber, stored.timestamp, stored.epoch);
    }

    /// @notice Refused: without an owner no lost seat could ever be replaced.
    function renounceOwnership() public view override onlyOwner {
        revert OwnershipIsKept();
    }

    /// @dev Makes the next epoch, and says when the one before it closes.
    function _schedule(uint64 epoch, bytes32 membersHash, uint64 activation) private returns (uint64) {
        uint64 latest = latestEpoch;
        if (epoch != latest + 1) revert NotTheNextEpoch(epoch, latest + 1);
        uint256 earliest = block.timestamp;
        if (latest != 0) {
            uint64 begun = _epochs[latest].activation;
            if (begun > block.timestamp) revert LatestEpochNotActive(begun);
            earliest += notice;
            // At most one epoch is in its grace at any time.
            if (uint256(begun) + grace > earliest) earliest = uint256(begun) + grace;
        }
        if (activation == 0) activation = uint64(earliest);
        if (activation < earliest) revert ActivationTooEarly(activation, earliest);
        if (activation >= NEVER - grace) revert ActivationOutOfRange(activation);
        if (latest != 0) _epochs[latest].closes = activation + grace;
        _epochs[epoch] = Epoch({membersHash: membersHash, activation: activation, closes: NEVER});
        latestEpoch = epoch;
        return activation;
    }

    /// @dev The checks in the order of their numbers' meaning: form, epoch, members, then what the committee decides,
    /// then the clock.
    function _verify(bytes calldata certificate, bytes calldata members, uint64 until)
        private
        view
        returns (uint8 status, uint256 complete)
    {
        (bool ok, bytes32[] calldata path, bytes calldata gatewaySignature, bytes calldata cosignatures) =
            certificate.split();
        if (!ok) return (MeridianStatus.MALFORMED, 0);
        uint64 epoch = certificate.checkpointEpoch();
        if (certificate.entryEpoch() != epoch) return (MeridianStatus.ENTRY_OF_ANOTHER_EPOCH, 0);
        Epoch storage term = _epochs[epoch];
        status = _state(term);
        if (status != MeridianStatus.VALID) return (status, 0);
        if (!_areMembers(term, members)) return (MeridianStatus.WRONG_MEMBERS, 0);
        (status, complete) = certificate.check(path, gatewaySignature, cosignatures, members, _domainSeparator());
        if (status == MeridianStatus.VALID) {
            uint64 expiry = certificate.expiry();
            if (expiry <= block.timestamp) status = MeridianStatus.EXPIRED;
            else if (expiry < until) status = MeridianStatus.EXPIRES_TOO_SOON;
        }
    }

    /// @dev `VALID` while an epoch is open.
    function _state(Epoch storage term) private view returns (uint8) {
        (uint64 activation, uint64 closes) = (term.activation, term.closes);
        // An epoch that nobody scheduled closes at 0.
        if (closes == 0 || activation > block.timestamp) return MeridianStatus.EPOCH_UNKNOWN;
        return closes <= block.timestamp ? MeridianStatus.EPOCH_CLOSED : MeridianStatus.VALID;
    }

    function _areMembers(Epoch storage term, bytes calldata members) private view returns (bool) {
        // Longer bytes have another hash; they are not worth its gas.
        return members.length <= MeridianCommittee.MAX_LENGTH && MeridianCommittee.hash(members) == term.membersHash;
    }

    function _domainSeparator() private view returns (bytes32) {
        // A chain that splits in two gets a new id on one side.
        return block.chainid == _chainId ? _domain : MeridianSignatures.domainSeparator(block.chainid, address(this));
    }
}
