//! Variable byte integers: seven bits a byte, least significant first.

use super::DecodeError;

/// The largest value four bytes can hold.
pub(crate) const MAX: u32 = 268_435_455;

/// The value at the front of `input` and its length in bytes; `None` if more bytes are needed.
///
/// Only the shortest form is accepted [MQTT-1.5.5-1].
#[inline(never)]
pub(crate) fn decode(input: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in input.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let minimal = byte != 0 || index == 0;
            return if minimal {
                Ok(Some((value, index + 1)))
            } else {
                Err(DecodeError::VariableByteInteger)
            };
        }
    }
    if input.len() < 4 { Ok(None) } else { Err(DecodeError::VariableByteInteger) }
}

/// The number of bytes `value` takes; 5 for one that is above [`MAX`].
#[inline]
pub(crate) const fn len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..=MAX => 4,
        _ => 5,
    }
}

/// The bytes of `value` (at most [`MAX`]) and how many of them count.
pub(crate) const fn encode(mut value: u32) -> ([u8; 4], usize) {
    let len = len(value);
    let mut bytes = [0; 4];
    let mut index = 0;
    while index < 4 {
        let more = if value > 0x7f { 0x80 } else { 0 };
        bytes[index] = (value & 0x7f) as u8 | more;
        value >>= 7;
        index += 1;
    }
    (bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_at_the_edges_of_each_length() {
        let edges = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, MAX];
        for value in edges {
            let (bytes, len) = encode(value);
            assert_eq!(decode(&bytes[..len]), Ok(Some((value, len))));
            assert_eq!(decode(&bytes[..len - 1]), Ok(None));
            assert_eq!(super::len(value), len);
        }
    }

    /// [MQTT-1.5.5-1]
    #[test]
    fn longer_forms_are_malformed() {
        let malformed: [&[u8]; 6] = [
            &[0x80, 0x00],
            &[0xff, 0x00],
            &[0x80, 0x80, 0x00],
            &[0x80, 0x80, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff],
            &[0x80, 0x80, 0x80, 0x80, 0x01],
        ];
        for bytes in malformed {
            assert_eq!(decode(bytes), Err(DecodeError::VariableByteInteger), "{bytes:02x?}");
        }
    }
}
