//! The disk of the store: whose it is, how much is free, how fast it is, and how long a synced write takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Finding, Subject};
use crate::cpu;
use crate::disk::{Space, space};

/// Bytes of one synced write: the rows of a small blob.
const WRITE: usize = 128 << 10;
/// Synced writes that are timed.
const WRITES: usize = 64;
/// Bytes that are written in one go.
const BULK: usize = 32 << 20;
/// Longest that either takes before it is cut short.
const WITHIN: Duration = Duration::from_secs(5);

/// Half of all syncs longer than this: puts wait noticeably.
const SLOW: Duration = Duration::from_millis(30);
/// Half of all syncs longer than this: a gateway gives up whoever is silent for so long (`gateway.silence_ms`).
const TOO_SLOW: Duration = Duration::from_secs(2);
/// One of a hundred syncs longer than this: others find this host late.
const SLOWEST: Duration = Duration::from_millis(500);
/// Fewest bytes a second.
const SPEED: u64 = 30 << 20;

const SPACE: &str = "disk-space";
const SYNC: &str = "disk-sync";

/// What was measured of a disk.
#[derive(Clone, Debug)]
struct Measured {
    /// Times of synced writes, ascending, at least one.
    syncs: Vec<Duration>,
    bytes_per_second: u64,
}

/// Everything about the disk.
pub(super) async fn look(subject: &Subject) -> Vec<Finding> {
    let (folder, min_free, max_bytes) =
        (subject.node.data_dir.clone(), subject.node.min_free_bytes, subject.max_bytes);
    cpu::blocking(move || {
        let at = existing(&folder);
        let mut findings = vec![owner(&folder, &at)];
        match space(&at) {
            Ok(space) => {
                findings.push(judge_space(space, min_free, max_bytes));
                let room = u64::try_from(BULK + WRITE * WRITES).unwrap_or(u64::MAX);
                if space.free <= min_free.saturating_add(room) {
                    findings.push(Finding::warning(
                        SYNC,
                        "not measured: too little is free",
                        "make room first",
                    ));
                } else {
                    findings.push(match measure(&at) {
                        Ok(measured) => judge_speed(&at, &measured),
                        Err(error) => unwritable(&at, &error),
                    });
                }
            }
            Err(error) => findings.push(unwritable(&at, &error)),
        }
        findings
    })
    .await
}

/// The folder, or the nearest one above it that is there.
fn existing(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().find(|it| it.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn owner(folder: &Path, at: &Path) -> Finding {
    const CHECK: &str = "data-dir";
    let user = nix::unistd::geteuid().as_raw();
    match fs::metadata(at) {
        Ok(_) if !folder.is_dir() => {
            Finding::ok(CHECK, format!("{} is not there yet: the host makes it", folder.display()))
        }
        Ok(meta) if meta.uid() != user => {
            let said = format!("{} is of user {}, and this is user {user}", folder.display(), meta.uid());
            Finding::warning(
                CHECK,
                said,
                "run the doctor as the user that the host runs as, so that it sees what the host may",
            )
        }
        Ok(_) => Finding::ok(CHECK, format!("{} is of this user", folder.display())),
        Err(error) => unwritable(at, &error),
    }
}

fn unwritable(folder: &Path, error: &io::Error) -> Finding {
    let advice = "make node.data_dir a folder that the host's user may write";
    Finding::problem(SYNC, format!("cannot write in {}: {error}", folder.display()), advice)
}

fn judge_space(space: Space, min_free: u64, max_bytes: u64) -> Finding {
    let Space { free, total } = space;
    let said = format!("{} free of {}, at least {} wanted", show(free), show(total), show(min_free));
    if free < min_free / 2 {
        return Finding::problem(
            SPACE,
            said,
            "make room: nothing is written but deletions (node.min_free_bytes)",
        );
    }
    if free < min_free {
        return Finding::problem(
            SPACE,
            said,
            "make room: new rows and payloads are refused (node.min_free_bytes)",
        );
    }
    if free < min_free.saturating_mul(2).max(total / 20) {
        return Finding::warning(SPACE, said, "make room, or add a disk: it is nearly full");
    }
    // Segments are emptied when half of them is garbage.
    if max_bytes > 0 && max_bytes.saturating_mul(2) > total {
        let said = format!("{said}; rows may take up to twice {}", show(max_bytes));
        return Finding::warning(SPACE, said, "set storage.max_bytes to less than half of the disk");
    }
    Finding::ok(SPACE, said)
}

fn judge_speed(folder: &Path, measured: &Measured) -> Finding {
    let (p50, p99) = (quantile(&measured.syncs, 50), quantile(&measured.syncs, 99));
    let said = format!(
        "{} synced writes of {} KiB in {}: p50 {:.1} ms, p99 {:.1} ms; {} MB/s",
        measured.syncs.len(),
        WRITE >> 10,
        folder.display(),
        p50.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
        measured.bytes_per_second / 1_000_000
    );
    if p50 > TOO_SLOW {
        return Finding::problem(SYNC, said, "use another disk: every put waits for a sync");
    }
    if p50 > SLOW || p99 > SLOWEST || measured.bytes_per_second < SPEED {
        let advice = "look for what else uses the disk; a local SSD does this in a few milliseconds";
        return Finding::warning(SYNC, said, advice);
    }
    Finding::ok(SYNC, said)
}

/// The value that so many percent of them do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).or(sorted.last()).copied().unwrap_or_default()
}

/// A file that goes with this value.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!(".doctor-{}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a file of the doctor stays behind");
        }
    }
}

fn measure(folder: &Path) -> io::Result<Measured> {
    let mut scratch = Scratch::new(folder)?;
    // Not zeros, which some file systems keep no room for.
    let mut block = vec![0u8; WRITE];
    getrandom::fill(&mut block).map_err(io::Error::other)?;
    let (begun, mut syncs) = (Instant::now(), Vec::with_capacity(WRITES));
    while syncs.len() < WRITES && (syncs.is_empty() || begun.elapsed() < WITHIN) {
        let one = Instant::now();
        scratch.write(&block)?;
        syncs.push(one.elapsed());
    }
    syncs.sort_unstable();
    let (begun, mut written) = (Instant::now(), 0_usize);
    while written < BULK && (written == 0 || begun.elapsed() < WITHIN) {
        scratch.file.write_all(&block)?;
        written += block.len();
    }
    scratch.file.sync_data()?;
    let took = begun.elapsed().as_nanos().max(1);
    let rate = u128::try_from(written).unwrap_or(0) * 1_000_000_000 / took;
    Ok(Measured { syncs, bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX) })
}

/// Bytes for people.
pub(super) fn show(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 10 << 30 => format!("{} GiB", bytes >> 30),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn free_space_is_judged_at_its_limits() {
        let gib = 1 << 30;
        for (free, min_free, max_bytes, verdict) in [
            (100 * gib, gib, 0, Verdict::Ok),
            (2 * gib - 1, gib, 0, Verdict::Warning),
            (5 * gib, gib, 0, Verdict::Ok),
            (5 * gib - 1, gib, 0, Verdict::Warning),
            (gib, gib, 0, Verdict::Warning),
            (gib - 1, gib, 0, Verdict::Problem),
            (gib / 2 - 1, gib, 0, Verdict::Problem),
            (100 * gib, gib, 50 * gib, Verdict::Ok),
            (100 * gib, gib, 50 * gib + 1, Verdict::Warning),
            (100 * gib, u64::MAX, u64::MAX, Verdict::Problem),
        ] {
            let finding = judge_space(Space { free, total: 100 * gib }, min_free, max_bytes);
            assert_eq!(finding.verdict, verdict, "{free} {min_free} {max_bytes}");
        }
    }

    #[test]
    fn slow_disks_are_told() {
        let at = |p50: u64, p99: u64, speed: u64| {
            let mut syncs = vec![Duration::from_millis(p50); WRITES];
            syncs[WRITES - 1] = Duration::from_millis(p99);
            judge_speed(Path::new("/"), &Measured { syncs, bytes_per_second: speed }).verdict
        };
        assert_eq!(at(30, 500, SPEED), Verdict::Ok);
        assert_eq!(at(31, 500, SPEED), Verdict::Warning);
        assert_eq!(at(30, 501, SPEED), Verdict::Warning);
        assert_eq!(at(30, 500, SPEED - 1), Verdict::Warning);
        assert_eq!(at(2_000, 2_000, SPEED), Verdict::Warning);
        assert_eq!(at(2_001, 2_001, SPEED), Verdict::Problem);
    }

    #[test]
    fn quantiles_are_of_the_values_themselves() {
        let values: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&values, 50), Duration::from_millis(50));
        assert_eq!(quantile(&values, 99), Duration::from_millis(99));
        assert_eq!(quantile(&values[..1], 99), Duration::from_millis(1));
    }

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let measured = measure(dir.path()).unwrap();
        assert!(!measured.syncs.is_empty() && measured.bytes_per_second > 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(measure(&dir.path().join("missing")).is_err());
        assert_eq!(existing(&dir.path().join("a/b/c")), dir.path());
    }
}
