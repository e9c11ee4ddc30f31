//! Writes that belong together.

use bytes::Bytes;

use super::LARGE;

/// When a write counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is synced to disk, with everything written before it.
    Synced,
    /// When the operating system has it. For what can be found out again.
    Relaxed,
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Put { column: &'static str, key: Vec<u8>, value: Bytes },
    Delete { column: &'static str, key: Vec<u8> },
}

impl Batch {
    /// A batch of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value.
    pub fn put(&mut self, column: &'static str, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.operations.push(Operation::Put { column, key: key.into(), value: value.into() });
    }

    /// Deletes a value if it is there.
    pub fn delete(&mut self, column: &'static str, key: impl Into<Vec<u8>>) {
        self.operations.push(Operation::Delete { column, key: key.into() });
    }

    /// Whether nothing was put or deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

impl Operation {
    pub(super) fn column(&self) -> &'static str {
        match self {
            Self::Put { column, .. } | Self::Delete { column, .. } => column,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The value that goes to a segment.
    pub(super) fn large(&self) -> Option<&Bytes> {
        match self {
            Self::Put { value, .. } if value.len() >= LARGE => Some(value),
            _ => None,
        }
    }
}
