//! Honest blobs that inputs are held against.

use super::input::noise;
use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    header::BlobHeader,
    row_proof::BlobContext,
    shape::RowRange,
};
use std::sync::{Arc, LazyLock};

/// An honest blob, and the context in which a reader checks its rows.
pub struct Honest {
    pub blob: EncodedBlob,
    pub context: Arc<BlobContext>,
}

/// Lengths in bytes: rows of one block without and with padding, of two blocks, and the next size class.
const LENGTHS: [usize; 5] = [1, 1000, 1024, 1025, 16_385];

static BLOBS: LazyLock<Vec<Honest>> = LazyLock::new(|| {
    let honest = |(state, length)| Honest::of(&noise(state, length));
    (0..).zip(LENGTHS).map(honest).collect()
});

impl Honest {
    pub fn of(payload: &[u8]) -> Self {
        let blob: EncodedBlob = encode(payload, B256::ZERO).expect("the length is in bounds");
        let context = BlobContext::new(blob.id(), *blob.header(), blob.rlc().clone());
        Self { context: Arc::new(context.expect("an honest blob has a context")), blob }
    }

    /// One of the blobs, for every byte.
    pub fn choose(byte: u8) -> &'static Self {
        &BLOBS[usize::from(byte) % BLOBS.len()]
    }

    /// Every blob with the byte that chooses it.
    pub fn all() -> impl Iterator<Item = (u8, &'static Self)> {
        (0..).zip(BLOBS.iter())
    }

    /// The range that a reader is told, where the blob has it.
    pub fn range(&self, start: u16, count: u16) -> Option<RowRange> {
        self.blob.shape().range(start.into(), count.into())
    }

    /// The context of a blob that says its payload is shorter, over the same rows and RLC vector.
    pub fn shortened(&self, length: u64) -> Option<Arc<BlobContext>> {
        let header = BlobHeader { length: length.try_into().ok()?, ..*self.blob.header() };
        let context = BlobContext::new(header.id(), header, self.blob.rlc().clone()).ok()?;
        (context.shape() == self.blob.shape()).then(|| Arc::new(context))
    }
}
