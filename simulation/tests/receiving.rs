//! Messages that arrive: how often, in which order, and how they are acknowledged.

use mqtt_core::{
    Acknowledgement, Config, ConnAck, Connect, EncodeError, Error, Event, Message, PacketId,
    Property, Publish, QoS, ReasonCode, Receipt, SendError, Text, Topic, TopicName, UserProperty,
    Version, Violation,
    store::{Aliased, Fixed, Heap, Limits, Store},
    wire::{Delivery, Packet},
};
use simulation::{Direction, Manners, Note, Weather, story::*};

const MANUAL: Config = Config { acknowledgement: Acknowledgement::Manual, ..Config::DEFAULT };

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// Sends a message with this identifier.
fn send<S: Store>(pair: &mut Talk<S>, number: u16, dup: bool, publish: Publish<'_>) {
    let packet_id = (publish.qos > QoS::AtMostOnce).then(|| id(number));
    pair.server.send(&Packet::Publish(Delivery { packet_id, dup }, publish));
}

fn manual(version: Version) -> Talk {
    talk_on(version, Small::new(), MANUAL, &persistent(version), ConnAck::default())
}

/// The next event, which is a message.
fn arrived<S: Store>(pair: &mut Talk<S>) -> Message<'static> {
    match pair.event() {
        Event::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

fn receipt(pair: &mut Talk) -> Receipt {
    arrived(pair).receipt.expect("a receipt")
}

/// [MQTT-3.3.4-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8], [MQTT-4.3.3-11]
#[test]
fn every_message_is_answered_by_its_qos() {
    for version in BOTH {
        let mut pair = talk(version);
        send(&mut pair, 0, false, message("a", "0", QoS::AtMostOnce));
        assert_eq!(arrived(&mut pair).qos, QoS::AtMostOnce);
        assert!(pair.server.is_quiet());
        send(&mut pair, 7, false, message("a", "1", QoS::AtLeastOnce));
        assert_eq!(arrived(&mut pair).qos, QoS::AtLeastOnce);
        assert_eq!(pair.server.packet(), Packet::PubAck(id(7), Default::default()));
        send(&mut pair, 8, false, message("a", "2", QoS::ExactlyOnce));
        assert_eq!(arrived(&mut pair).qos, QoS::ExactlyOnce);
        assert_eq!(pair.server.packet(), Packet::PubRec(id(8), Default::default()));
        pair.server.send(&Packet::PubRel(id(8), Default::default()));
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubComp(id(8), Default::default()));
        assert_eq!(pair.client.client.store().arrivals(), 0);
    }
}

/// All that a message carries, unaltered.
#[test]
fn a_message_comes_with_its_properties() {
    let properties = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(9),
        Property::ContentType(Text::new("text/plain").unwrap()),
        Property::ResponseTopic(Topic::new("answers").unwrap()),
        Property::CorrelationData(&[0, 1, 2]),
        Property::SubscriptionIdentifier(268_435_455),
        Property::SubscriptionIdentifier(1),
        Property::UserProperty(UserProperty::new("k", "v").unwrap()),
        Property::UserProperty(UserProperty::new("k", "w").unwrap()),
    ];
    let mut pair = talk(Version::V5);
    let publish = message("a", "b", QoS::AtLeastOnce);
    let publish = Publish { retain: true, properties: (&properties).into(), ..publish };
    send(&mut pair, 1, false, publish);
    let message = arrived(&mut pair);
    assert!(message.properties.iter().eq(properties));
    assert!(message.retain);
    assert_eq!(message.topic, TopicName::Name(publish.topic));
}

/// Receives two messages and is cut after so many bytes in this direction, then resumes. Whether the
/// cut came before the end.
fn receive_and_cut(
    version: Version,
    qos: QoS,
    config: Config,
    direction: Direction,
    bytes: usize,
) -> bool {
    let mut pair = meet_on(version, Small::new(), config, Manners::default());
    subscribe_to_all(&mut pair);
    pair.wire.weather = Weather::BYTES;
    let carried = pair.wire.carried(direction);
    pair.wire.cut_after(direction, carried + bytes);
    pair.server.publish(&Note::new("a", "first", qos));
    pair.server.publish(&Note::new("a", "second", qos));
    let mut payloads = Vec::new();
    let mut was_cut = false;
    loop {
        for event in pair.events() {
            let Event::Message(message) = event else { continue };
            payloads.push(message.payload);
            if let Some(receipt) = message.receipt {
                // Too late if it was cut meanwhile: a message at QoS 1 comes again.
                let late = pair.acknowledge(receipt, ReasonCode::Success).is_err();
                assert!(!late || !pair.wire.is_open());
            }
        }
        pair.drive();
        if !pair.wire.is_open() {
            was_cut = true;
            pair.connect(&persistent(version)).unwrap();
        } else if pair.server.undelivered() == 0 && pair.client.events.is_empty() {
            break;
        }
    }
    if qos == QoS::AtLeastOnce {
        assert!(payloads.len() <= 4);
        assert_eq!(payloads.last(), Some(&&b"second"[..]));
        payloads.sort_unstable();
        payloads.dedup();
    }
    assert_eq!(payloads, [&b"first"[..], b"second"], "cut after {bytes} {direction:?}");
    assert_eq!(pair.client.client.store().arrivals(), 0);
    was_cut
}

fn cut_everywhere(qos: QoS, at_least: usize) {
    for version in BOTH {
        for config in [Config::DEFAULT, MANUAL] {
            for direction in [Direction::Up, Direction::Down] {
                let cuts =
                    (0..).take_while(|cut| receive_and_cut(version, qos, config, direction, *cut));
                assert!(cuts.count() >= at_least);
            }
        }
    }
}

/// [MQTT-4.3.2-4]
#[test]
fn a_message_at_qos_1_arrives_after_a_cut_at_any_byte() {
    cut_everywhere(QoS::AtLeastOnce, 8);
}

/// [MQTT-4.3.3-10]
#[test]
fn a_message_at_qos_2_arrives_once_after_a_cut_at_any_byte() {
    cut_everywhere(QoS::ExactlyOnce, 16);
}

/// DUP says what the sender did, not what the receiver has: [MQTT-4.3.2-5], [MQTT-4.3.3-12],
/// [MQTT-3.3.1-3].
#[test]
fn dup_makes_no_message_old() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = talk(version);
            for round in 0..3 {
                send(&mut pair, 5, true, message("a", "fresh", qos));
                let message = arrived(&mut pair);
                assert!(message.dup, "round {round}");
                if qos == QoS::ExactlyOnce {
                    pair.server.send(&Packet::PubRel(id(5), Default::default()));
                    pair.drive();
                }
            }
        }
    }
}

/// And its absence makes none new [MQTT-4.3.3-10].
#[test]
fn a_message_at_qos_2_that_comes_again_is_answered_again_and_not_delivered() {
    for version in BOTH {
        let mut pair = talk(version);
        for dup in [false, true, false] {
            send(&mut pair, 5, dup, message("a", "b", QoS::ExactlyOnce));
        }
        assert_eq!(pair.events().len(), 1);
        for _ in 0..3 {
            assert_eq!(pair.server.packet(), Packet::PubRec(id(5), Default::default()));
        }
        pair.server.send(&Packet::PubRel(id(5), Default::default()));
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubComp(id(5), Default::default()));
        assert!(pair.server.is_quiet());
    }
}

/// The PUBCOMP was lost with the last connection [MQTT-4.3.3-11].
#[test]
fn a_release_of_something_unknown_is_answered_all_the_same() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.server.send(&Packet::PubRel(id(9), Default::default()));
        pair.drive();
        let not_found = ReasonCode::PacketIdentifierNotFound;
        let reason = if version.is_v5() { not_found } else { ReasonCode::Success };
        assert_eq!(pair.server.packet(), Packet::PubComp(id(9), reason.into()));
    }
}

/// [MQTT-2.2.1-4]
#[test]
fn an_identifier_has_one_use_at_a_time() {
    let first = message("a", "b", QoS::ExactlyOnce);
    for version in BOTH {
        let mut pair = talk(version);
        send(&mut pair, 5, false, first);
        send(&mut pair, 5, false, message("a", "b", QoS::AtLeastOnce));
        assert_eq!(pair.error(), Error::Protocol(Violation::PacketIdInUse));
        // A release before the message was answered is none.
        let mut pair = manual(version);
        send(&mut pair, 5, false, first);
        pair.server.send(&Packet::PubRel(id(5), Default::default()));
        assert_eq!(pair.error(), Error::Protocol(Violation::WrongAcknowledgement));
    }
}

/// [MQTT-4.6.0-2], [MQTT-4.6.0-3]
#[test]
fn acknowledgements_out_of_turn_leave_in_order_of_arrival() {
    for version in BOTH {
        let mut pair = manual(version);
        let mut receipts = Vec::new();
        for number in 1..=4 {
            let qos = if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            send(&mut pair, number, false, message("a", "b", qos));
            receipts.push(receipt(&mut pair));
        }
        for index in [3, 1, 2] {
            pair.acknowledge(receipts[index], ReasonCode::Success).unwrap();
            pair.drive();
            assert!(pair.server.is_quiet());
        }
        pair.acknowledge(receipts[0], ReasonCode::Success).unwrap();
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubAck(id(1), Default::default()));
        assert_eq!(pair.server.packet(), Packet::PubRec(id(2), Default::default()));
        assert_eq!(pair.server.packet(), Packet::PubAck(id(3), Default::default()));
        assert_eq!(pair.server.packet(), Packet::PubRec(id(4), Default::default()));
    }
}

/// A PUBCOMP that finds no room leaves when there is some: it does not wait for the application to
/// acknowledge another message, which may itself wait for what the server sends next.
#[test]
fn a_release_is_not_held_up_by_a_message_that_is_held() {
    for version in BOTH {
        let mut pair = manual(version);
        send(&mut pair, 1, false, message("a", "b", QoS::ExactlyOnce));
        let first = receipt(&mut pair);
        pair.acknowledge(first, ReasonCode::Success).unwrap();
        for (number, qos) in [(2, QoS::AtLeastOnce), (3, QoS::ExactlyOnce)] {
            send(&mut pair, number, false, message("a", "b", qos));
            assert!(matches!(pair.event(), Event::Message(_)));
        }
        assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        let capacity = std::mem::replace(&mut pair.client.out.capacity, 2);
        pair.server.send(&Packet::PubRel(id(1), Default::default()));
        pair.drive();
        pair.client.out.capacity = capacity;
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubComp(id(1), Default::default()));
        assert!(pair.server.is_quiet());
    }
}

#[test]
fn a_receipt_serves_once() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = manual(version);
            send(&mut pair, 1, false, message("a", "b", qos));
            let receipt = receipt(&mut pair);
            assert_eq!(pair.acknowledge(receipt, ReasonCode::Success), Ok(()));
            let again = pair.acknowledge(receipt, ReasonCode::Success);
            assert_eq!(again, Err(SendError::StaleReceipt));
            pair.drive();
            assert_eq!(pair.server.received.len(), 1);
        }
    }
}

/// The identifier has come back for another message: the old receipt must not acknowledge that.
#[test]
fn a_receipt_of_an_earlier_connection_acknowledges_nothing() {
    for version in BOTH {
        let mut pair = manual(version);
        send(&mut pair, 1, false, message("a", "old", QoS::AtLeastOnce));
        let old = receipt(&mut pair);
        pair.cut();
        let present = ConnAck { session_present: true, ..ConnAck::default() };
        pair.server.greeting = Some(present);
        pair.connect(&persistent(version)).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        assert_eq!(pair.acknowledge(old, ReasonCode::Success), Err(SendError::StaleReceipt));
        send(&mut pair, 1, true, message("a", "old", QoS::AtLeastOnce));
        let new = receipt(&mut pair);
        assert_eq!(pair.acknowledge(old, ReasonCode::Success), Err(SendError::StaleReceipt));
        assert_eq!(pair.acknowledge(new, ReasonCode::Success), Ok(()));
    }
}

/// A message at QoS 2 is not delivered again, so its receipt stays good; it is answered when it has
/// come again [MQTT-4.3.3-10].
#[test]
fn a_receipt_at_qos_2_outlives_its_connection() {
    for version in BOTH {
        let mut pair = manual(version);
        send(&mut pair, 1, false, message("a", "old", QoS::ExactlyOnce));
        let old = receipt(&mut pair);
        pair.cut();
        pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
        pair.connect(&persistent(version)).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        assert_eq!(pair.acknowledge(old, ReasonCode::Success), Ok(()));
        pair.drive();
        assert!(pair.server.is_quiet());
        send(&mut pair, 1, true, message("a", "old", QoS::ExactlyOnce));
        assert_eq!(pair.events(), []);
        assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
    }
}

/// [MQTT-4.3.3-9], [MQTT-3.4.2-1], [MQTT-3.5.2-1]
#[test]
fn messages_may_be_refused() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut pair = manual(Version::V5);
        for _ in 0..2 {
            send(&mut pair, 1, false, message("a", "b", qos));
            let receipt = receipt(&mut pair);
            pair.acknowledge(receipt, ReasonCode::QuotaExceeded).unwrap();
            pair.drive();
            let ack = ReasonCode::QuotaExceeded.into();
            let refusal = match qos {
                QoS::ExactlyOnce => Packet::PubRec(id(1), ack),
                _ => Packet::PubAck(id(1), ack),
            };
            assert_eq!(pair.server.packet(), refusal);
            // What comes next under this identifier is new.
        }
        assert_eq!(pair.client.client.store().arrivals(), 0);
    }
}

#[test]
fn a_refusal_that_cannot_be_said_changes_nothing() {
    for (version, reason, error) in [
        (Version::V3_1_1, ReasonCode::QuotaExceeded, EncodeError::Version),
        (Version::V5, ReasonCode::SessionTakenOver, EncodeError::ReasonCode),
        (Version::V5, ReasonCode::PacketIdentifierNotFound, EncodeError::ReasonCode),
    ] {
        let mut pair = manual(version);
        send(&mut pair, 1, false, message("a", "b", QoS::AtLeastOnce));
        let receipt = receipt(&mut pair);
        assert_eq!(pair.acknowledge(receipt, reason), Err(SendError::Invalid(error)));
        assert_eq!(pair.acknowledge(receipt, ReasonCode::Success), Ok(()));
    }
}

/// [MQTT-3.3.4-9]: what is advertised is enforced, to the message.
#[test]
fn more_than_receive_maximum_is_a_violation() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for maximum in 1..=4 {
            let connect = Connect { receive_maximum: maximum, ..persistent(Version::V5) };
            let (version, terms) = (Version::V5, ConnAck::default());
            let mut pair = talk_on(version, Small::new(), MANUAL, &connect, terms);
            for number in 1..=maximum {
                send(&mut pair, number, false, message("a", "b", qos));
                assert!(matches!(pair.event(), Event::Message(_)));
            }
            send(&mut pair, 100, false, message("a", "b", QoS::AtMostOnce));
            assert!(matches!(pair.event(), Event::Message(_)));
            send(&mut pair, 100, false, message("a", "b", qos));
            assert_eq!(pair.error(), Error::Protocol(Violation::ReceiveMaximumExceeded));
            let told = Packet::Disconnect(ReasonCode::ReceiveMaximumExceeded.into());
            assert_eq!(pair.server.packet(), told);
        }
    }
}

/// Whatever the maximum, and lowered while messages are on their way: all of them arrive.
#[test]
fn receive_maximum_may_be_lowered_on_resume() {
    for config in [Config::DEFAULT, MANUAL] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = meet_on(Version::V5, Small::new(), config, Manners::default());
            subscribe_to_all(&mut pair);
            for number in 0..12 {
                pair.server.publish(&Note::new("a", number.to_string(), qos));
            }
            pair.client.awake = false;
            pair.drive();
            pair.client.awake = true;
            pair.cut();
            let mut arrived = 0;
            for maximum in [3, 1] {
                let connect = Connect { receive_maximum: maximum, ..persistent(Version::V5) };
                pair.connect(&connect).unwrap();
                for round in 0..40 {
                    for event in pair.events() {
                        let Event::Message(message) = event else { continue };
                        arrived += 1;
                        if let Some(receipt) = message.receipt {
                            pair.acknowledge(receipt, ReasonCode::Success).unwrap();
                        }
                    }
                    if round == 2 && maximum == 3 {
                        break;
                    }
                }
                if maximum == 3 {
                    pair.cut();
                }
            }
            assert!(arrived >= 12);
            assert_eq!(pair.server.undelivered(), 0);
        }
    }
}

/// [MQTT-3.1.2-24]: told by the header already.
#[test]
fn more_than_maximum_packet_size_is_a_violation() {
    for version in BOTH {
        let connect = Connect { maximum_packet_size: Some(60), ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        let head = if version.is_v5() { 6 } else { 5 };
        let payload = "x".repeat(60 - head);
        send(&mut pair, 0, false, message("a", &payload, QoS::AtMostOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
        pair.server.send_bytes(&[0x30, 59]);
        assert_eq!(pair.error(), Error::Protocol(Violation::PacketTooLarge));
    }
}

/// [MQTT-3.1.2-25]: the others are not held up.
#[test]
fn a_server_drops_what_is_too_large_and_goes_on() {
    let mut pair = meet(Version::V5);
    subscribe_to_all(&mut pair);
    pair.cut();
    let sizes = [10, 100, 10];
    for size in sizes {
        pair.server.publish(&Note::new("a", vec![b'x'; size], QoS::ExactlyOnce));
    }
    let limit = Connect { maximum_packet_size: Some(60), ..persistent(Version::V5) };
    pair.connect(&limit).unwrap();
    let messages = pair.events().into_iter().filter(|event| matches!(event, Event::Message(_)));
    assert_eq!(messages.count(), 2);
    assert_eq!(pair.server.undelivered(), 0);
}

/// [MQTT-3.3.2-10], [MQTT-3.3.2-12]: every alias up to the maximum, set and set anew.
#[test]
fn aliases_that_the_server_sets_are_resolved() {
    let limits = Limits { inbound_aliases: 10, ..Limits::default() };
    on_any_aliases(Heap::with_limits(limits));
    on_any_aliases(Aliased::<_, 10, 20>::new(Fixed::<8, 100>::new()));
}

fn on_any_aliases<S: Store>(store: S) {
    let connect = Connect { topic_alias_maximum: 10, ..persistent(Version::V5) };
    let terms = ConnAck::default();
    let mut pair = talk_on(Version::V5, store, Config::default(), &connect, terms);
    let aliased = |topic, alias: &mut [Property<'static>; 1], pair: &mut Talk<S>| {
        let properties = (&*alias).into();
        let topic = Topic::new(topic).unwrap_or_default();
        send(pair, 1, false, Publish { properties, ..Publish::new(topic, "b") });
    };
    for alias in 1..=10 {
        for topic in ["first", "second/topic"] {
            let mut property = [Property::TopicAlias(alias)];
            aliased(topic, &mut property, &mut pair);
            assert_eq!(arrived(&mut pair).topic.name(), Topic::new(topic).ok());
            aliased("", &mut property, &mut pair);
            assert_eq!(arrived(&mut pair).topic, TopicName::Alias(alias));
            assert_eq!(pair.client.client.topic(alias), Topic::new(topic).ok());
        }
    }
    // They end with the connection [MQTT-3.3.2-7].
    pair.cut();
    pair.connect(&connect).unwrap();
    pair.drive();
    pair.client.events.clear();
    assert_eq!(pair.client.client.topic(1), None);
    aliased("", &mut [Property::TopicAlias(1)], &mut pair);
    assert_eq!(pair.error(), Error::Protocol(Violation::TopicAliasUnknown));
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27]
#[test]
fn an_alias_above_the_maximum_is_a_violation() {
    let store = || Aliased::<_, 10, 20>::new(Fixed::<8, 100>::new());
    for (maximum, alias) in [(3, 4), (0, 1), (10, 11)] {
        let connect = Connect { topic_alias_maximum: maximum, ..persistent(Version::V5) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(Version::V5, store(), config, &connect, terms);
        let properties = [Property::TopicAlias(alias)];
        let publish = message("a", "b", QoS::AtMostOnce);
        send(&mut pair, 0, false, Publish { properties: (&properties).into(), ..publish });
        assert_eq!(pair.error(), Error::Protocol(Violation::TopicAliasInvalid));
        let told = Packet::Disconnect(ReasonCode::TopicAliasInvalid.into());
        assert_eq!(pair.server.packet(), told);
    }
}

/// With a well-behaved server: names, then aliases, on every connection anew.
#[test]
fn aliases_and_resumption_go_together() {
    let store = Aliased::<_, 2, 20>::new(Fixed::<8, 500>::new());
    let manners = Manners { aliases: true, ..Manners::default() };
    let mut pair = meet_on(Version::V5, store, Config::default(), manners);
    subscribe_to_all(&mut pair);
    let connect = Connect { topic_alias_maximum: 2, ..persistent(Version::V5) };
    for _ in 0..3 {
        pair.cut();
        pair.connect(&connect).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        for topic in ["a", "b", "c", "a", "b", "c"] {
            pair.server.publish(&Note::new(topic, "x", QoS::ExactlyOnce));
            let Event::Message(message) = pair.event() else { panic!() };
            let name = match message.topic {
                TopicName::Name(name) => name,
                TopicName::Alias(alias) => pair.client.client.topic(alias).unwrap(),
            };
            assert_eq!(name.as_str(), topic);
        }
    }
}
