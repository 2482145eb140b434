//! The fixed header.

use super::{DecodeError, PacketType, SMALL, Version, varint};

/// The fixed header of a packet, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
// Otherwise an error lies over a byte of the length, which a small machine then takes apart.
#[cfg_attr(target_pointer_width = "32", repr(C))]
pub struct Header {
    /// The kind of packet.
    pub packet_type: PacketType,
    /// The lower four bits of the first byte: a PUBLISH's DUP, QoS and RETAIN, fixed elsewhere.
    pub flags: u8,
    /// The number of bytes after the fixed header, at most 268,435,455.
    pub remaining_length: u32,
}

impl Header {
    /// Decodes the fixed header at the front of `input`, and gives what follows it; `None` if more
    /// bytes are needed.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if there is no such packet, its flags are not as fixed [MQTT-2.1.3-1],
    /// or its length is not a variable byte integer.
    #[cfg_attr(not(target_pointer_width = "32"), inline(always))]
    #[cfg_attr(target_pointer_width = "32", inline(never))]
    pub fn decode(version: Version, input: &[u8]) -> Result<Option<(Self, &[u8])>, DecodeError> {
        let Some((first, after)) = input.split_first() else { return Ok(None) };
        let packet_type = match usual_packet_type(*first) {
            Some(packet_type) if !SMALL => packet_type,
            _ => any_packet_type(version, *first)?,
        };
        let (remaining_length, body) = match after {
            [length @ ..0x80, body @ ..] if !SMALL => (u32::from(*length), body),
            _ => match varint::decode(after)? {
                Some((length, len)) => (length, after.get(len..).unwrap_or_default()),
                None => return Ok(None),
            },
        };
        Ok(Some((Self { packet_type, flags: first & 0x0f, remaining_length }, body)))
    }

    /// The number of bytes of the whole packet.
    pub const fn packet_len(&self) -> usize {
        1 + varint::len(self.remaining_length) + self.remaining_length as usize
    }

    /// Whether a packet of this type can have this length, without waiting for all of it.
    pub(crate) fn check_length(&self, version: Version) -> Result<(), DecodeError> {
        use PacketType::{
            Auth, ConnAck, Connect, Disconnect, PingReq, PingResp, PubAck, PubComp, PubRec, PubRel,
            Publish, SubAck, Subscribe, UnsubAck, Unsubscribe,
        };
        const ANY: u32 = varint::MAX;
        let v5 = version.is_v5();
        let (least, most) = match self.packet_type {
            PingReq | PingResp => (0, 0),
            Disconnect | Auth => (0, if v5 { ANY } else { 0 }),
            PubAck | PubRec | PubRel | PubComp => (2, if v5 { ANY } else { 2 }),
            ConnAck if v5 => (3, ANY),
            UnsubAck if v5 => (4, ANY),
            ConnAck | UnsubAck => (2, 2),
            SubAck => (3 + u32::from(v5), ANY),
            Publish if self.flags & 0b0110 == 0 => (3 + u32::from(v5), ANY),
            Publish => (5 + u32::from(v5), ANY),
            Subscribe => (6 + u32::from(v5), ANY),
            Unsubscribe => (5 + u32::from(v5), ANY),
            Connect => (12, ANY),
        };
        match self.remaining_length {
            length if length < least => Err(DecodeError::Truncated),
            length if length > most => Err(DecodeError::TrailingBytes),
            _ => Ok(()),
        }
    }
}

/// The type in a first byte, if the flags beside it are right whatever the version is.
#[inline(always)]
pub(super) fn usual_packet_type(first: u8) -> Option<PacketType> {
    /// A bit for each value that the flags may have, by packet type.
    const RIGHT: [u16; 16] =
        [0, 1, 1, 0b0011_1100_0011_1111, 1, 1, 0b100, 1, 0b100, 1, 0b100, 1, 1, 1, 1, 0];
    if RIGHT[usize::from(first >> 4)] >> (first & 0x0f) & 1 == 0 {
        return None;
    }
    PacketType::from_u8(first >> 4)
}

/// The type in any first byte, or what is wrong with it.
#[inline(never)]
fn any_packet_type(version: Version, first: u8) -> Result<PacketType, DecodeError> {
    let flags = first & 0x0f;
    match PacketType::from_u8(first >> 4) {
        None => Err(DecodeError::PacketType),
        Some(PacketType::Publish) if flags & 0b0110 == 0b0110 => Err(DecodeError::QoS),
        Some(PacketType::Publish) if flags & 0b1110 == 0b1000 => Err(DecodeError::Dup),
        Some(packet_type @ PacketType::Publish) => Ok(packet_type),
        // 3.1 has a DUP flag wherever a packet may be sent again.
        Some(packet_type)
            if flags != packet_type.flags()
                && !(version.is_v3_1() && flags == 0b1010 && packet_type.flags() == 0b0010) =>
        {
            Err(DecodeError::Flags)
        }
        Some(PacketType::Auth) if !version.is_v5() => Err(DecodeError::PacketType),
        Some(packet_type) => Ok(packet_type),
    }
}
