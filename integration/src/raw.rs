//! Calls with any bytes for messages, and the ways to spoil a message.

use bytes::{Buf, BufMut, Bytes};
use futures::TryStreamExt;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Sends and takes messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Verbatim;

impl Codec for Verbatim {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Calls a method of package `meridian.da.v1` with these messages, whatever they are.
///
/// # Errors
/// What the server answered when it refused.
pub async fn call(channel: Channel, method: &str, messages: Vec<Bytes>) -> Result<Vec<Bytes>, Status> {
    let path = PathAndQuery::try_from(format!("/meridian.da.v1.{method}"))
        .map_err(|_| Status::unimplemented("not a method"))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let request = Request::new(tokio_stream::iter(messages));
    let answer = grpc.streaming(request, path, Verbatim).await?;
    answer.into_inner().try_collect().await
}

/// A spoiled message.
#[derive(Clone, Debug)]
pub struct Spoiled {
    /// What was done to it, with the numbers of the fields from the outside in.
    pub what: String,
    /// Whether it cannot be a valid message any more: a hash, address or signature of another length.
    pub wrong: bool,
    /// The message.
    pub message: Bytes,
}

/// A field of a message.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// What it says.
    pub value: Value<'a>,
}

/// What a field says, by its type on the wire.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A number of variable length.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        to.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = from.split_at_checked(length)?;
    *from = tail;
    Some(head)
}

/// Takes a message apart, if it is one.
#[must_use]
pub fn parse(mut from: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !from.is_empty() {
        let tag = varint(&mut from)?;
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut from)?),
            1 => Value::Fixed64(take(&mut from, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(varint(&mut from)?).ok()?;
                Value::Bytes(take(&mut from, length)?)
            }
            5 => Value::Fixed32(take(&mut from, 4)?.try_into().ok()?),
            _ => return None,
        };
        if tag >> 3 == 0 {
            return None;
        }
        fields.push(Field { number: tag >> 3, value });
    }
    Some(fields)
}

/// Writes one field.
pub fn put(to: &mut Vec<u8>, number: u64, value: &Value<'_>) {
    match value {
        Value::Varint(v) => {
            put_varint(to, number << 3);
            put_varint(to, *v);
        }
        Value::Fixed64(v) => {
            put_varint(to, number << 3 | 1);
            to.extend_from_slice(v);
        }
        Value::Bytes(v) => {
            put_varint(to, number << 3 | 2);
            put_varint(to, v.len() as u64);
            to.extend_from_slice(v);
        }
        Value::Fixed32(v) => {
            put_varint(to, number << 3 | 5);
            to.extend_from_slice(v);
        }
    }
}

/// Writes the fields with field `at` replaced by what `with` writes.
fn replaced(fields: &[Field<'_>], at: usize, with: impl FnOnce(&mut Vec<u8>, u64)) -> Bytes {
    let mut message = Vec::new();
    let mut with = Some(with);
    for (place, field) in fields.iter().enumerate() {
        match with.take_if(|_| place == at) {
            Some(with) => with(&mut message, field.number),
            None => put(&mut message, field.number, &field.value),
        }
    }
    message.into()
}

/// Every way to spoil one field of a message, down through the messages in it, and the message as a whole.
#[must_use]
pub fn spoil(message: &[u8]) -> Vec<Spoiled> {
    let mut all = spoil_fields(message, "");
    all.push(Spoiled { what: "nothing at all".into(), wrong: false, message: Bytes::new() });
    for (what, end) in [("a byte too few", None), ("a byte too many", Some(0xff))] {
        let mut bytes = message.to_vec();
        match end {
            Some(byte) => bytes.push(byte),
            None => drop(bytes.pop()),
        }
        all.push(Spoiled { what: what.into(), wrong: false, message: bytes.into() });
    }
    all
}

fn spoil_fields(message: &[u8], path: &str) -> Vec<Spoiled> {
    let mut all = Vec::new();
    let Some(fields) = parse(message) else { return all };
    for (at, field) in fields.iter().enumerate() {
        let path = format!("{path}{}", field.number);
        let mut add = |what: &str, wrong: bool, message: Bytes| {
            all.push(Spoiled { what: format!("field {path}: {what}"), wrong, message });
        };
        add("missing", false, replaced(&fields, at, |_, _| {}));
        add(
            "twice",
            false,
            replaced(&fields, at, |to, n| {
                put(to, n, &field.value);
                put(to, n, &field.value);
            }),
        );
        add("of an unknown number", false, replaced(&fields, at, |to, _| put(to, 1_000, &field.value)));
        match &field.value {
            Value::Varint(value) => {
                for other in
                    [0, value.wrapping_add(1), value.wrapping_sub(1), u64::from(u32::MAX), 1 << 63, u64::MAX]
                {
                    add(
                        &format!("set to {other}"),
                        false,
                        replaced(&fields, at, |to, n| put(to, n, &Value::Varint(other))),
                    );
                }
                add("of another type", false, replaced(&fields, at, |to, n| put(to, n, &Value::Bytes(b"x"))));
            }
            Value::Bytes(bytes) => {
                // 32 bytes are a hash, 20 an address, 65 a signature: any other length is wrong wherever they stand.
                let fixed = matches!(bytes.len(), 20 | 32 | 65);
                let (mut longer, mut flipped) = (bytes.to_vec(), bytes.to_vec());
                longer.push(0);
                if let Some(byte) = flipped.first_mut() {
                    *byte ^= 1;
                }
                let shorter = &bytes[..bytes.len().saturating_sub(1)];
                for (what, wrong, other) in [
                    ("a byte longer", fixed, longer.as_slice()),
                    ("a byte shorter", fixed, shorter),
                    ("empty", false, &[]),
                    ("with a bit flipped", false, &flipped),
                    ("all ones", false, &vec![0xff; bytes.len()]),
                    ("all zeros", false, &vec![0; bytes.len()]),
                    ("of 100,000 bytes", fixed, &vec![7; 100_000]),
                ] {
                    add(what, wrong, replaced(&fields, at, |to, n| put(to, n, &Value::Bytes(other))));
                }
                add("of another type", false, replaced(&fields, at, |to, n| put(to, n, &Value::Varint(1))));
                if !fixed {
                    for inner in spoil_fields(bytes, &format!("{path}.")) {
                        let message =
                            replaced(&fields, at, |to, n| put(to, n, &Value::Bytes(&inner.message)));
                        all.push(Spoiled { message, ..inner });
                    }
                }
            }
            Value::Fixed64(_) | Value::Fixed32(_) => {
                add("of another type", false, replaced(&fields, at, |to, n| put(to, n, &Value::Varint(1))));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart_and_put_together() {
        // field 1 varint 300, field 2 a message of field 1 varint 1, field 3 "abc"
        let message = [0x08, 0xac, 0x02, 0x12, 0x02, 0x08, 0x01, 0x1a, 0x03, b'a', b'b', b'c'];
        let fields = parse(&message).unwrap();
        assert_eq!(fields.len(), 3);
        assert_eq!(replaced(&fields, 9, |_, _| {}), message.as_slice());
        assert_eq!(replaced(&fields, 0, |_, _| {}), &message[3..]);
        let spoiled = spoil(&message);
        assert!(spoiled.iter().any(|s| s.what == "field 2.1: set to 0"));
        assert!(spoiled.iter().filter(|s| s.message == message.as_slice()).count() == 0);
    }

    #[test]
    fn hashes_of_another_length_are_known_to_be_wrong() {
        let mut message = vec![0x0a, 32];
        message.extend([9; 32]);
        let wrong: Vec<_> = spoil(&message).into_iter().filter(|s| s.wrong).collect();
        assert_eq!(wrong.len(), 3);
        assert!(wrong.iter().all(|s| s.message.len() != message.len()));
    }
}
