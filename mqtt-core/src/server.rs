//! The server's end of one connection.

mod handshake;
mod relaying;

use crate::{
    error::{DecodeError, EncodeError, Error, PublishError, SendError, Violation},
    event::{Event, Message, Receipt},
    link::{Config, Limits, Link, Place, Taken},
    reason::ReasonCode,
    sink::{MIN_SINK, Sink},
    store::Store,
    time::Instant,
    topic::Topic,
    wire::{
        Ack, Auth, Bare, ConnAck, Connect, Disconnect, Header, PacketId, PacketType, Properties,
        Publish, QoS, SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
    },
};
use handshake::Asked;
pub(crate) use handshake::{ANY, refuse, write, write_refusal};

/// What a client wants, or what became of a message for it. Borrows the input, never the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Request<'b> {
    /// To connect, in this version of the protocol: [`accept`](Peer::accept) or
    /// [`refuse`](Peer::refuse) it, or, if it asks for enhanced authentication,
    /// [`authenticate`](Peer::authenticate) first. Nothing more is read before.
    Connect(Version, Connect<'b>),
    /// A step of enhanced authentication. On an open connection one with
    /// [`ReasonCode::ReAuthenticate`] begins it anew.
    Auth(Auth<'b>),
    /// To publish a message, or the beginning of a long one.
    Publish(Message<'b>),
    /// More of the payload of the message that arrived last.
    Payload {
        /// The next bytes.
        bytes: &'b [u8],
        /// How many bytes are still to come.
        remaining: u32,
    },
    /// A message was discarded and acknowledged, because the application asked for it or because
    /// its topic and properties do not fit the input.
    Skipped {
        /// The length of its packet without the fixed header, in bytes.
        size: u32,
    },
    /// Subscriptions: [answer](Peer::subscribed) them under this identifier [MQTT-3.8.4-1].
    Subscribe(PacketId, Subscribe<'b>),
    /// Their end: [answer](Peer::unsubscribed) under this identifier [MQTT-3.10.4-4].
    Unsubscribe(PacketId, Unsubscribe<'b>),
    /// The outcome of a publish to the client, as [`Event::Acknowledged`].
    Acknowledged(PacketId, Ack<'b>),
    /// The outcome of a publish that cannot be sent again, as [`Event::Dropped`].
    Dropped(PacketId, ReasonCode),
    /// A publish of which only a record is kept is to be sent again, as [`Event::Resend`].
    Resend(PacketId),
    /// To leave. Nothing more will happen on this connection.
    Disconnect(Disconnect<'b>),
}

impl<'b> From<Event<'b>> for Request<'b> {
    #[inline(always)]
    fn from(event: Event<'b>) -> Self {
        match event {
            Event::Message(message) => Self::Publish(message),
            Event::Payload { bytes, remaining } => Self::Payload { bytes, remaining },
            Event::Skipped { size } => Self::Skipped { size },
            Event::Acknowledged(id, ack) => Self::Acknowledged(id, ack),
            Event::Dropped(id, reason) => Self::Dropped(id, reason),
            Event::Resend(id) => Self::Resend(id),
            Event::Auth(auth) => Self::Auth(auth),
            Event::Disconnected(disconnect) => Self::Disconnect(disconnect),
            // A link tells nothing else of what only a client hears.
            Event::Connected(_)
            | Event::Refused(_)
            | Event::Subscribed(..)
            | Event::Unsubscribed(..) => Self::Skipped { size: 0 },
        }
    }
}

/// A server's end of one connection at a time, without IO.
///
/// It is driven as a [`Client`](crate::Client) is: *commands* write one whole packet or change
/// nothing, [`poll`](Self::poll) takes what has been received and gives at most one [`Request`],
/// [`deadline`](Self::deadline) tells when the clock alone will make something happen.
///
/// [`open`](Self::open) begins a connection, [`closed`](Self::closed) ends it. The session stays in
/// the store; whether the next connection resumes it is told to [`accept`](Self::accept). Which
/// client that is, what it subscribes to and who gets its messages is the application's to know.
///
/// A store that keeps messages keeps them as they were encoded: it serves a client that keeps to one
/// version. [`Records`](crate::store::Records) serves one that does not.
///
/// ```
/// use mqtt_core::{Buffer, ConnAck, Instant, server::{Peer, Request}, store::Fixed};
///
/// let mut peer = Peer::new(Fixed::<8, 1024>::new());
/// let mut out = Buffer::<256>::new();
/// let now = Instant::from_millis(0);
/// peer.open(now);
///
/// // CONNECT of a 5.0 client without a name.
/// let mut input: &[u8] = b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0";
/// let request = peer.poll(now, &mut input, &mut out)?;
/// assert!(matches!(request, Some(Request::Connect(_, connect)) if connect.clean_start));
/// peer.accept(now, &ConnAck::default(), &mut out)?;
/// assert_eq!(out.as_bytes()[..4], [0x20, 0x06, 0x00, 0x00]); // and its Receive Maximum
/// assert!(peer.is_connected());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Peer<S> {
    link: Link<S, ()>,
    state: State,
    asked: Asked,
    /// The highest QoS that the client was told to publish at.
    maximum_qos: QoS,
    /// Whether the next AUTH is the client's.
    awaits_auth: bool,
    /// The number of bytes of the packet that was taken last.
    taken: u32,
    /// How many bytes have come since the client last showed that it lives, as far as it matters.
    trickled: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is open.
    Closed,
    /// CONNECT awaited.
    AwaitConnect,
    /// CONNECT told, and not decided.
    Connecting,
    Connected,
    /// Connected, and a re-authentication under way.
    ReAuthenticating,
}

impl<S> Peer<S> {
    /// A server's end that keeps its session in `store`.
    pub const fn new(store: S) -> Self {
        Self::with_config(store, Config::DEFAULT)
    }

    /// One with other than the default [`Config`].
    pub const fn with_config(store: S, config: Config) -> Self {
        let link = Link::new(ANY, store, (), (), config);
        let (state, asked) = (State::Closed, Asked::NOTHING);
        let maximum_qos = QoS::ExactlyOnce;
        Self { link, state, asked, maximum_qos, awaits_auth: false, taken: 0, trickled: 0 }
    }

    /// The version that the client speaks, once it has connected.
    pub const fn version(&self) -> Version {
        self.link.version
    }

    /// Whether a client has been accepted, and the connection has not ended since.
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected | State::ReAuthenticating)
    }

    /// What the client has told that it takes.
    pub const fn limits(&self) -> Limits {
        self.link.limits
    }

    /// The session's store.
    pub const fn store(&self) -> &S {
        self.link.session.store()
    }

    pub(crate) const fn store_mut(&mut self) -> &mut S {
        self.link.session.store_mut()
    }

    /// Gives the session's store back.
    pub fn into_store(self) -> S {
        self.link.session.into_store()
    }
}

/// Commands.
impl<S: Store> Peer<S> {
    /// Publishes a message to the client. At QoS 1 and 2 it gives the identifier under which the
    /// one outcome will be told: [`Request::Acknowledged`], [`Request::Dropped`], or lost with the
    /// session.
    ///
    /// # Errors
    ///
    /// [`PublishError`]. Topic aliases are the machine's to set.
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

    /// Publishes again what [`Request::Resend`] has asked for, under its old identifier.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`EncodeError::Delivery`] if it was not asked for or had
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

    /// Gives up what [`Request::Resend`] has asked for; its outcome will be [`Request::Dropped`] with
    /// [`ReasonCode::UnspecifiedError`]. Whether it was asked for.
    pub fn abandon(&mut self, id: PacketId) -> bool {
        self.link.abandon(id)
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

    /// Answers [`Request::Subscribe`] with one reason code per filter [MQTT-3.9.3-1]. Explanations
    /// are left out for a client that wants none.
    ///
    /// # Errors
    ///
    /// [`SendError`]: after [`NoRoom`](SendError::NoRoom) it has still to be answered.
    pub fn subscribed(
        &mut self,
        now: Instant,
        id: PacketId,
        ack: &SubAck<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check_connected()?;
        let ack = SubAck { properties: self.explanation(ack.properties), ..*ack };
        Ok(self.link.send(now, &(id, &ack), 0, out)?)
    }

    /// Answers [`Request::Unsubscribe`]: on 5.0 with one reason code per filter [MQTT-3.11.3-1],
    /// which are left out before.
    ///
    /// # Errors
    ///
    /// [`SendError`]: after [`NoRoom`](SendError::NoRoom) it has still to be answered.
    pub fn unsubscribed(
        &mut self,
        now: Instant,
        id: PacketId,
        ack: &UnsubAck<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check_connected()?;
        let mut ack = UnsubAck { properties: self.explanation(ack.properties), ..*ack };
        if !self.link.version.is_v5() {
            ack = UnsubAck::default();
        }
        Ok(self.link.send(now, &(id, &ack), 0, out)?)
    }

    /// Ends the connection: on 5.0 it writes DISCONNECT, before nothing. The caller flushes, closes
    /// the transport, and calls [`closed`](Self::closed).
    ///
    /// # Errors
    ///
    /// [`SendError`]; [`EncodeError::Property`] for a session expiry interval, which is the client's
    /// to change [MQTT-3.14.2-2]; [`EncodeError::ReasonCode`] for a reason that only a client gives.
    pub fn disconnect(
        &mut self,
        now: Instant,
        disconnect: &Disconnect<'_>,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check_connected()?;
        if disconnect.properties.session_expiry_interval().is_some() {
            return Err(SendError::Invalid(EncodeError::Property));
        }
        if disconnect.reason == ReasonCode::DisconnectWithWillMessage {
            return Err(SendError::Invalid(EncodeError::ReasonCode));
        }
        if self.link.version.is_v5() {
            self.link.send(now, disconnect, 0, out)?;
        }
        self.end();
        Ok(())
    }

    /// The transport is open: the client's CONNECT is awaited.
    pub fn open(&mut self, now: Instant) {
        self.end();
        self.link.version = ANY;
        self.link.await_step(now);
        self.state = State::AwaitConnect;
    }

    /// The transport is gone, or is to be. Publishes have not ended.
    pub fn closed(&mut self) {
        self.end();
    }

    /// Discards the rest of the message that is arriving in pieces; [`Request::Skipped`] follows when
    /// its end has come. Whether there is one.
    pub fn skip(&mut self) -> bool {
        self.link.skip()
    }

    fn check_connected(&self) -> Result<(), SendError> {
        if self.is_connected() { Ok(()) } else { Err(SendError::NotConnected) }
    }

    /// Properties that only explain, if the client wants to know [MQTT-3.1.2-29].
    fn explanation<'a>(&self, properties: Properties<'a>) -> Properties<'a> {
        if self.asked.problem_information { properties } else { Properties::EMPTY }
    }
}

/// Driving.
impl<S: Store> Peer<S> {
    /// Writes what is due, then takes packets off the front of `input` until one concerns the
    /// application. Gives at most one request; `input` is shortened by what was taken. The rules are
    /// those of [`Client::poll`](crate::Client::poll).
    ///
    /// A client is given one and a half times the keep alive for a packet [MQTT-3.1.2-22]; for a longer
    /// one as long as 256 bytes of it come in that time.
    ///
    /// # Errors
    ///
    /// [`Error`] ends the connection. A CONNACK or, on 5.0, a DISCONNECT with the reason has been
    /// written if there is one and it fitted: flush, close the transport, call
    /// [`closed`](Self::closed).
    pub fn poll<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
    ) -> Result<Option<Request<'b>>, Error> {
        if self.state == State::Closed {
            return Err(Error::NotConnected);
        }
        let mut request = None;
        if let Err(error) = self.advance(now, input, out, &mut request) {
            self.fail(now, error, input, out);
            return Err(error);
        }
        self.link.leave(input.len());
        Ok(request)
    }

    /// When [`poll`](Self::poll) is to be called though nothing has been received.
    pub fn deadline(&self) -> Option<Instant> {
        self.link.patience()
    }

    /// The topic that an alias in a [message](Message) stands for.
    pub fn topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.link.session.store().inbound_topic(alias)
    }

    #[inline]
    fn advance<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
        request: Place<'_, Request<'b>>,
    ) -> Result<(), Error> {
        self.hear(now, input.len());
        loop {
            if self.link.write_due(out, request) {
                return Ok(());
            }
            match self.take(now, input, out, request)? {
                Taken::Event => return Ok(()),
                Taken::Done => {}
                Taken::Later => {
                    self.link.stall(out);
                    break;
                }
                Taken::More => break,
            }
        }
        self.link.judge_client(now)
    }

    /// Takes the packet at the front of the input.
    #[inline]
    fn take<'b>(
        &mut self,
        now: Instant,
        input: &mut &'b [u8],
        out: &mut impl Sink,
        request: Place<'_, Request<'b>>,
    ) -> Result<Taken, Error> {
        if self.state == State::Connecting && !self.awaits_auth {
            return Ok(Taken::Later); // it is the application's turn
        }
        if self.link.is_receiving() {
            let taken = self.link.advance(input, out, request)?;
            if !self.link.is_receiving() {
                self.heard(now);
            }
            return Ok(taken);
        }
        let Some((header, body)) = Header::decode(self.link.version, input)? else {
            return Ok(Taken::More);
        };
        self.check_order(header)?;
        self.link.check_size(&header)?;
        self.check_qos(header)?;
        let Some((body, rest)) = body.split_at_checked(header.remaining_length as usize) else {
            return self.take_part(header, input, body, out, request);
        };
        let taken = self.dispatch(now, header, body, out, request)?;
        if taken != Taken::Later {
            self.taken = (input.len() - rest.len()) as u32;
            *input = rest;
            self.heard(now);
        }
        Ok(taken)
    }

    /// Begins a poll. What has come of a packet is a sign of life if it is enough.
    #[inline]
    fn hear(&mut self, now: Instant, available: usize) {
        let fresh = self.link.fresh(available).min(PROGRESS.into()) as u16;
        self.trickled = self.trickled.saturating_add(fresh);
        if self.trickled >= PROGRESS || self.link.is_stalled() {
            self.trickled = 0;
            self.link.hear(now, available);
        }
    }

    /// A packet has been taken.
    #[inline]
    fn heard(&mut self, now: Instant) {
        self.trickled = 0;
        self.link.heard(now);
    }

    /// A client publishes no higher than it was told to [MQTT-3.2.2-11].
    fn check_qos(&self, header: Header) -> Result<(), Violation> {
        let is_publish = header.packet_type == PacketType::Publish;
        if is_publish && header.flags >> 1 & 3 > self.maximum_qos as u8 {
            return Err(Violation::QoSNotSupported);
        }
        Ok(())
    }

    /// CONNECT comes first and once, and before its answer only AUTH: [MQTT-3.1.0-1],
    /// [MQTT-3.1.0-2].
    fn check_order(&self, header: Header) -> Result<(), Violation> {
        let legal = match self.state {
            State::AwaitConnect => header.packet_type == PacketType::Connect,
            State::Connecting => header.packet_type == PacketType::Auth,
            _ => header.packet_type != PacketType::Connect,
        };
        if legal { Ok(()) } else { Err(Violation::UnexpectedPacket) }
    }

    /// The beginning of a packet: of one that the caller can hold there will be more.
    #[inline(never)]
    fn take_part<'b>(
        &mut self,
        header: Header,
        input: &mut &'b [u8],
        body: &'b [u8],
        out: &mut impl Sink,
        request: Place<'_, Request<'b>>,
    ) -> Result<Taken, Error> {
        header.check_length(self.link.version)?;
        if header.packet_len() <= self.link.config.whole() {
            return Ok(Taken::More);
        }
        if header.packet_type != PacketType::Publish {
            return Err(Violation::PacketTooLarge.into());
        }
        self.link.begin(header, input, body, out, request)
    }

    #[inline]
    fn dispatch<'b>(
        &mut self,
        now: Instant,
        header: Header,
        body: &'b [u8],
        out: &mut impl Sink,
        request: Place<'_, Request<'b>>,
    ) -> Result<Taken, Error> {
        match header.packet_type {
            PacketType::Publish => {
                let taken = self.link.on_publish(header, body, out, request)?;
                check_publish(request).map(|()| taken)
            }
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                self.link.on_step(header.packet_type, body, out, request)
            }
            _ => self.on_other(now, header, body, out, request),
        }
    }

    #[inline(never)]
    fn on_other<'b>(
        &mut self,
        now: Instant,
        header: Header,
        body: &'b [u8],
        out: &mut impl Sink,
        request: Place<'_, Request<'b>>,
    ) -> Result<Taken, Error> {
        let version = self.link.version;
        *request = Some(match header.packet_type {
            PacketType::Connect => {
                let (version, connect) = Connect::read(body)?;
                self.greet(version, &connect);
                Request::Connect(version, connect)
            }
            PacketType::Subscribe => {
                let (id, subscribe) = Subscribe::read(version, body)?;
                Request::Subscribe(id, subscribe)
            }
            PacketType::Unsubscribe => {
                let (id, unsubscribe) = Unsubscribe::read(version, body)?;
                Request::Unsubscribe(id, unsubscribe)
            }
            PacketType::PingReq if !body.is_empty() => {
                return Err(DecodeError::TrailingBytes.into());
            }
            PacketType::PingReq => {
                let pong = self.link.send(now, &Bare(PacketType::PingResp), 0, out);
                return Ok(if pong.is_ok() { Taken::Done } else { Taken::Later });
            }
            PacketType::Disconnect => Request::Disconnect(self.on_disconnect(body)?),
            PacketType::Auth => Request::Auth(self.on_auth(body)?),
            _ => return Err(Violation::UnexpectedPacket.into()),
        });
        Ok(Taken::Event)
    }

    fn on_disconnect<'b>(&mut self, body: &'b [u8]) -> Result<Disconnect<'b>, Error> {
        let disconnect = Disconnect::read(self.link.version, body)?;
        let properties = disconnect.properties;
        let revived = properties.session_expiry_interval().is_some_and(|expiry| expiry > 0)
            && self.asked.is_transient;
        if revived || properties.server_reference().is_some() {
            return Err(Violation::Property.into());
        }
        self.end();
        Ok(disconnect)
    }

    /// Ends the connection for an error: tells the client, if it can be told.
    #[cold]
    fn fail(&mut self, now: Instant, error: Error, input: &[u8], out: &mut impl Sink) {
        let reason = match error {
            Error::KeepAliveTimeout => Some(ReasonCode::KeepAliveTimeout),
            _ => error.reason(),
        };
        // If there is no room the peer finds out by the close.
        match (self.state, reason) {
            (State::AwaitConnect, Some(reason)) => write_refusal(reason, input, out),
            (State::Connecting, Some(reason)) => {
                let _ = self.refuse(now, &ConnAck { reason, ..ConnAck::default() }, out);
            }
            (_, Some(reason)) if self.link.version.is_v5() => {
                let _ = self.link.send(now, &Disconnect::from(reason), 0, out);
            }
            _ => {}
        }
        self.end();
    }

    fn end(&mut self) {
        self.state = State::Closed;
        self.awaits_auth = false;
        self.link.close();
    }
}

/// How many bytes of an unfinished packet show that the client lives.
const PROGRESS: u16 = 256;

/// A client has no subscription identifiers to tell [MQTT-3.3.4-6].
fn check_publish(request: &Option<Request<'_>>) -> Result<(), Error> {
    match request {
        Some(Request::Publish(message))
            if !message.properties.is_empty()
                && message.properties.subscription_identifier().is_some() =>
        {
            Err(Violation::Property.into())
        }
        _ => Ok(()),
    }
}

const _: () = assert!(MIN_SINK >= handshake::SHORT, "a refusal fits");
