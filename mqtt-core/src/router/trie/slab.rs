//! Values by index.

use alloc::vec::Vec;
use core::mem::replace;

use crate::router::Full;

/// The index of nothing.
pub(super) const NONE: u32 = u32::MAX;

/// The highest index there may be: those above are for other purposes.
const LAST: usize = NONE as usize - 2;

/// Values at indices that stay the same until [`gather`](Self::gather).
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    len: usize,
    /// The first of the free ones.
    free: u32,
}

#[derive(Clone, Debug)]
enum Slot<T> {
    Used(T),
    /// The next free one; or where the value has gone.
    Free(u32),
}

/// Where values have gone.
pub(super) struct Moves<'a, T> {
    len: usize,
    behind: &'a [Slot<T>],
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), len: 0, free: NONE }
    }

    pub(super) fn insert(&mut self, value: T) -> Result<u32, Full> {
        let mut index = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if let Slot::Free(next) = *slot {
                self.free = next;
            }
            *slot = Slot::Used(value);
        } else {
            index = self.slots.len() as u32;
            if self.slots.len() > LAST {
                return Err(Full::Bytes);
            }
            reserve(&mut self.slots)?;
            self.slots.push(Slot::Used(value));
        }
        self.len += 1;
        Ok(index)
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        self.get(index)?;
        let slot = self.slots.get_mut(index as usize)?;
        let Slot::Used(value) = replace(slot, Slot::Free(self.free)) else { return None };
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    /// Whether three quarters are free.
    pub(super) fn is_sparse(&self) -> bool {
        self.len <= self.slots.len() / 4 && !self.slots.is_empty()
    }

    /// Moves the last values to free places, so that those behind [`len`](Self::len) can be
    /// [cut](Self::cut) off. All values, and where those that have moved have gone.
    pub(super) fn gather(&mut self) -> (impl Iterator<Item = &mut T>, Moves<'_, T>) {
        let (front, behind) = self.slots.split_at_mut(self.len);
        let is_free = |slot: &&mut Slot<T>| matches!(slot, Slot::Free(_));
        let free = (0..).zip(front.iter_mut()).filter(|(_, slot)| is_free(slot));
        let used = behind.iter_mut().filter(|slot| !is_free(slot));
        for ((index, to), from) in free.zip(used) {
            *to = replace(from, Slot::Free(index));
        }
        let values = front.iter_mut().filter_map(|slot| match slot {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        });
        (values, Moves { len: self.len, behind })
    }

    pub(super) fn cut(&mut self) {
        self.slots.truncate(self.len);
        self.slots.shrink_to_fit();
        self.free = NONE;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        match self.slots.get(index as usize) {
            Some(Slot::Used(value)) => Some(value),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize) {
            Some(Slot::Used(value)) => Some(value),
            _ => None,
        }
    }
}

impl<T> Moves<'_, T> {
    /// Where the value that was at `index` is now.
    pub(super) fn of(&self, index: u32) -> u32 {
        match (index as usize).checked_sub(self.len).and_then(|behind| self.behind.get(behind)) {
            Some(Slot::Free(to)) => *to,
            _ => index,
        }
    }
}

/// Makes room for one more: a quarter more than there is, as memory is to follow what is kept.
pub(super) fn reserve<T>(values: &mut Vec<T>) -> Result<(), Full> {
    if values.len() < values.capacity() {
        return Ok(());
    }
    let more = (values.len() / 4).max(2);
    values.try_reserve_exact(more).map_err(|_| Full::Bytes)
}

/// Gives memory back if three quarters are unused.
pub(super) fn shrink<T>(values: &mut Vec<T>) {
    if values.len() <= values.capacity() / 4 {
        values.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_index_until_they_are_gathered() {
        let mut slab = Slab::new();
        for value in 0..100_u32 {
            assert_eq!(slab.insert(value), Ok(value));
        }
        for index in (0..100).filter(|index| index % 10 != 7) {
            assert!(slab.is_sparse() == (slab.len() <= 25));
            assert_eq!((slab.remove(index), slab.remove(index)), (Some(index), None));
        }
        assert!(slab.get(7) == Some(&7) && slab.get(8).is_none() && slab.get(NONE).is_none());

        let (values, moves) = slab.gather();
        let mut places: [u32; 10] = core::array::from_fn(|i| moves.of(10 * i as u32 + 7));
        assert_eq!((moves.of(NONE), values.count()), (NONE, 10));
        slab.cut();
        for (place, value) in places.into_iter().zip((7..).step_by(10)) {
            assert_eq!(slab.get(place), Some(&value));
        }
        places.sort();
        assert_eq!(places, core::array::from_fn(|i| i as u32));
        assert_eq!((slab.insert(5), slab.len(), slab.slots.len()), (Ok(10), 11, 11));

        (0..11).for_each(|index| assert!(slab.remove(index).is_some()));
        assert_eq!(slab.gather().0.count(), 0);
        slab.cut();
        assert_eq!((slab.len(), slab.slots.capacity()), (0, 0));
    }
}
