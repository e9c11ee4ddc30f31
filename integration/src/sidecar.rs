//! `da altda serve` as a process of its own.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy::transports::http::reqwest::{Client, Method};
use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::programs::Programs;
use crate::{children, ports};

/// Longest time to start, and to stop.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);
/// The file with what it logs.
const LOG: &str = "sidecar.log";
/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(120);

/// A sidecar that runs; it is killed when it is dropped.
pub struct Sidecar {
    child: Mutex<Child>,
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
        let log = File::create(folder.path().join(LOG))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = Mutex::new(command.spawn().context("cannot start da altda serve")?);
        let client = Client::builder().timeout(ANSWER).build()?;
        let sidecar = Self { child, port, folder, client };
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
        std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default()
    }

    /// Asks it to stop.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn terminate(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        children::terminate(&mut child)
    }

    /// Stops it as a service manager does.
    ///
    /// # Errors
    /// When it does not end in time, or not well.
    pub fn stop(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = children::stop(&mut child, STOP).with_context(|| self.output())?;
        ensure!(status.success(), "{status}: {}", self.output());
        Ok(())
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

    async fn until_up(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let ended = self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
            if let Some(status) = ended {
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
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ended = child.kill().and_then(|()| child.wait());
        if let Err(error) = ended {
            tracing::warn!(%error, "the sidecar did not end");
        }
    }
}
