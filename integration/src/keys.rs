//! Keys for tests: made from a word, so that everybody can make them again.

use anyhow::Result;
use meridian_proofs::keccak256;
use meridian_proofs::signature::SecretKey;

/// The secret key of a word.
///
/// # Errors
/// When the word's hash is not a key, which no word is known for.
pub fn secret(word: &str) -> Result<SecretKey> {
    Ok(SecretKey::from_bytes(keccak256(word.as_bytes()).0)?)
}
