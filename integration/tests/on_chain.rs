//! Real processes on a real chain: what the devnet registers, anchors and shows.

use std::sync::Arc;

use alloy::network::TransactionBuilder;
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::options;
use meridian_integration::payload;
use meridian_proofs::committee::Committee;
use meridian_proto::contract::{Meridian, Status};

/// What the contract says of a certificate.
async fn verdict(network: &Devnet, committee: &Committee, certificate: Vec<u8>) -> Result<Status> {
    let (url, contract) = network.chain()?;
    let call = Meridian::verifyCertificateCall {
        certificate: certificate.into(),
        members: committee.members()?.into(),
    };
    let asked = TransactionRequest::default().with_to(contract).with_input(call.abi_encode());
    let answer = ProviderBuilder::new().connect_http(url.parse()?).call(asked).await?;
    let status = Meridian::verifyCertificateCall::abi_decode_returns(&answer)?;
    Status::from_number(status).with_context(|| format!("status {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_a_devnet_convince_its_contract() -> Result<()> {
    let Some(mut network) = Devnet::start_on_chain(&[], &[]).await? else { return Ok(()) };
    let committee = Arc::clone(network.committee());
    let receipt = network.submitter().put(payload::noise(30_000, 1), &options(), &Silent).await?;
    let bytes = receipt.certificate.encode();
    assert_eq!(verdict(&network, &committee, bytes.clone()).await?, Status::Valid);
    let mut forged = bytes.clone();
    forged[120] ^= 1;
    let refused = verdict(&network, &committee, forged).await?;
    ensure!(refused != Status::Valid, "a forged certificate is valid");

    network.restart().await?;
    assert_eq!(verdict(&network, &committee, bytes.clone()).await?, Status::Valid, "the chain was forgotten");
    ensure!(network.output().matches("a new chain").count() == 1, "{}", network.output());

    // Without its state the chain begins again; the same contract takes the same members.
    network.stop()?;
    std::fs::remove_file(network.folder().join("chain/state.json"))?;
    network.restart().await?;
    assert_eq!(verdict(&network, &committee, bytes).await?, Status::Valid);
    ensure!(network.output().matches("a new chain").count() == 2, "{}", network.output());
    Ok(())
}
