//! A chain of one process: a database in memory, and blocks whose number, time and chain are what a test sets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use alloy::primitives::{Address, B256, Bytes, Log, TxKind, U256, keccak256};
use alloy::sol_types::{SolCall, SolConstructor, SolEvent};
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, Output};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::database::InMemoryDB;
use revm::handler::{MainnetContext, MainnetEvm};
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};
use serde_json::Value;

/// More than any call of these tests needs.
pub(crate) const PLENTY: u64 = 100_000_000;

/// How a call ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Ending {
    Returned(Bytes),
    Reverted(Bytes),
    Halted(HaltReason),
    /// The gas did not pay for the transaction itself.
    NotStarted,
}

/// What a call did.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub ending: Ending,
    /// Of the whole transaction.
    pub gas: u64,
    pub logs: Vec<Log>,
    created: Option<Address>,
}

impl Outcome {
    /// What the call returned.
    #[track_caller]
    pub(crate) fn returned<C: SolCall>(&self) -> C::Return {
        let Ending::Returned(bytes) = &self.ending else { panic!("{:?}", self.ending) };
        C::abi_decode_returns_validate(bytes).unwrap()
    }

    /// The only event.
    #[track_caller]
    pub(crate) fn event<E: SolEvent>(&self) -> E {
        let [log] = self.logs.as_slice() else { panic!("{} events, {:?}", self.logs.len(), self.ending) };
        E::decode_log_data(&log.data).unwrap()
    }
}

/// One chain.
pub(crate) struct Chain {
    evm: MainnetEvm<MainnetContext<InMemoryDB>>,
}

impl Chain {
    /// A chain at the level that the contracts are compiled for.
    pub(crate) fn paris(chain_id: u64) -> Self {
        Self::new(SpecId::MERGE, chain_id)
    }

    pub(crate) fn new(spec: SpecId, chain_id: u64) -> Self {
        let mut cfg = CfgEnv::new().with_chain_id(chain_id).with_spec_and_mainnet_gas_params(spec);
        cfg.disable_nonce_check = true;
        cfg.tx_gas_limit_cap = Some(u64::MAX);
        let block =
            BlockEnv { number: U256::ONE, timestamp: U256::from(1_800_000_000), ..BlockEnv::default() };
        let context = Context::mainnet().with_db(InMemoryDB::default()).with_cfg(cfg).with_block(block);
        Self { evm: context.build_mainnet() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.evm.ctx.block.timestamp.to()
    }

    pub(crate) fn set_now(&mut self, timestamp: u64) {
        self.evm.ctx.block.timestamp = U256::from(timestamp);
    }

    pub(crate) fn set_number(&mut self, number: u64) {
        self.evm.ctx.block.number = U256::from(number);
    }

    /// Moves a deployed chain to another chain id, as a fork of the network would.
    pub(crate) fn set_chain_id(&mut self, chain_id: u64) {
        self.evm.ctx.cfg.chain_id = chain_id;
    }

    /// Puts a contract there.
    #[track_caller]
    pub(crate) fn deploy(&mut self, artifact: &Artifact, arguments: &[u8]) -> Address {
        let code = [artifact.bytecode.as_ref(), arguments].concat();
        let outcome = self.transact(Address::ZERO, TxKind::Create, code.into(), PLENTY, true);
        outcome.created.unwrap_or_else(|| panic!("{:?}", outcome.ending))
    }

    /// Tries to put a contract there, without leaving a trace.
    pub(crate) fn try_deploy(&mut self, artifact: &Artifact, arguments: &impl SolConstructor) -> Outcome {
        let code = [artifact.bytecode.as_ref(), &arguments.abi_encode()].concat();
        self.transact(Address::ZERO, TxKind::Create, code.into(), PLENTY, false)
    }

    /// Calls without leaving a trace.
    pub(crate) fn call(&mut self, to: Address, call: &impl SolCall) -> Outcome {
        self.raw(to, call.abi_encode().into(), PLENTY)
    }

    /// Calls as somebody, without leaving a trace.
    pub(crate) fn call_as(&mut self, from: Address, to: Address, call: &impl SolCall) -> Outcome {
        self.transact(from, TxKind::Call(to), call.abi_encode().into(), PLENTY, false)
    }

    /// Calls with any bytes and a limit for the gas of the whole transaction, without leaving a trace.
    pub(crate) fn raw(&mut self, to: Address, data: Bytes, gas: u64) -> Outcome {
        self.transact(Address::ZERO, TxKind::Call(to), data, gas, false)
    }

    /// The same as somebody, with plenty of gas.
    pub(crate) fn raw_as(&mut self, from: Address, to: Address, data: Bytes) -> Outcome {
        self.transact(from, TxKind::Call(to), data, PLENTY, false)
    }

    /// A transaction.
    pub(crate) fn send(&mut self, from: Address, to: Address, call: &impl SolCall) -> Outcome {
        self.transact(from, TxKind::Call(to), call.abi_encode().into(), PLENTY, true)
    }

    fn transact(&mut self, caller: Address, kind: TxKind, data: Bytes, gas: u64, keep: bool) -> Outcome {
        let tx = TxEnv { caller, kind, data, gas_limit: gas, chain_id: None, ..TxEnv::default() };
        let result = if keep {
            self.evm.transact_commit(tx)
        } else {
            self.evm.transact(tx).map(|executed| executed.result)
        };
        let result = match result {
            Err(EVMError::Transaction(InvalidTransaction::CallGasCostMoreThanGasLimit { .. })) => {
                return Outcome { ending: Ending::NotStarted, gas, logs: Vec::new(), created: None };
            }
            result => result.unwrap(),
        };
        let gas = result.tx_gas_used();
        match result {
            ExecutionResult::Success { output: Output::Call(bytes), logs, .. } => {
                Outcome { ending: Ending::Returned(bytes), gas, logs, created: None }
            }
            ExecutionResult::Success { output: Output::Create(code, created), logs, .. } => {
                Outcome { ending: Ending::Returned(code), gas, logs, created }
            }
            ExecutionResult::Revert { output, logs, .. } => {
                Outcome { ending: Ending::Reverted(output), gas, logs, created: None }
            }
            ExecutionResult::Halt { reason, logs, .. } => {
                Outcome { ending: Ending::Halted(reason), gas, logs, created: None }
            }
        }
    }
}

/// What a transaction of these bytes costs before any of it runs, at the level of the merge.
pub(crate) fn intrinsic_gas(data: &[u8]) -> u64 {
    21_000 + data.iter().map(|byte| if *byte == 0 { 4 } else { 16 }).sum::<u64>()
}

/// A compiled contract.
pub(crate) struct Artifact {
    bytecode: Bytes,
    /// Names of the custom errors by selector.
    errors: BTreeMap<[u8; 4], String>,
}

impl Artifact {
    pub(crate) fn load(name: &str) -> Self {
        let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        path.push(format!("../proto/contracts/out/{name}.json"));
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let errors =
            json["abi"].as_array().unwrap().iter().filter(|item| item["type"] == "error").map(|item| {
                let name = item["name"].as_str().unwrap();
                let types: Vec<_> = item["inputs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|input| input["type"].as_str().unwrap())
                    .collect();
                let signature = format!("{name}({})", types.join(","));
                (keccak256(signature)[..4].try_into().unwrap(), name.to_owned())
            });
        Self { errors: errors.collect(), bytecode: json["bytecode"].as_str().unwrap().parse().unwrap() }
    }

    /// The names of all custom errors.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &str> {
        self.errors.values().map(String::as_str)
    }

    /// The name of the custom error that a call ended with.
    #[track_caller]
    pub(crate) fn error(&self, outcome: &Outcome) -> &str {
        let Ending::Reverted(data) = &outcome.ending else { panic!("{:?}", outcome.ending) };
        let selector = data.get(..4).unwrap_or_else(|| panic!("no error: {data}"));
        self.errors.get(selector).unwrap_or_else(|| panic!("unknown error: {data}"))
    }
}

/// An address that is nobody's.
pub(crate) fn nobody(number: u64) -> Address {
    Address::from_word(B256::from(U256::from(number)))
}
