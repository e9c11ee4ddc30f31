//! The rooms of the workspace stay apart: dependencies point one way, and each room keeps to its own kind of work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The rooms from the inside out: each may use those before it, none may use those after it.
const ROOMS: [(&str, &str); 5] = [
    ("proofs", "meridian-proofs"),
    ("proto", "meridian-proto"),
    ("da-client", "meridian-client"),
    ("da-node", "meridian-node"),
    ("integration", "meridian-integration"),
];

/// Everything that the mathematics may be made of.
const PROOFS_MAY_USE: [&str; 12] = [
    "alloy-primitives",
    "alloy-sol-types",
    "blake3",
    "bytes",
    "c-kzg",
    "kzg-rs",
    "rayon",
    "reed-solomon-simd",
    "secp256k1",
    "serde",
    "sha2",
    "thiserror",
];

/// What would give the mathematics a disk, a clock, a network, a scheduler or a die.
const PROOFS_MUST_NOT_SAY: [&str; 16] = [
    "std::fs",
    "std::net",
    "std::time",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "futures",
    "async fn",
    ".await",
    "SystemTime",
    "Instant",
    "getrandom",
    "println!",
    "tracing",
];

/// The one word that one file of the mathematics may say: a variable holds the kernels to fewer instructions.
const LEVEL_VARIABLE: (&str, &str) = ("proofs/src/kernel.rs", "std::env");

/// Source files outside `proto` that may name protobuf messages: the outermost layer of each service and call.
const MAY_NAME_MESSAGES: [&str; 6] = [
    "da-client/src/rpc/",
    "da-node/src/gateway/service.rs",
    "da-node/src/replica/service.rs",
    "da-node/src/log_service.rs",
    "da-node/src/run.rs",
    "da-node/src/admin.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn manifest(folder: &str) -> Result<toml::Table> {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.parse()?)
}

fn dependencies(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
    manifest
        .get(section)
        .and_then(toml::Value::as_table)
        .map(|t| t.keys().cloned().collect())
        .unwrap_or_default()
}

/// Every Rust file under a folder, as (path from the workspace root, text).
fn sources(folder: &str) -> Result<Vec<(String, String)>> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root())?.display().to_string();
                found.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The lines of a source that are part of the product: no comments, no inline test module.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod ").filter(|at| text[*at..].contains("{\n")).unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

#[test]
fn dependencies_point_one_way() -> Result<()> {
    for (place, (folder, name)) in ROOMS.iter().enumerate() {
        let manifest = manifest(folder)?;
        let inner: BTreeSet<&str> = ROOMS[..place].iter().map(|room| room.1).collect();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for dependency in dependencies(&manifest, section) {
                ensure!(
                    !dependency.starts_with("meridian-") || inner.contains(dependency.as_str()),
                    "{name} must not depend on {dependency} ({section})"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_workspace_has_these_rooms_and_no_other() -> Result<()> {
    let workspace: toml::Table = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let members: BTreeSet<&str> = workspace["workspace"]["members"]
        .as_array()
        .context("members is a list")?
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    assert_eq!(members, ROOMS.iter().map(|room| room.0).collect());
    Ok(())
}

#[test]
fn every_room_takes_versions_and_lints_from_the_workspace() -> Result<()> {
    for (folder, name) in ROOMS {
        let manifest = manifest(folder)?;
        ensure!(manifest["lints"]["workspace"].as_bool() == Some(true), "{name} has lints of its own");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in
                manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten()
            {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                ensure!(inherited, "{name} pins {dependency} itself ({section})");
            }
        }
    }
    Ok(())
}

#[test]
fn the_mathematics_uses_nothing_but_mathematics() -> Result<()> {
    let used = dependencies(&manifest("proofs")?, "dependencies");
    let allowed: BTreeSet<String> = PROOFS_MAY_USE.iter().map(ToString::to_string).collect();
    let excess: Vec<&String> = used.difference(&allowed).collect();
    ensure!(excess.is_empty(), "proofs depends on {excess:?}");
    for (path, text) in sources("proofs/src")? {
        // The slow twin and what it writes are for tests alone.
        if path.starts_with("proofs/src/twin/") || path.contains("/tests/") {
            continue;
        }
        for (number, line) in product_lines(&text) {
            for word in PROOFS_MUST_NOT_SAY {
                let may = (path.as_str(), word) == LEVEL_VARIABLE;
                ensure!(may || !line.contains(word), "{path}:{number} says {word}");
            }
        }
    }
    Ok(())
}

#[test]
fn protobuf_types_stay_at_the_edge() -> Result<()> {
    for (folder, _) in &ROOMS[2..4] {
        for (path, text) in sources(&format!("{folder}/src"))? {
            // Tests play the part of other nodes, and so speak their messages.
            if path.ends_with("/tests.rs") || path.ends_with("/testing.rs") || path.contains("/tests/") {
                continue;
            }
            for (number, line) in product_lines(&text) {
                ensure!(!line.contains("prost::"), "{path}:{number} uses prost, which is proto's");
            }
            let names_messages = product_lines(&text).any(|(_, line)| line.contains("wire::"));
            let may = MAY_NAME_MESSAGES.iter().any(|edge| path.starts_with(edge));
            ensure!(may || !names_messages, "{path} names protobuf messages outside the edge");
        }
    }
    Ok(())
}

/// Which test shows what is done about a threat: docs/security.md names them, and they are there.
#[test]
fn every_test_that_the_threats_name_exists() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/security.md"))?;
    let threats = page.split("\n## ").find(|part| part.starts_with("Threats")).context("no threats")?;
    let rows = threats.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut texts = Vec::new();
    for (folder, _) in ROOMS {
        texts.extend(sources(folder)?.into_iter().map(|(_, text)| text));
    }
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().context("a row has columns")?;
        for name in tests.split('`').skip(1).step_by(2) {
            // A function, or a line of a list from which a macro makes one.
            let known =
                |text: &String| text.contains(&format!("fn {name}(")) || text.contains(&format!(" {name}: "));
            ensure!(texts.iter().any(known), "docs/security.md names {name}, which is no test");
            named += 1;
        }
    }
    ensure!(named > 40, "{named} tests are named");
    Ok(())
}
