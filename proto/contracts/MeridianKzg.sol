// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// What a blob is. Its id is keccak256(abi.encode(header)).
struct BlobHeader {
    uint8 codec;
    uint64 length;
    bytes32 rowRoot;
    bytes32 rlcRoot;
    bytes32 kzgRoot;
}

/// @title Single payload bytes of a blob, by EIP-4844's point evaluation.
/// @notice For fraud proofs: shows 31 bytes of the payload to which a header's `kzgRoot` binds. It needs the precompile
/// 0x0a (Cancun) and says `NO_PRECOMPILE` on a chain without it; nothing else of Meridian needs it.
///
/// What may be relied on: `OPENED` says that the value is element `element` of the payload that `kzgRoot` commits to,
/// and so of the blob, *if* the binding is right. Neither replicas nor certificates say that it is: a rollup's
/// derivation has to drop a blob whose binding does not match, as every full reader can tell.
library MeridianKzg {
    /// @notice The value is that of the element.
    uint8 internal constant OPENED = 0;
    /// @notice The codec is unknown, the length out of bounds, or the header is bound to no commitments.
    uint8 internal constant BAD_HEADER = 1;
    /// @notice The payload has no such element.
    uint8 internal constant NO_SUCH_ELEMENT = 2;
    /// @notice There are too few or too many commitments, or they have another root than the header's.
    uint8 internal constant BAD_COMMITMENTS = 3;
    /// @notice The opening is not of the element: its length, commitment, versioned hash or point is another.
    uint8 internal constant OTHER_ELEMENT = 4;
    /// @notice The value is no element of a payload of this length: its first byte, or one past the end, is not zero.
    uint8 internal constant NOT_AN_ELEMENT = 5;
    /// @notice The proof does not show this value.
    uint8 internal constant BAD_PROOF = 6;
    /// @notice The chain has no point evaluation: nothing can be said of the proof here.
    uint8 internal constant NO_PRECOMPILE = 7;

    /// @notice Payload bytes of an element.
    uint256 internal constant ELEMENT_BYTES = 31;
    /// @notice Elements of a polynomial.
    uint256 internal constant ELEMENTS = 4096;
    /// @notice Payload bytes of a polynomial.
    uint256 internal constant POLYNOMIAL_BYTES = ELEMENT_BYTES * ELEMENTS;
    /// @notice Bytes of a commitment.
    uint256 internal constant COMMITMENT_BYTES = 48;
    /// @notice Bytes of an opening: versioned hash, z, y, commitment, proof.
    uint256 internal constant OPENING_BYTES = 192;
    /// @notice Gas that the precompile may take, since a wrong proof takes all it is given: four times its price of
    /// 50,000, so that a change of prices does not end the use of this library.
    uint256 internal constant POINT_EVALUATION_GAS = 200_000;

    /// @dev Order of the field.
    uint256 private constant MODULUS = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;
    /// @dev 7^((MODULUS - 1) / 4096): the root of unity of EIP-4844.
    uint256 private constant ROOT_OF_UNITY = 0x564c0a11a0f704f4fc3e8acfe0f8245f0ad1347b378fbf96e206da11a5d36306;
    uint256 private constant MAX_PAYLOAD = 2 ** 27;

    /// @notice The blob's id.
    function blobId(BlobHeader calldata header) internal pure returns (bytes32) {
        return keccak256(abi.encode(header));
    }

    /// @notice Checks one opening. Compare `blobId(header)` with the blob in question yourself.
    /// @param commitments All of the blob's, 48 bytes each.
    /// @param opening The precompile's input, 192 bytes.
    /// @param element Which 31 bytes: those from 31 * element on.
    /// @return status `OPENED`, or why not. Never reverts on any contents of the two byte strings. With less than
    /// some 210,000 gas left before the precompile it runs out of gas rather than to answer wrongly.
    /// @return value The payload bytes, zeros past its end; zero unless `OPENED`.
    function open(
        BlobHeader calldata header,
        bytes calldata commitments,
        bytes calldata opening,
        uint256 element
    ) internal view returns (uint8 status, bytes31 value) {
        uint256 length = header.length;
        if (header.codec != 1 || length == 0 || length > MAX_PAYLOAD || header.kzgRoot == 0) return (BAD_HEADER, 0);
        if (element >= _ceilDiv(length, ELEMENT_BYTES)) return (NO_SUCH_ELEMENT, 0);
        if (
            commitments.length != COMMITMENT_BYTES * _ceilDiv(length, POLYNOMIAL_BYTES)
                || keccak256(commitments) != header.kzgRoot
        ) return (BAD_COMMITMENTS, 0);

        if (opening.length != OPENING_BYTES) return (OTHER_ELEMENT, 0);
        uint256 polynomial = COMMITMENT_BYTES * (element / ELEMENTS);
        bytes calldata commitment = opening[96:144];
        if (
            keccak256(commitment) != keccak256(commitments[polynomial:polynomial + COMMITMENT_BYTES])
                || bytes32(opening[:32]) != versionedHash(commitment)
                || uint256(bytes32(opening[32:64])) != pointOf(element % ELEMENTS)
        ) return (OTHER_ELEMENT, 0);

        // Below the order of the field where the first byte is zero.
        uint256 y = uint256(bytes32(opening[64:96]));
        uint256 end = ELEMENT_BYTES * (element + 1);
        uint256 past = end > length ? end - length : 0;
        if (y >> 248 != 0 || y & ((1 << (8 * past)) - 1) != 0) return (NOT_AN_ELEMENT, 0);

        status = _evaluate(opening);
        if (status == OPENED) value = bytes31(bytes32(y << 8));
    }

    /// @notice Whether this chain has point evaluation. An integrator's constructor may insist on it.
    function isAvailable() internal view returns (bool) {
        // The zero polynomial is 0 at 0: commitment and proof are the point at infinity.
        bytes memory infinity = new bytes(COMMITMENT_BYTES);
        infinity[0] = 0xc0;
        bytes32 hash = _versioned(sha256(infinity));
        return _evaluate(abi.encodePacked(hash, uint256(0), uint256(0), infinity, infinity)) == OPENED;
    }

    /// @notice EIP-4844's versioned hash of a commitment.
    function versionedHash(bytes calldata commitment) internal pure returns (bytes32) {
        return _versioned(sha256(commitment));
    }

    /// @notice The point at which a polynomial has its value `i`, below 4096: the root of unity to the power of `i`
    /// with its 12 bits reversed.
    function pointOf(uint256 i) internal pure returns (uint256 z) {
        // Square and multiply from the exponent's top bit, which is the lowest bit of i.
        z = 1;
        for (uint256 bit = 0; bit < 12; ++bit) {
            z = mulmod(z, z, MODULUS);
            if ((i >> bit) & 1 == 1) z = mulmod(z, ROOT_OF_UNITY, MODULUS);
        }
    }

    function _versioned(bytes32 hash) private pure returns (bytes32) {
        return (hash & ~bytes32(bytes1(0xff))) | bytes32(bytes1(0x01));
    }

    /// @dev Calls the precompile.
    function _evaluate(bytes memory input) private view returns (uint8 status) {
        bool success;
        bool complete;
        assembly ("memory-safe") {
            // With less the callee would get less than it may take, and fail for that. A 64th stays here (EIP-150).
            if lt(gas(), add(div(mul(POINT_EVALUATION_GAS, 64), 63), 5000)) { invalid() }
            success := staticcall(POINT_EVALUATION_GAS, 0x0a, add(input, 32), OPENING_BYTES, 0, 64)
            complete :=
                and(eq(returndatasize(), 64), and(eq(mload(0), ELEMENTS), eq(mload(32), MODULUS)))
        }
        if (!success) return BAD_PROOF;
        return complete ? OPENED : NO_PRECOMPILE;
    }

    function _ceilDiv(uint256 a, uint256 b) private pure returns (uint256) {
        return (a + b - 1) / b;
    }
}
