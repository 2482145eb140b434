//! Where something is, by a hash that nobody can foresee.

use core::fmt;

use hashbrown::{HashTable, hash_table::Entry};

use crate::router::Full;

/// Hashes with SipHash-1-3, of which nobody knows the results who does not know the seed: clients
/// cannot choose names that collide.
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

    pub(crate) fn bytes(self, bytes: &[u8]) -> u32 {
        self.level(bytes) as u32
    }

    pub(super) fn word(self, word: u64) -> u32 {
        State::new(self).block(word).finish(&[], 8) as u32
    }

    /// Of the name of a level, for [`below`].
    pub(super) fn level(self, name: &[u8]) -> u64 {
        State::new(self).finish(name, 0)
    }
}

/// The hash of a level with this name below something with the hash `above`.
///
/// Any odd multiple of a number that nobody knows is as good as that, and is another one below
/// something else.
pub(super) fn below(above: u32, name: u64) -> u32 {
    (name.wrapping_mul(2 * u64::from(above) + 1) >> 32) as u32
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

    #[inline(always)]
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

/// Indices by hash. What is at an index, and whether it is what is looked for, the caller knows.
///
/// The hashes are kept, so that nothing is hashed again when the table grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(HashTable<Slot>);

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    index: u32,
}

impl Slot {
    fn hash(&self) -> u64 {
        spread(self.hash)
    }
}

/// The table looks at the lowest bits and at the highest ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Table {
    pub(super) const fn new() -> Self {
        Self(HashTable::new())
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, additional: usize) -> Result<(), Full> {
        self.0.try_reserve(additional, Slot::hash).map_err(|_| Full::Bytes)
    }

    pub(super) fn insert(&mut self, hash: u32, index: u32) {
        self.0.insert_unique(spread(hash), Slot { hash, index }, Slot::hash);
    }

    pub(super) fn remove(&mut self, hash: u32, index: u32) {
        let is = |slot: &Slot| slot.hash == hash && slot.index == index;
        if let Entry::Occupied(entry) = self.0.entry(spread(hash), is, Slot::hash) {
            entry.remove();
        }
        let (len, capacity) = (self.0.len(), self.0.capacity());
        if len <= capacity / 4 {
            self.0.shrink_to(2 * len, Slot::hash);
        }
    }

    /// Puts another index in place of one.
    pub(super) fn set(&mut self, hash: u32, from: u32, to: u32) {
        if let Some(slot) =
            self.0.find_mut(spread(hash), |slot| slot.hash == hash && slot.index == from)
        {
            slot.index = to;
        }
    }

    /// Puts other indices in place of all.
    pub(super) fn set_all(&mut self, to: impl Fn(u32) -> u32) {
        self.0.iter_mut().for_each(|slot| slot.index = to(slot.index));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let found = self.0.find(spread(hash), |slot| slot.hash == hash && is(slot.index));
        found.map(|slot| slot.index)
    }
}

#[cfg(test)]
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
        assert_eq!(Seed::new(7).word(7), Seed::new(7).bytes(&7_u64.to_le_bytes()));
    }

    #[test]
    fn a_table_takes_equal_hashes_and_gives_memory_back() {
        let mut table = Table::new();
        for index in 0..100 {
            table.reserve(1).unwrap();
            table.insert(index / 50, index);
        }
        assert_eq!(table.find(1, |index| index == 70), Some(70));
        assert_eq!(table.find(0, |index| index == 70), None);
        table.set(1, 70, 700);
        table.set_all(|index| index + 1);
        assert_eq!(table.find(1, |index| index == 701), Some(701));
        for index in (1..=100).filter(|index| *index != 71) {
            table.remove((index - 1) / 50, index);
        }
        assert_eq!((table.0.len(), table.0.capacity()), (1, 3));
        table.remove(1, 701);
        assert_eq!(table.0.capacity(), 0);
    }
}
