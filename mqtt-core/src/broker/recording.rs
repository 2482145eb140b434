//! What a host is told so that it can keep a record of what has to survive.
//!
//! On record are sessions that outlive their connections, with all that belongs to them; wills; retained
//! messages; and the messages that any of these need. A host is told *which* records have changed, and
//! asks later what they are by then: what came and went in between has left no trace.

use super::{
    Broker, Host, Memory,
    memory::{Lent, Note, Noting, Numbered, Queue, Slab},
    message::{MessageId, Messages, Use},
    session::{Backlog, Session},
};
use crate::{
    router::{Router, Subscriber},
    store::Store,
    topic::Filter,
    wire::{PacketId, QoS},
};

/// The name of a record: what is kept of a broker is a table of records by their names.
///
/// A message is recorded once however many sessions it is for. Places and numbers are the broker's; those
/// of what has ended are used again, but for the numbers of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Key<'a> {
    /// A message, by its place.
    Message(u32),
    /// A retained message, by its place among these.
    Retained(u32),
    /// A session, by its place, and its will.
    Session(u32),
    /// A subscription of a session.
    Subscription(u32, Filter<'a>),
    /// That a session's client has published at QoS 2 under this identifier, and not released it.
    Arrival(u32, PacketId),
    /// A message that waits for a session or is on its way, by its number in the order of sending.
    Delivery(u32, u64),
}

/// When a change has to be on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// In time: if it gets lost, something is done once more that does no harm.
    None,
    /// Before anything leaves that was written in the call which told of it, or is written to the same
    /// connections later.
    Urgent,
}

/// Whether changes are told.
pub(super) fn records<M: Memory, H: Host>(host: &H) -> bool {
    M::RECORDS && host.keeps_records()
}

/// A message has one user less.
pub(super) fn release(
    messages: &mut impl Messages,
    id: MessageId,
    user: Use,
    host: &mut impl Host,
) {
    if messages.release(id, user) {
        host.changed(Key::Message(id.0), Haste::None);
    }
}

/// A message is needed by something that is on record.
fn require(messages: &mut impl Messages, id: MessageId, host: &mut impl Host) {
    if messages.record(id) {
        host.changed(Key::Message(id.0), Haste::Urgent);
    }
}

impl<M: Memory> Session<M> {
    /// A delivery, by its index, is there now, or has changed.
    pub(super) fn note_delivery<H: Host>(
        &self,
        index: usize,
        messages: &mut M::Messages,
        host: &mut H,
    ) {
        if records::<M, H>(host)
            && self.recorded
            && let Some(Backlog { deliveries, .. }) = self.backlog.get()
            && let Some(delivery) = deliveries.get(index)
            && delivery.qos > QoS::AtMostOnce
        {
            require(messages, delivery.message, host);
            host.changed(Key::Delivery(self.place, deliveries.number(index)), Haste::Urgent);
        }
    }

    /// A delivery, by its index, is about to end.
    pub(super) fn note_end<H: Host>(&self, index: usize, haste: Haste, host: &mut H) {
        if records::<M, H>(host)
            && self.recorded
            && let Some(Backlog { deliveries, .. }) = self.backlog.get()
            && let Some(delivery) = deliveries.get(index)
            && delivery.qos > QoS::AtMostOnce
        {
            host.changed(Key::Delivery(self.place, deliveries.number(index)), haste);
        }
    }

    /// Passes on what the store has noted, and how much it keeps.
    pub(super) fn note_store<H: Host>(&mut self, messages: &mut M::Messages, host: &mut H) {
        let arrivals = self.peer.store().arrivals();
        messages.set_arrived(self.arrivals.into(), arrivals);
        self.arrivals = arrivals as u16; // each has an identifier
        if !records::<M, H>(host) {
            return;
        }
        while let Some(note) = self.peer.store_mut().note() {
            match note {
                Note::Released(id) => {
                    if let Some(index) = self.backlog.get().and_then(|backlog| backlog.find(id)) {
                        self.note_delivery(index, messages, host);
                    }
                }
                Note::Arrival(id) if self.recorded => {
                    host.changed(Key::Arrival(self.place, id), Haste::Urgent);
                }
                Note::Arrival(_) => {}
            }
        }
    }
}

impl<M: Memory> Broker<M> {
    /// Passes on what a session's store has noted.
    pub(super) fn note_store<H: Host>(&mut self, place: u32, host: &mut H) {
        if let Some(session) = self.sessions.get_mut(place) {
            session.note_store(&mut self.messages, host);
        }
    }

    /// A session's terms or its will have changed; not for a session that has nothing to be recorded.
    pub(super) fn note_session<H: Host>(&mut self, place: u32, haste: Haste, host: &mut H) {
        if let Some(session) = self.sessions.get(place).filter(|_| records::<M, H>(host)) {
            if let Some(will) = &session.will {
                require(&mut self.messages, will.message, host);
            }
            if session.recorded || session.will.is_some() {
                host.changed(Key::Session(place), haste);
            }
        }
    }

    /// A subscription has been made or has ended, or more of it has been replayed.
    pub(super) fn note_subscription<H: Host>(&self, place: u32, filter: Filter<'_>, host: &mut H) {
        let session = self.sessions.get(place).filter(|_| records::<M, H>(host));
        if session.is_some_and(|session| session.recorded) {
            host.changed(Key::Subscription(place, filter), Haste::Urgent);
        }
    }

    /// What is retained in this place has changed, or is about to end. Not what the host says of itself,
    /// in topics that begin with `$`.
    pub(super) fn note_retained<H: Host>(&mut self, place: u32, host: &mut H) {
        let Some(message) = self.retained.get(place).copied() else { return };
        let content = self.messages.get(message).filter(|_| records::<M, H>(host));
        if content.is_some_and(|content| !content.topic.starts_with_dollar()) {
            require(&mut self.messages, message, host);
            host.changed(Key::Retained(place), Haste::Urgent);
        }
    }

    /// A session is to be on record from now on, or no longer.
    pub(super) fn set_recorded<H: Host>(&mut self, place: u32, recorded: bool, host: &mut H) {
        if let Some(session) = self.sessions.get_mut(place)
            && session.recorded != recorded
            && records::<M, H>(host)
        {
            session.recorded = true;
            self.note_all(place, host);
        }
        if let Some(session) = self.sessions.get_mut(place) {
            session.recorded = recorded;
        }
    }

    /// All that belongs to a session is there now, or is about to end.
    pub(super) fn note_all<H: Host>(&mut self, place: u32, host: &mut H) {
        let Some(session) = self.sessions.get(place) else { return };
        if !records::<M, H>(host) || !session.recorded {
            return;
        }
        host.changed(Key::Session(place), Haste::Urgent);
        for (filter, _) in self.router.subscriptions(Subscriber(place)) {
            host.changed(Key::Subscription(place, filter), Haste::Urgent);
        }
        session.peer.store().each_taken(&mut |id| {
            host.changed(Key::Arrival(place, id), Haste::Urgent);
        });
        let deliveries = session.backlog.get().map_or(0, |backlog| backlog.deliveries.len());
        for index in 0..deliveries {
            session.note_delivery(index, &mut self.messages, host);
        }
    }
}
