//! Starts all members, waits for a signal, stops them all.
//!
//! While it lives it holds a lock on a file in the folder. Members wait for that lock on a thread of their own and stop
//! when they get it, so that none outlives a supervisor that was killed, also not one that was started by hand.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::chain::{self, Chain, Kind};
use super::plan::{Member, Options, Plan, committee_path};
use super::tls::ca_path;
use super::wan::{self, Ways};
use super::{GONE_WITHIN, START_WITHIN, process};
use crate::server::stop_signal;

/// Time in which members must end by themselves when they are asked to.
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// Time in which the members of an earlier supervisor let go of its lock.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// The file that a supervisor holds a lock on.
pub(super) fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

fn open_lock(dir: &Path) -> Result<File> {
    let path = lock_path(dir);
    let opened = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

/// Whether a supervisor looks after the devnet in the folder.
pub(super) fn is_supervised(dir: &Path) -> bool {
    let Ok(file) = File::open(lock_path(dir)) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

async fn lock(dir: &Path) -> Result<File> {
    let file = open_lock(dir)?;
    let end = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Members of a supervisor that has gone hold it for a moment each.
            Err(TryLockError::WouldBlock) if Instant::now() < end => sleep(Duration::from_millis(50)).await,
            Err(TryLockError::WouldBlock) => bail!("the devnet in {} runs already", dir.display()),
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the folder"),
        }
    }
}

/// Runs a devnet in the folder until SIGTERM or SIGINT.
///
/// # Errors
/// When the folder holds another devnet or one that runs already, or a member does not come up.
pub async fn run(dir: &Path, options: &Options) -> Result<()> {
    let mut stop = Box::pin(stop_signal()?);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make folder {}", dir.display()))?;
    let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
    let _lock = lock(&dir).await?;
    let program = chain::choose(&dir, options)?;
    let kind = if program.is_some() { Kind::Anvil } else { Kind::None };
    let plan = Plan::prepare(&dir, &Options { chain: Some(kind), ..options.clone() })?;
    let members = plan.members(&dir);
    // They end with this process: nothing else leads to the members from another region.
    let _ways = Ways::lay(&plan, &members).await?;
    let mut chain = None;
    let outcome = tokio::select! {
        started = start_all(&dir, &plan, &members, program, &mut chain) => match started {
            Ok(()) => {
                println!("{}", welcome(&dir, &plan, &members));
                Ok(stop.as_mut().await)
            }
            Err(error) => Err(error),
        },
        signal = stop.as_mut() => Ok(signal),
    };
    if let Ok(signal) = &outcome {
        println!("{signal}: stopping");
    }
    let stopped = stop_all(&members).await;
    if let Some(chain) = chain {
        chain.stop().await;
    }
    stopped?;
    outcome.map(|_| println!("stopped"))
}

async fn start_all(
    dir: &Path,
    plan: &Plan,
    members: &[Member],
    program: Option<PathBuf>,
    chain: &mut Option<Chain>,
) -> Result<()> {
    if let (Some(program), Some(plan_of_chain)) = (program, &plan.chain) {
        *chain = Some(Chain::start(dir, program, plan, plan_of_chain).await?);
    }
    let lock = lock_path(dir);
    try_join_all(members.iter().map(|member| async {
        if let Some(pid) = process::running(member) {
            println!("{} is running (pid {pid})", member.name);
            return Ok(());
        }
        let mut child = process::spawn(member, Some(&lock))?;
        process::until_serving(member, &mut child, START_WITHIN).await?;
        tokio::spawn(report_end(member.name.clone(), child));
        Ok(())
    }))
    .await
    .map(|_: Vec<()>| ())
}

/// Says when a member ends, and takes its place in the table of processes away.
async fn report_end(name: String, mut child: Child) {
    if let Ok(status) = child.wait().await {
        println!("{name} ended ({status})");
    }
}

/// Stops gateways, then replicas, whoever started them.
async fn stop_all(members: &[Member]) -> Result<()> {
    let (gateways, replicas): (Vec<&Member>, Vec<&Member>) =
        members.iter().partition(|m| m.role == "gateway");
    for group in [gateways, replicas] {
        let stopped: Vec<Result<()>> = join_all(group.into_iter().map(stop_one)).await;
        stopped.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

async fn stop_one(member: &Member) -> Result<()> {
    let Some(pid) = process::running(member) else { return Ok(()) };
    // It may have ended since.
    let _ = process::signal(pid, Signal::SIGTERM);
    if process::gone(member, STOP_WITHIN).await {
        return Ok(());
    }
    println!("{} does not stop: killing it", member.name);
    let _ = process::signal(pid, Signal::SIGKILL);
    if !process::gone(member, GONE_WITHIN).await {
        bail!("{} (pid {pid}) does not end", member.name);
    }
    Ok(())
}

fn welcome(dir: &Path, plan: &Plan, members: &[Member]) -> String {
    let mut out = format!(
        "devnet in {}: regions {}, replicas {}, gateways {}; a certificate needs {} complete regions\n",
        dir.display(),
        plan.regions.len(),
        plan.regions.len() * usize::from(plan.replicas_per_region),
        plan.gateways,
        plan.min_copies,
    );
    for member in members {
        out.push_str(&format!("  {:<20} {:<28} http://{}\n", member.name, member.endpoint(), member.http));
    }
    if let Some(chain) = &plan.chain {
        out.push_str(&format!(
            "  {:<20} {:<28} chain id {}, contract {}\n",
            "chain",
            chain.url(),
            chain.chain_id,
            chain.contract
        ));
    }
    if let Some(wan) = &plan.wan {
        out.push_str(&wan.tell(dir, plan));
    }
    let victim = members.last().map_or("", |m| m.name.as_str());
    out.push_str("type next:\n");
    for line in environment(dir, plan, members).lines() {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(&format!(
        "  da put FILE\n  \
         da-node devnet kill --dir {dir} {victim}\n  \
         da-node devnet status --dir {dir}\n\
         ready; Ctrl-C stops everything",
        dir = dir.display(),
    ));
    out
}

/// What `da` takes from its environment to find the network.
fn environment(dir: &Path, plan: &Plan, members: &[Member]) -> String {
    let gateways: Vec<_> = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.role == "gateway")
        .map(|(number, member)| wan::endpoint(plan, members.len(), number, member))
        .collect();
    let committee = match &plan.chain {
        None => format!("export MERIDIAN_COMMITTEE={}\n", committee_path(dir).display()),
        // The newest block will do on a chain of one's own.
        Some(chain) => format!(
            "export MERIDIAN_CHAIN={} MERIDIAN_CONTRACT={} MERIDIAN_SETTLED=0\n",
            chain.url(),
            chain.contract
        ),
    };
    let ca =
        if plan.tls { format!("export MERIDIAN_CA={}\n", ca_path(dir).display()) } else { String::new() };
    format!("export MERIDIAN_GATEWAY={}\n{committee}{ca}", gateways.join(","))
}
