//! Arguments about who puts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use meridian_proofs::Address;
use meridian_proofs::ids::Namespace;

use super::parse::namespace;
use crate::namespaces::Limits;

/// The key that signs puts.
#[derive(Args, Clone, Debug)]
pub struct KeyArgs {
    /// Sign with this key, for gateways that ask who puts: a file with hex or a Web3 keystore that its owner alone can
    /// read
    #[arg(long, env = "MERIDIAN_KEY", value_name = "FILE", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// File with the password of that keystore, which its owner alone can read
    #[arg(long, env = "MERIDIAN_PASSWORD_FILE", value_name = "FILE", hide_env_values = true)]
    pub password_file: Option<PathBuf>,
}

/// The commands about keys.
#[derive(Subcommand, Debug)]
pub enum KeyCommand {
    /// Make a key in a new Web3 keystore, version 3, and print its address
    New(KeyNewArgs),
    /// Print the address of a key
    Show(KeyShowArgs),
}

/// Arguments of `da key new`.
#[derive(Args, Debug)]
pub struct KeyNewArgs {
    /// The keystore, which must not exist
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// File with the password that it gets, which its owner alone can read
    #[arg(long, env = "MERIDIAN_PASSWORD_FILE", value_name = "FILE", hide_env_values = true)]
    pub password_file: PathBuf,
}

/// Arguments of `da key show`.
#[derive(Args, Debug)]
pub struct KeyShowArgs {
    /// File with hex or a Web3 keystore
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File with the password of a keystore, which its owner alone can read
    #[arg(long, env = "MERIDIAN_PASSWORD_FILE", value_name = "FILE", hide_env_values = true)]
    pub password_file: Option<PathBuf>,
}

/// The commands about a gateway's file of namespaces.
#[derive(Subcommand, Debug)]
pub enum NamespaceCommand {
    /// List a namespace with its owner; makes the file where there is none
    Create(NamespaceCreateArgs),
    /// Let others than the owner put under a namespace
    Allow(NamespaceAllowArgs),
    /// Let writers put no more, or list a namespace no more
    Deny(NamespaceDenyArgs),
    /// Print the namespaces of a file
    List(NamespaceListArgs),
}

/// Arguments of `da namespace create`.
#[derive(Args, Debug)]
pub struct NamespaceCreateArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The namespace: 32 bytes in hex
    #[arg(long, value_name = "HEX", value_parser = namespace)]
    pub namespace: Namespace,
    /// Address of its owner, as da key prints it [default: whoever is its owner or a writer in the registry on the chain
    /// that the gateway's access.registry names]
    #[arg(long, value_name = "ADDRESS")]
    pub owner: Option<Address>,
    /// How much may be put.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Limits of a namespace.
#[derive(Args, Clone, Copy, Debug)]
pub struct LimitArgs {
    /// Puts a second [default: what the file says for all]
    #[arg(long, value_name = "N")]
    pub requests_per_second: Option<u64>,
    /// Puts that may come at once [default: what the file says for all, else those of a second]
    #[arg(long, value_name = "N")]
    pub burst_requests: Option<u64>,
    /// Payload bytes a second [default: what the file says for all]
    #[arg(long, value_name = "BYTES")]
    pub bytes_per_second: Option<u64>,
    /// Payload bytes that may come at once, and so the longest payload [default: what the file says for all, else those
    /// of a second and no less than 128 MiB]
    #[arg(long, value_name = "BYTES")]
    pub burst_bytes: Option<u64>,
    /// Payload bytes of entries that have not expired [default: what the file says for all]
    #[arg(long, value_name = "BYTES")]
    pub stored_bytes: Option<u64>,
}

impl From<LimitArgs> for Limits {
    fn from(args: LimitArgs) -> Self {
        let LimitArgs { requests_per_second, burst_requests, bytes_per_second, burst_bytes, stored_bytes } =
            args;
        Self { requests_per_second, burst_requests, bytes_per_second, burst_bytes, stored_bytes }
    }
}

/// Arguments of `da namespace allow`.
#[derive(Args, Debug)]
pub struct NamespaceAllowArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The namespace: 32 bytes in hex
    #[arg(long, value_name = "HEX", value_parser = namespace)]
    pub namespace: Namespace,
    /// Addresses of those who may put, separated by commas
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    pub writer: Vec<Address>,
}

/// Arguments of `da namespace deny`.
#[derive(Args, Debug)]
pub struct NamespaceDenyArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The namespace: 32 bytes in hex
    #[arg(long, value_name = "HEX", value_parser = namespace)]
    pub namespace: Namespace,
    /// Addresses of those who may put no more, separated by commas
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required_unless_present = "everybody")]
    pub writer: Vec<Address>,
    /// List the namespace no more: nobody may put, unless the file leaves what is not listed open
    #[arg(long, conflicts_with = "writer")]
    pub everybody: bool,
}

/// Arguments of `da namespace list`.
#[derive(Args, Debug)]
pub struct NamespaceListArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}
