//! A chain of the devnet's own: anvil, found where it is installed and run as a child that never outlives its parent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alloy::providers::{Provider, ProviderBuilder};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};

/// Pause between two looks at the process.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time in which it must answer.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Time in which it must write its state and end.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Lines of its log that are shown when it does not start.
const LOG_LINES: usize = 8;

/// How anvil is run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// What it is told beside its port.
    pub arguments: Vec<OsString>,
    /// Its port on this machine.
    pub port: u16,
    /// Where its output goes. Overwritten.
    pub log: PathBuf,
}

/// A running anvil. Dropping it ends the process; so does the end of this one, however it comes.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    port: u16,
    ended: watch::Receiver<Option<ExitStatus>>,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// Finds the program: where it was asked for, where `ANVIL` says, or in `PATH`.
///
/// # Errors
/// When it is not where it was asked for.
pub fn find(asked: Option<&Path>) -> Result<Option<PathBuf>> {
    let variable = std::env::var_os("ANVIL").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = asked.map(Path::to_owned).or(variable) {
        ensure!(path.is_file(), "there is no anvil at {}", path.display());
        return Ok(Some(native(&path)));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("anvil")).find(|path| path.is_file());
    Ok(found.map(|path| native(&path)))
}

/// The program that npm's `anvil` runs in a process of its own, which a signal to the script would miss; any other
/// program is itself.
#[must_use]
pub fn native(path: &Path) -> PathBuf {
    let Ok(real) = path.canonicalize() else { return path.to_owned() };
    let package = real.parent().filter(|folder| folder.ends_with("@foundry-rs/anvil"));
    package.and_then(in_package).unwrap_or(real)
}

/// The program of this machine's kind beside npm's package `@foundry-rs/anvil`.
#[must_use]
pub fn in_package(package: &Path) -> Option<PathBuf> {
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let name = format!("anvil-{system}-{machine}/bin/anvil");
    [package.parent()?.join(&name), package.join("node_modules/@foundry-rs").join(&name)]
        .into_iter()
        .find(|path| path.is_file())
}

/// Whether a chain answers there within a second.
pub(super) async fn answers(url: &str) -> bool {
    let Ok(url) = url.parse() else { return false };
    let provider = ProviderBuilder::new().connect_http(url);
    let asked = tokio::time::timeout(Duration::from_secs(1), async { provider.get_chain_id().await });
    matches!(asked.await, Ok(Ok(_)))
}

impl Running {
    /// Starts anvil and waits until it answers.
    ///
    /// # Errors
    /// When it does not start, or does not answer in half a minute.
    pub async fn start(launch: &Launch) -> Result<Self> {
        // Whatever has the port would answer in its place.
        TcpListener::bind((Ipv4Addr::LOCALHOST, launch.port))
            .with_context(|| format!("port {} of the chain is not free", launch.port))?;
        let log =
            File::create(&launch.log).with_context(|| format!("cannot make {}", launch.log.display()))?;
        let mut command = command(launch);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share the log")?).stderr(log);
        let (stop, stopped) = mpsc::channel();
        let (started, pid) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        // The death signal follows the thread that started the process, so that thread stays.
        let keeper = std::thread::Builder::new()
            .name("anvil".into())
            .spawn(move || keep(command, started, &stopped, &end))
            .context("cannot start a thread")?;
        let pid = pid.await.context("the thread ended")?.context("cannot start anvil")?;
        let running = Self { pid, port: launch.port, ended, stop: Some(stop), keeper: Some(keeper) };
        running.until_answering(&launch.log).await?;
        Ok(running)
    }

    async fn until_answering(&self, log: &Path) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Some(status) = *self.ended.borrow() {
                bail!("anvil ended at once ({status}); its log ends with\n{}", log_end(log));
            }
            if answers(&self.url()).await {
                return Ok(());
            }
            let late = Instant::now() >= deadline;
            ensure!(!late, "anvil does not answer; its log ends with\n{}", log_end(log));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where it answers JSON-RPC.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it ends by itself.
    pub async fn until_ended(&self) {
        let mut ended = self.ended.clone();
        // A keeper that is gone is an end, too.
        let _ = ended.wait_for(Option::is_some).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            tracing::error!("the thread of anvil panicked");
        }
    }
}

fn command(launch: &Launch) -> Command {
    // It writes its state when it is asked to stop.
    let wrapper = Path::new("/usr/bin/setpriv");
    let mut command = if wrapper.is_file() {
        let mut command = Command::new(wrapper);
        command.args(["--pdeathsig", "TERM", "--"]).arg(&launch.program);
        command
    } else {
        Command::new(&launch.program)
    };
    command.args(["--host", "127.0.0.1", "--port", &launch.port.to_string()]).args(&launch.arguments);
    // Ctrl-C in a terminal reaches the parent alone, which stops it last.
    command.process_group(0);
    command
}

fn keep(
    mut command: Command,
    started: oneshot::Sender<std::io::Result<Pid>>,
    stopped: &Receiver<()>,
    end: &watch::Sender<Option<ExitStatus>>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return drop(started.send(Err(error))),
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    if started.send(Ok(pid)).is_ok() {
        while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            if let Ok(Some(status)) = child.try_wait() {
                end.send_replace(Some(status));
                return;
            }
        }
    }
    match finish(&mut child, pid) {
        Ok(status) => drop(end.send_replace(Some(status))),
        Err(error) => tracing::error!(%error, "anvil does not end"),
    }
}

fn finish(child: &mut Child, pid: Pid) -> std::io::Result<ExitStatus> {
    // The child has not been waited for, so its number is still its own.
    kill(pid, Signal::SIGTERM)?;
    let deadline = Instant::now() + STOP_WITHIN;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    child.kill()?;
    child.wait()
}

fn log_end(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npms_script_stands_for_the_program_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let package = dir.join("node_modules/@foundry-rs/anvil");
        fs::create_dir_all(&package).unwrap();
        fs::create_dir_all(dir.join("node_modules/.bin")).unwrap();
        let script = package.join("bin.mjs");
        fs::write(&script, "").unwrap();
        let link = dir.join("node_modules/.bin/anvil");
        std::os::unix::fs::symlink(&script, &link).unwrap();
        assert_eq!(native(&link), script, "nothing beside it");
        let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let beside = package.with_file_name(format!("anvil-{system}-{machine}")).join("bin/anvil");
        fs::create_dir_all(beside.parent().unwrap()).unwrap();
        fs::write(&beside, "").unwrap();
        assert_eq!(native(&link), beside);
        assert_eq!(find(Some(&link)).unwrap(), Some(beside.clone()));
        assert_eq!(native(&beside), beside);
        assert!(find(Some(&dir.join("nowhere"))).is_err());
    }

    #[tokio::test]
    async fn a_program_that_ends_is_told_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let launch = Launch {
            program: "/bin/ls".into(),
            arguments: vec![],
            port: port.local_addr().unwrap().port(),
            log: dir.path().join("log"),
        };
        let message = Running::start(&launch).await.unwrap_err().to_string();
        assert!(message.contains("is not free"), "{message}");
        drop(port);
        let message = Running::start(&launch).await.unwrap_err().to_string();
        assert!(message.contains("ended at once") && message.contains("--host"), "{message}");
    }
}
