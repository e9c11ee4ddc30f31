//! Blobs that are bound to KZG commitments, from the command that puts them to openings that a precompile would take.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_client::fetch::ReadError;
use meridian_client::submit::PutOptions;
use meridian_integration::network::{Network, Plan, options};
use meridian_integration::payload;
use meridian_integration::programs::Programs;
use meridian_proofs::certificate::Certificate;
use meridian_proofs::encode::encode;
use meridian_proofs::hash::Blake3;
use meridian_proofs::ids::PayloadHash;
use meridian_proofs::kzg::{KzgBinding, KzgCommitment, Opening, POLYNOMIAL_BYTES, verify_range};
use meridian_proofs::{B256, keccak256};
use meridian_proto::MAX_CANDIDATES;
use serde_json::Value;

/// Runs `da` on a network, in a folder.
async fn da(network: &Network, folder: &Path, args: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::from(Programs::build()?.da());
    command.current_dir(folder).arg("--committee").arg(network.committee_file()).arg("--json").args(args);
    Ok(command.output().await?)
}

fn printed(output: &Output, code: i32) -> Result<Value> {
    ensure!(output.status.code() == Some(code), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    let text = value.as_str().context("no text")?;
    Ok(hex::decode(text.strip_prefix("0x").context("no 0x")?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_batch_is_put_read_and_opened() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let folder = tempfile::tempdir()?;
    let (_, batch) = payload::batches()?
        .into_iter()
        .find(|(_, batch)| batch.len() > POLYNOMIAL_BYTES)
        .context("no batch has two polynomials")?;
    std::fs::write(folder.path().join("batch"), &batch)?;
    let da = async |args: &[&str], code| printed(&da(&network, folder.path(), args).await?, code);

    let put = da(&["put", "batch", "--kzg", "--cert-out", "cert"], 0).await?;
    let certificate = Certificate::decode(&std::fs::read(folder.path().join("cert"))?)?;
    certificate.verify(network.committee())?;
    let root = KzgBinding::of(&batch, || ())?.root();
    assert_eq!(certificate.header.kzg_root, root);
    assert_eq!(put["kzg_root"], root.to_string());
    assert_eq!(certificate.id(), encode::<Blake3>(&batch, root)?.id());

    let id = certificate.id().to_string();
    let get = da(&["get", &id, "--out", "out"], 0).await?;
    assert_eq!(get["kzg_root"], root.to_string());
    assert!(std::fs::read(folder.path().join("out"))? == batch);
    assert_eq!(da(&["cert", "verify", "cert", "--payload", "out"], 0).await?["payload_verified"], true);

    // Across the end of the first polynomial: 41 bytes in three elements.
    let (start, end) = (POLYNOMIAL_BYTES - 9, POLYNOMIAL_BYTES + 32);
    let open = da(&["open", &id, "--range", &format!("{start}..{end}")], 0).await?;
    let list = |key: &str| open[key].as_array().cloned().context("no list");
    let commitments: Vec<KzgCommitment> = list("commitments")?
        .iter()
        .map(|commitment| Ok(KzgCommitment::from_bytes(&bytes(commitment)?)?))
        .collect::<Result<_>>()?;
    let openings: Vec<Opening> = list("openings")?
        .iter()
        .map(|opening| Ok(Opening::from_bytes(&bytes(&opening["input"])?)?))
        .collect::<Result<_>>()?;
    assert_eq!((commitments.len(), openings.len()), (2, 3));
    let header = certificate.header;
    let range = start as u64..end as u64;
    let shown = verify_range(&header.kzg_root, header.length, &range, &openings, &commitments)?;
    assert_eq!(shown, &batch[start..end]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_not_the_payloads_is_certified_and_reported() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let folder = tempfile::tempdir()?;
    let batch = payload::noise(5_000, 60);
    let wrong = PutOptions { kzg_root: Some(B256::repeat_byte(3)), ..options() };
    let certificate = network.submitter().put(batch.clone(), &wrong, &Silent).await?.certificate;
    // Neither gateway nor replicas look at it.
    certificate.verify(network.committee())?;
    assert_eq!(certificate.header.kzg_root, B256::repeat_byte(3));
    let unbound = network.put(batch.clone()).await?;
    assert_ne!(unbound.id(), certificate.id());
    assert_ne!(unbound.index, certificate.index);
    let again = network.submitter().put(batch.clone(), &wrong, &Silent).await?.certificate;
    assert_eq!((again.id(), again.index), (certificate.id(), certificate.index));

    let id = certificate.id();
    match network.reader().payload(id, &Silent).await {
        Err(ReadError::KzgMismatch { computed, stated }) => {
            assert_eq!(stated, B256::repeat_byte(3));
            assert_eq!(computed, KzgBinding::of(&batch, || ())?.root());
        }
        other => anyhow::bail!("{other:?}"),
    }
    assert_eq!(network.reader().ignoring_kzg().payload(id, &Silent).await?.payload, batch);
    assert_eq!(network.reader().payload(unbound.id(), &Silent).await?.binding, None);

    let id = id.to_string();
    for args in [["get", &id, "--out", "out"].as_slice(), &["open", &id, "--range", "0..31"]] {
        let error = printed(&da(&network, folder.path(), args).await?, 5)?;
        assert_eq!(error["error"]["reason"], "KZG_MISMATCH");
    }
    assert!(!folder.path().join("out").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn later_blobs_with_other_roots_do_not_hide_the_first_of_an_alias() -> Result<()> {
    let network = Network::start(Plan::default()).await?;
    let batch = payload::noise(5_000, 61);
    let put = async |kzg_root| {
        let options = PutOptions { kzg_root: Some(kzg_root), bind_payload_hash: true, ..options() };
        let receipt = network.submitter().put(batch.clone(), &options, &Silent).await?;
        anyhow::Ok(receipt.certificate.id())
    };
    let id = put(KzgBinding::of(&batch, || ())?.root()).await?;
    // Times are in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    for byte in 1..=u8::try_from(MAX_CANDIDATES)? {
        put(B256::repeat_byte(byte)).await?;
    }
    let fetched = network.reader().payload_by_hash(PayloadHash(keccak256(&batch)), &Silent).await?;
    assert_eq!(fetched.id, id);
    assert_eq!(fetched.payload, batch);
    Ok(())
}
