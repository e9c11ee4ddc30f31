//! `da key`, and the key that signs puts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_proofs::signature::SecretKey;

use super::Printed;
use super::args::{KeyArgs, KeyNewArgs, KeyShowArgs};
use super::exit::{Exit, Problem};
use super::report::KeyReport;
use crate::key;

/// Makes a key and prints its address.
pub(crate) async fn new(args: KeyNewArgs) -> Result<Printed, Problem> {
    let KeyNewArgs { out, password_file } = args;
    let file = out.clone();
    let key = off_the_threads(move || key::create_keystore(&file, &password_file)).await?;
    printed(&out, &key)
}

/// Prints the address of a key.
pub(crate) async fn show(args: KeyShowArgs) -> Result<Printed, Problem> {
    let key = load(args.file.clone(), args.password_file).await?;
    printed(&args.file, &key)
}

/// Reads the key that signs puts, where one is named.
pub(crate) async fn signer(args: KeyArgs) -> Result<Option<Arc<SecretKey>>, Problem> {
    match (args.key, args.password_file) {
        (Some(file), password_file) => Ok(Some(Arc::new(load(file, password_file).await?))),
        (None, Some(_)) => Err(Problem::usage("a password is named, and no key", "name the key with --key")),
        (None, None) => Ok(None),
    }
}

async fn load(file: PathBuf, password_file: Option<PathBuf>) -> Result<SecretKey, Problem> {
    off_the_threads(move || key::load_account(&file, password_file.as_deref())).await
}

/// A keystore's password is hashed for long.
async fn off_the_threads(
    work: impl FnOnce() -> anyhow::Result<SecretKey> + Send + 'static,
) -> Result<SecretKey, Problem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(Problem::local)?;
    let next = "check the files, and that nobody but their owner can read them";
    done.map_err(|error| Problem::new(Exit::Local, "KEY", format!("{error:#}"), next))
}

fn printed(file: &Path, key: &SecretKey) -> Result<Printed, Problem> {
    let address = key.address().to_string();
    let report = KeyReport { file: file.display().to_string(), address: address.clone() };
    Printed::new(&report, address)
}
