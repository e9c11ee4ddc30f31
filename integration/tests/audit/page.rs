//! The page, in a real browser.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use meridian_integration::liars::ReplicaLie;
use meridian_integration::liars::wrong_rows::WrongRows;
use meridian_integration::network::{Name, Network, Plan};
use meridian_integration::{browser, payload};
use serde_json::Value;

use super::{da, held};

/// The attributes of the first element that has all of these texts in its opening tag.
fn tag<'a>(document: &'a str, holds: &[&str]) -> Result<&'a str> {
    let tags = document.split('<').filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag));
    let mut found = tags.filter(|tag| holds.iter().all(|text| tag.contains(text)));
    found.next().with_context(|| format!("no element with {holds:?}"))
}

/// A number in a data attribute.
fn figure(tag: &str, name: &str) -> Result<u64> {
    let (_, rest) =
        tag.split_once(&format!("data-{name}=\"")).with_context(|| format!("no {name}: {tag}"))?;
    Ok(rest.split('"').next().unwrap_or_default().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_about_one_liar_and_one_that_is_gone() -> Result<()> {
    let Some(program) = browser::find_or_skip()? else { return Ok(()) };
    let lie: Arc<dyn ReplicaLie> = Arc::new(WrongRows);
    let mut network =
        Network::start(Plan { replica_lies: BTreeMap::from([(1, lie)]), ..Plan::default() }).await?;
    for seed in 0..6 {
        network.put(payload::noise(30_000, seed)).await?;
    }
    held(&network, 0..5, 6).await?;
    network.kill(Name::Replica(4)).await?;
    let folder = tempfile::tempdir()?;
    let (page, committee) = (folder.path().join("audit.html"), network.committee_file());
    let path = |path: &std::path::Path| path.display().to_string();
    let arguments = ["--committee", &path(&committee), "audit", "--deep", "--html", &path(&page)];
    let (printed, code) = da(folder.path(), &arguments)?;
    assert_eq!((code, &printed["outcome"]), (5, &Value::from("faulty")));

    let document = browser::render(&program, &page)?;
    tag(&document, &["body", "data-outcome=\"faulty\""])?;
    let verdict = printed["verdict"].as_str().context("a verdict")?;
    ensure!(document.contains(&format!("<p id=\"verdict\">{verdict}</p>")), "{document}");
    assert_eq!(figure(tag(&document, &["id=\"blobs\""])?, "value")?, 6);
    assert_eq!(figure(tag(&document, &["id=\"copies\""])?, "value")?, 18);
    let regions = printed["regions"].as_array().context("regions")?;
    assert_eq!(regions.len(), 5);
    for (place, region) in regions.iter().enumerate() {
        let (label, state) =
            (region["label"].as_str().context("a label")?, region["state"].as_str().context("a state")?);
        assert_eq!(state, ["complete", "faulty", "complete", "complete", "unreachable"][place]);
        let marker = tag(&document, &["marker", &format!("data-region=\"{label}\"")])?;
        ensure!(marker.contains(&format!("data-state=\"{state}\"")), "{marker}");
        assert_eq!(figure(marker, "complete")?, if state == "complete" { 6 } else { 0 });
    }
    let replicas = printed["replicas"].as_array().context("replicas")?;
    for (place, replica) in replicas.iter().enumerate() {
        let address = replica["replica"].as_str().context("an address")?;
        let article = tag(&document, &["article", &format!("data-replica=\"{address}\"")])?;
        for kind in ["right", "wrong", "missing", "silent"] {
            let rows = figure(article, &format!("rows-{kind}"))?;
            assert_eq!(Some(rows), replica[format!("rows_{kind}")].as_u64(), "{kind}: {article}");
            let expected = match place {
                1 => kind == "wrong",
                4 => kind == "silent",
                _ => kind == "right",
            };
            assert_eq!(rows > 0, expected, "{kind}: {article}");
        }
    }
    let faults = printed["faults"].as_array().context("faults")?;
    assert_eq!(document.matches("data-kind=").count(), faults.len());
    for blob in printed["blobs"].as_array().context("blobs")? {
        let id = blob["blob_id"].as_str().context("an id")?;
        assert_eq!(figure(tag(&document, &[&format!("data-blob=\"{id}\"")])?, "complete")?, 3);
        let hash = blob["payload_hash"].as_str().context("a hash")?;
        ensure!(document.contains(hash), "{hash}");
    }
    Ok(())
}
