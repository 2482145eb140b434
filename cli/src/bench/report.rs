//! What a bench has found.

use std::{fmt, sync::atomic::Ordering::Relaxed, time::Duration};

use serde_json::{Value, json};

use super::load::{Tally, Times, lock};

/// What a bench has found.
#[derive(Debug)]
pub(super) struct Report {
    connections: u32,
    connecting: Duration,
    taking: Duration,
    published: u64,
    received: u64,
    expected: u64,
    dropped: u64,
    connect: Times,
    latency: Times,
    acknowledgement: Times,
}

const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9), ("max", 100.0)];

impl Report {
    pub(super) fn new(
        tally: &Tally,
        connections: u32,
        connecting: Duration,
        taking: Duration,
    ) -> Self {
        Self {
            connections,
            connecting,
            taking,
            published: tally.published.load(Relaxed),
            received: tally.received.load(Relaxed),
            expected: tally.expected.load(Relaxed),
            dropped: tally.dropped.load(Relaxed),
            connect: lock(&tally.connecting).clone(),
            latency: lock(&tally.latency).clone(),
            acknowledgement: lock(&tally.acknowledgement).clone(),
        }
    }

    /// How many messages have not arrived.
    pub(super) const fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "connecting_seconds": self.connecting.as_secs_f64(),
            "connect_us": percentiles(&self.connect),
            "seconds": self.taking.as_secs_f64(),
            "published": self.published,
            "published_per_second": rate(self.published, self.taking),
            "acknowledgement_us": percentiles(&self.acknowledgement),
            "expected": self.expected,
            "received": self.received,
            "received_per_second": rate(self.received, self.taking),
            "lost": self.lost(),
            "dropped_by_bench": self.dropped,
            "latency_us": percentiles(&self.latency),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, count: u64, taking: Duration| {
            let (seconds, rate) = (taking.as_secs_f64(), rate(count, taking));
            writeln!(f, "{name:<12} {count:>12} in {seconds:>8.3} s {rate:>12.0} per second")
        };
        row(f, "connections", self.connections.into(), self.connecting)?;
        row(f, "published", self.published, self.taking)?;
        row(f, "received", self.received, self.taking)?;
        writeln!(f, "{:<12} {:>12}", "lost", self.lost())?;
        if self.dropped > 0 {
            writeln!(
                f,
                "{:<12} {:>12} by this program, which was too slow",
                "dropped", self.dropped
            )?;
        }
        let times = [
            ("connect", &self.connect),
            ("acknowledged", &self.acknowledgement),
            ("delivered", &self.latency),
        ];
        writeln!(f)?;
        write!(f, "{:<12}", "time in us")?;
        PERCENTILES.iter().try_for_each(|(name, _)| write!(f, " {:>9}", name.replace('_', ".")))?;
        writeln!(f)?;
        for (name, times) in times.iter().filter(|(_, times)| !times.is_empty()) {
            write!(f, "{name:<12}")?;
            for (_, percentile) in PERCENTILES {
                write!(f, " {:>9}", times.value_at_percentile(percentile))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn rate(count: u64, taking: Duration) -> f64 {
    count as f64 / taking.as_secs_f64().max(1e-9)
}

/// Null if there is nothing to tell.
fn percentiles(times: &Times) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    let value = |(name, percentile): (&str, f64)| {
        (name.to_owned(), Value::from(times.value_at_percentile(percentile)))
    };
    PERCENTILES.into_iter().map(value).collect::<serde_json::Map<_, _>>().into()
}
