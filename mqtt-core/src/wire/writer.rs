//! Writing into a span whose length was computed beforehand.

use super::{text::Text, varint};

/// The part of a span that is still to be written.
///
/// The encoders compute their exact length first; should one be wrong, the excess is dropped and
/// the debug build says so.
pub struct Writer<'a>(&'a mut [u8]);

impl<'a> Writer<'a> {
    pub(crate) fn new(span: &'a mut [u8]) -> Self {
        Self(span)
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.0.split_off_mut(..bytes.len()) {
            Some(to) => to.copy_from_slice(bytes),
            None => debug_assert!(false, "the computed length is too short"),
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
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

    /// Binary data: its length in two bytes, then the bytes. Longer data has been refused.
    #[inline]
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
