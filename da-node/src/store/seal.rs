//! What RocksDB keeps under a key: a value or its place, with our own checksum.

use super::segments::Place;

/// First byte of what RocksDB keeps: the value follows, or its place.
pub(super) const INLINE: u8 = 0;
pub(super) const PLACED: u8 = 1;
/// Bytes before the value: what it is, crc32c.
pub(super) const SEAL_LEN: usize = 5;
/// Bytes of a place: segment, offset, length, crc32c of the value.
pub(super) const PLACE_LEN: usize = 24;

/// What RocksDB keeps under a key.
pub(super) enum Stored<'a> {
    Inline(&'a [u8]),
    Placed(Placed),
}

/// Where a large value is, and its checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) crc: u32,
}

pub(super) fn seal(key: &[u8], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SEAL_LEN + body.len());
    sealed.push(kind);
    sealed.extend_from_slice(&checksum(key, &[&[kind], body]).to_be_bytes());
    sealed.extend_from_slice(body);
    sealed
}

pub(super) fn decode<'a>(key: &[u8], sealed: &'a [u8]) -> Option<Stored<'a>> {
    let (kind, rest) = sealed.split_first()?;
    let (crc, body) = rest.split_first_chunk()?;
    if u32::from_be_bytes(*crc) != checksum(key, &[&[*kind], body]) {
        return None;
    }
    match *kind {
        INLINE => Some(Stored::Inline(body)),
        PLACED => decode_place(body).map(Stored::Placed),
        _ => None,
    }
}

pub(super) fn encode_place(place: Place, crc: u32) -> [u8; PLACE_LEN] {
    let mut body = [0; PLACE_LEN];
    body[..8].copy_from_slice(&place.segment.to_be_bytes());
    body[8..16].copy_from_slice(&place.offset.to_be_bytes());
    body[16..20].copy_from_slice(&place.bytes.to_be_bytes());
    body[20..].copy_from_slice(&crc.to_be_bytes());
    body
}

pub(super) fn decode_place(body: &[u8]) -> Option<Placed> {
    let (segment, rest) = body.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (bytes, crc) = rest.split_first_chunk()?;
    let place = Place {
        segment: u64::from_be_bytes(*segment),
        offset: u64::from_be_bytes(*offset),
        bytes: u32::from_be_bytes(*bytes),
    };
    Some(Placed { place, crc: u32::from_be_bytes(crc.try_into().ok()?) })
}

/// Covers the key as well, so that a value under another key is noticed.
pub(super) fn checksum(key: &[u8], parts: &[&[u8]]) -> u32 {
    parts.iter().fold(crc32c::crc32c(key), |crc, part| crc32c::crc32c_append(crc, part))
}
