//! Keys stay in their files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::options;
use meridian_integration::payload;

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// Whether a text has the bytes of a key in a form in which somebody could read them.
fn tells(text: &str, key: &[u8]) -> bool {
    let list: Vec<String> = key.iter().map(u8::to_string).collect();
    let text = text.to_ascii_lowercase();
    text.contains(&hex::encode(key)) || text.contains(&list.join(", ")) || text.contains(&list.join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_ever_logged() -> Result<()> {
    let mut network =
        Devnet::start_secured(&["--regions", "2"], &[("MERIDIAN_LOG__FILTER", "trace")]).await?;
    let certificate =
        network.submitter().put(payload::noise(5_000, 1), &options(), &Silent).await?.certificate;
    network.reader().payload(certificate.id(), &Silent).await?;
    let mut da: Command = network.da()?;
    let status = da.env("RUST_LOG", "trace").args(["status"]).output()?;
    let mut said = vec![String::from_utf8_lossy(&status.stderr).into_owned(), network.output()];
    network.stop()?;

    let mut all = Vec::new();
    files(&network.folder(), &mut all)?;
    let (mut keys, mut secrets) = (Vec::new(), Vec::new());
    for path in &all {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("key") => {
                let mode = fs::metadata(path)?.permissions().mode() & 0o777;
                ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
                let text = fs::read_to_string(path)?;
                let hex = text.trim().trim_start_matches("0x").to_owned();
                keys.push(hex::decode(&hex).with_context(|| format!("{} is not hex", path.display()))?);
            }
            Some(name) if name.ends_with("-key.pem") => {
                let mode = fs::metadata(path)?.permissions().mode() & 0o777;
                ensure!(mode == 0o600, "{} has mode {mode:o}", path.display());
                let text = fs::read_to_string(path)?;
                secrets.extend(text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
            }
            Some("log") => said.push(String::from_utf8_lossy(&fs::read(path)?).into_owned()),
            _ => {}
        }
    }
    assert_eq!(keys.len(), 3, "two replicas and a gateway");
    ensure!(secrets.len() >= 4, "of all of them and of their authority");
    let loudest = said.iter().map(String::len).max().unwrap_or_default();
    ensure!(loudest > 10_000, "nothing is logged at trace level");
    for key in &keys {
        assert!(tells(&format!("the key is {key:?}"), key), "the search itself is broken");
        for text in &said {
            ensure!(!tells(text, key), "a key is in a log");
        }
    }
    for secret in &secrets {
        ensure!(said.iter().all(|text| !text.contains(secret)), "a key of tls is in a log");
    }
    Ok(())
}
