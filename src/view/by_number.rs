//! A hasher for maps by inode number, a multiplication for each number.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps by inode number: file systems give them out, an attacker cannot choose many that collide.
pub(super) type ByNumber = BuildHasherDefault<NumberHasher>;

/// Mixes a few numbers, a multiplication each.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(u64::from(number.cast_unsigned()));
    }

    fn finish(&self) -> u64 {
        // The product mixes upwards only, and the table takes its place from the lowest bits.
        self.0.rotate_left(32)
    }
}
