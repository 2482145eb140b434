//! Topic names, topic filters, and which of them match.
//!
//! A [`Topic`] says where a message is published; a [`Filter`] says which topics a subscriber
//! wants. Both are checked once, on the way in, and then carried as bytes that are known to be
//! good, so that matching neither fails nor allocates.
//!
//! Both are divided into *levels* by `/`. A level may be empty: `/a` has two levels and is not
//! the same topic as `a`. A filter may have `+` in place of any one level, and `#` in place of the
//! last, where it stands for that level, all below it, and the parent.
//!
//! | filter | matches | does not match |
//! |---|---|---|
//! | `sport/tennis` | `sport/tennis` | `sport/Tennis`, `sport/tennis/`, `/sport/tennis` |
//! | `sport/+` | `sport/tennis`, `sport/` | `sport`, `sport/tennis/score` |
//! | `sport/#` | `sport`, `sport/`, `sport/tennis/score` | `sports` |
//! | `#` | all that do not begin with `$` | `$SYS/uptime` |
//! | `$SYS/#` | `$SYS`, `$SYS/uptime` | `SYS/uptime` |
//! | `$share/crew/jobs/+` | `jobs/print` | `$share/crew/jobs/print` |
//!
//! Names are compared byte by byte: no case folding, no Unicode normalization [MQTT-4.7.3-4].
//!
//! ```
//! use mqtt_core::topic::{Filter, Topic, TopicError};
//!
//! let scores = Filter::new("sport/+/score")?;
//! assert!(scores.matches(Topic::new("sport/tennis/score")?));
//! assert!(!scores.matches(Topic::new("sport/tennis/doubles/score")?));
//!
//! assert_eq!(Topic::new("sport/+/score"), Err(TopicError::Wildcard));
//! # Ok::<(), TopicError>(())
//! ```

pub(crate) mod covers;

use core::{error::Error, fmt, iter::FusedIterator};

use crate::wire::SMALL;

/// A topic name: where a message is published.
///
/// Well-formed UTF-8 of at most 65,535 bytes, without U+0000 and without the wildcards `+` and
/// `#`. One that came from [`Topic::new`] has at least one byte; one that was decoded from a
/// PUBLISH may have none, see [`Topic::is_empty`].
///
/// Ordered and compared as bytes. `Debug` and `Display` print the text.
///
/// ```
/// use mqtt_core::topic::{Topic, TopicError};
///
/// let topic = Topic::new("café/door")?;
/// assert_eq!(topic.as_str(), "café/door");
/// assert_eq!(topic.as_bytes(), b"caf\xc3\xa9/door");
/// assert_eq!(topic.len(), 10);
/// assert!(topic.levels().eq(["café".as_bytes(), b"door"]));
/// assert!(!topic.starts_with_dollar() && !topic.has_control_characters());
///
/// assert_eq!(Topic::try_from("café/+"), Err(TopicError::Wildcard));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic<'a>(&'a [u8]);

impl<'a> Topic<'a> {
    /// Checks a topic name.
    ///
    /// # Errors
    ///
    /// [`TopicError::Empty`], [`TopicError::TooLong`], [`TopicError::Null`] or
    /// [`TopicError::Wildcard`].
    ///
    /// ```
    /// use mqtt_core::topic::{Topic, TopicError};
    ///
    /// const STATUS: Topic = match Topic::new("pump/7/status") {
    ///     Ok(topic) => topic,
    ///     Err(_) => panic!("a bad name in a constant does not compile"),
    /// };
    /// assert_eq!(STATUS.as_str(), "pump/7/status");
    ///
    /// assert_eq!(Topic::new(""), Err(TopicError::Empty));
    /// assert_eq!(Topic::new("pump/7\0"), Err(TopicError::Null));
    /// ```
    pub const fn new(name: &'a str) -> Result<Self, TopicError> {
        let bytes = name.as_bytes();
        match check_len(bytes) {
            Err(error) => Err(error),
            Ok(()) => match odd_bytes(bytes) {
                0 => Ok(Self(bytes)),
                WILDCARD => Err(TopicError::Wildcard),
                _ => Err(TopicError::Null),
            },
        }
    }

    /// Wraps what the decoder has checked: what [`Topic::new`] accepts, or no bytes at all.
    pub(crate) const fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The UTF-8 bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The characters. Costs a pass over the bytes.
    pub fn as_str(&self) -> &'a str {
        as_str(self.0)
    }

    /// The number of bytes, at most 65,535.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no name.
    ///
    /// A PUBLISH that names its topic by an alias alone carries an empty one. Such a topic, which
    /// is also the default, has no levels and is matched by no filter.
    ///
    /// ```
    /// use mqtt_core::topic::{Filter, Topic, TopicError};
    ///
    /// assert!(Topic::default().is_empty());
    /// assert!(!Filter::new("#")?.matches(Topic::default()));
    ///
    /// assert!(!Topic::new("/")?.is_empty());
    /// # Ok::<(), TopicError>(())
    /// ```
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The levels from the first to the last, as bytes.
    pub fn levels(&self) -> Levels<'a> {
        Levels((!self.is_empty()).then_some(self.0))
    }

    /// Whether the name begins with `$`, as those do that a broker has for its own purposes. No
    /// filter that begins with a wildcard matches it [MQTT-4.7.2-1].
    pub const fn starts_with_dollar(&self) -> bool {
        matches!(self.0, [b'$', ..])
    }
}

/// A topic filter: which topics a subscription is for.
///
/// Well-formed UTF-8 of 1 to 65,535 bytes, without U+0000, with each wildcard a whole level and
/// `#` the last.
///
/// A filter that begins with `$share/` is a *shared* one, `$share/NAME/FILTER`: of all subscribers
/// under that name, one receives each message that `FILTER` matches. MQTT 5.0 defines these, and
/// many brokers know them on 3.1.1 too; a filter means the same here whatever the version.
///
/// Ordered and compared as bytes. `Debug` and `Display` print the text.
///
/// ```
/// use mqtt_core::topic::{Filter, Topic, TopicError};
///
/// let filter = Filter::new("pump/+/status")?;
/// assert_eq!(filter.as_str(), "pump/+/status");
/// assert_eq!(filter.as_bytes(), b"pump/+/status");
/// assert!(filter.has_wildcard() && !filter.is_shared());
/// assert!(filter.matches(Topic::new("pump/7/status")?));
///
/// assert_eq!(Filter::try_from("pump+/status"), Err(TopicError::WildcardPlacement));
/// # Ok::<(), TopicError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter<'a>(&'a [u8]);

impl<'a> Filter<'a> {
    /// Checks a topic filter.
    ///
    /// # Errors
    ///
    /// [`TopicError::Empty`], [`TopicError::TooLong`], [`TopicError::Null`],
    /// [`TopicError::ShareName`] or [`TopicError::WildcardPlacement`].
    ///
    /// ```
    /// use mqtt_core::topic::{Filter, TopicError};
    ///
    /// const JOBS: Filter = match Filter::new("$share/crew/jobs/#") {
    ///     Ok(filter) => filter,
    ///     Err(_) => panic!("a bad filter in a constant does not compile"),
    /// };
    /// assert_eq!(JOBS.as_str(), "$share/crew/jobs/#");
    ///
    /// assert_eq!(Filter::new("#/jobs"), Err(TopicError::WildcardPlacement));
    /// assert_eq!(Filter::new("$share/crew"), Err(TopicError::ShareName));
    /// ```
    pub const fn new(filter: &'a str) -> Result<Self, TopicError> {
        let bytes = filter.as_bytes();
        match Self::check(bytes) {
            Ok(()) if odd_bytes(bytes) & NULL != 0 => Err(TopicError::Null),
            Ok(()) => Ok(Self(bytes)),
            Err(error) => Err(error),
        }
    }

    /// Wraps what [`Filter::check`] has accepted.
    pub(crate) const fn from_validated(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Checks what makes well-formed UTF-8 without U+0000 a topic filter.
    pub(crate) const fn check(bytes: &[u8]) -> Result<(), TopicError> {
        if let Err(error) = check_len(bytes) {
            return Err(error);
        }
        let mut rest = match after_share(bytes) {
            None => bytes,
            Some(shared) => match split_level(shared) {
                // What is shared is an ordinary filter, so not a shared one.
                Some((name, filter))
                    if !name.is_empty()
                        && !has_wildcard(name)
                        && !filter.is_empty()
                        && after_share(filter).is_none() =>
                {
                    filter
                }
                _ => return Err(TopicError::ShareName),
            },
        };
        let mut begins_level = true;
        while let [byte, after @ ..] = rest {
            let good = match byte {
                b'#' => begins_level && after.is_empty(),
                b'+' => begins_level && matches!(after, [] | [b'/', ..]),
                _ => true,
            };
            if !good {
                return Err(TopicError::WildcardPlacement);
            }
            begins_level = *byte == b'/';
            rest = after;
        }
        Ok(())
    }

    /// The UTF-8 bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The characters. Costs a pass over the bytes.
    pub fn as_str(&self) -> &'a str {
        as_str(self.0)
    }

    /// Whether a message published to `topic` is for this filter.
    ///
    /// A filter that begins with a wildcard matches no topic that begins with `$`
    /// [MQTT-4.7.2-1]. A shared filter matches what the filter after its share name matches.
    ///
    /// Takes time linear in the lengths of the two: whatever the wildcards, it never backtracks.
    ///
    /// ```
    /// use mqtt_core::topic::{Filter, Topic, TopicError};
    ///
    /// let pump = Filter::new("pump/#")?;
    /// assert!(pump.matches(Topic::new("pump/7/status")?));
    /// assert!(pump.matches(Topic::new("pump")?));
    /// assert!(!pump.matches(Topic::new("pumps")?));
    ///
    /// let uptime = Topic::new("$SYS/uptime")?;
    /// assert!(Filter::new("$SYS/+")?.matches(uptime));
    /// assert!(!Filter::new("+/uptime")?.matches(uptime));
    /// # Ok::<(), TopicError>(())
    /// ```
    pub fn matches(&self, topic: Topic<'_>) -> bool {
        let (mut filter, mut topic) = (self.unshared(), topic.0);
        if matches!((filter, topic), (_, []) | ([b'+' | b'#', ..], [b'$', ..])) {
            return false;
        }
        // A topic has no wildcards. So where the two first differ the filter has one, or an end,
        // or does not match; and `/#` there is for the parent.
        loop {
            let same = common_prefix(filter, topic);
            (filter, topic) = (skip(filter, same), skip(topic, same));
            match filter {
                [] | [b'/', b'#'] => return topic.is_empty(),
                [b'#', ..] => return true,
                [b'+', after @ ..] => (filter, topic) = (after, skip(topic, level_len(topic))),
                _ => return false,
            }
        }
    }

    /// Whether this is `$share/NAME/FILTER`.
    pub const fn is_shared(&self) -> bool {
        after_share(self.0).is_some()
    }

    /// The share name and the filter after it, which is never a shared one; `None` if this is not.
    ///
    /// ```
    /// use mqtt_core::topic::{Filter, TopicError};
    ///
    /// let shared = Filter::new("$share/crew/jobs/+")?.shared();
    /// assert_eq!(shared, Some(("crew", Filter::new("jobs/+")?)));
    ///
    /// assert_eq!(Filter::new("jobs/+")?.shared(), None);
    /// # Ok::<(), TopicError>(())
    /// ```
    pub fn shared(&self) -> Option<(&'a str, Self)> {
        let (name, filter) = after_share(self.0).and_then(split_level)?;
        Some((as_str(name), Self(filter)))
    }

    /// Whether there is a `+` or `#`. Without them, the filter matches exactly one topic.
    pub const fn has_wildcard(&self) -> bool {
        has_wildcard(self.0)
    }

    /// The levels that a topic's are compared with, from the first to the last, as bytes.
    ///
    /// Those of a shared filter are the levels after its share name.
    ///
    /// ```
    /// use mqtt_core::topic::{Filter, TopicError};
    ///
    /// assert!(Filter::new("$share/crew/jobs/+")?.levels().eq([&b"jobs"[..], b"+"]));
    /// # Ok::<(), TopicError>(())
    /// ```
    pub fn levels(&self) -> Levels<'a> {
        Levels(Some(self.unshared()))
    }

    fn unshared(&self) -> &'a [u8] {
        after_share(self.0).and_then(split_level).map_or(self.0, |(_, filter)| filter)
    }
}

macro_rules! text_traits {
    ($($name:ident)+) => {$(
        impl $name<'_> {
            /// Whether there are characters that a receiver may refuse: U+0001 to U+001F and
            /// U+007F to U+009F. Section 1.5.4 discourages them; to refuse them is for the
            /// application.
            pub fn has_control_characters(&self) -> bool {
                has_control_characters(self.0)
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.as_str(), f)
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name<'_> {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=str}", self.as_str());
            }
        }

        impl<'a> TryFrom<&'a str> for $name<'a> {
            type Error = TopicError;

            fn try_from(text: &'a str) -> Result<Self, TopicError> {
                Self::new(text)
            }
        }
    )+};
}

text_traits! { Topic Filter }

/// An iterator over levels: see [`Topic::levels`] and [`Filter::levels`].
#[derive(Clone, Debug)]
pub struct Levels<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Levels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let Some((level, after)) = split_level(rest) else {
            return Some(rest);
        };
        self.0 = Some(after);
        Some(level)
    }
}

impl FusedIterator for Levels<'_> {}

/// Why some text is not a [`Topic`], or not a [`Filter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TopicError {
    /// It has no characters [MQTT-4.7.3-1].
    Empty,
    /// It has more than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// It has a U+0000 [MQTT-4.7.3-2].
    Null,
    /// A topic name has a `+` or `#` [MQTT-4.7.0-1].
    Wildcard,
    /// A filter's `#` is not the whole of its last level [MQTT-4.7.1-1], or a `+` not the whole of
    /// a level [MQTT-4.7.1-2].
    WildcardPlacement,
    /// A filter begins with `$share/`, but what follows is not a share name [MQTT-4.8.2-1] without
    /// `+` and `#`, a `/`, and an ordinary filter [MQTT-4.8.2-2].
    ShareName,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::TooLong => "longer than 65,535 bytes",
            Self::Null => "contains U+0000",
            Self::Wildcard => "a topic name contains `+` or `#`",
            Self::WildcardPlacement => "`+` is not a whole level, or `#` not the whole last one",
            Self::ShareName => "begins with `$share/` but is not `$share/NAME/FILTER`",
        })
    }
}

impl Error for TopicError {}

const fn check_len(bytes: &[u8]) -> Result<(), TopicError> {
    match bytes.len() {
        0 => Err(TopicError::Empty),
        1..=MAX_LEN => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

const fn has_wildcard(bytes: &[u8]) -> bool {
    odd_bytes(bytes) & WILDCARD != 0
}

/// Which of [`NULL`] and [`WILDCARD`] there are. Without a branch for a byte, and alone, the loop
/// is compiled to vector instructions. `+` and `#` differ in one bit.
#[inline(never)]
const fn odd_bytes(mut bytes: &[u8]) -> u8 {
    let mut odd = 0;
    while let [byte, after @ ..] = bytes {
        odd |= ((*byte == 0) as u8 * NULL) | ((*byte | 8 == b'+') as u8 * WILDCARD);
        bytes = after;
    }
    odd
}

const fn after_share(filter: &[u8]) -> Option<&[u8]> {
    match filter {
        [b'$', b's', b'h', b'a', b'r', b'e', b'/', after @ ..] => Some(after),
        _ => None,
    }
}

/// What is before the first `/` and what is after it, if there is one.
const fn split_level(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes.split_at_checked(level_len(bytes)) {
        Some((level, [_, after @ ..])) => Some((level, after)),
        _ => None,
    }
}

/// How many bytes are before the first `/`, or all of them.
const fn level_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [byte, after @ ..] = rest
        && *byte != b'/'
    {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// How many bytes both begin with: by words, the last of which may overlap the one before it.
#[inline(always)]
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let (a, b) = (a.get(..len).unwrap_or_default(), b.get(..len).unwrap_or_default());
    for (i, (x, y)) in a.as_chunks().0.iter().zip(b.as_chunks().0).enumerate() {
        if x != y {
            return i * WORD + common_in_word(x, y);
        }
    }
    match (a.last_chunk(), b.last_chunk()) {
        (Some(x), Some(y)) => len - WORD + common_in_word(x, y),
        _ => a.iter().zip(b).take_while(|(x, y)| x == y).count(),
    }
}

#[inline(always)]
fn common_in_word(a: &[u8; WORD], b: &[u8; WORD]) -> usize {
    let difference = usize::from_le_bytes(*a) ^ usize::from_le_bytes(*b);
    difference.trailing_zeros() as usize / 8
}

#[inline(always)]
fn skip(bytes: &[u8], n: usize) -> &[u8] {
    bytes.get(n..).unwrap_or_default()
}

pub(crate) fn has_control_characters(text: &[u8]) -> bool {
    // U+0080 to U+009F are C2 80 to C2 9F, and every C2 begins a character. Most names have none of
    // these bytes, which one pass without a branch tells.
    let is_odd = |odd: bool, byte: &u8| odd | byte.is_ascii_control() | (*byte == 0xc2);
    if !SMALL && !text.iter().fold(false, is_odd) {
        return false;
    }
    text.iter().any(u8::is_ascii_control)
        || text.windows(2).any(|pair| matches!(pair, [0xc2, 0x80..=0x9f]))
}

fn as_str(bytes: &[u8]) -> &str {
    // Cannot fail: they were well-formed when they came in.
    core::str::from_utf8(bytes).unwrap_or_default()
}

const MAX_LEN: usize = u16::MAX as usize;
const NULL: u8 = 1;
const WILDCARD: u8 = 2;
const WORD: usize = size_of::<usize>();

#[cfg(test)]
mod tests;
