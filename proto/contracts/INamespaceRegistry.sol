// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// @title Whose a namespace is, and who else may write under it.
interface INamespaceRegistry {
    /// @notice A namespace is there.
    event NamespaceCreated(bytes32 indexed namespace, address indexed owner);
    /// @notice Its owner offers it to somebody, or to nobody any more (zero).
    event NamespaceOffered(bytes32 indexed namespace, address indexed to);
    /// @notice It has another owner; the writers of the former one may not write any more.
    event NamespaceTransferred(bytes32 indexed namespace, address indexed from, address indexed to);
    /// @notice Its owner lets somebody write.
    event WriterAllowed(bytes32 indexed namespace, address indexed writer);
    /// @notice Its owner lets somebody write no more.
    event WriterDenied(bytes32 indexed namespace, address indexed writer);

    /// @notice Makes a namespace of the caller's. Its number follows from the caller and the salt, so that nobody can
    /// take it away by being faster.
    function create(bytes32 salt) external returns (bytes32 namespace);

    /// @notice Offers a namespace to somebody, who has to accept it; to zero, takes the offer back.
    function offer(bytes32 namespace, address to) external;

    /// @notice Takes over a namespace that was offered to the caller.
    function accept(bytes32 namespace) external;

    /// @notice Lets somebody write.
    function allow(bytes32 namespace, address writer) external;

    /// @notice Lets somebody write no more.
    function deny(bytes32 namespace, address writer) external;

    /// @notice The namespace that `creator` makes with `salt`: keccak256(abi.encode(registry, creator, salt)).
    function namespaceOf(address creator, bytes32 salt) external view returns (bytes32);

    /// @notice Whose it is; zero when there is no such namespace.
    function ownerOf(bytes32 namespace) external view returns (address);

    /// @notice Whom it is offered to; zero for nobody.
    function offeredTo(bytes32 namespace) external view returns (address);

    /// @notice Whether somebody is its owner or one of its writers.
    function mayWrite(bytes32 namespace, address writer) external view returns (bool);
}
