//! `make opstack`: a whole chain of the OP Stack on Meridian, on this machine.
//!
//! op-geth, op-node and op-batcher run on anvil over a Meridian devnet. A second op-geth and op-node have no peer, so all
//! that they know comes from L1 and Meridian. Under load, replicas are killed and started again, and once the gateway.
//! Ends well only if the second node comes to the same blocks.

mod build;
mod chain;
mod faults;
mod follow;
mod inbox;
mod load;
mod measured;
mod node;
mod process;
mod prove;
mod report;
mod stack;
mod up;

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use self::load::Rate;
use self::stack::Stack;

/// Transactions in a second, where nothing else is asked for.
const PER_SECOND: f64 = 6.0;

/// Runs a chain of the OP Stack on Meridian.
#[derive(Clone, Debug, Parser)]
#[command(name = "opstack", version)]
struct Arguments {
    /// What the batcher writes to L1: hashes of its inputs, or what the sidecar answers. With `--up`, `both` is `keccak`.
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
    /// Seconds of load in each mode, 60 at least: the gateway alone is away for 30.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(60..))]
    seconds: u64,
    /// Transactions in a second; 6 by default, and none with `--up`.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of calldata in each transaction.
    #[arg(long, default_value_t = 8_000)]
    bytes: usize,
    /// Puts that the batcher makes at a time. With more than one, commitments may come to L1 in another order than the
    /// blocks; since Holocene a derivation drops what comes too early, and the batcher puts it again.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    puts: u64,
    /// Leave it running until Ctrl-C, without faults, and say where everything is.
    #[arg(long)]
    up: bool,
    /// Only build the OP Stack's programs, and say where they are.
    #[arg(long, conflicts_with = "up")]
    build: bool,
}

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Modes {
    Keccak,
    Generic,
    Both,
}

/// What the batcher writes to L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The hash of the input, which it computes itself.
    Keccak,
    /// What the sidecar answers.
    Generic,
}

impl Modes {
    fn each(self) -> &'static [Mode] {
        match self {
            Self::Keccak => &[Mode::Keccak],
            Self::Generic => &[Mode::Generic],
            Self::Both => &[Mode::Keccak, Mode::Generic],
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keccak => "keccak",
            Self::Generic => "generic",
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_up = arguments.up;
    // All that was started ends with what is dropped here.
    let done = tokio::select! {
        done = run(arguments) => done,
        stopped = interrupted() => match stopped {
            Ok(()) if is_up => Ok(()),
            Ok(()) => Err(anyhow!("interrupted")),
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opstack failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminated.recv() => {}
    }
    Ok(())
}

async fn run(arguments: Arguments) -> Result<()> {
    let built = tokio::task::spawn_blocking(build::build).await??;
    if arguments.build {
        println!("op-geth, op-node and op-batcher are in {}", built.folder().display());
        return Ok(());
    }
    let per_second = arguments.rate.unwrap_or(if arguments.up { 0.0 } else { PER_SECOND });
    ensure!(per_second.is_finite() && per_second >= 0.0, "--rate takes transactions in a second");
    let rate = (per_second > 0.0).then_some(Rate { per_second, bytes: arguments.bytes });
    let time = Duration::from_secs(arguments.seconds);
    let mut outcomes = Vec::new();
    for &mode in arguments.mode.each() {
        let logs = tempfile::Builder::new().prefix("opstack-").tempdir()?;
        println!("== {mode}: starting L1, Meridian, two sidecars, two nodes and a batcher");
        let done = async {
            let mut stack = Stack::start(&built, mode, arguments.puts, logs.path()).await?;
            let done = if arguments.up {
                up::leave(&mut stack, mode, rate, logs.path()).await.map(|never| match never {})
            } else {
                prove::prove(&mut stack, mode, rate, time).await
            };
            if done.is_err() {
                stack.keep_logs();
            }
            done
        };
        match done.await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                let logs = logs.keep();
                return Err(error.context(format!("{mode}; the logs are in {}", logs.display())));
            }
        }
    }
    report::print(&outcomes);
    println!("the second node came to the same blocks from L1 and Meridian alone");
    Ok(())
}
