//! [`Db`] against maps: batches, reads, compactions, restarts, kills and losses of power in any order.
//!
//! A kill leaves what the operating system has: the files as they are. A loss of power may also take what was not
//! synced, which is a tail of the newest write-ahead log alone: segments are synced before keys lead there, other files before the manifest names them,
//! and older logs before a flush that began a new one is over.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tempfile::TempDir;

use super::*;

const COLUMNS: [&str; 2] = ["these", "those"];
/// The smallest write buffer that RocksDB takes.
const SMALL_BUFFER: &str = "65536";

/// What a byte repeated is, so that failures print briefly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Value {
    length: usize,
    byte: u8,
}

impl Value {
    fn bytes(self) -> Bytes {
        vec![self.byte; self.length].into()
    }

    fn any() -> impl Strategy<Value = Self> {
        // In the log; there or in a segment; in a segment.
        let length = prop_oneof![4 => 0_usize..300, 2 => 2_000_usize..6_000, 1 => 65_000_usize..100_000];
        (length, any::<u8>()).prop_map(|(length, byte)| Self { length, byte })
    }
}

/// Of few keys, so that batches overwrite and delete each other's.
fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0_u8..3, 0..4)
}

#[derive(Clone, Debug)]
struct Change {
    column: usize,
    key: Vec<u8>,
    value: Option<Value>,
}

/// What is found where unsynced bytes were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tail {
    Nothing,
    Zeros,
    Garbage(u8),
}

#[derive(Clone, Debug)]
enum Step {
    Commit {
        changes: Vec<Change>,
        synced: bool,
    },
    Read {
        column: usize,
        prefix: Vec<u8>,
        start: Vec<u8>,
        limit: usize,
    },
    /// Writes what is buffered of a column into a file.
    Flush(usize),
    /// Takes space back, and flushes everything.
    Compact,
    Reopen,
    Kill,
    /// `survivors` of the unsynced batches are left, and a part of the next one's bytes: `torn` of 256.
    LosePower {
        survivors: Index,
        torn: u8,
        tail: Tail,
    },
}

type Columns = [BTreeMap<Vec<u8>, Value>; 2];

#[derive(Clone, Debug)]
struct Model {
    /// Write buffers are so small that they are flushed at times that nobody knows.
    flushes: bool,
    synced: Columns,
    /// The columns after each batch that is not synced.
    unsynced: Vec<Columns>,
    /// Whether a column's write buffer holds anything, so that flushing it begins a new write-ahead log.
    buffered: [bool; 2],
}

impl Model {
    fn columns(&self) -> &Columns {
        self.unsynced.last().unwrap_or(&self.synced)
    }

    fn sync(&mut self) {
        if let Some(last) = self.unsynced.pop() {
            self.synced = last;
            self.unsynced.clear();
        }
    }

    /// Opening writes what was in the log into files.
    fn open(&mut self) {
        self.sync();
        self.buffered = [false; 2];
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let model = |flushes| Self {
            flushes,
            synced: Columns::default(),
            unsynced: Vec::new(),
            buffered: [false; 2],
        };
        any::<bool>().prop_map(model).boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Step> {
        let column = 0..COLUMNS.len();
        let change = (column.clone(), key(), proptest::option::weighted(0.7, Value::any()));
        let change = change.prop_map(|(column, key, value)| Change { column, key, value });
        let commit = (proptest::collection::vec(change, 1..6), proptest::bool::weighted(0.3));
        let commit = commit.prop_map(|(changes, synced)| Step::Commit { changes, synced });
        let read = (column.clone(), key(), key(), 0_usize..9);
        let read =
            read.prop_map(|(column, prefix, start, limit)| Step::Read { column, prefix, start, limit });
        let tail = prop_oneof![
            2 => Just(Tail::Nothing),
            1 => Just(Tail::Zeros),
            1 => any::<u8>().prop_map(Tail::Garbage),
        ];
        let lose = (any::<Index>(), any::<u8>(), tail);
        let lose = lose.prop_map(|(survivors, torn, tail)| Step::LosePower { survivors, torn, tail });
        prop_oneof![
            12 => commit,
            3 => read,
            2 => column.prop_map(Step::Flush),
            1 => Just(Step::Compact),
            1 => Just(Step::Reopen),
            2 => Just(Step::Kill),
            // What is synced when is known only where nothing is flushed unasked.
            u32::from(!model.flushes) * 3 => lose,
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        match step {
            Step::Commit { changes, synced } => {
                let mut columns = model.columns().clone();
                for Change { column, key, value } in changes {
                    match value {
                        Some(value) => drop(columns[*column].insert(key.clone(), *value)),
                        None => drop(columns[*column].remove(key)),
                    }
                    model.buffered[*column] = true;
                }
                model.unsynced.push(columns);
                if *synced {
                    model.sync();
                }
            }
            Step::Read { .. } => {}
            Step::Flush(column) => {
                if std::mem::take(&mut model.buffered[*column]) {
                    model.sync();
                }
            }
            Step::Compact | Step::Reopen | Step::Kill => model.open(),
            Step::LosePower { survivors, .. } => {
                model.unsynced.truncate(survivors.index(model.unsynced.len() + 1));
                model.open();
            }
        }
        model
    }
}

struct System {
    folder: TempDir,
    db: Db,
    /// Length of the newest write-ahead log when it was synced last, and after each batch since then.
    ends: Vec<u64>,
    log: PathBuf,
}

impl System {
    fn open(folder: TempDir, model: &Model) -> Result<Self, (StoreError, TempDir)> {
        let db = match Db::open(folder.path(), Role::Replica, &COLUMNS) {
            Ok(db) => db,
            Err(error) => return Err((error, folder)),
        };
        if model.flushes {
            for column in COLUMNS {
                let handle = db.column(column).unwrap();
                db.inner.db.set_options_cf(handle, &[("write_buffer_size", SMALL_BUFFER)]).unwrap();
            }
        }
        let log = write_ahead_log(folder.path());
        let ends = vec![length(&log)];
        Ok(Self { folder, db, ends, log })
    }

    fn commit(&mut self, changes: Vec<Change>, durability: Durability) {
        let mut batch = Batch::new();
        for Change { column, key, value } in changes {
            match value {
                Some(value) => batch.put(COLUMNS[column], key, value.bytes()),
                None => batch.delete(COLUMNS[column], key),
            }
        }
        self.db.commit(batch, durability).unwrap();
        if durability == Durability::Synced {
            self.ends.clear();
        }
        self.ends.push(length(&self.log));
    }

    fn flush(&mut self, column: usize) {
        self.db.inner.db.flush_cf(self.db.column(COLUMNS[column]).unwrap()).unwrap();
        let log = write_ahead_log(self.folder.path());
        if log != self.log {
            self.ends = vec![length(&log)];
            self.log = log;
        }
    }

    fn compact(&mut self) {
        self.db.compact().unwrap();
        self.flush(0);
        self.flush(1);
        self.ends = vec![length(&self.log)];
    }

    /// What is left of the store when the power goes now.
    fn lose_power(&self, model: &Model, survivors: Index, torn: u8, tail: Tail) -> Self {
        let survivors = survivors.index(self.ends.len());
        let end = self.ends[survivors];
        // Beyond the last batch is one of which nobody knows yet.
        let next = self.ends.get(survivors + 1).copied().unwrap_or(end + 999);
        let cut = end + (next - end) * u64::from(torn) / 256;
        let left = |tail| {
            let folder = copy(self.folder.path());
            let log = write_ahead_log(folder.path());
            let mut bytes = std::fs::read(&log).unwrap();
            bytes.truncate(usize::try_from(cut).unwrap());
            let lost = bytes.len()..usize::try_from(next).unwrap();
            match tail {
                Tail::Nothing => {}
                Tail::Zeros => bytes.resize(lost.end, 0),
                Tail::Garbage(byte) => bytes.extend(lost.map(|at| at.to_le_bytes()[0].wrapping_mul(byte))),
            }
            std::fs::write(&log, bytes).unwrap();
            Self::open(folder, model)
        };
        match left(tail) {
            Ok(system) => system,
            // Bytes that were never written look like damage to some that were: then the store says so.
            Err((StoreError::Index { .. }, _)) if tail != Tail::Nothing => {
                left(Tail::Nothing).map_err(|(error, _)| error).unwrap()
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        Self::open(tempfile::tempdir().unwrap(), model).map_err(|(error, _)| error).unwrap()
    }

    fn apply(mut system: Self, model: &Model, step: Step) -> Self {
        match step {
            Step::Commit { changes, synced } => {
                let durability = if synced { Durability::Synced } else { Durability::Relaxed };
                system.commit(changes, durability);
            }
            Step::Read { column, prefix, start, limit } => {
                let (db, values) = (&system.db, &model.columns()[column]);
                let found = db.scan(COLUMNS[column], &prefix, &start, limit).unwrap();
                let expected = values.range(start.clone().max(prefix.clone())..);
                let expected = expected.take_while(|(key, _)| key.starts_with(&prefix)).take(limit);
                assert_eq!(found, expected.map(pair).collect::<Vec<_>>());
                let next = db.next_key(COLUMNS[column], &start).unwrap();
                let expected = values.range(start.clone()..).next().map(|(key, _)| &key[..]);
                assert_eq!(next.as_deref(), expected);
                let value = values.get(&start);
                assert_eq!(db.get(COLUMNS[column], &start).unwrap(), value.map(|value| value.bytes()));
                assert_eq!(db.contains(COLUMNS[column], &start).unwrap(), value.is_some());
            }
            Step::Flush(column) => system.flush(column),
            Step::Compact => system.compact(),
            Step::Reopen => {
                let Self { folder, db, .. } = system;
                drop(db);
                return Self::open(folder, model).map_err(|(error, _)| error).unwrap();
            }
            Step::Kill => {
                let left = copy(system.folder.path());
                return Self::open(left, model).map_err(|(error, _)| error).unwrap();
            }
            Step::LosePower { survivors, torn, tail } => {
                return system.lose_power(model, survivors, torn, tail);
            }
        }
        system
    }

    fn check_invariants(system: &Self, model: &Model) {
        for (column, values) in COLUMNS.into_iter().zip(model.columns()) {
            let found = system.db.scan(column, &[], &[], usize::MAX).unwrap();
            let expected: Vec<_> = values.iter().map(pair).collect();
            // Values are long: say where they differ.
            let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let keys = |pairs: &[Pair]| pairs.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            assert_eq!((keys(&found), differs), (keys(&expected), None), "{column}");
        }
        assert_eq!(system.db.damaged(), 0);
        assert!(model.flushes || system.ends.len() == model.unsynced.len() + 1, "{:?}", system.ends);
    }
}

fn pair((key, value): (&Vec<u8>, &Value)) -> Pair {
    (key.clone().into(), value.bytes())
}

/// Zero for a log that a flush has made needless.
fn length(log: &Path) -> u64 {
    log.metadata().map_or(0, |metadata| metadata.len())
}

/// A copy of a store's files as they are at one moment, although RocksDB may be changing them.
fn copy(folder: &Path) -> TempDir {
    let files = || -> BTreeMap<_, _> {
        let in_folder = |part: &str| {
            let part = PathBuf::from(part);
            let files = std::fs::read_dir(folder.join(&part)).unwrap().map(|file| file.unwrap());
            let length = |file: &std::fs::DirEntry| file.metadata().map_or(0, |it| it.len());
            files.map(|file| (part.join(file.file_name()), length(&file))).collect::<Vec<_>>()
        };
        [INDEX, SEGMENTS].into_iter().flat_map(in_folder).collect()
    };
    loop {
        let to = tempfile::tempdir().unwrap();
        [INDEX, SEGMENTS].iter().for_each(|part| std::fs::create_dir(to.path().join(part)).unwrap());
        let before = files();
        let copied = before
            .keys()
            .try_for_each(|name| std::fs::copy(folder.join(name), to.path().join(name)).map(drop));
        if copied.is_ok() && before == files() {
            return to;
        }
    }
}

fn config() -> ProptestConfig {
    let config = ProptestConfig { max_shrink_iters: 4_096, ..ProptestConfig::default() };
    let more = std::env::var_os("PROPTEST_CASES").is_some();
    if more { config } else { ProptestConfig { cases: 32, ..config } }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn it_does_what_maps_do_and_keeps_what_it_promised(sequential 1..40 => System);
}
