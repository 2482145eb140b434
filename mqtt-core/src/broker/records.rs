//! Records of a broker in bytes, and a broker from its records.
//!
//! | record | bytes; numbers are big-endian |
//! |---|---|
//! | message | flags, when it expires (8) if it does, topic length (2), topic, properties length (4), properties, payload |
//! | retained | message (4) |
//! | session | flags, expiry (4), lost since (8) if it is, will's message, delay and perhaps expiry (4 each), owner's number (4) if it is known, length (2) of the owner's name and that if it has one, name |
//! | subscription | flags, identifier (4), next retained message owed (4) if any is |
//! | arrival | none |
//! | delivery | flags, message (4), packet identifier (2), subscription identifier (4), filter of its group |
//!
//! Names begin with a byte for their kind and a place, so that in their order everything comes after what it
//! refers to.

use alloc::{boxed::Box, vec::Vec};
use core::{fmt, str};

use super::{
    Broker, Config, Host, Large,
    delivering::earlier,
    memory::{Alarms, Lent, Names, Numbered, Queue, Sealed, Slab},
    message::{Content, MessageId, Messages, Use},
    recording::{Haste, Key},
    session::{Backlog, Delivery, Replay, Session, Will},
};
use crate::{
    Instant,
    router::{Options, Router, Subscriber},
    sink::Payload,
    store::{Arrival, Flight, Name, Stage, Store},
    topic::{Filter, Topic},
    wire::{self, PacketId, QoS, Text},
};

const MESSAGE: u8 = 1;
const RETAINED: u8 = 2;
const SESSION: u8 = 3;
const SUBSCRIPTION: u8 = 4;
const ARRIVAL: u8 = 5;
const DELIVERY: u8 = 6;

/// Beside a QoS, in all flags.
const QOS: u8 = 3;
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const LOST: u8 = 1;
const WILL: u8 = 1 << 1;
const WILL_EXPIRES: u8 = 1 << 2;
const OWNED: u8 = 1 << 3;
const NAMED: u8 = 1 << 4;
const NO_LOCAL: u8 = 1 << 2;
const AS_PUBLISHED: u8 = 1 << 3;
const OWED: u8 = 1 << 4;
const COUNTS: u8 = 1 << 3;
const RELEASED: u8 = 1 << 4;

/// Subscription identifiers are below this.
const IDENTIFIERS: u32 = 1 << 28;

/// A record that a broker does not take. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// It is not one that a broker has made.
    Malformed,
    /// It refers to something that is not there: the order is that of the keys' bytes.
    Unknown,
    /// There is something already where it belongs.
    Taken,
    /// It is more than the broker's limits allow, which those were not of the broker that made it: what is
    /// not restored, and no longer on record, is lost, acknowledged messages included. Larger limits take
    /// it; a host that cannot give them says so.
    Limit,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a broker's record",
            Self::Unknown => "it refers to something that is not there",
            Self::Taken => "its place is taken",
            Self::Limit => "more than the limits allow",
        })
    }
}

impl core::error::Error for RestoreError {}

impl<'a> Key<'a> {
    /// The bytes to keep a record under.
    pub fn to_bytes(&self) -> Box<[u8]> {
        let (kind, place) = match *self {
            Self::Message(place) => (MESSAGE, place),
            Self::Retained(place) => (RETAINED, place),
            Self::Session(place) => (SESSION, place),
            Self::Subscription(place, _) => (SUBSCRIPTION, place),
            Self::Arrival(place, _) => (ARRIVAL, place),
            Self::Delivery(place, _) => (DELIVERY, place),
        };
        let mut bytes = Vec::with_capacity(13);
        bytes.push(kind);
        bytes.extend_from_slice(&place.to_be_bytes());
        match *self {
            Self::Subscription(_, filter) => bytes.extend_from_slice(filter.as_bytes()),
            Self::Arrival(_, id) => bytes.extend_from_slice(&id.get().to_be_bytes()),
            Self::Delivery(_, number) => bytes.extend_from_slice(&number.to_be_bytes()),
            _ => {}
        }
        bytes.into_boxed_slice()
    }

    /// The key of which these are the bytes.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (kind, place) = (reader.u8()?, reader.u32()?);
        let key = match kind {
            MESSAGE => Self::Message(place),
            RETAINED => Self::Retained(place),
            SESSION => Self::Session(place),
            SUBSCRIPTION => Self::Subscription(place, reader.filter()?),
            ARRIVAL => Self::Arrival(place, PacketId::new(reader.u16()?)?),
            DELIVERY => Self::Delivery(place, reader.u64()?),
            _ => return None,
        };
        reader.0.is_empty().then_some(key)
    }
}

/// What is kept of a broker.
///
/// ```
/// use mqtt_core::{Instant, broker::{Broker, Config, Large, RestoreError}, router::Limits};
///
/// let mut broker = Broker::<Large>::large(Config::default(), 1 << 20, 7, Limits::default());
/// let (now, key) = (Instant::from_millis(0), [3, 0, 0, 0, 0]);
/// let nonsense = broker.restore(now, &key, b"?");
/// assert_eq!(nonsense, Err(RestoreError::Malformed));
/// // A session that outlives its connection by a minute.
/// broker.restore(now, &key, b"\0\0\0\0\x3csensor-7")?;
/// assert_eq!(broker.sessions(), 1);
/// # Ok::<(), RestoreError>(())
/// ```
impl Broker<Large> {
    /// The version of the records' format. Those of a later one are not to be [restored](Self::restore), nor
    /// those of one before the [oldest](Self::OLDEST_RECORDS).
    pub const RECORDS: u32 = 2;

    /// The oldest version of the records' format that is understood: 1 did not say whose a session is, so that
    /// it is the first user's who comes for it.
    pub const OLDEST_RECORDS: u32 = 1;

    /// Appends the record of this key to `to` as it is now. Whether there is one.
    pub fn record(&self, key: Key<'_>, to: &mut Vec<u8>) -> bool {
        let written = match key {
            Key::Message(place) => self.message_record(MessageId(place), to),
            Key::Retained(place) => {
                let message = self.retained_in_record(place);
                message.map(|message| to.extend_from_slice(&message.0.to_be_bytes()))
            }
            Key::Session(place) => self.session_record(place, to),
            Key::Subscription(place, filter) => self.subscription_record(place, filter, to),
            Key::Arrival(place, id) => {
                let session = self.recorded(place);
                session.filter(|session| session.peer.store().is_taken(id)).map(drop)
            }
            Key::Delivery(place, number) => self.delivery_record(place, number, to),
        };
        written.is_some()
    }

    /// Calls `each` with the keys of all records, in no particular order.
    pub fn records(&self, mut each: impl FnMut(Key<'_>)) {
        let recorded = self.messages.ids().filter(|id| self.messages.is_recorded(*id));
        recorded.for_each(|id| each(Key::Message(id.0)));
        let mut next = self.retained.next(0);
        while let Some(place) = next {
            if self.retained_in_record(place).is_some() {
                each(Key::Retained(place));
            }
            next = self.retained.next(place + 1);
        }
        let mut next = self.sessions.next(0);
        while let Some(place) = next {
            self.session_records(place, &mut each);
            next = self.sessions.next(place + 1);
        }
    }

    fn session_records(&self, place: u32, each: &mut impl FnMut(Key<'_>)) {
        let Some(session) = self.sessions.get(place) else { return };
        if session.recorded || session.will.is_some() {
            each(Key::Session(place));
        }
        if !session.recorded {
            return;
        }
        for (filter, _) in self.router.subscriptions(Subscriber(place)) {
            each(Key::Subscription(place, filter));
        }
        let store = session.peer.store();
        store.taken().for_each(|id| each(Key::Arrival(place, id)));
        let Some(Backlog { deliveries, .. }) = session.backlog.get() else { return };
        for index in 0..deliveries.len() {
            if deliveries.get(index).is_some_and(|delivery| delivery.qos > QoS::AtMostOnce) {
                each(Key::Delivery(place, deliveries.number(index)));
            }
        }
    }

    fn retained_in_record(&self, place: u32) -> Option<MessageId> {
        let message = *self.retained.get(place)?;
        let content = self.messages.get(message)?;
        (!content.topic.starts_with_dollar()).then_some(message)
    }

    fn recorded(&self, place: u32) -> Option<&Session<Large>> {
        self.sessions.get(place).filter(|session| session.recorded)
    }

    fn message_record(&self, id: MessageId, to: &mut Vec<u8>) -> Option<()> {
        let content = self.messages.get(id).filter(|_| self.messages.is_recorded(id))?;
        let Content { topic, payload, properties, qos, retain, expires } = content;
        to.push(qos as u8 | flag(RETAIN, retain) | flag(EXPIRES, expires.is_some()));
        if let Some(at) = expires {
            to.extend_from_slice(&at.as_millis().to_be_bytes());
        }
        to.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        to.extend_from_slice(topic.as_bytes());
        let len = wire::lasting_len(properties, wire::Identifiers::NONE);
        to.extend_from_slice(&(len as u32).to_be_bytes());
        let start = to.len();
        to.resize(start + len, 0);
        wire::write_lasting(properties, wire::Identifiers::NONE, to.get_mut(start..)?);
        to.extend_from_slice(payload.as_bytes());
        Some(())
    }

    fn session_record(&self, place: u32, to: &mut Vec<u8>) -> Option<()> {
        let session = self.sessions.get(place)?;
        let Session { expiry, will, name, recorded, identity, owned, .. } = session;
        let owner = name.user_name();
        let lost = self.absent.of(place);
        if !recorded && will.is_none() {
            return None;
        }
        let will_expiry = will.and_then(|will| will.expiry);
        to.push(
            flag(LOST, lost.is_some())
                | flag(WILL, will.is_some())
                | flag(WILL_EXPIRES, will_expiry.is_some())
                | flag(OWNED, *owned)
                | flag(NAMED, owner.is_some()),
        );
        to.extend_from_slice(&expiry.to_be_bytes());
        if let Some(lost) = lost {
            to.extend_from_slice(&lost.as_millis().to_be_bytes());
        }
        if let Some(will) = will {
            to.extend_from_slice(&will.message.0.to_be_bytes());
            to.extend_from_slice(&will.delay.to_be_bytes());
        }
        if let Some(expiry) = will_expiry {
            to.extend_from_slice(&expiry.to_be_bytes());
        }
        if *owned {
            to.extend_from_slice(&identity.to_be_bytes());
        }
        if let Some(owner) = owner {
            to.extend_from_slice(&(owner.len() as u16).to_be_bytes());
            to.extend_from_slice(owner);
        }
        to.extend_from_slice(name.as_bytes());
        Some(())
    }

    fn subscription_record(&self, place: u32, filter: Filter<'_>, to: &mut Vec<u8>) -> Option<()> {
        let session = self.recorded(place)?;
        let options = self.router.options(Subscriber(place), filter)?;
        let Options { qos, no_local, retain_as_published, identifier } = options;
        let key = self.router.key(filter);
        let replays = session.backlog.get().map(|backlog| backlog.replays.iter());
        let owed = replays.into_iter().flatten().find(|replay| replay.filter == key);
        to.push(
            qos as u8
                | flag(NO_LOCAL, no_local)
                | flag(AS_PUBLISHED, retain_as_published)
                | flag(OWED, owed.is_some()),
        );
        to.extend_from_slice(&identifier.unwrap_or(0).to_be_bytes());
        if let Some(owed) = owed {
            to.extend_from_slice(&owed.next.to_be_bytes());
        }
        Some(())
    }

    fn delivery_record(&self, place: u32, number: u64, to: &mut Vec<u8>) -> Option<()> {
        let session = self.recorded(place)?;
        let delivery = session.backlog.get()?.deliveries.numbered(number)?;
        let Delivery { message, id, qos, retain, counts, identifier, group } = *delivery;
        if qos == QoS::AtMostOnce {
            return None;
        }
        let flight = id.and_then(|id| session.peer.store().flight(id));
        let released = matches!(flight, Some(Flight::AwaitComp | Flight::GivenUp(_)));
        to.push(qos as u8 | flag(RETAIN, retain) | flag(COUNTS, counts) | flag(RELEASED, released));
        to.extend_from_slice(&message.0.to_be_bytes());
        to.extend_from_slice(&id.map_or(0, PacketId::get).to_be_bytes());
        to.extend_from_slice(&identifier.to_be_bytes());
        if let Some(filter) = group.and_then(|group| self.router.filter_of(group)) {
            to.extend_from_slice(filter.as_bytes());
        }
        Some(())
    }
}

/// Being restored.
impl Broker<Large> {
    /// Takes back a record that another broker has [made](Self::record), one after the other in the order of
    /// the bytes of their keys, and then [`restored`](Self::restored). Whoever was connected has lost the
    /// connection now. Time goes on where it was: `now` is on the other broker's clock.
    ///
    /// What is in it need not be true; whatever is, the broker is one that can be.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: it is skipped.
    pub fn restore(&mut self, now: Instant, key: &[u8], record: &[u8]) -> Result<(), RestoreError> {
        let key = Key::from_bytes(key).ok_or(RestoreError::Malformed)?;
        let reader = Reader(record);
        match key {
            Key::Message(place) => self.restore_message(now, MessageId(place), reader),
            Key::Retained(place) => self.restore_retained(place, reader),
            Key::Session(place) => self.restore_session(now, place, reader),
            Key::Subscription(place, filter) => self.restore_subscription(place, filter, reader),
            Key::Arrival(place, id) => self.restore_arrival(place, id, record),
            Key::Delivery(place, number) => self.restore_delivery(place, number, reader),
        }
    }

    /// All has been restored that there was. What has changed by that is told: messages without anybody
    /// for whom they were kept have gone.
    pub fn restored(&mut self, now: Instant, host: &mut impl Host) {
        self.messages.sweep(|id| host.changed(Key::Message(id.0), Haste::None));
        self.retained.mend();
        self.sessions.mend();
        let mut next = self.sessions.next(0);
        while let Some(place) = next {
            if self.absent.of(place) == Some(now) {
                host.changed(Key::Session(place), Haste::None);
            }
            self.set_deadline(place);
            next = self.sessions.next(place + 1);
        }
    }

    fn restore_message(
        &mut self,
        now: Instant,
        id: MessageId,
        mut reader: Reader<'_>,
    ) -> Result<(), RestoreError> {
        let content = reader.message().ok_or(RestoreError::Malformed)?;
        if content.expires.is_some_and(|at| at > now + u64::from(u32::MAX) * 1_000) {
            return Err(RestoreError::Malformed);
        }
        if self.messages.get(id).is_some() {
            return Err(RestoreError::Taken);
        }
        if !self.messages.restore(id, &content) {
            return Err(RestoreError::Limit);
        }
        self.expect_expiry(content.expires);
        Ok(())
    }

    fn restore_retained(&mut self, place: u32, mut reader: Reader<'_>) -> Result<(), RestoreError> {
        let message = MessageId(reader.last_u32().ok_or(RestoreError::Malformed)?);
        let content = self.messages.get(message).ok_or(RestoreError::Unknown)?;
        if content.payload.is_empty() {
            return Err(RestoreError::Malformed);
        }
        let hash = self.retained_names.hash(content.topic.as_bytes());
        if self.find_retained(hash, content.topic).is_some() || self.retained.get(place).is_some() {
            return Err(RestoreError::Taken);
        }
        let size = self.messages.size(message);
        if place as usize >= self.config.retained_messages
            || !self.may_retain(None, size)
            || !self.retained_names.insert(hash, place)
        {
            return Err(RestoreError::Limit);
        }
        if !self.retained.put(place, message) || !self.messages.reuse(message, Use::Standing) {
            self.retained.remove(place);
            self.retained_names.remove(hash, place);
            return Err(RestoreError::Limit);
        }
        self.retained_bytes += size;
        Ok(())
    }

    fn restore_session(
        &mut self,
        now: Instant,
        place: u32,
        mut reader: Reader<'_>,
    ) -> Result<(), RestoreError> {
        let Terms { expiry, lost, will, identity, owner, name } =
            reader.terms().ok_or(RestoreError::Malformed)?;
        if will.is_some_and(|will| self.messages.get(will.message).is_none()) {
            return Err(RestoreError::Unknown);
        }
        let hash = self.names.hash(name);
        if self.find(hash, name).is_some() || self.sessions.get(place).is_some() {
            return Err(RestoreError::Taken);
        }
        if owner.is_some_and(|owner| owner.len() > self.config.client_id_bytes) {
            return Err(RestoreError::Limit);
        }
        let name = Large::name(name, owner).map_err(|_| RestoreError::Limit)?;
        let mut session = self.new_session(name, true);
        let lost = lost.map_or(now, |lost| lost.min(now));
        session.recorded = expiry > 0;
        session.expiry = expiry.min(self.config.session_expiry_maximum);
        session.lost = Some(lost);
        session.will = will;
        (session.identity, session.owned) = (identity.unwrap_or(0), identity.is_some());
        if place as usize >= self.config.sessions || !self.sessions.put(place, session) {
            return Err(RestoreError::Limit);
        }
        let known = self.settle_in(place, hash);
        if !known || will.is_some_and(|will| !self.messages.reuse(will.message, Use::Standing)) {
            self.names.remove(hash, place);
            self.sessions.remove(place);
            return Err(RestoreError::Limit);
        }
        self.absent.set(place, lost);
        Ok(())
    }

    fn restore_subscription(
        &mut self,
        place: u32,
        filter: Filter<'_>,
        mut reader: Reader<'_>,
    ) -> Result<(), RestoreError> {
        let (options, owed) = reader.subscription().ok_or(RestoreError::Malformed)?;
        if owed.is_some() && filter.is_shared() {
            return Err(RestoreError::Malformed);
        }
        self.recorded(place).ok_or(RestoreError::Unknown)?;
        let subscriber = Subscriber(place);
        if self.router.options(subscriber, filter).is_some() {
            return Err(RestoreError::Taken);
        }
        self.router.subscribe(subscriber, filter, options).map_err(|_| RestoreError::Limit)?;
        if !self.count_subscription(place, filter) {
            self.router.unsubscribe(subscriber, filter);
            return Err(RestoreError::Limit);
        }
        if let (Some(next), Some(session)) = (owed, self.sessions.get_mut(place)) {
            let filter = self.router.key(filter);
            if let Some(backlog) = session.backlog.make() {
                backlog.replays.push(Replay { filter, next });
            }
        }
        Ok(())
    }

    fn restore_arrival(
        &mut self,
        place: u32,
        id: PacketId,
        record: &[u8],
    ) -> Result<(), RestoreError> {
        if !record.is_empty() {
            return Err(RestoreError::Malformed);
        }
        self.recorded(place).ok_or(RestoreError::Unknown)?;
        let session = self.sessions.get_mut(place).ok_or(RestoreError::Unknown)?;
        let store = session.peer.store_mut();
        if store.arrival(id).is_some() {
            return Err(RestoreError::Taken);
        }
        let (qos, stage) = (QoS::ExactlyOnce, Stage::AwaitRel);
        let arrival = Arrival { id, qos, stage, number: 0, live: false };
        store.restore_arrival(arrival).map_err(|_| RestoreError::Limit)?;
        let arrivals = store.arrivals();
        self.messages.set_arrived(session.arrivals.into(), arrivals);
        session.arrivals = arrivals as u16; // each has an identifier
        Ok(())
    }

    fn restore_delivery(
        &mut self,
        place: u32,
        number: u64,
        mut reader: Reader<'_>,
    ) -> Result<(), RestoreError> {
        let (mut delivery, released, group) = reader.delivery().ok_or(RestoreError::Malformed)?;
        delivery.group = group.and_then(|filter| self.router.group_of(filter));
        self.recorded(place).ok_or(RestoreError::Unknown)?;
        let session = self.sessions.get_mut(place).ok_or(RestoreError::Unknown)?;
        if self.messages.get(delivery.message).is_none() {
            return Err(RestoreError::Unknown);
        }
        let size = self.messages.size(delivery.message);
        let known = delivery.id.is_some_and(|id| session.peer.store().flight(id).is_some());
        let backlog = session.backlog.make().ok_or(RestoreError::Limit)?;
        if known || !backlog.deliveries.is_above(number) {
            return Err(RestoreError::Taken);
        }
        let Config { queue_messages, queue_bytes, .. } = self.config;
        let is_full =
            backlog.waiting >= queue_messages || backlog.waiting_bytes + size > queue_bytes;
        match delivery.id {
            // Those on their way come first.
            Some(_) if backlog.is_behind() => return Err(RestoreError::Malformed),
            None if delivery.counts && is_full => return Err(RestoreError::Limit),
            _ => {}
        }
        if !backlog.deliveries.has_room() || !self.messages.reuse(delivery.message, Use::Sent) {
            return Err(RestoreError::Limit);
        }
        if let Some(id) = delivery.id {
            if !session.peer.store_mut().restore_flight(id, delivery.qos, released) {
                self.messages.release(delivery.message, Use::Sent);
                return Err(RestoreError::Limit);
            }
            backlog.is_on_its_way(size);
        } else if delivery.counts {
            backlog.waiting += 1;
            backlog.waiting_bytes += size;
        }
        backlog.expires = earlier(backlog.expires, self.messages.expires(delivery.message));
        backlog.deliveries.append(number, delivery);
        self.messages.has_numbered(number);
        Ok(())
    }
}

const fn flag(flag: u8, is: bool) -> u8 {
    if is { flag } else { 0 }
}

/// What is on record of a session itself.
struct Terms<'r> {
    expiry: u32,
    lost: Option<Instant>,
    will: Option<Will>,
    /// Whose it is, by number and by name.
    identity: Option<u32>,
    owner: Option<&'r [u8]>,
    name: &'r [u8],
}

/// Reads what may be anything.
struct Reader<'r>(&'r [u8]);

impl<'r> Reader<'r> {
    fn take(&mut self, len: usize) -> Option<&'r [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn last_u32(&mut self) -> Option<u32> {
        self.u32().filter(|_| self.0.is_empty())
    }

    fn text(&mut self) -> Option<&'r str> {
        str::from_utf8(core::mem::take(&mut self.0)).ok()
    }

    /// A user's name, and its length before it.
    fn named(&mut self) -> Option<&'r [u8]> {
        let len = self.u16()?;
        self.take(len.into()).filter(|name| str::from_utf8(name).is_ok())
    }

    fn filter(&mut self) -> Option<Filter<'r>> {
        Filter::new(self.text()?).ok()
    }

    /// Flags, none of which is unknown.
    fn flags(&mut self, known: u8) -> Option<u8> {
        self.u8().filter(|flags| flags & !known == 0)
    }

    fn instant(&mut self) -> Option<Instant> {
        self.u64().map(Instant::from_millis)
    }

    fn message(&mut self) -> Option<Content<'r>> {
        let flags = self.flags(QOS | RETAIN | EXPIRES)?;
        let expires = if flags & EXPIRES != 0 { Some(self.instant()?) } else { None };
        let len = self.u16()?;
        let topic = Topic::new(str::from_utf8(self.take(len.into())?).ok()?).ok()?;
        let len = self.u32()?;
        let properties = wire::kept_checked(self.take(len as usize)?)?;
        let payload = Payload::new(self.0);
        let (qos, retain) = (QoS::from_u8(flags & QOS)?, flags & RETAIN != 0);
        Some(Content { topic, payload, properties, qos, retain, expires })
    }

    fn terms(&mut self) -> Option<Terms<'r>> {
        let flags = self.flags(LOST | WILL | WILL_EXPIRES | OWNED | NAMED)?;
        let expiry = self.u32()?;
        let lost = if flags & LOST != 0 { Some(self.instant()?) } else { None };
        let will = match flags & (WILL | WILL_EXPIRES) {
            0 => None,
            WILL_EXPIRES => return None,
            flags => {
                let (message, delay) = (MessageId(self.u32()?), self.u32()?);
                let expiry = if flags & WILL_EXPIRES != 0 { Some(self.u32()?) } else { None };
                Some(Will { message, delay, expiry })
            }
        };
        let identity = if flags & OWNED != 0 { Some(self.u32()?) } else { None };
        let owner = if flags & NAMED != 0 { Some(self.named()?) } else { None };
        let name = Text::new(self.text()?).ok()?.as_bytes();
        let makes_sense = (expiry > 0 || will.is_some()) && !name.is_empty();
        let makes_sense = makes_sense && (owner.is_none() || identity.is_some());
        makes_sense.then_some(Terms { expiry, lost, will, identity, owner, name })
    }

    fn subscription(&mut self) -> Option<(Options, Option<u32>)> {
        let flags = self.flags(QOS | NO_LOCAL | AS_PUBLISHED | OWED)?;
        let identifier = self.u32().filter(|identifier| *identifier < IDENTIFIERS)?;
        let owed = if flags & OWED != 0 { Some(self.u32()?) } else { None };
        let options = Options {
            qos: QoS::from_u8(flags & QOS)?,
            no_local: flags & NO_LOCAL != 0,
            retain_as_published: flags & AS_PUBLISHED != 0,
            identifier: Some(identifier).filter(|identifier| *identifier != 0),
        };
        self.0.is_empty().then_some((options, owed))
    }

    fn delivery(&mut self) -> Option<(Delivery, bool, Option<Filter<'r>>)> {
        let flags = self.flags(QOS | RETAIN | COUNTS | RELEASED)?;
        let (message, id) = (MessageId(self.u32()?), PacketId::new(self.u16()?));
        let identifier = self.u32().filter(|identifier| *identifier < IDENTIFIERS)?;
        let group = if self.0.is_empty() { None } else { Some(self.filter()?) };
        let (qos, released) = (QoS::from_u8(flags & QOS)?, flags & RELEASED != 0);
        if qos == QoS::AtMostOnce || released && (qos != QoS::ExactlyOnce || id.is_none()) {
            return None;
        }
        let (retain, counts) = (flags & RETAIN != 0, flags & COUNTS != 0);
        let delivery = Delivery { message, id, qos, retain, counts, identifier, group: None };
        Some((delivery, released, group))
    }
}
