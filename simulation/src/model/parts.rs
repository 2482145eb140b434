//! What the model remembers.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use mqtt_core::{
    Connect, Filter, Instant, PacketId, Properties, Property, Publish, QoS, ReasonCode,
    Subscription, Topic, Version, wire::PacketType,
};

/// A message apart from how it is sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Those that a subscriber gets, as text.
    pub(super) properties: Vec<String>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expires: Option<Instant>,
}

impl Message {
    /// What is published now, with its topic, which may have been named by an alias.
    pub(super) fn new(now: Instant, topic: &str, publish: &Publish<'_>) -> Rc<Self> {
        let seconds = publish.properties.message_expiry_interval();
        Rc::new(Self {
            topic: topic.into(),
            payload: publish.payload.as_bytes().into(),
            properties: lasting(publish.properties),
            qos: publish.qos,
            retain: publish.retain,
            expires: seconds.map(|seconds| now + u64::from(seconds) * 1_000),
        })
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// No fewer than the bytes that it takes with this many subscription identifiers.
    pub(super) fn size(&self, identifiers: usize) -> usize {
        let properties: usize = self.properties.iter().map(|text| text.len() + 5).sum();
        self.topic.len() + self.payload.len() + properties + 5 * identifiers
    }

    /// No fewer than the bytes that keeping it takes, with what is known of it besides.
    pub(super) fn kept(&self, identifiers: usize) -> usize {
        self.size(identifiers) + 192
    }

    pub(super) fn is_for(&self, filter: &str) -> bool {
        matches(filter, &self.topic)
    }
}

/// The properties that go from publisher to subscriber unaltered.
pub(super) fn lasting(properties: Properties<'_>) -> Vec<String> {
    let is_lasting = |property: &Property<'_>| {
        !matches!(
            property,
            Property::TopicAlias(_)
                | Property::MessageExpiryInterval(_)
                | Property::SubscriptionIdentifier(_)
                | Property::WillDelayInterval(_)
        )
    };
    properties.iter().filter(is_lasting).map(|property| format!("{property:?}")).collect()
}

/// Whether a filter, or that within a shared one, matches.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let filter = Filter::new(filter).expect("a filter");
    let inner = filter.shared().map_or(filter, |(_, inner)| inner);
    inner.matches(Topic::new(topic).expect("a topic"))
}

/// The options of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifier: Option<u32>,
}

impl Wanted {
    pub(super) const fn new(subscription: &Subscription<'_>, identifier: Option<u32>) -> Self {
        let Subscription { qos, no_local, retain_as_published, .. } = *subscription;
        Self { qos, no_local, retain_as_published, identifier }
    }
}

/// A message for one session.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) message: Rc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<u32>,
    /// What made it: of those made at once the order is not known.
    pub(super) batch: u64,
    /// It must come, or else it may.
    pub(super) must: bool,
    /// The shared subscription it comes by.
    pub(super) group: Option<String>,
}

impl Entry {
    /// How a message is for somebody who wants it so.
    pub(super) fn new(message: &Rc<Message>, wanted: &[Wanted], batch: u64) -> Self {
        let qos = wanted.iter().map(|wanted| wanted.qos).max().unwrap_or_default();
        let mut identifiers: Vec<_> = wanted.iter().filter_map(|one| one.identifier).collect();
        identifiers.sort_unstable();
        Self {
            message: message.clone(),
            qos: message.qos.min(qos),
            retain: message.retain && wanted.iter().any(|one| one.retain_as_published),
            identifiers,
            batch,
            must: true,
            group: None,
        }
    }

    /// Whether the client of this connection surely takes it.
    pub(super) fn fits(&self, link: Option<&Link>) -> bool {
        let most = link.and_then(|link| link.maximum_packet_size).unwrap_or(u32::MAX);
        // With fixed header, lengths, identifier, alias and expiry.
        self.message.size(self.identifiers.len()) + 20 <= most as usize
    }

    /// Whether it may be counted upon that it waits and will be sent.
    pub(super) fn is_sure(&self, now: Instant, link: Option<&Link>) -> bool {
        self.must && !self.message.has_expired(now) && self.fits(link)
    }
}

/// A message that was sent and has no end yet.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: PacketId,
    pub(super) entry: Entry,
    /// PUBREC has come.
    pub(super) released: bool,
    /// The connection it was sent on last.
    pub(super) sent_on: u64,
}

/// Retained messages that a subscription brings.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) filter: String,
    /// The options that the subscription has had meanwhile.
    pub(super) wanted: Vec<Wanted>,
    /// The messages that may come.
    pub(super) open: Vec<Rc<Message>>,
    /// The topics of which one must.
    pub(super) must: BTreeSet<String>,
    /// How many may still come.
    pub(super) left: usize,
}

impl Owed {
    /// The subscription is no more, or owed anew: one may be on its way.
    pub(super) fn end(&mut self) {
        self.must.clear();
        self.left = self.left.min(1);
    }
}

/// A message for one member of a group, which is not known yet.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) group: String,
    pub(super) message: Rc<Message>,
    pub(super) members: Vec<(String, Wanted)>,
    pub(super) batch: u64,
    /// It must come: it was never for a member that takes it at QoS 0.
    pub(super) must: bool,
}

impl Shared {
    pub(super) fn new(
        group: &str,
        message: &Rc<Message>,
        members: Vec<(String, Wanted)>,
        batch: u64,
    ) -> Self {
        let (group, message) = (group.into(), message.clone());
        let mut shared = Self { group, message, members, batch, must: true };
        shared.look();
        shared
    }

    /// Looks whether there is a member that takes it at QoS 0.
    pub(super) fn look(&mut self) {
        let is_kept = |wanted: &Wanted| wanted.qos.min(self.message.qos) > QoS::AtMostOnce;
        self.must &= self.members.iter().all(|(_, wanted)| is_kept(wanted));
    }
}

/// A will of a session.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) message: Message,
    pub(super) delay: u32,
    pub(super) expiry: Option<u32>,
    pub(super) due: Option<Instant>,
}

impl Will {
    pub(super) fn of(connect: &Connect<'_>) -> Option<Self> {
        let will = connect.will.as_ref()?;
        let message = Message {
            topic: will.topic.as_str().into(),
            payload: will.payload.into(),
            properties: lasting(will.properties),
            qos: will.qos,
            retain: will.retain,
            expires: None,
        };
        let delay = will.properties.will_delay_interval().unwrap_or(0);
        Some(Self { message, delay, expiry: will.properties.message_expiry_interval(), due: None })
    }
}

/// A session.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// The number of its connection.
    pub(super) link: Option<u64>,
    pub(super) subscriptions: BTreeMap<String, Wanted>,
    pub(super) waiting: Vec<Entry>,
    pub(super) flights: Vec<Flight>,
    pub(super) owed: Vec<Owed>,
    /// The identifiers at QoS 2 that the client has not released.
    pub(super) inbound: BTreeSet<PacketId>,
    pub(super) will: Option<Will>,
    pub(super) expiry: u32,
    pub(super) ends: Option<Instant>,
}

impl Session {
    /// How it wants a message, which it has not published itself unless `is_own`.
    pub(super) fn wanted(&self, message: &Message, is_own: bool) -> Vec<Wanted> {
        let subscriptions = self.subscriptions.iter();
        let matching = subscriptions.filter(|(filter, wanted)| {
            let is_not_for_it = filter.starts_with("$share/") || is_own && wanted.no_local;
            !is_not_for_it && message.is_for(filter)
        });
        matching.map(|(_, wanted)| *wanted).collect()
    }
}

/// An answer that a client is to get.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) packet: PacketType,
    pub(super) id: Option<PacketId>,
    /// What it must say, if that is known.
    pub(super) reasons: Option<Vec<ReasonCode>>,
}

/// A connection of a session.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) serial: u64,
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) receive_maximum: u16,
    pub(super) maximum_packet_size: Option<u32>,
    pub(super) keep_alive: u16,
    /// When a packet was taken last.
    pub(super) heard: Instant,
    /// When that, or enough of one that is not whole yet.
    pub(super) stirred: Instant,
    /// How many bytes have come since.
    pub(super) trickled: usize,
    pub(super) inbound_aliases: BTreeMap<u16, String>,
    pub(super) outbound_aliases: BTreeMap<u16, String>,
    pub(super) answers: VecDeque<Answer>,
    /// Identifiers of PUBREC for nothing.
    pub(super) astray: BTreeSet<PacketId>,
    /// The batch in which it ended.
    pub(super) over: Option<u64>,
}

impl Link {
    /// Whether the client has been silent for longer than it may [MQTT-3.1.2-22].
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.keep_alive > 0 && now.since(self.stirred) >= u64::from(self.keep_alive) * 1_500
    }
}
