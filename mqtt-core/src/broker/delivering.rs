//! Messages on their way to subscribers.

use super::{
    Broker, Config, ConnectionId, Host, Memory, Notice, Overflow, Statistics, TURNS,
    memory::{Lent, Numbered, Queue, Slab},
    message::{Content, MessageId, Messages, Use},
    recording::{Haste, release},
    session::{Delivery, Session},
};
use crate::{
    Instant,
    error::PublishError,
    router::{GroupId, Match, Options, Packed, Recipient, Router, Subscriber},
    sink::Sink,
    time::seconds,
    topic::Topic,
    wire::{Delivery as Sending, Head, Identifiers, PacketId, Publish, QoS, Relay},
};

/// A publish while it is being routed: given, or kept, or both once somebody needs it so.
struct Routing<'m> {
    now: Instant,
    qos: QoS,
    retain: bool,
    given: Option<Content<'m>>,
    kept: Option<MessageId>,
    /// There are several who get it.
    is_shared: bool,
}

/// How a message is for a subscriber.
#[derive(Clone, Copy)]
struct Wish<'i> {
    qos: QoS,
    retain: bool,
    identifiers: Identifiers<'i>,
    group: Option<GroupId>,
}

/// What became of a message for one session.
enum Outcome {
    Sent(Option<PacketId>),
    /// It waits for room, or for the client's answers, or for the client.
    Waits,
    Dropped,
}

impl<M: Memory> Broker<M> {
    /// Sends a message to all who subscribe to it, or lets it wait for them; not to `publisher`, if
    /// it wants no messages of its own. Whether anybody subscribes.
    pub(super) fn route(
        &mut self,
        now: Instant,
        publisher: Option<u32>,
        content: Content<'_>,
        host: &mut impl Host,
    ) -> bool {
        let Content { topic, qos, retain, .. } = content;
        if qos > QoS::AtMostOnce
            && !self
                .messages
                .has_room(M::Messages::measure(&content, Identifiers::NONE), Use::Waiting)
        {
            self.reclaim(now, host);
        }
        let mut routing =
            Routing { now, qos, retain, given: Some(content), kept: None, is_shared: false };
        let any = self.route_to(topic, publisher, &mut routing, host);
        if let Some(kept) = routing.kept {
            release(&mut self.messages, kept, Use::Sent, host);
        }
        any
    }

    /// The same for a message that is kept, and its topic.
    pub(super) fn route_kept(
        &mut self,
        now: Instant,
        topic: Topic<'_>,
        message: MessageId,
        host: &mut impl Host,
    ) {
        let Some(Content { qos, retain, .. }) = self.messages.get(message) else { return };
        let mut routing =
            Routing { now, qos, retain, given: None, kept: Some(message), is_shared: true };
        self.route_to(topic, None, &mut routing, host);
    }

    fn route_to(
        &mut self,
        topic: Topic<'_>,
        publisher: Option<u32>,
        routing: &mut Routing<'_>,
        host: &mut impl Host,
    ) -> bool {
        let Self { router, sessions, messages, config, statistics, stamp, turns, .. } = self;
        let identified = &mut self.identified;
        let mut delivering = Delivering::<M> { sessions, messages, config, statistics };
        let is_own = |recipient: &Recipient| {
            recipient.options().no_local && publisher == Some(recipient.subscriber().0)
        };
        let all = || router.matches(topic);
        delivering.make_room(routing, all, stamp, host);
        let mut found = all();
        let (Some(first), second) = (found.next(), found.next()) else { return false };
        let mut any = false;
        routing.is_shared |= second.is_some() || first.recipients.len() > 1;
        if let (None, None) = (first.group, second) {
            // Everybody is found once.
            for recipient in first.recipients.iter().filter(|recipient| !is_own(recipient)) {
                let options = recipient.options();
                let wish = Wish::of(&options, routing.qos, routing.retain, None);
                any |= delivering.deliver(recipient.subscriber().0, wish, routing, host);
            }
            return any;
        }
        next_stamp(stamp);
        identified.clear();
        all().filter(|found| found.group.is_none()).for_each(|found| {
            let theirs = found.recipients.iter().filter(|recipient| !is_own(recipient));
            theirs.for_each(|recipient| delivering.mark(*stamp, recipient, identified));
        });
        for found in all() {
            if let Some(group) = found.group {
                any |= delivering.deliver_one(&found, next_turn(turns, group), routing, host);
                continue;
            }
            for recipient in found.recipients {
                let subscriber = recipient.subscriber();
                let Some((options, last)) = delivering.unmark(*stamp, subscriber) else {
                    continue;
                };
                let each = |each: &mut dyn FnMut(u32)| each_identifier(identified, last, each);
                let mut wish = Wish::of(&options, routing.qos, routing.retain, None);
                if identified.get(last as usize).is_some_and(|last| last.before != NONE) {
                    wish.identifiers = Identifiers::Many(&each);
                }
                any |= delivering.deliver(subscriber.0, wish, routing, host);
            }
        }
        any
    }

    /// Gives a message of a session that has ended to another member of its group. Whether that has it
    /// now.
    pub(super) fn pass_on(
        &mut self,
        now: Instant,
        group: GroupId,
        message: MessageId,
        host: &mut impl Host,
    ) -> bool {
        let Self { router, sessions, messages, config, statistics, turns, .. } = self;
        let recipients = router.group(group);
        let turn = next_turn(turns, group);
        let Some(recipient) = choose::<M>(sessions, recipients, turn) else { return false };
        let options = recipient.options();
        let place = recipient.subscriber().0;
        let Some(Content { qos, retain, .. }) = messages.get(message) else { return false };
        let wish = Wish::of(&options, qos, retain, Some(group));
        let Some(session) = sessions.get_mut(place) else { return false };
        let taken =
            session.enqueue(now, wish.delivery(message), messages, config, statistics, host);
        self.pump(now, place, host);
        taken
    }

    /// Sends what waits for a session, as far as it can be sent.
    /// Whether there may be more to be sent again.
    pub(super) fn pump(&mut self, now: Instant, place: u32, host: &mut impl Host) -> bool {
        let resend = |broker: &Self| broker.sessions.get(place).and_then(Session::resend);
        let asked = resend(self);
        if let Some(id) = asked {
            self.resend(now, place, id, host);
        }
        let again = asked.is_some() && resend(self).is_none();
        while self.send_next(now, place, host) {}
        self.replay(now, place, host);
        again
    }

    /// Sends the first message that waits for a session. Whether it waits no longer.
    pub(super) fn send_next(&mut self, now: Instant, place: u32, host: &mut impl Host) -> bool {
        let Self { sessions, messages, config, statistics, .. } = self;
        let Some(session) = sessions.get_mut(place) else { return false };
        let Some(connection) = session.connection else { return false };
        let Some(backlog) = session.backlog.get() else { return false };
        let Some(delivery) = backlog.next().copied() else { return false };
        let index = backlog.sent;
        let size = messages.size(delivery.message);
        if delivery.qos > QoS::AtMostOnce && !session.takes(size, config) {
            return false;
        }
        let outcome = match messages.get(delivery.message) {
            Some(content) => session.send(
                now,
                &content,
                Wish::again(&delivery),
                host.sink(connection),
                statistics,
            ),
            None => Outcome::Dropped,
        };
        match outcome {
            Outcome::Waits => return false,
            Outcome::Sent(Some(id)) => {
                if let Some(backlog) = session.backlog.get_mut() {
                    backlog.no_longer_waits(&delivery, size);
                    if let Some(delivery) = backlog.deliveries.get_mut(index) {
                        delivery.id = Some(id);
                    }
                    backlog.is_on_its_way(size);
                }
                session.note_delivery(index, messages, host);
            }
            Outcome::Sent(None) | Outcome::Dropped => {
                session.note_end(index, Haste::Urgent, host);
                if let Some(backlog) = session.backlog.get_mut() {
                    backlog.take(index, size);
                }
                release(messages, delivery.message, Use::Sent, host);
            }
        }
        true
    }

    /// Sends a message again that was on its way when the connection was lost.
    pub(super) fn resend(&mut self, now: Instant, place: u32, id: PacketId, host: &mut impl Host) {
        let Self { sessions, messages, statistics, .. } = self;
        let Some(session) = sessions.get_mut(place) else { return };
        let delivery = session.backlog.get_mut().and_then(|backlog| {
            backlog.resend = None;
            backlog.deliveries.get(backlog.find(id)?).copied()
        });
        let (Some(delivery), Some(connection)) = (delivery, session.connection) else {
            session.peer.abandon(id);
            return;
        };
        let Some(content) = messages.get(delivery.message) else {
            session.peer.abandon(id);
            return;
        };
        let wish = Wish::again(&delivery);
        // It does not expire any more: its delivery has begun.
        let expiry = content.seconds_left(now);
        let publish = content.publish(wish.qos, wish.retain);
        let relay = relay(&publish, expiry, wish.identifiers);
        match session.peer.relay_again(id, &relay, host.sink(connection)) {
            Ok(()) => statistics.count_sent(content.payload.len()),
            Err(PublishError::NoRoom) => {
                if let Some(backlog) = session.backlog.get_mut() {
                    backlog.resend = Some(id);
                }
            }
            Err(_) => {
                statistics.dropped_too_large += 1;
                session.peer.abandon(id);
            }
        }
    }

    /// A message on its way to a session has come to its end.
    pub(super) fn settled(&mut self, place: u32, id: PacketId, host: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(place) else { return };
        let Some(backlog) = session.backlog.get() else { return };
        let Some(index) = backlog.find(id) else { return };
        let Some(delivery) = backlog.deliveries.get(index).copied() else { return };
        // If it is forgotten that the client has it, it is asked again.
        session.note_end(index, Haste::None, host);
        if let Some(backlog) = session.backlog.get_mut() {
            backlog.take(index, self.messages.size(delivery.message));
        }
        release(&mut self.messages, delivery.message, Use::Sent, host);
    }
}

/// The parts of a broker that deliver, apart from the one that finds whom to.
struct Delivering<'b, M: Memory> {
    sessions: &'b mut M::Sessions,
    messages: &'b mut M::Messages,
    config: &'b Config,
    statistics: &'b mut Statistics,
}

impl<M: Memory> Delivering<'_, M> {
    /// Under [`Overflow::DropOldest`], if there is no memory for a message, those whom it is for lose
    /// what has waited for longest, one each, until there is or none of them has any: if that is for
    /// one of them alone, or all whom it is for are among them. What others wait for stays, since to
    /// drop it would make no room.
    fn make_room<'r, I: Iterator<Item = Match<'r>>>(
        &mut self,
        routing: &Routing<'_>,
        found: impl Fn() -> I,
        stamp: &mut u32,
        host: &mut impl Host,
    ) {
        if self.config.overflow == Overflow::DropNewest || routing.qos == QoS::AtMostOnce {
            return;
        }
        let size = match (&routing.given, routing.kept) {
            (Some(given), _) => M::Messages::measure(given, Identifiers::NONE),
            (None, kept) => kept.map_or(0, |kept| self.messages.size(kept)),
        };
        let all = || {
            let plain = found().filter(|found| found.group.is_none());
            plain.flat_map(|found| found.recipients).map(|recipient| recipient.subscriber().0)
        };
        let mut doomed = None;
        while !self.messages.has_room(size, Use::Waiting) {
            let (mut any, mut shared) = (false, None);
            next_stamp(stamp);
            for place in all() {
                let session = self.sessions.get_mut(place);
                let Some(session) = session.filter(|session| session.stamp != *stamp) else {
                    continue;
                };
                session.stamp = *stamp; // it may be found again
                any |= session.drop_oldest(self.messages, self.statistics, host, doomed);
                if let Some(oldest) = session.oldest().map(|(_, oldest)| oldest.message) {
                    let (message, count) = shared.get_or_insert((oldest, 0));
                    *count += u32::from(*message == oldest);
                }
            }
            doomed = match shared {
                _ if any => None,
                Some((message, count)) if count == self.messages.deliveries(message) => {
                    Some(message)
                }
                _ => return,
            };
        }
    }

    /// Notes that a session has been found, and how it wants the message: at the highest QoS of all
    /// its subscriptions that match [MQTT-3.3.4-2].
    fn mark(&mut self, stamp: u32, recipient: &Recipient, identified: &mut M::Identified) {
        let Some(session) = self.sessions.get_mut(recipient.subscriber().0) else { return };
        let options = recipient.options();
        let mut wanted = options;
        if session.stamp != stamp {
            (session.stamp, session.identified) = (stamp, NONE);
        } else {
            let before = session.wanted.options();
            wanted.qos = before.qos.max(options.qos);
            wanted.retain_as_published |= before.retain_as_published;
            wanted.identifier = before.identifier.or(options.identifier);
        }
        session.wanted = Packed::new(wanted);
        if let Some(identifier) = options.identifier
            && identified.push(Identified { identifier, before: session.identified })
        {
            session.identified = identified.len() as u32 - 1;
        }
    }

    /// How a session that was found wants the message, once; and the last of its identifiers.
    fn unmark(&mut self, stamp: u32, subscriber: Subscriber) -> Option<(Options, u32)> {
        let session = self.sessions.get_mut(subscriber.0)?;
        if session.stamp != stamp {
            return None;
        }
        session.stamp = 0;
        Some((session.wanted.options(), session.identified))
    }

    /// Delivers to one member of a group.
    fn deliver_one(
        &mut self,
        found: &Match<'_>,
        turn: u32,
        routing: &mut Routing<'_>,
        host: &mut impl Host,
    ) -> bool {
        let Some(recipient) = choose::<M>(self.sessions, found.recipients, turn) else {
            return false;
        };
        let wish = Wish::of(&recipient.options(), routing.qos, routing.retain, found.group);
        self.deliver(recipient.subscriber().0, wish, routing, host)
    }

    /// Delivers to a session: now, or it waits, or it is dropped. Whether the session is there.
    #[inline]
    fn deliver(
        &mut self,
        place: u32,
        wish: Wish<'_>,
        routing: &mut Routing<'_>,
        host: &mut impl Host,
    ) -> bool {
        let Some(session) = self.sessions.get(place) else { return false };
        let fleeting = wish.qos == QoS::AtMostOnce;
        let is_open = !session.is_behind() || fleeting && !session.is_behind_fleeting();
        let connection = session.connection.filter(|_| is_open);
        if fleeting {
            self.deliver_fleeting(place, connection, wish, routing, host);
        } else {
            self.deliver_kept(place, connection, wish, routing, host);
        }
        true
    }

    /// Delivers at QoS 0. It only waits behind retained messages.
    #[inline]
    fn deliver_fleeting(
        &mut self,
        place: u32,
        connection: Option<ConnectionId>,
        wish: Wish<'_>,
        routing: &mut Routing<'_>,
        host: &mut impl Host,
    ) {
        let Some(session) = self.sessions.get_mut(place) else { return };
        if let Some(connection) = connection {
            if routing.is_shared
                && routing.given.is_some_and(|given| given.payload.len() >= M::SHARED)
            {
                routing.keep(self.messages);
            }
            let Some(content) = routing.content(self.messages) else { return };
            let sink = host.sink(connection);
            match session.send(routing.now, &content, wish, sink, self.statistics) {
                Outcome::Waits => {}
                Outcome::Sent(_) | Outcome::Dropped => return,
            }
        }
        if session.is_behind_fleeting() {
            self.deliver_kept(place, None, wish, routing, host);
        } else {
            self.statistics.dropped_unread += u64::from(session.connection.is_some());
        }
    }

    /// Delivers what is kept until the client has it: first of all, so that it can be sent again.
    #[inline]
    fn deliver_kept(
        &mut self,
        place: u32,
        connection: Option<ConnectionId>,
        wish: Wish<'_>,
        routing: &mut Routing<'_>,
        host: &mut impl Host,
    ) {
        let Self { sessions, messages, config, statistics } = self;
        let Some(session) = sessions.get_mut(place) else { return };
        let user = if connection.is_some() { Use::Sent } else { Use::Waiting };
        let mut message = routing.user(wish.identifiers, user, *messages);
        while message.is_none()
            && config.overflow == Overflow::DropOldest
            && session.drop_oldest(*messages, statistics, host, None)
        {
            message = routing.user(wish.identifiers, user, *messages);
        }
        let Some(message) = message else {
            statistics.dropped_overflow += 1;
            return session.tell_behind(host);
        };
        let delivery = wish.delivery(message);
        let size = messages.size(message);
        let mut outcome = Outcome::Waits;
        if let Some(connection) = connection
            && session.takes(size, config)
            && session.backlog.make().is_some_and(|backlog| backlog.deliveries.has_room())
            && let Some(content) = messages.get(message)
        {
            let (wish, sink) = (Wish::again(&delivery), host.sink(connection));
            outcome = session.send(routing.now, &content, wish, sink, statistics);
        }
        match outcome {
            Outcome::Sent(Some(id)) => {
                // Those that wait are behind those on their way, and none wait.
                if let Some(backlog) = session.backlog.get_mut() {
                    let (number, index) = (messages.number(), backlog.sent);
                    backlog.deliveries.append(number, Delivery { id: Some(id), ..delivery });
                    backlog.is_on_its_way(size);
                    session.note_delivery(index, *messages, host);
                }
            }
            Outcome::Sent(None) | Outcome::Dropped => release(*messages, message, user, host),
            Outcome::Waits => {
                let may_wait = user == Use::Waiting || messages.may_wait();
                statistics.dropped_overflow += u64::from(!may_wait);
                let now = routing.now;
                if !may_wait || !session.enqueue(now, delivery, *messages, config, statistics, host)
                {
                    release(*messages, message, user, host);
                }
                session.tell_behind(host);
            }
        }
    }
}

/// Another number than sessions are marked with.
fn next_stamp(stamp: &mut u32) {
    *stamp = stamp.wrapping_add(1).max(1);
}

/// A number that grows by one for each message of a group.
fn next_turn(turns: &mut [u32; TURNS], group: GroupId) -> u32 {
    match turns.get_mut(group.serial() % TURNS) {
        Some(turn) => {
            *turn = turn.wrapping_add(1);
            *turn
        }
        None => 0,
    }
}

/// The member of a group whose turn it is: of those that are connected and not behind, if there
/// are any.
fn choose<'r, M: Memory>(
    sessions: &M::Sessions,
    recipients: &'r [Recipient],
    turn: u32,
) -> Option<&'r Recipient> {
    let turn = turn as usize % recipients.len().max(1);
    let (before, from) = recipients.split_at_checked(turn)?;
    let in_turn = || from.iter().chain(before);
    let session = |recipient: &Recipient| sessions.get(recipient.subscriber().0);
    let is_here = |recipient: &&Recipient| {
        session(recipient).is_some_and(|session| session.connection.is_some())
    };
    let is_ready = |recipient: &&Recipient| {
        is_here(recipient) && session(recipient).is_some_and(|session| !session.is_behind())
    };
    in_turn().find(is_ready).or_else(|| in_turn().find(is_here)).or_else(|| in_turn().next())
}

impl Routing<'_> {
    /// The message: as it is kept, if so, for its payload may be shared then.
    fn content<'c>(&'c self, messages: &'c impl Messages) -> Option<Content<'c>> {
        match self.kept {
            Some(kept) => messages.get(kept),
            None => self.given,
        }
    }

    /// Keeps the message, if it is not kept yet.
    fn keep(&mut self, messages: &mut impl Messages) {
        if let (Some(given), None) = (&self.given, self.kept) {
            self.kept = messages.insert(given, Identifiers::NONE, Use::Sent);
        }
    }

    /// The message as it is kept, for one more user; by itself if several identifiers go with it.
    fn user(
        &mut self,
        identifiers: Identifiers<'_>,
        user: Use,
        messages: &mut impl Messages,
    ) -> Option<MessageId> {
        if let Identifiers::Many(_) = identifiers {
            return match (&self.given, self.kept) {
                (Some(given), _) => messages.insert(given, identifiers, user),
                (None, Some(kept)) => messages.copy(kept, identifiers, user),
                (None, None) => None,
            };
        }
        self.keep(messages);
        self.kept.filter(|kept| messages.share(*kept, user))
    }
}

impl Wish<'_> {
    /// How a subscription with these options wants a message.
    fn of(options: &Options, qos: QoS, retain: bool, group: Option<GroupId>) -> Self {
        Self {
            qos: qos.min(options.qos),
            retain: retain && options.retain_as_published,
            identifiers: Identifiers::One(options.identifier.unwrap_or(0)),
            group,
        }
    }

    /// How a message is for a session for which it has been waiting.
    fn again(delivery: &Delivery) -> Self {
        let Delivery { qos, retain, identifier, group, .. } = *delivery;
        Self { qos, retain, identifiers: Identifiers::One(identifier), group }
    }

    fn delivery(&self, message: MessageId) -> Delivery {
        let identifier = match self.identifiers {
            Identifiers::One(identifier) => identifier,
            Identifiers::Many(_) => 0, // they are with the message
        };
        let Self { qos, retain, group, .. } = *self;
        Delivery { message, id: None, qos, retain, counts: true, identifier, group }
    }
}

/// What is left of a message's time.
enum Left {
    Nothing,
    /// So many seconds, or for ever.
    Some(Option<u32>),
}

impl Left {
    fn of(content: &Content<'_>, now: Instant) -> Self {
        match content.expires {
            None => Self::Some(None),
            Some(at) if at <= now => Self::Nothing,
            Some(_) => Self::Some(content.seconds_left(now)),
        }
    }
}

impl<'m> Content<'m> {
    /// What is left of the Message Expiry Interval [MQTT-3.3.2-6].
    fn seconds_left(&self, now: Instant) -> Option<u32> {
        self.expires.map(|at| seconds(at.since(now)))
    }

    #[inline(always)]
    fn publish(&self, qos: QoS, retain: bool) -> Publish<'m> {
        let Self { topic, payload, properties, .. } = *self;
        Publish { topic, payload, qos, retain, properties }
    }
}

#[inline(always)]
fn relay<'p>(
    publish: &'p Publish<'p>,
    expiry: Option<u32>,
    identifiers: Identifiers<'p>,
) -> Relay<'p> {
    Relay { head: Head::new(Sending::default(), publish), expiry, identifiers }
}

/// The identifier of a subscription that was found, and where the one before it is that the same
/// session has.
#[derive(Clone, Copy, Debug)]
pub struct Identified {
    identifier: u32,
    before: u32,
}

/// Where nothing is.
const NONE: u32 = u32::MAX;

/// The last of a session's identifiers, and all before it.
fn each_identifier(identified: &impl Queue<Identified>, mut last: u32, each: &mut dyn FnMut(u32)) {
    while let Some(Identified { identifier, before }) = identified.get(last as usize).copied() {
        each(identifier);
        last = before;
    }
}

impl<M: Memory> Session<M> {
    /// Sends a message now, if there is room and the client takes it.
    #[inline]
    fn send(
        &mut self,
        now: Instant,
        content: &Content<'_>,
        wish: Wish<'_>,
        sink: &mut impl Sink,
        statistics: &mut Statistics,
    ) -> Outcome {
        let Left::Some(expiry) = Left::of(content, now) else {
            statistics.dropped_expired += 1;
            return Outcome::Dropped;
        };
        let publish = content.publish(wish.qos, wish.retain);
        match self.peer.relay(&relay(&publish, expiry, wish.identifiers), sink) {
            Ok(id) => {
                statistics.count_sent(content.payload.len());
                Outcome::Sent(id)
            }
            Err(PublishError::TooLarge) => {
                statistics.dropped_too_large += 1;
                Outcome::Dropped
            }
            Err(PublishError::Invalid(_)) => Outcome::Dropped,
            Err(_) => Outcome::Waits,
        }
    }

    /// Tells the host that a message was to wait for a client that is connected.
    fn tell_behind(&self, host: &mut impl Host) {
        if let Some(connection) = self.connection {
            let (messages, bytes) = self.waiting();
            host.notice(&Notice::Behind { connection, messages, bytes });
        }
    }
}

/// The earlier of two moments.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
