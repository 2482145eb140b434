//! Time as the caller tells it.

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
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// The moment `millis` milliseconds after the fixed point.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the fixed point.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Milliseconds from `earlier` to this moment, 0 if `earlier` is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl core::ops::Add<u64> for Instant {
    type Output = Self;

    /// The moment `millis` milliseconds later; stops at the last representable one.
    fn add(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}
