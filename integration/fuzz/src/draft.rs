//! An honest call, and what the input makes of it.
//!
//! In this order: fields of its messages are changed, something is signed again, messages change their places, single bits
//! of what is encoded flip, and the frames go wrong. Zeros change nothing.

use meridian_integration::raw::{self, Value};

use super::grpc::{End, Sent, frame};
use super::home::Home;
use super::input::{Input, noise};

/// Most fields that are changed, and most bits that flip.
const CHANGES: u8 = 4;
/// A length that no field has.
const LONG: usize = 5_000;

/// Who signs what was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signer {
    /// Nobody: the signature is that of what was there before.
    Nobody,
    /// Who has to.
    Right,
    /// Who has to, after what else follows from what was changed was made to fit.
    Fitting,
    /// Somebody whom nobody knows.
    Stranger,
    /// A member whose signature says nothing here.
    Other,
}

/// What is sent instead of these messages. `sign` signs a message again, where it has a signature.
pub fn draft(
    home: &Home,
    input: &mut Input<'_>,
    mut messages: Vec<Vec<u8>>,
    sign: impl Fn(&mut Vec<u8>, Signer),
) -> Sent {
    for _ in 0..input.byte() % CHANGES {
        let place = usize::from(input.byte());
        if let Some(message) = pick(&mut messages, place) {
            *message = changed(home, input, message);
        }
    }
    let signer = match input.byte() {
        0 => Signer::Nobody,
        byte => [Signer::Right, Signer::Fitting, Signer::Stranger, Signer::Other][usize::from(byte) % 4],
    };
    if signer != Signer::Nobody {
        messages.iter_mut().for_each(|message| sign(message, signer));
    }
    let (order, place) = (input.byte(), usize::from(input.byte()));
    if !messages.is_empty() {
        let place = place % messages.len();
        match order {
            0 => {}
            1 => messages.swap(place, 0),
            2 => messages.insert(place, messages[place].clone()),
            3 => drop(messages.remove(place)),
            4 => messages.insert(place, Vec::new()),
            5 => messages.push(messages[place].clone()),
            6 => messages.reverse(),
            _ => messages.truncate(place),
        }
    }
    for _ in 0..input.byte() % CHANGES {
        let (place, at, bits) = (usize::from(input.byte()), usize::from(input.u16()), input.byte());
        if let Some(message) = pick(&mut messages, place)
            && let Some(byte) = pick(message, at)
        {
            *byte ^= bits;
        }
    }
    framed(input, &messages)
}

fn pick<T>(all: &mut [T], place: usize) -> Option<&mut T> {
    let place = place.checked_rem(all.len())?;
    all.get_mut(place)
}

/// The bytes of the call, which may end where they should not.
fn framed(input: &mut Input<'_>, messages: &[Vec<u8>]) -> Sent {
    let (what, place, number) = (input.byte(), usize::from(input.byte()), input.byte());
    let mut frames: Vec<Vec<u8>> = messages.iter().map(|message| frame(message)).collect();
    let mut end = End::Whole;
    if let Some(frame) = pick(&mut frames, place) {
        match what {
            1 => frame[0] = number,
            2 => frame[4] = frame[4].wrapping_add(number),
            3 => frame[1] = number,
            4 => frame.truncate(frame.len().saturating_sub(usize::from(number))),
            5 => frame.extend(noise(number.into(), number.into())),
            _ => {}
        }
    }
    match what {
        6 => end = End::Broken,
        7 => end = End::Stalled,
        _ => {}
    }
    let piece = match input.byte() {
        0 => usize::MAX,
        // A frame for each byte takes long where there are many.
        byte => usize::from(byte).max(frames.iter().map(Vec::len).sum::<usize>() / 64),
    };
    Sent { bytes: frames.concat(), piece, end }
}

/// A message with one field changed, in it or in a message inside.
fn changed(home: &Home, input: &mut Input<'_>, message: &[u8]) -> Vec<u8> {
    let fields = raw::parse(message).unwrap_or_default();
    let (place, what) = (usize::from(input.byte()), input.byte());
    let mut to = Vec::new();
    let Some(place) = place.checked_rem(fields.len()) else {
        to.extend_from_slice(message);
        added(home, input, &mut to, what);
        return to;
    };
    let field = &fields[place];
    let write = |to: &mut Vec<u8>, fields: &[raw::Field<'_>]| {
        fields.iter().for_each(|field| raw::put(to, field.number, &field.value));
    };
    write(&mut to, &fields[..place]);
    let behind = &fields[place + 1..];
    let number = field.number;
    // Into the message inside, unless it is to be taken as a whole.
    if what < 0x80
        && let Value::Bytes(inner) = field.value
        && is_message(inner)
    {
        raw::put(&mut to, number, &Value::Bytes(&changed(home, input, inner)));
        write(&mut to, behind);
        return to;
    }
    match what % 16 {
        0 => {}
        1 => {
            raw::put(&mut to, number, &field.value);
            raw::put(&mut to, number, &field.value);
        }
        2 => {
            // Behind its neighbour.
            write(&mut to, &behind[..behind.len().min(1)]);
            raw::put(&mut to, number, &field.value);
            write(&mut to, behind.get(1..).unwrap_or_default());
            return to;
        }
        3 => raw::put(&mut to, 1_000, &field.value),
        4 => {
            raw::put(&mut to, number, &field.value);
            added(home, input, &mut to, what);
        }
        what => match field.value {
            Value::Varint(value) => {
                raw::put(&mut to, number, &Value::Varint(other_number(input, what, value)));
            }
            Value::Bytes(bytes) => {
                raw::put(&mut to, number, &Value::Bytes(&other_bytes(home, input, what, bytes)));
            }
            Value::Fixed32(_) | Value::Fixed64(_) => raw::put(&mut to, number, &Value::Varint(1)),
        },
    }
    write(&mut to, behind);
    to
}

/// A field that was not there, as those that are zero are not.
fn added(home: &Home, input: &mut Input<'_>, to: &mut Vec<u8>, what: u8) {
    let number = u64::from(input.byte() % 12) + 1;
    if what & 1 == 0 {
        raw::put(to, number, &Value::Varint(other_number(input, 5 + what / 2 % 11, 0)));
    } else {
        raw::put(to, number, &Value::Bytes(home.known(input.byte())));
    }
}

fn other_number(input: &mut Input<'_>, what: u8, value: u64) -> u64 {
    match what {
        5 => value.wrapping_add(1),
        6 => value.wrapping_sub(1),
        7 => 0,
        8 => u64::MAX,
        9 => u32::MAX.into(),
        10 => 1 << 63,
        11 => input.byte().into(),
        12 => input.u16().into(),
        13 => input.u64(),
        14 => value.wrapping_add(input.byte().into()),
        _ => value.wrapping_sub(input.byte().into()),
    }
}

fn other_bytes(home: &Home, input: &mut Input<'_>, what: u8, bytes: &[u8]) -> Vec<u8> {
    match what {
        5 => [bytes, &[input.byte()]].concat(),
        6 => bytes[..bytes.len().saturating_sub(1)].to_vec(),
        7 => Vec::new(),
        8 => vec![0; bytes.len()],
        9 => vec![0xff; bytes.len()],
        10 => {
            let mut bytes = bytes.to_vec();
            let at = usize::from(input.byte());
            if let Some(byte) = pick(&mut bytes, at) {
                *byte ^= input.byte();
            }
            bytes
        }
        11 => home.known_like(input.byte(), bytes.len()).to_vec(),
        12 => home.known(input.byte()).to_vec(),
        13 => {
            let length = usize::from(input.byte());
            input.take(length).to_vec()
        }
        14 => bytes.repeat(2),
        _ => vec![7; LONG],
    }
}

/// A hash, an address or a signature may look like a message, and is none.
fn is_message(bytes: &[u8]) -> bool {
    !matches!(bytes.len(), 0 | 20 | 32 | 65) && raw::parse(bytes).is_some_and(|fields| !fields.is_empty())
}
