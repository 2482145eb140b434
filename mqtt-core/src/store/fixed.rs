//! A store of fixed capacity, without allocation.

use heapless::Vec;

use super::{Arrival, Capacity, Flight, Full, Outgoing, Store, Unsent};
use crate::{
    sink::Payload,
    slice,
    wire::{PacketId, QoS},
};

/// Keeps up to `FLIGHTS` outgoing publishes in `BYTES` bytes, and up to `FLIGHTS` incoming ones.
///
/// Packets are kept encoded, one after the other in the order in which they were sent; a bare
/// record takes none of the bytes. `FLIGHTS` is from 1 to 65,535.
///
/// ```
/// use mqtt_core::store::{Fixed, Store};
///
/// static STORE: Fixed<8, 2048> = Fixed::new();
/// assert_eq!(STORE.capacity().flights, 8);
/// ```
#[derive(Clone, Debug)]
pub struct Fixed<const FLIGHTS: usize, const BYTES: usize> {
    publishes: Vec<Slot, FLIGHTS>,
    publishes_sent: usize,
    released: Vec<Slot, FLIGHTS>,
    released_sent: usize,
    arrivals: Vec<Arrival, FLIGHTS>,
    arena: [u8; BYTES],
    /// Where the packet of the first publish begins.
    start: usize,
    /// Where that of the last one ends.
    end: usize,
}

/// A store that keeps no messages: the application has them, and publishes again when it is asked
/// to by [`Event::Resend`](crate::Event::Resend).
pub type Records<const FLIGHTS: usize> = Fixed<FLIGHTS, 0>;

#[derive(Clone, Copy, Debug)]
struct Slot {
    id: PacketId,
    flight: Flight,
    /// Bytes in the arena; 0 for a bare record.
    len: u32,
}

impl<const FLIGHTS: usize, const BYTES: usize> Fixed<FLIGHTS, BYTES> {
    /// An empty store.
    pub const fn new() -> Self {
        const { assert!(FLIGHTS >= 1 && FLIGHTS <= u16::MAX as usize) };
        Self {
            publishes: Vec::new(),
            publishes_sent: 0,
            released: Vec::new(),
            released_sent: 0,
            arrivals: Vec::new(),
            arena: [0; BYTES],
            start: 0,
            end: 0,
        }
    }

    /// Takes the publish out of the order and its packet out of the arena.
    fn take_publish(&mut self, id: PacketId) -> Option<Slot> {
        let index = self.publishes.iter().position(|slot| slot.id == id)?;
        let before: usize = self.publishes.iter().take(index).map(|slot| slot.len as usize).sum();
        let slot = slice::remove(&mut self.publishes, index)?;
        let (from, len) = (self.start + before, slot.len as usize);
        if index == 0 {
            self.start += len;
        } else {
            slice::shift(&mut self.arena, from + len..self.end, from);
            self.end -= len;
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        self.publishes_sent -= usize::from(index < self.publishes_sent);
        Some(slot)
    }

    /// Appends a packet, not larger than the arena, to it.
    fn keep(&mut self, message: &Outgoing<'_>) -> Result<u32, Full> {
        let len = message.packet_len();
        if len > BYTES - self.end {
            if len > BYTES - (self.end - self.start) {
                return Err(Full::ForNow);
            }
            slice::shift(&mut self.arena, self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if let Some(span) = self.arena.get_mut(self.end..self.end + len)
            && let Some((head, payload)) = span.split_at_mut_checked(message.head_len())
        {
            message.write_head(head);
            slice::copy(payload, message.payload().as_bytes());
        }
        self.end += len;
        Ok(len as u32)
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        self.arrivals.iter().position(|arrival| arrival.id == id)
    }
}

impl<const FLIGHTS: usize, const BYTES: usize> Default for Fixed<FLIGHTS, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const FLIGHTS: usize, const BYTES: usize> Store for Fixed<FLIGHTS, BYTES> {
    fn capacity(&self) -> Capacity {
        Capacity { flights: FLIGHTS as u16, arrivals: FLIGHTS as u16 }
    }

    fn clear(&mut self) {
        self.publishes.clear();
        self.released.clear();
        self.arrivals.clear();
        (self.publishes_sent, self.released_sent) = (0, 0);
        (self.start, self.end) = (0, 0);
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        match self.publishes.iter().find(|slot| slot.id == id) {
            Some(slot) => Some(slot.flight),
            None => self.released.iter().find(|slot| slot.id == id).map(|slot| slot.flight),
        }
    }

    fn flights(&self) -> usize {
        self.publishes.len() + self.released.len()
    }

    fn unsent_publishes(&self) -> usize {
        self.publishes.len() - self.publishes_sent
    }

    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        if message.is_some_and(|message| BYTES > 0 && message.packet_len() > BYTES) {
            return Err(Full::ForEver);
        }
        if self.flights() >= FLIGHTS {
            return Err(Full::ForNow);
        }
        let len = match message {
            Some(message) if BYTES > 0 => self.keep(message)?,
            _ => 0,
        };
        // A push has been made sure of.
        let _ = self.publishes.push(Slot { id, flight: Flight::new(qos), len });
        self.publishes_sent = self.publishes.len();
        Ok(())
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        if self.take_publish(id).is_some() {
            // It was one of `FLIGHTS` before.
            let _ = self.released.push(Slot { id, flight: to, len: 0 });
        }
    }

    fn finish(&mut self, id: PacketId) {
        if let Some(index) = self.released.iter().position(|slot| slot.id == id) {
            slice::remove(&mut self.released, index);
            self.released_sent -= usize::from(index < self.released_sent);
        } else {
            self.take_publish(id);
        }
    }

    fn rewind(&mut self) {
        (self.publishes_sent, self.released_sent) = (0, 0);
    }

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        if let Some(slot) = self.released.get(self.released_sent) {
            let packet = (&[][..], Payload::default());
            return Some(Unsent { id: slot.id, flight: slot.flight, packet });
        }
        let slot = *self.publishes.get(self.publishes_sent)?;
        let sent = self.publishes.iter().take(self.publishes_sent);
        let from = self.start + sent.map(|slot| slot.len as usize).sum::<usize>();
        let bytes = self.arena.get(from..from + slot.len as usize).unwrap_or_default();
        Some(Unsent { id: slot.id, flight: slot.flight, packet: (bytes, Payload::default()) })
    }

    fn mark_sent(&mut self, id: PacketId) {
        if self.released.get(self.released_sent).is_some_and(|slot| slot.id == id) {
            self.released_sent += 1;
        } else if self.publishes.get(self.publishes_sent).is_some_and(|slot| slot.id == id) {
            self.publishes_sent += 1;
        }
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.arrivals.iter().find(|arrival| arrival.id == id).copied()
    }

    fn arrivals(&self) -> usize {
        self.arrivals.len()
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.arrivals.iter().find(|arrival| arrival.is_unanswered()).copied()
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.remove_arrival(arrival.id);
        self.arrivals.push(arrival).map_err(|_| Full::ForNow)
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        if let Some(kept) = self.position(arrival.id).and_then(|i| self.arrivals.get_mut(i)) {
            *kept = arrival;
        }
    }

    fn remove_arrival(&mut self, id: PacketId) {
        if let Some(index) = self.position(id) {
            slice::remove(&mut self.arrivals, index);
        }
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        self.arrivals.retain_mut(keep);
    }
}
