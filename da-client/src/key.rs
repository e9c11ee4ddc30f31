//! Files with secret keys.

mod keystore;

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use meridian_proofs::signature::SecretKey;
use zeroize::Zeroizing;

/// Longest key file that is looked at: 64 hex digits, a prefix and some white space.
const MAX_FILE: u64 = 256;
/// Longest keystore that is looked at; common ones have some 500 bytes.
const MAX_KEYSTORE: u64 = 4096;
/// Longest file with a password.
const MAX_PASSWORD: u64 = 1024;

/// Makes a key from the system's randomness and writes it to a new file that only its owner can read.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create(path: &Path) -> Result<SecretKey> {
    let key = draw()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make key file {}", path.display()))?;
    let bytes = Zeroizing::new(key.to_bytes());
    let text = Zeroizing::new(format!("0x{}\n", Zeroizing::new(hex::encode(bytes.as_slice())).as_str()));
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write key file {}", path.display()))?;
    Ok(key)
}

/// Makes a key from the system's randomness and writes it to a new Web3 secret storage file (version 3) that only its
/// owner can read, under the password of another file.
///
/// # Errors
/// When the file exists or cannot be written, or the password cannot be read, is empty, or may be read by others.
pub fn create_keystore(path: &Path, password_file: &Path) -> Result<SecretKey> {
    let text = read(password_file, MAX_PASSWORD, "password file")?;
    let password = password_in(&text);
    ensure!(!password.is_empty(), "password file {} is empty", password_file.display());
    let key = draw()?;
    let name = path.file_name().with_context(|| format!("{} is not the name of a file", path.display()))?;
    // Made where nobody else looks, and linked to its place whole: that fails where something is there already.
    let mut beside = name.to_owned();
    beside.push(format!(".{:016x}.part", getrandom::u64().context("no randomness from the system")?));
    let folder = path.with_file_name(beside);
    let cannot = || format!("cannot make keystore {}", path.display());
    DirBuilder::new().mode(0o700).create(&folder).with_context(cannot)?;
    let made = keystore::write(&folder, &key, password).and_then(|part| {
        let file = File::open(&part)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()?;
        std::fs::hard_link(&part, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?)
    });
    // What failed to be made says more than what is left of it.
    let _ = std::fs::remove_dir_all(&folder);
    made.with_context(cannot)?;
    Ok(key)
}

/// A key from the system's randomness.
fn draw() -> Result<SecretKey> {
    loop {
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(bytes.as_mut_slice()).context("no randomness from the system")?;
        // All but about 2^-128 of the draws are keys.
        if let Ok(key) = SecretKey::from_bytes(*bytes) {
            return Ok(key);
        }
    }
}

/// Reads a key file.
///
/// # Errors
/// When the file cannot be read, others than its owner may read it, or it is not a key. No message holds its content.
pub fn load(path: &Path) -> Result<SecretKey> {
    let text = read(path, MAX_FILE, "key file")?;
    parse(&text).with_context(|| format!("key file {} does not hold 32 bytes in hex", path.display()))
}

/// Reads the key of an account of the chain: a key file, or a Web3 secret storage file (version 3) with its password in
/// another file. Both files must be readable by their owner only.
///
/// Takes seconds for a keystore: its password is hashed on purpose for so long.
///
/// # Errors
/// When a file cannot be read or others than its owner may read it, when it is no key, or the password is wrong. No
/// message holds the content of a file.
pub fn load_account(path: &Path, password_file: Option<&Path>) -> Result<SecretKey> {
    let text = read(path, MAX_KEYSTORE, "key file")?;
    if !text.trim_start().starts_with('{') {
        ensure!(
            password_file.is_none(),
            "key file {} needs no password file: it is no keystore",
            path.display()
        );
        return parse(&text).with_context(|| {
            format!("key file {} holds neither 32 bytes in hex nor a keystore", path.display())
        });
    }
    let password_file = password_file
        .with_context(|| format!("key file {} is a keystore: name its password file", path.display()))?;
    let password = read(password_file, MAX_PASSWORD, "password file")?;
    keystore::open(path, &text, password_in(&password))
        .with_context(|| format!("cannot open keystore {}", path.display()))
}

/// The password of a file: all of it but the end of its line.
fn password_in(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Reads a file that only its owner can read, up to a length.
fn read(path: &Path, most: u64, what: &str) -> Result<Zeroizing<String>> {
    let file = File::open(path).with_context(|| format!("cannot open {what} {}", path.display()))?;
    let mode = file
        .metadata()
        .with_context(|| format!("cannot look at {what} {}", path.display()))?
        .permissions()
        .mode();
    if mode & not_allowed(path, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref()) != 0 {
        bail!(
            "{what} {} can be read by others (mode {:04o}): chmod 600 it, and make a new key if it was ever shared",
            path.display(),
            mode & 0o7777
        );
    }
    // Room for all of it, so that no copy stays behind where a string has grown.
    let capacity = usize::try_from(most + 1).unwrap_or(usize::MAX);
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    file.take(most + 1)
        .read_to_string(&mut text)
        .ok()
        .with_context(|| format!("cannot read {what} {}", path.display()))?;
    ensure!(text.len() < capacity, "{what} {} is longer than {most} bytes", path.display());
    Ok(text)
}

/// The bits of a mode that let others than its owner at a file.
///
/// What a service manager hands over as a credential belongs to root, and an access list lets the service alone read it:
/// the mode then shows the list's mask where the group's bits are otherwise.
fn not_allowed(path: &Path, credentials: Option<&OsStr>) -> u32 {
    let folder = credentials.map(Path::new).filter(|folder| folder.is_absolute());
    if folder.is_some() && path.parent() == folder { 0o037 } else { 0o077 }
}

fn parse(text: &str) -> Option<SecretKey> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let mut bytes = Zeroizing::new([0u8; 32]);
    hex::decode_to_slice(digits, bytes.as_mut_slice()).ok()?;
    SecretKey::from_bytes(*bytes).ok()
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
    fn a_credential_may_show_the_mask_of_its_access_list() {
        let at = |path: &str, folder: Option<&str>| not_allowed(Path::new(path), folder.map(OsStr::new));
        assert_eq!(at("/run/credentials/a.service/key", Some("/run/credentials/a.service")), 0o037);
        for (path, folder) in [
            ("/run/credentials/a.service/key", None),
            ("/run/credentials/b.service/key", Some("/run/credentials/a.service")),
            ("/run/credentials/a.service/more/key", Some("/run/credentials/a.service")),
            ("key", Some("")),
            ("credentials/key", Some("credentials")),
        ] {
            assert_eq!(at(path, folder), 0o077, "{path}");
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

    /// A keystore of the Web3 Secret Storage Definition's test vectors, with its password and key.
    const KEYSTORE: &str = r#"{
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262144, "dklen": 32, "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    }"#;
    const PASSWORD: &str = "testpassword";
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";

    fn private(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn an_account_comes_from_hex_or_from_a_keystore() {
        let dir = tempfile::tempdir().unwrap();
        let hex = private(dir.path(), "hex", KEY);
        let plain = load_account(&hex, None).unwrap();
        let store = private(dir.path(), "store", KEYSTORE);
        for spelling in [PASSWORD.to_owned(), format!("{PASSWORD}\n"), format!("{PASSWORD}\r\n")] {
            let password = private(dir.path(), "password", &spelling);
            assert_eq!(load_account(&store, Some(&password)).unwrap().address(), plain.address());
        }
        let password = private(dir.path(), "password", PASSWORD);
        for mode in [0o640, 0o604, 0o644] {
            for file in [&store, &password] {
                fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
                let message = format!("{:#}", load_account(&store, Some(&password)).unwrap_err());
                assert!(message.contains("can be read by others"), "{message}");
                fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        assert!(load_account(&hex, Some(&password)).is_err());
        let message = format!("{:#}", load_account(&store, None).unwrap_err());
        assert!(message.contains("name its password file"), "{message}");
    }

    #[test]
    fn a_new_keystore_is_private_and_opens_with_its_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let (path, password) = (dir.path().join("store"), private(dir.path(), "password", "hunter2\n"));
        let made = create_keystore(&path, &password).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('{') && !text.contains(&hex::encode(made.to_bytes())));
        assert_eq!(load_account(&path, Some(&password)).unwrap().address(), made.address());
        let wrong = private(dir.path(), "wrong", "hunter3");
        assert!(load_account(&path, Some(&wrong)).is_err());

        assert!(create_keystore(&path, &password).is_err(), "what is there is left alone");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let empty = private(dir.path(), "empty", "\n");
        assert!(create_keystore(&dir.path().join("other"), &empty).is_err());
        fs::set_permissions(&password, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(create_keystore(&dir.path().join("other"), &password).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing is left beside");
    }

    #[test]
    fn a_wrong_password_shows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = private(dir.path(), "store", KEYSTORE);
        let password = private(dir.path(), "password", "hunter2");
        let error = load_account(&store, Some(&password)).unwrap_err();
        let message = format!("{error:#} {error:?}");
        assert!(message.contains("password is wrong") && !message.contains("hunter2"), "{message}");
        assert!(!message.contains("5318b4d5"), "{message}");
    }

    #[test]
    fn files_have_a_longest_length() {
        let dir = tempfile::tempdir().unwrap();
        for (length, fine) in [(255, true), (256, true), (257, false)] {
            let text = format!("{KEY}{}", " ".repeat(length - KEY.len()));
            assert_eq!(load(&private(dir.path(), "key", &text)).is_ok(), fine, "{length}");
        }
        for (length, fine) in [(4095, true), (4096, true), (4097, false)] {
            let text = format!("{KEY}{}", " ".repeat(length - KEY.len()));
            assert_eq!(load_account(&private(dir.path(), "key", &text), None).is_ok(), fine, "{length}");
        }
    }
}
