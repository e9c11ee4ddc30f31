//! Damage to the files of an index other than its tables.

use super::*;

/// A store with tables, a manifest of several edits, and writes that are only in its log.
fn template() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    for round in 0..6_u8 {
        for key in 0..20 {
            db.commit(one(&[round, key], b"a small value"), Durability::Synced).unwrap();
        }
        if round < 5 {
            db.inner.db.flush_cf(db.column(COLUMN).unwrap()).unwrap();
            db.inner.db.flush_cf(db.column(META).unwrap()).unwrap();
        }
    }
    drop(db);
    folder
}

/// The file in an index whose name begins or ends so.
fn file(folder: &Path, part: &str) -> PathBuf {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder.join(INDEX)).unwrap().map(|file| file.unwrap().path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(part) || name.ends_with(part)
    });
    found.into_iter().max().unwrap()
}

/// Whether a store opens with all that is in the template. One that does not must be as it was.
fn opens_whole(folder: &Path, what: &str) -> bool {
    let before = tables(folder);
    match open(folder) {
        Ok(db) => {
            for key in (0..6).flat_map(|round| (0..20).map(move |key| [round, key])) {
                assert!(db.get(COLUMN, &key).unwrap().is_some(), "{what}: {key:?} is gone");
            }
            true
        }
        Err(StoreError::Index { .. }) => {
            assert_eq!(tables(folder), before, "{what}: tables went");
            false
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

/// RocksDB itself would take many of these for torn ends, forget what follows, and delete the tables that it forgot.
#[test]
fn a_bit_of_a_manifest_or_log_costs_nothing_silently() {
    let template = template();
    assert!(opens_whole(template.path(), "the template"));
    for part in ["MANIFEST", ".log"] {
        let fresh = self::template();
        let name = file(fresh.path(), part);
        let bytes = std::fs::read(&name).unwrap();
        // Every bit of some headers of records is met, and others here and there.
        let places = (0..bytes.len()).filter(|at| *at < 16 || at % 11 == 0 || bytes.len() - at < 60);
        let mut refused = 0;
        for at in places {
            let (folder, bit) = (tempfile::tempdir().unwrap(), at % 8);
            copy_folder(fresh.path(), folder.path());
            let damaged = folder.path().join(INDEX).join(name.file_name().unwrap());
            let mut spoiled = bytes.clone();
            spoiled[at] ^= 1 << bit;
            std::fs::write(&damaged, &spoiled).unwrap();
            refused += u32::from(!opens_whole(folder.path(), &format!("{part}, bit {bit} of byte {at}")));
        }
        assert!(refused > 20, "only {refused} bits of {part} were noticed");
    }
}

#[test]
fn what_a_power_cut_left_unwritten_at_the_end_of_a_log_is_cut_off() {
    let folder = template();
    let db = open(folder.path()).unwrap();
    let log = file(folder.path(), ".log");
    db.commit(one(b"told", b"synced"), Durability::Synced).unwrap();
    let synced = std::fs::metadata(&log).unwrap().len();
    let mut batch = Batch::new();
    (0..9).for_each(|place| batch.put(COLUMN, [b'x', place], vec![9; LARGE / 8]));
    db.commit(batch, Durability::Relaxed).unwrap();
    drop(db);
    let mut bytes = std::fs::read(&log).unwrap();
    let from = usize::try_from(synced).unwrap().next_multiple_of(512);
    assert!(from + 512 < bytes.len());
    bytes[from + 512..].fill(0);
    std::fs::write(&log, bytes).unwrap();
    let db = open(folder.path()).unwrap();
    assert!(db.get(COLUMN, b"told").unwrap().is_some());
    assert_eq!(db.get(COLUMN, b"x\0").unwrap(), None);
}

#[test]
fn a_store_that_lost_its_manifest_s_end_is_not_begun_anew() {
    let folder = template();
    let manifest = file(folder.path(), "MANIFEST");
    let bytes = std::fs::read(&manifest).unwrap();
    for length in (0..bytes.len()).step_by(37) {
        let copied = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copied.path());
        std::fs::write(copied.path().join(INDEX).join(manifest.file_name().unwrap()), &bytes[..length])
            .unwrap();
        match open(copied.path()) {
            Err(StoreError::Index { .. }) => {}
            Err(error) => panic!("cut at {length}: {error}"),
            // It is as it was some time ago: nothing that is kept there may count as new.
            Ok(db) => assert!(db.contains(META, STAMP).unwrap(), "cut at {length}"),
        }
    }
}

#[test]
fn setting_aside_goes_on_where_it_was_interrupted() {
    let folder = template();
    let path = folder.path();
    std::fs::write(path.join(INDEX).join("index-is-damaged"), []).unwrap();
    // The segments were moved, and the index was not.
    std::fs::create_dir(path.join("damaged-1")).unwrap();
    std::fs::rename(path.join(SEGMENTS), path.join("damaged-1").join(SEGMENTS)).unwrap();
    assert!(is_condemned(path) && matches!(open(path), Err(StoreError::Index { .. })));
    let aside = set_aside(path).unwrap();
    assert_eq!(aside, path.join("damaged-1"));
    assert!(aside.join(INDEX).join("CURRENT").exists() && aside.join(SEGMENTS).exists());
    drop(open(path).unwrap());
}

#[test]
fn a_damaged_name_of_the_manifest_and_one_that_is_missing_stop_the_start() {
    for damage in
        [&b""[..], b"\0\0\0\0", b"MANIFEST-000099\n", b"../../elsewhere\n", b"MANIFEST-\n", b"\xff\n"]
    {
        let folder = template();
        std::fs::write(folder.path().join(INDEX).join("CURRENT"), damage).unwrap();
        assert!(!opens_whole(folder.path(), &format!("{damage:?}")));
    }
}
