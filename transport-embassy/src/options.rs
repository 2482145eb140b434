//! What a client is to do.

use embassy_time::Duration;
use mqtt_core::Connect;

/// What a client is to do, besides the [sizes](crate::Sizes) of what it needs.
///
/// ```
/// use embassy_time::Duration;
/// use mqtt_core::{Connect, Text};
/// use transport_embassy::{Options, Reconnect};
///
/// let options = Options {
///     connect: Connect {
///         client_id: Text::new("sensor-7")?,
///         session_expiry_interval: 3600, // resume the session when the link comes back
///         ..Connect::default()
///     },
///     reconnect: Reconnect { longest: Duration::from_secs(30), ..Reconnect::default() },
///     seed: 42, // better from the chip's random number generator
///     ..Options::default()
/// };
/// # let _ = options;
/// # Ok::<(), mqtt_core::TextError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What CONNECT is made of: client identifier, will, credentials, keep alive.
    ///
    /// With a [session expiry interval](Connect::session_expiry_interval) the session is resumed after a
    /// connection is lost; without, each connection has its own. Before 5.0, where servers decide how
    /// long sessions last, any interval means the same. [`clean_start`](Connect::clean_start) is about
    /// the first connection only: it discards what the server has from before the program began.
    ///
    /// The Receive Maximum is lowered to one less than there are [receive buffers](crate::Inbox), so
    /// that what is behind unread messages can always be read (5.0). There are no topic aliases.
    pub connect: Connect<'a>,
    /// How lost connections are replaced.
    pub reconnect: Reconnect,
    /// Whether to try again when the first connection fails, as if it had been lost. By default it is.
    pub retry_first: bool,
    /// How long it may take to open the transport, names resolved and everything. By default 20 s. The
    /// server then has 10 s to answer.
    pub connect_timeout: Duration,
    /// How long a message at QoS 0 may wait for the application when all receive buffers are taken. Then
    /// it is dropped and [counted](crate::Client::dropped), for what is behind it may be what the
    /// application waits for. By default 5 s.
    pub patience: Duration,
    /// Makes the delays of many devices differ.
    pub seed: u64,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            connect: Connect::default(),
            reconnect: Reconnect::default(),
            retry_first: true,
            connect_timeout: Duration::from_secs(20),
            patience: Duration::from_secs(5),
            seed: 0,
        }
    }
}

/// How a lost connection is replaced: the first attempt waits a random time of up to `first`, each further
/// one of up to twice as much as the one before and at most `longest`, so that a crowd of devices does not
/// come back at once. A connection that has not lasted as long as `longest` counts as an attempt in this:
/// two clients with one identifier do not fight fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Reconnect {
    /// How many attempts in a row may fail; `None` is for ever, 0 none at all. By default for ever.
    pub attempts: Option<u32>,
    /// By default 500 ms.
    pub first: Duration,
    /// By default a minute.
    pub longest: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { attempts: None, first: Duration::from_millis(500), longest: Duration::from_secs(60) }
    }
}

impl Reconnect {
    /// How long to wait before an attempt, the first of which is 1.
    pub(crate) fn delay(&self, attempt: u32, random: &mut Random) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let first = self.first.as_millis().min(u64::from(u32::MAX));
        let most = (first << doublings).min(self.longest.as_millis());
        Duration::from_millis(random.up_to(most))
    }
}

/// Random enough for delays (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [.., a, b, c, d] = (mixed ^ mixed >> 31).to_be_bytes();
        // The upper half of a product is as evenly spread as its factor.
        (u64::from(u32::from_be_bytes([a, b, c, d])) * most.min(u64::from(u32::MAX))) >> 32
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_differ() {
        let reconnect = Reconnect::default();
        let mut random = Random(7);
        for (attempt, most) in [(1, 500), (2, 1_000), (5, 8_000), (8, 60_000), (u32::MAX, 60_000)] {
            let delays: Vec<_> =
                (0..200).map(|_| reconnect.delay(attempt, &mut random).as_millis()).collect();
            assert!(delays.iter().all(|delay| *delay < most));
            assert!(delays.iter().any(|delay| *delay > most * 9 / 10));
            assert!(delays.iter().any(|delay| *delay < most / 10));
        }
        let none = Reconnect { first: Duration::from_millis(0), ..reconnect };
        assert_eq!(none.delay(9, &mut random), Duration::from_millis(0));
    }
}
