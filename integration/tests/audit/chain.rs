//! On a real chain: what is anchored, and by which transaction.

use alloy::providers::{Provider, ProviderBuilder};
use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::{eventually, options};
use meridian_integration::payload;
use serde_json::Value;

use super::{LIMIT, da};

#[tokio::test(flavor = "multi_thread")]
async fn a_devnet_is_audited_under_its_anchors_and_a_blob_traced_to_its_transaction() -> Result<()> {
    let Some(network) = Devnet::start_on_chain(&[], &[]).await? else { return Ok(()) };
    let mut certificates = Vec::new();
    for seed in 0..3 {
        let put = network.submitter().put(payload::noise(30_000, seed), &options(), &Silent).await?;
        certificates.push(put.certificate);
    }
    let folder = tempfile::tempdir()?;
    let (url, contract) = network.chain()?;
    let contract = contract.to_string();
    let chain = ["--chain", &url, "--contract", &contract, "--settled", "0"];
    let run = |arguments: &[&str]| da(folder.path(), &[&chain, arguments].concat());

    // All three are anchored after a while, each by the first anchor that covers it.
    let ids: Vec<String> = certificates.iter().map(|certificate| certificate.id().to_string()).collect();
    let traces: Vec<Value> = eventually(LIMIT, "anchors", async || {
        let traces: Option<Vec<Value>> = ids.iter().map(|id| Some(run(&["trace", id]).ok()?.0)).collect();
        traces.filter(|traces| traces.iter().all(|trace| trace["anchor"].is_object()))
    })
    .await?;
    let provider = ProviderBuilder::new().connect_http(url.parse()?);
    for (certificate, trace) in certificates.iter().zip(&traces) {
        let anchor = &trace["anchor"];
        assert_eq!(trace["index"].as_u64(), Some(certificate.index));
        let size = anchor["size"].as_u64().context("a size")?;
        ensure!(size > certificate.index, "{trace}");
        let hash: alloy::primitives::B256 = anchor["transaction"].as_str().context("a hash")?.parse()?;
        let receipt = provider.get_transaction_receipt(hash).await?.context("a receipt")?;
        assert_eq!(receipt.block_number, anchor["block"].as_u64());
        assert_eq!(receipt.to, Some(contract.parse()?));
        let root = anchor["root"].as_str().context("a root")?.trim_start_matches("0x");
        let told = receipt.logs().iter().any(|log| hex::encode(&log.data().data).contains(root));
        ensure!(told, "{receipt:?} does not tell of {root}");
        for region in trace["regions"].as_array().context("regions")? {
            assert_eq!(region["state"], "complete", "{region}");
        }
    }
    // No earlier anchor covers the first entry: sizes rise along the log.
    let sizes: Vec<Option<u64>> = traces.iter().map(|trace| trace["anchor"]["size"].as_u64()).collect();
    ensure!(sizes.is_sorted(), "{sizes:?}");

    let (audit, code) = run(&["audit", "--deep"])?;
    assert_eq!(
        (code, &audit["outcome"], &audit["unanchored"]),
        (0, &Value::from("identical"), &Value::from(0))
    );
    let block = audit["block"].as_u64().context("a block")?;
    let verdict = audit["verdict"].as_str().context("a verdict")?;
    let expected = format!(
        "all 5 regions hold identical copies of 3 blobs, checked against anchors up to block {block}"
    );
    ensure!(verdict.starts_with(&expected), "{verdict}");

    // A region that is out of reach is named, and the others are as they were.
    network.kill("ap-northeast-0")?;
    let (audit, code) = run(&["audit"])?;
    assert_eq!((code, &audit["outcome"]), (4, &Value::from("unavailable")));
    let states: Vec<&Value> =
        audit["regions"].as_array().context("regions")?.iter().map(|it| &it["state"]).collect();
    assert_eq!(states.iter().filter(|state| **state == "unreachable").count(), 1, "{states:?}");
    assert_eq!(states.iter().filter(|state| **state == "complete").count(), 4, "{states:?}");
    Ok(())
}
