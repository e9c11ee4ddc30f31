//! `da altda serve` as a process of its own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloy::transports::http::reqwest::{Client, Method};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::ports;
use crate::programs::Programs;

/// Longest time to start, and to stop.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(120);

/// A sidecar that runs; it is killed when it is dropped.
pub struct Sidecar {
    child: Child,
    command: Command,
    port: u16,
    folder: TempDir,
    client: Client,
}

/// An answer over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as a text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

impl Sidecar {
    /// Starts a sidecar with the command `da`, which knows committee and gateways, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(mut command: Command, arguments: &[&str]) -> Result<Self> {
        let port = ports::listener()?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        command.args(["altda", "serve", "--listen", &format!("127.0.0.1:{port}")]).args(arguments);
        for variable in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
            command.env(variable, folder.path());
        }
        let child = spawn(&mut command, &folder)?;
        let client = Client::builder().timeout(ANSWER).build()?;
        let mut sidecar = Self { child, command, port, folder, client };
        sidecar.until_up().await?;
        Ok(sidecar)
    }

    /// The command `da` with these gateways and a committee file.
    ///
    /// # Errors
    /// When the programs cannot be built.
    pub fn command(gateways: &[String], committee: &std::path::Path) -> Result<Command> {
        let mut command = Programs::build()?.da();
        command.env("MERIDIAN_GATEWAY", gateways.join(",")).env("MERIDIAN_COMMITTEE", committee);
        Ok(command)
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("sidecar.log")).unwrap_or_default()
    }

    /// Kills it, and starts it again where it was.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&mut self.command, &self.folder)?;
        self.until_up().await
    }

    /// Stops it as a service manager does.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub fn stop(&mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{status}: {}", self.output());
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it did not stop within {STOP:?}: {}", self.output())
    }

    /// Asks it for something.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let url = format!("{}{path}", self.url());
        let request = self.client.request(Method::from_bytes(method.as_bytes())?, url).body(body.to_vec());
        let answer = request.send().await?;
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())));
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: headers.collect::<Result<_>>()?,
            body: answer.bytes().await?.to_vec(),
        })
    }

    async fn until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the sidecar ended with {status}: {}", self.output());
            }
            if self.ask("GET", "/health", b"").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the sidecar does not answer: {}", self.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::warn!(%error, "the sidecar did not end");
        }
    }
}

fn spawn(command: &mut Command, folder: &TempDir) -> Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(folder.path().join("sidecar.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot start da altda serve")
}
