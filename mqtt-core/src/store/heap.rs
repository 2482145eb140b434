//! A store that grows.

use alloc::{boxed::Box, vec::Vec};

use super::{
    Aliases, Arrival, Capacity, Flight, Full, Outgoing, Store, Unsent,
    aliased::table::{Entries, Entry, Name},
};
use crate::{
    sink::Payload,
    topic::Topic,
    wire::{PacketId, QoS},
};
use chain::{Chain, Line};
use lazy::Lazy;
pub(crate) use lazy::{Boxed, boxed};

mod chain;
mod lazy;

/// Keeps a session on the heap, within [`Limits`] in number and in bytes.
///
/// Acknowledgements may come in any order: everything that takes a packet identifier takes
/// constant time. A packet is kept encoded in one allocation, except for a payload that
/// [can be shared](Payload::shared) and has more than 64 bytes: that one is kept by reference
/// count, so that a message waiting in many sessions is in memory once.
///
/// An empty store has no memory on the heap. A packet's memory is freed with its outcome. The
/// bookkeeping doubles when it is full and shrinks by half or more when three quarters of it are
/// unused, down to what 32 messages take, so that a few that come and go all the time cost nothing:
/// it takes 70 to 140 bytes for an outgoing message while their number grows, and half of that for
/// an incoming one. What the allocator refuses is [`Full::ForNow`].
///
/// ```
/// use mqtt_core::store::{Heap, Limits, Store};
///
/// let store = Heap::with_limits(Limits { flights: 100, ..Limits::default() });
/// assert_eq!(store.capacity().flights, 100);
/// ```
#[derive(Clone, Debug)]
pub struct Heap {
    limits: Limits,
    /// In the order of sending, then of release.
    publishes: Chain<Sending>,
    /// The first that is not marked as sent.
    unsent: [Option<PacketId>; 2],
    unsent_publishes: usize,
    bytes: usize,
    /// Those that are unanswered in the order of arrival, and the others.
    arrivals: Chain<Received>,
    /// How many have arrived.
    received: u64,
    inbound: Lazy,
    outbound: Lazy,
}

/// How much a [`Heap`] may keep.
///
/// ```
/// use mqtt_core::store::Limits;
///
/// let limits = Limits { bytes: 64 * 1024, ..Limits::default() };
/// assert_eq!(limits.arrivals, 65_535);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Outgoing publishes, at least 1. By default 32,767: half of all packet identifiers, so that
    /// a free one is found quickly, for a SUBSCRIBE too.
    pub flights: u16,
    /// Incoming messages, at least 1. By default 65,535, which no peer can exceed: one that speaks
    /// 3.1.1 cannot be told of a lower limit, and loses its connection when it does.
    pub arrivals: u16,
    /// Bytes of outgoing packets as they are encoded, those of shared payloads included. By default
    /// 16 MiB. With 0, only records are kept, as [`Records`](super::Records) does.
    pub bytes: usize,
    /// Topic aliases that the peer may set: the Topic Alias Maximum to advertise. By default 0.
    pub inbound_aliases: u16,
    /// Topic aliases to set for the peer, if it accepts as many. By default 0. They are looked
    /// through one after the other: tens pay off, tens of thousands do not.
    pub outbound_aliases: u16,
    /// Bytes of the topics of all aliases of one direction, beyond those limited by `bytes`. One that
    /// the peer sets beyond them ends the connection. By default 16 MiB, which 256 of the longest
    /// topics do not exceed.
    pub alias_bytes: usize,
}

/// An outgoing publish.
#[derive(Clone, Debug)]
struct Sending {
    flight: Flight,
    sent: bool,
    len: u32,
    /// The packet, or what comes before a shared payload; empty for a bare record.
    packet: Box<[u8]>,
    #[cfg(target_has_atomic = "ptr")]
    payload: bytes::Bytes,
}

/// An incoming message.
#[derive(Clone, Debug)]
struct Received {
    arrival: Arrival,
    number: u64,
}

impl Heap {
    /// An empty store with the default limits.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// An empty store with these limits.
    pub const fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            publishes: Chain::new(),
            unsent: [None; 2],
            unsent_publishes: 0,
            bytes: 0,
            arrivals: Chain::new(),
            received: 0,
            inbound: Lazy::new(limits.inbound_aliases, limits.alias_bytes),
            outbound: Lazy::new(limits.outbound_aliases, limits.alias_bytes),
        }
    }

    /// The number of bytes of the outgoing packets that are kept, which [`Limits::bytes`] limits.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The incoming messages, in no particular order.
    pub(crate) fn all_arrivals(&self) -> impl Iterator<Item = Arrival> {
        self.arrivals.values().map(|received| received.arrival)
    }

    /// The most bytes that a store which keeps records only takes, with so many flights: besides what is
    /// said of [each](Self::ARRIVAL) arrival, and aliases.
    pub(crate) const fn memory(flights: u16) -> usize {
        Chain::<Sending>::memory(flights as usize) + Chain::<Received>::memory(0)
    }

    /// What so many topic aliases take at most, incoming and outgoing, with so many bytes of topics either
    /// way.
    pub(crate) const fn aliases([inbound, outbound]: [u16; 2], bytes: usize) -> usize {
        Lazy::memory(inbound, bytes) + Lazy::memory(outbound, bytes)
    }

    /// Whether nothing is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.publishes.len() == 0
            && self.arrivals.len() == 0
            && self.inbound.is_empty()
            && self.outbound.is_empty()
    }

    /// For how many arrivals there is room in any case.
    pub(crate) const FEW: usize = chain::FLOOR;

    /// What one more takes at most.
    pub(crate) const ARRIVAL: usize = Chain::<Received>::EACH;

    /// Gives back what is not in use.
    pub(crate) fn rest(&mut self) {
        self.publishes.rest();
        self.arrivals.rest();
    }

    /// Makes the first unsent publish of a line known, if it is `id` or one behind it.
    fn seek_unsent(&mut self, line: Line, id: Option<PacketId>) {
        let mut next = id.and_then(|id| self.publishes.get(id).map(|sending| (id, sending)));
        while let Some((id, sending)) = next
            && sending.sent
        {
            next = self.publishes.after(id);
        }
        self.unsent[line as usize] = next.map(|(id, _)| id);
    }

    /// Before a publish leaves its line.
    fn leave(&mut self, id: PacketId) {
        let Some(sending) = self.publishes.get_mut(id) else { return };
        let line = sending.line();
        if line == PUBLISHED && !sending.sent {
            self.unsent_publishes -= 1;
        }
        self.bytes -= sending.len as usize;
        if self.unsent[line as usize] == Some(id) {
            let next = self.publishes.after(id).map(|(id, _)| id);
            self.seek_unsent(line, next);
        }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flights: u16::MAX / 2,
            arrivals: u16::MAX,
            bytes: 16 * 1024 * 1024,
            inbound_aliases: 0,
            outbound_aliases: 0,
            alias_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Store for Heap {
    fn capacity(&self) -> Capacity {
        Capacity { flights: self.limits.flights.max(1), arrivals: self.limits.arrivals.max(1) }
    }

    fn clear(&mut self) {
        *self = Self::with_limits(self.limits);
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        self.publishes.get(id).map(|sending| sending.flight)
    }

    fn flights(&self) -> usize {
        self.publishes.len()
    }

    fn unsent_publishes(&self) -> usize {
        self.unsent_publishes
    }

    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        let message = message.filter(|_| self.limits.bytes > 0);
        let len = message.map_or(0, Outgoing::packet_len);
        if len > self.limits.bytes {
            return Err(Full::ForEver);
        }
        let full = self.flights() >= usize::from(self.capacity().flights);
        if full || len > self.limits.bytes - self.bytes {
            return Err(Full::ForNow);
        }
        self.publishes.push(PUBLISHED, id, Sending::new(qos, message)?)?;
        self.bytes += len;
        Ok(())
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        if self.publishes.get(id).is_none_or(|sending| sending.line() == RELEASED) {
            return;
        }
        self.leave(id);
        self.publishes.move_to_end(id, RELEASED);
        if let Some(sending) = self.publishes.get_mut(id) {
            *sending = Sending::released(to);
        }
        let unsent = &mut self.unsent[RELEASED as usize];
        *unsent = unsent.or(Some(id));
    }

    fn finish(&mut self, id: PacketId) {
        self.leave(id);
        self.publishes.remove(id);
    }

    fn rewind(&mut self) {
        self.unsent_publishes = 0;
        for sending in self.publishes.values_mut() {
            sending.sent = false;
            self.unsent_publishes += usize::from(sending.line() == PUBLISHED);
        }
        for line in [PUBLISHED, RELEASED] {
            self.unsent[line as usize] = self.publishes.first(line).map(|(id, _)| id);
        }
    }

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        let [published, released] = self.unsent;
        let id = released.or(published)?;
        let sending = self.publishes.get(id)?;
        Some(Unsent { id, flight: sending.flight, packet: (&sending.packet, sending.payload()) })
    }

    fn mark_sent(&mut self, id: PacketId) {
        let Some(sending) = self.publishes.get_mut(id) else { return };
        let line = sending.line();
        if line == PUBLISHED && !sending.sent {
            self.unsent_publishes -= 1;
        }
        sending.sent = true;
        self.seek_unsent(line, self.unsent[line as usize]);
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.arrivals.get(id).map(|received| received.arrival)
    }

    fn arrivals(&self) -> usize {
        self.arrivals.len()
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.arrivals.first(UNANSWERED).map(|(_, received)| received.arrival)
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        let received = Received { arrival, number: self.received };
        let line = received.line();
        if let Some(kept) = self.arrivals.get_mut(arrival.id) {
            *kept = received;
            self.arrivals.move_to_end(arrival.id, line);
        } else if self.arrivals() < usize::from(self.capacity().arrivals) {
            self.arrivals.push(line, arrival.id, received)?;
        } else {
            return Err(Full::ForNow);
        }
        self.received += 1;
        Ok(())
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        let Some(received) = self.arrivals.get_mut(arrival.id) else { return };
        let before = received.line();
        received.arrival = arrival;
        let line = received.line();
        if line == UNANSWERED && before == ANSWERED {
            self.arrivals.move_to_rank(arrival.id, line, |received| received.number);
        } else if line != before {
            self.arrivals.move_to_end(arrival.id, line);
        }
    }

    fn remove_arrival(&mut self, id: PacketId) {
        self.arrivals.remove(id);
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        self.arrivals.rearrange(
            |received| keep(&mut received.arrival),
            Received::line,
            |received| received.number,
        );
    }

    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.inbound.aliases()
    }

    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.inbound.topic(alias)
    }

    fn clear_aliases(&mut self) {
        Aliases::clear(&mut self.inbound);
        Aliases::clear(&mut self.outbound);
    }

    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.outbound.aliases()
    }
}

/// The lines of [`Heap::publishes`].
const PUBLISHED: Line = Line::First;
const RELEASED: Line = Line::Second;

impl Sending {
    /// Keeps a message that is being sent, or that there is one.
    fn new(qos: QoS, message: Option<&Outgoing<'_>>) -> Result<Self, Full> {
        let mut kept = Self { sent: true, ..Self::released(Flight::new(qos)) };
        let Some(message) = message else { return Ok(kept) };
        let payload = message.payload();
        #[cfg(target_has_atomic = "ptr")]
        let payload = match payload.owner() {
            Some(owner) if owner.len() > MAX_COPIED => {
                kept.payload = owner.clone();
                Payload::default()
            }
            _ => payload,
        };
        kept.len = message.packet_len() as u32;
        kept.packet = zeroed(message.head_len() + payload.len())?;
        if let Some((head, rest)) = kept.packet.split_at_mut_checked(message.head_len()) {
            message.write_head(head);
            rest.copy_from_slice(payload.as_bytes());
        }
        Ok(kept)
    }

    /// What is left of a message after its PUBREC.
    fn released(flight: Flight) -> Self {
        Self {
            flight,
            sent: false,
            len: 0,
            packet: Box::default(),
            #[cfg(target_has_atomic = "ptr")]
            payload: bytes::Bytes::new(),
        }
    }

    fn line(&self) -> Line {
        match self.flight {
            Flight::AwaitAck | Flight::AwaitRec => PUBLISHED,
            Flight::AwaitComp | Flight::GivenUp(_) => RELEASED,
        }
    }

    #[cfg(target_has_atomic = "ptr")]
    fn payload(&self) -> Payload<'_> {
        if self.payload.is_empty() { Payload::default() } else { Payload::shared(&self.payload) }
    }

    #[cfg(not(target_has_atomic = "ptr"))]
    fn payload(&self) -> Payload<'_> {
        Payload::default()
    }
}

/// The longest payload, in bytes, that is copied though it could be shared: the copy takes no more
/// memory than a reference count, and does not keep a large owner alive.
#[cfg(target_has_atomic = "ptr")]
const MAX_COPIED: usize = 64;

/// The lines of [`Heap::arrivals`].
const UNANSWERED: Line = Line::First;
const ANSWERED: Line = Line::Second;

impl Received {
    fn line(&self) -> Line {
        if self.arrival.is_unanswered() { UNANSWERED } else { ANSWERED }
    }
}

impl Entries for Vec<Entry<Box<[u8]>>> {
    type Name = Box<[u8]>;

    fn clear(&mut self) {
        *self = Self::new();
    }

    fn push(&mut self, entry: Entry<Self::Name>) -> Result<(), Full> {
        self.try_reserve(1).map_err(|_| Full::ForNow)?;
        self.push(entry);
        Ok(())
    }

    fn as_slice(&self) -> &[Entry<Self::Name>] {
        self
    }

    fn as_mut_slice(&mut self) -> &mut [Entry<Self::Name>] {
        self
    }
}

impl Name for Box<[u8]> {
    const MAX_LEN: usize = u16::MAX as usize;

    fn new(topic: &[u8]) -> Result<Self, Full> {
        let mut name = zeroed(topic.len())?;
        name.copy_from_slice(topic);
        Ok(name)
    }

    fn as_bytes(&self) -> &[u8] {
        self
    }
}

/// Bytes on the heap, if there are as many.
fn zeroed(len: usize) -> Result<Box<[u8]>, Full> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Full::ForNow)?;
    bytes.resize(len, 0);
    Ok(bytes.into_boxed_slice())
}
