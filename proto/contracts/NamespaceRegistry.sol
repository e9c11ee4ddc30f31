// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {INamespaceRegistry} from "./INamespaceRegistry.sol";

/// @title The registry of namespaces.
/// @notice Gateways that are told of it take puts under a namespace from its owner and its writers only. It has no
/// owner of its own, no fee, no upgrade and no pause, calls nobody and holds nothing of value.
contract NamespaceRegistry is INamespaceRegistry {
    struct Namespace {
        address owner;
        /// Grows with every transfer: who was allowed to write before is not afterwards.
        uint64 generation;
        address offered;
    }

    mapping(bytes32 namespace => Namespace) private _namespaces;
    mapping(bytes32 namespace => mapping(uint256 generation => mapping(address writer => bool))) private _writers;

    error AlreadyCreated(bytes32 namespace);
    error NotTheOwner(bytes32 namespace, address owner);
    error NotOffered(bytes32 namespace, address offered);
    error NobodyMayWrite();

    modifier onlyOwner(bytes32 namespace) {
        address owner = _namespaces[namespace].owner;
        if (msg.sender != owner) revert NotTheOwner(namespace, owner);
        _;
    }

    /// @inheritdoc INamespaceRegistry
    function create(bytes32 salt) external returns (bytes32 namespace) {
        namespace = namespaceOf(msg.sender, salt);
        Namespace storage record = _namespaces[namespace];
        if (record.owner != address(0)) revert AlreadyCreated(namespace);
        record.owner = msg.sender;
        emit NamespaceCreated(namespace, msg.sender);
    }

    /// @inheritdoc INamespaceRegistry
    function offer(bytes32 namespace, address to) external onlyOwner(namespace) {
        _namespaces[namespace].offered = to;
        emit NamespaceOffered(namespace, to);
    }

    /// @inheritdoc INamespaceRegistry
    function accept(bytes32 namespace) external {
        Namespace storage record = _namespaces[namespace];
        if (msg.sender != record.offered) revert NotOffered(namespace, record.offered);
        address from = record.owner;
        record.owner = msg.sender;
        record.offered = address(0);
        ++record.generation;
        emit NamespaceTransferred(namespace, from, msg.sender);
    }

    /// @inheritdoc INamespaceRegistry
    function allow(bytes32 namespace, address writer) external onlyOwner(namespace) {
        // What a broken signature recovers to.
        if (writer == address(0)) revert NobodyMayWrite();
        _writers[namespace][_namespaces[namespace].generation][writer] = true;
        emit WriterAllowed(namespace, writer);
    }

    /// @inheritdoc INamespaceRegistry
    function deny(bytes32 namespace, address writer) external onlyOwner(namespace) {
        _writers[namespace][_namespaces[namespace].generation][writer] = false;
        emit WriterDenied(namespace, writer);
    }

    /// @inheritdoc INamespaceRegistry
    function ownerOf(bytes32 namespace) external view returns (address) {
        return _namespaces[namespace].owner;
    }

    /// @inheritdoc INamespaceRegistry
    function offeredTo(bytes32 namespace) external view returns (address) {
        return _namespaces[namespace].offered;
    }

    /// @inheritdoc INamespaceRegistry
    function mayWrite(bytes32 namespace, address writer) external view returns (bool) {
        Namespace storage record = _namespaces[namespace];
        if (writer == address(0)) return false;
        return writer == record.owner || _writers[namespace][record.generation][writer];
    }

    /// @inheritdoc INamespaceRegistry
    function namespaceOf(address creator, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(address(this), creator, salt));
    }
}
