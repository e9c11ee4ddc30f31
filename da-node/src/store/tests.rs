use super::*;

mod index;
mod model;
#[cfg(feature = "points")]
mod points;

const COLUMN: &str = "things";

fn open(path: &Path) -> Result<Db, StoreError> {
    Db::open(path, Role::Replica, &[COLUMN])
}

/// Copies a folder with all that is in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            std::fs::copy(&path, to).unwrap();
        }
    }
}

fn one(key: &[u8], value: &'static [u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(COLUMN, key, value);
    batch
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    let mut batch = one(b"a1", b"one");
    batch.put(COLUMN, *b"a2", vec![7; 100_000]);
    batch.put(COLUMN, *b"b", Bytes::new());
    batch.put(COLUMN, *b"gone", &b"x"[..]);
    batch.delete(COLUMN, *b"gone");
    db.commit(batch, Durability::Synced).unwrap();
    drop(db);
    let db = open(folder.path()).unwrap();
    assert_eq!(db.get(COLUMN, b"a1").unwrap().unwrap(), &b"one"[..]);
    assert_eq!(db.get(COLUMN, b"a2").unwrap().unwrap(), vec![7; 100_000]);
    assert_eq!(db.get(COLUMN, b"b").unwrap().unwrap(), Bytes::new());
    assert_eq!(db.get(COLUMN, b"gone").unwrap(), None);
    assert!(db.contains(COLUMN, b"b").unwrap() && !db.contains(COLUMN, b"gone").unwrap());
    let keys = |prefix: &[u8], start: &[u8], limit| {
        let pairs = db.scan(COLUMN, prefix, start, limit).unwrap();
        pairs.into_iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(keys(b"a", b"", 9), [b"a1", b"a2"]);
    assert_eq!(keys(b"a", b"a2", 9), [b"a2"]);
    assert_eq!(keys(b"", b"", 2), [b"a1", b"a2"]);
    assert_eq!(keys(b"c", b"", 2), Vec::<Vec<u8>>::new());
}

#[test]
fn a_folder_of_another_role_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let error = Db::open(folder.path(), Role::Gateway, &[COLUMN]).unwrap_err();
    assert_eq!(error, StoreError::Role { path: folder.path().into(), role: Role::Gateway });
}

#[test]
fn a_folder_of_another_format_is_refused_also_when_it_has_other_columns() {
    for version in [0, FORMAT_VERSION - 1, FORMAT_VERSION + 1, u32::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(folder.path(), Role::Replica, &["of a later version"]).unwrap();
        let mut batch = Batch::new();
        batch.put(META, STAMP, [&version.to_be_bytes()[..], &[2]].concat());
        db.commit(batch, Durability::Synced).unwrap();
        drop(db);
        let error = open(folder.path()).unwrap_err();
        assert_eq!(error, StoreError::Format { path: folder.path().into(), found: version });
    }
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let _db = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(StoreError::Failed { .. })));
}

#[test]
fn damage_is_noticed_counted_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    db.commit(one(b"k", b"value"), Durability::Synced).unwrap();
    let raw = |key: &[u8], value: &[u8]| db.inner.db.put_cf(db.column(COLUMN).unwrap(), key, value).unwrap();
    let good = db.inner.db.get_cf(db.column(COLUMN).unwrap(), b"k").unwrap().unwrap();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1;
        raw(b"k", &bad);
        let error = StoreError::Damaged { column: COLUMN, key: "6b".into() };
        assert_eq!(db.get(COLUMN, b"k").unwrap_err(), error);
        assert_eq!(db.scan(COLUMN, b"", b"", 9).unwrap_err(), error);
    }
    raw(b"k", &good[..3]);
    assert!(db.get(COLUMN, b"k").is_err());
    raw(b"k", &good);
    assert!(db.get(COLUMN, b"k").is_ok());
    raw(b"other", &good);
    assert!(db.get(COLUMN, b"other").is_err(), "a value under another key is damage");
    assert_eq!(db.damaged(), 2 * u64::try_from(good.len()).unwrap() + 2);
}

#[test]
fn a_failed_write_poisons() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    db.commit(one(b"before", b"1"), Durability::Synced).unwrap();
    assert!(matches!(db.written(Err("IO error".into())), Err(StoreError::Failed { .. })));
    assert!(db.is_poisoned());
    assert_eq!(db.clone().commit(one(b"after", b"2"), Durability::Relaxed), Err(StoreError::Poisoned));
    assert!(db.get(COLUMN, b"before").unwrap().is_some(), "reads go on");
    drop(db);
    let db = open(folder.path()).unwrap();
    assert!(!db.is_poisoned() && !db.contains(COLUMN, b"after").unwrap());
}

#[test]
fn columns_that_were_not_asked_for_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    assert_eq!(db.get("others", b"k"), Err(StoreError::Column("others")));
    let mut batch = Batch::new();
    batch.put("others", *b"k", &b"v"[..]);
    assert_eq!(db.commit(batch, Durability::Synced), Err(StoreError::Column("others")));
    assert!(!db.is_poisoned());
}

/// Flips a bit in a file.
fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn write_ahead_log(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join(INDEX)).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
}

#[test]
fn damage_to_synced_writes_stops_the_start_and_a_torn_last_write_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    db.commit(one(b"a", b"first"), Durability::Synced).unwrap();
    db.commit(one(b"b", b"second"), Durability::Synced).unwrap();
    drop(db);
    let log = write_ahead_log(folder.path());
    let good = std::fs::read(&log).unwrap();
    let first = good.windows(5).position(|window| window == b"first").unwrap();
    flip(&log, first);
    assert!(matches!(open(folder.path()), Err(StoreError::Index { .. })));
    std::fs::write(&log, &good[..good.len() - 3]).unwrap();
    let db = open(folder.path()).unwrap();
    assert!(db.get(COLUMN, b"a").unwrap().is_some() && db.get(COLUMN, b"b").unwrap().is_none());
}

/// RocksDB itself would read such a log for ever, or forget all of it.
#[test]
fn records_of_a_reused_log_stop_the_start() {
    for record in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path()).unwrap();
        let log = write_ahead_log(folder.path());
        let mut starts = Vec::new();
        // The second one is cut in two at the end of the log's first block.
        for (key, values) in [(b"a", 1), (b"b", 20), (b"c", 1)] {
            starts.push(usize::try_from(log.metadata().unwrap().len()).unwrap());
            let mut batch = Batch::new();
            (0..values).for_each(|place| batch.put(COLUMN, [key[0], place], vec![1; LARGE / 2]));
            db.commit(batch, Durability::Synced).unwrap();
        }
        drop(db);
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[starts[record] + 6] ^= 4;
        std::fs::write(&log, bytes).unwrap();
        assert!(matches!(open(folder.path()), Err(StoreError::Index { .. })), "{record}");
    }
}

/// Bytes of the files with large values.
fn bytes_of_values(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder.join(SEGMENTS)).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn space_of_what_was_deleted_comes_back() {
    const VALUE: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    for key in 0..96_u8 {
        let mut batch = Batch::new();
        batch.put(COLUMN, [key], vec![key; VALUE]);
        db.commit(batch, Durability::Relaxed).unwrap();
    }
    db.compact().unwrap();
    assert_eq!(bytes_of_values(folder.path()), 96 << 20);
    let mut batch = Batch::new();
    let is_kept = |key: &u8| key.is_multiple_of(8);
    (0..96_u8).filter(|key| !is_kept(key)).for_each(|key| batch.delete(COLUMN, [key]));
    db.commit(batch, Durability::Relaxed).unwrap();
    db.tidy().unwrap();
    assert_eq!(bytes_of_values(folder.path()), 12 << 20);
    let check = |db: &Db| {
        for key in 0..96_u8 {
            let expected = is_kept(&key).then(|| Bytes::from(vec![key; VALUE]));
            assert_eq!(db.get(COLUMN, &[key]).unwrap(), expected);
        }
    };
    check(&db);
    drop(db);
    check(&open(folder.path()).unwrap());
}

#[test]
fn values_move_while_they_are_written_read_and_deleted() {
    const KEYS: u8 = 40;
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    let value = |key: u8, round: u8| vec![key ^ round; LARGE + usize::from(round)];
    let put = |key: u8, round: u8| {
        let mut batch = Batch::new();
        batch.put(COLUMN, [key], value(key, round));
        db.commit(batch, Durability::Synced).unwrap();
    };
    (0..KEYS).for_each(|key| put(key, 0));
    std::thread::scope(|scope| {
        let tidy = scope.spawn(|| (0..30).for_each(|_| db.compact().unwrap()));
        let write = scope.spawn(|| {
            for round in 1..20 {
                (0..KEYS).step_by(4).for_each(|key| put(key, round));
            }
        });
        while !(tidy.is_finished() && write.is_finished()) {
            for key in 0..KEYS {
                let found = db.get(COLUMN, &[key]).unwrap().unwrap();
                assert!((0..20).any(|round| found == value(key, round)), "key {key}");
            }
            assert_eq!(db.scan(COLUMN, b"", b"", 99).unwrap().len(), usize::from(KEYS));
        }
    });
    for key in 0..KEYS {
        let round = if key % 4 == 0 { 19 } else { 0 };
        assert_eq!(db.get(COLUMN, &[key]).unwrap().unwrap(), value(key, round));
    }
    assert_eq!(db.damaged(), 0);
}

#[test]
fn damage_in_a_segment_costs_the_values_that_it_hits() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    for key in 0..4_u8 {
        let mut batch = Batch::new();
        batch.put(COLUMN, [key], vec![key; LARGE]);
        db.commit(batch, Durability::Synced).unwrap();
    }
    let segment = folder.path().join(SEGMENTS).join("0000000000000000.seg");
    let damaged = StoreError::Damaged { column: COLUMN, key: "01".into() };
    flip(&segment, LARGE + 17);
    assert_eq!(db.get(COLUMN, &[1]).unwrap_err(), damaged);
    assert!([0, 2, 3].iter().all(|key| db.get(COLUMN, &[*key]).unwrap().is_some()));
    // A segment with a damaged value stays, also where it is mostly garbage; the value can be written again.
    let mut batch = Batch::new();
    [0_u8, 2].iter().for_each(|key| batch.delete(COLUMN, [*key]));
    db.commit(batch, Durability::Synced).unwrap();
    db.compact().unwrap();
    assert!(segment.exists());
    assert_eq!(db.get(COLUMN, &[1]).unwrap_err(), damaged);
    let mut batch = Batch::new();
    batch.put(COLUMN, [1], vec![1; LARGE]);
    db.commit(batch, Durability::Synced).unwrap();
    db.compact().unwrap();
    assert!(!segment.exists());
    drop(db);
    let last =
        std::fs::read_dir(folder.path().join(SEGMENTS)).unwrap().map(|it| it.unwrap().path()).max().unwrap();
    let length = std::fs::metadata(&last).unwrap().len();
    let cut = std::fs::OpenOptions::new().write(true).open(&last).unwrap();
    cut.set_len(length - 1).unwrap();
    let db = open(folder.path()).unwrap();
    let kept = |key: u8| db.get(COLUMN, &[key]);
    assert_eq!([kept(1), kept(3)].iter().filter(|found| found.is_err()).count(), 1);
    drop(db);
    std::fs::remove_file(&last).unwrap();
    let db = open(folder.path()).unwrap();
    assert!(db.get(COLUMN, &[1]).is_err() || db.get(COLUMN, &[3]).is_err());
    assert_eq!(db.get(COLUMN, &[0]), Ok(None));
}

#[test]
fn a_store_of_the_time_before_segments_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("CURRENT"), "MANIFEST-000005").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error, StoreError::Format { path: folder.path().into(), found: OLD_FORMAT });
}

/// The tables of the index.
fn tables(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder.join(INDEX)).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "sst")).collect()
}

#[tokio::test]
async fn a_damaged_index_is_found_given_up_and_set_aside_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let db = open(path).unwrap();
    for key in 0..200_u8 {
        db.commit(one(&[key], b"some small value"), Durability::Relaxed).unwrap();
    }
    db.inner.db.flush_cf(db.column(COLUMN).unwrap()).unwrap();
    db.check_files(&|| false).unwrap();
    let table = tables(path).into_iter().max_by_key(|it| it.metadata().unwrap().len()).unwrap();
    flip(&table, 200);
    assert!(matches!(db.check_files(&|| false), Err(StoreError::Index { .. })));
    assert!(db.is_poisoned());
    db.broken().await;
    drop(db);
    assert!(matches!(open(path), Err(StoreError::Index { .. })));
    let aside = set_aside(path).unwrap();
    assert!(aside.join(INDEX).join("CURRENT").exists() && aside.join(SEGMENTS).exists());
    let db = open(path).unwrap();
    assert_eq!(db.get(COLUMN, &[1]), Ok(None));
    drop(db);
    std::fs::remove_file(path.join(INDEX).join("CURRENT")).unwrap();
    let error = open(path).unwrap_err();
    assert!(matches!(error, StoreError::Index { .. }), "{error}");
    assert_eq!(set_aside(path).unwrap_err(), StoreError::DamagedAgain { path: path.into(), before: aside });
}
