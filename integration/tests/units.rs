//! The systemd units, as systemd takes them and as hosts get on with them, and keys that a service manager hands over.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use meridian_client::Silent;
use meridian_integration::network::{eventually, options};
use meridian_integration::pair::Pair;
use meridian_integration::payload;
use meridian_integration::programs::Programs;

const UNITS: [&str; 2] = ["meridian-gateway.service", "meridian-replica.service"];

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Runs systemd's tool; nothing, with a line that says so, where there is none.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> Result<Option<String>> {
    let output = match Command::new("systemd-analyze").args(arguments).args(units).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: there is no systemd-analyze");
            return Ok(None);
        }
        output => output?,
    };
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{arguments:?}: {} {said}", output.status);
    Ok(Some(said))
}

#[test]
fn the_units_are_sound_and_as_closed_as_the_manual_says() -> Result<()> {
    // A unit must name a program that is there.
    let folder = tempfile::tempdir()?;
    let program = Programs::build()?.da_node();
    let program = program.get_program().to_str().context("a path")?;
    let mut units = Vec::new();
    for unit in UNITS {
        let text = fs::read_to_string(docs().join("operations").join(unit))?;
        ensure!(text.contains("/usr/local/bin/da-node "), "{unit} starts something else");
        let file = folder.path().join(unit);
        fs::write(&file, text.replace("/usr/local/bin/da-node", program))?;
        units.push(file);
    }
    let Some(said) = analyze(&["verify", "--man=no"], &units)? else { return Ok(()) };
    let about_them: Vec<&str> = said.lines().filter(|line| line.contains("meridian-")).collect();
    ensure!(about_them.is_empty(), "{about_them:#?}");

    let manual = fs::read_to_string(docs().join("operations.md"))?;
    let stated = manual.split_once("exposure level of ").context("the manual states the exposure")?.1;
    let stated: f64 = stated.split_whitespace().next().context("a number")?.parse()?;
    for unit in units {
        let said =
            analyze(&["security", "--offline=true", "--no-pager"], &[unit])?.context("the tool is there")?;
        let level = said.split_once("Overall exposure level for ").context("a level")?.1;
        let level: f64 = level.split_whitespace().nth(1).context("a number")?.parse()?;
        ensure!(level <= stated, "an exposure of {level}, and the manual says {stated}: {said}");
    }
    Ok(())
}

/// System calls of a name or of a group of them, as in `@system-service`.
fn calls_of(name: &str) -> Result<Option<BTreeSet<String>>> {
    if !name.starts_with('@') {
        return Ok(Some(BTreeSet::from([name.to_owned()])));
    }
    let Some(said) = analyze(&["syscall-filter", "--no-pager", name], &[])? else { return Ok(None) };
    let mut calls = BTreeSet::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line != name {
            calls.extend(calls_of(line)?.unwrap_or_default());
        }
    }
    Ok(Some(calls))
}

/// The system calls that a unit allows; nothing where there is no tool that knows the groups.
fn allowed(unit: &str) -> Result<Option<BTreeSet<String>>> {
    let Some(mut allowed) = calls_of("@default")? else { return Ok(None) };
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (taken, names) = line.strip_prefix('~').map_or((false, line), |rest| (true, rest));
        for name in names.split_whitespace() {
            let calls = calls_of(name)?.context("the tool is there")?;
            if taken {
                allowed.retain(|call| !calls.contains(call));
            } else {
                allowed.extend(calls);
            }
        }
    }
    Ok(Some(allowed))
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_ask_for_nothing_that_the_units_forbid() -> Result<()> {
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "true"]).stderr(Stdio::null());
    if !command.status().is_ok_and(|status| status.success()) {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            bail!("strace is not there or may not trace: run .ci/deps, and allow ptrace");
        }
        println!("skipped: strace is not there or may not trace; .ci/deps installs it");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let dir = dir.path().canonicalize()?;
    Pair::prepare(&dir)?;
    let pair = Pair::start(&dir, &[], Some(strace)).await?;
    let put = pair.submitter().put(payload::noise(1 << 20, 1), &options(), &Silent).await?;
    pair.reader().payload(put.certificate.id(), &Silent).await?;
    pair.stop()?;
    for role in ["gateway", "replica"] {
        let unit = fs::read_to_string(docs().join(format!("operations/meridian-{role}.service")))?;
        let Some(allowed) = allowed(&unit)? else { return Ok(()) };
        let trace = eventually(Duration::from_secs(60), "the end of a trace", async || {
            let text = fs::read_to_string(trace_file(&dir, role)).ok()?;
            text.lines().next_back()?.ends_with("+++ exited with 0 +++").then_some(text)
        });
        let trace = trace.await?;
        let mut used = BTreeSet::new();
        for line in trace.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start())) {
            let name = line.strip_prefix("<... ").unwrap_or(line);
            let end = name.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
            used.extend(end.filter(|end| *end > 0).map(|end| name[..end].to_owned()));
            // MemoryDenyWriteExecute.
            let is_mapping = line.starts_with("mmap(") || line.starts_with("mprotect(");
            ensure!(!is_mapping || !line.contains("PROT_WRITE|PROT_EXEC"), "{role}: {line}");
        }
        ensure!(used.len() > 30, "{role}: only {used:?}");
        let forbidden: Vec<_> = used.difference(&allowed).collect();
        ensure!(forbidden.is_empty(), "{role} asks for {forbidden:?}, which its unit forbids");
    }
    Ok(())
}

/// The host stays this program's child, and signals reach it.
fn strace(dir: &Path, role: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["--daemonize", "-f", "-o"]).arg(trace_file(dir, role));
    command
}

fn trace_file(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{role}.trace"))
}

#[test]
fn a_key_that_a_service_manager_hands_over_is_taken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    let address = meridian_node::key::create(&key)?.address().to_string();
    let show = |credentials: Option<&Path>| -> Result<(bool, String)> {
        let mut command = Programs::build()?.da_node();
        command.args(["key", "show"]).arg(&key).env_remove("CREDENTIALS_DIRECTORY");
        command.envs(credentials.map(|folder| ("CREDENTIALS_DIRECTORY", folder)));
        let output = command.output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    };
    // The group's bits are those of an access list there.
    fs::set_permissions(&key, Permissions::from_mode(0o440))?;
    assert_eq!(show(Some(folder.path()))?, (true, address));
    assert!(!show(None)?.0);
    assert!(!show(Some(Path::new("/run/credentials")))?.0);
    fs::set_permissions(&key, Permissions::from_mode(0o444))?;
    assert!(!show(Some(folder.path()))?.0, "others can read it");
    Ok(())
}
