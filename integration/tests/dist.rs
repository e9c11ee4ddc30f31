//! What is handed out: packed, unpacked and run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use meridian_integration::programs::Programs;

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {} {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Packs the programs into a folder, and tells the archive.
fn pack(programs: &Path, out: &Path) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/dist");
    // A checkout without its history has no commit to be as old as.
    let mut command = Command::new("bash");
    run(command.arg(script).arg(programs).arg(out).env("SOURCE_DATE_EPOCH", "1700000000"))?;
    let files = fs::read_dir(out)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    let archive = files.iter().find(|file| file.extension().is_some_and(|it| it == "gz"));
    Ok(archive.context("an archive")?.clone())
}

#[test]
fn what_is_packed_is_whole_runs_and_is_the_same_again() -> Result<()> {
    let programs = Programs::build()?.da();
    let programs = Path::new(programs.get_program()).parent().context("a folder")?;
    let symbols = |program: &Path| -> Result<u64> { Ok(fs::metadata(program)?.len()) };
    let before = symbols(&programs.join("da-node"))?;
    let dir = tempfile::tempdir()?;
    let archive = pack(programs, &dir.path().join("one"))?;
    ensure!(symbols(&programs.join("da-node"))? == before, "what was built was changed");
    let again = pack(programs, &dir.path().join("two"))?;
    ensure!(fs::read(&archive)? == fs::read(&again)?, "the same files gave other bytes");

    let sums = archive.with_extension("gz.sha256");
    run(Command::new("sha256sum").arg("--check").arg(sums).current_dir(dir.path().join("one")))?;
    let listed = run(Command::new("tar").arg("-tzf").arg(&archive))?;
    let names: Vec<&str> = listed.lines().collect();
    let is_ordered = names.is_sorted_by_key(|name| name.trim_end_matches('/').split('/').collect::<Vec<_>>());
    ensure!(is_ordered, "the order is not that of names: {names:#?}");
    run(Command::new("tar").arg("-xzf").arg(&archive).current_dir(dir.path()))?;
    let root = dir.path().join(names.first().context("a folder")?.trim_end_matches('/'));
    run(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&root))?;
    let summed = fs::read_to_string(root.join("SHA256SUMS"))?;
    let summed: BTreeSet<&str> = summed.lines().filter_map(|line| Some(line.split_once("  ")?.1)).collect();
    let packed = names.iter().filter(|name| !name.ends_with('/') && !name.ends_with("/SHA256SUMS"));
    let packed: BTreeSet<&str> = packed.filter_map(|name| Some(name.split_once('/')?.1)).collect();
    assert_eq!(summed, packed);
    for file in [
        "CHANGELOG.md",
        "etc/meridian/gateway.toml",
        "etc/meridian/replica.toml",
        "lib/systemd/system/meridian-gateway.service",
        "lib/systemd/system/meridian-replica.service",
        "share/bash-completion/completions/da-node",
        "share/doc/meridian/operations.md",
        "share/fish/vendor_completions.d/da.fish",
        "share/man/man1/da-node-doctor.1",
        "share/man/man1/da-put.1",
        "share/meridian/alerts.yml",
        "share/meridian/dashboard.json",
        "share/zsh/site-functions/_da",
    ] {
        ensure!(summed.contains(file), "{file} is missing");
    }

    // The programs run, and have lost their symbols.
    let version = env!("CARGO_PKG_VERSION");
    let bin = root.join("bin");
    assert_eq!(run(Command::new(bin.join("da-node")).arg("--version"))?.trim(), format!("da-node {version}"));
    assert_eq!(run(Command::new(bin.join("da")).arg("--version"))?.trim(), format!("da {version}"));
    let key = dir.path().join("key");
    let address = run(Command::new(bin.join("da-node")).args(["key", "new", "--out"]).arg(&key))?;
    assert_eq!(run(Command::new(bin.join("da-node")).args(["key", "show"]).arg(&key))?, address);
    let id = run(Command::new(bin.join("da")).arg("id").arg(&key))?;
    ensure!(id.starts_with("0x"), "{id}");
    for role in ["gateway", "replica"] {
        let file = root.join("etc/meridian").join(format!("{role}.toml"));
        run(Command::new(bin.join("da-node")).args(["config", "check"]).arg(file))?;
    }
    ensure!(symbols(&bin.join("da-node"))? < before, "the program was not stripped");
    Ok(())
}
