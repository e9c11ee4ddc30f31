//! Files with secret keys.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use meridian_proofs::signature::SecretKey;

/// Longest key file that is looked at: 64 hex digits, a prefix and some white space.
const MAX_FILE: u64 = 256;

/// Makes a key from the system's randomness and writes it to a new file that only its owner can read.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create(path: &Path) -> Result<SecretKey> {
    let key = loop {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).context("no randomness from the system")?;
        // All but about 2^-128 of the draws are keys.
        if let Ok(key) = SecretKey::from_bytes(bytes) {
            break key;
        }
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make key file {}", path.display()))?;
    let text = format!("0x{}\n", hex::encode(key.to_bytes()));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write key file {}", path.display()))?;
    Ok(key)
}

/// Reads a key file.
///
/// # Errors
/// When the file cannot be read, others than its owner may read it, or it is not a key. No message holds its content.
pub fn load(path: &Path) -> Result<SecretKey> {
    let file = File::open(path).with_context(|| format!("cannot open key file {}", path.display()))?;
    let mode = file
        .metadata()
        .with_context(|| format!("cannot look at key file {}", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!(
            "key file {} can be read by others (mode {:04o}): chmod 600 it, and make a new key if it was ever shared",
            path.display(),
            mode & 0o7777
        );
    }
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .ok()
        .with_context(|| format!("cannot read key file {}", path.display()))?;
    parse(&text).with_context(|| format!("key file {} does not hold 32 bytes in hex", path.display()))
}

fn parse(text: &str) -> Option<SecretKey> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    SecretKey::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_key_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&path).unwrap().address(), made.address());
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first = create(&path).unwrap();
        assert!(create(&path).is_err());
        assert_eq!(load(&path).unwrap().address(), first.address());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path).unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o660, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&path).is_ok(), fine, "{mode:o}");
        }
    }

    #[test]
    fn anything_but_a_key_is_refused_without_showing_it() {
        let zero = "00".repeat(32);
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let short = "11".repeat(31);
        let long = "11".repeat(33);
        for bad in ["", "0x", "zz", &zero, order, &short, &long] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(parse(&"11".repeat(32)).is_some());
        assert!(parse(&format!(" 0x{}\n", "11".repeat(32))).is_some());

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, "5ec4e7").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let message = format!("{:#}", load(&path).err().unwrap());
        assert!(!message.contains("5ec4e7"), "{message}");
    }
}
