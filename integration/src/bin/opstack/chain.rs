//! The files that a chain of the OP Stack begins with.

use std::fs;
use std::path::{Path, PathBuf};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, address};
use alloy::providers::{DynProvider, Provider};
use anyhow::{Context, Result};
use meridian_integration::anvil;
use serde_json::{Map, Value, json};

use super::Mode;

/// The L1 chain's number; one that op-node does not know anything of.
pub(crate) const L1_CHAIN: u64 = 900_100;
/// The L2 chain's number.
pub(crate) const L2_CHAIN: u64 = 900_200;
/// Where the batcher sends its commitments on L1.
pub(crate) const INBOX: Address = address!("ff00000000000000000000000000000000900200");
/// Of the accounts that anvil knows, the one that is the batcher; the others send the load.
pub(crate) const BATCHER: usize = 0;
/// Accounts that have ether on L2.
pub(crate) const ACCOUNTS: usize = anvil::DEV_KEYS.len();

/// What an account has on L2 to begin with: ten thousand ether.
const RICH: &str = "0x21e19e0c9bab2400000";
/// In keccak mode op-node follows a challenge contract, which nobody calls here and which need not be there.
const CHALLENGES: Address = address!("00000000000000000000000000000000000da0c0");
/// What op-node and op-geth prove to each other that they know.
const SECRET: &str = "6d6572696469616e6d6572696469616e6d6572696469616e6d6572696469616e";

const GENESIS: &str = include_str!("../../../peers/op-stack/genesis.json");
const ROLLUP: &str = include_str!("../../../peers/op-stack/rollup.json");
const L1: &str = include_str!("../../../peers/op-stack/l1.json");

/// A block of L1 that the L2 chain begins after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    hash: B256,
    /// Its height.
    pub(crate) number: u64,
    timestamp: u64,
}

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// What op-geth is initialized with.
    pub(crate) genesis: PathBuf,
    /// What op-node derives by.
    pub(crate) rollup: PathBuf,
    /// What op-node must know of L1.
    pub(crate) l1: PathBuf,
    /// What op-node and op-geth share.
    pub(crate) secret: PathBuf,
}

impl Anchor {
    /// The newest block.
    ///
    /// # Errors
    /// When L1 does not answer.
    pub(crate) async fn newest(l1: &DynProvider) -> Result<Self> {
        let block = l1.get_block_by_number(BlockNumberOrTag::Latest).await?.context("L1 has no block")?;
        let header = block.header;
        Ok(Self { hash: header.hash, number: header.number, timestamp: header.timestamp })
    }
}

impl Files {
    /// Writes all but the rollup's, for which the hash of the L2 genesis must be known.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(folder: &Path, anchor: &Anchor) -> Result<Self> {
        let at = |name: &str| folder.join(name);
        let files = Self {
            genesis: at("genesis.json"),
            rollup: at("rollup.json"),
            l1: at("l1.json"),
            secret: at("jwt"),
        };
        let mut genesis: Value = serde_json::from_str(GENESIS).context("genesis.json")?;
        let mut alloc = Map::new();
        for number in 0..ACCOUNTS {
            alloc.insert(anvil::account(number)?.to_string(), json!({ "balance": RICH }));
        }
        genesis["alloc"] = Value::Object(alloc);
        genesis["timestamp"] = json!(format!("{:#x}", anchor.timestamp));
        fs::write(&files.genesis, serde_json::to_vec_pretty(&genesis)?)?;
        fs::write(&files.l1, L1)?;
        fs::write(&files.secret, SECRET)?;
        Ok(files)
    }

    /// Writes what op-node derives by.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_rollup(&self, anchor: &Anchor, genesis: B256, mode: Mode) -> Result<()> {
        let mut rollup: Value = serde_json::from_str(ROLLUP).context("rollup.json")?;
        let start = &mut rollup["genesis"];
        start["l1"] = json!({ "hash": anchor.hash, "number": anchor.number });
        start["l2"] = json!({ "hash": genesis, "number": 0 });
        start["l2_time"] = json!(anchor.timestamp);
        let (kind, challenges) = match mode {
            Mode::Keccak => ("KeccakCommitment", CHALLENGES),
            Mode::Generic => ("GenericCommitment", Address::ZERO),
        };
        rollup["alt_da"]["da_commitment_type"] = json!(kind);
        rollup["alt_da"]["da_challenge_contract_address"] = json!(challenges);
        fs::write(&self.rollup, serde_json::to_vec_pretty(&rollup)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_agree_with_each_other_and_with_the_code() {
        let [genesis, rollup, l1]: [Value; 3] =
            [GENESIS, ROLLUP, L1].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(genesis["config"]["chainId"], L2_CHAIN);
        assert_eq!(rollup["l2_chain_id"], L2_CHAIN);
        assert_eq!(rollup["l1_chain_id"], L1_CHAIN);
        assert_eq!(l1["config"]["chainId"], L1_CHAIN);
        let address = |value: &Value| value.as_str().unwrap().parse::<Address>().unwrap();
        assert_eq!(address(&rollup["batch_inbox_address"]), INBOX);
        let config = &rollup["genesis"]["system_config"];
        assert_eq!(address(&config["batcherAddr"]), anvil::account(BATCHER).unwrap());
        let limit = genesis["gasLimit"].as_str().unwrap().trim_start_matches("0x");
        assert_eq!(config["gasLimit"], u64::from_str_radix(limit, 16).unwrap());
        assert_eq!(rollup["chain_op_config"], genesis["config"]["optimism"]);
    }
}
