//! Transactions that Ethereum mainnet accepted, with their commitments and proofs.

use super::*;

/// An item of RLP: bytes, or a list of items.
enum Item<'a> {
    Bytes(&'a [u8]),
    List(Vec<Item<'a>>),
}

impl<'a> Item<'a> {
    /// Takes one item off the front.
    fn take(from: &mut &'a [u8]) -> Self {
        let (prefix, rest) = from.split_first().unwrap();
        let long = |bytes: usize| {
            let (length, rest) = rest.split_at(bytes);
            rest.split_at(length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
        };
        let prefix = usize::from(*prefix);
        let (body, rest) = match prefix {
            0..0x80 => from.split_at(1),
            0x80..0xb8 => rest.split_at(prefix - 0x80),
            0xb8..0xc0 => long(prefix - 0xb7),
            0xc0..0xf8 => rest.split_at(prefix - 0xc0),
            _ => long(prefix - 0xf7),
        };
        *from = rest;
        if prefix < 0xc0 {
            return Self::Bytes(body);
        }
        let mut body = body;
        let mut items = Vec::new();
        while !body.is_empty() {
            items.push(Self::take(&mut body));
        }
        Self::List(items)
    }

    fn list(&self) -> &[Self] {
        let Self::List(items) = self else { panic!("bytes where a list should be") };
        items
    }

    fn bytes(&self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("a list where bytes should be") };
        bytes
    }
}

/// Blobs, commitments, proofs and versioned hashes of a transaction `0x03 || rlp([transaction, blobs, ..])`.
fn transaction(bytes: &[u8]) -> Vec<[&[u8]; 4]> {
    let (kind, mut rest) = bytes.split_first().unwrap();
    assert_eq!(*kind, 3);
    let whole = Item::take(&mut rest);
    assert!(rest.is_empty());
    let [transaction, blobs, commitments, proofs] = whole.list() else { panic!("not four parts") };
    // Field 10 of the transaction is blob_versioned_hashes.
    let columns = [blobs, commitments, proofs, &transaction.list()[10]].map(Item::list);
    assert!(columns.iter().all(|column| column.len() == columns[0].len()));
    (0..columns[0].len()).map(|index| columns.map(|column| column[index].bytes())).collect()
}

#[test]
fn commitments_and_proofs_are_those_that_mainnet_accepted() {
    let base = transaction(include_bytes!("../../../testdata/l1-blobs/base-mainnet-tx524451.rlp"));
    let scroll = transaction(include_bytes!("../../../testdata/l1-blobs/scroll-mainnet-tx320670.rlp"));
    assert_eq!((base.len(), scroll.len()), (5, 1));
    base.into_par_iter().chain(scroll).for_each(|[values, commitment, proof, versioned_hash]| {
        let blob = c_kzg::Blob::from_bytes(values).unwrap();
        let made = prover().blob_to_kzg_commitment(&blob).unwrap().to_bytes();
        assert_eq!(made.as_slice(), commitment);
        assert_eq!(prover().compute_blob_kzg_proof(&blob, &made).unwrap().to_bytes().as_slice(), proof);
        let commitment = KzgCommitment::from_bytes(commitment).unwrap();
        assert_eq!(commitment.versioned_hash().as_slice(), versioned_hash);

        let verified = kzg_rs::KzgProof::verify_blob_kzg_proof(
            kzg_rs::Blob::from_slice(values).unwrap(),
            &kzg_rs::Bytes48(*commitment.as_bytes()),
            &kzg_rs::Bytes48::from_slice(proof).unwrap(),
            kzg_rs::EnvKzgSettings::Default.get(),
        );
        assert!(verified.unwrap());

        for element in [0, 1, 2048, 4095] {
            let z = ElementIndex { polynomial: 0, element }.point();
            let (proof, y) = prover().compute_kzg_proof(&blob, &c_kzg::Bytes32::new(z.0)).unwrap();
            assert_eq!(y.as_slice(), &values[32 * element..][..32]);
            let opening = Opening::new(z, B256::from_slice(y.as_ref()), commitment, *proof.to_bytes());
            assert_eq!(opening.verify(), Ok(()));
        }
    });
}
