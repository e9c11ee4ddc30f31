//! A chain that answers JSON-RPC as the Ethereum specification says, and a server of it that can misbehave.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, LogData, keccak256};
use alloy::sol_types::{SolCall, SolEvent, SolInterface};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proto::contract::Meridian::{self, MeridianCalls};
use meridian_proto::contract::committee::schedule;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::rpc::{Patience, Pool, RpcUrl};

pub(super) const CONTRACT: Address = Address::repeat_byte(0xc0);
pub(super) const CHAIN: u64 = 31337;
pub(super) const GRACE: u64 = 100;
pub(super) const GATEWAY: Address = Address::repeat_byte(0xaa);

/// No pauses, and no more patience than a busy machine takes.
pub(super) const QUICK: Patience =
    Patience { deadline: Duration::from_secs(3), rounds: 2, pause: Duration::from_millis(1) };

pub(crate) fn committee(epoch: u64) -> Committee {
    Committee::new(CommitteeParts {
        chain_id: CHAIN,
        verifying_contract: CONTRACT,
        epoch,
        min_copies: 1,
        min_retention: 60,
        max_retention: 1 << 20,
        regions: vec![Region { id: RegionId(1), label: "one".to_owned(), latitude: 1.5, longitude: -2.25 }],
        seats: vec![Seat {
            region: RegionId(1),
            number: 0,
            address: Address::repeat_byte(epoch as u8),
            endpoint: "http://seat.example:1".to_owned(),
        }],
        gateways: vec![GatewayMember {
            address: GATEWAY,
            endpoint: "http://gateway.example:1".to_owned(),
            max_bytes: 1 << 40,
            max_entries_per_hour: 3600,
        }],
    })
    .unwrap()
}

/// Blocks and events. Block b has the timestamp `genesis` + b.
#[derive(Clone)]
pub(super) struct Chain {
    pub(super) id: u64,
    pub(super) genesis: u64,
    pub(super) deployed: u64,
    /// Of each block a number that its hash comes from.
    blocks: Vec<u64>,
    logs: Vec<(u64, LogData)>,
    /// Most blocks and most logs of one answer.
    pub(super) cap: (u64, usize),
    pub(super) finalized: Option<u64>,
    /// A latest block far above the others.
    pub(super) top: Option<u64>,
    /// Whether it has every block that it is asked for, and says that the latest is far away.
    pub(super) endless: bool,
    /// Whether the last event of an answer is called off.
    pub(super) calls_off: bool,
    /// Whether the state of old blocks is gone.
    pub(super) pruned: bool,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self {
            id: CHAIN,
            genesis: 1000,
            deployed: 1,
            blocks: vec![0; 2],
            logs: Vec::new(),
            cap: (10_000, 10_000),
            finalized: None,
            top: None,
            endless: false,
            calls_off: false,
            pruned: false,
        }
    }

    pub(super) fn height(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    pub(super) fn mine(&mut self, blocks: u64) {
        self.blocks.extend((0..blocks).map(|_| 0));
    }

    /// Takes blocks away and puts others in their place.
    pub(super) fn reorganise(&mut self, depth: u64) {
        let keep = self.height() - depth;
        self.logs.retain(|(block, _)| *block <= keep);
        for block in &mut self.blocks[keep as usize + 1..] {
            *block += 1;
        }
    }

    /// A new block with an event.
    pub(super) fn emit(&mut self, event: &impl SolEvent) {
        self.mine(1);
        self.emit_again(event);
    }

    /// Another event in the latest block.
    pub(super) fn emit_again(&mut self, event: &impl SolEvent) {
        self.logs.push((self.height(), event.encode_log_data()));
    }

    pub(super) fn schedule(&mut self, committee: &Committee, activation: u64) {
        let call = schedule(committee, activation).unwrap();
        self.emit(&Meridian::CommitteeScheduled {
            epoch: call.epoch,
            activation,
            membersHash: keccak256(committee.members().unwrap()),
            terms: call.terms,
            regions: call.regions,
            seats: call.seats,
            gateways: call.gateways,
        });
    }

    pub(super) fn anchor(&mut self, epoch: u64, size: u64) {
        self.emit(&anchored(epoch, size));
    }

    fn block(&self, number: u64) -> Value {
        let is_there = self.top == Some(number) || self.endless;
        let kind = self.blocks.get(number as usize).or(is_there.then_some(&0));
        let Some(kind) = kind else { return Value::Null };
        json!({
            "number": quantity(number),
            "hash": keccak256([number.to_be_bytes(), kind.to_be_bytes()].concat()),
            "timestamp": quantity(number.saturating_add(self.genesis)),
        })
    }

    fn number(&self, tag: &Value) -> u64 {
        match tag.as_str().unwrap() {
            "latest" | "pending" if self.endless => 1 << 60,
            "latest" | "pending" => self.top.unwrap_or(self.height()),
            hex => u64::from_str_radix(&hex[2..], 16).unwrap(),
        }
    }

    /// Answers a call; an error is a code and a message.
    fn answer(&self, method: &str, params: &Value) -> Result<Value, (i64, &'static str)> {
        match method {
            "eth_chainId" => Ok(json!(quantity(self.id))),
            "eth_getBlockByNumber" if params[0] == "finalized" => match self.finalized {
                Some(number) => Ok(self.block(number)),
                None => Err((-39001, "unknown block")),
            },
            "eth_getBlockByNumber" => Ok(self.block(self.number(&params[0]))),
            "eth_getCode" => {
                let number = self.number(&params[1]);
                if self.pruned && number < self.height() {
                    return Err((-32000, "missing trie node"));
                }
                Ok(json!(if number >= self.deployed { "0x60" } else { "0x" }))
            }
            "eth_getLogs" => self.logs_of(&params[0]),
            "eth_call" => {
                let data: Bytes = serde_json::from_value(params[0]["data"].clone()).unwrap();
                let number = self.number(&params[1]);
                if number < self.deployed {
                    return Ok(json!("0x"));
                }
                Ok(json!(Bytes::from(self.call(&data, number))))
            }
            _ => Err((-32601, "the method does not exist")),
        }
    }

    fn logs_of(&self, filter: &Value) -> Result<Value, (i64, &'static str)> {
        let (from, to) = (self.number(&filter["fromBlock"]), self.number(&filter["toBlock"]));
        if to - from >= self.cap.0 {
            return Err((-32000, "maximum [from, to] blocks distance: 10000"));
        }
        let fits = |data: &LogData| {
            let wanted = filter["topics"].as_array().into_iter().flatten().zip(data.topics());
            wanted.into_iter().all(|(wanted, topic)| match wanted {
                Value::Array(any) => any.contains(&json!(topic)),
                Value::Null => true,
                one => *one == json!(topic),
            })
        };
        let within = |(block, data): &&(u64, LogData)| (from..=to).contains(block) && fits(data);
        let logs: Vec<_> = self.logs.iter().filter(within).collect();
        if logs.len() > self.cap.1 {
            return Err((-32005, "query returned more than 10000 results"));
        }
        let log = |(block, data): &(u64, LogData)| {
            json!({
                "address": CONTRACT, "topics": data.topics(), "data": data.data, "blockNumber": quantity(*block),
                "blockHash": B256::ZERO, "transactionHash": transaction(*block), "transactionIndex": "0x0",
                "logIndex": "0x0", "removed": false,
            })
        };
        let mut logs: Vec<_> = logs.into_iter().map(log).collect();
        if let Some(last) = logs.last_mut().filter(|_| self.calls_off) {
            last["removed"] = json!(true);
        }
        Ok(logs.into())
    }

    /// What the contract answers as of a block.
    fn call(&self, data: &[u8], number: u64) -> Vec<u8> {
        let mut epochs: Vec<(B256, u64)> = Vec::new();
        let mut anchor =
            Meridian::anchorOfReturn { size: 0, root: B256::ZERO, blockNumber: 0, timestamp: 0, epoch: 0 };
        for (block, log) in self.logs.iter().filter(|(block, _)| *block <= number) {
            if let Ok(event) = Meridian::CommitteeScheduled::decode_log_data(log) {
                epochs.push((event.membersHash, event.activation));
            } else if let Ok(event) = Meridian::SeatPassed::decode_log_data(log) {
                epochs.push((event.membersHash, event.activation));
            } else if Meridian::CommitteeCancelled::decode_log_data(log).is_ok() {
                epochs.pop();
            } else if let Ok(event) = Meridian::Anchored::decode_log_data(log) {
                let Meridian::Anchored { epoch, size, root, timestamp, .. } = event;
                anchor = Meridian::anchorOfReturn { size, root, blockNumber: *block, timestamp, epoch };
            }
        }
        match MeridianCalls::abi_decode(data).unwrap() {
            MeridianCalls::grace(_) => Meridian::graceCall::abi_encode_returns(&GRACE),
            MeridianCalls::latestEpoch(_) => {
                Meridian::latestEpochCall::abi_encode_returns(&(epochs.len() as u64))
            }
            MeridianCalls::epochOf(call) => {
                let place = (call.epoch as usize).wrapping_sub(1);
                let next = epochs.get(place.wrapping_add(1));
                let closes = next.map_or(u64::MAX, |(_, activation)| activation + GRACE);
                let kept = epochs.get(place).map_or((B256::ZERO, 0, 0), |kept| (kept.0, kept.1, closes));
                let (members_hash, activation, closes) = kept;
                Meridian::epochOfCall::abi_encode_returns(&Meridian::epochOfReturn {
                    membersHash: members_hash,
                    activation,
                    closes,
                })
            }
            MeridianCalls::anchorOf(call) if call.gateway == GATEWAY => {
                Meridian::anchorOfCall::abi_encode_returns(&anchor)
            }
            MeridianCalls::anchorOf(_) => {
                Meridian::anchorOfCall::abi_encode_returns(&Meridian::anchorOfReturn {
                    size: 0,
                    root: B256::ZERO,
                    blockNumber: 0,
                    timestamp: 0,
                    epoch: 0,
                })
            }
            MeridianCalls::verifyCertificate(call) => {
                Meridian::verifyCertificateCall::abi_encode_returns(&call.certificate[0])
            }
            _ => Vec::new(),
        }
    }
}

/// The one transaction of a block.
pub(super) fn transaction(block: u64) -> B256 {
    keccak256(block.to_be_bytes())
}

pub(super) fn anchored(epoch: u64, size: u64) -> Meridian::Anchored {
    let root = keccak256(size.to_be_bytes());
    Meridian::Anchored { gateway: GATEWAY, epoch, size, root, timestamp: 500 + size }
}

pub(super) fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

/// How a server answers.
#[derive(Clone)]
pub(super) enum Manner {
    Honest,
    /// Never.
    Silent,
    /// With this text, whatever it is asked.
    Text(StatusCode, String),
    /// With this result, whatever it is asked, but its chain id.
    Result(Value),
    /// With this error, whatever it is asked, but its chain id.
    Error(i64, &'static str),
    /// With these errors, if any, to calls after the latest block and in the one that is being made.
    At {
        latest: Option<(i64, &'static str)>,
        pending: Option<(i64, &'static str)>,
    },
}

/// An endpoint: a view of a chain, and a manner.
pub(super) struct Endpoint {
    pub(super) url: RpcUrl,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    chain: Chain,
    manner: Manner,
    asked: Vec<String>,
}

impl Endpoint {
    pub(super) async fn open(chain: Chain) -> Self {
        let shared = Arc::new(Mutex::new(Shared { chain, manner: Manner::Honest, asked: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new().route("/secret-key", post(serve)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let url = format!("http://user:secret-password@127.0.0.1:{port}/secret-key?key=secret-query");
        Self { url: url.parse().unwrap(), shared }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Chain)) {
        change(&mut self.lock().chain);
    }

    pub(super) fn behave(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// The methods that were called since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().asked)
    }
}

pub(super) fn pool(endpoints: &[&Endpoint]) -> Pool {
    let urls: Vec<_> = endpoints.iter().map(|endpoint| endpoint.url.clone()).collect();
    Pool::new(&urls, CHAIN, QUICK).unwrap()
}

async fn serve(State(shared): State<Arc<Mutex<Shared>>>, Json(request): Json<Value>) -> Response {
    let method = request["method"].as_str().unwrap().to_owned();
    let (manner, answer) = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(method.clone());
        (shared.manner.clone(), shared.chain.answer(&method, &request["params"]))
    };
    let answer = match manner {
        Manner::Silent => std::future::pending().await,
        Manner::Text(status, text) => return (status, text).into_response(),
        Manner::Result(result) if method != "eth_chainId" => Ok(result),
        Manner::Error(code, message) if method != "eth_chainId" => Err((code, message)),
        Manner::At { latest, .. } if request["params"][1] == "latest" => latest.map_or(answer, Err),
        Manner::At { pending, .. } if request["params"][1] == "pending" => pending.map_or(answer, Err),
        _ => answer,
    };
    let id = &request["id"];
    Json(match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
        }
    })
    .into_response()
}
