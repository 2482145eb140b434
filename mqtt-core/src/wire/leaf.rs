//! The leaves of the grammar: what every packet is made of.

use nom::{
    IResult,
    error::{ErrorKind, ParseError},
};

use super::{DecodeError, SMALL, Text, text};
use crate::topic::Topic;

/// What remains of the input, and what was read from its front.
pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, DecodeError>;

pub(super) use nom::number::complete::be_u8;

impl ParseError<&[u8]> for DecodeError {
    /// nom's number parsers fail in one way only: too few bytes.
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: &[u8], _: ErrorKind, first: Self) -> Self {
        first
    }
}

#[inline]
pub(super) fn fail<T>(error: DecodeError) -> Result<T, nom::Err<DecodeError>> {
    Err(nom::Err::Error(error))
}

/// The outcome of a check as the grammar likes it.
#[inline]
pub(super) fn check<T>(result: Result<T, DecodeError>) -> Result<T, nom::Err<DecodeError>> {
    result.map_err(nom::Err::Error)
}

/// Ends the grammar: the crate's own error, once and for all.
#[inline]
pub(super) fn complete<T>(parsed: Parsed<'_, T>) -> Result<T, DecodeError> {
    match parsed {
        Ok(([], value)) => Ok(value),
        Ok(_) => Err(DecodeError::TrailingBytes),
        Err(nom::Err::Error(error) | nom::Err::Failure(error)) => Err(error),
        Err(nom::Err::Incomplete(_)) => Err(DecodeError::Truncated),
    }
}

/// A two-byte integer. nom's own is a loop.
#[inline]
pub(super) fn be_u16(input: &[u8]) -> Parsed<'_, u16> {
    match input.split_first_chunk() {
        Some((bytes, rest)) => Ok((rest, u16::from_be_bytes(*bytes))),
        None => fail(DecodeError::Truncated),
    }
}

/// A four-byte integer. nom's own is a loop.
#[inline]
pub(super) fn be_u32(input: &[u8]) -> Parsed<'_, u32> {
    match input.split_first_chunk() {
        Some((bytes, rest)) => Ok((rest, u32::from_be_bytes(*bytes))),
        None => fail(DecodeError::Truncated),
    }
}

/// `len` bytes. nom's own slices with a check that can panic.
#[inline]
pub(super) fn take<'a>(input: &'a [u8], len: usize) -> Parsed<'a, &'a [u8]> {
    match input.split_at_checked(len) {
        Some((taken, rest)) => Ok((rest, taken)),
        None => fail(DecodeError::Truncated),
    }
}

/// Binary data: a two-byte length, then as many bytes.
#[inline]
pub(super) fn binary(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, len) = be_u16(input)?;
    take(input, len.into())
}

/// A UTF-8 encoded string.
#[inline]
pub(super) fn string(input: &[u8]) -> Parsed<'_, Text<'_>> {
    let (input, bytes) = binary(input)?;
    check(text::check(bytes))?;
    Ok((input, Text::from_validated(bytes)))
}

/// A topic name that is not a PUBLISH's own.
pub(super) fn topic(input: &[u8]) -> Parsed<'_, Topic<'_>> {
    let (input, bytes) = binary(input)?;
    check(text::check_rare_topic(bytes))?;
    Ok((input, Topic::from_validated(bytes)))
}

/// A variable byte integer, one byte inline.
#[inline]
pub(super) fn varint(input: &[u8]) -> Parsed<'_, u32> {
    match input {
        [value @ ..0x80, rest @ ..] if !SMALL => Ok((rest, u32::from(*value))),
        _ => long_varint(input),
    }
}

#[cold]
#[inline(never)]
fn long_varint(input: &[u8]) -> Parsed<'_, u32> {
    match super::varint::decode(input) {
        Ok(Some((value, len))) => Ok((input.get(len..).unwrap_or_default(), value)),
        Ok(None) => fail(DecodeError::Truncated),
        Err(error) => fail(error),
    }
}
