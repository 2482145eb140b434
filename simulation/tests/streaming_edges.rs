//! Messages in pieces, where pieces are awkward: heads that are never seen whole, acknowledgements
//! without room, payloads that nobody goes on with.

use mqtt_core::{
    Acknowledgement, Config, ConnAck, Connect, DecodeError, EncodeError, Error, Event, PacketId,
    Property, Publish, PublishError, QoS, Topic, Version,
    store::{Aliased, Fixed, Records, Store},
    wire::{Delivery, Packet},
};
use simulation::story::*;

const SECOND: u64 = 1_000;

/// A receive buffer that hardly holds a fixed header.
const NARROW: Config = Config { whole: Config::MIN_WHOLE, ..Config::DEFAULT };

/// A topic that does not fit it.
const LONG: &str = "a/topic/that/is/longer/than/the/receive/buffer";

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn talk_with<S: Store>(version: Version, store: S, config: Config) -> Talk<S> {
    talk_on(version, store, config, &persistent(version), ConnAck::default())
}

/// Sends a message with this identifier.
fn send<S: Store>(pair: &mut Talk<S>, number: u16, dup: bool, publish: Publish<'_>) {
    let packet_id = (publish.qos > QoS::AtMostOnce).then(|| id(number));
    pair.server.send(&Packet::Publish(Delivery { packet_id, dup }, publish));
}

/// Leaves no room for an acknowledgement, until [`make_room`].
fn take_room<S: Store>(pair: &mut Talk<S>) {
    assert!(pair.client.out.is_empty());
    pair.client.out.capacity = 2;
}

fn make_room<S: Store>(pair: &mut Talk<S>) {
    pair.client.out.capacity = 4_096;
}

/// Begins to publish a message in pieces.
fn begin<S: Store>(pair: &mut Talk<S>, len: usize) -> Result<(), PublishError> {
    let (now, head) = (pair.clock.now(), message("a", "", QoS::AtMostOnce));
    let begun = pair.client.command(|client, out| client.publish_streamed(now, &head, len, out));
    begun.map(|id| assert_eq!(id, None))
}

/// Goes on with it. How much was taken.
fn feed<S: Store>(pair: &mut Talk<S>, bytes: &[u8]) -> usize {
    pair.client.call(|client, out| client.payload(bytes, out))
}

/// A caller may have less than the least, and knows no better.
#[test]
fn the_smallest_buffer_holds_any_fixed_header() {
    for version in BOTH {
        for whole in [0, 4, Config::MIN_WHOLE] {
            let config = Config { whole, ..Config::default() };
            let mut pair = unconnected(version, Small::new(), config);
            pair.client.buffer = Config::MIN_WHOLE;
            pair.connect(&persistent(version)).unwrap();
            assert!(matches!(pair.event(), Event::Connected(_)));
            let payload = "x".repeat(300_000);
            send(&mut pair, 1, false, message("a", &payload, QoS::AtLeastOnce));
            let mut arrived = 0;
            for event in pair.events() {
                match event {
                    Event::Message(message) => arrived += message.payload.len(),
                    Event::Payload { bytes, .. } => arrived += bytes.len(),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(arrived, payload.len());
            assert_eq!(pair.server.packet(), Packet::PubAck(id(1), Default::default()));
        }
    }
}

/// A head that is passed over is not believed for that.
#[test]
fn a_topic_longer_than_its_packet_is_malformed_though_it_is_never_seen_whole() {
    // Before the identifier, and where the identifier would be; topic and packet end together.
    for (flags, topic_len, good) in
        [(0, 198, true), (0, 199, false), (2, 196, true), (2, 197, false)]
    {
        let mut pair = talk_with(Version::V3_1_1, Small::new(), NARROW);
        pair.server.send_bytes(&[0x30 | flags, 200, 1, 0, topic_len]);
        pair.server.send_bytes(&[b'a'; 198]);
        if good {
            assert_eq!(pair.event(), Event::Skipped { size: 200 }, "{flags} {topic_len}");
        } else {
            let error = Error::Malformed(DecodeError::Truncated);
            assert_eq!(pair.error(), error, "{flags} {topic_len}");
        }
    }
}

/// [MQTT-4.3.3-10]: the second time there is nothing to tell, and no room to answer.
#[test]
fn a_repeated_message_without_a_payload_waits_for_room_to_be_answered() {
    for version in BOTH {
        let mut pair = talk_with(version, Fixed::<1, 64>::new(), NARROW);
        send(&mut pair, 1, false, message("a", "", QoS::ExactlyOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
        assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        take_room(&mut pair);
        for _ in 0..2 {
            send(&mut pair, 1, true, message(LONG, "", QoS::ExactlyOnce));
            pair.server.send(&Packet::PingResp);
        }
        assert_eq!(pair.events(), []);
        make_room(&mut pair);
        assert_eq!(pair.events(), []);
        assert_eq!(pair.client.error, None);
        assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        // The answer to both, if both had come before it could leave.
        while !pair.server.is_quiet() {
            assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        }
        pair.server.send(&Packet::PubRel(id(1), Default::default()));
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubComp(id(1), Default::default()));
    }
}

/// Every place is taken by a message at QoS 2. One at QoS 1 needs none once it can be answered.
#[test]
fn a_message_waits_for_room_whole_or_in_pieces() {
    for topic in ["a", LONG] {
        let mut pair = talk_with(Version::V3_1_1, Fixed::<1, 64>::new(), NARROW);
        send(&mut pair, 1, false, message("a", "", QoS::ExactlyOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
        assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        take_room(&mut pair);
        send(&mut pair, 2, false, message(topic, "b", QoS::AtLeastOnce));
        assert_eq!(pair.events(), [], "{topic}");
        assert_eq!(pair.client.error, None, "{topic}");
        make_room(&mut pair);
        assert!(matches!(pair.event(), Event::Message(_) | Event::Skipped { .. }));
        assert_eq!(pair.server.packet(), Packet::PubAck(id(2), Default::default()));
    }
}

/// The places are taken by messages whose answers wait for a payload of ours, or for the application:
/// they need nothing from the server to be free again. So a message at QoS 2 can wait.
#[test]
fn a_message_at_qos_2_waits_for_answers_that_are_ours_to_give() {
    for acknowledgement in [Acknowledgement::Automatic, Acknowledgement::Manual] {
        let config = Config { acknowledgement, ..Config::default() };
        let mut pair = talk_with(Version::V3_1_1, Fixed::<2, 64>::new(), config);
        begin(&mut pair, 5).unwrap();
        for (number, qos) in [(1, QoS::AtLeastOnce), (2, QoS::AtLeastOnce), (3, QoS::ExactlyOnce)] {
            send(&mut pair, number, false, message("a", "b", qos));
        }
        let receipts: Vec<_> = pair
            .events()
            .iter()
            .map(|event| match event {
                Event::Message(message) => message.receipt,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(receipts.len(), 2);
        assert_eq!(pair.client.error, None);
        assert_eq!(feed(&mut pair, b"bytes"), 5);
        for receipt in receipts.into_iter().flatten() {
            pair.acknowledge(receipt, Default::default()).unwrap();
        }
        assert!(matches!(pair.event(), Event::Message(message) if message.qos == QoS::ExactlyOnce));
        assert!(matches!(pair.server.packet(), Packet::Publish(..)));
        assert_eq!(pair.server.packet(), Packet::PubAck(id(1), Default::default()));
        assert_eq!(pair.server.packet(), Packet::PubAck(id(2), Default::default()));
    }
}

/// It might have set an alias, whose name nobody has seen: no alias is sure any more
/// [MQTT-3.3.2-12]. It is answered all the same, or it would come again for ever.
#[test]
fn a_message_passed_over_is_answered_and_ends_the_aliases() {
    let version = Version::V5;
    let store = Aliased::<_, 4, 20>::new(Fixed::<4, 64>::new());
    let connect = Connect { topic_alias_maximum: 4, ..persistent(version) };
    let mut pair = talk_on(version, store, NARROW, &connect, ConnAck::default());
    let alias = [Property::TopicAlias(1)];
    let named = |name: &'static str| Publish {
        topic: Topic::new(name).unwrap_or_default(),
        properties: (&alias).into(),
        ..message("a", "", QoS::AtMostOnce)
    };
    send(&mut pair, 0, false, named("a"));
    assert!(matches!(pair.event(), Event::Message(_)));
    send(&mut pair, 7, false, message(LONG, "b", QoS::AtLeastOnce));
    assert!(matches!(pair.event(), Event::Skipped { .. }));
    assert_eq!(pair.server.packet(), Packet::PubAck(id(7), Default::default()));
    assert_eq!(pair.client.client.topic(1), None);
    send(&mut pair, 0, false, named(""));
    assert!(matches!(pair.error(), Error::Protocol(_)));
}

/// A part of a packet is a sign of life, but only once.
#[test]
fn silence_in_the_middle_of_a_message_is_noticed() {
    for version in BOTH {
        let whole = Packet::Publish(
            Delivery { packet_id: Some(id(1)), dup: false },
            message(LONG, "a payload that does not fit either", QoS::AtLeastOnce),
        );
        let mut bytes = vec![0; whole.encoded_len(version).unwrap()];
        whole.encode(version, &mut &mut bytes[..]).unwrap();
        for cut in 0..bytes.len() {
            let connect = Connect { keep_alive: 10, ..persistent(version) };
            let terms = ConnAck::default();
            let mut pair = talk_on(version, Small::new(), NARROW, &connect, terms);
            pair.server.send_bytes(&bytes[..cut]);
            pair.run(15 * SECOND);
            assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout), "after {cut} bytes");
        }
    }
}

/// Reading never waits for a payload of ours; what would have to be answered is remembered.
#[test]
fn everything_is_read_while_a_payload_leaves() {
    for version in BOTH {
        let mut pair = talk(version);
        for (number, qos) in [(1, QoS::ExactlyOnce), (2, QoS::ExactlyOnce), (3, QoS::AtLeastOnce)] {
            send(&mut pair, number, false, message("a", "b", qos));
        }
        assert_eq!(pair.events().len(), 3);
        let _ = pair.server.received.split_off(0);
        begin(&mut pair, 10).unwrap();
        pair.server.send(&Packet::PubRel(id(2), Default::default()));
        pair.server.send(&Packet::PubRel(id(1), Default::default()));
        send(&mut pair, 4, false, message("a", "b", QoS::ExactlyOnce));
        send(&mut pair, 5, false, message("a", "b", QoS::AtLeastOnce));
        assert_eq!(pair.events().len(), 2);
        assert_eq!(feed(&mut pair, b"ten bytes."), 10);
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::Publish(..)));
        for answer in [
            Packet::PubComp(id(1), Default::default()),
            Packet::PubComp(id(2), Default::default()),
            Packet::PubRec(id(4), Default::default()),
            Packet::PubAck(id(5), Default::default()),
        ] {
            assert_eq!(pair.server.packet(), answer);
        }
    }
}

/// There is no place for a PINGREQ in a payload, and nothing to do before the next piece comes.
#[test]
fn a_payload_that_the_application_leaves_lying_keeps_nobody_awake() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        begin(&mut pair, 3).unwrap();
        pair.run(100 * SECOND);
        let now = pair.clock.now();
        assert!(pair.client.client.deadline().is_none_or(|deadline| deadline > now));
        assert_eq!(pair.client.error, None);
        assert_eq!(feed(&mut pair, b"abc"), 3);
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::Publish(..)));
        assert!(pair.wire.is_open());
    }
}

/// A PINGREQ was due that found no room, and when there was some a payload was begun: nobody asked the
/// server for anything.
#[test]
fn a_ping_that_waits_for_a_payload_is_not_awaited() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        take_room(&mut pair);
        pair.client.out.capacity = 1;
        pair.clock.advance(10 * SECOND);
        pair.step();
        make_room(&mut pair);
        begin(&mut pair, 3).unwrap();
        pair.run(100 * SECOND);
        assert_eq!(pair.client.error, None);
        assert_eq!(feed(&mut pair, b"abc"), 3);
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::Publish(..)));
        assert_eq!(pair.server.packet(), Packet::PingReq);
        pair.run(4 * SECOND);
        assert_eq!(pair.client.error, None);
        pair.run(SECOND);
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
    }
}

/// The sink was full, but the server has taken all of it: now it waits for the application.
#[test]
fn a_server_that_has_taken_a_part_is_not_to_blame_for_the_next() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        pair.client.out.capacity = 40;
        begin(&mut pair, 300).unwrap();
        assert!(feed(&mut pair, &[b'x'; 300]) > 0);
        pair.run(100 * SECOND);
        assert_eq!(pair.client.error, None);
    }
}

/// The server takes nothing any more, in the middle of a payload: where no PINGREQ can ask for a
/// sign of life, the want of progress tells.
#[test]
fn a_server_that_takes_no_more_of_a_payload_is_given_up() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        begin(&mut pair, 1_000).unwrap();
        pair.drive();
        pair.client.out.capacity = 100;
        pair.wire.weather.window = 0;
        while feed(&mut pair, b"x") > 0 {}
        pair.run(30 * SECOND);
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
    }
}

/// The length of a packet has an end, and so have numbers.
#[test]
fn a_length_that_no_packet_has_is_refused() {
    for version in BOTH {
        for len in [268_435_455, usize::MAX - 3, usize::MAX - 2, usize::MAX] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                let mut pair = talk_with(version, Records::<2>::new(), Config::default());
                let now = pair.clock.now();
                let head = message("a", "", qos);
                let result = pair
                    .client
                    .command(|client, out| client.publish_streamed(now, &head, len, out));
                assert_eq!(result, Err(PublishError::Invalid(EncodeError::TooLong)));
                // Nothing has changed.
                assert_eq!(pair.client.client.payload_owed(), 0);
                assert_eq!(pair.client.client.store().flights(), 0);
            }
        }
    }
}
