//! Messages, each kept once however many sessions it is for.

use super::Instant;
use crate::{
    sink::Payload,
    slice,
    topic::Topic,
    wire::{self, Identifiers, Properties, QoS},
};

#[cfg(feature = "alloc")]
pub(super) mod heap;

/// A message that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(u32);

/// A message apart from how it is sent: in no version, under no identifier.
#[derive(Clone, Copy)]
pub(super) struct Content<'m> {
    pub(super) topic: Topic<'m>,
    pub(super) payload: Payload<'m>,
    pub(super) properties: Properties<'m>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expires: Option<Instant>,
}

impl<'m> Content<'m> {
    /// What is published now: its time begins.
    pub(super) fn new(
        now: Instant,
        topic: Topic<'m>,
        payload: Payload<'m>,
        qos: QoS,
        retain: bool,
        properties: Properties<'m>,
    ) -> Self {
        let seconds = properties.message_expiry_interval();
        let expires = seconds.map(|seconds| now + u64::from(seconds) * 1_000);
        Self { topic, payload, properties, qos, retain, expires }
    }
}

/// What is kept of a message besides its bytes.
#[derive(Clone, Copy, Debug)]
struct Head {
    topic: u16,
    properties: u32,
    payload: u32,
    qos: QoS,
    retain: bool,
    expires: Option<Instant>,
    users: u32,
}

impl Head {
    fn new(content: &Content<'_>, identifiers: Identifiers<'_>) -> Self {
        Self {
            topic: content.topic.len() as u16,
            properties: wire::lasting_len(content.properties, identifiers) as u32,
            payload: content.payload.len() as u32,
            qos: content.qos,
            retain: content.retain,
            expires: content.expires,
            users: 1,
        }
    }

    /// The number of bytes before the payload.
    fn len(&self) -> usize {
        usize::from(self.topic) + self.properties as usize
    }

    /// The number of all bytes.
    fn all_len(&self) -> usize {
        self.len() + self.payload as usize
    }

    /// Writes topic and properties into as many bytes.
    fn write(&self, content: &Content<'_>, identifiers: Identifiers<'_>, span: &mut [u8]) {
        if let Some((topic, properties)) = span.split_at_mut_checked(self.topic.into()) {
            slice::copy(topic, content.topic.as_bytes());
            wire::write_lasting(content.properties, identifiers, properties);
        }
    }

    /// What was written.
    fn read<'m>(&self, bytes: &'m [u8], payload: Payload<'m>) -> Content<'m> {
        let (topic, properties) = bytes.split_at_checked(self.topic.into()).unwrap_or_default();
        Content {
            topic: Topic::from_validated(topic),
            payload,
            properties: wire::kept(properties),
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
        }
    }
}

/// Keeps messages as long as somebody uses them.
pub(super) trait Messages {
    /// Keeps a message, with these identifiers among its properties, for one user. `None` if it does
    /// not fit.
    fn insert(&mut self, content: &Content<'_>, identifiers: Identifiers<'_>) -> Option<MessageId>;

    /// A message that is in use.
    fn get(&self, id: MessageId) -> Option<Content<'_>>;

    /// The number of bytes that a message would take.
    fn measure(content: &Content<'_>, identifiers: Identifiers<'_>) -> usize;

    /// The number of bytes that a message takes.
    fn size(&self, id: MessageId) -> usize;

    /// Keeps a message once more, with these identifiers, for one user.
    fn copy(&mut self, id: MessageId, identifiers: Identifiers<'_>) -> Option<MessageId>;

    /// There is one user more.
    fn share(&mut self, id: MessageId);

    /// It expires then.
    fn set_expiry(&mut self, id: MessageId, at: Instant);

    /// There is one user less; without any the message goes.
    fn release(&mut self, id: MessageId);

    /// The number of messages.
    fn len(&self) -> usize;

    /// The number of bytes of all messages.
    fn bytes(&self) -> usize;
}

/// Up to `MESSAGES` messages in `BYTES` bytes, without gaps.
#[derive(Debug)]
pub struct Arena<const MESSAGES: usize, const BYTES: usize> {
    slots: [Option<Slot>; MESSAGES],
    bytes: [u8; BYTES],
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    head: Head,
}

impl<const MESSAGES: usize, const BYTES: usize> Arena<MESSAGES, BYTES> {
    pub(super) const fn new() -> Self {
        Self { slots: [None; MESSAGES], bytes: [0; BYTES], end: 0 }
    }

    fn slot(&self, id: MessageId) -> Option<&Slot> {
        self.slots.get(id.0 as usize)?.as_ref()
    }
}

impl<const MESSAGES: usize, const BYTES: usize> Messages for Arena<MESSAGES, BYTES> {
    fn insert(&mut self, content: &Content<'_>, identifiers: Identifiers<'_>) -> Option<MessageId> {
        let place = self.slots.iter().position(Option::is_none)?;
        let slot = Slot { start: self.end as u32, head: Head::new(content, identifiers) };
        let end = self.end + slot.head.all_len();
        let span = self.bytes.get_mut(self.end..end)?;
        let (head, payload) = span.split_at_mut_checked(slot.head.len())?;
        slot.head.write(content, identifiers, head);
        slice::copy(payload, content.payload.as_bytes());
        *self.slots.get_mut(place)? = Some(slot);
        self.end = end;
        Some(MessageId(place as u32))
    }

    fn get(&self, id: MessageId) -> Option<Content<'_>> {
        let slot = self.slot(id)?;
        let start = slot.start as usize;
        let bytes = self.bytes.get(start..start + slot.head.all_len())?;
        let (head, payload) = bytes.split_at_checked(slot.head.len())?;
        Some(slot.head.read(head, Payload::new(payload)))
    }

    fn measure(content: &Content<'_>, identifiers: Identifiers<'_>) -> usize {
        Head::new(content, identifiers).all_len()
    }

    fn size(&self, id: MessageId) -> usize {
        self.slot(id).map_or(0, |slot| slot.head.all_len())
    }

    fn copy(&mut self, id: MessageId, identifiers: Identifiers<'_>) -> Option<MessageId> {
        let place = self.slots.iter().position(Option::is_none)?;
        let old = *self.slot(id)?;
        let added = wire::lasting_len(Properties::EMPTY, identifiers);
        let properties = old.head.properties + added as u32;
        let head = Head { properties, users: 1, ..old.head };
        let new = Slot { start: self.end as u32, head };
        let (from, front) = (old.start as usize, old.head.len());
        let (middle, end) = (self.end + front, self.end + new.head.all_len());
        self.bytes.get(..end)?;
        slice::shift_up(&mut self.bytes, from..from + front, self.end);
        slice::shift_up(&mut self.bytes, from + front..from + old.head.all_len(), middle + added);
        let span = self.bytes.get_mut(middle..middle + added)?;
        wire::write_lasting(Properties::EMPTY, identifiers, span);
        *self.slots.get_mut(place)? = Some(new);
        self.end = end;
        Some(MessageId(place as u32))
    }

    fn share(&mut self, id: MessageId) {
        if let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) {
            slot.head.users += 1;
        }
    }

    fn set_expiry(&mut self, id: MessageId, at: Instant) {
        if let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) {
            slot.head.expires = Some(at);
        }
    }

    fn release(&mut self, id: MessageId) {
        let Some(place) = self.slots.get_mut(id.0 as usize) else { return };
        let Some(slot) = place else { return };
        slot.head.users -= 1;
        if slot.head.users > 0 {
            return;
        }
        let (start, len) = (slot.start as usize, slot.head.all_len());
        *place = None;
        slice::shift(&mut self.bytes, start + len..self.end, start);
        self.end -= len;
        for slot in self.slots.iter_mut().flatten() {
            if slot.start as usize > start {
                slot.start -= len as u32;
            }
        }
    }

    fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn bytes(&self) -> usize {
        self.end
    }
}
