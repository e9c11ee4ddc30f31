//! `da-node admin`: orders to a host that runs.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use meridian_client::cli::args::TrustArgs;
use meridian_client::rpc::Channels;

/// Orders to a host that runs, by its admin service.
#[derive(Debug, Args)]
pub struct Admin {
    #[command(subcommand)]
    order: Order,
    /// Where the host answers admin calls [listen.admin]: https://HOST:PORT or http://HOST:PORT.
    #[arg(long, value_name = "URL", global = true, default_value = "http://127.0.0.1:7781")]
    at: String,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Finish what has begun, take nothing new, and end, as at SIGTERM.
    Drain,
    /// Check everything on a replica's disk, now.
    Scrub,
    /// Try at once to bring back everything that a replica misses, also what failed lately.
    Repair,
    /// Log other lines until the host ends.
    LogLevel {
        /// A level, or levels by module as in "info,meridian_node::replica=debug".
        filter: String,
    },
}

impl Admin {
    /// Gives the order.
    ///
    /// # Errors
    /// When the host is out of reach or refuses.
    pub async fn run(self) -> Result<()> {
        let calls = Channels::new().trusting(self.trust.trust()?).admin(&self.at)?;
        let outcome = match &self.order {
            Order::Drain => calls.drain().await.map(|()| "it ends when what has begun is done".to_owned()),
            Order::Scrub => calls.scrub().await.map(|waits| match waits {
                true => "a check goes on; the one that was asked for follows it".to_owned(),
                false => "everything on disk is being checked".to_owned(),
            }),
            Order::Repair => {
                calls.repair().await.map(|()| "what is missing is being brought back".to_owned())
            }
            Order::LogLevel { filter } => {
                let before = calls.set_log_filter(filter).await;
                before.map(|before| format!("it logs {filter} from now on; before: {before}"))
            }
        };
        println!("{}", outcome.with_context(|| self.at.clone())?);
        Ok(())
    }
}
