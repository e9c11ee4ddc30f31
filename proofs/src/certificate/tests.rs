#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use alloy_primitives::{B256, keccak256};
use proptest::prelude::*;

use super::*;
use crate::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    committee::{CommitteeParts, tests::parts},
    ids::{Namespace, PayloadHash},
    log::{CompactRange, NodeSource, inclusion_proof},
    shape::LengthError,
    signature::{SecretKey, Signature},
};

const NOW: u64 = 1_700_000_000;

fn key(number: usize) -> SecretKey {
    SecretKey::from_bytes(keccak256([number as u8]).0).unwrap()
}

/// Four regions: one seat, four seats, one, one; three complete regions needed. Seat i has key i, the gateway key 100.
fn network() -> CommitteeParts {
    let mut parts = parts(&[1, 4, 1, 1]);
    for (number, seat) in parts.seats.iter_mut().enumerate() {
        seat.address = key(number).address();
    }
    parts.gateways[0].address = key(100).address();
    parts
}

fn committee() -> Committee {
    Committee::new(network()).unwrap()
}

struct Nodes(std::collections::BTreeMap<(u8, u64), B256>);

impl NodeSource for Nodes {
    type Error = &'static str;

    fn node(&self, level: u8, index: u64) -> Result<B256, Self::Error> {
        self.0.get(&(level, index)).copied().ok_or("no such node")
    }
}

/// What a test may change before anything is signed.
struct Draft {
    header: BlobHeader,
    entry: LogEntry,
    index: u64,
    size: u64,
    epoch: u64,
    timestamp: u64,
    gateway: usize,
    cosigners: Vec<usize>,
}

impl Draft {
    fn new() -> Self {
        let header = BlobHeader {
            length: 1000.try_into().unwrap(),
            row_root: B256::repeat_byte(1),
            rlc_root: B256::repeat_byte(2),
            kzg_root: B256::ZERO,
        };
        let entry = LogEntry {
            blob_id: header.id(),
            namespace: Namespace::from([4; 32]),
            payload_hash: PayloadHash::from([5; 32]),
            length: 1000,
            epoch: 3,
            time: NOW,
            expiry: NOW + 3600,
        };
        let cosigners = (0..7).collect();
        Self { header, entry, index: 4, size: 7, epoch: 3, timestamp: NOW + 1, gateway: 100, cosigners }
    }

    fn sign(self) -> Certificate {
        let mut log = CompactRange::empty();
        let mut nodes = std::collections::BTreeMap::new();
        for index in 0..self.size {
            let leaf = if index == self.index { self.entry.leaf() } else { keccak256(index.to_be_bytes()) };
            nodes.extend(log.append(leaf).into_iter().map(|node| ((node.level, node.index), node.hash)));
        }
        let gateway = key(self.gateway).address();
        let checkpoint = Checkpoint {
            gateway,
            epoch: self.epoch,
            size: self.size,
            root: log.root(),
            timestamp: self.timestamp,
        };
        let domain = committee().domain();
        let signed = SignedCheckpoint::sign(checkpoint, &domain, &key(self.gateway));
        let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        for cosigner in self.cosigners {
            cosigned.insert(&domain, key(cosigner).sign(&checkpoint.digest(&domain))).unwrap();
        }
        Certificate {
            header: self.header,
            entry: self.entry,
            index: self.index,
            inclusion: inclusion_proof(&Nodes(nodes), self.index, self.size).unwrap(),
            checkpoint: cosigned,
        }
    }
}

fn draft(change: impl FnOnce(&mut Draft)) -> Certificate {
    let mut draft = Draft::new();
    change(&mut draft);
    draft.sign()
}

fn certificate() -> Certificate {
    Draft::new().sign()
}

fn regions(ids: &[u16]) -> Vec<RegionId> {
    ids.iter().map(|id| RegionId(*id)).collect()
}

#[test]
fn a_certificate_names_its_regions_and_signers() {
    let certificate = certificate();
    let verified = certificate.verify(&committee()).unwrap();
    assert_eq!(verified.complete, regions(&[1, 3, 5, 7]));
    assert_eq!(verified.signers, committee().seats().iter().map(|seat| seat.address).collect::<Vec<_>>());
    assert_eq!(certificate.id(), certificate.entry.blob_id);
}

#[test]
fn a_quorum_of_complete_regions_is_enough_and_less_is_not() {
    let verify = |cosigners: &[usize]| {
        draft(|draft| draft.cosigners = cosigners.to_vec())
            .verify(&committee())
            .map(|verified| verified.complete)
    };
    // Seats 1 to 4 are the region of four, which tolerates one.
    assert_eq!(verify(&[0, 1, 2, 3, 5]), Ok(regions(&[1, 3, 5])));
    assert_eq!(verify(&[0, 5, 6]), Ok(regions(&[1, 5, 7])));
    let quorum = |complete: &[u16]| Err(CertificateError::Quorum { complete: regions(complete), need: 3 });
    assert_eq!(verify(&[0, 1, 2, 5]), quorum(&[1, 5]));
    assert_eq!(verify(&[1, 2, 3, 4]), quorum(&[3]));
    assert_eq!(verify(&[]), quorum(&[]));
}

#[test]
fn header_entry_and_checkpoint_belong_together() {
    let other_header = |certificate: &mut Certificate| certificate.header.row_root = B256::ZERO;
    let other_id = |certificate: &mut Certificate| certificate.entry.blob_id = BlobId::default();
    let other_length = |certificate: &mut Certificate| certificate.entry.length += 1;
    for change in [other_header, other_id, other_length] {
        let mut certificate = certificate();
        change(&mut certificate);
        assert_eq!(certificate.verify(&committee()), Err(CertificateError::OtherBlob));
    }
    assert_eq!(
        draft(|draft| draft.entry.epoch = 2).verify(&committee()),
        Err(CertificateError::EpochMismatch { entry: 2, checkpoint: 3 })
    );
    assert_eq!(
        draft(|draft| (draft.entry.epoch, draft.epoch) = (2, 2)).verify(&committee()),
        Err(CertificateError::OtherEpoch { certificate: 2, committee: 3 })
    );
    assert_eq!(draft(|draft| draft.timestamp = NOW).verify(&committee()).map(|_| ()), Ok(()));
    assert_eq!(
        draft(|draft| draft.timestamp = NOW - 1).verify(&committee()),
        Err(CertificateError::EntryFromFuture { time: NOW, timestamp: NOW - 1 })
    );
}

#[test]
fn retention_is_within_the_committees_limits() {
    let (min, max) = (committee().min_retention(), committee().max_retention());
    let verify = |expiry| draft(|draft| draft.entry.expiry = expiry).verify(&committee()).map(|_| ());
    for retention in [min, min + 1, max - 1, max] {
        assert_eq!(verify(NOW + retention), Ok(()));
    }
    // A minute, the year 3000, the end of time, before the beginning.
    for expiry in [NOW + 60, NOW + min - 1, NOW + max + 1, 32_503_680_000, u64::MAX, NOW - 1, 0] {
        assert_eq!(verify(expiry), Err(CertificateError::Retention { time: NOW, expiry, min, max }));
    }
}

#[test]
fn the_gateway_is_one_of_the_epochs_and_signed() {
    let stranger = draft(|draft| draft.gateway = 50);
    let error = CertificateError::UnknownGateway(key(50).address());
    assert_eq!(stranger.verify(&committee()), Err(error));
    // A seat is no gateway.
    let seat = draft(|draft| draft.gateway = 0);
    assert_eq!(seat.verify(&committee()), Err(CertificateError::UnknownGateway(key(0).address())));

    let mut unsigned = certificate();
    let digest = unsigned.checkpoint.signed.checkpoint.digest(&committee().domain());
    unsigned.checkpoint.signed.signature = key(0).sign(&digest);
    let error = StatementError::WrongSigner { expected: key(100).address(), signer: key(0).address() };
    assert_eq!(unsigned.verify(&committee()), Err(CertificateError::Gateway(error)));
}

#[test]
fn nothing_signed_can_be_changed_or_replayed() {
    let changes: [fn(&mut Certificate); 6] = [
        |certificate| certificate.checkpoint.signed.checkpoint.timestamp += 1,
        |certificate| certificate.entry.namespace = Namespace::default(),
        |certificate| certificate.entry.payload_hash = PayloadHash::default(),
        |certificate| certificate.entry.expiry += 1,
        |certificate| certificate.index -= 1,
        |certificate| certificate.checkpoint.signed.checkpoint.root = B256::ZERO,
    ];
    for change in changes {
        let mut changed = certificate();
        change(&mut changed);
        assert!(matches!(
            changed.verify(&committee()),
            Err(CertificateError::Gateway(_) | CertificateError::Inclusion(_))
        ));
    }
    let domains: [fn(&mut CommitteeParts); 2] =
        [|parts| parts.chain_id += 1, |parts| parts.verifying_contract = Address::ZERO];
    for change in domains {
        let mut parts = network();
        change(&mut parts);
        let other = Committee::new(parts).unwrap();
        assert!(matches!(certificate().verify(&other), Err(CertificateError::Gateway(_))));
    }
}

#[test]
fn an_entry_outside_the_log_is_refused() {
    let problem = |change: fn(&mut Certificate)| {
        let mut changed = certificate();
        change(&mut changed);
        match changed.verify(&committee()) {
            Err(CertificateError::Inclusion(problem)) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(problem(|certificate| certificate.inclusion[0] = B256::ZERO), ProofError::Root);
    assert_eq!(problem(|certificate| certificate.inclusion.swap(0, 1)), ProofError::Root);
    let length = |have| ProofError::Length { have, need: 3 };
    assert_eq!(problem(|certificate| certificate.inclusion.truncate(2)), length(2));
    assert_eq!(problem(|certificate| certificate.inclusion.push(B256::ZERO)), length(4));
    assert_eq!(problem(|certificate| certificate.index = 7), ProofError::Index { index: 7, size: 7 });
}

#[test]
fn cosignatures_are_of_seats_in_order_and_once() {
    let problem = |change: fn(&mut Vec<Signature>)| {
        let mut changed = certificate();
        change(&mut changed.checkpoint.cosignatures);
        changed.verify(&committee()).unwrap_err()
    };
    let not_ascending = |at| CertificateError::Cosignatures(CosignatureError::NotAscending(at));
    assert_eq!(problem(|cosignatures| cosignatures.swap(1, 2)), not_ascending(2));
    assert_eq!(problem(|cosignatures| cosignatures[1] = cosignatures[0]), not_ascending(1));
    assert_eq!(
        problem(|cosignatures| cosignatures.push(cosignatures[6])),
        CertificateError::TooManyCosignatures { have: 8, limit: 7 }
    );
    for stranger in [50, 100] {
        let certificate = draft(|draft| draft.cosigners = vec![0, 1, 2, 3, 5, stranger]);
        let error = CertificateError::UnknownSigner(key(stranger).address());
        assert_eq!(certificate.verify(&committee()), Err(error));
    }
    // A cosignature of another checkpoint recovers to somebody else.
    let mut other = certificate();
    other.checkpoint.cosignatures[3] = key(3).sign(&B256::ZERO);
    assert!(matches!(
        other.verify(&committee()),
        Err(CertificateError::Cosignatures(_) | CertificateError::UnknownSigner(_))
    ));
}

#[test]
fn the_flat_form_has_one_spelling() {
    let certificate = certificate();
    let bytes = certificate.encode();
    assert_eq!(bytes.len(), layout::FIXED_LEN + 3 * 32 + 7 * 65);
    assert_eq!(Certificate::decode(&bytes).as_ref(), Ok(&certificate));

    for len in 0..bytes.len() {
        match Certificate::decode(&bytes[..len]) {
            Err(CertificateError::Truncated { need, have }) => assert!(have == len && need > len),
            other => panic!("{len}: {other:?}"),
        }
    }
    for more in [1, 65] {
        let longer = [bytes.as_slice(), &vec![0; more]].concat();
        assert_eq!(Certificate::decode(&longer), Err(CertificateError::Trailing(more)));
    }

    let with = |at: usize, part: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + part.len()].copy_from_slice(part);
        Certificate::decode(&bytes).unwrap_err()
    };
    for version in [0, 2, 255] {
        assert_eq!(with(0, &[version]), CertificateError::Version(version));
    }
    assert_eq!(with(1, &[2]), CertificateError::Header(HeaderError::Codec(2)));
    let length = CertificateError::Header(HeaderError::Length(LengthError::Empty));
    assert_eq!(with(2, &[0; 8]), length);
    for index in [7, u64::MAX] {
        assert_eq!(with(194, &index.to_be_bytes()), CertificateError::Index { index, size: 7 });
    }
    let (signature, count) = (278 + 3 * 32, 278 + 3 * 32 + 65);
    assert_eq!(
        with(signature + 64, &[29]),
        CertificateError::GatewaySignature(SignatureError::RecoveryId(29))
    );
    assert_eq!(
        with(count + 2 + 2 * 65 + 32, &[0xff]),
        CertificateError::Cosignature { position: 2, problem: SignatureError::HighS }
    );
    // More cosignatures than are there, fewer, and more than there can be.
    assert!(matches!(with(count, &[0, 8]), CertificateError::Truncated { .. }));
    assert_eq!(with(count, &[0, 6]), CertificateError::Trailing(65));
    let too_many = |have| CertificateError::TooManyCosignatures { have, limit: MAX_COSIGNATURES };
    let most = (MAX_COSIGNATURES as u16).to_be_bytes();
    assert!(matches!(with(count, &most), CertificateError::Truncated { .. }));
    let over = (MAX_COSIGNATURES as u16 + 1).to_be_bytes();
    assert_eq!(with(count, &over), too_many(MAX_COSIGNATURES + 1));
    assert_eq!(with(count, &[0xff; 2]), too_many(0xffff));
}

#[test]
fn the_longest_certificate_fits_the_limit() {
    let mut certificate = certificate();
    certificate.index = u64::MAX - 1;
    certificate.checkpoint.signed.checkpoint.size = u64::MAX;
    certificate.inclusion = vec![B256::ZERO; 64];
    certificate.index = 0;
    certificate.checkpoint.cosignatures = vec![certificate.checkpoint.cosignatures[0]; MAX_COSIGNATURES];
    let bytes = certificate.encode();
    assert_eq!(bytes.len(), MAX_CERTIFICATE_LEN);
    assert_eq!(Certificate::decode(&bytes).as_ref(), Ok(&certificate));
    certificate.checkpoint.cosignatures.push(certificate.checkpoint.cosignatures[0]);
    assert_eq!(certificate.encode(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = certificate().encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(certificate) = Certificate::decode(&bytes) {
            prop_assert_eq!(certificate.encode(), bytes);
        }
    }

    #[test]
    fn a_changed_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = certificate().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let valid = Certificate::decode(&bytes).and_then(|certificate| certificate.verify(&committee()));
        prop_assert!(valid.is_err());
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
        let bytes = [&[1, 1, 0, 0, 0, 0], bytes.as_slice()].concat();
        if let Ok(certificate) = Certificate::decode(&bytes) {
            prop_assert_eq!(certificate.encode(), bytes);
        }
    }
}
