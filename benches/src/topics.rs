//! One filter against one topic.

use std::hint::black_box;

use mqtt_core::{Filter, Topic};

use crate::Case;

/// What it is called, a filter, and a topic.
const PAIRS: [(&str, &str, &str); 6] = [
    ("exact", "sensors/7/kitchen/co", "sensors/7/kitchen/co"),
    ("exact, differs at the end", "sensors/7/kitchen/co", "sensors/7/kitchen/ch"),
    ("`+`", "sensors/+/kitchen/+", "sensors/7/kitchen/co"),
    ("`#`", "sensors/7/#", "sensors/7/kitchen/co"),
    ("differs at the front", "actors/+/kitchen/#", "sensors/7/kitchen/co"),
    ("`#` and `$`", "#", "$SYS/broker/uptime/s"),
];

const COUNT: usize = 1_000;

/// All cases, those of one name together, ours first.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (label, filter, topic) in PAIRS {
        let (ours, name) = (Filter::new(filter).expect("valid"), Topic::new(topic).expect("valid"));
        let case = |by, matches: fn(Pair) -> bool| Case {
            name: format!("match {label}"),
            by,
            count: COUNT,
            bytes: COUNT * topic.len(),
            gate: None,
            prepare: Box::new(move || {
                let pair = Pair { filter, topic, ours: (ours, name) };
                Box::new(move || {
                    for _ in 0..COUNT {
                        black_box(matches(black_box(pair)));
                    }
                })
            }),
        };
        cases.push(case("mqtt-core", |pair| pair.ours.0.matches(pair.ours.1)));
        cases.push(case("rumqttc", |pair| rumqttc::matches(pair.topic, pair.filter)));
    }
    cases
}

#[derive(Clone, Copy)]
struct Pair {
    filter: &'static str,
    topic: &'static str,
    ours: (Filter<'static>, Topic<'static>),
}
