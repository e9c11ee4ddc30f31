//! The tests of a folder `fuzz` beside a package: every input of its corpus through the body of its target.

use super::fuzz;
use std::{collections::BTreeSet, fs, path::PathBuf, sync::LazyLock};

static CORPUS: LazyLock<PathBuf> = LazyLock::new(|| {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    if std::env::var_os("REGENERATE").is_some() {
        for (target, name, bytes) in fuzz::seeds() {
            fs::create_dir_all(corpus.join(target)).unwrap();
            fs::write(corpus.join(target).join(name), bytes).unwrap();
        }
    }
    corpus
});

#[test]
fn seeds_are_in_the_corpus() {
    for (target, name, bytes) in fuzz::seeds() {
        let path = CORPUS.join(target).join(name);
        let have = fs::read(&path).unwrap_or_default();
        assert!(have == bytes, "{} drifted: run with REGENERATE=1", path.display());
    }
}

#[test]
fn every_saved_input_passes() {
    for (target, body) in fuzz::TARGETS {
        for entry in fs::read_dir(CORPUS.join(target)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
        }
    }
}

/// Fuzzing a target that nobody builds, or building one that nobody replays, would go unnoticed.
#[test]
fn targets_programs_and_corpus_agree() {
    let names = |folder: &str| -> BTreeSet<String> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let targets = fuzz::TARGETS.map(|(name, _)| name.to_owned()).into();
    assert!(CORPUS.is_dir());
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}

/// The fuzzers' workspace has a lock file of its own, which must not drift from the product's.
#[test]
fn the_same_versions_are_fuzzed_as_are_built() {
    let packages = |path: &str| -> BTreeSet<(String, String)> {
        let text = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let lock: toml::Table = text.parse().unwrap();
        let field = |package: &toml::Value, name: &str| package[name].as_str().unwrap().to_owned();
        let packages = lock["package"].as_array().unwrap().iter();
        packages.map(|package| (field(package, "name"), field(package, "version"))).collect()
    };
    let others: Vec<String> = packages("fuzz/Cargo.lock")
        .difference(&packages("../Cargo.lock"))
        .map(|(name, _)| name.clone())
        .collect();
    assert_eq!(others, fuzz::PACKAGES);
}
