//! The program of Meridian's hosts.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use meridian_node::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("da-node: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(cli.run());
    // Work that nobody waits for any more does not hold the exit back for long.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("da-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}
