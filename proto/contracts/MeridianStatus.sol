// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// @title What the registry says of a certificate. The numbers never change their meaning.
library MeridianStatus {
    /// It holds.
    uint8 internal constant VALID = 0;
    /// The bytes are no certificate.
    uint8 internal constant MALFORMED = 1;
    /// Its epoch is not scheduled, or has not begun.
    uint8 internal constant EPOCH_UNKNOWN = 2;
    /// Its epoch and the grace after it are over.
    uint8 internal constant EPOCH_CLOSED = 3;
    /// The members that were given are not those of its epoch.
    uint8 internal constant WRONG_MEMBERS = 4;
    /// Its entry is of another epoch than its checkpoint.
    uint8 internal constant ENTRY_OF_ANOTHER_EPOCH = 5;
    /// Its gateway is not one of the epoch's.
    uint8 internal constant NOT_A_GATEWAY = 6;
    /// Its retention is outside the limits, or its entry is later than its checkpoint.
    uint8 internal constant BAD_TIMES = 7;
    /// Its entry is not in the log at its index.
    uint8 internal constant BAD_PROOF = 8;
    /// Its gateway did not sign.
    uint8 internal constant BAD_GATEWAY_SIGNATURE = 9;
    /// A cosignature is nobody's or a stranger's, out of order, or there are more than seats.
    uint8 internal constant BAD_COSIGNATURE = 10;
    /// Too few regions are complete.
    uint8 internal constant NO_QUORUM = 11;
    /// It has expired.
    uint8 internal constant EXPIRED = 12;
    /// It expires before the time that the caller asked for.
    uint8 internal constant EXPIRES_TOO_SOON = 13;
    /// Its checkpoint is more than a minute ahead of the chain.
    uint8 internal constant FROM_THE_FUTURE = 14;
}
