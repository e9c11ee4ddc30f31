// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {IMeridian, LogEntry} from "../IMeridian.sol";
import {MeridianCertificate} from "../MeridianCertificate.sol";
import {MeridianStatus} from "../MeridianStatus.sol";

/// @title A rollup's inbox: the order of its batches, each of them kept by Meridian for the whole challenge window.
/// @notice A batch gets in by a certificate, or, when the certificate's epoch has closed meanwhile, by its anchored
/// entry. The poster names the number that the batch shall have, so one that is sent again after a lost receipt is not
/// taken twice. A certificate does not say that its payload is a batch: derivation skips what it cannot read.
contract BatchInbox {
    using MeridianCertificate for bytes;

    /// @notice Who judges certificates.
    IMeridian public immutable registry;
    /// @notice Who may post.
    address public immutable poster;
    /// @notice The rollup's namespace.
    bytes32 public immutable namespace;
    /// @notice Seconds for which a batch must be kept from its posting on.
    uint64 public immutable window;

    /// @notice Number of the next batch.
    uint256 public next;
    /// @notice Binds to all batches in their order: keccak256(head before, blob id).
    bytes32 public head;

    /// @notice Batch `number` is the payload of this blob.
    event BatchPosted(uint256 indexed number, bytes32 indexed blobId, uint64 length, uint64 expiry, bytes32 head);

    error NotThePoster();
    error NobodyMayPost();
    error NotTheNextBatch(uint256 next);
    error NotValid(uint8 status);
    error NotAnchored();
    error ForeignNamespace(bytes32 namespace);
    error ExpiresTooSoon(uint64 expiry);

    modifier inTurn(uint256 number) {
        if (msg.sender != poster) revert NotThePoster();
        if (number != next) revert NotTheNextBatch(next);
        _;
    }

    constructor(IMeridian registry_, address poster_, bytes32 namespace_, uint64 window_) {
        if (poster_ == address(0)) revert NobodyMayPost();
        registry = registry_;
        poster = poster_;
        namespace = namespace_;
        window = window_;
    }

    /// @notice Takes a batch by its certificate.
    /// @param number Which one it shall be.
    /// @param members Of the certificate's epoch.
    function post(uint256 number, bytes calldata certificate, bytes calldata members) external inTurn(number) {
        uint8 status = registry.verifyCertificateUntil(certificate, members, uint64(block.timestamp) + window);
        if (status != MeridianStatus.VALID) revert NotValid(status);
        // Only now are the fields worth reading.
        if (certificate.namespace() != namespace) revert ForeignNamespace(certificate.namespace());
        _append(number, certificate.blobId(), certificate.payloadLength(), certificate.expiry());
    }

    /// @notice Takes a batch by its entry in a gateway's anchored log.
    /// @param number Which one it shall be.
    /// @param index Place of the entry in the log.
    /// @param proof Inclusion path under the latest anchor.
    function postAnchored(
        uint256 number,
        LogEntry calldata entry,
        uint64 index,
        bytes32[] calldata proof,
        address gateway
    ) external inTurn(number) {
        if (entry.expiry < block.timestamp + window) revert ExpiresTooSoon(entry.expiry);
        if (entry.namespace != namespace) revert ForeignNamespace(entry.namespace);
        if (!registry.verifyAnchored(entry, index, proof, gateway)) revert NotAnchored();
        _append(number, entry.blobId, entry.length, entry.expiry);
    }

    function _append(uint256 number, bytes32 blobId, uint64 length, uint64 expiry) private {
        next = number + 1;
        head = keccak256(abi.encode(head, blobId));
        emit BatchPosted(number, blobId, length, expiry, head);
    }
}
