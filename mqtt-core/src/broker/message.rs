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
pub struct MessageId(pub(super) u32);

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
    /// How many deliveries there are of it, and how many others use it.
    users: [u32; 2],
}

/// What a message is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A delivery that waits.
    Waiting,
    /// A delivery that is on its way, at once.
    Sent,
    /// It is retained, or a will.
    Standing,
}

impl Use {
    /// Where its users are counted.
    const fn index(self) -> usize {
        matches!(self, Self::Standing) as usize
    }
}

/// A number of messages, and of bytes.
#[derive(Clone, Copy, Debug)]
struct Amount {
    messages: usize,
    bytes: usize,
}

/// What is kept, and how much of it may be.
///
/// So that none of them starves the others, three eighths of everything are out of reach of messages
/// that wait, three of retained ones and wills, two of those on their way; and an eighth is for these
/// alone.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    limit: Amount,
    all: Amount,
    /// Those that have deliveries, and those that have other users; what has both is in both.
    used: [Amount; 2],
    /// What a delivery takes besides, in bytes.
    record: usize,
}

impl Amount {
    const NONE: Self = Self { messages: 0, bytes: 0 };

    const fn without_eighths(self, eighths: usize) -> Self {
        let Self { messages, bytes } = self;
        Self { messages: messages - messages / 8 * eighths, bytes: bytes - bytes / 8 * eighths }
    }

    const fn plus(self, messages: usize, bytes: usize) -> Self {
        let messages = self.messages.saturating_add(messages);
        Self { messages, bytes: self.bytes.saturating_add(bytes) }
    }

    fn take(&mut self, messages: usize, bytes: usize) {
        self.messages -= messages;
        self.bytes -= bytes;
    }

    const fn is_within(self, most: Self) -> bool {
        self.messages <= most.messages && self.bytes <= most.bytes
    }
}

impl Ledger {
    const fn new(messages: usize, bytes: usize, record: usize) -> Self {
        let limit = Amount { messages, bytes };
        Self { limit, all: Amount::NONE, used: [Amount::NONE; 2], record }
    }

    const fn record(&self, user: Use) -> usize {
        match user {
            Use::Waiting | Use::Sent => self.record,
            Use::Standing => 0,
        }
    }

    /// What there would be with more, in all and for one use; nothing if that is too much.
    fn with(&self, user: Use, all: Amount, of_use: Amount) -> Option<(Amount, Amount)> {
        let (of_all, of_these) = if user == Use::Sent { (0, 2) } else { (1, 3) };
        let record = self.record(user);
        let all = self.all.plus(all.messages, all.bytes + record);
        let used = self.used[user.index()].plus(of_use.messages, of_use.bytes + record);
        let fits = all.is_within(self.limit.without_eighths(of_all))
            && used.is_within(self.limit.without_eighths(of_these));
        fits.then_some((all, used))
    }

    /// Whether what has been kept as being on its way may wait instead.
    fn may_wait(&self) -> bool {
        self.all.is_within(self.limit.without_eighths(1))
            && self.used[Use::Waiting.index()].is_within(self.limit.without_eighths(3))
    }

    /// Whether there is room for a message of so many bytes.
    fn has_room(&self, bytes: usize, user: Use) -> bool {
        let one = Amount { messages: 1, bytes };
        self.with(user, one, one).is_some()
    }

    /// Whether there would be without another one of these.
    fn has_room_without(mut self, mut old: Head, old_bytes: usize, bytes: usize) -> bool {
        self.release(&mut old, old_bytes, Use::Standing) && self.has_room(bytes, Use::Standing)
    }

    /// A message is kept for its first user.
    fn insert(&mut self, bytes: usize, user: Use) {
        let one = Amount { messages: 1, bytes };
        if let Some((all, used)) = self.with(user, one, one) {
            (self.all, self.used[user.index()]) = (all, used);
        }
    }

    /// A message has one user more. Whether it may.
    fn share(&mut self, head: &mut Head, bytes: usize, user: Use) -> bool {
        let users = &mut head.users[user.index()];
        let new = if *users == 0 { Amount { messages: 1, bytes } } else { Amount::NONE };
        let Some((all, used)) = self.with(user, Amount::NONE, new) else { return false };
        (self.all, self.used[user.index()]) = (all, used);
        *users += 1;
        true
    }

    /// A message is kept that was on record, for nobody yet. Whether it may.
    #[cfg(feature = "alloc")]
    fn restore(&mut self, bytes: usize) -> bool {
        let all = self.all.plus(1, bytes);
        let fits = all.is_within(self.limit);
        if fits {
            self.all = all;
        }
        fits
    }

    /// It has one user more, as it had then: nothing is held back for others. Whether it may.
    #[cfg(feature = "alloc")]
    fn reuse(&mut self, head: &mut Head, bytes: usize, user: Use) -> bool {
        let users = &mut head.users[user.index()];
        let record = self.record(user);
        let new = if *users == 0 { Amount { messages: 1, bytes } } else { Amount::NONE };
        let all = self.all.plus(0, record);
        let used = self.used[user.index()].plus(new.messages, new.bytes + record);
        let eighths = if user == Use::Standing { 3 } else { 2 };
        let fits = all.is_within(self.limit) && used.is_within(self.limit.without_eighths(eighths));
        if fits {
            (self.all, self.used[user.index()]) = (all, used);
            *users += 1;
        }
        fits
    }

    /// A message has one user less. Whether that was the last.
    fn release(&mut self, head: &mut Head, bytes: usize, user: Use) -> bool {
        let record = self.record(user);
        head.users[user.index()] -= 1;
        let used = &mut self.used[user.index()];
        used.take(0, record);
        self.all.take(0, record);
        if head.users[user.index()] == 0 {
            used.take(1, bytes);
        }
        let last = head.users == [0; 2];
        if last {
            self.all.take(1, bytes);
        }
        last
    }
}

impl Head {
    fn new(content: &Content<'_>, identifiers: Identifiers<'_>, user: Use) -> Self {
        let mut users = [0; 2];
        users[user.index()] = 1;
        Self {
            topic: content.topic.len() as u16,
            properties: wire::lasting_len(content.properties, identifiers) as u32,
            payload: content.payload.len() as u32,
            qos: content.qos,
            retain: content.retain,
            expires: content.expires,
            users,
        }
    }

    const fn deliveries(&self) -> u32 {
        self.users[Use::Waiting.index()]
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
    /// Whether there is room for a message of so many bytes.
    fn has_room(&self, bytes: usize, user: Use) -> bool;

    /// Whether there is room for one of so many bytes in place of one that is not kept for
    /// deliveries.
    fn has_room_without(&self, id: MessageId, bytes: usize) -> bool;

    /// Keeps a message, with these identifiers among its properties, for one user. `None` if it does
    /// not fit.
    fn insert(
        &mut self,
        content: &Content<'_>,
        identifiers: Identifiers<'_>,
        user: Use,
    ) -> Option<MessageId>;

    /// A message that is in use.
    fn get(&self, id: MessageId) -> Option<Content<'_>>;

    /// The number of bytes that a message would take.
    fn measure(content: &Content<'_>, identifiers: Identifiers<'_>) -> usize;

    /// The number of bytes that a message takes.
    fn size(&self, id: MessageId) -> usize;

    /// Keeps a message once more, with these identifiers, for one delivery.
    fn copy(&mut self, id: MessageId, identifiers: Identifiers<'_>, user: Use)
    -> Option<MessageId>;

    /// There is one user more, if there is room.
    #[must_use]
    fn share(&mut self, id: MessageId, user: Use) -> bool;

    /// How many deliveries there are of a message.
    fn deliveries(&self, id: MessageId) -> u32;

    /// A session has so many unfinished messages that have arrived, and had so many before.
    fn set_arrived(&mut self, before: usize, after: usize) {
        let _ = (before, after);
    }

    /// Whether one of a session's unfinished messages that have arrived, which are so many, may be: a few
    /// always.
    fn may_arrive(&self, of: usize) -> bool {
        let _ = of;
        true
    }

    /// A number for a delivery, above all before it, if they have numbers.
    fn number(&mut self) -> u64 {
        0
    }

    /// When a message expires.
    fn expires(&self, id: MessageId) -> Option<Instant>;

    /// It expires then.
    fn set_expiry(&mut self, id: MessageId, at: Instant);

    /// Whether a message that was kept as being on its way may wait instead.
    fn may_wait(&self) -> bool;

    /// There is one user less; without any the message goes. Whether it has gone and was
    /// [on record](Self::record).
    fn release(&mut self, id: MessageId, user: Use) -> bool;

    /// It is on record from now on. Whether that is new.
    fn record(&mut self, id: MessageId) -> bool {
        let _ = id;
        false
    }

    /// The number of messages.
    fn len(&self) -> usize;

    /// The number of bytes of everything.
    fn bytes(&self) -> usize;
}

/// Up to `MESSAGES` messages in `BYTES` bytes, without gaps.
#[derive(Debug)]
pub struct Arena<const MESSAGES: usize, const BYTES: usize> {
    slots: [Option<Slot>; MESSAGES],
    bytes: [u8; BYTES],
    ledger: Ledger,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    head: Head,
}

impl<const MESSAGES: usize, const BYTES: usize> Arena<MESSAGES, BYTES> {
    pub(super) const fn new() -> Self {
        let ledger = Ledger::new(MESSAGES, BYTES, 0);
        Self { slots: [None; MESSAGES], bytes: [0; BYTES], ledger }
    }

    fn slot(&self, id: MessageId) -> Option<&Slot> {
        self.slots.get(id.0 as usize)?.as_ref()
    }
}

impl<const MESSAGES: usize, const BYTES: usize> Messages for Arena<MESSAGES, BYTES> {
    fn has_room(&self, bytes: usize, user: Use) -> bool {
        self.ledger.has_room(bytes, user)
    }

    fn has_room_without(&self, id: MessageId, bytes: usize) -> bool {
        self.slot(id).is_some_and(|Slot { head, .. }| {
            self.ledger.has_room_without(*head, head.all_len(), bytes)
        })
    }

    fn insert(
        &mut self,
        content: &Content<'_>,
        identifiers: Identifiers<'_>,
        user: Use,
    ) -> Option<MessageId> {
        let (start, head) = (self.bytes(), Head::new(content, identifiers, user));
        let len = head.all_len();
        if !self.has_room(len, user) {
            return None;
        }
        let place = self.slots.iter().position(Option::is_none)?;
        let span = self.bytes.get_mut(start..start + len)?;
        let (front, payload) = span.split_at_mut_checked(head.len())?;
        head.write(content, identifiers, front);
        slice::copy(payload, content.payload.as_bytes());
        *self.slots.get_mut(place)? = Some(Slot { start: start as u32, head });
        self.ledger.insert(len, user);
        Some(MessageId(place as u32))
    }

    fn get(&self, id: MessageId) -> Option<Content<'_>> {
        let slot = self.slot(id)?;
        let start = slot.start as usize;
        let bytes = self.bytes.get(start..start + slot.head.all_len())?;
        let (head, payload) = bytes.split_at_checked(slot.head.len())?;
        Some(slot.head.read(head, Payload::new(payload)))
    }

    #[inline(never)]
    fn measure(content: &Content<'_>, identifiers: Identifiers<'_>) -> usize {
        Head::new(content, identifiers, Use::Waiting).all_len()
    }

    fn size(&self, id: MessageId) -> usize {
        self.slot(id).map_or(0, |slot| slot.head.all_len())
    }

    fn copy(
        &mut self,
        id: MessageId,
        identifiers: Identifiers<'_>,
        user: Use,
    ) -> Option<MessageId> {
        let place = self.slots.iter().position(Option::is_none)?;
        let old = *self.slot(id)?;
        let added = wire::lasting_len(Properties::EMPTY, identifiers);
        let properties = old.head.properties + added as u32;
        let head = Head { properties, users: [1, 0], ..old.head };
        let (start, len) = (self.bytes(), head.all_len());
        if !self.has_room(len, user) {
            return None;
        }
        let (from, front) = (old.start as usize, old.head.len());
        let middle = start + front;
        slice::shift_up(&mut self.bytes, from..from + front, start);
        slice::shift_up(&mut self.bytes, from + front..from + old.head.all_len(), middle + added);
        let span = self.bytes.get_mut(middle..middle + added)?;
        wire::write_lasting(Properties::EMPTY, identifiers, span);
        *self.slots.get_mut(place)? = Some(Slot { start: start as u32, head });
        self.ledger.insert(len, user);
        Some(MessageId(place as u32))
    }

    fn share(&mut self, id: MessageId, user: Use) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) else { return false };
        let len = slot.head.all_len();
        self.ledger.share(&mut slot.head, len, user)
    }

    fn may_wait(&self) -> bool {
        self.ledger.may_wait()
    }

    fn deliveries(&self, id: MessageId) -> u32 {
        self.slot(id).map_or(0, |slot| slot.head.deliveries())
    }

    fn expires(&self, id: MessageId) -> Option<Instant> {
        self.slot(id)?.head.expires
    }

    fn set_expiry(&mut self, id: MessageId, at: Instant) {
        if let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) {
            slot.head.expires = Some(at);
        }
    }

    fn release(&mut self, id: MessageId, user: Use) -> bool {
        let end = self.bytes();
        let Some(place) = self.slots.get_mut(id.0 as usize) else { return false };
        let Some(slot) = place else { return false };
        let (start, len) = (slot.start as usize, slot.head.all_len());
        if !self.ledger.release(&mut slot.head, len, user) {
            return false;
        }
        *place = None;
        slice::shift(&mut self.bytes, start + len..end, start);
        for slot in self.slots.iter_mut().flatten() {
            if slot.start as usize > start {
                slot.start -= len as u32;
            }
        }
        false
    }

    fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn bytes(&self) -> usize {
        self.ledger.all.bytes
    }
}
