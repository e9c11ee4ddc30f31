//! Keys and committees.

use std::collections::BTreeMap;

use alloy::primitives::{Address, keccak256};
use meridian_proofs::checkpoint::Domain;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::signature::SecretKey;
use meridian_proto::contract::{self, Meridian};

use crate::random::Random;

/// Keys by address.
#[derive(Default)]
pub(crate) struct Keys(BTreeMap<Address, SecretKey>);

impl Keys {
    /// The key of a name, always the same.
    pub(crate) fn named(&mut self, name: &str) -> Address {
        self.add(SecretKey::from_bytes(keccak256(name).0).unwrap())
    }

    pub(crate) fn random(&mut self, random: &mut Random) -> Address {
        self.add(SecretKey::from_bytes(random.hash().0).unwrap())
    }

    pub(crate) fn of(&self, address: &Address) -> &SecretKey {
        &self.0[address]
    }

    fn add(&mut self, key: SecretKey) -> Address {
        let address = key.address();
        self.0.insert(address, key);
        address
    }
}

/// Limits of retention that these tests use unless they are about them.
pub(crate) const RETENTION: (u64, u64) = (3_600, 90 * 86_400);

/// Parts of a committee with so many seats in each region; region ids have gaps, seat numbers too.
pub(crate) fn parts(
    random: &mut Random,
    keys: &mut Keys,
    domain: Domain,
    epoch: u64,
    seats: &[usize],
    gateways: usize,
) -> CommitteeParts {
    let mut id = 0;
    let regions: Vec<Region> = (0..seats.len())
        .map(|rank| {
            id += 1 + u16::try_from(random.below(5)).unwrap();
            Region {
                id: RegionId(id),
                label: format!("region-{rank}"),
                latitude: millionths(random, 90),
                longitude: millionths(random, 180),
            }
        })
        .collect();
    let mut list = Vec::new();
    for (region, count) in regions.iter().zip(seats) {
        let mut numbers: Vec<u16> = (0..256).collect();
        random.shuffle(&mut numbers);
        for number in &numbers[..*count] {
            let endpoint = endpoint(random);
            list.push(Seat { region: region.id, number: *number, address: keys.random(random), endpoint });
        }
    }
    let gateways = (0..gateways).map(|_| GatewayMember {
        address: keys.random(random),
        endpoint: endpoint(random),
        max_bytes: random.number() >> 1,
        max_entries_per_hour: random.number() >> 1,
    });
    let gateways = gateways.collect();
    let regions_count = u16::try_from(regions.len()).unwrap();
    let min_copies = if random.one_in(2) {
        Committee::default_min_copies(regions_count)
    } else {
        1 + u16::try_from(random.below(u64::from(regions_count))).unwrap()
    };
    CommitteeParts {
        chain_id: domain.chain_id,
        verifying_contract: domain.verifying_contract,
        epoch,
        min_copies,
        min_retention: RETENTION.0,
        max_retention: RETENTION.1,
        regions,
        seats: list,
        gateways,
    }
}

/// The transaction that puts a committee on chain.
pub(crate) fn schedule(parts: &CommitteeParts, activation: u64) -> Meridian::scheduleCommitteeCall {
    let region = |region: &Region| contract::Region {
        id: region.id.0,
        latitude: microdegrees(region.latitude),
        longitude: microdegrees(region.longitude),
        label: region.label.clone(),
    };
    let seat = |seat: &Seat| contract::Seat {
        region: seat.region.0,
        number: u8::try_from(seat.number).unwrap(),
        signer: seat.address,
        endpoint: seat.endpoint.clone(),
    };
    let gateway = |gateway: &GatewayMember| contract::Gateway {
        signer: gateway.address,
        maxBytes: gateway.max_bytes,
        maxEntriesPerHour: gateway.max_entries_per_hour,
        endpoint: gateway.endpoint.clone(),
    };
    Meridian::scheduleCommitteeCall {
        epoch: parts.epoch,
        regions: parts.regions.iter().map(region).collect(),
        seats: parts.seats.iter().map(seat).collect(),
        gateways: parts.gateways.iter().map(gateway).collect(),
        terms: contract::Terms {
            minCopies: parts.min_copies,
            minRetention: parts.min_retention,
            maxRetention: parts.max_retention,
        },
        activation,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "degrees are at most 180")]
fn microdegrees(degrees: f64) -> i32 {
    (degrees * 1e6).round() as i32
}

fn millionths(random: &mut Random, degrees: u32) -> f64 {
    let limit = i64::from(degrees) * 1_000_000;
    let drawn = i64::try_from(random.below(u64::try_from(2 * limit + 1).unwrap())).unwrap() - limit;
    f64::from(i32::try_from(drawn).unwrap()) / 1e6
}

fn endpoint(random: &mut Random) -> String {
    format!("http://10.0.{}.{}:{}", random.below(256), random.below(256), 1 + random.below(65_535))
}
