//! Who computes where: so that what asks and what answers do not take each other's time.

use std::process::Command;

use anyhow::{Result, ensure};
use meridian_node::devnet::Member;

/// The members on the first core, and this process on the second.
///
/// # Errors
/// When `taskset` is missing or refuses.
pub fn apart(members: &[Member]) -> Result<()> {
    let on = |core: &str, pid: &str| -> Result<()> {
        let output = Command::new("taskset").args(["-a", "-c", "-p", core, pid]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    for member in members {
        on("0", std::fs::read_to_string(member.pid())?.trim())?;
    }
    on("1", &std::process::id().to_string())
}
