//! What a broker must, may and must not do.

mod delivering;
mod parts;
mod publishing;

use std::{collections::BTreeMap, rc::Rc};

use mqtt_core::{
    Connect, Disconnect, Instant, PacketId, QoS, ReasonCode, RetainHandling, Subscribe,
    Unsubscribe, Version,
    broker::{Config, ConnectionId, Statistics},
    wire::{Decoded, Packet, PacketType},
};

use parts::{Answer, Link, Message, Owed, Session, Shared, Wanted, Will};

/// An oracle of a broker: it is given every packet that the broker takes and every one that it writes,
/// one after the other, and panics at the first that is wrong.
///
/// It knows of each message and each session whether the message must be written, may be, or must not;
/// at which QoS, with which flags, identifiers and properties; in which order; and what every request
/// is to be answered. It knows nothing of bytes, room and memory, nor of whose turn it is in a group: what
/// depends on these may happen. It is one packet behind at most: a broker that is watched takes
/// one packet at a time.
#[derive(Debug)]
pub struct Model {
    config: Config,
    is_denied: fn(&str) -> bool,
    links: BTreeMap<ConnectionId, Link>,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Rc<Message>>,
    shared: Vec<Shared>,
    batch: u64,
    packets: u64,
    serial: u64,
    /// How many messages were dropped because too many waited: at least, at most.
    overflow: (u64, u64),
    /// How many at QoS 0 were dropped by the last look.
    unread: u64,
    outcomes: BTreeMap<(String, Vec<u8>, QoS), Outcome>,
    routed: BTreeMap<Vec<u8>, usize>,
    begun: BTreeMap<String, usize>,
    /// A client whose session is another's, too, may break rules.
    pub contested: Option<String>,
    /// Everything is printed.
    pub is_traced: bool,
}

/// How often a message was sent to a client, the same again not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sent for the first time.
    pub begun: usize,
    /// The client has acknowledged it.
    pub completed: usize,
}

/// What a broker tells of itself.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// How many sessions there are.
    pub sessions: usize,
    /// How many messages are retained.
    pub retained: usize,
    /// How many bytes of messages are kept.
    pub bytes: usize,
    /// What was dropped.
    pub statistics: Statistics,
}

/// How many bytes of an unfinished packet show that a client lives.
const PROGRESS: usize = 256;

/// The broker looks at its clock ten times a second: what is due comes at the next of these ticks.
const fn tick_after(at: Instant) -> Instant {
    Instant::from_millis((at.as_millis() / 100 + 1) * 100)
}

impl Model {
    /// A broker without clients. What `is_denied` says of a topic or a filter is what its host does.
    pub fn new(config: Config, is_denied: fn(&str) -> bool) -> Self {
        Self {
            config,
            is_denied,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            shared: Vec::new(),
            batch: 0,
            packets: 0,
            serial: 0,
            overflow: (0, 0),
            unread: 0,
            outcomes: BTreeMap::new(),
            routed: BTreeMap::new(),
            begun: BTreeMap::new(),
            contested: None,
            is_traced: false,
        }
    }

    /// What was sent to clients, by client, payload and QoS.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, &[u8], QoS, Outcome)> {
        let outcomes = self.outcomes.iter();
        outcomes.map(|((name, payload, qos), outcome)| (&name[..], &payload[..], *qos, *outcome))
    }

    /// How often a message with this payload was taken.
    pub fn routed(&self, payload: &[u8]) -> usize {
        self.routed.get(payload).copied().unwrap_or(0)
    }

    /// How many packets have been taken and written.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// How many sessions a client has had.
    pub fn begun(&self, name: &str) -> usize {
        self.begun.get(name).copied().unwrap_or(0)
    }

    /// The topics that have a retained message.
    pub fn retained(&self) -> impl Iterator<Item = &str> {
        self.retained.keys().map(|topic| &topic[..])
    }

    /// The connections that have been accepted, and are not gone.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.links.keys().copied().collect()
    }

    /// The version that is spoken on a connection.
    pub fn version(&self, connection: ConnectionId) -> Version {
        self.links[&connection].version
    }

    /// The broker has taken a packet.
    ///
    /// # Panics
    ///
    /// If it should not have.
    pub fn heard(&mut self, now: Instant, from: ConnectionId, bytes: &[u8]) {
        (self.batch, self.packets) = (self.batch + 1, self.packets + 1);
        let version = self.links.get(&from).map_or(Version::V5, |link| link.version);
        let packet = match Packet::decode(version, bytes) {
            Ok(Decoded::Packet { packet, len }) if len == bytes.len() => packet,
            other => panic!("{bytes:02x?} was taken: {other:?}"),
        };
        if self.is_traced {
            let name = self.links.get(&from).map_or("?", |link| &link.name);
            println!("{:7} {name} -> {packet:?}", now.as_millis());
        }
        if let Packet::Connect(version, connect) = packet {
            return self.on_connect(now, from, version, &connect);
        }
        let link = self.links.get_mut(&from).expect("a connection");
        (link.heard, link.stirred, link.trickled) = (now, now, 0);
        let name = link.name.clone();
        match packet {
            Packet::Publish(delivery, publish) => self.on_publish(now, from, delivery, &publish),
            Packet::PubAck(id, ack) => self.on_ack(&name, id, QoS::AtLeastOnce, ack.reason),
            Packet::PubRec(id, ack) => self.on_rec(from, id, ack.reason),
            Packet::PubComp(id, _) => self.on_comp(&name, id),
            Packet::PubRel(id, _) => {
                self.session(&name).inbound.remove(&id);
                self.owe_answer(from, PacketType::PubComp, Some(id), None);
            }
            Packet::Subscribe(id, subscribe) => self.on_subscribe(from, id, &subscribe),
            Packet::Unsubscribe(id, unsubscribe) => self.on_unsubscribe(from, id, &unsubscribe),
            Packet::PingReq => self.owe_answer(from, PacketType::PingResp, None, None),
            Packet::Disconnect(disconnect) => self.on_disconnect(now, from, &disconnect),
            other => panic!("{other:?} was taken"),
        }
    }

    /// The broker has written a packet.
    ///
    /// # Panics
    ///
    /// If it should not have.
    pub fn written(&mut self, now: Instant, to: ConnectionId, packet: &Packet<'_>) {
        self.packets += 1;
        let batch = self.batch;
        let link = self.links.get_mut(&to).expect("a connection");
        if self.is_traced {
            println!("{:7} {} <- {packet:?}", now.as_millis(), link.name);
        }
        assert!(link.over.is_none_or(|over| over == batch), "{packet:?} after the end");
        let mut id = None;
        let mut reasons = Vec::new();
        let kind = match packet {
            Packet::Publish(delivery, publish) => {
                return self.on_delivery(now, to, *delivery, publish);
            }
            Packet::PubRel(id, _) => return self.on_release(to, *id),
            Packet::Disconnect(_) => return assert!(link.over.is_some(), "{packet:?}"),
            Packet::ConnAck(ack) => {
                let present = self.links[&to].answers.front().and_then(|answer| answer.id);
                let told = ack.session_present || self.links[&to].version == Version::V3_1;
                assert!(told || present.is_none(), "the session is there [MQTT-3.2.2-3]");
                assert!(!ack.session_present || present.is_some(), "no session [MQTT-3.2.2-2]");
                id = present;
                PacketType::ConnAck
            }
            Packet::PubAck(acked, ack)
            | Packet::PubRec(acked, ack)
            | Packet::PubComp(acked, ack) => {
                id = Some(*acked);
                reasons.push(ack.reason);
                match packet {
                    Packet::PubAck(..) => PacketType::PubAck,
                    Packet::PubRec(..) => PacketType::PubRec,
                    _ => PacketType::PubComp,
                }
            }
            Packet::SubAck(acked, ack) => {
                id = Some(*acked);
                reasons.extend(ack.reasons);
                PacketType::SubAck
            }
            Packet::UnsubAck(acked, ack) => {
                id = Some(*acked);
                reasons.extend(ack.reasons);
                PacketType::UnsubAck
            }
            Packet::PingResp => PacketType::PingResp,
            other => panic!("{other:?} was written"),
        };
        self.on_answer(to, kind, id, &reasons);
    }

    /// The first answer of its kind that is owed: in the order of the requests.
    fn on_answer(
        &mut self,
        to: ConnectionId,
        packet: PacketType,
        id: Option<PacketId>,
        reasons: &[ReasonCode],
    ) {
        let link = self.links.get_mut(&to).expect("a connection");
        let index = link.answers.iter().position(|answer| answer.packet == packet);
        let index = index.unwrap_or_else(|| panic!("{packet:?} {id:?} was not asked for"));
        let answer = link.answers.remove(index).expect("it");
        assert_eq!(id, answer.id, "{packet:?} out of turn");
        if let Some(expected) = answer.reasons {
            assert_eq!(reasons, expected, "{packet:?} {id:?}");
        }
    }

    fn owe_answer(
        &mut self,
        to: ConnectionId,
        packet: PacketType,
        id: Option<PacketId>,
        reasons: Option<Vec<ReasonCode>>,
    ) {
        let link = self.links.get_mut(&to).expect("a connection");
        link.answers.push_back(Answer { packet, id, reasons });
    }

    fn session(&mut self, name: &str) -> &mut Session {
        self.sessions.get_mut(name).expect("a session")
    }

    /// The connection of a session.
    fn link_of(&self, name: &str) -> Option<&Link> {
        let serial = self.sessions.get(name)?.link?;
        self.links.values().find(|link| link.serial == serial)
    }

    fn on_connect(
        &mut self,
        now: Instant,
        from: ConnectionId,
        version: Version,
        connect: &Connect<'_>,
    ) {
        let name = connect.client_id.as_str();
        self.tick_session(now, name);
        self.end_silent(now, name);
        if let Some(serial) = self.sessions.get(name).and_then(|session| session.link) {
            let session = self.session(name);
            if connect.clean_start {
                session.expiry = 0;
            }
            let batch = self.batch;
            let old = self.links.values_mut().find(|link| link.serial == serial);
            old.expect("a connection").over = Some(batch);
            self.detach(now, name);
        }
        if connect.clean_start {
            self.end_session(now, name);
        }
        self.serial += 1;
        let present = self.sessions.contains_key(name);
        *self.begun.entry(name.into()).or_default() += usize::from(!present);
        let most = self.config.session_expiry_maximum;
        let session = self.sessions.entry(name.into()).or_default();
        session.expiry = match version {
            Version::V5 => connect.session_expiry_interval.min(most),
            _ if connect.clean_start => 0,
            _ => most,
        };
        (session.link, session.ends) = (Some(self.serial), None);
        session.will = Will::of(connect);
        let bound = self.config.in_flight;
        let assumed = self.config.assumed_receive_maximum;
        let told = if version.is_v5() { connect.receive_maximum } else { assumed };
        let link = Link {
            serial: self.serial,
            name: name.into(),
            version,
            receive_maximum: told.min(bound),
            maximum_packet_size: connect.maximum_packet_size.filter(|_| version.is_v5()),
            keep_alive: connect.keep_alive,
            heard: now,
            stirred: now,
            trickled: 0,
            inbound_aliases: BTreeMap::new(),
            outbound_aliases: BTreeMap::new(),
            answers: [].into(),
            astray: Default::default(),
            over: None,
        };
        self.links.insert(from, link);
        // The number stands for a session that is there.
        self.owe_answer(from, PacketType::ConnAck, present.then_some(PacketId::FIRST), None);
    }

    fn on_subscribe(&mut self, from: ConnectionId, id: PacketId, subscribe: &Subscribe<'_>) {
        let (name, version) = (self.links[&from].name.clone(), self.links[&from].version);
        let identifier = subscribe.properties.subscription_identifier();
        let mut reasons = Vec::new();
        for subscription in subscribe.subscriptions {
            let granted = match subscription.qos {
                QoS::AtMostOnce => ReasonCode::Success,
                QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
                QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
            };
            let filter = subscription.filter.as_str();
            if (self.is_denied)(filter) {
                reasons.push(match version {
                    Version::V5 => ReasonCode::NotAuthorized,
                    Version::V3_1_1 => ReasonCode::UnspecifiedError,
                    Version::V3_1 => granted,
                });
                continue;
            }
            reasons.push(granted);
            let wanted = Wanted::new(&subscription, identifier);
            self.subscribe(&name, filter, wanted, subscription.retain_handling);
        }
        self.owe_answer(from, PacketType::SubAck, Some(id), Some(reasons));
    }

    fn subscribe(&mut self, name: &str, filter: &str, wanted: Wanted, handling: RetainHandling) {
        let open: Vec<_> =
            self.retained.values().filter(|one| one.is_for(filter)).cloned().collect();
        let session = self.session(name);
        let old = session.subscriptions.insert(filter.into(), wanted);
        let brings_retained = match handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => old.is_none(),
            RetainHandling::DoNotSend => false,
        };
        let mut owed = session.owed.iter_mut().filter(|owed| owed.filter == filter);
        if !brings_retained {
            owed.for_each(|owed| owed.wanted.push(wanted));
        } else if !filter.starts_with("$share/") {
            owed.by_ref().for_each(Owed::end);
            let must = open.iter().map(|message| message.topic.clone()).collect();
            let (filter, wanted) = (filter.into(), vec![wanted]);
            session.owed.push(Owed { filter, wanted, open, must, left: usize::MAX });
        }
    }

    fn on_unsubscribe(&mut self, from: ConnectionId, id: PacketId, unsubscribe: &Unsubscribe<'_>) {
        let (name, version) = (self.links[&from].name.clone(), self.links[&from].version);
        let session = self.session(&name);
        let (mut reasons, mut left) = (Vec::new(), Vec::new());
        for filter in unsubscribe.filters {
            let filter = filter.as_str();
            let was = session.subscriptions.remove(filter).is_some();
            left.extend(was.then(|| filter.to_string()));
            let none = ReasonCode::NoSubscriptionExisted;
            reasons.push(if was { ReasonCode::Success } else { none });
            session.owed.iter_mut().filter(|owed| owed.filter == filter).for_each(Owed::end);
        }
        left.iter().for_each(|filter| self.forget_group(filter));
        if !version.is_v5() {
            reasons.clear();
        }
        self.owe_answer(from, PacketType::UnsubAck, Some(id), Some(reasons));
    }

    fn on_disconnect(&mut self, now: Instant, from: ConnectionId, disconnect: &Disconnect<'_>) {
        let most = self.config.session_expiry_maximum;
        let name = self.links[&from].name.clone();
        let session = self.session(&name);
        if let Some(expiry) = disconnect.properties.session_expiry_interval() {
            session.expiry = expiry.min(most);
        }
        if disconnect.reason == ReasonCode::Success {
            session.will = None;
        }
        self.end_link(now, from);
    }

    /// The transport is gone.
    pub fn closed(&mut self, now: Instant, connection: ConnectionId) {
        self.batch += 1;
        if let Some(link) = self.links.get(&connection).filter(|_| self.is_traced) {
            println!("{:7} {} is gone", now.as_millis(), link.name);
        }
        self.end_link(now, connection);
        self.links.remove(&connection);
    }

    fn end_link(&mut self, now: Instant, connection: ConnectionId) {
        let batch = self.batch;
        let Some(link) = self.links.get_mut(&connection) else { return };
        if link.over.is_none() {
            link.over = Some(batch);
            let name = link.name.clone();
            self.detach(now, &name);
        }
    }

    /// The broker ends these connections, unless it has before.
    ///
    /// # Panics
    ///
    /// If it has no reason to.
    pub fn ended(&mut self, now: Instant, is_ended: impl Fn(ConnectionId) -> bool) {
        let open = self.links.iter().filter(|(_, link)| link.over.is_none());
        let ended: Vec<_> = open.map(|(id, _)| *id).filter(|id| is_ended(*id)).collect();
        for id in ended {
            let link = &self.links[&id];
            let silence = now.since(link.heard);
            let is_odd = self.contested.as_ref() == Some(&link.name);
            assert!(
                link.is_silent(now) || is_odd,
                "{} was sent away after {silence} ms",
                link.name
            );
            self.end_link(now, id);
        }
    }

    /// A connection that has been silent for too long is over before another takes its session.
    fn end_silent(&mut self, now: Instant, name: &str) {
        let silent = self
            .links
            .iter()
            .find(|(_, link)| link.over.is_none() && link.name == name && link.is_silent(now));
        if let Some(id) = silent.map(|(id, _)| *id) {
            self.end_link(now, id);
        }
    }

    /// So many bytes have come that may not be a whole packet yet: a sign of life, if there are enough.
    pub fn stirred(&mut self, now: Instant, connection: ConnectionId, bytes: usize) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        link.trickled += bytes;
        if link.trickled >= PROGRESS {
            (link.stirred, link.trickled) = (now, 0);
        }
    }

    /// The clock has made the broker do something. `left` says what it still has of a session without a
    /// connection: nothing, or whether there is a will.
    ///
    /// What is due must be done by the tick after, and may be by one at the same time: another alarm
    /// of the session may have gone off then.
    pub fn ticked(
        &mut self,
        now: Instant,
        is_ended: impl Fn(ConnectionId) -> bool,
        left: impl Fn(&str) -> Option<bool>,
    ) {
        self.batch += 1;
        self.ended(now, is_ended);
        let is_due = |at: Option<Instant>, is_done: bool| {
            at.is_some_and(|at| if is_done { at <= now } else { tick_after(at) <= now })
        };
        let due = self.sessions.iter().filter(|(name, session)| {
            let will = session.will.as_ref().and_then(|will| will.due);
            let left = left(name);
            session.link.is_none()
                && (is_due(session.ends, left.is_none()) || is_due(will, left != Some(true)))
        });
        let names: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.tick_session(now, name));
    }

    fn tick_session(&mut self, now: Instant, name: &str) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        if session.link.is_some() {
            return;
        }
        if session.ends.is_some_and(|at| at <= now) {
            self.end_session(now, name);
        } else if let Some(will) = session.will.take_if(|will| will.due.is_some_and(|at| at <= now))
        {
            self.publish_will(now, will);
        }
    }

    /// A session has lost its connection.
    fn detach(&mut self, now: Instant, name: &str) {
        let session = self.session(name);
        session.link = None;
        if session.expiry == 0 {
            return self.end_session(now, name);
        }
        let seconds = u64::from(session.expiry);
        session.ends = (session.expiry < u32::MAX).then(|| now + seconds * 1_000);
        if let Some(will) = &mut session.will {
            will.due = Some(now + u64::from(will.delay) * 1_000);
        }
        // What is at QoS 0 does not wait for a client that is not there.
        session.waiting.retain(|entry| entry.qos > QoS::AtMostOnce);
        for Owed { wanted, open, must, .. } in &mut session.owed {
            let asks =
                |level: QoS| wanted.iter().any(|wanted| wanted.qos.min(level) == QoS::AtMostOnce);
            let fleeting = open.iter().filter(|message| asks(message.qos));
            must.retain(|topic| fleeting.clone().all(|message| message.topic != *topic));
        }
        self.tick_session(now, name);
    }

    fn end_session(&mut self, now: Instant, name: &str) {
        let Some(session) = self.sessions.remove(name) else { return };
        session.subscriptions.keys().for_each(|filter| self.forget_group(filter));
        if let Some(will) = session.will {
            self.publish_will(now, will);
        }
        self.inherit(name, session.flights);
    }

    /// A group without members is forgotten: another of its name need not get what was for this.
    fn forget_group(&mut self, group: &str) {
        if self.sessions.values().any(|session| session.subscriptions.contains_key(group)) {
            return;
        }
        let shared = self.shared.iter_mut().filter(|shared| shared.group == group);
        shared.for_each(|shared| shared.must = false);
        let flights = self.sessions.values_mut().flat_map(|session| &mut session.flights);
        let entries = flights.map(|flight| &mut flight.entry);
        let own = entries.filter(|entry| entry.group.as_deref() == Some(group));
        own.for_each(|entry| entry.must = false);
    }

    /// What is left to others of the messages that were for a member of a group.
    fn inherit(&mut self, name: &str, flights: Vec<parts::Flight>) {
        let members = |sessions: &BTreeMap<String, Session>, group: &str| -> Vec<_> {
            let wanted = |session: &Session| session.subscriptions.get(group).copied();
            let members = sessions.iter().map(|(name, session)| (name.clone(), wanted(session)));
            members.filter_map(|(name, wanted)| Some((name, wanted?))).collect()
        };
        for shared in &mut self.shared {
            if shared.members.iter().any(|(member, _)| member == name) {
                shared.members.retain(|(member, _)| member != name);
                for member in members(&self.sessions, &shared.group) {
                    if !shared.members.contains(&member) {
                        shared.members.push(member);
                    }
                }
                shared.look();
            }
        }
        for flight in flights {
            if let (Some(group), QoS::AtLeastOnce) = (&flight.entry.group, flight.entry.qos) {
                let members = members(&self.sessions, group);
                let message = &flight.entry.message;
                let mut shared = Shared::new(group, message, members, self.batch);
                shared.must &= flight.entry.must;
                self.shared.push(shared);
            }
        }
        self.shared.retain(|shared| !shared.members.is_empty());
    }

    /// What must be after every packet: nobody and nothing is lost, or left over.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn settle(&mut self, now: Instant, counts: &Counts) {
        self.settle_fleeting(now, counts.statistics.dropped_unread);
        assert_eq!(counts.sessions, self.sessions.len(), "sessions");
        let lasting = self.retained.values().filter(|message| !message.has_expired(now)).count();
        let retained = &self.retained;
        assert!(
            (lasting..=retained.len()).contains(&counts.retained),
            "{counts:?}, not {retained:?}"
        );
        let (least, most) = self.overflow;
        let dropped = counts.statistics.dropped_overflow;
        assert!((least..=most).contains(&dropped), "{dropped} of {least} to {most} dropped");
        let bytes = self.bytes();
        assert!(counts.bytes <= bytes, "{} bytes are kept, not {bytes}", counts.bytes);
    }

    /// No fewer than the bytes of all messages that somebody may still get.
    fn bytes(&self) -> usize {
        let session = |session: &Session| {
            let flights = session.flights.iter().map(|flight| &flight.entry);
            let entries = session.waiting.iter().chain(flights);
            let owed = session.owed.iter().flat_map(|owed| &owed.open);
            let will = session.will.iter().map(|will| will.message.kept(0));
            entries.map(|entry| entry.message.kept(entry.identifiers.len())).sum::<usize>()
                + owed.map(|message| message.kept(1)).sum::<usize>()
                + will.sum::<usize>()
        };
        let retained = self.retained.values().map(|message| message.kept(0));
        let shared = self.shared.iter().map(|shared| shared.message.kept(1));
        self.sessions.values().map(session).chain(retained).chain(shared).sum()
    }

    /// What must be when everybody is connected and everything has come to rest: all that had to come
    /// has come.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn rest(&self, now: Instant) {
        for (name, session) in &self.sessions {
            let link = self.link_of(name);
            assert!(link.is_some(), "{name} is connected");
            let waits = session.waiting.iter().find(|entry| entry.is_sure(now, link));
            assert!(waits.is_none(), "{waits:?} did not come to {name}");
            assert!(session.flights.is_empty(), "{:?} did not end for {name}", session.flights);
            for Owed { filter, must, open, .. } in &session.owed {
                let owed = |topic: &String| {
                    let message = self.retained.get(topic)?;
                    // One that was retained before may have waited, and expired.
                    let mut before = open.iter().filter(|one| one.topic == *topic);
                    if before.any(|one| one.has_expired(now)) {
                        return None;
                    }
                    let entry = parts::Entry::new(message, &[], 0);
                    entry.is_sure(now, link).then_some(message)
                };
                let owed = must.iter().find_map(owed);
                assert!(owed.is_none(), "{owed:?}, retained, did not come to {name} by {filter}");
            }
        }
        let links = self.links.values().filter(|link| link.over.is_none());
        for Link { name, answers, .. } in links {
            assert!(answers.is_empty(), "{answers:?} did not come to {name}");
        }
        let surely = |shared: &&Shared| {
            shared.must
                && shared.members.iter().all(|(name, wanted)| {
                    let entry = parts::Entry::new(&shared.message, &[*wanted], 0);
                    entry.is_sure(now, self.link_of(name))
                })
        };
        let shared = self.shared.iter().find(surely);
        assert!(shared.is_none(), "{shared:?} came to nobody");
    }
}
