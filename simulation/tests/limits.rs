//! Limits at their edges: the peer's Maximum Packet Size, sinks and stores that are nearly too small,
//! and numbers that come to their end.

use mqtt_core::{
    Acknowledgement, Buffer, Client, Config, ConnAck, Connect, Error, Event, Filter, Instant,
    PacketId, Property, Publish, PublishError, QoS, ReasonCode, SendError, Sink, Subscribe,
    Subscription, Text, UserProperty, Version, Violation,
    store::{Aliased, Fixed, Heap, Limits, Store},
    wire::{Delivery, Packet},
};
use simulation::{app::packet_len, story::*};

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn accepting(maximum: u32) -> ConnAck<'static> {
    ConnAck { maximum_packet_size: Some(maximum), topic_alias_maximum: 4, ..ConnAck::default() }
}

/// [MQTT-3.2.2-15]: acknowledgements are packets, too. Where a reason does not fit it is left out; a
/// refusal would then be none.
#[test]
fn acknowledgements_keep_to_the_maximum_packet_size() {
    for maximum in [4, 5] {
        let config = Config { acknowledgement: Acknowledgement::Manual, ..Config::default() };
        let (version, terms) = (Version::V5, accepting(maximum));
        let connect = persistent(version);
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        pair.server.send(&Packet::PubRel(id(9), Default::default()));
        let delivery = Delivery { packet_id: Some(id(1)), dup: false };
        pair.server.send(&Packet::Publish(delivery, message("a", "b", QoS::AtLeastOnce)));
        let Event::Message(message) = pair.event() else { panic!() };
        let not_found = ReasonCode::PacketIdentifierNotFound;
        let told = if maximum == 4 { ReasonCode::Success } else { not_found };
        assert_eq!(pair.server.packet(), Packet::PubComp(id(9), told.into()));
        let receipt = message.receipt.unwrap();
        let refused = pair.acknowledge(receipt, ReasonCode::QuotaExceeded);
        if maximum == 4 {
            assert_eq!(refused, Err(SendError::TooLarge));
            assert_eq!(pair.acknowledge(receipt, ReasonCode::Success), Ok(()));
        } else {
            assert_eq!(refused, Ok(()));
        }
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::PubAck(..)));
    }
}

/// [MQTT-3.2.2-15]: setting an alias makes a packet longer. It is not what the message fails for.
#[test]
fn an_alias_makes_no_message_too_large() {
    // By name: 2 + 2 + 10 + 1 + 5 bytes; with an alias set, 3 more.
    for (maximum, fits) in [(19, false), (20, true), (22, true), (23, true)] {
        let config = Config { topic_aliases: true, ..Config::default() };
        let store = Aliased::<_, 4, 32>::new(Fixed::<4, 64>::new());
        let (version, terms) = (Version::V5, accepting(maximum));
        let mut pair = talk_on(version, store, config, &persistent(version), terms);
        for _ in 0..3 {
            let result = pair.publish(&message("0123456789", "01234", QoS::AtMostOnce));
            assert_eq!(result, if fits { Ok(None) } else { Err(PublishError::TooLarge) });
        }
        let mut bytes = pair.client.out.as_bytes();
        while let Some(len) = packet_len(bytes) {
            assert!(len <= maximum as usize);
            bytes = &bytes[len..];
        }
    }
}

/// What is accepted can be sent again: by its name, though an alias was shorter.
#[test]
fn nothing_is_accepted_that_fits_by_its_alias_only() {
    const TOPIC: &str = "a/topic/of/fifty/bytes/which/is/rather/long/for/it";
    let (version, terms) = (Version::V5, accepting(1_000));
    let config = Config { topic_aliases: true, ..Config::default() };
    let store = Aliased::<_, 4, 64>::new(Fixed::<4, 512>::new());
    let mut pair = talk_on(version, store, config, &persistent(version), terms);
    pair.client.out.capacity = 80;
    for (payload, fits) in [("", true), ("12345", true), ("01234567890123456789", false)] {
        let result = pair.publish(&message(TOPIC, payload, QoS::AtLeastOnce));
        assert_eq!(result.is_ok(), fits, "{payload}");
        assert!(fits || result == Err(PublishError::TooLarge));
        pair.drive();
    }
    // Without an outcome it does not have to be repeated.
    let result = pair.publish(&message(TOPIC, "01234567890123456789", QoS::AtMostOnce));
    assert_eq!(result, Ok(None));
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..terms });
    pair.connect(&persistent(version)).unwrap();
    assert!(matches!(pair.events()[..], [Event::Connected(_)]));
    assert_eq!(pair.server.received.len(), 2);
}

/// [MQTT-3.2.2-15]: a server that takes no acknowledgement cannot be served. It is told so if it takes
/// that.
#[test]
fn a_server_that_takes_no_acknowledgement_is_left() {
    for maximum in 1..6 {
        let mut pair = unconnected(Version::V5, Small::new(), Config::default());
        pair.server.greeting = Some(accepting(maximum));
        pair.connect(&persistent(Version::V5)).unwrap();
        pair.drive();
        assert_eq!(pair.client.client.is_connected(), maximum >= 4);
        if maximum < 4 {
            assert_eq!(pair.error(), Error::Protocol(Violation::MaximumPacketSize));
            let told = Packet::Disconnect(ReasonCode::ProtocolError.into());
            assert_eq!(pair.server.received.pop_front(), (maximum == 3).then_some(told));
        }
    }
}

fn connect<S: Store>(client: &mut Client<S>, session_present: bool) {
    let mut out = Buffer::<256>::new();
    let connect = persistent(client.version());
    client.connect(Instant::default(), &connect, &mut out).unwrap();
    let ack = [0x20, 2, session_present.into(), 0, 0];
    let mut input = if client.version().is_v5() { &[0x20, 3, ack[2], 0, 0][..] } else { &ack[..4] };
    let event = client.poll(Instant::default(), &mut input, &mut out);
    assert!(matches!(event, Ok(Some(Event::Connected(_)))));
}

/// A slice shrinks as it is written to: what does not fit the rest of it has to wait, no more.
#[test]
fn what_is_left_of_a_slice_is_not_all_there_will_be() {
    for version in BOTH {
        let (now, payload) = (Instant::default(), "x".repeat(90));
        let publish = message("a", &payload, QoS::AtLeastOnce);
        let mut client = Client::new(version, Fixed::<4, 1024>::new());
        connect(&mut client, false);
        let mut bytes = [0; 200];
        let mut out = &mut bytes[..];
        assert_eq!(client.publish(now, &publish, &mut out), Ok(Some(id(1))));
        assert_eq!(client.publish(now, &publish, &mut out), Err(PublishError::NoRoom));
        let mut bytes = [0; 200];
        assert_eq!(client.publish(now, &publish, &mut &mut bytes[..]), Ok(Some(id(2))));
        // And again, one after the other.
        client.closed();
        connect(&mut client, true);
        for _ in 0..2 {
            let mut bytes = [0; 200];
            let mut out = &mut bytes[..];
            assert_eq!(client.poll(now, &mut &[][..], &mut out), Ok(None));
            assert!((90..110).contains(&out.room()), "{} bytes left", out.room());
        }
    }
}

/// A command that fails changes nothing, identifiers included.
#[test]
fn what_is_refused_takes_no_identifier() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.client.out.capacity = 40;
        pair.wire.weather.window = 0;
        assert_eq!(pair.publish(&message("a", "0123456789", QoS::AtMostOnce)), Ok(None));
        let publish = message("a", "0123456789", QoS::AtLeastOnce);
        let filter = [Subscription::new(Filter::new("a/b/c").unwrap(), QoS::AtMostOnce)];
        for _ in 0..3 {
            assert_eq!(pair.publish(&publish), Err(PublishError::NoRoom));
            assert!(pair.subscribe(&Subscribe::from(&filter)).is_err());
        }
        pair.wire.weather.window = usize::MAX;
        pair.drive();
        assert_eq!(pair.publish(&publish), Ok(Some(id(1))));
    }
}

/// Identifiers come round, and skip what is still in use [MQTT-2.2.1-3].
#[test]
fn identifiers_come_round() {
    for version in BOTH {
        let mut pair = talk(version);
        let filter = [Subscription::new(Filter::new("a").unwrap(), QoS::AtMostOnce)];
        let publish = message("a", "", QoS::AtLeastOnce);
        assert_eq!(pair.publish(&publish), Ok(Some(id(1))));
        assert_eq!(pair.subscribe(&Subscribe::from(&filter)), Ok(id(2)));
        for round in 0..2 {
            for number in 3..=u16::MAX {
                assert_eq!(pair.publish(&publish), Ok(Some(id(number))), "in round {round}");
                pair.server.send(&Packet::PubAck(id(number), Default::default()));
                assert!(matches!(pair.event(), Event::Acknowledged(..)));
            }
        }
    }
}

/// All of them are in use: everything waits, and goes on with the first that is free.
#[test]
fn identifiers_come_to_an_end() {
    let limits = Limits { flights: u16::MAX, ..Default::default() };
    let (version, store) = (Version::V5, Heap::with_limits(limits));
    let (connect, terms) = (persistent(version), ConnAck::default());
    let mut pair = talk_on(version, store, Config::default(), &connect, terms);
    let filter = [Subscription::new(Filter::new("a").unwrap(), QoS::AtMostOnce)];
    let publish = message("a", "", QoS::AtLeastOnce);
    assert_eq!(pair.subscribe(&Subscribe::from(&filter)), Ok(id(1)));
    for number in 2..=u16::MAX {
        assert_eq!(pair.publish(&publish), Ok(Some(id(number))));
    }
    assert_eq!(pair.publish(&publish), Err(PublishError::InFlightFull));
    let request = pair.subscribe(&Subscribe::from(&filter));
    assert_eq!(request, Err(SendError::InFlightFull));
    assert_eq!(pair.publish(&message("a", "", QoS::AtMostOnce)), Ok(None));
    pair.server.send(&Packet::PubAck(id(40_000), Default::default()));
    assert!(matches!(pair.event(), Event::Acknowledged(..)));
    assert_eq!(pair.subscribe(&Subscribe::from(&filter)), Ok(id(40_000)));
    assert_eq!(pair.publish(&publish), Err(PublishError::InFlightFull));
    // The requests end with the connection, and their identifiers are free.
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..terms });
    pair.connect(&connect).unwrap();
    assert!(matches!(pair.events()[..], [Event::Connected(_)]));
    assert_eq!(pair.server.received.len(), 65_533);
    assert!(pair.publish(&publish).is_ok());
    assert!(pair.publish(&publish).is_ok());
    assert_eq!(pair.publish(&publish), Err(PublishError::InFlightFull));
}

/// A clock may begin anywhere, at its very end too.
#[test]
fn the_end_of_time_stops_nothing() {
    for version in BOTH {
        let end = Instant::from_millis(u64::MAX);
        let mut client = Client::new(version, Small::new());
        let mut out = Buffer::<256>::new();
        client.connect(end, &Connect { keep_alive: 10, ..persistent(version) }, &mut out).unwrap();
        assert_eq!(client.poll(end, &mut &[][..], &mut out), Ok(None));
        let mut input =
            if version.is_v5() { &[0x20, 3, 0, 0, 0][..] } else { &[0x20, 2, 0, 0][..] };
        assert!(matches!(client.poll(end, &mut input, &mut out), Ok(Some(Event::Connected(_)))));
        for _ in 0..3 {
            assert_eq!(client.poll(end, &mut &[][..], &mut out), Ok(None));
        }
    }
}

/// The largest packet there is, by its properties: measured without overflow, refused or sent whole.
#[test]
fn long_properties_are_measured_right() {
    let long = "x".repeat(65_535);
    let value = Text::new(&long).unwrap();
    let pair_of = Property::UserProperty(UserProperty { name: value, value });
    for count in [1, 2, 16] {
        let properties = vec![pair_of; count];
        let publish = Publish {
            properties: properties[..].into(),
            ..message("a", "payload", QoS::AtMostOnce)
        };
        let mut pair = talk(Version::V5);
        assert_eq!(pair.publish(&publish), Ok(None));
        pair.drive();
        let Packet::Publish(_, received) = pair.server.packet() else { panic!() };
        assert_eq!(received.properties.iter().count(), count);
        assert_eq!(received.payload.as_bytes(), b"payload");
    }
}
