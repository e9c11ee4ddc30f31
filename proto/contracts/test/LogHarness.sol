// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {LogEntry} from "../IMeridian.sol";
import {MeridianLog} from "../MeridianLog.sol";

/// @title The log library's functions as calls.
contract LogHarness {
    function leafOf(LogEntry calldata entry) external pure returns (bytes32) {
        return MeridianLog.leafOf(entry);
    }

    function pathLength(uint64 index, uint64 size) external pure returns (uint256) {
        return MeridianLog.pathLength(index, size);
    }

    function isIncluded(bytes32 leaf, uint64 index, uint64 size, bytes32[] calldata proof, bytes32 root)
        external
        pure
        returns (bool)
    {
        return MeridianLog.isIncluded(leaf, index, size, proof, root);
    }

    function isConsistent(
        uint64 oldSize,
        bytes32 oldRoot,
        uint64 size,
        bytes32 root,
        bytes32[] calldata proof
    ) external pure returns (bool) {
        return MeridianLog.isConsistent(oldSize, oldRoot, size, root, proof);
    }
}
