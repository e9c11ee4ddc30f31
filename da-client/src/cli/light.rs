//! `da light`.

use std::sync::Arc;
use std::time::Duration;

use alloy::transports::http::reqwest::Url;
use tokio::net::TcpListener;

use super::Printed;
use super::args::{LightArgs, LightStatusArgs};
use super::exit::{Exit, Problem};
use super::serving;
use super::session::Session;
use super::stop;
use super::text::{known, table};
use crate::fetch::Readers;
use crate::light::peers::Peer;
use crate::light::report::{LightCounts, LightReport, age};
use crate::light::{LightClient, LightError, Settings, default_folder, http};
use crate::time::utc;

/// Longest time for answers that are still being read when it stops.
const STOP: Duration = Duration::from_secs(5);
/// Seconds that patience may last, and requests may be apart.
const MOST_PATIENCE: u64 = 30 * 24 * 3_600;
const MOST_SPREAD: u64 = 3_600;

impl From<LightError> for Problem {
    fn from(error: LightError) -> Self {
        let next =
            "check the folder of --state: its disk, its permissions, and that no other light client uses it";
        Self::new(Exit::Local, "LIGHT_CLIENT", error, next)
    }
}

/// Follows and samples, until it is stopped or, with `--once`, until all of it is in.
pub(crate) async fn run(args: LightArgs, session: &Session) -> Result<Printed, Problem> {
    let url = |text: &String| {
        let url = Url::parse(text)
            .map_err(|error| Problem::usage(format!("{text:?}: {error}"), "check --peers"))?;
        Ok::<_, Problem>(url)
    };
    for (name, seconds, most) in
        [("--patience", args.patience, MOST_PATIENCE), ("--spread", args.spread.unwrap_or(0), MOST_SPREAD)]
    {
        if seconds > most {
            return Err(Problem::usage(format!("{name} is longer than {most} s"), "give a shorter time"));
        }
    }
    let settings = Settings {
        samples: usize::try_from(args.samples).map_err(Problem::local)?,
        folder: match args.state {
            Some(folder) => folder,
            None => default_folder()
                .ok_or_else(|| Problem::usage("this user has no folder for data", "name one with --state"))?,
        },
        at_once: usize::try_from(args.at_once).map_err(Problem::local)?,
        patience: Duration::from_secs(args.patience),
        spread: Duration::from_secs(args.spread.unwrap_or(u64::from(!args.once))),
        checkpoints: args.checkpoints,
        peers: args.peers.iter().map(url).collect::<Result<_, _>>()?,
    };
    if session.contract().await?.is_none() && !settings.checkpoints {
        return Err(Problem::usage(
            "without a chain there are no anchors to follow",
            "name one with --chain and --contract, or follow cosigned checkpoints with --checkpoints",
        ));
    }
    if args.once {
        let client = LightClient::open(session.readers().await?, settings)?;
        let is_followed = client.run_once().await?;
        return judged(&client.report().await?, is_followed);
    }
    // Before the chain is read, so that an address in use is found out at once.
    let listener = TcpListener::bind(args.http).await;
    let listener = listener.map_err(|error| {
        let next = "name another address with --http; da light status shows a light client that runs";
        Problem::new(Exit::Local, "HTTP", format!("{}: {error}", args.http), next)
    })?;
    let acceptor = serving::acceptor(&args.serving, args.http)?;
    let stop = stop::signalled()?;
    session.keep_looking();
    let source = session.source_until(&stop).await?;
    let readers = Readers::new(source.view(), session.channels().clone()).measuring(session.nearest());
    let client = Arc::new(LightClient::open(readers, settings)?);
    let address = listener.local_addr().map_err(Problem::local)?;
    tracing::info!(http = %address, folder = %client.settings().folder.display(), "light client runs");
    let scheme = serving::scheme(acceptor.as_ref());
    eprintln!("da: what is known is shown at {scheme}://{address}/status and by da light status");
    let pages = tokio::spawn(http::serve(listener, acceptor, Arc::clone(&client), stop.clone()));
    let outcome = client.run(&stop).await;
    stop.cancel();
    // Whoever does not read an answer to its end has had the time.
    if let Ok(pages) = tokio::time::timeout(STOP, pages).await {
        pages.map_err(Problem::local)?.map_err(Problem::local)?;
    }
    outcome?;
    let report = client.report().await?;
    Printed::new(&report, text(&report))
}

/// Shows what a light client that runs knows.
pub(crate) async fn status(args: &LightStatusArgs, session: &Session) -> Result<Printed, Problem> {
    let url = Url::parse(&args.http).map_err(|error| Problem::usage(error, "check --http"))?;
    let silent = |error: String| {
        let message = format!("{}: {error}", args.http);
        let next = "start one with da light, or name the address of its HTTP port with --http";
        Problem::new(Exit::Unavailable, "LIGHT_CLIENT_UNREACHABLE", message, next)
    };
    let peer = Peer::new(url, session.channels().trust()).map_err(silent)?;
    let report: LightReport = peer.get("status").await.map_err(silent)?;
    Printed::new(&report, text(&report))
}

/// A report, and what is wrong decides how the program ends.
fn judged(report: &LightReport, is_followed: bool) -> Result<Printed, Problem> {
    let printed = Printed::new(report, text(report))?;
    let LightCounts { pending, withheld, inconsistent, .. } = report.blobs;
    let is_contradicted = report.logs.iter().any(|log| log.state == "contradicts");
    Ok(if inconsistent > 0 || !report.evidence.is_empty() || is_contradicted {
        let next = "do not rely on what is named; da evidence verify checks the files in the state's folder";
        printed.but(Problem::new(Exit::Verification, "LIGHT_FAULTS", &report.verdict, next))
    } else if pending + withheld > 0 || report.logs.iter().any(|log| log.state != "followed") {
        let next = "run it again: what was drawn stays drawn; da regions shows who answers";
        printed.but(Problem::new(Exit::Unavailable, "SAMPLES_MISSING", &report.verdict, next))
    } else if !is_followed {
        let message =
            format!("too few answer to tell how far the logs go; of what is known: {}", report.verdict);
        let next = "try again in a moment; da regions shows who answers";
        printed.but(Problem::new(Exit::Unavailable, "LOGS_UNKNOWN", message, next))
    } else {
        printed
    })
}

fn text(report: &LightReport) -> String {
    let logs = report.logs.iter().map(|log| {
        let anchored = match (log.block, log.timestamp) {
            (Some(block), Some(_)) => format!("block {block}"),
            (None, Some(time)) => format!("checkpoint of {}", utc(time)),
            _ => known::<u64>(None),
        };
        vec![
            log.log.clone(),
            log.state.clone(),
            format!("{} of {}", log.size, log.head_size),
            anchored,
            log.since.map_or_else(|| known::<u64>(None), |since| format!("{} s", age(since))),
        ]
    });
    let blobs = &report.blobs;
    let counts =
        [blobs.sampled, blobs.exact, blobs.pending, blobs.withheld, blobs.inconsistent, blobs.missed];
    let trouble = report.trouble.iter().map(|blob| {
        let faults = blob.faults.iter();
        let faults = faults.map(|fault| format!("{} {}: {}", fault.region, fault.kind, fault.message));
        let faults = blob.problem.iter().cloned().chain(faults);
        vec![
            blob.blob_id.clone(),
            blob.standing.clone(),
            format!("{} of {}", blob.verified, blob.drawn),
            format!("{:.1e} / {:.1e}", blob.bound_unavailable, blob.bound_misencoded),
            blob.asked.map_or_else(|| known::<u64>(None), utc),
            faults.collect::<Vec<_>>().join("\n"),
        ]
    });
    let mut text = format!(
        "{}\n{}",
        table(&["log", "state", "entries", "under", "missing for"], logs),
        table(
            &["sampled", "exact", "pending", "withheld", "inconsistent", "missed"],
            [counts.map(|count| count.to_string()).to_vec()]
        )
    );
    if !report.trouble.is_empty() {
        let header = ["blob", "standing", "samples", "unavailable / misencoded", "asked since", "who"];
        text.push_str(&format!("\n{}", table(&header, trouble)));
    }
    for file in &report.evidence {
        text.push_str(&format!("\nevidence: {file}"));
    }
    format!("{text}\n{}", report.verdict)
}
