//! Settings of a host: a TOML file, overridden by the environment, overridden by flags.
//!
//! Every type of settings is written once, with [`documented!`]: the example files in `docs/config` are printed from it.

pub mod host;
pub mod roles;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::{Table, Value};

/// Prefix of the environment variables that override settings: `MERIDIAN_SECTION__KEY`.
pub const PREFIX: &str = "MERIDIAN_";

/// Names and doc comments of a type's fields.
pub type Fields = &'static [(&'static str, &'static [&'static str])];

/// A table of settings that knows its own doc comments.
pub trait Documented {
    /// Every field with the lines of its doc comment.
    const FIELDS: Fields;
}

/// Declares a struct of settings and keeps its fields' doc comments for the example file; fields under `elsewhere` are
/// not read from the struct's own section.
macro_rules! documented {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[doc = $doc:literal])+ pub $field:ident: $ty:ty,)* }
        $(elsewhere { $($(#[doc = $other_doc:literal])+ pub $other:ident: $other_ty:ty,)* })?
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $ty,)*
            $($($(#[doc = $other_doc])+ #[serde(skip)] pub $other: $other_ty,)*)?
        }

        impl $crate::config::Documented for $name {
            const FIELDS: $crate::config::Fields = &[$((stringify!($field), &[$($doc),+])),*];
        }
    };
}
pub(crate) use documented;

/// A table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in lines.
    pub docs: &'static [&'static str],
    /// Its keys.
    pub fields: Fields,
}

/// The whole settings of one kind of host.
pub trait Config: Serialize + DeserializeOwned + Default {
    /// Name of the kind of host, also of the section that only it has.
    const ROLE: &'static str;

    /// The tables of the file, in order.
    fn sections() -> Vec<Section>;

    /// Checks that values make sense together.
    ///
    /// # Errors
    /// Says which setting is wrong.
    fn check(&self) -> Result<(), String>;
}

/// Why settings were refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{path}, line {line}: {problem}: `{text}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// The line.
        text: String,
    },
    /// A variable or a flag names no setting.
    #[error("{origin}: there is no setting {key}")]
    UnknownKey {
        /// The variable or flag.
        origin: String,
        /// What it names, as `section.key`.
        key: String,
    },
    /// A variable or a flag has a value of the wrong type.
    #[error("{origin}: bad value for {key}: {problem}")]
    BadValue {
        /// The variable or flag.
        origin: String,
        /// The setting, as `section.key`.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A value is out of range.
    #[error("{0}")]
    OutOfRange(String),
    /// The file says nothing of what kind of host it is for.
    #[error("{0} has neither a [gateway] nor a [replica] section")]
    NoRole(PathBuf),
}

/// A setting from outside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Where it comes from, for messages: `--listen`, `MERIDIAN_LISTEN__GRPC`.
    pub origin: String,
    /// Which section.
    pub section: String,
    /// Which key of it.
    pub key: String,
    /// The value as written.
    pub value: String,
}

impl Override {
    /// A setting from a flag, named as `section.key`.
    #[must_use]
    pub fn flag(origin: &str, name: &str, value: String) -> Self {
        let (section, key) = name.split_once('.').unwrap_or((name, ""));
        Override { origin: origin.into(), section: section.into(), key: key.into(), value }
    }
}

/// Settings in the environment of the process.
#[must_use]
pub fn environment() -> Vec<Override> {
    from_environment(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

/// Settings among environment variables: those named `MERIDIAN_SECTION__KEY`.
pub fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let mut found: Vec<_> = variables
        .filter_map(|(name, value)| {
            let (section, key) = name.strip_prefix(PREFIX)?.split_once("__")?;
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            Some(Override { origin: name, section, key, value })
        })
        .collect();
    found.sort_by(|a, b| a.origin.cmp(&b.origin));
    found
}

/// Reads a file of settings and puts the overrides over it, later ones over earlier ones.
///
/// # Errors
/// See [`ConfigError`].
pub fn load<C: Config>(file: Option<&Path>, overrides: &[Override]) -> Result<C, ConfigError> {
    let mut table = match file {
        Some(path) => parse::<C>(path, &read(path)?)?,
        None => Table::new(),
    };
    let defaults = Table::try_from(C::default()).unwrap_or_default();
    for o in overrides {
        apply::<C>(&mut table, &defaults, o)?;
    }
    let config: C = table.try_into().map_err(|e| ConfigError::OutOfRange(e.message().to_owned()))?;
    config.check().map_err(ConfigError::OutOfRange)?;
    Ok(config)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn parse<C: Config>(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let wrong = |error: toml::de::Error| at_line(path, text, &error);
    // Once as what it must be, so that an error has its line; once as a table that takes overrides.
    toml::from_str::<C>(text).map_err(wrong)?;
    toml::from_str::<Table>(text).map_err(wrong)
}

fn at_line(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.get(..start).map_or(0, |before| before.matches('\n').count());
    ConfigError::File {
        path: path.to_owned(),
        line: line + 1,
        problem: without_address(error.message()),
        text: without_address(text.lines().nth(line).unwrap_or_default().trim()),
    }
}

/// A line up to the first address in it, which may carry a key.
fn without_address(line: &str) -> String {
    match line.find("://") {
        Some(place) => format!("{}...", &line[..place + 3]),
        None => line.to_owned(),
    }
}

fn apply<C: Config>(table: &mut Table, defaults: &Table, o: &Override) -> Result<(), ConfigError> {
    let name = format!("{}.{}", o.section, o.key);
    let sections = C::sections();
    let Some(section) = sections.iter().find(|s| s.name == o.section) else {
        // Hosts of both kinds may share an environment.
        if o.origin.starts_with(PREFIX) && roles::SPECIAL.contains(&o.section.as_str()) {
            return Ok(());
        }
        return Err(ConfigError::UnknownKey { origin: o.origin.clone(), key: name });
    };
    if !section.fields.iter().any(|(field, _)| *field == o.key) {
        return Err(ConfigError::UnknownKey { origin: o.origin.clone(), key: name });
    }
    let bad =
        |problem: String| ConfigError::BadValue { origin: o.origin.clone(), key: name.clone(), problem };
    let default = defaults.get(&o.section).and_then(|s| s.get(&o.key));
    let value = match default {
        Some(Value::String(_)) | None => Value::String(o.value.clone()),
        Some(_) => o.value.parse::<Value>().map_err(|e| bad(without_address(e.message())))?,
    };
    let entry = table.entry(o.section.clone()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = entry {
        section.insert(o.key.clone(), value);
    }
    C::deserialize(Value::Table(table.clone())).map_err(|e| bad(without_address(e.message())))?;
    Ok(())
}

/// Which kind of host a file is for: the section that only that kind has.
///
/// # Errors
/// When the file cannot be read, is not TOML or has neither section.
pub fn role_of(path: &Path) -> Result<&'static str, ConfigError> {
    let text = read(path)?;
    let table: Table = toml::from_str(&text).map_err(|e| at_line(path, &text, &e))?;
    ["gateway", "replica"]
        .into_iter()
        .find(|role| table.contains_key(*role))
        .ok_or_else(|| ConfigError::NoRole(path.to_owned()))
}

/// The defaults as a file with every doc comment.
pub fn example<C: Config>() -> String {
    let defaults = Table::try_from(C::default()).unwrap_or_default();
    let mut out = format!(
        "# Settings of a {}, with their defaults. Each can be left out.\n\
         # Overridden by {PREFIX}SECTION__KEY in the environment, and that by flags.\n",
        C::ROLE
    );
    for section in C::sections() {
        out.push('\n');
        comment(&mut out, section.docs);
        let _ = writeln!(out, "[{}]", section.name);
        for (field, docs) in section.fields {
            comment(&mut out, docs);
            let value = defaults.get(section.name).and_then(|s| s.get(*field));
            let _ = match value {
                Some(value) => writeln!(out, "{field} = {value}"),
                None => writeln!(out, "# {field} ="),
            };
        }
    }
    out
}

fn comment(out: &mut String, docs: &[&str]) {
    for line in docs {
        let _ = writeln!(out, "# {}", line.trim());
    }
}

#[cfg(test)]
mod tests;
