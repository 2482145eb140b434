//! Stories of a broker and its clients, each told of the small one and of the large one.

use mqtt_core::{
    Acknowledgement, Config as ClientConfig, Connect, Disconnect, Event, Filter, List, Payload,
    Properties, Property, Publish, QoS, ReasonCode, RetainHandling, Subscribe, Subscription, Text,
    Topic, Unsubscribe, UserProperty, Version, Will,
    broker::{Action, Answer, Config, Crowding, Large, Overflow, SPARE, Verdict},
    store::{Heap, Limits},
    wire::{Decoded, Delivery, Packet},
};
use simulation::{
    Party, Pocket,
    party::{Kind, handling, named},
    story::{BOTH, message},
};

/// Tells the story of a party with each kind of broker.
macro_rules! both {
    ($config:expr, $party:ident => $body:block) => {{
        {
            let mut $party = Party::<Pocket>::new($config);
            $body
        }
        {
            let mut $party = Party::<Large>::new($config);
            $body
        }
    }};
}

mod access;
mod authentication;
mod connecting;
mod edges;
mod hosting;
mod limits;
mod memory;
mod messages;
mod retained;
mod sessions;
mod shared;
mod wills;

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn filter(text: &str) -> Filter<'_> {
    Filter::new(text).expect("a filter")
}

fn topic(text: &str) -> Topic<'_> {
    Topic::new(text).expect("a topic")
}

fn text(text: &str) -> Text<'_> {
    Text::new(text).expect("text")
}

/// The reason with which the only publish was answered.
fn answer(events: &[Event<'_>]) -> ReasonCode {
    match events {
        [Event::Acknowledged(_, ack)] => ack.reason,
        other => panic!("{other:?}"),
    }
}
