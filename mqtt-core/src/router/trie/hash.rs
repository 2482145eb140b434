//! Where something is, by its hash.

use hashbrown::{HashTable, hash_table::Entry};

use crate::router::Full;

/// The hash of a level with this name below something with the hash `above`.
///
/// Any odd multiple of a number that nobody knows is as good as that, and is another one below
/// something else.
pub(super) fn below(above: u32, name: u64) -> u32 {
    (name.wrapping_mul(2 * u64::from(above) + 1) >> 32) as u32
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

/// The same where it costs next to nothing to hash again: the hash of an index is given by the caller.
#[derive(Clone, Debug, Default)]
pub(super) struct Bare(HashTable<u32>);

impl Bare {
    pub(super) const fn new() -> Self {
        Self(HashTable::new())
    }

    /// Makes room for one more.
    pub(super) fn reserve(&mut self, hash: impl Fn(u32) -> u32) -> Result<(), Full> {
        self.0.try_reserve(1, |index| spread(hash(*index))).map_err(|_| Full::Bytes)
    }

    /// There is [room](Self::reserve) for it.
    pub(super) fn insert(&mut self, hash: u32, index: u32) {
        self.0.insert_unique(spread(hash), index, |_| spread(hash));
    }

    pub(super) fn remove(&mut self, hash: u32, index: u32, of: impl Fn(u32) -> u32) {
        if let Ok(entry) = self.0.find_entry(spread(hash), |other| *other == index) {
            entry.remove();
        }
        let (len, capacity) = (self.0.len(), self.0.capacity());
        if len <= capacity / 4 {
            self.0.shrink_to(2 * len, |index| spread(of(*index)));
        }
    }

    /// Puts another index in place of one.
    pub(super) fn set(&mut self, hash: u32, from: u32, to: u32) {
        if let Some(index) = self.0.find_mut(spread(hash), |index| *index == from) {
            *index = to;
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.0.find(spread(hash), |index| is(*index)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
