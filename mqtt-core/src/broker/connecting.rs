//! CONNECT and AUTH: who comes, to which session, on which terms.

use heapless::String;

use super::{
    Action, Broker, Config, ConnectionId, Crowding, End, Host, Memory, Notice, State, Verdict,
    Wait,
    memory::{Alarms, Names, Slab},
    message::{Content, MessageId, Messages, Use},
    recording::{Haste, records, release},
    session::{Session, Subject, Will},
    tick_after,
};
use crate::{
    Instant,
    error::{Error, SendError, Violation, WriteError},
    hash::Seed,
    link::{self, Acknowledgement},
    reason::ReasonCode,
    router::{Options, Packed},
    server::{self, Peer},
    store::Name,
    wire::{
        self, Answer, Auth, Authentication, ConnAck, Connect, Header, Identifiers, PacketType,
        Reply, Text, Version,
    },
};

/// The body of a packet, and what follows it.
type Parts<'b> = (&'b [u8], &'b [u8]);

/// A name for a client that has none.
type Assigned = String<21>;

impl<M: Memory> Broker<M> {
    /// Takes CONNECT, once it is known whether the client may; until then it stays in the input, and
    /// what AUTH comes behind it. Whether it was taken.
    pub(super) fn shake_hands(
        &mut self,
        now: Instant,
        from: ConnectionId,
        input: &mut &[u8],
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let result = self.hear(now, from, input, host);
        if let Err(error) = result
            && let Some(reason) = error.reason()
            && !matches!(error, Error::Protocol(Violation::UnexpectedPacket))
        {
            server::write_refusal(reason, input, host.sink(from));
        }
        result
    }

    fn hear(
        &mut self,
        now: Instant,
        from: ConnectionId,
        input: &mut &[u8],
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let State::Handshake { seen, .. } = self.state(from) else { return Ok(false) };
        let Some((body, after)) = self.packet(server::ANY, PacketType::Connect, input)? else {
            return Ok(false);
        };
        let (version, mut connect) = Connect::read(body)?;
        let connect_len = input.len() - after.len();
        if seen == 0
            && let Some(reason) = self.objection(version, &connect)
        {
            return self.refuse(now, from, version, &connect, reason, host);
        }
        let (action, rest) = if seen == 0 {
            (Action::Connect(version, &connect), after)
        } else {
            let behind = input.get(seen as usize..).unwrap_or_default();
            let Some((body, rest)) = self.packet(version, PacketType::Auth, behind)? else {
                return Ok(false);
            };
            (Action::Authenticate(self.step(version, &connect, body)?), rest)
        };
        let mut verdict = self.ask(from, &action, host);
        let identity = verdict.identity();
        if let (Some(identity), Some(will)) = (identity, &connect.will) {
            match host.authorize(from, &publication(&connect, identity, will)) {
                // It goes to nobody, as a publish would.
                Verdict::Deny(reason) if !reason.is_error() => connect.will = None,
                about_will => verdict = about_will,
            }
        }
        match verdict {
            Verdict::Allow | Verdict::AllowAs(_) => {
                *input = rest;
                self.admit(now, from, version, &connect, identity.unwrap_or(0), host)
            }
            Verdict::Continue if connect.authentication.is_some() => {
                let taken = input.len() - rest.len();
                self.go_on(now, from, version, &connect, taken, host)
            }
            Verdict::Later => {
                let seen = if seen == 0 { 0 } else { seen.max(looked_at(connect_len)) };
                self.set_state(from, State::Handshake { until: None, seen });
                self.handshakes.clear(from.place);
                self.set_asked(from, true);
                Ok(false)
            }
            Verdict::Deny(reason) => {
                host.answer(from, |sink, answer| {
                    server::refuse(version, &connect, reason, answer, sink);
                });
                self.end_refused(now, from, &connect, reason, host)
            }
            Verdict::Continue => {
                let reason = ReasonCode::BadAuthenticationMethod;
                self.refuse(now, from, version, &connect, reason, host)
            }
        }
    }

    /// Asks a client for another step of enhanced authentication, with so much of its input looked at.
    /// Whether it was asked: if there is no room, it has no more time for that than it had.
    fn go_on(
        &mut self,
        now: Instant,
        from: ConnectionId,
        version: Version,
        connect: &Connect<'_>,
        taken: usize,
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let State::Handshake { until, seen } = self.state(from) else { return Ok(false) };
        let sent = challenge(from, version, connect, host)?;
        let fresh = now + u64::from(self.config.connect_timeout);
        let (until, seen) =
            if sent { (fresh, looked_at(taken)) } else { (until.unwrap_or(fresh), seen) };
        if !sent {
            self.set_decided(from, Verdict::Continue);
        }
        self.set_state(from, State::Handshake { until: Some(until), seen });
        self.handshakes.clear(from.place);
        self.handshakes.set(from.place, tick_after(until));
        Ok(sent)
    }

    /// The body of the packet at the front, which is to be of this type, and what follows it.
    fn packet<'b>(
        &self,
        version: Version,
        packet_type: PacketType,
        input: &'b [u8],
    ) -> Result<Option<Parts<'b>>, Error> {
        let Some((header, body)) = Header::decode(version, input)? else { return Ok(None) };
        if header.packet_type != packet_type {
            return Err(Violation::UnexpectedPacket.into());
        }
        if header.packet_len() > self.config.maximum_packet_size as usize {
            return Err(Violation::PacketTooLarge.into());
        }
        let parts = body.split_at_checked(header.remaining_length as usize);
        if parts.is_none() {
            header.check_length(version)?;
        }
        Ok(parts)
    }

    /// The client's answer to an AUTH [MQTT-4.12.0-5].
    fn step<'b>(
        &self,
        version: Version,
        connect: &Connect<'_>,
        body: &'b [u8],
    ) -> Result<Auth<'b>, Error> {
        let auth = Auth::read(version, body)?;
        let method = connect.authentication.map(|authentication| authentication.method);
        let legal = auth.reason == ReasonCode::ContinueAuthentication
            && auth.properties.authentication_method() == method;
        if legal { Ok(auth) } else { Err(Violation::Authentication.into()) }
    }

    /// What is wrong with a CONNECT that is well formed.
    fn objection(&self, version: Version, connect: &Connect<'_>) -> Option<ReasonCode> {
        let name = connect.client_id;
        let nameless =
            name.is_empty() && (version.is_v3_1() || !version.is_v5() && !connect.clean_start);
        let odd = !self.config.control_characters && name.has_control_characters();
        let long = name.len() > self.config.client_id_bytes;
        if nameless || odd || long || M::Name::new(name.as_bytes()).is_err() {
            return Some(ReasonCode::ClientIdentifierNotValid);
        }
        let Some(will) = &connect.will else { return None };
        let odd = !self.config.control_characters && will.topic.has_control_characters();
        if odd || will.topic.starts_with_dollar() || M::Topic::new(will.topic.as_bytes()).is_err() {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if M::Messages::measure(&kept(will), Identifiers::NONE) > self.config.will_bytes {
            return Some(ReasonCode::QuotaExceeded);
        }
        (will.qos > self.config.maximum_qos).then_some(ReasonCode::QoSNotSupported)
    }

    /// Answers a CONNECT with a refusal, and ends the connection [MQTT-3.2.2-7].
    fn refuse(
        &mut self,
        now: Instant,
        from: ConnectionId,
        version: Version,
        connect: &Connect<'_>,
        reason: ReasonCode,
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        server::refuse(version, connect, reason, &Answer::default(), host.sink(from));
        self.end_refused(now, from, connect, reason, host)
    }

    /// Ends the connection of a client that has been refused.
    fn end_refused(
        &mut self,
        now: Instant,
        from: ConnectionId,
        connect: &Connect<'_>,
        reason: ReasonCode,
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let client_id = connect.client_id.as_bytes();
        host.notice(&Notice::Refused { connection: from, client_id, reason });
        self.end_connection(now, from, End::Lost, host);
        Ok(false)
    }

    /// Lets a client in: to the session that it has, or to a new one.
    fn admit(
        &mut self,
        now: Instant,
        from: ConnectionId,
        version: Version,
        connect: &Connect<'_>,
        identity: u32,
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let assigned = if connect.client_id.is_empty() { Some(self.assign()) } else { None };
        let name = assigned.as_ref().map_or(connect.client_id.as_bytes(), |name| name.as_bytes());
        let hash = self.names.hash(name);
        if let Some(place) = self.find(hash, name) {
            self.tick_session(now, place, host); // its time may be over
        }
        let found = self.find(hash, name);
        let full = ReasonCode::QuotaExceeded;
        let dispute = self.dispute(from, identity, found, host);
        let crowd = || (!self.has_room_for_will(connect, found)).then_some(full);
        if let Some(reason) = dispute.or_else(crowd) {
            return self.refuse(now, from, version, connect, reason, host);
        }
        if let Some(place) = found {
            self.take_over(now, place, connect.clean_start, host);
            if connect.clean_start {
                self.end_session(now, place, host);
            }
        }
        let found = found.filter(|place| self.sessions.get(*place).is_some());
        let resumed = found.is_some();
        let Some(place) = found.or_else(|| self.create(now, hash, name, host)) else {
            return self.refuse(now, from, version, connect, full, host);
        };
        let made_over = self.make_over(place, from, identity, host);
        let Some(will) = made_over.then(|| self.keep_will(connect)).flatten() else {
            self.end_if_new(now, place, resumed, host);
            return self.refuse(now, from, version, connect, full, host);
        };
        let assigned = assigned.as_ref().and_then(|name| Text::new(name).ok());
        let terms = self.terms(version, connect, resumed, assigned);
        if !self.welcome(now, from, place, (version, connect, &terms), host) {
            // Not even this fits what the client takes, or the sink.
            if let Some(will) = will {
                release(&mut self.messages, will.message, Use::Standing, host);
            }
            self.end_if_new(now, place, resumed, host);
            self.end_connection(now, from, End::Lost, host);
            return Ok(false);
        }
        if let Some(session) = self.sessions.get_mut(place) {
            session.will = will;
            session.expiry = self.config.expiry(version, connect);
        }
        self.settle_down(from, place, &terms, connect, host);
        Ok(true)
    }

    /// Tells a client that it is let in, on these terms. Whether there was room for that.
    fn welcome(
        &mut self,
        now: Instant,
        from: ConnectionId,
        place: u32,
        (version, connect, terms): (Version, &Connect<'_>, &ConnAck<'_>),
        host: &mut impl Host,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(place) else { return false };
        let peer = &mut session.peer;
        peer.open(now);
        peer.greet(version, connect);
        peer.bound(self.config.in_flight);
        let accepted = host.answer(from, |sink, answer| {
            let full = peer.accept(now, &answer.complete(terms), sink);
            full.or_else(|_| peer.accept(now, &answer.brief().complete(terms), sink))
        });
        if accepted.is_err() {
            peer.closed();
        }
        accepted.is_ok()
    }

    /// A session has a connection.
    fn settle_down(
        &mut self,
        from: ConnectionId,
        place: u32,
        terms: &ConnAck<'_>,
        connect: &Connect<'_>,
        host: &mut impl Host,
    ) {
        self.absent.clear(place);
        self.handshakes.clear(from.place);
        self.set_state(from, State::Open(place));
        let Some(session) = self.sessions.get_mut(place) else { return };
        session.connection = Some(from);
        session.lost = None;
        let is_recorded = session.expiry > 0;
        host.notice(&Notice::Connected {
            connection: from,
            client_id: session.name.as_bytes(),
            version: session.peer.version(),
            keep_alive: terms.server_keep_alive.unwrap_or(connect.keep_alive),
            clean_start: connect.clean_start,
            session_present: terms.session_present,
        });
        self.set_recorded(place, is_recorded, host);
        self.note_store(place, host);
        self.note_session(place, Haste::Urgent, host);
    }

    fn end_if_new(&mut self, now: Instant, place: u32, resumed: bool, host: &mut impl Host) {
        if !resumed {
            self.end_session(now, place, host);
        }
    }

    /// The session of this name.
    pub(super) fn find(&self, hash: u32, name: &[u8]) -> Option<u32> {
        self.names.find(hash, |place| {
            self.sessions.get(place).is_some_and(|session| session.name.as_bytes() == name)
        })
    }

    /// A new session, if there may be one more.
    fn create(
        &mut self,
        now: Instant,
        hash: u32,
        name: &[u8],
        host: &mut impl Host,
    ) -> Option<u32> {
        let name = M::Name::new(name).ok()?;
        let session = self.new_session(name, records::<M, _>(host));
        let full = self.sessions.len() >= self.config.sessions;
        let place = match if full { Err(session) } else { self.sessions.insert(session) } {
            Ok(place) => place,
            Err(session) => {
                self.make_place(now, host)?;
                self.sessions.insert(session).ok()?
            }
        };
        if !self.settle_in(place, hash) {
            self.sessions.remove(place);
            return None;
        }
        Some(place)
    }

    /// A session of this name that has nothing yet.
    pub(super) fn new_session(&self, name: M::Name, notes: bool) -> Session<M> {
        let config = link::Config {
            acknowledgement: Acknowledgement::Manual,
            assumed_receive_maximum: self.config.assumed_receive_maximum,
            topic_aliases: self.config.topic_aliases,
            handshake_timeout: self.config.connect_timeout,
            ..link::Config::DEFAULT
        };
        let store = M::store(&self.config, notes);
        Session {
            peer: Peer::with_config(store, config),
            name,
            place: 0,
            connection: None,
            identity: 0,
            backlog: M::Backlog::default(),
            subscriptions: 0,
            filter_bytes: 0,
            arrivals: 0,
            expiry: 0,
            lost: None,
            will: None,
            stamp: 0,
            wanted: Packed::new(Options::default()),
            identified: 0, // it is stamped first
            recorded: false,
            owned: false,
        }
    }

    /// Makes a session that is in its place known there. Whether there is room for that.
    pub(super) fn settle_in(&mut self, place: u32, hash: u32) -> bool {
        let alarms = [&mut self.alarms, &mut self.absent];
        let room = alarms.into_iter().all(|alarms| alarms.make_room(place));
        if let Some(session) = self.sessions.get_mut(place) {
            session.place = place;
        }
        room && self.names.insert(hash, place)
    }

    /// Ends the session that has been without a connection for longest, if that is the policy.
    fn make_place(&mut self, now: Instant, host: &mut impl Host) -> Option<()> {
        if self.config.crowding == Crowding::Refuse {
            return None;
        }
        let (_, place) = self.absent.first()?;
        self.end_session(now, place, host);
        Some(())
    }

    /// What CONNACK says.
    fn terms<'t>(
        &self,
        version: Version,
        connect: &Connect<'t>,
        session_present: bool,
        assigned_client_identifier: Option<Text<'t>>,
    ) -> ConnAck<'t> {
        let config = &self.config;
        let expiry = self.config.expiry(version, connect);
        let most = config.keep_alive_maximum;
        let lower = most > 0 && (connect.keep_alive == 0 || connect.keep_alive > most);
        let information = config.response_information;
        let authentication = connect.authentication;
        ConnAck {
            session_present,
            session_expiry_interval: (expiry != connect.session_expiry_interval).then_some(expiry),
            // Who cannot be told cannot be blamed: as many as the store has room for.
            receive_maximum: if version.is_v5() { config.receive_maximum.max(1) } else { u16::MAX },
            maximum_qos: config.maximum_qos,
            maximum_packet_size: Some(config.maximum_packet_size),
            assigned_client_identifier,
            topic_alias_maximum: config.topic_alias_maximum.min(M::ALIASES),
            server_keep_alive: lower.then_some(most),
            response_information: information.filter(|_| connect.request_response_information),
            authentication: authentication
                .map(|Authentication { method, .. }| Authentication { method, data: None }),
            ..ConnAck::default()
        }
    }

    /// Whether there is room for a client's will, perhaps in place of the one of the session that it has.
    fn has_room_for_will(&self, connect: &Connect<'_>, found: Option<u32>) -> bool {
        let Some(will) = &connect.will else { return true };
        let size = M::Messages::measure(&kept(will), Identifiers::NONE);
        let old = found.and_then(|place| self.sessions.get(place)?.will);
        self.messages.has_room(size, Use::Standing)
            || old.is_some_and(|old| self.messages.has_room_without(old.message, size))
    }

    /// Keeps a client's will, if it leaves one. Nothing if there is no room for it.
    #[expect(clippy::option_option, reason = "there may be none to be kept")]
    fn keep_will(&mut self, connect: &Connect<'_>) -> Option<Option<Will>> {
        let Some(will) = &connect.will else { return Some(None) };
        let message: MessageId =
            self.messages.insert(&kept(will), Identifiers::NONE, Use::Standing)?;
        let delay = will.properties.will_delay_interval().unwrap_or(0);
        let expiry = will.properties.message_expiry_interval();
        Some(Some(Will { message, delay, expiry }))
    }

    /// A name that no session has.
    fn assign(&mut self) -> Assigned {
        loop {
            self.assigned = self.assigned.wrapping_add(1);
            let mut number = Seed::new(self.config.seed).number(self.assigned.into());
            let mut name = Assigned::new();
            let _ = name.push_str("auto-");
            for _ in 0..16 {
                // One of sixteen letters, whichever.
                let _ = name.push(char::from(b'a' + (number >> 60) as u8));
                number <<= 4;
            }
            let hash = self.names.hash(name.as_bytes());
            if self.find(hash, name.as_bytes()).is_none() {
                return name;
            }
        }
    }

    /// AUTH on an open connection begins, or goes on with, another authentication [MQTT-4.12.1-1].
    /// What that has to wait for.
    pub(super) fn on_auth(
        &mut self,
        now: Instant,
        from: Subject,
        auth: &Auth<'_>,
        host: &mut impl Host,
    ) -> Result<Wait, Error> {
        let verdict = self.ask(from.connection, &Action::Authenticate(*auth), host);
        let Some(session) = self.sessions.get_mut(from.session) else { return Ok(Wait::Nothing) };
        let peer = &mut session.peer;
        let reason = match verdict {
            Verdict::Allow | Verdict::AllowAs(_) => ReasonCode::Success,
            Verdict::Continue => ReasonCode::ContinueAuthentication,
            Verdict::Later => return Ok(Wait::Host),
            Verdict::Deny(reason) => {
                let legal = reason.is_error() && reason.is_legal_in(PacketType::Disconnect);
                let reason = if legal { reason } else { ReasonCode::NotAuthorized };
                host.answer(from.connection, |sink, answer| {
                    peer.dismiss(now, &Reply::disconnect(reason, answer), sink);
                });
                return Err(Violation::Authentication.into());
            }
        };
        let method = auth.properties.authentication_method().unwrap_or_default();
        let sent = host.answer(from.connection, |sink, answer| {
            peer.reply(now, &Reply::auth(reason, method, answer), sink)
        });
        match sent {
            Ok(()) => {
                let identity = match verdict {
                    Verdict::AllowAs(identity) => identity,
                    _ => session.identity,
                };
                // Without memory for the user's name it stays whose it was.
                self.make_over(from.session, from.connection, identity, host);
                Ok(Wait::Nothing)
            }
            Err(SendError::NoRoom) => {
                self.set_decided(from.connection, verdict);
                Ok(Wait::Room)
            }
            Err(_) => Err(Violation::Authentication.into()),
        }
    }

    /// The host's verdict about CONNECT or AUTH, or the one that it has given already.
    fn ask(&mut self, from: ConnectionId, action: &Action<'_>, host: &mut impl Host) -> Verdict {
        let decided = self.connection_mut(from).and_then(|connection| connection.decided.take());
        decided.unwrap_or_else(|| host.authorize(from, action))
    }

    /// What follows from a verdict is written when there is room.
    fn set_decided(&mut self, connection: ConnectionId, verdict: Verdict) {
        if let Some(connection) = self.connection_mut(connection) {
            connection.decided = Some(verdict);
        }
    }

    pub(super) fn state(&self, connection: ConnectionId) -> State {
        self.connection(connection).map_or(State::Closing, |connection| connection.state)
    }

    /// The host has been asked about what is at the front of the input.
    pub(super) fn set_asked(&mut self, connection: ConnectionId, asked: bool) {
        if let Some(connection) = self.connection_mut(connection) {
            connection.asked = asked;
        }
    }

    pub(super) fn set_state(&mut self, connection: ConnectionId, state: State) {
        if let Some(connection) = self.connection_mut(connection) {
            connection.state = state;
        }
    }
}

impl Config {
    /// Seconds that a session outlives its connection.
    fn expiry(&self, version: Version, connect: &Connect<'_>) -> u32 {
        let most = self.session_expiry_maximum;
        match version.is_v5() {
            true => connect.session_expiry_interval.min(most),
            false if connect.clean_start => 0,
            false => most,
        }
    }
}

/// So many bytes of the input. Nobody can hold more than this can say.
fn looked_at(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A will as it is kept: its time has not begun.
fn kept<'a>(will: &wire::Will<'a>) -> Content<'a> {
    let wire::Will { topic, payload, qos, retain, properties } = *will;
    Content { topic, payload: payload.into(), properties, qos, retain, expires: None }
}

/// A will is a publish that the client may make one day.
fn publication<'a>(connect: &Connect<'a>, identity: u32, will: &wire::Will<'a>) -> Action<'a> {
    let wire::Will { topic, payload, qos, retain, properties } = *will;
    let client_id = connect.client_id.as_bytes();
    Action::Publish { client_id, identity, topic, qos, retain, payload, properties }
}

/// Asks a client that connects for another step of enhanced authentication [MQTT-4.12.0-2]. Whether
/// there was room.
fn challenge(
    to: ConnectionId,
    version: Version,
    connect: &Connect<'_>,
    host: &mut impl Host,
) -> Result<bool, Error> {
    let Some(Authentication { method, .. }) = connect.authentication else { return Ok(false) };
    let most = connect.maximum_packet_size;
    let sent = host.answer(to, |sink, answer| {
        let full = Reply::auth(ReasonCode::ContinueAuthentication, method, answer);
        if !connect.request_problem_information {
            return server::write(version, &full.brief(), most, sink);
        }
        match server::write(version, &full, most, sink) {
            Err(WriteError::TooLarge) => server::write(version, &full.brief(), most, sink),
            result => result,
        }
    });
    match sent {
        Ok(()) => Ok(true),
        Err(WriteError::NoRoom) => Ok(false),
        Err(_) => Err(Violation::Authentication.into()),
    }
}
