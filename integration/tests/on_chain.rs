//! Real processes on a real chain: what the devnet registers, anchors and shows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::chain::contract::Contract;
use meridian_client::chain::rpc::{Patience, Pool};
use meridian_client::chain::view::Anchor;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use meridian_proofs::Address;
use meridian_proto::contract::Status;

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
