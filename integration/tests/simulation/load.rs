//! What clients do meanwhile: puts and reads, whose answers are judged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use meridian_client::Silent;
use meridian_client::fetch::{FaultKind, Reader};
use meridian_client::submit::{Failure, PutError, PutOptions, Submitter};
use meridian_integration::network;
use meridian_integration::random::Random;
use meridian_proto::error::{Class, Reason};
use tokio::time::sleep;

use crate::net::channels;
use crate::oracle::{Acknowledged, Draft};
use crate::world::{Host, World, now, sim_time};

/// What a put may take whatever happens: what the client library gives it, and a moment.
pub(crate) const PUT_LIMIT: Duration = Duration::from_secs(61);

/// What a read may take before a client gives it up.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// Longer than every network lives, so that a repeated put finds its earlier entry.
const RETENTION: u64 = 7_200;

/// A put that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    /// The index of its entry, or why there is none.
    pub(crate) result: Result<u64, Reason>,
}

/// Puts and reads as long as the network lives, except while everybody is to be quiet.
pub(crate) async fn run(world: Arc<World>, seed: u64) -> turmoil::Result {
    let mut random = Random::new(seed);
    let channels = channels();
    let gateway = vec![Host::Gateway.endpoint()];
    let submitter = Submitter::new(world.view.subscribe(), channels.clone(), gateway).with_clock(now);
    let reader = Reader::new(Arc::clone(&world.committee), channels);
    let mut again = None;
    loop {
        // All choices of a round are made first, so that they do not depend on what comes of it.
        let (draft, second) = (draw(&mut random), draw(&mut random));
        let (repeats, both, which) = (!random.one_in(3), random.below(8), random.number());
        let pause = Duration::from_millis(100 + random.below(1_900));
        if world.is_quiet() {
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        let draft = again.take().unwrap_or(draft);
        let put = async |draft| put(&world, &submitter, draft).await;
        let is_certified = match both {
            // The same payload twice at once, and two different ones.
            0 => futures::join!(put(draft), put(draft)).0,
            1 => futures::join!(put(draft), put(second)).0,
            _ => put(draft).await,
        };
        again = (!is_certified && repeats).then_some(draft);
        if which % 4 == 0 {
            read(&world, &reader, which).await;
        }
        sleep(pause).await;
    }
}

/// Mostly short ones, so that a network takes seconds.
fn draw(random: &mut Random) -> Draft {
    let longest = match random.below(8) {
        0 => 100_000,
        1..4 => 10_000,
        _ => 500,
    };
    Draft { length: 1 + random.place(longest), seed: random.number() }
}

/// One put. Says whether it got its certificate.
async fn put(world: &World, submitter: &Submitter, draft: Draft) -> bool {
    let options = PutOptions { retention: RETENTION, ..network::options() };
    let (begun, underway) = (sim_time(), world.put_begins());
    let answer = submitter.put(draft.payload(), &options, &Silent).await;
    drop(underway);
    let judged = (|| {
        let took = sim_time() - begun;
        ensure!(took <= PUT_LIMIT, "a put took {took:?}: {answer:?}");
        match answer {
            Ok(receipt) => {
                let index = receipt.certificate.index;
                world.state().oracle.certified(draft, receipt)?;
                Ok(Ok(index))
            }
            Err(error) => refusal(&error).map(Err),
        }
    })();
    match judged {
        Ok(result) => {
            let is_certified = result.is_ok();
            world.state().puts.push(Put { begun, ended: sim_time(), result });
            is_certified
        }
        Err(fault) => {
            world.fail(fault);
            false
        }
    }
}

/// Why a put was refused, where that was "later": nothing that is done to this network may make it anything else.
fn refusal(error: &PutError) -> Result<Reason> {
    let PutError::Failed(attempts) = error else { bail!("a put failed: {error}") };
    let last = attempts.last().context("a put failed without a reason")?;
    let Failure::Call(call) = &last.failure else { bail!("a put failed: {last}") };
    let lasting = matches!(call.reason, Reason::LogRetired | Reason::StoreDamaged | Reason::StoreFailed);
    ensure!(
        matches!(call.class(), Class::Unavailable | Class::Overloaded) && !lasting,
        "a put failed: {last}"
    );
    Ok(call.reason)
}

/// Reads something that was certified: it comes, or it cannot be had now.
async fn read(world: &World, reader: &Reader, which: u64) {
    let blob = {
        let state = world.state();
        let known = &state.oracle.acknowledged;
        let Some(place) = (which / 4).checked_rem(known.len() as u64) else { return };
        Arc::clone(&known[usize::try_from(place).unwrap_or(0)])
    };
    match tokio::time::timeout(READ_LIMIT, judged_read(reader, &blob)).await {
        Ok(Ok(came)) => world.state().reads += u64::from(came),
        Ok(Err(fault)) => world.fail(fault),
        Err(_) => {}
    }
}

/// Says whether a blob came.
async fn judged_read(reader: &Reader, blob: &Acknowledged) -> Result<bool> {
    let id = blob.certificate.id();
    let faults = match reader.payload(id, &Silent).await {
        Ok(fetched) => {
            ensure!(fetched.payload == blob.draft.payload(), "blob {id} was read with other bytes");
            (true, fetched.faults)
        }
        Err(error) => {
            // Not "unknown" above all: that is a claim that the blob is nowhere.
            let passing = matches!(error.reason().class(), Class::Unavailable | Class::Overloaded);
            ensure!(passing, "a read of blob {id} failed: {error} ({})", error.reason());
            (false, error.faults().to_vec())
        }
    };
    let wrong = faults.1.iter().find(|fault| fault.kind == FaultKind::Wrong);
    ensure!(wrong.is_none(), "blob {id}: {wrong:?}");
    Ok(faults.0)
}
