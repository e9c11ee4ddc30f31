//! Arguments of the commands that run until they are stopped.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use meridian_proofs::ids::Namespace;
use meridian_proofs::shape::MAX_PAYLOAD;

use super::parse::{duration, endpoint, namespace};
use super::{KeyArgs, ServingArgs};
use crate::altda::KECCAK_LIMIT;

/// Arguments of `da light`.
#[derive(Args, Debug)]
pub struct LightArgs {
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<LightCommand>,
    /// Rows to draw of each blob; one with no more data rows is checked whole
    #[arg(short = 'n', long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub samples: u32,
    /// Folder of the state [default: meridian/light among the user's data]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where to show what is known over HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7790")]
    pub http: SocketAddr,
    /// Catch up, sample what is there, print what is known and end
    #[arg(long)]
    pub once: bool,
    /// How long everybody is asked for a row or an entry before it is called withheld: seconds, or like 5m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60")]
    pub patience: u64,
    /// Longest time between the requests for the rows of one blob: seconds [default: 1, with --once 0]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub spread: Option<u64>,
    /// Blobs to sample at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub at_once: u32,
    /// Follow checkpoints that enough regions cosigned too, between anchors; without a chain there is nothing else
    #[arg(long)]
    pub checkpoints: bool,
    /// HTTP ports of other light clients, separated by commas, to compare checkpoints with:
    /// http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_delimiter = ',', value_name = "URL", value_parser = endpoint)]
    pub peers: Vec<String>,
    /// With what it is shown.
    #[command(flatten)]
    pub serving: ServingArgs,
}

/// The commands about a light client that runs.
#[derive(Subcommand, Debug)]
pub enum LightCommand {
    /// Show what a light client that runs knows
    Status(LightStatusArgs),
}

/// Arguments of `da light status`.
#[derive(Args, Debug)]
pub struct LightStatusArgs {
    /// HTTP port of the light client
    #[arg(long, value_name = "URL", value_parser = endpoint, default_value = "http://127.0.0.1:7790")]
    pub http: String,
}

/// The commands about OP Stack Alt-DA.
#[derive(Subcommand, Debug)]
pub enum AltDaCommand {
    /// Serve as the DA server of op-batcher and op-node, until SIGTERM or SIGINT
    Serve(AltDaArgs),
}

/// Arguments of `da altda serve`.
#[derive(Args, Debug)]
pub struct AltDaArgs {
    /// Where to serve: what --altda.da-server of op-batcher and op-node names
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3100")]
    pub listen: SocketAddr,
    /// Whose blobs the inputs are: 32 bytes in hex [default: zero]
    #[arg(long, value_name = "HEX", value_parser = namespace)]
    pub namespace: Option<Namespace>,
    /// Who signs.
    #[command(flatten)]
    pub key: KeyArgs,
    /// How long to keep them: seconds, or like 14d. Longer than challenge and resolve window of the rollup together
    /// [default: 14d, or the committee's limit next to it]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub retention: Option<u64>,
    /// Longest input of a keccak commitment in bytes: a derivation skips what is longer than it was built for
    #[arg(long, value_name = "BYTES", default_value_t = KECCAK_LIMIT as u64, value_parser = input_limit())]
    pub keccak_limit: u64,
    /// Longest input of a generic commitment in bytes, put or read
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = input_limit())]
    pub generic_limit: u64,
    /// For how long a request whose failure may pass is tried again before the client is told: seconds, or like 1m. The last
    /// try may take 8 s more; the shortest timeouts of clients are 30 s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "20")]
    pub patience: u64,
    /// Whether a put of a generic commitment that fails for longer gets a 5xx, which some batchers take as "post to L1
    /// instead"
    #[arg(long, value_enum, default_value = "never")]
    pub failover: FailoverArg,
    /// Answer 418 with the reason for commitments that a derivation has to drop. Only for nodes that know it: others
    /// try again for ever, as with any other status
    #[arg(long)]
    pub drop_status: bool,
    /// Memory for inputs that may be read again, in bytes; 0 for none
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub cache: u64,
    /// Memory for inputs that are being put, in bytes: others wait
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub memory: u64,
    /// File with the tokens of those who may put: da token new makes it. Without it everybody may who gets here
    #[arg(long, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Keep a copy of everything that passes in this folder, and read from there first
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// With what it is served.
    #[command(flatten)]
    pub serving: ServingArgs,
}

/// Whether batchers may be told to leave.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FailoverArg {
    /// They are told to try again
    Never,
    /// Puts of generic commitments may fail with 5xx
    Generic,
}

/// A length that an input may have.
fn input_limit() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=MAX_PAYLOAD)
}
