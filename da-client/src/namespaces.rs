//! Who may put under which namespace, and how much: the file that a gateway's `access.namespaces` names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use meridian_proofs::Address;
use meridian_proofs::ids::Namespace;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{alone, write_whole};

/// The version of the file.
pub const FORMAT_VERSION: u32 = 1;
/// Longest file that is looked at.
pub const MAX_FILE: u64 = 64 << 20;
/// Most namespaces in a file.
pub const MAX_NAMESPACES: usize = 65_536;
/// Most writers of a namespace, beside its owner.
pub const MAX_WRITERS: usize = 256;
/// Most requests a second that can be a limit.
pub const MAX_REQUESTS: u64 = 1_000_000;
/// Bytes are counted in units of this, begun ones as whole ones.
pub const BYTE_UNIT: u64 = 1024;
/// Most bytes, a second or at once, that can be a limit.
pub const MAX_BYTES: u64 = 1 << 40;
/// Most stored bytes that can be a limit: the integers of the file.
pub const MAX_STORED: u64 = i64::MAX as u64;

/// Why a file of namespaces cannot be used.
#[derive(Debug, Error)]
pub enum NamespacesError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Longer than [`MAX_FILE`].
    #[error("{0} is longer than {MAX_FILE} bytes")]
    TooLong(PathBuf),
    /// Not TOML, or with keys and values that it does not have.
    #[error("{0}")]
    Form(String),
    /// A version that this program does not know.
    #[error("the format version is {0}, and only {FORMAT_VERSION} is known")]
    Version(u32),
    /// A namespace that is there twice.
    #[error("namespace {0} is listed twice")]
    Twice(Namespace),
    /// A namespace that is there already.
    #[error("namespace {0} is listed already")]
    Exists(Namespace),
    /// A namespace that is not there.
    #[error("namespace {0} is not listed")]
    Missing(Namespace),
    /// More than [`MAX_NAMESPACES`].
    #[error("{0} namespaces are listed, the limit is {MAX_NAMESPACES}")]
    TooMany(usize),
    /// More than [`MAX_WRITERS`].
    #[error("namespace {namespace} has {found} writers, the limit is {MAX_WRITERS}")]
    TooManyWriters {
        /// Whose.
        namespace: Namespace,
        /// How many.
        found: usize,
    },
    /// The zero address, which nobody signs as.
    #[error("namespace {0} has the zero address among its owner and writers")]
    Nobody(Namespace),
    /// A limit that is out of range.
    #[error("{name} = {value} is not within 1 to {most}; leave it out for no limit")]
    Limit {
        /// The limit.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The most it may be.
        most: u64,
    },
    /// The owner is no writer that can be taken away.
    #[error("{0} owns the namespace: only a namespace as a whole can be taken from its owner")]
    Owner(Address),
}

/// How much may be put. What is left out has no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Puts a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    /// Puts that may come at once; as many as in a second where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_requests: Option<u64>,
    /// Payload bytes a second, counted in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Payload bytes that may come at once, and so the longest payload; where it is left out as many as in a second, and
    /// no less than the longest payload there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<u64>,
    /// Payload bytes of entries that have not expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These limits, and others where these say nothing.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            requests_per_second: self.requests_per_second.or(others.requests_per_second),
            burst_requests: self.burst_requests.or(others.burst_requests),
            bytes_per_second: self.bytes_per_second.or(others.bytes_per_second),
            burst_bytes: self.burst_bytes.or(others.burst_bytes),
            stored_bytes: self.stored_bytes.or(others.stored_bytes),
        }
    }

    fn check(&self) -> Result<(), NamespacesError> {
        let limits = [
            ("requests_per_second", self.requests_per_second, MAX_REQUESTS),
            ("burst_requests", self.burst_requests, MAX_REQUESTS),
            ("bytes_per_second", self.bytes_per_second, MAX_BYTES),
            ("burst_bytes", self.burst_bytes, MAX_BYTES),
            ("stored_bytes", self.stored_bytes, MAX_STORED),
        ];
        for (name, value, most) in limits {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(NamespacesError::Limit { name, value, most });
            }
        }
        Ok(())
    }
}

/// A namespace and who may put under it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Whose it is; none where the registry on the chain says so.
    pub owner: Option<Address>,
    /// Who else may put.
    pub writers: BTreeSet<Address>,
    /// How much, where it differs from what holds for all.
    pub limits: Limits,
}

impl Listed {
    /// Whether somebody may put under it.
    #[must_use]
    pub fn allows(&self, address: &Address) -> bool {
        self.owner == Some(*address) || self.writers.contains(address)
    }
}

/// The namespaces of a gateway.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespaces {
    /// Whether anybody may put under namespaces that are not listed. Those share one account of the limits.
    pub open: bool,
    /// What holds for every namespace that says nothing else.
    pub limits: Limits,
    /// The namespaces.
    pub listed: BTreeMap<Namespace, Listed>,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format_version: u32,
    #[serde(default)]
    open: bool,
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    limits: Limits,
    #[serde(default)]
    namespace: Vec<FormNamespace>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormNamespace {
    id: Namespace,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Address>,
    #[serde(default)]
    writers: Vec<Address>,
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    limits: Limits,
}

impl Namespaces {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or nothing of it can be used.
    pub fn load(path: &Path) -> Result<Self, NamespacesError> {
        let failed = |source| NamespacesError::File { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE) {
            return Err(NamespacesError::TooLong(path.to_owned()));
        }
        Self::parse(&text)
    }

    /// Takes the text of a file.
    ///
    /// # Errors
    /// See [`NamespacesError`].
    pub fn parse(text: &str) -> Result<Self, NamespacesError> {
        let form: Form = toml::from_str(text).map_err(|error| NamespacesError::Form(error.to_string()))?;
        if form.format_version != FORMAT_VERSION {
            return Err(NamespacesError::Version(form.format_version));
        }
        let mut namespaces = Self { open: form.open, limits: form.limits, listed: BTreeMap::new() };
        for FormNamespace { id, owner, writers, limits } in form.namespace {
            let listed = Listed { owner, writers: writers.into_iter().collect(), limits };
            if namespaces.listed.insert(id, listed).is_some() {
                return Err(NamespacesError::Twice(id));
            }
        }
        namespaces.check()?;
        Ok(namespaces)
    }

    fn check(&self) -> Result<(), NamespacesError> {
        self.limits.check()?;
        if self.listed.len() > MAX_NAMESPACES {
            return Err(NamespacesError::TooMany(self.listed.len()));
        }
        for (id, listed) in &self.listed {
            listed.limits.check()?;
            if listed.writers.len() > MAX_WRITERS {
                let found = listed.writers.len();
                return Err(NamespacesError::TooManyWriters { namespace: *id, found });
            }
            if listed.allows(&Address::ZERO) {
                return Err(NamespacesError::Nobody(*id));
            }
        }
        Ok(())
    }

    /// The text of a file with these namespaces.
    ///
    /// # Errors
    /// When a limit cannot be written.
    pub fn to_text(&self) -> Result<String, NamespacesError> {
        let namespace = self.listed.iter().map(|(id, listed)| FormNamespace {
            id: *id,
            owner: listed.owner,
            writers: listed.writers.iter().copied().collect(),
            limits: listed.limits,
        });
        let form = Form {
            format_version: FORMAT_VERSION,
            open: self.open,
            limits: self.limits,
            namespace: namespace.collect(),
        };
        toml::to_string(&form).map_err(|error| NamespacesError::Form(error.to_string()))
    }

    /// Changes the namespaces of a file, which appears whole or not at all; one change at a time. What is written by hand
    /// beside them, such as comments, is lost. Without a file the change begins with nothing, if it `may_begin`.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the change fails: the file is as it was then.
    pub fn change(
        path: &Path,
        may_begin: bool,
        change: impl FnOnce(&mut Self) -> Result<(), NamespacesError>,
    ) -> Result<Self, NamespacesError> {
        let failed = |source| NamespacesError::File { path: path.to_owned(), source };
        alone(path, failed, |path| {
            let mut namespaces = match Self::load(path) {
                Err(NamespacesError::File { source, .. })
                    if may_begin && source.kind() == io::ErrorKind::NotFound =>
                {
                    Self::default()
                }
                loaded => loaded?,
            };
            change(&mut namespaces)?;
            namespaces.check()?;
            write_whole(path, namespaces.to_text()?.as_bytes()).map_err(failed)?;
            Ok(namespaces)
        })
    }

    /// Lists a namespace.
    ///
    /// # Errors
    /// When it is there already.
    pub fn create(
        &mut self,
        id: Namespace,
        owner: impl Into<Option<Address>>,
        limits: Limits,
    ) -> Result<(), NamespacesError> {
        let owner = owner.into();
        if self.listed.contains_key(&id) {
            return Err(NamespacesError::Exists(id));
        }
        self.listed.insert(id, Listed { owner, writers: BTreeSet::new(), limits });
        Ok(())
    }

    /// Lets others than the owner put.
    ///
    /// # Errors
    /// When the namespace is not listed.
    pub fn allow(&mut self, id: Namespace, writers: &[Address]) -> Result<(), NamespacesError> {
        let listed = self.listed.get_mut(&id).ok_or(NamespacesError::Missing(id))?;
        let owner = listed.owner;
        listed.writers.extend(writers.iter().filter(|writer| Some(**writer) != owner));
        Ok(())
    }

    /// Lets writers put no more.
    ///
    /// # Errors
    /// When the namespace is not listed, or one of them owns it.
    pub fn deny(&mut self, id: Namespace, writers: &[Address]) -> Result<(), NamespacesError> {
        let listed = self.listed.get_mut(&id).ok_or(NamespacesError::Missing(id))?;
        if let Some(owner) = listed.owner.filter(|owner| writers.contains(owner)) {
            return Err(NamespacesError::Owner(owner));
        }
        listed.writers.retain(|writer| !writers.contains(writer));
        Ok(())
    }

    /// Lists a namespace no more.
    ///
    /// # Errors
    /// When it is not listed.
    pub fn remove(&mut self, id: Namespace) -> Result<(), NamespacesError> {
        self.listed.remove(&id).map(drop).ok_or(NamespacesError::Missing(id))
    }
}

#[cfg(test)]
mod tests;
