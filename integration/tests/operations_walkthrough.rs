//! The walk-throughs of `docs/operations.md` and `docs/operations/procedures.md`, run as written with a folder for each host.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use meridian_integration::anvil;
use meridian_integration::programs::Programs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest time that one block may take.
const BLOCK: Duration = Duration::from_secs(120);

/// A block of commands and the host that they are for.
#[derive(Debug)]
struct Block {
    host: String,
    commands: String,
}

/// The blocks after lines of the form "On `HOST`:".
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let host = line.strip_prefix("On `").and_then(|rest| rest.strip_suffix("`:"));
        let Some(host) = host else { continue };
        assert_eq!(lines.next(), Some("```sh"), "no commands for {host}");
        let commands: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push(Block { host: host.to_owned(), commands: commands.join("\n") });
    }
    blocks
}

/// Kills what the blocks started, when the test fails between start and stop.
struct Hosts(PathBuf);

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in fs::read_dir(&self.0).unwrap() {
            let host = host.unwrap().path();
            let Some(pid) = fs::read_to_string(host.join("pid")).ok().and_then(|pid| pid.trim().parse().ok())
            else {
                continue;
            };
            let runs_here = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == host);
            if runs_here {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn run(block: &Block, folder: &Path, path: &str, variables: &[(&str, &Path)]) {
    fs::create_dir_all(folder).unwrap();
    let output = folder.join("output");
    let log = File::create(&output).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &block.commands]).current_dir(folder).env("PATH", path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MERIDIAN_") {
            shell.env_remove(name);
        }
    }
    shell.envs(variables.iter().copied());
    let mut shell = shell.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = shell.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > BLOCK {
            shell.kill().unwrap();
            break shell.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = fs::read_to_string(&output).unwrap();
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(status.success(), "on {}: {status}\n{}\n---\n{said}\n---\n{log}", block.host, block.commands);
}

/// Runs every block of a page in order, and gives the folder of the hosts to whoever looks at what is left.
fn walk_through(page: &str, least: usize, variables: &[(&str, &Path)], look: impl FnOnce(&Path)) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let blocks = blocks(&fs::read_to_string(page).unwrap());
    assert!(blocks.len() >= least, "only {} blocks were found", blocks.len());
    let programs = Programs::build().unwrap().da();
    let programs = Path::new(programs.get_program()).parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let _hosts = Hosts(root.clone());
    for block in &blocks {
        run(block, &root.join(&block.host), &path, variables);
    }
    look(&root);
}

#[test]
fn the_walk_through_works_as_written() {
    walk_through("operations.md", 14, &[], |root| {
        for host in ["gateway", "na-east", "eu-central", "ap-northeast"] {
            let log = fs::read_to_string(root.join(host).join("log")).unwrap();
            assert!(log.contains("stopped"), "{host} did not stop by itself:\n{log}");
        }
    });
}

#[test]
fn the_procedures_work_as_written() {
    let Some(anvil) = anvil::find_or_skip().unwrap() else { return };
    walk_through("operations/procedures.md", 18, &[("ANVIL", &anvil)], |root| {
        for host in ["new-seat", "new-gateway", "new-region"] {
            let log = fs::read_to_string(root.join(host).join("log")).unwrap();
            assert!(log.contains("stopped"), "{host} did not stop by itself:\n{log}");
        }
    });
}

#[test]
fn blocks_are_found_with_their_hosts() {
    let page = "text\nOn `a`:\n```sh\none\ntwo\n```\n```sh\nnot this\n```\nOn `b`:\n```sh\nthree\n```\n";
    let found = blocks(page);
    let seen: Vec<_> = found.iter().map(|b| (b.host.as_str(), b.commands.as_str())).collect();
    assert_eq!(seen, [("a", "one\ntwo"), ("b", "three")]);
}
