//! Values by packet identifier, in order.

use alloc::vec::Vec;

use hashbrown::{HashTable, hash_table::Entry};

use crate::{store::Full, wire::PacketId};

/// Values by packet identifier, each of them in one of two lines.
///
/// Everything that takes an identifier takes constant time, whatever the order in which values
/// go. The nodes lie close together in no particular order: when one goes, the last moves to its
/// place. So memory follows the number of values: it is halved, at least, when three quarters are
/// unused, down to room for [`FLOOR`], so that a few that come and go all the time find room.
#[derive(Clone, Debug)]
pub(super) struct Chain<T> {
    nodes: Vec<Node<T>>,
    places: HashTable<Place>,
    lines: [Ends; 2],
}

/// One of the two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    First,
    Second,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u16,
    last: u16,
}

#[derive(Clone, Debug)]
struct Node<T> {
    id: PacketId,
    previous: u16,
    next: u16,
    line: Line,
    value: T,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    id: PacketId,
    index: u16,
}

impl<T> Chain<T> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), places: HashTable::new(), lines: [Ends::NONE; 2] }
    }

    /// The number of bytes that so many values take at most.
    pub(super) const fn memory(len: usize) -> usize {
        let len = if len < FLOOR { FLOOR } else { len };
        // Seven eighths of the table are in use, and both double.
        2 * len * size_of::<Node<T>>() + 64 + len * 16 / 7 * (size_of::<Place>() + 1)
    }

    /// The number of bytes that one of more values than [`FLOOR`] takes at most: there is room for four
    /// times as many.
    pub(super) const EACH: usize = 4 * size_of::<Node<T>>() + 5 * (size_of::<Place>() + 1);

    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.nodes.shrink_to_fit();
        self.places.shrink_to_fit(Place::hash);
    }

    /// Appends a value with a new identifier to a line.
    ///
    /// # Errors
    ///
    /// If there is no memory, or there are 65,535 values, or one with this identifier.
    pub(super) fn push(&mut self, line: Line, id: PacketId, value: T) -> Result<(), Full> {
        let index = self.nodes.len() as u16;
        if self.nodes.len() >= usize::from(NONE) || self.nodes.try_reserve(1).is_err() {
            return Err(Full::ForNow);
        }
        if self.places.try_reserve(1, Place::hash).is_err() {
            return Err(Full::ForNow);
        }
        match self.places.entry(hash(id), |place| place.id == id, Place::hash) {
            Entry::Occupied(_) => return Err(Full::ForNow),
            Entry::Vacant(entry) => entry.insert(Place { id, index }),
        };
        self.nodes.push(Node { id, previous: NONE, next: NONE, line, value });
        self.link(index, line, self.lines[line as usize].last);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: PacketId) -> Option<T> {
        let entry = self.places.find_entry(hash(id), |place| place.id == id).ok()?;
        let (Place { index, .. }, _) = entry.remove();
        self.unlink(index);
        let node = self.nodes.swap_remove(usize::from(index));
        self.moved(index);
        self.shrink();
        Some(node.value)
    }

    /// Drops the values for which `keep` is false; puts the others in the line that `line` says,
    /// in the order of `rank`.
    pub(super) fn rearrange<K: Ord>(
        &mut self,
        mut keep: impl FnMut(&mut T) -> bool,
        line: impl Fn(&T) -> Line,
        rank: impl Fn(&T) -> K,
    ) {
        self.nodes.retain_mut(|node| keep(&mut node.value));
        self.nodes.sort_unstable_by_key(|node| rank(&node.value));
        self.places.clear();
        self.lines = [Ends::NONE; 2];
        for index in 0..self.nodes.len() as u16 {
            let Some(node) = self.nodes.get(usize::from(index)) else { break };
            let line = line(&node.value);
            self.places.insert_unique(hash(node.id), Place { id: node.id, index }, Place::hash);
            self.link(index, line, self.lines[line as usize].last);
        }
        self.shrink();
    }

    /// Moves a value to the end of a line.
    pub(super) fn move_to_end(&mut self, id: PacketId, line: Line) {
        if let Some(index) = self.index(id) {
            self.unlink(index);
            self.link(index, line, self.lines[line as usize].last);
        }
    }

    /// Moves a value to where it belongs in a line that is in the order of `rank`, looking from
    /// the end.
    pub(super) fn move_to_rank<K: Ord>(
        &mut self,
        id: PacketId,
        line: Line,
        rank: impl Fn(&T) -> K,
    ) {
        let Some((index, own)) = self.index(id).zip(self.get(id).map(&rank)) else { return };
        self.unlink(index);
        let mut after = self.lines[line as usize].last;
        while let Some(node) = self.node(after)
            && rank(&node.value) > own
        {
            after = node.previous;
        }
        self.link(index, line, after);
    }

    pub(super) fn get_mut(&mut self, id: PacketId) -> Option<&mut T> {
        let index = self.index(id)?;
        self.node_mut(index).map(|node| &mut node.value)
    }

    /// All values, in no particular order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.nodes.iter_mut().map(|node| &mut node.value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().map(|node| &node.value)
    }

    pub(super) fn get(&self, id: PacketId) -> Option<&T> {
        self.index(id).and_then(|index| self.node(index)).map(|node| &node.value)
    }

    /// The first of a line.
    pub(super) fn first(&self, line: Line) -> Option<(PacketId, &T)> {
        self.node(self.lines[line as usize].first).map(|node| (node.id, &node.value))
    }

    /// The one behind this one in its line.
    pub(super) fn after(&self, id: PacketId) -> Option<(PacketId, &T)> {
        let node = self.index(id).and_then(|index| self.node(index))?;
        self.node(node.next).map(|node| (node.id, &node.value))
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Puts a node that is in no line into one, behind `previous`, or before all.
    fn link(&mut self, index: u16, line: Line, previous: u16) {
        let next = match self.node(previous) {
            Some(node) => node.next,
            None => self.lines[line as usize].first,
        };
        if let Some(node) = self.node_mut(index) {
            (node.line, node.previous, node.next) = (line, previous, next);
        }
        self.join(line, previous, index);
        self.join(line, index, next);
    }

    fn unlink(&mut self, index: u16) {
        if let Some(&Node { line, previous, next, .. }) = self.node(index) {
            self.join(line, previous, next);
        }
    }

    /// Makes two nodes neighbours; one that is not there is an end of the line.
    fn join(&mut self, line: Line, previous: u16, next: u16) {
        match self.node_mut(previous) {
            Some(node) => node.next = next,
            None => self.lines[line as usize].first = next,
        }
        match self.node_mut(next) {
            Some(node) => node.previous = previous,
            None => self.lines[line as usize].last = previous,
        }
    }

    /// Corrects what points to the node that is now at `index`, if there is one.
    fn moved(&mut self, index: u16) {
        let Some(&Node { id, line, previous, next, .. }) = self.node(index) else { return };
        self.join(line, previous, index);
        self.join(line, index, next);
        if let Some(place) = self.places.find_mut(hash(id), |place| place.id == id) {
            place.index = index;
        }
    }

    fn shrink(&mut self) {
        let (len, capacity) = (self.nodes.len(), self.nodes.capacity());
        if capacity > FLOOR && len <= capacity / 4 {
            self.nodes.shrink_to(FLOOR.max(2 * len));
            self.places.shrink_to(FLOOR.max(2 * len), Place::hash);
        }
    }

    fn index(&self, id: PacketId) -> Option<u16> {
        self.places.find(hash(id), |place| place.id == id).map(|place| place.index)
    }

    fn node(&self, index: u16) -> Option<&Node<T>> {
        self.nodes.get(usize::from(index))
    }

    fn node_mut(&mut self, index: u16) -> Option<&mut Node<T>> {
        self.nodes.get_mut(usize::from(index))
    }
}

impl Ends {
    const NONE: Self = Self { first: NONE, last: NONE };
}

impl Place {
    fn hash(&self) -> u64 {
        hash(self.id)
    }
}

/// Distinct for all identifiers, also in the lower bits for a run of them. A peer that chooses the
/// worst finds 256 in one place at most.
fn hash(id: PacketId) -> u64 {
    u64::from(id.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The index of no node.
const NONE: u16 = u16::MAX;

/// The number of values for which memory is kept when most have gone.
pub(super) const FLOOR: usize = 32;
