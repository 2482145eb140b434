//! PUBLISH.

use super::{
    DecodeError, Decoded, Encode, EncodeError, Header, Packet, PacketId, PacketType, Properties,
    QoS, Version, Writer,
    leaf::{self, Parsed, be_u16},
    properties::{self, Context, Field, Measure, id},
    text, varint,
    writer::{put, put_varint},
};
use crate::{sink::Payload, topic::Topic};

/// An application message, as it is published.
///
/// ```
/// use mqtt_core::{Publish, QoS, Topic};
///
/// let publish = Publish {
///     qos: QoS::AtLeastOnce,
///     ..Publish::new(Topic::new("sensors/7/temperature")?, "21.5")
/// };
/// assert!(!publish.retain);
/// # Ok::<(), mqtt_core::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Publish<'a> {
    /// What the message is about. Empty only in a decoded packet that names its topic by a topic
    /// alias set earlier.
    pub topic: Topic<'a>,
    /// The message itself.
    pub payload: Payload<'a>,
    /// How hard to try.
    pub qos: QoS,
    /// For a publisher: keep the message for future subscribers. For a subscriber: the message
    /// had been kept.
    pub retain: bool,
    /// 5.0 only.
    pub properties: Properties<'a>,
}

impl<'a> Publish<'a> {
    /// A message at QoS 0, not retained, without properties.
    pub fn new(topic: Topic<'a>, payload: impl Into<Payload<'a>>) -> Self {
        Self { topic, payload: payload.into(), ..Self::default() }
    }
}

/// What a PUBLISH carries for its delivery alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Delivery {
    /// The packet identifier, exactly if the QoS is 1 or 2 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// Sent before, perhaps [MQTT-3.3.1-1].
    pub dup: bool,
}

#[inline(never)]
pub(super) fn decode(
    version: Version,
    flags: u8,
    body: &[u8],
    len: usize,
) -> Result<Decoded<'_>, DecodeError> {
    let (delivery, publish) = leaf::complete(Publish::parse(version, flags, body))?;
    Ok(Decoded::Packet { packet: Packet::Publish(delivery, publish), len })
}

impl<'a> Publish<'a> {
    /// Reads the body of a packet with these flags, which the header has validated.
    #[inline(never)]
    pub(crate) fn read(
        version: Version,
        flags: u8,
        body: &'a [u8],
    ) -> Result<(Delivery, Self), DecodeError> {
        leaf::complete(Self::parse(version, flags, body))
    }

    #[inline(always)]
    fn parse(version: Version, flags: u8, input: &'a [u8]) -> Parsed<'a, (Delivery, Self)> {
        let (input, name) = leaf::binary(input)?;
        let (input, qos, packet_id) = match flags >> 1 & 0b11 {
            0 => (input, QoS::AtMostOnce, None),
            level => {
                let (input, id) = packet_id(input)?;
                let qos = if level == 1 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                (input, qos, Some(id))
            }
        };
        let (payload, properties) = if version.is_v5() {
            properties::read(input, Context::Publish)?
        } else {
            (input, &[][..])
        };
        let properties = Properties::encoded(properties);
        // On 5.0 a topic alias can stand in for the name.
        if !name.is_empty() || !version.is_v5() {
            leaf::check(text::check_topic(name))?;
        } else if properties.topic_alias().is_none() {
            return leaf::fail(DecodeError::TopicMissing);
        }
        let topic = Topic::from_validated(name);
        let delivery = Delivery { packet_id, dup: flags & 0b1000 != 0 };
        let payload = Payload::new(payload);
        let publish = Self { topic, payload, qos, retain: flags & 1 != 0, properties };
        Ok((&[], (delivery, publish)))
    }
}

/// The number of bytes before the payload, as far as `body`, the front of a PUBLISH's body, tells:
/// `Ok(None)` if it is too short to tell.
///
/// # Errors
///
/// [`DecodeError`] if they are more than the whole body has.
pub(crate) fn head_len(
    version: Version,
    header: &Header,
    body: &[u8],
) -> Result<Option<usize>, DecodeError> {
    let Some((topic_len, _)) = body.split_first_chunk::<2>() else { return Ok(None) };
    let mut len = 2 + usize::from(u16::from_be_bytes(*topic_len));
    if header.flags & 0b110 != 0 {
        len += 2;
    }
    let mut known = true;
    if version.is_v5() {
        let properties = match body.get(len..) {
            Some(rest) => varint::decode(rest)?,
            None => None,
        };
        match properties {
            Some((properties_len, varint_len)) => len += varint_len + properties_len as usize,
            None => (len, known) = (len + 1, false),
        }
    }
    if len > header.remaining_length as usize {
        return Err(DecodeError::Truncated);
    }
    Ok(known.then_some(len))
}

/// A packet identifier, not 0.
#[inline(always)]
pub(super) fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (input, id) = be_u16(input)?;
    match PacketId::new(id) {
        Some(id) => Ok((input, id)),
        None => leaf::fail(DecodeError::PacketId),
    }
}

/// How the topic is named on a connection with outgoing topic aliases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By its name.
    #[default]
    Name,
    /// By its name, which the alias stands for from now on.
    Set(u16),
    /// By an alias set earlier.
    Alias(u16),
}

/// A PUBLISH to be written.
#[derive(Clone, Copy)]
pub(crate) struct Head<'p> {
    pub(crate) delivery: Delivery,
    pub(crate) publish: &'p Publish<'p>,
    pub(crate) naming: Naming,
    /// The length of a payload that follows in pieces, instead of the publish's own.
    pub(crate) streamed: Option<usize>,
}

impl<'p> Head<'p> {
    pub(crate) fn new(delivery: Delivery, publish: &'p Publish<'p>) -> Self {
        Self { delivery, publish, naming: Naming::Name, streamed: None }
    }

    #[inline(always)]
    fn topic(&self) -> &'p [u8] {
        match self.naming {
            Naming::Name | Naming::Set(_) => self.publish.topic.as_bytes(),
            Naming::Alias(_) => &[],
        }
    }

    #[inline(always)]
    fn alias(&self) -> Option<u16> {
        match self.naming {
            Naming::Name => None,
            Naming::Set(alias) | Naming::Alias(alias) => Some(alias),
        }
    }
}

/// Checks the properties of a PUBLISH and an alias in addition; gives the number of their bytes
/// with their length.
#[inline(never)]
fn check_properties(
    version: Version,
    publish: &Publish<'_>,
    alias: Option<u16>,
) -> Result<usize, EncodeError> {
    if !version.is_v5() {
        return Err(EncodeError::Version);
    }
    if publish.topic.is_empty() && publish.properties.topic_alias().is_none() {
        return Err(EncodeError::TopicName);
    }
    let mut measure = Measure::new(Context::Publish);
    publish.properties.fields().for_each(|field| measure.add(&field));
    if let Some(alias) = alias {
        measure.add(&Field::new(id::TopicAlias, alias));
    }
    measure.len_with_prefix()
}

/// Writes them. They have been checked and are all that is left to be written.
#[inline(never)]
fn write_properties(publish: &Publish<'_>, alias: Option<u16>, to: &mut Writer<'_>) {
    to.len_of_rest();
    publish.properties.fields().for_each(|field| field.write(to));
    if let Some(alias) = alias {
        Field::new(id::TopicAlias, alias).write(to);
    }
}

impl Head<'_> {
    /// The number of bytes after the fixed header if there are no properties.
    #[inline(always)]
    pub(super) fn bare_length(&self, version: Version) -> Result<usize, EncodeError> {
        let id = self.id_len()?;
        let properties = usize::from(version.is_v5());
        Ok(2 + self.topic().len() + id + properties + self.publish.payload.len())
    }

    /// Writes what stands before the properties.
    pub(super) fn write_topic_and_id(&self, to: &mut Writer<'_>) {
        to.binary(self.topic());
        if let Some(id) = self.delivery.packet_id {
            to.u16(id.get());
        }
    }

    /// The number of bytes of the packet identifier; checks that there is one exactly if there must
    /// be.
    #[inline(always)]
    fn id_len(&self) -> Result<usize, EncodeError> {
        let Delivery { packet_id, dup } = self.delivery;
        match packet_id {
            None if self.publish.qos as u8 | u8::from(dup) == 0 => Ok(0),
            Some(_) if self.publish.qos as u8 != 0 => Ok(2),
            _ => Err(EncodeError::Delivery),
        }
    }

    /// The number of bytes between the topic and the payload; validates.
    #[inline(always)]
    pub(super) fn rest_len(&self, version: Version) -> Result<usize, EncodeError> {
        let Publish { topic, .. } = self.publish;
        let id = self.id_len()?;
        let properties = if !self.is_plain() {
            check_properties(version, self.publish, self.alias())?
        } else if topic.is_empty() {
            return Err(EncodeError::TopicName);
        } else {
            usize::from(version.is_v5())
        };
        Ok(id + properties)
    }
}

impl Encode for Head<'_> {
    #[inline(always)]
    fn first_byte(&self) -> u8 {
        (PacketType::Publish as u8) << 4
            | u8::from(self.delivery.dup) << 3
            | (self.publish.qos as u8) << 1
            | u8::from(self.publish.retain)
    }

    #[inline(always)]
    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        // Only the caller's word for a payload in pieces can be too much for the sum.
        let head = 2 + self.topic().len() + self.rest_len(version)?;
        Ok(match self.streamed {
            None => head + self.publish.payload.len(),
            Some(payload) => payload.saturating_add(head),
        })
    }

    #[inline(always)]
    fn write(&self, version: Version, to: &mut Writer<'_>) {
        self.write_topic_and_id(to);
        if version.is_v5() {
            write_properties(self.publish, self.alias(), to);
        }
    }

    /// Has neither properties nor an alias.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        matches!(self.naming, Naming::Name) && self.publish.properties.is_empty()
    }

    #[inline(always)]
    fn write_plain<'s>(
        &self,
        version: Version,
        remaining_length: usize,
        span: &'s mut [u8],
    ) -> Option<&'s mut [u8]> {
        let topic = self.publish.topic.as_bytes();
        let first = self.first_byte();
        let [high, low] = (topic.len() as u16).to_be_bytes();
        let mut span = match remaining_length {
            short @ 0..0x80 => put(span, [first, short as u8, high, low])?,
            medium @ 0x80..0x4000 => {
                put(span, [first, medium as u8 | 0x80, (medium >> 7) as u8, high, low])?
            }
            _ => {
                let span = put_varint(put(span, [first])?, remaining_length as u32)?;
                put(span, [high, low])?
            }
        };
        let topic_to;
        (topic_to, span) = span.split_at_mut_checked(topic.len())?;
        if let Some(id) = self.delivery.packet_id {
            span = put(span, id.get().to_be_bytes())?;
        }
        if version.is_v5() {
            span = put(span, [0])?;
        }
        topic_to.copy_from_slice(topic);
        Some(span)
    }

    #[inline(always)]
    fn payload(&self) -> Payload<'_> {
        match self.streamed {
            None => self.publish.payload,
            Some(_) => Payload::default(),
        }
    }

    #[inline(always)]
    fn payload_len(&self) -> usize {
        self.streamed.unwrap_or(self.publish.payload.len())
    }
}

#[cfg(all(test, feature = "v3", feature = "v5"))]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_found_as_soon_as_it_can_be() {
        // The packet, how many bytes of its body tell where the payload begins, and where.
        let cases: [(Version, &[u8], usize, usize); 6] = [
            (Version::V3_1_1, b"\x30\x05\0\x01tpp", 2, 3),
            (Version::V3_1_1, b"\x32\x05\0\x01t\0\x01", 2, 5),
            (Version::V5, b"\x30\x06\0\x01t\0pp", 4, 4),
            (Version::V5, b"\x34\x07\0\x01t\0\x01\0p", 6, 6),
            (Version::V5, b"\x30\x07\0\x01t\x02\x01\x01p", 4, 6),
            (Version::V5, b"\x30\x09\0\0\x05\x23\0\x01\x01\0p", 3, 8),
        ];
        for (version, bytes, told, len) in cases {
            let (header, body) = Header::decode(version, bytes).unwrap().unwrap();
            assert!(Publish::read(version, header.flags, body).is_ok(), "{bytes:02x?}");
            for cut in 0..=body.len() {
                let expected = (cut >= told).then_some(len);
                let found = head_len(version, &header, &body[..cut]);
                assert_eq!(found, Ok(expected), "{cut} of {bytes:02x?}");
            }
        }
    }

    #[test]
    fn a_head_longer_than_the_packet_is_an_error_at_once() {
        let cases: [(Version, &[u8], DecodeError); 5] = [
            (Version::V3_1_1, b"\x30\x04\0\x03", DecodeError::Truncated),
            (Version::V3_1_1, b"\x32\x04\0\x01", DecodeError::Truncated),
            (Version::V5, b"\x30\x04\0\x02", DecodeError::Truncated),
            (Version::V5, b"\x30\x06\0\x01t\x03", DecodeError::Truncated),
            (Version::V5, b"\x30\x06\0\x01t\x80\0", DecodeError::VariableByteInteger),
        ];
        for (version, bytes, error) in cases {
            let (header, body) = Header::decode(version, bytes).unwrap().unwrap();
            assert_eq!(head_len(version, &header, body), Err(error), "{bytes:02x?}");
        }
    }
}
