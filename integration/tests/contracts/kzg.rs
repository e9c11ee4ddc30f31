//! Openings by the contract: with the precompile of Cancun, and where there is none.

use alloy::primitives::{Address, B256, Bytes, FixedBytes, U256};
use alloy::sol;
use alloy::sol_types::SolCall;
use meridian_proofs::header::BlobHeader;
use meridian_proofs::kzg::{
    ELEMENT_BYTES, ELEMENTS, ElementIndex, KzgBinding, Opening, POLYNOMIAL_BYTES, open_range,
};
use meridian_proofs::shape::PayloadLength;
use revm::primitives::hardfork::SpecId;

use crate::evm::{Artifact, Chain, Ending, intrinsic_gas};
use crate::random::Random;

sol! {
    #[allow(missing_docs)]
    contract KzgHarness {
        #[derive(Debug)]
        struct Header { uint8 codec; uint64 length; bytes32 rowRoot; bytes32 rlcRoot; bytes32 kzgRoot; }
        function blobId(Header header) external pure returns (bytes32);
        function open(Header header, bytes commitments, bytes opening, uint256 element)
            external view returns (uint8 status, bytes31 value);
        function isAvailable() external view returns (bool);
        function pointOf(uint256 i) external pure returns (uint256);
    }
}

/// What the library says.
mod said {
    pub(super) const OPENED: u8 = 0;
    pub(super) const BAD_HEADER: u8 = 1;
    pub(super) const NO_SUCH_ELEMENT: u8 = 2;
    pub(super) const BAD_COMMITMENTS: u8 = 3;
    pub(super) const OTHER_ELEMENT: u8 = 4;
    pub(super) const NOT_AN_ELEMENT: u8 = 5;
    pub(super) const BAD_PROOF: u8 = 6;
    pub(super) const NO_PRECOMPILE: u8 = 7;
}

type Open = KzgHarness::openCall;

/// A payload of two polynomials whose last element is partly filled, and its first, last and bordering elements open.
struct Bound {
    payload: Vec<u8>,
    header: BlobHeader,
    commitments: Bytes,
    openings: Vec<(usize, Opening)>,
}

impl Bound {
    fn new() -> Self {
        let mut payload = Random::new(70).bytes(POLYNOMIAL_BYTES + 100);
        payload[POLYNOMIAL_BYTES + 99] = 1;
        let binding = KzgBinding::of(&payload, || ()).unwrap();
        let openings = [0, 1, ELEMENTS - 1, ELEMENTS, ELEMENTS + 3].map(|element| {
            let start = u64::try_from(element * ELEMENT_BYTES).unwrap();
            let opened = open_range(&payload, &binding, &(start..start + 1), || ()).unwrap();
            (element, opened[0])
        });
        let header = BlobHeader {
            length: PayloadLength::try_from(u64::try_from(payload.len()).unwrap()).unwrap(),
            row_root: B256::repeat_byte(1),
            rlc_root: B256::repeat_byte(2),
            kzg_root: binding.root(),
        };
        let commitments =
            binding.commitments().iter().flat_map(|commitment| *commitment.as_bytes()).collect();
        Self { payload, header, commitments, openings: openings.to_vec() }
    }

    fn call(&self, place: usize) -> Open {
        let (element, opening) = self.openings[place];
        Open {
            header: KzgHarness::Header {
                codec: 1,
                length: self.header.length.get(),
                rowRoot: self.header.row_root,
                rlcRoot: self.header.rlc_root,
                kzgRoot: self.header.kzg_root,
            },
            commitments: self.commitments.clone(),
            opening: opening.to_bytes().to_vec().into(),
            element: U256::from(element),
        }
    }

    /// The payload bytes of an element, zeros behind the end.
    fn value(&self, element: usize) -> FixedBytes<31> {
        let start = element * ELEMENT_BYTES;
        let bytes = &self.payload[start..self.payload.len().min(start + ELEMENT_BYTES)];
        let mut value = [0; 31];
        value[..bytes.len()].copy_from_slice(bytes);
        value.into()
    }
}

fn deploy(spec: SpecId) -> (Chain, Address) {
    let mut chain = Chain::new(spec, 1);
    let harness = chain.deploy(&Artifact::load("KzgHarness"), &[]);
    (chain, harness)
}

#[track_caller]
fn open(chain: &mut Chain, harness: Address, call: &Open) -> (u8, FixedBytes<31>) {
    let said = chain.call(harness, call).returned::<Open>();
    (said.status, said.value)
}

/// A call with its opening changed.
fn opening(call: &Open, change: impl FnOnce(&mut Vec<u8>)) -> Open {
    let mut bytes = call.opening.to_vec();
    change(&mut bytes);
    Open { opening: bytes.into(), ..call.clone() }
}

/// What is wrong before the precompile is asked, the same on every chain.
fn refused(bound: &Bound) -> Vec<(u8, Open)> {
    let call = bound.call(1);
    let last = bound.call(4);
    let header = |change: &dyn Fn(&mut KzgHarness::Header)| {
        let mut call = call.clone();
        change(&mut call.header);
        call
    };
    let commitments = |bytes: Vec<u8>| Open { commitments: bytes.into(), ..call.clone() };
    let own = bound.commitments.to_vec();
    let mut flipped = own.clone();
    flipped[95] ^= 1;
    let mut shorter = last.clone();
    shorter.header.length -= 1;
    vec![
        (said::BAD_HEADER, header(&|header| header.codec = 0)),
        (said::BAD_HEADER, header(&|header| header.codec = 2)),
        (said::BAD_HEADER, header(&|header| header.length = 0)),
        (said::BAD_HEADER, header(&|header| header.length = (1 << 27) + 1)),
        (said::BAD_HEADER, header(&|header| header.length = u64::MAX)),
        (said::BAD_HEADER, header(&|header| header.kzgRoot = B256::ZERO)),
        (said::NO_SUCH_ELEMENT, Open { element: U256::from(ELEMENTS + 4), ..call.clone() }),
        (said::NO_SUCH_ELEMENT, Open { element: U256::MAX, ..call.clone() }),
        (said::NO_SUCH_ELEMENT, header(&|header| header.length = 31)),
        (said::BAD_COMMITMENTS, commitments(Vec::new())),
        (said::BAD_COMMITMENTS, commitments(own[..48].to_vec())),
        (said::BAD_COMMITMENTS, commitments(own[..95].to_vec())),
        (said::BAD_COMMITMENTS, commitments([own.as_slice(), &own[..48]].concat())),
        (said::BAD_COMMITMENTS, commitments([&own[48..], &own[..48]].concat())),
        (said::BAD_COMMITMENTS, commitments(flipped)),
        (said::BAD_COMMITMENTS, header(&|header| header.length = 126_976)),
        (said::BAD_COMMITMENTS, header(&|header| header.length = 2 * 126_976 + 1)),
        (said::BAD_COMMITMENTS, header(&|header| header.kzgRoot.0[0] ^= 1)),
        (said::OTHER_ELEMENT, opening(&call, Vec::clear)),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes.truncate(191))),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes.push(0))),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes[0] = 2)),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes[31] ^= 1)),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes[63] ^= 1)),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes[96] ^= 1)),
        (said::OTHER_ELEMENT, opening(&call, |bytes| bytes[143] ^= 1)),
        (said::OTHER_ELEMENT, Open { element: U256::from(2), ..call.clone() }),
        // The same value of the other polynomial.
        (said::OTHER_ELEMENT, Open { element: U256::from(ELEMENTS + 1), ..call.clone() }),
        (said::OTHER_ELEMENT, Open { opening: bound.call(0).opening, ..call.clone() }),
        (said::NOT_AN_ELEMENT, opening(&call, |bytes| bytes[64] = 1)),
        (said::NOT_AN_ELEMENT, opening(&call, |bytes| bytes[64..96].fill(0xff))),
        (said::NOT_AN_ELEMENT, opening(&last, |bytes| bytes[95] = 1)),
        (said::NOT_AN_ELEMENT, shorter),
    ]
}

#[test]
fn an_opening_shows_the_bytes_of_its_element_and_no_others() {
    let bound = Bound::new();
    for spec in [SpecId::CANCUN, SpecId::PRAGUE, SpecId::OSAKA] {
        let (mut chain, harness) = deploy(spec);
        assert!(
            chain.call(harness, &KzgHarness::isAvailableCall {}).returned::<KzgHarness::isAvailableCall>()
        );
        for (place, (element, _)) in bound.openings.iter().enumerate() {
            let value = bound.value(*element);
            assert_eq!(open(&mut chain, harness, &bound.call(place)), (said::OPENED, value), "{element}");
        }
        let id = KzgHarness::blobIdCall { header: bound.call(0).header };
        let id = chain.call(harness, &id).returned::<KzgHarness::blobIdCall>();
        assert_eq!(id, bound.header.id().0);
        for (place, (status, call)) in refused(&bound).iter().enumerate() {
            assert_eq!(open(&mut chain, harness, call), (*status, FixedBytes::ZERO), "case {place}");
        }
        let call = bound.call(1);
        let proofs: [fn(&mut Vec<u8>); 6] = [
            |bytes| bytes[95] ^= 1,
            |bytes| bytes[65] ^= 0x80,
            |bytes| bytes[191] ^= 1,
            |bytes| bytes[144..].fill(0),
            |bytes| bytes[144..].fill(0xff),
            |bytes| bytes.copy_within(96..144, 144),
        ];
        for change in proofs {
            let call = opening(&call, change);
            assert_eq!(open(&mut chain, harness, &call), (said::BAD_PROOF, FixedBytes::ZERO));
        }
    }
}

#[test]
fn a_chain_without_the_precompile_says_so() {
    let bound = Bound::new();
    let (mut chain, harness) = deploy(SpecId::MERGE);
    assert!(!chain.call(harness, &KzgHarness::isAvailableCall {}).returned::<KzgHarness::isAvailableCall>());
    for place in 0..bound.openings.len() {
        let answer = open(&mut chain, harness, &bound.call(place));
        assert_eq!(answer, (said::NO_PRECOMPILE, FixedBytes::ZERO));
    }
    for (place, (status, call)) in refused(&bound).iter().enumerate() {
        assert_eq!(open(&mut chain, harness, call), (*status, FixedBytes::ZERO), "case {place}");
    }
}

/// With too little gas there is no answer, on a chain with the precompile and on one without.
#[test]
fn every_gas_limit_gives_the_true_answer_or_none() {
    let bound = Bound::new();
    let call = bound.call(1);
    let wrong = opening(&call, |bytes| bytes[95] ^= 1);
    for (spec, call, status) in [
        (SpecId::CANCUN, &call, said::OPENED),
        (SpecId::CANCUN, &wrong, said::BAD_PROOF),
        (SpecId::MERGE, &call, said::NO_PRECOMPILE),
    ] {
        let (mut chain, harness) = deploy(spec);
        let data = Bytes::from(call.abi_encode());
        let mut answers = 0;
        for limit in (intrinsic_gas(&data)..400_000).step_by(467) {
            let outcome = chain.raw(harness, data.clone(), limit);
            match outcome.ending {
                Ending::Returned(_) => {
                    assert_eq!(outcome.returned::<Open>().status, status, "with {limit} gas");
                    answers += 1;
                }
                Ending::Halted(_) | Ending::NotStarted => {}
                Ending::Reverted(_) => panic!("reverted with {limit} gas"),
            }
        }
        assert!(answers > 0);
    }
}

#[test]
fn every_element_has_its_point() {
    let (mut chain, harness) = deploy(SpecId::MERGE);
    for element in 0..ELEMENTS {
        let call = KzgHarness::pointOfCall { i: U256::from(element) };
        let said = chain.call(harness, &call).returned::<KzgHarness::pointOfCall>();
        let point = ElementIndex { polynomial: 0, element }.point();
        assert_eq!(said, U256::from_be_bytes(point.0), "{element}");
    }
}
