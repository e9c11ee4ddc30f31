//! Real processes on a real chain: what the devnet registers, anchors and shows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use meridian_client::Silent;
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{Patience, Pool};
use meridian_client::chain::view::Anchor;
use meridian_client::namespaces::{Limits, Namespaces};
use meridian_client::submit::{Failure, PutError, PutOptions};
use meridian_integration::devnet::Devnet;
use meridian_integration::keys;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use meridian_integration::programs::Programs;
use meridian_node::devnet::Plan;
use meridian_proofs::Address;
use meridian_proofs::ids::Namespace;
use meridian_proto::contract::Status;
use meridian_proto::error::Reason;

/// Time in which anything must come about.
const SOON: Duration = Duration::from_secs(60);

async fn contract(network: &Devnet) -> Result<Contract> {
    let (url, address) = network.chain()?;
    Ok(Contract::new(Pool::discover(&[url.parse()?], Patience::default()).await?, address))
}

async fn anchored(contract: &Contract, gateway: Address, size: u64) -> Result<Anchor> {
    eventually(SOON, "an anchor", async || {
        contract.anchor_of(gateway).await.ok().flatten().filter(|anchor| anchor.size >= size)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_keeps_what_its_contract_knows() -> Result<()> {
    let Some(mut network) = Devnet::start_on_chain(&["--gateways", "2"], &[]).await? else { return Ok(()) };
    let committee = Arc::clone(network.committee());
    let members = committee.members()?;
    let mut certificates = Vec::new();
    for (seed, gateway) in (0..).zip(network.gateways()) {
        let submitter = network.submitter_to(vec![gateway]);
        certificates
            .push(submitter.put(payload::noise(30_000, seed), &options(), &Silent).await?.certificate);
    }
    // Two gateways, two logs.
    let on_chain = contract(&network).await?;
    for certificate in &certificates {
        let log = certificate.checkpoint.signed.checkpoint.gateway;
        let anchor = anchored(&on_chain, log, 1).await?;
        assert_eq!((anchor.epoch, anchor.gateway), (1, log));
        let (entry, index) = (&certificate.entry, certificate.index);
        let path = (anchor.size == certificate.checkpoint.signed.checkpoint.size)
            .then(|| certificate.inclusion.clone())
            .context("one put in each log")?;
        ensure!(on_chain.verify_anchored(entry, index, &path, log).await?, "{anchor:?}");
        let bytes = certificate.encode();
        assert_eq!(on_chain.verify_certificate(&bytes, &members, None).await?, Status::Valid);
        let mut forged = bytes;
        forged[120] ^= 1;
        let refused = on_chain.verify_certificate(&forged, &members, None).await?;
        ensure!(refused != Status::Valid, "a forged certificate is valid");
    }

    network.restart().await?;
    let before = contract(&network).await?.anchor_of(committee.gateways()[0].address).await?;
    ensure!(before.is_some_and(|anchor| anchor.size == 1), "the chain was forgotten: {before:?}");
    ensure!(network.output().matches("a new chain").count() == 1, "{}", network.output());

    // Without its state the chain begins again: the same contract, the same members, and the logs come back to it.
    network.stop()?;
    std::fs::remove_file(network.folder().join("chain/state.json"))?;
    network.restart().await?;
    ensure!(network.output().matches("a new chain").count() == 2, "{}", network.output());
    let again = network.submitter().put(payload::noise(30_000, 7), &options(), &Silent).await?.certificate;
    certificates.push(again);
    let on_chain = contract(&network).await?;
    for certificate in &certificates {
        let status = on_chain.verify_certificate(&certificate.encode(), &members, None).await?;
        assert_eq!(status, Status::Valid);
    }
    let last = certificates.last().context("a put")?;
    anchored(&on_chain, last.checkpoint.signed.checkpoint.gateway, last.index + 1).await?;
    Ok(())
}

/// Runs `da-node chain namespaces`, and gives what it prints.
fn registry(network: &Devnet, key: &str, arguments: &[&str]) -> Result<serde_json::Value> {
    let (url, _) = network.chain()?;
    let key = network.folder().join(key);
    let mut command = Programs::build()?.da_node();
    command.args(["chain", "namespaces"]).args(arguments).args(["--rpc", &url, "--json"]);
    if arguments[0] != "show" {
        command.arg("--key").arg(key);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_on_the_chain_says_who_may_put() -> Result<()> {
    let Some(mut network) = Devnet::start_on_chain(&["--regions", "2"], &[]).await? else { return Ok(()) };
    let owner = "chain/owner-key";
    let deployed = registry(&network, owner, &["deploy"])?;
    let address = deployed["registry"].as_str().context("an address")?.to_owned();
    let made = registry(&network, owner, &["create", "--registry", &address])?;
    let name = made["namespace"].as_str().context("a namespace")?.to_owned();
    let namespace: Namespace = name.parse()?;

    // The gateway begins to ask.
    let file = network.folder().join("namespaces.toml");
    Namespaces::change(&file, true, |list| list.create(namespace, None, Limits::default()))?;
    let dir = network.folder();
    let members = Plan::load(&dir)?.members(&dir);
    let gateway = members.iter().find(|member| member.name == "gateway-0").context("a gateway")?;
    let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(gateway.config())?)?;
    let access = toml::Table::from_iter([
        ("namespaces".to_owned(), file.to_str().context("a path")?.into()),
        ("registry".to_owned(), address.clone().into()),
    ]);
    config.insert("access".to_owned(), access.into());
    std::fs::write(gateway.config(), toml::to_string(&config)?)?;
    network.restart().await?;

    let options = PutOptions { namespace, ..options() };
    let put = async |network: &Devnet, word: &str, seed: u64| {
        let submitter = network.submitter().signing(Arc::new(keys::secret(word)?));
        match submitter.put(payload::noise(5_000, seed), &options, &Silent).await {
            Ok(_) => Ok(None),
            Err(PutError::Failed(attempts)) => match &attempts[0].failure {
                Failure::Call(error) => Ok(Some(error.reason)),
                other => bail!("{other}"),
            },
            Err(error) => Err(error.into()),
        }
    };
    ensure!(put(&network, "writer", 1).await? == Some(Reason::NotPermitted), "a stranger may put");
    let writer = keys::secret("writer")?.address().to_string();
    let about = ["--registry", &*address, "--namespace", &*name];
    registry(&network, owner, &[&["allow", "--writer", &writer], &about[..]].concat())?;
    // Half a minute is how long an answer holds.
    eventually(SOON, "a writer who is let in", async || {
        put(&network, "writer", 2).await.ok().filter(Option::is_none)
    })
    .await?;

    // An offer is for one account, and changes nothing before that accepts it.
    let shown = registry(&network, owner, &[&["show"], &about[..]].concat())?;
    ensure!(shown["owner"].is_string() && shown["offered_to"].is_null(), "{shown}");
    let heir = keys::secret("heir")?.address();
    let offered = registry(&network, owner, &[&["offer", "--to", &heir.to_string()], &about[..]].concat())?;
    let to: Address = offered["offered_to"].as_str().context("an offer")?.parse()?;
    ensure!(to == heir && offered["owner"] == shown["owner"], "{offered}");
    let refused = registry(&network, owner, &[&["accept"], &about[..]].concat());
    ensure!(refused.is_err_and(|error| error.to_string().contains("NotOffered")), "anybody may accept");
    registry(&network, owner, &[&["deny", "--writer", &writer], &about[..]].concat())?;
    eventually(SOON, "a writer who is let in no more", async || {
        put(&network, "writer", 3).await.ok().filter(|refused| *refused == Some(Reason::NotPermitted))
    })
    .await?;
    Ok(())
}
