//! How a connection begins and ends, and what becomes of the session.

use mqtt_core::{
    Authentication, Client, Config, ConnAck, Connect, DecodeError, Disconnect, Error, Event, List,
    Properties, Property, PublishError, QoS, ReasonCode, Text, Topic, UserProperty, Version,
    Violation, Will,
    store::{Heap, Limits, Store},
    wire::Packet,
};
use simulation::{App, Note, Pair, story::*};

fn text(text: &'static str) -> Text<'static> {
    Text::new(text).unwrap()
}

/// [MQTT-3.1.0-1], [MQTT-3.1.2-7], [MQTT-3.1.2-9], [MQTT-3.1.3-1]
#[test]
fn connect_says_all_that_was_asked_for() {
    let will_properties = [
        Property::WillDelayInterval(30),
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType(text("text/plain")),
        Property::ResponseTopic(Topic::new("answers").unwrap()),
        Property::CorrelationData(b"7"),
        Property::UserProperty(UserProperty::new("k", "v").unwrap()),
    ];
    let user = [UserProperty::new("k", "v").unwrap(), UserProperty::new("k", "w").unwrap()];
    for version in BOTH {
        let v5 = version.is_v5();
        let connect = Connect {
            client_id: text("sensor-7"),
            clean_start: false,
            keep_alive: 77,
            will: Some(Will {
                topic: Topic::new("gone").unwrap(),
                payload: b"sensor-7",
                qos: QoS::ExactlyOnce,
                retain: true,
                properties: if v5 { Properties::from(&will_properties) } else { List::EMPTY },
            }),
            user_name: Some(text("user")),
            password: Some(b"pass\0word"),
            session_expiry_interval: if v5 { 99 } else { 0 },
            receive_maximum: if v5 { 5 } else { u16::MAX },
            maximum_packet_size: v5.then_some(1_000),
            topic_alias_maximum: if v5 { 3 } else { 0 },
            request_response_information: v5,
            request_problem_information: !v5,
            authentication: v5
                .then_some(Authentication { method: text("SCRAM"), data: Some(b"hello") }),
            user_properties: if v5 { List::from(&user) } else { List::EMPTY },
        };
        let store = Heap::with_limits(Limits { inbound_aliases: 9, ..Limits::default() });
        let mut pair = unconnected(version, store, Config::default());
        pair.server.greeting = None;
        pair.connect(&connect).unwrap();
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::Connect(version, connect));
        assert!(pair.server.is_quiet());
    }
}

/// What is advertised is what the store has room for.
#[test]
fn limits_are_lowered_to_what_the_store_can_keep() {
    let mut pair = unconnected(Version::V5, Small::new(), Config::default());
    pair.server.greeting = None;
    pair.connect(&Connect { topic_alias_maximum: 10, ..Connect::default() }).unwrap();
    pair.drive();
    let Packet::Connect(_, told) = pair.server.packet() else { panic!() };
    assert_eq!((told.receive_maximum, told.topic_alias_maximum), (8, 0));
}

/// The name and level of 3.1 differ; all else is as in 3.1.1.
#[test]
fn the_oldest_version_is_spoken_too() {
    let mut pair = talk(Version::V3_1);
    let id = pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap().unwrap();
    pair.drive();
    assert!(matches!(pair.server.packet(), Packet::Publish(..)));
    pair.server.send(&Packet::PubAck(id, ReasonCode::Success.into()));
    assert!(matches!(pair.event(), Event::Acknowledged(..)));
}

/// [MQTT-3.2.2-21], and all other terms.
#[test]
fn the_server_names_its_terms() {
    let user = Box::leak(Box::new([UserProperty::new("k", "v").unwrap()]));
    let terms = ConnAck {
        session_present: true,
        session_expiry_interval: Some(5),
        receive_maximum: 7,
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        maximum_packet_size: Some(200),
        assigned_client_identifier: Some(text("you-are-9")),
        topic_alias_maximum: 4,
        reason_string: Some(text("welcome")),
        wildcard_subscription_available: false,
        subscription_identifier_available: false,
        shared_subscription_available: false,
        server_keep_alive: Some(11),
        response_information: Some(text("answers/9")),
        server_reference: Some(text("elsewhere")),
        user_properties: List::from(&*user),
        ..ConnAck::default()
    };
    let mut pair = unconnected(Version::V5, Small::new(), Config::default());
    pair.server.greeting = Some(terms);
    pair.connect(&persistent(Version::V5)).unwrap();
    assert_eq!(pair.event(), Event::Connected(terms));
    assert!(pair.client.client.is_connected());
}

/// [MQTT-3.1.3-6], [MQTT-3.2.2-16]
#[test]
fn a_server_may_choose_the_name() {
    let mut pair = meet(Version::V5);
    pair.cut();
    pair.connect(&Connect::default()).unwrap();
    let Event::Connected(ack) = pair.event() else { panic!() };
    assert_eq!(ack.assigned_client_identifier, Some(text("assigned-1")));
}

/// [MQTT-3.2.2-7], [MQTT-3.1.4-5]
#[test]
fn a_refusal_is_told_with_its_reason_and_ends_the_connection() {
    let reasons_3 = [
        ReasonCode::UnsupportedProtocolVersion,
        ReasonCode::ClientIdentifierNotValid,
        ReasonCode::ServerUnavailable,
        ReasonCode::BadUserNameOrPassword,
        ReasonCode::NotAuthorized,
    ];
    let all = (0x80..=u8::MAX).filter_map(ReasonCode::from_u8);
    let reasons_5: Vec<_> =
        all.filter(|reason| reason.is_legal_in(mqtt_core::wire::PacketType::ConnAck)).collect();
    assert!(reasons_5.len() > 15);
    for (version, reasons) in [(Version::V3_1_1, &reasons_3[..]), (Version::V5, &reasons_5)] {
        for reason in reasons {
            let refusal = ConnAck { reason: *reason, ..ConnAck::default() };
            let mut pair = unconnected(version, Small::new(), Config::default());
            pair.server.greeting = Some(refusal);
            pair.connect(&persistent(version)).unwrap();
            assert_eq!(pair.event(), Event::Refused(refusal));
            assert!(!pair.wire.is_open());
            assert_eq!(pair.client.client.deadline(), None);
            let publish = pair.publish(&message("a", "b", QoS::AtMostOnce));
            assert_eq!(publish, Err(PublishError::NotConnected));
            pair.server.greeting = Some(ConnAck::default());
            pair.connect(&persistent(version)).unwrap();
            assert!(matches!(pair.event(), Event::Connected(_)));
        }
    }
}

/// A server that knows only 3.1.1 refuses 5.0 with its own return code 1: 3.1.1 [MQTT-3.1.2-2].
#[test]
fn a_server_that_knows_only_3_1_1_is_understood() {
    let mut pair = unconnected(Version::V5, Small::new(), Config::default());
    pair.server.greeting = None;
    pair.connect(&persistent(Version::V5)).unwrap();
    pair.server.send_bytes(&[0x20, 0x02, 0x00, 0x01]);
    pair.drive();
    let Event::Refused(ack) = pair.event() else { panic!() };
    assert_eq!(ack.reason, ReasonCode::UnsupportedProtocolVersion);
}

/// A refusal keeps the session: [MQTT-3.1.4-2] does not end it.
#[test]
fn a_refusal_loses_no_message() {
    for version in BOTH {
        let mut pair = talk(version);
        let id = pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap().unwrap();
        pair.drive();
        pair.cut();
        let reason = ReasonCode::ServerUnavailable;
        pair.server.greeting = Some(ConnAck { reason, ..ConnAck::default() });
        pair.connect(&persistent(version)).unwrap();
        assert!(matches!(pair.event(), Event::Refused(_)));
        pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
        pair.connect(&persistent(version)).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        let Packet::Publish(delivery, _) = pair.server.packet() else { panic!() };
        assert_eq!((delivery.packet_id, delivery.dup), (Some(id), true));
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    for version in BOTH {
        for timeout in [1, 10_000] {
            let config = Config { handshake_timeout: timeout, ..Config::default() };
            let mut pair = unconnected(version, Small::new(), config);
            pair.server.greeting = None;
            pair.connect(&persistent(version)).unwrap();
            pair.run(u64::from(timeout) - 1);
            assert_eq!(pair.client.error, None);
            assert!(pair.wire.is_open());
            pair.run(1);
            assert_eq!(pair.client.error, Some(Error::HandshakeTimeout));
            assert!(!pair.wire.is_open());
        }
    }
}

/// [MQTT-3.2.0-1], [MQTT-3.14.0-1]
#[test]
fn nothing_comes_before_the_answer() {
    let publish = |_| Packet::Publish(Default::default(), message("a", "b", QoS::AtMostOnce));
    let packets: [fn(Version) -> Packet<'static>; 3] = [
        |_| Packet::PingResp,
        |_| Packet::Disconnect(Disconnect::default()),
        |_| Packet::PubAck(mqtt_core::PacketId::FIRST, Default::default()),
    ];
    for version in BOTH {
        for packet in packets.into_iter().chain([publish as fn(_) -> _]) {
            let mut pair = unconnected(version, Small::new(), Config::default());
            pair.server.greeting = None;
            pair.connect(&persistent(version)).unwrap();
            pair.drive();
            pair.server.send(&packet(version));
            assert_eq!(pair.error(), Error::Protocol(Violation::UnexpectedPacket));
        }
    }
}

/// [MQTT-3.2.0-2], and what else only a client sends.
#[test]
fn a_server_that_takes_the_wrong_part_is_told_so() {
    let packets = [
        Packet::ConnAck(ConnAck::default()),
        Packet::Connect(Version::V5, Connect::default()),
        Packet::PingReq,
    ];
    for version in BOTH {
        for packet in packets {
            let mut pair = talk(version);
            pair.server.send(&packet);
            assert_eq!(pair.error(), Error::Protocol(Violation::UnexpectedPacket));
            let last = pair.server.received.pop_front();
            let told = Packet::Disconnect(ReasonCode::ProtocolError.into());
            // Before 5.0 a DISCONNECT would pass for a normal end, and the will would be dropped.
            assert_eq!(last, version.is_v5().then_some(told));
            assert!(!pair.wire.is_open());
        }
    }
}

/// [MQTT-4.13.1-1]: the reason is that of the mistake.
#[test]
fn what_is_no_packet_ends_the_connection() {
    let packets: [(&[u8], DecodeError, ReasonCode); 4] = [
        (&[0x30, 4, 0, 1, b'#', 0], DecodeError::TopicName, ReasonCode::TopicNameInvalid),
        (&[0x36, 0], DecodeError::QoS, ReasonCode::MalformedPacket),
        (&[0x41, 0], DecodeError::Flags, ReasonCode::MalformedPacket),
        (&[0x40, 2, 0, 0], DecodeError::PacketId, ReasonCode::MalformedPacket),
    ];
    for (bytes, cause, reason) in packets {
        for version in BOTH {
            let mut pair = talk(version);
            pair.server.send_bytes(bytes);
            let error = pair.error();
            assert_eq!(error, Error::Malformed(cause));
            assert_eq!(error.reason(), Some(cause.reason()));
            if version.is_v5() {
                let told = Packet::Disconnect(reason.into());
                assert_eq!(pair.server.packet(), told);
            }
            assert!(pair.server.is_quiet());
        }
    }
}

/// [MQTT-3.2.2-2], [MQTT-3.2.2-6], [MQTT-3.2.2-1]
#[test]
fn answers_that_contradict_themselves_are_refused() {
    for version in BOTH {
        let mut pair = unconnected(version, Small::new(), Config::default());
        pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
        pair.connect(&Connect::default()).unwrap();
        assert_eq!(pair.error(), Error::Protocol(Violation::SessionPresent));
    }
    let bad: [(&[u8], DecodeError); 3] = [
        (&[0x20, 2, 1, 5], DecodeError::SessionPresent),
        (&[0x20, 2, 2, 0], DecodeError::ConnAckFlags),
        (&[0x20, 2, 0, 6], DecodeError::ReasonCode),
    ];
    for (bytes, error) in bad {
        let mut pair = unconnected(Version::V3_1_1, Small::new(), Config::default());
        pair.server.greeting = None;
        pair.connect(&Connect::default()).unwrap();
        pair.drive();
        pair.server.send_bytes(bytes);
        assert_eq!(pair.error(), Error::Malformed(error));
    }
}

/// [MQTT-3.1.2-4]
#[test]
fn a_clean_start_ends_the_old_session_on_both_sides() {
    for version in BOTH {
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        pair.server.manners.frozen = true;
        pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
        pair.drive();
        pair.cut();
        pair.server.manners.frozen = false;
        assert_eq!(pair.client.client.store().flights(), 1);
        pair.connect(&Connect { clean_start: true, ..persistent(version) }).unwrap();
        assert_eq!(pair.client.client.store().flights(), 0);
        let [Event::Connected(ack)] = pair.events()[..] else { panic!() };
        assert!(!ack.session_present);
        assert_eq!(pair.server.accepted, []);
        assert_eq!(pair.server.publish(&Note::new("a", "b", QoS::AtLeastOnce)), 0);
    }
}

/// [MQTT-3.2.2-4]: who has not heard of the clean start that it asked for has to ask again.
#[test]
fn a_clean_start_is_asked_for_until_it_is_answered() {
    for version in BOTH {
        let clean = Connect { clean_start: true, ..persistent(version) };
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        pair.cut();
        pair.connect(&clean).unwrap();
        pair.cut(); // before it has left
        for _ in 0..2 {
            pair.connect(&persistent(version)).unwrap();
            assert_eq!(pair.error(), Error::Protocol(Violation::SessionPresent));
            pair.cut();
        }
        pair.connect(&clean).unwrap();
        // Before 5.0 the session that began clean ends with its connection.
        for present in [false, version.is_v5(), true] {
            let [Event::Connected(ack)] = pair.events()[..] else { panic!() };
            assert_eq!(ack.session_present, present);
            pair.cut();
            pair.connect(&persistent(version)).unwrap();
        }
    }
}

/// [MQTT-3.1.2-5], [MQTT-3.2.2-3]
#[test]
fn a_session_outlives_its_connection() {
    for version in BOTH {
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        pair.cut();
        pair.server.publish(&Note::new("a", "kept", QoS::AtLeastOnce));
        pair.connect(&persistent(version)).unwrap();
        let [Event::Connected(ack), Event::Message(message)] = pair.events()[..] else { panic!() };
        assert!(ack.session_present);
        assert_eq!(message.payload, b"kept");
    }
}

/// [MQTT-3.2.2-5]
#[test]
fn a_lost_session_is_told_and_nothing_of_it_is_sent_again() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = meet(version);
            pair.server.manners.frozen = true;
            pair.publish(&message("a", "b", qos)).unwrap();
            pair.drive();
            pair.cut();
            pair.server.manners.frozen = false;
            pair.server.forget();
            pair.connect(&persistent(version)).unwrap();
            let [Event::Connected(ack)] = pair.events()[..] else { panic!() };
            assert!(!ack.session_present);
            assert_eq!(pair.client.client.store().flights(), 0);
            assert_eq!(pair.server.accepted, []);
            pair.publish(&message("a", "c", qos)).unwrap();
            assert!(matches!(pair.events()[..], [Event::Acknowledged(..)]));
        }
    }
}

/// The store goes to another client, as after a restart of the program.
#[test]
fn a_session_outlives_its_program() {
    for version in BOTH {
        let mut pair = meet(version);
        pair.server.manners.frozen = true;
        let id = pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap().unwrap();
        pair.drive();
        pair.cut();
        pair.server.manners.frozen = false;
        let store = pair.client.client.into_store();
        let mut pair = Pair::new(App::new(Client::new(version, store)), pair.server);
        pair.connect(&persistent(version)).unwrap();
        let [Event::Connected(_), Event::Acknowledged(done, _)] = pair.events()[..] else {
            panic!()
        };
        assert_eq!(done, id);
        assert_eq!(pair.server.accepted.len(), 1);
    }
}

/// Before 5.0 a server cannot tell its Receive Maximum: one is assumed, and kept to.
#[test]
fn a_receive_maximum_is_assumed_where_none_can_be_told() {
    for (version, most) in [(Version::V3_1_1, 3), (Version::V5, 8)] {
        let config = Config { assumed_receive_maximum: 3, ..Config::default() };
        let mut pair = unconnected(version, Small::new(), config);
        pair.connect(&persistent(version)).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        assert_eq!(pair.client.client.limits().receive_maximum, if most == 3 { 3 } else { 65_535 });
        let sent =
            (0..20).take_while(|_| pair.publish(&message("a", "b", QoS::AtLeastOnce)).is_ok());
        assert_eq!(sent.count(), most);
    }
}
