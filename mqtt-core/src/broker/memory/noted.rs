//! A store that notes what a record of the session lacks.

use alloc::vec::Vec;

use super::{Note, Noting};
use crate::{
    store::{Aliases, Arrival, Capacity, Flight, Full, Heap, Outgoing, Stage, Store, Unsent},
    topic::Topic,
    wire::{PacketId, QoS},
};

/// A [`Heap`] that may take notes. Its user takes them soon: there are as many as there have been
/// changes.
#[derive(Debug)]
pub struct Noted {
    heap: Heap,
    notes: Option<Vec<Note>>,
}

impl Noted {
    pub(super) fn new(heap: Heap, notes: bool) -> Self {
        Self { heap, notes: notes.then(Vec::new) }
    }

    /// Whether an incoming message at QoS 2 has been taken: then it is not to be taken again.
    pub(in crate::broker) fn is_taken(&self, id: PacketId) -> bool {
        self.heap.arrival(id).is_some_and(is_taken)
    }

    /// All that have been.
    pub(in crate::broker) fn taken(&self) -> impl Iterator<Item = PacketId> {
        self.heap.all_arrivals().filter(|arrival| is_taken(*arrival)).map(|arrival| arrival.id)
    }

    /// Keeps an arrival that is on record.
    pub(in crate::broker) fn restore_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.heap.push_arrival(arrival)
    }

    /// Keeps an outgoing publish that is on record, and perhaps that it has been released. Whether there
    /// is room.
    pub(in crate::broker) fn restore_flight(
        &mut self,
        id: PacketId,
        qos: QoS,
        released: bool,
    ) -> bool {
        let kept = self.heap.push(id, qos, None).is_ok();
        if kept && released {
            self.heap.release(id, Flight::AwaitComp);
        }
        kept
    }

    /// Changes one arrival, and notes what comes of it.
    fn change<T>(&mut self, id: PacketId, change: impl FnOnce(&mut Heap) -> T) -> T {
        let before = self.notes.is_some() && self.is_taken(id);
        let result = change(&mut self.heap);
        if self.notes.is_some() && before != self.is_taken(id) {
            self.add(Note::Arrival(id));
        }
        result
    }

    fn add(&mut self, note: Note) {
        if let Some(notes) = &mut self.notes {
            notes.push(note);
        }
    }
}

fn is_taken(arrival: Arrival) -> bool {
    arrival.qos == QoS::ExactlyOnce
        && match arrival.stage {
            Stage::Held => false,
            Stage::Answer(reason) => !reason.is_error(),
            Stage::AwaitRel | Stage::Complete => true,
        }
}

impl Noting for Noted {
    fn note(&mut self) -> Option<Note> {
        self.notes.as_mut()?.pop()
    }

    fn rest(&mut self) {
        self.heap.rest();
        if let Some(notes) = &mut self.notes {
            notes.shrink_to_fit();
        }
    }

    fn each_taken(&self, each: &mut dyn FnMut(PacketId)) {
        self.taken().for_each(each);
    }
}

impl Store for Noted {
    fn capacity(&self) -> Capacity {
        self.heap.capacity()
    }

    fn clear(&mut self) {
        self.retain_arrivals(|_| false);
        self.heap.clear();
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
        self.heap.push(id, qos, message)
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        self.heap.release(id, to);
        self.add(Note::Released(id));
    }

    fn finish(&mut self, id: PacketId) {
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
        self.change(arrival.id, |heap| heap.push_arrival(arrival))
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        self.change(arrival.id, |heap| heap.set_arrival(arrival));
    }

    fn remove_arrival(&mut self, id: PacketId) {
        self.change(id, |heap| heap.remove_arrival(id));
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        let mut before = Vec::new();
        if self.notes.is_some() {
            before.extend(self.taken());
        }
        self.heap.retain_arrivals(keep);
        for id in before {
            if !self.is_taken(id) {
                self.add(Note::Arrival(id));
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
