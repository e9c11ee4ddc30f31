//! Where the committee comes from: a file, or a gateway the first time and a pin ever after.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_proofs::B256;
use meridian_proofs::committee::Committee;
use meridian_proto::error::ApiError;
use thiserror::Error;

use crate::rpc::Channels;

/// Longest wait for a gateway's committee.
const DEADLINE: Duration = Duration::from_secs(3);

/// Most bytes of a committee file.
const MAX_FILE: u64 = 4 << 20;

/// Why there is no committee to work with.
#[derive(Debug, Error)]
pub enum CommitteeFault {
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// A file is not a committee.
    #[error("{}: {error}", path.display())]
    Invalid {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// No gateway gave its committee. The last one's error.
    #[error("no gateway gives its committee: {0}")]
    Unreachable(ApiError),
    /// A gateway works with another committee than the pinned one.
    #[error("{gateway} works with committee {offered}, pinned is {pinned} in {}", path.display())]
    Changed {
        /// The gateway.
        gateway: String,
        /// The pin.
        path: PathBuf,
        /// Fingerprint of the pinned committee.
        pinned: B256,
        /// Fingerprint of the gateway's committee.
        offered: B256,
    },
    /// Nothing is pinned and no gateway is named.
    #[error("no committee is known")]
    Nowhere,
}

/// A committee that came from a pin.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The committee.
    pub committee: Committee,
    /// The gateway that it was taken from just now, or nothing when it was pinned before.
    pub taken_from: Option<String>,
}

/// Reads a committee file.
///
/// # Errors
/// The file cannot be read, or is not a committee.
pub fn load(path: &Path) -> Result<Committee, CommitteeFault> {
    let file = |error| CommitteeFault::File { path: path.to_owned(), error };
    let invalid = |error: String| CommitteeFault::Invalid { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(file)?.len() > MAX_FILE {
        return Err(invalid(format!("longer than {MAX_FILE} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(file)?;
    toml::from_str(&text).map_err(|error| invalid(error.to_string().trim_end().replace('\n', "; ")))
}

/// Writes a committee file, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, committee: &Committee) -> Result<(), CommitteeFault> {
    let file = |error| CommitteeFault::File { path: path.to_owned(), error };
    let text = toml::to_string_pretty(committee)
        .map_err(|error| CommitteeFault::Invalid { path: path.to_owned(), error: error.to_string() })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(file)?;
    }
    crate::files::write_whole(path, text.as_bytes()).map_err(file)
}

/// The file in the user's config folder that pins the committee: `meridian/committee.toml`.
#[must_use]
pub fn pin_path() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "meridian").map(|dirs| dirs.config_dir().join("committee.toml"))
}

/// The pinned committee. Without a pin, the one that the first gateway in reach gives, which is pinned.
///
/// A pin is compared with what the first gateway in reach says; gateways that are out of reach do not matter.
///
/// # Errors
/// [`CommitteeFault::Changed`] when a gateway says otherwise than the pin; the others as they say.
pub async fn pinned(path: &Path, gateways: &[String], channels: &Channels) -> Result<Pinned, CommitteeFault> {
    let known = match load(path) {
        Ok(committee) => Some(committee),
        Err(CommitteeFault::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
        Err(fault) => return Err(fault),
    };
    let mut last = None;
    for gateway in gateways {
        let call = async { channels.gateway(gateway)?.within(DEADLINE).committee().await };
        let offered = match call.await {
            Ok(offered) => offered,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let Some(committee) = known else {
            save(path, &offered)?;
            return Ok(Pinned { committee: offered, taken_from: Some(gateway.clone()) });
        };
        let (pinned, offered) = (committee.fingerprint(), offered.fingerprint());
        if pinned != offered {
            let (gateway, path) = (gateway.clone(), path.to_owned());
            return Err(CommitteeFault::Changed { gateway, path, pinned, offered });
        }
        return Ok(Pinned { committee, taken_from: None });
    }
    match (known, last) {
        (Some(committee), _) => Ok(Pinned { committee, taken_from: None }),
        (None, Some(error)) => Err(CommitteeFault::Unreachable(error)),
        (None, None) => Err(CommitteeFault::Nowhere),
    }
}
