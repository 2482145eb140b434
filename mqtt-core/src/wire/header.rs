//! The fixed header.

use super::{DecodeError, PacketType, Version, varint};

/// The fixed header of a packet, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    #[inline(always)]
    pub fn decode(version: Version, input: &[u8]) -> Result<Option<(Self, &[u8])>, DecodeError> {
        match input {
            [first, remaining @ ..0x80, body @ ..] => {
                let (packet_type, flags) = first_byte(version, *first)?;
                let remaining_length = u32::from(*remaining);
                Ok(Some((Self { packet_type, flags, remaining_length }, body)))
            }
            _ => Self::decode_long(version, input),
        }
    }

    #[inline(never)]
    fn decode_long(version: Version, input: &[u8]) -> Result<Option<(Self, &[u8])>, DecodeError> {
        let Some((first, input)) = input.split_first() else { return Ok(None) };
        let (packet_type, flags) = first_byte(version, *first)?;
        Ok(varint::decode(input)?.map(|(remaining_length, len)| {
            let body = input.get(len..).unwrap_or_default();
            (Self { packet_type, flags, remaining_length }, body)
        }))
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

/// Splits and checks the first byte.
#[inline(always)]
fn first_byte(version: Version, byte: u8) -> Result<(PacketType, u8), DecodeError> {
    let flags = byte & 0x0f;
    let Some(packet_type) = PacketType::from_u8(byte >> 4) else {
        return Err(DecodeError::PacketType);
    };
    if matches!(packet_type, PacketType::Publish) {
        return match flags & 0b1110 {
            0b0110 | 0b1110 => Err(DecodeError::QoS),
            0b1000 => Err(DecodeError::Dup),
            _ => Ok((packet_type, flags)),
        };
    }
    if flags != packet_type.flags() {
        // 3.1 has a DUP flag wherever a packet may be sent again.
        let dup = version.is_v3_1() && packet_type.flags() != 0;
        if !dup || flags & !0b1000 != packet_type.flags() {
            return Err(DecodeError::Flags);
        }
    }
    if matches!(packet_type, PacketType::Auth) && !version.is_v5() {
        return Err(DecodeError::PacketType);
    }
    Ok((packet_type, flags))
}
