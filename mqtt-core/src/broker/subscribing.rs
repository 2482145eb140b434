//! SUBSCRIBE and UNSUBSCRIBE.

use core::cell::Cell;

use super::{
    Action, Broker, Host, Memory, Notice, Verdict, Wait,
    memory::{Queue, Slab},
    session::Subject,
};
use crate::{
    Instant,
    error::{Error, SendError, Violation},
    reason::ReasonCode,
    router::{Options, Router, Subscriber},
    sink::Sink,
    store::Name,
    topic::Filter,
    wire::{
        PacketId, PacketType, QoS, Reasons, RetainHandling, Subscribe, Subscription, Unsubscribe,
        Version,
    },
};

/// The number of bytes of a SUBACK or UNSUBACK without its reasons, at most.
const ANSWER: usize = 16;

impl<M: Memory> Broker<M> {
    /// What it has to wait for.
    pub(super) fn on_subscribe(
        &mut self,
        now: Instant,
        from: Subject,
        id: PacketId,
        subscribe: &Subscribe<'_>,
        host: &mut impl Host,
    ) -> Result<Wait, Error> {
        let count = subscribe.subscriptions.iter().count();
        let Some(session) = self.sessions.get(from.session) else { return Ok(Wait::Nothing) };
        if self.lacks_room(from, count, host)? {
            return Ok(Wait::Room);
        }
        let version = session.peer.version();
        let mut reasons = M::Reasons::default();
        for subscription in subscribe.subscriptions {
            let Some(refusal) = self.may_subscribe(from, subscription, host) else {
                return Ok(Wait::Host);
            };
            if !reasons.push(refusal) {
                break; // more than are remembered are refused
            }
        }
        let identifier = subscribe.properties.subscription_identifier();
        for (index, subscription) in subscribe.subscriptions.iter().enumerate() {
            let Some(reason) = reasons.get_mut(index) else { break };
            if *reason == ReasonCode::Success {
                *reason = self.subscribe(from.session, &subscription, identifier, host);
            }
            *reason = told(*reason, version, subscription.qos);
        }
        let rest = told(ReasonCode::QuotaExceeded, version, QoS::AtMostOnce);
        let reason = |index| reasons.get(index).copied().unwrap_or(rest);
        let answer = Reasons { packet_type: PacketType::SubAck, id, count, reason };
        let Some(session) = self.sessions.get_mut(from.session) else {
            return Ok(Wait::Nothing);
        };
        sent(session.peer.give_reasons(now, &answer, host.sink(from.connection)))
    }

    /// Whether there is no room for an answer now.
    fn lacks_room(
        &self,
        from: Subject,
        reasons: usize,
        host: &mut impl Host,
    ) -> Result<bool, Error> {
        let sink = host.sink(from.connection);
        if sink.capacity() < ANSWER + reasons {
            return Err(Violation::PacketTooLarge.into());
        }
        Ok(sink.room() < ANSWER + reasons)
    }

    /// Success, or why not; nothing if that is not known yet.
    fn may_subscribe(
        &self,
        from: Subject,
        subscription: Subscription<'_>,
        host: &mut impl Host,
    ) -> Option<ReasonCode> {
        if !self.config.control_characters && subscription.filter.has_control_characters() {
            return Some(ReasonCode::TopicFilterInvalid);
        }
        let session = self.sessions.get(from.session)?;
        let (client_id, identity) = (session.name.as_bytes(), session.identity);
        let action = Action::Subscribe { client_id, identity, subscription };
        match host.authorize(from.connection, &action) {
            Verdict::Allow | Verdict::AllowAs(_) => Some(ReasonCode::Success),
            Verdict::Deny(reason) if reason.is_error() => Some(reason),
            Verdict::Later => None,
            Verdict::Deny(_) | Verdict::Continue => Some(ReasonCode::NotAuthorized),
        }
    }

    fn subscribe(
        &mut self,
        place: u32,
        subscription: &Subscription<'_>,
        identifier: Option<u32>,
        host: &mut impl Host,
    ) -> ReasonCode {
        // A higher one is accepted, and not granted [MQTT-3.2.2-10].
        let qos = subscription.qos.min(self.config.maximum_qos);
        let Subscription { filter, retain_handling, .. } = *subscription;
        let options = Options::new(&Subscription { qos, ..*subscription }, identifier);
        let Ok(old) = self.router.subscribe(Subscriber(place), filter, options) else {
            return ReasonCode::QuotaExceeded;
        };
        if old.is_none() && !self.count_subscription(place, filter) {
            self.router.unsubscribe(Subscriber(place), filter);
            return ReasonCode::QuotaExceeded;
        }
        let wants_retained = match retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => old.is_none(),
            RetainHandling::DoNotSend => false,
        };
        if wants_retained && !filter.is_shared() {
            self.owe(place, filter);
        }
        self.note_subscription(place, filter, host);
        if let Some(session) = self.sessions.get(place) {
            let client_id = session.name.as_bytes();
            host.notice(&Notice::Subscribed { client_id, filter, qos });
        }
        granted(qos)
    }

    /// A session has one subscription more. Whether it may.
    pub(super) fn count_subscription(&mut self, place: u32, filter: Filter<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(place) else { return false };
        let within =
            |count: usize, most: usize| u32::try_from(count).ok().filter(|_| count <= most);
        let count = within(session.subscriptions as usize + 1, self.config.subscriptions);
        let bytes = session.filter_bytes as usize + filter.as_bytes().len();
        let bytes = within(bytes, self.config.filter_bytes);
        let Some((count, bytes)) = count.zip(bytes) else { return false };
        (session.subscriptions, session.filter_bytes) = (count, bytes);
        true
    }

    /// Ends a subscription. Whether there was one.
    fn unsubscribe(&mut self, place: u32, filter: Filter<'_>) -> bool {
        if self.router.unsubscribe(Subscriber(place), filter).is_none() {
            return false;
        }
        if let Some(session) = self.sessions.get_mut(place) {
            session.subscriptions -= 1;
            session.filter_bytes -= filter.as_bytes().len() as u32;
        }
        self.owe_no_more(place, filter);
        true
    }

    /// What it has to wait for.
    pub(super) fn on_unsubscribe(
        &mut self,
        now: Instant,
        from: Subject,
        id: PacketId,
        unsubscribe: &Unsubscribe<'_>,
        host: &mut impl Host,
    ) -> Result<Wait, Error> {
        let count = unsubscribe.filters.iter().count();
        if self.lacks_room(from, count, host)? {
            return Ok(Wait::Room);
        }
        // The numbers of those that there were: no more than there are subscriptions.
        let mut ended = M::Ended::default();
        for (index, filter) in unsubscribe.filters.iter().enumerate() {
            if !self.unsubscribe(from.session, filter) {
                continue;
            }
            ended.push(index);
            self.note_subscription(from.session, filter, host);
            if let Some(session) = self.sessions.get(from.session) {
                let client_id = session.name.as_bytes();
                host.notice(&Notice::Unsubscribed { client_id, filter });
            }
        }
        let next = Cell::new(0); // they are asked for in order
        let reason = |index| {
            let was_there = ended.get(next.get()) == Some(&index);
            next.set(next.get() + usize::from(was_there));
            if was_there { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted }
        };
        let answer = Reasons { packet_type: PacketType::UnsubAck, id, count, reason };
        let Some(session) = self.sessions.get_mut(from.session) else {
            return Ok(Wait::Nothing);
        };
        sent(session.peer.give_reasons(now, &answer, host.sink(from.connection)))
    }
}

/// An answer for which there was room is only ever too large for the client.
fn sent(result: Result<(), SendError>) -> Result<Wait, Error> {
    result.map(|()| Wait::Nothing).map_err(|_| Violation::PacketTooLarge.into())
}

const fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

/// What the client is told: before 5.0 there is one failure [MQTT-3.9.3-2], and in 3.1 none.
fn told(reason: ReasonCode, version: Version, qos: QoS) -> ReasonCode {
    if !reason.is_error() {
        reason
    } else if version.is_v3_1() {
        granted(qos)
    } else if version.is_v5() && reason.is_legal_in(PacketType::SubAck) {
        reason
    } else {
        ReasonCode::UnspecifiedError
    }
}
