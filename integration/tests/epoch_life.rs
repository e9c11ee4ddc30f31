//! The whole life of an epoch change: real processes on a real chain, with puts in flight all the time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use meridian_client::Silent;
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{Patience, Pool};
use meridian_client::chain::settled::Settled;
use meridian_client::chain::source::{ChainSource, CommitteeSource, Reading};
use meridian_client::chain::view::View;
use meridian_client::fetch::Readers;
use meridian_client::submit::Submitter;
use meridian_integration::anvil::Hardfork;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::{eventually, options};
use meridian_integration::programs::Programs;
use meridian_integration::{payload, ports};
use meridian_node::key;
use meridian_proofs::Address;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::committee::{Committee, CommitteeParts};
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::{B256, placement};
use meridian_proto::contract::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Seconds between the schedule of the epoch and its begin.
const NOTICE: u64 = 6;
/// Seconds that the first epoch goes on beside it.
const GRACE: u64 = 24;
/// Time in which anything must come about.
const SOON: Duration = Duration::from_secs(90);

/// A member that joins with the second epoch.
struct Joining {
    address: Address,
    endpoint: String,
    config: PathBuf,
    role: &'static str,
    process: Option<Child>,
}

impl Joining {
    /// Makes its folder beside that of a member whose settings it takes over, with keys and ports of its own.
    fn new(network: &Devnet, role: &'static str, like: &str) -> Result<Self> {
        let folder = network.folder().join(format!("new-{role}"));
        fs::create_dir(&folder)?;
        let address = key::create(&folder.join("key"))?.address();
        let text = fs::read_to_string(network.folder().join(like).join("config.toml"))?;
        let mut config: toml::Table = toml::from_str(&text)?;
        let mut set = |section: &str, name: &str, value: String| -> Result<()> {
            let section = config.get_mut(section).and_then(toml::Value::as_table_mut).context("a section")?;
            section.insert(name.to_owned(), value.into());
            Ok(())
        };
        let (grpc, http) = (ports::listener()?, ports::listener()?);
        set("node", "key", path(&folder.join("key"))?)?;
        set("node", "data_dir", path(&folder.join("data"))?)?;
        set("listen", "grpc", grpc.local_addr()?.to_string())?;
        set("listen", "http", http.local_addr()?.to_string())?;
        if role == "gateway" {
            // The old gateway's account has nothing more to pay for once its log is closed; until then it must be its own.
            let account = folder.join("anchor-key");
            key::create(&account)?;
            set("anchor", "key", path(&account)?)?;
        }
        let file = folder.join("config.toml");
        fs::write(&file, toml::to_string(&config)?)?;
        let endpoint = format!("http://{}", grpc.local_addr()?);
        Ok(Self { address, endpoint, config: file, role, process: None })
    }

    fn start(&mut self, network: &Devnet) -> Result<()> {
        let log = fs::File::create(self.config.with_file_name("log"))?;
        let mut command = Programs::build()?.da_node();
        command.arg(self.role).arg("--config").arg(&self.config);
        command.arg("--stop-when-unlocked").arg(network.folder().join("lock"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(command.spawn()?);
        Ok(())
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Ok(pid) = i32::try_from(process.id()) else { return };
        // It may have ended since.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = process.wait();
    }
}

fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path")?.to_owned())
}

/// Something that was put, and what came back.
struct Kept {
    certificate: Certificate,
    signers: Vec<Address>,
    payload: Bytes,
}

/// Puts one payload after the other until it is told to stop; every put must be certified.
async fn keep_putting(submitter: Submitter, seed: u64, stop: Arc<AtomicBool>) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let number = seed + u64::try_from(kept.len())?;
        let payload = payload::noise(20_000, number);
        let receipt = submitter.put(payload.clone(), &options(), &Silent).await;
        let receipt = receipt.with_context(|| format!("put {number}"))?;
        kept.push(Kept { certificate: receipt.certificate, signers: receipt.signers, payload });
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    Ok(kept)
}

/// A devnet with a chain, and a client of it that follows the chain.
struct Stage {
    network: Devnet,
    source: ChainSource,
    contract: Contract,
}

impl Stage {
    async fn start(hardfork: Hardfork) -> Result<Option<Self>> {
        let (notice, grace) = (NOTICE.to_string(), GRACE.to_string());
        let mut arguments = vec!["--gateways", "2", "--notice", &notice, "--grace", &grace];
        if hardfork == Hardfork::Paris {
            arguments.extend(["--hardfork", "paris"]);
        }
        let Some(network) = Devnet::start_on_chain(&arguments, &[]).await? else { return Ok(None) };
        let (url, contract) = network.chain()?;
        let pool = Pool::discover(&[url.parse()?], Patience::default()).await?;
        let reading = Reading { contract, settled: Settled::Confirmations(1), from_block: Some(1) };
        let source = ChainSource::connect(pool.clone(), reading, Duration::from_millis(200)).await?;
        Ok(Some(Self { network, source, contract: Contract::new(pool, contract) }))
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.source.view().borrow())
    }

    /// The first epoch's committee with one seat and one gateway passed to those that join.
    fn next(&self, leaving: [Address; 2], joining: [&Joining; 2]) -> Result<Committee> {
        let [seat, gateway] = leaving;
        let mut parts: CommitteeParts = self.network.committee().parts().clone();
        parts.epoch = 2;
        let seat = parts.seats.iter_mut().find(|one| one.address == seat).context("the seat")?;
        (seat.address, seat.endpoint) = (joining[0].address, joining[0].endpoint.clone());
        let gateway = parts.gateways.iter_mut().find(|one| one.address == gateway).context("the gateway")?;
        (gateway.address, gateway.endpoint) = (joining[1].address, joining[1].endpoint.clone());
        Ok(Committee::new(parts)?)
    }

    /// Schedules a committee with the command that operators use.
    fn schedule(&self, committee: &Committee) -> Result<()> {
        let (url, contract) = self.network.chain()?;
        let folder = self.network.folder();
        let file = folder.join("committee-2.toml");
        fs::write(&file, toml::to_string(committee)?)?;
        let mut command: Command = Programs::build()?.da_node();
        command.args(["chain", "committee", "schedule", "--yes", "--rpc", &url]);
        command.args(["--contract", &contract.to_string(), "--key"]).arg(folder.join("chain/owner-key"));
        let output = command.arg("--file").arg(file).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    async fn verdict(&self, certificate: &Certificate) -> Result<Status> {
        let epochs = self.view();
        let term = epochs.epochs.term(certificate.entry.epoch).context("an epoch of the chain")?;
        let members = term.committee.members()?;
        Ok(self.contract.verify_certificate(&certificate.encode(), &members, None).await?)
    }

    /// Whether a replica has all its rows of a blob on its disk.
    async fn holds(&self, committee: &Committee, replica: Address, kept: &Kept) -> Result<()> {
        let seat = committee.seat(&replica).context("a seat")?;
        let blob = encode::<Blake3>(&kept.payload, B256::ZERO)?;
        let rpc = self.network.channels().replica(&seat.endpoint)?;
        for range in placement::interval(committee, seat, &blob.id(), blob.shape()).ranges() {
            let (rows, _) = rpc.rows(blob.id(), *range, blob.shape().row_bytes(), true).await?;
            ensure!(rows == blob.rows(*range), "other rows");
        }
        Ok(())
    }
}

async fn life_of_an_epoch_change(hardfork: Hardfork) -> Result<()> {
    let Some(stage) = Stage::start(hardfork).await? else { return Ok(()) };
    let first = Arc::clone(stage.network.committee());
    let region = first.regions().iter().find(|region| region.label == "eu-central").context("a region")?.id;
    let old_seat = first.seats_of(region).next().context("a seat")?.address;
    let old_gateway = first.gateways()[1].clone();

    let mut seat = Joining::new(&stage.network, "replica", "eu-central-0")?;
    let mut gateway = Joining::new(&stage.network, "gateway", "gateway-1")?;
    let account = key::load(&gateway.config.with_file_name("anchor-key"))?.address();
    stage.network.fund(account).await?;
    let second = Arc::new(stage.next([old_seat, old_gateway.address], [&seat, &gateway])?);

    // Each gateway is tried first by one client; the one that leaves is followed by its successor.
    let stop = Arc::new(AtomicBool::new(false));
    let staying = first.gateways()[0].endpoint.clone();
    let orders = [
        vec![staying.clone(), gateway.endpoint.clone()],
        vec![old_gateway.endpoint.clone(), gateway.endpoint.clone(), staying],
    ];
    let puts: Vec<_> = (0_u64..)
        .zip(orders)
        .map(|(number, gateways)| {
            let channels = stage.network.channels().clone();
            let submitter = Submitter::new(stage.source.view(), channels, gateways);
            tokio::spawn(keep_putting(submitter, 1_000 * number, Arc::clone(&stop)))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.schedule(&second)?;
    eventually(SOON, "the schedule", async || stage.view().epochs.term(2).map(drop)).await?;
    seat.start(&stage.network)?;
    gateway.start(&stage.network)?;

    let closed = |gateway: Address| stage.view().closing(&gateway, 1).copied();
    eventually(SOON, "both logs close the first epoch", async || {
        first.gateways().iter().all(|one| closed(one.address).is_some()).then_some(())
    })
    .await?;
    let anchored = |gateway: Address| stage.view().latest_anchor(&gateway).map(|anchor| anchor.epoch);
    for of in [first.gateways()[0].address, gateway.address] {
        eventually(SOON, "anchors in the second epoch", async || (anchored(of) == Some(2)).then_some(()))
            .await?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut kept: BTreeMap<u64, Vec<Kept>> = BTreeMap::new();
    for put in puts {
        for one in put.await?? {
            kept.entry(one.certificate.entry.epoch).or_default().push(one);
        }
    }
    let of = |epoch| kept.get(&epoch).map_or(&[] as &[Kept], Vec::as_slice);
    let (before, after) = (of(1), of(2));
    println!("{hardfork:?}: {} puts in the first epoch, {} in the second", before.len(), after.len());
    ensure!(!before.is_empty() && !after.is_empty(), "puts on one side of the change only");

    // The closing anchors cover all that was acknowledged.
    for one in before {
        let log = one.certificate.checkpoint.signed.checkpoint.gateway;
        let closing = closed(log).context("a closing anchor")?;
        ensure!(one.certificate.index < closing.size, "entry {} is not anchored", one.certificate.index);
    }
    ensure!(
        after.iter().all(|one| one.certificate.checkpoint.signed.checkpoint.gateway != old_gateway.address),
        "the gateway that left is still at work"
    );
    let mut seed = u64::MAX;
    eventually(SOON, "the new seat signs", async || {
        let put = Submitter::new(
            stage.source.view(),
            stage.network.channels().clone(),
            vec![second.gateways()[0].endpoint.clone()],
        );
        seed -= 1;
        let receipt = put.put(payload::noise(9_000, seed), &options(), &Silent).await.ok()?;
        receipt.signers.contains(&seat.address).then_some(())
    })
    .await?;
    let passed = after.iter().chain(before);
    for one in passed {
        eventually(SOON, "the new seat fills itself", async || {
            stage.holds(&second, seat.address, one).await.ok()
        })
        .await?;
    }
    for one in before.iter().filter(|one| one.signers.contains(&old_seat)) {
        stage.holds(&first, old_seat, one).await.context("the seat that left")?;
    }

    let over = async || {
        stage.contract.latest_block().await.ok().filter(|head| {
            stage
                .view()
                .epochs
                .term(1)
                .and_then(|term| term.closes)
                .is_some_and(|closes| head.timestamp >= closes)
        })
    };
    eventually(SOON, "the end of the grace", over).await?;
    let readers = Readers::new(stage.source.view(), stage.network.channels().clone());
    for one in before {
        assert_eq!(stage.verdict(&one.certificate).await?, Status::EpochClosed);
        let log = one.certificate.checkpoint.signed.checkpoint.gateway;
        let (entry, index) = (&one.certificate.entry, one.certificate.index);
        // An anchor that is mined meanwhile makes a proof stale.
        let proof = eventually(SOON, "a proof under the latest anchor", async || {
            let anchor = stage.contract.anchor_of(log).await.ok()??;
            let proof = readers.prove_anchored(&one.certificate, &anchor).await.ok()??;
            stage.contract.verify_anchored(entry, index, &proof, log).await.ok()?.then_some(proof)
        })
        .await?;
        ensure!(!stage.contract.verify_anchored(entry, index + 1, &proof, log).await?, "another index");
    }
    for one in after {
        assert_eq!(stage.verdict(&one.certificate).await?, Status::Valid);
    }
    for one in before.iter().chain(after) {
        let id = one.certificate.id();
        let read = async |reader: meridian_client::fetch::Reader| reader.payload(id, &Silent).await;
        let (fetched, _) = readers.first(Some(one.certificate.entry.epoch), read).await?;
        ensure!(fetched.payload == one.payload, "bytes differ");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_changes_under_paris() -> Result<()> {
    life_of_an_epoch_change(Hardfork::Paris).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_changes_under_the_newest_rules() -> Result<()> {
    life_of_an_epoch_change(Hardfork::Newest).await
}
