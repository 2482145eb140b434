//! What has changed since the changes were taken last.

use std::collections::{BTreeMap, btree_map::Entry};

use bytes::Bytes;
use mqtt_core::{
    PacketId, Payload, Publish, Version,
    store::{Flight, Outgoing, Stage, Unsent},
};

/// An encoded PUBLISH in two parts, of which the first has the whole head; both are empty if there
/// is only a record of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) first: Box<[u8]>,
    pub(crate) rest: Bytes,
}

/// The longest payload, in bytes, that is copied though it could be shared.
const MAX_COPIED: usize = 64;

impl Packet {
    pub(crate) fn new(message: &Outgoing<'_>) -> Self {
        let payload = message.payload();
        let rest = payload.owner().filter(|owner| owner.len() > MAX_COPIED).cloned();
        let rest = rest.unwrap_or_default();
        let mut first = vec![0; message.packet_len() - rest.len()].into_boxed_slice();
        let (head, copied) = first.split_at_mut(message.head_len());
        message.write_head(head);
        if !copied.is_empty() {
            copied.copy_from_slice(payload.as_bytes());
        }
        Self { first, rest }
    }

    /// The same as `packet`, which is in the heap.
    pub(super) fn of(packet: (&[u8], Payload<'_>)) -> Self {
        let (first, payload) = packet;
        let copy = || Bytes::copy_from_slice(payload.as_bytes());
        Self { first: first.into(), rest: payload.owner().cloned().unwrap_or_else(copy) }
    }

    /// Reads a whole packet; `None` if it is not one that has `id` and is in the state `flight`.
    pub(crate) fn read(
        version: Version,
        id: PacketId,
        flight: Flight,
        packet: &[u8],
    ) -> Option<Self> {
        let unsent = Unsent { id, flight, packet: (packet, Payload::default()) };
        let payload = unsent.decode(version)?.0.payload.len();
        let shared = if payload > MAX_COPIED { payload } else { 0 };
        let (first, rest) = packet.split_at_checked(packet.len() - shared)?;
        Some(Self { first: first.into(), rest: Bytes::copy_from_slice(rest) })
    }

    /// The message; `None` if this is not a packet that has `id` and is in the state `flight`.
    pub(crate) fn decode(
        &self,
        version: Version,
        id: PacketId,
        flight: Flight,
    ) -> Option<Publish<'_>> {
        let packet = (&self.first[..], Payload::shared(&self.rest));
        let (publish, rest) = Unsent { id, flight, packet }.decode(version)?;
        match (publish.payload.is_empty(), rest.is_empty()) {
            (true, false) => Some(Publish { payload: rest, ..publish }),
            (_, true) => Some(publish),
            (false, false) => None, // never made so
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }
}

/// What is kept of an outgoing publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) flight: Flight,
    /// Tells the order of sending among publishes, of release among released ones. No two are
    /// alike.
    pub(crate) order: u64,
    /// Empty once it has been released.
    pub(crate) packet: Packet,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<V> {
    /// It is this from now on.
    Put {
        value: V,
        /// Nothing is there yet that would have to be deleted.
        new: bool,
    },
    /// It goes.
    Delete,
}

/// The changes of one kind of records. Only what becomes of each in the end is known: a publish that
/// is finished before anybody asked has left no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table<K, V>(BTreeMap<K, Change<V>>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Copy + Ord, V> Table<K, V> {
    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &Change<V>)> {
        self.0.iter().map(|(key, change)| (*key, change))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `known` tells whether there has been a record with this key until now.
    pub(super) fn put(&mut self, key: K, value: V, known: bool) {
        let new = match self.0.get(&key) {
            Some(Change::Put { new, .. }) => *new,
            Some(Change::Delete) => false,
            None => !known,
        };
        self.0.insert(key, Change::Put { value, new });
    }

    /// There has been a record with this key.
    pub(super) fn delete(&mut self, key: K) {
        match self.0.entry(key) {
            Entry::Occupied(change) if matches!(change.get(), Change::Put { new: true, .. }) => {
                change.remove();
            }
            Entry::Occupied(mut change) => {
                change.insert(Change::Delete);
            }
            Entry::Vacant(place) => {
                place.insert(Change::Delete);
            }
        }
    }
}

/// All that has changed, to be made durable at once or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) sending: Table<PacketId, Sending>,
    pub(crate) arrivals: Table<PacketId, Stage>,
    pub(crate) queue: Table<u64, Packet>,
    pub(super) urgent: bool,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.sending.is_empty() && self.arrivals.is_empty() && self.queue.is_empty()
    }
}
