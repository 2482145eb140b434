//! What can be asked of a broker, and published without a client.

use super::{
    Broker, ConnectionId, Host, Memory, State,
    memory::{Lent, Names, Slab},
    message::{Content, Messages},
    session::Session,
};
use crate::{
    Instant,
    reason::ReasonCode,
    router::{Options, Router, Subscriber},
    sink::Payload,
    store::Name,
    topic::{Filter, Topic},
    wire::{Properties, Publish, QoS, Version},
};

/// What is known of a client, connected or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Client<'b> {
    /// Its name.
    pub client_id: &'b [u8],
    /// The number of the user whose session it is, as it was [let in as](super::Verdict::AllowAs) last, or 0.
    pub identity: u32,
    /// What that user is called, where such names are kept: [`Host::user_name`].
    pub owner: Option<&'b [u8]>,
    /// Its connection, if it has one.
    pub connection: Option<ConnectionId>,
    /// The protocol that it speaks, or spoke last.
    pub version: Version,
    /// For how long its session outlives the connection, in seconds; `u32::MAX` is for ever.
    pub session_expiry_interval: u32,
    /// When its session ends, if it has no connection and that has an end.
    pub ends: Option<Instant>,
    /// Whether it leaves a will, or one that is still to be published.
    pub has_will: bool,
    /// How many messages are on their way to it unacknowledged.
    pub in_flight: usize,
    /// How many wait for it, as [`Config::queue_messages`](super::Config::queue_messages) counts them.
    pub waiting: usize,
    /// How many bytes these have.
    pub waiting_bytes: usize,
}

/// A retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained<'b> {
    /// What it is about.
    pub topic: Topic<'b>,
    /// The message.
    pub payload: Payload<'b>,
    /// At which QoS it was published.
    pub qos: QoS,
    /// 5.0 only, without those that concern one connection or its expiry.
    pub properties: Properties<'b>,
    /// When it expires.
    pub expires: Option<Instant>,
}

impl<M: Memory> Broker<M> {
    /// Publishes a message of the host's own, to any topic, those that begin with `$` included.
    ///
    /// Returns [`ReasonCode::Success`]; [`NoMatchingSubscribers`](ReasonCode::NoMatchingSubscribers),
    /// though it may have been retained; [`QuotaExceeded`](ReasonCode::QuotaExceeded) if it was to be
    /// retained and could not be: then it goes to nobody; or
    /// [`TopicNameInvalid`](ReasonCode::TopicNameInvalid) if the topic has control characters and
    /// [may not](super::Config::control_characters).
    pub fn publish(
        &mut self,
        now: Instant,
        message: &Publish<'_>,
        host: &mut impl Host,
    ) -> ReasonCode {
        let Publish { topic, payload, qos, retain, properties } = *message;
        if !self.config.control_characters && topic.has_control_characters() {
            return ReasonCode::TopicNameInvalid;
        }
        let content = Content::new(now, topic, payload, qos, retain, properties);
        self.expect_expiry(content.expires);
        if retain && !self.retain(now, &content, host) {
            self.statistics.not_retained += 1;
            return ReasonCode::QuotaExceeded;
        }
        match self.route(now, None, content, host) {
            true => ReasonCode::Success,
            false => ReasonCode::NoMatchingSubscribers,
        }
    }

    /// The client of a connection, once it has been let in.
    pub fn client(&self, connection: ConnectionId) -> Option<Client<'_>> {
        match self.state(connection) {
            State::Open(place) => self.sessions.get(place).map(Session::client),
            _ => None,
        }
    }

    /// The client of this name, if it has a session.
    pub fn session(&self, client_id: &[u8]) -> Option<Client<'_>> {
        self.sessions.get(self.find(self.names.hash(client_id), client_id)?).map(Session::client)
    }

    /// The first session in a place from this one on, and its place: begins with 0, and goes on with
    /// the place after. What comes and goes meanwhile may be left out.
    pub fn next_session(&self, place: usize) -> Option<(usize, Client<'_>)> {
        let place = self.sessions.next(u32::try_from(place).ok()?)?;
        Some((place as usize, self.sessions.get(place)?.client()))
    }

    /// What the client of this name subscribes to, in no particular order.
    pub fn subscriptions(
        &self,
        client_id: &[u8],
    ) -> impl Iterator<Item = (Filter<'_>, Options)> + use<'_, M> {
        let place = self.find(self.names.hash(client_id), client_id);
        place.into_iter().flat_map(|place| self.router.subscriptions(Subscriber(place)))
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.router.len()
    }

    /// How many of them are shared.
    pub fn shared_subscription_count(&self) -> usize {
        self.router.shared()
    }

    /// The message that is retained for a topic.
    pub fn retained_message(&self, now: Instant, topic: Topic<'_>) -> Option<Retained<'_>> {
        let place = self.find_retained(self.retained_names.hash(topic.as_bytes()), topic)?;
        self.retained_in(now, place)
    }

    /// The first retained message in a place from this one on, and its place: as
    /// [`next_session`](Self::next_session). Looks at one; `None` in its stead if that has expired.
    pub fn next_retained_message(
        &self,
        now: Instant,
        place: usize,
    ) -> Option<(usize, Option<Retained<'_>>)> {
        let place = self.retained.next(u32::try_from(place).ok()?)?;
        Some((place as usize, self.retained_in(now, place)))
    }

    fn retained_in(&self, now: Instant, place: u32) -> Option<Retained<'_>> {
        let content = self.messages.get(*self.retained.get(place)?)?;
        let Content { topic, payload, properties, qos, expires, .. } = content;
        let is_over = expires.is_some_and(|at| at <= now);
        (!is_over).then_some(Retained { topic, payload, qos, properties, expires })
    }

    /// How many messages are kept: retained, waiting, on their way at QoS 1 and 2, wills; each once.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }
}

impl<M: Memory> Session<M> {
    fn client(&self) -> Client<'_> {
        let backlog = self.backlog.get();
        let (waiting, waiting_bytes) = self.waiting();
        Client {
            client_id: self.name.as_bytes(),
            identity: self.identity,
            owner: M::owner(&self.name),
            connection: self.connection,
            version: self.peer.version(),
            session_expiry_interval: self.expiry,
            ends: self.ends(),
            has_will: self.will.is_some(),
            in_flight: backlog.map_or(0, |backlog| backlog.sent),
            waiting,
            waiting_bytes,
        }
    }
}
