//! Runs the built command.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::network::Network;

/// What a run printed and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Run {
    /// The printed object.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails unless the run ended so.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs `da` with a config folder and nothing else from the environment.
pub(crate) fn da<S: AsRef<OsStr>>(config: &Path, args: &[S], stdin: &[u8]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_da"))
        .args(args)
        .env_clear()
        .env("XDG_CONFIG_HOME", config)
        .env("HOME", config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    // A command that does not read its input closes the pipe, which is no failure.
    let writer = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Network {
    /// Runs `da` with the network's committee file. An argument that begins with @ is a file of its folder.
    pub(crate) fn da(&self, args: &[&str]) -> Run {
        let committee = self.path("committee.toml");
        let mut all = vec!["--committee".to_owned(), committee.display().to_string()];
        all.extend(self.expand(args));
        da(&self.path("config"), &all, b"")
    }

    /// Runs `da` without naming a committee.
    pub(crate) fn da_pinning(&self, args: &[&str]) -> Run {
        da(&self.path("config"), &self.expand(args), b"")
    }

    fn expand(&self, args: &[&str]) -> Vec<String> {
        let expand = |arg: &&str| match arg.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => (*arg).to_owned(),
        };
        args.iter().map(expand).collect()
    }
}
