// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BlobHeader, MeridianKzg} from "../MeridianKzg.sol";

/// @title The KZG library's functions as calls.
contract KzgHarness {
    function blobId(BlobHeader calldata header) external pure returns (bytes32) {
        return MeridianKzg.blobId(header);
    }

    function open(
        BlobHeader calldata header,
        bytes calldata commitments,
        bytes calldata opening,
        uint256 element
    ) external view returns (uint8 status, bytes31 value) {
        return MeridianKzg.open(header, commitments, opening, element);
    }

    function isAvailable() external view returns (bool) {
        return MeridianKzg.isAvailable();
    }

    function pointOf(uint256 i) external pure returns (uint256) {
        return MeridianKzg.pointOf(i);
    }
}
