//! Hashes that nobody can foresee.

use core::fmt;

/// Hashes with SipHash-1-3, of which nobody knows the results who does not know the seed: clients
/// cannot choose names that collide, nor foresee those that are chosen for others.
#[derive(Clone, Copy)]
pub(crate) struct Seed(u64, u64);

/// Does not tell the secret.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    pub(crate) const fn new(seed: u128) -> Self {
        Self(seed as u64, (seed >> 64) as u64)
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn bytes(self, bytes: &[u8]) -> u32 {
        self.level(bytes) as u32
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn word(self, word: u64) -> u32 {
        self.number(word) as u32
    }

    pub(crate) fn number(self, number: u64) -> u64 {
        State::new(self).block(number).finish(&[], 8)
    }

    /// Of the name of a level.
    #[cfg(feature = "alloc")]
    pub(crate) fn level(self, name: &[u8]) -> u64 {
        State::new(self).finish(name, 0)
    }
}

struct State(u64, u64, u64, u64);

impl State {
    #[inline(always)]
    fn new(Seed(a, b): Seed) -> Self {
        Self(
            a ^ 0x736f_6d65_7073_6575,
            b ^ 0x646f_7261_6e64_6f6d,
            a ^ 0x6c79_6765_6e65_7261,
            b ^ 0x7465_6462_7974_6573,
        )
    }

    #[cfg_attr(not(target_pointer_width = "32"), inline(always))]
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    fn round(self) -> Self {
        let Self(mut a, mut b, mut c, mut d) = self;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        Self(a, b, c.rotate_left(32), d)
    }

    #[inline(always)]
    fn block(mut self, block: u64) -> Self {
        self.3 ^= block;
        self = self.round();
        self.0 ^= block;
        self
    }

    /// The hash of what came before, `len` bytes, and of these.
    #[inline(always)]
    fn finish(mut self, bytes: &[u8], len: usize) -> u64 {
        let (blocks, rest) = bytes.as_chunks();
        for block in blocks {
            self = self.block(u64::from_le_bytes(*block));
        }
        // The rest, and in the highest byte how many there were in all.
        let rest = match bytes.last_chunk() {
            _ if rest.is_empty() => 0,
            Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
            None => rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte)),
        };
        self = self.block(rest | ((len + bytes.len()) as u64) << 56);
        self.2 ^= 0xff;
        let Self(a, b, c, d) = self.round().round().round();
        a ^ b ^ c ^ d
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    extern crate std;

    use std::{
        hash::{DefaultHasher, Hasher},
        vec::Vec,
    };

    use super::*;

    /// The standard library's is SipHash-1-3 with a seed of 0.
    #[test]
    fn hashes_are_those_of_siphash() {
        let bytes: Vec<u8> = (1..=40).collect();
        for len in 0..=bytes.len() {
            let bytes = &bytes[..len];
            let mut hasher = DefaultHasher::new();
            hasher.write(bytes);
            assert_eq!(Seed::new(0).level(bytes), hasher.finish());
            assert_ne!(Seed::new(1).level(bytes), Seed::new(1 << 64).level(bytes));
        }
        assert_eq!(std::format!("{:?}", Seed::new(7)), "Seed");
        assert_eq!(Seed::new(7).number(7), Seed::new(7).level(&7_u64.to_le_bytes()));
    }
}
