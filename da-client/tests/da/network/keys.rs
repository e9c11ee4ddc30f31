//! The keys of a committee, and what they sign.

use std::sync::Arc;

use meridian_client::submit::unix_now;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, SignedCheckpoint};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::encode::EncodedBlob;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};
use meridian_proofs::log::LogEntry;
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{B256, keccak256};

/// The keys behind a committee.
pub(crate) struct Keys {
    pub(crate) committee: Arc<Committee>,
    pub(crate) seats: Vec<SecretKey>,
    pub(crate) gateways: Vec<SecretKey>,
}

/// A committee of one seat in each region, with keys that follow from their places.
pub(crate) fn keys(seats: &[String], gateways: &[String]) -> Keys {
    let key = |kind: u8, place: usize| {
        let mut bytes = [kind; 32];
        bytes[31] = u8::try_from(place + 1).unwrap();
        SecretKey::from_bytes(bytes).unwrap()
    };
    let seat_keys: Vec<SecretKey> = (0..seats.len()).map(|place| key(1, place)).collect();
    let gateway_keys: Vec<SecretKey> = (0..gateways.len()).map(|place| key(2, place)).collect();
    let id = |place: usize| RegionId(u16::try_from(place + 1).unwrap());
    let regions = u16::try_from(seats.len()).unwrap();
    let parts = CommitteeParts {
        chain_id: 0,
        verifying_contract: Default::default(),
        epoch: 1,
        min_copies: Committee::default_min_copies(regions),
        min_retention: 3600,
        max_retention: 30 * 24 * 3600,
        regions: (0..seats.len())
            .map(|place| Region {
                id: id(place),
                label: format!("region-{}", place + 1),
                latitude: 0.0,
                longitude: 0.0,
            })
            .collect(),
        seats: seats
            .iter()
            .enumerate()
            .map(|(place, endpoint)| Seat {
                region: id(place),
                number: 0,
                address: seat_keys[place].address(),
                endpoint: endpoint.clone(),
            })
            .collect(),
        gateways: gateways
            .iter()
            .enumerate()
            .map(|(place, endpoint)| GatewayMember {
                address: gateway_keys[place].address(),
                endpoint: endpoint.clone(),
                max_bytes: 1 << 40,
                max_entries_per_hour: 1 << 20,
            })
            .collect(),
    };
    Keys { committee: Arc::new(Committee::new(parts).unwrap()), seats: seat_keys, gateways: gateway_keys }
}

impl Keys {
    /// The last entry of a log of three, certified by some of the seats.
    pub(crate) fn certify(
        &self,
        gateway: usize,
        blob: &EncodedBlob,
        entries: &[LogEntry],
        seats: usize,
    ) -> Certificate {
        let [first, second, third] = entries else { panic!("three entries") };
        let inner = node(first.leaf(), second.leaf());
        let checkpoint = Checkpoint {
            gateway: self.gateways[gateway].address(),
            epoch: self.committee.epoch(),
            size: 3,
            root: node(inner, third.leaf()),
            timestamp: third.time,
        };
        let domain = self.committee.domain();
        let signed = SignedCheckpoint::sign(checkpoint, &domain, &self.gateways[gateway]);
        let mut cosigned = CosignedCheckpoint { signed, cosignatures: Vec::new() };
        for key in &self.seats[..seats] {
            cosigned.insert(&domain, key.sign(&checkpoint.digest(&domain))).unwrap();
        }
        let header = *blob.header();
        Certificate { header, entry: *third, index: 2, inclusion: vec![inner], checkpoint: cosigned }
    }

    /// Three entries, of which the last is of a blob.
    pub(crate) fn entries(
        &self,
        id: BlobId,
        length: u64,
        namespace: Namespace,
        hash: PayloadHash,
        retention: u64,
    ) -> Vec<LogEntry> {
        let time = unix_now() - 5;
        let entry = |blob_id| LogEntry {
            blob_id,
            namespace,
            payload_hash: hash,
            length,
            epoch: self.committee.epoch(),
            time,
            expiry: time + retention,
        };
        vec![entry(BlobId::from([1; 32])), entry(BlobId::from([2; 32])), entry(id)]
    }
}

fn node(left: B256, right: B256) -> B256 {
    keccak256([&[1], left.as_slice(), right.as_slice()].concat())
}
