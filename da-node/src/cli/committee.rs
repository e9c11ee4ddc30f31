//! `da-node committee`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use meridian_proofs::Address;
use meridian_proofs::committee::{GatewayMember, Region, RegionId};

use crate::committee_cmd::{self, Draft};

#[derive(Debug, Subcommand)]
pub(super) enum Committee {
    /// Make a committee file without members.
    New(NewCommittee),
    /// Add a member to a committee file.
    #[command(subcommand)]
    Add(AddMember),
    /// Take a member out of a committee file.
    #[command(subcommand)]
    Remove(RemoveMember),
    /// Check a committee file and show what is in it.
    Check {
        /// Committee file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewCommittee {
    /// File that is made; an existing one is left alone.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Number of the epoch.
    #[arg(long, default_value_t = 1)]
    epoch: u64,
    /// Shortest retention in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = committee_cmd::MIN_RETENTION)]
    min_retention: u64,
    /// Longest retention in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = committee_cmd::MAX_RETENTION)]
    max_retention: u64,
    /// Chain id that signatures are bound to, 0 without a chain.
    #[arg(long, default_value_t = 0)]
    chain_id: u64,
    /// Contract that signatures are bound to, zero without a chain.
    #[arg(long, value_name = "ADDRESS", default_value_t = Address::ZERO)]
    verifying_contract: Address,
}

#[derive(Debug, Subcommand)]
pub(super) enum AddMember {
    /// Add a region.
    Region {
        /// Committee file.
        file: PathBuf,
        /// Number of the region, 1 to 65535.
        #[arg(long)]
        id: u16,
        /// Short name: a-z, 0-9 and '-'.
        #[arg(long)]
        label: String,
        /// Degrees north.
        #[arg(long, allow_hyphen_values = true)]
        latitude: f64,
        /// Degrees east.
        #[arg(long, allow_hyphen_values = true)]
        longitude: f64,
        /// Complete regions that a certificate needs from now on [default: all but a third of them, rounded down].
        #[arg(long, value_name = "N")]
        min_copies: Option<u16>,
    },
    /// Add the seat of a replica.
    Seat {
        /// Committee file.
        file: PathBuf,
        /// Label of its region.
        #[arg(long, value_name = "LABEL")]
        region: String,
        /// Number of the seat in its region.
        #[arg(long, default_value_t = 0)]
        number: u16,
        /// Address of the replica's key.
        #[arg(long)]
        address: Address,
        /// Where the replica answers gRPC: https://HOST:PORT or http://HOST:PORT.
        #[arg(long, value_name = "URL")]
        endpoint: String,
    },
    /// Add a gateway.
    Gateway {
        /// Committee file.
        file: PathBuf,
        /// Address of the gateway's key.
        #[arg(long)]
        address: Address,
        /// Where the gateway answers gRPC: https://HOST:PORT or http://HOST:PORT.
        #[arg(long, value_name = "URL")]
        endpoint: String,
        /// Most bytes of unexpired rows that one replica keeps for it.
        #[arg(long, default_value_t = committee_cmd::MAX_BYTES)]
        max_bytes: u64,
        /// Most log entries an hour.
        #[arg(long, default_value_t = committee_cmd::MAX_ENTRIES_PER_HOUR)]
        max_entries_per_hour: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RemoveMember {
    /// Take a region away, with its seats.
    Region {
        /// Committee file.
        file: PathBuf,
        /// Label of the region.
        #[arg(long)]
        label: String,
        /// Complete regions that a certificate needs from now on [default: all but a third of them, rounded down].
        #[arg(long, value_name = "N")]
        min_copies: Option<u16>,
    },
    /// Take the seat of a replica away.
    Seat {
        /// Committee file.
        file: PathBuf,
        /// Address of the replica's key.
        #[arg(long)]
        address: Address,
    },
    /// Take a gateway away.
    Gateway {
        /// Committee file.
        file: PathBuf,
        /// Address of the gateway's key.
        #[arg(long)]
        address: Address,
    },
}

impl Committee {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Committee::New(new) => {
                let draft = Draft {
                    chain_id: new.chain_id,
                    verifying_contract: new.verifying_contract,
                    epoch: new.epoch,
                    min_retention: new.min_retention,
                    max_retention: new.max_retention,
                    ..Draft::default()
                };
                committee_cmd::create(&new.out, &draft)
            }
            Committee::Add(AddMember::Region { file, id, label, latitude, longitude, min_copies }) => {
                let region = Region { id: RegionId(id), label, latitude, longitude };
                committee_cmd::change(&file, |draft| draft.add_region(region, min_copies))
            }
            Committee::Add(AddMember::Seat { file, region, number, address, endpoint }) => {
                committee_cmd::change(&file, |draft| draft.add_seat(&region, number, address, endpoint))
            }
            Committee::Add(AddMember::Gateway {
                file,
                address,
                endpoint,
                max_bytes,
                max_entries_per_hour,
            }) => {
                let gateway = GatewayMember { address, endpoint, max_bytes, max_entries_per_hour };
                committee_cmd::change(&file, |draft| draft.add_gateway(gateway))
            }
            Committee::Remove(RemoveMember::Region { file, label, min_copies }) => {
                committee_cmd::change(&file, |draft| draft.remove_region(&label, min_copies))
            }
            Committee::Remove(RemoveMember::Seat { file, address }) => {
                committee_cmd::change(&file, |draft| draft.remove_seat(&address))
            }
            Committee::Remove(RemoveMember::Gateway { file, address }) => {
                committee_cmd::change(&file, |draft| draft.remove_gateway(&address))
            }
            Committee::Check { file } => {
                print!("{}", committee_cmd::describe(&committee_cmd::load(&file)?));
                Ok(())
            }
        }
    }
}
