//! The protobuf files are documentation: everything in them has a comment.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashSet;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

/// Field numbers of `descriptor.proto` that make up the paths of source locations.
const MESSAGE: i32 = 4;
const ENUM_OF_FILE: i32 = 5;
const SERVICE: i32 = 6;
const FIELD: i32 = 2;
const NESTED_MESSAGE: i32 = 3;
const NESTED_ENUM: i32 = 4;
const VALUE: i32 = 2;
const METHOD: i32 = 2;

/// Everything that has to have a comment: its path and its name.
type Subjects = Vec<(Vec<i32>, String)>;

fn below(path: &[i32], kind: i32, index: usize) -> Vec<i32> {
    [path, &[kind, i32::try_from(index).unwrap()]].concat()
}

fn enumeration(subjects: &mut Subjects, path: Vec<i32>, name: &str, descriptor: &EnumDescriptorProto) {
    let name = format!("{name}.{}", descriptor.name());
    for (index, value) in descriptor.value.iter().enumerate() {
        subjects.push((below(&path, VALUE, index), format!("{name}.{}", value.name())));
    }
    subjects.push((path, name));
}

fn message(subjects: &mut Subjects, path: Vec<i32>, name: &str, descriptor: &DescriptorProto) {
    let name = format!("{name}.{}", descriptor.name());
    for (index, field) in descriptor.field.iter().enumerate() {
        subjects.push((below(&path, FIELD, index), format!("{name}.{}", field.name())));
    }
    for (index, nested) in descriptor.nested_type.iter().enumerate() {
        message(subjects, below(&path, NESTED_MESSAGE, index), &name, nested);
    }
    for (index, nested) in descriptor.enum_type.iter().enumerate() {
        enumeration(subjects, below(&path, NESTED_ENUM, index), &name, nested);
    }
    subjects.push((path, name));
}

#[test]
fn everything_has_a_comment() {
    let set = FileDescriptorSet::decode(meridian_proto::FILE_DESCRIPTOR_SET).unwrap();
    assert_eq!(set.file.len(), 5);
    for file in &set.file {
        let mut subjects = Subjects::new();
        for (index, descriptor) in file.message_type.iter().enumerate() {
            message(&mut subjects, below(&[], MESSAGE, index), file.package(), descriptor);
        }
        for (index, descriptor) in file.enum_type.iter().enumerate() {
            enumeration(&mut subjects, below(&[], ENUM_OF_FILE, index), file.package(), descriptor);
        }
        for (index, service) in file.service.iter().enumerate() {
            let path = below(&[], SERVICE, index);
            for (index, method) in service.method.iter().enumerate() {
                subjects.push((below(&path, METHOD, index), format!("{}.{}", service.name(), method.name())));
            }
            subjects.push((path, service.name().to_owned()));
        }
        let source = file.source_code_info.as_ref().unwrap();
        let commented: HashSet<&[i32]> = source
            .location
            .iter()
            .filter(|location| location.leading_comments().trim().len() > 3)
            .map(|location| location.path.as_slice())
            .collect();
        assert!(!subjects.is_empty());
        for (path, name) in subjects {
            assert!(commented.contains(path.as_slice()), "{name} in {} has no comment", file.name());
        }
    }
}
