//! Sequences inside packets: still encoded, or given by the caller.

use core::fmt;

use super::{DecodeError, leaf::Parsed, writer::Writer};

/// What a [`List`] is a list of.
pub trait Element<'a>: Sealed<'a> + Copy + fmt::Debug + PartialEq {}

/// Keeps [`Element`] to this crate's types.
pub trait Sealed<'a>: Sized {
    /// Whether [`read`](Self::read) passes over some elements.
    const SELECTED: bool = false;

    /// Checks one element at the front.
    fn check(input: &'a [u8]) -> Parsed<'a, ()>;

    /// Takes one element off the front of bytes that have been checked; `None` in it for one that
    /// is passed over.
    fn read(input: &'a [u8]) -> Parsed<'a, Option<Self>>;

    /// The number of bytes [`write`](Self::write) takes.
    fn encoded_len(&self) -> usize;

    /// Appends the element's encoding.
    fn write(&self, to: &mut Writer<'_>);
}

/// A sequence in a packet: of properties, subscriptions, filters, reason codes.
///
/// One that was decoded borrows the packet's bytes, which were validated with the packet, and
/// decodes its elements again as they are iterated; one for a packet to be sent borrows a slice
/// of elements. Both read the same.
///
/// ```
/// use mqtt_core::{Properties, Property};
///
/// let properties = Properties::from(&[Property::MessageExpiryInterval(60)]);
/// assert_eq!(properties.iter().count(), 1);
/// assert_eq!(properties.message_expiry_interval(), Some(60));
/// assert_eq!(properties.content_type(), None);
/// ```
#[derive(Clone, Copy)]
pub struct List<'a, T>(pub(super) Repr<'a, T>);

#[derive(Clone, Copy)]
pub(super) enum Repr<'a, T> {
    Encoded(&'a [u8]),
    Given(&'a [T]),
}

impl<'a, T: Element<'a>> List<'a, T> {
    /// No elements.
    pub const EMPTY: Self = Self(Repr::Encoded(&[]));

    /// The elements of `bytes`, which have been validated.
    pub(super) const fn encoded(bytes: &'a [u8]) -> Self {
        Self(Repr::Encoded(bytes))
    }

    /// The bytes of a list that was decoded, nothing of one that was given.
    pub(super) const fn as_encoded(&self) -> &'a [u8] {
        match self.0 {
            Repr::Encoded(bytes) => bytes,
            Repr::Given(_) => &[],
        }
    }

    /// The elements, in order.
    pub fn iter(&self) -> Iter<'a, T> {
        Iter(self.0)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        match self.0 {
            Repr::Encoded([]) | Repr::Given([]) => true,
            Repr::Given(_) => false,
            Repr::Encoded(_) => T::SELECTED && self.iter().next().is_none(),
        }
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self(Repr::Encoded(&[]))
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(elements: &'a [T]) -> Self {
        Self(Repr::Given(elements))
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for List<'a, T> {
    fn from(elements: &'a [T; N]) -> Self {
        Self(Repr::Given(elements))
    }
}

impl<'a, T: Element<'a>> PartialEq for List<'a, T> {
    /// Equal elements in equal order, however they are held.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(*other)
    }
}

impl<'a, T: Element<'a> + Eq> Eq for List<'a, T> {}

impl<'a, T: Element<'a>> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

#[cfg(feature = "defmt")]
impl<'a, T: Element<'a> + defmt::Format> defmt::Format for List<'a, T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        for element in self.iter() {
            defmt::write!(f, "{} ", element);
        }
    }
}

impl<'a, T: Element<'a>> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The elements of a [`List`], in order.
#[derive(Clone)]
pub struct Iter<'a, T>(Repr<'a, T>);

impl<'a, T: Element<'a>> Iterator for Iter<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Repr::Given(elements) => elements.split_off_first().copied(),
            Repr::Encoded(bytes) => {
                while !bytes.is_empty() {
                    let (rest, element) = T::read(bytes).ok()?;
                    *bytes = rest;
                    if element.is_some() {
                        return element;
                    }
                }
                None
            }
        }
    }
}

/// Reads all of `input` as elements, at least `least`: how a list is validated.
#[inline]
pub(super) fn validate<'a, T: Element<'a>>(mut input: &'a [u8]) -> Parsed<'a, List<'a, T>> {
    let list = List::encoded(input);
    while !input.is_empty() {
        (input, ()) = T::check(input)?;
    }
    Ok((input, list))
}

/// A list that must have an element.
pub(super) fn validate_some<'a, T: Element<'a>>(input: &'a [u8]) -> Parsed<'a, List<'a, T>> {
    if input.is_empty() {
        return super::leaf::fail(DecodeError::Empty);
    }
    validate(input)
}

impl<'a, T: Element<'a>> List<'a, T> {
    /// The number of bytes of all elements.
    pub(super) fn encoded_len(&self) -> usize {
        self.iter().map(|element| element.encoded_len()).fold(0, usize::saturating_add)
    }

    /// Appends all elements.
    pub(super) fn write(&self, to: &mut Writer<'_>) {
        for element in self.iter() {
            element.write(to);
        }
    }
}
