//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape.

use super::{
    DecodeError, Decoded, Encode, EncodeError, Packet, PacketId, PacketType, Properties, SMALL,
    Version, Writer,
    leaf::{self, Parsed, be_u8},
    properties::{self, Context},
    publish::packet_id,
    writer::put,
};
use crate::reason::ReasonCode;

/// What an acknowledgement says besides its packet identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ack<'a> {
    /// The outcome; always a success before 5.0.
    pub reason: ReasonCode,
    /// 5.0 only: reason string and user properties.
    pub properties: Properties<'a>,
}

impl From<ReasonCode> for Ack<'_> {
    fn from(reason: ReasonCode) -> Self {
        Self { reason, properties: Properties::EMPTY }
    }
}

#[inline(never)]
pub(super) fn decode(
    version: Version,
    packet_type: PacketType,
    body: &[u8],
    len: usize,
) -> Result<Decoded<'_>, DecodeError> {
    match bare(body) {
        Some(id) => Ok(decoded(packet_type, id, Ack::default(), len)),
        None => decode_long(version, packet_type, body, len),
    }
}

#[inline(never)]
fn decode_long(
    version: Version,
    packet_type: PacketType,
    body: &[u8],
    len: usize,
) -> Result<Decoded<'_>, DecodeError> {
    let (id, ack) = Ack::read_long(version, packet_type, body)?;
    Ok(decoded(packet_type, id, ack, len))
}

#[inline(always)]
fn decoded(packet_type: PacketType, id: PacketId, ack: Ack<'_>, len: usize) -> Decoded<'_> {
    let packet = match packet_type {
        PacketType::PubAck => Packet::PubAck(id, ack),
        PacketType::PubRec => Packet::PubRec(id, ack),
        PacketType::PubRel => Packet::PubRel(id, ack),
        _ => Packet::PubComp(id, ack),
    };
    Decoded::Packet { packet, len }
}

/// The packet identifier, if it is all there is, as in nearly every acknowledgement.
#[inline(always)]
fn bare(body: &[u8]) -> Option<PacketId> {
    match *body {
        [high, low] => PacketId::new(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

impl<'a> Ack<'a> {
    /// Reads the body of an acknowledgement of this type.
    #[inline(always)]
    pub(crate) fn read(
        version: Version,
        packet: PacketType,
        body: &'a [u8],
    ) -> Result<(PacketId, Self), DecodeError> {
        match bare(body) {
            Some(id) if !SMALL => Ok((id, Self::default())),
            _ => Self::read_long(version, packet, body),
        }
    }

    #[inline(never)]
    fn read_long(
        version: Version,
        packet: PacketType,
        body: &'a [u8],
    ) -> Result<(PacketId, Self), DecodeError> {
        leaf::complete(packet_id(body).and_then(|(input, id)| {
            let (input, (reason, properties)) = if version.is_v5() {
                reason_and_properties(input, packet)?
            } else {
                (input, (ReasonCode::Success, &[][..]))
            };
            let properties = Properties::encoded(properties);
            Ok((input, (id, Self { reason, properties })))
        }))
    }
}

/// A reason code and properties, each of which may be left out from the end: the rest of
/// acknowledgements, DISCONNECT and AUTH.
pub(super) fn reason_and_properties(
    input: &[u8],
    packet: PacketType,
) -> Parsed<'_, (ReasonCode, &[u8])> {
    if input.is_empty() {
        return Ok((input, (ReasonCode::Success, &[])));
    }
    let (input, reason) = reason_code(input, packet)?;
    let (input, properties) = if input.is_empty() {
        (input, &[][..])
    } else {
        properties::read(input, Context::of(packet))?
    };
    Ok((input, (reason, properties)))
}

/// A reason code that is legal in this packet.
pub(super) fn reason_code(input: &[u8], packet: PacketType) -> Parsed<'_, ReasonCode> {
    let (input, code) = be_u8(input)?;
    match ReasonCode::from_u8(code) {
        Some(reason) if reason.is_legal_in(packet) => Ok((input, reason)),
        _ => leaf::fail(DecodeError::ReasonCode),
    }
}

/// The number of bytes that [`write_reason_and_properties`] takes.
pub(super) fn reason_and_properties_len(
    version: Version,
    packet: PacketType,
    reason: ReasonCode,
    properties: Properties<'_>,
) -> Result<usize, EncodeError> {
    if reason == ReasonCode::Success && properties.is_empty() {
        return Ok(0);
    }
    if !version.is_v5() {
        return Err(EncodeError::Version);
    }
    if !reason.is_legal_in(packet) {
        return Err(EncodeError::ReasonCode);
    }
    if properties.is_empty() {
        return Ok(1);
    }
    Ok(1 + properties::encoded_len(properties, Context::of(packet))?)
}

/// Leaves out what may be left out.
pub(super) fn write_reason_and_properties(
    reason: ReasonCode,
    properties: Properties<'_>,
    to: &mut Writer<'_>,
) {
    let has_properties = !properties.is_empty();
    if reason != ReasonCode::Success || has_properties {
        to.u8(reason.as_u8());
    }
    if has_properties {
        properties::write(properties, to);
    }
}

impl Encode for (PacketType, PacketId, &Ack<'_>) {
    #[inline(always)]
    fn first_byte(&self) -> u8 {
        self.0.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        let (packet, _, ack) = self;
        Ok(2 + reason_and_properties_len(version, *packet, ack.reason, ack.properties)?)
    }

    fn write(&self, _: Version, to: &mut Writer<'_>) {
        to.u16(self.1.get());
        write_reason_and_properties(self.2.reason, self.2.properties, to);
    }

    /// A success that says nothing more.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.2.reason == ReasonCode::Success && self.2.properties.is_empty()
    }

    #[inline(always)]
    fn write_plain<'s>(&self, _: Version, _: usize, span: &'s mut [u8]) -> Option<&'s mut [u8]> {
        let [high, low] = self.1.get().to_be_bytes();
        put(span, [self.first_byte(), 2, high, low])
    }
}
