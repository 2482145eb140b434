//! Packets on their way to the transport.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;
use mqtt_core::{MIN_SINK, Payload, Sink};

/// Bytes up to which packets are accepted by default.
const LIMIT: usize = 64 * 1024;

/// What may be written beyond: for the machine's own packets, and small ones besides.
const RESERVE: usize = 256 * MIN_SINK;

/// The shortest payload, in bytes, that is shared instead of copied, by default.
const MIN_SHARED: usize = 4 * 1024;

/// What a drained buffer keeps of its capacity, in bytes: at least, and at most.
const MIN_KEPT: usize = 4 * 1024;
const MAX_KEPT: usize = 2 * LIMIT;

/// How many pieces are given to one write.
pub(crate) const SLICES: usize = 32;

/// How much may have gone of a buffer before the rest is moved to its front, in bytes.
const MAX_GONE: usize = 32 * 1024;

/// Written packets: one buffer, and large payloads by reference count in between.
#[derive(Debug)]
pub(crate) struct Out {
    bytes: Vec<u8>,
    /// How long `bytes` has been of late.
    usual: usize,
    /// How much of `bytes` has gone.
    gone: usize,
    /// Each with the length that `bytes` had before it.
    shared: VecDeque<(usize, Bytes)>,
    /// The length of all that is left.
    len: usize,
    /// How much was written since the limit was passed.
    beyond: usize,
    /// The shortest payload, in bytes, that is shared instead of copied.
    min_shared: usize,
    /// How many packets were written since it was asked last.
    packets: u32,
    /// Bytes up to which packets are accepted; the one that passes it is accepted whole, however
    /// long.
    limit: usize,
}

impl Default for Out {
    fn default() -> Self {
        let shared = VecDeque::new();
        Self {
            bytes: Vec::new(),
            usual: 0,
            gone: 0,
            shared,
            len: 0,
            beyond: 0,
            packets: 0,
            min_shared: MIN_SHARED,
            limit: LIMIT,
        }
    }
}

impl Out {
    /// Shares payloads from so many bytes on.
    pub(crate) fn sharing_from(min_shared: usize) -> Self {
        Self { min_shared, ..Self::default() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many packets were written since it was asked last: each begins with a span.
    pub(crate) const fn take_packets(&mut self) -> u32 {
        std::mem::replace(&mut self.packets, 0)
    }

    pub(crate) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How much memory it keeps for what is written next, in bytes.
    pub(crate) const fn kept(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is worth writing now, whatever else could be done first.
    pub(crate) const fn is_full(&self) -> bool {
        self.len >= self.limit
    }

    /// Ready for another to write to: keeps memory for bytes alone.
    pub(crate) fn recycle(&mut self) {
        self.shared = VecDeque::new();
        self.packets = 0;
    }

    /// Forgets everything, and gives back memory that has not been needed a few times in a row: not what
    /// is needed all the time.
    pub(crate) fn clear(&mut self) {
        self.usual = self.bytes.len().max(self.usual / 4);
        self.bytes.clear();
        self.bytes.shrink_to((4 * self.usual).clamp(MIN_KEPT, MAX_KEPT));
        self.shared.clear();
        (self.gone, self.len, self.beyond) = (0, 0, 0);
    }

    /// The front, up to `most` bytes, in pieces. How many.
    pub(crate) fn slices<'o>(
        &'o self,
        mut most: usize,
        pieces: &mut [IoSlice<'o>; SLICES],
    ) -> usize {
        let mut count = 0;
        let mut put = |piece: &'o [u8]| {
            let piece = &piece[..piece.len().min(most)];
            most -= piece.len();
            if let Some(place) = pieces.get_mut(count).filter(|_| !piece.is_empty()) {
                *place = IoSlice::new(piece);
                count += 1;
            }
        };
        let mut from = self.gone;
        for (at, payload) in self.shared.iter().take(SLICES) {
            put(&self.bytes[from..*at]);
            put(payload);
            from = *at;
        }
        if self.shared.len() < SLICES {
            put(&self.bytes[from..]);
        }
        count
    }

    /// The first `count` bytes have been written.
    pub(crate) fn consume(&mut self, mut count: usize) {
        debug_assert!(count <= self.len, "more than there was");
        self.len = self.len.saturating_sub(count);
        if self.len == 0 {
            return self.clear();
        }
        if !self.is_full() {
            self.beyond = 0;
        }
        while count > 0 {
            let until = self.shared.front().map_or(self.bytes.len(), |(at, _)| *at);
            let plain = count.min(until - self.gone);
            self.gone += plain;
            count -= plain;
            let Some((_, payload)) = self.shared.front_mut() else { break };
            if self.gone == until {
                let shared = count.min(payload.len());
                let _ = payload.split_to(shared);
                count -= shared;
                if payload.is_empty() {
                    self.shared.pop_front();
                }
            }
        }
        self.compact();
    }

    /// Moves the rest to the front, if that is the smaller part: written to for ever and never quite
    /// empty, the buffer would grow for ever.
    fn compact(&mut self) {
        let gone = self.gone;
        if gone >= MAX_GONE && gone >= self.bytes.len() / 2 {
            self.bytes.drain(..gone);
            self.shared.iter_mut().for_each(|(at, _)| *at -= gone);
            self.gone = 0;
        }
    }

    fn wrote(&mut self, count: usize) {
        if self.is_full() {
            self.beyond += count;
        }
        self.len += count;
    }
}

impl Sink for Out {
    fn room(&self) -> usize {
        if self.is_full() { RESERVE.saturating_sub(self.beyond) } else { usize::MAX }
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }

    #[inline]
    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.room() {
            return None;
        }
        self.wrote(len);
        self.packets = self.packets.wrapping_add(1);
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        self.bytes.get_mut(start..)
    }

    #[inline]
    fn payload(&mut self, payload: Payload<'_>) {
        self.wrote(payload.len());
        match payload.owner() {
            Some(owner) if owner.len() >= self.min_shared => {
                self.shared.push_back((self.bytes.len(), owner.clone()));
            }
            _ => self.bytes.extend_from_slice(payload.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left, and in how many pieces it is given.
    fn left(out: &Out) -> (Vec<u8>, usize) {
        let mut pieces = [IoSlice::new(&[]); SLICES];
        let count = out.slices(usize::MAX, &mut pieces);
        (pieces[..count].iter().flat_map(|piece| piece.iter().copied()).collect(), count)
    }

    #[test]
    fn every_split_of_a_write_leaves_the_rest() {
        let large = Bytes::from(vec![b'x'; MIN_SHARED]);
        let mut written = Out::default();
        written.span(2).unwrap().copy_from_slice(b"ab");
        written.payload(Payload::shared(&large));
        written.payload(Payload::shared(&large));
        written.payload(Payload::from(b"cd"));
        let (all, count) = left(&written);
        assert_eq!((all.len(), count), (written.len, 4));
        for first in 0..=all.len() {
            let mut out = Out::default();
            out.span(2).unwrap().copy_from_slice(b"ab");
            out.payload(Payload::shared(&large));
            out.payload(Payload::shared(&large));
            out.payload(Payload::from(b"cd"));
            out.consume(first);
            assert_eq!(left(&out).0, all[first..], "after {first}");
            assert_eq!(out.len, all.len() - first);
            let half = out.len / 2;
            out.consume(half);
            assert_eq!(left(&out).0, all[first + half..]);
        }
    }

    #[test]
    fn beyond_the_limit_there_is_a_little_room() {
        let mut out = Out::default();
        out.payload(Payload::new(&vec![0; 10 * LIMIT]));
        assert_eq!(out.room(), RESERVE);
        assert!(out.span(RESERVE + 1).is_none());
        assert!(out.span(RESERVE).is_some());
        assert_eq!(out.room(), 0);
        out.consume(out.len);
        assert_eq!(out.room(), usize::MAX);
        assert!(out.bytes.capacity() <= MAX_KEPT);
    }

    #[test]
    fn a_buffer_that_is_never_empty_does_not_grow() {
        let mut out = Out::default();
        let mut next = 0_u8;
        let mut expected = 0_u8;
        for _ in 0..1_000 {
            for _ in 0..1_000 {
                out.payload(Payload::new(&[next]));
                next = next.wrapping_add(1);
            }
            let count = out.len() - 1;
            let (all, _) = left(&out);
            for byte in &all[..count] {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
            out.consume(count);
        }
        assert_eq!(out.len(), 1);
        assert!(out.bytes.capacity() <= 4 * MAX_GONE);
    }

    #[test]
    fn what_is_shared_keeps_its_place_when_the_rest_moves() {
        let mut out = Out::default();
        out.payload(Payload::new(&vec![b'a'; MAX_GONE + 1]));
        let large = Bytes::from(vec![b'x'; MIN_SHARED]);
        out.payload(Payload::shared(&large));
        out.payload(Payload::from(b"z"));
        out.consume(MAX_GONE);
        assert_eq!(out.gone, 0);
        let (rest, _) = left(&out);
        assert_eq!(rest.len(), MIN_SHARED + 2);
        assert_eq!((rest[0], rest[1], rest[MIN_SHARED + 1]), (b'a', b'x', b'z'));
    }

    #[test]
    fn memory_is_given_back_when_little_is_sent() {
        let mut out = Out::default();
        let capacities = [LIMIT, LIMIT, 2, 2, 2, 2].map(|len| {
            out.payload(Payload::new(&vec![0; len]));
            out.consume(out.len);
            out.bytes.capacity()
        });
        assert_eq!(capacities[0], capacities[1], "the next burst finds room");
        assert!(capacities.is_sorted_by(|earlier, later| earlier >= later), "{capacities:?}");
        assert_eq!(capacities[5], MIN_KEPT);
    }

    #[test]
    fn many_large_payloads_take_many_writes() {
        let large = Bytes::from(vec![b'x'; MIN_SHARED]);
        let mut out = Out::default();
        for _ in 0..2 * SLICES {
            out.payload(Payload::shared(&large));
        }
        let mut writes = 0;
        while !out.is_empty() {
            let (bytes, count) = left(&out);
            assert!(count > 0 && count <= SLICES);
            out.consume(bytes.len());
            writes += 1;
        }
        assert_eq!(writes, 2);
    }
}
