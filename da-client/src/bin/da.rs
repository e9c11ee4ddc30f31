//! The `da` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    meridian_client::cli::run()
}
