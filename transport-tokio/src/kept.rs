//! What the session remembers, and what of it has changed.
//!
//! # What has to be durable before what
//!
//! [`Kept`] is memory. With a journal it also collects [`Changes`], which somebody else writes to
//! disk: *no byte may leave before the changes that were made before it was written are durable*.
//! Each of these orders the other way round loses or doubles a message when the program is killed
//! in between:
//!
//! | first durable | then sent | the other way round |
//! |---|---|---|
//! | the message | PUBLISH | nobody sends it again; its identifier is given to another, which the peer takes for it |
//! | its release | PUBREL | PUBLISH is sent again after the peer has let its identifier go: delivered twice |
//! | an arrival | PUBREC | the peer sends it no more, or sends it again and it is delivered twice |
//! | the end of an arrival | PUBCOMP | the identifier's next message is taken for a repetition: lost |
//!
//! A publish that is finished is the exception: that it has been is known to both sides, and is told
//! again if it is asked again. So [`is_urgent`](Kept::is_urgent) tells whether there is anything
//! that may not wait.

// Without a file nothing is read back, and nobody looks into the changes.
#![cfg_attr(not(feature = "persistence"), allow(dead_code))]

use std::{collections::BTreeMap, mem};

use mqtt_core::{
    PacketId, Publish, QoS, Topic, Version,
    store::{
        Aliases, Arrival, Capacity, Flight, Full, Heap, Limits, Outgoing, Stage, Store, Unsent,
    },
};

#[cfg(any(test, feature = "persistence"))]
pub(crate) use journal::{Change, Table};
pub(crate) use journal::{Changes, Packet, Sending};

mod journal;
#[cfg(test)]
pub(crate) mod tests;

/// An outgoing publish whose session was lost before it had its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) id: PacketId,
    /// How far it had come.
    pub(crate) flight: Flight,
    packet: Packet,
}

impl Lost {
    /// The message; `None` if it had been released, so that it was no longer kept.
    pub(crate) fn publish(&self, version: Version) -> Option<Publish<'_>> {
        self.packet.decode(version, self.id, self.flight)
    }
}

/// A message that waits in the client's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    /// Its place in the queue.
    pub(crate) number: u64,
    flight: Flight,
    packet: Packet,
}

impl Queued {
    /// Reads the packet of a message at QoS 1 or 2; `None` if it is not one that was
    /// [queued](Kept::queue).
    pub(crate) fn read(version: Version, number: u64, packet: &[u8]) -> Option<Self> {
        let qos = packet.first().map(|first| first >> 1 & 3)?;
        let flight = Flight::new(QoS::from_u8(qos)?);
        let packet = Packet::read(version, QUEUED, flight, packet)?;
        Some(Self { number, flight, packet })
    }

    /// The message; always there, since it has been read.
    pub(crate) fn publish(&self, version: Version) -> Option<Publish<'_>> {
        self.packet.decode(version, QUEUED, self.flight)
    }

    /// The number of bytes of its packet.
    pub(crate) fn packet_len(&self) -> usize {
        self.packet.len()
    }
}

/// What stands for the packet identifier of a message that has none yet.
pub(crate) const QUEUED: PacketId = PacketId::FIRST;

/// The session as it was read from the disk. Everything in it is valid: the packets can be decoded,
/// states and identifiers agree with them, and no identifier comes twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// In their order.
    pub(crate) sending: Vec<(PacketId, Sending)>,
    /// At QoS 2.
    pub(crate) arrivals: Vec<(PacketId, Stage)>,
    /// In their order.
    pub(crate) queue: Vec<Queued>,
}

impl Restored {
    /// The number of bytes of the packets in it.
    pub(crate) fn len(&self) -> usize {
        let sending = self.sending.iter().map(|(_, sending)| sending.packet.len());
        sending.chain(self.queue.iter().map(Queued::packet_len)).sum()
    }
}

/// The session's store: a [`Heap`] which, when its session is lost, says what was in it, and on
/// request what of it has changed.
///
/// The journal has at most one change for each identifier and each number in the queue, so it is
/// bounded as they are; it shares large payloads with the heap.
#[derive(Debug)]
pub(crate) struct Kept {
    heap: Heap,
    lost: Vec<Lost>,
    journal: Option<Journal>,
}

#[derive(Debug, Default)]
struct Journal {
    changes: Changes,
    /// The last of [`Sending::order`].
    order: u64,
    /// What is to be kept of each arrival at QoS 2. Nothing, as long as the application has it and
    /// has not acknowledged it: if it has no time for that any more, the message is to come again.
    arrivals: BTreeMap<PacketId, Option<Stage>>,
}

impl Kept {
    /// An empty store with these limits, and perhaps a journal.
    pub(crate) fn new(limits: Limits, journal: bool) -> Self {
        let journal = journal.then(Journal::default);
        Self { heap: Heap::with_limits(limits), lost: Vec::new(), journal }
    }

    /// A store with a journal that has what was restored, and what waits in the queue.
    ///
    /// # Errors
    ///
    /// [`Full`] if it is more than the limits allow.
    pub(crate) fn restore(
        limits: Limits,
        version: Version,
        restored: Restored,
    ) -> Result<(Self, Vec<Queued>), Full> {
        let (mut heap, mut journal) = (Heap::with_limits(limits), Journal::default());
        for (id, sending) in restored.sending {
            let qos = match sending.flight {
                Flight::AwaitAck => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            let publish = sending.packet.decode(version, id, sending.flight);
            let message = publish.as_ref().map(|publish| Outgoing::new(version, id, publish));
            let message = message.transpose().map_err(|_| Full::ForEver)?;
            heap.push(id, qos, message.as_ref())?;
            if let released @ (Flight::AwaitComp | Flight::GivenUp(_)) = sending.flight {
                heap.release(id, released);
            }
            journal.order = journal.order.max(sending.order);
        }
        for (id, stage) in restored.arrivals {
            // No receipt with this number exists: a session counts from 1.
            let qos = QoS::ExactlyOnce;
            heap.push_arrival(Arrival { id, qos, stage, number: 0, live: false })?;
            journal.arrivals.insert(id, Some(stage));
        }
        heap.rewind();
        Ok((Self { heap, lost: Vec::new(), journal: Some(journal) }, restored.queue))
    }

    /// The outgoing publishes of a session that was lost, released ones first, otherwise in their
    /// order.
    ///
    /// To be asked for after every call that can end a session (`Client::connect`, `Client::poll`),
    /// and what is to be published again [queued](Self::queue) before the changes are taken: then
    /// the same commit forgets a message and has it again.
    pub(crate) fn take_lost(&mut self) -> Vec<Lost> {
        mem::take(&mut self.lost)
    }

    /// Whether changes are collected.
    pub(crate) const fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// Keeps a message, at QoS 1 or 2 and with [`QUEUED`] for its identifier, in the queue. Its
    /// number, below 2^62 and given to no other that is in the queue, is its place.
    pub(crate) fn queue(&mut self, number: u64, message: &Outgoing<'_>) {
        if let Some(Journal { changes, .. }) = &mut self.journal {
            changes.queue.put(number, Packet::new(message), false);
            changes.urgent = true;
        }
    }

    /// The message with this number, which was [queued](Self::queue), has left the queue. If it is
    /// sent, the changes are not to be taken in between.
    pub(crate) fn unqueue(&mut self, number: u64) {
        if let Some(Journal { changes, .. }) = &mut self.journal {
            changes.queue.delete(number);
            changes.urgent = true;
        }
    }

    /// Whether something has changed that must be durable before anything more is sent.
    pub(crate) fn is_urgent(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.changes.urgent)
    }

    /// What has changed since the last time, if anything has.
    pub(crate) fn take_changes(&mut self) -> Option<Changes> {
        debug_assert!(self.lost.is_empty(), "what was lost is to be taken first");
        let journal = self.journal.as_mut()?;
        let changes = mem::take(&mut journal.changes);
        (!changes.is_empty()).then_some(changes)
    }

    /// Something has happened to an arrival.
    fn arrival_changed(&mut self, id: PacketId) {
        if let Some(journal) = &mut self.journal {
            journal.arrival_changed(id, self.heap.arrival(id));
        }
    }
}

impl Journal {
    fn sending(&mut self, id: PacketId, flight: Flight, packet: Packet, known: bool) {
        self.order += 1;
        let sending = Sending { flight, order: self.order, packet };
        self.changes.sending.put(id, sending, known);
        self.changes.urgent = true;
    }

    fn finished(&mut self, id: PacketId, flight: Flight) {
        self.changes.sending.delete(id);
        // One that was refused is not to be offered again.
        self.changes.urgent |= flight == Flight::AwaitRec;
    }

    fn arrival_changed(&mut self, id: PacketId, arrival: Option<Arrival>) {
        let arrival = arrival.filter(|arrival| arrival.qos == QoS::ExactlyOnce);
        let after = arrival.and_then(|arrival| match arrival.stage {
            Stage::Held => None,
            Stage::Answer(reason) => Some(Stage::Answer(reason)),
            // The PUBREL comes again.
            Stage::AwaitRel | Stage::Complete => Some(Stage::AwaitRel),
        });
        let before = match arrival {
            Some(_) => self.arrivals.insert(id, after).flatten(),
            None => self.arrivals.remove(&id).flatten(),
        };
        match after {
            _ if after == before => return,
            Some(stage) => self.changes.arrivals.put(id, stage, before.is_some()),
            None => self.changes.arrivals.delete(id),
        }
        self.changes.urgent = true;
    }
}

impl Store for Kept {
    fn capacity(&self) -> Capacity {
        self.heap.capacity()
    }

    fn clear(&mut self) {
        self.heap.rewind();
        while let Some(Unsent { id, flight, packet }) = self.heap.unsent() {
            self.lost.push(Lost { id, flight, packet: Packet::of(packet) });
            self.heap.mark_sent(id);
            if let Some(journal) = &mut self.journal {
                journal.changes.sending.delete(id);
                journal.changes.urgent = true;
            }
        }
        self.heap.clear();
        if let Some(journal) = &mut self.journal {
            for id in Vec::from_iter(journal.arrivals.keys().copied()) {
                journal.arrival_changed(id, None);
            }
        }
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        self.heap.flight(id)
    }

    fn flights(&self) -> usize {
        self.heap.flights()
    }

    fn unsent_publishes(&self) -> usize {
        self.heap.unsent_publishes()
    }

    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        self.heap.push(id, qos, message)?;
        if let Some(journal) = &mut self.journal {
            let packet = message.map(Packet::new).unwrap_or_default();
            journal.sending(id, Flight::new(qos), packet, false);
        }
        Ok(())
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        let before = self.heap.flight(id);
        self.heap.release(id, to);
        if let (Some(journal), Some(Flight::AwaitAck | Flight::AwaitRec)) =
            (&mut self.journal, before)
        {
            journal.sending(id, to, Packet::default(), true);
        }
    }

    fn finish(&mut self, id: PacketId) {
        if let (Some(journal), Some(flight)) = (&mut self.journal, self.heap.flight(id)) {
            journal.finished(id, flight);
        }
        self.heap.finish(id);
    }

    fn rewind(&mut self) {
        self.heap.rewind();
    }

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        self.heap.unsent()
    }

    fn mark_sent(&mut self, id: PacketId) {
        self.heap.mark_sent(id);
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.heap.arrival(id)
    }

    fn arrivals(&self) -> usize {
        self.heap.arrivals()
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.heap.oldest_unanswered()
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.heap.push_arrival(arrival)?;
        self.arrival_changed(arrival.id);
        Ok(())
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        self.heap.set_arrival(arrival);
        self.arrival_changed(arrival.id);
    }

    fn remove_arrival(&mut self, id: PacketId) {
        self.heap.remove_arrival(id);
        self.arrival_changed(id);
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        self.heap.retain_arrivals(keep);
        if let Some(journal) = &mut self.journal {
            for id in Vec::from_iter(journal.arrivals.keys().copied()) {
                journal.arrival_changed(id, self.heap.arrival(id));
            }
        }
    }

    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.heap.inbound_aliases()
    }

    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.heap.inbound_topic(alias)
    }

    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.heap.outbound_aliases()
    }
}
