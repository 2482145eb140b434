//! Time that passes when it is told to.

use mqtt_core::Instant;

/// A clock that stands still until it is advanced.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that does not begin at zero, which would hide mistakes.
    pub const fn new() -> Self {
        Self(Instant::from_millis(1_000_000))
    }

    /// Lets time pass.
    pub fn advance(&mut self, millis: u64) {
        self.0 = self.0 + millis;
    }

    /// Lets time pass up to `at`; never runs backwards.
    pub fn advance_to(&mut self, at: Instant) {
        self.0 = self.0.max(at);
    }

    /// The time.
    pub const fn now(&self) -> Instant {
        self.0
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
