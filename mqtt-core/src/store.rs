//! What a session remembers across connections.
//!
//! | store | memory | keeps |
//! |---|---|---|
//! | [`Fixed`] | an array of the given size, fits a `static` | encoded packets |
//! | [`Records`] | the same without messages | packet identifiers: the application publishes again on [`Event::Resend`](crate::Event::Resend) |
//! | [`Heap`] | grows to a limit (feature `alloc`) | heads, and payloads by reference count |
//!
//! [`Aliased`] adds topic aliases to any of them.
//!
//! Anything else that implements [`Store`] serves as well, a flash-backed one for instance, also
//! by `&mut` and as a trait object.

use core::{error::Error, fmt};

use crate::{
    error::EncodeError,
    reason::ReasonCode,
    sink::Payload,
    topic::Topic,
    wire::{self, Delivery, Encode, Head, Header, PacketId, PacketType, Publish, QoS, Version},
};

mod aliased;
mod fixed;
#[cfg(feature = "alloc")]
mod heap;

pub use aliased::Aliased;
pub(crate) use aliased::table::Name;
pub use fixed::{Fixed, Records};
#[cfg(feature = "alloc")]
pub(crate) use heap::{Boxed, boxed};
#[cfg(feature = "alloc")]
pub use heap::{Heap, Limits};

/// Keeps a session's state: outgoing flights, incoming identifiers, and perhaps topic aliases.
///
/// A store decides nothing: the session calls it with identifiers that it knows to be present or
/// absent, and calls out of order are harmless. What must survive a restart has to be durable when
/// a method returns.
///
/// *Outgoing* publishes at QoS 1 and 2 are kept in the order in which they were first sent, those
/// released by a PUBREC separately in the order of release; each is marked as sent or not on this
/// connection. *Incoming* ones are kept in order of arrival.
pub trait Store {
    /// How much fits.
    fn capacity(&self) -> Capacity;

    /// Forgets everything but its capacity: the session has ended.
    fn clear(&mut self);

    /// The state of the outgoing publish with this identifier.
    fn flight(&self, id: PacketId) -> Option<Flight>;

    /// How many outgoing publishes are unfinished: released, or not yet.
    fn flights(&self) -> usize;

    /// How many of them wait to be sent again on this connection, released ones not counted.
    fn unsent_publishes(&self) -> usize;

    /// Appends a publish that is being sent: the message, or only that there is one. Its identifier
    /// is not in use, and nothing is [unsent](Self::unsent_publishes).
    ///
    /// # Errors
    ///
    /// [`Full`] if it does not fit; nothing has changed then.
    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full>;

    /// Drops the message of a QoS 2 publish, which is `to` from now on ([`Flight::AwaitComp`] or
    /// [`Flight::GivenUp`]), comes last in the order of release, and is to be
    /// counted as not sent until [`mark_sent`](Self::mark_sent).
    fn release(&mut self, id: PacketId, to: Flight);

    /// Drops a publish: it has its outcome.
    fn finish(&mut self, id: PacketId);

    /// Marks all as not sent: a new connection.
    fn rewind(&mut self);

    /// The first that is not marked as sent: released ones in order, then publishes in order.
    fn unsent(&mut self) -> Option<Unsent<'_>>;

    /// Marks the one that [`unsent`](Self::unsent) gave as sent.
    fn mark_sent(&mut self, id: PacketId);

    /// The incoming message with this identifier.
    fn arrival(&self, id: PacketId) -> Option<Arrival>;

    /// How many incoming messages are kept.
    fn arrivals(&self) -> usize;

    /// The oldest that [is unanswered](Arrival::is_unanswered).
    fn oldest_unanswered(&self) -> Option<Arrival>;

    /// Keeps an incoming message as the newest, in place of one with the same identifier.
    ///
    /// # Errors
    ///
    /// [`Full`] if it does not fit; nothing has changed then.
    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full>;

    /// Replaces what is kept of the incoming message with the same identifier, in its place.
    fn set_arrival(&mut self, arrival: Arrival);

    /// Drops an incoming message.
    fn remove_arrival(&mut self, id: PacketId);

    /// Drops the incoming messages for which `keep` is false; it may change the others, but not
    /// their identifiers.
    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool);

    /// Where topic aliases that the peer sets are remembered. None by default: none are accepted.
    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        None
    }

    /// The topic that the peer's alias stands for.
    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        let _ = alias;
        None
    }

    /// The highest alias that the peer may set: that of [`inbound_aliases`](Self::inbound_aliases), or 0.
    fn inbound_alias_maximum(&mut self) -> u16 {
        self.inbound_aliases().map_or(0, |aliases| aliases.maximum())
    }

    /// Forgets the topic aliases of both directions.
    fn clear_aliases(&mut self) {
        for aliases in [Self::inbound_aliases, Self::outbound_aliases] {
            if let Some(aliases) = aliases(self) {
                aliases.clear();
            }
        }
    }

    /// Where topic aliases that are set for the peer are remembered. None by default: none are set.
    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        None
    }
}

/// Topic aliases of one direction. They never outlive the connection [MQTT-3.3.2-7].
pub trait Aliases {
    /// The highest alias.
    fn maximum(&self) -> u16;

    /// Forgets all.
    fn clear(&mut self);

    /// Lets `alias`, 1 to the maximum, stand for `topic`.
    ///
    /// # Errors
    ///
    /// [`Full`] if the topic does not fit; the alias stands for nothing then.
    fn set(&mut self, alias: u16, topic: Topic<'_>) -> Result<(), Full>;

    /// The alias that stands for `topic`; or else the one to set next, if it is not above `maximum`
    /// and the topic fits.
    fn find(&mut self, topic: Topic<'_>, maximum: u16) -> Option<Alias>;
}

/// An alias for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// It stands for the topic already.
    Known(u16),
    /// It is to be [set](Aliases::set).
    New(u16),
}

/// How much a [`Store`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Capacity {
    /// Outgoing publishes.
    pub flights: u16,
    /// Incoming messages, at least 1: the Receive Maximum that can be advertised.
    pub arrivals: u16,
}

/// Something does not fit a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Full {
    /// It will once something else has been finished.
    ForNow,
    /// It is larger than the store.
    ForEver,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForNow => "the store is full",
            Self::ForEver => "larger than the store",
        })
    }
}

impl Error for Full {}

/// Whose turn it is with an outgoing publish: always the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Flight {
    /// QoS 1: PUBLISH sent, PUBACK awaited.
    AwaitAck,
    /// QoS 2: PUBLISH sent, PUBREC awaited.
    AwaitRec,
    /// QoS 2: PUBREL sent, PUBCOMP awaited.
    AwaitComp,
    /// The same for a publish that has been given up for this reason. The peer may have it all the
    /// same, so that its identifier is free, and its outcome told, when PUBCOMP has come.
    GivenUp(ReasonCode),
}

impl Flight {
    /// The state of a publish that has just been sent at this QoS, 1 or 2.
    pub const fn new(qos: QoS) -> Self {
        match qos {
            QoS::ExactlyOnce => Self::AwaitRec,
            _ => Self::AwaitAck,
        }
    }
}

/// An incoming message at QoS 1 or 2 that has not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Arrival {
    /// Its identifier.
    pub id: PacketId,
    /// 1 or 2.
    pub qos: QoS,
    /// Whose turn it is.
    pub stage: Stage,
    /// Tells it from other messages with its identifier: part of its receipt.
    pub number: u32,
    /// Whether the peer has sent it on this connection. One that was received on an earlier
    /// connection is not answered before it has been sent again.
    pub live: bool,
}

impl Arrival {
    /// Whether the next acknowledgement is ours, and now.
    pub fn is_unanswered(&self) -> bool {
        match self.stage {
            Stage::Held | Stage::Answer(_) => self.live,
            Stage::AwaitRel => false,
            Stage::Complete => true,
        }
    }
}

/// Whose turn it is with an incoming message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stage {
    /// The application's: it has the message and has not acknowledged it.
    Held,
    /// Ours: to be acknowledged with this reason when its turn comes.
    Answer(ReasonCode),
    /// The peer's. QoS 2: PUBREC sent, PUBREL awaited.
    AwaitRel,
    /// Ours. QoS 2: PUBREL received, PUBCOMP to be sent.
    Complete,
}

/// A PUBLISH to be kept: the packet's head and its payload.
///
/// The head is everything before the payload, with the whole topic (never an alias) and DUP 0.
pub struct Outgoing<'m> {
    pub(crate) head: Head<'m>,
    pub(crate) version: Version,
    pub(crate) remaining_length: usize,
    pub(crate) len: usize,
}

impl<'m> Outgoing<'m> {
    /// What a session gives to a store when it sends `publish`: to fill a store with what was kept
    /// elsewhere, and for tests of a store.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if `version` has no such packet or it is not valid, at QoS 0 or with a topic
    /// alias in particular.
    ///
    /// ```
    /// use mqtt_core::{PacketId, Publish, QoS, Topic, Version, store::{Fixed, Outgoing, Store}};
    ///
    /// let (id, qos) = (PacketId::FIRST, QoS::AtLeastOnce);
    /// let publish = Publish { qos, ..Publish::new(Topic::new("pump/7")?, "on") };
    /// let mut store = Fixed::<4, 256>::new();
    /// store.push(id, qos, Some(&Outgoing::new(Version::V5, id, &publish)?))?;
    /// assert_eq!(store.flights(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        version: Version,
        id: PacketId,
        publish: &'m Publish<'m>,
    ) -> Result<Self, EncodeError> {
        if publish.properties.topic_alias().is_some() {
            return Err(EncodeError::Property);
        }
        let head = Head::new(Delivery { packet_id: Some(id), dup: false }, publish);
        let remaining_length = head.remaining_length(version)?;
        let len = wire::packet_len(remaining_length)?;
        Ok(Self { head, version, remaining_length, len })
    }

    /// The number of bytes of the whole packet.
    pub const fn packet_len(&self) -> usize {
        self.len
    }

    /// The number of bytes of the head.
    pub fn head_len(&self) -> usize {
        self.len - self.payload().len()
    }

    /// Writes the head into `span`, which has exactly [`head_len`](Self::head_len) bytes.
    pub fn write_head(&self, span: &mut [u8]) {
        wire::write_head(&self.head, self.version, self.remaining_length, span);
    }

    /// The payload.
    pub fn payload(&self) -> Payload<'_> {
        self.head.payload()
    }
}

/// An outgoing publish that has not been sent on this connection.
#[derive(Clone, Copy, Debug)]
pub struct Unsent<'s> {
    /// Its identifier.
    pub id: PacketId,
    /// Its state.
    pub flight: Flight,
    /// The packet as [`Outgoing`] gave it, in two parts of which the first has the whole head; both
    /// empty if there is only a record. It is validated before it is sent.
    pub packet: (&'s [u8], Payload<'s>),
}

impl<'s> Unsent<'s> {
    /// The message, with as much of its payload as the first part of the packet has, and the rest
    /// of the payload. `None` if this is not the packet that [`Outgoing`] gave for this identifier
    /// and state, or there is only a record: nothing read from a store is trusted.
    ///
    /// ```
    /// use mqtt_core::{PacketId, Payload, Version, store::{Flight, Unsent}};
    ///
    /// let packet = (&b"\x32\x06\0\x01t\0\x07"[..], Payload::from("!"));
    /// let id = PacketId::new(7).unwrap();
    /// let unsent = Unsent { id, flight: Flight::AwaitAck, packet };
    /// let (publish, rest) = unsent.decode(Version::V3_1_1).unwrap();
    /// assert_eq!((publish.topic.as_str(), rest.as_bytes()), ("t", &b"!"[..]));
    /// assert!(Unsent { flight: Flight::AwaitRec, ..unsent }.decode(Version::V3_1_1).is_none());
    /// ```
    pub fn decode(&self, version: Version) -> Option<(Publish<'s>, Payload<'s>)> {
        let (_, publish, payload) = self.read(version, false)?;
        Some((Publish { payload: Payload::new(payload), ..publish }, self.packet.1))
    }

    /// The packet's header, the message without its payload, and what the first part has of that; with
    /// `identifies` it may have subscription identifiers.
    #[inline(always)]
    pub(crate) fn read(
        &self,
        version: Version,
        identifies: bool,
    ) -> Option<(Header, Publish<'s>, &'s [u8])> {
        let (head, payload) = self.packet;
        let (header, body) = Header::decode(version, head).ok()??;
        let qos = match self.flight {
            Flight::AwaitAck => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        let whole = header.packet_len() == head.len() + payload.len();
        // Everything before the payload is in the head, or all of it is.
        let head_len = wire::head_len(version, &header, body).ok()??;
        let (head, front) = body.split_at_checked(head_len)?;
        let (delivery, publish) = Publish::read(version, header.flags, head).ok()?;
        let Publish { properties, .. } = publish;
        let intact = header.packet_type == PacketType::Publish
            && (properties.is_empty()
                || properties.topic_alias().is_none()
                    && (identifies || properties.subscription_identifier().is_none()))
            && whole
            && delivery.packet_id == Some(self.id)
            && header.flags >> 1 & 3 == qos as u8;
        intact.then_some((header, publish, front))
    }
}

/// The methods of [`Store`] but for `clear` and the aliases, passed on to another store.
macro_rules! delegate {
    ($self:ident, $store:expr) => {
        fn capacity(&$self) -> Capacity {
            $store.capacity()
        }

        fn flight(&$self, id: PacketId) -> Option<Flight> {
            $store.flight(id)
        }

        fn flights(&$self) -> usize {
            $store.flights()
        }

        fn unsent_publishes(&$self) -> usize {
            $store.unsent_publishes()
        }

        fn push(
            &mut $self,
            id: PacketId,
            qos: QoS,
            message: Option<&Outgoing<'_>>,
        ) -> Result<(), Full> {
            $store.push(id, qos, message)
        }

        fn release(&mut $self, id: PacketId, to: Flight) {
            $store.release(id, to);
        }

        fn finish(&mut $self, id: PacketId) {
            $store.finish(id);
        }

        fn rewind(&mut $self) {
            $store.rewind();
        }

        fn unsent(&mut $self) -> Option<Unsent<'_>> {
            $store.unsent()
        }

        fn mark_sent(&mut $self, id: PacketId) {
            $store.mark_sent(id);
        }

        fn arrival(&$self, id: PacketId) -> Option<Arrival> {
            $store.arrival(id)
        }

        fn arrivals(&$self) -> usize {
            $store.arrivals()
        }

        fn oldest_unanswered(&$self) -> Option<Arrival> {
            $store.oldest_unanswered()
        }

        fn push_arrival(&mut $self, arrival: Arrival) -> Result<(), Full> {
            $store.push_arrival(arrival)
        }

        fn set_arrival(&mut $self, arrival: Arrival) {
            $store.set_arrival(arrival);
        }

        fn remove_arrival(&mut $self, id: PacketId) {
            $store.remove_arrival(id);
        }

        fn retain_arrivals(&mut $self, keep: fn(&mut Arrival) -> bool) {
            $store.retain_arrivals(keep);
        }
    };
}
use delegate;

impl<S: Store + ?Sized> Store for &mut S {
    delegate!(self, (**self));

    fn clear(&mut self) {
        (**self).clear();
    }

    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        (**self).inbound_aliases()
    }

    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        (**self).inbound_topic(alias)
    }

    fn inbound_alias_maximum(&mut self) -> u16 {
        (**self).inbound_alias_maximum()
    }

    fn clear_aliases(&mut self) {
        (**self).clear_aliases();
    }

    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        (**self).outbound_aliases()
    }
}
