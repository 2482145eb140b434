//! Many alarms.

use alloc::vec::Vec;

use super::{Alarms, heap::vec};
use crate::Instant;

/// [`Alarms`] of as many places as there are: a binary heap in which each place knows where it is. To set
/// one or to clear it takes as long as there are levels in the heap.
#[derive(Debug)]
pub struct Clocks {
    /// The places whose alarms are set: each goes off no later than those at twice its index and one, or
    /// two, more.
    heap: Vec<u32>,
    /// The index of each place in the heap, or [`OFF`].
    indices: Vec<u32>,
    /// When the alarm of each place goes off that has one.
    times: Vec<Instant>,
}

/// The index of an alarm that is not set.
const OFF: u32 = u32::MAX;

impl Clocks {
    pub(in crate::broker) const fn new() -> Self {
        Self { heap: Vec::new(), indices: Vec::new(), times: Vec::new() }
    }

    /// The number of bytes for so many places.
    pub(super) const fn memory(places: usize) -> usize {
        2 * vec::<u32>(places) + vec::<Instant>(places)
    }

    /// When the alarm at this index of the heap goes off, and for which place.
    fn at(&self, index: usize) -> Option<(Instant, u32)> {
        let place = *self.heap.get(index)?;
        Some((*self.times.get(place as usize)?, place))
    }

    /// The index of a place in the heap, if its alarm is set.
    fn index(&self, place: u32) -> Option<usize> {
        let index = self.indices.get(place as usize).filter(|index| **index != OFF)?;
        Some(*index as usize)
    }

    /// When the alarm of a place goes off.
    pub(in crate::broker) fn of(&self, place: u32) -> Option<Instant> {
        self.at(self.index(place)?).map(|(at, _)| at)
    }

    /// Puts a place where another was.
    fn put(&mut self, index: usize, place: u32) {
        if let Some(at) = self.heap.get_mut(index) {
            *at = place;
        }
        if let Some(at) = self.indices.get_mut(place as usize) {
            *at = index as u32;
        }
    }

    /// Moves the place at this index to where it belongs: up first, then down.
    fn settle(&mut self, mut index: usize) {
        let Some(moved) = self.at(index) else { return };
        while let Some(above) = index.checked_sub(1).map(|below| below / 2)
            && let Some(parent) = self.at(above)
            && moved < parent
        {
            self.put(index, parent.1);
            index = above;
        }
        while let Some(child) = [2 * index + 1, 2 * index + 2]
            .into_iter()
            .filter_map(|below| Some((self.at(below)?, below)))
            .min()
            && child.0 < moved
        {
            let ((_, place), below) = child;
            self.put(index, place);
            index = below;
        }
        self.put(index, moved.1);
    }
}

impl Alarms for Clocks {
    fn make_room(&mut self, place: u32) -> bool {
        let more = (place as usize + 1).saturating_sub(self.times.len());
        let room = self.indices.try_reserve(more).is_ok() && self.times.try_reserve(more).is_ok();
        if !room {
            return false;
        }
        let places = self.times.len() + more;
        self.indices.resize(places, OFF);
        self.times.resize(places, Instant::default());
        self.heap.try_reserve(places - self.heap.len()).is_ok()
    }

    fn set(&mut self, place: u32, at: Instant) {
        let index = self.index(place);
        let Some(time) = self.times.get_mut(place as usize) else { return };
        if index.is_some() && at >= *time {
            return;
        }
        *time = at;
        let index = index.unwrap_or(self.heap.len());
        if index == self.heap.len() {
            self.heap.push(place); // there is room
        }
        self.settle(index);
    }

    fn clear(&mut self, place: u32) {
        let Some(index) = self.index(place) else { return };
        if let Some(index) = self.indices.get_mut(place as usize) {
            *index = OFF;
        }
        if let Some(last) = self.heap.pop().filter(|last| *last != place) {
            self.put(index, last);
            self.settle(index);
        }
    }

    #[inline]
    fn first(&self) -> Option<(Instant, u32)> {
        self.at(0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Next,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..40_u32, 0..60_u64).prop_map(|(place, at)| Step::Set(place, at)),
            1 => (0..40_u32).prop_map(Step::Clear),
            1 => Just(Step::Next),
        ]
    }

    proptest! {
        #[test]
        fn the_first_is_always_the_earliest(steps in prop::collection::vec(step(), 0..400)) {
            let (mut clocks, mut model) = (Clocks::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Set(place, at) => {
                        let at = Instant::from_millis(at);
                        prop_assert!(clocks.make_room(place));
                        clocks.set(place, at);
                        let set = model.entry(place).or_insert(at);
                        *set = at.min(*set);
                    }
                    Step::Clear(place) => {
                        clocks.clear(place);
                        model.remove(&place);
                    }
                    Step::Next => {
                        if let Some((_, place)) = clocks.first() {
                            clocks.clear(place);
                            model.remove(&place);
                        }
                    }
                }
                let first = model.iter().map(|(place, at)| (*at, *place)).min();
                prop_assert_eq!(clocks.first(), first);
                prop_assert_eq!(clocks.heap.len(), model.len());
            }
        }
    }
}
