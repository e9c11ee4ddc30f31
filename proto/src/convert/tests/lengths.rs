//! Every field of every message, cut, grown and dropped.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, key_len};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

use super::super::WireError;
use crate::FILE_DESCRIPTOR_SET;

/// Fields that may have many lengths. Their limits have tests of their own.
const OF_ANY_LENGTH: [&str; 6] = [
    "PutRequest.chunk",
    "DisperseRequest.rlc",
    "DisperseRequest.rows",
    "GetRowsResponse.rows",
    "Sample.row",
    "HeldRows.rows",
];

/// Fields that may be empty or absent.
const OPTIONAL: [&str; 7] = [
    "PutStart.expected_blob_id",
    "PutStart.kzg_root",
    "PutStart.authorization",
    "GetCertificateRequest.namespace",
    "Candidate.rlc",
    "GatewayStatus.anchor",
    "AnchorStatus.transaction",
];

/// Messages whose only content is a certificate, which has tests of its own, and the committee, likewise.
const ELSEWHERE: [&str; 3] = ["PutResponse", "GetCertificateResponse", "Committee"];

/// Messages of one type, with what takes or refuses them.
pub(super) struct Subject {
    name: &'static str,
    valid: Vec<Vec<u8>>,
    refusal: fn(&[u8]) -> Option<WireError>,
}

impl Subject {
    pub(super) fn new<W, D>(name: &'static str, strategy: impl Strategy<Value = D>) -> Self
    where
        D: TryFrom<W, Error = WireError>,
        W: From<D> + Message + Default,
    {
        let mut runner = TestRunner::deterministic();
        let mut valid = || W::from(strategy.new_tree(&mut runner).unwrap().current()).encode_to_vec();
        let valid = (0..24).map(|_| valid()).collect();
        let refusal = |bytes: &[u8]| D::try_from(W::decode(bytes).unwrap()).err();
        Self { name, valid, refusal }
    }
}

/// The descriptors of all messages of the package.
fn descriptors() -> BTreeMap<String, DescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let messages = set.file.into_iter().flat_map(|file| file.message_type);
    messages.map(|message| (message.name().to_owned(), message)).collect()
}

/// A field as it stands in an encoded message.
struct Raw {
    tag: u32,
    wire_type: WireType,
    value: Vec<u8>,
}

fn parse(mut bytes: &[u8]) -> Vec<Raw> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes).unwrap();
        let length = match wire_type {
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut bytes).unwrap()).unwrap(),
            WireType::Varint => bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1,
            WireType::SixtyFourBit => 8,
            other => panic!("no field has {other:?}"),
        };
        let (value, rest) = bytes.split_at(length);
        fields.push(Raw { tag, wire_type, value: value.to_vec() });
        bytes = rest;
    }
    fields
}

fn write(fields: &[Raw]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| key_len(field.tag)).sum());
    for field in fields {
        encode_key(field.tag, field.wire_type, &mut bytes);
        if field.wire_type == WireType::LengthDelimited {
            encode_varint(field.value.len().try_into().unwrap(), &mut bytes);
        }
        bytes.extend(&field.value);
    }
    bytes
}

/// Every message that has one field changed, with the names of the fields that an error may carry.
fn changes(
    types: &BTreeMap<String, DescriptorProto>,
    name: &str,
    bytes: &[u8],
    visit: &mut dyn FnMut(&str, &str, Vec<u8>),
) {
    let descriptor = &types[name];
    let count = parse(bytes).len();
    for place in 0..count {
        let change = |with: &dyn Fn(&mut Vec<u8>)| {
            let mut fields = parse(bytes);
            with(&mut fields[place].value);
            write(&fields)
        };
        let dropped = || {
            let mut fields = parse(bytes);
            fields.remove(place);
            write(&fields)
        };
        let raw = &parse(bytes)[place];
        let tag = i32::try_from(raw.tag).unwrap();
        let field = descriptor.field.iter().find(|field| field.number() == tag).unwrap();
        let path = format!("{name}.{}", field.name());
        let repeated = field.label() == Label::Repeated;
        match field.r#type() {
            Type::Bytes if !OF_ANY_LENGTH.contains(&path.as_str()) => {
                visit(&path, "one byte more", change(&|value| value.push(0)));
                visit(&path, "one byte less", change(&|value| value.truncate(value.len() - 1)));
                if repeated {
                    visit(&path, "empty", change(&|value| value.clear()));
                } else if !OPTIONAL.contains(&path.as_str()) && field.oneof_index.is_none() {
                    visit(&path, "absent", dropped());
                }
            }
            Type::Message => {
                if !repeated && !OPTIONAL.contains(&path.as_str()) && field.oneof_index.is_none() {
                    visit(&path, "absent", dropped());
                }
                let inner = field.type_name().rsplit('.').next().unwrap();
                changes(types, inner, &raw.value, &mut |path, what, inner| {
                    visit(path, what, change(&|value| *value = inner.clone()));
                });
            }
            _ => {}
        }
    }
}

#[test]
fn every_field_of_a_wrong_length_is_named() {
    let types = descriptors();
    let mut seen = BTreeSet::new();
    for subject in super::messages() {
        for valid in &subject.valid {
            assert_eq!((subject.refusal)(&write(&parse(valid))), None, "{}", subject.name);
            changes(&types, subject.name, valid, &mut |path, what, changed| {
                let error = (subject.refusal)(&changed);
                let field = error.as_ref().map(|error| error.field);
                assert_eq!(field, Some(path), "{path} with {what}: {error:?}");
                seen.insert(path.to_owned());
            });
        }
    }
    for (name, message) in &types {
        for field in &message.field {
            let path = format!("{name}.{}", field.name());
            let elsewhere = ELSEWHERE.contains(&name.as_str()) || OF_ANY_LENGTH.contains(&path.as_str());
            if field.r#type() == Type::Bytes && !elsewhere {
                assert!(seen.contains(&path), "{path} was never changed");
            }
        }
    }
}

#[test]
fn every_choice_must_be_made() {
    for subject in super::messages() {
        let descriptor = &descriptors()[subject.name];
        for (index, choice) in descriptor.oneof_decl.iter().enumerate() {
            let choice = format!("{}.{}", subject.name, choice.name());
            let error = (subject.refusal)(&[]);
            assert_eq!(error.map(|error| error.field), Some(choice.as_str()), "choice {index}");
        }
    }
}
