// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {MeridianCommittee} from "./MeridianCommittee.sol";

/// @title Who signed a checkpoint, and whether they are enough.
/// @notice A signature is 65 bytes r, s, v, and has one spelling: v is 27 or 28, 0 < r < n, 0 < s <= n/2.
/// @dev A call of ecrecover fails for want of gas (or depth of calls) only; a signature of nobody is a success without
/// an answer. So a failed call ends in `invalid`: low gas is out of gas, never "bad signature".
library MeridianSignatures {
    /// @notice Bytes of a signature.
    uint256 internal constant SIGNATURE_LENGTH = 65;

    /// @notice EIP-712 type of a checkpoint.
    bytes32 internal constant CHECKPOINT_TYPE =
        keccak256("Checkpoint(address gateway,uint64 epoch,uint64 size,bytes32 root,uint64 timestamp)");

    /// @dev Order of the group, less one.
    uint256 private constant ORDER_LESS_ONE = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140;
    /// @dev Half of the order: the greatest low s.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
    /// @dev The top bit of each of the 31 lanes.
    uint256 private constant LANE_TOPS = 0x0080808080808080808080808080808080808080808080808080808080808080;
    /// @dev The 31 lanes.
    uint256 private constant LANES = 0x00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff;
    /// @dev Times this, a word has the sum of its bytes in its top byte.
    uint256 private constant SUM_OF_BYTES = 0x0101010101010101010101010101010101010101010101010101010101010101;

    /// @notice EIP-712 domain of the registry at `registry` on chain `chainId`.
    function domainSeparator(uint256 chainId, address registry) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Meridian"),
                keccak256("1"),
                chainId,
                registry
            )
        );
    }

    /// @notice What gateway and replicas sign for a checkpoint.
    function checkpointDigest(
        bytes32 domain,
        address gateway,
        uint64 epoch,
        uint64 size,
        bytes32 root,
        uint64 time
    ) internal pure returns (bytes32 digest) {
        bytes32 kind = CHECKPOINT_TYPE;
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, kind)
            mstore(add(m, 32), shr(96, shl(96, gateway)))
            mstore(add(m, 64), and(epoch, 0xffffffffffffffff))
            mstore(add(m, 96), and(size, 0xffffffffffffffff))
            mstore(add(m, 128), root)
            mstore(add(m, 160), and(time, 0xffffffffffffffff))
            let hash := keccak256(m, 192)
            mstore(m, shl(240, 0x1901))
            mstore(add(m, 2), domain)
            mstore(add(m, 34), hash)
            digest := keccak256(m, 66)
        }
    }

    /// @notice Whether the bytes are signatures one after the other, each in its only spelling.
    function areCanonical(bytes calldata signatures) internal pure returns (bool canonical) {
        if (signatures.length % SIGNATURE_LENGTH != 0) return false;
        assembly ("memory-safe") {
            canonical := 1
            let at := signatures.offset
            for { let end := add(at, signatures.length) } lt(at, end) { at := add(at, SIGNATURE_LENGTH) } {
                let v := byte(0, calldataload(add(at, 64)))
                // Less one, so that zero wraps around and is too large.
                let r := lt(sub(calldataload(at), 1), ORDER_LESS_ONE)
                let s := lt(sub(calldataload(add(at, 32)), 1), HALF_ORDER)
                canonical := and(canonical, and(lt(sub(v, 27), 2), and(r, s)))
            }
        }
    }

    /// @notice Whether the signature, which must be canonical, is `signer`'s.
    function isSignedBy(bytes32 digest, bytes calldata signature, address signer) internal view returns (bool signed) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, digest)
            mstore(add(m, 32), byte(0, calldataload(add(signature.offset, 64))))
            calldatacopy(add(m, 64), signature.offset, 64)
            if iszero(staticcall(gas(), 1, m, 128, 0, 32)) { invalid() }
            signed := and(eq(returndatasize(), 32), iszero(shl(96, xor(mload(0), signer))))
        }
    }

    /// @notice Counts the seats that signed. The signatures must be canonical and ascend by signer, as seats do in
    /// `members`, so one pass over the seats finds them all.
    /// @return ok False when a signature is nobody's, a stranger's, or out of order.
    /// @return counts Signers of the region of rank k in bits 8k to 8k + 7.
    function count(bytes32 digest, bytes calldata cosignatures, bytes calldata members)
        internal
        view
        returns (bool ok, uint256 counts)
    {
        (uint256 seat, uint256 seatsEnd) = MeridianCommittee.seatsOf(members);
        assembly ("memory-safe") {
            ok := 1
            let m := mload(0x40)
            mstore(m, digest)
            let at := cosignatures.offset
            for { let end := add(at, cosignatures.length) } lt(at, end) { at := add(at, SIGNATURE_LENGTH) } {
                mstore(add(m, 32), byte(0, calldataload(add(at, 64))))
                calldatacopy(add(m, 64), at, 64)
                if iszero(staticcall(gas(), 1, m, 128, 0, 32)) { invalid() }

                // A seat is read with its rank behind its address, so up to its own seat the signer is the greater.
                let signer := shl(96, mload(0))
                let held := 0
                for {} lt(seat, seatsEnd) {} {
                    held := calldataload(seat)
                    seat := add(seat, 21)
                    if iszero(lt(held, signer)) { break }
                }
                // Without an answer the word still holds the signer before.
                if or(shr(96, xor(held, signer)), iszero(returndatasize())) {
                    ok := 0
                    break
                }
                counts := add(counts, shl(shl(3, byte(20, held)), 1))
            }
        }
    }

    /// @notice Which regions are complete: as many signers as their quorum or more.
    /// @param counts From `count`; at most 32 in a region.
    /// @param quorums The first word of the members: 31 lanes, 0x7f in those without a region.
    /// @return complete The top bit of the lane of each complete region.
    function completeRegions(uint256 counts, uint256 quorums) internal pure returns (uint256 complete) {
        unchecked {
            return ((counts | LANE_TOPS) - (quorums & LANES)) & LANE_TOPS;
        }
    }

    /// @notice Whether the complete regions are at least `minCopies`, the top byte of the members' first word.
    function isQuorum(uint256 complete, uint256 quorums) internal pure returns (bool) {
        unchecked {
            return ((complete >> 7) * SUM_OF_BYTES) >> 248 >= quorums >> 248;
        }
    }
}
