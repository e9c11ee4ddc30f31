//! Being told how far a transfer is.

/// Hears of the progress of a transfer.
pub trait Progress: Send + Sync {
    /// A transfer of so many bytes begins. Called again when another transfer begins.
    fn start(&self, bytes: u64);
    /// So many more bytes are there and right.
    fn advance(&self, bytes: u64);
    /// The transfer is complete.
    fn finish(&self);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn finish(&self) {}
}
