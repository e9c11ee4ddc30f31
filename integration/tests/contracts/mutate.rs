//! Ways to spoil a certificate: before it is signed, or in its bytes.

use alloy::primitives::Address;
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::log::inclusion_proof_len;

use crate::certificates::{Draft, smallest_quorum};
use crate::evm::nobody;
use crate::random::Random;
use crate::world::World;

/// Changes a certificate that is signed afterwards. The epoch is that of the committee it is made for.
pub(crate) type Change = fn(&mut Random, &mut World, &mut Draft);

/// Order of the group, big-endian, and its half rounded down.
const ORDER: [u8; 32] =
    alloy::primitives::hex!("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
const HALF_ORDER: [u8; 32] =
    alloy::primitives::hex!("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0");

/// Offsets of the fields of section 11 up to the audit path.
pub(crate) const FIELDS: [(usize, usize); 16] = [
    (0, 1),
    (1, 1),
    (2, 8),
    (10, 32),
    (42, 32),
    (74, 32),
    (106, 32),
    (138, 32),
    (170, 8),
    (178, 8),
    (186, 8),
    (194, 8),
    (202, 20),
    (222, 8),
    (230, 8),
    (238, 32),
];
/// Where the timestamp and then the audit path begin.
const TIMESTAMP: usize = 270;
const PATH: usize = 278;
const SIGNATURE: usize = 65;

/// Every kind of change.
pub(crate) const CHANGES: &[Change] = &[
    |_, _, draft| draft.entry.epoch += 1,
    |_, _, draft| draft.entry.epoch -= 1,
    |random, _, draft| draft.checkpoint.epoch = random.number(),
    |random, _, draft| both_epochs(draft, *random.pick(&[0, 1, 2, 3, 4, 5, 6, u64::MAX])),
    |random, _, draft| both_epochs(draft, 1 + random.below(4)),
    |random, world, draft| gateway(draft, world.keys.random(random)),
    |random, world, draft| {
        let seat = random.pick(world.committee(draft.checkpoint.epoch).seats()).address;
        gateway(draft, seat);
    },
    |random, world, draft| {
        let other = 1 + random.below(4);
        let stranger = random.pick(world.committee(other).gateways()).address;
        gateway(draft, stranger);
    },
    |_, world, draft| retain(world, draft, |min, _| min - 1),
    |_, world, draft| retain(world, draft, |min, _| min),
    |_, world, draft| retain(world, draft, |min, _| min + 1),
    |_, world, draft| retain(world, draft, |_, max| max - 1),
    |_, world, draft| retain(world, draft, |_, max| max),
    |_, world, draft| retain(world, draft, |_, max| max + 1),
    |_, _, draft| draft.entry.expiry = draft.entry.time,
    |_, _, draft| draft.entry.expiry = draft.entry.time - 1,
    |_, _, draft| draft.entry.expiry = 0,
    |_, _, draft| draft.entry.expiry = u64::MAX,
    |_, _, draft| draft.entry.time = u64::MAX,
    |_, _, draft| draft.entry.time = 0,
    |random, _, draft| draft.entry.time = random.number(),
    |_, _, draft| draft.checkpoint.timestamp = draft.entry.time,
    |_, _, draft| draft.checkpoint.timestamp = draft.entry.time - 1,
    |_, _, draft| draft.checkpoint.timestamp = 0,
    |_, world, draft| draft.checkpoint.timestamp = world.chain.now() + 59,
    |_, world, draft| draft.checkpoint.timestamp = world.chain.now() + 60,
    |_, world, draft| draft.checkpoint.timestamp = world.chain.now() + 61,
    |_, _, draft| draft.checkpoint.timestamp = u64::MAX,
    |_, world, draft| expire(world, draft, -1),
    |_, world, draft| expire(world, draft, 0),
    |_, world, draft| expire(world, draft, 1),
    |_, world, draft| expire(world, draft, -100_000),
    |_, world, draft| far_future(world, draft),
    |random, _, draft| draft.resize(random, 1),
    |random, _, draft| draft.resize(random, 2),
    |random, _, draft| draft.resize(random, 1 << 62),
    |random, _, draft| draft.resize(random, (1 << 63) + 1),
    |random, _, draft| draft.resize(random, u64::MAX),
    |random, _, draft| draft.put_at(random, 0),
    |_, _, draft| draft.index = draft.checkpoint.size,
    |_, _, draft| draft.index = u64::MAX,
    |_, _, draft| draft.checkpoint.size = 0,
    |random, _, draft| {
        // The same number of hashes, and yet another place.
        draft.root_follows = false;
        draft.checkpoint.root =
            crate::certificates::root(draft.entry.leaf(), draft.index, draft.checkpoint.size, &draft.path);
        let (len, size) = (draft.path.len(), draft.checkpoint.size);
        let near: Vec<u64> = [draft.index ^ 1, draft.index ^ 2, random.below(size)]
            .into_iter()
            .filter(|index| *index < size && inclusion_proof_len(*index, size) == len)
            .collect();
        draft.index = near.first().copied().unwrap_or(draft.index);
    },
    |random, _, draft| {
        draft.root_follows = false;
        draft.checkpoint.root = random.hash();
    },
    |_, _, draft| draft.root_follows = false,
    |random, _, draft| draft.path.push(random.hash()),
    |_, _, draft| draft.path.truncate(draft.path.len().saturating_sub(1)),
    |_, _, draft| draft.path.reverse(),
    |random, world, draft| draft.signer = world.keys.random(random),
    |random, world, draft| {
        draft.signer = random.pick(world.committee(draft.checkpoint.epoch).seats()).address;
    },
    |random, _, draft| take(random, &mut draft.cosigners),
    |random, _, draft| {
        for _ in 0..random.place(4) {
            take(random, &mut draft.cosigners);
        }
    },
    |_, _, draft| draft.cosigners.clear(),
    |random, world, draft| {
        let committee = world.committee(draft.checkpoint.epoch);
        draft.cosigners = smallest_quorum(random, committee, committee.min_copies());
    },
    |random, world, draft| {
        let committee = world.committee(draft.checkpoint.epoch);
        draft.cosigners = smallest_quorum(random, committee, committee.min_copies());
        take(random, &mut draft.cosigners);
    },
    |random, world, draft| {
        let committee = world.committee(draft.checkpoint.epoch);
        draft.cosigners = smallest_quorum(random, committee, committee.min_copies() - 1);
    },
    |random, world, draft| {
        let committee = world.committee(draft.checkpoint.epoch);
        draft.cosigners = smallest_quorum(random, committee, committee.regions().len());
    },
    |_, world, draft| {
        draft.cosigners =
            world.committee(draft.checkpoint.epoch).seats().iter().map(|seat| seat.address).collect();
    },
    |random, world, draft| {
        let seats = world.committee(draft.checkpoint.epoch).seats();
        draft.cosigners = seats.iter().map(|seat| seat.address).collect();
        draft.cosigners.retain(|_| random.one_in(2));
    },
    |random, world, draft| {
        let stranger = world.keys.random(random);
        insert(draft, stranger);
    },
    |random, world, draft| {
        // Strangers in the places of all seats: more than one, and as many as before.
        draft.cosigners = draft.cosigners.iter().map(|_| world.keys.random(random)).collect();
        draft.cosigners.sort_unstable();
    },
    |_, _, draft| insert(draft, draft.signer),
    |random, world, draft| {
        let other = 1 + random.below(4);
        let seat = random.pick(world.committee(other).seats()).address;
        insert(draft, seat);
    },
    |random, _, draft| {
        let twice = *random.pick(&draft.cosigners);
        insert(draft, twice);
    },
    |random, _, draft| {
        let twice = *random.pick(&draft.cosigners);
        draft.cosigners.push(twice);
    },
    |random, _, draft| {
        // Twice the same instead of two seats.
        let place = random.place(draft.cosigners.len());
        draft.cosigners[place] = draft.cosigners[0];
    },
    |_, _, draft| draft.cosigners.reverse(),
    |random, _, draft| random.shuffle(&mut draft.cosigners),
    |random, _, draft| {
        let place = random.place(draft.cosigners.len());
        let next = (place + 1) % draft.cosigners.len();
        draft.cosigners.swap(place, next);
    },
    |random, world, draft| {
        // One more than there are seats.
        let seats = world.committee(draft.checkpoint.epoch).seats();
        draft.cosigners = seats.iter().map(|seat| seat.address).collect();
        let one = *random.pick(&draft.cosigners);
        insert(draft, one);
    },
    |_, _, draft| draft.domain = Domain { chain_id: draft.domain.chain_id + 1, ..draft.domain },
    |random, _, draft| {
        draft.domain = Domain { verifying_contract: nobody(random.number()), ..draft.domain };
    },
];

/// Spoils bytes, with so many hashes in the path, in every way that knows nothing of keys.
pub(crate) fn spoil(random: &mut Random, bytes: &mut Vec<u8>, hashes: usize) {
    let signature = PATH + 32 * hashes;
    let count = signature + SIGNATURE;
    let cosignatures = (bytes.len() - count - 2) / SIGNATURE;
    match random.below(16) {
        0..=3 => {
            let mut fields = FIELDS.to_vec();
            fields.extend([(TIMESTAMP, 8), (PATH, signature - PATH), (signature, SIGNATURE), (count, 2)]);
            fields.push((count + 2, SIGNATURE * cosignatures));
            fields.retain(|field| field.1 > 0);
            let (start, len) = *random.pick(&fields);
            let at = start + random.place(len);
            match random.below(6) {
                0 => bytes[start..start + len].fill(0),
                1 => bytes[start..start + len].fill(0xff),
                2 => bytes[at] = bytes[at].wrapping_add(1),
                3 => bytes[at] = bytes[at].wrapping_sub(1),
                _ => bytes[at] ^= 1 << random.below(8),
            }
        }
        4 => bytes.truncate(random.place(bytes.len())),
        5 => bytes.truncate(bytes.len() - 1),
        6 => bytes.extend(vec![0; 1 + random.place(70)]),
        7 => {
            let at = signature - 32 * random.place(2).min(signature - PATH);
            let more = random.bytes(32);
            bytes.splice(at..at, more);
        }
        8 => {
            let gone = 1 + random.place(3);
            let end = bytes.len();
            bytes.drain(end - (SIGNATURE * gone).min(end)..);
        }
        9 => {
            let written = *random.pick(&[0, 1, 255, 256, 257, 8192, 8193, 65_535]);
            bytes[count..count + 2].copy_from_slice(&u16::to_be_bytes(written));
        }
        10 => {
            // A count that is right for other bytes at the end.
            let more = random.place(300);
            let written = u16::try_from(cosignatures + more).unwrap();
            bytes[count..count + 2].copy_from_slice(&written.to_be_bytes());
            let one = bytes[signature..count].to_vec();
            bytes.extend(one.repeat(more));
        }
        11 if cosignatures > 1 => {
            // Duplicated bytes in place of another.
            let (from, to) = (random.place(cosignatures), random.place(cosignatures));
            let one = bytes[count + 2 + SIGNATURE * from..][..SIGNATURE].to_vec();
            bytes[count + 2 + SIGNATURE * to..][..SIGNATURE].copy_from_slice(&one);
        }
        _ => {
            let which = random.place(cosignatures + 1);
            let at = if which == 0 { signature } else { count + 2 + SIGNATURE * (which - 1) };
            if let Some(signature) = bytes.get_mut(at..at + SIGNATURE) {
                spoil_signature(random, signature);
            }
        }
    }
}

/// Other spellings of a signature, and values at the ends of their ranges.
fn spoil_signature(random: &mut Random, signature: &mut [u8]) {
    let (r, rest) = signature.split_at_mut(32);
    let (s, v) = rest.split_at_mut(32);
    match random.below(16) {
        0 => {
            // The same signature with its other s.
            s.copy_from_slice(&complement(s));
            v[0] = 27 + 28 - v[0];
        }
        1 => s.copy_from_slice(&complement(s)),
        2 => v[0] = *random.pick(&[0, 1]),
        3 => v[0] = *random.pick(&[26, 29, 2, 3, 30, 35, 37, 255]),
        4 => v[0] = 27 + 28 - v[0],
        5 => r.fill(0),
        6 => r.copy_from_slice(&ORDER),
        7 => r.copy_from_slice(&added(ORDER, 1)),
        8 => r.copy_from_slice(&added(ORDER, -1)),
        9 => r.fill(0xff),
        10 => s.fill(0),
        11 => s.copy_from_slice(&HALF_ORDER),
        12 => s.copy_from_slice(&added(HALF_ORDER, 1)),
        13 => s.copy_from_slice(random.pick::<[u8; 32]>(&[ORDER, added(ORDER, -1), [0xff; 32]])),
        // Of half of all r there is no point of the curve.
        14 => r.copy_from_slice(random.hash().as_slice()),
        _ => s[1..].copy_from_slice(&random.hash()[1..]),
    }
}

/// Order minus this number.
fn complement(number: &[u8]) -> [u8; 32] {
    use alloy::primitives::U256;
    (U256::from_be_bytes(ORDER).wrapping_sub(U256::from_be_slice(number))).to_be_bytes()
}

fn added(number: [u8; 32], step: i8) -> [u8; 32] {
    let mut number = number;
    number[31] = number[31].wrapping_add_signed(step);
    number
}

fn both_epochs(draft: &mut Draft, epoch: u64) {
    draft.entry.epoch = epoch;
    draft.checkpoint.epoch = epoch;
}

fn gateway(draft: &mut Draft, address: Address) {
    draft.checkpoint.gateway = address;
    draft.signer = address;
}

fn retain(world: &World, draft: &mut Draft, pick: fn(u64, u64) -> u64) {
    let committee = world.committee(draft.checkpoint.epoch);
    draft.entry.expiry = draft.entry.time + pick(committee.min_retention(), committee.max_retention());
}

/// Expires so many seconds from now.
fn expire(world: &World, draft: &mut Draft, seconds: i64) {
    let min = world.committee(draft.checkpoint.epoch).min_retention();
    draft.entry.expiry = world.chain.now().checked_add_signed(seconds).unwrap();
    draft.entry.time = draft.entry.expiry - min;
    draft.checkpoint.timestamp = draft.entry.time;
}

/// Everything at the end of time.
fn far_future(world: &World, draft: &mut Draft) {
    let min = world.committee(draft.checkpoint.epoch).min_retention();
    draft.entry.expiry = u64::MAX;
    draft.entry.time = u64::MAX - min;
    draft.checkpoint.timestamp = u64::MAX;
}

fn take(random: &mut Random, from: &mut Vec<Address>) {
    if !from.is_empty() {
        from.remove(random.place(from.len()));
    }
}

/// Puts a cosigner where its address belongs.
fn insert(draft: &mut Draft, cosigner: Address) {
    let place = draft.cosigners.partition_point(|other| *other < cosigner);
    draft.cosigners.insert(place, cosigner);
}
