//! How a connection begins on the server's side: CONNECT, AUTH, CONNACK.

use core::num::NonZeroU32;

use super::{Peer, State};
use crate::{
    error::{EncodeError, Error, SendError, Violation, WriteError},
    link::{Limits, fingerprint},
    reason::ReasonCode,
    sink::Sink,
    slice,
    store::Store,
    time::Instant,
    wire::{
        self, Answer, Auth, ConnAck, Connect, Encode, Header, PacketType, Properties, Reply,
        Version,
    },
};

/// The version in which a client is listened to before it has told its own.
pub(crate) const ANY: Version = {
    #[cfg(feature = "v5")]
    let version = Version::V5;
    #[cfg(not(feature = "v5"))]
    let version = Version::V3_1_1;
    version
};

/// What a CONNECT asks for, as far as it is needed when it is answered. What the client takes are the
/// link's limits already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    clean_start: bool,
    pub(super) problem_information: bool,
    /// The session ends with the connection.
    pub(super) is_transient: bool,
    keep_alive: u16,
    /// The method of enhanced authentication, by its hash; `None` without.
    method: Option<NonZeroU32>,
}

impl Asked {
    pub(super) const NOTHING: Self = Self {
        clean_start: true,
        problem_information: true,
        is_transient: true,
        keep_alive: 0,
        method: None,
    };
}

/// Commands.
impl<S: Store> Peer<S> {
    /// Accepts [`Request::Connect`](super::Request::Connect) on these terms: writes CONNACK. With
    /// [`session_present`](ConnAck::session_present) the session in the store is resumed, otherwise
    /// it is discarded.
    ///
    /// All terms are kept to, but before 5.0 not told. The Receive Maximum is lowered to what the
    /// store has room for, the Topic Alias Maximum to its aliases.
    ///
    /// # Errors
    ///
    /// [`SendError`]; [`NotConnected`](SendError::NotConnected) if nobody asks to connect,
    /// [`EncodeError::ReasonCode`] for terms that refuse, or that resume what the client wants
    /// discarded [MQTT-3.2.2-2]; [`EncodeError::Property`] for another authentication method than
    /// the client's.
    pub fn accept(
        &mut self,
        now: Instant,
        terms: &ConnAck<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        if self.state != State::Connecting {
            return Err(SendError::NotConnected);
        }
        let resumed = terms.session_present;
        if terms.reason != ReasonCode::Success || resumed && self.asked.clean_start {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        let method = terms.authentication.map(|authentication| fingerprint(authentication.method));
        let zero = terms.receive_maximum == 0 || terms.maximum_packet_size == Some(0);
        if method != self.asked.method || zero {
            return Err(SendError::Invalid(EncodeError::Property));
        }
        let is_v5 = self.link.version.is_v5();
        let (places, aliases) = self.link.places(resumed);
        let terms = ConnAck {
            receive_maximum: terms.receive_maximum.min(places),
            topic_alias_maximum: terms.topic_alias_maximum.min(aliases),
            ..*terms
        };
        let bare = ConnAck { session_present: resumed, ..ConnAck::default() };
        self.link.send(now, if is_v5 { &terms } else { &bare }, 0, out)?;
        let alias_maximum = if is_v5 { terms.topic_alias_maximum } else { 0 };
        let (size, limits) = (terms.maximum_packet_size, self.link.limits);
        self.link.open(now, !resumed, terms.receive_maximum, size, alias_maximum);
        self.maximum_qos = terms.maximum_qos;
        let keep_alive = terms.server_keep_alive.filter(|_| is_v5);
        // The least that is needed has just been sent.
        let _ = self.link.accepted(limits, keep_alive.unwrap_or(self.asked.keep_alive));
        self.state = State::Connected;
        self.awaits_auth = false;
        Ok(())
    }

    /// Refuses [`Request::Connect`](super::Request::Connect) for the reason in `ack`: writes CONNACK,
    /// and ends the connection [MQTT-3.2.2-7]. Before 5.0, for a reason that has no return code, it
    /// writes nothing (3.1.1: [MQTT-3.2.2-6]).
    ///
    /// # Errors
    ///
    /// [`SendError`], with [`EncodeError::ReasonCode`] for a success.
    pub fn refuse(
        &mut self,
        now: Instant,
        ack: &ConnAck<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        if self.state != State::Connecting {
            return Err(SendError::NotConnected);
        }
        if !ack.reason.is_error() {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        if self.link.version.is_v5() {
            self.link.send(now, ack, 0, out)?;
        } else if let Some(refusal) = refusal(self.link.version, ack.reason) {
            self.link.send(now, &refusal, 0, out)?;
        }
        self.end();
        Ok(())
    }

    /// Takes a step of enhanced authentication: with [`ReasonCode::ContinueAuthentication`] another
    /// one is asked for [MQTT-4.12.0-2], with success a re-authentication has succeeded. That of a
    /// new connection ends with [`accept`](Self::accept) or [`refuse`](Self::refuse), one that fails
    /// on an open connection with [`disconnect`](Self::disconnect).
    ///
    /// # Errors
    ///
    /// [`SendError`]; [`EncodeError::Property`] if the method is not the client's
    /// [MQTT-4.12.0-5], [`EncodeError::ReasonCode`] if it is not the server's turn.
    pub fn authenticate(
        &mut self,
        now: Instant,
        auth: &Auth<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check_turn(auth.reason)?;
        if !self.has_method(auth.properties) {
            return Err(SendError::Invalid(EncodeError::Property));
        }
        self.step(now, auth.reason, auth, out)
    }

    /// Whether it is the server's turn to say this in an AUTH.
    fn check_turn(&self, reason: ReasonCode) -> Result<(), SendError> {
        let legal = match (self.state, reason) {
            (State::Closed | State::AwaitConnect, _) => return Err(SendError::NotConnected),
            (State::Connecting, ReasonCode::ContinueAuthentication) => true,
            (State::ReAuthenticating, ReasonCode::ContinueAuthentication | ReasonCode::Success) => {
                true
            }
            _ => false,
        };
        if legal && !self.awaits_auth {
            Ok(())
        } else {
            Err(SendError::Invalid(EncodeError::ReasonCode))
        }
    }

    /// Takes a step in the server's turn.
    fn step(
        &mut self,
        now: Instant,
        reason: ReasonCode,
        auth: &impl Encode,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.link.send(now, auth, 0, out)?;
        self.awaits_auth = reason == ReasonCode::ContinueAuthentication;
        if self.awaits_auth {
            self.link.await_step(now);
        } else {
            self.state = State::Connected;
        }
        Ok(())
    }

    /// Takes a step of another authentication on an open connection, in the words of a host.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        reply: &Reply<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check_turn(reply.reason)?;
        if !self.asked.problem_information {
            return self.step(now, reply.reason, &reply.brief(), out);
        }
        match self.step(now, reply.reason, reply, out) {
            Err(SendError::TooLarge) => self.step(now, reply.reason, &reply.brief(), out),
            result => result,
        }
    }
}

/// Requests.
impl<S: Store> Peer<S> {
    /// A CONNECT has come.
    pub(crate) fn greet(&mut self, version: Version, connect: &Connect<'_>) {
        self.link.version = version;
        self.link.step_taken();
        self.asked = Asked {
            clean_start: connect.clean_start,
            problem_information: connect.request_problem_information,
            is_transient: connect.session_expiry_interval == 0,
            keep_alive: connect.keep_alive,
            method: connect.authentication.map(|authentication| fingerprint(authentication.method)),
        };
        // Before 5.0 the client cannot tell how many it takes.
        let assumed = self.link.config.assumed_receive_maximum.max(1);
        self.link.limits = Limits {
            receive_maximum: if version.is_v5() { connect.receive_maximum } else { assumed },
            maximum_packet_size: connect.maximum_packet_size.unwrap_or(u32::MAX),
            topic_alias_maximum: connect.topic_alias_maximum,
            ..Limits::NONE
        };
        self.state = State::Connecting;
    }

    /// AUTH: an answer when one was asked for, or a new beginning, with the method CONNECT had.
    pub(super) fn on_auth<'b>(&mut self, body: &'b [u8]) -> Result<Auth<'b>, Error> {
        let auth = Auth::read(self.link.version, body)?;
        let legal = match auth.reason {
            ReasonCode::ContinueAuthentication => self.awaits_auth,
            ReasonCode::ReAuthenticate => self.state == State::Connected,
            _ => false,
        };
        if !legal || !self.has_method(auth.properties) {
            return Err(Violation::Authentication.into());
        }
        self.awaits_auth = false;
        self.link.step_taken();
        if self.state == State::Connected {
            self.state = State::ReAuthenticating;
        }
        Ok(auth)
    }

    /// An AUTH has not come yet after all.
    pub(super) fn retract(&mut self, reason: ReasonCode) {
        if reason == ReasonCode::ReAuthenticate {
            self.state = State::Connected;
        } else {
            self.awaits_auth = true;
        }
    }

    /// Whether these properties have the authentication method that CONNECT had.
    fn has_method(&self, properties: Properties<'_>) -> bool {
        let method = properties.authentication_method().map(fingerprint);
        method.is_some() && method == self.asked.method
    }
}

/// A CONNACK that refuses, if the version has one for this reason.
pub(super) fn refusal(version: Version, reason: ReasonCode) -> Option<ConnAck<'static>> {
    let known = if version.is_v5() {
        reason.is_legal_in(PacketType::ConnAck)
    } else {
        reason.as_return_code().is_some()
    };
    known.then_some(ConnAck { reason, ..ConnAck::default() })
}

/// Writes it with what else is said, if there is room.
pub(crate) fn refuse(
    version: Version,
    connect: &Connect<'_>,
    reason: ReasonCode,
    answer: &Answer<'_>,
    out: &mut impl Sink,
) {
    let legal = reason.is_error() && reason.is_legal_in(PacketType::ConnAck);
    let reason = if legal { reason } else { ReasonCode::NotAuthorized };
    let Some(bare) = refusal(version, reason) else { return };
    if version.is_v5() {
        let authentication =
            connect.authentication.filter(|_| answer.authentication_data.is_some());
        let refusal = ConnAck { authentication, ..bare };
        let most = connect.maximum_packet_size;
        for answer in [*answer, answer.brief()] {
            if write(version, &answer.complete(&refusal), most, out).is_ok() {
                return;
            }
        }
    }
    // If there is no room the client finds out by the close.
    let _ = write(version, &bare, None, out);
}

/// Writes a packet of at most so many bytes.
pub(crate) fn write(
    version: Version,
    packet: &impl Encode,
    most: Option<u32>,
    out: &mut impl Sink,
) -> Result<(), WriteError> {
    let remaining_length = packet.remaining_length(version)?;
    let len = wire::packet_len(remaining_length)?;
    if most.is_some_and(|most| len > most as usize) || len > out.capacity() {
        return Err(WriteError::TooLarge);
    }
    if len > out.room() {
        return Err(WriteError::NoRoom);
    }
    wire::write(packet, version, remaining_length, len, out);
    Ok(())
}

/// The number of bytes of a refusal that says no more.
pub(super) const SHORT: usize = 5;

/// Refuses a CONNECT that was not understood, if it says in which version it is to be answered: a
/// level that is not supported is told so in the words of that level [MQTT-3.1.2-2], anything else
/// on 5.0 alone.
pub(crate) fn write_refusal(reason: ReasonCode, input: &[u8], out: &mut impl Sink) {
    let Some(level) = level(input) else { return };
    let unsupported = reason == ReasonCode::UnsupportedProtocolVersion;
    let refusal: &[u8] = match level {
        5.. => &[0x20, 3, 0, reason.as_u8(), 0],
        _ if unsupported => &[0x20, 2, 0, 1],
        _ => return,
    };
    if let Some(span) = out.span(refusal.len()) {
        slice::copy(span, refusal);
    }
}

/// The protocol level of a CONNECT that begins as one does.
fn level(input: &[u8]) -> Option<u8> {
    let (_, body) = Header::decode(ANY, input).ok()??;
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..]
        | [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', level, ..] => Some(*level),
        _ => None,
    }
}
