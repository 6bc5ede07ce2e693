//! Hash maps with a fixed hash function: the same on every machine, and quick on small keys.
//!
//! Nothing here is ever iterated where the order could be seen in a decision.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hash map for look-ups only.
pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Folded>>;

/// Multiplies to 128 bits and folds the halves together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Folded(u64);

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ chunk.len() as u64);
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value) * u128::from(FACTOR);
        self.0 = (product as u64) ^ ((product >> 64) as u64).wrapping_add(FACTOR);
    }
    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
