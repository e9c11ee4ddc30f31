//! Encoders that commit to rows or vectors that are not what the code gives.

use crate::{
    Published, blob, context, flip,
    linear::{fitted, vanishing},
    payload, row, vector,
};
use meridian_proofs::{
    field::Gf128,
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    row_proof::{BlobContext, ContextError, RowError},
    shape::Shape,
};
use proptest::{collection::vec, prelude::*, sample::Index};

/// Lengths of one shape each: K = 16 with W = 64, and K = 64 with W = 320.
const LENGTHS: [u64; 2] = [1000, 20_300];

fn honest(length: u64, seed: u64) -> (Shape, Vec<Vec<u8>>) {
    let blob = blob(&payload(usize::try_from(length).unwrap(), seed));
    let rows = blob.shape().all().indices().map(|index| blob.row(index).to_vec()).collect();
    (blob.shape(), rows)
}

/// The vector of the data rows as they are.
fn of_data(combinations: &[Gf128]) -> Vec<Gf128> {
    combinations[..combinations.len() / 4].to_vec()
}

/// What is done to the T rows.
type Damage = fn(&mut Vec<Vec<u8>>);

/// Whether it touches a row: of K and the row's index.
type Touches = fn(usize, usize) -> bool;

/// Damage to parity rows, and which of the T rows it touches.
const WRONG_PARITY: [(&str, Damage, Touches); 11] = [
    ("one bit of the first", |rows| rows_flip(rows, |k| (k, 0)), |k, i| i == k),
    ("one bit of the last", |rows| rows_flip(rows, |k| (4 * k - 1, 511)), |k, i| i == 4 * k - 1),
    ("one bit of one between", |rows| rows_flip(rows, |k| (2 * k + 3, 300)), |k, i| i == 2 * k + 3),
    (
        "the same bit of two",
        |rows| {
            rows_flip(rows, |k| (k + 1, 9));
            rows_flip(rows, |k| (3 * k, 9));
        },
        |k, i| i == k + 1 || i == 3 * k,
    ),
    (
        "two in each other's place",
        |rows| swap(rows, |k| (2 * k, 4 * k - 1)),
        |k, i| i == 2 * k || i == 4 * k - 1,
    ),
    ("a data row in its place", |rows| copy(rows, |_| 0, |k| k), |k, i| i == k),
    ("another parity row in its place", |rows| copy(rows, |k| k, |k| 3 * k - 1), |k, i| i == 3 * k - 1),
    ("zeros", |rows| parity(rows).iter_mut().for_each(|row| row.fill(0)), |k, i| i >= k),
    ("all in reverse", |rows| parity(rows).reverse(), |k, i| i >= k),
    ("all moved by one", |rows| parity(rows).rotate_left(1), |k, i| i >= k),
    ("none but the first K", |rows| rows_fill(rows, 0xFF), |k, i| i >= 2 * k),
];

fn parity(rows: &mut [Vec<u8>]) -> &mut [Vec<u8>] {
    let k = rows.len() / 4;
    &mut rows[k..]
}

fn rows_flip(rows: &mut [Vec<u8>], place: fn(usize) -> (usize, usize)) {
    let (index, bit) = place(rows.len() / 4);
    rows[index] = flip(&rows[index], bit);
}

fn swap(rows: &mut [Vec<u8>], places: fn(usize) -> (usize, usize)) {
    let (a, b) = places(rows.len() / 4);
    rows.swap(a, b);
}

fn rows_fill(rows: &mut [Vec<u8>], byte: u8) {
    let k = rows.len() / 4;
    rows[2 * k..].iter_mut().for_each(|row| row.fill(byte));
}

fn copy(rows: &mut [Vec<u8>], from: fn(usize) -> usize, to: fn(usize) -> usize) {
    let k = rows.len() / 4;
    rows[to(k)] = rows[from(k)].clone();
}

/// Publishes, and expects exactly these rows to pass, sets of K of them to agree, and what they decode to.
fn expect(what: &str, published: &Published, pass: impl Fn(usize) -> bool, payload: Option<&[u8]>) {
    let passing = published.passing();
    let want: Vec<usize> = (0..published.shape.total_rows()).filter(|index| pass(*index)).collect();
    assert_eq!(passing, want, "{what}");
    let agreed = published.agreement(&passing);
    assert!(agreed.as_deref() == payload, "{what}: another payload");
    if agreed.is_some() {
        assert_eq!(
            published.is_consistent(&passing),
            passing.len() == published.shape.total_rows(),
            "{what}"
        );
    }
}

#[test]
fn honest_encoders_pass() {
    for length in LENGTHS {
        let (_, rows) = honest(length, 1);
        let published = Published::new(length, rows.concat(), of_data);
        let payload = payload(usize::try_from(length).unwrap(), 1);
        assert_eq!(published.header.id(), blob(&payload).id());
        expect("honest", &published, |_| true, Some(&payload));
    }
}

#[test]
fn wrong_parity_under_an_honest_tree_is_refused_and_the_rest_agrees() {
    for length in LENGTHS {
        for (what, damage, touched) in WRONG_PARITY {
            let (shape, mut rows) = honest(length, 2);
            damage(&mut rows);
            let published = Published::new(length, rows.concat(), of_data);
            let payload = payload(usize::try_from(length).unwrap(), 2);
            expect(what, &published, |i| !touched(shape.data_rows(), i), Some(&payload));
        }
    }
}

#[test]
fn every_bit_of_a_parity_row_and_a_bit_of_every_row_counts() {
    let (_, rows) = honest(1000, 3);
    let bits = (0..512).map(|bit| (37, bit)).chain((0..64).map(|index| (index, 8 * index % 512)));
    for (index, bit) in bits {
        let mut wrong = rows.clone();
        wrong[index] = flip(&wrong[index], bit);
        // The vector of the honest rows under the coefficients that the wrong row brings about.
        let published = with_vector_of(1000, &wrong, &rows);
        let refused = published.check(index).err();
        assert_eq!(refused, Some(RowError::Combination { row: u32::try_from(index).unwrap() }), "bit {bit}");
        assert!(published.check((index + 1) % 64).is_ok());
    }
}

/// Commits to `rows`, with the vector of the data rows of `other`.
fn with_vector_of(length: u64, rows: &[Vec<u8>], other: &[Vec<u8>]) -> Published {
    let plain = Published::new(length, rows.concat(), of_data);
    let coefficients = Blake3::coefficients(&plain.header.row_root, &plain.shape);
    let data = &other[..plain.shape.data_rows()];
    let values = data.iter().map(|row| crate::combination(row, &coefficients)).collect();
    Published::new(length, rows.concat(), |_| values)
}

#[test]
fn parity_of_another_code_or_payload_is_refused() {
    for length in LENGTHS {
        let (shape, rows) = honest(length, 4);
        let (k, n) = (shape.data_rows(), shape.parity_rows());
        let payload = payload(usize::try_from(length).unwrap(), 4);
        let others = [
            (
                "the library's default code for this shape",
                reed_solomon_simd::encode(k, n, &rows[..k]).unwrap(),
            ),
            ("another payload's", honest(length, 5).1[k..].to_vec()),
        ];
        for (what, parity) in others {
            assert_ne!(parity, rows[k..]);
            let published = Published::new(length, [&rows[..k], &parity].concat().concat(), of_data);
            expect(what, &published, |i| i < k, Some(&payload));
        }
    }
}

#[test]
fn a_wrong_data_row_is_refused_or_all_parity_is() {
    for length in LENGTHS {
        let (shape, rows) = honest(length, 6);
        let (k, w) = (shape.data_rows(), shape.row_bytes());
        let was = payload(usize::try_from(length).unwrap(), 6);
        for (index, bit) in [(0, 0), (3, 100), (k / 2, 511)] {
            let mut wrong = rows.clone();
            wrong[index] = flip(&wrong[index], bit);
            let published = with_vector_of(length, &wrong, &rows);
            expect("vector of the right row", &published, |i| i != index, Some(&was));

            let published = Published::new(length, wrong.concat(), of_data);
            let becomes = flip(&was, 8 * w * index + bit);
            expect("vector of the wrong row", &published, |i| i < k, Some(&becomes));
        }
    }
}

#[test]
fn halves_of_two_payloads_do_not_mix() {
    for length in LENGTHS {
        let ((shape, a), (_, b)) = (honest(length, 7), honest(length, 8));
        let (k, t) = (shape.data_rows(), shape.total_rows());
        let payloads = [7, 8].map(|seed| payload(usize::try_from(length).unwrap(), seed));
        let mixed = [&a[..t / 2], &b[t / 2..]].concat();
        let published = with_vector_of(length, &mixed, &a);
        expect("vector of the first", &published, |i| i < t / 2, Some(&payloads[0]));
        let published = with_vector_of(length, &mixed, &b);
        expect("vector of the second", &published, |i| i >= t / 2, Some(&payloads[1]));

        // Fitted to K/2 rows of each, no other row passes: one set of K rows, one payload, which is neither.
        let chosen: Vec<usize> = (t / 2 - k / 2..t / 2 + k / 2).collect();
        let published = Published::new(length, mixed.concat(), |all| fitted(all, &chosen));
        let passing = published.passing();
        assert_eq!(passing, chosen);
        let decoded = published.decode(chosen);
        assert!(
            payloads.iter().all(|payload| decoded.as_ref().ok().is_none_or(|decoded| decoded != payload))
        );
        assert!(!published.is_consistent(&passing));
    }
}

/// Rows of which no K + 1 are of one codeword, but for chance.
fn noise(length: u64, seed: u64) -> (Shape, Vec<u8>) {
    let shape = Shape::of(length.try_into().unwrap());
    (shape, payload(shape.total_bytes(), seed))
}

#[test]
fn a_vector_can_be_fitted_to_k_rows_and_to_no_more() {
    for length in LENGTHS {
        let (shape, rows) = noise(length, 9);
        let (k, t) = (shape.data_rows(), shape.total_rows());
        let choices: [Vec<usize>; 6] = [
            (0..k).collect(),
            (k..2 * k).collect(),
            (t - k..t).collect(),
            (0..k).map(|i| 4 * i).collect(),
            (0..k / 2).chain(t - k / 2..t).collect(),
            (1..k).chain([2 * k]).collect(),
        ];
        for chosen in choices {
            let published = Published::new(length, rows.clone(), |all| fitted(all, &chosen));
            let passing = published.passing();
            assert_eq!(passing, chosen);
            assert!(!published.is_consistent(&passing));
            // One row less and nothing decodes; there is no other set of K rows to disagree with.
            assert!(published.decode(chosen[1..].iter().copied()).is_err());
        }
    }
}

#[test]
fn a_vector_fitted_to_a_bad_row_gives_up_the_good_ones() {
    for length in LENGTHS {
        let (shape, mut rows) = honest(length, 10);
        let (k, t) = (shape.data_rows(), shape.total_rows());
        let bad = 4 * k - 2;
        rows[bad] = flip(&rows[bad], 77);
        for good in [1, k, 2 * k + 5] {
            let chosen: Vec<usize> = (good..good + k - 1).chain([bad]).collect();
            let published = Published::new(length, rows.concat(), |all| fitted(all, &chosen));
            let passing = published.passing();
            assert_eq!(passing, chosen);
            assert!(!published.is_consistent(&passing));
        }
        // Fitted to good rows only it is the honest vector, and the bad row is out.
        let published =
            Published::new(length, rows.concat(), |all| fitted(all, &(k..2 * k).collect::<Vec<_>>()));
        let payload = payload(usize::try_from(length).unwrap(), 10);
        expect("fitted to good rows", &published, |i| i != bad && i < t, Some(&payload));
    }
}

#[test]
fn a_row_fitted_to_known_coefficients_brings_about_others() {
    for length in LENGTHS {
        let (_, rows) = honest(length, 11);
        let before = Published::new(length, rows.concat(), of_data);
        let coefficients = Blake3::coefficients(&before.header.row_root, &before.shape);
        for index in [0, before.shape.data_rows(), before.shape.total_rows() - 1] {
            let mut wrong = rows[index].clone();
            for (s, delta) in vanishing(coefficients[..9].try_into().unwrap()).into_iter().enumerate() {
                let [low, high] = delta.to_le_bytes();
                wrong[s] ^= low;
                wrong[32 + s] ^= high;
            }
            assert_ne!(wrong, rows[index]);
            let [had, has] = [&rows[index], &wrong].map(|row| crate::combination(row, &coefficients));
            assert_eq!(had, has, "made to have the same combination");

            let refused = before.context.check_row(
                row(index),
                wrong.clone().into(),
                &before.tree.prove_row(row(index)),
            );
            assert_eq!(refused.err(), Some(RowError::RowRoot));
            let mut committed = rows.clone();
            committed[index] = wrong;
            let after = with_vector_of(length, &committed, &rows);
            let passing: Vec<usize> = (0..after.shape.total_rows()).filter(|i| *i != index).collect();
            assert_eq!(after.passing(), passing);
        }
    }
}

#[test]
fn vectors_that_are_not_the_rows_are_refused_row_by_row() {
    for length in LENGTHS {
        let (shape, rows) = honest(length, 12);
        let k = shape.data_rows();
        let was = payload(usize::try_from(length).unwrap(), 12);
        let other = with_vector_of(length, &rows, &honest(length, 13).1);
        expect("another blob's", &other, |_| false, None);
        let publish = |change: fn(&mut Vec<Gf128>)| {
            Published::new(length, rows.concat(), |all| {
                let mut values = of_data(all);
                change(&mut values);
                values
            })
        };
        expect("zeros", &publish(|values| values.fill(Gf128::default())), |_| false, None);
        expect("moved by one", &publish(|values| values.rotate_left(1)), |_| false, None);
        // A change in one value is a change in all that the code adds to it: fewer than K rows are left.
        for limb in 0..8 {
            let published = Published::new(length, rows.concat(), |all| {
                let mut values = of_data(all);
                values[k - 1].0[limb] ^= 1 << (2 * limb);
                values
            });
            expect("one limb", &published, |i| i < k - 1, None);
        }
        let swapped = publish(|values| values.swap(0, 1));
        expect("two values swapped", &swapped, |i| (2..k).contains(&i), None);
        expect("none of this", &publish(|_| ()), |_| true, Some(&was));
    }
}

#[test]
fn a_vector_counts_for_its_own_header_and_its_own_number_of_values() {
    let (ours, other) = (blob(&payload(1000, 14)), blob(&payload(1000, 15)));
    let refused = |header: BlobHeader, values: &[Gf128]| {
        BlobContext::<Blake3>::new(header.id(), header, vector(values)).err()
    };
    let values = ours.rlc().values();
    assert_eq!(refused(*ours.header(), values), None);
    assert_eq!(refused(*ours.header(), other.rlc().values()), Some(ContextError::RlcRoot));
    let mut swapped = values.to_vec();
    swapped.swap(3, 4);
    assert_eq!(refused(*ours.header(), &swapped), Some(ContextError::RlcRoot));
    for got in [1, 8, 15, 17, 32, 64] {
        let values: Vec<Gf128> = values.iter().cycle().take(got).copied().collect();
        // Also where the header commits to exactly these.
        let header = BlobHeader { rlc_root: vector(&values).root::<Blake3>(), ..*ours.header() };
        for header in [*ours.header(), header] {
            assert_eq!(refused(header, &values), Some(ContextError::RlcLength { got, want: 16 }));
        }
    }
}

#[test]
fn a_length_is_that_of_the_id() {
    let ours = blob(&payload(1000, 16));
    for length in [1, 999, 1001, 1024, 1025, 16_384, 16_385, 1 << 27] {
        let header = BlobHeader { length: length.try_into().unwrap(), ..*ours.header() };
        let refused = BlobContext::<Blake3>::new(ours.id(), header, ours.rlc().clone()).err();
        assert_eq!(refused, Some(ContextError::Id { actual: header.id() }));
        // Under the id of its own, another shape takes neither the vector nor the rows.
        let own = BlobContext::<Blake3>::new(header.id(), header, ours.rlc().clone());
        let shape = header.shape();
        if shape.data_rows() != 16 {
            assert_eq!(own.err(), Some(ContextError::RlcLength { got: 16, want: shape.data_rows() }));
        } else if shape.row_bytes() != 64 {
            let index = row(5);
            let refused = own.unwrap().check_row(index, ours.row(index), &ours.row_proof(index)).err();
            assert_eq!(refused, Some(RowError::Bytes { got: 64, want: shape.row_bytes() }));
            // Nor rows that are made longer, since they are not under the root.
            let longer = [ours.row(index).to_vec(), vec![0; shape.row_bytes() - 64]].concat();
            let own = BlobContext::<Blake3>::new(header.id(), header, ours.rlc().clone()).unwrap();
            let refused = own.check_row(index, longer.into(), &ours.row_proof(index)).err();
            assert_eq!(refused, Some(RowError::RowRoot));
        }
    }
}

#[test]
fn rows_and_proofs_of_another_blob_or_place_are_refused() {
    let (ours, other) = (blob(&payload(1000, 17)), blob(&payload(1000, 18)));
    let context = context(&ours);
    for index in (0..64).map(row) {
        for (bytes, proof) in [
            (other.row(index), other.row_proof(index)),
            (other.row(index), ours.row_proof(index)),
            (ours.row(index), other.row_proof(index)),
        ] {
            assert_eq!(context.check_row(index, bytes, &proof).err(), Some(RowError::RowRoot));
        }
        for place in (0..64).map(row).filter(|place| *place != index) {
            for proof in [index, place] {
                let refused = context.check_row(place, ours.row(index), &ours.row_proof(proof)).err();
                assert_eq!(refused, Some(RowError::RowRoot));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_wrong_rows_are_refused_and_the_rest_agrees(
        length in 1..20_000_u64, seed: u64, wrong in vec(any::<Index>(), 1..6), bit: Index,
    ) {
        let (shape, rows) = honest(length, seed);
        let mut damaged = rows.clone();
        let touched: Vec<usize> = wrong.iter().map(|index| index.index(rows.len())).collect();
        for index in &touched {
            damaged[*index] = flip(&rows[*index], bit.index(8 * shape.row_bytes()));
        }
        let published = with_vector_of(length, &damaged, &rows);
        let payload = payload(usize::try_from(length).unwrap(), seed);
        expect("any rows", &published, |i| !touched.contains(&i), Some(&payload));
    }

    #[test]
    fn a_vector_fits_any_k_rows_and_no_other(
        chosen in prop_oneof![Just((1000, 16)), Just((16_385, 64))].prop_flat_map(|(length, k)| {
            (Just(length), prop::sample::subsequence((0..4 * k).collect::<Vec<usize>>(), k))
        }),
        seed: u64,
    ) {
        let (length, chosen) = chosen;
        let (_, rows) = noise(length, seed);
        let published = Published::new(length, rows, |all| fitted(all, &chosen));
        let passing = published.passing();
        prop_assert_eq!(&passing, &chosen);
        prop_assert!(!published.is_consistent(&passing));
    }
}
