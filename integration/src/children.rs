//! Processes that tests start.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks a process to end, as service managers do. One that has been waited for is not asked: its number may be another's.
///
/// # Errors
/// When it cannot be asked.
pub fn terminate(child: &mut Child) -> Result<()> {
    if child.try_wait()?.is_none() {
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    }
    Ok(())
}

/// Has a process end, and tells how it did.
///
/// # Errors
/// When it does not end in time; it is killed then.
pub fn stop(child: &mut Child, within: Duration) -> Result<ExitStatus> {
    terminate(child)?;
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    child.kill()?;
    child.wait()?;
    bail!("it did not end within {within:?}, and was killed")
}
