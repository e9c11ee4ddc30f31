//! Headers: one spelling, bounded lengths, and an id that pins every byte.

use super::blobs::Honest;
use meridian_proofs::{
    hash::Blake3,
    header::{BlobHeader, HeaderError},
    keccak256,
    row_proof::BlobContext,
    shape::MAX_PAYLOAD,
};

/// A header's flat form.
///
/// Read headers are written back as they were and have the id of protocol section 3; each blob takes its own header
/// and no other.
pub fn header(data: &[u8]) {
    let length = data.get(1..9).map(|length| u64::from_be_bytes(length.try_into().unwrap()));
    let header = match BlobHeader::decode(data) {
        Ok(header) => header,
        Err(HeaderError::Bytes(bytes)) => return assert!(bytes == data.len() && bytes != 105),
        Err(HeaderError::Codec(codec)) => return assert!(codec == data[0] && codec != 1),
        Err(HeaderError::Length(_)) => {
            return assert!(length.is_some_and(|length| length == 0 || length > MAX_PAYLOAD));
        }
    };
    assert_eq!(header.encode(), data);
    assert_eq!(Some(header.length.get()), length);

    // abi.encode: every field in a word of 32 bytes.
    let abi = [&[0; 31], &data[..1], &[0; 24], &data[1..]].concat();
    assert_eq!(header.id().0, keccak256(abi));

    let shape = header.shape();
    assert!(shape.data_bytes() >= header.length.to_usize());
    assert_eq!(shape.total_rows(), 4 * shape.data_rows());
    for (_, honest) in Honest::all() {
        let same = header == *honest.blob.header();
        let rlc = honest.blob.rlc();
        assert_eq!(BlobContext::<Blake3>::new(honest.blob.id(), header, rlc.clone()).is_ok(), same);
        // Under its own id a header may say anything, but its RLC vector has to be this one.
        let fits = header.rlc_root == honest.blob.header().rlc_root
            && shape.data_rows() == honest.blob.shape().data_rows();
        assert_eq!(BlobContext::<Blake3>::new(header.id(), header, rlc.clone()).is_ok(), fits);
    }
}
