//! Who may hear what, and how much there may be of everything.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{
    Filter, Publish, Topic, Version,
    broker::{Broker, Config, ConnectionId, Memory},
    wire::{Decoded, Packet},
};

/// Sees all packets of all connections.
#[derive(Debug, Default)]
pub(super) struct Observer {
    ends: BTreeMap<ConnectionId, End>,
    /// What each client has asked for since its last clean start.
    filters: BTreeMap<String, BTreeSet<String>>,
    /// Topics and payloads of all messages, wills included.
    published: BTreeSet<(String, Vec<u8>)>,
}

/// A client's connection.
#[derive(Debug)]
struct End {
    version: Version,
    name: String,
    /// Topics by alias, towards the broker and from it.
    aliases: [BTreeMap<u16, String>; 2],
}

impl End {
    /// The topic of a PUBLISH, if it has one.
    fn topic(&mut self, direction: usize, publish: &Publish<'_>) -> Option<String> {
        let (topic, aliases) = (publish.topic.as_str(), &mut self.aliases[direction]);
        match publish.properties.topic_alias() {
            Some(alias) if topic.is_empty() => aliases.get(&alias).cloned(),
            Some(alias) => {
                aliases.insert(alias, topic.into());
                Some(topic.into())
            }
            None => Some(topic.into()),
        }
    }
}

impl Observer {
    /// The broker has taken these bytes: packets, unless it found something wrong.
    pub(super) fn taken(&mut self, from: ConnectionId, mut bytes: &[u8]) {
        loop {
            let version = self.ends.get(&from).map_or(Version::V5, |end| end.version);
            let Ok(Decoded::Packet { packet, len }) = Packet::decode(version, bytes) else {
                return;
            };
            self.heard(from, &packet);
            bytes = &bytes[len..];
        }
    }

    fn heard(&mut self, from: ConnectionId, packet: &Packet<'_>) {
        if let Packet::Connect(version, connect) = packet {
            let name = match connect.client_id.as_str() {
                "" => format!("{from:?}"),
                name => name.into(),
            };
            let filters = self.filters.entry(name.clone()).or_default();
            if connect.clean_start {
                filters.clear();
            }
            if let Some(will) = &connect.will {
                self.published.insert((will.topic.as_str().into(), will.payload.into()));
            }
            let end = End { version: *version, name, aliases: Default::default() };
            self.ends.insert(from, end);
        }
        let Some(end) = self.ends.get_mut(&from) else { return };
        match packet {
            Packet::Publish(_, publish) => {
                if let Some(topic) = end.topic(0, publish) {
                    self.published.insert((topic, publish.payload.as_bytes().into()));
                }
            }
            Packet::Subscribe(_, subscribe) => {
                let filters = self.filters.entry(end.name.clone()).or_default();
                filters
                    .extend(subscribe.subscriptions.iter().map(|one| one.filter.as_str().into()));
            }
            _ => {}
        }
    }

    /// The broker has written these packets.
    ///
    /// # Panics
    ///
    /// If a message is among them that nobody has published, or that the client has not asked for.
    pub(super) fn written(&mut self, to: ConnectionId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let version = self.ends.get(&to).map_or(Version::V5, |end| end.version);
            let (packet, len) = match Packet::decode(version, bytes) {
                Ok(Decoded::Packet { packet, len }) => (packet, len),
                // Who has not connected is refused in the words of a version that is not known here.
                other => return assert!(!self.ends.contains_key(&to), "{other:?} {bytes:02x?}"),
            };
            bytes = &bytes[len..];
            let Packet::Publish(_, publish) = packet else { continue };
            let end = self.ends.get_mut(&to).expect("a client");
            let topic = end.topic(1, &publish).expect("an alias that was set");
            let is_for_it = |filter: &String| {
                let filter = Filter::new(filter).expect("a filter");
                let inner = filter.shared().map_or(filter, |(_, inner)| inner);
                inner.matches(Topic::new(&topic).expect("a topic"))
            };
            let filters = &self.filters[&end.name];
            assert!(filters.iter().any(is_for_it), "cross-talk: {topic} comes to {end:?}");
            let message = (topic, publish.payload.as_bytes().to_vec());
            assert!(self.published.contains(&message), "{message:?} was not published");
        }
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.ends.remove(&connection);
    }
}

/// Nothing grows beyond its limit.
///
/// # Panics
///
/// If it does.
pub(super) fn check_limits<M: Memory>(broker: &Broker<M>, config: &Config, most: usize) {
    assert!(broker.bytes() <= most, "{} bytes", broker.bytes());
    assert!(broker.sessions() <= config.sessions, "{} sessions", broker.sessions());
    assert!(broker.retained() <= config.retained_messages, "{} retained", broker.retained());
    let mut next = broker.next_session(0);
    while let Some((place, client)) = next {
        assert!(client.in_flight <= config.in_flight.into(), "{client:?}");
        assert!(client.waiting <= config.queue_messages, "{client:?}");
        assert!(client.waiting_bytes <= config.queue_bytes, "{client:?}");
        assert!(client.connection.is_none() || client.ends.is_none(), "{client:?}");
        next = broker.next_session(place + 1);
    }
}
