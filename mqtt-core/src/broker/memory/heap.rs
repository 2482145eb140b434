//! The heap.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use hashbrown::HashTable;

use super::{
    Backlog, Connection, Delivery, Identified, Lent, Memory, Names, Numbered, Queue, Replay,
    Sealed, Session, Slab,
    alarms::Clocks,
    noted::Noted,
    title::{self, Title},
};
use crate::{
    broker::{
        Config,
        message::{MessageId, heap::Shared},
    },
    hash::Seed,
    reason::ReasonCode,
    router::{self, Trie},
    store::{Boxed, Full, boxed},
};

/// The heap, for a broker that grows to its limits.
#[derive(Debug)]
pub struct Large;

impl Sealed for Large {
    type Router = Trie;
    type Store = Noted;
    type Name = Title;
    type Names = Table;
    type Topics = Table;
    type Topic = Box<[u8]>;
    type Connections = Places<Connection>;
    type Sessions = Places<Session<Self>>;
    type Retained = Places<MessageId>;
    type Messages = Shared;
    type Backlog = Apart<Backlog<Self>>;
    type Deliveries = Deliveries;
    type Replays = VecDeque<Replay>;
    type Reasons = VecDeque<ReasonCode>;
    type Ended = VecDeque<usize>;
    type Identified = VecDeque<Identified>;
    type Alarms = Clocks;
    type Handshakes = Clocks;

    const SHARED: usize = 1024;
    const ALIASES: u16 = u16::MAX;
    const RECORDS: bool = true;
    const USER_NAMES: bool = true;

    fn name(client_id: &[u8], user_name: Option<&[u8]>) -> Result<Title, Full> {
        Title::of(client_id, user_name)
    }

    fn owner(name: &Title) -> Option<&[u8]> {
        name.user_name()
    }

    fn store(config: &Config, notes: bool) -> Self::Store {
        Noted::new(arrivals(config), config.topic_alias_maximum, config.topic_alias_bytes, notes)
    }
}

impl Memory for Large {}

impl Large {
    /// The most bytes that a [broker](super::super::Broker::large) with these limits takes from the
    /// allocator, with so many connections. What is on its way to and from them is the host's, and while
    /// a table grows the old one is there for a moment beside the new.
    ///
    /// It is the sum of
    ///
    /// - messages, retained ones, wills and those on their way, with their places in queues: `bytes`, and
    ///   their places, of which there is one for each 256 bytes;
    /// - what is known of those at QoS 2 that have come and were not released: an eighth of that;
    /// - [`retained_messages`](Config::retained_messages) places;
    /// - [`sessions`](Config::sessions), each with its name and its user's, and what is known of
    ///   [`in_flight`](Config::in_flight) messages on their way and of 32 that have come;
    /// - filters: four thirds of their [bytes](router::Limits::bytes), their identifiers, once, and for
    ///   which of them retained messages are owed;
    /// - connections, each with its [aliases](Config::topic_alias_bytes) in both directions.
    ///
    /// Vectors have room for twice as many as there are.
    ///
    /// ```
    /// use mqtt_core::{broker::{Config, Large}, router::Limits};
    ///
    /// let config = Config { sessions: 1_000, topic_alias_maximum: 0, ..Config::default() };
    /// let limits = Limits { subscriptions: 10_000, bytes: 4 << 20 };
    /// assert!(Large::memory(&config, 16 << 20, &limits, 1_000) < 200 << 20);
    /// ```
    pub const fn memory(
        config: &Config,
        bytes: usize,
        limits: &router::Limits,
        connections: usize,
    ) -> usize {
        let messages = Shared::memory(bytes);
        let retained = config.retained_messages;
        let retained = places::<MessageId>(retained) + table(retained);
        let sessions = config.sessions;
        let session = title::LEN
            + 2 * config.client_id_bytes
            + size_of::<Backlog<Self>>()
            + vec::<Replay>(0)
            + Noted::memory(config.in_flight);
        let sessions = sessions * session
            + places::<Session<Self>>(sessions)
            + table(sessions)
            + 2 * Clocks::memory(sessions);
        let filters = limits.bytes / 3 * 4
            + vec::<Identified>(limits.subscriptions)
            + 2 * vec::<Replay>(limits.subscriptions);
        let connections = connections
            * Noted::aliases(config.topic_alias_maximum, config.topic_alias_bytes)
            + places::<Connection>(connections)
            + Clocks::memory(connections);
        messages + retained + sessions + filters + connections
    }
}

/// How many incoming messages a session may keep.
const fn arrivals(config: &Config) -> u16 {
    if config.receive_maximum > UNTOLD { config.receive_maximum } else { UNTOLD }
}

/// The number of bytes of a vector that has grown to so many.
pub(in crate::broker) const fn vec<T>(len: usize) -> usize {
    2 * if len < 4 { 4 } else { len } * size_of::<T>()
}

/// The same for [`Places`].
pub(in crate::broker) const fn places<T>(len: usize) -> usize {
    vec::<Option<T>>(len) + vec::<u32>(len)
}

/// The same for a [`Table`].
const fn table(len: usize) -> usize {
    // Seven eighths are in use, and it doubles.
    64 + len * 16 / 7 * (size_of::<(u32, u32)>() + 1)
}

/// For how many values a queue that is cleared keeps room.
const KEPT: usize = 4_096;

/// How many publishes at QoS 2 a client may have unfinished that cannot be told how many.
const UNTOLD: u16 = 1_024;

/// A [`Slab`] that grows.
#[derive(Debug)]
pub struct Places<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Places<T> {
    pub(in crate::broker) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    /// Puts a value in this place, unless there is one. [`mend`](Self::mend) is due afterwards.
    pub(in crate::broker) fn put(&mut self, place: u32, value: T) -> bool {
        let needed = (place as usize + 1).saturating_sub(self.places.len());
        if self.places.try_reserve(needed).is_err() {
            return false;
        }
        if needed > 0 {
            self.places.resize_with(place as usize + 1, || None);
        }
        match self.places.get_mut(place as usize) {
            Some(free @ None) => *free = Some(value),
            _ => return false,
        }
        true
    }

    /// Finds the places that are free.
    pub(in crate::broker) fn mend(&mut self) {
        self.free.clear();
        if self.free.try_reserve(self.places.len()).is_err() {
            return; // they stay unused
        }
        let places = self.places.iter().enumerate().rev().filter(|(_, place)| place.is_none());
        self.free.extend(places.map(|(place, _)| place as u32));
    }
}

impl<T> Slab<T> for Places<T> {
    fn insert(&mut self, value: T) -> Result<u32, T> {
        if let Some(place) = self.free.pop()
            && let Some(free) = self.places.get_mut(place as usize)
        {
            *free = Some(value);
            return Ok(place);
        }
        let full = self.places.len() >= u32::MAX as usize;
        // Room to free it, too, so that this cannot fail.
        let all = self.places.len() + 1;
        if full || self.places.try_reserve(1).is_err() || self.free.try_reserve(all).is_err() {
            return Err(value);
        }
        self.places.push(Some(value));
        Ok(self.places.len() as u32 - 1)
    }

    fn remove(&mut self, place: u32) -> Option<T> {
        let value = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(value)
    }

    #[inline]
    fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    #[inline]
    fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    fn next(&self, place: u32) -> Option<u32> {
        let rest = self.places.get(place as usize..)?;
        let ahead = rest.iter().position(Option::is_some)?;
        Some(place + ahead as u32)
    }

    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// There is one unless memory runs out.
    fn is_full(&self) -> bool {
        false
    }
}

/// Who has nothing waiting takes no memory, nor has anybody more than for four times as much as waits.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    } else if queue.len() < queue.capacity() / 4 {
        queue.shrink_to(2 * queue.len());
    }
}

impl<T> Queue<T> for VecDeque<T> {
    fn has_room(&mut self) -> bool {
        self.try_reserve(1).is_ok()
    }

    fn push(&mut self, value: T) -> bool {
        let room = self.has_room();
        if room {
            self.push_back(value);
        }
        room
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        let value = if index == 0 { self.pop_front() } else { self.remove(index) };
        shrink(self);
        value
    }

    fn clear(&mut self) {
        self.clear();
        self.shrink_to(KEPT);
    }

    fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.retain(keep);
        shrink(self);
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.get_mut(index)
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// A value that has memory only while it is needed.
#[derive(Debug)]
pub struct Apart<T>(Option<Boxed<T>>);

impl<T> Default for Apart<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Lent<T> for Apart<T> {
    #[inline]
    fn get(&self) -> Option<&T> {
        let [value] = &**self.0.as_ref()?;
        Some(value)
    }

    #[inline]
    fn get_mut(&mut self) -> Option<&mut T> {
        let [value] = &mut **self.0.as_mut()?;
        Some(value)
    }

    #[inline]
    fn make(&mut self) -> Option<&mut T> {
        if self.0.is_none() {
            self.0 = boxed(T::default()).ok();
        }
        self.get_mut()
    }

    fn shed(&mut self, is_empty: impl FnOnce(&T) -> bool) {
        self.0.take_if(|value| is_empty(&value[0]));
    }
}

impl Numbered<Delivery> for Deliveries {
    fn append(&mut self, number: u64, value: Delivery) -> bool {
        Queue::push(&mut self.0, (number, value))
    }

    fn number(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |(number, _)| *number)
    }
}

/// Deliveries with their numbers.
#[derive(Debug, Default)]
pub struct Deliveries(VecDeque<(u64, Delivery)>);

impl Deliveries {
    /// Whether a number is above all others, and there are more above it.
    pub(in crate::broker) fn is_above(&self, number: u64) -> bool {
        let last = self.0.back().map(|(number, _)| *number);
        last.is_none_or(|last| last < number) && number < u64::MAX / 2
    }

    /// The delivery with this number.
    pub(in crate::broker) fn numbered(&self, number: u64) -> Option<&Delivery> {
        let index = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.get(index)
    }
}

impl Queue<Delivery> for Deliveries {
    fn push(&mut self, value: Delivery) -> bool {
        let above = self.0.back().map_or(0, |(number, _)| number + 1);
        self.append(above, value)
    }

    fn remove(&mut self, index: usize) -> Option<Delivery> {
        Queue::remove(&mut self.0, index).map(|(_, value)| value)
    }

    fn get(&self, index: usize) -> Option<&Delivery> {
        self.0.get(index).map(|(_, value)| value)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Delivery> {
        self.0.get_mut(index).map(|(_, value)| value)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn has_room(&mut self) -> bool {
        self.0.has_room()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn retain(&mut self, mut keep: impl FnMut(&Delivery) -> bool) {
        Queue::retain(&mut self.0, |(_, value)| keep(value));
    }
}

/// [`Names`] that grow. Nobody can foresee their hashes.
#[derive(Debug)]
pub struct Table {
    places: HashTable<(u32, u32)>,
    seed: Seed,
}

impl Table {
    pub(in crate::broker) const fn new(seed: u128) -> Self {
        Self { places: HashTable::new(), seed: Seed::new(seed) }
    }
}

impl Names for Table {
    fn hash(&self, name: &[u8]) -> u32 {
        self.seed.bytes(name)
    }

    fn insert(&mut self, hash: u32, place: u32) -> bool {
        let room = self.places.try_reserve(1, |entry| spread(entry.0)).is_ok();
        if room {
            self.places.insert_unique(spread(hash), (hash, place), |entry| spread(entry.0));
        }
        room
    }

    fn remove(&mut self, hash: u32, place: u32) {
        if let Ok(entry) = self.places.find_entry(spread(hash), |entry| *entry == (hash, place)) {
            entry.remove();
        }
    }

    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self.places.find(spread(hash), |entry| entry.0 == hash && is_it(entry.1));
        found.map(|entry| entry.1)
    }
}

/// All bits count.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_session_that_is_idle_is_small() {
        let sizes = (size_of::<Session<Large>>(), size_of::<Noted>(), size_of::<Connection>());
        assert!(sizes.0 <= 256 && sizes.1 <= 24 && sizes.2 <= 32, "{sizes:?}");
    }

    #[test]
    fn names_that_collide_for_one_seed_do_not_for_another() {
        let [ours, other] = [Table::new(1), Table::new(2)];
        let mut seen = alloc::collections::BTreeMap::new();
        let mut collisions = 0;
        for number in 0..200_000_u32 {
            if let Some(before) = seen.insert(ours.hash(&number.to_be_bytes()), number) {
                collisions += 1;
                let [a, b] = [before, number].map(|number| other.hash(&number.to_be_bytes()));
                assert_ne!(a, b);
            }
        }
        assert!(collisions > 0, "or this has shown nothing");
    }
}
