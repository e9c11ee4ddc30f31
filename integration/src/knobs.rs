//! What whoever runs a test may choose, by environment variables.

use anyhow::{Context, Result};

/// The number that a variable has, if it is set.
///
/// # Errors
/// When it is something else.
pub fn number(variable: &str) -> Result<Option<u64>> {
    let Some(value) = std::env::var_os(variable) else { return Ok(None) };
    let value = value.to_str().and_then(|value| value.parse().ok());
    Ok(Some(value.with_context(|| format!("{variable} must be a number"))?))
}

/// What all choices of a run follow from: `MERIDIAN_SEED`, or any number.
///
/// # Errors
/// When the variable is no number, or there is no randomness.
pub fn seed() -> Result<u64> {
    match number("MERIDIAN_SEED")? {
        Some(seed) => Ok(seed),
        None => getrandom::u64().map_err(|error| anyhow::anyhow!("no randomness: {error}")),
    }
}
