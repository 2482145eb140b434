//! What can be seen of packets before they are decoded.

/// How long the packet at the front of `input` is, if that can be seen.
pub(crate) fn packet_len(input: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (index, byte) in input.get(1..)?.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(index + 2 + remaining);
        }
    }
    None
}

/// Whether a whole packet is there, which a machine has left for later.
pub(crate) fn is_complete(input: &[u8]) -> bool {
    packet_len(input).is_some_and(|len| len <= input.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_as_long_as_its_header_says() {
        assert_eq!(packet_len(&[0x30]), None);
        assert_eq!(packet_len(&[0x30, 0x80]), None);
        assert_eq!(packet_len(&[0x30, 0x80, 0x01]), Some(131));
        assert_eq!(packet_len(&[0x30, 0xff, 0xff, 0xff, 0x7f]), Some(268_435_460));
        assert_eq!(packet_len(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x7f]), None);
        assert!(is_complete(&[0xd0, 0x00]) && !is_complete(&[0x30, 0x01]));
    }
}
