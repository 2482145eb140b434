//! What the client is sent, within its limits, until it has acknowledged.

use std::collections::VecDeque;

use mqtt_core::{
    Properties, Property, Publish, QoS, ReasonCode, Topic, Version,
    wire::{Delivery, Packet},
};

use super::{Note, known, write};

/// The messages of a session that are not finished, and the rules for the client's answers.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Sent at least once, in order.
    flights: Vec<Flight>,
    /// Not sent yet.
    queue: VecDeque<Waiting>,
    /// To be sent at QoS 0.
    now: Vec<Waiting>,
    last_id: u16,
    /// What the client has yet to answer on this connection, in order.
    expected: VecDeque<(u16, QoS)>,
    receive_maximum: usize,
    alias_maximum: u16,
    aliases: Vec<String>,
}

#[derive(Debug)]
struct Flight {
    id: u16,
    message: Waiting,
    released: bool,
    /// What is due was sent on this connection.
    sent: bool,
    /// PUBLISH was sent on this connection: it counts.
    counted: bool,
    /// PUBLISH was sent before.
    dup: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    note: Note,
    identifiers: Vec<u32>,
}

impl Outbound {
    pub(super) fn begin(&mut self, receive_maximum: u16, alias_maximum: u16) {
        self.expected.clear();
        self.aliases.clear();
        self.receive_maximum = receive_maximum.into();
        self.alias_maximum = alias_maximum;
        for flight in &mut self.flights {
            (flight.sent, flight.counted) = (false, false);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len() + self.queue.len()
    }

    pub(super) fn enqueue(&mut self, note: Note, identifiers: Vec<u32>, is_here: bool) {
        let message = Waiting { note, identifiers };
        if message.note.qos > QoS::AtMostOnce {
            self.queue.push_back(message);
        } else if is_here {
            self.now.push(message);
        }
    }

    /// The packets that may be sent now.
    pub(super) fn pump(&mut self, version: Version, maximum: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for message in std::mem::take(&mut self.now) {
            self.send(&mut out, version, maximum, Delivery::default(), &message);
        }
        for flight in self.flights.iter_mut().filter(|flight| flight.released && !flight.sent) {
            write(&mut out, version, &Packet::PubRel(known(flight.id), Default::default()));
            flight.sent = true;
        }
        loop {
            let counted = self.flights.iter().filter(|flight| flight.counted).count();
            if counted >= self.receive_maximum {
                return out;
            }
            let unsent = self.flights.iter().position(|flight| !flight.sent);
            let index = match (unsent, self.queue.pop_front()) {
                (Some(index), queued) => {
                    queued.into_iter().for_each(|queued| self.queue.push_front(queued));
                    index
                }
                (None, Some(message)) => {
                    let (id, released, sent) = (self.free_id(), false, false);
                    let (counted, dup) = (false, false);
                    self.flights.push(Flight { id, message, released, sent, counted, dup });
                    self.flights.len() - 1
                }
                (None, None) => return out,
            };
            let Flight { id, dup, .. } = self.flights[index];
            let message = self.flights[index].message.clone();
            let delivery = Delivery { packet_id: Some(known(id)), dup };
            if self.send(&mut out, version, maximum, delivery, &message) {
                self.expected.push_back((id, message.note.qos));
                let flight = &mut self.flights[index];
                (flight.sent, flight.counted, flight.dup) = (true, true, true);
            } else {
                // As if it had been acknowledged [MQTT-3.1.2-25].
                self.flights.remove(index);
            }
        }
    }

    /// A low number that is not in use, so that numbers recur.
    fn free_id(&mut self) -> u16 {
        let numbers = self.flights.len() as u16 + 8;
        loop {
            self.last_id = self.last_id % numbers + 1;
            if self.flights.iter().all(|flight| flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Writes a PUBLISH, unless it is too large for the client [MQTT-3.1.2-24].
    fn send(
        &mut self,
        out: &mut Vec<u8>,
        version: Version,
        maximum: usize,
        delivery: Delivery,
        message: &Waiting,
    ) -> bool {
        let note = &message.note;
        let identifiers = message.identifiers.iter();
        let mut properties: Vec<_> =
            identifiers.map(|id| Property::SubscriptionIdentifier(*id)).collect();
        let mut topic = Topic::new(&note.topic).expect("a topic");
        let found = self.aliases.iter().position(|name| *name == note.topic);
        let new = found.is_none() && self.aliases.len() < self.alias_maximum.into();
        if let Some(index) = found {
            properties.push(Property::TopicAlias(index as u16 + 1));
            topic = Topic::default();
        } else if new {
            properties.push(Property::TopicAlias(self.aliases.len() as u16 + 1));
        }
        let publish = Publish {
            topic,
            payload: note.payload[..].into(),
            qos: note.qos,
            retain: note.retain,
            properties: match version.is_v5() {
                true => Properties::from(&properties[..]),
                false => Properties::EMPTY,
            },
        };
        let packet = Packet::Publish(delivery, publish);
        let fits = packet.encoded_len(version).is_ok_and(|len| len <= maximum);
        if fits {
            write(out, version, &packet);
            if new {
                self.aliases.push(note.topic.clone());
            }
        }
        fits
    }

    pub(super) fn ack(&mut self, id: u16) -> Result<(), String> {
        self.answered(id, QoS::AtLeastOnce)?;
        self.flights.retain(|flight| flight.id != id);
        Ok(())
    }

    pub(super) fn rec(&mut self, id: u16, reason: ReasonCode) -> Result<(), String> {
        self.answered(id, QoS::ExactlyOnce)?;
        if reason.is_error() {
            self.flights.retain(|flight| flight.id != id);
        } else if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == id) {
            (flight.released, flight.sent) = (true, false);
        }
        Ok(())
    }

    pub(super) fn comp(&mut self, id: u16) -> Result<(), String> {
        let found = |flight: &Flight| flight.id == id && flight.released && flight.sent;
        if !self.flights.iter().any(found) {
            return Err(format!("completes {id}, which was not released [MQTT-4.3.3-11]"));
        }
        self.flights.retain(|flight| flight.id != id);
        Ok(())
    }

    /// Acknowledgements come in the order of the messages.
    fn answered(&mut self, id: u16, qos: QoS) -> Result<(), String> {
        match self.expected.pop_front() {
            Some(expected) if expected == (id, qos) => Ok(()),
            expected => {
                Err(format!("acknowledges {id} at {qos:?}; due is {expected:?} [MQTT-4.6.0-2]"))
            }
        }
    }
}
