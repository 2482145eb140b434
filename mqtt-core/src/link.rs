//! One end of a connection: what client and server have in common once they talk.
//!
//! `Link` writes packets within the peer's limits, carries publishes in both directions through
//! the [`Session`], and keeps the clock. It knows no role; handshake and requests are left to the
//! machine around it.

use core::num::NonZeroU32;

use crate::{
    error::{Violation, WriteError},
    session::{Requests, Session},
    sink::{MIN_SINK, Sink},
    store::Store,
    time::Instant,
    wire::{self, Encode, Header, QoS, SMALL, Text, Version, Writer},
};

mod asking;
mod inbound;
mod outbound;
mod serving;

pub(crate) use asking::Pinging;
use outbound::ACK_WITH_REASON;

/// Who says that a message has been taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Acknowledgement {
    /// The machine, when the application is given the message.
    #[default]
    Automatic,
    /// The application, by [`Client::acknowledge`](crate::Client::acknowledge).
    Manual,
}

/// What is done about a peer that has more publishes unacknowledged than it was told to (5.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overrun {
    /// The connection ends with [`ReasonCode::ReceiveMaximumExceeded`](crate::ReasonCode).
    #[default]
    Disconnect,
    /// What is too much stays in the input, with everything behind it, until something has been
    /// acknowledged, as before 5.0. At QoS 2 only the peer can end what is acknowledged: then more is taken
    /// as long as the store has places, and the connection ends when it has none. Some brokers exceed the
    /// Receive Maximum when they have much to catch up with, and would do so again on each connection.
    Wait,
}

/// What the application decides about its own end.
///
/// ```
/// use mqtt_core::Config;
///
/// let config = Config { whole: 2048, ..Config::default() };
/// assert_eq!(config.handshake_timeout, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// The longest packet, in bytes, that the caller can give to `poll` in one piece: the length of
    /// its receive buffer. The payload of a longer PUBLISH comes in pieces; any other longer packet
    /// is an error. Unlimited by default, at least [`MIN_WHOLE`](Self::MIN_WHOLE).
    pub whole: usize,
    /// Who acknowledges.
    pub acknowledgement: Acknowledgement,
    /// How long the peer may take for a step of the handshake, in milliseconds.
    pub handshake_timeout: u32,
    /// How many publishes at QoS 1 and 2 to have unacknowledged where the peer cannot tell how many it
    /// takes: before 5.0, at least 1. More than some brokers take ends the connection; 20 is what is
    /// common.
    pub assumed_receive_maximum: u16,
    /// What to do when the peer exceeds the Receive Maximum it was told.
    pub overrun: Overrun,
    /// Whether to let topic aliases stand for outgoing topics, as far as the peer and the store
    /// have room for them.
    pub topic_aliases: bool,
}

impl Config {
    /// The least that `whole` can be, in bytes; a lower value is taken for this one.
    pub const MIN_WHOLE: usize = 16;

    /// The default, for constants.
    pub const DEFAULT: Self = Self {
        whole: usize::MAX,
        acknowledgement: Acknowledgement::Automatic,
        handshake_timeout: 10_000,
        assumed_receive_maximum: 20,
        overrun: Overrun::Disconnect,
        topic_aliases: false,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What the peer has told that it takes, as far as it binds us.
///
/// Without a connection, and before 5.0, nothing is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Limits {
    /// How many publishes at QoS 1 and 2 it takes unacknowledged [MQTT-3.3.4-7].
    pub receive_maximum: u16,
    /// The largest packet, in bytes [MQTT-3.2.2-15].
    pub maximum_packet_size: u32,
    /// The highest QoS [MQTT-3.2.2-11].
    pub maximum_qos: QoS,
    /// The highest topic alias [MQTT-3.2.2-17].
    pub topic_alias_maximum: u16,
    /// Whether a publish may be retained [MQTT-3.2.2-14].
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcard_subscription_available: bool,
    /// Whether subscriptions may have identifiers.
    pub subscription_identifier_available: bool,
    /// Whether subscriptions may be shared.
    pub shared_subscription_available: bool,
}

impl Limits {
    pub(crate) const NONE: Self = Self {
        receive_maximum: u16::MAX,
        maximum_packet_size: u32::MAX,
        maximum_qos: QoS::ExactlyOnce,
        topic_alias_maximum: 0,
        retain_available: true,
        wildcard_subscription_available: true,
        subscription_identifier_available: true,
        shared_subscription_available: true,
    };
}

/// FNV-1a, to compare a name that is not kept.
pub(crate) fn fingerprint(text: Text<'_>) -> NonZeroU32 {
    let step = |hash: u32, &byte: &u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = text.as_bytes().iter().fold(0x811c_9dc5, step);
    NonZeroU32::new(hash).unwrap_or(NonZeroU32::MAX)
}

/// What became of a packet at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It concerns the application: the event has been put in its place.
    Event,
    /// It has been dealt with.
    Done,
    /// It stays until there is room.
    Later,
    /// It is not there yet.
    More,
}

/// Where an event is put, or what a role makes of it. It is long, and every layer that returned it
/// would copy it.
pub(crate) type Place<'p, E> = &'p mut Option<E>;

/// What one of the roles alone has to remember of a connection: nothing by default.
pub(crate) trait Role {
    type Requests: Requests;

    /// Whether publishes may have subscription identifiers, which are for clients.
    const IDENTIFIES: bool;

    /// A connection begins, or ends.
    fn reset(&mut self) {}

    /// A packet has been written.
    fn sent(&mut self, now: Instant) {
        let _ = now;
    }

    /// Something has been written that is given its time by a [`stamp`](Self::stamp).
    fn wrote(&mut self) {}

    fn stamp(&mut self, now: Instant) {
        let _ = now;
    }

    /// The peer has given a sign of life.
    fn heard(&mut self) {}

    /// A payload of so many bytes is to leave in pieces.
    fn owe(&mut self, len: usize) {
        let _ = len;
    }

    /// How many bytes are owed of it.
    fn owed(&self) -> usize {
        0
    }
}

/// A server's.
impl Role for () {
    type Requests = ();

    const IDENTIFIES: bool = true;
}

/// A [`Config`] in fewer bytes.
#[derive(Debug)]
pub(crate) struct Settings {
    /// No packet is longer than this can say.
    whole: u32,
    pub(crate) handshake_timeout: u32,
    pub(crate) assumed_receive_maximum: u16,
    acknowledgement: Acknowledgement,
    overrun: Overrun,
    topic_aliases: bool,
}

impl Settings {
    const fn new(config: Config) -> Self {
        let whole = if config.whole < Config::MIN_WHOLE { Config::MIN_WHOLE } else { config.whole };
        Self {
            whole: if whole > u32::MAX as usize { u32::MAX } else { whole as u32 },
            handshake_timeout: config.handshake_timeout,
            assumed_receive_maximum: config.assumed_receive_maximum,
            acknowledgement: config.acknowledgement,
            overrun: config.overrun,
            topic_aliases: config.topic_aliases,
        }
    }

    /// See [`Config::whole`].
    pub(crate) const fn whole(&self) -> usize {
        self.whole as usize
    }
}

/// See the [module](self).
///
/// The compiler would put the fields of one byte behind a store of any length. Near the front they
/// are reached by short instructions, and those that are often touched share a cache line.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link<S, R: Role> {
    pub(crate) version: Version,
    /// Something may have to be sent that no packet asks for: answers and publishes held back.
    due: bool,
    /// It has declined.
    declined: bool,
    /// It left packets that wait for the application, not for room: the peer is not to blame for its
    /// silence.
    stalled: bool,
    /// A resend that the application has been asked for.
    asked: Option<wire::PacketId>,
    inbound_alias_maximum: u16,
    role: R,
    pub(crate) limits: Limits,
    /// What we have told that we take.
    maximum_packet_size: u32,
    /// How much input the last poll left.
    unread: u32,
    /// A message that arrives in pieces.
    incoming: Option<inbound::Incoming>,
    pub(crate) config: Settings,
    /// Seconds; 0 for none.
    keep_alive: u16,
    /// When the peer's part of the handshake is due.
    handshake: Instant,
    last_received: Instant,
    pub(crate) session: Session<S, R::Requests>,
}

impl<S, R: Role> Link<S, R> {
    pub(crate) const fn new(
        version: Version,
        store: S,
        role: R,
        requests: R::Requests,
        config: Config,
    ) -> Self {
        Self {
            session: Session::new(store, requests),
            role,
            version,
            config: Settings::new(config),
            limits: Limits::NONE,
            handshake: Instant::NEVER,
            last_received: Instant::from_millis(0),
            keep_alive: 0,
            maximum_packet_size: u32::MAX,
            inbound_alias_maximum: 0,
            incoming: None,
            due: false,
            asked: None,
            declined: false,
            unread: 0,
            stalled: false,
        }
    }
}

impl<S: Store, R: Role> Link<S, R> {
    /// How many publishes and topic aliases of the peer's there is room for, with or without what an
    /// earlier connection has left. Before 5.0 the peer cannot be told that there is less than usual.
    pub(crate) fn places(&mut self, resumed: bool) -> (u16, u16) {
        let store = self.session.store_mut();
        let aliases = store.inbound_alias_maximum();
        let carried = if resumed && self.version.is_v5() { store.arrivals() as u16 } else { 0 };
        (store.capacity().arrivals.saturating_sub(carried).max(1), aliases)
    }

    /// A connection begins, on which we take this much.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        clean: bool,
        receive_maximum: u16,
        maximum_packet_size: Option<u32>,
        inbound_alias_maximum: u16,
    ) {
        self.reset();
        self.session.open(clean, receive_maximum);
        self.maximum_packet_size = maximum_packet_size.unwrap_or(u32::MAX);
        self.inbound_alias_maximum = inbound_alias_maximum;
        self.role.sent(now);
        self.last_received = now;
        self.await_step(now);
    }

    /// The peer has accepted the connection: publishes may flow.
    pub(crate) fn accepted(&mut self, limits: Limits, keep_alive: u16) -> Result<(), Violation> {
        self.limits = limits;
        if (limits.maximum_packet_size as usize) < outbound::ACK {
            return Err(Violation::MaximumPacketSize);
        }
        self.session.set_send_maximum(limits.receive_maximum);
        self.keep_alive = keep_alive;
        self.step_taken();
        self.due = true;
        Ok(())
    }

    /// A step of the handshake is the peer's, and has to come in time.
    pub(crate) fn await_step(&mut self, now: Instant) {
        self.handshake = now + u64::from(self.config.handshake_timeout);
    }

    /// It has come, and the next one is ours.
    pub(crate) fn step_taken(&mut self) {
        self.handshake = Instant::NEVER;
    }

    /// Whether it has not come in time.
    fn is_late(&self, now: Instant) -> bool {
        self.handshake.has_come(now)
    }

    /// The connection has ended.
    pub(crate) fn close(&mut self) {
        self.reset();
        self.session.close();
    }

    fn reset(&mut self) {
        self.limits = Limits::NONE;
        self.role.reset();
        self.handshake = Instant::NEVER;
        self.keep_alive = 0;
        self.incoming = None;
        self.due = false;
        self.asked = None;
        self.declined = false;
        self.unread = 0;
        self.stalled = false;
    }

    /// How many bytes the machine itself may write now.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    fn room(&self, out: &impl Sink) -> usize {
        if self.role.owed() > 0 { 0 } else { out.room() }
    }

    /// Whether the input begins with a packet that the peer must not send, for its length.
    pub(crate) fn check_size(&self, header: &Header) -> Result<(), Violation> {
        let most = self.maximum_packet_size as usize;
        // The fixed header has five bytes at most.
        let near = SMALL || header.remaining_length as usize + 5 > most;
        if near && header.packet_len() > most {
            return Err(Violation::PacketTooLarge);
        }
        Ok(())
    }

    /// Writes a whole packet and leaves `reserve` bytes of room, or does nothing.
    pub(crate) fn send<E: Encode>(
        &mut self,
        now: Instant,
        packet: &E,
        reserve: usize,
        out: &mut impl Sink,
    ) -> Result<(), WriteError> {
        let remaining_length = packet.remaining_length(self.version)?;
        let head = (packet.first_byte(), remaining_length);
        packet.write(self.version, &mut self.begin_packet(now, head, reserve, out)?);
        Ok(())
    }

    /// Writes the fixed header of a packet and gives the span for the rest of it. Not generic over
    /// the packet, so that there is one of it.
    #[inline(never)]
    fn begin_packet<'o>(
        &mut self,
        now: Instant,
        (first_byte, remaining_length): (u8, usize),
        reserve: usize,
        out: &'o mut impl Sink,
    ) -> Result<Writer<'o>, WriteError> {
        let len = wire::packet_len(remaining_length)?;
        self.check_room(len, len + reserve, out)?;
        let span = out.span(len).ok_or(WriteError::NoRoom)?;
        self.role.sent(now);
        Ok(Writer::begin(first_byte, remaining_length, span))
    }

    /// Whether a packet of `len` bytes may be written, for which `room` bytes are needed.
    fn check_room(&self, len: usize, room: usize, out: &impl Sink) -> Result<(), WriteError> {
        if self.role.owed() > 0 {
            return Err(WriteError::Streaming);
        }
        if len > self.limits.maximum_packet_size as usize || room > out.capacity() {
            return Err(WriteError::TooLarge);
        }
        if room > out.room() {
            return Err(WriteError::NoRoom);
        }
        Ok(())
    }

    /// Begins a poll: bytes that were not there before are a sign of life.
    pub(crate) fn hear(&mut self, now: Instant, available: usize) {
        if available > self.unread as usize || self.stalled {
            self.stalled = false;
            self.heard(now);
        }
    }

    /// How much of the input was not there at the last poll.
    pub(crate) const fn fresh(&self, available: usize) -> usize {
        available.saturating_sub(self.unread as usize)
    }

    /// Whether the last poll left packets that wait for the application.
    pub(crate) const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// A packet has been taken.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_received = now;
        self.role.heard();
    }

    /// Ends whatever may have written acknowledgements, which are given no time each.
    pub(crate) fn stamp(&mut self, now: Instant) {
        self.role.stamp(now);
    }

    /// Ends a poll that leaves so much input.
    pub(crate) const fn leave(&mut self, unread: usize) {
        self.unread = if unread > u32::MAX as usize { u32::MAX } else { unread as u32 };
    }

    /// The poll stops short of its input. If that is for want of room, it is the peer who takes
    /// nothing.
    pub(crate) fn stall(&mut self, out: &impl Sink) {
        let least = if self.role.owed() > 0 { MIN_SINK + 1 } else { ACK_WITH_REASON };
        self.stalled = out.room() >= least;
    }
}
