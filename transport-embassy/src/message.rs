//! Messages as the application has them.

use core::{fmt, future::poll_fn};

use embedded_io_async::{ErrorType, Read};
use mqtt_core::{Properties, QoS, Receipt, TopicName, Version};

use crate::{
    error::Cut,
    inbox::Delivery,
    resources::{Guard, Resources, Sizes, now},
};

/// A message that has arrived, in the buffer that received it.
///
/// Dropping it frees the buffer and acknowledges the message; [`hold`](Self::hold) puts that off. While it is
/// kept the client goes on, for the [inbox](crate::Inbox) has other buffers.
pub struct Message<'a, R: Sizes> {
    held: Held<'a, R>,
    remaining: u32,
    qos: QoS,
    version: Version,
}

/// A buffer that the application has, with a message or a part of one.
struct Held<'a, R: Sizes> {
    resources: &'a Resources<R>,
    guard: Option<Guard<'a, R>>,
    buffer: u8,
    start: usize,
    end: usize,
    /// What is to be acknowledged when the buffer is given back.
    receipt: Option<Receipt>,
    /// The number of a message of which the rest is not wanted then.
    unread: Option<u32>,
}

impl<'a, R: Sizes> Held<'a, R> {
    fn new(resources: &'a Resources<R>, delivery: &Delivery) -> Self {
        let buffer = resources.buffer(delivery.buffer);
        Self {
            resources,
            guard: buffer.and_then(|buffer| buffer.try_lock().ok()), // nobody else has its number
            buffer: delivery.buffer,
            start: delivery.start as usize,
            end: delivery.end as usize,
            receipt: None,
            unread: None,
        }
    }

    fn bytes(&self) -> &[u8] {
        let bytes = self.guard.as_ref().and_then(|guard| guard.as_ref().get(self.start..self.end));
        bytes.unwrap_or_default()
    }
}

impl<R: Sizes> Drop for Held<'_, R> {
    fn drop(&mut self) {
        self.guard = None; // before anybody looks for it
        self.resources.with(|state| {
            if let Some(number) = self.unread {
                state.abandon(number);
            }
            state.release(now(), Some(self.buffer), self.receipt);
        });
    }
}

impl<'a, R: Sizes> Message<'a, R> {
    pub(crate) fn new(resources: &'a Resources<R>, delivery: &Delivery, version: Version) -> Self {
        let mut held = Held::new(resources, delivery);
        held.receipt = delivery.receipt;
        held.unread = delivery.stream;
        Self { held, remaining: delivery.remaining, qos: delivery.qos, version }
    }

    /// All that is known of it, but for its receipt: see [`hold`](Self::hold).
    pub fn get(&self) -> mqtt_core::Message<'_> {
        let decoded = mqtt_core::Message::decode(self.version, self.held.bytes());
        decoded.ok().flatten().unwrap_or(mqtt_core::Message {
            // Never: it has been decoded before.
            topic: TopicName::Alias(0),
            payload: &[],
            remaining: 0,
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            properties: Properties::EMPTY,
            receipt: None,
        })
    }

    /// What it is about.
    pub fn topic(&self) -> &str {
        self.get().topic.name().map_or("", |topic| topic.as_str())
    }

    /// The message, or [its beginning](Self::remaining).
    pub fn payload(&self) -> &[u8] {
        self.get().payload
    }

    /// How many bytes of the payload are still to come, because it is longer than a receive buffer.
    /// [`into_payload`](Self::into_payload) gives them; else they are discarded.
    pub const fn remaining(&self) -> u32 {
        self.remaining
    }

    /// The QoS at which it was sent to us.
    pub const fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether it had been kept for future subscribers.
    pub fn retain(&self) -> bool {
        self.get().retain
    }

    /// 5.0 only.
    pub fn properties(&self) -> Properties<'_> {
        self.get().properties
    }

    /// Frees the buffer without acknowledging the message. [`acknowledge`](crate::Client::acknowledge) does
    /// that, by the receipt, when the message has been dealt with. `None` if there is nothing to acknowledge,
    /// or some of the [payload](Self::remaining) has not been read.
    ///
    /// While as many are held as there are [receive buffers](crate::Inbox) but one, no more come at QoS 1 and 2
    /// (before 5.0: as the [store](crate::Sizes::Store) has room for).
    pub fn hold(mut self) -> Option<Receipt> {
        if self.remaining > 0 { None } else { self.held.receipt.take() }
    }

    /// The payload part by part, however long it is. The topic is gone with the first.
    pub fn into_payload(self) -> Payload<'a, R> {
        let len = self.get().payload.len();
        let Self { mut held, remaining, .. } = self;
        held.start = held.end.saturating_sub(len);
        let number = held.unread.take();
        let receipt = held.receipt.take();
        let resources = held.resources;
        Payload { resources, held: Some(held), number, remaining, receipt, next: 0, begun: false }
    }
}

impl<R: Sizes> fmt::Debug for Message<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The payload of a message, part by part.
///
/// The message is acknowledged when this is dropped: also before its end, when the rest is discarded. A
/// connection that is lost before the end has arrived brings it again.
pub struct Payload<'a, R: Sizes> {
    resources: &'a Resources<R>,
    held: Option<Held<'a, R>>,
    /// The number of the message, if it comes in parts.
    number: Option<u32>,
    remaining: u32,
    receipt: Option<Receipt>,
    /// How much of the part has been [read](Read).
    next: usize,
    begun: bool,
}

impl<R: Sizes> Payload<'_, R> {
    /// How many bytes are still to come, behind the part given last.
    pub const fn remaining(&self) -> u32 {
        self.remaining
    }

    /// The next part. `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Cut`] if there will be no more.
    pub async fn next(&mut self) -> Result<Option<&[u8]>, Cut> {
        Ok(if self.advance().await? { self.held.as_ref().map(Held::bytes) } else { None })
    }

    /// Goes on to the next part. Whether there is one.
    async fn advance(&mut self) -> Result<bool, Cut> {
        if !self.begun {
            self.begun = true;
            return Ok(true);
        }
        let Some(number) = self.number.filter(|_| self.remaining > 0) else { return Ok(false) };
        self.held = None;
        let part = poll_fn(|cx| self.resources.with(|state| state.poll_part(number, cx))).await?;
        self.held = Some(Held::new(self.resources, &part));
        self.remaining = part.remaining;
        self.next = 0;
        Ok(true)
    }
}

impl<R: Sizes> ErrorType for Payload<'_, R> {
    type Error = Cut;
}

impl<R: Sizes> Read for Payload<'_, R> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Cut> {
        loop {
            let bytes = self.held.as_ref().map(Held::bytes).filter(|_| self.begun);
            let rest = bytes.and_then(|bytes| bytes.get(self.next..)).unwrap_or_default();
            let count = rest.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count))
                && count > 0
            {
                to.copy_from_slice(from);
                self.next += count;
                return Ok(count);
            }
            if buf.is_empty() || !self.advance().await? {
                return Ok(0);
            }
        }
    }
}

impl<R: Sizes> Drop for Payload<'_, R> {
    fn drop(&mut self) {
        let unread = self.number.filter(|_| self.remaining > 0);
        match &mut self.held {
            Some(held) => (held.receipt, held.unread) = (self.receipt, unread),
            None => self.resources.with(|state| {
                if let Some(number) = unread {
                    state.abandon(number);
                }
                state.release(now(), None, self.receipt);
            }),
        }
    }
}

impl<R: Sizes> fmt::Debug for Payload<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}
