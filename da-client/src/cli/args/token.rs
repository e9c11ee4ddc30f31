//! Arguments of `da token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use meridian_proofs::ids::Namespace;

use super::parse::{duration, namespace};

/// The commands about bearer tokens.
#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Make a token and print it: the only time that it is shown
    New(TokenNewArgs),
    /// List the tokens of a file
    List(TokenFileArgs),
    /// Take a token away; servers notice within a second
    Revoke(TokenRevokeArgs),
}

/// A file of tokens.
#[derive(Args, Debug)]
pub struct TokenFileArgs {
    /// File of the tokens: it has their hashes alone
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `da token new`.
#[derive(Args, Debug)]
pub struct TokenNewArgs {
    /// Where it is kept; made when it is not there.
    #[command(flatten)]
    pub file: TokenFileArgs,
    /// Whose it is, for people: letters, digits, -, _ and .
    #[arg(long)]
    pub name: String,
    /// Namespaces that it may write to, separated by commas: 32 bytes in hex each [default: zero]
    #[arg(long, value_name = "HEX", value_delimiter = ',', value_parser = namespace)]
    pub namespace: Vec<Namespace>,
    /// For how long: seconds, or like 90d
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "90d")]
    pub valid_for: u64,
}

/// Arguments of `da token revoke`.
#[derive(Args, Debug)]
pub struct TokenRevokeArgs {
    /// Where it is kept.
    #[command(flatten)]
    pub file: TokenFileArgs,
    /// Its name
    #[arg(long)]
    pub name: String,
}
