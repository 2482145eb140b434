//! Statements of the specifications that no other story is about. Which test shows which statement
//! is told in `mqtt-core/tests/data/conformance.txt`.

use mqtt_core::{
    Acknowledgement, Config, ConnAck, Connect, DecodeError, Disconnect, Error, Event, Filter,
    PacketId, Property, Publish, PublishError, QoS, ReasonCode, SendError, Subscribe, Subscription,
    Text, TopicName, Unsubscribe, UserProperty, Version, Violation,
    store::Store,
    wire::{Delivery, Packet},
};
use simulation::story::*;

const SECOND: u64 = 1_000;
const MANUAL: Config = Config { acknowledgement: Acknowledgement::Manual, ..Config::DEFAULT };
const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn send(pair: &mut Talk, number: u16, publish: Publish<'_>) {
    let packet_id = (publish.qos > QoS::AtMostOnce).then(|| id(number));
    pair.server.send(&Packet::Publish(Delivery { packet_id, dup: false }, publish));
}

/// The next packet, which is a PUBLISH.
fn published(pair: &mut Talk) -> (Delivery, Publish<'static>) {
    match pair.server.packet() {
        Packet::Publish(delivery, publish) => (delivery, publish),
        other => panic!("{other:?}"),
    }
}

fn resume(pair: &mut Talk, version: Version) {
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
    pair.connect(&persistent(version)).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
}

fn on_terms(config: Config, terms: ConnAck<'static>) -> Talk {
    talk_on(Version::V5, Small::new(), config, &persistent(Version::V5), terms)
}

/// [MQTT-4.3.2-1], [MQTT-4.3.2-2], [MQTT-4.3.3-1], [MQTT-4.3.3-2]
#[test]
fn a_message_is_first_sent_under_a_free_identifier_and_without_dup() {
    for version in BOTH {
        for qos in ACKNOWLEDGED {
            let mut pair = talk(version);
            for number in 1..=8 {
                assert_eq!(pair.publish(&message("a", "b", qos)), Ok(Some(id(number))));
                pair.drive();
                let (delivery, publish) = published(&mut pair);
                assert_eq!(delivery, Delivery { packet_id: Some(id(number)), dup: false });
                assert_eq!(publish.qos, qos);
            }
        }
    }
}

/// [MQTT-4.3.1-1]: and no identifier, though others have one.
#[test]
fn a_message_at_qos_0_has_no_identifier_and_no_dup() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.publish(&message("a", "1", QoS::AtLeastOnce)).unwrap();
        resume(&mut pair, version);
        assert!(published(&mut pair).0.dup);
        pair.publish(&message("a", "0", QoS::AtMostOnce)).unwrap();
        pair.drive();
        let (delivery, publish) = published(&mut pair);
        assert_eq!((delivery, publish.qos), (Delivery::default(), QoS::AtMostOnce));
    }
}

/// [MQTT-4.4.0-1], [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-5]: however long the answers take.
#[test]
fn nothing_is_sent_again_on_the_same_connection() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let terms = ConnAck::default();
        let mut pair = talk_on(version, Small::new(), Config::default(), &connect, terms);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce] {
            pair.publish(&message("a", "b", qos)).unwrap();
        }
        pair.server.send(&Packet::PubRec(id(3), Default::default()));
        pair.drive();
        assert_eq!(pair.server.received.drain(..).count(), 3 + 1);
        for _ in 0..100 {
            pair.run(10 * SECOND);
            assert_eq!(pair.server.packet(), Packet::PingReq);
            pair.server.send(&Packet::PingResp);
            pair.drive();
            assert!(pair.server.is_quiet());
        }
        assert_eq!(pair.client.client.store().flights(), 3);
        assert_eq!(pair.events(), []);
    }
}

/// [MQTT-4.3.3-7], and the same at QoS 1.
#[test]
fn a_message_that_was_sent_does_not_expire() {
    for qos in ACKNOWLEDGED {
        let mut pair = talk(Version::V5);
        let properties = [Property::MessageExpiryInterval(1)];
        let publish = Publish { properties: (&properties).into(), ..message("a", "b", qos) };
        pair.publish(&publish).unwrap();
        pair.run(100 * SECOND);
        resume(&mut pair, Version::V5);
        let (delivery, again) = published(&mut pair);
        assert_eq!(delivery, Delivery { packet_id: Some(id(1)), dup: true });
        assert_eq!(again, publish);
        assert_eq!(pair.client.client.store().flights(), 1);
    }
}

/// [MQTT-4.3.3-13]: whoever is late to take it.
#[test]
fn a_message_that_has_expired_is_acknowledged_to_its_end() {
    let mut pair = on_terms(MANUAL, ConnAck::default());
    let properties = [Property::MessageExpiryInterval(1)];
    let publish = message("a", "b", QoS::ExactlyOnce);
    send(&mut pair, 5, Publish { properties: (&properties).into(), ..publish });
    let Event::Message(message) = pair.event() else { panic!() };
    pair.run(100 * SECOND);
    pair.acknowledge(message.receipt.unwrap(), ReasonCode::Success).unwrap();
    pair.drive();
    assert_eq!(pair.server.packet(), Packet::PubRec(id(5), Default::default()));
    pair.run(100 * SECOND);
    pair.server.send(&Packet::PubRel(id(5), Default::default()));
    pair.drive();
    assert_eq!(pair.server.packet(), Packet::PubComp(id(5), Default::default()));
}

/// [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3], [MQTT-3.6.2-2],
/// [MQTT-3.6.2-3], [MQTT-3.7.2-2], [MQTT-3.7.2-3]: no property can make an acknowledgement too
/// large, because none is sent, whether there is a limit or not.
#[test]
fn acknowledgements_have_no_properties() {
    for maximum_packet_size in [None, Some(5)] {
        let mut pair = on_terms(MANUAL, ConnAck { maximum_packet_size, ..ConnAck::default() });
        let refusal = ReasonCode::QuotaExceeded;
        for (number, qos) in (1..).zip(ACKNOWLEDGED) {
            send(&mut pair, number, message("a", "b", qos));
            let Event::Message(message) = pair.event() else { panic!() };
            pair.acknowledge(message.receipt.unwrap(), refusal).unwrap();
        }
        pair.server.send(&Packet::PubRec(id(3), Default::default()));
        pair.server.send(&Packet::PubRel(id(4), Default::default()));
        pair.drive();
        let not_found = ReasonCode::PacketIdentifierNotFound;
        let told = [
            Packet::PubAck(id(1), refusal.into()),
            Packet::PubRec(id(2), refusal.into()),
            Packet::PubRel(id(3), not_found.into()),
            Packet::PubComp(id(4), not_found.into()),
        ];
        assert_eq!(pair.server.received, told);
    }
}

/// [MQTT-3.2.2-15], [MQTT-3.14.2-3], [MQTT-3.14.2-4]: to the byte, and nothing changes.
#[test]
fn requests_and_farewells_keep_to_the_maximum_packet_size() {
    let filters = [Filter::new("a").unwrap()];
    let subscriptions = [Subscription::new(filters[0], QoS::AtMostOnce)];
    for (value, fits) in [("123456789", true), ("1234567890", false)] {
        let user = [Property::UserProperty(UserProperty::new("key", value).unwrap())];
        let reason = format!("12345{value}");
        let reason = [Property::ReasonString(Text::new(&reason).unwrap())];
        let wanted =
            Subscribe { subscriptions: (&subscriptions).into(), properties: (&user).into() };
        let unwanted = Unsubscribe { filters: (&filters).into(), properties: (&user).into() };
        let farewell = |properties| Disconnect { properties, ..Disconnect::default() };
        let (by_user, by_reason) = (farewell((&user).into()), farewell((&reason).into()));
        type Attempt<'a> = &'a dyn Fn(&mut Talk) -> Result<(), SendError>;
        let subscribe = |pair: &mut Talk| pair.subscribe(&wanted).map(drop);
        let unsubscribe = |pair: &mut Talk| {
            let now = pair.clock.now();
            pair.client.command(|client, out| client.unsubscribe(now, &unwanted, out)).map(drop)
        };
        let disconnect = |farewell: Disconnect<'_>, pair: &mut Talk| {
            let now = pair.clock.now();
            pair.client.call(|client, out| client.disconnect(now, &farewell, out))
        };
        // The largest by which each fits.
        let attempts: [(u32, Attempt<'_>); 4] = [
            (2 + 2 + 1 + 17 + 4, &subscribe),
            (2 + 2 + 1 + 17 + 3, &unsubscribe),
            (2 + 1 + 1 + 17, &|pair| disconnect(by_user, pair)),
            (2 + 1 + 1 + 17, &|pair| disconnect(by_reason, pair)),
        ];
        for (maximum, attempt) in attempts {
            let terms = ConnAck { maximum_packet_size: Some(maximum), ..ConnAck::default() };
            let mut pair = on_terms(Config::default(), terms);
            let result = attempt(&mut pair);
            assert_eq!(result, if fits { Ok(()) } else { Err(SendError::TooLarge) }, "{maximum}");
            pair.drive();
            assert_eq!(pair.server.received.len(), fits.into());
            assert!(fits || pair.client.client.is_connected());
        }
    }
}

/// [MQTT-3.3.4-8], [MQTT-4.9.0-3]: in both directions.
#[test]
fn a_quota_that_is_used_up_holds_back_new_messages_only() {
    let connect = Connect { keep_alive: 10, ..persistent(Version::V5) };
    let terms = ConnAck { receive_maximum: 1, ..ConnAck::default() };
    let mut pair = talk_on(Version::V5, Small::new(), Config::default(), &connect, terms);
    let publish = message("a", "b", QoS::ExactlyOnce);
    assert_eq!(pair.publish(&publish), Ok(Some(id(1))));
    assert_eq!(pair.publish(&publish), Err(PublishError::InFlightFull));
    assert_eq!(pair.publish(&message("a", "b", QoS::AtMostOnce)), Ok(None));
    let filters = [Filter::new("a").unwrap()];
    let subscriptions = [Subscription::new(filters[0], QoS::AtMostOnce)];
    assert_eq!(pair.subscribe(&Subscribe::from(&subscriptions)), Ok(id(2)));
    let now = pair.clock.now();
    let unsubscribe = Unsubscribe::from(&filters);
    let result = pair.client.command(|client, out| client.unsubscribe(now, &unsubscribe, out));
    assert_eq!(result, Ok(id(3)));
    pair.drive();
    assert_eq!(pair.server.received.drain(..).count(), 4);

    send(&mut pair, 1, message("a", "b", QoS::AtLeastOnce));
    send(&mut pair, 2, message("a", "b", QoS::ExactlyOnce));
    pair.server.send(&Packet::PubRel(id(2), Default::default()));
    pair.server.send(&Packet::PubRec(id(1), Default::default()));
    assert_eq!(pair.events().len(), 2);
    let told = [
        Packet::PubAck(id(1), Default::default()),
        Packet::PubRec(id(2), Default::default()),
        Packet::PubComp(id(2), Default::default()),
        Packet::PubRel(id(1), Default::default()),
    ];
    assert_eq!(pair.server.received, told);
    pair.server.received.clear();
    pair.run(10 * SECOND);
    assert_eq!(pair.server.packet(), Packet::PingReq);
    assert_eq!(pair.publish(&publish), Err(PublishError::InFlightFull));
    let now = pair.clock.now();
    pair.client.call(|client, out| client.disconnect(now, &Disconnect::default(), out)).unwrap();
    pair.drive();
    assert_eq!(pair.server.packet(), Packet::Disconnect(Disconnect::default()));
}

/// A connection on which the session is to end with it.
fn for_once(version: Version) -> Connect<'static> {
    Connect { clean_start: true, session_expiry_interval: 0, ..persistent(version) }
}

/// [MQTT-4.1.0-1], 3.1.1: [MQTT-4.1.0-2]
#[test]
fn a_session_lasts_as_long_as_its_connection() {
    for version in BOTH {
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &for_once(version), terms);
        pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
        send(&mut pair, 7, message("a", "b", QoS::ExactlyOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
        pair.run(1_000_000 * SECOND);
        pair.server.received.clear();
        // Both halves are remembered.
        send(&mut pair, 7, message("a", "b", QoS::ExactlyOnce));
        assert_eq!(pair.events(), []);
        assert_eq!(pair.server.packet(), Packet::PubRec(id(7), Default::default()));
        pair.server.send(&Packet::PubRec(id(1), Default::default()));
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubRel(id(1), Default::default()));
        pair.server.send(&Packet::PubComp(id(1), Default::default()));
        assert!(matches!(pair.event(), Event::Acknowledged(..)));
    }
}

/// 3.1.1: [MQTT-3.1.2-6]. Before 3.1.1 CONNACK did not tell; the client knows by itself.
#[test]
fn nothing_of_a_session_that_ended_is_used_in_the_next() {
    for version in [Version::V3_1, Version::V3_1_1, Version::V5] {
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &for_once(version), terms);
        pair.publish(&message("a", "lost", QoS::ExactlyOnce)).unwrap();
        send(&mut pair, 1, message("a", "b", QoS::ExactlyOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
        pair.cut();
        pair.connect(&persistent(version)).unwrap();
        let Event::Connected(ack) = pair.event() else { panic!() };
        assert!(!ack.session_present, "{version:?}");
        assert!(pair.server.is_quiet());
        assert_eq!(pair.client.client.store().flights(), 0);
        // Another message, though its identifier is the same.
        send(&mut pair, 1, message("a", "fresh", QoS::ExactlyOnce));
        let Event::Message(message) = pair.event() else { panic!() };
        assert_eq!(message.payload, b"fresh");
    }
}

/// 3.1.1: [MQTT-4.8.0-2]. The PUBREL that would make room is behind the message, so waiting for it
/// would last for ever.
#[test]
fn a_message_for_which_there_is_no_place_ends_the_connection() {
    let mut pair = talk(Version::V3_1_1);
    let places = pair.client.client.store().capacity().arrivals;
    for number in 1..=places + 1 {
        send(&mut pair, number, message("a", "b", QoS::ExactlyOnce));
    }
    assert_eq!(pair.error(), Error::Protocol(Violation::ReceiveMaximumExceeded));
    assert_eq!(pair.events().len(), places.into());
    assert!(!pair.wire.is_open());
    // What was received is remembered, and what was not can come again.
    resume(&mut pair, Version::V3_1_1);
    pair.server.send(&Packet::PubRel(id(1), Default::default()));
    send(&mut pair, places + 1, message("a", "last", QoS::ExactlyOnce));
    assert!(matches!(pair.event(), Event::Message(message) if message.payload == b"last"));
}

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2], 3.1.1: [MQTT-1.5.3-1], [MQTT-1.5.3-2]
#[test]
fn text_that_is_none_ends_the_connection() {
    let topics: [(&[u8; 3], DecodeError); 4] = [
        (b"a\xff/", DecodeError::Utf8),
        (b"\xed\xa0\x80", DecodeError::Utf8),
        (b"\xc0\x80/", DecodeError::Utf8),
        (b"a/\0", DecodeError::Null),
    ];
    for version in BOTH {
        for (topic, error) in topics {
            let mut pair = talk(version);
            pair.server.send_bytes(&[0x30, 6, 0, 3, topic[0], topic[1], topic[2], 0]);
            assert_eq!(pair.error(), Error::Malformed(error));
            assert!(!pair.wire.is_open());
            let told = Packet::Disconnect(ReasonCode::MalformedPacket.into());
            assert_eq!(pair.server.received.pop_front(), version.is_v5().then_some(told));
        }
    }
}

/// [MQTT-1.5.4-3], 3.1.1: [MQTT-1.5.3-3]
#[test]
fn a_byte_order_mark_is_text_like_any_other() {
    for version in BOTH {
        let mut pair = talk(version);
        let topic = "\u{feff}a/\u{feff}";
        pair.publish(&message(topic, "b", QoS::AtMostOnce)).unwrap();
        send(&mut pair, 0, message(topic, "b", QoS::AtMostOnce));
        let Event::Message(message) = pair.event() else { panic!() };
        let (_, publish) = published(&mut pair);
        assert_eq!(publish.topic.as_str(), topic);
        assert_eq!(message.topic, TopicName::Name(publish.topic));
    }
}
