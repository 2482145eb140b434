//! Messages that leave: their outcomes, their limits, and what becomes of them when the connection
//! is cut.

use mqtt_core::{
    Config, ConnAck, Connect, EncodeError, Error, Event, MIN_SINK, PacketId, Property, Publish,
    PublishError, QoS, ReasonCode, Topic, UserProperty, Version, Violation,
    store::{Aliased, Fixed, Heap, Limits, Store},
    wire::{Delivery, Packet},
};
use simulation::{Direction, Manners, Weather, story::*};

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// A client connected on these terms, to a script.
fn on_terms(terms: ConnAck<'static>) -> Talk {
    let (version, config) = (Version::V5, Config::default());
    talk_on(version, Small::new(), config, &persistent(version), terms)
}

/// Cuts the connection and resumes the session.
fn resume<S: Store>(pair: &mut Talk<S>, version: Version, terms: ConnAck<'static>) {
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..terms });
    pair.connect(&persistent(version)).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
}

/// The next packet, which is a PUBLISH: its identifier, DUP and payload.
fn published<S>(pair: &mut Talk<S>) -> (u16, bool, &'static [u8]) {
    match pair.server.packet() {
        Packet::Publish(Delivery { packet_id, dup }, publish) => {
            (packet_id.map_or(0, PacketId::get), dup, publish.payload.as_bytes())
        }
        other => panic!("{other:?}"),
    }
}

/// [MQTT-4.3.1-1]
#[test]
fn a_message_at_qos_0_arrives_and_has_no_outcome() {
    for version in BOTH {
        let mut pair = meet(version);
        assert_eq!(pair.publish(&message("a", "once", QoS::AtMostOnce)), Ok(None));
        assert_eq!(pair.events(), []);
        assert_eq!(pair.server.accepted[0].payload, b"once");
    }
}

/// Connects, publishes two messages, is cut after so many bytes in this direction, resumes, and
/// tells whether the cut came before the end.
fn publish_and_cut(version: Version, qos: QoS, direction: Direction, bytes: usize) -> bool {
    let mut pair = meet(version);
    pair.wire.weather = Weather::BYTES;
    let carried = pair.wire.carried(direction);
    pair.wire.cut_after(direction, carried + bytes);
    let first = pair.publish(&message("a", "first", qos)).unwrap().unwrap();
    let second = pair.publish(&message("a", "second", qos)).unwrap().unwrap();
    let mut outcomes = Vec::new();
    let is_outcome = |event| match event {
        Event::Acknowledged(id, _) => Some(id),
        _ => None,
    };
    outcomes.extend(pair.events().into_iter().filter_map(is_outcome));
    let was_cut = !pair.wire.is_open();
    if was_cut {
        pair.connect(&persistent(version)).unwrap();
        outcomes.extend(pair.events().into_iter().filter_map(is_outcome));
    }
    assert_eq!(outcomes, [first, second]);
    assert_eq!(pair.client.client.store().flights(), 0);
    let mut payloads: Vec<_> = pair.server.accepted.iter().map(|note| &note.payload[..]).collect();
    if qos == QoS::AtLeastOnce {
        payloads.sort_unstable();
        payloads.dedup();
    }
    assert_eq!(payloads, [&b"first"[..], b"second"]);
    was_cut
}

/// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1]: the server checks DUP, order and identifiers.
#[test]
fn a_message_at_qos_1_survives_a_cut_after_any_byte() {
    for version in BOTH {
        for direction in [Direction::Up, Direction::Down] {
            let cuts =
                (0..).take_while(|cut| publish_and_cut(version, QoS::AtLeastOnce, direction, *cut));
            assert!(cuts.count() >= 8);
        }
    }
}

/// [MQTT-4.3.3-4] to [MQTT-4.3.3-6], [MQTT-4.6.0-4]
#[test]
fn a_message_at_qos_2_survives_a_cut_after_any_byte() {
    for version in BOTH {
        for direction in [Direction::Up, Direction::Down] {
            let cuts =
                (0..).take_while(|cut| publish_and_cut(version, QoS::ExactlyOnce, direction, *cut));
            assert!(cuts.count() >= 16);
        }
    }
}

#[test]
fn answers_may_come_in_any_order() {
    for version in BOTH {
        let manners = Manners { dawdle: true, ..Manners::default() };
        let mut pair = meet_on(version, Small::new(), Config::default(), manners);
        for (number, qos) in [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().cycle().enumerate() {
            if number == 50 {
                break;
            }
            let payload = number.to_string();
            while pair.publish(&message("a", &payload, qos)).is_err() {
                assert!(pair.step());
            }
        }
        assert_eq!(pair.events().len(), 50);
        assert_eq!(pair.server.accepted.len(), 50);
    }
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1]: all in order, and before anything new.
#[test]
fn what_is_unacknowledged_is_sent_again_in_order_under_its_identifiers() {
    for version in BOTH {
        let mut pair = talk(version);
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce];
        for (number, qos) in (1..=5).zip(qos.into_iter().cycle()) {
            let payload = number.to_string();
            let published = pair.publish(&message("a", &payload, qos)).unwrap();
            assert_eq!(published, Some(id(number)));
        }
        pair.drive();
        pair.server.send(&Packet::PubAck(id(3), Default::default()));
        assert!(matches!(pair.event(), Event::Acknowledged(done, _) if done == id(3)));
        for _ in 0..2 {
            resume(&mut pair, version, ConnAck::default());
            pair.publish(&message("a", "new", QoS::AtMostOnce)).unwrap();
            pair.drive();
            for (number, payload) in [(1, b"1"), (2, b"2"), (4, b"4"), (5, b"5")] {
                assert_eq!(published(&mut pair), (number, true, &payload[..]));
            }
            assert_eq!(published(&mut pair), (0, false, &b"new"[..]));
        }
    }
}

/// [MQTT-4.3.3-6], [MQTT-4.4.0-1]
#[test]
fn after_pubrec_only_pubrel_is_sent_again() {
    for version in BOTH {
        let mut pair = talk(version);
        for number in 1..=3 {
            pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
            pair.drive();
            assert_eq!(published(&mut pair).0, number);
        }
        // In the order of the PUBRECs [MQTT-4.6.0-4].
        for number in [3, 1] {
            pair.server.send(&Packet::PubRec(id(number), Default::default()));
            pair.drive();
            assert_eq!(pair.server.packet(), Packet::PubRel(id(number), Default::default()));
        }
        for _ in 0..2 {
            resume(&mut pair, version, ConnAck::default());
            for number in [3, 1] {
                assert_eq!(pair.server.packet(), Packet::PubRel(id(number), Default::default()));
            }
            assert_eq!(published(&mut pair), (2, true, &b"b"[..]));
            assert!(pair.server.is_quiet());
        }
        for number in [1, 3] {
            pair.server.send(&Packet::PubComp(id(number), Default::default()));
            assert!(matches!(pair.event(), Event::Acknowledged(done, _) if done == id(number)));
        }
    }
}

/// [MQTT-4.4.0-2], [MQTT-4.3.3-4]
#[test]
fn a_refusal_by_the_server_is_an_outcome() {
    let refused = ReasonCode::QuotaExceeded;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let manners = Manners { refuse: refused, ..Manners::default() };
        let mut pair = meet_on(Version::V5, Small::new(), Config::default(), manners);
        let id = pair.publish(&message("no/thing", "b", qos)).unwrap();
        let [Event::Acknowledged(done, ack)] = pair.events()[..] else { panic!() };
        assert_eq!((Some(done), ack.reason), (id, refused));
        assert_eq!(pair.client.client.store().flights(), 0);
        pair.cut();
        pair.connect(&persistent(Version::V5)).unwrap();
        assert_eq!(pair.events().len(), 1);
        assert_eq!(pair.server.accepted, []);
    }
}

/// [MQTT-3.4.2-1]: a success of another kind, and what the server says with it.
#[test]
fn an_acknowledgement_comes_with_its_reason() {
    let mut pair = talk(Version::V5);
    pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap();
    let properties = [Property::UserProperty(UserProperty::new("k", "v").unwrap())];
    let reason = ReasonCode::NoMatchingSubscribers;
    let ack = mqtt_core::Ack { reason, properties: (&properties).into() };
    pair.server.send(&Packet::PubAck(id(1), ack));
    assert_eq!(pair.event(), Event::Acknowledged(id(1), ack));
}

/// [MQTT-2.2.1-5]: an acknowledgement of the wrong kind.
#[test]
fn an_answer_to_something_else_is_a_violation() {
    let answers: [(QoS, Packet<'_>); 4] = [
        (QoS::AtLeastOnce, Packet::PubRec(id(1), Default::default())),
        (QoS::AtLeastOnce, Packet::PubComp(id(1), Default::default())),
        (QoS::ExactlyOnce, Packet::PubAck(id(1), Default::default())),
        (QoS::ExactlyOnce, Packet::PubComp(id(1), Default::default())),
    ];
    for version in BOTH {
        for (qos, answer) in answers {
            let mut pair = talk(version);
            pair.publish(&message("a", "b", qos)).unwrap();
            pair.drive();
            pair.server.send(&answer);
            assert_eq!(pair.error(), Error::Protocol(Violation::WrongAcknowledgement));
            assert_eq!(pair.client.client.store().flights(), 1);
        }
    }
}

/// They may be left over from before; only PUBREC wants an answer.
#[test]
fn answers_to_nothing_are_ignored() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.server.send(&Packet::PubAck(id(9), Default::default()));
        pair.server.send(&Packet::PubComp(id(9), Default::default()));
        assert_eq!(pair.events(), []);
        assert!(pair.server.is_quiet());
        pair.server.send(&Packet::PubRec(id(9), Default::default()));
        assert_eq!(pair.events(), []);
        let not_found = ReasonCode::PacketIdentifierNotFound;
        let reason = if version.is_v5() { not_found } else { ReasonCode::Success };
        assert_eq!(pair.server.packet(), Packet::PubRel(id(9), reason.into()));
        assert_eq!(pair.client.error, None);
    }
}

/// [MQTT-3.3.4-7], [MQTT-4.9.0-2]; what counts is the outcome, not PUBREC.
#[test]
fn receive_maximum_is_kept() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for maximum in 1..=4 {
            let terms = ConnAck { receive_maximum: maximum, ..ConnAck::default() };
            let mut pair = on_terms(terms);
            for _ in 1..=maximum {
                pair.publish(&message("a", "b", qos)).unwrap();
            }
            let full = Err(PublishError::InFlightFull);
            assert_eq!(pair.publish(&message("a", "b", qos)), full);
            // [MQTT-3.3.4-8]: everything else goes on.
            assert_eq!(pair.publish(&message("a", "b", QoS::AtMostOnce)), Ok(None));
            if qos == QoS::ExactlyOnce {
                pair.server.send(&Packet::PubRec(id(1), Default::default()));
                pair.drive();
                assert_eq!(pair.publish(&message("a", "b", qos)), full);
                pair.server.send(&Packet::PubComp(id(1), Default::default()));
            } else {
                pair.server.send(&Packet::PubAck(id(1), Default::default()));
            }
            pair.drive();
            assert!(pair.publish(&message("a", "b", qos)).is_ok());
            assert_eq!(pair.publish(&message("a", "b", qos)), full);
        }
    }
}

/// [MQTT-4.9.0-1]: what is sent again keeps to the new limit, too, and comes before anything new.
#[test]
fn receive_maximum_may_be_lowered_on_resume() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut pair = on_terms(ConnAck::default());
        for _ in 0..5 {
            pair.publish(&message("a", "b", qos)).unwrap();
        }
        pair.drive();
        let terms = ConnAck { receive_maximum: 2, ..ConnAck::default() };
        resume(&mut pair, Version::V5, terms);
        for number in 1..=5 {
            assert_eq!(published(&mut pair).0, number);
            assert_eq!(pair.server.received.len(), usize::from(number < 5));
            let full = Err(PublishError::InFlightFull);
            let new = pair.publish(&message("a", "new", qos));
            assert!(number == 5 || new == full, "{number}");
            if qos == QoS::ExactlyOnce {
                pair.server.send(&Packet::PubRec(id(number), Default::default()));
                pair.drive();
                assert_eq!(pair.server.received.pop_back(), {
                    Some(Packet::PubRel(id(number), Default::default()))
                });
                pair.server.send(&Packet::PubComp(id(number), Default::default()));
            } else {
                pair.server.send(&Packet::PubAck(id(number), Default::default()));
            }
            pair.drive();
        }
        assert_eq!(published(&mut pair), (6, false, &b"new"[..]));
    }
}

/// A well-behaved server with every small limit, changed on every connection.
#[test]
fn everything_arrives_within_any_receive_maximum() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut pair = meet(Version::V5);
        let mut sent = 0;
        for maximum in [8, 1, 5, 2, 1, 3].repeat(3) {
            pair.cut();
            pair.server.manners.terms.receive_maximum = maximum;
            pair.connect(&persistent(Version::V5)).unwrap();
            while !pair.client.client.is_connected() {
                pair.step();
            }
            while pair.publish(&message("a", &sent.to_string(), qos)).is_ok() {
                sent += 1;
            }
            for _ in 0..sent % 4 + 2 {
                pair.step();
            }
        }
        pair.drive();
        pair.client.events.clear();
        let mut numbers: Vec<u32> = Vec::new();
        for note in &pair.server.accepted {
            let number = String::from_utf8_lossy(&note.payload).parse().unwrap();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        assert!(sent > 10);
        assert!(numbers.iter().copied().eq(0..sent));
    }
}

/// [MQTT-3.2.2-15]: whole packets count, to the byte.
#[test]
fn maximum_packet_size_is_kept() {
    let terms = ConnAck { maximum_packet_size: Some(40), ..ConnAck::default() };
    let mut pair = on_terms(terms);
    for (qos, head) in [(QoS::AtMostOnce, 6), (QoS::AtLeastOnce, 8), (QoS::ExactlyOnce, 8)] {
        let fits = "x".repeat(40 - head);
        assert!(pair.publish(&message("a", &fits, qos)).is_ok());
        let too_large = "x".repeat(41 - head);
        let result = pair.publish(&message("a", &too_large, qos));
        assert_eq!(result, Err(PublishError::TooLarge));
    }
    assert_eq!(pair.client.client.store().flights(), 2);
}

/// What was accepted on one connection may be too much on the next: that is an outcome.
#[test]
fn what_the_server_no_longer_takes_is_dropped() {
    let limits = [
        (
            ConnAck { maximum_packet_size: Some(30), ..ConnAck::default() },
            ReasonCode::PacketTooLarge,
        ),
        (
            ConnAck { maximum_qos: QoS::AtLeastOnce, ..ConnAck::default() },
            ReasonCode::QoSNotSupported,
        ),
        (ConnAck { retain_available: false, ..ConnAck::default() }, ReasonCode::RetainNotSupported),
    ];
    for (terms, reason) in limits {
        let mut pair = on_terms(ConnAck::default());
        pair.publish(&message("a", "fits", QoS::AtLeastOnce)).unwrap();
        let payload = "a payload of more than thirty bytes";
        let much = message("a", payload, QoS::ExactlyOnce);
        pair.publish(&Publish { retain: true, ..much }).unwrap();
        pair.publish(&message("a", "fits too", QoS::AtLeastOnce)).unwrap();
        pair.drive();
        resume(&mut pair, Version::V5, terms);
        assert_eq!(published(&mut pair).0, 1);
        // The server may have it all the same; the outcome comes when it has let it go.
        assert_eq!(pair.events(), []);
        assert_eq!(pair.server.packet(), Packet::PubRel(id(2), Default::default()));
        assert_eq!(published(&mut pair).0, 3);
        assert!(pair.server.is_quiet());
        pair.server.send(&Packet::PubComp(id(2), ReasonCode::PacketIdentifierNotFound.into()));
        pair.drive();
        assert_eq!(pair.events(), [Event::Dropped(id(2), reason)]);
        assert_eq!(pair.client.client.store().flights(), 2);
    }
}

/// What was released is not dropped: it has arrived, and ends by its PUBCOMP.
#[test]
fn what_the_server_has_received_is_not_dropped() {
    let mut pair = on_terms(ConnAck::default());
    pair.publish(&message("a", "a payload of more than thirty bytes", QoS::ExactlyOnce)).unwrap();
    pair.server.send(&Packet::PubRec(id(1), Default::default()));
    pair.drive();
    let terms = ConnAck { maximum_packet_size: Some(10), ..ConnAck::default() };
    resume(&mut pair, Version::V5, terms);
    assert_eq!(pair.server.packet(), Packet::PubRel(id(1), Default::default()));
    pair.server.send(&Packet::PubComp(id(1), Default::default()));
    assert!(matches!(pair.event(), Event::Acknowledged(..)));
}

/// [MQTT-3.2.2-11], [MQTT-3.2.2-14]
#[test]
fn what_the_server_does_not_support_is_refused() {
    for maximum_qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for retain_available in [false, true] {
            let mut pair =
                on_terms(ConnAck { maximum_qos, retain_available, ..ConnAck::default() });
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for retain in [false, true] {
                    let publish = Publish { retain, ..message("a", "b", qos) };
                    let expected = if qos > maximum_qos {
                        Some(PublishError::Unsupported(ReasonCode::QoSNotSupported))
                    } else if retain && !retain_available {
                        Some(PublishError::Unsupported(ReasonCode::RetainNotSupported))
                    } else {
                        None
                    };
                    assert_eq!(pair.publish(&publish).err(), expected);
                }
            }
        }
    }
}

/// Every way to be wrong; the client is as it was, and goes on.
#[test]
fn bad_messages_are_refused_and_change_nothing() {
    let expiry = [Property::MessageExpiryInterval(1)];
    let alias = [Property::TopicAlias(1)];
    let identifier = [Property::SubscriptionIdentifier(1)];
    let foreign = [Property::ReceiveMaximum(1)];
    let twice = [Property::MessageExpiryInterval(1), Property::MessageExpiryInterval(2)];
    let bad = [
        (Version::V3_1_1, message_with(&expiry), EncodeError::Version),
        (Version::V5, message_with(&alias), EncodeError::Property),
        (Version::V5, message_with(&identifier), EncodeError::Property),
        (Version::V5, message_with(&foreign), EncodeError::Property),
        (Version::V5, message_with(&twice), EncodeError::Property),
        (
            Version::V5,
            Publish { topic: Topic::default(), ..message_with(&[]) },
            EncodeError::TopicName,
        ),
    ];
    for (version, publish, error) in bad {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = talk(version);
            let result = pair.publish(&Publish { qos, ..publish });
            assert_eq!(result, Err(PublishError::Invalid(error)));
            assert_eq!(pair.client.client.store().flights(), 0);
            let good = pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap().unwrap();
            pair.drive();
            assert_eq!(published(&mut pair).0, good.get());
        }
    }
}

fn message_with<'a>(properties: &'a [Property<'a>]) -> Publish<'a> {
    Publish { properties: properties.into(), ..message("a", "b", QoS::AtMostOnce) }
}

/// Wait, or never: the errors tell which.
#[test]
fn what_does_not_fit_says_whether_it_ever_will() {
    for version in BOTH {
        let (config, connect) = (Config::default(), persistent(version));
        let terms = ConnAck::default();
        let mut pair = talk_on(version, Fixed::<2, 40>::new(), config, &connect, terms);
        let half = "x".repeat(20);
        let qos = QoS::AtLeastOnce;
        pair.publish(&message("a", &half, qos)).unwrap();
        // The store is full for now, or too small for ever.
        assert_eq!(pair.publish(&message("a", &half, qos)), Err(PublishError::InFlightFull));
        let double = "x".repeat(40);
        assert_eq!(pair.publish(&message("a", &double, qos)), Err(PublishError::TooLarge));
        pair.publish(&message("a", "b", qos)).unwrap();
        assert_eq!(pair.publish(&message("a", "b", qos)), Err(PublishError::InFlightFull));
        pair.drive();
        // The sink is full for now, or too small for ever: MIN_SINK of it stay free.
        pair.client.out.capacity = MIN_SINK + 30;
        let qos = QoS::AtMostOnce;
        pair.publish(&message("a", &half, qos)).unwrap();
        assert_eq!(pair.publish(&message("a", &half, qos)), Err(PublishError::NoRoom));
        assert_eq!(pair.publish(&message("a", &double, qos)), Err(PublishError::TooLarge));
        pair.drive();
        assert_eq!(pair.publish(&message("a", &half, qos)), Ok(None));
    }
}

/// [MQTT-3.3.2-9], [MQTT-3.2.2-17], [MQTT-3.2.2-18]: the server checks numbers and names.
#[test]
fn aliases_stand_for_topics_that_recur() {
    let config = Config { topic_aliases: true, ..Config::default() };
    let limits = Limits { outbound_aliases: 3, ..Limits::default() };
    for maximum in [0, 1, 2, 100] {
        let mut manners = Manners::default();
        manners.terms.topic_alias_maximum = maximum;
        let mut pair = meet_on(Version::V5, Heap::with_limits(limits), config, manners.clone());
        check_aliases(&mut pair);
        let store = Aliased::<_, 3, 4>::new(Small::new());
        let mut pair = meet_on(Version::V5, store, config, manners);
        check_aliases(&mut pair);
    }
}

fn check_aliases<S: Store>(pair: &mut Meeting<S>) {
    let topics = ["a", "b", "a/long/topic", "a", "c", "d", "a", "a/long/topic"];
    for connection in 0..2 {
        for topic in topics {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                pair.publish(&message(topic, "x", qos)).unwrap();
                pair.drive();
                assert_eq!(pair.server.accepted.pop().unwrap().topic, topic, "{connection}");
            }
        }
        pair.cut();
        pair.connect(&persistent(Version::V5)).unwrap();
        pair.drive();
    }
    pair.client.events.clear();
}

/// [MQTT-3.3.2-7]: what is sent again names its topic, though it was first sent by an alias.
#[test]
fn an_alias_does_not_outlive_its_connection() {
    let config = Config { topic_aliases: true, ..Config::default() };
    let store = Aliased::<_, 3, 9>::new(Small::new());
    let terms = ConnAck { topic_alias_maximum: 3, ..ConnAck::default() };
    let mut pair = talk_on(Version::V5, store, config, &persistent(Version::V5), terms);
    for _ in 0..2 {
        pair.publish(&message("topic", "b", QoS::AtLeastOnce)).unwrap();
    }
    pair.drive();
    let alias_and_name = |pair: &mut Talk<_>| match pair.server.packet() {
        Packet::Publish(_, publish) => (publish.properties.topic_alias(), publish.topic.as_str()),
        other => panic!("{other:?}"),
    };
    assert_eq!(alias_and_name(&mut pair), (Some(1), "topic"));
    assert_eq!(alias_and_name(&mut pair), (Some(1), ""));
    resume(&mut pair, Version::V5, terms);
    for _ in 0..2 {
        assert_eq!(alias_and_name(&mut pair), (None, "topic"));
    }
    pair.publish(&message("topic", "b", QoS::AtLeastOnce)).unwrap();
    pair.drive();
    assert_eq!(alias_and_name(&mut pair), (Some(1), "topic"));
}

/// A shared payload is kept by reference, and sent again from there.
#[test]
fn a_shared_payload_is_sent_again_whole() {
    let payload = bytes::Bytes::from(vec![b'x'; 5_000]);
    let shared = mqtt_core::Payload::shared(&payload);
    for version in BOTH {
        let (config, connect) = (Config::default(), persistent(version));
        let mut pair = talk_on(version, Heap::new(), config, &connect, ConnAck::default());
        let topic = Topic::new("a").unwrap();
        let publish = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, shared) };
        pair.publish(&publish).unwrap();
        pair.drive();
        resume(&mut pair, version, ConnAck::default());
        assert_eq!(published(&mut pair), (1, true, &payload[..]));
    }
}

/// A new connection is a new acquaintance: limits of the last one are forgotten.
#[test]
fn limits_end_with_the_connection() {
    let terms = ConnAck {
        receive_maximum: 1,
        maximum_packet_size: Some(30),
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        ..ConnAck::default()
    };
    let mut pair = on_terms(terms);
    let connect = Connect { clean_start: true, ..persistent(Version::V5) };
    pair.cut();
    pair.server.greeting = Some(ConnAck::default());
    pair.connect(&connect).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
    for _ in 0..3 {
        let payload = "a payload of more than thirty bytes";
        let publish = Publish { retain: true, ..message("a", payload, QoS::ExactlyOnce) };
        assert!(pair.publish(&publish).is_ok());
    }
}
