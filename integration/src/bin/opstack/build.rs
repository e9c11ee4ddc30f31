//! The OP Stack's programs, built with Go from the Go module proxy and kept in the user's cache.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use meridian_integration::golang::{self, run};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;

/// What is built, and from what.
const MANIFEST: &str = include_str!("../../../peers/op-stack/programs.toml");

/// Programs that are there to be run.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    folder: PathBuf,
}

impl Built {
    /// Where a program is.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where all of them are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    go: String,
    modules: BTreeMap<String, Module>,
    borrowed: Borrowed,
    programs: BTreeMap<String, Program>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    path: String,
    version: String,
    sum: String,
}

/// A file that one module lacks and the other has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Borrowed {
    from: PathBuf,
    to: PathBuf,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    module: String,
    package: String,
}

/// What `go mod download -json` says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    #[serde(default)]
    dir: PathBuf,
    #[serde(default)]
    sum: String,
    #[serde(default)]
    error: String,
}

/// Builds whatever the cache does not have in these versions.
///
/// # Errors
/// When there is no Go, the modules cannot be had or are others than before, or a build fails.
pub(crate) fn build() -> Result<Built> {
    let manifest: Manifest = toml::from_str(MANIFEST).context("programs.toml")?;
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = Path::new(&home).join(".cache/meridian/op-stack");
    let (folder, stamp) = (cache.join("bin"), cache.join("stamp"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Whoever comes second finds the work of the first.
    let lock = File::create(cache.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let built = Built { folder };
    let is_there = manifest.programs.keys().all(|name| built.program(name).is_file());
    if is_there && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == MANIFEST) {
        return Ok(built);
    }
    let go = Go::find(&manifest.go)?;
    if stamp.exists() {
        fs::remove_file(&stamp)?;
    }
    println!("building the OP Stack in {}; this happens once and takes some minutes", cache.display());
    let sources = cache.join("src");
    for (name, module) in &manifest.modules {
        copy_module(&go, module, &sources.join(name))?;
    }
    join_modules(&go, &manifest, &sources)?;
    for (name, program) in &manifest.programs {
        let begun = Instant::now();
        let mut command = go.within(&sources.join(&program.module));
        command.args(["build", "-mod=mod", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"]);
        run(command.arg(built.program(name)).arg(&program.package))?;
        println!("  {name}: {} s", begun.elapsed().as_secs());
    }
    fs::write(&stamp, MANIFEST)?;
    Ok(built)
}

/// Where Go is.
struct Go(PathBuf);

impl Go {
    /// Finds Go, and sees whether it is new enough.
    fn find(least: &str) -> Result<Self> {
        let what = format!(
            "the OP Stack is built with Go {least} or newer: run .ci/deps, or see https://go.dev/dl/"
        );
        let go = Self(golang::find().with_context(|| format!("there is no Go; {what}"))?);
        let said = run(Command::new(&go.0).args(["env", "GOVERSION"]))?.stdout;
        let version = String::from_utf8_lossy(&said).trim().to_owned();
        let numbers = |text: &str| -> Vec<u32> {
            text.trim_start_matches("go").split('.').map_while(|part| part.parse().ok()).collect()
        };
        ensure!(numbers(&version) >= numbers(least), "Go is {version}; {what}");
        Ok(go)
    }

    /// Go in a folder, whatever workspace that folder lies in.
    fn within(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.current_dir(folder).env("GOWORK", "off");
        command
    }
}

/// Makes a copy of a module that can be changed.
fn copy_module(go: &Go, module: &Module, to: &Path) -> Result<()> {
    let Module { path, version, sum } = module;
    println!("  {path} {version}");
    let here = to.parent().context("a copy lies in a folder")?;
    fs::create_dir_all(here)?;
    // It fails with an error on standard output, too.
    let output = go.within(here).args(["mod", "download", "-json", &format!("{path}@{version}")]).output()?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    let download: Download = serde_json::from_slice(&output.stdout).with_context(said)?;
    ensure!(download.error.is_empty(), "{path} {version} cannot be had: {}", download.error);
    ensure!(download.sum == *sum, "{path} {version} is not what it was: {}, not {sum}", download.sum);
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    copy(&download.dir, to)
}

/// Copies a folder whose files may not be written into one whose files may.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
            let mode = fs::metadata(&to)?.permissions().mode();
            fs::set_permissions(&to, Permissions::from_mode(mode | 0o200))?;
        }
    }
    Ok(())
}

/// Gives the optimism module what it lacks, and lets it use the copy of op-geth.
fn join_modules(go: &Go, manifest: &Manifest, sources: &Path) -> Result<()> {
    let Borrowed { from, to, sha256 } = &manifest.borrowed;
    let (geth, optimism) = (sources.join("op-geth"), sources.join("optimism"));
    let to = optimism.join(to);
    fs::copy(geth.join(from), &to).with_context(|| format!("op-geth has no {}", from.display()))?;
    let name = to.file_name().context("a file has a name")?.to_string_lossy();
    fs::write(to.with_file_name(format!("{name}.sha256")), format!("{sha256}  {name}\n"))?;
    let replaced = format!("-replace=github.com/ethereum/go-ethereum={}", geth.display());
    run(go.within(&optimism).args(["mod", "edit", &replaced])).map(drop)
}
