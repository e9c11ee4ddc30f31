//! What others publish for the same work, each used as fast as it can be.

use std::hint::black_box;

use c_kzg::{BYTES_PER_BLOB, Blob, KzgSettings, ethereum_kzg_settings};
use meridian_proofs::{hash::HashProfile, shape::Shape};
use reed_solomon_erasure::{Field, ReedSolomon};
use reed_solomon_simd::{
    engine::DefaultEngine,
    rate::{HighRateEncoder, RateEncoder},
};
use rsema1d::{
    ExtendedData, Parameters, RowMatrix, RowProof, VerificationContext, encode_in_place, reconstruct,
    verify_with_context,
};

/// The same code, combination and commitment with SHA-256: the crate `rsema1d`.
pub(crate) struct Rsema1d<'a> {
    parameters: Parameters,
    payload: &'a [u8],
    /// All rows; the data rows are written anew each time.
    buffer: Option<RowMatrix>,
}

impl<'a> Rsema1d<'a> {
    pub(crate) fn new(shape: &Shape, payload: &'a [u8]) -> Self {
        let (k, n, w) = (shape.data_rows(), shape.parity_rows(), shape.row_bytes());
        let parameters = Parameters::new(k, n, w).expect("a shape of the peer");
        // From a vector, as its own benchmark does: its own zeroed memory would be copied at each reuse.
        let buffer = RowMatrix::with_shape(vec![0; shape.total_bytes()], k + n, w).expect("T rows");
        Self { parameters, payload, buffer: Some(buffer) }
    }

    /// In place, in the same buffer again.
    pub(crate) fn in_place(&mut self) -> [u8; 32] {
        let mut rows = self.buffer.take().expect("the buffer is back");
        rows.as_row_major_mut()[..self.payload.len()].copy_from_slice(self.payload);
        let encoded = encode_in_place(rows, &self.parameters).expect("rows of the shape");
        let commitment = encoded.commitment();
        let ExtendedData { all_rows, .. } = encoded;
        self.buffer = Some(all_rows);
        commitment
    }

    /// By its default call, into fresh memory: huge pages, where the system gives them.
    pub(crate) fn fresh(&self, data: &RowMatrix) -> ExtendedData {
        rsema1d::encode(data, &self.parameters).expect("rows of the shape")
    }

    /// The data rows, as the default call takes them.
    pub(crate) fn data(&self) -> RowMatrix {
        let Parameters { k, row_size, .. } = self.parameters;
        let mut data = self.payload.to_vec();
        data.resize(k * row_size, 0);
        RowMatrix::with_shape(data, k, row_size).expect("K rows")
    }
}

/// Who checks rows by the peer: K consecutive rows and some single ones, each with its own proof.
pub(crate) struct Rsema1dChecker {
    commitment: [u8; 32],
    context: VerificationContext,
    interval: Vec<RowProof>,
    rows: Vec<RowProof>,
    next: usize,
}

impl Rsema1dChecker {
    pub(crate) fn new(encoded: &ExtendedData, start: usize, rows: &[usize]) -> Self {
        let prove = |index| encoded.generate_row_proof(index).expect("a row");
        let context = VerificationContext::new(encoded.rlc_original(), encoded.params()).expect("its vector");
        Self {
            commitment: encoded.commitment(),
            context,
            interval: (start..start + encoded.params().k).map(prove).collect(),
            rows: rows.iter().copied().map(prove).collect(),
            next: 0,
        }
    }

    fn check(&self, proof: &RowProof) {
        // The first check leaves what it prepared in the context.
        assert!(verify_with_context(proof, &self.commitment, &self.context).expect("own row"));
    }

    pub(crate) fn row(&mut self) {
        self.next = (self.next + 1) % self.rows.len();
        self.check(&self.rows[self.next]);
    }

    pub(crate) fn interval(&self) {
        for proof in &self.interval {
            self.check(proof);
        }
    }
}

/// Data rows from K consecutive rows by the peer.
pub(crate) fn rsema1d_reconstruct(
    encoded: &ExtendedData,
    start: usize,
) -> impl FnMut() -> RowMatrix + Send + '_ {
    let indices: Vec<usize> = (start..start + encoded.params().k).collect();
    let rows: Vec<&[u8]> = indices.iter().map(|index| encoded.row(*index).expect("a row")).collect();
    move || reconstruct(&rows, &indices, encoded.params()).expect("K rows")
}

/// The same code by the crate `reed-solomon-simd`, in column stripes with one encoder.
pub(crate) struct Striped {
    shape: Shape,
    encoder: HighRateEncoder<DefaultEngine>,
}

/// Width of a column stripe in bytes that measures best.
const STRIPE: usize = 512;

impl Striped {
    pub(crate) fn new(shape: Shape) -> Self {
        let (k, n, stripe) = (shape.data_rows(), shape.parity_rows(), STRIPE.min(shape.row_bytes()));
        let encoder = HighRateEncoder::new(k, n, stripe, DefaultEngine::new(), None).expect("a shape of it");
        Self { shape, encoder }
    }

    /// Extends the data rows among `rows`; the parity stays where the encoder has it.
    pub(crate) fn extend(&mut self, rows: &[u8]) {
        self.each_stripe(rows.len(), |encoder, range, w, k| {
            for row in rows.chunks_exact(w).take(k) {
                encoder.add_original_shard(&row[range.clone()]).expect("a stripe of a row");
            }
            black_box(encoder.encode().expect("K stripes").recovery(0));
        });
    }

    /// Fills the parity rows of `rows`.
    pub(crate) fn extend_into(&mut self, rows: &mut [u8]) {
        self.each_stripe(rows.len(), |encoder, range, w, k| {
            let (data, parity) = rows.split_at_mut(k * w);
            for row in data.chunks_exact(w) {
                encoder.add_original_shard(&row[range.clone()]).expect("a stripe of a row");
            }
            let encoded = encoder.encode().expect("K stripes");
            for (row, part) in parity.chunks_exact_mut(w).zip(encoded.recovery_iter()) {
                row[range.clone()].copy_from_slice(part);
            }
        });
    }

    fn each_stripe(
        &mut self,
        bytes: usize,
        mut work: impl FnMut(&mut HighRateEncoder<DefaultEngine>, std::ops::Range<usize>, usize, usize),
    ) {
        assert_eq!(bytes, self.shape.total_bytes());
        let (k, n, w) = (self.shape.data_rows(), self.shape.parity_rows(), self.shape.row_bytes());
        for start in (0..w).step_by(STRIPE) {
            let end = w.min(start + STRIPE);
            self.encoder.reset(k, n, end - start).expect("a shape of it");
            work(&mut self.encoder, start..end, w, k);
        }
    }
}

/// What any implementation by published crates must do: the crate's stripes, and rows hashed one by one.
pub(crate) fn floor<H: HashProfile>(striped: &mut Striped, rows: &[u8]) {
    striped.extend(rows);
    for row in rows.chunks_exact(striped.shape.row_bytes()) {
        black_box(H::row_leaf(row));
    }
}

/// A code of the same rate by the crate `reed-solomon-erasure`, whose cost grows with K * N.
pub(crate) struct Erasure<F: Field> {
    code: ReedSolomon<F>,
    data: Vec<Vec<F::Elem>>,
    parity: Vec<Vec<F::Elem>>,
}

impl<F: Field> Erasure<F> {
    /// K data rows of these elements.
    pub(crate) fn new(data_rows: usize, elements: &[F::Elem]) -> Self {
        let mut data: Vec<Vec<F::Elem>> =
            elements.chunks(elements.len().div_ceil(data_rows)).map(<[_]>::to_vec).collect();
        let length = data.first().map_or(0, Vec::len);
        for row in &mut data {
            row.resize(length, F::zero());
        }
        data.resize(data_rows, vec![F::zero(); length]);
        let parity = vec![vec![F::zero(); length]; 3 * data_rows];
        Self {
            code: ReedSolomon::new(data_rows, 3 * data_rows).expect("rows within the field"),
            data,
            parity,
        }
    }

    pub(crate) fn extend(&mut self) {
        self.code.encode_sep(&self.data, &mut self.parity).expect("rows of one length");
    }
}

/// Ethereum's commitments by the crate `c-kzg`: to one blob of 4096 elements of 31 payload bytes.
pub(crate) struct Kzg {
    settings: &'static KzgSettings,
    blob: Box<Blob>,
}

impl Kzg {
    /// Payload bytes of one blob.
    pub(crate) const PAYLOAD: usize = BYTES_PER_BLOB / 32 * 31;

    /// How much is prepared beforehand: what its own benchmark takes.
    const PRECOMPUTED: u64 = 8;

    pub(crate) fn new(payload: &[u8]) -> Self {
        let mut bytes = vec![0; BYTES_PER_BLOB];
        for (element, piece) in bytes.chunks_exact_mut(32).zip(payload.chunks(31)) {
            element[1..=piece.len()].copy_from_slice(piece);
        }
        let blob = Box::new(Blob::from_bytes(&bytes).expect("a blob"));
        Self { settings: ethereum_kzg_settings(Self::PRECOMPUTED), blob }
    }

    pub(crate) fn commit(&self) {
        black_box(self.settings.blob_to_kzg_commitment(&self.blob).expect("elements of the field"));
    }

    /// Extends the blob to twice its length and proves each cell of it.
    pub(crate) fn cells_with_proofs(&self) {
        black_box(self.settings.compute_cells_and_kzg_proofs(&self.blob).expect("elements of the field"));
    }
}
