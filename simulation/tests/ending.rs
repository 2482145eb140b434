//! DISCONNECT, session expiry, wills, and what may be called when.

use mqtt_core::{
    Config, Connect, DecodeError, Disconnect, EncodeError, Error, Event, Filter, PacketId,
    Properties, Property, PublishError, QoS, ReasonCode, SendError, Subscribe, Subscription, Text,
    Topic, Unsubscribe, UserProperty, Version, Violation, Will, wire::Packet,
};
use simulation::{Note, story::*};

/// Says goodbye, and hangs up once that is sent.
fn disconnect(pair: &mut Meeting, disconnect: &Disconnect<'_>) -> Result<(), SendError> {
    let now = pair.clock.now();
    pair.client.call(|client, out| client.disconnect(now, disconnect, out))?;
    pair.client.hang_up();
    pair.drive();
    assert!(!pair.wire.is_open());
    Ok(())
}

fn expiry(seconds: u32) -> [Property<'static>; 1] {
    [Property::SessionExpiryInterval(seconds)]
}

/// [MQTT-3.14.4-1], [MQTT-3.14.4-2]
#[test]
fn after_disconnect_nothing_is_sent() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.client.call(|client, out| {
            let now = Default::default();
            client.disconnect(now, &Disconnect::default(), out).unwrap();
            assert!(!client.is_connected());
            assert_eq!(client.deadline(), None);
            assert_eq!(client.poll(now, &mut &[0xd0, 0][..], out), Err(Error::NotConnected));
            let again = client.disconnect(now, &Disconnect::default(), out);
            assert_eq!(again, Err(SendError::NotConnected));
            let publish = client.publish(now, &message("a", "b", QoS::AtMostOnce), out);
            assert_eq!(publish, Err(PublishError::NotConnected));
        });
        pair.client.hang_up();
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::Disconnect(Disconnect::default()));
        assert!(pair.server.is_quiet());
    }
}

/// Before there is a connection there is nothing to send on.
#[test]
fn commands_need_a_connection() {
    for version in BOTH {
        let mut pair = unconnected(version, Small::new(), Config::default());
        for _ in 0..2 {
            let filter = Filter::new("a").unwrap();
            let wanted = [Subscription::new(filter, QoS::AtMostOnce)];
            assert_eq!(pair.subscribe(&Subscribe::from(&wanted)), Err(SendError::NotConnected));
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                let publish = pair.publish(&message("a", "b", qos));
                assert_eq!(publish, Err(PublishError::NotConnected));
            }
            pair.client.call(|client, out| {
                let now = Default::default();
                let unwanted = [filter];
                let unsubscribe = Unsubscribe::from(&unwanted);
                let result = client.unsubscribe(now, &unsubscribe, out);
                assert_eq!(result, Err(SendError::NotConnected));
                assert!(!client.skip());
                assert!(!client.abandon(PacketId::FIRST));
                assert_eq!(client.payload(b"abc", out), 0);
                let message = message("a", "b", QoS::AtMostOnce);
                let streamed = client.publish_streamed(now, &message, 3, out);
                assert_eq!(streamed, Err(PublishError::NotConnected));
            });
            // While CONNACK has not come it is no different [MQTT-3.1.2-30].
            if !pair.wire.is_open() {
                pair.server.greeting = None;
                pair.connect(&persistent(version)).unwrap();
                pair.drive();
            }
        }
        let now = pair.clock.now();
        let again = pair.client.call(|client, out| client.connect(now, &Connect::default(), out));
        assert_eq!(again, Err(SendError::AlreadyConnected));
        assert!(pair.server.received.len() == 1);
    }
}

#[test]
fn what_a_version_cannot_say_is_refused_and_nothing_changes() {
    let authentication = Some(Default::default());
    let delay = [Property::WillDelayInterval(1)];
    let topic = Topic::new("a").unwrap();
    let will = Will { topic, properties: Properties::from(&delay), ..Will::default() };
    let user = [UserProperty::new("a", "b").unwrap()];
    let bad = [
        (Connect { session_expiry_interval: 1, ..Connect::default() }, EncodeError::Version),
        (Connect { authentication, ..Connect::default() }, EncodeError::Version),
        (Connect { will: Some(will), ..Connect::default() }, EncodeError::Version),
        (Connect { user_properties: (&user).into(), ..Connect::default() }, EncodeError::Version),
        (Connect { clean_start: false, ..Connect::default() }, EncodeError::Credentials),
        (Connect { password: Some(b"a"), ..Connect::default() }, EncodeError::Credentials),
        (Connect { receive_maximum: 0, ..Connect::default() }, EncodeError::Property),
        (Connect { maximum_packet_size: Some(0), ..Connect::default() }, EncodeError::Property),
    ];
    for (connect, error) in bad {
        let mut pair = unconnected(Version::V3_1_1, Small::new(), Config::default());
        assert_eq!(pair.connect(&connect), Err(SendError::Invalid(error)));
        assert!(pair.client.out.is_empty());
        assert_eq!(pair.client.client.deadline(), None);
        pair.connect(&Connect::default()).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
    }
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]
#[test]
fn a_session_expires_when_it_was_to() {
    for (pause, is_kept) in [(3_599_000, true), (3_600_000, false)] {
        let mut pair = meet(Version::V5);
        disconnect(&mut pair, &Disconnect::default()).unwrap();
        pair.run(pause);
        pair.connect(&persistent(Version::V5)).unwrap();
        let Event::Connected(ack) = pair.event() else { panic!() };
        assert_eq!(ack.session_present, is_kept);
    }
}

#[test]
fn disconnect_may_change_the_expiry() {
    for (seconds, pause, is_kept) in [(0, 0, false), (5, 4_000, true), (5, 5_000, false)] {
        let mut pair = meet(Version::V5);
        let properties = expiry(seconds);
        let last = Disconnect { properties: (&properties).into(), ..Disconnect::default() };
        disconnect(&mut pair, &last).unwrap();
        pair.run(pause);
        pair.connect(&persistent(Version::V5)).unwrap();
        let Event::Connected(ack) = pair.event() else { panic!() };
        assert_eq!(ack.session_present, is_kept);
    }
}

#[test]
fn disconnect_does_not_revive_a_session_that_was_to_expire() {
    let mut pair = meet(Version::V5);
    pair.cut();
    pair.connect(&Connect { session_expiry_interval: 0, ..persistent(Version::V5) }).unwrap();
    pair.drive();
    let bad = [
        Property::SessionExpiryInterval(1),
        Property::SessionExpiryInterval(u32::MAX),
        Property::ServerReference(Text::default()),
        Property::ReceiveMaximum(1),
    ];
    for property in bad {
        let properties = [property];
        let properties = Properties::from(&properties);
        let last = Disconnect { properties, ..Disconnect::default() };
        let refused = disconnect(&mut pair, &last);
        assert_eq!(refused, Err(SendError::Invalid(EncodeError::Property)));
        assert!(pair.client.client.is_connected());
    }
    let properties = expiry(0);
    let last = Disconnect { properties: (&properties).into(), ..Disconnect::default() };
    disconnect(&mut pair, &last).unwrap();
    assert!(!pair.server.remembers("storyteller"));
}

/// [MQTT-3.14.2-1]: codes that only a server sends are a server's.
#[test]
fn disconnect_has_reasons_on_5_only() {
    let mut pair = talk(Version::V3_1_1);
    pair.client.call(|client, out| {
        for reason in [ReasonCode::UnspecifiedError, ReasonCode::DisconnectWithWillMessage] {
            let result = client.disconnect(Default::default(), &reason.into(), out);
            assert!(matches!(result, Err(SendError::Invalid(_))), "{result:?}");
        }
        assert!(client.is_connected());
    });
    let mut pair = talk(Version::V5);
    pair.client.call(|client, out| {
        for reason in [ReasonCode::GrantedQoS1, ReasonCode::ServerShuttingDown] {
            let result = client.disconnect(Default::default(), &reason.into(), out);
            assert_eq!(result, Err(SendError::Invalid(EncodeError::ReasonCode)));
        }
    });
    pair.server.send(&Packet::Disconnect(ReasonCode::DisconnectWithWillMessage.into()));
    assert_eq!(pair.error(), Error::Malformed(DecodeError::ReasonCode));
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]
#[test]
fn a_will_is_published_unless_the_client_says_goodbye() {
    let topic = Topic::new("gone").unwrap();
    let will = Will { topic, payload: b"away", qos: QoS::AtLeastOnce, ..Will::default() };
    let published = [Note::new("gone", "away", QoS::AtLeastOnce)];
    for version in BOTH {
        let connect = Connect { will: Some(will), ..persistent(version) };
        let endings: [fn(&mut Meeting); 3] = [
            |pair| pair.cut(),
            |pair| disconnect(pair, &Disconnect::default()).unwrap(),
            |pair| {
                let reason = ReasonCode::DisconnectWithWillMessage;
                disconnect(pair, &reason.into()).unwrap();
            },
        ];
        for (index, ending) in endings.into_iter().enumerate() {
            if index == 2 && !version.is_v5() {
                continue;
            }
            let mut pair = meet(version);
            pair.cut();
            pair.connect(&connect).unwrap();
            pair.drive();
            ending(&mut pair);
            assert_eq!(pair.server.wills, if index == 1 { &[][..] } else { &published });
        }
    }
}

/// An error found by the client must not pass for a goodbye before 5.0: the will is published.
#[test]
fn a_will_is_published_when_the_client_ends_the_connection_for_an_error() {
    let topic = Topic::new("gone").unwrap();
    let will = Will { topic, payload: b"away", ..Will::default() };
    for version in BOTH {
        let mut pair = meet(version);
        pair.cut();
        pair.connect(&Connect { will: Some(will), ..persistent(version) }).unwrap();
        pair.drive();
        pair.client.call(|client, out| {
            let error = client.poll(Default::default(), &mut &[0xf0, 0x00][..], out);
            assert!(error.is_err());
        });
        pair.client.hang_up();
        pair.drive();
        assert_eq!(pair.server.wills.len(), 1);
    }
}

/// [MQTT-3.1.4-3]
#[test]
fn the_server_may_end_the_connection_with_a_reason() {
    for reason in [ReasonCode::SessionTakenOver, ReasonCode::ServerShuttingDown] {
        let mut pair = meet(Version::V5);
        pair.server.kick(reason);
        assert_eq!(pair.event(), Event::Disconnected(reason.into()));
        assert!(!pair.wire.is_open());
        assert!(!pair.client.client.is_connected());
        pair.connect(&persistent(Version::V5)).unwrap();
        assert!(matches!(pair.event(), Event::Connected(ack) if ack.session_present));
    }
}

#[test]
fn a_server_may_refer_to_another() {
    let mut pair = talk(Version::V5);
    let properties = [
        Property::ServerReference(Text::new("elsewhere").unwrap()),
        Property::ReasonString(Text::new("full").unwrap()),
    ];
    let reason = ReasonCode::UseAnotherServer;
    pair.server.send(&Packet::Disconnect(Disconnect { reason, properties: (&properties).into() }));
    let Event::Disconnected(last) = pair.event() else { panic!() };
    assert_eq!(last.reason, reason);
    assert_eq!(last.properties.server_reference(), Some(Text::new("elsewhere").unwrap()));
}

/// [MQTT-3.14.2-2]; before 5.0 a server sends no DISCONNECT at all.
#[test]
fn a_server_does_not_say_when_a_session_expires() {
    let mut pair = talk(Version::V5);
    let properties = expiry(5);
    let last = Disconnect { properties: (&properties).into(), ..Disconnect::default() };
    pair.server.send(&Packet::Disconnect(last));
    assert_eq!(pair.error(), Error::Protocol(Violation::Property));
    let mut pair = talk(Version::V3_1_1);
    pair.server.send(&Packet::Disconnect(Disconnect::default()));
    assert_eq!(pair.error(), Error::Protocol(Violation::UnexpectedPacket));
}

/// What has been received before the end is still told.
#[test]
fn a_connection_that_closes_gives_up_nothing_that_has_arrived() {
    for version in BOTH {
        let mut pair = talk(version);
        let publish = message("a", "last", QoS::AtMostOnce);
        pair.server.send(&Packet::Publish(Default::default(), publish));
        pair.server.close();
        let [Event::Message(message)] = pair.events()[..] else { panic!() };
        assert_eq!(message.payload, b"last");
        assert!(!pair.wire.is_open());
        assert!(!pair.client.client.is_connected());
    }
}
