//! What the handles and the driver share, behind one lock that is never held while anything waits.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use mqtt_core::{
    Client as Machine, Instant, PacketId, Payload, Properties, Publish, QoS, ReasonCode, Receipt,
    SendError, Topic, Version,
    store::{Flight, Outgoing, Store},
};
use tokio::{sync::watch, time};

use crate::{
    error::{Invalid, PublishError, Refusal, SubscribeError},
    inbox::{Delivery, Inbox, Pushed},
    kept::{Changes, Kept, QUEUED},
    message::{Message, PublishProperties},
    options::Options,
    out::Out,
    outcome::{Key, Outcome, Outcomes, Published},
    queue::{Draft, Queue, Queued, Waiter},
    receive::READ_BUFFER,
    routes::{Interest, Routes, StreamId},
    status::{Counters, Status},
    subscriptions::Subscriptions,
};

/// What the handles and the driver have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Acknowledgements that have been given and not yet passed on. Apart, so that a reader does not
    /// wait for the driver.
    answers: Mutex<Vec<(Receipt, ReasonCode)>>,
    pub(crate) driver: AtomicWaker,
    pub(crate) status: watch::Sender<Status>,
    /// The number of the last batch of changes that is on disk.
    pub(crate) durable: watch::Sender<u64>,
    start: time::Instant,
}

/// The first number in the queue: there is room before it, for messages that are to be sent again.
const FIRST_NUMBER: u64 = 1 << 32;

/// Stands for the number of a batch when nothing more will be on disk.
pub(crate) const NEVER: u64 = u64::MAX;

/// The machine, and all that waits for it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) machine: Machine<Kept>,
    pub(crate) out: Out,
    pub(crate) outcomes: Outcomes,
    /// Who waits for which publish.
    flights: HashMap<PacketId, Key>,
    pub(crate) queue: Queue,
    /// The numbers of the messages in the queue are from here, to be counted down, ...
    first_number: u64,
    /// ...up to here.
    next_number: u64,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) routes: Routes,
    /// Messages that more than one stream reads: how many have not acknowledged yet.
    shared: HashMap<Receipt, Shares>,
    /// Acknowledgements for which there was no room.
    answers: Vec<(Receipt, ReasonCode)>,
    /// How many connections there have been.
    pub(crate) connection: u64,
    /// The number of the next batch of changes.
    pub(crate) batch: u64,
    pub(crate) closing: Option<Closing>,
    pub(crate) closed: bool,
    /// How many publishes had no outcome when it was closed.
    pub(crate) abandoned: usize,
    /// Handles: clients and streams.
    pub(crate) handles: usize,
    pub(crate) counters: Counters,
    /// What the server has told as the basis for response topics.
    pub(crate) response_information: Option<Box<str>>,
    /// Who is to be woken when the lock is released.
    pub(crate) wakers: Vec<Waker>,
}

#[derive(Debug)]
struct Shares {
    readers: usize,
    qos: QoS,
    connection: u64,
}

/// How the client is to be closed.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) reason: ReasonCode,
    /// `None` leaves it as it was agreed.
    pub(crate) session_expiry_interval: Option<u32>,
    /// Until when to wait for outcomes.
    pub(crate) until: Instant,
}

impl Closing {
    pub(crate) const fn new(until: Instant) -> Self {
        Self { reason: ReasonCode::Success, session_expiry_interval: None, until }
    }
}

/// How long to wait for outcomes before a client is closed, unless said otherwise, in milliseconds.
pub(crate) const CLOSING: u64 = 10_000;

impl Shared {
    pub(crate) fn new(
        options: &Options,
        store: Kept,
        restored: Vec<crate::kept::Queued>,
    ) -> Arc<Self> {
        let machine = Machine::with_config(options.version, store, options.config(READ_BUFFER));
        let mut state = State {
            machine,
            out: Out::default(),
            outcomes: Outcomes::default(),
            flights: HashMap::new(),
            queue: Queue::new(options.queue),
            first_number: FIRST_NUMBER,
            next_number: FIRST_NUMBER,
            subscriptions: Subscriptions::default(),
            routes: Routes::default(),
            shared: HashMap::new(),
            answers: Vec::new(),
            connection: 0,
            batch: 1,
            closing: None,
            closed: false,
            abandoned: 0,
            handles: 0,
            counters: Counters::default(),
            response_information: None,
            wakers: Vec::new(),
        };
        state.restore(options.version, restored);
        let shared = Self {
            state: Mutex::new(state),
            answers: Mutex::default(),
            driver: AtomicWaker::new(),
            status: watch::Sender::new(Status::Connecting),
            durable: watch::Sender::new(0),
            start: time::Instant::now(),
        };
        Arc::new(shared)
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(self.start.elapsed().as_millis() as u64)
    }

    pub(crate) fn at(&self, instant: Instant) -> time::Instant {
        self.start + std::time::Duration::from_millis(instant.as_millis())
    }

    /// Does something to the state, then wakes whom it concerns.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// The same, for something that the driver has to go on with.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = self.with(act);
        self.driver.wake();
        result
    }

    /// The application has taken a message.
    pub(crate) fn acknowledge(&self, receipt: Receipt, reason: ReasonCode) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((receipt, reason));
        let first = answers.len() == 1;
        drop(answers);
        if first {
            self.driver.wake(); // once is enough
        }
    }

    /// What has been acknowledged since the last time.
    pub(crate) fn take_answers(&self) -> Vec<(Receipt, ReasonCode)> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut answers)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishing.
impl State {
    /// Accepts a message, for which an outcome is then due at QoS 1 and 2. `None` if there is no room.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        draft: &mut Draft<'_>,
    ) -> Result<Option<Accepted>, PublishError> {
        if self.closed || self.closing.is_some() {
            return Err(PublishError::Closed);
        }
        if self.queue.is_empty() && !self.queue.has_line() {
            let expiry = draft.expiry();
            if let Some(sent) = self.send(now, draft, expiry)? {
                self.counters.published[draft.qos as usize] += 1;
                let key = sent.map(|id| self.expect(id));
                return Ok(Some(Accepted { key }));
            }
        } else {
            draft.with_packet(None, |_| ())?; // or it would be refused when its turn comes
        }
        if !self.queue.admits(draft.len()) {
            return Ok(None);
        }
        let key = (draft.qos != QoS::AtMostOnce).then(|| self.outcomes.expect());
        let until = expires(now, draft);
        self.enqueue(draft.take(), until, key);
        Ok(Some(Accepted { key }))
    }

    /// Lets a message for which there is no room wait for it.
    pub(crate) fn wait(&mut self, now: Instant, draft: &mut Draft<'_>, waker: Waker) -> Ticket {
        let key = self.outcomes.expect();
        let until = expires(now, draft);
        let number = self.queue.wait(Waiter { draft: draft.take(), until, key, waker });
        Ticket { number, key }
    }

    /// Whether a message that waited has been accepted. Its key then has an outcome at every QoS.
    pub(crate) fn poll_ticket(
        &mut self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Accepted, PublishError>> {
        if let Some(waiter) = self.queue.waiter(ticket.number) {
            waiter.waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(match self.outcomes.take_error(ticket.key) {
            Some(error) => Err(error),
            None => Ok(Accepted { key: Some(ticket.key) }),
        })
    }

    /// Takes a message back, if it has not been accepted.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) {
        if self.queue.leave(ticket.number).is_some() {
            self.outcomes.forget(ticket.key);
            self.admit();
        } else {
            self.outcomes.detach(ticket.key);
        }
    }

    /// Accepts the messages that have waited longest, as far as there is room. Whether there were any.
    fn admit(&mut self) -> bool {
        let mut admitted = false;
        while let Some(Waiter { draft, until, key, waker }) = self.queue.next_admitted() {
            admitted = true;
            self.wakers.push(waker);
            if draft.qos == QoS::AtMostOnce {
                self.wakers.extend(self.outcomes.complete(key, Ok(Published::SUCCESS)));
                self.enqueue(draft, until, None);
            } else {
                self.enqueue(draft, until, Some(key));
            }
        }
        admitted
    }

    /// Refuses all messages that wait for room.
    fn dismiss(&mut self) {
        for Waiter { key, waker, .. } in self.queue.dismiss() {
            self.wakers.extend(self.outcomes.complete(key, Err(PublishError::Closed)));
            self.wakers.push(waker);
        }
    }

    fn expect(&mut self, id: PacketId) -> Key {
        let key = self.outcomes.expect();
        self.flights.insert(id, key);
        key
    }

    fn enqueue(&mut self, draft: Draft<'static>, until: Option<Instant>, key: Option<Key>) {
        let number = self.next_number;
        self.next_number += 1;
        if draft.qos != QoS::AtMostOnce {
            self.keep_queued(number, &draft);
        }
        self.queue.push(Queued { draft, key, until, number });
    }

    /// Notes a message that waits in the journal. One that makes no packet will be told so when its
    /// turn comes.
    fn keep_queued(&mut self, number: u64, draft: &Draft<'_>) {
        let version = self.machine.version();
        let kept = self.machine.store_mut();
        if !kept.has_journal() {
            return;
        }
        let _ = draft.with_packet(draft.expiry(), |publish| {
            if let Ok(outgoing) = Outgoing::new(version, QUEUED, publish) {
                kept.queue(number, &outgoing);
            }
        });
    }

    /// Gives a message to the machine. `None` if it has to wait.
    fn send(
        &mut self,
        now: Instant,
        draft: &Draft<'_>,
        expiry: Option<u32>,
    ) -> Result<Option<Option<PacketId>>, PublishError> {
        let Self { machine, out, .. } = self;
        let sent = draft.with_packet(expiry, |publish| machine.publish(now, publish, out))?;
        match sent {
            Ok(id) => Ok(Some(id)),
            Err(mqtt_core::PublishError::TooLarge) => Err(PublishError::TooLarge),
            Err(mqtt_core::PublishError::Unsupported(reason)) => {
                Err(PublishError::Unsupported(reason))
            }
            Err(mqtt_core::PublishError::Invalid(error)) => {
                Err(PublishError::Invalid(Invalid::Packet(error)))
            }
            Err(_) => Ok(None),
        }
    }

    /// Sends what waits, as far as it may be.
    fn drain(&mut self, now: Instant) {
        while self.drain_queue(now) && self.admit() {}
        self.admit();
    }

    /// Whether nothing is left in the queue.
    fn drain_queue(&mut self, now: Instant) -> bool {
        while let Some(queued) = self.queue.front() {
            let remaining = queued.until.map(|until| until.since(now).div_ceil(1_000) as u32);
            let Some(queued) = self.queue.pop() else { break };
            let result = match remaining {
                Some(0) => Err(PublishError::Expired),
                _ => self.send(now, &queued.draft, remaining),
            };
            match result {
                Ok(None) => {
                    self.queue.put_back(std::iter::once(queued));
                    return false;
                }
                Ok(Some(id)) => {
                    self.counters.published[queued.draft.qos as usize] += 1;
                    if let (Some(id), Some(key)) = (id, queued.key) {
                        self.flights.insert(id, key);
                    }
                }
                Err(error) => self.complete(queued.key, Err(error)),
            }
            if queued.draft.qos != QoS::AtMostOnce {
                self.machine.store_mut().unqueue(queued.number);
            }
        }
        true
    }

    /// A publish has ended.
    fn complete(&mut self, key: Option<Key>, outcome: Outcome) {
        let counter = match outcome {
            Ok(_) => &mut self.counters.acknowledged,
            Err(_) => &mut self.counters.undelivered,
        };
        *counter += 1;
        match key {
            Some(key) => self.wakers.extend(self.outcomes.complete(key, outcome)),
            None => {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "a publish was not delivered");
                }
            }
        }
    }

    /// The server has answered a publish, or it was given up.
    pub(crate) fn outcome(&mut self, id: PacketId, outcome: Outcome) {
        let key = self.flights.remove(&id);
        self.complete(key, outcome);
    }

    /// Whether everything has been sent and has its outcome.
    pub(crate) fn has_finished(&self) -> bool {
        self.machine.is_connected() && self.unfinished() == 0 && self.out.is_empty()
    }

    /// How many publishes have no outcome yet.
    pub(crate) fn unfinished(&self) -> usize {
        self.machine.store().flights() + self.queue.len()
    }
}

/// The session.
impl State {
    /// What waited when the program ended waits again.
    fn restore(&mut self, version: Version, restored: Vec<crate::kept::Queued>) {
        let mut queued = Vec::with_capacity(restored.len());
        for kept in restored {
            self.first_number = self.first_number.min(kept.number);
            self.next_number = self.next_number.max(kept.number + 1);
            if let Some(publish) = kept.publish(version) {
                let draft = Draft::from_packet(&publish);
                // Nobody knows how long the program was away.
                let until = expires(Instant::default(), &draft);
                queued.push(Queued { draft, key: None, until, number: kept.number });
            }
        }
        self.queue.put_back(queued.into_iter());
    }

    /// What was on its way when the server lost the session: QoS 1 is published again as new messages,
    /// QoS 2 reported.
    pub(crate) fn recover_lost(&mut self, now: Instant) {
        let version = self.machine.version();
        let lost = self.machine.store_mut().take_lost();
        // They come before all that waits already, in the file, too.
        if self.queue.is_empty() {
            self.first_number = self.next_number;
        }
        self.first_number = self.first_number.saturating_sub(lost.len() as u64);
        let mut again = Vec::new();
        for (number, lost) in (self.first_number..).zip(lost) {
            let key = self.flights.remove(&lost.id);
            match lost.publish(version) {
                Some(publish) if lost.flight == Flight::AwaitAck => {
                    let draft = Draft::from_packet(&publish);
                    self.keep_queued(number, &draft);
                    let until = expires(now, &draft);
                    again.push(Queued { draft, key, until, number });
                }
                _ => self.complete(key, Err(PublishError::SessionLost)),
            }
        }
        self.queue.put_back(again.into_iter());
    }

    /// The server has accepted the connection.
    pub(crate) fn connected(&mut self, session_present: bool) {
        self.connection += 1;
        self.counters.connections += 1;
        self.subscriptions.connected(session_present);
        if session_present {
            // What was not acknowledged comes again.
            let connection = self.connection;
            for inbox in self.routes.inboxes() {
                inbox.forget_before(connection);
            }
            self.shared.retain(|_, shares| {
                shares.qos != QoS::AtLeastOnce || shares.connection >= connection
            });
        } else {
            self.shared.clear();
            for inbox in self.routes.inboxes() {
                self.counters.dropped += inbox.forget_receipts();
            }
        }
    }

    /// The connection has ended.
    pub(crate) fn disconnected(&mut self) {
        self.machine.closed();
        self.out.clear();
        self.subscriptions.lost();
    }

    /// The client is over: whoever waits is told.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.abandoned = self.unfinished();
        self.disconnected();
        let keys: Vec<_> = self.flights.drain().map(|(_, key)| key).collect();
        for key in keys {
            self.complete(Some(key), Err(PublishError::Closed));
        }
        while let Some(queued) = self.queue.pop() {
            self.complete(queued.key, Err(PublishError::Closed));
        }
        self.dismiss();
        self.subscriptions.close();
        for inbox in self.routes.inboxes() {
            self.wakers.extend(inbox.end(Some(SubscribeError::Closed)));
        }
    }

    /// Writes what waits for room or quota: acknowledgements, subscriptions, publishes.
    pub(crate) fn pump(&mut self, now: Instant, answers: Vec<(Receipt, ReasonCode)>) {
        for (receipt, reason) in std::mem::take(&mut self.answers) {
            self.answer(now, receipt, reason);
        }
        for (receipt, reason) in answers {
            if self.is_last(receipt) {
                self.answer(now, receipt, reason);
            }
        }
        if self.machine.is_connected() {
            let Self { subscriptions, machine, out, routes, wakers, .. } = self;
            subscriptions.pump(machine, now, out, &mut |filter, error| {
                routes.refuse(filter, &error, wakers);
            });
            self.drain(now);
        }
    }

    /// Whether nobody else has still to acknowledge the message.
    fn is_last(&mut self, receipt: Receipt) -> bool {
        let Some(shares) = self.shared.get_mut(&receipt) else { return true };
        shares.readers -= 1;
        let last = shares.readers == 0;
        if last {
            self.shared.remove(&receipt);
        }
        last
    }

    fn answer(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) {
        match self.machine.acknowledge(now, receipt, reason, &mut self.out) {
            Err(SendError::NoRoom | SendError::Streaming) => self.answers.push((receipt, reason)),
            // What the server cannot be told, or would not take, is not refused but accepted.
            Err(SendError::Invalid(_) | SendError::TooLarge) if reason != ReasonCode::Success => {
                self.answer(now, receipt, ReasonCode::Success);
            }
            _ => {} // done, or a message that comes again
        }
    }

    /// The number of the batch that has, or will have, all that has to be on disk of what has happened,
    /// if there is a journal.
    pub(crate) fn latest_batch(&self) -> Option<u64> {
        let store = self.machine.store();
        let taken = self.batch - 1;
        store.has_journal().then_some(if store.is_urgent() { self.batch } else { taken })
    }

    /// Changes that have to be on disk before what was written since the last time is sent, if there
    /// are any, with all others, and the number of their batch.
    pub(crate) fn take_urgent_changes(&mut self) -> Option<(u64, Changes)> {
        if !self.machine.store().is_urgent() {
            return None;
        }
        let batch = self.batch;
        // They may have cancelled each other out, which somebody may wait to be told.
        self.take_changes().or_else(|| {
            self.batch += 1;
            Some((batch, Changes::default()))
        })
    }

    /// What has to be on disk some time.
    pub(crate) fn take_changes(&mut self) -> Option<(u64, Changes)> {
        let changes = self.machine.store_mut().take_changes()?;
        let batch = self.batch;
        self.batch += 1;
        Some((batch, changes))
    }
}

/// Messages.
impl State {
    /// Gives a message to everybody who reads it.
    pub(crate) fn deliver(&mut self, now: Instant, arrived: Arrived, topic: Topic<'_>) {
        self.counters.received += 1;
        let (topic, readers) = self.routes.find(topic);
        let Arrived { payload, qos, retain, dup, properties, receipt } = arrived;
        let message = Message { topic, payload, qos, retain, dup, properties };
        let connection = self.connection;
        let Some((last, others)) = readers.split_last() else {
            self.counters.unclaimed += 1;
            if let Some(receipt) = receipt {
                self.answer(now, receipt, ReasonCode::Success);
            }
            return;
        };
        if let Some(receipt) = receipt.filter(|_| !others.is_empty()) {
            self.shared.insert(receipt, Shares { readers: readers.len(), qos, connection });
        }
        for inbox in others {
            self.push(inbox, Delivery { message: message.clone(), receipt, connection });
        }
        self.push(last, Delivery { message, receipt, connection });
    }

    fn push(&mut self, inbox: &Inbox, delivery: Delivery) {
        match inbox.push(delivery) {
            Pushed::Kept(reader) => self.wakers.extend(reader),
            Pushed::Dropped => self.counters.dropped += 1,
        }
    }

    pub(crate) fn listen(
        &mut self,
        interest: Interest,
        subscribed: Vec<Box<str>>,
        inbox: &Arc<Inbox>,
    ) -> StreamId {
        self.handles += 1;
        if self.closed {
            inbox.end(Some(SubscribeError::Closed));
        }
        self.routes.insert(interest, subscribed, Arc::clone(inbox))
    }

    /// A handle is gone. Without any the client closes.
    pub(crate) fn release(&mut self, now: Instant) {
        self.handles -= 1;
        if self.handles == 0 {
            self.begin_to_close(Closing::new(now + CLOSING));
        }
    }

    /// Nothing more is accepted. What was said first counts.
    pub(crate) fn begin_to_close(&mut self, closing: Closing) {
        self.closing.get_or_insert(closing);
        self.dismiss();
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            queued: self.queue.len(),
            queued_bytes: self.queue.bytes(),
            in_flight: self.machine.store().flights(),
            filters: self.subscriptions.len(),
            ..self.counters
        }
    }
}

/// A message that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// Names its outcome. There is none at QoS 0.
    pub(crate) key: Option<Key>,
}

/// A message that waits to be accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    number: u64,
    key: Key,
}

/// What has arrived, apart from its topic.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) properties: Option<Box<PublishProperties>>,
    pub(crate) receipt: Option<Receipt>,
}

/// When a message that begins to wait now is no longer worth delivering.
fn expires(now: Instant, draft: &Draft<'_>) -> Option<Instant> {
    draft.expiry().map(|seconds| now + u64::from(seconds) * 1_000)
}

/// What a server's answer to a publish means.
pub(crate) fn verdict(reason: ReasonCode, properties: Properties<'_>) -> Outcome {
    if reason.is_error() {
        Err(PublishError::Refused(refusal(reason, properties)))
    } else {
        Ok(Published { reason })
    }
}

pub(crate) fn refusal(reason: ReasonCode, properties: Properties<'_>) -> Refusal {
    let explanation = properties.reason_string().map(|text| text.as_str().into());
    Refusal { reason, explanation }
}

impl Draft<'_> {
    /// Makes a packet of it, with this much of its expiry interval left.
    pub(crate) fn with_packet<R>(
        &self,
        expiry: Option<u32>,
        act: impl FnOnce(&Publish<'_>) -> R,
    ) -> Result<R, PublishError> {
        let topic = Topic::new(&self.topic)
            .map_err(|error| PublishError::Invalid(Invalid::Topic(error)))?;
        let list = match &self.properties {
            Some(properties) => properties.for_packet(expiry)?,
            None => Vec::new(),
        };
        Ok(act(&Publish {
            topic,
            payload: Payload::shared(&self.payload),
            qos: self.qos,
            retain: self.retain,
            properties: Properties::from(&list[..]),
        }))
    }

    /// What a packet was made of.
    fn from_packet(publish: &Publish<'_>) -> Draft<'static> {
        let payload = match publish.payload.owner() {
            Some(owner) => owner.clone(),
            None => Bytes::copy_from_slice(publish.payload.as_bytes()),
        };
        Draft {
            topic: publish.topic.as_str().to_owned().into(),
            payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: PublishProperties::from_packet(publish.properties),
        }
    }
}
