//! Packets and their bytes: both protocol versions, one model, no copies.
//!
//! Decoding borrows the input. A packet is validated once, completely; what repeats inside it
//! (properties, subscriptions, reason codes) stays encoded as a [`List`] and is decoded again
//! while it is iterated. Encoding computes the exact length first and writes into one span.
//!
//! This layer knows nothing of connections: what a role may send, and when, is for the machines.
//!
//! ```
//! use mqtt_core::{PacketId, Version, wire::{Decoded, Packet}};
//!
//! let decoded = Packet::decode(Version::V3_1_1, &[0x40, 0x02, 0x00, 0x07, 0xc0])?;
//! let Decoded::Packet { packet: Packet::PubAck(id, ack), len } = decoded else { panic!() };
//! assert_eq!((id.get(), len), (7, 4));
//! assert!(!ack.reason.is_error());
//!
//! let decoded = Packet::decode(Version::V3_1_1, &[0x40, 0x02, 0x00])?;
//! assert_eq!(decoded, Decoded::Incomplete { missing: 1 });
//!
//! assert!(Packet::decode(Version::V3_1_1, &[0x40, 0x02, 0x00, 0x00]).is_err());
//! # Ok::<(), mqtt_core::DecodeError>(())
//! ```

use core::{fmt, num::NonZeroU16};

use crate::{
    error::{DecodeError, EncodeError},
    reason::ReasonCode,
    sink::{Payload, Sink},
};

mod ack;
mod auth;
mod connect;
mod header;
mod leaf;
mod list;
mod properties;
mod publish;
mod relay;
mod subscribe;
mod text;
pub(crate) mod varint;
mod writer;

pub use ack::Ack;
pub(crate) use auth::Reply;
pub use auth::{Answer, Auth, Disconnect};
pub use connect::{Authentication, ConnAck, Connect, Will};
pub use header::Header;
pub use list::{Element, Iter, List};
pub use properties::{Properties, Property, UserProperty};
pub use publish::{Delivery, Publish};
pub use subscribe::{RetainHandling, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe};
pub use text::{Text, TextError};

pub(crate) use publish::{Head, Naming, head_len};
#[cfg(feature = "alloc")]
pub(crate) use relay::kept_checked;
pub(crate) use relay::{Identifiers, Relay, kept, lasting_len, write_lasting};
pub(crate) use subscribe::{Reasons, read_ack};
pub(crate) use writer::Writer;
use writer::put_slice;

/// On small machines every byte of flash counts more than an instruction: they have the general way
/// alone, where others have a short one beside it. With `--cfg small` all machines are.
pub(crate) const SMALL: bool = cfg!(any(target_pointer_width = "32", small));

/// A version of the protocol: a value, chosen at run time.
///
/// The variants stand behind the features `v3` and `v5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`), which is as 3.1.1 in nearly everything.
    #[cfg(feature = "v3")]
    V3_1,
    /// MQTT 3.1.1.
    #[cfg(feature = "v3")]
    V3_1_1,
    /// MQTT 5.0.
    #[cfg(feature = "v5")]
    V5,
}

impl Version {
    /// Whether this is MQTT 5.0: properties, reason codes, AUTH.
    #[inline]
    pub const fn is_v5(self) -> bool {
        match self {
            #[cfg(feature = "v3")]
            Self::V3_1 | Self::V3_1_1 => false,
            #[cfg(feature = "v5")]
            Self::V5 => true,
        }
    }

    /// Whether this is MQTT 3.1.
    pub(crate) const fn is_v3_1(self) -> bool {
        match self {
            #[cfg(feature = "v3")]
            Self::V3_1 => true,
            #[cfg(feature = "v3")]
            Self::V3_1_1 => false,
            #[cfg(feature = "v5")]
            Self::V5 => false,
        }
    }
}

/// How hard the protocol tries to deliver a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, perhaps lost.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: sent until acknowledged, perhaps delivered more than once.
    AtLeastOnce = 1,
    /// QoS 2: delivered once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level with this number; 3 is nobody's [MQTT-3.3.1-4].
    #[inline]
    pub const fn from_u8(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A packet identifier: never 0 [MQTT-2.2.1-3].
///
/// ```
/// use mqtt_core::PacketId;
///
/// assert_eq!(PacketId::new(7).map(PacketId::get), Some(7));
/// assert_eq!(PacketId::new(0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The first identifier.
    pub const FIRST: Self = Self(NonZeroU16::MIN);

    /// The identifier with this number, unless it is 0.
    #[inline]
    pub const fn new(id: u16) -> Option<Self> {
        match NonZeroU16::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The identifier after this one; after the last comes the first.
    pub(crate) const fn next(self) -> Self {
        match self.0.checked_add(1) {
            Some(id) => Self(id),
            None => Self::FIRST,
        }
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for PacketId {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=u16}", self.get());
    }
}

/// The fifteen kinds of packet, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(missing_docs, reason = "the specification's names")]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// Number 0 is nobody's.
    #[inline]
    const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// For sets of packet types; bit 0 stays free.
    pub(crate) const fn bit(self) -> u16 {
        1 << self as u8
    }

    /// The lower four bits of the fixed header, where they are not the packet's own.
    const fn flags(self) -> u8 {
        const MARKED: u16 =
            PacketType::PubRel.bit() | PacketType::Subscribe.bit() | PacketType::Unsubscribe.bit();
        if self.bit() & MARKED == 0 { 0 } else { 0b0010 }
    }

    /// The first byte of a packet with these flags.
    const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.flags()
    }
}

/// Any packet of either version.
///
/// What only 5.0 has (properties, most reason codes) is at its default in a 3.1.1 packet, and is
/// refused when a 3.1.1 packet is to carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Packet<'a> {
    /// The first packet of a client, with the version that it asks for.
    Connect(Version, Connect<'a>),
    /// The server's answer to it.
    ConnAck(ConnAck<'a>),
    /// An application message.
    Publish(Delivery, Publish<'a>),
    /// QoS 1: received.
    PubAck(PacketId, Ack<'a>),
    /// QoS 2, part 1: received.
    PubRec(PacketId, Ack<'a>),
    /// QoS 2, part 2: released.
    PubRel(PacketId, Ack<'a>),
    /// QoS 2, part 3: complete.
    PubComp(PacketId, Ack<'a>),
    /// A client's subscriptions.
    Subscribe(PacketId, Subscribe<'a>),
    /// The server's answer to them.
    SubAck(PacketId, SubAck<'a>),
    /// Subscriptions a client no longer wants.
    Unsubscribe(PacketId, Unsubscribe<'a>),
    /// The server's answer to that.
    UnsubAck(PacketId, UnsubAck<'a>),
    /// Are you there?
    PingReq,
    /// Yes.
    PingResp,
    /// The last packet.
    Disconnect(Disconnect<'a>),
    /// A step of enhanced authentication; 5.0 only.
    Auth(Auth<'a>),
}

/// What [`Packet::decode`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Decoded<'a> {
    /// A whole packet.
    Packet {
        /// The packet.
        packet: Packet<'a>,
        /// How many bytes of the input it took.
        len: usize,
    },
    /// The beginning of a packet, with nothing wrong in its fixed header.
    Incomplete {
        /// How many bytes are missing at least.
        missing: usize,
    },
}

impl<'a> Packet<'a> {
    /// Decodes the packet at the front of `input`, as either role may read it.
    ///
    /// `version` is the version of the connection; a CONNECT is read by the version it names.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if no packet can have such a fixed header, or, once the packet is complete,
    /// if it is not valid.
    pub fn decode(version: Version, input: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        // Nearly every packet has a length of one or two bytes, and is there whole.
        let (first, length, after) = match input {
            [first, length @ ..0x80, after @ ..] => (first, usize::from(*length), after),
            [first, low, high @ 1..0x80, after @ ..] => {
                (first, usize::from(low & 0x7f) | usize::from(*high) << 7, after)
            }
            _ => return Self::decode_any(version, input),
        };
        if let Some((body, rest)) = after.split_at_checked(length)
            && let Some(packet_type) = header::usual_packet_type(*first)
        {
            let len = input.len() - rest.len();
            return Self::decode_body(version, packet_type, first & 0x0f, body, len);
        }
        Self::decode_any(version, input)
    }

    #[inline(never)]
    fn decode_any(version: Version, input: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        let Some((header, after)) = Header::decode(version, input)? else {
            return Ok(Decoded::Incomplete { missing: if input.is_empty() { 2 } else { 1 } });
        };
        let Header { packet_type, flags, remaining_length } = header;
        match after.split_at_checked(remaining_length as usize) {
            Some((body, rest)) => {
                let len = input.len() - rest.len();
                Self::decode_body(version, packet_type, flags, body, len)
            }
            None => {
                header.check_length(version)?;
                Ok(Decoded::Incomplete { missing: remaining_length as usize - after.len() })
            }
        }
    }

    /// One function per shape, and nothing after it: it builds the result where the caller wants it.
    #[inline]
    fn decode_body(
        version: Version,
        packet_type: PacketType,
        flags: u8,
        body: &'a [u8],
        len: usize,
    ) -> Result<Decoded<'a>, DecodeError> {
        match packet_type {
            PacketType::Publish => publish::decode(version, flags, body, len),
            PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => {
                ack::decode(version, packet_type, body, len)
            }
            _ => Self::decode_rare(version, packet_type, body, len),
        }
    }

    #[inline(never)]
    fn decode_rare(
        version: Version,
        packet_type: PacketType,
        body: &'a [u8],
        len: usize,
    ) -> Result<Decoded<'a>, DecodeError> {
        let packet = match packet_type {
            PacketType::Connect => {
                let (version, connect) = Connect::read(body)?;
                Self::Connect(version, connect)
            }
            PacketType::ConnAck => Self::ConnAck(ConnAck::read(version, body)?),
            PacketType::Subscribe => {
                let (id, subscribe) = Subscribe::read(version, body)?;
                Self::Subscribe(id, subscribe)
            }
            PacketType::SubAck | PacketType::UnsubAck => {
                let ack = read_ack(version, packet_type, body)?;
                match packet_type {
                    PacketType::SubAck => Self::SubAck(ack.id, ack.to_suback()),
                    _ => Self::UnsubAck(ack.id, ack.to_unsuback()),
                }
            }
            PacketType::Unsubscribe => {
                let (id, unsubscribe) = Unsubscribe::read(version, body)?;
                Self::Unsubscribe(id, unsubscribe)
            }
            PacketType::Disconnect => Self::Disconnect(Disconnect::read(version, body)?),
            PacketType::Auth => Self::Auth(Auth::read(version, body)?),
            PacketType::PingReq if body.is_empty() => Self::PingReq,
            PacketType::PingResp if body.is_empty() => Self::PingResp,
            _ => return Err(DecodeError::TrailingBytes),
        };
        Ok(Decoded::Packet { packet, len })
    }

    /// The number of bytes of the whole packet.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        self.with(&mut Measure { version })
    }

    /// Appends the packet to `out`, whole, or nothing.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] if `version` has no such packet or the packet is not valid;
    /// [`EncodeError::NoRoom`] if it does not fit `out`.
    pub fn encode(&self, version: Version, out: &mut impl Sink) -> Result<(), EncodeError> {
        match self {
            Self::Publish(delivery, publish) => {
                match append_short(&Head::new(*delivery, publish), version, out) {
                    Some(()) => Ok(()),
                    None => append_publish(*delivery, publish, version, out),
                }
            }
            _ => self.encode_rare(version, out),
        }
    }

    #[inline(never)]
    fn encode_rare(&self, version: Version, out: &mut impl Sink) -> Result<(), EncodeError> {
        let ack = match self {
            Self::PubAck(id, ack) => Some((PacketType::PubAck, *id, ack)),
            Self::PubRec(id, ack) => Some((PacketType::PubRec, *id, ack)),
            Self::PubRel(id, ack) => Some((PacketType::PubRel, *id, ack)),
            Self::PubComp(id, ack) => Some((PacketType::PubComp, *id, ack)),
            _ => None,
        };
        if let Some(ack) = ack
            && append_short(&ack, version, out).is_some()
        {
            return Ok(());
        }
        self.with(&mut Append { version, out })
    }

    #[inline(never)]
    fn with<V: Visitor>(&self, visitor: &mut V) -> Result<V::Output, EncodeError> {
        match self {
            Self::Connect(version, connect) => visitor.visit(&(*version, connect)),
            Self::ConnAck(ack) => visitor.visit(ack),
            Self::Publish(delivery, publish) => visitor.visit(&Head::new(*delivery, publish)),
            Self::PubAck(id, ack) => visitor.visit(&(PacketType::PubAck, *id, ack)),
            Self::PubRec(id, ack) => visitor.visit(&(PacketType::PubRec, *id, ack)),
            Self::PubRel(id, ack) => visitor.visit(&(PacketType::PubRel, *id, ack)),
            Self::PubComp(id, ack) => visitor.visit(&(PacketType::PubComp, *id, ack)),
            Self::Subscribe(id, subscribe) => visitor.visit(&(*id, subscribe)),
            Self::SubAck(id, ack) => visitor.visit(&(*id, ack)),
            Self::Unsubscribe(id, unsubscribe) => visitor.visit(&(*id, unsubscribe)),
            Self::UnsubAck(id, ack) => visitor.visit(&(*id, ack)),
            Self::PingReq => visitor.visit(&Bare(PacketType::PingReq)),
            Self::PingResp => visitor.visit(&Bare(PacketType::PingResp)),
            Self::Disconnect(disconnect) => visitor.visit(disconnect),
            Self::Auth(auth) => visitor.visit(auth),
        }
    }
}

/// A packet that can be measured and written. Implemented per shape, so that an image contains
/// only the encoders it uses.
pub(crate) trait Encode {
    /// The first byte of the fixed header.
    fn first_byte(&self) -> u8;

    /// The number of bytes after the fixed header, the payload included; validates.
    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError>;

    /// Writes those bytes without the payload.
    fn write(&self, version: Version, to: &mut Writer<'_>);

    /// Whether the packet is of the plain kind of which there are many, for which there is a short
    /// way.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        false
    }

    /// The short way: writes all but the payload to the front of `span`, and gives what is left.
    #[inline(always)]
    fn write_plain<'s>(
        &self,
        _version: Version,
        _remaining_length: usize,
        _span: &'s mut [u8],
    ) -> Option<&'s mut [u8]> {
        None
    }

    /// What follows the bytes written, at once.
    fn payload(&self) -> Payload<'_> {
        Payload::new(&[])
    }

    /// The length of what follows the bytes written, at once or in pieces.
    fn payload_len(&self) -> usize {
        self.payload().len()
    }
}

/// The length of the whole packet, given the length that stands in its fixed header.
pub(crate) fn packet_len(remaining_length: usize) -> Result<usize, EncodeError> {
    if !SMALL && remaining_length < 0x80 {
        return Ok(2 + remaining_length);
    }
    match u32::try_from(remaining_length) {
        Ok(remaining) if remaining <= varint::MAX => {
            Ok(1 + varint::len(remaining) + remaining_length)
        }
        _ => Err(EncodeError::TooLong),
    }
}

/// Writes everything up to the payload into `span`, which has exactly that length.
pub(crate) fn write_head<E: Encode>(
    packet: &E,
    version: Version,
    remaining_length: usize,
    span: &mut [u8],
) {
    if !SMALL && packet.is_plain() {
        let left = packet.write_plain(version, remaining_length, span);
        debug_assert!(left.is_some_and(|left| left.is_empty()), "the computed length is wrong");
        return;
    }
    let mut to = Writer::begin(packet.first_byte(), remaining_length, span);
    packet.write(version, &mut to);
    debug_assert!(to.is_full(), "the computed length is too long");
}

/// Writes the whole packet to `out`, which has been asked for room.
#[inline]
pub(crate) fn write<E: Encode>(
    packet: &E,
    version: Version,
    remaining_length: usize,
    len: usize,
    out: &mut impl Sink,
) {
    let payload = packet.payload();
    if let Some(span) = out.span(len - packet.payload_len()) {
        write_head(packet, version, remaining_length, span);
        if !payload.is_empty() {
            out.payload(payload);
        }
    }
}

/// Writes an acknowledgement without properties into `span`: four bytes, or five with the reason.
#[inline]
pub(crate) fn write_ack(packet: PacketType, id: PacketId, reason: ReasonCode, span: &mut [u8]) {
    let [high, low] = id.get().to_be_bytes();
    if let Some((head, rest)) = span.split_first_chunk_mut() {
        *head = [packet.first_byte(), 2 + rest.len() as u8, high, low];
        if let [place, ..] = rest {
            *place = reason.as_u8();
        }
    }
}

/// PINGREQ and PINGRESP.
pub(crate) struct Bare(pub(crate) PacketType);

impl Encode for Bare {
    fn first_byte(&self) -> u8 {
        self.0.first_byte()
    }

    fn remaining_length(&self, _: Version) -> Result<usize, EncodeError> {
        Ok(0)
    }

    fn write(&self, _: Version, _: &mut Writer<'_>) {}
}

/// Appends a plain packet of less than 128 bytes in one go: a payload as short as that is not worth
/// sharing. `None` if it is not such a packet, or cannot be written.
#[inline(always)]
fn append_short<E: Encode>(packet: &E, version: Version, out: &mut impl Sink) -> Option<()> {
    if !packet.is_plain() {
        return None;
    }
    let Ok(remaining_length @ 2..0x80) = packet.remaining_length(version) else { return None };
    if 2 + remaining_length > out.room() {
        return None;
    }
    let span = out.span(2 + remaining_length)?;
    let span = packet.write_plain(version, remaining_length, span)?;
    put_slice(span, packet.payload().as_bytes());
    Some(())
}

#[inline(never)]
fn append_publish(
    delivery: Delivery,
    publish: &Publish<'_>,
    version: Version,
    out: &mut impl Sink,
) -> Result<(), EncodeError> {
    Append { version, out }.append(&Head::new(delivery, publish))
}

/// Something to be done with a packet of whatever shape.
trait Visitor {
    type Output;

    fn visit(&mut self, packet: &impl Encode) -> Result<Self::Output, EncodeError>;
}

struct Measure {
    version: Version,
}

impl Visitor for Measure {
    type Output = usize;

    fn visit(&mut self, packet: &impl Encode) -> Result<usize, EncodeError> {
        packet_len(packet.remaining_length(self.version)?)
    }
}

struct Append<'o, S> {
    version: Version,
    out: &'o mut S,
}

impl<S: Sink> Append<'_, S> {
    #[inline(always)]
    fn append(&mut self, packet: &impl Encode) -> Result<(), EncodeError> {
        let remaining_length = packet.remaining_length(self.version)?;
        let len = packet_len(remaining_length)?;
        if len > self.out.room() {
            return Err(EncodeError::NoRoom);
        }
        write(packet, self.version, remaining_length, len, self.out);
        Ok(())
    }
}

impl<S: Sink> Visitor for Append<'_, S> {
    type Output = ();

    #[inline(never)]
    fn visit(&mut self, packet: &impl Encode) -> Result<(), EncodeError> {
        self.append(packet)
    }
}
