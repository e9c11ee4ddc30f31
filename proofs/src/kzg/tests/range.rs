use super::*;
use std::{ops::Range, sync::LazyLock};

/// A payload of two polynomials that ends inside an element: a full one of the second and 9 bytes more.
struct Case {
    payload: Vec<u8>,
    binding: KzgBinding,
    /// The last two elements of the first polynomial and both of the second.
    openings: Vec<Opening>,
}

const FIRST: usize = (ELEMENTS - 2) * ELEMENT_BYTES;
const LENGTH: usize = POLYNOMIAL_BYTES + 40;

static CASE: LazyLock<Case> = LazyLock::new(|| {
    let payload = payload(LENGTH);
    let binding = commit(&payload);
    let openings = open_range(&payload, &binding, &(FIRST as u64..LENGTH as u64), || ()).unwrap();
    Case { payload, binding, openings }
});

/// The range as the caller states it, and the openings of its elements.
fn part(bytes: Range<usize>) -> (Range<u64>, &'static [Opening]) {
    let of = |byte: usize| byte / ELEMENT_BYTES - (ELEMENTS - 2);
    (bytes.start as u64..bytes.end as u64, &CASE.openings[of(bytes.start)..=of(bytes.end - 1)])
}

fn verify(range: &Range<u64>, openings: &[Opening]) -> Result<Vec<u8>, KzgError> {
    verify_range(&CASE.binding.root(), CASE.binding.length(), range, openings, CASE.binding.commitments())
}

proptest! {
    #[test]
    fn any_range_of_any_payload_is_in_its_elements(
        bytes in 1usize..=3 * POLYNOMIAL_BYTES,
        start: prop::sample::Index,
        count: prop::sample::Index,
    ) {
        let payload = payload(bytes);
        let start = start.index(bytes);
        let end = start + 1 + count.index((bytes - start).min((MAX_OPENINGS - 1) * ELEMENT_BYTES));
        let range = ElementRange::new(length(bytes), &(start as u64..end as u64)).unwrap();
        let polynomials: Vec<_> =
            payload.chunks(POLYNOMIAL_BYTES).map(|piece| element::pack(piece).unwrap()).collect();
        let values: Vec<B256> = range
            .elements()
            .map(|index| B256::from_slice(&polynomials[index.polynomial][32 * index.element..][..32]))
            .collect();
        prop_assert_eq!(range.elements().len(), end.div_ceil(31) - start / 31);
        prop_assert_eq!(range.bytes_of(values.iter()).unwrap(), &payload[start..end]);
    }
}

#[test]
fn ranges_open_at_every_boundary() {
    assert_eq!(CASE.openings.len(), 4);
    let polynomial = POLYNOMIAL_BYTES;
    let cuts = [FIRST, FIRST + 1, FIRST + 30, FIRST + 31, polynomial - 1, polynomial, polynomial + 1]
        .into_iter()
        .chain([polynomial + 30, polynomial + 31, polynomial + 32, LENGTH - 1, LENGTH]);
    let cuts: Vec<usize> = cuts.collect();
    let pairs: Vec<_> =
        cuts.iter().flat_map(|a| cuts.iter().filter(move |b| a < b).map(move |b| *a..*b)).collect();
    pairs.into_par_iter().step_by(2).for_each(|bytes| {
        let (range, openings) = part(bytes.clone());
        assert_eq!(verify(&range, openings), Ok(CASE.payload[bytes].to_vec()));
    });
}

#[test]
fn ranges_are_within_the_payload() {
    let length = LENGTH as u64;
    let outside = [
        (0, 0),
        (5, 5),
        (6, 5),
        (length, length),
        (length - 1, length + 1),
        (length, length + 1),
        (u64::MAX - 1, u64::MAX),
        (0, u64::MAX),
    ];
    for (start, end) in outside {
        let error = KzgError::Range { start, end, length };
        assert_eq!(ElementRange::new(CASE.binding.length(), &(start..end)), Err(error.clone()));
        assert_eq!(open_range(&CASE.payload, &CASE.binding, &(start..end), || ()), Err(error.clone()));
        assert_eq!(verify(&(start..end), &CASE.openings), Err(error));
    }
}

#[test]
fn ranges_have_a_limit() {
    let limit = MAX_OPENINGS as u64;
    let touched = |range: Range<u64>| {
        ElementRange::new(CASE.binding.length(), &range).map(|range| range.elements().len() as u64)
    };
    assert_eq!(touched(31..31 * limit), Ok(limit - 1));
    assert_eq!(touched(0..31 * limit), Ok(limit));
    assert_eq!(touched(30..31 * limit), Ok(limit));
    assert_eq!(touched(0..31 * limit + 1), Err(KzgError::TooManyOpenings(limit + 1)));
    assert_eq!(touched(30..31 * limit + 1), Err(KzgError::TooManyOpenings(limit + 1)));
    assert_eq!(touched(31..31 * limit + 31), Ok(limit));
    let whole = 0..LENGTH as u64;
    let error = KzgError::TooManyOpenings(ELEMENTS as u64 + 2);
    assert_eq!(open_range(&CASE.payload, &CASE.binding, &whole, || ()), Err(error.clone()));
    assert_eq!(verify(&whole, &[]), Err(error));
}

#[test]
fn openings_of_something_else_are_refused() {
    let (range, openings) = part(FIRST..LENGTH);
    let differs = |index, part| Err(KzgError::OtherElement { index, part });
    assert_eq!(verify(&range, &openings[..3]), Err(KzgError::Openings { have: 3, need: 4 }));
    let longer = [openings, &openings[3..]].concat();
    assert_eq!(verify(&range, &longer), Err(KzgError::Openings { have: 5, need: 4 }));
    assert_eq!(verify(&range, &[]), Err(KzgError::Openings { have: 0, need: 4 }));

    let mut swapped = openings.to_vec();
    swapped.swap(0, 1);
    assert_eq!(verify(&range, &swapped), differs(0, "z"));
    let mut swapped = openings.to_vec();
    swapped.swap(1, 2);
    assert_eq!(verify(&range, &swapped), differs(1, "commitment"));

    let mut bytes = openings[2].to_bytes();
    bytes[95] ^= 1;
    let mut wrong = openings.to_vec();
    wrong[2] = Opening::from_bytes(&bytes).unwrap();
    assert_eq!(verify(&range, &wrong), Err(KzgError::Proof));

    let (_, other) = part(FIRST..POLYNOMIAL_BYTES);
    assert_eq!(verify(&(FIRST as u64 - 31..FIRST as u64 + 31), other), differs(0, "z"));
}

#[test]
fn commitments_are_those_of_the_header() {
    let (range, openings) = part(FIRST..LENGTH);
    let (root, commitments) = (CASE.binding.root(), CASE.binding.commitments());
    let verify = |root: &B256, bytes: usize, commitments: &[KzgCommitment]| {
        verify_range(root, length(bytes), &range, openings, commitments)
    };
    assert_eq!(
        verify(&B256::ZERO, LENGTH, commitments),
        Err(KzgError::Root { have: root, need: B256::ZERO })
    );
    for have in [0, 1, 3] {
        let commitments: Vec<_> = commitments.iter().cycle().take(have).copied().collect();
        assert_eq!(verify(&root, LENGTH, &commitments), Err(KzgError::Commitments { have, need: 2 }));
    }
    let swapped: Vec<_> = commitments.iter().rev().copied().collect();
    assert!(matches!(verify(&root, LENGTH, &swapped), Err(KzgError::Root { .. })));
    assert_eq!(verify(&root, POLYNOMIAL_BYTES, commitments), Err(KzgError::Commitments { have: 2, need: 1 }));
    // A shorter payload in as many polynomials: the range leaves it, or its last element shows more than it has.
    assert!(matches!(verify(&root, LENGTH - 1, commitments), Err(KzgError::Range { .. })));
    let last = verify_range(&root, length(LENGTH - 1), &(range.start..range.end - 1), openings, commitments);
    assert_eq!(last, Err(KzgError::Malformed { index: 3 }));

    let short = &CASE.payload[..POLYNOMIAL_BYTES];
    assert_eq!(
        open_range(short, &CASE.binding, &(0..1), || ()),
        Err(KzgError::Commitments { have: 2, need: 1 })
    );
}

#[test]
fn values_that_no_payload_has_are_no_bytes() {
    // A polynomial of values with a first byte: a true opening, of no payload.
    let mut values = vec![0; 32 * ELEMENTS];
    values[0] = 1;
    let blob = c_kzg::Blob::from_bytes(&values).unwrap();
    let commitment = prover().blob_to_kzg_commitment(&blob).unwrap().to_bytes();
    let binding = KzgBinding::new(length(10), vec![KzgCommitment(*commitment)]).unwrap();
    let z = ElementIndex::of_byte(0).point();
    let (proof, y) = prover().compute_kzg_proof(&blob, &c_kzg::Bytes32::new(z.0)).unwrap();
    let opening = Opening::new(z, B256::from_slice(y.as_ref()), binding.commitments()[0], *proof.to_bytes());
    assert_eq!(opening.verify(), Ok(()));
    let shown = verify_range(&binding.root(), length(10), &(0..10), &[opening], binding.commitments());
    assert_eq!(shown, Err(KzgError::Malformed { index: 0 }));
}
