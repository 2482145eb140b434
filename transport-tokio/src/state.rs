//! The machine and all that waits for it, behind one lock that is never held while anything waits.

mod messages;
mod publishing;

use std::{collections::HashMap, sync::Arc, task::Waker};

use mqtt_core::{
    Client as Machine, Instant, PacketId, Properties, QoS, ReasonCode, Receipt, store::Store,
};

use crate::{
    error::{PublishError, Refusal, SubscribeError},
    inbox::Inbox,
    kept::{self, Changes, Kept},
    options::Options,
    out::Out,
    outcome::{Key, Outcome, Outcomes, Published},
    queue::Queue,
    receive::READ_BUFFER,
    routes::{Interest, Routes, StreamId},
    status::Counters,
    subscriptions::Subscriptions,
};
pub(crate) use messages::Arrived;
use publishing::FIRST_NUMBER;
pub(crate) use publishing::{Accepted, Ticket};

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
    /// Streams whose readers have too much to read at once.
    pub(crate) crowded: Vec<Arc<Inbox>>,
    /// It has been said on this connection that messages are read by nobody.
    warned: bool,
    /// The client identifier, if the server has chosen it.
    pub(crate) assigned: Option<Box<str>>,
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

/// For how many acknowledgements a list keeps its memory.
const MAX_ANSWERS: usize = 256;

/// How long to wait for outcomes before a client is closed, unless said otherwise, in milliseconds.
pub(crate) const CLOSING: u64 = 10_000;

impl State {
    pub(crate) fn new(options: &Options, store: Kept, restored: Vec<kept::Queued>) -> Self {
        let machine = Machine::with_config(options.version, store, options.config(READ_BUFFER));
        let mut state = Self {
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
            crowded: Vec::new(),
            warned: false,
            assigned: None,
            response_information: None,
            wakers: Vec::new(),
        };
        state.restore(options.version, restored);
        state
    }

    /// The server has accepted the connection.
    pub(crate) fn connected(&mut self, session_present: bool) {
        self.connection += 1;
        self.counters.connections += 1;
        self.warned = false;
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
    pub(crate) fn pump(&mut self, now: Instant, answers: &mut Vec<(Receipt, ReasonCode)>) {
        for (receipt, reason) in std::mem::take(&mut self.answers) {
            self.answer(now, receipt, reason);
        }
        for (receipt, reason) in answers.drain(..) {
            if self.is_last(receipt) {
                self.answer(now, receipt, reason);
            }
        }
        answers.shrink_to(MAX_ANSWERS);
        if self.machine.is_connected() {
            let Self { subscriptions, machine, out, routes, wakers, .. } = self;
            subscriptions.pump(machine, now, out, &mut |filter, error| {
                routes.refuse(filter, &error, wakers);
            });
            self.drain(now);
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

    pub(crate) fn listen(
        &mut self,
        interest: Interest,
        subscribed: Vec<(Box<str>, u32)>,
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
    let server_reference = properties.server_reference().map(|text| text.as_str().into());
    Refusal { reason, explanation, server_reference }
}
