//! What is measured of each payload.

use std::{sync::Mutex, time::Duration};

use meridian_proofs::{
    B256,
    encode::{EncodedBlob, encode},
    hash::{Blake3, Sha256},
    shape::Shape,
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use reed_solomon_erasure::{galois_8, galois_16};
use serde::{Deserialize, Serialize};

use crate::{
    heap,
    ours::{Checker, Encoder, Floor},
    peers::{Erasure, Kzg, Rsema1d, Rsema1dChecker, Striped, floor, rsema1d_reconstruct},
    rounds::{Field, Measured},
};

// Names of the contenders.
pub(crate) const OURS: &str = "ours";
pub(crate) const SHA256: &str = "ours, sha256";
pub(crate) const PEER: &str = "rsema1d";
pub(crate) const PEER_FRESH: &str = "rsema1d, default call";
pub(crate) const FLOOR: &str = "floor";
pub(crate) const KERNELS: &str = "floor of our kernels";
pub(crate) const TWO_OURS: &str = "ours, two threads";
pub(crate) const TWO_SHA256: &str = "ours, sha256, two threads";
pub(crate) const TWO_PEER: &str = "rsema1d, two threads";
pub(crate) const TWO_COPIES: &str = "ours, two copies";
pub(crate) const INTERVAL: &str = "ours, interval";
pub(crate) const INTERVAL_PEER: &str = "rsema1d, interval";
pub(crate) const WINDOW: &str = "ours, window";
pub(crate) const WINDOW_PEER: &str = "rsema1d, window";
pub(crate) const SIMD: &str = "reed-solomon-simd";
pub(crate) const ERASURE_8: &str = "reed-solomon-erasure, 256 rows";
pub(crate) const ERASURE_16: &str = "reed-solomon-erasure, our rows";
pub(crate) const COMMITMENT: &str = "c-kzg, commitment";
pub(crate) const CELLS: &str = "c-kzg, cells with proofs";

/// Single rows that are checked in turn, spread over all.
const ROWS: usize = 16;

/// Payload up to which the erasure crate finishes while somebody waits: with 256 rows, and with as many as we have.
const ERASURE_UP_TO: (usize, usize) = (8 << 20, 256 << 10);

/// What was measured of one payload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) name: String,
    /// Bytes of the payload.
    pub(crate) payload: usize,
    /// K.
    pub(crate) data_rows: usize,
    /// W.
    pub(crate) row_bytes: usize,
    /// Payload to commitment.
    pub(crate) encode: Measured,
    /// One row; an interval of K rows.
    pub(crate) check: Measured,
    /// Data rows from parity: rows K to 2K, and as many across two cosets.
    pub(crate) rebuild: Measured,
    /// Data rows to parity rows, and nothing else.
    pub(crate) code: Measured,
    pub(crate) heap: Heap,
}

/// Most bytes allocated at any moment of encoding a payload that is given, into fresh memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Heap {
    /// Bytes of the T rows.
    pub(crate) rows: usize,
    /// Bytes of the tree over them.
    pub(crate) tree: usize,
    pub(crate) ours: usize,
    pub(crate) two_threads: usize,
    pub(crate) sha256: usize,
    /// Working space that a thread keeps from its first blob on, which is not counted again.
    pub(crate) kept: usize,
    /// The peer in place: the rows and what it takes beside them.
    pub(crate) peer: usize,
}

/// Where it is measured, and for how long.
pub(crate) struct Bench {
    one: [ThreadPool; 2],
    two: ThreadPool,
    /// Time for each field.
    pub(crate) budget: Duration,
    /// Also with two threads, and also other codes.
    pub(crate) everything: bool,
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads")
}

/// The blob and its twin by the peer, which must be equal where they can be.
struct Encoded<'a> {
    payload: &'a [u8],
    blob: EncodedBlob<Blake3>,
    peer: rsema1d::ExtendedData,
}

impl Bench {
    pub(crate) fn new(budget: Duration, everything: bool) -> Self {
        Self { one: [pool(1), pool(1)], two: pool(2), budget, everything }
    }

    fn field(&self) -> Field<'_> {
        Field::new(&self.one[0])
    }

    /// Everything of one payload.
    pub(crate) fn size(&self, name: &str, payload: &[u8]) -> Size {
        let encoded = self.encoded(payload);
        let shape = encoded.blob.shape();
        Size {
            name: name.to_owned(),
            payload: payload.len(),
            data_rows: shape.data_rows(),
            row_bytes: shape.row_bytes(),
            check: self.check(&encoded),
            rebuild: self.rebuild(&encoded),
            code: self.code(&encoded),
            // Last, when the other copies of the rows are gone.
            encode: self.encode(encoded),
            heap: self.heap(&shape, payload),
        }
    }

    fn encoded<'a>(&self, payload: &'a [u8]) -> Encoded<'a> {
        self.two.install(|| {
            let blob = encode::<Blake3>(payload, B256::ZERO).expect("payload in bounds");
            let peer = Rsema1d::new(&blob.shape(), payload);
            let peer = peer.fresh(&peer.data());
            let ours = encode::<Sha256>(payload, B256::ZERO).expect("payload in bounds");
            let all = ours.shape().all();
            assert!(ours.rows(all) == peer.rows().as_row_major(), "one code");
            assert_eq!(blob.rows(all), ours.rows(all), "one code");
            assert_eq!(ours.header().row_root, peer.row_root(), "one row root");
            assert_eq!(ours.header().rlc_root, peer.rlc_root(), "one rlc root");
            Encoded { payload, blob, peer }
        })
    }

    fn encode(&self, encoded: Encoded<'_>) -> Measured {
        let Encoded { payload, blob, peer } = encoded;
        drop(peer);
        let shape = blob.shape();
        let encoder = Encoder::new(payload);
        let copy = Encoder::new(payload);
        let in_place = Mutex::new(Rsema1d::new(&shape, payload));
        let in_place = || in_place.lock().expect("one at a time").in_place();
        let fresh = Rsema1d::new(&shape, payload);
        let data = fresh.data();
        let rows = blob.rows(shape.all());
        let mut striped = Striped::new(shape);
        let mut kernels = Floor::new(&blob);

        let mut field = self.field();
        field.add(OURS, || encoder.encode::<Blake3>());
        field.add(SHA256, || encoder.encode::<Sha256>());
        field.add(PEER, in_place);
        field.add(PEER_FRESH, || fresh.fresh(&data));
        field.add(FLOOR, || floor::<Blake3>(&mut striped, &rows));
        field.add(KERNELS, || {
            kernels.extend();
            kernels.hash::<Blake3>()
        });
        if self.everything {
            field.add_in(&self.two, TWO_OURS, || encoder.encode::<Blake3>());
            field.add_in(&self.two, TWO_SHA256, || encoder.encode::<Sha256>());
            field.add_in(&self.two, TWO_PEER, in_place);
            let copies = [&encoder, &copy].map(|encoder| || encoder.encode::<Blake3>());
            field.add_pair(&self.one, TWO_COPIES, copies);
        }
        field.measure(self.budget)
    }

    fn check(&self, encoded: &Encoded<'_>) -> Measured {
        let shape = encoded.blob.shape();
        // An interval begins anywhere: not where a subtree does.
        let start = shape.data_rows() + shape.data_rows() / 5;
        let rows: Vec<usize> = (0..ROWS).map(|i| (2 * i + 1) * shape.total_rows() / (2 * ROWS)).collect();
        let (ours, peer) =
            (Checker::new(&encoded.blob, start, &[]), Rsema1dChecker::new(&encoded.peer, start, &rows[..1]));
        let mut single = Checker::new(&encoded.blob, start, &rows);
        let mut single_peer = Rsema1dChecker::new(&encoded.peer, start, &rows);
        let mut field = self.field();
        field.add(OURS, move || single.row());
        field.add(PEER, move || single_peer.row());
        field.add(INTERVAL, move || ours.interval());
        field.add(INTERVAL_PEER, move || peer.interval());
        field.measure(self.budget)
    }

    fn rebuild(&self, encoded: &Encoded<'_>) -> Measured {
        let k = encoded.blob.shape().data_rows();
        let checker = Checker::new(&encoded.blob, k, &[]);
        let [parity, window] = [k, k + k / 2].map(|start| checker.set(&encoded.blob, start));
        let mut field = self.field();
        field.add(OURS, || parity.payload().expect("K rows"));
        field.add(PEER, rsema1d_reconstruct(&encoded.peer, k));
        field.add(WINDOW, || window.payload().expect("K rows"));
        field.add(WINDOW_PEER, rsema1d_reconstruct(&encoded.peer, k + k / 2));
        field.measure(self.budget)
    }

    fn code(&self, encoded: &Encoded<'_>) -> Measured {
        let shape = encoded.blob.shape();
        let mut ours = Floor::new(&encoded.blob);
        let (mut striped, mut rows) = (Striped::new(shape), encoded.blob.rows(shape.all()).to_vec());
        let mut field = self.field();
        field.add(OURS, || ours.extend());
        field.add(SIMD, || striped.extend_into(&mut rows));
        let (few, many) = ERASURE_UP_TO;
        if self.everything && encoded.payload.len() <= few {
            let mut code = Erasure::<galois_8::Field>::new(64, encoded.payload);
            field.add(ERASURE_8, move || code.extend());
        }
        if self.everything && encoded.payload.len() <= many {
            let mut code = Erasure::<galois_16::Field>::new(shape.data_rows(), encoded.payload.as_chunks().0);
            field.add(ERASURE_16, move || code.extend());
        }
        field.measure(self.budget)
    }

    fn heap(&self, shape: &Shape, payload: &[u8]) -> Heap {
        let mut peer = Rsema1d::new(shape, payload);
        let ours = || drop(encode::<Blake3>(payload, B256::ZERO).expect("payload in bounds"));
        let sha256 = || drop(encode::<Sha256>(payload, B256::ZERO).expect("payload in bounds"));
        let one = pool(1);
        let first = one.install(|| heap::peak(ours).1);
        let again = one.install(|| heap::peak(ours).1);
        Heap {
            rows: shape.total_bytes(),
            tree: shape.total_rows() * 2 * B256::ZERO.len(),
            ours: again,
            two_threads: self.two.install(|| heap::peak(ours).1),
            sha256: one.install(|| heap::peak(sha256).1),
            kept: first.saturating_sub(again),
            peer: shape.total_bytes() + one.install(|| heap::peak(|| peer.in_place()).1),
        }
    }

    /// What a commitment to one blob costs, and cells with proofs of it.
    pub(crate) fn kzg(&self, payload: &[u8]) -> Measured {
        let kzg = Kzg::new(payload);
        let mut field = self.field();
        field.add(COMMITMENT, || kzg.commit());
        field.add(CELLS, || kzg.cells_with_proofs());
        field.measure(self.budget)
    }
}
