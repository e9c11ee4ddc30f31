//! What was measured, on what, and when.

use std::{fs, process::Command, thread};

use serde::{Deserialize, Serialize};

/// A machine and a commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// Threads that run at once.
    pub(crate) threads: usize,
    /// The day, as YYYY-MM-DD.
    pub(crate) date: String,
    /// The commit, with a plus when code differs from it.
    pub(crate) commit: String,
}

/// What a program prints, if it is there and succeeds.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

impl Machine {
    /// This machine, now.
    pub(crate) fn this() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find(|line| line.starts_with("model name")).and_then(|l| l.split_once(':'));
        let unknown = || "unknown".to_owned();
        // What is measured, not the page that it is recorded on.
        let paths = [":(top)", ":(top,exclude)docs"];
        let status = ["status", "--porcelain", "--untracked-files=no", "--"];
        let changed = said("git", &[status.as_slice(), &paths].concat());
        let mark = if changed.is_some_and(|files| !files.is_empty()) { "+" } else { "" };
        let commit = said("git", &["rev-parse", "--short=10", "HEAD"]);
        Self {
            processor: model.map_or_else(unknown, |(_, model)| model.trim().to_owned()),
            threads: thread::available_parallelism().map_or(1, usize::from),
            date: said("date", &["-u", "+%F"]).unwrap_or_else(unknown),
            commit: commit.map_or_else(unknown, |commit| format!("{commit}{mark}")),
        }
    }
}
