//! Keys stay in their files.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use meridian_client::Silent;
use meridian_integration::devnet::Devnet;
use meridian_integration::network::options;
use meridian_integration::sidecar::Sidecar;
use meridian_integration::{keys, payload};

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

/// Has the commands use a key, a password and a token, and gives these as they would be found in what was said.
async fn callers_say(network: &Devnet, said: &mut Vec<String>) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path.to_str().context("a path")?.to_owned())
    };
    let (password, key) = ("a password of some length", hex::encode(keys::secret("writer")?.to_bytes()));
    let (password_file, key_file) = (file("password", password)?, file("key", &format!("0x{key}\n"))?);
    let payload = file("payload", "something to put")?;
    let (store, tokens) = (folder.path().join("store.json"), folder.path().join("tokens.toml"));
    let (store, tokens) = (store.to_str().context("a path")?, tokens.to_str().context("a path")?);
    let mut run = |arguments: &[&str], is_quiet: bool| -> Result<String> {
        let output = network.da()?.env("RUST_LOG", "trace").args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments:?}: {errors}");
        let printed = String::from_utf8(output.stdout)?;
        said.push(errors);
        if !is_quiet {
            said.push(printed.clone());
        }
        Ok(printed)
    };
    run(&["key", "new", "--out", store, "--password-file", &password_file], false)?;
    run(&["key", "show", store, "--password-file", &password_file], false)?;
    run(&["put", &payload, "--key", &key_file], false)?;
    run(&["put", &payload, "--key", store, "--password-file", &password_file], false)?;
    let token = run(&["token", "new", "--file", tokens, "--name", "one"], true)?.trim().to_owned();
    run(&["token", "list", "--file", tokens], false)?;

    let mut command = network.da()?;
    command.env("RUST_LOG", "trace");
    let sidecar = Sidecar::start(command, &["--tokens", tokens, "--key", &key_file]).await?;
    let at: SocketAddr = sidecar.url().trim_start_matches("http://").parse()?;
    for (token, status) in [(token.as_str(), "200"), ("meridian_no", "401")] {
        let mut stream = TcpStream::connect(at)?;
        let request = format!(
            "POST /put HTTP/1.1\r\nhost: {at}\r\nauthorization: Bearer {token}\r\ncontent-length: 5\r\n\
             connection: close\r\n\r\ninput"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        said.push(answer);
    }
    said.push(sidecar.output());
    let digits = token.strip_prefix("meridian_").context("a token")?.to_owned();
    ensure!(digits.len() == 64, "{} digits", digits.len());
    Ok(vec![password.to_owned(), key, digits])
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
    let mine = callers_say(&network, &mut said).await?;
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
    secrets.extend(mine);
    for secret in &secrets {
        ensure!(said.iter().all(|text| !text.contains(secret)), "a key of tls is in a log");
    }
    Ok(())
}
