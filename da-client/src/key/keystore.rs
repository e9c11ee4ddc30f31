//! Web3 secret storage files, version 3.

use std::path::{Path, PathBuf};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result, ensure};
use meridian_proofs::signature::SecretKey;
use rand::rngs::OsRng;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

/// Most memory that a keystore may have scrypt take: four times what common ones do.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// Most rounds that a keystore may ask for.
const MAX_ROUNDS: u32 = 10_000_000;

/// What has to be right before a keystore is opened: the library that opens it takes it on trust.
#[derive(Deserialize)]
struct Keystore {
    crypto: Crypto,
    version: u8,
}

#[derive(Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdfparams: KdfParams,
}

#[derive(Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum KdfParams {
    Pbkdf2 { c: u32, dklen: u32, prf: String },
    Scrypt { n: u32, r: u32, p: u32, dklen: u32 },
}

/// Writes the keystore of a key into a folder of its own, and tells its path.
pub(super) fn write(folder: &Path, key: &SecretKey, password: &str) -> Result<PathBuf> {
    const NAME: &str = "key";
    let bytes = Zeroizing::new(key.to_bytes());
    PrivateKeySigner::encrypt_keystore(folder, &mut OsRng, bytes.as_slice(), password, Some(NAME))?;
    Ok(folder.join(NAME))
}

/// Opens the keystore in a file, whose text is given.
pub(super) fn open(path: &Path, text: &str, password: &str) -> Result<SecretKey> {
    check(text)?;
    // Its own errors may repeat what is in the file.
    let signer = PrivateKeySigner::decrypt_keystore(path, password.as_bytes())
        .ok()
        .context("the password is wrong, or the file is damaged")?;
    let mut bytes = signer.to_field_bytes();
    let field = Zeroizing::new(<[u8; 32]>::from(bytes));
    bytes[..].zeroize();
    SecretKey::from_bytes(*field).context("it holds no key")
}

fn check(text: &str) -> Result<()> {
    let keystore: Keystore = serde_json::from_str(text).ok().context("it is no Web3 keystore")?;
    let Keystore { crypto, version } = keystore;
    ensure!(version == 3, "it has version {version}, only 3 is known");
    ensure!(crypto.cipher == "aes-128-ctr", "its cipher is not aes-128-ctr");
    ensure!(crypto.cipherparams.iv.len() == 32, "its iv has not 16 bytes");
    ensure!(crypto.ciphertext.len() == 64, "it holds no 32 bytes");
    let dklen = match crypto.kdfparams {
        KdfParams::Pbkdf2 { c, dklen, prf } => {
            ensure!(prf == "hmac-sha256", "its pbkdf2 is not over hmac-sha256");
            ensure!((1..=MAX_ROUNDS).contains(&c), "it asks for {c} rounds");
            dklen
        }
        KdfParams::Scrypt { n, r, p, dklen } => {
            ensure!(n.is_power_of_two() && n > 1 && r > 0 && p > 0, "its scrypt parameters are out of range");
            let bytes = u64::from(n).checked_mul(u64::from(r)).and_then(|blocks| blocks.checked_mul(128));
            let bytes = bytes.filter(|bytes| *bytes <= MAX_SCRYPT_BYTES);
            ensure!(bytes.is_some() && p <= 64, "its scrypt parameters would take too much memory or time");
            dklen
        }
    };
    ensure!(dklen == 32, "its derived key has not 32 bytes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrypt(version: u8, iv: usize, n: u64, r: u64, p: u64, dklen: u64) -> String {
        let (iv, text) = ("00".repeat(iv), "11".repeat(32));
        format!(
            r#"{{"crypto":{{"cipher":"aes-128-ctr","cipherparams":{{"iv":"{iv}"}},"ciphertext":"{text}",
            "kdf":"scrypt","kdfparams":{{"dklen":{dklen},"n":{n},"p":{p},"r":{r},"salt":"00"}},"mac":"00"}},
            "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":{version}}}"#
        )
    }

    #[test]
    fn what_would_break_the_library_is_refused_before() {
        check(&scrypt(3, 16, 262_144, 8, 1, 32)).unwrap();
        check(&scrypt(3, 16, 1 << 20, 8, 1, 32)).unwrap();
        for bad in [
            scrypt(4, 16, 262_144, 8, 1, 32),
            scrypt(3, 15, 262_144, 8, 1, 32),
            scrypt(3, 17, 262_144, 8, 1, 32),
            scrypt(3, 16, 262_145, 8, 1, 32),
            scrypt(3, 16, 1 << 20, 9, 1, 32),
            scrypt(3, 16, 1, 8, 1, 32),
            scrypt(3, 16, 1 << 31, u64::from(u32::MAX), 1, 32),
            scrypt(3, 16, 262_144, 0, 1, 32),
            scrypt(3, 16, 262_144, 8, 65, 32),
            scrypt(3, 16, 262_144, 8, 1, 31),
            scrypt(3, 16, 262_144, 8, 1, 33),
            "{}".to_owned(),
            "{".to_owned(),
        ] {
            assert!(check(&bad).is_err(), "{bad}");
        }
    }
}
