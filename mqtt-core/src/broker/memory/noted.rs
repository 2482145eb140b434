//! A store that notes what a record of the session lacks.

use alloc::vec::Vec;

use super::{Note, Noting};
use crate::{
    store::{
        Aliases, Arrival, Boxed, Capacity, Flight, Full, Heap, Limits, Outgoing, Stage, Store,
        Unsent, boxed,
    },
    topic::Topic,
    wire::{PacketId, QoS},
};

/// A [`Heap`] of records that may take notes. Its user takes them soon: there are as many as there have
/// been changes.
///
/// One that has kept nothing yet has no memory but its own, nor has one that keeps nothing when a
/// connection begins or ends: on one, what comes and goes costs nothing.
#[derive(Debug)]
pub struct Noted {
    kept: Option<Boxed<Kept>>,
    /// How many incoming messages there may be.
    arrivals: u16,
    /// How many topic aliases the client may set, and how many bytes the topics may have of those of one
    /// direction.
    inbound: u16,
    alias_bytes: u32,
    takes_notes: bool,
}

#[derive(Debug)]
struct Kept {
    heap: Heap,
    notes: Vec<Note>,
}

/// How many outgoing publishes there may be: half of all identifiers.
const FLIGHTS: u16 = u16::MAX / 2;

/// How many topic aliases are set for a client.
const OUTBOUND: u16 = 16;

impl Noted {
    /// A store for so many incoming messages, with so many topic aliases of the client's, and so many
    /// bytes of topics either way.
    pub(super) const fn new(
        arrivals: u16,
        inbound: u16,
        alias_bytes: usize,
        takes_notes: bool,
    ) -> Self {
        // So many aliases, of topics of 65,535 bytes, do not exceed what 32 bits can say.
        let most = u32::MAX as usize;
        let alias_bytes = if alias_bytes > most { u32::MAX } else { alias_bytes as u32 };
        Self { kept: None, arrivals, inbound, alias_bytes, takes_notes }
    }

    /// The most bytes that one takes besides its own, with so many flights: besides what is said of each
    /// [arrival](Heap::ARRIVAL), and [aliases](Self::aliases).
    pub(super) const fn memory(flights: u16) -> usize {
        size_of::<Kept>() + Heap::memory(flights)
    }

    /// What topic aliases take at most, so many of the client's, with so many bytes of topics either way.
    pub(super) const fn aliases(inbound: u16, bytes: usize) -> usize {
        Heap::aliases([inbound, OUTBOUND], bytes)
    }

    fn heap(&self) -> Option<&Heap> {
        let [kept] = &**self.kept.as_ref()?;
        Some(&kept.heap)
    }

    fn heap_mut(&mut self) -> Option<&mut Heap> {
        let [kept] = &mut **self.kept.as_mut()?;
        Some(&mut kept.heap)
    }

    /// The heap, to keep something in.
    #[inline]
    fn make(&mut self) -> Result<&mut Heap, Full> {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => {
                let Capacity { flights, arrivals } = self.capacity();
                let limits = Limits {
                    flights,
                    arrivals,
                    bytes: 0,
                    inbound_aliases: self.inbound,
                    outbound_aliases: OUTBOUND,
                    alias_bytes: self.alias_bytes as usize,
                };
                boxed(Kept { heap: Heap::with_limits(limits), notes: Vec::new() })?
            }
        };
        let [kept] = &mut **self.kept.insert(kept);
        Ok(&mut kept.heap)
    }

    /// Gives its memory back if there is nothing in it.
    fn shed(&mut self) {
        self.kept.take_if(|kept| {
            let [Kept { heap, notes }] = &**kept;
            heap.is_empty() && notes.is_empty()
        });
    }

    /// Whether an incoming message at QoS 2 has been taken: then it is not to be taken again.
    pub(in crate::broker) fn is_taken(&self, id: PacketId) -> bool {
        self.arrival(id).is_some_and(is_taken)
    }

    /// All that have been.
    pub(in crate::broker) fn taken(&self) -> impl Iterator<Item = PacketId> {
        let arrivals = self.heap().into_iter().flat_map(Heap::all_arrivals);
        arrivals.filter(|arrival| is_taken(*arrival)).map(|arrival| arrival.id)
    }

    /// Keeps an arrival that is on record.
    pub(in crate::broker) fn restore_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.make()?.push_arrival(arrival)
    }

    /// Keeps an outgoing publish that is on record, and perhaps that it has been released. Whether there
    /// is room.
    pub(in crate::broker) fn restore_flight(
        &mut self,
        id: PacketId,
        qos: QoS,
        released: bool,
    ) -> bool {
        let Ok(heap) = self.make() else { return false };
        let kept = heap.push(id, qos, None).is_ok();
        if kept && released {
            heap.release(id, Flight::AwaitComp);
        }
        kept
    }

    /// Notes what has come of an arrival that was taken before or not.
    fn note_change(&mut self, id: PacketId, was_taken: bool) {
        if self.takes_notes && was_taken != self.is_taken(id) {
            self.add(Note::Arrival(id));
        }
    }

    fn add(&mut self, note: Note) {
        if let (true, Some(kept)) = (self.takes_notes, &mut self.kept) {
            kept[0].notes.push(note);
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
        let [kept] = &mut **self.kept.as_mut()?;
        kept.notes.pop()
    }

    fn rest(&mut self) {
        self.shed();
        if let Some([kept]) = self.kept.as_deref_mut() {
            kept.heap.rest();
            kept.notes.shrink_to_fit();
        }
    }

    fn each_taken(&self, each: &mut dyn FnMut(PacketId)) {
        self.taken().for_each(each);
    }
}

impl Store for Noted {
    fn capacity(&self) -> Capacity {
        Capacity { flights: FLIGHTS, arrivals: self.arrivals }
    }

    fn clear(&mut self) {
        self.retain_arrivals(|_| false);
        if let Some(heap) = self.heap_mut() {
            heap.clear();
        }
        self.shed();
    }

    #[inline]
    fn flight(&self, id: PacketId) -> Option<Flight> {
        self.heap()?.flight(id)
    }

    #[inline]
    fn flights(&self) -> usize {
        self.heap().map_or(0, Heap::flights)
    }

    #[inline]
    fn unsent_publishes(&self) -> usize {
        self.heap().map_or(0, Heap::unsent_publishes)
    }

    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        self.make()?.push(id, qos, message)
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        if let Some(heap) = self.heap_mut() {
            heap.release(id, to);
        }
        self.add(Note::Released(id));
    }

    fn finish(&mut self, id: PacketId) {
        if let Some(heap) = self.heap_mut() {
            heap.finish(id);
        }
    }

    fn rewind(&mut self) {
        if let Some(heap) = self.heap_mut() {
            heap.rewind();
        }
    }

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        self.heap_mut()?.unsent()
    }

    fn mark_sent(&mut self, id: PacketId) {
        if let Some(heap) = self.heap_mut() {
            heap.mark_sent(id);
        }
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.heap()?.arrival(id)
    }

    #[inline]
    fn arrivals(&self) -> usize {
        self.heap().map_or(0, Heap::arrivals)
    }

    #[inline]
    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.heap()?.oldest_unanswered()
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        let was_taken = self.takes_notes && self.is_taken(arrival.id);
        self.make()?.push_arrival(arrival)?;
        self.note_change(arrival.id, was_taken);
        Ok(())
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        let was_taken = self.takes_notes && self.is_taken(arrival.id);
        if let Some(heap) = self.heap_mut() {
            heap.set_arrival(arrival);
        }
        self.note_change(arrival.id, was_taken);
    }

    fn remove_arrival(&mut self, id: PacketId) {
        let was_taken = self.takes_notes && self.is_taken(id);
        if let Some(heap) = self.heap_mut() {
            heap.remove_arrival(id);
        }
        self.note_change(id, was_taken);
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        let mut before = Vec::new();
        if self.takes_notes {
            before.extend(self.taken());
        }
        if let Some(heap) = self.heap_mut() {
            heap.retain_arrivals(keep);
        }
        for id in before {
            if !self.is_taken(id) {
                self.add(Note::Arrival(id));
            }
        }
        self.shed();
    }

    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        if self.inbound == 0 {
            return None;
        }
        self.make().ok()?.inbound_aliases()
    }

    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.heap()?.inbound_topic(alias)
    }

    fn inbound_alias_maximum(&mut self) -> u16 {
        self.inbound
    }

    fn clear_aliases(&mut self) {
        if let Some(heap) = self.heap_mut() {
            heap.clear_aliases();
        }
    }

    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.make().ok()?.outbound_aliases()
    }
}
