//! Reading an input from the front.

use meridian_proofs::B256;

/// What is left of an input. Past its end everything reads as zero, or as nothing.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next bytes, fewer where the input ends.
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next `N` bytes, filled up with zeros.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub fn hash(&mut self) -> B256 {
        B256::new(self.array())
    }

    /// All that is left, as hashes; an incomplete last one is dropped.
    pub fn hashes(&mut self) -> Vec<B256> {
        let hashes = self.0.as_chunks::<32>().0.iter().copied().map(B256::new).collect();
        self.0 = &[];
        hashes
    }
}

/// Bytes without a pattern, the same for the same state.
pub fn noise(state: u64, bytes: usize) -> Vec<u8> {
    let mut state = state ^ 0x9e37_79b9_7f4a_7c15;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend(state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
