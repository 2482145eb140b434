//! A reference server: a small model of the server's half of the protocol, written for clarity and
//! apart from the machines it tests.
//!
//! It serves one connection at a time, keeps sessions, and panics, naming the seed, when the client
//! breaks a rule.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{
    Ack, ConnAck, Connect, Filter, Instant, PacketId, Publish, QoS, ReasonCode, SubAck, Text,
    Topic, UnsubAck, Version,
    wire::{Decoded, Packet},
};

use crate::{pair::End, rng::Rng};

mod inbound;
mod outbound;

use inbound::Inbound;
use outbound::Outbound;

/// A message apart from its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its QoS.
    pub qos: QoS,
    /// Its RETAIN flag.
    pub retain: bool,
}

impl Note {
    /// A message that is not retained.
    pub fn new(topic: &str, payload: impl Into<Vec<u8>>, qos: QoS) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos, retain: false }
    }

    fn of(topic: &str, publish: &Publish<'_>) -> Self {
        let payload = publish.payload.as_bytes().to_vec();
        Self { topic: topic.into(), payload, qos: publish.qos, retain: publish.retain }
    }
}

/// How a server behaves, within the rules.
#[derive(Clone, Debug)]
pub struct Manners {
    /// What CONNACK says on 5.0; on 3.1.1 only its reason.
    pub terms: ConnAck<'static>,
    /// Holds answers back, and gives them in any order.
    pub dawdle: bool,
    /// Does nothing at all, but keeps the connection.
    pub frozen: bool,
    /// Names topics by aliases where the client takes them.
    pub aliases: bool,
    /// How many unacknowledged messages it sends at most; on 3.1.1 it is not told.
    pub window: u16,
    /// Refuses messages whose topic begins with `no/` (5.0), and subscriptions to such filters.
    pub refuse: ReasonCode,
    /// Panics when the client is silent for too long, instead of closing the connection.
    pub strict: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            terms: ConnAck::default(),
            dawdle: false,
            frozen: false,
            aliases: false,
            window: u16::MAX,
            refuse: ReasonCode::NotAuthorized,
            strict: true,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Server {
    /// May be changed at any time; the terms hold from the next CONNECT.
    pub manners: Manners,
    /// Messages of the client that were accepted, in order.
    pub accepted: Vec<Note>,
    /// Wills that were published.
    pub wills: Vec<Note>,
    /// Every packet that came on this connection, in short.
    pub log: Vec<String>,
    seed: u64,
    rng: Rng,
    sessions: BTreeMap<String, Session>,
    link: Option<Link>,
    rx: Vec<u8>,
    out: Vec<u8>,
    last_received: Instant,
    now: Instant,
    closing: bool,
    assigned: u32,
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Session {
    subscriptions: BTreeMap<String, (QoS, Option<u32>)>,
    outbound: Outbound,
    inbound: Inbound,
    expiry: u32,
    lost_at: Option<Instant>,
}

/// What does not.
#[derive(Debug)]
struct Link {
    version: Version,
    client: String,
    keep_alive: u16,
    /// What we have told.
    terms: ConnAck<'static>,
    /// What the client has told.
    maximum_packet_size: usize,
    expires: bool,
    will: Option<Note>,
    aliases: BTreeMap<u16, String>,
    /// Identifiers of requests that are not answered.
    requests: BTreeSet<u16>,
    held: Vec<Answer>,
    disconnected: bool,
}

/// An answer to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Ack(u16, ReasonCode),
    Rec(u16, ReasonCode),
    Comp(u16, ReasonCode),
    Sub(u16, Vec<ReasonCode>),
    Unsub(u16, Vec<ReasonCode>),
}

impl Server {
    /// A server without sessions. The seed is named when the client is wrong.
    pub fn new(seed: u64, manners: Manners) -> Self {
        Self {
            manners,
            accepted: Vec::new(),
            wills: Vec::new(),
            log: Vec::new(),
            seed,
            rng: Rng::new(!seed),
            sessions: BTreeMap::new(),
            link: None,
            rx: Vec::new(),
            out: Vec::new(),
            last_received: Instant::default(),
            now: Instant::default(),
            closing: false,
            assigned: 0,
        }
    }

    /// Sends a message to all sessions that subscribe to it, and tells how many.
    ///
    /// # Panics
    ///
    /// If its topic is none.
    pub fn publish(&mut self, note: &Note) -> usize {
        let mut sessions = 0;
        let topic = Topic::new(&note.topic).expect("a topic");
        for (client, session) in &mut self.sessions {
            let mut wanted = None;
            let mut identifiers = Vec::new();
            for (filter, (qos, identifier)) in &session.subscriptions {
                if Filter::new(filter).expect("a filter").matches(topic) {
                    wanted = wanted.max(Some(*qos));
                    identifiers.extend(*identifier);
                }
            }
            let Some(qos) = wanted else { continue };
            let note = Note { qos: note.qos.min(qos), ..note.clone() };
            let is_here = self.link.as_ref().is_some_and(|link| link.client == *client);
            session.outbound.enqueue(note, identifiers, is_here);
            sessions += 1;
        }
        sessions
    }

    /// Forgets all sessions.
    pub fn forget(&mut self) {
        self.sessions.clear();
    }

    /// Ends the connection with this DISCONNECT (5.0).
    pub fn kick(&mut self, reason: ReasonCode) {
        if let Some(link) = &self.link {
            write(&mut self.out, link.version, &Packet::Disconnect(reason.into()));
        }
        self.closing = true;
    }

    /// How many messages the clients have not acknowledged finally.
    pub fn undelivered(&self) -> usize {
        self.sessions.values().map(|session| session.outbound.len()).sum()
    }

    /// Whether the client of this name has a session.
    pub fn remembers(&self, client: &str) -> bool {
        self.sessions.contains_key(client)
    }

    fn violation(&self, what: &str) -> ! {
        panic!("seed {}: the client {what}; it sent {:#?}", self.seed, self.log)
    }

    fn require(&self, right: bool, what: &str) {
        if !right {
            self.violation(what);
        }
    }

    /// Takes the packet at the front of what has arrived. Whether there was one.
    fn take(&mut self) -> bool {
        let version = self.link.as_ref().map_or(Version::V5, |link| link.version);
        let rx = std::mem::take(&mut self.rx);
        let decoded = match Packet::decode(version, &rx) {
            Ok(decoded) => decoded,
            Err(error) => self.violation(&format!("sent a bad packet, {error}: {rx:02x?}")),
        };
        let Decoded::Packet { packet, len } = decoded else {
            self.rx = rx;
            return false;
        };
        self.log.push(format!("{} at {}", short(&packet), self.now.as_millis()));
        self.last_received = self.now;
        match (self.link.take(), packet) {
            (None, Packet::Connect(version, connect)) => self.on_connect(version, &connect),
            (None, _) => self.violation("did not begin with CONNECT [MQTT-3.1.0-1]"),
            (Some(mut link), packet) => {
                self.require(!link.disconnected, "sent after DISCONNECT [MQTT-3.14.4-1]");
                let maximum = link.terms.maximum_packet_size.unwrap_or(u32::MAX);
                self.require(len <= maximum as usize, "sent too much [MQTT-3.2.2-15]");
                self.on_packet(&mut link, packet);
                self.link = Some(link);
            }
        }
        self.rx = rx[len..].to_vec();
        true
    }

    fn on_connect(&mut self, version: Version, connect: &Connect<'_>) {
        let mut client = connect.client_id.as_str().to_string();
        let mut terms = self.manners.terms;
        if !version.is_v5() {
            terms = ConnAck { reason: terms.reason, ..ConnAck::default() };
        }
        if terms.reason != ReasonCode::Success {
            write(&mut self.out, version, &Packet::ConnAck(terms));
            self.closing = true;
            return;
        }
        if client.is_empty() {
            self.assigned += 1;
            client = format!("assigned-{}", self.assigned);
            if version.is_v5() {
                let name = Text::new(client.clone().leak()).expect("text");
                terms.assigned_client_identifier = Some(name);
            }
        }
        let now = self.now;
        self.sessions.retain(|_, session| {
            let ends = |at| at + u64::from(session.expiry) * 1_000;
            session.expiry == u32::MAX || session.lost_at.is_none_or(|at| ends(at) > now)
        });
        if connect.clean_start {
            self.sessions.remove(&client);
        }
        let session_present = self.sessions.contains_key(&client);
        let session = self.sessions.entry(client.clone()).or_default();
        let persistent = !version.is_v5() && !connect.clean_start;
        session.expiry = if persistent { u32::MAX } else { connect.session_expiry_interval };
        session.lost_at = None;
        session.inbound.begin(session_present);
        let told = if version.is_v5() { connect.receive_maximum } else { u16::MAX };
        let aliases = if self.manners.aliases { connect.topic_alias_maximum } else { 0 };
        session.outbound.begin(told.min(self.manners.window), aliases);
        terms.session_present = session_present;
        write(&mut self.out, version, &Packet::ConnAck(terms));
        self.link = Some(Link {
            version,
            client,
            keep_alive: terms.server_keep_alive.unwrap_or(connect.keep_alive),
            terms,
            maximum_packet_size: connect.maximum_packet_size.unwrap_or(u32::MAX) as usize,
            expires: session.expiry == 0,
            will: connect.will.map(|will| Note {
                topic: will.topic.as_str().into(),
                payload: will.payload.into(),
                qos: will.qos,
                retain: will.retain,
            }),
            aliases: BTreeMap::new(),
            requests: BTreeSet::new(),
            held: Vec::new(),
            disconnected: false,
        });
    }

    fn on_packet(&mut self, link: &mut Link, packet: Packet<'_>) {
        let Some(mut session) = self.sessions.remove(&link.client) else {
            self.violation("lives on without its session");
        };
        let checked: Result<(), String> = match packet {
            Packet::Publish(delivery, publish) => self.topic(link, &publish).and_then(|topic| {
                let note = Note::of(&topic, &publish);
                if link.requests.contains(&delivery.packet_id.map_or(0, PacketId::get)) {
                    return Err("publishes with a request's id [MQTT-2.2.1-3]".into());
                }
                let refused = link.version.is_v5() && topic.starts_with("no/");
                let refuse = refused.then_some(self.manners.refuse);
                let quota = link.terms.receive_maximum.into();
                let taken = session.inbound.publish(delivery, &note, quota, refuse)?;
                if taken.is_new {
                    self.accepted.push(note);
                }
                link.held.extend(taken.answer);
                Ok(())
            }),
            Packet::PubRel(id, _) => session.inbound.release(id.get()).map(|reason| {
                link.held.push(Answer::Comp(id.get(), reason));
            }),
            Packet::PubAck(id, _) => session.outbound.ack(id.get()),
            Packet::PubRec(id, ack) => session.outbound.rec(id.get(), ack.reason),
            Packet::PubComp(id, _) => session.outbound.comp(id.get()),
            Packet::Subscribe(id, subscribe) => {
                self.check_request(link, &session, id);
                let identifier = subscribe.properties.subscription_identifier();
                let mut reasons = Vec::new();
                for wanted in subscribe.subscriptions {
                    self.check_filter(link, wanted.filter, identifier);
                    if wanted.filter.as_str().starts_with("no/") {
                        let failed = ReasonCode::UnspecifiedError;
                        reasons.push(if link.version.is_v5() {
                            self.manners.refuse
                        } else {
                            failed
                        });
                        continue;
                    }
                    let granted = (wanted.qos, identifier);
                    session.subscriptions.insert(wanted.filter.as_str().into(), granted);
                    reasons.push(ReasonCode::from_u8(wanted.qos as u8).expect("a QoS"));
                }
                link.held.push(Answer::Sub(id.get(), reasons));
                Ok(())
            }
            Packet::Unsubscribe(id, unsubscribe) => {
                self.check_request(link, &session, id);
                let mut reasons = Vec::new();
                for filter in unsubscribe.filters {
                    let found = session.subscriptions.remove(filter.as_str()).is_some();
                    let none = ReasonCode::NoSubscriptionExisted;
                    reasons.push(if found { ReasonCode::Success } else { none });
                }
                link.held.push(Answer::Unsub(id.get(), reasons));
                Ok(())
            }
            Packet::PingReq => {
                write(&mut self.out, link.version, &Packet::PingResp);
                Ok(())
            }
            Packet::Disconnect(disconnect) => {
                link.disconnected = true;
                if disconnect.reason == ReasonCode::Success {
                    link.will = None;
                }
                match disconnect.properties.session_expiry_interval() {
                    Some(expiry) if expiry > 0 && link.expires => {
                        Err("revives a session that was to expire".into())
                    }
                    expiry => {
                        session.expiry = expiry.unwrap_or(session.expiry);
                        Ok(())
                    }
                }
            }
            other => Err(format!("sent {other:?}, which is a server's to send")),
        };
        if let Err(what) = checked {
            self.violation(&what);
        }
        link.requests.extend(link.held.iter().filter_map(|answer| match answer {
            Answer::Sub(id, _) | Answer::Unsub(id, _) => Some(*id),
            _ => None,
        }));
        self.sessions.insert(link.client.clone(), session);
    }

    /// The topic of the client's message, by name or by alias.
    fn topic(&self, link: &mut Link, publish: &Publish<'_>) -> Result<String, String> {
        let terms = link.terms;
        if publish.qos > terms.maximum_qos {
            return Err("publishes above the Maximum QoS [MQTT-3.2.2-11]".into());
        }
        if publish.retain && !terms.retain_available {
            return Err("publishes retained [MQTT-3.2.2-14]".into());
        }
        if publish.properties.subscription_identifier().is_some() {
            return Err("publishes with a Subscription Identifier [MQTT-3.3.4-6]".into());
        }
        let name = publish.topic.as_str().to_string();
        let Some(alias) = publish.properties.topic_alias() else { return Ok(name) };
        if alias > terms.topic_alias_maximum {
            return Err("sent too high an alias [MQTT-3.3.2-9]".into());
        }
        if name.is_empty() {
            return link.aliases.get(&alias).cloned().ok_or("sent an unknown alias".to_string());
        }
        link.aliases.insert(alias, name.clone());
        Ok(name)
    }

    fn check_request(&self, link: &Link, session: &Session, id: PacketId) {
        let free = !link.requests.contains(&id.get()) && session.inbound.is_free(id.get());
        self.require(free, "requests with an id that is in use [MQTT-2.2.1-3]");
    }

    fn check_filter(&self, link: &Link, filter: Filter<'_>, identifier: Option<u32>) {
        let terms = link.terms;
        let wildcard = terms.wildcard_subscription_available || !filter.has_wildcard();
        self.require(wildcard, "subscribes to wildcards");
        let shared = terms.shared_subscription_available || !filter.is_shared();
        self.require(shared, "shares a subscription");
        let identified = terms.subscription_identifier_available || identifier.is_none();
        self.require(identified, "identifies a subscription");
    }

    /// Gives the answers that are due: all in order, or some in any order.
    fn answer(&mut self) -> bool {
        let Some(link) = &mut self.link else { return false };
        let Some(session) = self.sessions.get_mut(&link.client) else { return false };
        let mut moved = false;
        while !link.held.is_empty() {
            let chosen = if self.manners.dawdle {
                if self.rng.once_in(3) {
                    break;
                }
                self.rng.below(link.held.len() as u64) as usize
            } else {
                0
            };
            moved = true;
            match link.held.remove(chosen) {
                Answer::Ack(id, reason) => {
                    session.inbound.acked(id);
                    write(&mut self.out, link.version, &Packet::PubAck(known(id), reason.into()));
                }
                Answer::Rec(id, reason) => {
                    session.inbound.recorded(id, reason);
                    write(&mut self.out, link.version, &Packet::PubRec(known(id), reason.into()));
                }
                Answer::Comp(id, reason) => {
                    session.inbound.completed(id);
                    let ack = if link.version.is_v5() { reason.into() } else { Ack::default() };
                    write(&mut self.out, link.version, &Packet::PubComp(known(id), ack));
                }
                Answer::Sub(id, reasons) => {
                    link.requests.remove(&id);
                    let ack = SubAck { reasons: reasons[..].into(), ..SubAck::default() };
                    write(&mut self.out, link.version, &Packet::SubAck(known(id), ack));
                }
                Answer::Unsub(id, reasons) => {
                    link.requests.remove(&id);
                    let reasons = if link.version.is_v5() { &reasons[..] } else { &[] };
                    let ack = UnsubAck { reasons: reasons.into(), ..UnsubAck::default() };
                    write(&mut self.out, link.version, &Packet::UnsubAck(known(id), ack));
                }
            }
        }
        // What is held back comes in a later round.
        moved || !link.held.is_empty()
    }

    /// Sends what the client may be sent now.
    fn deliver(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        let Some(session) = self.sessions.get_mut(&link.client) else { return false };
        let packets = session.outbound.pump(link.version, link.maximum_packet_size);
        self.out.extend_from_slice(&packets);
        !packets.is_empty()
    }

    fn check_keep_alive(&mut self) {
        if self.keep_alive_ends().is_some_and(|end| end <= self.now) && !self.closing {
            self.require(!self.manners.strict, "was silent for too long [MQTT-3.1.2-20]");
            self.closing = true;
        }
    }

    fn keep_alive_ends(&self) -> Option<Instant> {
        let link = self.link.as_ref().filter(|link| link.keep_alive > 0)?;
        Some(self.last_received + u64::from(link.keep_alive) * 1_500 + 1)
    }
}

impl End for Server {
    fn opened(&mut self, now: Instant) {
        self.last_received = now;
        self.log.clear();
    }

    fn room(&self) -> usize {
        usize::MAX
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.rx.extend_from_slice(bytes);
    }

    fn poll(&mut self, now: Instant) -> bool {
        self.now = now;
        if self.manners.frozen || self.closing {
            return false;
        }
        let mut moved = false;
        while self.take() {
            moved = true;
        }
        moved |= self.answer();
        moved |= self.deliver();
        self.check_keep_alive();
        moved
    }

    fn unsent(&self) -> &[u8] {
        if self.manners.frozen { &[] } else { &self.out }
    }

    fn sent(&mut self, len: usize) {
        self.out.drain(..len);
    }

    fn is_closing(&self) -> bool {
        self.closing && !self.manners.frozen
    }

    fn deadline(&self) -> Option<Instant> {
        if self.manners.frozen { None } else { self.keep_alive_ends() }
    }

    fn lost(&mut self, now: Instant) {
        self.rx.clear();
        self.out.clear();
        self.closing = false;
        let Some(link) = self.link.take() else { return };
        self.wills.extend(link.will);
        if let Some(session) = self.sessions.get_mut(&link.client) {
            session.lost_at = Some(now);
            if session.expiry == 0 {
                self.sessions.remove(&link.client);
            }
        }
    }
}

fn known(id: u16) -> PacketId {
    PacketId::new(id).expect("an identifier")
}

fn write(out: &mut Vec<u8>, version: Version, packet: &Packet<'_>) {
    let len = packet.encoded_len(version).expect("a packet that can be sent");
    let start = out.len();
    out.resize(start + len, 0);
    packet.encode(version, &mut &mut out[start..]).expect("room for it");
}

fn short(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(..) => "CONNECT".into(),
        Packet::Publish(delivery, publish) => {
            let id = delivery.packet_id.map_or(0, PacketId::get);
            let dup = if delivery.dup { " dup" } else { "" };
            format!("PUBLISH {id}{dup} {}", publish.topic.as_str())
        }
        Packet::PubAck(id, _) => format!("PUBACK {id}"),
        Packet::PubRec(id, _) => format!("PUBREC {id}"),
        Packet::PubRel(id, _) => format!("PUBREL {id}"),
        Packet::PubComp(id, _) => format!("PUBCOMP {id}"),
        Packet::Subscribe(id, _) => format!("SUBSCRIBE {id}"),
        Packet::Unsubscribe(id, _) => format!("UNSUBSCRIBE {id}"),
        Packet::PingReq => "PINGREQ".into(),
        Packet::Disconnect(_) => "DISCONNECT".into(),
        Packet::Auth(_) => "AUTH".into(),
        _ => "?".into(),
    }
}
