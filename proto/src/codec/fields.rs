//! Counts the fields of a message before it is decoded.
//!
//! An empty item of a list takes two bytes on the wire and over a hundred in memory, so a limit on the bytes of a
//! message alone does not bound the memory that decoding takes.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{DecodeError, Message, Name};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::{FILE_DESCRIPTOR_SET, MAX_FIELDS};

/// Why a message is not decoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum FieldsError {
    /// More than [`MAX_FIELDS`].
    #[error("has more than {MAX_FIELDS} fields")]
    TooMany,
    /// A group: no message of this protocol has one.
    #[error("has a group")]
    Group,
    /// A value that is longer than what is left.
    #[error("ends within a field")]
    Truncated,
    /// A type that is none of the protocol's.
    #[error("is of an unknown type")]
    UnknownType,
    /// A key or number that does not parse.
    #[error(transparent)]
    Parse(#[from] DecodeError),
}

/// Numbers of the fields that are messages, with the names of their types.
type Inner = HashMap<u32, String>;

/// All types of the protocol by name. None contains itself.
static TYPES: LazyLock<HashMap<String, Inner>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let types = set.file.iter().flat_map(|file| {
        let name = |message: &DescriptorProto| format!("{}.{}", file.package(), message.name());
        file.message_type.iter().map(move |message| (name(message), inner(message)))
    });
    types.collect()
});

fn inner(message: &DescriptorProto) -> Inner {
    let messages = message.field.iter().filter(|field| field.r#type() == Type::Message);
    let named = messages.filter_map(|field| {
        Some((u32::try_from(field.number()).ok()?, field.type_name().trim_start_matches('.').to_owned()))
    });
    named.collect()
}

/// Refuses a message with more fields than any within the protocol's limits, and what no decoder could read.
pub(super) fn check<M: Name>(message: &[u8]) -> Result<(), FieldsError> {
    let mut left = MAX_FIELDS;
    count(message, &M::full_name(), &mut left)
}

fn count(mut bytes: &[u8], name: &str, left: &mut usize) -> Result<(), FieldsError> {
    let inner = TYPES.get(name).ok_or(FieldsError::UnknownType)?;
    while !bytes.is_empty() {
        *left = left.checked_sub(1).ok_or(FieldsError::TooMany)?;
        let (field, wire_type) = decode_key(&mut bytes)?;
        let length = match wire_type {
            WireType::Varint => decode_varint(&mut bytes).map(|_| 0)?,
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX),
            WireType::StartGroup | WireType::EndGroup => return Err(FieldsError::Group),
        };
        let (value, rest) = bytes.split_at_checked(length).ok_or(FieldsError::Truncated)?;
        if wire_type == WireType::LengthDelimited
            && let Some(name) = inner.get(&field)
        {
            count(value, name, left)?;
        }
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::disperse_request::Part;
    use crate::{MAX_ENTRIES, MAX_MESSAGE, MAX_SEATS, wire};

    fn range(hashes: usize) -> Vec<u8> {
        let range = wire::RangeStart { start: 0, count: 1, proof: vec![Bytes::new(); hashes] };
        wire::DisperseRequest { part: Some(Part::Range(range)) }.encode_to_vec()
    }

    fn entry() -> wire::LogEntry {
        let hash = Bytes::from_static(&[7; 32]);
        wire::LogEntry {
            blob_id: hash.clone(),
            namespace: hash.clone(),
            payload_hash: hash,
            length: u64::MAX,
            epoch: u64::MAX,
            time: u64::MAX,
            expiry: u64::MAX,
        }
    }

    fn signed() -> wire::SignedCheckpoint {
        let checkpoint = wire::Checkpoint {
            gateway: Bytes::from_static(&[7; 20]),
            epoch: 1,
            size: 1,
            root: Bytes::from_static(&[7; 32]),
            timestamp: 1,
        };
        wire::SignedCheckpoint { checkpoint: Some(checkpoint), signature: Bytes::from_static(&[7; 65]) }
    }

    #[test]
    fn floods_of_empty_items_are_refused() {
        // CosignRequest.entries, without a single byte in each.
        let flood = [0x22, 0].repeat(MAX_MESSAGE / 2);
        assert_eq!(check::<wire::CosignRequest>(&flood), Err(FieldsError::TooMany));
        for (entries, within) in [(MAX_FIELDS - 1, true), (MAX_FIELDS, true), (MAX_FIELDS + 1, false)] {
            assert_eq!(check::<wire::CosignRequest>(&flood[..2 * entries]).is_ok(), within);
        }
        // In a message inside: DisperseRequest.range, its count and the hashes.
        for (hashes, within) in [(MAX_FIELDS - 3, true), (MAX_FIELDS - 2, true), (MAX_FIELDS - 1, false)] {
            assert_eq!(check::<wire::DisperseRequest>(&range(hashes)).is_ok(), within);
        }
        // Spread over many messages inside.
        let cosigned = wire::CosignedCheckpoint { signed: None, cosignatures: vec![Bytes::new(); 8] };
        let spread = wire::ListLogsResponse { checkpoints: vec![cosigned; MAX_FIELDS / 8] };
        assert_eq!(check::<wire::ListLogsResponse>(&spread.encode_to_vec()), Err(FieldsError::TooMany));
        // Fields that the decoder would skip.
        let unknown = [0xf8, 0x07, 0].repeat(MAX_FIELDS + 1);
        assert_eq!(check::<wire::GetCommitteeRequest>(&unknown), Err(FieldsError::TooMany));
    }

    #[test]
    fn the_largest_messages_pass() {
        let cosign = wire::CosignRequest {
            format_version: 1,
            signed: Some(signed()),
            start: 1,
            entries: vec![entry(); MAX_ENTRIES],
        };
        assert_eq!(check::<wire::CosignRequest>(&cosign.encode_to_vec()), Ok(()));

        let item = wire::LogItem { item: Some(wire::log_item::Item::Entry(entry())) };
        let entries = wire::GetEntriesResponse { items: vec![item; MAX_ENTRIES] };
        assert_eq!(check::<wire::GetEntriesResponse>(&entries.encode_to_vec()), Ok(()));

        let seat = wire::SeatHealth {
            address: Bytes::from_static(&[7; 20]),
            connected: true,
            in_quorum: true,
            cosigned_size: 1,
            round_trip_us: 1,
            last_error: "x".to_owned(),
        };
        let status = wire::GatewayStatus { seats: vec![seat; MAX_SEATS], ..Default::default() };
        assert_eq!(check::<wire::GatewayStatus>(&status.encode_to_vec()), Ok(()));

        // As many logs as fit, each with the fewest cosignatures or with the most.
        for cosignatures in [0, 1, MAX_SEATS] {
            let cosignatures = vec![Bytes::from_static(&[7; 65]); cosignatures];
            let cosigned = wire::CosignedCheckpoint { signed: Some(signed()), cosignatures };
            let logs = (MAX_MESSAGE / (cosigned.encoded_len() + 4)).min(crate::MAX_LOGS);
            let listing = wire::ListLogsResponse { checkpoints: vec![cosigned; logs] }.encode_to_vec();
            assert!(listing.len() <= MAX_MESSAGE);
            assert_eq!(check::<wire::ListLogsResponse>(&listing), Ok(()));
        }

        // Bytes are not looked into.
        let rows = wire::DisperseRequest { part: Some(Part::Rows([0x1a, 0].repeat(MAX_FIELDS * 2).into())) };
        assert_eq!(check::<wire::DisperseRequest>(&rows.encode_to_vec()), Ok(()));
    }

    #[test]
    fn what_no_decoder_reads_is_refused() {
        for (bytes, error) in [
            (&[0x22, 5, 1][..], FieldsError::Truncated),
            (&[0x0d, 1, 2, 3], FieldsError::Truncated),
            (&[0x09, 1], FieldsError::Truncated),
            (&[0x22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], FieldsError::Truncated),
            (&[0x7b, 0x7c], FieldsError::Group),
            (&[0x7c], FieldsError::Group),
        ] {
            assert_eq!(check::<wire::CosignRequest>(bytes), Err(error));
        }
        for bytes in [&[0_u8][..], &[0x08], &[0x08, 0x80], &[0x80], &[0x22, 2, 8, 0x80]] {
            assert!(matches!(check::<wire::CosignRequest>(bytes), Err(FieldsError::Parse(_))), "{bytes:?}");
        }
    }

    #[test]
    fn every_type_inside_is_known_and_none_contains_itself() {
        fn depth(name: &str) -> usize {
            1 + TYPES[name].values().map(|name| depth(name)).max().unwrap_or(0)
        }
        assert!(TYPES.len() > 30);
        assert_eq!(TYPES.keys().map(|name| depth(name)).max(), Some(4));
    }

    proptest! {
        #[test]
        fn what_the_decoder_reads_passes(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
            let request = wire::CosignRequest {
                format_version: 1, signed: Some(signed()), start: 1, entries: vec![entry(); 2],
            };
            let mut bytes = request.encode_to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut.index(3));
            let checked = check::<wire::CosignRequest>(&bytes);
            if checked != Err(FieldsError::Group) && wire::CosignRequest::decode(bytes.as_slice()).is_ok() {
                prop_assert_eq!(checked, Ok(()));
            }
        }
    }
}
