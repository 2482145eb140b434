//! What a client publishes, and what is retained of it.

use super::{
    Action, Broker, Host, Memory, Verdict,
    memory::{Lent, Names, Numbered, Queue, Slab},
    message::{Content, MessageId, Messages, Use},
    recording::release,
    session::{Backlog, Delivery, Replay, Subject},
    tick_after,
};
use crate::{
    Instant,
    error::{Error, Violation},
    event::{Message, TopicName},
    reason::ReasonCode,
    router::{Options, Router, Subscriber},
    store::Name,
    topic::{Filter, Topic},
    wire::{Identifiers, PacketType, QoS},
};

/// How many retained messages are looked at in one go for a session's new subscriptions. It goes on by the
/// clock, however often the client comes by.
const LOOKS: u32 = 10_000;

impl<M: Memory> Broker<M> {
    /// A client publishes. Whether that has to wait for the host. There may be no room to remember that a
    /// message at QoS 2 has come: who cannot be told so loses the connection.
    pub(super) fn on_publish(
        &mut self,
        now: Instant,
        from: Subject,
        message: &Message<'_>,
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let known; // a topic that is named by an alias
        let topic = match message.topic {
            TopicName::Name(topic) => topic,
            TopicName::Alias(alias) => {
                let session = self.sessions.get(from.session);
                let topic = session.and_then(|session| session.peer.topic(alias));
                let Some(copy) = topic.and_then(|topic| M::Topic::new(topic.as_bytes()).ok())
                else {
                    return Ok(false); // it was looked up before, and fits
                };
                known = copy;
                Topic::from_validated(known.as_bytes())
            }
        };
        let reason = match self.may_publish(from, topic, message, host) {
            Some(Ok(())) if message.qos == QoS::ExactlyOnce && !self.may_arrive(from) => {
                let session = self.sessions.get(from.session);
                if !session.is_some_and(|session| session.peer.version().is_v5()) {
                    return Err(Violation::ReceiveMaximumExceeded.into());
                }
                ReasonCode::QuotaExceeded
            }
            Some(Ok(())) => self.take(now, from, topic, message, host),
            Some(Err(reason)) => reason,
            None => return Ok(true),
        };
        if let (Some(receipt), Some(session)) =
            (message.receipt, self.sessions.get_mut(from.session))
        {
            session.peer.settle(receipt, reason, host.sink(from.connection));
            session.note_store(&mut self.messages, host);
        }
        Ok(false)
    }

    /// Whether there is room to remember what has come of this client.
    fn may_arrive(&self, from: Subject) -> bool {
        let session = self.sessions.get(from.session);
        session.is_none_or(|session| self.messages.may_arrive(session.arrivals.into()))
    }

    /// Whether the client may, if that is known.
    fn may_publish(
        &self,
        from: Subject,
        topic: Topic<'_>,
        message: &Message<'_>,
        host: &mut impl Host,
    ) -> Option<Result<(), ReasonCode>> {
        let is_odd = !self.config.control_characters && topic.has_control_characters();
        if is_odd || topic.starts_with_dollar() {
            return Some(Err(ReasonCode::TopicNameInvalid));
        }
        let Message { qos, retain, payload, properties, .. } = *message;
        let session = self.sessions.get(from.session)?;
        let (client_id, identity) = (session.name.as_bytes(), session.identity);
        let action =
            Action::Publish { client_id, identity, topic, qos, retain, payload, properties };
        match host.authorize(from.connection, &action) {
            Verdict::Allow | Verdict::AllowAs(_) => Some(Ok(())),
            Verdict::Deny(reason) => {
                let legal = reason.is_legal_in(PacketType::PubAck);
                Some(Err(if legal { reason } else { ReasonCode::NotAuthorized }))
            }
            Verdict::Later => None,
            Verdict::Continue => Some(Err(ReasonCode::NotAuthorized)),
        }
    }

    /// Takes a message for all that should get it.
    fn take(
        &mut self,
        now: Instant,
        from: Subject,
        topic: Topic<'_>,
        message: &Message<'_>,
        host: &mut impl Host,
    ) -> ReasonCode {
        let Message { payload, properties, qos, retain, .. } = *message;
        self.statistics.received += 1;
        self.statistics.received_bytes += payload.len() as u64;
        let content = Content::new(now, topic, payload.into(), qos, retain, properties);
        self.expect_expiry(content.expires);
        if retain && !self.retain(now, &content, host) {
            self.statistics.not_retained += 1;
            // Who cannot be told is not to lose what those hear who subscribe already.
            let session = self.sessions.get(from.session);
            if qos > QoS::AtMostOnce
                && session.is_some_and(|session| session.peer.version().is_v5())
            {
                return ReasonCode::QuotaExceeded;
            }
            self.retain_no_more(topic, host);
        }
        if self.route(now, Some(from.session), content, host) {
            ReasonCode::Success
        } else {
            ReasonCode::NoMatchingSubscribers
        }
    }

    /// Keeps a message for those who subscribe later, in place of the one before; an empty one only
    /// takes that away [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7]. Whether that was possible.
    pub(super) fn retain(
        &mut self,
        now: Instant,
        content: &Content<'_>,
        host: &mut impl Host,
    ) -> bool {
        if content.payload.is_empty() {
            self.retain_no_more(content.topic, host);
            return true;
        }
        let hash = self.retained_names.hash(content.topic.as_bytes());
        let size = M::Messages::measure(content, Identifiers::NONE);
        if !self.messages.has_room(size, Use::Standing)
            || !self.may_retain(self.find_retained(hash, content.topic), size)
        {
            self.reclaim(now, host);
        }
        let mut old = self.find_retained(hash, content.topic);
        if !self.may_retain(old, size) {
            return false;
        }
        if let Some(message) = old.and_then(|place| self.retained.get(place))
            && !self.messages.has_room(size, Use::Standing)
            && self.messages.has_room_without(*message, size)
        {
            self.retain_no_more(content.topic, host);
            old = None;
        }
        let message = self.messages.insert(content, Identifiers::NONE, Use::Standing);
        message.is_some_and(|message| self.keep_retained(hash, old, message, host))
    }

    /// The same for a message that is kept already; if that is not possible, none is retained.
    pub(super) fn retain_kept(
        &mut self,
        topic: Topic<'_>,
        message: MessageId,
        host: &mut impl Host,
    ) {
        let hash = self.retained_names.hash(topic.as_bytes());
        let old = self.find_retained(hash, topic);
        let is_empty = self.messages.get(message).is_none_or(|kept| kept.payload.is_empty());
        if !is_empty
            && self.may_retain(old, self.messages.size(message))
            && self.messages.share(message, Use::Standing)
            && self.keep_retained(hash, old, message, host)
        {
            return;
        }
        self.statistics.not_retained += u64::from(!is_empty);
        self.retain_no_more(topic, host);
    }

    /// Whether so many bytes may be retained in place of an old message, or none.
    pub(super) fn may_retain(&self, old: Option<u32>, size: usize) -> bool {
        let old = old.and_then(|place| self.retained.get(place));
        let before = old.map_or(0, |message| self.messages.size(*message));
        (old.is_some() || self.retained.len() < self.config.retained_messages)
            && self.retained_bytes - before + size <= self.config.retained_bytes
    }

    fn keep_retained(
        &mut self,
        hash: u32,
        old: Option<u32>,
        message: MessageId,
        host: &mut impl Host,
    ) -> bool {
        let size = self.messages.size(message);
        if let Some(place) = old
            && let Some(kept) = self.retained.get_mut(place)
        {
            let old = core::mem::replace(kept, message);
            self.retained_bytes = self.retained_bytes + size - self.messages.size(old);
            release(&mut self.messages, old, Use::Standing, host);
            self.note_retained(place, host);
            return true;
        }
        let Ok(place) = self.retained.insert(message) else {
            release(&mut self.messages, message, Use::Standing, host);
            return false;
        };
        if !self.retained_names.insert(hash, place) {
            self.retained.remove(place);
            release(&mut self.messages, message, Use::Standing, host);
            return false;
        }
        self.retained_bytes += size;
        self.note_retained(place, host);
        true
    }

    pub(super) fn find_retained(&self, hash: u32, topic: Topic<'_>) -> Option<u32> {
        self.retained_names.find(hash, |place| {
            let message = self.retained.get(place).and_then(|message| self.messages.get(*message));
            message.is_some_and(|message| message.topic == topic)
        })
    }

    /// Nothing is retained for a topic any more.
    fn retain_no_more(&mut self, topic: Topic<'_>, host: &mut impl Host) {
        let hash = self.retained_names.hash(topic.as_bytes());
        if let Some(place) = self.find_retained(hash, topic) {
            self.forget_retained(place, host);
        }
    }

    /// Nothing is retained at this place any more.
    pub(super) fn forget_retained(&mut self, place: u32, host: &mut impl Host) {
        self.note_retained(place, host);
        let message = self.retained.get(place).and_then(|message| self.messages.get(*message));
        if let Some(Content { topic, .. }) = message {
            self.retained_names.remove(self.retained_names.hash(topic.as_bytes()), place);
        }
        if let Some(message) = self.retained.remove(place) {
            self.retained_bytes -= self.messages.size(message);
            release(&mut self.messages, message, Use::Standing, host);
        }
    }

    /// Retained messages are owed for this subscription.
    pub(super) fn owe(&mut self, session: u32, filter: Filter<'_>) {
        self.owe_no_more(session, filter);
        let replay = Replay { filter: self.router.key(filter), next: 0 };
        let Some(session) = self.sessions.get_mut(session) else { return };
        // There are as many places as there can be subscriptions.
        if let Some(backlog) = session.backlog.make() {
            backlog.replays.push(replay);
        }
    }

    /// Sends the retained messages that a session is owed, as far as there is room, the client takes
    /// them, and nothing else waits.
    pub(super) fn replay(&mut self, now: Instant, place: u32, host: &mut impl Host) {
        let mut looks = LOOKS;
        while let Some(session) = self.sessions.get(place)
            && session.connection.is_some()
            && !session.is_behind()
            && let Some(backlog) = session.backlog.get()
            && backlog.rests_until <= now
            && let Some(replay) = backlog.replays.get(0).copied()
        {
            let subscriber = Subscriber(place);
            let subscription = self.router.subscription(subscriber, replay.filter);
            let subscription = subscription.map(|(filter, options)| {
                self.note_subscription(place, filter, host);
                (self.next_retained(now, filter, replay.next, &mut looks), options)
            });
            match subscription {
                Some((Found::Message(next, message), options)) => {
                    if !self.replay_one(now, place, message, &options, host) {
                        return self.wake(place, now);
                    }
                    self.set_replay(place, next + 1);
                }
                Some((Found::Looked(next), _)) => {
                    self.set_replay(place, next);
                    if let Some(backlog) = self.backlog(place) {
                        backlog.rests_until = tick_after(now);
                    }
                    return self.wake(place, now);
                }
                // All of them, or the client has unsubscribed.
                Some((Found::Nothing, _)) | None => {
                    if let Some(session) = self.sessions.get_mut(place) {
                        session.is_owed_no_more(0);
                    }
                }
            }
        }
    }

    /// Nothing is owed for this subscription any more.
    pub(super) fn owe_no_more(&mut self, session: u32, filter: Filter<'_>) {
        let key = self.router.key(filter);
        let Some(session) = self.sessions.get_mut(session) else { return };
        let Some(Backlog { replays, .. }) = session.backlog.get() else { return };
        let owed = (0..replays.len())
            .find(|index| replays.get(*index).is_some_and(|owed| owed.filter == key));
        if let Some(index) = owed {
            session.is_owed_no_more(index);
        }
    }

    fn backlog(&mut self, session: u32) -> Option<&mut Backlog<M>> {
        self.sessions.get_mut(session)?.backlog.get_mut()
    }

    fn set_replay(&mut self, place: u32, next: u32) {
        if let Some(backlog) = self.backlog(place)
            && let Some(replay) = backlog.replays.get_mut(0)
        {
            replay.next = next;
        }
    }

    fn next_retained(&self, now: Instant, filter: Filter<'_>, from: u32, looks: &mut u32) -> Found {
        let is_over =
            |message: &MessageId| self.messages.expires(*message).is_some_and(|at| at <= now);
        if !filter.has_wildcard() {
            // It is for one topic, which is found at once, the first time.
            let topic = Topic::from_validated(filter.as_bytes());
            let hash = self.retained_names.hash(topic.as_bytes());
            let place = self.find_retained(hash, topic).filter(|_| from == 0);
            let message = place.and_then(|place| Some((place, *self.retained.get(place)?)));
            return message
                .filter(|(_, message)| !is_over(message))
                .map_or(Found::Nothing, |(place, message)| Found::Message(place, message));
        }
        let mut next = self.retained.next(from);
        while let Some(place) = next {
            if *looks == 0 {
                return Found::Looked(place);
            }
            *looks -= 1;
            let message = self.retained.get(place).copied();
            let content = message.and_then(|message| self.messages.get(message));
            if let (Some(message), Some(content)) = (message, content)
                && filter.matches(content.topic)
                && !is_over(&message)
            {
                return Found::Message(place, message);
            }
            next = self.retained.next(place + 1);
        }
        Found::Nothing
    }

    /// Lets a retained message wait for a session that nothing waits for, and sends it. Whether there is
    /// memory for that.
    fn replay_one(
        &mut self,
        now: Instant,
        place: u32,
        message: MessageId,
        options: &Options,
        host: &mut impl Host,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(place) else { return false };
        let qos = self.messages.get(message).map_or(QoS::AtMostOnce, |content| content.qos);
        let delivery = Delivery {
            message,
            id: None,
            qos: qos.min(options.qos),
            retain: true,
            counts: false,
            identifier: options.identifier.unwrap_or(0),
            group: None,
        };
        let Some(backlog) = session.backlog.make() else { return false };
        if !backlog.deliveries.has_room() || !self.messages.share(message, Use::Sent) {
            return false;
        }
        backlog.deliveries.append(self.messages.number(), delivery);
        let index = backlog.deliveries.len() - 1;
        session.note_delivery(index, &mut self.messages, host);
        while self.send_next(now, place, host) {}
        true
    }
}

/// What a look through the retained messages has brought.
enum Found {
    Message(u32, MessageId),
    /// Nothing so far, and it goes on here.
    Looked(u32),
    Nothing,
}
