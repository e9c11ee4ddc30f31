//! The command line.

mod keys;
mod parse;
mod serving;
mod token;
mod trust;

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use meridian_proofs::Address;
use meridian_proofs::ids::{BlobId, Namespace, PayloadHash};

use super::exit::Exit;
use crate::chain::settled::Settled;
use crate::nearest::Position;

pub use self::keys::{
    KeyArgs, KeyCommand, KeyNewArgs, KeyShowArgs, LimitArgs, NamespaceAllowArgs, NamespaceCommand,
    NamespaceCreateArgs, NamespaceDenyArgs, NamespaceListArgs,
};
use self::parse::{duration, endpoint, namespace, plain_endpoint, range, since};
pub use self::serving::{AltDaArgs, AltDaCommand, FailoverArg, LightArgs, LightCommand, LightStatusArgs};
pub use self::token::{TokenCommand, TokenFileArgs, TokenNewArgs, TokenRevokeArgs};
pub use self::trust::{ServingArgs, TrustArgs};

/// Default retention in seconds: 14 days.
pub const DEFAULT_RETENTION: u64 = 14 * 24 * 3600;

/// Data availability for rollups: put blobs, read them back, sample them, check their certificates.
///
/// Whatever a gateway or replica answers is checked here before it is printed or written.
#[derive(Parser, Debug)]
#[command(name = "da", version, propagate_version = true, after_help = exit_codes(), max_term_width = 110)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Gateways in the order of preference: https://HOST:PORT or http://HOST:PORT, separated by commas. By default those of the
    /// committee
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_GATEWAY",
        value_delimiter = ',',
        value_name = "URL",
        value_parser = endpoint,
        hide_env_values = true
    )]
    pub gateway: Vec<String>,
    /// Committee file. Without it the committee of the first gateway in reach is pinned in the user's config folder
    #[arg(long, global = true, env = "MERIDIAN_COMMITTEE", value_name = "FILE", hide_env_values = true)]
    pub committee: Option<PathBuf>,
    /// JSON-RPC endpoints of the chain, separated by commas: the committees come from its contract then
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_CHAIN",
        value_delimiter = ',',
        value_name = "URL",
        hide_env_values = true
    )]
    pub chain: Vec<String>,
    /// The contract on the chain
    #[arg(long, global = true, env = "MERIDIAN_CONTRACT", value_name = "ADDRESS", hide_env_values = true)]
    pub contract: Option<Address>,
    /// Chain id that every endpoint must have [default: that of the first endpoint that answers]
    #[arg(long, global = true, env = "MERIDIAN_CHAIN_ID", value_name = "ID", hide_env_values = true)]
    pub chain_id: Option<u64>,
    /// Block of the contract's deployment [default: looked for]
    #[arg(long, global = true, env = "MERIDIAN_FROM_BLOCK", value_name = "NUMBER", hide_env_values = true)]
    pub from_block: Option<u64>,
    /// Which block of the chain counts: finalized, or a number of confirmations
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_SETTLED",
        value_name = "BLOCK",
        default_value_t = Settled::Finalized,
        hide_env_values = true
    )]
    pub settled: Settled,
    /// Where this machine is, in degrees north and east: which region is asked first before anything was measured
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_NEAR",
        value_name = "LAT,LON",
        allow_hyphen_values = true,
        hide_env_values = true
    )]
    pub near: Option<Position>,
    /// Whom endpoints have to convince.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Print one JSON object on standard output; its keys are in docs/cli.md
    #[arg(long, global = true)]
    pub json: bool,
    /// Send traces to this OTLP endpoint over gRPC
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        value_parser = plain_endpoint,
        hide_env_values = true
    )]
    pub otlp: Option<String>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Put a payload and get its certificate
    Put(PutArgs),
    /// Compute the blob id of a payload, offline
    Id(IdArgs),
    /// Read a payload back from the nearest region that answers
    Get(GetArgs),
    /// Open bytes of a blob with a KZG binding, for EIP-4844's point-evaluation precompile
    Open(OpenArgs),
    /// Show, verify or fetch a certificate
    #[command(subcommand)]
    Cert(CertCommand),
    /// Sample random rows of a blob
    Sample(SampleArgs),
    /// Audit the copies: whether every region holds the same, checked against the anchors, and who is at fault
    Audit(AuditArgs),
    /// Show the way of a blob: who put it, who vouched for it, where it is anchored, how its copies stand
    Trace(TraceArgs),
    /// Show the regions: distance, seats that answer, logs
    Regions,
    /// Show what gateways and replicas are doing
    Status,
    /// Show the epochs and their committees
    Committee,
    /// List, enumerate or verify logs
    #[command(subcommand)]
    Log(LogCommand),
    /// Follow all logs, sample every blob, and report an honest confidence, until SIGTERM or SIGINT
    #[command(args_conflicts_with_subcommands = true)]
    Light(LightArgs),
    /// Serve OP Stack batchers and nodes in Alt-DA mode
    #[command(subcommand)]
    Altda(AltDaCommand),
    /// Check or import evidence that a gateway signed two logs
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Make keys that sign puts, or show whose they are
    #[command(subcommand)]
    Key(KeyCommand),
    /// Say who may put under which namespace: makes and changes the file that a gateway's access.namespaces names
    #[command(subcommand)]
    Namespace(NamespaceCommand),
    /// Make, list and revoke the tokens of those who may put through da altda serve
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print a completion script
    Completions(CompletionsArgs),
    /// Write the manual pages into a folder
    Man(ManArgs),
}

/// Arguments of `da put`.
#[derive(Args, Debug)]
pub struct PutArgs {
    /// File with the payload, - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Whose blob it is: 32 bytes in hex [default: zero]
    #[arg(long, value_name = "HEX", value_parser = namespace)]
    pub namespace: Option<Namespace>,
    /// How long to keep it: seconds, or like 14d, 12h, 1d12h [default: 14d, or the committee's limit next to it]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub retention: Option<u64>,
    /// Have the entry carry keccak256 of the payload, so that the blob can be found by it
    #[arg(long)]
    pub bind_payload_hash: bool,
    /// Blob id that the payload must have; nothing is sent when it has another
    #[arg(long, value_name = "ID")]
    pub expect: Option<BlobId>,
    /// Bind the blob to KZG commitments of its payload: some 80 ms of a core for each 124 KiB, and another blob id
    #[arg(long)]
    pub kzg: bool,
    /// Write the certificate into this file
    #[arg(long, value_name = "FILE")]
    pub cert_out: Option<PathBuf>,
    /// Who signs.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// Arguments of `da id`.
#[derive(Args, Debug)]
pub struct IdArgs {
    /// File with the payload, - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// The id under which da put --kzg puts it, and its KZG root
    #[arg(long)]
    pub kzg: bool,
}

/// Arguments of `da get`.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// Blob id, or a file with its certificate
    #[arg(value_name = "ID|CERT", required_unless_present = "alias")]
    pub blob: Option<String>,
    /// Find the blob by keccak256 of its payload instead
    #[arg(long, value_name = "HASH", conflicts_with = "blob")]
    pub alias: Option<PayloadHash>,
    /// Where to write the payload, once all of it is right; - for standard output
    #[arg(long, short, value_name = "FILE|-", default_value = "-")]
    pub out: PathBuf,
    /// Only these bytes of the payload, from A up to and without B: fetches and checks only the rows that cover them
    #[arg(long, value_name = "A..B", value_parser = range, conflicts_with = "alias")]
    pub range: Option<Range<u64>>,
    /// Write the payload without checking the KZG root that the header names
    #[arg(long)]
    pub ignore_kzg: bool,
    /// Write bytes as soon as they are verified, in order, to standard output. Without it nothing is written before all of
    /// it is right; with it what was written before an error is right all the same
    #[arg(long, conflicts_with_all = ["alias", "range", "out"])]
    pub stream: bool,
}

/// Arguments of `da open`.
#[derive(Args, Debug)]
pub struct OpenArgs {
    /// Blob id, or a file with its certificate
    #[arg(value_name = "ID|CERT")]
    pub blob: String,
    /// Bytes of the payload, from A up to and without B: at most 256 elements of 31 bytes, some 80 ms of a core each
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub range: Range<u64>,
    /// Take the payload from this file, without any network; - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub payload: Option<PathBuf>,
}

/// The commands about certificates.
#[derive(Subcommand, Debug)]
pub enum CertCommand {
    /// Show what a certificate says. Checks it too when a committee is at hand, without any network
    Show(CertFile),
    /// Check a certificate against the committee, without any network; with --chain also by the contract
    Verify(CertVerifyArgs),
    /// Fetch the fullest certificate of a blob from gateways or, when they are gone, from replicas
    Fetch(CertFetchArgs),
}

/// A certificate in a file.
#[derive(Args, Debug)]
pub struct CertFile {
    /// File with the certificate: its bytes, or their hex; - for standard input
    #[arg(value_name = "CERT|-")]
    pub file: PathBuf,
}

/// Arguments of `da cert verify`.
#[derive(Args, Debug)]
pub struct CertVerifyArgs {
    /// Which certificate.
    #[command(flatten)]
    pub certificate: CertFile,
    /// Check too that it is of this payload, KZG binding included; - for standard input
    #[arg(long, value_name = "FILE|-")]
    pub payload: Option<PathBuf>,
    /// Check too that it does not expire before this time, in unix seconds
    #[arg(long, value_name = "TIME")]
    pub until: Option<u64>,
}

/// Arguments of `da cert fetch`.
#[derive(Args, Debug)]
pub struct CertFetchArgs {
    /// Blob id, or a file with a certificate to make fuller
    #[arg(value_name = "ID|CERT")]
    pub blob: String,
    /// Only an entry of this namespace: 32 bytes in hex
    #[arg(long, value_name = "HEX", value_parser = namespace)]
    pub namespace: Option<Namespace>,
    /// Write the certificate into this file
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `da sample`.
#[derive(Args, Debug)]
pub struct SampleArgs {
    /// Blob id, or a file with its certificate
    #[arg(value_name = "ID|CERT")]
    pub blob: String,
    /// How many rows to draw
    #[arg(short = 'n', long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub samples: u32,
}

/// Arguments of `da audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Entries made since then: unix seconds, or a time back like 2d
    #[arg(long, value_name = "TIME", value_parser = since, default_value = "24h", conflicts_with = "blob")]
    pub since: Since,
    /// Only this blob, whenever it was put: its id, or a file with its certificate
    #[arg(long, value_name = "ID|CERT")]
    pub blob: Option<String>,
    /// Ask for all rows of all blobs, and rebuild each payload from each region alone
    #[arg(long)]
    pub deep: bool,
    /// How many rows to draw of each replica and blob. Of 8 blobs all rows are asked for anyway
    #[arg(short = 'n', long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub samples: u32,
    /// Write a page with a map into this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Arguments of `da trace`.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// Blob id, or a file with its certificate
    #[arg(value_name = "ID|CERT")]
    pub blob: String,
    /// How many rows of each replica to look at
    #[arg(short = 'n', long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub samples: u32,
}

/// Since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// Unix seconds.
    At(u64),
    /// So many seconds ago.
    Back(u64),
}

impl Since {
    /// Unix seconds.
    #[must_use]
    pub fn unix(self, now: u64) -> u64 {
        match self {
            Self::At(time) => time,
            Self::Back(seconds) => now.saturating_sub(seconds),
        }
    }
}

/// The commands about logs.
#[derive(Subcommand, Debug)]
pub enum LogCommand {
    /// List the logs that a node knows
    List(LogListArgs),
    /// Print entries of a log
    Entries(LogEntriesArgs),
    /// Enumerate a log, recompute its root and compare it with the signed checkpoint
    Verify(LogArgs),
}

/// Arguments of `da log list`.
#[derive(Args, Debug)]
pub struct LogListArgs {
    /// Node to ask: https://HOST:PORT or http://HOST:PORT of a replica or gateway [default: the nearest replica that answers]
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    pub from: Option<String>,
}

/// Arguments that name a log.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// Address of the gateway whose log it is. May be left out when the node knows only one
    #[arg(long, value_name = "ADDRESS")]
    pub log: Option<Address>,
    /// Node to ask: https://HOST:PORT or http://HOST:PORT of a replica or gateway [default: the nearest replica that answers]
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    pub from: Option<String>,
}

/// Arguments of `da log entries`.
#[derive(Args, Debug)]
pub struct LogEntriesArgs {
    /// Which log.
    #[command(flatten)]
    pub log: LogArgs,
    /// Index of the first entry
    #[arg(long, default_value_t = 0)]
    pub start: u64,
    /// Most entries to print
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub count: u64,
}

/// The commands about evidence.
#[derive(Subcommand, Debug)]
pub enum EvidenceCommand {
    /// Check a file of evidence and tell whom it convicts, without any network
    Verify(EvidenceFile),
    /// Check a file of evidence and put it beside what a light client has found itself
    Import(EvidenceImportArgs),
}

/// A file of evidence.
#[derive(Args, Debug)]
pub struct EvidenceFile {
    /// File with the evidence; - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
}

/// Arguments of `da evidence import`.
#[derive(Args, Debug)]
pub struct EvidenceImportArgs {
    /// Which evidence.
    #[command(flatten)]
    pub file: EvidenceFile,
    /// Folder of the light client's state [default: meridian/light among the user's data]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Arguments of `da completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// A shell with completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// elvish
    Elvish,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
    /// zsh
    Zsh,
}

/// Arguments of `da man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The folder, made when it is not there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// The exit codes as a text.
fn exit_codes() -> String {
    let lines: Vec<String> =
        Exit::ALL.iter().map(|exit| format!("  {}  {}", exit.code(), exit.meaning())).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
