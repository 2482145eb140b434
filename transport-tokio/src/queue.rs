//! Publishes that wait: for a connection, for the server's quota, for room.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    task::Waker,
};

use bytes::Bytes;
use mqtt_core::{Instant, Payload, Properties, Publish, QoS, Topic};

use crate::{
    error::{Invalid, PublishError},
    message::PublishProperties,
    outcome::Key,
};

/// How much may wait to be sent.
///
/// When as much does, [`publish`](crate::Client::publish) waits, first come first served, and
/// [`try_publish`](crate::Publish::try_publish) refuses. What has been accepted is never dropped for
/// want of room.
///
/// ```
/// use transport_tokio::QueueLimits;
///
/// let limits = QueueLimits { messages: 100_000, ..QueueLimits::default() };
/// assert_eq!(limits.bytes, 16 * 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages. By default 1,024.
    pub messages: usize,
    /// Bytes of their topics, payloads and properties. By default 16 MiB. One message may be longer,
    /// if nothing else waits.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { messages: 1024, bytes: 16 * 1024 * 1024 }
    }
}

/// A message to be published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Option<Box<PublishProperties>>,
}

impl Draft<'_> {
    pub(crate) fn len(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, PublishProperties::len);
        self.topic.len() + self.payload.len() + properties
    }

    /// Seconds for which it is worth delivering.
    pub(crate) fn expiry(&self) -> Option<u32> {
        self.properties.as_deref()?.message_expiry_interval
    }

    /// Takes it out, and makes it independent of what it was made from.
    pub(crate) fn take(&mut self) -> Draft<'static> {
        let Draft { topic, payload, qos, retain, properties } = std::mem::take(self);
        Draft { topic: topic.into_owned().into(), payload, qos, retain, properties }
    }
}

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) draft: Draft<'static>,
    /// Who is told the outcome.
    pub(crate) key: Option<Key>,
    /// When it is no longer worth delivering.
    pub(crate) until: Option<Instant>,
    /// Its number in the session's file.
    pub(crate) number: u64,
}

/// The messages that wait, in order, and behind them those for which there is no room yet.
///
/// A message in the line goes on by itself when its turn comes, whether or not the task that waits for
/// it is polled: one that does not get to it keeps nobody waiting.
#[derive(Debug)]
pub(crate) struct Queue {
    messages: VecDeque<Queued>,
    bytes: usize,
    limits: QueueLimits,
    line: BTreeMap<u64, Waiter>,
    next_ticket: u64,
}

/// A message that has not been accepted yet.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) draft: Draft<'static>,
    /// When it is no longer worth delivering.
    pub(crate) until: Option<Instant>,
    /// Who is told that it has been, and then the outcome.
    pub(crate) key: Key,
    pub(crate) waker: Waker,
}

impl Queue {
    pub(crate) const fn new(limits: QueueLimits) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, limits, line: BTreeMap::new(), next_ticket: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a new message of `len` bytes may be appended: all who have waited come first.
    pub(crate) fn admits(&self, len: usize) -> bool {
        self.line.is_empty() && self.has_room(len)
    }

    fn has_room(&self, len: usize) -> bool {
        let QueueLimits { messages, bytes } = self.limits;
        self.is_empty() || self.len() < messages && self.bytes + len <= bytes
    }

    /// Appends a message that was [admitted](Self::admits).
    pub(crate) fn push(&mut self, queued: Queued) {
        self.bytes += queued.draft.len();
        self.messages.push_back(queued);
    }

    /// Puts messages that had been accepted before back in front of all others, in order.
    pub(crate) fn put_back(&mut self, queued: impl DoubleEndedIterator<Item = Queued>) {
        for queued in queued.rev() {
            self.bytes += queued.draft.len();
            self.messages.push_front(queued);
        }
    }

    pub(crate) fn front(&self) -> Option<&Queued> {
        self.messages.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.bytes -= queued.draft.len();
        if self.is_empty() && self.messages.capacity() > MAX_KEPT {
            self.messages = VecDeque::new();
        }
        Some(queued)
    }

    /// Puts a message at the end of the line.
    pub(crate) fn wait(&mut self, waiter: Waiter) -> u64 {
        self.next_ticket += 1;
        self.line.insert(self.next_ticket, waiter);
        self.next_ticket
    }

    /// The message with this ticket, if it still stands in the line.
    pub(crate) fn waiter(&mut self, ticket: u64) -> Option<&mut Waiter> {
        self.line.get_mut(&ticket)
    }

    /// Takes a message out of the line.
    pub(crate) fn leave(&mut self, ticket: u64) -> Option<Waiter> {
        self.line.remove(&ticket)
    }

    /// Takes the first message out of the line if there is room for it now.
    pub(crate) fn next_admitted(&mut self) -> Option<Waiter> {
        let (ticket, first) = self.line.first_key_value()?;
        let (ticket, len) = (*ticket, first.draft.len());
        if self.has_room(len) { self.line.remove(&ticket) } else { None }
    }

    /// Takes all messages out of the line: there will be no room.
    pub(crate) fn dismiss(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        std::mem::take(&mut self.line).into_values()
    }

    pub(crate) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }
}

/// For how many messages an emptied queue keeps its memory.
const MAX_KEPT: usize = 4096;

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
    pub(crate) fn from_packet(publish: &Publish<'_>) -> Draft<'static> {
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
