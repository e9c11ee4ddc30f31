// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {MeridianCommittee} from "./MeridianCommittee.sol";
import {MeridianLog} from "./MeridianLog.sol";
import {MeridianSignatures} from "./MeridianSignatures.sol";
import {MeridianStatus} from "./MeridianStatus.sol";

/// @title Certificates: their fields, and the checks that take no registry.
/// @notice A contract that relies on a certificate asks the registry (`IMeridian.verifyCertificate`) and then reads
/// what it needs here, from the same bytes. The readers check nothing: on bytes that the registry does not call valid
/// they return anything, and past the end whatever calldata holds there.
/// @dev The layout, big-endian, with n hashes in the path (n follows from index and size) and c cosignatures:
/// version 1 at 0; header: codec 1 at 1, length u64 at 2, rowRoot at 10, rlcRoot at 42, kzgRoot at 74; entry:
/// namespace at 106, payloadHash at 138, epoch u64 at 170, time u64 at 178, expiry u64 at 186; index u64 at 194;
/// checkpoint: gateway at 202, epoch u64 at 222, size u64 at 230, root at 238, timestamp u64 at 270; path at 278;
/// gateway signature at 278 + 32 n; c as u16 at 343 + 32 n; cosignatures at 345 + 32 n, 65 bytes each.
library MeridianCertificate {
    /// @notice Most gas that `IMeridian.verifyCertificate` and its kin burn, whatever they are given.
    uint256 internal constant VERIFY_GAS_CAP = 1_500_000;
    /// @notice Version of the layout.
    uint256 internal constant VERSION = 1;
    /// @notice The only codec.
    uint256 internal constant CODEC = 1;
    /// @notice Most bytes of a payload.
    uint256 internal constant MAX_PAYLOAD = 2 ** 27;
    /// @notice Most cosignatures: one for each seat of the largest committee.
    uint256 internal constant MAX_COSIGNATURES = MeridianCommittee.MAX_SEATS;
    /// @notice Seconds by which a checkpoint may be ahead of the chain.
    uint256 internal constant MAX_AHEAD = 60;

    /// @dev Where the path begins.
    uint256 private constant PATH = 278;
    /// @dev Bytes without path and cosignatures.
    uint256 private constant FIXED_LENGTH = 345;

    /// @notice keccak256(abi.encode(header)): what the blob is called everywhere.
    function blobId(bytes calldata certificate) internal pure returns (bytes32 id) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, byte(0, calldataload(add(certificate.offset, 1))))
            mstore(add(m, 32), shr(192, calldataload(add(certificate.offset, 2))))
            calldatacopy(add(m, 64), add(certificate.offset, 10), 96)
            id := keccak256(m, 160)
        }
    }

    /// @notice Bytes of the payload.
    function payloadLength(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 2);
    }

    /// @notice Root that binds to KZG commitments, zero when there are none. A certificate does not say that it is
    /// right: see `MeridianKzg`.
    function kzgRoot(bytes calldata certificate) internal pure returns (bytes32) {
        return _word(certificate, 74);
    }

    /// @notice Namespace under which the blob was submitted. The gateway answers for it: replicas do not check it.
    function namespace(bytes calldata certificate) internal pure returns (bytes32) {
        return _word(certificate, 106);
    }

    /// @notice keccak256 of the payload, or zero when the submitter did not ask for it.
    function payloadHash(bytes calldata certificate) internal pure returns (bytes32) {
        return _word(certificate, 138);
    }

    /// @notice Epoch of the entry.
    function entryEpoch(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 170);
    }

    /// @notice When the entry was made, unix seconds, by the gateway's clock.
    function time(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 178);
    }

    /// @notice Until when the blob is kept, unix seconds.
    function expiry(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 186);
    }

    /// @notice Place of the entry in the gateway's log, from 0.
    function index(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 194);
    }

    /// @notice Whose log it is.
    function gateway(bytes calldata certificate) internal pure returns (address) {
        return address(bytes20(_word(certificate, 202)));
    }

    /// @notice Epoch whose committee cosigned.
    function checkpointEpoch(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 222);
    }

    /// @notice Entries in the log.
    function size(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 230);
    }

    /// @notice Root of the log.
    function root(bytes calldata certificate) internal pure returns (bytes32) {
        return _word(certificate, 238);
    }

    /// @notice When the checkpoint was signed, unix seconds, by the gateway's clock.
    function timestamp(bytes calldata certificate) internal pure returns (uint64) {
        return _number(certificate, 270);
    }

    /// @notice The entry's leaf hash.
    function leaf(bytes calldata certificate) internal pure returns (bytes32 hash) {
        bytes32 id = blobId(certificate);
        assembly ("memory-safe") {
            let m := mload(0x40)
            // The prefix 0x00 is the last byte of this word.
            mstore(m, 0)
            mstore(add(m, 32), id)
            calldatacopy(add(m, 64), add(certificate.offset, 106), 64)
            mstore(add(m, 128), shr(192, calldataload(add(certificate.offset, 2))))
            let times := calldataload(add(certificate.offset, 170))
            mstore(add(m, 160), shr(192, times))
            mstore(add(m, 192), and(shr(128, times), 0xffffffffffffffff))
            mstore(add(m, 224), and(shr(64, times), 0xffffffffffffffff))
            hash := keccak256(add(m, 31), 225)
        }
    }

    /// @notice What gateway and replicas signed.
    function digest(bytes calldata certificate, bytes32 domain) internal pure returns (bytes32) {
        return MeridianSignatures.checkpointDigest(
            domain,
            gateway(certificate),
            checkpointEpoch(certificate),
            size(certificate),
            root(certificate),
            timestamp(certificate)
        );
    }

    /// @notice Takes a certificate apart, if it is one: version, header, index below size, every length, and the one
    /// spelling of every signature.
    /// @return ok Whether it is one; if not, the rest is empty.
    function split(bytes calldata certificate)
        internal
        pure
        returns (bool ok, bytes32[] calldata path, bytes calldata gatewaySignature, bytes calldata cosignatures)
    {
        path = _noHashes();
        gatewaySignature = certificate[:0];
        cosignatures = certificate[:0];
        uint256 nodes;
        (ok, nodes) = _measure(certificate);
        if (ok) {
            uint256 signature = PATH + 32 * nodes;
            assembly ("memory-safe") {
                path.offset := add(certificate.offset, PATH)
                path.length := nodes
            }
            gatewaySignature = certificate[signature:signature + MeridianSignatures.SIGNATURE_LENGTH];
            cosignatures = certificate[FIXED_LENGTH + 32 * nodes:];
            ok = MeridianSignatures.areCanonical(gatewaySignature) && MeridianSignatures.areCanonical(cosignatures);
        }
    }

    /// @notice Everything about a certificate that its committee decides: gateway, times, inclusion, signatures,
    /// quorum. Not whether epochs match or are open, whether `members` are the epoch's, or whether it has expired.
    /// @param path From `split`, as the two that follow.
    /// @param members Compared with the registry's hash before.
    /// @param domain From `MeridianSignatures.domainSeparator`.
    /// @return status A constant of `MeridianStatus`.
    /// @return complete The complete regions, as `MeridianSignatures.completeRegions` marks them.
    function check(
        bytes calldata certificate,
        bytes32[] calldata path,
        bytes calldata gatewaySignature,
        bytes calldata cosignatures,
        bytes calldata members,
        bytes32 domain
    ) internal view returns (uint8 status, uint256 complete) {
        address log = gateway(certificate);
        if (!MeridianCommittee.isGateway(members, log)) return (MeridianStatus.NOT_A_GATEWAY, 0);
        if (!_timesFit(certificate, members)) return (MeridianStatus.BAD_TIMES, 0);
        if (timestamp(certificate) > block.timestamp + MAX_AHEAD) return (MeridianStatus.FROM_THE_FUTURE, 0);
        if (cosignatures.length > 65 * MeridianCommittee.seatCountOf(members)) {
            return (MeridianStatus.BAD_COSIGNATURE, 0);
        }
        if (!MeridianLog.isIncluded(leaf(certificate), index(certificate), size(certificate), path, root(certificate)))
        {
            return (MeridianStatus.BAD_PROOF, 0);
        }
        bytes32 signed = digest(certificate, domain);
        if (!MeridianSignatures.isSignedBy(signed, gatewaySignature, log)) {
            return (MeridianStatus.BAD_GATEWAY_SIGNATURE, 0);
        }
        (bool ok, uint256 counts) = MeridianSignatures.count(signed, cosignatures, members);
        if (!ok) return (MeridianStatus.BAD_COSIGNATURE, 0);
        uint256 quorums = MeridianCommittee.quorumsOf(members);
        complete = MeridianSignatures.completeRegions(counts, quorums);
        status = MeridianSignatures.isQuorum(complete, quorums) ? MeridianStatus.VALID : MeridianStatus.NO_QUORUM;
    }

    /// @dev Whether the bytes have the form and the length of a certificate, and how many hashes the path has.
    function _measure(bytes calldata certificate) private pure returns (bool ok, uint256 nodes) {
        unchecked {
            if (certificate.length < FIXED_LENGTH) return (false, 0);
            if (uint256(_word(certificate, 0)) >> 240 != (VERSION << 8) | CODEC) return (false, 0);
            // Less one, so that zero wraps around and is too large.
            if (uint256(payloadLength(certificate)) - 1 >= MAX_PAYLOAD) return (false, 0);
            uint256 place = index(certificate);
            uint256 entries = size(certificate);
            if (place >= entries) return (false, 0);
            nodes = MeridianLog.pathLength(place, entries);
            uint256 length = FIXED_LENGTH + 32 * nodes;
            if (certificate.length < length) return (false, 0);
            uint256 count = uint256(_word(certificate, length - 2)) >> 240;
            length += MeridianSignatures.SIGNATURE_LENGTH * count;
            return (count <= MAX_COSIGNATURES && certificate.length == length, nodes);
        }
    }

    function _timesFit(bytes calldata certificate, bytes calldata members) private pure returns (bool) {
        (uint256 shortest, uint256 longest) = MeridianCommittee.retentionOf(members);
        uint256 made = time(certificate);
        uint256 end = expiry(certificate);
        unchecked {
            // An expiry before the time wraps around and is too long.
            return end - made >= shortest && end - made <= longest && made <= timestamp(certificate);
        }
    }

    function _noHashes() private pure returns (bytes32[] calldata hashes) {
        assembly ("memory-safe") {
            hashes.offset := 0
            hashes.length := 0
        }
    }

    function _word(bytes calldata certificate, uint256 offset) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := calldataload(add(certificate.offset, offset))
        }
    }

    function _number(bytes calldata certificate, uint256 offset) private pure returns (uint64) {
        return uint64(uint256(_word(certificate, offset)) >> 192);
    }
}
