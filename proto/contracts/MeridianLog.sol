// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {LogEntry} from "./IMeridian.sol";

/// @title RFC 6962 logs: leaves, inclusion and consistency.
/// @notice Each proof has one length that follows from its sizes, and one with any other length is refused. Sizes and
/// indices are at most 2^64 - 1; the caller sees to that.
/// @dev Nodes are keccak256(0x01, left, right), leaves keccak256(0x00, entry). A path is two pieces: up to where the
/// paths of the entry and of the last entry meet there is a sibling at every level, right or left as the index's bit
/// says; from there on the path runs along the right border, with a sibling on the left for each set bit only.
library MeridianLog {
    /// @notice Hash of an entry as a leaf.
    function leafOf(LogEntry calldata entry) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0), abi.encode(entry)));
    }

    /// @notice Number of hashes in the inclusion path of `index`, which must be below `size`.
    function pathLength(uint256 index, uint256 size) internal pure returns (uint256 length) {
        unchecked {
            // All bits below the meeting point, and the set bits of the index above it: one hash for each.
            uint256 bits = index ^ (size - 1);
            bits |= bits >> 1;
            bits |= bits >> 2;
            bits |= bits >> 4;
            bits |= bits >> 8;
            bits |= bits >> 16;
            bits |= bits >> 32;
            bits |= index;
            // Counted in pairs, fours, bytes, and all together.
            bits -= (bits >> 1) & 0x5555555555555555;
            bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333);
            bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
            return ((bits * 0x0101010101010101) >> 56) & 0xff;
        }
    }

    /// @notice Whether the leaf is at `index` of the log with `size` entries and this root.
    /// @return included False, and no revert, whatever the proof is.
    function isIncluded(bytes32 leaf, uint256 index, uint256 size, bytes32[] calldata proof, bytes32 root)
        internal
        pure
        returns (bool included)
    {
        if (index >= size) return false;
        // At most 64 steps for each loop. What lies after the proof may be read, but then the lengths differ.
        assembly ("memory-safe") {
            let left := add(mload(0x40), 32)
            let right := add(left, 32)
            let node := sub(left, 1)
            mstore(mload(0x40), 1)

            let next := proof.offset
            let hash := leaf
            let path := index
            for { let differing := xor(index, sub(size, 1)) } differing { differing := shr(1, differing) } {
                let side := shl(5, and(path, 1))
                mstore(add(left, side), hash)
                mstore(sub(right, side), calldataload(next))
                hash := keccak256(node, 65)
                next := add(next, 32)
                path := shr(1, path)
            }
            for {} path { path := and(path, sub(path, 1)) } {
                mstore(left, calldataload(next))
                mstore(right, hash)
                hash := keccak256(node, 65)
                next := add(next, 32)
            }
            included := and(eq(next, add(proof.offset, shl(5, proof.length))), eq(hash, root))
        }
    }

    /// @notice Whether the log of `size` entries with `root` begins with the log of `oldSize` entries with `oldRoot`.
    /// @dev The proof is empty where the old size is 0 (and its root zero) or the sizes are equal.
    /// @return consistent False, and no revert, whatever the proof is.
    function isConsistent(
        uint256 oldSize,
        bytes32 oldRoot,
        uint256 size,
        bytes32 root,
        bytes32[] calldata proof
    ) internal pure returns (bool consistent) {
        if (oldSize > size) return false;
        if (oldSize == 0) return proof.length == 0 && oldRoot == 0 && (size != 0 || root == 0);
        if (oldSize == size) return proof.length == 0 && oldRoot == root;
        assembly ("memory-safe") {
            let left := add(mload(0x40), 32)
            let right := add(left, 32)
            let node := sub(left, 1)
            mstore(mload(0x40), 1)

            // Both roots are reached from the last complete subtree of the old log.
            let next := proof.offset
            let path := sub(oldSize, 1)
            let differing := xor(path, sub(size, 1))
            for {} and(path, 1) {} {
                path := shr(1, path)
                differing := shr(1, differing)
            }
            let hash := oldRoot
            if and(oldSize, sub(oldSize, 1)) {
                hash := calldataload(next)
                next := add(next, 32)
            }
            let oldHash := hash
            for {} differing { differing := shr(1, differing) } {
                let sibling := calldataload(next)
                next := add(next, 32)
                switch and(path, 1)
                case 0 {
                    // The old log had nothing there yet.
                    mstore(left, hash)
                    mstore(right, sibling)
                    hash := keccak256(node, 65)
                }
                default {
                    mstore(left, sibling)
                    mstore(right, hash)
                    hash := keccak256(node, 65)
                    mstore(right, oldHash)
                    oldHash := keccak256(node, 65)
                }
                path := shr(1, path)
            }
            for {} path { path := and(path, sub(path, 1)) } {
                mstore(left, calldataload(next))
                mstore(right, hash)
                hash := keccak256(node, 65)
                mstore(right, oldHash)
                oldHash := keccak256(node, 65)
                next := add(next, 32)
            }
            consistent := and(
                eq(next, add(proof.offset, shl(5, proof.length))),
                and(eq(oldHash, oldRoot), eq(hash, root))
            )
        }
    }
}
