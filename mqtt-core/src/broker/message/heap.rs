//! Messages on the heap.

use alloc::{boxed::Box, vec::Vec};

use super::{Content, Head, Ledger, MessageId, Messages, Use};
use crate::{
    Instant,
    broker::{
        memory::{
            Slab,
            heap::{Places, places},
        },
        session::Delivery,
    },
    sink::Payload,
    store::Heap,
    wire::Identifiers,
};

/// Up to `limit` bytes of messages. Payloads that are worth it are shared by reference count.
#[derive(Debug)]
pub struct Shared {
    messages: Places<Kept>,
    ledger: Ledger,
    /// How many bytes are taken by what is known of messages that have arrived and are unfinished.
    arrived: usize,
    /// How many deliveries there have been.
    numbered: u64,
}

#[derive(Debug)]
struct Kept {
    head: Head,
    /// Topic, properties, and a payload that is not shared.
    bytes: Box<[u8]>,
    #[cfg(target_has_atomic = "ptr")]
    payload: bytes::Bytes,
    /// It is on record.
    recorded: bool,
}

impl Kept {
    fn new(content: &Content<'_>, identifiers: Identifiers<'_>, user: Use) -> Option<Self> {
        let head = Head::new(content, identifiers, user);
        let payload = content.payload.as_bytes();
        #[cfg(target_has_atomic = "ptr")]
        let (payload, shared) = match content.payload.owner() {
            Some(owner) if owner.len() > MAX_COPIED => (&[][..], owner.clone()),
            None if payload.len() > MAX_COPIED => (
                &[][..],
                bytes::Bytes::from(boxed(payload.len(), |to| to.copy_from_slice(payload))?),
            ),
            _ => (payload, bytes::Bytes::new()),
        };
        let bytes = boxed(head.len() + payload.len(), |span| {
            if let Some((front, back)) = span.split_at_mut_checked(head.len()) {
                head.write(content, identifiers, front);
                back.copy_from_slice(payload);
            }
        })?;
        Some(Self {
            head,
            bytes,
            #[cfg(target_has_atomic = "ptr")]
            payload: shared,
            recorded: false,
        })
    }

    fn content(&self) -> Content<'_> {
        let (head, payload) = self.bytes.split_at_checked(self.head.len()).unwrap_or_default();
        #[cfg(target_has_atomic = "ptr")]
        if !self.payload.is_empty() {
            return self.head.read(head, Payload::shared(&self.payload));
        }
        self.head.read(head, Payload::new(payload))
    }

    fn size(&self) -> usize {
        size(&self.head)
    }
}

/// What a delivery takes in the queue of its session, which may have room for four times as many.
const RECORD: usize = 4 * size_of::<(u64, Delivery)>();

/// How many bytes may be taken by what is known of messages that have arrived and are unfinished, but for a
/// few of each session.
const fn arrivals(limit: usize) -> usize {
    limit / 8
}

/// For each message that may be kept there are so many bytes.
const LEAST: usize = 256;

/// What is said about the owner of a payload, in bytes.
const OWNER: usize = 32;

/// The number of bytes that a message takes.
fn size(head: &Head) -> usize {
    OWNER + head.all_len()
}

/// The longest payload, in bytes, that lies with the rest of its message.
#[cfg(target_has_atomic = "ptr")]
const MAX_COPIED: usize = 64;

impl Shared {
    /// A delivery has this number, less than half of all.
    pub(in crate::broker) fn has_numbered(&mut self, number: u64) {
        self.numbered = self.numbered.max(number);
    }

    pub(in crate::broker) const fn new(limit: usize) -> Self {
        let ledger = Ledger::new(limit / LEAST, limit, RECORD);
        Self { messages: Places::new(), ledger, arrived: 0, numbered: 0 }
    }

    /// The number of bytes of as much as may be kept.
    pub(in crate::broker) const fn memory(limit: usize) -> usize {
        limit + arrivals(limit) + places::<Kept>(limit / LEAST)
    }

    /// Whether a message that is in use is on record.
    pub(in crate::broker) fn is_recorded(&self, id: MessageId) -> bool {
        self.messages.get(id.0).is_some_and(|kept| kept.recorded)
    }

    /// Keeps a message that was on record in its place, if that is free, for nobody yet. Whether it fits.
    pub(in crate::broker) fn restore(&mut self, id: MessageId, content: &Content<'_>) -> bool {
        let size = Self::measure(content, Identifiers::NONE);
        // There have never been more than that many at once.
        if id.0 as usize >= self.ledger.limit.messages || !self.ledger.restore(size) {
            return false;
        }
        let kept = Kept::new(content, Identifiers::NONE, Use::Waiting);
        let kept = kept.map(|kept| Kept {
            head: Head { users: [0; 2], ..kept.head },
            recorded: true,
            ..kept
        });
        let put = kept.is_some_and(|kept| self.messages.put(id.0, kept));
        if !put {
            self.ledger.all.take(1, size);
        }
        put
    }

    /// A message has one user more, as it had when it was on record. Whether there is room.
    pub(in crate::broker) fn reuse(&mut self, id: MessageId, user: Use) -> bool {
        let Some(kept) = self.messages.get_mut(id.0) else { return false };
        let size = kept.size();
        self.ledger.reuse(&mut kept.head, size, user)
    }

    /// Forgets messages that nobody uses, all of which were on record.
    pub(in crate::broker) fn sweep(&mut self, mut gone: impl FnMut(MessageId)) {
        let mut next = self.messages.next(0);
        while let Some(place) = next {
            if self.messages.get(place).is_some_and(|kept| kept.head.users == [0; 2])
                && let Some(kept) = self.messages.remove(place)
            {
                self.ledger.all.take(1, kept.size());
                gone(MessageId(place));
            }
            next = self.messages.next(place + 1);
        }
        self.messages.mend();
    }

    /// The messages there are.
    pub(in crate::broker) fn ids(&self) -> impl Iterator<Item = MessageId> {
        let next = |from: u32| self.messages.next(from);
        core::iter::successors(next(0), move |place| next(place + 1)).map(MessageId)
    }

    fn add(&mut self, kept: Kept, user: Use) -> Option<MessageId> {
        let size = kept.size();
        if !self.ledger.has_room(size, user) {
            return None;
        }
        let id = self.messages.insert(kept).ok()?;
        self.ledger.insert(size, user);
        Some(MessageId(id))
    }
}

impl Messages for Shared {
    fn has_room(&self, bytes: usize, user: Use) -> bool {
        self.ledger.has_room(bytes, user)
    }

    fn has_room_without(&self, id: MessageId, bytes: usize) -> bool {
        let kept = self.messages.get(id.0);
        kept.is_some_and(|kept| self.ledger.has_room_without(kept.head, kept.size(), bytes))
    }

    fn insert(
        &mut self,
        content: &Content<'_>,
        identifiers: Identifiers<'_>,
        user: Use,
    ) -> Option<MessageId> {
        if !self.has_room(Self::measure(content, identifiers), user) {
            return None;
        }
        self.add(Kept::new(content, identifiers, user)?, user)
    }

    fn get(&self, id: MessageId) -> Option<Content<'_>> {
        self.messages.get(id.0).map(Kept::content)
    }

    fn measure(content: &Content<'_>, identifiers: Identifiers<'_>) -> usize {
        size(&Head::new(content, identifiers, Use::Waiting))
    }

    fn size(&self, id: MessageId) -> usize {
        self.messages.get(id.0).map_or(0, Kept::size)
    }

    fn copy(
        &mut self,
        id: MessageId,
        identifiers: Identifiers<'_>,
        user: Use,
    ) -> Option<MessageId> {
        let content = self.messages.get(id.0)?.content();
        if !self.has_room(Self::measure(&content, identifiers), user) {
            return None;
        }
        let kept = Kept::new(&content, identifiers, user)?;
        self.add(kept, user)
    }

    fn share(&mut self, id: MessageId, user: Use) -> bool {
        let Some(kept) = self.messages.get_mut(id.0) else { return false };
        let size = kept.size();
        self.ledger.share(&mut kept.head, size, user)
    }

    fn may_wait(&self) -> bool {
        self.ledger.may_wait()
    }

    fn set_arrived(&mut self, before: usize, after: usize) {
        let arrived = self.arrived + after * Heap::ARRIVAL;
        self.arrived = arrived.saturating_sub(before * Heap::ARRIVAL);
    }

    fn may_arrive(&self, of: usize) -> bool {
        of <= Heap::FEW || self.arrived <= arrivals(self.ledger.limit.bytes)
    }

    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn deliveries(&self, id: MessageId) -> u32 {
        self.messages.get(id.0).map_or(0, |kept| kept.head.deliveries())
    }

    fn expires(&self, id: MessageId) -> Option<Instant> {
        self.messages.get(id.0)?.head.expires
    }

    fn set_expiry(&mut self, id: MessageId, at: Instant) {
        if let Some(kept) = self.messages.get_mut(id.0) {
            kept.head.expires = Some(at);
        }
    }

    fn release(&mut self, id: MessageId, user: Use) -> bool {
        let Some(kept) = self.messages.get_mut(id.0) else { return false };
        let size = kept.size();
        self.ledger.release(&mut kept.head, size, user)
            && self.messages.remove(id.0).is_some_and(|kept| kept.recorded)
    }

    fn record(&mut self, id: MessageId) -> bool {
        let kept = self.messages.get_mut(id.0);
        kept.is_some_and(|kept| !core::mem::replace(&mut kept.recorded, true))
    }

    fn len(&self) -> usize {
        self.messages.len()
    }

    fn bytes(&self) -> usize {
        self.ledger.all.bytes
    }
}

/// Bytes on the heap, if there are as many, filled.
fn boxed(len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Box<[u8]>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    fill(&mut bytes);
    Some(bytes.into_boxed_slice())
}
