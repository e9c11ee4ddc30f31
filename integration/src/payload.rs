//! Payloads to put: real batches and reproducible noise.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;

use crate::random::Random;

/// Bytes that look random and are the same for the same length and seed.
#[must_use]
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d ^ length as u64;
    let mut random = Random::new(mixed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The folder with the real rollup batches.
#[must_use]
pub fn batch_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/batches")
}

/// The real rollup batches, by file name.
///
/// # Errors
/// When the folder cannot be read.
pub fn batches() -> Result<Vec<(String, Bytes)>> {
    let folder = batch_folder();
    let mut batches = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "bin") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            batches.push((name, Bytes::from(std::fs::read(&path)?)));
        }
    }
    batches.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(batches)
}
