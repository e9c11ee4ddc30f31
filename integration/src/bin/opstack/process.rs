//! Programs of others that run for as long as this one.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use meridian_integration::children;

/// Time in which a program ends that is asked to.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a log that are shown when its program has ended.
const LOG_LINES: usize = 12;

/// A running program. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to a file of its name in that folder, below how it was started.
    ///
    /// To be called on the main thread alone: a program ends with the thread that started it.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(name: &'static str, command: &Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let mut file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        writeln!(file, "$ {}", words(command))?;
        let mut command = bound(command);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Ctrl-C in a terminal reaches this program alone, which then stops the others in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// Makes sure that it still runs.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("{} ended ({status}); its log ends with\n{}", self.name, self.log_end())
    }

    fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = children::stop(&mut self.child, STOP_WITHIN) {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

/// A command as it would be typed.
fn words(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

/// The same command, asked to end when this program does, however that comes.
fn bound(command: &Command) -> Command {
    let wrapper = Path::new("/usr/bin/setpriv");
    let mut bound = if wrapper.is_file() {
        let mut bound = Command::new(wrapper);
        bound.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program());
        bound
    } else {
        Command::new(command.get_program())
    };
    bound.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    bound
}
