//! How connections, sessions and wills come to their end.

use super::{
    Broker, ConnectionId, End, Host, Memory, Notice, State,
    memory::{Alarms, Lent, Names, Queue, Slab},
    message::{Content, Messages, Use},
    recording::{Haste, Key, release},
    session::{Subject, Will},
};
use crate::{
    Instant,
    error::{Error, SendError},
    reason::ReasonCode,
    router::{Router, Subscriber},
    store::{Flight, Name, Store},
    topic::Topic,
    wire::{Disconnect, QoS},
};

impl<M: Memory> Broker<M> {
    /// A client leaves: its will is dropped, or meant to be published [MQTT-3.1.2-10]
    /// [MQTT-3.14.4-3].
    pub(super) fn on_disconnect(
        &mut self,
        now: Instant,
        from: Subject,
        disconnect: &Disconnect<'_>,
        host: &mut impl Host,
    ) {
        if let Some(session) = self.sessions.get_mut(from.session) {
            if let Some(expiry) = disconnect.properties.session_expiry_interval() {
                session.expiry = expiry.min(self.config.session_expiry_maximum);
            }
            if disconnect.reason == ReasonCode::Success {
                self.drop_will(from.session, host);
            }
        }
        self.end_connection(now, from.connection, End::Left(disconnect.reason), host);
    }

    /// Sends a client away: on 5.0 with this DISCONNECT, as much of it as fits, before by the close alone.
    /// Its will is published, its session lives on, as if the network had failed. One that has not been
    /// let in is told nothing.
    ///
    /// # Errors
    ///
    /// Nothing has changed: [`NotConnected`](SendError::NotConnected) if the connection is over,
    /// [`Invalid`](SendError::Invalid) as with
    /// [`Peer::disconnect`](crate::server::Peer::disconnect).
    ///
    /// ```
    /// # use mqtt_core::{Instant, SendError, broker::{Broker, ConnectionId, Host, Small}};
    /// use mqtt_core::{Disconnect, ReasonCode};
    ///
    /// # fn send_away<H: Host>(
    /// #     broker: &mut Broker<Small<2, 8, 256, 16, 2048>>, now: Instant, client: ConnectionId, host: &mut H,
    /// # ) -> Result<(), SendError> {
    /// broker.disconnect(now, client, &Disconnect::from(ReasonCode::AdministrativeAction), host)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn disconnect(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        disconnect: &Disconnect<'_>,
        host: &mut impl Host,
    ) -> Result<(), SendError> {
        let state = self.state(connection);
        if state == State::Closing {
            return Err(SendError::NotConnected);
        }
        if let State::Open(place) = state
            && let Some(session) = self.sessions.get_mut(place)
        {
            let sink = host.sink(connection);
            match session.peer.disconnect(now, disconnect, sink) {
                Err(error @ SendError::Invalid(_)) => return Err(error),
                Ok(()) => {}
                Err(_) => {
                    // If there is no room even for this the client finds out by the close.
                    let brief = Disconnect::from(disconnect.reason);
                    let _ = session.peer.disconnect(now, &brief, sink);
                }
            }
        }
        self.end_connection(now, connection, End::SentAway(disconnect.reason), host);
        Ok(())
    }

    /// Ends a connection from this side. What is to be told to the client has been written.
    pub(super) fn end_connection(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        end: End,
        host: &mut impl Host,
    ) {
        let state = self.state(connection);
        if state == State::Closing {
            return;
        }
        self.set_state(connection, State::Closing);
        host.close(connection);
        if let State::Open(session) = state {
            self.detach(now, session, end, host);
        }
    }

    /// Another connection takes the session [MQTT-3.1.4-3].
    pub(super) fn take_over(
        &mut self,
        now: Instant,
        place: u32,
        clean: bool,
        host: &mut impl Host,
    ) {
        let Some(session) = self.sessions.get_mut(place) else { return };
        if let Some(connection) = session.connection {
            let farewell = Disconnect::from(ReasonCode::SessionTakenOver);
            // If there is no room the client finds out by the close.
            let _ = session.peer.disconnect(now, &farewell, host.sink(connection));
            if clean {
                session.expiry = 0;
            }
            self.end_connection(now, connection, End::TakenOver, host);
        }
        if !clean {
            // The client is back before its will was due [MQTT-3.1.3-9].
            self.drop_will(place, host);
        }
    }

    fn drop_will(&mut self, place: u32, host: &mut impl Host) {
        if let Some(will) = self.take_will(place, host) {
            release(&mut self.messages, will.message, Use::Standing, host);
        }
    }

    fn take_will(&mut self, place: u32, host: &mut impl Host) -> Option<Will> {
        let will = self.sessions.get_mut(place)?.will.take()?;
        host.changed(Key::Session(place), Haste::Urgent);
        Some(will)
    }

    /// A session has lost its connection.
    pub(super) fn detach(&mut self, now: Instant, place: u32, end: End, host: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(place) else { return };
        session.peer.closed();
        session.peer.forget_connection();
        if let Some(connection) = session.connection.take() {
            let client_id = session.name.as_bytes();
            host.notice(&Notice::Disconnected { connection, client_id, end });
        }
        if let Some(backlog) = session.backlog.get_mut() {
            backlog.resend = None;
        }
        session.rest();
        self.absent.set(place, now);
        if session.expiry == 0 {
            return self.end_session(now, place, host);
        }
        session.lost = Some(now);
        self.drop_fleeting(place, host);
        self.note_store(place, host);
        self.note_session(place, Haste::None, host);
        self.tick_session(now, place, host);
    }

    /// Messages at QoS 0 do not wait for a client that is not there.
    fn drop_fleeting(&mut self, place: u32, host: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(place) else { return };
        let Some(backlog) = session.backlog.get_mut() else { return };
        let mut index = backlog.sent;
        while let Some(delivery) = backlog.deliveries.get(index).copied() {
            if delivery.qos == QoS::AtMostOnce {
                backlog.take(index, self.messages.size(delivery.message));
                release(&mut self.messages, delivery.message, Use::Sent, host);
            } else {
                index += 1;
            }
        }
    }

    /// A session comes to its end: its will is published, its shared messages go to others, the rest
    /// is forgotten.
    pub(super) fn end_session(&mut self, now: Instant, place: u32, host: &mut impl Host) {
        self.note_store(place, host);
        self.note_all(place, host);
        let will = self.take_will(place, host);
        let Some(mut session) = self.sessions.remove(place) else { return };
        self.messages.set_arrived(session.arrivals.into(), 0);
        self.alarms.clear(place);
        self.absent.clear(place);
        let hash = self.names.hash(session.name.as_bytes());
        self.names.remove(hash, place);
        self.router.unsubscribe_all(Subscriber(place));
        if let Some(will) = will {
            self.publish_will(now, will, host);
        }
        host.notice(&Notice::SessionEnded { client_id: session.name.as_bytes() });
        while let Some(backlog) = session.backlog.get_mut()
            && let Some(delivery) = backlog.deliveries.remove(0)
        {
            let flight = delivery.id.and_then(|id| session.peer.store().flight(id));
            let is_free = matches!(flight, None | Some(Flight::AwaitAck));
            if let (true, Some(group)) = (is_free, delivery.group)
                && self.pass_on(now, group, delivery.message, host)
            {
                continue;
            }
            release(&mut self.messages, delivery.message, Use::Sent, host);
        }
    }

    fn publish_will(&mut self, now: Instant, will: Will, host: &mut impl Host) {
        let Will { message, expiry, .. } = will;
        if let Some(expiry) = expiry {
            let at = now + u64::from(expiry) * 1_000;
            self.messages.set_expiry(message, at);
            self.expect_expiry(Some(at));
            host.changed(Key::Message(message.0), Haste::Urgent);
        }
        let kept = self.messages.get(message);
        let name = kept.map(|Content { topic, .. }| M::Topic::new(topic.as_bytes()));
        let retain = kept.is_some_and(|kept| kept.retain);
        if let Some(Ok(name)) = name {
            let topic = Topic::from_validated(name.as_bytes());
            if retain {
                self.retain_kept(topic, message, host);
            }
            self.route_kept(now, topic, message, host);
        }
        release(&mut self.messages, message, Use::Standing, host);
    }

    /// What the clock does to a connection that has no session yet.
    pub(super) fn tick_connection(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        host: &mut impl Host,
    ) {
        if let State::Handshake { until: Some(_), .. } = self.state(connection) {
            let end = End::Error(Error::HandshakeTimeout);
            self.end_connection(now, connection, end, host);
        }
    }

    /// What the clock does to a session.
    pub(super) fn tick_session(&mut self, now: Instant, place: u32, host: &mut impl Host) {
        let Some(session) = self.sessions.get_mut(place) else { return };
        if let Some(connection) = session.connection {
            if let Err(error) = session.peer.expire(now, host.sink(connection)) {
                return self.end_connection(now, connection, End::Error(error), host);
            }
            session.rest();
            if session.backlog.get().is_some_and(|backlog| backlog.replays.len() > 0) {
                self.pump(now, place, host);
            }
            return self.set_deadline(place);
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(session.ends()) {
            self.statistics.sessions_expired += 1;
            return self.end_session(now, place, host);
        }
        if is_due(session.will_due())
            && let Some(will) = self.take_will(place, host)
        {
            self.publish_will(now, will, host);
        }
        self.set_deadline(place);
    }

    /// Notes when the clock does something to a session next.
    pub(super) fn set_deadline(&mut self, place: u32) {
        let Some(session) = self.sessions.get(place) else { return };
        let deadlines = match session.connection {
            Some(_) => [session.peer.deadline(), None],
            None => [session.ends(), session.will_due()],
        };
        if let Some(due) = deadlines.into_iter().flatten().min() {
            self.wake(place, due);
        }
    }
}
