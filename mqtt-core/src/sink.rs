//! Where outgoing bytes go.

#[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
use bytes::Bytes;

use crate::slice;

/// The least a [`Sink`] must be able to hold so that a machine can always send its own packets
/// (acknowledgements, PINGREQ, DISCONNECT with a reason code), in bytes.
///
/// Commands leave this much room, so that user data never crowds those packets out.
pub const MIN_SINK: usize = 16;

/// The payload of an application message: bytes, and with the feature `alloc` perhaps their owner.
///
/// A sink or a store that can share the owner clones it; all others copy the bytes.
///
/// ```
/// use mqtt_core::Payload;
///
/// let payload = Payload::from("21.5");
/// assert_eq!(payload.as_bytes(), b"21.5");
/// ```
#[derive(Clone, Copy, Default)]
pub struct Payload<'a> {
    bytes: &'a [u8],
    #[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
    owner: Option<&'a Bytes>,
}

impl<'a> Payload<'a> {
    /// A payload that can only be copied.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            #[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
            owner: None,
        }
    }

    /// A payload that sinks and stores may keep by reference count.
    #[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
    pub fn shared(owner: &'a Bytes) -> Self {
        Self { bytes: owner, owner: Some(owner) }
    }

    /// The payload's bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The owner of exactly these bytes, if they can be shared.
    #[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
    pub const fn owner(&self) -> Option<&'a Bytes> {
        self.owner
    }

    /// The number of bytes.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl core::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "b\"{}\"", self.bytes.escape_ascii())
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Payload<'_> {}

#[cfg(feature = "defmt")]
impl defmt::Format for Payload<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8]}", self.bytes);
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::new(bytes)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// Takes the bytes a machine writes, whole packets at a time.
///
/// A machine asks [`room`](Self::room) first and then writes one whole packet: one
/// [`span`](Self::span) for everything up to the payload, then the [`payload`](Self::payload).
/// A sink never sees half a packet followed by nothing (streamed payloads excepted: there the
/// caller announced the rest).
///
/// Ready-made: [`Buffer`] (fixed capacity), and `&mut [u8]`, which shrinks as it is written to.
pub trait Sink {
    /// How many bytes can be written now.
    fn room(&self) -> usize;

    /// How many bytes could be written if the sink were empty: what distinguishes "wait" from
    /// "never". At least [`MIN_SINK`].
    fn capacity(&self) -> usize;

    /// Appends `len` contiguous bytes and gives them to the caller to fill. `None` if that is more
    /// than the [`room`](Self::room); nothing is appended then.
    fn span(&mut self, len: usize) -> Option<&mut [u8]>;

    /// Appends a payload that fits the [`room`](Self::room): by copy, unless the sink knows better.
    fn payload(&mut self, payload: Payload<'_>) {
        if let Some(span) = self.span(payload.len()) {
            slice::copy(span, payload.as_bytes());
        }
    }
}

impl<T: Sink + ?Sized> Sink for &mut T {
    fn room(&self) -> usize {
        (**self).room()
    }

    fn capacity(&self) -> usize {
        (**self).capacity()
    }

    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        (**self).span(len)
    }

    fn payload(&mut self, payload: Payload<'_>) {
        (**self).payload(payload);
    }
}

/// Writes to the front and leaves the rest, as `std::io::Write` does for it.
///
/// It does not know how long it has been, so what does not fit is never said to be too large.
///
/// ```
/// use mqtt_core::{Version, wire::Packet};
///
/// let mut bytes = [0; 8];
/// let mut rest = &mut bytes[..];
/// Packet::PingReq.encode(Version::V5, &mut rest)?;
/// assert_eq!(rest.len(), 6);
/// assert_eq!(bytes[..2], [0xc0, 0x00]);
/// # Ok::<(), mqtt_core::EncodeError>(())
/// ```
impl Sink for &mut [u8] {
    fn room(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }

    #[inline]
    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        self.split_off_mut(..len)
    }
}

/// A sink of `N` bytes, without allocation: filled by a machine, drained by the caller.
///
/// ```
/// use mqtt_core::{Buffer, Version, wire::Packet};
///
/// let mut out = Buffer::<32>::new();
/// Packet::PingReq.encode(Version::V3_1_1, &mut out)?;
/// assert_eq!(out.as_bytes(), [0xc0, 0x00]);
/// out.consume(2); // what the transport took
/// assert!(out.is_empty());
/// # Ok::<(), mqtt_core::EncodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Buffer<const N: usize> {
    bytes: [u8; N],
    start: usize,
    end: usize,
}

impl<const N: usize> Buffer<N> {
    /// An empty buffer.
    pub const fn new() -> Self {
        const { assert!(N >= MIN_SINK, "a sink holds at least MIN_SINK bytes") };
        Self { bytes: [0; N], start: 0, end: 0 }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Drops the first `count` bytes, all of them if there are fewer.
    pub fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
        if self.start == self.end {
            self.clear();
        }
    }

    /// The bytes not yet consumed.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether everything has been consumed.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The number of bytes not yet consumed.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }
}

impl<const N: usize> Default for Buffer<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Sink for Buffer<N> {
    fn room(&self) -> usize {
        N - self.len()
    }

    fn capacity(&self) -> usize {
        N
    }

    #[inline]
    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > N - self.end {
            if len > self.room() {
                return None;
            }
            slice::shift(&mut self.bytes, self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let start = self.end;
        self.end += len;
        self.bytes.get_mut(start..self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_moves_its_bytes_only_when_it_must() {
        let mut out = Buffer::<16>::new();
        out.payload(Payload::from(b"0123456789"));
        out.consume(8);
        assert_eq!((out.len(), out.room()), (2, 14));
        assert!(out.span(15).is_none());
        out.payload(Payload::from(b"abcdefghijklmn"));
        assert_eq!(out.as_bytes(), b"89abcdefghijklmn");
        assert_eq!(out.room(), 0);
        assert!(out.span(1).is_none());
        out.consume(usize::MAX);
        assert!(out.is_empty());
    }

    #[test]
    fn a_slice_shrinks() {
        let mut bytes = [0; 4];
        let mut rest = &mut bytes[..];
        assert!(rest.span(5).is_none());
        rest.payload(Payload::from(b"abc"));
        assert_eq!(rest.room(), 1);
        assert_eq!(bytes, *b"abc\0");
    }
}
