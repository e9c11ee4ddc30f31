//! What a measurement was made on, and when.

use std::fs;

use meridian_client::submit::unix_now;
use meridian_client::time::date;
use serde::Serialize;

/// A machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of its processor.
    pub processor: String,
    /// Threads that run at once.
    pub threads: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Operating system and its version.
    pub system: String,
    /// The day, as YYYY-MM-DD.
    pub date: String,
}

fn line_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl Machine {
    /// This machine, today.
    #[must_use]
    pub fn this() -> Self {
        let unknown = || "unknown".to_owned();
        let memory = line_of("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
        Self {
            processor: line_of("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1024,
            system: format!("{} {}", std::env::consts::OS, release.unwrap_or_else(|_| unknown())),
            date: date(unix_now()),
        }
    }
}
