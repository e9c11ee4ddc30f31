//! A network under faults, in simulated time: five regions and a gateway, the production code of both, with the real
//! client, over a network that is simulated. Whatever is done to it, it never signs two logs nor loses what it has
//! certified; it goes on as soon as a quorum is connected; and nothing is left of it all, neither tasks nor memory.
//!
//! Each seed is a network of its own. From the seed follow payloads and pauses, what is done to which host or link and
//! when, by how much clocks differ, and how long messages take. The store is the real one, in a folder in memory. Its
//! calls and the codec run on threads, and simulated time stands still for them; so which of two that run at once ends
//! first is up to the machine, and so are the order in which `select!` looks at what is ready at one instant, and that of
//! hash maps. Two runs of a seed do the same at the same simulated times, and certify nearly the same: puts of one instant
//! may change places in the log, and links that lose messages lose others. So a seed that has failed may have to be run a
//! few times. `MERIDIAN_SEED` is the only one to run, `MERIDIAN_SEEDS` how many, and `MERIDIAN_TRACE=1` shows what was done
//! and what came of it.
//!
//! A crashed host loses its tasks and connections at any moment, but no write that it had begun: that `kill` looks at.

mod faults;
mod load;
mod net;
mod oracle;
mod run;
mod tap;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use meridian_integration::knobs;

/// Networks without `MERIDIAN_SEEDS`.
const SEEDS: u64 = 10;

/// Networks that are simulated at a time: each takes about one core.
const AT_A_TIME: usize = 2;

/// Tasks that have panicked: nobody may be there to hear of it.
static PANICS: AtomicU64 = AtomicU64::new(0);

#[test]
fn a_network_keeps_what_it_certified_and_goes_on_with_a_quorum() -> Result<()> {
    let seeds: Vec<u64> = match knobs::number("MERIDIAN_SEED")? {
        Some(seed) => vec![seed],
        None => (0..knobs::number("MERIDIAN_SEEDS")?.unwrap_or(SEEDS)).collect(),
    };
    let shows_trace = knobs::number("MERIDIAN_TRACE")?.is_some();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        default(panic);
    }));
    let (seeds, failed) = (Mutex::new(seeds.into_iter()), Mutex::new(Vec::new()));
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(seed) = next() {
            let (begun, run) = (Instant::now(), run::run(seed));
            if shows_trace {
                run.trace.iter().for_each(|line| println!("{line}"));
            }
            println!("MERIDIAN_SEED={seed}: {run}; {} ms", begun.elapsed().as_millis());
            if let Err(fault) = &run.outcome {
                println!("MERIDIAN_SEED={seed} failed: {fault:#}");
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let panics = PANICS.load(Ordering::Relaxed);
    ensure!(failed.is_empty() && panics == 0, "seeds {failed:?} failed, and {panics} tasks panicked");
    Ok(())
}
