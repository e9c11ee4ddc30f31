//! A whole network on one machine: every member a process of its own with its own folder, key and ports.

pub mod anvil;
pub mod authority;
mod chain;
mod plan;
mod process;
mod regions;
pub mod relay;
mod supervise;
mod tls;
mod wan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub use chain::{ChainPlan, Kind};
pub use plan::{Member, Options, Plan};
pub use process::State;
pub use regions::round_trip;
pub use supervise::run;
pub use tls::ca_path;
pub use wan::WanPlan;

/// Time in which a member must come up.
const START_WITHIN: Duration = Duration::from_secs(90);
/// Time in which a member must be gone after SIGKILL.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Kills one member with SIGKILL.
///
/// # Errors
/// When there is no such member or it does not run.
pub async fn kill(dir: &Path, name: &str) -> Result<String> {
    let member = member(dir, name)?;
    let pid = process::running(&member).with_context(|| format!("{name} does not run"))?;
    process::signal(pid, nix::sys::signal::Signal::SIGKILL)?;
    ensure!(process::gone(&member, GONE_WITHIN).await, "{name} (pid {pid}) does not end");
    Ok(format!("killed {name} (pid {pid})"))
}

/// Starts one member and waits until it serves; does nothing when it runs.
///
/// # Errors
/// When there is no such member or it does not come up.
pub async fn start(dir: &Path, name: &str) -> Result<String> {
    let member = member(dir, name)?;
    if let Some(pid) = process::running(&member) {
        return Ok(format!("{name} is running (pid {pid})"));
    }
    let is_supervised = supervise::is_supervised(dir);
    ensure!(
        is_supervised || Plan::load(dir)?.wan.is_none(),
        "the ways between the regions of {} lead through `da-node devnet`, which does not run",
        dir.display()
    );
    let lock = is_supervised.then(|| supervise::lock_path(dir));
    let mut child = process::spawn(&member, lock.as_deref())?;
    let pid = child.id().unwrap_or_default();
    process::until_serving(&member, &mut child, START_WITHIN).await?;
    Ok(format!("started {name} (pid {pid})"))
}

/// Tells the state of every member, or of one.
///
/// # Errors
/// When there is no devnet in the folder or no such member.
pub async fn status(dir: &Path, name: Option<&str>) -> Result<String> {
    let plan = Plan::load(dir)?;
    let members = match name {
        Some(name) => vec![member(dir, name)?],
        None => plan.members(&absolute(dir)?),
    };
    let mut out = String::new();
    if let (Some(chain), None) = (&plan.chain, name) {
        let state = if anvil::answers(&chain.url()).await { "serving" } else { "not serving" };
        out.push_str(&format!("{:<20} {:<28} {state}\n", "chain", chain.url()));
    }
    for member in members {
        let state = process::state(&member).await;
        out.push_str(&format!("{:<20} {:<28} {state}\n", member.name, member.endpoint()));
    }
    Ok(out)
}

/// The folder as members know it.
fn absolute(dir: &Path) -> Result<PathBuf> {
    dir.canonicalize().with_context(|| format!("there is no folder {}", dir.display()))
}

fn member(dir: &Path, name: &str) -> Result<Member> {
    let dir = absolute(dir)?;
    let members = Plan::load(&dir)?.members(&dir);
    let names: Vec<_> = members.iter().map(|m| m.name.clone()).collect();
    let found = members.into_iter().find(|m| m.name == name);
    found.with_context(|| format!("there is no member {name}; there are: {}", names.join(", ")))
}
