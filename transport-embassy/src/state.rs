//! The machine and all that waits for it, behind one lock that is never held while anything waits.

use core::task::{Context, Poll, Waker};

use embassy_sync::waitqueue::WakerRegistration;
use mqtt_core::{
    Acknowledgement, Client as Machine, Config, Disconnect, Event, Instant, Overrun, PacketId,
    Publish, QoS, ReasonCode, Receipt, SendError, Subscribe, Unsubscribe, Version, store::Store,
};

use crate::{
    error::{AcknowledgeError, ConnectionError, Cut, PublishError, SubscribeError},
    inbox::{Answer, Delivery, InboxSize},
    keep::Keep,
    outbox::OutboxSize,
    resources::Sizes,
    runner::End,
    status::Status,
    subscriptions::{Ask, SubscriptionsSize},
    waiting::{Key, Outcome, Queue, Subject, WaitingSize},
};

/// The machine, and all that waits for it.
pub(crate) struct State<R: Sizes> {
    pub(crate) machine: Machine<Keep<R::Store>>,
    pub(crate) out: R::Outbox,
    pub(crate) inbox: R::Inbox,
    subscriptions: R::Subscriptions,
    pub(crate) waiting: R::Waiting,
    pub(crate) runner: WakerRegistration,
    pub(crate) status: Status,
    /// How often the status has changed.
    pub(crate) changes: u32,
    /// How many connections there have been.
    pub(crate) connection: u32,
    /// The message that arrives in parts, if one does.
    pub(crate) incoming: Option<Incoming>,
    /// The number of the last message that came in parts.
    pub(crate) streams: u32,
    /// Of the last of them of which nobody wanted all.
    pub(crate) abandoned: Option<u32>,
    /// Messages that were dropped because the application did not take them.
    pub(crate) dropped: u32,
    /// The client is to end.
    pub(crate) closing: bool,
    /// A streamed payload was left incomplete: nothing can follow it.
    pub(crate) broken: bool,
}

/// What there is of the protocol itself, with eight publishes under way and their bytes apart. Looked at where
/// the budget is, on a microcontroller.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<Machine<Keep<mqtt_core::store::Fixed<8, 0>>>>() <= 512);

/// A message that arrives in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    pub(crate) number: u32,
    pub(crate) qos: QoS,
}

/// Why something was not done.
pub(crate) enum Refused<E> {
    /// There is no room, quota or connection now.
    ForNow,
    ForEver(E),
}

/// A publish that the machine has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) id: Option<PacketId>,
    /// Names its outcome; there is none at QoS 0.
    pub(crate) key: Option<Key>,
}

impl<R: Sizes> State<R> {
    pub(crate) const fn new(version: Version, store: R::Store) -> Self {
        let config = Config {
            whole: <R::Inbox as InboxSize<R::Mutex>>::BYTES,
            acknowledgement: Acknowledgement::Manual,
            // Brokers that catch up send more than they may; to hang up on them would be for ever.
            overrun: Overrun::Wait,
            ..Config::DEFAULT
        };
        Self {
            machine: Machine::with_config(version, Keep(store), config),
            out: R::Outbox::NEW,
            inbox: R::Inbox::NEW,
            subscriptions: R::Subscriptions::NEW,
            waiting: R::Waiting::NEW,
            runner: WakerRegistration::new(),
            status: Status::Idle,
            changes: 0,
            connection: 0,
            incoming: None,
            streams: 0,
            abandoned: None,
            dropped: 0,
            closing: false,
            broken: false,
        }
    }

    pub(crate) fn into_store(self) -> R::Store {
        self.machine.into_store().0
    }

    /// Before all else: the first buffer is the runner's, the others are free.
    pub(crate) fn begin(&mut self, buffers: usize) {
        let queues = self.inbox.queues();
        queues.ready.clear();
        queues.answers.clear();
        queues.free.clear();
        for buffer in 1..buffers {
            let _ = queues.free.push(buffer as u8); // there is a place for each
        }
    }

    pub(crate) fn set_status(&mut self, status: Status) {
        if self.status != status {
            self.status = status;
            self.changes = self.changes.wrapping_add(1);
            self.waiting.wake(Queue::Watchers);
        }
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.status, Status::Ended(_))
    }

    /// Calls the machine's end of the connection, and whoever waited for it to be another.
    pub(crate) fn disconnected(&mut self) {
        self.machine.closed();
        self.out.clear();
        self.broken = false;
        self.waiting.wake(Queue::Room);
        self.waiting.wake(Queue::Readers);
    }

    /// The client is over: whoever waits is told.
    pub(crate) fn end(&mut self, cause: Option<ConnectionError>) {
        self.closing = false;
        self.incoming = None;
        self.set_status(Status::Ended(cause));
        self.waiting.outcomes().complete_where(|subject| {
            Some(match subject {
                Subject::Request => Outcome::Subscribed(Err(SubscribeError::Closed)),
                _ => Outcome::Published(Err(PublishError::Closed)),
            })
        });
        self.waiting.wake(Queue::Room);
        self.waiting.wake(Queue::Readers);
    }

    /// Why the connection is to end from this side, if it is.
    pub(crate) fn ends(&mut self, now: Instant) -> Option<End> {
        if self.closing {
            // Before CONNACK it says nothing, and in the middle of a payload it cannot.
            let _ = self.machine.disconnect(now, &Disconnect::default(), &mut self.out);
            return Some(End::Told);
        }
        self.broken.then_some(End::Failed(ConnectionError::Incomplete))
    }

    /// Lets the runner send what has been written.
    pub(crate) fn wake_runner(&mut self) {
        self.runner.wake();
    }

    pub(crate) fn wait_for_room(&mut self, waker: &Waker) {
        self.waiting.register(Queue::Room, waker);
    }

    /// Something has ended that others may have waited for.
    pub(crate) fn made_room(&mut self) {
        self.waiting.wake(Queue::Room);
    }
}

/// Publishing.
impl<R: Sizes> State<R> {
    /// Gives a message to the machine, for which an outcome is then due at QoS 1 and 2; with `streamed` all
    /// but its payload, which has that length.
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        message: &Publish<'_>,
        streamed: Option<usize>,
    ) -> Result<Accepted, Refused<PublishError>> {
        if self.has_ended() || self.closing {
            return Err(Refused::ForEver(PublishError::Closed));
        }
        let due = message.qos != QoS::AtMostOnce;
        if due && !self.waiting.outcomes().has_place() {
            return Err(Refused::ForNow);
        }
        let Self { machine, out, .. } = self;
        let id = match streamed {
            Some(len) => machine.publish_streamed(now, message, len, out),
            None => machine.publish(now, message, out),
        };
        let id = id.map_err(refused)?;
        self.wake_runner();
        let subject =
            |id| if streamed.is_some() { Subject::Streamed(id) } else { Subject::Publish(id) };
        let key = id.and_then(|id| self.waiting.outcomes().expect(subject(id)));
        Ok(Accepted { id, key })
    }

    /// Gives it the beginning of a streamed message that it has asked for again.
    pub(crate) fn publish_again(
        &mut self,
        now: Instant,
        id: PacketId,
        message: &Publish<'_>,
        len: usize,
    ) -> Result<(), Refused<PublishError>> {
        let Self { machine, out, .. } = self;
        machine.publish_again_streamed(now, id, message, len, out).map_err(refused)?;
        self.wake_runner();
        Ok(())
    }

    /// Appends to the payload that is being streamed. How much; `None` if it is streamed no more.
    pub(crate) fn payload(&mut self, connection: u32, bytes: &[u8]) -> Option<usize> {
        if connection != self.connection || self.machine.payload_owed() == 0 {
            return None;
        }
        let taken = self.machine.payload(bytes, &mut self.out);
        if taken > 0 {
            self.wake_runner();
        }
        if self.machine.payload_owed() == 0 {
            self.made_room();
        }
        Some(taken)
    }

    /// A payload will not be streamed to its end. If the connection still waits for it, it is lost.
    pub(crate) fn abandon_payload(&mut self, connection: u32) {
        if connection == self.connection && self.machine.payload_owed() > 0 {
            self.broken = true;
            self.wake_runner();
        }
    }

    pub(crate) fn poll_outcome(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = self.waiting.outcomes().poll(key, cx);
        if outcome.is_ready() {
            self.made_room();
        }
        outcome
    }

    /// Nobody waits for an outcome any more.
    pub(crate) fn forget(&mut self, key: Key) {
        let Some(subject) = self.waiting.outcomes().forget(key) else { return };
        if let Subject::Streamed(id) = subject
            && self.machine.abandon(id)
        {
            self.wake_runner();
        }
        self.made_room();
    }

    fn published(&mut self, id: PacketId, outcome: Result<ReasonCode, PublishError>) {
        self.waiting.outcomes().complete_publish(id, Outcome::Published(outcome));
        self.made_room();
    }
}

/// Subscribing.
impl<R: Sizes> State<R> {
    /// Asks for a subscription, or its end, as soon as there is a connection.
    pub(crate) fn ask(
        &mut self,
        now: Instant,
        ask: Ask<'_>,
    ) -> Result<Key, Refused<SubscribeError>> {
        if self.has_ended() || self.closing {
            return Err(Refused::ForEver(SubscribeError::Closed));
        }
        let key = self.waiting.outcomes().expect(Subject::Request).ok_or(Refused::ForNow)?;
        match self.subscriptions.want(ask, key) {
            Ok(superseded) => {
                self.answered(superseded, Err(SubscribeError::Superseded));
                self.pump(now);
                Ok(key)
            }
            Err(_) => {
                self.forget(key);
                Err(Refused::ForEver(SubscribeError::Full))
            }
        }
    }

    pub(crate) fn granted(&self, filter: &str) -> Option<QoS> {
        self.subscriptions.granted(filter)
    }

    fn answered(&mut self, key: Option<Key>, answer: Result<QoS, SubscribeError>) {
        if let Some(key) = key {
            self.waiting.outcomes().complete(key, Outcome::Subscribed(answer));
        }
    }

    /// Writes what waits for a connection, room or quota: acknowledgements, subscriptions.
    pub(crate) fn pump(&mut self, now: Instant) {
        self.answer_again(now);
        let Self { machine, out, subscriptions, .. } = self;
        let mut asked = false;
        while let Some(Ask { subscription, end }) = subscriptions.next() {
            let filter = [subscription.filter];
            let result = if end {
                machine.unsubscribe(now, &Unsubscribe::from(&filter), out)
            } else {
                machine.subscribe(now, &Subscribe::from(&[subscription]), out)
            };
            let error = match result {
                Ok(id) => {
                    asked = true;
                    subscriptions.asked(id);
                    continue;
                }
                Err(SendError::TooLarge) => SubscribeError::TooLarge,
                Err(SendError::Unsupported(reason)) => SubscribeError::Unsupported(reason),
                Err(SendError::Invalid(error)) => SubscribeError::Invalid(error),
                Err(_) => break,
            };
            if let Some(key) = subscriptions.give_up() {
                self.waiting.outcomes().complete(key, Outcome::Subscribed(Err(error)));
            }
        }
        if asked {
            self.wake_runner();
        }
    }
}

/// Receiving.
impl<R: Sizes> State<R> {
    /// The next message, or if `stream` is given the next part of that one.
    pub(crate) fn take_ready(&mut self, stream: Option<u32>) -> Option<Delivery> {
        let ready = self.inbox.queues().ready;
        let next = ready.front()?;
        let wanted = match stream {
            Some(_) => next.continued && next.stream == stream,
            None => !next.continued,
        };
        if wanted { ready.pop_front() } else { None }
    }

    /// The runner has filled a buffer.
    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        if delivery.stream.is_some() && delivery.remaining == 0 {
            self.incoming = None;
        }
        let _ = self.inbox.queues().ready.push_back(delivery); // there is a place for each buffer
        self.waiting.wake(Queue::Readers);
    }

    /// Whether the next part of a message has come, or will.
    pub(crate) fn poll_part(
        &mut self,
        number: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Delivery, Cut>> {
        if let Some(part) = self.take_ready(Some(number)) {
            return Poll::Ready(Ok(part));
        }
        if self.incoming.is_none_or(|incoming| incoming.number != number) {
            return Poll::Ready(Err(Cut));
        }
        self.waiting.register(Queue::Readers, cx.waker());
        Poll::Pending
    }

    /// A message that comes in parts will not come to its end.
    pub(crate) fn cut(&mut self) {
        self.incoming = None;
        self.waiting.wake(Queue::Readers);
    }

    /// The application is done with a buffer, and with a message.
    pub(crate) fn release(&mut self, now: Instant, buffer: Option<u8>, receipt: Option<Receipt>) {
        let answer = receipt.map(|receipt| Answer { buffer, receipt });
        match answer {
            Some(answer) if !self.answer(now, answer) => {
                // There is a place for each buffer, and one for what has none.
                self.broken |= self.inbox.queues().answers.push(answer).is_err();
            }
            _ => self.free(buffer),
        }
        self.wake_runner();
    }

    fn free(&mut self, buffer: Option<u8>) {
        if let Some(buffer) = buffer {
            let _ = self.inbox.queues().free.push(buffer); // there is a place for each
        }
    }

    /// Acknowledges a message. Whether that is settled.
    fn answer(&mut self, now: Instant, answer: Answer) -> bool {
        let Self { machine, out, .. } = self;
        let result = machine.acknowledge(now, answer.receipt, ReasonCode::Success, out);
        !matches!(result, Err(SendError::NoRoom | SendError::Streaming))
    }

    fn answer_again(&mut self, now: Instant) {
        while let Some(answer) = self.inbox.queues().answers.first().copied() {
            if !self.answer(now, answer) {
                break;
            }
            self.inbox.queues().answers.remove(0);
            self.free(answer.buffer);
        }
    }

    /// Acknowledges a message that the application has kept for it.
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        receipt: Receipt,
        reason: ReasonCode,
    ) -> Result<(), Refused<AcknowledgeError>> {
        if self.has_ended() {
            return Err(Refused::ForEver(AcknowledgeError::Closed));
        }
        let Self { machine, out, .. } = self;
        match machine.acknowledge(now, receipt, reason, out) {
            Ok(()) => {
                self.wake_runner();
                Ok(())
            }
            Err(SendError::NoRoom | SendError::Streaming) => Err(Refused::ForNow),
            Err(SendError::Invalid(error)) => {
                Err(Refused::ForEver(AcknowledgeError::Invalid(error)))
            }
            Err(_) => Err(Refused::ForEver(AcknowledgeError::Stale)),
        }
    }

    /// Nobody reads the rest of a message that comes in parts.
    pub(crate) fn abandon(&mut self, number: u32) {
        self.abandoned = Some(number);
        if self.incoming.is_some_and(|incoming| incoming.number == number) {
            self.machine.skip();
        }
        // What has come of it already.
        while let Some(part) = self.take_ready(Some(number)) {
            self.free(Some(part.buffer));
        }
        self.wake_runner();
    }

    /// What comes again on this connection is forgotten.
    fn forget_ready(&mut self) {
        let queues = self.inbox.queues();
        for _ in 0..queues.ready.iter().count() {
            let Some(delivery) = queues.ready.pop_front() else { break };
            let again = delivery.qos == QoS::AtLeastOnce && delivery.connection != self.connection;
            if again && delivery.stream.is_none() {
                let _ = queues.free.push(delivery.buffer);
            } else {
                let _ = queues.ready.push_back(delivery); // where there was one
            }
        }
    }
}

/// What the machine tells, but for messages.
impl<R: Sizes> State<R> {
    /// Why the connection is over, if it is.
    pub(crate) fn on_event(
        &mut self,
        now: Instant,
        event: Event<'_>,
    ) -> Result<(), ConnectionError> {
        match event {
            Event::Connected(ack) => self.connected(now, ack.session_present),
            Event::Refused(ack) => return Err(ConnectionError::Refused(ack.reason)),
            Event::Disconnected(disconnect) => {
                return Err(ConnectionError::Disconnected(disconnect.reason));
            }
            Event::Acknowledged(id, ack) => {
                let refused = ack.reason.is_error();
                self.published(
                    id,
                    if refused { Err(PublishError::Refused(ack.reason)) } else { Ok(ack.reason) },
                );
            }
            Event::Dropped(id, reason) => self.published(id, Err(PublishError::Dropped(reason))),
            Event::Resend(id) => {
                let again = self.waiting.outcomes().complete_publish(id, Outcome::Again);
                let _ = again || self.machine.abandon(id);
            }
            Event::Subscribed(id, ack) => {
                let reason = ack.reasons.iter().next().unwrap_or(ReasonCode::UnspecifiedError);
                let granted = if reason.is_error() { None } else { QoS::from_u8(reason.as_u8()) };
                let answer = granted.ok_or(SubscribeError::Refused(reason));
                let key = self.subscriptions.answered(id, granted);
                self.answered(key, answer);
            }
            Event::Unsubscribed(id, _) => {
                let key = self.subscriptions.answered(id, None);
                self.answered(key, Ok(QoS::AtMostOnce));
            }
            Event::Skipped { .. } => self.incoming = None,
            _ => {} // no authentication is asked for; messages go elsewhere
        }
        Ok(())
    }

    fn connected(&mut self, now: Instant, session_present: bool) {
        self.connection = self.connection.wrapping_add(1).max(1);
        let Self { machine, subscriptions, waiting, .. } = self;
        subscriptions.connected(session_present, &mut |key| {
            let outcome = Outcome::Subscribed(Ok(QoS::AtMostOnce));
            waiting.outcomes().complete(key, outcome);
        });
        let store = machine.store();
        waiting.outcomes().complete_where(|subject| match subject {
            Subject::Publish(id) | Subject::Streamed(id) if store.flight(id).is_none() => {
                Some(Outcome::Published(Err(PublishError::SessionLost)))
            }
            _ => None,
        });
        if session_present {
            self.forget_ready();
        }
        self.set_status(Status::Connected { session_present });
        self.made_room();
        self.pump(now);
    }
}

fn refused(error: mqtt_core::PublishError) -> Refused<PublishError> {
    Refused::ForEver(match error {
        mqtt_core::PublishError::TooLarge => PublishError::TooLarge,
        mqtt_core::PublishError::Unsupported(reason) => PublishError::Unsupported(reason),
        mqtt_core::PublishError::Invalid(error) => PublishError::Invalid(error),
        _ => return Refused::ForNow,
    })
}
