//! Received bytes, and what they say.

use std::{
    io,
    mem::{self, MaybeUninit},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use mqtt_core::{Auth, ConnAck, Event, Instant, Property, ReasonCode, Text, TopicName};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::{
    error::{ConnectionError, PublishError, Refusal},
    message::{Identifiers, PublishProperties},
    options::Authenticator,
    state::{Arrived, State, refusal, verdict},
    subscriptions::granted,
    transport::BoxedTransport,
};

/// The most that is read at once, and the longest packet to be seen whole, in bytes.
pub(crate) const READ_BUFFER: usize = 64 * 1024;

/// The least that is read at once, in bytes, if there is room.
const MIN_READ: usize = 4 * 1024;

/// What an empty buffer keeps of its capacity, in bytes, however little comes.
const MIN_KEPT: usize = 1024;

/// The shortest payload, in bytes, that stays in the buffer it was read into.
const MIN_SHARED: usize = 4 * 1024;

/// What has been received and not understood yet.
#[derive(Debug, Default)]
pub(crate) struct Received {
    buffer: BytesMut,
    /// How much to read at once: as much as has come of late.
    appetite: usize,
    /// A message of which only the beginning has come.
    partial: Option<Partial>,
    /// What has been learnt about the connection.
    pub(crate) news: News,
}

#[derive(Debug)]
struct Partial {
    topic: Box<str>,
    payload: BytesMut,
    arrived: Arrived,
}

/// What a connection's owner has to know.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The server has accepted the connection: with the session, and perhaps a client identifier.
    pub(crate) connected: Option<(bool, Option<String>)>,
    /// It has refused or ended it.
    pub(crate) ended: Option<ConnectionError>,
}

/// How many events are handled before others have their turn: fewer than what an unread stream keeps, so
/// that none is overrun before it is read.
const EVENTS: usize = 512;

impl Received {
    /// Reads once, if there is room. How much; 0 is the end.
    ///
    /// Little is read by way of the stack, so that a connection on which nothing comes needs no buffer.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut BoxedTransport,
    ) -> Poll<io::Result<usize>> {
        if self.is_full() {
            return Poll::Pending;
        }
        let wanted = self.appetite.max(MIN_READ).min(READ_BUFFER - self.buffer.len());
        let count = if wanted <= MIN_READ {
            let mut room = [MaybeUninit::uninit(); MIN_READ];
            let mut read = ReadBuf::uninit(&mut room[..wanted]);
            ready!(Pin::new(io).poll_read(cx, &mut read))?;
            self.buffer.extend_from_slice(read.filled());
            read.filled().len()
        } else {
            self.buffer.reserve(wanted);
            ready!(pin!(io.read_buf(&mut self.buffer)).poll(cx))?
        };
        self.appetite = if count >= wanted {
            wanted * 2
        } else {
            count.next_power_of_two().max(self.appetite / 2)
        };
        Poll::Ready(Ok(count))
    }

    /// Whether nothing can be read before something has been understood.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= READ_BUFFER
    }

    /// Forgets everything: the connection has ended.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Understands as much as it can. Whether there may be more to do at once.
    pub(crate) fn process(
        &mut self,
        now: Instant,
        state: &mut State,
        authenticator: &mut Option<Box<dyn Authenticator>>,
    ) -> Result<bool, ConnectionError> {
        let buffer = mem::take(&mut self.buffer);
        if buffer.len() < MIN_SHARED {
            let mut input = &buffer[..];
            let result = self.handle_all(now, state, authenticator, &mut input, None);
            let taken = buffer.len() - input.len();
            self.keep(buffer, taken);
            return result;
        }
        let chunk = buffer.freeze();
        let mut input = &chunk[..];
        let result = self.handle_all(now, state, authenticator, &mut input, Some(&chunk));
        let taken = chunk.len() - input.len();
        match chunk.try_into_mut() {
            Ok(buffer) => self.keep(buffer, taken),
            Err(chunk) => self.buffer = chunk[taken..].into(), // a message holds it
        }
        result
    }

    /// Understands as much as it can of `input`, which is part of `chunk` if that can be shared.
    fn handle_all(
        &mut self,
        now: Instant,
        state: &mut State,
        authenticator: &mut Option<Box<dyn Authenticator>>,
        input: &mut &[u8],
        chunk: Option<&Bytes>,
    ) -> Result<bool, ConnectionError> {
        let mut more = true;
        let mut result = Ok(());
        for _ in 0..EVENTS {
            match state.machine.poll(now, input, &mut state.out) {
                Ok(Some(event)) => {
                    result = self.handle(now, state, authenticator, event, chunk);
                }
                Ok(None) => more = false,
                Err(error) => result = Err(error.into()),
            }
            let ended = !more || result.is_err() || self.news.ended.is_some();
            if ended || !state.crowded.is_empty() {
                break;
            }
        }
        result.map(|()| more)
    }

    /// Goes on behind the first `taken` bytes: in the same memory, unless nothing is left and only
    /// little has come of late.
    fn keep(&mut self, mut buffer: BytesMut, taken: usize) {
        if taken < buffer.len() {
            buffer.advance(taken);
            self.buffer = buffer;
        } else if buffer.capacity() <= MIN_KEPT.max(4 * self.appetite) {
            buffer.clear();
            self.buffer = buffer;
        }
    }

    fn handle(
        &mut self,
        now: Instant,
        state: &mut State,
        authenticator: &mut Option<Box<dyn Authenticator>>,
        event: Event<'_>,
        chunk: Option<&Bytes>,
    ) -> Result<(), ConnectionError> {
        match event {
            Event::Message(message) => self.on_message(now, state, message, chunk),
            Event::Payload { bytes, remaining } => {
                self.on_payload(now, state, bytes, remaining);
            }
            Event::Skipped { size } => {
                tracing::warn!(
                    size,
                    "a message was skipped: its topic and properties are too long"
                );
            }
            Event::Acknowledged(id, ack) => state.outcome(id, verdict(ack.reason, ack.properties)),
            Event::Dropped(id, reason) => {
                let error = match reason {
                    ReasonCode::PacketTooLarge => PublishError::TooLarge,
                    reason => PublishError::Unsupported(reason),
                };
                state.outcome(id, Err(error));
            }
            Event::Resend(id) => {
                state.machine.abandon(id); // the store has the message, or it was damaged
            }
            Event::Subscribed(id, ack) => {
                let State { subscriptions, routes, wakers, .. } = state;
                let answers = ack.reasons.iter().map(|reason| {
                    granted(reason).map_err(|reason| refusal(reason, ack.properties))
                });
                subscriptions.subscribed(id, answers, &mut |filter, error| {
                    routes.refuse(filter, &error, wakers);
                });
            }
            Event::Unsubscribed(id, _) => state.subscriptions.unsubscribed(id),
            Event::Connected(ack) => return self.on_connected(state, authenticator, &ack),
            Event::Refused(ack) => {
                let explanation = ack.reason_string.map(|text| text.as_str().into());
                let server_reference = ack.server_reference.map(|text| text.as_str().into());
                let refusal = Refusal { reason: ack.reason, explanation, server_reference };
                self.news.ended = Some(ConnectionError::Refused(refusal));
            }
            Event::Disconnected(disconnect) => {
                let refusal = refusal(disconnect.reason, disconnect.properties);
                self.news.ended = Some(ConnectionError::Disconnected(refusal));
            }
            Event::Auth(auth) => return on_auth(now, state, authenticator, &auth),
            event => tracing::warn!(?event, "an event of no known kind"),
        }
        Ok(())
    }

    fn on_connected(
        &mut self,
        state: &mut State,
        authenticator: &mut Option<Box<dyn Authenticator>>,
        ack: &ConnAck<'_>,
    ) -> Result<(), ConnectionError> {
        if let (Some(authenticator), Some(last)) = (authenticator, ack.authentication)
            && !authenticator.finish(last.data.unwrap_or_default())
        {
            return Err(ConnectionError::NotTrusted);
        }
        state.connected(ack.session_present);
        let assigned = ack.assigned_client_identifier.map(|id| id.as_str());
        state.assigned = assigned.map(Into::into).or(state.assigned.take());
        state.response_information = ack.response_information.map(|text| text.as_str().into());
        self.news.connected = Some((ack.session_present, assigned.map(Into::into)));
        Ok(())
    }

    fn on_message(
        &mut self,
        now: Instant,
        state: &mut State,
        message: mqtt_core::Message<'_>,
        chunk: Option<&Bytes>,
    ) {
        let mut arrived = Arrived {
            payload: Bytes::new(),
            qos: message.qos,
            retain: message.retain,
            dup: message.dup,
            properties: PublishProperties::from_packet(message.properties),
            identifiers: Identifiers::from_packet(message.properties),
            receipt: message.receipt,
        };
        if message.remaining > 0 || matches!(message.topic, TopicName::Alias(_)) {
            let topic = match message.topic {
                TopicName::Name(topic) => Some(topic),
                TopicName::Alias(alias) => state.machine.topic(alias),
            };
            let topic: Box<str> = topic.unwrap_or_default().as_str().into();
            let mut payload = BytesMut::new();
            payload.extend_from_slice(message.payload);
            self.partial = Some(Partial { topic, payload, arrived });
            if message.remaining == 0 {
                self.finish(now, state);
            }
        } else if let TopicName::Name(topic) = message.topic {
            arrived.payload = match chunk.filter(|_| message.payload.len() >= MIN_SHARED) {
                Some(chunk) => chunk.slice_ref(message.payload),
                None => Bytes::copy_from_slice(message.payload),
            };
            state.deliver(now, arrived, topic);
        }
    }

    fn on_payload(&mut self, now: Instant, state: &mut State, bytes: &[u8], remaining: u32) {
        if let Some(partial) = &mut self.partial {
            // The length was only announced: memory is taken as the bytes come.
            let ahead = (remaining as usize).min(partial.payload.len());
            partial.payload.reserve(bytes.len() + ahead);
            partial.payload.extend_from_slice(bytes);
        }
        if remaining == 0 {
            self.finish(now, state);
        }
    }

    fn finish(&mut self, now: Instant, state: &mut State) {
        if let Some(Partial { topic, payload, mut arrived }) = self.partial.take()
            && let Ok(topic) = mqtt_core::Topic::new(&topic)
        {
            arrived.payload = payload.freeze();
            state.deliver(now, arrived, topic);
        }
    }
}

/// The server takes a step of the authentication; ours follows.
fn on_auth(
    now: Instant,
    state: &mut State,
    authenticator: &mut Option<Box<dyn Authenticator>>,
    auth: &Auth<'_>,
) -> Result<(), ConnectionError> {
    let Some(authenticator) = authenticator else { return Err(ConnectionError::NotTrusted) };
    let data = auth.properties.authentication_data().unwrap_or_default();
    if auth.reason == ReasonCode::Success {
        return if authenticator.finish(data) { Ok(()) } else { Err(ConnectionError::NotTrusted) };
    }
    let answer = authenticator.step(data).ok_or(ConnectionError::NotTrusted)?;
    let method = Text::new(authenticator.method()).unwrap_or_default();
    let step = [Property::AuthenticationMethod(method), Property::AuthenticationData(&answer)];
    let auth = Auth { reason: ReasonCode::ContinueAuthentication, properties: (&step).into() };
    let sent = state.machine.authenticate(now, &auth, &mut state.out);
    sent.map_err(|_| ConnectionError::NotTrusted) // what it said makes no packet
}
