//! What is sent to a client, and what it answers.

use mqtt_core::{
    Instant, PacketId, Property, Publish, QoS, ReasonCode,
    broker::ConnectionId,
    wire::{Delivery, Packet},
};

use super::{
    Model,
    parts::{Entry, Flight, Link, Message, Owed, lasting},
};

/// A PUBLISH as it was written.
#[derive(Debug)]
struct Seen<'p> {
    topic: String,
    publish: Publish<'p>,
    properties: Vec<String>,
    identifiers: Vec<u32>,
    v5: bool,
    now: Instant,
}

impl Seen<'_> {
    /// Whether it is this message, with what is left of its time [MQTT-3.3.2-6].
    fn is(&self, message: &Message) -> bool {
        let left = message.expires.map(|at| at.since(self.now).div_ceil(1_000) as u32);
        let of_v5 = (&message.properties, left);
        let told = (&self.properties, self.publish.properties.message_expiry_interval());
        self.topic == message.topic
            && self.publish.payload.as_bytes() == message.payload
            && (!self.v5 || told == of_v5)
    }

    fn is_entry(&self, entry: &Entry) -> bool {
        let flags = (self.publish.qos, self.publish.retain);
        self.is(&entry.message)
            && flags == (entry.qos, entry.retain)
            && (!self.v5 || self.identifiers == entry.identifiers)
    }
}

/// The name of the topic, which may be an alias.
fn name(link: &mut Link, publish: &Publish<'_>) -> String {
    let topic = publish.topic.as_str();
    match publish.properties.topic_alias() {
        Some(alias) if topic.is_empty() => link.outbound_aliases[&alias].clone(),
        Some(alias) => {
            link.outbound_aliases.insert(alias, topic.into());
            topic.into()
        }
        None => topic.into(),
    }
}

/// The retained message that it is, as one of the subscriptions wants it.
fn find_owed(owed: &Owed, seen: &Seen<'_>, batch: u64) -> Option<(usize, Entry)> {
    owed.open.iter().enumerate().find_map(|(index, message)| {
        owed.wanted.iter().find_map(|wanted| {
            let entry = Entry { retain: true, ..Entry::new(message, &[*wanted], batch) };
            let is_it = seen.is_entry(&entry) && !message.has_expired(seen.now);
            is_it.then_some((index, entry))
        })
    })
}

impl Model {
    pub(super) fn on_delivery(
        &mut self,
        now: Instant,
        to: ConnectionId,
        delivery: Delivery,
        publish: &Publish<'_>,
    ) {
        let link = self.links.get_mut(&to).expect("a connection");
        let packet = Packet::Publish(delivery, *publish);
        let len = packet.encoded_len(link.version).expect("it was written");
        let most = link.maximum_packet_size.unwrap_or(u32::MAX) as usize;
        assert!(len <= most, "{len} bytes [MQTT-3.1.2-24]");
        let mut identifiers: Vec<_> = publish
            .properties
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(identifier) => Some(identifier),
                _ => None,
            })
            .collect();
        identifiers.sort_unstable();
        let seen = Seen {
            topic: name(link, publish),
            publish: *publish,
            properties: lasting(publish.properties),
            identifiers,
            v5: link.version.is_v5(),
            now,
        };
        let (client, over) = (link.name.clone(), link.over.is_some());
        if !self.sessions.contains_key(&client) {
            return assert!(over, "no session"); // it has ended with its connection
        }
        match delivery.packet_id {
            Some(id) if self.is_in_flight(&client, to, id, delivery.dup) => {
                self.on_resent(&client, to, id, delivery, &seen);
            }
            id => {
                assert!(!delivery.dup, "{id:?} was not sent before [MQTT-3.3.1-1]");
                self.on_sent(&client, to, id, &seen);
            }
        }
    }

    /// Whether a message under this identifier has been sent before. One that the client does not take
    /// any more was given up.
    fn is_in_flight(&mut self, client: &str, to: ConnectionId, id: PacketId, again: bool) -> bool {
        let link = &self.links[&to];
        let session = self.sessions.get_mut(client).expect("a session");
        let is_lost = |flight: &Flight| {
            !again
                && flight.entry.qos == QoS::AtLeastOnce
                && flight.sent_on != link.serial
                && !flight.entry.fits(Some(link))
        };
        session.flights.retain(|flight| flight.id != id || !is_lost(flight));
        session.flights.iter().any(|flight| flight.id == id)
    }

    /// Once for each connection, in the order of sending [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    fn on_resent(
        &mut self,
        client: &str,
        to: ConnectionId,
        id: PacketId,
        delivery: Delivery,
        seen: &Seen<'_>,
    ) {
        let link = &self.links[&to];
        let session = self.sessions.get_mut(client).expect("a session");
        let index = session.flights.iter().position(|flight| flight.id == id).expect("it");
        let waits = |flight: &Flight| {
            flight.sent_on != link.serial && !flight.released && flight.entry.fits(Some(link))
        };
        let before = session.flights[..index].iter().find(|flight| waits(flight));
        assert!(before.is_none(), "{before:?} was to be sent again before {id}");
        let flight = &mut session.flights[index];
        assert!(delivery.dup && flight.sent_on != link.serial, "{id} is in use [MQTT-2.2.1-4]");
        assert!(!flight.released, "{id} was released [MQTT-4.3.3-6]");
        assert!(seen.is_entry(&flight.entry), "{seen:?} is not {flight:?}");
        flight.sent_on = link.serial;
    }

    /// What waits, is retained, or is for a group; not what has expired [MQTT-3.3.2-5].
    fn on_sent(&mut self, client: &str, to: ConnectionId, id: Option<PacketId>, seen: &Seen<'_>) {
        let entry = self.take_waiting(client, seen).or_else(|| self.take_owed(client, seen));
        let entry = entry.or_else(|| self.take_shared(client, seen));
        let entry = entry.unwrap_or_else(|| panic!("{client} is not to get {seen:?}"));
        let key = (client.to_string(), entry.message.payload.clone(), entry.qos);
        self.outcomes.entry(key).or_default().begun += 1;
        let Some(id) = id else { return };
        let link = &self.links[&to];
        let session = self.sessions.get_mut(client).expect("a session");
        let is_sent = |flight: &&Flight| flight.released || flight.sent_on == link.serial;
        let unsent = |flight: &Flight| !is_sent(&flight) && flight.entry.fits(Some(link));
        let first = session.flights.iter().find(|flight| unsent(flight));
        assert!(first.is_none(), "{first:?} was to be sent again first");
        let count = session.flights.iter().filter(is_sent).count();
        assert!(count < link.receive_maximum.into(), "{count} and one more [MQTT-3.3.4-9]");
        let sent_on = link.serial;
        session.flights.push(Flight { id, entry, released: false, sent_on });
    }

    /// Of what waits, in order [MQTT-4.6.0-6].
    fn take_waiting(&mut self, client: &str, seen: &Seen<'_>) -> Option<Entry> {
        let link = self.link_of(client).map(|link| link.serial);
        let link = self.links.values().find(|other| Some(other.serial) == link);
        let session = self.sessions.get_mut(client)?;
        let is_it = |entry: &Entry| seen.is_entry(entry) && !entry.message.has_expired(seen.now);
        let waiting = &session.waiting;
        let alike: Vec<_> = (0..waiting.len()).filter(|index| is_it(&waiting[*index])).collect();
        let first = *alike.first()?;
        // It is behind all that surely come before it.
        let overtaken = |index: usize| {
            let Entry { qos, batch, .. } = waiting[index];
            let is_before = |entry: &&Entry| entry.batch < batch && qos > QoS::AtMostOnce;
            let before = waiting[..index].iter().filter(is_before);
            before.into_iter().find(|entry| entry.is_sure(seen.now, link))
        };
        // Of two that are alike the one that need not come may have been dropped.
        let (sure, unsure): (Vec<_>, Vec<_>) =
            alike.iter().partition(|index| waiting[**index].must);
        let mut possible = sure.into_iter().chain(unsure);
        let Some(index) = possible.find(|index| overtaken(*index).is_none()) else {
            let is_owed = |owed: &Owed| owed.open.iter().any(|message| seen.is(message));
            assert!(
                session.owed.iter().any(is_owed),
                "{:?} was overtaken by {seen:?}",
                overtaken(first)
            );
            return None; // by a retained one
        };
        let batch = waiting[first].batch;
        let entry = session.waiting.remove(index);
        if entry.qos > QoS::AtMostOnce {
            let mut at = 0;
            session.waiting.retain(|other| {
                at += 1;
                at > first || other.batch >= batch
            });
        }
        Some(entry)
    }

    /// Of what is retained [MQTT-3.3.1-8]: by the oldest subscription that it must come by, or else may.
    fn take_owed(&mut self, client: &str, seen: &Seen<'_>) -> Option<Entry> {
        let (batch, session) = (self.batch, self.sessions.get_mut(client)?);
        // Which of several subscriptions it comes by may show later.
        let may_be = |owed: &&Owed| owed.left > 0 && find_owed(owed, seen, batch).is_some();
        let is_ambiguous = session.owed.iter().filter(may_be).count() > 1;
        for must in [true, false] {
            for owed in session.owed.iter_mut().filter(|owed| owed.left > 0) {
                if must && !owed.must.contains(&seen.topic) {
                    continue;
                }
                let Some((index, entry)) = find_owed(owed, seen, batch) else { continue };
                if !is_ambiguous {
                    owed.open.remove(index);
                }
                owed.must.remove(&seen.topic);
                owed.left -= usize::from(owed.left < usize::MAX);
                return Some(entry);
            }
        }
        None
    }

    /// Of what is for one member of a group [MQTT-4.8.2-4].
    fn take_shared(&mut self, client: &str, seen: &Seen<'_>) -> Option<Entry> {
        let batch = self.batch;
        // Of two that are alike the older may have been dropped.
        let found = self.shared.iter().enumerate().rev().find_map(|(index, shared)| {
            let own = shared.members.iter().filter(|(name, _)| name == client);
            let entries = own.map(|(_, wanted)| Entry::new(&shared.message, &[*wanted], batch));
            let is_it =
                |entry: &Entry| seen.is_entry(entry) && !entry.message.has_expired(seen.now);
            entries.filter(is_it).map(|entry| (index, entry)).next()
        });
        let (index, mut entry) = found?;
        let shared = self.shared.remove(index);
        (entry.group, entry.must) = (Some(shared.group), shared.must);
        Some(entry)
    }

    /// PUBREL: for what is released, or was never there.
    pub(super) fn on_release(&mut self, to: ConnectionId, id: PacketId) {
        let link = self.links.get_mut(&to).expect("a connection");
        let is_astray = link.astray.remove(&id);
        let (name, serial) = (link.name.clone(), link.serial);
        let Some(session) = self.sessions.get(&name) else { return };
        let flight = session.flights.iter().find(|flight| flight.id == id);
        let released = flight.is_some_and(|flight| {
            flight.released || flight.entry.qos == QoS::ExactlyOnce && flight.sent_on != serial
        });
        assert!(released || is_astray, "{id} is not released: {flight:?}");
    }

    /// PUBACK.
    pub(super) fn on_ack(&mut self, client: &str, id: PacketId, qos: QoS, reason: ReasonCode) {
        let session = self.session(client);
        let is_it = |flight: &Flight| flight.id == id && flight.entry.qos == qos;
        let index = session.flights.iter().position(is_it);
        if let Some(index) = index {
            let flight = session.flights.remove(index);
            if !reason.is_error() {
                self.complete(client, &flight);
            }
        }
    }

    /// PUBREC.
    pub(super) fn on_rec(&mut self, from: ConnectionId, id: PacketId, reason: ReasonCode) {
        let link = self.links.get_mut(&from).expect("a connection");
        let client = link.name.clone();
        let session = self.sessions.get_mut(&client).expect("a session");
        let flight = session.flights.iter_mut().find(|flight| flight.id == id);
        match flight {
            Some(flight) if !reason.is_error() => flight.released = true,
            Some(_) => self.on_ack(&client, id, QoS::ExactlyOnce, reason),
            None => drop(link.astray.insert(id)),
        }
    }

    /// PUBCOMP.
    pub(super) fn on_comp(&mut self, client: &str, id: PacketId) {
        self.on_ack(client, id, QoS::ExactlyOnce, ReasonCode::Success);
    }

    fn complete(&mut self, client: &str, flight: &Flight) {
        let Entry { message, qos, .. } = &flight.entry;
        let key = (client.to_string(), message.payload.clone(), *qos);
        self.outcomes.entry(key).or_default().completed += 1;
    }
}
