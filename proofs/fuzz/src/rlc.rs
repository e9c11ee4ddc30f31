//! RLC vectors: one spelling, and no vector but the blob's own lets K rows pass.

use super::{blobs::Honest, input::Input};
use meridian_proofs::{
    hash::Blake3,
    header::BlobHeader,
    rlc::RlcVector,
    row_proof::{BlobContext, ContextError, RowError},
};

/// A blob's choice, then the vector.
pub fn rlc(data: &[u8]) {
    let mut input = Input(data);
    let honest = Honest::choose(input.byte());
    let bytes = input.0;
    let Ok(vector) = RlcVector::from_bytes(bytes) else {
        return assert!(bytes.is_empty() || bytes.len() % 16 != 0);
    };
    assert_eq!(vector.to_bytes(), bytes);
    assert_eq!(16 * vector.len(), bytes.len());

    let (blob, shape) = (&honest.blob, honest.blob.shape());
    let same = vector == *blob.rlc();
    assert_eq!(BlobContext::<Blake3>::new(blob.id(), *blob.header(), vector.clone()).is_ok(), same);

    // A header that commits to this vector, over the honest rows.
    let header = BlobHeader { rlc_root: vector.root::<Blake3>(), ..*blob.header() };
    let context: BlobContext = match BlobContext::new(header.id(), header, vector.clone()) {
        Ok(context) => context,
        Err(ContextError::RlcLength { got, want }) => return assert!(got == vector.len() && got != want),
        Err(error) => panic!("{error}"),
    };
    let mut passed = 0;
    for index in shape.all().indices() {
        let agrees = match context.check_row(index, blob.row(index), &blob.row_proof(index)) {
            Ok(_) => true,
            Err(RowError::Combination { row }) => {
                assert_eq!(row, index.0);
                false
            }
            Err(error) => panic!("{error}"),
        };
        passed += usize::from(agrees);
        if let Some(value) = vector.values().get(usize::try_from(index.0).unwrap()) {
            assert_eq!(agrees, *value == blob.rlc().values()[usize::try_from(index.0).unwrap()]);
        }
    }
    // Two code words of K values agree in fewer than K of the T places.
    assert!(
        if same { passed == shape.total_rows() } else { passed < shape.data_rows() },
        "{passed} rows passed"
    );
}
