//! How a client's connection begins and ends: CONNECT, CONNACK, AUTH, DISCONNECT.

use super::{Client, State};
use crate::{
    error::{EncodeError, Error, SendError, Violation},
    event::Event,
    link::{Limits, Place, Taken, fingerprint},
    reason::ReasonCode,
    sink::{MIN_SINK, Sink},
    store::Store,
    time::Instant,
    wire::{Auth, ConnAck, Connect, Disconnect, Header, PacketType, Properties},
};

/// Commands.
impl<S: Store> Client<S> {
    /// Opens a connection: writes CONNECT. The answer is [`Event::Connected`] or
    /// [`Event::Refused`].
    ///
    /// With [`clean_start`](Connect::clean_start) the old session ends here: every publish without
    /// an outcome is lost [MQTT-3.1.2-4]. Without it the caller claims to have the session's state,
    /// which is what the store holds [MQTT-3.2.2-4]. So a clean start is to be asked for again until
    /// one has come to [`Event::Connected`]: a server that has not heard of it resumes what is gone here,
    /// which is [`SessionPresent`](Violation::SessionPresent).
    ///
    /// The Receive Maximum is lowered to what the store has room for, the Topic Alias Maximum to its
    /// aliases.
    ///
    /// What is left of an earlier connection, received or to be sent, has to be discarded before.
    ///
    /// # Errors
    ///
    /// [`SendError`], with [`AlreadyConnected`](SendError::AlreadyConnected) until
    /// [`closed`](Self::closed) or the connection's end.
    pub fn connect(
        &mut self,
        now: Instant,
        connect: &Connect<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        if self.state != State::Closed {
            return Err(SendError::AlreadyConnected);
        }
        if connect.receive_maximum == 0 || connect.maximum_packet_size == Some(0) {
            return Err(SendError::Invalid(EncodeError::Property));
        }
        let version = self.link.version;
        let (places, aliases) = self.link.places(!connect.clean_start);
        let connect = Connect {
            receive_maximum: connect.receive_maximum.min(places),
            topic_alias_maximum: connect.topic_alias_maximum.min(aliases),
            ..*connect
        };
        self.link.send(now, &(version, &connect), 0, out)?;
        self.link.open(
            now,
            connect.clean_start,
            connect.receive_maximum,
            connect.maximum_packet_size,
            if version.is_v5() { connect.topic_alias_maximum } else { 0 },
        );
        self.state = State::AwaitConnAck;
        let expiry = connect.session_expiry_interval;
        self.expires = if version.is_v5() { expiry == 0 } else { connect.clean_start };
        self.keep_alive = connect.keep_alive;
        self.method =
            connect.authentication.map(|authentication| fingerprint(authentication.method));
        self.must_authenticate = false;
        self.discarded |= connect.clean_start;
        Ok(())
    }

    /// Takes a step of enhanced authentication, or with [`ReasonCode::ReAuthenticate`] begins it
    /// anew on the open connection [MQTT-4.12.1-1].
    ///
    /// # Errors
    ///
    /// [`SendError`]; [`EncodeError::Property`] if the method is not the one CONNECT had
    /// [MQTT-4.12.0-5], [`EncodeError::ReasonCode`] for one that a client does not send now.
    pub fn authenticate(
        &mut self,
        now: Instant,
        auth: &Auth<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        if self.state == State::Closed {
            return Err(SendError::NotConnected);
        }
        let legal = match auth.reason {
            ReasonCode::ReAuthenticate => self.state == State::Connected,
            ReasonCode::ContinueAuthentication => self.must_authenticate,
            _ => false,
        };
        if !legal {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        if !self.has_method(auth.properties) {
            return Err(SendError::Invalid(EncodeError::Property));
        }
        let reserve = if self.is_connected() { MIN_SINK } else { 0 };
        self.link.send(now, auth, reserve, out)?;
        self.must_authenticate = false;
        if self.is_connected() {
            self.state = State::ReAuthenticating;
        } else {
            self.link.await_step(now);
        }
        Ok(())
    }

    /// Ends the connection: writes DISCONNECT, after which nothing more is written
    /// [MQTT-3.14.4-1]. The caller flushes, closes the transport, and calls
    /// [`closed`](Self::closed).
    ///
    /// # Errors
    ///
    /// [`SendError`]; [`EncodeError::Property`] for a session expiry interval where CONNECT had
    /// none, and for a server reference, which is the server's; [`EncodeError::ReasonCode`] for a
    /// reason that only a server gives.
    pub fn disconnect(
        &mut self,
        now: Instant,
        disconnect: &Disconnect<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        if self.state == State::Closed {
            return Err(SendError::NotConnected);
        }
        let Disconnect { properties, .. } = disconnect;
        let expiry = properties.session_expiry_interval().unwrap_or_default();
        if self.expires && expiry != 0 || properties.server_reference().is_some() {
            return Err(SendError::Invalid(EncodeError::Property));
        }
        if is_server_only(disconnect.reason) {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        self.link.send(now, disconnect, 0, out)?;
        self.end();
        Ok(())
    }
}

/// Answers.
impl<S: Store> Client<S> {
    /// Before CONNACK only CONNACK comes, and AUTH [MQTT-3.2.0-1].
    #[inline(never)]
    pub(super) fn on_handshake<'b>(
        &mut self,
        header: Header,
        body: &'b [u8],
        event: Place<'_, Event<'b>>,
    ) -> Result<Taken, Error> {
        match header.packet_type {
            PacketType::ConnAck => {
                let mut ack = ConnAck::default();
                self.read_connack(&mut ack, body)?;
                let accepted = ack.reason == ReasonCode::Success;
                if accepted {
                    self.on_connack(&mut ack)?;
                } else {
                    self.end();
                }
                *event = Some(if accepted { Event::Connected(ack) } else { Event::Refused(ack) });
            }
            PacketType::Auth => {
                if self.on_auth(body, event)? != ReasonCode::ContinueAuthentication {
                    return Err(Violation::Authentication.into());
                }
                self.link.step_taken(); // until we have answered
            }
            _ => return Err(Violation::UnexpectedPacket.into()),
        }
        Ok(Taken::Event)
    }

    /// A server that does not know 5.0 may refuse it in the words of 3.1.1.
    fn read_connack<'b>(&self, ack: &mut ConnAck<'b>, body: &'b [u8]) -> Result<(), Error> {
        const REFUSAL: &[u8] = &[0, ReasonCode::UnsupportedProtocolVersion.as_u8(), 0];
        let body = if self.link.version.is_v5() && body == [0, 1] { REFUSAL } else { body };
        Ok(ack.fill(self.link.version, body)?)
    }

    fn on_connack(&mut self, ack: &mut ConnAck<'_>) -> Result<(), Violation> {
        if self.link.version.is_v3_1() {
            ack.session_present = !self.discarded; // it does not tell
        } else if ack.session_present && self.discarded {
            return Err(Violation::SessionPresent);
        }
        let method = ack.authentication.map(|authentication| fingerprint(authentication.method));
        if method != self.method || self.must_authenticate {
            return Err(Violation::Authentication);
        }
        if !ack.session_present {
            self.link.session.clear();
        }
        // There, a clean session is over with its connection, and no later CONNACK tells so.
        self.discarded = self.link.version.is_v3_1() && self.expires;
        let assumed = self.link.config.assumed_receive_maximum.max(1);
        let limits = Limits {
            receive_maximum: if self.link.version.is_v5() { ack.receive_maximum } else { assumed },
            maximum_packet_size: ack.maximum_packet_size.unwrap_or(u32::MAX),
            maximum_qos: ack.maximum_qos,
            topic_alias_maximum: ack.topic_alias_maximum,
            retain_available: ack.retain_available,
            wildcard_subscription_available: ack.wildcard_subscription_available,
            subscription_identifier_available: ack.subscription_identifier_available,
            shared_subscription_available: ack.shared_subscription_available,
        };
        self.keep_alive = ack.server_keep_alive.unwrap_or(self.keep_alive);
        self.link.accepted(limits, self.keep_alive)?;
        self.state = State::Connected;
        Ok(())
    }

    /// AUTH when it is the server's turn, with the method CONNECT had: another step, or success.
    pub(super) fn on_auth<'b>(
        &mut self,
        body: &'b [u8],
        event: Place<'_, Event<'b>>,
    ) -> Result<ReasonCode, Error> {
        let read = Auth::read(self.link.version, body);
        let auth = read.as_ref().map_err(|error| *error)?; // by itself `?` would copy it
        let illegal = auth.reason == ReasonCode::ReAuthenticate || self.must_authenticate;
        if illegal || !self.has_method(auth.properties) {
            return Err(Violation::Authentication.into());
        }
        self.must_authenticate = auth.reason == ReasonCode::ContinueAuthentication;
        *event = Some(Event::Auth(*auth));
        Ok(auth.reason)
    }

    /// Whether these properties have the authentication method that CONNECT had.
    fn has_method(&self, properties: Properties<'_>) -> bool {
        let method = properties.authentication_method().map(fingerprint);
        method.is_some() && method == self.method
    }
}

/// Whether DISCONNECT with this reason is for servers: section 3.14.2.1.
const fn is_server_only(reason: ReasonCode) -> bool {
    matches!(
        reason.as_u8(),
        0x87 | 0x89 | 0x8b..=0x8f | 0x9a..=0xa2
    )
}
