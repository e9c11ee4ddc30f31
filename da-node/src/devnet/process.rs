//! One process of a devnet: started, watched, stopped.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::plan::Member;
use crate::probe;

/// Pause between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines of a log that are shown when a process does not come up.
const LOG_LINES: usize = 8;

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no process.
    Stopped,
    /// There is a process, which does not serve.
    NotServing(Pid),
    /// There is a process, which serves.
    Serving(Pid),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Stopped => f.write_str("stopped"),
            State::NotServing(pid) => write!(f, "not serving (pid {pid})"),
            State::Serving(pid) => write!(f, "serving (pid {pid})"),
        }
    }
}

/// The member's process, if it runs. A process that only has its number does not count.
pub(super) fn running(member: &Member) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(member.pid()).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let config = member.config();
    let config = config.as_os_str().as_encoded_bytes();
    command.split(|&byte| byte == 0).any(|argument| argument == config).then(|| Pid::from_raw(pid))
}

/// Whether the member's process is being taken apart: it has no memory any more, and perhaps its ports and files.
fn is_ending(member: &Member) -> bool {
    let Ok(pid) = fs::read_to_string(member.pid()) else { return false };
    let process = Path::new("/proc").join(pid.trim());
    let is_empty = fs::read(process.join("cmdline")).is_ok_and(|command| command.is_empty());
    let threads = fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // What only waits to be noticed by its parent has nothing left.
    let is_over =
        threads <= 1 && stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    is_empty && threads > 0 && !is_over
}

/// Sends a signal.
pub(super) fn signal(pid: Pid, signal: Signal) -> Result<()> {
    nix::sys::signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to process {pid}"))
}

/// Waits until the member's process is gone; false when it is still there at the end of that time.
pub(super) async fn gone(member: &Member, within: Duration) -> bool {
    let end = Instant::now() + within;
    while running(member).is_some() || is_ending(member) {
        if Instant::now() >= end {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

/// Starts the member's process, which ends by itself when the lock is free.
pub(super) fn spawn(member: &Member, lock: Option<&Path>) -> Result<Child> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(member.log())
        .with_context(|| format!("cannot open {}", member.log().display()))?;
    let mut command = Command::new(program);
    command.arg(member.role).arg("--config").arg(member.config());
    if let Some(lock) = lock {
        command.arg("--stop-when-unlocked").arg(lock);
    }
    // What is each member's own does not come from the environment that all share.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MERIDIAN_NODE__")
            || name.to_string_lossy().starts_with("MERIDIAN_LISTEN__")
            || name.to_string_lossy().starts_with("MERIDIAN_TLS__")
        {
            command.env_remove(name);
        }
    }
    let error_log = log.try_clone().context("cannot share the log")?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(error_log)
        // Ctrl-C in a terminal reaches the devnet alone, which then stops its members in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", member.name))?;
    let pid = child.id().context("it ended at once")?;
    fs::write(member.pid(), format!("{pid}\n"))
        .with_context(|| format!("cannot write {}", member.pid().display()))?;
    Ok(child)
}

/// Waits until the member serves.
pub(super) async fn until_serving(member: &Member, child: &mut Child, within: Duration) -> Result<()> {
    let (end, trust) = (Instant::now() + within, member.trust()?);
    loop {
        if probe::is_serving(&member.endpoint(), &trust).await {
            return Ok(());
        }
        if let Some(status) = child.try_wait().context("cannot look after the process")? {
            bail!("{} ended at once ({status}); its log ends with\n{}", member.name, log_end(member));
        }
        if Instant::now() >= end {
            bail!("{} does not serve after {within:?}; its log ends with\n{}", member.name, log_end(member));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What a member does now.
pub(super) async fn state(member: &Member) -> State {
    let Some(pid) = running(member) else { return State::Stopped };
    match member.trust() {
        Ok(trust) if probe::is_serving(&member.endpoint(), &trust).await => State::Serving(pid),
        _ => State::NotServing(pid),
    }
}

fn log_end(member: &Member) -> String {
    let log = fs::read(member.log()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
