//! The command line of `da-node`.

mod committee;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use meridian_client::cli::args::TrustArgs;

use self::committee::Committee;
use crate::admin_cmd::Admin;
use crate::chain_cmd;
use crate::config::roles::{GatewayConfig, ReplicaConfig};
use crate::config::{self, Override};
use crate::server::tls;
use crate::{cpu, devnet, docs_cmd, doctor, key, probe, run, upkeep_cmd};

/// Runs gateways and replicas of Meridian, and whole networks on one machine.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "da-node", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway until SIGTERM or SIGINT.
    Gateway(Host),
    /// Run a replica until SIGTERM or SIGINT.
    Replica(Host),
    /// Make and look at key files.
    #[command(subcommand)]
    Key(Key),
    /// Make and check committee files.
    #[command(subcommand)]
    Committee(Committee),
    /// Deploy the contract, change its committee and show what is on the chain.
    #[command(subcommand)]
    Chain(chain_cmd::Command),
    /// Print and check settings.
    #[command(subcommand)]
    Config(Config),
    /// Ask a host whether it serves.
    Probe(Probe),
    /// Check the store of a replica that does not run: every value, and every row against its blob id.
    ///
    /// What is damaged is noted, and the replica repairs it from others when it runs again. A replica that runs checks its
    /// store by itself. Exit code 1 when something is damaged.
    Scrub(Scrub),
    /// Show what a replica has left to repair.
    Repair(Repair),
    /// Look at a host and its machine, whether it runs or not, and say what is wrong and what to do.
    ///
    /// Checks the settings, the key, the committee or the chain, ports, other members, the clock, the disk, open files and
    /// memory. Run it as the host's user. Exit code 1 when there is a problem.
    Doctor(Doctor),
    /// Drain a host, have its disk checked or repaired now, or change what it logs.
    Admin(Admin),
    /// Print a completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder, made when it is not there.
        folder: PathBuf,
    },
    /// Run a whole network on this machine until SIGTERM or SIGINT.
    #[command(args_conflicts_with_subcommands = true)]
    Devnet(Devnet),
}

#[derive(Debug, Args)]
struct Scrub {
    /// Folder of the replica's store [node.data_dir].
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Move a store whose index is damaged into a folder beside it, so that the replica begins anew from the others.
    #[arg(long)]
    set_aside: bool,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Repair {
    /// Where the replica answers gRPC: https://HOST:PORT or http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    replica: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// Go on until nothing is left, with a progress bar.
    #[arg(long)]
    watch: bool,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Doctor {
    /// File of settings.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A setting in place of that of the file; can be given many times.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    async fn run(self) -> Result<()> {
        let mut overrides = config::environment();
        for set in &self.set {
            overrides.push(set_flag(set)?);
        }
        let report = doctor::examine(&self.config, &overrides).await;
        print_all(&if self.json { serde_json::to_string(&report)? + "\n" } else { report.text() })?;
        let problems = report.count(doctor::Verdict::Problem);
        ensure!(problems == 0, "{problems} of {} checks found a problem", report.checks.len());
        Ok(())
    }
}

/// Prints a text, to a reader that may stop early.
fn print_all(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot print")
}

/// A setting that is given as `--set`.
fn set_flag(set: &str) -> Result<Override> {
    let (name, value) = set.split_once('=').with_context(|| format!("--set {set}: no `=` in it"))?;
    Ok(Override::flag(&format!("--set {name}"), name, value.to_owned()))
}

/// Settings that have a flag of their own; `--set` reaches all of them.
#[derive(Debug, Args)]
struct Host {
    /// File of settings; without it, defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the secret key [node.key].
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// File with the committee [node.committee].
    #[arg(long, value_name = "FILE")]
    committee: Option<String>,
    /// Folder of the store [node.data_dir].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address and port of gRPC [listen.grpc].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address and port of HTTP [listen.http].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// text or json [log.format].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Which log lines [log.filter].
    #[arg(long, value_name = "FILTER")]
    log_filter: Option<String>,
    /// Where traces and metrics go [telemetry.otlp_endpoint].
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Let ports that others than this machine reach go without TLS [listen.insecure].
    #[arg(long)]
    insecure: bool,
    /// Any other setting; can be given many times.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Stop when no other process holds a lock on this file.
    #[arg(long, value_name = "FILE", hide = true)]
    stop_when_unlocked: Option<PathBuf>,
}

impl Host {
    fn overrides(&self) -> Result<Vec<Override>> {
        let mut overrides = config::environment();
        for (flag, name, value) in [
            ("--key", "node.key", &self.key),
            ("--committee", "node.committee", &self.committee),
            ("--data-dir", "node.data_dir", &self.data_dir),
            ("--listen", "listen.grpc", &self.listen),
            ("--http", "listen.http", &self.http),
            ("--log-format", "log.format", &self.log_format),
            ("--log-filter", "log.filter", &self.log_filter),
            ("--otlp-endpoint", "telemetry.otlp_endpoint", &self.otlp_endpoint),
        ] {
            overrides.extend(value.clone().map(|value| Override::flag(flag, name, value)));
        }
        if self.insecure {
            overrides.push(Override::flag("--insecure", "listen.insecure", "true".to_owned()));
        }
        for set in &self.set {
            overrides.push(set_flag(set)?);
        }
        Ok(overrides)
    }
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Make a key and print its address. The file is readable by its owner only.
    New {
        /// File that is made; an existing one is left alone.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the address of a key.
    Show {
        /// Key file.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    Gateway,
    Replica,
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Print every setting with its default.
    Default {
        /// Kind of host.
        role: Role,
    },
    /// Check a file of settings, with the environment over it.
    Check {
        /// File of settings.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Probe {
    /// Where the host answers gRPC: https://HOST:PORT or http://HOST:PORT.
    endpoint: String,
    #[command(flatten)]
    trust: TrustArgs,
    /// Seconds to wait until it does.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

#[derive(Debug, Args)]
struct Devnet {
    #[command(subcommand)]
    command: Option<DevnetCommand>,
    /// Folder of the network; an existing network in it goes on.
    #[arg(long, value_name = "DIR", default_value = "meridian-devnet")]
    dir: PathBuf,
    /// Number of regions, or their labels with commas between [default: 5].
    #[arg(long, value_name = "N|LABELS")]
    regions: Option<String>,
    /// Replicas in each region [default: 1].
    #[arg(long, value_name = "M")]
    replicas_per_region: Option<u16>,
    /// Gateways [default: 1].
    #[arg(long, value_name = "G")]
    gateways: Option<u16>,
    /// Port of the first gateway's gRPC; the others follow it [default: 7700].
    #[arg(long, value_name = "P")]
    base_port: Option<u16>,
    /// Complete regions that a certificate needs [default: all but a third of them, rounded down].
    #[arg(long, value_name = "N")]
    min_copies: Option<u16>,
    /// Its chain [default: anvil where it is found, else none].
    #[arg(long, value_name = "KIND")]
    chain: Option<devnet::Kind>,
    /// Where anvil is [default: what the variable ANVIL names, or the first in PATH].
    #[arg(long, value_name = "FILE")]
    anvil: Option<PathBuf>,
    /// Rules of the chain, as in "paris" [default: anvil's newest].
    #[arg(long, value_name = "NAME")]
    hardfork: Option<String>,
    /// Seconds between the schedule of an epoch and its begin, at least [default: 10].
    #[arg(long, value_name = "SECONDS")]
    notice: Option<u64>,
    /// Seconds that an epoch goes on beside its successor [default: 120].
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,
    /// Lay ways between the regions that take as long as they do in the world; each gateway is in one of the regions, in
    /// turn.
    #[arg(long)]
    wan: bool,
    /// With --wan: where clients are, a region or any other place that is known [default: the first region].
    #[arg(long, value_name = "PLACE", requires = "wan")]
    wan_from: Option<String>,
    /// With --wan: megabits a second between two regions, in each direction [default: no limit].
    #[arg(long, value_name = "N", requires = "wan")]
    wan_mbps: Option<u32>,
    /// Let a new network go without TLS, for callers that do not speak it.
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, Args)]
struct OneMember {
    /// Folder of the network.
    #[arg(long, value_name = "DIR", default_value = "meridian-devnet")]
    dir: PathBuf,
    /// Which process: gateway-0, ap-northeast-0, ...
    name: String,
}

#[derive(Debug, Subcommand)]
enum DevnetCommand {
    /// Kill one process with SIGKILL.
    Kill(OneMember),
    /// Start one process and wait until it serves.
    Start(OneMember),
    /// Tell what every process does.
    Status {
        /// Folder of the network.
        #[arg(long, value_name = "DIR", default_value = "meridian-devnet")]
        dir: PathBuf,
        /// Only this process.
        name: Option<String>,
    },
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// When it cannot be done.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Gateway(host) => {
                let config = config::load::<GatewayConfig>(host.config.as_deref(), &host.overrides()?)?;
                run::gateway(config, host.stop_when_unlocked).await
            }
            Command::Replica(host) => {
                let config = config::load::<ReplicaConfig>(host.config.as_deref(), &host.overrides()?)?;
                run::replica(config, host.stop_when_unlocked).await
            }
            Command::Key(key) => key.run(),
            Command::Committee(committee) => committee.run(),
            Command::Chain(chain) => chain.run().await,
            Command::Config(config) => config.run(),
            Command::Probe(host) => {
                let trust = host.trust.trust()?;
                probe::until_serving(&host.endpoint, &trust, Duration::from_secs(host.wait)).await?;
                println!("serving");
                Ok(())
            }
            Command::Scrub(scrub) => {
                cpu::blocking(move || {
                    if scrub.set_aside {
                        upkeep_cmd::set_aside(&scrub.data_dir)
                    } else {
                        upkeep_cmd::scrub(&scrub.data_dir, scrub.json)
                    }
                })
                .await
            }
            Command::Repair(repair) => {
                let trust = repair.trust.trust()?;
                upkeep_cmd::repair(&repair.replica, trust, repair.watch, repair.json).await
            }
            Command::Doctor(doctor) => doctor.run().await,
            Command::Completions { shell } => print_all(&docs_cmd::completions(shell)),
            Command::Man { folder } => print_all(&(docs_cmd::man(&folder)?.join("\n") + "\n")),
            Command::Admin(admin) => admin.run().await,
            Command::Devnet(devnet) => devnet.run().await,
        }
    }
}

impl Key {
    fn run(self) -> Result<()> {
        let key = match self {
            Key::New { out } => key::create(&out)?,
            Key::Show { file } => key::load(&file)?,
        };
        println!("{}", key.address());
        Ok(())
    }
}

impl Config {
    fn run(self) -> Result<()> {
        match self {
            Config::Default { role: Role::Gateway } => print!("{}", config::example::<GatewayConfig>()),
            Config::Default { role: Role::Replica } => print!("{}", config::example::<ReplicaConfig>()),
            Config::Check { file } => {
                let role = config::role_of(&file)?;
                let overrides = config::environment();
                let (listen, tls) = match role {
                    "gateway" => {
                        let config = config::load::<GatewayConfig>(Some(&file), &overrides)?;
                        (config.listen, config.tls)
                    }
                    _ => {
                        let config = config::load::<ReplicaConfig>(Some(&file), &overrides)?;
                        (config.listen, config.tls)
                    }
                };
                println!("{}: ok, settings of a {role}", file.display());
                // The command line may still say it.
                if let Err(error) = tls::check(&listen, &tls) {
                    println!("it does not start with them alone: {error}");
                }
            }
        }
        Ok(())
    }
}

impl Devnet {
    async fn run(self) -> Result<()> {
        let said = match self.command {
            None => {
                let options = devnet::Options {
                    regions: self.regions,
                    replicas_per_region: self.replicas_per_region,
                    gateways: self.gateways,
                    base_port: self.base_port,
                    min_copies: self.min_copies,
                    chain: self.chain,
                    anvil: self.anvil,
                    hardfork: self.hardfork,
                    notice: self.notice,
                    grace: self.grace,
                    wan: self.wan,
                    wan_from: self.wan_from,
                    wan_mbps: self.wan_mbps,
                    insecure: self.insecure,
                };
                return devnet::run(&self.dir, &options).await;
            }
            Some(DevnetCommand::Kill(one)) => devnet::kill(&one.dir, &one.name).await?,
            Some(DevnetCommand::Start(one)) => devnet::start(&one.dir, &one.name).await?,
            Some(DevnetCommand::Status { dir, name }) => devnet::status(&dir, name.as_deref()).await?,
        };
        println!("{}", said.trim_end());
        Ok(())
    }
}
