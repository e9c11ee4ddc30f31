//! An encoder that cheats: rows that are no code word, under an honest tree and an honest RLC vector of its data rows.

use super::{
    blobs::Honest,
    codec::{combine, parity},
    input::{Input, noise},
};
use meridian_proofs::{
    hash::{Blake3, HashProfile},
    header::BlobHeader,
    merkle::RowTree,
    reconstruct::{Rebuilt, RowSet},
    rlc::RlcVector,
    row_proof::{BlobContext, RowError},
};
use std::sync::{Arc, LazyLock};

/// Payload length of the blob that is spoilt: rows of two blocks.
const LENGTH: usize = 1025;

static HONEST: LazyLock<Honest> = LazyLock::new(|| Honest::of(&noise(7, LENGTH)));

/// Patches of a row index, an offset, a length and as many bytes to add to the row.
///
/// A row passes exactly where it is the row of the code word that the data rows give; rows that pass decode to that
/// code word; and whoever re-encodes sees that the header commits to none.
pub fn forged(data: &[u8]) {
    let (shape, mut input) = (HONEST.blob.shape(), Input(data));
    let (row_bytes, data_bytes) = (shape.row_bytes(), shape.data_bytes());
    let mut rows = HONEST.blob.rows(shape.all()).to_vec();
    while !input.0.is_empty() {
        let row = usize::from(input.byte()) % shape.total_rows();
        let offset = usize::from(input.byte()) % row_bytes;
        let length = usize::from(input.byte()) % (row_bytes - offset) + 1;
        let row = &mut rows[row * row_bytes..][..row_bytes];
        for (byte, patch) in row[offset..].iter_mut().zip(input.take(length)) {
            *byte ^= patch;
        }
    }

    let tree = RowTree::build::<Blake3>(rows.chunks(row_bytes).map(Blake3::row_leaf).collect());
    let coefficients = Blake3::coefficients(&tree.root(), &shape);
    let rlc: Vec<u8> =
        rows[..data_bytes].chunks(row_bytes).flat_map(|row| combine(row, &coefficients).to_bytes()).collect();
    let rlc = RlcVector::from_bytes(&rlc).unwrap();
    let header =
        BlobHeader { row_root: tree.root(), rlc_root: rlc.root::<Blake3>(), ..*HONEST.blob.header() };
    let context: Arc<BlobContext> = Arc::new(BlobContext::new(header.id(), header, rlc).unwrap());

    let mut word = rows[..data_bytes].to_vec();
    word.extend(parity(&shape, &rows[..data_bytes]));
    let mut set = RowSet::new(context.clone());
    for (index, (row, want)) in shape.all().indices().zip(rows.chunks(row_bytes).zip(word.chunks(row_bytes)))
    {
        let row_of_word = row == want;
        match context.check_row(index, row.to_vec().into(), &tree.prove_row(index)) {
            Ok(checked) => {
                assert!(row_of_word, "accepted row {}, which is not of the code word", index.0);
                // Without data rows decoding has work to do.
                if !shape.data().contains(index) {
                    set.insert(checked).unwrap();
                }
            }
            Err(RowError::Combination { row }) => {
                assert!(row == index.0 && !row_of_word, "refused row {row}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    if !set.is_decodable() {
        return;
    }
    if let Ok(payload) = set.payload() {
        assert_eq!(payload, word[..LENGTH]);
    } else {
        assert!(word[LENGTH..data_bytes].iter().any(|byte| *byte != 0), "honest padding is not malformed");
    }
    let consistent = matches!(set.rebuild().unwrap(), Rebuilt::Consistent(_));
    assert_eq!(consistent, rows == word);
    assert!(
        context.check_range(shape.all(), rows.into(), &tree.prove_range(shape.all())).is_ok() == consistent
    );
}
