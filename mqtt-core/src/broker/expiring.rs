//! Messages that have waited for too long.

use super::{
    Broker, Host, Memory,
    delivering::earlier,
    memory::{Lent, Slab},
    message::Messages,
    tick_after,
};
use crate::Instant;

/// How many messages and sessions are looked at in one go.
const LOOKS: usize = 1_000;

/// How often all are looked through, at most, in milliseconds, unless room is needed.
const PERIOD: u64 = 10_000;

/// A walk through all sessions and retained messages, in pieces.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Nothing expires before; nothing at all without it.
    earliest: Option<Instant>,
    /// The same, as far as the walk has come.
    seen: Option<Instant>,
    /// It goes on then, at the earliest.
    rests: Instant,
    session: u32,
    retained: u32,
}

impl Sweep {
    pub(super) const fn new() -> Self {
        let rests = Instant::from_millis(0);
        Self { earliest: None, seen: None, rests, session: 0, retained: 0 }
    }

    /// When it goes on.
    pub(super) fn due(&self) -> Option<Instant> {
        self.earliest.map(|at| tick_after(at.max(self.rests)))
    }
}

impl<M: Memory> Broker<M> {
    /// A message may be kept that expires then.
    pub(super) fn expect_expiry(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        self.sweep.earliest = earlier(self.sweep.earliest, Some(at));
        self.sweep.seen = earlier(self.sweep.seen, Some(at));
    }

    /// Drops some of what has expired, now and then.
    pub(super) fn tick_expiry(&mut self, now: Instant, host: &mut impl Host) {
        if self.sweep.due().is_some_and(|due| due <= now) {
            self.reclaim(now, host);
        }
    }

    /// Drops some of what has expired, if there is any.
    pub(super) fn reclaim(&mut self, now: Instant, host: &mut impl Host) {
        if self.sweep.earliest.is_none_or(|at| at > now) {
            return;
        }
        let mut looks = LOOKS;
        while let Some(place) = self.sessions.next(self.sweep.session)
            && let Some(session) = self.sessions.get_mut(place)
            && looks > 0
        {
            let looked = session.drop_expired(now, &mut self.messages, &mut self.statistics, host);
            looks = looks.saturating_sub(1 + looked);
            self.sweep.seen =
                earlier(self.sweep.seen, session.backlog.get().and_then(|backlog| backlog.expires));
            self.sweep.session = place + 1;
        }
        while let Some(place) = self.retained.next(self.sweep.retained)
            && looks > 0
        {
            looks -= 1;
            self.sweep.retained = place + 1;
            let expires =
                self.retained.get(place).and_then(|message| self.messages.expires(*message));
            if expires.is_some_and(|at| at <= now) {
                self.forget_retained(place, host);
                self.statistics.dropped_expired += 1;
            } else {
                self.sweep.seen = earlier(self.sweep.seen, expires);
            }
        }
        self.sweep.rests = now;
        if looks > 0 {
            let earliest = self.sweep.seen;
            self.sweep = Sweep { earliest, rests: now + PERIOD, ..Sweep::new() };
        }
    }
}
