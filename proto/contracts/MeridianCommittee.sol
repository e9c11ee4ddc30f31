// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

import {Gateway, Region, Seat, Terms} from "./IMeridian.sol";

/// @title Committees: what makes one, and its packed form.
/// @notice The packed form, `members`, big-endian:
///
/// | offset | bytes | |
/// |---|---|---|
/// | 0 | 32 | quorums: minCopies in the top byte, below it the quorum of the region of rank k in bits 8k to 8k + 7, 0x7f where there is no such region |
/// | 32 | 8 | minRetention |
/// | 40 | 8 | maxRetention |
/// | 48 | 1 | R, number of regions |
/// | 49 | 2 | S, number of seats |
/// | 51 | 1 | G, number of gateways |
/// | 52 | 2 R | region ids, ascending: the rank of a region is its place here |
/// | 52 + 2 R | 21 S | seats, ascending by signer: signer, rank of the region |
/// | 52 + 2 R + 21 S | 20 G | gateways, ascending |
///
/// @dev The readers below trust the bytes: compare their hash with the registry's first.
library MeridianCommittee {
    /// @notice Most regions of a committee: as many lanes of a byte as fit beside `minCopies` in a word.
    uint256 internal constant MAX_REGIONS = 31;
    /// @notice Most seats of a region.
    uint256 internal constant MAX_SEATS_PER_REGION = 32;
    /// @notice Most seats of a committee.
    uint256 internal constant MAX_SEATS = 256;
    /// @notice Most gateways of a committee.
    uint256 internal constant MAX_GATEWAYS = 64;
    /// @notice Most bytes of a region's label.
    uint256 internal constant MAX_LABEL = 64;
    /// @notice Most bytes of an endpoint.
    uint256 internal constant MAX_ENDPOINT = 256;
    /// @notice Longest retention in seconds: ten years of 365 days.
    uint256 internal constant MAX_RETENTION = 315_360_000;
    /// @notice Greatest quota.
    uint256 internal constant MAX_QUOTA = 2 ** 63 - 1;
    /// @notice Millionths of a degree from the equator to a pole.
    int256 internal constant MAX_LATITUDE = 90_000_000;
    /// @notice Millionths of a degree halfway around.
    int256 internal constant MAX_LONGITUDE = 180_000_000;
    /// @notice Bytes of the members without regions, seats and gateways.
    uint256 internal constant FIXED_LENGTH = 52;
    /// @notice Most bytes of the members.
    uint256 internal constant MAX_LENGTH = FIXED_LENGTH + 2 * MAX_REGIONS + 21 * MAX_SEATS + 20 * MAX_GATEWAYS;

    /// @dev The quorums without a region.
    uint256 private constant NO_QUORUMS = 0x007f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f;

    error NoRegions();
    error TooManyRegions(uint256 regions);
    error TooManySeats(uint256 seats);
    error TooManyGateways(uint256 gateways);
    error RegionZero();
    error RegionsNotAscending(uint16 region);
    error LabelLength(uint16 region);
    error LatitudeOutOfRange(uint16 region);
    error LongitudeOutOfRange(uint16 region);
    error RegionWithoutSeats(uint16 region);
    error TooManySeatsInRegion(uint16 region);
    error SeatsNotAscending(address signer);
    error UnknownRegion(address signer, uint16 region);
    error SeatNumberTaken(uint16 region, uint8 number);
    error GatewaysNotAscending(address signer);
    error QuotaOutOfRange(address signer);
    error ZeroAddress();
    error EndpointLength(address signer);
    error MinCopiesOutOfRange(uint16 minCopies);
    error MinRetentionZero();
    error RetentionLimitsCrossed();
    error MaxRetentionTooLong();
    error AlreadyMember(address signer);
    error NotASeat(address signer);

    /// @notice Checks a committee and packs it. One custom error for each thing that can be wrong.
    function pack(
        Region[] calldata regions,
        Seat[] calldata seats,
        Gateway[] calldata gateways,
        Terms calldata terms
    ) internal pure returns (bytes memory members) {
        if (regions.length == 0) revert NoRegions();
        if (regions.length > MAX_REGIONS) revert TooManyRegions(regions.length);
        if (seats.length > MAX_SEATS) revert TooManySeats(seats.length);
        if (gateways.length > MAX_GATEWAYS) revert TooManyGateways(gateways.length);
        _checkTerms(terms, regions.length);

        members = new bytes(FIXED_LENGTH + 2 * regions.length + 21 * seats.length + 20 * gateways.length);
        uint256[] memory ids = new uint256[](regions.length);
        uint256 place = _packRegions(members, regions, ids);
        uint256 quorums;
        (place, quorums) = _packSeats(members, place, seats, ids);
        _packGateways(members, place, gateways, seats);
        _put(members, 0, (uint256(terms.minCopies) << 248) | quorums, 32);
        uint256 rest = (uint256(terms.minRetention) << 192) | (uint256(terms.maxRetention) << 128);
        rest |= (regions.length << 120) | (seats.length << 104) | (gateways.length << 96);
        _put(members, 32, rest, FIXED_LENGTH - 32);
    }

    /// @notice The members with one seat in other hands, in order again.
    function pass(bytes calldata members, address from, address to, string calldata endpoint)
        internal
        pure
        returns (bytes memory passed)
    {
        if (to == address(0)) revert ZeroAddress();
        checkEndpoint(to, endpoint);
        if (isGateway(members, to)) revert AlreadyMember(to);
        (uint256 start, uint256 end) = seatsOf(members);
        uint256 rank = type(uint256).max;
        for (uint256 seat = start; seat < end; seat += 21) {
            uint256 held = _word(seat);
            address signer = address(uint160(held >> 96));
            if (signer == to) revert AlreadyMember(to);
            if (signer == from) rank = (held >> 88) & 0xff;
        }
        if (rank == type(uint256).max) revert NotASeat(from);

        passed = members;
        uint256 place;
        assembly ("memory-safe") {
            place := sub(start, members.offset)
        }
        bool placed = false;
        for (uint256 seat = start; seat < end; seat += 21) {
            uint256 held = _word(seat);
            address signer = address(uint160(held >> 96));
            if (!placed && signer > to) {
                place = _putSeat(passed, place, to, rank);
                placed = true;
            }
            if (signer != from) place = _putSeat(passed, place, signer, (held >> 88) & 0xff);
        }
        if (!placed) _putSeat(passed, place, to, rank);
    }

    /// @notice Reverts when an endpoint is empty or too long.
    function checkEndpoint(address signer, string calldata endpoint) internal pure {
        uint256 length = bytes(endpoint).length;
        if (length == 0 || length > MAX_ENDPOINT) revert EndpointLength(signer);
    }

    /// @notice keccak256 of bytes, straight from calldata.
    function hash(bytes calldata members) internal pure returns (bytes32 result) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            calldatacopy(m, members.offset, members.length)
            result := keccak256(m, members.length)
        }
    }

    /// @notice The first word: `minCopies` and the quorums of the regions.
    function quorumsOf(bytes calldata members) internal pure returns (uint256 quorums) {
        assembly ("memory-safe") {
            quorums := calldataload(members.offset)
        }
    }

    /// @notice Shortest and longest retention, in seconds.
    function retentionOf(bytes calldata members) internal pure returns (uint256 shortest, uint256 longest) {
        assembly ("memory-safe") {
            let word := calldataload(add(members.offset, 32))
            shortest := shr(192, word)
            longest := and(shr(128, word), 0xffffffffffffffff)
        }
    }

    /// @notice Number of seats.
    function seatCountOf(bytes calldata members) internal pure returns (uint256 seats) {
        assembly ("memory-safe") {
            seats := shr(240, calldataload(add(members.offset, 49)))
        }
    }

    /// @notice Where in calldata the seats begin and end.
    function seatsOf(bytes calldata members) internal pure returns (uint256 start, uint256 end) {
        assembly ("memory-safe") {
            // R, S and G at the top.
            let word := calldataload(add(members.offset, 48))
            start := add(add(members.offset, FIXED_LENGTH), shl(1, byte(0, word)))
            end := add(start, mul(21, and(shr(232, word), 0xffff)))
        }
    }

    /// @notice Whether an address is one of the gateways.
    function isGateway(bytes calldata members, address gateway) internal pure returns (bool found) {
        (, uint256 seatsEnd) = seatsOf(members);
        assembly ("memory-safe") {
            let wanted := shl(96, gateway)
            for { let end := add(members.offset, members.length) } lt(seatsEnd, end) { seatsEnd := add(seatsEnd, 20) } {
                if iszero(shr(96, xor(calldataload(seatsEnd), wanted))) {
                    found := 1
                    break
                }
            }
        }
    }

    /// @notice Ids of the regions whose lane is marked in `complete` (see `MeridianSignatures.completeRegions`).
    function regionIds(bytes calldata members, uint256 complete) internal pure returns (uint16[] memory ids) {
        ids = new uint16[](MAX_REGIONS);
        uint256 found = 0;
        for (uint256 rank = 0; complete != 0; ++rank) {
            if (complete & 0x80 != 0) {
                uint256 place;
                assembly ("memory-safe") {
                    place := add(add(members.offset, FIXED_LENGTH), shl(1, rank))
                }
                ids[found] = uint16(_word(place) >> 240);
                ++found;
            }
            complete >>= 8;
        }
        assembly ("memory-safe") {
            mstore(ids, found)
        }
    }

    function _checkTerms(Terms calldata terms, uint256 regions) private pure {
        if (terms.minCopies == 0 || terms.minCopies > regions) revert MinCopiesOutOfRange(terms.minCopies);
        if (terms.minRetention == 0) revert MinRetentionZero();
        if (terms.minRetention > terms.maxRetention) revert RetentionLimitsCrossed();
        if (terms.maxRetention > MAX_RETENTION) revert MaxRetentionTooLong();
    }

    function _packRegions(bytes memory members, Region[] calldata regions, uint256[] memory ids)
        private
        pure
        returns (uint256 place)
    {
        place = FIXED_LENGTH;
        uint256 last = 0;
        for (uint256 rank = 0; rank < regions.length; ++rank) {
            Region calldata region = regions[rank];
            uint16 id = region.id;
            if (id == 0) revert RegionZero();
            if (id <= last) revert RegionsNotAscending(id);
            uint256 length = bytes(region.label).length;
            if (length == 0 || length > MAX_LABEL) revert LabelLength(id);
            if (region.latitude < -MAX_LATITUDE || region.latitude > MAX_LATITUDE) revert LatitudeOutOfRange(id);
            if (region.longitude < -MAX_LONGITUDE || region.longitude > MAX_LONGITUDE) revert LongitudeOutOfRange(id);
            place = _put(members, place, uint256(id) << 240, 2);
            ids[rank] = id;
            last = id;
        }
    }

    function _packSeats(bytes memory members, uint256 start, Seat[] calldata seats, uint256[] memory ids)
        private
        pure
        returns (uint256 place, uint256 quorums)
    {
        place = start;
        // The numbers taken in each region, and how many.
        uint256[] memory taken = new uint256[](ids.length);
        uint256[] memory counts = new uint256[](ids.length);
        address last = address(0);
        for (uint256 i = 0; i < seats.length; ++i) {
            Seat calldata seat = seats[i];
            address signer = seat.signer;
            if (signer == address(0)) revert ZeroAddress();
            if (signer <= last) revert SeatsNotAscending(signer);
            checkEndpoint(signer, seat.endpoint);
            uint256 rank = 0;
            while (rank < ids.length && ids[rank] != seat.region) ++rank;
            if (rank == ids.length) revert UnknownRegion(signer, seat.region);
            uint256 number = 1 << seat.number;
            if (taken[rank] & number != 0) revert SeatNumberTaken(seat.region, seat.number);
            taken[rank] |= number;
            if (++counts[rank] > MAX_SEATS_PER_REGION) revert TooManySeatsInRegion(seat.region);
            place = _putSeat(members, place, signer, rank);
            last = signer;
        }
        quorums = NO_QUORUMS;
        for (uint256 rank = 0; rank < ids.length; ++rank) {
            uint256 m = counts[rank];
            if (m == 0) revert RegionWithoutSeats(uint16(ids[rank]));
            // In place of 0x7f.
            quorums ^= (0x7f ^ (m - (m - 1) / 3)) << (8 * rank);
        }
    }

    function _packGateways(bytes memory members, uint256 start, Gateway[] calldata gateways, Seat[] calldata seats)
        private
        pure
    {
        uint256 place = start;
        uint256 seat = 0;
        address last = address(0);
        for (uint256 i = 0; i < gateways.length; ++i) {
            Gateway calldata gateway = gateways[i];
            address signer = gateway.signer;
            if (signer == address(0)) revert ZeroAddress();
            if (signer <= last) revert GatewaysNotAscending(signer);
            checkEndpoint(signer, gateway.endpoint);
            if (gateway.maxBytes > MAX_QUOTA || gateway.maxEntriesPerHour > MAX_QUOTA) revert QuotaOutOfRange(signer);
            while (seat < seats.length && seats[seat].signer < signer) ++seat;
            if (seat < seats.length && seats[seat].signer == signer) revert AlreadyMember(signer);
            place = _put(members, place, uint256(uint160(signer)) << 96, 20);
            last = signer;
        }
    }

    function _putSeat(bytes memory members, uint256 place, address signer, uint256 rank)
        private
        pure
        returns (uint256)
    {
        return _put(members, place, (uint256(uint160(signer)) << 96) | (rank << 88), 21);
    }

    /// @dev Overwrites `length` bytes at an offset with the first bytes of a word, whose others are zero, and returns
    /// the offset behind them.
    function _put(bytes memory members, uint256 place, uint256 word, uint256 length) private pure returns (uint256) {
        assembly ("memory-safe") {
            let to := add(add(members, 32), place)
            let others := shr(shl(3, length), not(0))
            mstore(to, or(and(mload(to), others), word))
        }
        return place + length;
    }

    function _word(uint256 place) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(place)
        }
    }
}
