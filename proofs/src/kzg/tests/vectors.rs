//! The consensus-spec tests of EIP-4844, for both crates and for the checks made before either is asked.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    openings: Vec<Single>,
    polynomials: Vec<Polynomial>,
}

/// Whether the values at hand are right; absent where they are malformed.
type Verdict = Option<bool>;

#[derive(Deserialize)]
struct Single {
    name: String,
    commitment: String,
    z: String,
    y: String,
    proof: String,
    valid: Verdict,
}

#[derive(Deserialize)]
struct Polynomial {
    name: String,
    values: String,
    commitment: String,
    proof: String,
    valid: Verdict,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../testdata/kzg.json")).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

fn point(text: &str) -> Option<c_kzg::Bytes48> {
    c_kzg::Bytes48::from_bytes(&bytes(text)).ok()
}

/// The 4096 values that a vector states as a rule.
fn values(rule: &str) -> Vec<u8> {
    let value: Box<dyn Fn(usize) -> U256> = match rule {
        "zeros" => Box::new(|_| U256::ZERO),
        "twos" => Box::new(|_| U256::from(2)),
        "order minus one" => Box::new(|_| order() - U256::ONE),
        "one at 3211" => Box::new(|index| U256::from(index == 3211)),
        _ => {
            let base = rule.strip_prefix("powers of ").unwrap().strip_suffix(" from exponent 256").unwrap();
            let base: U256 = base.parse().unwrap();
            Box::new(move |index| base.pow_mod(U256::from(index + 256), order()))
        }
    };
    (0..ELEMENTS).flat_map(|index| value(index).to_be_bytes::<32>()).collect()
}

#[test]
fn openings_are_judged_as_the_specification_does() {
    let openings = vectors().openings;
    assert_eq!(openings.len(), 122);
    openings.par_iter().for_each(|single| {
        let commitment = bytes(&single.commitment);
        let mut hash = Sha256::digest(&commitment).to_vec();
        hash[0] = 1;
        let input = [hash, bytes(&single.z), bytes(&single.y), commitment, bytes(&single.proof)].concat();
        let verdict = Opening::from_bytes(&input).and_then(|opening| opening.verify());
        match single.valid {
            Some(true) => assert_eq!(verdict, Ok(()), "{}", single.name),
            Some(false) => assert_eq!(verdict, Err(KzgError::Proof), "{}", single.name),
            None => assert!(
                matches!(verdict, Err(KzgError::OpeningBytes(_) | KzgError::Field(_) | KzgError::Point)),
                "{}",
                single.name
            ),
        }
    });
}

#[test]
fn polynomials_have_the_commitments_and_proofs_of_the_specification() {
    let vectors = vectors();
    let (mut right, mut wrong) = (0, 0);
    for polynomial in &vectors.polynomials {
        let values = values(&polynomial.values);
        let blob = c_kzg::Blob::from_bytes(&values).unwrap();
        let (commitment, proof) = (point(&polynomial.commitment), point(&polynomial.proof));
        if polynomial.valid == Some(true) {
            right += 1;
            let commitment = commitment.unwrap();
            assert_eq!(prover().blob_to_kzg_commitment(&blob).unwrap().to_bytes(), commitment);
            assert_eq!(
                prover().compute_blob_kzg_proof(&blob, &commitment).unwrap().to_bytes(),
                proof.unwrap()
            );
        } else {
            wrong += 1;
        }
        let verdict = commitment.zip(proof).and_then(|(commitment, proof)| {
            kzg_rs::KzgProof::verify_blob_kzg_proof(
                kzg_rs::Blob::from_slice(&values).unwrap(),
                &kzg_rs::Bytes48(*commitment),
                &kzg_rs::Bytes48(*proof),
                kzg_rs::EnvKzgSettings::Default.get(),
            )
            .ok()
        });
        assert_eq!(verdict, polynomial.valid, "{}", polynomial.name);
    }
    assert_eq!((right, wrong), (9, 16));
}

#[test]
fn polynomials_open_as_in_the_specification() {
    let vectors = vectors();
    let known: Vec<_> = vectors.polynomials.iter().filter(|known| known.valid == Some(true)).collect();
    let right: Vec<_> = vectors.openings.iter().filter(|single| single.valid == Some(true)).collect();
    right.into_par_iter().step_by(2).for_each(|single| {
        let known = known.iter().find(|known| known.commitment == single.commitment).unwrap();
        let blob = c_kzg::Blob::from_bytes(&values(&known.values)).unwrap();
        let z = c_kzg::Bytes32::from_bytes(&bytes(&single.z)).unwrap();
        let (proof, y) = prover().compute_kzg_proof(&blob, &z).unwrap();
        assert_eq!(y.as_slice(), bytes(&single.y), "{}", single.name);
        assert_eq!(proof.to_bytes().as_slice(), bytes(&single.proof), "{}", single.name);
    });
}
