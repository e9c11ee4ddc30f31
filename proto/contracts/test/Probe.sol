// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Measures what a call costs a contract that makes it.
contract Probe {
    /// @notice Calls a view and says how much gas it took, without that of the transaction.
    function run(address target, bytes calldata data)
        external
        view
        returns (uint256 gasUsed, bool ok, bytes memory result)
    {
        bytes memory input = data;
        uint256 before = gasleft();
        (ok, result) = target.staticcall(input);
        gasUsed = before - gasleft();
    }
}
