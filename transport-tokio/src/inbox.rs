//! What one stream has to read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use mqtt_core::{QoS, Receipt};

use crate::{error::SubscribeError, message::Message};

/// How much an unread stream keeps.
///
/// This limits what the server does not have to be told about: QoS 0. When half of it is used, the client stops
/// receiving for a moment, ten milliseconds at most, so that a reader that is merely slower than the network
/// can catch up; one that does not read keeps nobody waiting twice. A message that then does not fit is
/// dropped, and [counted](crate::Messages::dropped). Messages at QoS 1 and 2 always fit: as long as
/// they are unread they are not acknowledged, and the server sends no more than
/// [`receive_maximum`](crate::Options::receive_maximum) of them. When the server has lost the session,
/// and thereby forgotten that it has sent them, they count among those at QoS 0, and the oldest are
/// dropped if they are too many.
///
/// ```
/// use transport_tokio::StreamLimits;
///
/// let limits = StreamLimits { messages: 16, ..StreamLimits::default() };
/// assert_eq!(limits.bytes, 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// QoS 0 messages. By default 1,024.
    pub messages: usize,
    /// Bytes of their payloads. By default 1 MiB.
    pub bytes: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { messages: 1024, bytes: 1024 * 1024 }
    }
}

/// A message in a stream, and what acknowledges it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    pub(crate) receipt: Option<Receipt>,
    /// The connection on which it came.
    pub(crate) connection: u64,
}

/// One stream's queue: filled by the driver, emptied by the application.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Delivery>,
    limits: StreamLimits,
    /// How many of them need no acknowledgement, and the bytes of their payloads.
    unreliable: usize,
    bytes: usize,
    dropped: u64,
    /// How it stands with a reader that may be slower than the network.
    pace: Pace,
    /// Whom to wake when it has caught up.
    driver: Option<Waker>,
    reader: Option<Waker>,
    end: Option<Option<SubscribeError>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pace {
    /// It reads.
    #[default]
    Good,
    /// It has much to read, and is given some time.
    Behind,
    /// It has had its time.
    Lost,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It waits to be read, by this reader.
    Kept(Option<Waker>),
    /// The same; and the reader may need time to catch up.
    Crowded(Option<Waker>),
    /// There was no room.
    Dropped,
}

impl Inbox {
    pub(crate) fn new(limits: StreamLimits) -> Self {
        Self { state: Mutex::new(State { limits, ..State::default() }) }
    }

    pub(crate) fn push(&self, delivery: Delivery) -> Pushed {
        let mut state = self.lock();
        if delivery.receipt.is_none() {
            let len = delivery.message.payload.len();
            let State { limits, unreliable, bytes, .. } = *state;
            // A lone one may be as long as it likes.
            if unreliable >= limits.messages || unreliable > 0 && bytes + len > limits.bytes {
                state.dropped += 1;
                return Pushed::Dropped;
            }
            state.unreliable += 1;
            state.bytes += len;
        }
        state.messages.push_back(delivery);
        let reader = state.reader.take();
        if state.pace == Pace::Good && state.is_filled(2) {
            state.pace = Pace::Behind;
            return Pushed::Crowded(reader);
        }
        Pushed::Kept(reader)
    }

    /// Whether the reader is still behind; if so, the task is woken when it no longer is.
    pub(crate) fn is_behind(&self, driver: &Waker) -> bool {
        let mut state = self.lock();
        let behind = state.pace == Pace::Behind;
        state.driver = behind.then(|| driver.clone());
        behind
    }

    /// The reader gets no more time, until it has caught up by itself.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.driver = None;
        if state.pace == Pace::Behind {
            state.pace = Pace::Lost;
        }
    }

    /// The next one. `None` when there will be none any more.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut state = self.lock();
        if let Some(delivery) = state.pop() {
            state.wake_driver();
            return Poll::Ready(Some(delivery));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            reader => *reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The next one, if it is there.
    pub(crate) fn pop(&self) -> Option<Delivery> {
        let mut state = self.lock();
        let delivery = state.pop();
        state.wake_driver();
        delivery
    }

    /// Forgets QoS 1 messages that came before `connection`: the server sends them again.
    pub(crate) fn forget_before(&self, connection: u64) {
        self.lock().messages.retain(|delivery| {
            delivery.connection >= connection
                || delivery.receipt.is_none()
                || delivery.message.qos != QoS::AtLeastOnce
        });
    }

    /// The server has forgotten what it sent: there is nothing to acknowledge. How many messages were
    /// too many.
    pub(crate) fn forget_receipts(&self) -> u64 {
        let mut state = self.lock();
        let State { messages, unreliable, bytes, limits, dropped, .. } = &mut *state;
        for delivery in messages.iter_mut().filter(|delivery| delivery.receipt.is_some()) {
            delivery.receipt = None;
            *unreliable += 1;
            *bytes += delivery.message.payload.len();
        }
        let before = *dropped;
        while *unreliable > limits.messages || *unreliable > 1 && *bytes > limits.bytes {
            let Some(oldest) = messages.pop_front() else { break };
            *unreliable -= 1;
            *bytes -= oldest.message.payload.len();
            *dropped += 1;
        }
        *dropped - before
    }

    pub(crate) fn set_limits(&self, limits: StreamLimits) {
        self.lock().limits = limits;
    }

    /// Nothing will come after what is there. The first cause stays.
    pub(crate) fn end(&self, cause: Option<SubscribeError>) -> Option<Waker> {
        let mut state = self.lock();
        state.end.get_or_insert(cause);
        state.reader.take()
    }

    pub(crate) fn error(&self) -> Option<SubscribeError> {
        self.lock().end.clone().flatten()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().messages.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether at least one in `part` of what may be kept is there.
    const fn is_filled(&self, part: usize) -> bool {
        self.unreliable > self.limits.messages / part
            || self.unreliable > 1 && self.bytes > self.limits.bytes / part
    }

    /// The reader has caught up.
    fn wake_driver(&mut self) {
        if self.pace != Pace::Good && !self.is_filled(4) {
            self.pace = Pace::Good;
            if let Some(driver) = self.driver.take() {
                driver.wake();
            }
        }
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.messages.pop_front()?;
        if delivery.receipt.is_none() {
            self.unreliable -= 1;
            self.bytes -= delivery.message.payload.len();
        }
        if self.messages.is_empty() && self.messages.capacity() > MAX_KEPT {
            self.messages = VecDeque::new();
        }
        Some(delivery)
    }
}

/// For how many messages an emptied queue keeps its memory.
const MAX_KEPT: usize = 4096;
