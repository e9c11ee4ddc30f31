//! What the commands print with `--json`: types that know their own documentation.

use serde::Serialize;

/// A key of a printed object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Path from the outermost object: `regions[].label`.
    pub path: String,
    /// JSON type.
    pub kind: String,
    /// What it means.
    pub meaning: String,
}

/// A type that can be printed as JSON and says with which keys.
pub trait Described: Serialize {
    /// Its JSON type, as the documentation names it.
    fn kind() -> String;

    /// Adds the keys below a path.
    fn keys(_path: &str, _keys: &mut Vec<Key>) {}
}

macro_rules! scalar {
    ($($ty:ty => $kind:literal),*) => {
        $(impl Described for $ty {
            fn kind() -> String {
                $kind.to_owned()
            }
        })*
    };
}

scalar!(String => "string", bool => "boolean", u8 => "integer", u16 => "integer", u32 => "integer", u64 => "integer",
        usize => "integer", f64 => "number");

impl<T: Described> Described for Option<T> {
    fn kind() -> String {
        format!("{} or null", T::kind())
    }

    fn keys(path: &str, keys: &mut Vec<Key>) {
        T::keys(path, keys);
    }
}

impl<T: Described> Described for Vec<T> {
    fn kind() -> String {
        format!("array of {}", T::kind())
    }

    fn keys(path: &str, keys: &mut Vec<Key>) {
        T::keys(&format!("{path}[]"), keys);
    }
}

/// Adds a key and those below it.
pub(crate) fn describe<T: Described>(path: &str, name: &str, meaning: &str, keys: &mut Vec<Key>) {
    let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    keys.push(Key { path: path.clone(), kind: T::kind(), meaning: meaning.to_owned() });
    T::keys(&path, keys);
}

/// The keys of a printed type.
#[must_use]
pub fn keys_of<T: Described>() -> Vec<Key> {
    let mut keys = Vec::new();
    T::keys("", &mut keys);
    keys
}

/// Defines a printed type: its documentation is the meaning of its keys.
macro_rules! report {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $meaning:literal])+ $field:ident: $ty:ty,)* }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $($(#[doc = $meaning])+ pub $field: $ty,)*
        }

        impl $crate::cli::schema::Described for $name {
            fn kind() -> String {
                "object".to_owned()
            }

            fn keys(path: &str, keys: &mut Vec<$crate::cli::schema::Key>) {
                $($crate::cli::schema::describe::<$ty>(
                    path, stringify!($field), concat!($($meaning),+).trim(), keys,
                );)*
            }
        }
    };
}

pub(crate) use report;
