//! The few timers a connection has.

use crate::time::Instant;

/// What a connection may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The other side's part of the connection handshake: CONNACK for a client.
    Handshake,
    /// Nothing has been heard since a PINGREQ: the connection is dead.
    Silence,
}

impl Timer {
    const COUNT: usize = 2;
}

/// When each [`Timer`] expires; [`NEVER`](Self::NEVER) if it is not armed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerTable([Instant; Timer::COUNT]);

impl TimerTable {
    const NEVER: Instant = Instant::from_millis(u64::MAX);

    pub(crate) const fn new() -> Self {
        Self([Self::NEVER; Timer::COUNT])
    }

    pub(crate) fn arm(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.0[timer as usize] = Self::NEVER;
    }

    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.0[timer as usize] != Self::NEVER
    }

    pub(crate) fn has_expired(&self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize] <= now && self.is_armed(timer)
    }

    /// The earliest of the armed timers.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().min().copied().filter(|at| *at != Self::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_the_earliest_armed_timer() {
        let mut timers = TimerTable::new();
        assert_eq!(timers.deadline(), None);
        timers.arm(Timer::Handshake, Instant::from_millis(20));
        timers.arm(Timer::Silence, Instant::from_millis(10));
        assert_eq!(timers.deadline(), Some(Instant::from_millis(10)));
        assert!(timers.has_expired(Timer::Silence, Instant::from_millis(10)));
        assert!(!timers.has_expired(Timer::Handshake, Instant::from_millis(19)));
        timers.disarm(Timer::Silence);
        assert_eq!(timers.deadline(), Some(Instant::from_millis(20)));
        assert!(!timers.is_armed(Timer::Silence));
    }
}
