//! Kills replicas of the Meridian network in turn, and its gateway once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use meridian_integration::devnet::Devnet;
use meridian_node::devnet::Plan;
use tokio::time::{Instant, sleep};

/// The gateway's name in a devnet.
const GATEWAY: &str = "gateway-0";
/// For how long it is away: longer than a sidecar is patient by default, so that the batcher is told to try again.
pub(crate) const GATEWAY_AWAY: Duration = Duration::from_secs(30);

/// What was done, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Replicas killed and started again.
    pub(crate) replicas: usize,
    /// While the gateway was not there.
    pub(crate) gateway: Option<(Instant, Instant)>,
}

/// Who is killed together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Replicas(Vec<String>),
    Gateway,
}

/// Kills one turn after the other within that time: in each, as many regions as a certificate can do without, and in the
/// middle the gateway.
///
/// # Errors
/// When somebody cannot be killed or does not come back.
pub(crate) async fn inject(devnet: &Arc<Devnet>, time: Duration) -> Result<Faults> {
    let folder = devnet.folder();
    let plan = Plan::load(&folder)?;
    let replicas: Vec<String> = plan
        .members(&folder)
        .into_iter()
        .filter(|member| member.role == "replica")
        .map(|member| member.name)
        .collect();
    let spare = plan.regions.len() - usize::from(plan.min_copies);
    let turns = turns(&replicas, spare * usize::from(plan.replicas_per_region));
    // Before each turn and after the last, all is well for half as long as replicas are away.
    let parts = u32::try_from(3 * turns.len())?;
    let part = time.saturating_sub(GATEWAY_AWAY) / parts;
    let mut faults = Faults::default();
    for turn in &turns {
        sleep(part).await;
        match turn {
            Turn::Replicas(names) => {
                println!("   {} killed", names.join(", "));
                each(devnet, names, Devnet::kill).await?;
                sleep(part * 2).await;
                each(devnet, names, Devnet::revive).await?;
                faults.replicas += names.len();
            }
            Turn::Gateway => {
                println!("   the gateway killed, for {} s", GATEWAY_AWAY.as_secs());
                let (names, killed) = ([GATEWAY.to_owned()], Instant::now());
                each(devnet, &names, Devnet::kill).await?;
                sleep(GATEWAY_AWAY).await;
                each(devnet, &names, Devnet::revive).await?;
                faults.gateway = Some((killed, Instant::now()));
            }
        }
    }
    Ok(faults)
}

fn turns(replicas: &[String], at_once: usize) -> Vec<Turn> {
    let mut turns: Vec<Turn> =
        replicas.chunks(at_once.max(1)).map(|names| Turn::Replicas(names.to_vec())).collect();
    if at_once == 0 {
        turns.clear();
    }
    turns.insert(turns.len() / 2, Turn::Gateway);
    turns
}

/// Does the same with each member; the devnet's commands wait until it is done.
async fn each(devnet: &Arc<Devnet>, names: &[String], what: fn(&Devnet, &str) -> Result<()>) -> Result<()> {
    for name in names {
        let (devnet, member) = (Arc::clone(devnet), name.clone());
        let done = tokio::task::spawn_blocking(move || what(&devnet, &member)).await;
        done?.with_context(|| format!("a fault at {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_has_its_turn_amid_the_replicas() {
        let names: Vec<String> = (0..5).map(|number| format!("replica-{number}")).collect();
        let with_one = turns(&names, 1);
        assert_eq!((with_one.len(), &with_one[2]), (6, &Turn::Gateway));
        assert_eq!(turns(&names, 2).len(), 4);
        assert_eq!(turns(&names, 0), [Turn::Gateway]);
    }
}
