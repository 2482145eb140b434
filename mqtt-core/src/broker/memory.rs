//! What a broker keeps things in: arrays, or the heap.

use heapless::Vec;

use super::{
    Config, Connection, Session,
    delivering::Identified,
    message::Messages,
    session::{Backlog, Delivery, Replay},
};
use crate::{
    Instant,
    reason::ReasonCode,
    router::{Flat, Router, fnv},
    slice,
    store::{Aliased, Full, Name, Records, Store},
    wire::PacketId,
};

#[cfg(feature = "alloc")]
pub(super) mod alarms;
#[cfg(feature = "alloc")]
pub(super) mod heap;
#[cfg(feature = "alloc")]
pub(super) mod noted;
#[cfg(feature = "alloc")]
mod title;

/// Where a [`Broker`](super::Broker) keeps what it remembers: [`Small`], or, with the
/// feature `alloc`, `Large`.
pub trait Memory: Sealed {}

/// Keeps [`Memory`] to this crate's types.
#[allow(private_bounds, private_interfaces, reason = "nobody else can name it")]
pub trait Sealed: Sized {
    type Router: Router;
    type Store: Noting;
    type Name: Name;
    type Names: Names;
    /// The topics of retained messages.
    type Topics: Names;
    /// A topic that is not in the input.
    type Topic: Name;
    type Connections: Slab<Connection>;
    type Sessions: Slab<Session<Self>>;
    type Retained: Slab<super::message::MessageId>;
    type Messages: Messages;
    type Backlog: Lent<Backlog<Self>>;
    type Deliveries: Numbered<Delivery> + Default;
    type Replays: Queue<Replay> + Default;
    /// What is answered to one SUBSCRIBE.
    type Reasons: Queue<ReasonCode> + Default;
    /// Which filters of one UNSUBSCRIBE there were.
    type Ended: Queue<usize> + Default;
    /// The identifiers of all subscriptions that a topic is for.
    type Identified: Queue<Identified>;
    /// By the places of sessions, and of connections.
    type Alarms: Alarms;
    type Handshakes: Alarms;

    /// From how many bytes on a payload for more than one subscriber is kept first, so that it can
    /// be shared.
    const SHARED: usize;
    /// How many topic aliases a client may set at most.
    const ALIASES: u16;
    /// Whether it can be told what has changed.
    const RECORDS: bool;
    /// Whether it is kept what the users are called whose the sessions are.
    const USER_NAMES: bool;

    /// The name of a client, with that of its user if such are kept.
    fn name(client_id: &[u8], user_name: Option<&[u8]>) -> Result<Self::Name, Full> {
        let _ = user_name;
        Self::Name::new(client_id)
    }

    /// The name of the user with it.
    fn owner(name: &Self::Name) -> Option<&[u8]> {
        let _ = name;
        None
    }

    /// A store for a session; whether it takes notes.
    fn store(config: &Config, notes: bool) -> Self::Store;
}

/// Arrays, for a broker that is one value of fixed size and allocates nothing.
///
/// `CLIENTS` sessions, and [`SPARE`] connections more than that; `SUBSCRIPTIONS` subscriptions with their filters in
/// `FILTERS` bytes; `MESSAGES` messages in `BYTES` bytes, be they retained, wills or on their way,
/// each kept once however many sessions it is for. A session has up to [`FLIGHTS`] messages
/// unacknowledged in either direction and up to [`QUEUE`] on their way or waiting; names of clients
/// have up to [`CLIENT_ID`] bytes.
///
/// In bytes it is at most `CLIENTS * (3_450 + 8 * SUBSCRIPTIONS) + 28 * SUBSCRIPTIONS + FILTERS +
/// 64 * MESSAGES + BYTES + 800`, less where pointers have 32 bits: that is all it ever takes.
///
/// Of `MESSAGES` and `BYTES` three eighths are out of reach of messages that wait, three of retained ones
/// and wills, two of those on their way, and one is for these alone: nobody starves the others.
///
/// ```
/// use mqtt_core::broker::{Broker, Config, Small};
///
/// // Of eight clients, with up to 24 KiB of messages:
/// type Memory = Small<8, 32, 1024, 64, { 24 * 1024 }>;
/// static BROKER: Broker<Memory> = Broker::small(Config::DEFAULT);
/// assert!(size_of_val(&BROKER) <= 64 * 1024);
/// ```
#[derive(Debug)]
pub struct Small<
    const CLIENTS: usize,
    const SUBSCRIPTIONS: usize,
    const FILTERS: usize,
    const MESSAGES: usize,
    const BYTES: usize,
>;

/// How many connections there may be to a [`Small`] broker besides those of its `CLIENTS` sessions: one that
/// comes, and may take over one of these, and one that is the next to be given up for it.
pub const SPARE: usize = 2;

/// How many messages a session of a [`Small`] broker has unacknowledged in either direction.
pub const FLIGHTS: usize = 32;

/// How many messages a session of a [`Small`] broker has on their way or waiting.
pub const QUEUE: usize = 48;

/// How many filters of one SUBSCRIBE a [`Small`] broker looks at; the others are refused.
const FILTERS: usize = 256;

/// The longest client identifier that a [`Small`] broker takes, in bytes; the specification
/// requires 23 [MQTT-3.1.3-5].
pub const CLIENT_ID: usize = 64;

/// The longest topic of a will that a [`Small`] broker takes, in bytes.
pub const TOPIC: usize = 256;

/// How many topic aliases a [`Small`] broker sets for a client, for topics of how many bytes.
const ALIASES: usize = 2;
const ALIASED: usize = 128;

#[allow(private_bounds, private_interfaces, reason = "nobody else can name it")]
impl<const C: usize, const S: usize, const F: usize, const M: usize, const B: usize> Sealed
    for Small<C, S, F, M, B>
{
    type Router = Flat<S, F>;
    type Store = Aliased<Records<FLIGHTS>, ALIASES, ALIASED>;
    type Name = Vec<u8, CLIENT_ID, u16>;
    type Names = Vec<(u32, u32), C>;
    type Topics = Vec<(u32, u32), M>;
    type Topic = Vec<u8, TOPIC, u16>;
    type Connections = Array<Connection, C, SPARE>;
    type Sessions = Array<Session<Self>, C>;
    type Retained = Array<super::message::MessageId, M>;
    type Messages = super::message::Arena<M, B>;
    type Backlog = Here<Backlog<Self>>;
    type Deliveries = Vec<Delivery, QUEUE>;
    type Replays = Vec<Replay, S>;
    type Reasons = Vec<ReasonCode, FILTERS>;
    type Ended = Vec<usize, S>;
    type Identified = Vec<Identified, S>;
    type Alarms = Clocks<C>;
    type Handshakes = Clocks<C, SPARE>;

    const SHARED: usize = usize::MAX;
    /// None: there is no room for as long a topic as may come.
    const ALIASES: u16 = 0;
    const RECORDS: bool = false;
    const USER_NAMES: bool = false;

    fn store(_: &Config, _: bool) -> Self::Store {
        Aliased::new(Records::new())
    }
}

impl<const C: usize, const S: usize, const F: usize, const M: usize, const B: usize> Memory
    for Small<C, S, F, M, B>
{
}

/// A store that may note what has changed in it and its user has not asked for.
pub(super) trait Noting: Store {
    /// The next of its notes.
    fn note(&mut self) -> Option<Note> {
        None
    }

    /// There is no connection: what is not in use is given back.
    fn rest(&mut self) {}

    /// The identifiers of the messages at QoS 2 that have been taken.
    fn each_taken(&self, each: &mut dyn FnMut(PacketId)) {
        let _ = each;
    }
}

/// What has changed in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "alloc"), expect(dead_code, reason = "arrays take no notes"))]
pub(super) enum Note {
    /// An outgoing publish has been released.
    Released(PacketId),
    /// An incoming one at QoS 2 has been taken, or has come to its end.
    Arrival(PacketId),
}

impl<S: Store, const A: usize, const L: usize> Noting for Aliased<S, A, L> {}

/// Values in numbered places.
pub(super) trait Slab<T> {
    /// Puts a value somewhere; gives it back if there is no place.
    fn insert(&mut self, value: T) -> Result<u32, T>;
    fn remove(&mut self, place: u32) -> Option<T>;
    fn get(&self, place: u32) -> Option<&T>;
    fn get_mut(&mut self, place: u32) -> Option<&mut T>;
    /// The first place from this one on that has a value.
    fn next(&self, place: u32) -> Option<u32>;
    fn len(&self) -> usize;
    /// Whether there is no other place.
    fn is_full(&self) -> bool;
}

/// A [`Slab`] of `N` places, and some to spare.
#[derive(Debug)]
pub struct Array<T, const N: usize, const SPARE: usize = 0>([Option<T>; N], [Option<T>; SPARE]);

impl<T, const N: usize, const SPARE: usize> Array<T, N, SPARE> {
    pub(super) const fn new() -> Self {
        Self([const { None }; N], [const { None }; SPARE])
    }

    #[inline]
    fn place(&mut self, place: u32) -> Option<&mut Option<T>> {
        match (place as usize).checked_sub(N) {
            None => self.0.get_mut(place as usize),
            Some(spare) => self.1.get_mut(spare),
        }
    }
}

impl<T, const N: usize, const SPARE: usize> Slab<T> for Array<T, N, SPARE> {
    fn insert(&mut self, value: T) -> Result<u32, T> {
        let free = (0..(N + SPARE) as u32).find(|place| self.get(*place).is_none());
        match free.and_then(|free| Some((free, self.place(free)?))) {
            Some((free, place)) => {
                *place = Some(value);
                Ok(free)
            }
            None => Err(value),
        }
    }

    fn remove(&mut self, place: u32) -> Option<T> {
        self.place(place)?.take()
    }

    #[inline]
    fn get(&self, place: u32) -> Option<&T> {
        match (place as usize).checked_sub(N) {
            None => self.0.get(place as usize)?.as_ref(),
            Some(spare) => self.1.get(spare)?.as_ref(),
        }
    }

    #[inline]
    fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.place(place)?.as_mut()
    }

    fn next(&self, place: u32) -> Option<u32> {
        (place..(N + SPARE) as u32).find(|place| self.get(*place).is_some())
    }

    fn len(&self) -> usize {
        self.0.iter().flatten().count() + self.1.iter().flatten().count()
    }

    fn is_full(&self) -> bool {
        self.len() == N + SPARE
    }
}

/// When something is due, by the place of what it is due for.
pub(super) trait Alarms {
    /// Prepares for alarms of this place. Whether there is room for them.
    fn make_room(&mut self, place: u32) -> bool;
    /// Sets the alarm of a place to this time, unless it goes off earlier already.
    fn set(&mut self, place: u32, at: Instant);
    fn clear(&mut self, place: u32);
    /// The place whose alarm goes off first, and when.
    fn first(&self) -> Option<(Instant, u32)>;
}

/// [`Alarms`] of `N` places, and some to spare.
#[derive(Debug)]
pub struct Clocks<const N: usize, const SPARE: usize = 0>(Array<Instant, N, SPARE>);

impl<const N: usize, const SPARE: usize> Clocks<N, SPARE> {
    pub(super) const fn new() -> Self {
        Self(Array::new())
    }
}

impl<const N: usize, const SPARE: usize> Alarms for Clocks<N, SPARE> {
    fn make_room(&mut self, place: u32) -> bool {
        (place as usize) < N + SPARE
    }

    fn set(&mut self, place: u32, at: Instant) {
        if let Some(alarm) = self.0.place(place) {
            *alarm = Some(alarm.map_or(at, |set| set.min(at)));
        }
    }

    fn clear(&mut self, place: u32) {
        self.0.remove(place);
    }

    fn first(&self) -> Option<(Instant, u32)> {
        (0..(N + SPARE) as u32).filter_map(|place| Some((*self.0.get(place)?, place))).min()
    }
}

/// Values in order.
pub(super) trait Queue<T> {
    /// Whether there is room for one more.
    fn has_room(&mut self) -> bool;
    /// Appends a value; whether there was room.
    fn push(&mut self, value: T) -> bool;
    fn remove(&mut self, index: usize) -> Option<T>;
    fn clear(&mut self);
    fn retain(&mut self, keep: impl FnMut(&T) -> bool);
    fn get(&self, index: usize) -> Option<&T>;
    fn get_mut(&mut self, index: usize) -> Option<&mut T>;
    fn len(&self) -> usize;
}

/// A [`Queue`] that may know its values by numbers, each above those before it.
pub(super) trait Numbered<T>: Queue<T> {
    /// Appends a value; whether there was room.
    fn append(&mut self, number: u64, value: T) -> bool;
    /// The number of a value.
    fn number(&self, index: usize) -> u64;
}

impl<T, const N: usize> Numbered<T> for Vec<T, N> {
    fn append(&mut self, _: u64, value: T) -> bool {
        Queue::push(self, value)
    }

    fn number(&self, _: usize) -> u64 {
        0
    }
}

/// A value that may be there only while it is needed.
pub(super) trait Lent<T>: Default {
    /// It, if it is there. Otherwise it is as it was made.
    fn get(&self) -> Option<&T>;
    fn get_mut(&mut self) -> Option<&mut T>;
    /// It, if there is room for it.
    fn make(&mut self) -> Option<&mut T>;
    /// Gives its room back if there is nothing in it.
    fn shed(&mut self, is_empty: impl FnOnce(&T) -> bool);
}

/// One that is always there.
#[derive(Debug, Default)]
pub struct Here<T>(T);

impl<T: Default> Lent<T> for Here<T> {
    #[inline(always)]
    fn get(&self) -> Option<&T> {
        Some(&self.0)
    }

    #[inline(always)]
    fn get_mut(&mut self) -> Option<&mut T> {
        Some(&mut self.0)
    }

    #[inline(always)]
    fn make(&mut self) -> Option<&mut T> {
        Some(&mut self.0)
    }

    fn shed(&mut self, _: impl FnOnce(&T) -> bool) {}
}

impl<T, const N: usize> Queue<T> for Vec<T, N> {
    fn has_room(&mut self) -> bool {
        !self.is_full()
    }

    fn push(&mut self, value: T) -> bool {
        Self::push(self, value).is_ok()
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        slice::remove(self, index)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        Self::retain(self, keep);
    }

    fn get(&self, index: usize) -> Option<&T> {
        self.as_slice().get(index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.as_mut_slice().get_mut(index)
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }
}

/// Places by the hash of a name.
pub(super) trait Names {
    /// What names are told apart by, mostly.
    fn hash(&self, name: &[u8]) -> u32 {
        fnv(name)
    }

    /// Adds a place; whether there was room.
    fn insert(&mut self, hash: u32, place: u32) -> bool;
    fn remove(&mut self, hash: u32, place: u32);
    fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32>;
}

impl<const N: usize> Names for Vec<(u32, u32), N> {
    fn insert(&mut self, hash: u32, place: u32) -> bool {
        self.push((hash, place)).is_ok()
    }

    fn remove(&mut self, hash: u32, place: u32) {
        if let Some(index) = self.iter().position(|entry| *entry == (hash, place)) {
            slice::remove(self, index);
        }
    }

    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut same = self.iter().filter(|entry| entry.0 == hash).map(|entry| entry.1);
        same.find(|place| is_it(*place))
    }
}
