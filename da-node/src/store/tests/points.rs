//! A process that writes to a store is killed at every place there is, and another one finds what the first was told.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::points::{KILL_AT, OF_STORE};

/// Set for the process that is killed: where its store is.
const FOLDER: &str = "MERIDIAN_STORE_THAT_IS_KILLED";
const CHILD: &str = "store::tests::points::writes_until_it_is_killed";
/// Writes that a process makes at most.
const WRITES: u64 = 40;

/// What the write with a number leaves: a small value, a large one, and nothing of the one two before it.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    let key = number.to_be_bytes();
    batch.put(COLUMN, [&b"small"[..], &key].concat(), key.to_vec());
    batch.put(COLUMN, [&b"large"[..], &key].concat(), vec![key[7]; 3 * LARGE]);
    if let Some(old) = number.checked_sub(2) {
        batch.delete(COLUMN, [&b"large"[..], &old.to_be_bytes()].concat());
    }
    batch
}

/// How many writes there are, each whole.
fn count(db: &Db) -> u64 {
    let has = |name: &[u8], number: u64| {
        let value = db.get(COLUMN, &[name, &number.to_be_bytes()].concat()).unwrap();
        let is_right = |byte: &u8| *byte == number.to_be_bytes()[7];
        assert!(value.iter().all(|value| name == b"small" || value.iter().all(is_right)), "{number}");
        value
    };
    let count = (0..).find(|number| has(b"small", *number).is_none()).unwrap();
    for number in 0..WRITES {
        let is_there = number < count && number + 2 >= count;
        assert_eq!(has(b"large", number).is_some(), is_there, "large value {number} of {count} writes");
    }
    count
}

/// Nothing by itself: it is what the other test starts.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    crate::points::arm();
    let db = open(Path::new(&folder)).unwrap();
    for number in count(&db)..WRITES {
        db.commit(batch(number), Durability::Synced).unwrap();
        println!("\nwritten {number}");
        std::io::stdout().flush().unwrap();
        if number % 4 == 3 {
            db.compact().unwrap();
        }
    }
}

#[test]
fn what_was_synced_survives_a_kill_at_every_place() {
    for place in OF_STORE {
        for times in [1, 2, 3, 5] {
            let folder = tempfile::tempdir().unwrap();
            // The store is there: what is killed is a start and the writes after it.
            let before = 4;
            let db = open(folder.path()).unwrap();
            (0..before).for_each(|number| db.commit(batch(number), Durability::Synced).unwrap());
            drop(db);
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", CHILD, "--nocapture"])
                .env(FOLDER, folder.path())
                .env(KILL_AT, format!("{place}:{times}"))
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let said = BufReader::new(child.stdout.take().unwrap());
            let written = said.lines().map_while(Result::ok).filter_map(|line| {
                line.strip_prefix("written ").and_then(|number| number.parse::<u64>().ok())
            });
            let told = written.last().map_or(before, |last| last + 1);
            let status = child.wait().unwrap();
            assert!(!status.success(), "{place} was not met {times} times");
            let found = count(&open(folder.path()).unwrap());
            assert!((told..=told + 1).contains(&found), "{place}, {times}: {found} writes, {told} were told");
        }
    }
}

/// A sync that takes its time is one that has not begun: the thread that waits for it is held just before.
#[test]
fn one_slow_sync_stops_no_reads() {
    const SLOW: &str = "waits for a slow sync";
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).unwrap();
    db.commit(batch(0), Durability::Synced).unwrap();
    let ((met, meets), (goes_on, go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let (met, go_on) = (Mutex::new(met), Mutex::new(go_on));
    let hold = move || {
        if std::thread::current().name() == Some(SLOW) {
            met.lock().unwrap().send(()).unwrap();
            // Until the other end is dropped, whatever comes of the test.
            let _ = go_on.lock().unwrap().recv();
        }
    };
    fail::cfg_callback("values-written", hold).unwrap();
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name(SLOW.to_owned());
        let writing = writer.spawn_scoped(scope, || db.commit(batch(1), Durability::Synced)).unwrap();
        meets.recv().unwrap();
        let (done, is_done) = mpsc::channel();
        let read = db.clone();
        std::thread::spawn(move || done.send((count(&read), read.next_key(COLUMN, b"").unwrap().is_some())));
        // Long only so that a fault ends the test.
        let read = is_done.recv_timeout(Duration::from_secs(30));
        drop(goes_on);
        assert_eq!(read, Ok((1, true)));
        writing.join().unwrap().unwrap();
    });
    fail::remove("values-written");
    assert_eq!(count(&db), 2);
}
