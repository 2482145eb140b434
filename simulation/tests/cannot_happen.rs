//! Mistakes that known MQTT libraries have shipped, by number. What concerns a client has a test here
//! that names it, and mostly more of them elsewhere: random runs in `seeds.rs`, anything at any time
//! in `arbitrary.rs`, and the stories. Number 16, that what a store gives back is trusted, is in
//! `untrusted_store.rs`.

use mqtt_core::{
    Acknowledgement, Config, ConnAck, Connect, Disconnect, Error, Event, Filter, MIN_SINK,
    PacketId, Properties, Property, Publish, PublishError, QoS, ReasonCode, SendError, Subscribe,
    Subscription, Text, Topic, Unsubscribe, Version, Violation,
    store::{Aliased, Heap, Limits, Records, Store},
    wire::{Delivery, Packet},
};
use simulation::{Direction, Manners, Note, Weather, story::*};

const MANUAL: Config = Config { acknowledgement: Acknowledgement::Manual, ..Config::DEFAULT };

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn send<S: Store>(pair: &mut Talk<S>, number: u16, dup: bool, publish: Publish<'_>) {
    let packet_id = (publish.qos > QoS::AtMostOnce).then(|| id(number));
    pair.server.send(&Packet::Publish(Delivery { packet_id, dup }, publish));
}

fn resume<S: Store>(pair: &mut Talk<S>, version: Version) {
    if pair.wire.is_open() {
        pair.cut();
    }
    pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
    pair.connect(&persistent(version)).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
}

/// All five packets that carry identifiers take them from one place, for as long as they are live.
#[test]
fn n01_no_live_identifier_is_given_again_and_no_answer_goes_to_another_operation() {
    for version in BOTH {
        let mut pair = talk(version);
        let filters = [Filter::new("a").unwrap()];
        let wanted = [Subscription::new(filters[0], QoS::AtMostOnce)];
        let mut live = Vec::new();
        for round in 0..4 {
            live.extend(pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap());
            live.extend(pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap());
            live.push(pair.subscribe(&Subscribe::from(&wanted)).unwrap());
            let now = pair.clock.now();
            let unsubscribe = Unsubscribe::from(&filters);
            let unwanted = |client: &mut mqtt_core::Client<_>, out: &mut simulation::Outbox| {
                client.unsubscribe(now, &unsubscribe, out)
            };
            live.push(pair.client.command(unwanted).unwrap());
            if round == 1 {
                resume(&mut pair, version);
                // Requests have ended with the connection, publishes have not.
                live = vec![live[0], live[1], live[4], live[5]];
            }
        }
        let count = live.len();
        live.sort_unstable();
        live.dedup();
        assert_eq!(live.len(), count);
    }
}

/// There are no futures here; bytes may be divided anywhere, in both directions.
#[test]
fn n02_no_bytes_are_lost_doubled_or_reordered() {
    let play = |version, piece, window| {
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        pair.wire.weather = Weather { piece, window, ..Weather::CALM };
        for number in 0..4 {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let payload = format!("{number}{qos:?}");
                pair.server.publish(&Note::new("in", payload.as_bytes(), qos));
                while pair.publish(&message("out", &payload, qos)).is_err() {
                    pair.step();
                }
            }
        }
        let mut events: Vec<_> = pair.events().iter().map(|event| format!("{event:?}")).collect();
        let mut arrived = pair.server.accepted.clone();
        // What goes one way may overtake what goes the other.
        events.sort_unstable();
        arrived.sort_by(|a, b| a.payload.cmp(&b.payload));
        (events, arrived)
    };
    for version in BOTH {
        let whole = play(version, usize::MAX, usize::MAX);
        for (piece, window) in [(1, 1), (1, usize::MAX), (2, 5), (7, 7), (usize::MAX, 3)] {
            assert_eq!(play(version, piece, window), whole);
        }
    }
}

#[test]
fn n03_user_data_keeps_none_of_our_own_packets_from_leaving() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let terms = ConnAck::default();
        let mut pair = talk_on(version, Small::new(), Config::default(), &connect, terms);
        pair.client.out.capacity = 100;
        let fill = |pair: &mut Talk| {
            for len in [40, 20, 10, 5, 0] {
                let payload = "x".repeat(len);
                while pair.publish(&message("a", &payload, QoS::AtMostOnce)).is_ok() {}
            }
            pair.client.out.as_bytes().len()
        };
        // One at a time: each finds the sink as full as user data can make it.
        let mut answers = |packet: Packet<'_>, answer: &[u8]| {
            let full = fill(&mut pair);
            let now = pair.clock.now();
            let mut bytes = vec![0; packet.encoded_len(version).unwrap()];
            packet.encode(version, &mut &mut bytes[..]).unwrap();
            pair.client.call(|client, out| {
                while let Ok(Some(_)) = client.poll(now, &mut &bytes[..], out) {
                    bytes.clear();
                }
            });
            assert_eq!(&pair.client.out.as_bytes()[full..], answer);
            pair.drive();
        };
        let delivery = Delivery { packet_id: Some(id(1)), dup: false };
        let publish = |qos| Packet::Publish(delivery, message("a", "b", qos));
        answers(publish(QoS::AtLeastOnce), &[0x40, 2, 0, 1]);
        answers(publish(QoS::ExactlyOnce), &[0x50, 2, 0, 1]);
        answers(Packet::PubRel(id(1), Default::default()), &[0x70, 2, 0, 1]);
        let full = fill(&mut pair);
        pair.clock.advance(10_000);
        let now = pair.clock.now();
        pair.client.call(|client, out| client.poll(now, &mut &[][..], out)).unwrap();
        assert_eq!(pair.client.out.as_bytes()[full..], [0xc0, 0]);
        let goodbye = Disconnect::default();
        pair.client.call(|client, out| client.disconnect(now, &goodbye, out)).unwrap();
        assert_eq!(pair.client.out.as_bytes()[full + 2..], [0xe0, 0]);
    }
}

#[test]
fn n04_every_queue_is_bounded_in_number_and_bytes_and_says_when_it_is_full() {
    for version in BOTH {
        let limits = Limits { flights: 5, arrivals: 3, bytes: 100, ..Limits::default() };
        let (connect, terms) = (persistent(version), ConnAck::default());
        let mut pair = talk_on(version, Heap::with_limits(limits), MANUAL, &connect, terms);
        let full = Err(PublishError::InFlightFull);
        let payload = "x".repeat(60);
        assert!(pair.publish(&message("a", &payload, QoS::AtLeastOnce)).is_ok());
        assert_eq!(pair.publish(&message("a", &payload, QoS::AtLeastOnce)), full);
        for _ in 1..5 {
            assert!(pair.publish(&message("a", "", QoS::ExactlyOnce)).is_ok());
        }
        assert_eq!(pair.publish(&message("a", "", QoS::ExactlyOnce)), full);
        let filter = Filter::new("a").unwrap();
        let wanted = [Subscription::new(filter, QoS::AtMostOnce)];
        let requests = (0..1_000).map(|_| pair.subscribe(&Subscribe::from(&wanted)));
        let requests: Vec<_> = requests.take_while(Result::is_ok).collect();
        assert!(requests.len() < 100);
        for number in 1..=4 {
            send(&mut pair, number, false, message("a", "b", QoS::ExactlyOnce));
        }
        assert_eq!(pair.events().len(), 3);
        // Before 5.0 the peer was not told how many: it waits for us. Later it knows better.
        let error = Error::Protocol(Violation::ReceiveMaximumExceeded);
        assert_eq!(pair.client.error, version.is_v5().then_some(error));
    }
}

/// `arbitrary.rs` does this at random; here is every input of one and two bytes, in every state.
#[test]
fn n05_no_input_panics() {
    for version in BOTH {
        for state in 0..3 {
            for first in 0..=u8::MAX {
                for second in [None].into_iter().chain((0..=u8::MAX).map(Some)) {
                    let mut client = mqtt_core::Client::new(version, Records::<1>::new());
                    let mut out = mqtt_core::Buffer::<64>::new();
                    let now = Default::default();
                    if state > 0 {
                        client.connect(now, &Connect::default(), &mut out).unwrap();
                    }
                    if state > 1 {
                        let ack = if version.is_v5() {
                            &[0x20, 3, 0, 0, 0][..]
                        } else {
                            &[0x20, 2, 0, 0]
                        };
                        client.poll(now, &mut { ack }, &mut out).unwrap();
                    }
                    let bytes = [first, second.unwrap_or(0)];
                    let mut input = &bytes[..if second.is_some() { 2 } else { 1 }];
                    for _ in 0..3 {
                        let _ = client.poll(now, &mut input, &mut out);
                    }
                }
            }
        }
    }
}

#[test]
fn n06_what_is_advertised_is_what_is_enforced() {
    let store = || Aliased::<_, 4, 20>::new(Records::<3>::new());
    let asked = Connect {
        receive_maximum: 100,
        maximum_packet_size: Some(100),
        topic_alias_maximum: 100,
        ..persistent(Version::V5)
    };
    let connect = || {
        let mut pair = unconnected(Version::V5, store(), MANUAL);
        pair.server.greeting = None;
        pair.connect(&asked).unwrap();
        pair.drive();
        let Packet::Connect(_, told) = pair.server.packet() else { panic!() };
        pair.server.send(&Packet::ConnAck(ConnAck::default()));
        assert!(matches!(pair.event(), Event::Connected(_)));
        (pair, told)
    };
    let (mut pair, told) = connect();
    assert_eq!(told.receive_maximum, 3);
    for number in 1..=told.receive_maximum + 1 {
        send(&mut pair, number, false, message("a", "b", QoS::AtLeastOnce));
        pair.drive();
        let is_too_much = number > told.receive_maximum;
        assert_eq!(pair.client.error.is_some(), is_too_much);
    }
    let (mut pair, told) = connect();
    let maximum = told.maximum_packet_size.unwrap() as usize;
    for len in [maximum, maximum + 1] {
        let payload = "x".repeat(len - 6);
        send(&mut pair, 0, false, message("a", &payload, QoS::AtMostOnce));
        pair.drive();
        assert_eq!(pair.client.error.is_some(), len > maximum);
    }
    let (mut pair, told) = connect();
    assert_eq!(told.topic_alias_maximum, 4);
    for alias in 1..=told.topic_alias_maximum + 1 {
        let properties = [Property::TopicAlias(alias)];
        let publish = message("a", "b", QoS::AtMostOnce);
        send(&mut pair, 0, false, Publish { properties: (&properties).into(), ..publish });
        pair.drive();
        assert_eq!(pair.client.error.is_some(), alias > told.topic_alias_maximum);
    }
}

/// The server panics if one is exceeded.
#[test]
fn n07_no_limit_of_the_peer_is_exceeded() {
    let terms = ConnAck {
        receive_maximum: 2,
        maximum_packet_size: Some(40),
        maximum_qos: QoS::AtLeastOnce,
        topic_alias_maximum: 1,
        retain_available: false,
        ..ConnAck::default()
    };
    let manners = Manners { terms, ..Manners::default() };
    let config = Config { topic_aliases: true, ..Config::DEFAULT };
    let store = Aliased::<_, 4, 20>::new(Small::new());
    let mut pair = meet_on(Version::V5, store, config, manners);
    for connection in 0..2 {
        for len in 25..45 {
            let payload = "x".repeat(len);
            for (qos, retain) in [
                (QoS::AtMostOnce, true),
                (QoS::AtMostOnce, false),
                (QoS::AtLeastOnce, false),
                (QoS::AtLeastOnce, false),
                (QoS::AtLeastOnce, false),
                (QoS::ExactlyOnce, false),
            ] {
                for topic in ["a", "b"] {
                    let publish = Publish { retain, ..message(topic, &payload, qos) };
                    // Some are refused: on the second connection even less is taken.
                    let _ = pair.publish(&publish);
                }
            }
            pair.drive();
            let filter = "x".repeat(len);
            let wanted = [Subscription::new(Filter::new(&filter).unwrap(), QoS::AtMostOnce)];
            let fits = 8 + len <= if connection == 0 { 40 } else { 36 };
            assert_eq!(pair.subscribe(&Subscribe::from(&wanted)).is_ok(), fits);
            pair.drive();
        }
        assert!(pair.server.accepted.len() > 10, "{connection}");
        pair.server.manners.frozen = true;
        // Fits now, and not on the next connection.
        let payload = "x".repeat(if connection == 0 { 30 } else { 26 });
        pair.publish(&message("a", &payload, QoS::AtLeastOnce)).unwrap();
        pair.drive();
        pair.cut();
        pair.server.manners.frozen = false;
        pair.server.manners.terms.maximum_packet_size = Some(36);
        pair.client.events.clear();
        pair.connect(&persistent(Version::V5)).unwrap();
        let is_drop = |event: &_| matches!(event, Event::Dropped(..));
        let drops = pair.events().into_iter().filter(is_drop).count();
        assert_eq!(drops, 1 - connection);
    }
    let text = "x".repeat(40);
    let properties = [Property::ReasonString(Text::new(&text).unwrap())];
    let goodbye = Disconnect { properties: Properties::from(&properties), ..Disconnect::default() };
    let now = pair.clock.now();
    let too_large = pair.client.command(|client, out| client.disconnect(now, &goodbye, out));
    assert_eq!(too_large, Err(SendError::TooLarge));
}

#[test]
fn n08_neither_aliases_nor_quotas_outlive_their_connection() {
    let config = Config { topic_aliases: true, ..Config::DEFAULT };
    let store = Aliased::<_, 2, 20>::new(Small::new());
    let terms = ConnAck { topic_alias_maximum: 2, receive_maximum: 3, ..ConnAck::default() };
    let connect = persistent(Version::V5);
    let mut pair = talk_on(Version::V5, store, config, &connect, terms);
    for _ in 0..3 {
        pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap();
    }
    assert!(pair.publish(&message("a", "b", QoS::AtLeastOnce)).is_err());
    pair.drive();
    // The new connection has other aliases, and another quota.
    pair.cut();
    let terms = ConnAck { receive_maximum: 4, session_present: true, ..terms };
    pair.server.greeting = Some(terms);
    pair.connect(&connect).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
    for number in 1..=3 {
        let Packet::Publish(delivery, publish) = pair.server.packet() else { panic!() };
        assert_eq!(delivery.packet_id, Some(id(number)));
        assert_eq!(publish.topic, Topic::new("a").unwrap());
        assert_eq!(publish.properties.topic_alias(), None);
    }
    assert!(pair.publish(&message("a", "b", QoS::AtLeastOnce)).is_ok());
    pair.drive();
    let Packet::Publish(_, publish) = pair.server.packet() else { panic!() };
    assert_eq!(publish.topic, Topic::new("a").unwrap());
    assert_eq!(publish.properties.topic_alias(), Some(1));
    assert!(pair.publish(&message("a", "b", QoS::AtLeastOnce)).is_err());
}

/// Completed, refused, dropped, lost: one of them, and once.
#[test]
fn n09_every_accepted_publish_has_exactly_one_outcome() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut pair = meet(Version::V5);
        let large = "x".repeat(30);
        let completed = pair.publish(&message("a", "b", qos)).unwrap().unwrap();
        let refused = pair.publish(&message("no/a", "b", qos)).unwrap().unwrap();
        let mut ended: Vec<_> = pair
            .events()
            .into_iter()
            .map(|event| match event {
                Event::Acknowledged(id, ack) => (id, ack.reason.is_error()),
                other => panic!("{other:?}"),
            })
            .collect();
        ended.sort_unstable();
        assert_eq!(ended, [(completed, false), (refused, true)]);
        pair.server.manners.frozen = true;
        let dropped = pair.publish(&message("a", &large, qos)).unwrap().unwrap();
        pair.drive();
        pair.cut();
        pair.server.manners = Manners::default();
        pair.server.manners.terms.maximum_packet_size = Some(20);
        pair.connect(&persistent(Version::V5)).unwrap();
        let [Event::Connected(_), outcome] = pair.events()[..] else { panic!() };
        assert_eq!(outcome, Event::Dropped(dropped, ReasonCode::PacketTooLarge));
        pair.server.manners.frozen = true;
        pair.publish(&message("a", "b", qos)).unwrap();
        pair.drive();
        pair.cut();
        pair.server.manners = Manners::default();
        pair.server.forget();
        pair.connect(&persistent(Version::V5)).unwrap();
        let [Event::Connected(ack)] = pair.events()[..] else { panic!() };
        assert!(!ack.session_present);
        assert_eq!(pair.client.client.store().flights(), 0);
    }
}

/// At every byte, with the quota, the store and the requests exhausted.
#[test]
fn n10_a_lost_connection_leaves_no_gate_closed() {
    for version in BOTH {
        for direction in [Direction::Up, Direction::Down] {
            for cut in (0..200).step_by(5) {
                let mut pair = meet(version);
                pair.wire.weather = Weather { window: 20, ..Weather::BYTES };
                let carried = pair.wire.carried(direction);
                pair.wire.cut_after(direction, carried + cut);
                let filter = Filter::new("a").unwrap();
                let wanted = [Subscription::new(filter, QoS::AtMostOnce)];
                for _ in 0..20 {
                    let _ = pair.publish(&message("a", "b", QoS::ExactlyOnce));
                    let _ = pair.subscribe(&Subscribe::from(&wanted));
                }
                let now = pair.clock.now();
                let head = message("a", "", QoS::AtMostOnce);
                let streamed = |client: &mut mqtt_core::Client<_>, out: &mut simulation::Outbox| {
                    client.publish_streamed(now, &head, 100, out)
                };
                let _ = pair.client.command(streamed);
                pair.drive();
                if pair.wire.is_open() {
                    pair.cut();
                }
                pair.connect(&persistent(version)).unwrap();
                pair.events();
                assert_eq!(pair.client.client.payload_owed(), 0);
                for _ in 0..8 {
                    assert!(pair.publish(&message("a", "b", QoS::ExactlyOnce)).is_ok());
                    assert!(pair.subscribe(&Subscribe::from(&wanted)).is_ok());
                }
                let outcomes = pair.events();
                assert_eq!(outcomes.len(), 16, "cut after {cut} {direction:?}");
            }
        }
    }
}

#[test]
fn n11_a_lost_session_does_not_go_unnoticed() {
    for version in BOTH {
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        for is_kept in [true, false] {
            pair.cut();
            if !is_kept {
                pair.server.forget();
            }
            pair.connect(&persistent(version)).unwrap();
            let Event::Connected(ack) = pair.event() else { panic!() };
            assert_eq!(ack.session_present, is_kept);
            let listeners = pair.server.publish(&Note::new("a", "b", QoS::AtMostOnce));
            assert_eq!(listeners, usize::from(is_kept));
            pair.events();
        }
    }
}

#[test]
fn n12_no_message_at_qos_2_comes_twice_and_none_is_dropped_for_its_dup() {
    for version in BOTH {
        for config in [Config::DEFAULT, MANUAL] {
            let (connect, terms) = (persistent(version), ConnAck::default());
            let mut pair = talk_on(version, Small::new(), config, &connect, terms);
            send(&mut pair, 1, false, message("a", "old", QoS::ExactlyOnce));
            assert!(matches!(pair.event(), Event::Message(_)));
            resume(&mut pair, version);
            send(&mut pair, 1, true, message("a", "old", QoS::ExactlyOnce));
            send(&mut pair, 2, true, message("a", "fresh", QoS::ExactlyOnce));
            let [Event::Message(message)] = pair.events()[..] else { panic!() };
            assert_eq!(message.payload, b"fresh");
        }
    }
}

#[test]
fn n13_nothing_leaves_out_of_order() {
    for version in BOTH {
        let mut pair = meet_on(version, Small::new(), MANUAL, Manners::default());
        subscribe_to_all(&mut pair);
        for round in 0..10 {
            // The server checks the order of messages sent again, and of acknowledgements.
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce] {
                let _ = pair.publish(&message("out", &format!("{round}"), qos));
                pair.server.publish(&Note::new("in", format!("{round}"), qos));
            }
            for _ in 0..round {
                pair.step();
            }
            let mut receipts = Vec::new();
            for event in pair.client.events.drain(..) {
                if let Event::Message(message) = event {
                    receipts.extend(message.receipt);
                }
            }
            for receipt in receipts.into_iter().rev() {
                // Some are of the last connection.
                let _ = pair.acknowledge(receipt, ReasonCode::Success);
            }
            pair.step();
            pair.cut();
            pair.connect(&persistent(version)).unwrap();
        }
        pair.drive();
        let mut latest = 0;
        for note in &pair.server.accepted {
            let round = String::from_utf8_lossy(&note.payload).parse().unwrap();
            assert!(round >= latest || note.qos == QoS::AtLeastOnce);
            latest = latest.max(round);
        }
    }
}

#[test]
fn n14_keep_alive_neither_chatters_nor_sleeps() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let terms = ConnAck::default();
        let mut pair = talk_on(version, Small::new(), Config::default(), &connect, terms);
        let is_ping = |packet: Packet<'_>| packet == Packet::PingReq;
        // Traffic flows both ways: no ping.
        for _ in 0..10 {
            pair.run(6_000);
            pair.publish(&message("a", "b", QoS::AtMostOnce)).unwrap();
            send(&mut pair, 0, false, message("a", "b", QoS::AtMostOnce));
            pair.drive();
        }
        assert!(!pair.server.received.drain(..).any(is_ping));
        // The application is slow: one ping when it wakes, and nobody is taken for dead.
        pair.client.awake = false;
        send(&mut pair, 0, false, message("a", "b", QoS::AtMostOnce));
        pair.run(60_000);
        pair.client.awake = true;
        pair.drive();
        assert_eq!(pair.server.received.drain(..).filter(|packet| is_ping(*packet)).count(), 1);
        assert_eq!(pair.client.error, None);
        // The peer is silent, however much is sent to it.
        for _ in 0..15 {
            pair.publish(&message("a", "b", QoS::AtMostOnce)).unwrap();
            pair.run(1_000);
        }
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
    }
}

/// A publish is written or refused at once, also while an event is in hand, which borrows neither
/// the machine nor the sink.
#[test]
fn n15_no_publish_waits_for_a_poll() {
    for version in BOTH {
        let mut pair = talk(version);
        send(&mut pair, 1, false, message("a", "ping", QoS::AtLeastOnce));
        pair.client.awake = false;
        pair.drive();
        let mut bytes = [0; 64];
        let delivery = Delivery { packet_id: Some(id(1)), dup: false };
        let packet = Packet::Publish(delivery, message("a", "ping", QoS::AtLeastOnce));
        let len = packet.encoded_len(version).unwrap();
        packet.encode(version, &mut &mut bytes[..]).unwrap();
        let now = pair.clock.now();
        pair.client.call(|client, out| {
            let mut input = &bytes[..len];
            let event = client.poll(now, &mut input, out).unwrap().unwrap();
            let mut published = 0;
            let full = loop {
                match client.publish(now, &message("a", "pong", QoS::AtLeastOnce), out) {
                    Ok(_) => published += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!((published, full), (8, PublishError::InFlightFull));
            assert!(matches!(event, Event::Message(message) if message.payload == b"ping"));
        });
    }
}

/// A full set of QoS 2 identifiers: the PUBREL that would free one may be behind the message that
/// has no place. It ends the connection, and the next one goes on.
#[test]
fn n17_a_full_set_of_identifiers_ends_the_connection() {
    let mut pair = talk(Version::V3_1_1);
    for number in 1..=9 {
        send(&mut pair, number, false, message("a", "b", QoS::ExactlyOnce));
    }
    pair.server.send(&Packet::PubRel(id(1), Default::default()));
    assert_eq!(pair.error(), Error::Protocol(Violation::ReceiveMaximumExceeded));
    assert_eq!(pair.events().len(), 8);
    resume(&mut pair, Version::V3_1_1);
    for number in 1..=8 {
        pair.server.send(&Packet::PubRel(id(number), Default::default()));
    }
    send(&mut pair, 9, true, message("a", "b", QoS::ExactlyOnce));
    assert!(matches!(pair.event(), Event::Message(_)));
    assert_eq!(pair.client.client.store().arrivals(), 1);
    assert!(pair.client.out.capacity >= MIN_SINK);
}
