//! The program of Meridian's hosts.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use meridian_node::cli::Cli;
use tikv_jemallocator::Jemalloc;

/// Threads that wait for the disk: enough for it to sync many writes as one. Tokio's 512 stay once a crowd has called for
/// them, as long as each is given something to do now and then, with a stack and an allocator's cache each.
const DISK_THREADS: usize = 64;

/// Gives memory back that is not needed any more, also that of RocksDB: docs/decisions/0010-allocator.md.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().max_blocking_threads(DISK_THREADS).build() {
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
