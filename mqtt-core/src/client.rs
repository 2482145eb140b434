//! The client.

mod handshake;

use core::num::NonZeroU32;

use crate::{
    error::{DecodeError, Error, PublishError, SendError, Violation},
    event::{Event, Receipt},
    link::{Config, Limits, Link, Pinging, Place, Taken},
    reason::ReasonCode,
    session::{Asking, Request},
    sink::{MIN_SINK, Sink},
    store::Store,
    time::Instant,
    topic::Topic,
    wire::{
        self, Disconnect, Header, PacketId, PacketType, Publish, Subscribe, Unsubscribe, Version,
    },
};

/// A client's end of MQTT, without IO.
///
/// It is driven by four kinds of method:
///
/// - *Commands* ([`connect`](Self::connect), [`publish`](Self::publish),
///   [`subscribe`](Self::subscribe), ...) write one whole packet to the sink they are given, or
///   change nothing and say why.
/// - [`poll`](Self::poll) takes what has been received, answers it, and gives at most one
///   [`Event`]. It is to be called whenever there is input, whenever there is room in the sink
///   again, and at the [`deadline`](Self::deadline); calling it more often is harmless.
/// - [`deadline`](Self::deadline) tells when the clock alone will make something happen.
/// - [`closed`](Self::closed) tells it that the transport is gone. The session stays in the store,
///   and the next [`connect`](Self::connect) resumes it.
///
/// Bytes go where the caller says and are flushed by the caller. All methods take the time instead
/// of reading a clock.
///
/// ```
/// use mqtt_core::{Buffer, Client, Connect, Event, Instant, Publish, Topic, Version, store::Fixed};
///
/// let mut client = Client::new(Version::V5, Fixed::<8, 1024>::new());
/// let mut out = Buffer::<256>::new();
/// let now = Instant::from_millis(0);
/// client.connect(now, &Connect::default(), &mut out)?;
/// out.clear(); // ...written to the transport
///
/// let mut input: &[u8] = &[0x20, 0x03, 0x00, 0x00, 0x00]; // ...read from it: CONNACK
/// let event = client.poll(now, &mut input, &mut out)?;
/// assert!(matches!(event, Some(Event::Connected(ack)) if !ack.session_present));
///
/// let message = Publish::new(Topic::new("sensors/7")?, "21.5");
/// assert_eq!(client.publish(now, &message, &mut out)?, None); // QoS 0 has no outcome
/// assert_eq!(out.as_bytes()[..2], [0x30, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client<S> {
    link: Link<S, Pinging>,
    state: State,
    /// Whether the session, as CONNECT asked for it, ends with the connection.
    expires: bool,
    /// Seconds, as asked for and then as agreed.
    keep_alive: u16,
    /// The method of enhanced authentication, by its hash; `None` without.
    method: Option<NonZeroU32>,
    /// Whether the next AUTH is ours.
    must_authenticate: bool,
    /// The session was discarded here, and no server has confirmed that it was there.
    discarded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is open.
    Closed,
    /// CONNECT sent, CONNACK awaited.
    AwaitConnAck,
    Connected,
    /// Connected, and a re-authentication under way.
    ReAuthenticating,
}

impl<S> Client<S> {
    /// A client that speaks `version` and keeps its session in `store`.
    pub const fn new(version: Version, store: S) -> Self {
        Self::with_config(version, store, Config::DEFAULT)
    }

    /// A client with other than the default [`Config`].
    pub const fn with_config(version: Version, store: S, config: Config) -> Self {
        Self {
            link: Link::new(version, store, Pinging::new(), Asking::new(), config),
            state: State::Closed,
            expires: true,
            keep_alive: 0,
            method: None,
            must_authenticate: false,
            discarded: false,
        }
    }

    /// The version it speaks.
    pub const fn version(&self) -> Version {
        self.link.version
    }

    /// Whether the server has accepted the connection, and it has not ended since.
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::ReAuthenticating)
    }

    /// What the server has told that it takes.
    pub const fn limits(&self) -> Limits {
        self.link.limits
    }

    /// Seconds that may pass between packets, as agreed with the server; 0 is for ever.
    pub const fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// The session's store.
    pub const fn store(&self) -> &S {
        self.link.session.store()
    }

    /// The session's store, for what it can do beyond [`Store`]. To change what it remembers of the
    /// session would be to lie to the server.
    pub const fn store_mut(&mut self) -> &mut S {
        self.link.session.store_mut()
    }

    /// Gives the session's store back, for another client to resume. That has to speak the same
    /// version: messages are kept as they were encoded.
    pub fn into_store(self) -> S {
        self.link.session.into_store()
    }
}

/// Commands.
impl<S: Store> Client<S> {
    /// Publishes a message. At QoS 1 and 2 it gives the identifier under which the one outcome will
    /// be told: [`Event::Acknowledged`], [`Event::Dropped`], or lost with the session
    /// ([`Event::Connected`] without session, or [`connect`](Self::connect) with clean start).
    ///
    /// # Errors
    ///
    /// [`PublishError`]. Topic aliases are the machine's to set: a
    /// [`TopicAlias`](crate::Property::TopicAlias) among the properties is invalid.
    ///
    /// ```
    /// # use mqtt_core::{Buffer, Client, Instant, Publish, PublishError, Topic, Version, store::Fixed};
    /// let mut client = Client::new(Version::V5, Fixed::<8, 1024>::new());
    /// let message = Publish::new(Topic::new("a/b")?, "early");
    /// let result = client.publish(Instant::default(), &message, &mut Buffer::<64>::new());
    /// assert_eq!(result, Err(PublishError::NotConnected));
    /// # Ok::<(), mqtt_core::TopicError>(())
    /// ```
    pub fn publish(
        &mut self,
        now: Instant,
        message: &Publish<'_>,
        out: &mut impl Sink,
    ) -> Result<Option<PacketId>, PublishError> {
        if !self.is_connected() {
            return Err(PublishError::NotConnected);
        }
        self.link.publish(now, message, None, out)
    }

    /// Begins to publish a message of `len` bytes that does not have to fit anywhere whole: writes
    /// all but the payload, whose parts [`payload`](Self::payload) takes. No other packet leaves
    /// before it is complete. Only a record is kept of it: at QoS 1 and 2 it may have to be
    /// [sent again](Event::Resend).
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish). A payload in `head` is ignored.
    pub fn publish_streamed(
        &mut self,
        now: Instant,
        head: &Publish<'_>,
        len: usize,
        out: &mut impl Sink,
    ) -> Result<Option<PacketId>, PublishError> {
        if !self.is_connected() {
            return Err(PublishError::NotConnected);
        }
        self.link.publish(now, head, Some(len), out)
    }

    /// Appends the next part of the payload that is being streamed, and tells how many of the bytes
    /// were taken: 0 if there is no room, or nothing is [owed](Self::payload_owed) any more. The
    /// payload ends by itself at the length announced; [`poll`](Self::poll) then goes on with
    /// what it held back.
    pub fn payload(&mut self, bytes: &[u8], out: &mut impl Sink) -> usize {
        self.link.payload(bytes, out)
    }

    /// How many bytes are missing of the payload that is being streamed.
    pub const fn payload_owed(&self) -> usize {
        self.link.payload_owed()
    }

    /// Publishes again what [`Event::Resend`] has asked for, under its old identifier.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`EncodeError::Delivery`](crate::EncodeError::Delivery) if it was not asked for or had
    /// another QoS.
    pub fn publish_again(
        &mut self,
        now: Instant,
        id: PacketId,
        message: &Publish<'_>,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        if !self.is_connected() {
            return Err(PublishError::NotConnected);
        }
        self.link.publish_again(now, id, message, None, out)
    }

    /// [`publish_again`](Self::publish_again) in pieces, as
    /// [`publish_streamed`](Self::publish_streamed).
    ///
    /// # Errors
    ///
    /// As [`publish_again`](Self::publish_again).
    pub fn publish_again_streamed(
        &mut self,
        now: Instant,
        id: PacketId,
        head: &Publish<'_>,
        len: usize,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        if !self.is_connected() {
            return Err(PublishError::NotConnected);
        }
        self.link.publish_again(now, id, head, Some(len), out)
    }

    /// Gives up what [`Event::Resend`] has asked for; its outcome will be [`Event::Dropped`] with
    /// [`ReasonCode::UnspecifiedError`]. Whether it was asked for.
    pub fn abandon(&mut self, id: PacketId) -> bool {
        self.link.abandon(id)
    }

    /// Asks for subscriptions. The answer is [`Event::Subscribed`] with the identifier given here,
    /// unless the connection ends first.
    ///
    /// # Errors
    ///
    /// [`SendError`], with [`Unsupported`](SendError::Unsupported) for what the server has told that
    /// it does not support.
    pub fn subscribe(
        &mut self,
        now: Instant,
        subscribe: &Subscribe<'_>,
        out: &mut impl Sink,
    ) -> Result<PacketId, SendError> {
        let id = self.request_id()?;
        self.check_supported(subscribe)?;
        self.link.send(now, &(id, subscribe), MIN_SINK, out)?;
        let filters = subscribe.subscriptions.iter().count();
        self.link.session.request(id, Request::Subscribe, filters);
        Ok(id)
    }

    /// Ends subscriptions. The answer is [`Event::Unsubscribed`] with the identifier given here,
    /// unless the connection ends first.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn unsubscribe(
        &mut self,
        now: Instant,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut impl Sink,
    ) -> Result<PacketId, SendError> {
        let id = self.request_id()?;
        self.link.send(now, &(id, unsubscribe), MIN_SINK, out)?;
        let filters = unsubscribe.filters.iter().count();
        self.link.session.request(id, Request::Unsubscribe, filters);
        Ok(id)
    }

    /// Acknowledges a message, or refuses it (5.0, reasons of 0x80 and above), if that was
    /// [left to the application](crate::Acknowledgement::Manual). Messages may be acknowledged in
    /// any order; the packets leave in the order of arrival [MQTT-4.6.0-2].
    ///
    /// # Errors
    ///
    /// [`StaleReceipt`](SendError::StaleReceipt) after the first time, and for a QoS 1 message after
    /// the connection on which it came: it comes again.
    pub fn acknowledge(
        &mut self,
        now: Instant,
        receipt: Receipt,
        reason: ReasonCode,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.link.acknowledge(now, receipt, reason, out)
    }

    /// The transport is gone, or is to be. Unanswered requests have ended; publishes have not.
    pub fn closed(&mut self) {
        self.end();
    }

    /// Discards the rest of the message that is arriving in pieces; [`Event::Skipped`] follows when
    /// its end has come. Whether there is one.
    pub fn skip(&mut self) -> bool {
        self.link.skip()
    }

    fn request_id(&mut self) -> Result<PacketId, SendError> {
        if !self.is_connected() {
            return Err(SendError::NotConnected);
        }
        if !self.link.session.can_request() {
            return Err(SendError::InFlightFull);
        }
        self.link.session.free_id().ok_or(SendError::InFlightFull)
    }

    fn check_supported(&self, subscribe: &Subscribe<'_>) -> Result<(), SendError> {
        let limits = self.link.limits;
        let refuse = |reason| Err(SendError::Unsupported(reason));
        if !limits.subscription_identifier_available
            && subscribe.properties.subscription_identifier().is_some()
        {
            return refuse(ReasonCode::SubscriptionIdentifiersNotSupported);
        }
        for subscription in subscribe.subscriptions {
            if !limits.wildcard_subscription_available && subscription.filter.has_wildcard() {
                return refuse(ReasonCode::WildcardSubscriptionsNotSupported);
            }
            if !limits.shared_subscription_available && subscription.filter.is_shared() {
                return refuse(ReasonCode::SharedSubscriptionsNotSupported);
            }
        }
        Ok(())
    }
}

/// Driving.
impl<S: Store> Client<S> {
    /// Writes what is due, then takes packets off the front of `input` until one concerns the
    /// application. Gives at most one event; `input` is shortened by what was taken.
    ///
    /// `Ok(None)` means that nothing more can happen before there is more input, more room in `out`
    /// (if it is not empty), or the [deadline](Self::deadline) has come. What is left of `input` has
    /// to be given again, with more behind it. Received bytes should be given to `poll` before
    /// the time is: the peer's silence is judged when its complete packets have been taken.
    ///
    /// # Errors
    ///
    /// [`Error`] ends the connection. On 5.0 a DISCONNECT with its
    /// [`reason`](Error::reason) has been written if it fitted: flush, close the transport, call
    /// [`closed`](Self::closed). Until the next [`connect`](Self::connect) it is
    /// [`Error::NotConnected`].
    pub fn poll<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
    ) -> Result<Option<Event<'b>>, Error> {
        if self.state == State::Closed {
            return Err(Error::NotConnected);
        }
        let mut event = None;
        if let Err(error) = self.advance(now, input, out, &mut event) {
            self.fail(now, error, out);
            return Err(error);
        }
        self.link.stamp(now);
        self.link.leave(input.len());
        Ok(event)
    }

    /// What [`poll`](Self::poll) does without its input: writes what is due, and keeps the peer assured
    /// that this end lives. For while the application cannot be given another message, and so no input
    /// be taken; the peer is not to blame for its silence then.
    ///
    /// # Errors
    ///
    /// [`Error`], as [`poll`](Self::poll).
    ///
    /// ```
    /// # use mqtt_core::{Buffer, Client, Connect, Error, Instant, Version, store::Fixed};
    /// # let mut client = Client::new(Version::V5, Fixed::<8, 1024>::new());
    /// # let mut out = Buffer::<256>::new();
    /// # let connect = Connect { keep_alive: 10, ..Connect::default() };
    /// # client.connect(Instant::default(), &connect, &mut out)?;
    /// # client.poll(Instant::default(), &mut &b"\x20\x03\0\0\0"[..], &mut out)?;
    /// # out.clear();
    /// for seconds in 1..100 {
    ///     let now = Instant::from_millis(seconds * 1_000); // ...the application is busy
    ///     assert_eq!(client.tend(now, &mut out), Ok(None));
    /// }
    /// assert_eq!(out.as_bytes(), [0xc0, 0x00]); // PINGREQ, whose answer was not looked for
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tend(
        &mut self,
        now: Instant,
        out: &mut impl Sink,
    ) -> Result<Option<Event<'static>>, Error> {
        if self.state == State::Closed {
            return Err(Error::NotConnected);
        }
        let mut event = None;
        self.link.ping(now, out);
        let told = self.link.write_due(out, &mut event);
        self.link.stamp(now);
        if told {
            return Ok(event);
        }
        self.link.stall(out);
        if let Err(error) = self.link.judge(now, out) {
            self.fail(now, error, out);
            return Err(error);
        }
        Ok(None)
    }

    /// When [`poll`](Self::poll) is to be called though nothing has been received.
    pub fn deadline(&self) -> Option<Instant> {
        self.link.deadline()
    }

    /// The topic that an alias in a [message](crate::Message) stands for.
    pub fn topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.link.session.store().inbound_topic(alias)
    }

    #[inline]
    fn advance<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, Event<'b>>,
    ) -> Result<(), Error> {
        self.link.hear(now, input.len());
        self.link.ping(now, out);
        loop {
            if self.link.write_due(out, event) {
                return Ok(());
            }
            match self.take(now, input, out, event)? {
                Taken::Event => return Ok(()),
                Taken::Done => {}
                Taken::Later => {
                    self.link.stall(out);
                    break;
                }
                Taken::More => break,
            }
        }
        self.link.judge(now, out)
    }

    /// Takes the packet at the front of the input.
    #[inline]
    fn take<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, Event<'b>>,
    ) -> Result<Taken, Error> {
        if self.link.is_receiving() {
            return self.link.advance(input, out, event);
        }
        let Some((header, body)) = Header::decode(self.link.version, input)? else {
            return Ok(Taken::More);
        };
        self.link.check_size(&header)?;
        let Some((body, rest)) = body.split_at_checked(header.remaining_length as usize) else {
            return self.take_part(header, input, body, out, event);
        };
        let taken = self.dispatch(header, body, out, event)?;
        if taken != Taken::Later {
            *input = rest;
            self.link.heard(now);
        }
        Ok(taken)
    }

    /// The beginning of a packet: of one that the caller can hold there will be more.
    #[inline(never)]
    fn take_part<'b>(
        &mut self,
        header: Header,
        input: &mut &'b [u8],
        body: &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, Event<'b>>,
    ) -> Result<Taken, Error> {
        header.check_length(self.link.version)?;
        if header.packet_len() <= self.link.config.whole() {
            return Ok(Taken::More);
        }
        if header.packet_type != PacketType::Publish {
            return Err(Violation::PacketTooLarge.into());
        }
        if !self.is_connected() {
            return Err(Violation::UnexpectedPacket.into());
        }
        self.link.begin(header, input, body, out, event)
    }

    #[inline]
    fn dispatch<'b>(
        &mut self,
        header: Header,
        body: &'b [u8],
        out: &mut impl Sink,
        event: Place<'_, Event<'b>>,
    ) -> Result<Taken, Error> {
        if !self.is_connected() {
            return self.on_handshake(header, body, event);
        }
        match header.packet_type {
            PacketType::Publish => self.link.on_publish(header, body, out, event),
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                self.link.on_step(header.packet_type, body, out, event)
            }
            _ => self.on_other(header, body, event),
        }
    }

    #[inline(never)]
    fn on_other<'b>(
        &mut self,
        header: Header,
        body: &'b [u8],
        event: Place<'_, Event<'b>>,
    ) -> Result<Taken, Error> {
        let version = self.link.version;
        match header.packet_type {
            packet @ (PacketType::SubAck | PacketType::UnsubAck) => {
                let read = wire::read_ack(version, packet, body);
                let ack = read.as_ref().map_err(|error| *error)?;
                let id = ack.id;
                let subscribed = packet == PacketType::SubAck;
                let request = if subscribed { Request::Subscribe } else { Request::Unsubscribe };
                self.link.session.answered(id, request, ack.count())?;
                *event = Some(if subscribed {
                    Event::Subscribed(id, ack.to_suback())
                } else {
                    Event::Unsubscribed(id, ack.to_unsuback())
                });
            }
            PacketType::PingResp if body.is_empty() => return Ok(Taken::Done),
            PacketType::PingResp => return Err(DecodeError::TrailingBytes.into()),
            PacketType::Disconnect if version.is_v5() => {
                let read = Disconnect::read(version, body);
                let disconnect = read.as_ref().map_err(|error| *error)?;
                if disconnect.reason == ReasonCode::DisconnectWithWillMessage {
                    return Err(DecodeError::ReasonCode.into());
                }
                if disconnect.properties.session_expiry_interval().is_some() {
                    return Err(Violation::Property.into());
                }
                self.end();
                *event = Some(Event::Disconnected(*disconnect));
            }
            PacketType::Auth if self.state == State::ReAuthenticating => {
                if self.on_auth(body, event)? == ReasonCode::Success {
                    self.state = State::Connected;
                }
            }
            _ => return Err(Violation::UnexpectedPacket.into()),
        }
        Ok(Taken::Event)
    }

    /// Ends the connection for an error: on 5.0 with a DISCONNECT that tells it. Before, the will is
    /// to be published, which a DISCONNECT would prevent.
    #[cold]
    fn fail(&mut self, now: Instant, error: Error, out: &mut impl Sink) {
        if let Some(reason) = error.reason()
            && self.link.version.is_v5()
        {
            // If there is no room the peer finds out by the close.
            let _ = self.link.send(now, &Disconnect::from(reason), 0, out);
        }
        self.end();
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.link.close();
    }
}
