//! Bearer tokens of HTTP callers (RFC 6750): kept as hashes alone, each bound to namespaces, with an expiry.
//!
//! A token is 32 random bytes, so that its hash needs no salt and no slow function: nobody goes through them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use meridian_proofs::ids::Namespace;
use meridian_proofs::{B256, keccak256};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::files::{Stamp, alone, write_whole};

/// What every token begins with, so that it is known for one wherever it turns up.
const PREFIX: &str = "meridian_";
/// Longest file that is read: some ten thousand tokens.
const MAX_FILE: u64 = 4 << 20;
/// Longest name.
const MAX_NAME: usize = 64;
/// How often the file is looked at while tokens are being checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A token that was just made: the only moment at which it is known.
pub struct Secret(Zeroizing<String>);

impl Secret {
    fn random() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice()).map_err(io::Error::other)?;
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 64));
        text.push_str(PREFIX);
        for byte in bytes.iter() {
            // In place: a string on the way would stay in memory.
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Ok(Self(text))
    }

    /// The text to hand to whom it is for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What is kept of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Whose it is, for people: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// keccak256 of its text.
    pub hash: B256,
    /// The namespaces that it may write to.
    pub namespaces: Vec<Namespace>,
    /// When it ends, unix seconds.
    pub expiry: u64,
}

/// A file of tokens as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Version of the format, 1.
    format_version: u32,
    #[serde(default)]
    tokens: Vec<Token>,
}

/// Why a file of tokens cannot be used.
#[derive(Debug, Error)]
pub enum TokensError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no file of tokens.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong. Says nothing of what the file holds.
        problem: String,
    },
    /// The system gives no randomness.
    #[error("no randomness from the system: {0}")]
    Randomness(io::Error),
    /// A name is not allowed.
    #[error("a name has 1 to {MAX_NAME} letters, digits, '-', '_' and '.', not {0:?}")]
    Name(String),
    /// There is a token of that name.
    #[error("there is a token named {0} already")]
    Taken(String),
    /// There is no token of that name.
    #[error("there is no token named {0}")]
    NoSuch(String),
}

/// Why a caller is not let in.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Denied {
    /// The request carries no token.
    #[error(
        "this server takes puts with a token only: Authorization: Bearer TOKEN, or http://any:TOKEN@HOST:PORT"
    )]
    Missing,
    /// Nobody has that token.
    #[error("the token is unknown, or was revoked")]
    Unknown,
    /// It has ended.
    #[error("token {name} ended {} s ago: have another made with da token new", now.saturating_sub(*expiry))]
    Expired {
        /// Its name.
        name: String,
        /// When it ended, unix seconds.
        expiry: u64,
        /// What time it is here, unix seconds.
        now: u64,
    },
    /// It is for other namespaces.
    #[error("token {name} is not for the namespace {namespace}")]
    Foreign {
        /// Its name.
        name: String,
        /// What was to be written to.
        namespace: Namespace,
    },
}

/// Tokens, each under its hash.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tokens(BTreeMap<B256, Token>);

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too long, or is no file of tokens.
    pub fn load(path: &Path) -> Result<Self, TokensError> {
        let failed = |source: io::Error| TokensError::File { path: path.to_owned(), source };
        let wrong = |problem: String| TokensError::Content { path: path.to_owned(), problem };
        if std::fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
            return Err(wrong(format!("longer than {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let file: File = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        if file.format_version != 1 {
            return Err(wrong(format!("format version {}, only 1 is known", file.format_version)));
        }
        let mut tokens = Self::default();
        for token in file.tokens {
            check_name(&token.name)?;
            tokens.insert(token).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(tokens)
    }

    /// Reads a file that may not be there yet.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn load_or_new(path: &Path) -> Result<Self, TokensError> {
        match Self::load(path) {
            Err(TokensError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            loaded => loaded,
        }
    }

    /// Changes the tokens of a file, one change at a time; without a file the change begins with none, if it `may_begin`.
    ///
    /// # Errors
    /// The file cannot be read or written, or the change fails: the file is as it was then.
    pub fn change<T>(
        path: &Path,
        may_begin: bool,
        change: impl FnOnce(&mut Self) -> Result<T, TokensError>,
    ) -> Result<T, TokensError> {
        let failed = |source| TokensError::File { path: path.to_owned(), source };
        alone(path, failed, |path| {
            let mut tokens = if may_begin { Self::load_or_new(path) } else { Self::load(path) }?;
            let made = change(&mut tokens)?;
            tokens.save(path)?;
            Ok(made)
        })
    }

    /// Writes the file anew, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TokensError> {
        let failed = |source: io::Error| TokensError::File { path: path.to_owned(), source };
        let file = File { format_version: 1, tokens: self.list().cloned().collect() };
        let text = toml::to_string(&file).map_err(|error| failed(io::Error::other(error)))?;
        write_whole(path, text.as_bytes()).map_err(failed)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The name is taken or not allowed, or the system gives no randomness.
    pub fn add(
        &mut self,
        name: &str,
        namespaces: Vec<Namespace>,
        expiry: u64,
    ) -> Result<Secret, TokensError> {
        check_name(name)?;
        let secret = Secret::random().map_err(TokensError::Randomness)?;
        let hash = keccak256(secret.reveal());
        self.insert(Token { name: name.to_owned(), hash, namespaces, expiry })?;
        Ok(secret)
    }

    fn insert(&mut self, token: Token) -> Result<(), TokensError> {
        if self.0.values().any(|other| other.name == token.name) {
            return Err(TokensError::Taken(token.name));
        }
        match self.0.insert(token.hash, token) {
            None => Ok(()),
            Some(other) => Err(TokensError::Taken(other.name)),
        }
    }

    /// Takes a token away.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn revoke(&mut self, name: &str) -> Result<Token, TokensError> {
        let hash = self.0.values().find(|token| token.name == name).map(|token| token.hash);
        let token = hash.and_then(|hash| self.0.remove(&hash));
        token.ok_or_else(|| TokensError::NoSuch(name.to_owned()))
    }

    /// The tokens by name.
    pub fn list(&self) -> impl Iterator<Item = &Token> {
        let mut tokens: Vec<_> = self.0.values().collect();
        tokens.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        tokens.into_iter()
    }

    /// Whether the headers of a request carry a token that may write to a namespace now.
    ///
    /// A token is looked up by its hash, so how long that takes tells nothing about those that there are.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn check(&self, headers: &HeaderMap, namespace: Namespace, now: u64) -> Result<&Token, Denied> {
        let hash = presented(headers).ok_or(Denied::Missing)?;
        let token = self.0.get(&hash).ok_or(Denied::Unknown)?;
        let name = || token.name.clone();
        if now >= token.expiry {
            return Err(Denied::Expired { name: name(), expiry: token.expiry, now });
        }
        if !token.namespaces.contains(&namespace) {
            return Err(Denied::Foreign { name: name(), namespace });
        }
        Ok(token)
    }
}

fn check_name(name: &str) -> Result<(), TokensError> {
    let fits = (1..=MAX_NAME).contains(&name.len());
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits && plain { Ok(()) } else { Err(TokensError::Name(name.to_owned())) }
}

/// The hash of the token that a request carries: as RFC 6750 has it, or as the password of RFC 7617, which is what
/// clients make of `http://any:TOKEN@HOST`.
fn presented(headers: &HeaderMap) -> Option<B256> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(keccak256(rest));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(rest).ok()?);
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        return Some(keccak256(&decoded[colon + 1..]));
    }
    None
}

/// A file of tokens that is read again when it has changed. One that is broken changes nothing.
pub struct TokenFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    tokens: Arc<Tokens>,
    stamp: Stamp,
    /// Whether the file as it is was read, or is of no use.
    is_settled: bool,
    looked: Instant,
}

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// As [`Tokens::load`].
    pub fn open(path: PathBuf) -> Result<Self, TokensError> {
        let stamp = Stamp::of(&path);
        let tokens = Arc::new(Tokens::load(&path)?);
        let state = Mutex::new(State { tokens, stamp, is_settled: true, looked: Instant::now() });
        Ok(Self { path, state })
    }

    /// The tokens of now, or of at most a second ago.
    #[must_use]
    pub fn current(&self) -> Arc<Tokens> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            state.looked = Instant::now();
            let stamp = Stamp::of(&self.path);
            if stamp != state.stamp || !state.is_settled {
                let is_new = stamp != state.stamp;
                state.stamp = stamp;
                let loaded = Tokens::load(&self.path);
                // What cannot be read now may be readable in a moment, as when too many files are open.
                state.is_settled = !matches!(loaded, Err(TokensError::File { .. }));
                match loaded {
                    Ok(tokens) => {
                        tracing::info!(path = %self.path.display(), tokens = tokens.0.len(), "tokens read again");
                        state.tokens = Arc::new(tokens);
                    }
                    Err(error) if is_new => {
                        tracing::error!(%error, "the file of tokens is broken: the last ones stay");
                    }
                    Err(_) => {}
                }
            }
        }
        Arc::clone(&state.tokens)
    }
}

#[cfg(test)]
mod tests;
