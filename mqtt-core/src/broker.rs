//! A broker: who is connected, who wants what, and what has still to be delivered.

pub mod access;
mod closing;
mod connecting;
mod delivering;
mod expiring;
mod host;
mod inspecting;
mod memory;
mod message;
mod notice;
mod owning;
mod publishing;
mod queueing;
mod recording;
#[cfg(feature = "alloc")]
mod records;
mod session;
mod statistics;
mod subscribing;

use core::{fmt, num::NonZeroU32};

use crate::{
    error::Error,
    router::Router,
    server::Request,
    time::Instant,
    wire::{QoS, Text},
};
use memory::{Alarms, Slab};
use message::Messages;
use session::{Session, Subject};

pub use crate::wire::Answer;
pub use host::{Action, ConnectionId, Host, Verdict};
pub use inspecting::{Client, Retained};
#[cfg(feature = "alloc")]
pub use memory::heap::Large;
pub use memory::{CLIENT_ID, FLIGHTS, Memory, QUEUE, SPARE, Small, TOPIC};
pub use notice::{End, Notice};
pub use owning::Takeover;
pub use recording::{Haste, Key};
#[cfg(feature = "alloc")]
pub use records::RestoreError;
pub use statistics::Statistics;

/// What a broker takes, tells, and does when there is too much of it.
///
/// The defaults are for clients that nobody knows: each is bounded in what it can make the broker keep, and
/// nobody loses what has been promised, since a new session is refused rather than an old one ended.
/// What a broker takes with them is a formula: of the types of `Small`, of `Large::memory` on the heap.
///
/// Everything is told to those clients whose version has words for it, and kept to with all.
///
/// ```
/// use mqtt_core::broker::{Config, Overflow};
///
/// let config = Config { queue_messages: 1_000, overflow: Overflow::DropOldest, ..Config::default() };
/// assert_eq!(config.connect_timeout, 10_000);
/// ```
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// The largest packet that is taken, in bytes. Whoever drives the broker must be able to hold as
    /// much of a connection's input; a few packets of this size for enhanced authentication.
    pub maximum_packet_size: u32,
    /// The highest QoS at which clients may publish. A publish above ends the connection, a will above
    /// refuses it, with [`QoSNotSupported`](crate::ReasonCode::QoSNotSupported); before 5.0, where there
    /// is no word for it, without one [MQTT-3.2.2-12]. Subscriptions are granted no more.
    pub maximum_qos: QoS,
    /// How many publishes at QoS 1 and 2 a client may send unacknowledged, at least 1. Before 5.0,
    /// where that cannot be told, [`FLIGHTS`] on a small broker, 1,024 or this on a large one. There, more
    /// than 32 at QoS 2 that are not released have all sessions together an eighth as many bytes for as there
    /// are for messages; then another is refused with
    /// [`QuotaExceeded`](crate::ReasonCode::QuotaExceeded), before 5.0 by the close.
    pub receive_maximum: u16,
    /// The longest client identifier that is taken, in bytes, at least 23 [MQTT-3.1.3-5]; on a small
    /// broker [`CLIENT_ID`], if that is less. A longer one is refused with
    /// [`ClientIdentifierNotValid`](crate::ReasonCode::ClientIdentifierNotValid). The name of the user that is
    /// kept with a session on a large broker may have as many, or is refused with
    /// [`QuotaExceeded`](crate::ReasonCode::QuotaExceeded).
    pub client_id_bytes: usize,
    /// How many are sent to a client that cannot tell how many it takes: before 5.0, at least 1.
    pub assumed_receive_maximum: u16,
    /// The longest that a session outlives its connection, in seconds; `u32::MAX` is for ever. What
    /// a 3.1.1 client gets that does not ask for a clean session; a 5.0 client that asks for more is
    /// told. By default seven days.
    pub session_expiry_maximum: u32,
    /// The longest keep alive, in seconds; 0 for any, and for none. Of 5.0 clients: one that cannot be told
    /// is held to its own word, and not sent away while it keeps that.
    pub keep_alive_maximum: u16,
    /// How long a client may take for CONNECT and for each step of AUTH, in milliseconds.
    pub connect_timeout: u32,
    /// How many subscriptions one session may have, and how many bytes their filters. One more is
    /// refused with [`QuotaExceeded`](crate::ReasonCode::QuotaExceeded), before 5.0 with 0x80.
    pub subscriptions: usize,
    /// See [`subscriptions`](Self::subscriptions).
    pub filter_bytes: usize,
    /// How many messages may be on their way to one client unacknowledged, whatever it takes, at least
    /// 1.
    pub in_flight: u16,
    /// How many bytes of messages may be: when one more would make it more, it waits. One that is
    /// larger goes alone.
    pub in_flight_bytes: usize,
    /// How many messages may wait for one session, and how many bytes. Those on their way do not
    /// count, nor do retained ones for a new subscription.
    pub queue_messages: usize,
    /// See [`queue_messages`](Self::queue_messages).
    pub queue_bytes: usize,
    /// What is dropped when there are more, or no memory: of that three eighths are out of reach of what
    /// waits, three of what is retained and of wills, two of what is on its way, and one is for this
    /// alone. What has expired goes first.
    pub overflow: Overflow,
    /// How many messages may be retained, and how many bytes. One more is refused with
    /// [`QuotaExceeded`](crate::ReasonCode::QuotaExceeded), and nothing changes. If its publisher cannot
    /// be told so, before 5.0 and at QoS 0, and of a will, it is delivered and not retained, nor is the
    /// one before it: nobody is to be told later what is no longer so. A retained message is its topic's:
    /// No Local does not withhold it from who published it.
    pub retained_messages: usize,
    /// See [`retained_messages`](Self::retained_messages).
    pub retained_bytes: usize,
    /// How many bytes the will of one client may have, its topic and properties included. One that has
    /// more is refused with its CONNECT, with
    /// [`QuotaExceeded`](crate::ReasonCode::QuotaExceeded).
    pub will_bytes: usize,
    /// How many sessions there may be, connected ones included: as many as clients, with those that
    /// are away.
    pub sessions: usize,
    /// What happens to a new one when there are as many.
    pub crowding: Crowding,
    /// Who may take over a session.
    pub takeover: Takeover,
    /// Whether names of clients and topics, and filters, may have control characters.
    pub control_characters: bool,
    /// Whether topics are named by aliases to clients that take them.
    pub topic_aliases: bool,
    /// How many topic aliases a client may set until its connection ends; 5.0 only. None on a small
    /// broker, which has no room for as long a topic as may come.
    pub topic_alias_maximum: u16,
    /// How many bytes the topics of all aliases of a connection may have, in each direction. A client
    /// that sets more loses its connection, with
    /// [`TopicAliasInvalid`](crate::ReasonCode::TopicAliasInvalid).
    pub topic_alias_bytes: usize,
    /// What a client is told that asks for Response Information.
    pub response_information: Option<Text<'static>>,
    /// A random number, for client identifiers that the broker assigns: who does not know it cannot foresee
    /// one from others. Brokers with the same number assign the same.
    pub seed: u128,
}

/// Which message is dropped when too many wait for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overflow {
    /// The one that comes.
    #[default]
    DropNewest,
    /// The one that has waited for longest. When there is no memory, only if it goes by that: if others wait
    /// for it who are not to get the new one, it is the new one that is dropped.
    DropOldest,
}

/// What happens to a new session when there are as many as there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Crowding {
    /// It is refused with [`QuotaExceeded`](crate::ReasonCode::QuotaExceeded).
    #[default]
    Refuse,
    /// It takes the place of the one that has been without a connection for longest; without such,
    /// it is refused.
    EvictOldest,
}

impl Config {
    /// The default, for constants.
    pub const DEFAULT: Self = Self {
        maximum_packet_size: 1024 * 1024,
        maximum_qos: QoS::ExactlyOnce,
        receive_maximum: 256,
        client_id_bytes: 256,
        assumed_receive_maximum: 20,
        session_expiry_maximum: 7 * 24 * 60 * 60,
        keep_alive_maximum: 0,
        connect_timeout: 10_000,
        subscriptions: 1_000,
        filter_bytes: 64 * 1024,
        in_flight: 100,
        in_flight_bytes: 1024 * 1024,
        queue_messages: 1_000,
        queue_bytes: 4 * 1024 * 1024,
        overflow: Overflow::DropNewest,
        retained_messages: 100_000,
        retained_bytes: 64 * 1024 * 1024,
        will_bytes: 16 * 1024,
        sessions: 20_000,
        crowding: Crowding::Refuse,
        takeover: Takeover::Owner,
        control_characters: false,
        topic_aliases: true,
        topic_alias_maximum: 16,
        topic_alias_bytes: 8 * 1024,
        response_information: None,
        seed: 0,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// There are as many connections as there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many connections as there can be")
    }
}

impl core::error::Error for Full {}

/// A connection that is open.
#[derive(Debug)]
pub struct Connection {
    /// Which one it is of those that have had its place.
    generation: NonZeroU32,
    state: State,
    /// The host has been asked, and will know later.
    asked: bool,
    /// It has been asked, and there has been no room for what follows.
    decided: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// CONNECT is awaited, and perhaps AUTH: until then, and so many bytes of the input have been
    /// looked at.
    Handshake { until: Option<Instant>, seen: u32 },
    /// It is that of this session.
    Open(u32),
    /// It has come to its end.
    Closing,
}

/// What a packet at the front of the input waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    Room,
    Host,
}

/// A broker, without IO: the server's ends of many connections, the sessions of their clients, and
/// what is to be delivered.
///
/// Whoever drives it, the *host*, moves the bytes and implements [`Host`]:
///
/// - [`open`](Self::open) and [`closed`](Self::closed) begin and end a connection;
/// - [`poll`](Self::poll) takes what has been received on one, writes what comes of it, to it and to
///   any other, and is to be called again when its sink has been flushed;
/// - [`tick`](Self::tick) does what is due at the [`deadline`](Self::deadline).
///
/// ```
/// use mqtt_core::{Buffer, Instant, broker::{Broker, Config, ConnectionId, Host, SPARE, Small}};
///
/// #[derive(Default)]
/// struct Outgoing([Buffer<512>; 2 + SPARE]);
///
/// impl Host for Outgoing {
///     type Sink = Buffer<512>;
///
///     fn sink(&mut self, to: ConnectionId) -> &mut Buffer<512> {
///         &mut self.0[to.index()]
///     }
///
///     fn close(&mut self, _: ConnectionId) {}
/// }
///
/// let mut broker = Broker::<Small<2, 8, 256, 16, 2048>>::small(Config::default());
/// let mut host = Outgoing::default();
/// let now = Instant::from_millis(0);
/// let [alice, bob] = [broker.open(now)?, broker.open(now)?];
///
/// let mut input: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a\x82\x06\0\x01\0\x01t\0";
/// broker.poll(now, alice, &mut input, &mut host)?; // CONNECT, SUBSCRIBE
/// let mut input: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01b\x30\x05\0\x01thi";
/// broker.poll(now, bob, &mut input, &mut host)?; // CONNECT, PUBLISH
///
/// let to_alice = b"\x20\x02\0\0\x90\x03\0\x01\0\x30\x05\0\x01thi";
/// assert_eq!(host.sink(alice).as_bytes(), to_alice);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Broker<M: Memory> {
    config: Config,
    connections: M::Connections,
    sessions: M::Sessions,
    names: M::Names,
    router: M::Router,
    messages: M::Messages,
    retained: M::Retained,
    retained_names: M::Topics,
    /// How many bytes these messages have.
    retained_bytes: usize,
    sweep: expiring::Sweep,
    statistics: Statistics,
    /// Counts publishes, so that a session knows whether it has been found for this one.
    stamp: u32,
    /// The identifiers that go with it.
    identified: M::Identified,
    /// Whose turn it is in shared subscriptions.
    turns: [u32; TURNS],
    /// How many connections there have been.
    opened: u32,
    /// How many names have been given.
    assigned: u32,
    /// When CONNECT or AUTH is due on a connection, and when something may be due for a session.
    handshakes: M::Handshakes,
    alarms: M::Alarms,
    /// Since when sessions have been without a connection.
    absent: M::Alarms,
}

/// How many groups have a turn of their own; more share them.
const TURNS: usize = 64;

/// How late the broker may be with what the clock makes it do, in milliseconds: what is due at about the
/// same time is done at once.
const TICK: u64 = 100;

/// The tick after this time, not at it: what is put off comes later.
const fn tick_after(at: Instant) -> Instant {
    Instant::from_millis((at.as_millis() / TICK).saturating_add(1).saturating_mul(TICK))
}

/// How many alarms are heard in one go; those behind them are due at once.
const ALARMS: usize = 1_000;

impl<const C: usize, const S: usize, const F: usize, const M: usize, const B: usize>
    Broker<Small<C, S, F, M, B>>
{
    /// A broker in an array.
    pub const fn small(config: Config) -> Self {
        Self {
            config,
            connections: memory::Array::new(),
            sessions: memory::Array::new(),
            names: heapless::Vec::new(),
            router: crate::router::Flat::new(),
            messages: message::Arena::new(),
            retained: memory::Array::new(),
            retained_names: heapless::Vec::new(),
            retained_bytes: 0,
            sweep: expiring::Sweep::new(),
            statistics: Statistics::NONE,
            stamp: 0,
            identified: heapless::Vec::new(),
            turns: [0; TURNS],
            opened: 0,
            assigned: 0,
            handshakes: memory::Clocks::new(),
            alarms: memory::Clocks::new(),
            absent: memory::Clocks::new(),
        }
    }
}

#[cfg(feature = "alloc")]
impl Broker<Large> {
    /// A broker on the heap, which keeps up to `bytes` bytes of messages. Against clients that choose
    /// the worst names the look-ups have random numbers in `seed`.
    pub fn large(config: Config, bytes: usize, seed: u128, limits: crate::router::Limits) -> Self {
        Self {
            config,
            connections: memory::heap::Places::new(),
            sessions: memory::heap::Places::new(),
            names: memory::heap::Table::new(seed),
            router: crate::router::Trie::with_limits(seed, limits),
            messages: message::heap::Shared::new(bytes),
            retained: memory::heap::Places::new(),
            retained_names: memory::heap::Table::new(seed),
            retained_bytes: 0,
            sweep: expiring::Sweep::new(),
            statistics: Statistics::NONE,
            stamp: 0,
            identified: alloc::collections::VecDeque::new(),
            turns: [0; TURNS],
            opened: 0,
            assigned: 0,
            handshakes: memory::alarms::Clocks::new(),
            alarms: memory::alarms::Clocks::new(),
            absent: memory::alarms::Clocks::new(),
        }
    }
}

impl<M: Memory> fmt::Debug for Broker<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("connections", &self.connections.len())
            .field("sessions", &self.sessions.len())
            .field("subscriptions", &self.router.len())
            .field("retained", &self.retained.len())
            .field("bytes", &self.messages.bytes())
            .field("statistics", &self.statistics)
            .finish()
    }
}

impl<M: Memory> Broker<M> {
    /// A transport is open: a CONNECT is awaited on it.
    ///
    /// When there is no place for another one, the client that has taken longest to connect has no more
    /// time: [`tick`](Self::tick), which is due, ends its connection.
    ///
    /// # Errors
    ///
    /// [`Full`] if there are as many connections as there can be.
    pub fn open(&mut self, now: Instant) -> Result<ConnectionId, Full> {
        let until = now + u64::from(self.config.connect_timeout);
        let state = State::Handshake { until: Some(until), seen: 0 };
        let generation = NonZeroU32::new(self.opened.wrapping_add(1)).unwrap_or(NonZeroU32::MIN);
        let connection = Connection { generation, state, asked: false, decided: None };
        let slowest = self.handshakes.first().map(|(_, place)| place);
        let Ok(place) = self.connections.insert(connection) else {
            self.hurry(now, slowest);
            return Err(Full);
        };
        if self.connections.is_full() {
            self.hurry(now, slowest);
        }
        if !self.handshakes.make_room(place) {
            self.connections.remove(place);
            return Err(Full);
        }
        self.opened = generation.get();
        self.handshakes.set(place, tick_after(until));
        Ok(ConnectionId { place, generation })
    }

    /// A client that has not connected has no more time to.
    fn hurry(&mut self, now: Instant, place: Option<u32>) {
        if let Some(place) = place
            && let Some(connection) = self.connections.get_mut(place)
            && let State::Handshake { until, .. } = &mut connection.state
        {
            *until = Some(now);
            self.handshakes.set(place, now);
        }
    }

    /// The transport is gone: to be called once for each [`open`](Self::open). The session may live
    /// on; its will may be published.
    pub fn closed(&mut self, now: Instant, connection: ConnectionId, host: &mut impl Host) {
        let Some(Connection { state, .. }) = self.connection(connection) else { return };
        let state = *state;
        self.connections.remove(connection.place);
        self.handshakes.clear(connection.place);
        if let State::Open(session) = state {
            self.detach(now, session, End::Lost, host);
        }
    }

    /// Takes what a connection has received off the front of `input`, and writes what comes of it, to
    /// this and to other connections. What is left of `input` is to be given again, with more behind
    /// it, or when the connection's sink has been flushed, or after [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// [`Error`] ends the connection. [`Host::close`] has been called for it, as it is when the
    /// client leaves.
    pub fn poll(
        &mut self,
        now: Instant,
        from: ConnectionId,
        input: &mut &[u8],
        host: &mut impl Host,
    ) -> Result<(), Error> {
        let result = self.advance(now, from, input, host);
        match result {
            Err(Error::NotConnected) | Ok(()) => {}
            Err(error) => {
                if let State::Open(session) = self.state(from)
                    && let Some(session) = self.sessions.get_mut(session)
                {
                    session.peer.abort(now, error, host.sink(from));
                }
                self.end_connection(now, from, End::Error(error), host);
            }
        }
        result
    }

    /// The host knows by now what it was asked for on this connection: the next
    /// [`poll`](Self::poll), which is due, asks the same again. Whether that is awaited.
    pub fn resume(&mut self, connection: ConnectionId) -> bool {
        let connection = self.connection_mut(connection);
        connection.is_some_and(|connection| core::mem::take(&mut connection.asked))
    }

    /// Does what is due: connections that were silent for too long end, sessions and wills come to
    /// their time.
    pub fn tick(&mut self, now: Instant, host: &mut impl Host) {
        if self.deadline().is_none_or(|due| due > now) {
            return;
        }
        self.tick_expiry(now, host);
        for _ in 0..ALARMS {
            let Some((_, place)) = self.handshakes.first().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.handshakes.clear(place);
            if let Some(Connection { generation, .. }) = self.connections.get(place) {
                self.tick_connection(now, ConnectionId { place, generation: *generation }, host);
            }
        }
        for _ in 0..ALARMS {
            let Some((_, place)) = self.alarms.first().filter(|(at, _)| *at <= now) else { break };
            self.alarms.clear(place);
            self.tick_session(now, place, host);
        }
    }

    /// When [`tick`](Self::tick) is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let alarms = [self.handshakes.first(), self.alarms.first()];
        let due = alarms.into_iter().flatten().map(|(at, _)| at);
        due.chain(self.sweep.due()).min()
    }

    /// What has happened so far.
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How many sessions there are, with and without a connection.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// How many messages are retained.
    pub fn retained(&self) -> usize {
        self.retained.len()
    }

    /// How many bytes of messages are kept.
    pub fn bytes(&self) -> usize {
        self.messages.bytes()
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections.get(id.place)?;
        (connection.generation == id.generation).then_some(connection)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(id.place)?;
        (connection.generation == id.generation).then_some(connection)
    }

    /// Something is due for a session then.
    fn wake(&mut self, session: u32, at: Instant) {
        self.alarms.set(session, tick_after(at));
    }

    fn advance(
        &mut self,
        now: Instant,
        from: ConnectionId,
        input: &mut &[u8],
        host: &mut impl Host,
    ) -> Result<(), Error> {
        loop {
            let Some(connection) = self.connection(from) else {
                return Err(Error::NotConnected);
            };
            match connection.state {
                State::Closing => return Err(Error::NotConnected),
                State::Open(session) if connection.asked => {
                    self.pump(now, session, host);
                    return Ok(());
                }
                _ if connection.asked => return Ok(()),
                State::Handshake { .. } => {
                    if !self.shake_hands(now, from, input, host)? {
                        return Ok(());
                    }
                }
                State::Open(session) => return self.serve(now, from, session, input, host),
            }
        }
    }

    /// Serves the client of a session as long as it has something to say.
    fn serve(
        &mut self,
        now: Instant,
        from: ConnectionId,
        place: u32,
        input: &mut &[u8],
        host: &mut impl Host,
    ) -> Result<(), Error> {
        let subject = Subject { session: place, connection: from };
        loop {
            while let Some(session) = self.sessions.get_mut(place) {
                let whole = *input;
                let request = session.peer.poll(now, input, host.sink(from))?;
                session.note_store(&mut self.messages, host);
                let Some(request) = request else { break };
                if let Request::Disconnect(disconnect) = request {
                    self.on_disconnect(now, subject, &disconnect, host);
                    return Ok(());
                }
                let wait = self.on_request(now, subject, &request, host)?;
                if wait != Wait::Nothing {
                    // It stays where it was.
                    if let Some(session) = self.sessions.get_mut(place) {
                        let left = input.len();
                        let taken = session.peer.put_back(&request, left, wait == Wait::Host);
                        *input = whole.get(whole.len() - left - taken..).unwrap_or_default();
                    }
                    self.set_asked(from, wait == Wait::Host);
                    self.pump(now, place, host);
                    self.set_deadline(place);
                    return Ok(());
                }
            }
            if !self.pump(now, place, host) {
                break;
            }
        }
        self.set_deadline(place);
        Ok(())
    }

    /// Does what a client asks for, unless that has to wait.
    fn on_request(
        &mut self,
        now: Instant,
        from: Subject,
        request: &Request<'_>,
        host: &mut impl Host,
    ) -> Result<Wait, Error> {
        match request {
            Request::Publish(message) => {
                let waits = self.on_publish(now, from, message, host)?;
                return Ok(if waits { Wait::Host } else { Wait::Nothing });
            }
            Request::Acknowledged(id, _) | Request::Dropped(id, _) => {
                self.settled(from.session, *id, host);
            }
            Request::Resend(id) => self.resend(now, from.session, *id, host),
            Request::Subscribe(id, subscribe) => {
                return self.on_subscribe(now, from, *id, subscribe, host);
            }
            Request::Unsubscribe(id, unsubscribe) => {
                return self.on_unsubscribe(now, from, *id, unsubscribe, host);
            }
            Request::Auth(auth) => return self.on_auth(now, from, auth, host),
            // What is as long as can be sent is given whole.
            _ => {}
        }
        Ok(Wait::Nothing)
    }
}
