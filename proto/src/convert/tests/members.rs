//! Committees and certificates, which are checked as a whole.

use bytes::Bytes;
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::log::inclusion_proof_len;
use proptest::prelude::*;

use super::samples;
use crate::wire;

fn committee() -> Committee {
    let member =
        |byte: u8| (Address::repeat_byte(byte), format!("http://127.0.0.1:{}", 9000 + u16::from(byte)));
    let seat = |region: u16, byte: u8| {
        let (address, endpoint) = member(byte);
        Seat { region: RegionId(region), number: byte.into(), address, endpoint }
    };
    let gateway = |byte: u8| {
        let (address, endpoint) = member(byte);
        GatewayMember { address, endpoint, max_bytes: 1 << 30, max_entries_per_hour: 3600 }
    };
    let region = |id: u16| Region {
        id: RegionId(id),
        label: format!("region-{id}"),
        latitude: 52.5 - f64::from(id),
        longitude: -13.25,
    };
    Committee::new(CommitteeParts {
        chain_id: 7,
        verifying_contract: Address::repeat_byte(9),
        epoch: 3,
        min_copies: 2,
        min_retention: 60,
        max_retention: 86_400,
        regions: vec![region(1), region(5)],
        seats: vec![seat(5, 11), seat(1, 12), seat(1, 13)],
        gateways: vec![gateway(21), gateway(22)],
    })
    .unwrap()
}

fn refused(change: impl FnOnce(&mut wire::Committee)) -> &'static str {
    let mut message = wire::Committee::from(&committee());
    change(&mut message);
    Committee::try_from(message).unwrap_err().field
}

#[test]
fn a_committee_arrives_as_it_was_sent() {
    let committee = committee();
    assert_eq!(Committee::try_from(wire::Committee::from(&committee)), Ok(committee));
}

#[test]
fn a_committee_has_one_spelling() {
    assert_eq!(refused(|committee| committee.regions.reverse()), "Committee.regions");
    assert_eq!(refused(|committee| committee.seats.reverse()), "Committee.seats");
    assert_eq!(refused(|committee| committee.gateways.reverse()), "Committee.gateways");
    assert_eq!(refused(|committee| committee.regions[1].latitude = -0.0), "Region.latitude");
    assert_eq!(refused(|committee| committee.regions[1].longitude = -0.0), "Region.longitude");
    assert_eq!(refused(|committee| committee.seats[1] = committee.seats[0].clone()), "Committee.seats");
    assert_eq!(refused(|committee| committee.min_copies = 65_536 + 2), "Committee.min_copies");
    assert_eq!(refused(|committee| committee.min_copies = 3), "Committee");
    assert_eq!(refused(|committee| committee.regions[0].latitude = f64::NAN), "Committee");
    assert_eq!(refused(|committee| committee.seats[0].region = 65_536 + 1), "Seat.region");
    assert_eq!(refused(|committee| committee.seats[0].number = 65_536), "Seat.number");
    let short = Bytes::from(vec![0; 19]);
    assert_eq!(refused(|committee| committee.seats[0].address = short.clone()), "Seat.address");
    assert_eq!(refused(|committee| committee.gateways[0].address = short.clone()), "GatewayMember.address");
    assert_eq!(refused(|committee| committee.verifying_contract = short), "Committee.verifying_contract");
}

#[test]
fn texts_are_measured_before_they_are_read() {
    let at_limit = "a".repeat(64);
    let mut message = wire::Committee::from(&committee());
    message.regions[1].label = at_limit.clone();
    assert!(Committee::try_from(message).is_ok());
    assert_eq!(refused(|committee| committee.regions[1].label = at_limit + "a"), "Region.label");
    let endpoint = |host: usize| format!("http://{}:9000", "h".repeat(host));
    let (at_limit, over) = (endpoint(256 - 12), endpoint(257 - 12));
    let mut message = wire::Committee::from(&committee());
    (message.seats[1].endpoint, message.gateways[1].endpoint) = (at_limit.clone(), at_limit);
    assert!(Committee::try_from(message).is_ok());
    assert_eq!(refused(|committee| committee.seats[1].endpoint = over.clone()), "Seat.endpoint");
    assert_eq!(refused(|committee| committee.gateways[1].endpoint = over), "GatewayMember.endpoint");
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let tree = (1..=u64::MAX).prop_flat_map(|size| (0..size, Just(size)));
    let hashes = prop::collection::vec(samples::hash(), 64);
    (samples::header(), samples::entry(), samples::cosigned(), tree, hashes).prop_map(
        |(header, mut entry, mut checkpoint, (index, size), mut inclusion)| {
            entry.blob_id = header.id();
            entry.length = header.length.get();
            checkpoint.signed.checkpoint.size = size;
            inclusion.truncate(inclusion_proof_len(index, size));
            Certificate { header, entry, index, inclusion, checkpoint }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_certificate_arrives_as_it_was_sent(certificate in certificate()) {
        let put = wire::PutResponse::from(&certificate);
        let fetched = wire::GetCertificateResponse::from(&certificate);
        prop_assert_eq!(Certificate::try_from(put.clone()), Ok(certificate.clone()));
        prop_assert_eq!(Certificate::try_from(fetched), Ok(certificate));

        let mut longer = put.certificate.to_vec();
        longer.push(0);
        for bytes in [Bytes::from(longer), put.certificate.slice(1..), Bytes::new()] {
            let put = Certificate::try_from(wire::PutResponse { certificate: bytes.clone() });
            prop_assert_eq!(put.unwrap_err().field, "PutResponse.certificate");
            let fetched = Certificate::try_from(wire::GetCertificateResponse { certificate: bytes });
            prop_assert_eq!(fetched.unwrap_err().field, "GetCertificateResponse.certificate");
        }
    }

    #[test]
    fn no_bytes_of_a_certificate_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Certificate::try_from(wire::PutResponse { certificate: bytes.into() });
    }
}
