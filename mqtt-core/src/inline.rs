//! Short texts where they are needed, long ones on the heap.

use alloc::{boxed::Box, vec::Vec};

use crate::store::{self, Full};

/// A text that is kept in place if it has at most `SHORT` bytes, fewer than 256.
#[derive(Clone, Debug)]
pub enum Inline<const SHORT: usize> {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

impl<const SHORT: usize> Inline<SHORT> {
    pub(crate) const EMPTY: Self = Self::Short { len: 0, bytes: [0; SHORT] };

    pub(crate) fn new(name: &[u8]) -> Result<Self, Full> {
        let mut bytes = [0; SHORT];
        if let Some(short) = bytes.get_mut(..name.len()) {
            short.copy_from_slice(name);
            return Ok(Self::Short { len: name.len() as u8, bytes });
        }
        let mut long = Vec::new();
        long.try_reserve_exact(name.len()).map_err(|_| Full::ForNow)?;
        long.extend_from_slice(name);
        Ok(Self::Long(long.into_boxed_slice()))
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    /// How many bytes it has on the heap.
    pub(crate) fn heap_len(&self) -> usize {
        match self {
            Self::Short { .. } => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }
}

impl<const SHORT: usize> Default for Inline<SHORT> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const SHORT: usize> store::Name for Inline<SHORT> {
    const MAX_LEN: usize = usize::MAX;

    fn new(name: &[u8]) -> Result<Self, Full> {
        Self::new(name)
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_and_the_longest_of_each_kind() {
        for (text, heap_len) in [("", 0), ("abcd", 0), ("abcde", 5)] {
            let name = Inline::<4>::new(text.as_bytes()).unwrap();
            assert_eq!((name.as_bytes(), name.heap_len()), (text.as_bytes(), heap_len));
        }
        assert_eq!(Inline::<4>::EMPTY.as_bytes(), b"");
    }
}
