//! Tests that are written in Go, because the peer is.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{payload, ports};

/// Package of the reference DA server.
const REFERENCE: &str = "github.com/ethereum-optimism/optimism/op-alt-da/cmd/daserver";

/// Tests of the OP Stack's own client, in `peers/op-alt-da`, as one program.
#[derive(Clone, Debug)]
pub struct Peer {
    program: PathBuf,
}

impl Peer {
    /// Builds the program, once in each process; nothing, with a line that says so, where there is no Go.
    ///
    /// # Errors
    /// When it does not build, or there is no Go where `CI` is true.
    pub fn build_or_skip() -> Result<Option<&'static Self>> {
        static BUILT: OnceLock<std::result::Result<Option<Peer>, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
        built.as_ref().map(Option::as_ref).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Runs the tests of a name with these variables. What they print is in the error when they fail.
    ///
    /// # Errors
    /// When one fails, or there is none of that name.
    pub async fn run(&self, name: &str, server: &str, variables: &[(&str, &str)]) -> Result<String> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(["-test.v", "-test.timeout=2h", "-test.run", &format!("^{name}$")]);
        command.env("MERIDIAN_ALTDA", server).env("MERIDIAN_BATCHES", payload::batch_folder());
        let output = command.envs(variables.iter().copied()).kill_on_drop(true).output().await?;
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{name}: {said}");
        ensure!(said.contains(&format!("--- PASS: {name} ")), "no test {name}: {said}");
        Ok(said)
    }
}

/// The OP Stack's reference DA server, with files as its storage; it is killed when it is dropped.
pub struct Reference {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Reference {
    /// Builds it and starts it.
    ///
    /// # Errors
    /// When there is no Go, or it does not build or start.
    pub fn start() -> Result<Self> {
        let go = find().context("there is no Go: .ci/deps installs it")?;
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("daserver");
        run(go_in_peer(go).args(["build", "-o"]).arg(&program).arg(REFERENCE))?;
        let port = ports::listener()?.local_addr()?.port();
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--log.level", "error"]);
        command.arg("--file.path").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("cannot start the reference server")?;
        Ok(Self { child, port, _folder: folder })
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "the reference server did not end");
        }
    }
}

/// Runs Go, and gives what it printed.
///
/// # Errors
/// When it fails.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().context("cannot run Go")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim_end());
    Ok(output)
}

/// Go in the folder of the peer.
fn go_in_peer(go: PathBuf) -> Command {
    let mut command = Command::new(go);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/op-alt-da"));
    command
}

fn build() -> Result<Option<Peer>> {
    let Some(go) = find() else {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("there is no Go: run .ci/deps");
        }
        println!("skipped: there is no Go; .ci/deps installs it");
        return Ok(None);
    };
    let here = std::env::current_exe()?;
    let program = here.parent().context("a program lies in a folder")?.join("op-alt-da.test");
    run(go_in_peer(go).args(["test", "-c", "-o"]).arg(&program).arg("."))?;
    Ok(Some(Peer { program }))
}

/// Finds Go: in `PATH`, or where `.ci/deps` puts it.
#[must_use]
pub fn find() -> Option<PathBuf> {
    let kept = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/meridian/python/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(kept);
    folders.find_map(|folder| Some(folder.join("go")).filter(|program| program.is_file()))
}
