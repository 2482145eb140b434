//! One end of a connection: what client and server have in common once they talk.
//!
//! `Link` writes packets within the peer's limits, carries publishes in both directions through
//! the [`Session`], and keeps the clock. It knows no role; handshake and requests are left to the
//! machine around it.

use crate::{
    error::{Error, Violation, WriteError},
    session::{Requests, Session},
    sink::{MIN_SINK, Sink},
    store::Store,
    time::Instant,
    timer::{Timer, TimerTable},
    wire::{self, Bare, Encode, Header, PacketType, QoS, SMALL, Text, Version, Writer},
};

mod inbound;
mod outbound;
mod serving;

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
pub(crate) fn fingerprint(text: Text<'_>) -> u32 {
    let step = |hash: u32, &byte: &u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.as_bytes().iter().fold(0x811c_9dc5, step)
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

/// See the [module](self).
///
/// The compiler would put the fields of one byte behind a store of any length. Near the front they
/// are reached by short instructions, and those that are often touched share a cache line.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link<S, R> {
    pub(crate) version: Version,
    /// Whether something has been written since that has no time yet.
    wrote: bool,
    /// A PINGREQ has been due, and nothing has been heard since.
    pinged: bool,
    /// There was no room for it yet.
    ping_owed: bool,
    /// Something may have to be sent that no packet asks for: answers and publishes held back.
    due: bool,
    /// It has declined.
    declined: bool,
    /// Whether publishes may have subscription identifiers, which are for clients.
    pub(crate) identifies: bool,
    /// It left packets that wait for the application, not for room: the peer is not to blame for its
    /// silence.
    stalled: bool,
    /// A resend that the application has been asked for.
    asked: Option<wire::PacketId>,
    inbound_alias_maximum: u16,
    pub(crate) limits: Limits,
    /// What we have told that we take.
    maximum_packet_size: u32,
    /// How many bytes are owed of a payload that leaves in pieces.
    outgoing: usize,
    /// How many were at the last poll.
    outgoing_before: usize,
    /// How much input the last poll left.
    unread: usize,
    /// A message that arrives in pieces.
    incoming: Option<inbound::Incoming>,
    pub(crate) config: Config,
    pub(crate) timers: TimerTable,
    last_sent: Instant,
    last_received: Instant,
    pub(crate) session: Session<S, R>,
    /// Milliseconds; 0 for none.
    keep_alive: u32,
}

impl<S, R: Requests> Link<S, R> {
    pub(crate) const fn new(version: Version, store: S, requests: R, mut config: Config) -> Self {
        if config.whole < Config::MIN_WHOLE {
            config.whole = Config::MIN_WHOLE;
        }
        Self {
            session: Session::new(store, requests),
            version,
            config,
            limits: Limits::NONE,
            timers: TimerTable::new(),
            last_sent: Instant::from_millis(0),
            wrote: false,
            last_received: Instant::from_millis(0),
            keep_alive: 0,
            maximum_packet_size: u32::MAX,
            inbound_alias_maximum: 0,
            incoming: None,
            outgoing: 0,
            outgoing_before: 0,
            pinged: false,
            ping_owed: false,
            due: false,
            asked: None,
            declined: false,
            unread: 0,
            identifies: false,
            stalled: false,
        }
    }
}

impl<S: Store, R: Requests> Link<S, R> {
    /// How many publishes and topic aliases of the peer's there is room for, with or without what an
    /// earlier connection has left. Before 5.0 the peer cannot be told that there is less than usual.
    pub(crate) fn places(&mut self, resumed: bool) -> (u16, u16) {
        let store = self.session.store_mut();
        let aliases = store.inbound_aliases().map_or(0, |aliases| aliases.maximum());
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
        (self.last_sent, self.last_received) = (now, now);
        self.timers.arm(Timer::Handshake, now + u64::from(self.config.handshake_timeout));
    }

    /// The peer has accepted the connection: publishes may flow.
    pub(crate) fn accepted(&mut self, limits: Limits, keep_alive: u16) -> Result<(), Violation> {
        self.limits = limits;
        if (limits.maximum_packet_size as usize) < outbound::ACK {
            return Err(Violation::MaximumPacketSize);
        }
        self.session.set_send_maximum(limits.receive_maximum);
        self.keep_alive = u32::from(keep_alive) * 1_000;
        self.timers.disarm(Timer::Handshake);
        self.due = true;
        Ok(())
    }

    /// The connection has ended.
    pub(crate) fn close(&mut self) {
        self.reset();
        self.session.close();
    }

    fn reset(&mut self) {
        self.limits = Limits::NONE;
        self.timers = TimerTable::new();
        self.keep_alive = 0;
        self.incoming = None;
        self.outgoing = 0;
        self.outgoing_before = 0;
        self.wrote = false;
        self.pinged = false;
        self.ping_owed = false;
        self.due = false;
        self.asked = None;
        self.declined = false;
        self.unread = 0;
        self.stalled = false;
    }

    /// How many bytes the machine itself may write now.
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    fn room(&self, out: &impl Sink) -> usize {
        if self.outgoing > 0 { 0 } else { out.room() }
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
        self.last_sent = now;
        Ok(Writer::begin(first_byte, remaining_length, span))
    }

    /// Whether a packet of `len` bytes may be written, for which `room` bytes are needed.
    fn check_room(&self, len: usize, room: usize, out: &impl Sink) -> Result<(), WriteError> {
        if self.outgoing > 0 {
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
        if available > self.unread || self.stalled {
            self.stalled = false;
            self.heard(now);
        }
    }

    /// How much of the input was not there at the last poll.
    pub(crate) const fn fresh(&self, available: usize) -> usize {
        available.saturating_sub(self.unread)
    }

    /// Whether the last poll left packets that wait for the application.
    pub(crate) const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// A packet has been taken.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_received = now;
        self.pinged = false;
        self.timers.disarm(Timer::Silence);
    }

    /// Ends whatever may have written acknowledgements, which are given no time each.
    pub(crate) const fn stamp(&mut self, now: Instant) {
        if self.wrote {
            self.wrote = false;
            self.last_sent = now;
        }
    }

    /// Ends a poll that leaves so much input.
    pub(crate) const fn leave(&mut self, unread: usize) {
        self.unread = unread;
    }

    /// The poll stops short of its input. If that is for want of room, it is the peer who takes
    /// nothing.
    pub(crate) fn stall(&mut self, out: &impl Sink) {
        let least = if self.outgoing > 0 { MIN_SINK + 1 } else { ACK_WITH_REASON };
        self.stalled = out.room() >= least;
    }

    /// When a PINGREQ is due: one keep alive after the last packet either way. Not in the middle of a
    /// payload, where there is no place for one.
    fn ping_due(&self) -> Option<Instant> {
        let idle = self.last_sent.min(self.last_received);
        let asked = self.pinged || self.ping_owed;
        let possible = self.keep_alive > 0 && self.outgoing == 0 && !asked;
        possible.then(|| idle + u64::from(self.keep_alive))
    }

    /// Sends a PINGREQ if it is due [MQTT-3.1.2-20]. If there is no room for it, it leaves when there
    /// is; but the peer's silence counts from now on, for it may be the one who takes nothing.
    #[inline]
    pub(crate) fn ping(&mut self, now: Instant, out: &mut impl Sink) {
        if self.outgoing != self.outgoing_before {
            self.stream(now);
        } else if self.ping_owed && self.outgoing == 0
            || self.ping_due().is_some_and(|due| due <= now)
        {
            self.pinged = true;
            let owed = self.send(now, &Bare(PacketType::PingReq), 0, out).is_err();
            if self.ping_owed && !owed {
                self.timers.disarm(Timer::Silence); // it is asked only now
            }
            self.ping_owed = owed;
        }
    }

    /// A payload moves on: while it does, the peer is alive, and has nothing to say.
    #[cold]
    fn stream(&mut self, now: Instant) {
        self.outgoing_before = self.outgoing;
        self.last_sent = now;
        self.heard(now);
    }

    /// Judges the peer's silence, once all of its complete packets have been taken: half a keep
    /// alive after a PINGREQ; one and a half without progress of a payload that it does not take.
    #[inline]
    pub(crate) fn judge(&mut self, now: Instant, out: &impl Sink) -> Result<(), Error> {
        if self.timers.has_expired(Timer::Handshake, now) {
            return Err(Error::HandshakeTimeout);
        }
        if (self.pinged || self.ping_owed || self.outgoing > 0) && self.keep_alive > 0 {
            return self.doubt(now, out);
        }
        Ok(())
    }

    /// Counts the peer's silence from the first poll that has nothing else to do: before, what asks
    /// it for a sign of life may not have left. A payload that waits for the application asks
    /// nothing.
    #[cold]
    fn doubt(&mut self, now: Instant, out: &impl Sink) -> Result<(), Error> {
        let half = u64::from(self.keep_alive / 2);
        let patience = match self.outgoing {
            0 => half,
            _ if out.room() > MIN_SINK => {
                self.timers.disarm(Timer::Silence);
                return Ok(());
            }
            _ => half + u64::from(self.keep_alive),
        };
        let expired = self.timers.has_expired(Timer::Silence, now);
        if expired && !self.stalled {
            return Err(Error::KeepAliveTimeout);
        }
        if expired || !self.timers.is_armed(Timer::Silence) {
            self.timers.arm(Timer::Silence, now + patience);
        }
        Ok(())
    }

    /// When the clock alone will make something happen.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match (self.timers.deadline(), self.ping_due()) {
            (Some(timer), Some(ping)) => Some(timer.min(ping)),
            (timer, ping) => timer.or(ping),
        }
    }
}
