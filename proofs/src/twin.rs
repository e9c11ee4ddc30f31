//! The slow, obvious twin of every step: the oracle of the fast code. Written from the protocol's words alone.

use crate::{B256, shape::Shape};

mod vectors;

/// Product of two polynomials over GF(2) modulo 0x1002D.
fn mul_polynomials(a: u32, b: u32) -> u32 {
    let mut product = 0_u64;
    for bit in 0..16 {
        if b >> bit & 1 == 1 {
            product ^= u64::from(a) << bit;
        }
    }
    for bit in (16..32).rev() {
        if product >> bit & 1 == 1 {
            product ^= 0x1002D << (bit - 16);
        }
    }
    u32::try_from(product).unwrap()
}

/// Nonzero elements.
const UNITS: u32 = 65_535;

/// The field in its Cantor basis: b(0) = 1, and b(i+1) is the even solution of x^2 + x = b(i).
///
/// Multiplies by logarithms to the base of the polynomial x, made from products of polynomials.
pub(crate) struct Field {
    /// Polynomial of each element.
    polynomials: Vec<u32>,
    /// Powers of x.
    exp: Vec<u16>,
    log: Vec<u32>,
}

impl Field {
    pub(crate) fn new() -> Self {
        let mut basis = vec![1_u32];
        while basis.len() < 16 {
            let last = *basis.last().unwrap();
            let next = (0..1 << 16).step_by(2).find(|x| mul_polynomials(*x, *x) ^ x == last).unwrap();
            basis.push(next);
        }
        let polynomials: Vec<u32> = (0..1_u32 << 16)
            .map(|x| (0..16).filter(|bit| x >> bit & 1 == 1).fold(0, |sum, bit| sum ^ basis[bit]))
            .collect();
        let mut elements = vec![0; 1 << 16];
        for (x, polynomial) in polynomials.iter().enumerate() {
            elements[*polynomial as usize] = u16::try_from(x).unwrap();
        }
        let mut power = 1;
        let mut exp = Vec::new();
        let mut log = vec![0; 1 << 16];
        for i in 0..UNITS {
            exp.push(elements[power as usize]);
            log[usize::from(elements[power as usize])] = i;
            power = mul_polynomials(power, 2);
        }
        Self { polynomials, exp, log }
    }

    /// x to a power.
    fn power(&self, log: u32) -> u16 {
        self.exp[(log % UNITS) as usize]
    }

    pub(crate) fn mul(&self, a: u16, b: u16) -> u16 {
        if a == 0 || b == 0 {
            return 0;
        }
        self.power(self.log[usize::from(a)] + self.log[usize::from(b)])
    }

    /// The inverse, and zero of zero.
    pub(crate) fn inverse(&self, a: u16) -> u16 {
        if a == 0 { 0 } else { self.power(UNITS - self.log[usize::from(a)]) }
    }

    /// Product of many elements, none of them zero.
    fn product(&self, elements: impl Iterator<Item = u16>) -> u16 {
        self.power(elements.fold(0, |sum, element| (sum + self.log[usize::from(element)]) % UNITS))
    }

    /// Leopard's high-rate code: the polynomial of degree below 4K through the data at the points 4K..5K and zero at
    /// the points 5K..8K, evaluated at 0..3K. By Lagrange's formula the factor of the data row at `point` in the parity
    /// row `at` is the product of (at - other) / (point - other) over the other points.
    ///
    /// Gives the factor of each data row in the parity rows asked for, `[parity][data]`.
    fn parity_factors(&self, k: usize, parity: &[usize]) -> Vec<Vec<u16>> {
        let element = |point: usize| u16::try_from(point).unwrap();
        let given = || (4 * k..8 * k).map(element);
        let below: Vec<u16> = given()
            .take(k)
            .map(|point| self.product(given().filter(|other| *other != point).map(|other| point ^ other)))
            .collect();
        let factors = |at: u16| {
            let all = self.product(given().map(|other| at ^ other));
            let factor =
                |(point, below): (u16, &u16)| self.mul(all, self.inverse(self.mul(at ^ point, *below)));
            given().zip(&below).map(factor).collect()
        };
        parity.iter().map(|at| factors(element(*at))).collect()
    }

    /// The parity rows asked for, as sums over all data rows of symbols.
    fn parity_rows(&self, data: &[Vec<u16>], parity: &[usize]) -> Vec<Vec<u16>> {
        let sum = |factors: Vec<u16>| {
            let mut sum = vec![0; data[0].len()];
            for (row, factor) in data.iter().zip(factors) {
                self.add_multiple(&mut sum, row, factor);
            }
            sum
        };
        self.parity_factors(data.len(), parity).into_iter().map(sum).collect()
    }

    fn add_multiple(&self, sum: &mut [u16], row: &[u16], factor: u16) {
        for (sum, symbol) in sum.iter_mut().zip(row) {
            *sum ^= self.mul(*symbol, factor);
        }
    }

    /// All T rows of the data rows.
    pub(crate) fn extend(&self, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let symbols: Vec<Vec<u16>> = data.iter().map(|row| symbols(row)).collect();
        let parity: Vec<usize> = (0..3 * data.len()).collect();
        let parity = self.parity_rows(&symbols, &parity).into_iter().map(|symbols| row(&symbols));
        data.iter().cloned().chain(parity).collect()
    }

    /// Sum over symbols of symbol times coefficient, limb by limb.
    pub(crate) fn combine(&self, row: &[u8], coefficients: &[[u16; 8]]) -> [u16; 8] {
        let mut sum = [0; 8];
        for (symbol, coefficient) in symbols(row).into_iter().zip(coefficients) {
            for (sum, limb) in sum.iter_mut().zip(coefficient) {
                *sum ^= self.mul(symbol, *limb);
            }
        }
        sum
    }

    /// The RLC vector of T rows: each value extended as a row of one block.
    pub(crate) fn extend_values(&self, values: &[[u16; 8]]) -> Vec<[u16; 8]> {
        let rows: Vec<Vec<u8>> =
            values.iter().map(|value| row(&[value.as_slice(), &[0; 24]].concat())).collect();
        self.extend(&rows).iter().map(|row| symbols(row)[..8].try_into().unwrap()).collect()
    }
}

/// Symbols of a row.
pub(crate) fn symbols(row: &[u8]) -> Vec<u16> {
    (0..row.len() / 2)
        .map(|s| {
            let block = 64 * (s / 32);
            u16::from(row[block + s % 32]) | u16::from(row[block + 32 + s % 32]) << 8
        })
        .collect()
}

/// The row of these symbols.
fn row(symbols: &[u16]) -> Vec<u8> {
    let mut row = vec![0; 2 * symbols.len()];
    for (s, symbol) in symbols.iter().enumerate() {
        let block = 64 * (s / 32);
        [row[block + s % 32], row[block + 32 + s % 32]] = symbol.to_le_bytes();
    }
    row
}

fn keyed(usage: &str, parts: &[&[u8]]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(&format!("meridian v1 {usage}"), b""));
    for part in parts {
        hasher.update(part);
    }
    hasher
}

fn keyed_hash(usage: &str, parts: &[&[u8]]) -> B256 {
    B256::new(keyed(usage, parts).finalize().into())
}

pub(crate) fn leaf(row: &[u8]) -> B256 {
    keyed_hash("row leaf", &[row])
}

pub(crate) fn node(left: &B256, right: &B256) -> B256 {
    keyed_hash("row node", &[left.as_slice(), right.as_slice()])
}

/// Root over leaves, by halving.
pub(crate) fn root(leaves: &[B256]) -> B256 {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len() / 2);
            node(&root(left), &root(right))
        }
    }
}

/// Siblings of `start..end`, as (level, index, hash): every subtree that touches the range but whose sibling does not
/// contributes that sibling.
pub(crate) fn range_proof(leaves: &[B256], start: usize, end: usize) -> Vec<B256> {
    let mut proof = Vec::new();
    let mut size = 1;
    while size < leaves.len() {
        let touches = |node: usize| node * size < end && start < (node + 1) * size;
        for node in 0..leaves.len() / size {
            if !touches(node) && touches(node ^ 1) {
                proof.push(root(&leaves[node * size..(node + 1) * size]));
            }
        }
        size *= 2;
    }
    proof
}

pub(crate) fn coefficients(row_root: &B256, shape: &Shape) -> Vec<[u16; 8]> {
    let le32 = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    let sizes = [shape.data_rows(), shape.parity_rows(), shape.row_bytes()].map(le32).concat();
    let mut stream = keyed("coefficients", &[row_root.as_slice(), &sizes]).finalize_xof();
    (0..shape.row_bytes() / 2)
        .map(|_| {
            core::array::from_fn(|_| {
                let mut limb = [0; 2];
                stream.fill(&mut limb);
                u16::from_le_bytes(limb)
            })
        })
        .collect()
}

pub(crate) fn rlc_root(values: &[[u16; 8]]) -> B256 {
    let bytes: Vec<u8> = values.iter().flatten().flat_map(|limb| limb.to_le_bytes()).collect();
    keyed_hash("rlc vector", &[&bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static FIELD: LazyLock<Field> = LazyLock::new(Field::new);

    #[test]
    fn every_element_but_zero_is_a_power() {
        let mut powers = FIELD.exp.clone();
        powers.sort_unstable();
        assert!(powers.into_iter().eq(1..=u16::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn products_by_logarithms_are_products_of_polynomials(a: u16, b: u16) {
            let polynomial = |element| FIELD.polynomials[usize::from(element)];
            prop_assert_eq!(polynomial(FIELD.mul(a, b)), mul_polynomials(polynomial(a), polynomial(b)));
            prop_assert_eq!(FIELD.mul(a, FIELD.inverse(a)), u16::from(a != 0));
        }
    }
}
