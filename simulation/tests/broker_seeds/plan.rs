//! What may happen in a run: chosen once for each seed.

use mqtt_core::{
    Acknowledgement, Config as ClientConfig, QoS, Version,
    broker::{Config, Overflow},
};
use simulation::{Rng, Weather};

pub(crate) const NAMES: [&str; 4] = ["one", "two", "three", "four"];
pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const TOPICS: [&str; 6] = ["a", "b/c", "b/d/e", "no/go", "jobs/x", "tasks/y/z"];
const FILTERS: [&str; 8] = ["a", "b/+", "b/#", "+/d/e", "+/c", "wills/+", "no/#", "wills/two"];
const GROUPS: [&str; 2] = ["$share/crew/jobs/+", "$share/team/tasks/#"];

/// What the host denies.
pub(crate) fn is_denied(name: &str) -> bool {
    name.starts_with("no/")
}

/// The circumstances of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) broker: Config,
    /// There are groups, and so much room that it does not matter who of one gets a message.
    pub(crate) shares: bool,
    /// Somebody else comes under the name of the first client.
    pub(crate) contested: bool,
    /// Clients may come for ever, and never expire.
    pub(crate) lasting: bool,
    /// Decisions may come later.
    pub(crate) later: bool,
    /// How many messages are published at most.
    pub(crate) messages: usize,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let (shares, contested, lasting) = (rng.once_in(3), rng.once_in(6), rng.once_in(2));
        let broker = Config {
            topic_aliases: rng.once_in(2),
            assumed_receive_maximum: rng.pick(&[1, 3, 20]),
            receive_maximum: rng.pick(&[1, 2, 16]),
            in_flight: rng.pick(&[1, 4, 20]),
            overflow: rng.pick(&[Overflow::DropNewest, Overflow::DropOldest]),
            queue_messages: if shares { 1_000 } else { rng.pick(&[1, 2, 5, 10]) },
            session_expiry_maximum: if lasting { u32::MAX } else { rng.pick(&[2, 3_600]) },
            ..Config::default()
        };
        // All of them, those that come again, too, can wait for one session of the small broker.
        let messages = if shares { 16 } else { 30 };
        Self { broker, shares, contested, lasting, later: rng.once_in(3), messages }
    }

    pub(crate) fn topic(&self, rng: &mut Rng) -> &'static str {
        rng.pick(&TOPICS[..if self.shares { 6 } else { 4 }])
    }

    pub(crate) fn filter(&self, rng: &mut Rng) -> &'static str {
        if self.shares && rng.once_in(2) { rng.pick(&GROUPS) } else { rng.pick(&FILTERS) }
    }

    /// 3.1 does not tell that a session has ended, nor is a client told who shares its name.
    pub(crate) fn version(&self, rng: &mut Rng, who: usize) -> Version {
        let versions = [Version::V5, Version::V5, Version::V3_1_1, Version::V3_1];
        rng.pick(if self.lasting && who > 0 { &versions } else { &versions[..3] })
    }
}

/// How a client is set up.
pub(crate) fn client(rng: &mut Rng) -> ClientConfig {
    ClientConfig {
        acknowledgement: rng.pick(&[Acknowledgement::Automatic, Acknowledgement::Manual]),
        topic_aliases: rng.once_in(2),
        ..ClientConfig::default()
    }
}

pub(crate) fn weather(rng: &mut Rng) -> Weather {
    Weather {
        piece: rng.pick(&[1, 3, 20, usize::MAX]),
        delay: rng.pick(&[0, 0, 5, 50]),
        window: rng.pick(&[7, 64, usize::MAX, usize::MAX]),
    }
}
