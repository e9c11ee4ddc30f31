//! Linear algebra for attackers: what an encoder that knows all coefficients can solve for.

use meridian_proofs::field::{Gf128, mul};

/// a^(2^16 - 2).
fn inverse(a: u16) -> u16 {
    let (mut inverse, mut square) = (1, a);
    for _ in 1..16 {
        square = mul(square, square);
        inverse = mul(inverse, square);
    }
    inverse
}

/// Factors of the K data rows in row `index`, by the closed form of protocol section 2.
fn factors(k: usize, index: usize) -> Vec<u16> {
    let element = |point: usize| u16::try_from(point).unwrap();
    let product = |points: core::ops::Range<usize>| points.map(element).fold(1, mul);
    if index < k {
        return (0..k).map(|j| u16::from(j == index)).collect();
    }
    let c = mul(product(4 * k..8 * k), inverse(product(1..4 * k)));
    (0..k).map(|j| mul(c, inverse(element((index - k) ^ (4 * k + j))))).collect()
}

/// The x with matrix * x = right, by Gaussian elimination; the matrix is square and invertible.
pub(crate) fn solve(mut matrix: Vec<Vec<u16>>, mut right: Vec<Gf128>) -> Vec<Gf128> {
    let scaled = |value: Gf128, factor: u16| Gf128(value.0.map(|limb| mul(limb, factor)));
    let plus = |a: Gf128, b: Gf128| Gf128::from_bits(a.to_bits() ^ b.to_bits());
    for i in 0..matrix.len() {
        let pivot = (i..matrix.len()).find(|row| matrix[*row][i] != 0).unwrap();
        matrix.swap(i, pivot);
        right.swap(i, pivot);
        let factor = inverse(matrix[i][i]);
        matrix[i] = matrix[i].iter().map(|x| mul(*x, factor)).collect();
        right[i] = scaled(right[i], factor);
        let (row, value) = (matrix[i].clone(), right[i]);
        for other in (0..matrix.len()).filter(|other| *other != i) {
            let factor = matrix[other][i];
            matrix[other].iter_mut().zip(&row).for_each(|(x, y)| *x ^= mul(*y, factor));
            right[other] = plus(right[other], scaled(value, factor));
        }
    }
    right
}

/// The RLC vector whose extension has the combinations of the K chosen rows: one for each choice, whatever the rows.
pub(crate) fn fitted(combinations: &[Gf128], chosen: &[usize]) -> Vec<Gf128> {
    let k = combinations.len() / 4;
    assert_eq!(chosen.len(), k);
    let matrix = chosen.iter().map(|index| factors(k, *index)).collect();
    solve(matrix, chosen.iter().map(|index| combinations[*index]).collect())
}

/// Nine symbols, the last of them 1, whose combination with nine coefficients is zero.
pub(crate) fn vanishing(coefficients: &[Gf128; 9]) -> [u16; 9] {
    let matrix = (0..8).map(|limb| coefficients[..8].iter().map(|value| value.0[limb]).collect()).collect();
    let right = coefficients[8].0.map(|limb| Gf128([limb, 0, 0, 0, 0, 0, 0, 0]));
    let solved = solve(matrix, right.to_vec());
    core::array::from_fn(|s| if s < 8 { solved[s].0[0] } else { 1 })
}
