//! The systemd units, as systemd takes them, and keys that a service manager hands over.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
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
