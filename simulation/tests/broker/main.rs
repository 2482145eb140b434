//! Stories of a broker and its clients, each told of the small one and of the large one.

use mqtt_core::{
    Acknowledgement, Config as ClientConfig, Connect, Disconnect, Event, Filter, List, PacketId,
    Payload, Properties, Property, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    Subscription, Text, Topic, Unsubscribe, UserProperty, Version, Will,
    broker::{Action, Answer, Broker, Config, Crowding, Large, Overflow, SPARE, Verdict},
    router::Limits as RouterLimits,
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
mod answers;
mod authentication;
mod connecting;
mod edges;
mod hosting;
mod limits;
mod memory;
mod messages;
mod owners;
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

fn bytes(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len(version).expect("a packet")];
    packet.encode(version, &mut &mut bytes[..]).expect("room");
    bytes
}

/// Sends this as a client that keeps to no limits. What the broker answers, which ends the connection.
fn break_in<M: Kind>(party: &mut Party<M>, input: &[Vec<u8>]) -> Vec<u8> {
    let now = party.clock.now();
    let connection = party.broker.open(now).expect("room");
    party.desk.begin(connection);
    let _ = party.broker.poll(now, connection, &mut &input.concat()[..], &mut party.desk);
    let written = party.desk.sinks[connection.index()].as_bytes().to_vec();
    assert!(party.desk.closing[connection.index()], "{written:02x?}");
    party.broker.closed(now, connection, &mut party.desk);
    written
}
