//! Payloads: real batches, and longer ones made of them.

use std::{fs, path::Path};

/// The real batches by the name of their length.
const BATCHES: [(&str, &str); 2] =
    [("24KB", "op-stack-tx3699-0.bin"), ("130KB", "base-mainnet-tx524451-0.bin")];

fn batch(file: &str) -> Option<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration/testdata/batches");
    fs::read(folder.join(file)).ok()
}

/// The payload with this name: that of a batch, or a number of MiB.
///
/// A longer one is a batch again and again, each time xored with another byte.
pub(crate) fn named(name: &str) -> Option<Vec<u8>> {
    if let Some((_, file)) = BATCHES.iter().find(|(length, _)| *length == name) {
        return batch(file);
    }
    let mib: usize = name.strip_suffix("MiB")?.parse().ok().filter(|mib| (1..=128).contains(mib))?;
    let batch = batch(BATCHES[1].1)?;
    let varied = (0..=u8::MAX).cycle().flat_map(|mask| batch.iter().map(move |byte| byte ^ mask));
    Some(varied.take(mib << 20).collect())
}
