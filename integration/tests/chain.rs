//! The client's reading of a real chain: epochs, anchors, certificates, and endpoints that fail or lie.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, ensure};
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{ChainError, Patience, Pool, RpcUrl};
use meridian_client::chain::settled::Settled;
use meridian_client::chain::source::{self, ChainSource, CommitteeSource, Reading, SourceError};
use meridian_client::chain::view::View;
use meridian_integration::anvil::{self, Anvil, Hardfork, Options};
use meridian_integration::programs::Programs;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::checkpoint::{Checkpoint, CosignedCheckpoint, Domain, SignedCheckpoint};
use meridian_proofs::committee::{Committee, CommitteeParts, GatewayMember, Region, RegionId, Seat};
use meridian_proofs::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::{Namespace, PayloadHash};
use meridian_proofs::log::{CompactRange, LogEntry};
use meridian_proofs::signature::SecretKey;
use meridian_proofs::{Address, B256};
use meridian_proto::contract::committee::schedule;
use meridian_proto::contract::{Meridian, Status, creation_code};
use serde_json::Value;
use tokio::sync::watch;

const NOTICE: u64 = 5;
const GRACE: u64 = 20;
const POLL: Duration = Duration::from_millis(20);
const QUICK: Patience =
    Patience { deadline: Duration::from_secs(3), rounds: 2, pause: Duration::from_millis(10) };

/// A chain with a contract, and the keys of its first committee.
struct Network {
    anvil: Anvil,
    domain: Domain,
    gateway: SecretKey,
    seats: Vec<SecretKey>,
    leaves: Vec<LogEntry>,
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).unwrap()
}

impl Network {
    async fn start(options: Options) -> Result<Option<Self>> {
        let chain_id = options.chain_id;
        let Some(anvil) = Anvil::start(options).await? else { return Ok(None) };
        let owner = anvil.provider_of(0)?;
        let deploy =
            TransactionRequest::default().with_deploy_code(creation_code(anvil::account(0)?, NOTICE, GRACE));
        let receipt = owner.send_transaction(deploy).await?.get_receipt().await?;
        let verifying_contract = receipt.contract_address.context("no contract was made")?;
        let domain = Domain { chain_id, verifying_contract };
        let seats = (1..=3).map(key).collect();
        Ok(Some(Self { anvil, domain, gateway: key(9), seats, leaves: Vec::new() }))
    }

    fn committee(&self, epoch: u64) -> Committee {
        let region = |id| Region {
            id: RegionId(id),
            label: format!("region-{id}"),
            latitude: f64::from(id) + 0.5,
            longitude: -f64::from(id),
        };
        let seat = |(id, key): (u16, &SecretKey)| Seat {
            region: RegionId(id),
            number: 0,
            address: key.address(),
            endpoint: format!("http://127.0.0.1:{id}"),
        };
        Committee::new(CommitteeParts {
            chain_id: self.domain.chain_id,
            verifying_contract: self.domain.verifying_contract,
            epoch,
            min_copies: 3,
            min_retention: 60,
            max_retention: 1 << 20,
            regions: (1..=3).map(region).collect(),
            seats: (1..).zip(&self.seats).map(seat).collect(),
            gateways: vec![GatewayMember {
                address: self.gateway.address(),
                endpoint: "http://127.0.0.1:9".to_owned(),
                max_bytes: 1 << 40,
                max_entries_per_hour: 3600,
            }],
        })
        .unwrap()
    }

    async fn send(&self, call: impl SolCall) -> Result<()> {
        let request = TransactionRequest::default()
            .with_to(self.domain.verifying_contract)
            .with_input(call.abi_encode());
        // A client keeps count of its transactions, whatever the chain takes back.
        let owner = self.anvil.provider_of(0)?;
        let receipt = owner.send_transaction(request).await?.get_receipt().await?;
        ensure!(receipt.status(), "the transaction failed");
        Ok(())
    }

    async fn schedule(&self, epoch: u64) -> Result<()> {
        self.send(schedule(&self.committee(epoch), 0)?).await
    }

    /// Appends an entry of an epoch and gives its certificate.
    async fn append(&mut self, epoch: u64) -> Result<Certificate> {
        let now = self.anvil.now().await?;
        let blob = encode::encode::<Blake3>(&[b'a'; 9], B256::ZERO)?;
        let entry = LogEntry {
            blob_id: blob.id(),
            namespace: Namespace::from([u8::try_from(self.leaves.len())?; 32]),
            payload_hash: PayloadHash::UNBOUND,
            length: 9,
            epoch,
            time: now,
            expiry: now + 3600,
        };
        self.leaves.push(entry);
        ensure!(self.leaves.len() <= 2, "proofs are written out for two entries only");
        let mut range = CompactRange::empty();
        for leaf in &self.leaves {
            range.append(leaf.leaf());
        }
        let checkpoint = Checkpoint {
            gateway: self.gateway.address(),
            epoch,
            size: range.size(),
            root: range.root(),
            timestamp: now,
        };
        let mut checkpoint = CosignedCheckpoint {
            signed: SignedCheckpoint::sign(checkpoint, &self.domain, &self.gateway),
            cosignatures: Vec::new(),
        };
        let digest = checkpoint.signed.checkpoint.digest(&self.domain);
        for seat in &self.seats {
            checkpoint.insert(&self.domain, seat.sign(&digest))?;
        }
        let index = self.leaves.len() as u64 - 1;
        let inclusion = if index == 0 { Vec::new() } else { vec![self.leaves[0].leaf()] };
        Ok(Certificate { header: *blob.header(), entry, index, inclusion, checkpoint })
    }

    /// Anchors a certificate's checkpoint.
    async fn anchor(&self, certificate: &Certificate) -> Result<()> {
        let CosignedCheckpoint { signed, cosignatures } = &certificate.checkpoint;
        let Checkpoint { epoch, size, .. } = signed.checkpoint;
        let mut signatures = signed.signature.as_bytes().to_vec();
        for cosignature in cosignatures {
            signatures.extend(cosignature.as_bytes());
        }
        // RFC 6962: from one entry to two, the second leaf.
        let is_second = size == 2 && self.anchored().await? == 1;
        let consistency = if is_second { vec![self.leaves[1].leaf()] } else { Vec::new() };
        self.send(Meridian::anchorCall {
            checkpoint: (&signed.checkpoint).into(),
            signatures: signatures.into(),
            members: self.committee(epoch).members()?.into(),
            consistency,
        })
        .await
    }

    async fn anchored(&self) -> Result<u64> {
        let anchor = self.contract().anchor_of(self.gateway.address()).await?;
        Ok(anchor.map_or(0, |anchor| anchor.size))
    }

    fn url(&self) -> RpcUrl {
        self.anvil.url().parse().unwrap()
    }

    fn pool(&self, urls: &[RpcUrl]) -> Pool {
        Pool::new(urls, self.domain.chain_id, QUICK).unwrap()
    }

    fn contract(&self) -> Contract {
        Contract::new(self.pool(&[self.url()]), self.domain.verifying_contract)
    }

    fn reading(&self, confirmations: u64) -> Reading {
        let settled = Settled::Confirmations(confirmations);
        Reading { contract: self.domain.verifying_contract, settled, from_block: None }
    }

    async fn view(&self) -> Result<View> {
        Ok(source::read(self.pool(&[self.url()]), self.reading(0)).await?)
    }

    /// Lets time pass on the chain.
    async fn wait(&self, seconds: u64) -> Result<()> {
        self.anvil.increase_time(seconds).await?;
        self.anvil.mine(1).await
    }
}

/// Waits until a view says something.
async fn until(
    view: &mut watch::Receiver<Arc<View>>,
    holds: impl FnMut(&Arc<View>) -> bool,
) -> Result<Arc<View>> {
    let waited = tokio::time::timeout(Duration::from_secs(60), view.wait_for(holds)).await;
    let view = waited.context("the view never says so")??;
    Ok(Arc::clone(&view))
}

#[tokio::test]
async fn the_view_is_what_the_contract_says() -> Result<()> {
    for hardfork in Hardfork::ALL {
        let options = Options { hardfork, ..Options::default() };
        let Some(mut network) = Network::start(options).await? else { return Ok(()) };
        let gateway = network.gateway.address();
        ensure!(matches!(network.view().await, Err(error) if error.to_string().contains("no committee")));
        network.schedule(1).await?;
        let first = network.append(1).await?;
        network.anchor(&first).await?;
        let view = network.view().await?;
        ensure!(*view.epochs.latest().committee == network.committee(1));
        let contract = network.contract();
        ensure!(contract.anchor_of(gateway).await?.as_ref() == view.latest_anchor(&gateway));
        ensure!(view.latest_anchor(&gateway).is_some_and(|anchor| anchor.size == 1));

        // A seat passes, is taken back, and passes again.
        network.wait(GRACE).await?;
        let successor = key(33);
        let pass = Meridian::passSeatCall {
            epoch: 2,
            members: network.committee(1).members()?.into(),
            from: network.seats[2].address(),
            to: successor.address(),
            endpoint: "http://127.0.0.1:3".to_owned(),
            activation: 0,
        };
        let late = network.anvil.now().await? + 10 * GRACE;
        network.send(Meridian::passSeatCall { activation: late, ..pass.clone() }).await?;
        ensure!(network.view().await?.epochs.latest().committee.epoch() == 2);
        network.send(Meridian::cancelCommitteeCall { epoch: 2 }).await?;
        let view = network.view().await?;
        ensure!(view.epochs.terms().len() == 1 && view.epochs.latest().closes.is_none());
        network.send(pass).await?;
        network.seats[2] = successor;
        let view = network.view().await?;
        ensure!(*view.epochs.latest().committee == network.committee(2));
        for term in view.epochs.terms() {
            let kept = contract.epoch_of(term.committee.epoch()).await?.context("the epoch is there")?;
            ensure!((kept.activation, kept.closes) == (term.activation, term.closes));
        }
        network.wait(NOTICE).await?;
        let second = network.append(2).await?;
        network.anchor(&second).await?;
        let view = network.view().await?;
        let sizes: Vec<_> = view.anchors[&gateway].iter().map(|anchor| (anchor.epoch, anchor.size)).collect();
        ensure!(sizes == [(1, 1), (2, 2)]);
        ensure!(view.closing(&gateway, 1).is_some_and(|anchor| anchor.size == 1));
        ensure!(network.anvil.log().contains("eth_getLogs"));
    }
    Ok(())
}

#[tokio::test]
async fn the_contract_says_of_a_certificate_what_the_client_says() -> Result<()> {
    let Some(mut network) = Network::start(Options::default()).await? else { return Ok(()) };
    network.schedule(1).await?;
    let certificate = network.append(1).await?;
    let (contract, committee) = (network.contract(), network.committee(1));
    let members = committee.members()?;
    let bytes = certificate.encode();
    certificate.verify(&committee)?;
    ensure!(contract.verify_certificate(&bytes, &members, None).await? == Status::Valid);
    let expiry = certificate.entry.expiry;
    ensure!(contract.verify_certificate(&bytes, &members, Some(expiry)).await? == Status::Valid);
    let late = contract.verify_certificate(&bytes, &members, Some(expiry + 1)).await?;
    ensure!(late == Status::ExpiresTooSoon);
    let mut thin = certificate.clone();
    thin.checkpoint.cosignatures.pop();
    ensure!(contract.verify_certificate(&thin.encode(), &members, None).await? == Status::NoQuorum);
    ensure!(contract.verify_certificate(&bytes, b"", None).await? == Status::WrongMembers);
    ensure!(contract.verify_certificate(b"", &members, None).await? == Status::Malformed);

    network.anchor(&certificate).await?;
    let gateway = network.gateway.address();
    ensure!(contract.verify_anchored(&certificate.entry, 0, &[], gateway).await?);
    ensure!(!contract.verify_anchored(&certificate.entry, 0, &[B256::ZERO], gateway).await?);
    ensure!(!contract.verify_anchored(&certificate.entry, 0, &[], Address::ZERO).await?);

    // Its epoch closes: then only the anchor counts.
    network.wait(GRACE).await?;
    network.schedule(2).await?;
    network.wait(NOTICE).await?;
    ensure!(contract.verify_certificate(&bytes, &members, None).await? == Status::Valid);
    network.wait(GRACE).await?;
    ensure!(contract.verify_certificate(&bytes, &members, None).await? == Status::EpochClosed);
    ensure!(contract.verify_anchored(&certificate.entry, 0, &[], gateway).await?);
    Ok(())
}

#[tokio::test]
async fn endpoints_that_fail_are_passed_over_and_an_outage_leaves_the_view() -> Result<()> {
    let Some(network) = Network::start(Options::default()).await? else { return Ok(()) };
    let Some(frozen) = Anvil::start(Options::default()).await? else { return Ok(()) };
    let Some(foreign) = Anvil::start(Options { chain_id: 5, ..Options::default() }).await? else {
        return Ok(());
    };
    frozen.freeze()?;
    network.schedule(1).await?;
    let gone = "http://127.0.0.1:1".parse()?;
    let urls = [gone, frozen.url().parse()?, foreign.url().parse()?, network.url()];
    let source = ChainSource::connect(network.pool(&urls), network.reading(0), POLL).await?;
    let mut view = source.view();
    let before = view.borrow_and_update().head.context("a head")?.number;
    ensure!(!foreign.log().contains("eth_getLogs"));

    network.anvil.freeze()?;
    while source.health().error.is_none() {
        tokio::time::sleep(POLL).await;
    }
    ensure!(view.borrow().head.context("a head")?.number == before);
    network.anvil.thaw()?;
    network.anvil.mine(1).await?;
    until(&mut view, |view| view.head.is_some_and(|head| head.number > before)).await?;

    let lost = ChainSource::connect(network.pool(&[foreign.url().parse()?]), network.reading(0), POLL).await;
    ensure!(matches!(lost.err(), Some(SourceError::Chain(ChainError::WrongChain { .. }))));
    Ok(())
}

#[tokio::test]
async fn what_a_reorganisation_takes_back_is_forgotten() -> Result<()> {
    let Some(mut network) = Network::start(Options::default()).await? else { return Ok(()) };
    network.schedule(1).await?;
    network.anvil.mine(20).await?;
    let pool = network.pool(&[network.url()]);
    let source = ChainSource::connect(pool, network.reading(3), POLL).await?;
    let mut view = source.view();
    let gateway = network.gateway.address();
    let certificate = network.append(1).await?;
    network.anchor(&certificate).await?;
    network.anvil.mine(2).await?;
    // Not settled: it goes without a trace.
    network.anvil.reorg(3).await?;
    ensure!(network.anchored().await? == 0);
    network.anvil.mine(4).await?;
    let number = network.contract().latest_block().await?.number - 3;
    let settled = until(&mut view, |view| view.head.is_some_and(|head| head.number >= number)).await?;
    ensure!(settled.latest_anchor(&gateway).is_none());

    // Settled, and taken back all the same.
    network.anchor(&certificate).await?;
    network.anvil.mine(3).await?;
    until(&mut view, |view| view.latest_anchor(&gateway).is_some()).await?;
    network.anvil.reorg(6).await?;
    until(&mut view, |view| view.latest_anchor(&gateway).is_none()).await?;
    Ok(())
}

#[tokio::test]
async fn a_liar_with_a_chain_of_its_own_is_outvoted() -> Result<()> {
    let Some(mut network) = Network::start(Options::default()).await? else { return Ok(()) };
    // The same chain id, the same contract at the same address, another history.
    let Some(liar) = Network::start(Options::default()).await? else { return Ok(()) };
    ensure!(liar.domain == network.domain);
    liar.schedule(1).await?;
    liar.anvil.mine(30).await?;
    network.schedule(1).await?;
    let certificate = network.append(1).await?;
    network.anchor(&certificate).await?;
    network.anvil.mine(30).await?;
    let two = network.pool(&[liar.url(), network.url()]);
    let error = source::read(two, network.reading(0)).await.err().context("two contradict each other")?;
    ensure!(matches!(error, SourceError::Disputed(_)), "{error}");
    let other: RpcUrl = format!("http://localhost:{}", network.anvil.port()).parse()?;
    let three = network.pool(&[liar.url(), network.url(), other]);
    let source = ChainSource::connect(three, network.reading(0), POLL).await?;
    let view = Arc::clone(&source.view().borrow());
    ensure!(view.latest_anchor(&network.gateway.address()).is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn da_takes_committees_from_the_chain_and_asks_the_contract() -> Result<()> {
    let Some(mut network) = Network::start(Options::default()).await? else { return Ok(()) };
    network.schedule(1).await?;
    let certificate = network.append(1).await?;
    network.anchor(&certificate).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cert");
    std::fs::write(&file, certificate.encode())?;
    let contract = network.domain.verifying_contract.to_string();
    let run = |arguments: &[&str]| -> Result<(Option<i32>, Value)> {
        let mut da = Programs::build()?.da();
        da.args(arguments).args(["--json", "--settled", "0", "--contract", &contract]);
        let output = da.args(["--chain", &network.anvil.url()]).output()?;
        Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
    };
    let path = file.to_str().context("a path")?;
    let (code, report) = run(&["cert", "verify", path])?;
    ensure!(code == Some(0) && report["verified"] == true, "{report}");
    ensure!(report["contract_status"] == "VALID", "{report}");
    let late = (certificate.entry.expiry + 1).to_string();
    let (code, report) = run(&["cert", "verify", path, "--until", &late])?;
    ensure!(code == Some(5) && report["contract_status"] == "EXPIRES_TOO_SOON", "{report}");
    ensure!(report["problem"].as_str().is_some_and(|problem| problem.contains("expires")), "{report}");
    let (code, report) = run(&["cert", "verify", path, "--chain-id", "7"])?;
    ensure!(code == Some(6) && report["error"]["reason"] == "WRONG_CHAIN", "{report}");
    let (code, report) = run(&["committee"])?;
    ensure!(code == Some(0) && report["epochs"][0]["state"] == "current", "{report}");
    ensure!(report["epochs"][0]["fingerprint"] == network.committee(1).fingerprint().to_string());
    let (code, report) = run(&["status"])?;
    ensure!(code == Some(0) && report["gateways"][0]["anchored_size"] == 1, "{report}");

    // Under the next epoch, once the grace is over, the anchor is what counts; the entry is the log's only one.
    network.wait(GRACE).await?;
    network.schedule(2).await?;
    network.wait(NOTICE + GRACE).await?;
    let (code, report) = run(&["cert", "verify", path])?;
    ensure!(code == Some(0) && report["contract_status"] == "EPOCH_CLOSED", "{report}");
    ensure!(report["contract_anchored"] == true, "{report}");
    Ok(())
}
