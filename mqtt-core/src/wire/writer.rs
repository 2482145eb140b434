//! Writing into a span whose length was computed beforehand.

use super::{SMALL, text::Text, varint};
use crate::slice;

/// The part of a span that is still to be written.
///
/// The encoders compute their exact length first; should one be wrong, the excess is dropped and
/// the debug build says so.
pub struct Writer<'a>(&'a mut [u8]);

impl<'a> Writer<'a> {
    pub(crate) fn new(span: &'a mut [u8]) -> Self {
        Self(span)
    }

    /// Writes the fixed header of a packet into `span`.
    pub(crate) fn begin(first_byte: u8, remaining_length: usize, span: &'a mut [u8]) -> Self {
        let mut to = Self(span);
        if let short @ 0..0x80 = remaining_length
            && !SMALL
        {
            to.put(&[first_byte, short as u8]);
        } else {
            to.u8(first_byte);
            to.varint(remaining_length as u32);
        }
        to
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.0.split_off_mut(..bytes.len()) {
            Some(to) => slice::copy(to, bytes),
            None => debug_assert!(false, "the computed length is too short"),
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn varint(&mut self, value: u32) {
        let (bytes, len) = varint::encode(value);
        self.put(bytes.get(..len).unwrap_or_default());
    }

    /// The number of bytes after it up to the end of the span.
    pub(super) fn len_of_rest(&mut self) {
        let rest = self.0.len();
        for width in 1..=4 {
            let len = rest.saturating_sub(width) as u32;
            if varint::len(len) == width {
                return self.varint(len);
            }
        }
    }

    /// Binary data: its length in two bytes, then the bytes. Longer data has been refused.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        self.u16(bytes.len() as u16);
        self.put(bytes);
    }

    pub(super) fn string(&mut self, text: Text<'_>) {
        self.binary(text.as_bytes());
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes `bytes` to the front of `span`, and gives what is left of it.
#[inline(always)]
pub(super) fn put<const N: usize>(span: &mut [u8], bytes: [u8; N]) -> Option<&mut [u8]> {
    let (to, left) = span.split_first_chunk_mut()?;
    *to = bytes;
    Some(left)
}

/// The same for any number of bytes.
#[inline(always)]
pub(super) fn put_slice<'a>(span: &'a mut [u8], bytes: &[u8]) -> Option<&'a mut [u8]> {
    let (to, left) = span.split_at_mut_checked(bytes.len())?;
    slice::copy(to, bytes);
    Some(left)
}

/// The same for a variable byte integer.
#[inline(never)]
pub(super) fn put_varint(span: &mut [u8], value: u32) -> Option<&mut [u8]> {
    let (bytes, len) = varint::encode(value);
    put_slice(span, bytes.get(..len)?)
}
