//! A real Prometheus that reads a network, and the tool that checks its rules.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::network::eventually;
use crate::ports;

/// Longest wait for a part of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest time for the server to be ready.
const START: Duration = Duration::from_secs(60);

/// The programs of Prometheus.
#[derive(Clone, Debug)]
pub struct Programs {
    server: PathBuf,
    tool: PathBuf,
}

impl Programs {
    /// Finds them in `PATH`, or where `.ci/deps` puts them; nothing, with a line that says so, where they are not.
    ///
    /// # Errors
    /// When they are not there where `CI` is true.
    pub fn find_or_skip() -> Result<Option<Self>> {
        let mut folders: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        folders.extend(
            std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/meridian/prometheus/usr/bin")),
        );
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        if let (Some(server), Some(tool)) = (find("prometheus"), find("promtool")) {
            return Ok(Some(Self { server, tool }));
        }
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("there is no prometheus: run .ci/deps");
        }
        println!("skipped: there is no prometheus; .ci/deps brings it");
        Ok(None)
    }

    /// Runs `promtool` in a folder, with something on its standard input, and tells what it printed.
    ///
    /// # Errors
    /// When it fails; with what it printed.
    pub fn check(&self, folder: &Path, arguments: &[&str], input: &str) -> Result<String> {
        let mut tool = Command::new(&self.tool)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start promtool")?;
        let mut stdin = tool.stdin.take().context("its standard input")?;
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = tool.wait_with_output()?;
        // A tool that needs no input does not read it.
        let _ = writer.join();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "promtool {arguments:?}: {} {said}", output.status);
        Ok(said)
    }

    /// Starts a server that reads these hosts every second as the job `meridian`, with a file of rules.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn serve(&self, hosts: &[SocketAddr], rules: &Path) -> Result<Server> {
        let dir = tempfile::tempdir()?;
        let hosts: Vec<String> = hosts.iter().map(|host| format!("'{host}'")).collect();
        let settings = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: meridian\n    static_configs: [{{ targets: [{}] }}]\n",
            rules.canonicalize()?.display(),
            hosts.join(", ")
        );
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, settings)?;
        let address = ports::listener()?.local_addr()?;
        let log = fs::File::create(dir.path().join("log"))?;
        let child = Command::new(&self.server)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start prometheus")?;
        let server = Server { child, address, dir };
        let ready = eventually(START, "a prometheus that is ready", async || {
            get(server.address, "/-/ready").ok().map(drop)
        });
        ready.await.with_context(|| server.said())?;
        Ok(server)
    }
}

/// A running Prometheus; it is killed when it is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Server {
    /// The first value of a query; nothing where it has none.
    ///
    /// # Errors
    /// When the server does not answer, or refuses the query.
    pub fn query(&self, expression: &str) -> Result<Option<f64>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.api(&format!("query?query={encoded}"))?;
        let value = answer["data"]["result"][0]["value"][1].as_str();
        Ok(value.map(str::parse).transpose()?)
    }

    /// Part of its API below `/api/v1/`.
    ///
    /// # Errors
    /// When it does not answer, or with anything but success.
    pub fn api(&self, path: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&get(self.address, &format!("/api/v1/{path}"))?)?;
        ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer)
    }

    /// What it printed.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "prometheus did not end");
        }
    }
}

/// A page of a server, which must be there.
///
/// # Errors
/// When the server does not answer, or with another status than 200.
pub fn get(server: SocketAddr, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect_timeout(&server, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Of this version, so that the answer comes in one piece.
    socket.write_all(format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head and a body")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {answer}");
    Ok(body.to_owned())
}
