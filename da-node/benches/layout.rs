//! What a store may look like, measured: segment files beside RocksDB with blob files and RocksDB with ingested tables.
//!
//! Each contender writes the same blobs as a replica does: record, RLC vector and leaves, and rows in pieces of 64 KiB, each
//! blob synced before the next of its writer. Bytes are those that the kernel counts for this process.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench may stop")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_node::store::{Batch, Db, Durability, Role};
use rocksdb::{
    ColumnFamilyDescriptor, DB, IngestExternalFileOptions, Options, SstFileWriter, WriteBatch, WriteOptions,
};

const PIECE: usize = 64 << 10;
const WRITERS: usize = 4;
const COLUMNS: [&str; 3] = ["blobs", "leaves", "rows"];

/// A value and where it goes.
type Value = (&'static str, Vec<u8>, Bytes);

trait Layout: Sync {
    fn write(&self, blob: usize, values: Vec<Value>);
    fn delete(&self, keys: Vec<(&'static str, Vec<u8>)>);
    /// Brings everything to its place and gives back what can be given back.
    fn settle(&self);
}

struct Segments(Db);

impl Layout for Segments {
    fn write(&self, _: usize, values: Vec<Value>) {
        let mut batch = Batch::new();
        values.into_iter().for_each(|(column, key, value)| batch.put(column, key, value));
        self.0.commit(batch, Durability::Synced).unwrap();
    }

    fn delete(&self, keys: Vec<(&'static str, Vec<u8>)>) {
        let mut batch = Batch::new();
        keys.into_iter().for_each(|(column, key)| batch.delete(column, key));
        self.0.commit(batch, Durability::Synced).unwrap();
    }

    fn settle(&self) {
        self.0.compact().unwrap();
    }
}

/// RocksDB alone; rows in blob files, or in tables that are made outside and ingested.
struct Rocks {
    db: DB,
    ingests: bool,
    tables: std::path::PathBuf,
}

impl Rocks {
    fn open(path: &Path, ingests: bool) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(256 << 20);
        let mut column = Options::default();
        column.set_write_buffer_size(32 << 20);
        column.set_enable_blob_files(!ingests);
        column.set_min_blob_size(4096);
        column.set_enable_blob_gc(true);
        let columns = COLUMNS.map(|name| ColumnFamilyDescriptor::new(name, column.clone()));
        let db = DB::open_cf_descriptors(&options, path.join("db"), columns).unwrap();
        let tables = path.join("tables");
        std::fs::create_dir_all(&tables).unwrap();
        Self { db, ingests, tables }
    }
}

impl Layout for Rocks {
    fn write(&self, blob: usize, values: Vec<Value>) {
        let (mut writes, options) = (WriteBatch::default(), Options::default());
        let path = self.tables.join(blob.to_string());
        let mut table = SstFileWriter::create(&options);
        if self.ingests {
            table.open(&path).unwrap();
        }
        for (column, key, value) in values {
            if self.ingests && column == "rows" {
                table.put(&key, &value).unwrap();
            } else {
                writes.put_cf(self.db.cf_handle(column).unwrap(), key, value);
            }
        }
        if self.ingests {
            table.finish().unwrap();
            let mut ingest = IngestExternalFileOptions::default();
            ingest.set_move_files(true);
            let rows = self.db.cf_handle("rows").unwrap();
            self.db.ingest_external_file_cf_opts(rows, &ingest, vec![path]).unwrap();
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(writes, &options).unwrap();
    }

    fn delete(&self, keys: Vec<(&'static str, Vec<u8>)>) {
        let mut writes = WriteBatch::default();
        keys.into_iter().for_each(|(column, key)| writes.delete_cf(self.db.cf_handle(column).unwrap(), key));
        self.db.write(writes).unwrap();
    }

    fn settle(&self) {
        for column in COLUMNS {
            let handle = self.db.cf_handle(column).unwrap();
            self.db.flush_cf(handle).unwrap();
            self.db.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
        }
    }
}

fn values(blob: usize, payload: usize) -> Vec<Value> {
    let rows = if payload <= 256 << 10 {
        256
    } else if payload <= 1 << 20 {
        1024
    } else {
        4096
    };
    let id = id_of(blob);
    let noise = |bytes: usize, seed: u8| {
        let mut out = vec![0; bytes];
        let mut state = u64::from_be_bytes(id[..8].try_into().unwrap()) ^ u64::from(seed);
        for chunk in out.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
        }
        Bytes::from(out)
    };
    let mut values = vec![
        ("blobs", [&id[..], b"record"].concat(), noise(600, 1)),
        ("blobs", [&id[..], b"rlc"].concat(), noise(16 * rows, 2)),
        ("leaves", id.to_vec(), noise(32 * rows, 3)),
    ];
    let all = noise(payload, 4);
    for (piece, start) in (0..payload).step_by(PIECE).enumerate() {
        let key = [&id[..], &u64::try_from(piece).unwrap().to_be_bytes()].concat();
        values.push(("rows", key, all.slice(start..payload.min(start + PIECE))));
    }
    values
}

/// Ids as good as random.
fn id_of(blob: usize) -> [u8; 32] {
    let mut id = [0; 32];
    let mut state = u64::try_from(blob).unwrap().wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for chunk in id.chunks_mut(8) {
        state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        chunk.copy_from_slice(&state.to_be_bytes());
    }
    id
}

/// Bytes that this process has had written to disks.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|e| if e.path().is_dir() { bytes_on_disk(&e.path()) } else { e.metadata().unwrap().len() })
        .sum()
}

fn measure(name: &str, payload: usize, total: usize, open: &dyn Fn(&Path) -> Box<dyn Layout>) {
    let folder = tempfile::tempdir_in(std::env::var_os("LAYOUT_DIR").unwrap_or("/var/tmp".into())).unwrap();
    let blobs = total / payload;
    let layout = open(folder.path());
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let before = written();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                loop {
                    let blob = next.fetch_add(1, Ordering::Relaxed);
                    if blob >= blobs {
                        return;
                    }
                    let values = values(blob, payload);
                    let begun = Instant::now();
                    layout.write(blob, values);
                    times.lock().unwrap().push(begun.elapsed());
                }
            });
        }
    });
    layout.settle();
    drop(layout);
    let ratio = (written() - before) as f64 / (blobs * payload) as f64;
    let mut times = times.into_inner().unwrap();
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let begun = Instant::now();
    let layout = open(folder.path());
    let opened = begun.elapsed();
    for blob in (0..blobs).filter(|blob| blob % 8 != 0) {
        layout.delete(values(blob, payload).into_iter().map(|(column, key, _)| (column, key)).collect());
    }
    let begun = Instant::now();
    layout.settle();
    let settled = begun.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let left = bytes_on_disk(folder.path()) as f64 / (blobs.div_ceil(8) * payload) as f64;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "| {name} | {} | {ratio:.2} | {:.1} | {:.1} | {left:.2} | {:.0} | {:.0} |",
        payload >> 10,
        ms(at(50)),
        ms(at(99)),
        ms(settled),
        ms(opened),
    );
}

fn main() {
    let total: usize = std::env::var("LAYOUT_MIB").map_or(512, |mib| mib.parse().unwrap());
    println!(
        "| layout | payload, KiB | written, per row byte | p50, ms | p99, ms | on disk after 7/8 went, per row byte left | giving back, ms | opening, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for payload in [130_000, 1 << 20, 8 << 20] {
        let total = (total << 20).min(payload * 2000);
        measure("segments", payload, total, &|path| {
            Box::new(Segments(Db::open(path, Role::Replica, &COLUMNS).unwrap()))
        });
        measure("blob files", payload, total, &|path| Box::new(Rocks::open(path, false)));
        measure("ingested tables", payload, total, &|path| Box::new(Rocks::open(path, true)));
    }
}
