//! The load tool: puts and gets at a network, beside what the machine could do at best.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Parser};
use meridian_client::chain::source::{CommitteeSource, FixedSource};
use meridian_client::cli::args::TrustArgs;
use meridian_client::committee_source;
use meridian_client::fetch::Reader;
use meridian_client::rpc::Channels;
use meridian_client::submit::{PutOptions, Submitter};
use meridian_integration::devnet::Devnet;
use meridian_integration::load::clients::{Task, run};
use meridian_integration::load::floor::Floor;
use meridian_integration::load::machine::Machine;
use meridian_integration::load::report::Report;
use meridian_proofs::ids::Namespace;

/// Bytes with an optional KiB or MiB.
fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.to_ascii_lowercase() {
        t if t.ends_with("mib") => (t[..t.len() - 3].to_owned(), 1 << 20),
        t if t.ends_with("kib") => (t[..t.len() - 3].to_owned(), 1 << 10),
        t => (t, 1),
    };
    let number: usize = number.trim().parse().map_err(|_| format!("{text} is not a length"))?;
    let length = number.checked_mul(unit).filter(|length| (1..=1 << 27).contains(length));
    length.ok_or_else(|| format!("{text} is not between 1 byte and 128MiB"))
}

/// Measures puts and gets on a network, beside the floor of the machine.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
#[command(group = ArgGroup::new("network").required(true).args(["devnet", "gateway"]))]
struct Arguments {
    /// Starts a network of its own, five replicas and a gateway.
    #[arg(long)]
    devnet: bool,
    /// Gateways to put through, separated by commas.
    #[arg(long, value_delimiter = ',', requires = "committee", env = "MERIDIAN_GATEWAY")]
    gateway: Vec<String>,
    /// The committee file.
    #[arg(long, env = "MERIDIAN_COMMITTEE")]
    committee: Option<PathBuf>,
    /// Payload lengths: bytes, or with KiB or MiB.
    #[arg(long, value_delimiter = ',', value_parser = bytes, default_values = ["130044", "1MiB"])]
    sizes: Vec<usize>,
    /// Clients at once, one run for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1usize])]
    clients: Vec<usize>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Reads for each write.
    #[arg(long, default_value_t = 1)]
    reads: usize,
    /// Seconds for which everything is put.
    #[arg(long, default_value_t = 3_600)]
    retention: u64,
    /// Writes JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Puts the table on this page, in the place of the last one.
    #[arg(long, value_name = "PAGE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.clients.iter().all(|clients| (1..=1_024).contains(clients)), "1 to 1024 clients");
    let mut devnet = None;
    let (submitter, reader) = if arguments.devnet {
        eprintln!("starting a network");
        let network = devnet.insert(Devnet::start(&[], &[]).await?);
        (network.submitter(), network.reader())
    } else {
        let path = arguments.committee.as_deref().context("--committee is missing")?;
        let committee = Arc::new(committee_source::load(path)?);
        let channels = Channels::new().trusting(arguments.trust.trust()?);
        let view = FixedSource::new(Arc::clone(&committee)).view();
        let submitter = Submitter::new(view, channels.clone(), arguments.gateway.clone());
        (submitter, Reader::new(committee, channels))
    };
    let reader = Arc::new(reader);
    let options = PutOptions {
        namespace: Namespace::default(),
        retention: arguments.retention,
        bind_payload_hash: false,
        expected: None,
        kzg_root: None,
    };
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let mut seed = u64::from_le_bytes(seed);
    let mut runs = Vec::new();
    for size in &arguments.sizes {
        for clients in &arguments.clients {
            let (size, clients) = (*size, *clients);
            let duration = Duration::from_secs(arguments.seconds);
            let dir = tempfile::tempdir()?;
            let path = dir.path().to_owned();
            let floor =
                tokio::task::spawn_blocking(move || Floor::measure(&path, size, clients, duration / 3))
                    .await??;
            drop(dir);
            seed = seed.wrapping_add(1 << 40);
            let task = Task { size, clients, reads_per_write: arguments.reads, duration, options, seed };
            // Once to open the connections and to measure the way to each region.
            let warm = Task { clients: 1, reads_per_write: 1, duration: Duration::ZERO, seed: !seed, ..task };
            run(&submitter, Arc::clone(&reader), Task { duration: Duration::from_millis(1), ..warm }, floor)
                .await?;
            runs.push(run(&submitter, Arc::clone(&reader), task, floor).await?);
        }
    }
    let report = Report { machine: Machine::this(), version: env!("CARGO_PKG_VERSION"), runs };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.text());
    }
    if let Some(page) = &arguments.record {
        report.record(page)?;
    }
    if let Some(mut network) = devnet {
        let status = network.stop()?;
        if !status.success() {
            bail!("the network stopped with {status}");
        }
    }
    Ok(())
}
