use super::super::tests::{committee, parts};
use super::*;
use crate::committee::Committee;

#[test]
fn members_are_packed_as_written_down() {
    let committee = committee(&[1, 4]);
    let members = committee.members().unwrap();
    assert_eq!(members.len(), 52 + 2 * 2 + 21 * 5 + 20);
    let mut word = [0x7f; 32];
    (word[0], word[31], word[30]) = (2, 1, 3);
    assert_eq!(members[..32], word);
    assert_eq!(members[32..40], 3600_u64.to_be_bytes());
    assert_eq!(members[40..48], (30 * 24 * 3600_u64).to_be_bytes());
    assert_eq!(members[48..56], [2, 0, 5, 1, 0, 1, 0, 3]);
    for (seat, packed) in committee.seats().iter().zip(members[56..].chunks(21)) {
        assert_eq!(packed[..20], *seat.address);
        assert_eq!(u16::from(packed[20]) * 2 + 1, seat.region.0);
    }
    assert_eq!(members[56 + 5 * 21..], *committee.gateways()[0].address);
}

#[test]
fn a_contract_s_limits_are_what_they_say() {
    let of = |seats: &[usize]| committee(seats).members();
    assert!(of(&[1; 31]).is_ok());
    assert!(matches!(of(&[1; 32]), Err(ChainLimitError::TooMany { what: "regions", have: 32, limit: 31 })));
    assert!(of(&[32; 8]).is_ok());
    let over = [[32; 8].as_slice(), &[1]].concat();
    assert!(matches!(of(&over), Err(ChainLimitError::TooMany { what: "seats", have: 257, limit: 256 })));

    let gateways = |count: u8| {
        let mut parts = parts(&[1]);
        let gateway = parts.gateways.pop().unwrap();
        parts.gateways = (0..count)
            .map(|n| crate::committee::GatewayMember {
                address: alloy_primitives::Address::with_last_byte(n + 1),
                ..gateway.clone()
            })
            .collect();
        Committee::new(parts).unwrap().members()
    };
    assert!(gateways(64).is_ok());
    assert!(gateways(65).is_err());

    let with = |number: u16, latitude: f64| {
        let mut parts = parts(&[1]);
        parts.seats[0].number = number;
        parts.regions[0].latitude = latitude;
        Committee::new(parts).unwrap().members()
    };
    assert!(with(255, 37.8).is_ok());
    assert!(with(256, 37.8).is_err());
    assert!(with(0, -89.999_999).is_ok());
    assert_eq!(with(0, 0.000_000_5), Err(ChainLimitError::Coordinates(RegionId(1))));
}
