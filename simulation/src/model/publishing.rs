//! Whom a message is for.

use std::{collections::BTreeMap, rc::Rc};

use mqtt_core::{
    Instant, Publish, QoS, ReasonCode,
    broker::{ConnectionId, Overflow},
    wire::{Delivery, PacketType},
};

use super::{
    Model,
    parts::{Entry, Message, Shared, Wanted, Will},
};

impl Model {
    pub(super) fn on_publish(
        &mut self,
        now: Instant,
        from: ConnectionId,
        delivery: Delivery,
        publish: &Publish<'_>,
    ) {
        let link = self.links.get_mut(&from).expect("a connection");
        let name = link.name.clone();
        let topic = match publish.properties.topic_alias() {
            Some(alias) if publish.topic.is_empty() => link.inbound_aliases[&alias].clone(),
            Some(alias) => {
                link.inbound_aliases.insert(alias, publish.topic.as_str().into());
                publish.topic.as_str().into()
            }
            None => publish.topic.as_str().to_string(),
        };
        let v5 = link.version.is_v5();
        let answer =
            if publish.qos == QoS::AtLeastOnce { PacketType::PubAck } else { PacketType::PubRec };
        if let (Some(id), QoS::ExactlyOnce) = (delivery.packet_id, publish.qos)
            && self.session(&name).inbound.contains(&id)
        {
            // It has been taken [MQTT-4.3.3-10].
            return self.owe_answer(from, answer, Some(id), None);
        }
        if let (Some(id), QoS::AtLeastOnce) = (delivery.packet_id, publish.qos) {
            // Of an earlier connection: the client has given its identifier to another.
            self.session(&name).inbound.remove(&id);
        }
        let is_denied = (self.is_denied)(&topic);
        // Before 5.0 a refusal cannot be told: it goes on as if it had been taken.
        if let (Some(id), QoS::ExactlyOnce) = (delivery.packet_id, publish.qos)
            && !(is_denied && v5)
        {
            self.session(&name).inbound.insert(id);
        }
        let reason = if is_denied {
            ReasonCode::NotAuthorized
        } else {
            *self.routed.entry(publish.payload.as_bytes().into()).or_default() += 1;
            let message = Message::new(now, &topic, publish);
            self.retain(now, &message);
            match self.route(now, message, Some(&name)) {
                true => ReasonCode::Success,
                false => ReasonCode::NoMatchingSubscribers,
            }
        };
        if let Some(id) = delivery.packet_id {
            let reason = if v5 { reason } else { ReasonCode::Success };
            self.owe_answer(from, answer, Some(id), Some(vec![reason]));
        }
    }

    pub(super) fn publish_will(&mut self, now: Instant, will: Will) {
        let expires = will.expiry.map(|seconds| now + u64::from(seconds) * 1_000);
        let message = Rc::new(Message { expires, ..will.message });
        self.retain(now, &message);
        self.route(now, message, None);
    }

    /// Keeps a message that is to be retained, in place of the one before.
    fn retain(&mut self, now: Instant, message: &Rc<Message>) {
        let topic = &message.topic;
        if !message.retain {
            return;
        }
        let is_empty = message.payload.is_empty();
        let old = match is_empty {
            true => self.retained.remove(topic),
            false => self.retained.insert(topic.clone(), message.clone()),
        };
        let had_expired = old.is_none_or(|old| old.has_expired(now));
        for owed in self.sessions.values_mut().flat_map(|session| &mut session.owed) {
            if is_empty || had_expired {
                owed.must.remove(topic);
            }
            if !is_empty && owed.left > 1 && message.is_for(&owed.filter) {
                owed.open.push(message.clone());
            }
        }
    }

    /// Takes a message for all who want it. Whether there are any.
    fn route(&mut self, now: Instant, message: Rc<Message>, by: Option<&str>) -> bool {
        let mut any = false;
        let mut groups = BTreeMap::<String, Vec<(String, Wanted)>>::new();
        let names: Vec<_> = self.sessions.keys().cloned().collect();
        for name in names {
            let session = &self.sessions[&name];
            for (filter, wanted) in &session.subscriptions {
                if filter.starts_with("$share/") && message.is_for(filter) {
                    groups.entry(filter.clone()).or_default().push((name.clone(), *wanted));
                }
            }
            let wanted = session.wanted(&message, by == Some(&name));
            if !wanted.is_empty() {
                any = true;
                self.enqueue(now, &name, Entry::new(&message, &wanted, self.batch));
            }
        }
        for (group, members) in groups {
            any = true;
            self.shared.push(Shared::new(&group, &message, members, self.batch));
        }
        any
    }

    /// Lets a message wait, within the limit: the policy says what is dropped, and nothing else is.
    fn enqueue(&mut self, now: Instant, name: &str, mut entry: Entry) {
        let most = self.config.queue_messages;
        let link = self.link_of(name).map(|link| link.serial);
        let link = self.links.values().find(|other| Some(other.serial) == link);
        let session = self.sessions.get_mut(name).expect("a session");
        if entry.qos == QoS::AtMostOnce {
            if link.is_some() {
                session.waiting.push(entry);
            }
            return;
        }
        let is_sure = |entry: &Entry| entry.qos > QoS::AtMostOnce && entry.is_sure(now, link);
        let sure = session.waiting.iter().filter(|entry| is_sure(entry)).count();
        let is_full = sure >= most;
        if !is_full && session.waiting.len() < most {
            return session.waiting.push(entry);
        }
        self.overflow.0 += u64::from(is_full);
        self.overflow.1 += 1;
        let newest = session.waiting.iter_mut().filter(|other| other.batch == entry.batch);
        match self.config.overflow {
            // Of those that come at once any may be the last.
            Overflow::DropNewest if is_full => {
                let mut any = false;
                newest.for_each(|other| (any, other.must) = (true, false));
                entry.must = false;
                if !any {
                    return;
                }
            }
            Overflow::DropNewest => entry.must = false,
            Overflow::DropOldest => {
                let waiting = &mut session.waiting;
                let first = waiting.iter().position(is_sure).unwrap_or(waiting.len() - 1);
                let batch = waiting[first].batch;
                let tied = waiting.iter().filter(|other| other.batch == batch).count();
                if is_full && first == 0 && tied == 1 {
                    waiting.remove(0);
                } else {
                    let old = waiting.iter_mut().enumerate();
                    let old = old.filter(|(index, old)| *index <= first || old.batch == batch);
                    old.for_each(|(_, old)| old.must = false);
                }
            }
        }
        session.waiting.push(entry);
    }

    /// What is at QoS 0 is sent at once, or dropped and counted; only behind a retained message does it
    /// wait.
    pub(super) fn settle_fleeting(&mut self, now: Instant, dropped: u64) {
        let (batch, links) = (self.batch, &self.links);
        let new = dropped - std::mem::replace(&mut self.unread, dropped);
        let is_new = |entry: &Entry| entry.batch == batch && entry.qos == QoS::AtMostOnce;
        let mut sure = 0;
        let mut unsure = self.shared.iter().any(|shared| shared.batch == batch);
        for session in self.sessions.values_mut() {
            let link = links.values().find(|link| Some(link.serial) == session.link);
            for entry in session.waiting.iter().filter(|entry| is_new(entry)) {
                sure += u64::from(entry.is_sure(now, link));
                unsure |= !entry.is_sure(now, link);
            }
        }
        for session in self.sessions.values_mut() {
            if !unsure && sure == new {
                session.waiting.retain(|entry| !is_new(entry));
            } else if unsure || new > 0 {
                let fresh = session.waiting.iter_mut().filter(|entry| is_new(entry));
                fresh.for_each(|entry| entry.must = false);
            }
        }
    }
}
