//! What the machine gives a process: open files and memory.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};

use super::disk::show;
use super::{Finding, Subject};

/// Bytes of a segment of the store: one open file.
const SEGMENT: u64 = 256 << 20;
/// Open files beside connections and segments: the index, the log, calls to others.
const OTHER_FILES: u64 = 1024;

/// The limit of open files.
pub(super) fn files(subject: &Subject) -> Finding {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) => judge_files(most, needed_files(subject.connections, subject.max_bytes)),
        Err(error) => Finding::warning(
            "open-files",
            format!("the system does not tell: {error}"),
            "look at `ulimit -Hn`",
        ),
    }
}

/// A store takes up to twice its rows.
fn needed_files(connections: usize, max_bytes: u64) -> u64 {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let segments = max_bytes.saturating_mul(2).div_ceil(SEGMENT);
    connections.saturating_add(segments).saturating_add(OTHER_FILES)
}

fn judge_files(most: u64, needed: u64) -> Finding {
    let said = format!("up to {most} (hard limit), {needed} may be needed");
    if most < OTHER_FILES {
        return Finding::problem("open-files", said, "raise LimitNOFILE of the unit, or `ulimit -Hn`");
    }
    if most < needed {
        let advice = "raise LimitNOFILE of the unit (or `ulimit -Hn`), or lower server.max_connections";
        return Finding::warning("open-files", said, advice);
    }
    Finding::ok("open-files", said)
}

/// The machine's memory beside the budgets.
pub(super) fn memory(subject: &Subject) -> Finding {
    match available() {
        Some(all) => judge_memory(all, subject.budgets),
        None => Finding::warning(
            "memory",
            "the system does not tell how much there is",
            "compare the budgets yourself",
        ),
    }
}

fn judge_memory(all: u64, budgets: u64) -> Finding {
    let said = format!("budgets of {} in {}", show(budgets), show(all));
    if budgets > all {
        let advice = "lower the budgets (gateway.memory_bytes, or replica.*_memory_bytes and cache_bytes): the system would end the host";
        return Finding::problem("memory", said, advice);
    }
    if budgets > all / 4 * 3 {
        let advice =
            "leave a quarter for the index, connections and the disk cache: lower the budgets, or add memory";
        return Finding::warning("memory", said, advice);
    }
    Finding::ok("memory", said)
}

/// Bytes that the machine has, or that the group of this process may use.
fn available() -> Option<u64> {
    let machine = total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::/")));
    let limit = group.and_then(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group.trim()).join("memory.max");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    Some(machine.min(limit.unwrap_or(u64::MAX)))
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn open_files_are_judged_at_their_limits() {
        assert_eq!(needed_files(1024, 0), 2048);
        assert_eq!(needed_files(1024, SEGMENT), 2050);
        assert_eq!(needed_files(1024, SEGMENT / 2 + 1), 2050);
        assert_eq!(needed_files(usize::MAX, u64::MAX), u64::MAX);
        assert_eq!(judge_files(2048, 2048).verdict, Verdict::Ok);
        assert_eq!(judge_files(2047, 2048).verdict, Verdict::Warning);
        assert_eq!(judge_files(1024, 2048).verdict, Verdict::Warning);
        assert_eq!(judge_files(1023, 2048).verdict, Verdict::Problem);
    }

    #[test]
    fn memory_is_judged_at_its_limits() {
        let gib: u64 = 1 << 30;
        assert_eq!(judge_memory(4 * gib, 3 * gib).verdict, Verdict::Ok);
        assert_eq!(judge_memory(4 * gib, 3 * gib + 1).verdict, Verdict::Warning);
        assert_eq!(judge_memory(4 * gib, 4 * gib).verdict, Verdict::Warning);
        assert_eq!(judge_memory(4 * gib, 4 * gib + 1).verdict, Verdict::Problem);
        assert!(available().unwrap() > 1 << 20);
        assert_eq!(total("MemTotal:  16 kB\nMemFree: 1 kB\n"), Some(16_384));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }
}
