//! What is counted.

/// What a broker has done and has, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Statistics {
    /// Messages that clients have published.
    pub received: u64,
    /// The bytes of their payloads.
    pub received_bytes: u64,
    /// Messages sent to subscribers, those sent again included.
    pub sent: u64,
    /// The bytes of their payloads.
    pub sent_bytes: u64,
    /// Messages at QoS 0 dropped because the subscriber's sink was full.
    pub dropped_unread: u64,
    /// Messages dropped because too many waited for the subscriber, or there was no memory.
    pub dropped_overflow: u64,
    /// Messages dropped because they were too large for the subscriber [MQTT-3.1.2-25].
    pub dropped_too_large: u64,
    /// Messages dropped because they had expired.
    pub dropped_expired: u64,
    /// Messages that were to be retained, and were not: there are as many as there may be.
    pub not_retained: u64,
    /// Sessions that have come to the end of their time without a connection.
    pub sessions_expired: u64,
}

impl Statistics {
    pub(super) const NONE: Self = Self {
        received: 0,
        received_bytes: 0,
        sent: 0,
        sent_bytes: 0,
        dropped_unread: 0,
        dropped_overflow: 0,
        dropped_too_large: 0,
        dropped_expired: 0,
        not_retained: 0,
        sessions_expired: 0,
    };

    pub(super) const fn count_sent(&mut self, bytes: usize) {
        self.sent += 1;
        self.sent_bytes += bytes as u64;
    }
}
