//! UTF-8 encoded strings, validated once and then carried as bytes.

use core::fmt;

use super::{DecodeError, SMALL};
use crate::topic::{self, Filter, TopicError};

/// A string that may stand in a packet: well-formed UTF-8 [MQTT-1.5.4-1], no U+0000
/// [MQTT-1.5.4-2], at most 65,535 bytes. U+FEFF is a character like any other [MQTT-1.5.4-3].
///
/// ```
/// use mqtt_core::Text;
///
/// let text = Text::new("text/plain")?;
/// assert_eq!(text.as_str(), "text/plain");
/// assert!(!text.has_control_characters());
/// assert!(Text::new("nul\0").is_err());
/// # Ok::<(), mqtt_core::TextError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(&'a [u8]);

/// Why a string is not a [`Text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TextError {
    /// It has more than 65,535 bytes.
    TooLong,
    /// It has a U+0000 [MQTT-1.5.4-2].
    Null,
}

impl<'a> Text<'a> {
    /// The text with these characters.
    ///
    /// # Errors
    ///
    /// [`TextError`] if no packet can carry it.
    pub const fn new(text: &'a str) -> Result<Self, TextError> {
        let bytes = text.as_bytes();
        if bytes.len() > u16::MAX as usize {
            return Err(TextError::TooLong);
        }
        let mut index = 0;
        while index < bytes.len() {
            if bytes[index] == 0 {
                return Err(TextError::Null);
            }
            index += 1;
        }
        Ok(Self(bytes))
    }

    /// Wraps what [`check`] has accepted.
    pub(super) const fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The UTF-8 bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The characters. Costs a pass over the bytes.
    pub fn as_str(&self) -> &'a str {
        core::str::from_utf8(self.0).unwrap_or_default()
    }

    /// The number of bytes.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no characters.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there are characters that a receiver may refuse: U+0001 to U+001F and U+007F to
    /// U+009F.
    pub fn has_control_characters(&self) -> bool {
        topic::has_control_characters(self.0)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Text<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.as_str());
    }
}

impl<'a> TryFrom<&'a str> for Text<'a> {
    type Error = TextError;

    fn try_from(text: &'a str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "longer than 65,535 bytes",
            Self::Null => "contains U+0000",
        })
    }
}

impl core::error::Error for TextError {}

/// Whether `bytes` read from a packet are a [`Text`].
#[inline(never)]
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    if !SMALL && !is_remarkable(bytes, false) {
        return Ok(());
    }
    check_slowly(bytes, false)
}

/// Whether `bytes` read from a packet are a topic name: never empty [MQTT-4.7.3-1], no wildcards
/// [MQTT-3.3.2-2].
#[inline(always)]
pub(super) fn check_topic(bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::TopicName);
    }
    if !SMALL && !is_remarkable(bytes, true) {
        return Ok(());
    }
    check_slowly(bytes, true)
}

/// The same for topic names that are rarer than that of a PUBLISH.
#[inline(never)]
pub(super) fn check_rare_topic(bytes: &[u8]) -> Result<(), DecodeError> {
    check_topic(bytes)
}

/// The topic filter in `bytes` read from a packet.
pub(super) fn filter(bytes: &[u8]) -> Result<Filter<'_>, DecodeError> {
    check(bytes)?;
    Filter::check(bytes).map_err(|_: TopicError| DecodeError::TopicFilter)?;
    Ok(Filter::from_validated(bytes))
}

#[cold]
#[inline(never)]
fn check_slowly(bytes: &[u8], is_topic: bool) -> Result<(), DecodeError> {
    if !(if SMALL { is_utf8(bytes) } else { core::str::from_utf8(bytes).is_ok() }) {
        return Err(DecodeError::Utf8);
    }
    for byte in bytes {
        match byte {
            0 => return Err(DecodeError::Null),
            b'+' | b'#' if is_topic => return Err(DecodeError::TopicName),
            _ => {}
        }
    }
    Ok(())
}

/// As `core::str::from_utf8`, which is long: for small machines.
fn is_utf8(bytes: &[u8]) -> bool {
    let (mut character, mut least, mut missing) = (0, 0, 0);
    for byte in bytes {
        let bits = u32::from(*byte);
        if missing > 0 {
            if byte & 0xc0 != 0x80 {
                return false;
            }
            character = character << 6 | bits & 0x3f;
            missing -= 1;
        } else {
            (character, least, missing) = match byte {
                0..0x80 => (bits, 0, 0),
                0xc0..0xe0 => (bits & 0x1f, 0x80, 1),
                0xe0..0xf0 => (bits & 0x0f, 0x800, 2),
                0xf0..0xf8 => (bits & 0x07, 0x1_0000, 3),
                _ => return false,
            };
        }
        if missing == 0 && (character < least || char::from_u32(character).is_none()) {
            return false;
        }
    }
    missing == 0
}

/// Whether anything but plain ASCII without U+0000 occurs, or with `wildcards` a `+` or `#`: one
/// pass, in blocks that may overlap, for the text that nearly every packet carries.
#[inline(always)]
fn is_remarkable(bytes: &[u8], wildcards: bool) -> bool {
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return is_remarkable_short(bytes, wildcards);
    };
    let mut seen = [0; 16];
    mark_remarkable(&mut seen, first, wildcards);
    mark_remarkable(&mut seen, last, wildcards);
    if bytes.len() > 32 {
        for block in bytes.as_chunks().0 {
            mark_remarkable(&mut seen, block, wildcards);
        }
    }
    seen.iter().fold(false, |seen, byte| seen | (byte & 0x80 != 0))
}

/// Sets the high bit where a byte is remarkable. `+` and `#` differ in one bit.
#[inline(always)]
fn mark_remarkable(seen: &mut [u8; 16], block: &[u8; 16], wildcards: bool) {
    for (seen, &byte) in seen.iter_mut().zip(block) {
        let wildcard = wildcards & (byte | 8 == b'+');
        *seen |= byte | if (byte == 0) | wildcard { 0xff } else { 0 };
    }
}

/// The same for up to 15 bytes, in registers.
#[inline(always)]
fn is_remarkable_short(bytes: &[u8], wildcards: bool) -> bool {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return is_remarkable_word(u64::from_le_bytes(*first), wildcards)
            | is_remarkable_word(u64::from_le_bytes(*last), wildcards);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let [first, last] = [first, last].map(|bytes| u64::from(u32::from_le_bytes(*bytes)));
        return is_remarkable_word(first << 32 | last, wildcards);
    }
    bytes.iter().any(|&byte| byte == 0 || byte >= 0x80 || wildcards && byte | 8 == b'+')
}

/// The same for eight bytes at once: a byte less 1 borrows its high bit only if it was 0.
#[inline(always)]
const fn is_remarkable_word(word: u64, wildcards: bool) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let mut seen = word | word.wrapping_sub(ONES);
    if wildcards {
        let wildcard = (word | ONES << 3) ^ (ONES * b'+' as u64);
        seen |= wildcard.wrapping_sub(ONES) & !wildcard;
    }
    seen & HIGH != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fast pass against the definition, for every byte at every place of every length it
    /// treats in its own way.
    #[test]
    fn remarkable_bytes_are_found_wherever_they_are() {
        for len in 0..50 {
            let mut bytes = [b'a'; 50];
            let bytes = &mut bytes[..len];
            assert!(!is_remarkable(bytes, true));
            for place in 0..len {
                for byte in 0..=u8::MAX {
                    bytes[place] = byte;
                    let odd = byte == 0 || byte >= 0x80;
                    assert_eq!(is_remarkable(bytes, false), odd, "{byte} at {place} of {len}");
                    let wildcard = byte == b'+' || byte == b'#';
                    assert_eq!(is_remarkable(bytes, true), odd || wildcard);
                }
                bytes[place] = b'a';
            }
        }
    }

    #[test]
    fn the_short_way_finds_what_core_finds() {
        let edges = [0, b'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf];
        let more =
            [0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xff];
        let edges: [u8; 27] = core::array::from_fn(|i| *edges.iter().chain(&more).nth(i).unwrap());
        let mut bytes = [0; 4];
        for number in 0..edges.len().pow(4) {
            let mut rest = number;
            for byte in &mut bytes {
                *byte = edges[rest % edges.len()];
                rest /= edges.len();
            }
            for len in 0..=4 {
                let bytes = &bytes[..len];
                assert_eq!(is_utf8(bytes), core::str::from_utf8(bytes).is_ok(), "{bytes:02x?}");
            }
        }
    }

    fn checked(bytes: &[u8]) -> Result<Text<'_>, DecodeError> {
        check(bytes).map(|()| Text::from_validated(bytes))
    }

    /// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3]
    #[test]
    fn text_is_well_formed_utf8_without_nul() {
        assert_eq!(checked(b"A\xf0\xaa\x9b\x94").map(|text| text.len()), Ok(5));
        assert_eq!(checked(b"\xef\xbb\xbf").map(|text| text.as_str()), Ok("\u{feff}"));
        assert_eq!(checked(b"\xed\xa0\x80"), Err(DecodeError::Utf8), "a surrogate");
        assert_eq!(checked(b"\xc0\x80"), Err(DecodeError::Utf8), "an overlong U+0000");
        assert_eq!(checked(b"\xf4\x90\x80\x80"), Err(DecodeError::Utf8), "above U+10FFFF");
        assert_eq!(checked(b"a\0"), Err(DecodeError::Null));
    }

    #[test]
    fn control_characters_are_text_that_can_be_told() {
        for (text, has) in [("plain", false), ("\u{1}", true), ("\u{7f}", true), ("\u{9f}", true)] {
            let text = checked(text.as_bytes()).unwrap();
            assert_eq!(text.has_control_characters(), has, "{text:?}");
        }
        assert!(!checked("\u{a0}é".as_bytes()).unwrap().has_control_characters());
    }
}
