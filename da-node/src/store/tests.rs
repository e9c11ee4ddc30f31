use super::*;

mod model;

const COLUMN: &str = "things";

fn open(path: &Path) -> Result<Db, StoreError> {
    Db::open(path, Role::Replica, &[COLUMN])
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
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
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
    assert!(matches!(open(folder.path()), Err(StoreError::Failed { .. })));
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
        for (key, length) in [(b"a", 10), (b"b", 40_000), (b"c", 10)] {
            starts.push(usize::try_from(log.metadata().unwrap().len()).unwrap());
            let mut batch = Batch::new();
            batch.put(COLUMN, *key, vec![1; length]);
            db.commit(batch, Durability::Synced).unwrap();
        }
        drop(db);
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[starts[record] + 6] ^= 4;
        std::fs::write(&log, bytes).unwrap();
        assert!(matches!(open(folder.path()), Err(StoreError::Failed { .. })), "{record}");
    }
}

/// Bytes of the files with large values; the write-ahead log takes no more than a constant beside them.
fn bytes_of_values(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let values = files.filter(|file| file.path().extension().is_some_and(|it| it == "blob"));
    values.map(|file| file.metadata().map_or(0, |it| it.len())).sum()
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
    db.compact(COLUMN).unwrap();
    let full = bytes_of_values(folder.path());
    assert!(full >= 96 << 20, "{full}");
    let mut batch = Batch::new();
    // None of the files holds nothing but garbage.
    let is_kept = |key: &u8| key.is_multiple_of(8);
    (0..96_u8).filter(|key| !is_kept(key)).for_each(|key| batch.delete(COLUMN, [key]));
    db.commit(batch, Durability::Synced).unwrap();
    db.compact(COLUMN).unwrap();
    let mut left = bytes_of_values(folder.path());
    // Files that are of no use any more are removed in the background.
    for _ in 0..100 {
        if left < full / 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        left = bytes_of_values(folder.path());
    }
    assert!(left < full / 2, "{left} of {full}");
    for key in 0..96_u8 {
        let expected = is_kept(&key).then(|| Bytes::from(vec![key; VALUE]));
        assert_eq!(db.get(COLUMN, &[key]).unwrap(), expected);
    }
}
