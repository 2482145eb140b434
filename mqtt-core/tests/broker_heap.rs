//! What a broker takes from the allocator: no more than its limits say, and nothing that has ended. One
//! test: the counts are the process's.
//!
//! Prints the most that it took, beside the formula.

use std::alloc::System;

use mqtt_core::{
    Ack, Buffer, Connect, Filter, Instant, PacketId, Properties, Property, Publish, QoS, Subscribe,
    Subscription, Text, Topic, Unsubscribe, Version, Will,
    broker::{Broker, Config, ConnectionId, Host, Large},
    router::Limits,
    wire::{Delivery, Packet},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SINK: usize = 16 * 1024;

/// Sinks of which everything written is lost.
struct Lines(Vec<Buffer<SINK>>);

impl Host for Lines {
    type Sink = Buffer<SINK>;

    fn sink(&mut self, to: ConnectionId) -> &mut Buffer<SINK> {
        let sink = &mut self.0[to.index()];
        sink.clear();
        sink
    }

    fn close(&mut self, _: ConnectionId) {}
}

fn main() {
    println!("what a broker takes"); // Standard output has a buffer: not counted.
    it_keeps_to_the_formula();
    println!("it_keeps_to_the_formula ... ok");
    what_a_client_no_longer_needs_is_given_back();
    println!("what_a_client_no_longer_needs_is_given_back ... ok");
}

const CLIENTS: usize = 40;
const ALIASES: u16 = 8;
const BYTES: usize = 1 << 20;

const CONFIG: Config = Config {
    sessions: CLIENTS,
    subscriptions: 20,
    filter_bytes: 2_000,
    in_flight: 20,
    queue_messages: 50,
    receive_maximum: 1_024,
    topic_alias_maximum: ALIASES,
    topic_alias_bytes: 4_096,
    retained_messages: 200,
    retained_bytes: 64 * 1_024,
    ..Config::DEFAULT
};

const LIMITS: Limits = Limits { subscriptions: 20 * CLIENTS, bytes: 384 * 1_024 };

struct Party {
    broker: Broker<Large>,
    lines: Lines,
    now: Instant,
    packet: Vec<u8>,
}

impl Party {
    /// A client sends a packet, and does not listen.
    fn send(&mut self, from: ConnectionId, packet: &Packet<'_>) {
        let len = packet.encoded_len(Version::V5).unwrap();
        packet.encode(Version::V5, &mut &mut self.packet[..len]).unwrap();
        let mut input = &self.packet[..len];
        self.broker.poll(self.now, from, &mut input, &mut self.lines).unwrap();
        assert!(input.is_empty());
    }

    fn connect(&mut self, name: &str, keep_alive: u16) -> ConnectionId {
        let connection = self.broker.open(self.now).unwrap();
        let will = Will {
            topic: Topic::new("will").unwrap(),
            payload: &[7; 500],
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::EMPTY,
        };
        let connect = Connect {
            client_id: Text::new(name).unwrap(),
            clean_start: false,
            keep_alive,
            session_expiry_interval: 3_600,
            topic_alias_maximum: 16,
            will: Some(will),
            ..Connect::default()
        };
        self.send(connection, &Packet::Connect(Version::V5, connect));
        connection
    }

    /// A client is idle for as long as it takes for the clock to look at it, and stays.
    fn wait(&mut self, client: ConnectionId) {
        for _ in 0..2 {
            self.now = self.now + 59_000;
            self.send(client, &Packet::PingReq);
            self.broker.tick(self.now, &mut self.lines);
        }
    }

    /// The first packet identifier is as good as any: it is free again at once.
    fn subscribe(&mut self, from: ConnectionId, filter: &str) {
        let list = [Subscription::new(Filter::new(filter).unwrap(), QoS::ExactlyOnce)];
        let properties = [Property::SubscriptionIdentifier(7)];
        let subscribe = Subscribe { properties: (&properties).into(), ..Subscribe::from(&list) };
        self.send(from, &Packet::Subscribe(PacketId::FIRST, subscribe));
    }

    fn unsubscribe(&mut self, from: ConnectionId, filter: &str) {
        let list = [Filter::new(filter).unwrap()];
        self.send(from, &Packet::Unsubscribe(PacketId::FIRST, Unsubscribe::from(&list)));
    }

    fn set_aliases(&mut self, from: ConnectionId) {
        for alias in 1..=ALIASES {
            let name = format!("{alias:0500}");
            let properties = [Property::TopicAlias(alias)];
            let publish = Publish {
                properties: (&properties).into(),
                ..Publish::new(Topic::new(&name).unwrap(), "x")
            };
            self.send(from, &Packet::Publish(Delivery::default(), publish));
        }
    }

    /// Publishes without end: nothing is released.
    fn publish(&mut self, from: ConnectionId, client: usize) {
        for number in 1..=CONFIG.receive_maximum {
            let topic = format!("t/{client}/{number}");
            let payload = [7; 300];
            let packet_id = PacketId::new(number);
            let publish = Publish {
                qos: QoS::ExactlyOnce,
                retain: number < 20,
                ..Publish::new(Topic::new(&topic).unwrap(), &payload[..])
            };
            let delivery = Delivery { packet_id, dup: false };
            self.send(from, &Packet::Publish(delivery, publish));
        }
    }
}

/// The bytes that are allocated since the region began.
fn used(region: &Region<'_, System>) -> usize {
    let change = region.change();
    let grown = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    usize::try_from(grown).unwrap()
}

/// A party that nobody has come to, and a region that begins before its broker.
fn party() -> (Party, Region<'static, System>) {
    let lines = Lines((0..CLIENTS).map(|_| Buffer::new()).collect());
    let packet = vec![0; 4_096];
    let region = Region::new(ALLOCATOR);
    let broker = Broker::large(CONFIG, BYTES, 7, LIMITS);
    (Party { broker, lines, now: Instant::from_millis(0), packet }, region)
}

/// When the clock looks at a client that has been idle for a while, what it had on its way is not there
/// any more, nor is the room for it.
fn what_a_client_no_longer_needs_is_given_back() {
    let (mut party, region) = party();
    let client = party.connect("idle", 60);
    party.subscribe(client, "t");
    let idle = used(&region);
    party.wait(client);
    assert_eq!(used(&region), idle, "it is owed no retained messages");
    let publish = Publish { qos: QoS::ExactlyOnce, ..Publish::new(Topic::new("t").unwrap(), "x") };
    let delivery = Delivery { packet_id: Some(PacketId::FIRST), dup: false };
    party.send(client, &Packet::Publish(delivery, publish));
    let busy = used(&region);
    for answer in [Packet::PubRel, Packet::PubRec, Packet::PubComp] {
        party.send(client, &answer(PacketId::FIRST, Ack::default()));
    }
    let answered = used(&region);
    party.wait(client);
    assert_eq!(party.broker.session(b"idle").map(|client| client.in_flight), Some(0));
    let rested = used(&region);
    println!(
        "{idle} bytes, {busy} while busy, {answered} when all is answered, {rested} idle again"
    );
    // What stays is the table of messages.
    assert!(busy > answered && answered > rested + 300 && rested < idle + 1_024);
}

fn it_keeps_to_the_formula() {
    let (mut party, region) = party();
    assert_eq!(used(&region), 0, "nothing without clients");

    let bound = Large::memory(&CONFIG, BYTES, &LIMITS, CLIENTS);
    let mut connections = Vec::with_capacity(CLIENTS);
    let mut most = 0;
    for client in 0..CLIENTS {
        let connection = party.connect(&format!("{client:0256}"), 0);
        connections.push(connection);
        party.subscribe(connection, "#");
        party.subscribe(connection, "t/#");
        for number in 2..30 {
            party.subscribe(connection, &format!("{client}/{number}/+/{:060}", number));
        }
        party.set_aliases(connection);
        party.publish(connection, client);
        most = most.max(used(&region));
    }
    println!("{most} bytes of {bound}");
    let default = Large::memory(&Config::DEFAULT, 256 << 20, &Limits::default(), 10_000);
    println!("{default} bytes at most by default, with 256 MiB of messages and 10,000 connections");
    assert!(most <= bound, "{most} of {bound}");
    assert!(most >= bound / 3, "{most} of {bound}: the limits are not reached");
    assert!(party.broker.statistics().dropped_overflow > 0);
    assert!(party.broker.statistics().not_retained > 0);
    assert_eq!(party.broker.subscription_count(), LIMITS.subscriptions);

    // Who is stuck, and subscribes and unsubscribes all the same.
    party.unsubscribe(connections[0], "#");
    let before = used(&region);
    for number in 0..2_000 {
        let filter = format!("s/{number}/#");
        party.subscribe(connections[0], &filter);
        party.unsubscribe(connections[0], &filter);
    }
    assert!(used(&region) < before + 1_000, "{before}: {}", used(&region));

    // Aliases end with their connection.
    let before = used(&region);
    for connection in &connections {
        party.broker.closed(party.now, *connection, &mut party.lines);
    }
    let freed = before.saturating_sub(used(&region));
    assert!(freed >= CLIENTS * usize::from(ALIASES) * 500, "{freed}");

    // Everything else ends with the session.
    party.now = party.now + 3_700_000;
    while party.broker.deadline().is_some_and(|due| due <= party.now) {
        party.broker.tick(party.now, &mut party.lines);
    }
    assert_eq!((party.broker.sessions(), party.broker.subscription_count()), (0, 0));
    let Party { broker, lines, packet, .. } = party;
    println!("{} bytes without clients, {} of messages", used(&region), broker.bytes());
    assert!(used(&region) < bound / 4);
    drop((broker, connections));
    assert_eq!(used(&region), 0);
    drop((lines, packet));
}
