//! Time as the caller tells it.

use core::{fmt, num::NonZeroU64};

/// A moment, in milliseconds since any fixed point the caller likes (boot, process start).
///
/// The machines never read a clock: every call that depends on time takes one of these. All
/// moments given to one machine must come from the same clock, and should not run backwards
/// (one that does only makes timers late).
///
/// ```
/// use mqtt_core::Instant;
///
/// let start = Instant::from_millis(5_000);
/// let later = start + 1_500;
/// assert_eq!(later.as_millis(), 6_500);
/// assert_eq!(later.since(start), 1_500);
/// assert_eq!(start.since(later), 0);
/// assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(
    /// One more, so that there may be none.
    NonZeroU64,
);

impl Instant {
    /// The moment `millis` milliseconds after the fixed point; the last one is `u64::MAX - 1`.
    pub const fn from_millis(millis: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(millis))
    }

    /// When a timer is due that is not set.
    pub(crate) const NEVER: Self = Self(NonZeroU64::MAX);

    /// Whether a timer that is due now has come to its end.
    pub(crate) fn has_come(self, now: Self) -> bool {
        self <= now && self != Self::NEVER
    }

    /// Milliseconds since the fixed point.
    pub const fn as_millis(self) -> u64 {
        self.0.get() - 1
    }

    /// Milliseconds from `earlier` to this moment, 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::from_millis(0)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.as_millis()).finish()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Instant {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Instant({})", self.as_millis());
    }
}

/// How many seconds are begun in so many milliseconds, at most as many as fit. Divided in two steps: a
/// division of 64 bits is a long routine on small machines.
pub(crate) fn seconds(millis: u64) -> u32 {
    let millis = millis.min(1_000 * u64::from(u32::MAX)) + 999;
    let high = (millis >> 16) as u32;
    let low = (high % 1_000) << 16 | (millis & 0xffff) as u32;
    ((high / 1_000) << 16).saturating_add(low / 1_000)
}

impl core::ops::Add<u64> for Instant {
    type Output = Self;

    /// The moment `millis` milliseconds later; stops at the last representable one.
    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_counts_when_it_is_begun() {
        let longest = 1_000 * u64::from(u32::MAX);
        let some = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1, (1 << bit) + 999]);
        for millis in some.chain([0, 999, 1_000, 1_001, longest - 1, longest, u64::MAX]) {
            let expected = millis.div_ceil(1_000).min(u32::MAX.into());
            assert_eq!(u64::from(seconds(millis)), expected, "{millis}");
        }
    }
}
