//! The broker's numbers on `$SYS/broker/...`, under the names that mosquitto gives them.

use std::time::Duration;

use mqtt_core::{
    Instant, Payload, Publish, QoS, Topic,
    broker::{Broker, Config, Large},
};

use super::{
    host::Connections,
    statistics::{ENTRIES, Statistics},
};

/// What is said of the program that serves.
const VERSION: &str = concat!("transport-tokio version ", env!("CARGO_PKG_VERSION"));

/// Over how many minutes there is an average.
const SPANS: [u8; 3] = [1, 5, 15];

/// A tenth of the least difference that can be seen in an average.
const SAME: f64 = 0.001;

/// What was published, so that only what has changed is published again.
pub(super) struct Sys {
    /// How often it is published, in milliseconds; never if 0.
    interval: u64,
    /// Whether anything is retained at all.
    retain: bool,
    /// When it is published next.
    pub(super) due: Option<Instant>,
    /// When it was last.
    last: Option<Instant>,
    /// By number of the entry.
    told: Vec<Option<u64>>,
    loads: Vec<Load>,
}

/// What is added to a number in a minute, on average.
#[derive(Clone, Copy, Default)]
struct Load {
    /// The number, when it was looked at last.
    before: u64,
    averages: [f64; 3],
    told: [Option<f64>; 3],
}

impl Sys {
    pub(super) fn new(interval: Duration, config: &Config) -> Self {
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Self {
            interval,
            retain: config.retained_messages > 0,
            due: (interval > 0).then_some(Instant::from_millis(0)),
            last: None,
            told: vec![None; ENTRIES.len()],
            loads: vec![Load::default(); ENTRIES.len()],
        }
    }

    /// Publishes what has changed.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        numbers: &Statistics,
        core: &mut Broker<Large>,
        host: &mut Connections,
    ) {
        self.due = Some(now + self.interval);
        let retain = self.retain;
        let mut tell = |topic: &str, text: &str| {
            let topic = format!("$SYS/broker/{topic}");
            let Ok(topic) = Topic::new(&topic) else { return };
            let (payload, properties) = (Payload::from(text), Default::default());
            let qos = QoS::AtMostOnce;
            let message = Publish { topic, payload, qos, retain, properties };
            core.publish(now, &message, host);
            host.finish();
        };
        if self.last.is_none() {
            tell("version", VERSION);
        }
        tell("uptime", &format!("{} seconds", numbers.uptime.as_secs()));
        let since = self.last.map(|last| now.since(last)).filter(|millis| *millis > 0);
        self.last = Some(now);
        for ((entry, told), load) in ENTRIES.iter().zip(&mut self.told).zip(&mut self.loads) {
            let number = (entry.value)(numbers);
            if !entry.topic.is_empty() && *told != Some(number) {
                *told = Some(number);
                tell(entry.topic, &number.to_string());
            }
            if entry.load.is_empty() {
                continue;
            }
            if let Some(millis) = since {
                load.advance(number, millis as f64 / 60_000.0);
            }
            for ((minutes, average), told) in SPANS.iter().zip(load.averages).zip(&mut load.told) {
                if told.is_none_or(|told| (told - average).abs() >= 10.0 * SAME) {
                    *told = Some(average);
                    tell(&format!("load/{}/{minutes}min", entry.load), &format!("{average:.2}"));
                }
            }
        }
    }
}

impl Load {
    /// So many minutes have passed: old ones count for less and less, as in Unix' load average.
    fn advance(&mut self, number: u64, minutes: f64) {
        let rate = number.saturating_sub(self.before) as f64 / minutes;
        self.before = number;
        for (span, average) in SPANS.iter().zip(&mut self.averages) {
            let weight = (-minutes / f64::from(*span)).exp();
            *average = rate + weight * (*average - rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_follows_the_rate() {
        let mut load = Load::default();
        let mut number = 0;
        let mut advance = |per_minute: u64, minutes: u64| {
            for _ in 0..6 * minutes {
                number += per_minute / 6;
                load.advance(number, 1.0 / 6.0);
            }
            load.averages.map(|average| average.round() as u64)
        };
        // After one of its spans an average has gone 1 - 1/e of the way.
        assert_eq!(advance(600, 1), [379, 109, 39]);
        assert_eq!(advance(600, 60), [600, 600, 590]);
        assert_eq!(advance(0, 1), [221, 491, 552]);
    }
}
