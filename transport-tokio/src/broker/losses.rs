//! Messages that were dropped, for those who trace that: not each.

use mqtt_core::{Instant, broker::Statistics};

/// How long there is silence after a word about it, in milliseconds.
const SILENCE: u64 = 10_000;

/// What has been told.
#[derive(Default)]
pub(super) struct Losses {
    told: Statistics,
    silent_until: Instant,
}

impl Losses {
    /// Says how many more there are, if it is time.
    pub(super) fn trace(&mut self, now: Instant, statistics: &Statistics) {
        let Self { told, silent_until } = self;
        let unread = statistics.dropped_unread - told.dropped_unread;
        let overflow = statistics.dropped_overflow - told.dropped_overflow;
        let not_retained = statistics.not_retained - told.not_retained;
        if unread + overflow + not_retained == 0 || *silent_until > now {
            return;
        }
        (*told, *silent_until) = (*statistics, now + SILENCE);
        tracing::warn!(unread, overflow, not_retained, "messages were dropped");
    }
}
