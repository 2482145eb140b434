//! The server's end of one connection, packet by packet.

use mqtt_core::{
    Acknowledgement, Auth, Authentication, Buffer, ConnAck, Connect, Disconnect, Error, Filter,
    Instant, PacketId, Properties, Property, Publish, QoS, ReasonCode, SendError, SubAck,
    Subscribe, Subscription, Text, Topic, UnsubAck, Unsubscribe, Version, Violation,
    server::{Peer, Request},
    store::{Fixed, Records},
    wire::{Decoded, Delivery, Packet},
};
use simulation::story::{BOTH, message, persistent};

type Store = Fixed<4, 256>;

/// A peer, what it has written, and the time.
struct Desk<S = Store> {
    peer: Peer<S>,
    out: Buffer<512>,
    now: Instant,
    version: Version,
}

impl<S: mqtt_core::store::Store> Desk<S> {
    fn new(version: Version, store: S) -> Self {
        let config = mqtt_core::Config {
            acknowledgement: Acknowledgement::Manual,
            whole: 512,
            ..Default::default()
        };
        let mut peer = Peer::with_config(store, config);
        let now = Instant::from_millis(1_000);
        peer.open(now);
        Self { peer, out: Buffer::new(), now, version }
    }

    fn poll_bytes<'b>(&mut self, mut bytes: &'b [u8]) -> Result<Option<Request<'b>>, Error> {
        self.peer.poll(self.now, &mut bytes, &mut self.out)
    }

    /// What comes of a packet of the client.
    fn poll(&mut self, packet: &Packet<'_>) -> Result<Option<Request<'static>>, Error> {
        self.poll_bytes(bytes(self.version, packet))
    }

    fn connect(&mut self, connect: &Connect<'_>, terms: &ConnAck<'_>) {
        let request = self.poll(&Packet::Connect(self.version, *connect));
        assert!(matches!(request, Ok(Some(Request::Connect(..)))), "{request:?}");
        self.peer.accept(self.now, terms, &mut self.out).expect("a connection");
    }

    /// Everything that was written.
    fn written(&mut self) -> Vec<Packet<'static>> {
        let mut rest = &*self.out.as_bytes().to_vec().leak();
        self.out.clear();
        let mut packets = Vec::new();
        while let Ok(Decoded::Packet { packet, len }) = Packet::decode(self.version, rest) {
            packets.push(packet);
            rest = &rest[len..];
        }
        assert_eq!(rest, [], "half a packet");
        packets
    }
}

fn bytes(version: Version, packet: &Packet<'_>) -> &'static [u8] {
    let mut bytes = vec![0; packet.encoded_len(version).expect("a packet")];
    packet.encode(version, &mut &mut bytes[..]).expect("room");
    bytes.leak()
}

fn connected(version: Version) -> Desk {
    let mut desk = Desk::new(version, Store::new());
    desk.connect(&persistent(version), &ConnAck::default());
    desk.written();
    desk
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

fn publish(id: Option<PacketId>, qos: QoS) -> Packet<'static> {
    Packet::Publish(Delivery { packet_id: id, dup: false }, message("a", "x", qos))
}

/// [MQTT-3.1.2-2]: each level is answered in its own words.
#[test]
fn a_level_that_is_not_supported_is_refused_as_its_version_says() {
    let cases: [(&[u8], &[u8]); 4] = [
        (b"\x10\x0c\0\x04MQTT\x06\x02\0\x00\0\0", b"\x20\x03\0\x84\0"),
        (b"\x10\x0c\0\x04MQTT\x03\x02\0\x00\0\0", b"\x20\x02\0\x01"),
        (b"\x10\x0e\0\x06MQIsdp\x04\x02\0\x00\0\0", b"\x20\x02\0\x01"),
        (b"\x10\x0c\0\x04MQTX\x04\x02\0\x00\0\0", b""),
    ];
    for (connect, refusal) in cases {
        let mut desk = Desk::new(Version::V5, Store::new());
        assert!(matches!(desk.poll_bytes(connect), Err(Error::Malformed(_))));
        assert_eq!(desk.out.as_bytes(), refusal);
        assert_eq!(desk.poll_bytes(&[]), Err(Error::NotConnected));
    }
}

/// [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT-3.1.4-1] [MQTT-4.13.1-1]
#[test]
fn connect_comes_first_and_once() {
    for version in BOTH {
        let mut desk = Desk::new(version, Store::new());
        let early = desk.poll(&Packet::PingReq);
        assert_eq!(early, Err(Error::Protocol(Violation::UnexpectedPacket)));
        assert!(desk.out.is_empty(), "nothing is said to somebody who is nobody");
        let mut desk = connected(version);
        let again = desk.poll(&Packet::Connect(version, persistent(version)));
        assert_eq!(again, Err(Error::Protocol(Violation::UnexpectedPacket)));
        let farewell = Packet::Disconnect(ReasonCode::ProtocolError.into());
        assert_eq!(desk.written(), if version.is_v5() { vec![farewell] } else { vec![] });
    }
}

/// What only a server sends, and what is no packet: [MQTT-4.13.1-1].
#[test]
fn what_a_client_does_not_send_ends_the_connection() {
    for version in BOTH {
        for packet in [Packet::PingResp, Packet::ConnAck(ConnAck::default())] {
            let mut desk = connected(version);
            assert_eq!(desk.poll(&packet), Err(Error::Protocol(Violation::UnexpectedPacket)));
        }
        let mut desk = connected(version);
        assert!(matches!(desk.poll_bytes(&[0x00, 0x00]), Err(Error::Malformed(_))));
        assert_eq!(desk.written().len(), usize::from(version.is_v5()));
    }
    let identified = Publish {
        properties: Properties::from(&[Property::SubscriptionIdentifier(1)]),
        ..message("a", "x", QoS::AtMostOnce)
    };
    let mut desk = connected(Version::V5);
    let result = desk.poll(&Packet::Publish(Delivery::default(), identified));
    assert_eq!(result, Err(Error::Protocol(Violation::Property)), "[MQTT-3.3.4-6]");
}

#[test]
fn a_client_that_does_not_connect_is_not_waited_for() {
    let mut desk = Desk::new(Version::V5, Store::new());
    assert_eq!(desk.peer.deadline(), Some(desk.now + 10_000));
    desk.now = desk.now + 9_999;
    assert_eq!(desk.poll_bytes(b"\x10"), Ok(None), "half a packet changes nothing");
    desk.now = desk.now + 1;
    assert_eq!(desk.poll_bytes(b"\x10"), Err(Error::HandshakeTimeout));
    assert!(desk.out.is_empty());
}

/// The application's time is not the client's.
#[test]
fn a_client_that_waits_for_us_has_time() {
    let mut desk = Desk::new(Version::V5, Store::new());
    desk.poll(&Packet::Connect(Version::V5, persistent(Version::V5))).expect("a request");
    assert_eq!(desk.peer.deadline(), None);
    desk.now = desk.now + 1_000_000;
    assert_eq!(desk.poll(&Packet::PingReq), Ok(None), "it stays where it is");
    desk.peer.accept(desk.now, &ConnAck::default(), &mut desk.out).expect("a connection");
    assert_eq!(desk.poll(&Packet::PingReq), Ok(None));
    assert_eq!(desk.written().len(), 2, "CONNACK and PINGRESP [MQTT-3.12.4-1]");
}

/// [MQTT-3.1.2-22] and, for what the server asks for, [MQTT-3.2.2-22].
#[test]
fn silence_is_borne_for_one_and_a_half_times_the_keep_alive() {
    for version in BOTH {
        let server_keep_alive = version.is_v5().then_some(10);
        let mut desk = Desk::new(version, Store::new());
        let connect = Connect { keep_alive: 20, ..persistent(version) };
        desk.connect(&connect, &ConnAck { server_keep_alive, ..ConnAck::default() });
        desk.written();
        let patience = if version.is_v5() { 15_000 } else { 30_000 };
        assert_eq!(desk.peer.deadline(), Some(desk.now + patience));
        desk.now = desk.now + (patience - 1);
        assert_eq!(desk.poll(&Packet::PingReq), Ok(None));
        desk.now = desk.now + (patience - 1);
        assert_eq!(desk.poll_bytes(&[]), Ok(None));
        desk.written();
        desk.now = desk.now + 1;
        assert_eq!(desk.poll_bytes(&[]), Err(Error::KeepAliveTimeout));
        let farewell = Packet::Disconnect(ReasonCode::KeepAliveTimeout.into());
        assert_eq!(desk.written(), if version.is_v5() { vec![farewell] } else { vec![] });
    }
}

#[test]
fn a_client_of_3_1_is_served_as_it_was_then() {
    let mut desk = Desk::new(Version::V3_1, Store::new());
    let connect = Connect { clean_start: false, ..persistent(Version::V3_1) };
    desk.connect(&connect, &ConnAck { session_present: true, ..ConnAck::default() });
    assert_eq!(desk.out.as_bytes(), b"\x20\x02\0\0", "it does not tell of the session");
    desk.out.clear();
    let request = desk.poll_bytes(b"\x8a\x06\0\x01\0\x01a\x02"); // DUP on SUBSCRIBE
    assert!(matches!(request, Ok(Some(Request::Subscribe(..)))), "{request:?}");
}

/// [MQTT-3.2.2-7]: refused is over, and told if the version has a word for it.
#[test]
fn a_refusal_ends_the_connection() {
    for (version, reason, is_told) in [
        (Version::V3_1_1, ReasonCode::ServerMoved, false),
        (Version::V3_1_1, ReasonCode::NotAuthorized, true),
        (Version::V5, ReasonCode::ServerMoved, true),
    ] {
        let mut desk = Desk::new(version, Store::new());
        desk.poll(&Packet::Connect(version, persistent(version))).expect("a request");
        let ack = ConnAck { reason, ..ConnAck::default() };
        desk.peer.refuse(desk.now, &ack, &mut desk.out).expect("a refusal");
        assert_eq!(desk.written(), if is_told { vec![Packet::ConnAck(ack)] } else { vec![] });
        assert_eq!(desk.poll(&Packet::PingReq), Err(Error::NotConnected));
    }
}

/// [MQTT-3.2.2-2]: what the client wants discarded is not there.
#[test]
fn a_clean_start_is_not_answered_with_a_session() {
    let mut desk = Desk::new(Version::V5, Store::new());
    desk.poll(&Packet::Connect(Version::V5, Connect::default())).expect("a request");
    let present = ConnAck { session_present: true, ..ConnAck::default() };
    let result = desk.peer.accept(desk.now, &present, &mut desk.out);
    assert!(matches!(result, Err(SendError::Invalid(_))));
    assert!(desk.out.is_empty() && !desk.peer.is_connected());
}

/// What is told is what there is room for: Receive Maximum [MQTT-3.3.4-7].
#[test]
fn the_receive_maximum_is_told_and_kept() {
    let mut desk = Desk::new(Version::V5, Store::new());
    desk.connect(&persistent(Version::V5), &ConnAck::default());
    let told = ConnAck { receive_maximum: 4, ..ConnAck::default() };
    assert_eq!(desk.written(), [Packet::ConnAck(told)]);
    for number in 1..=4 {
        let request = desk.poll(&publish(Some(id(number)), QoS::AtLeastOnce));
        assert!(matches!(request, Ok(Some(Request::Publish(_)))));
    }
    let error = desk.poll(&publish(Some(id(5)), QoS::AtLeastOnce));
    assert_eq!(error, Err(Error::Protocol(Violation::ReceiveMaximumExceeded)));
    let farewell = Packet::Disconnect(ReasonCode::ReceiveMaximumExceeded.into());
    assert_eq!(desk.written(), [farewell]);
}

/// [MQTT-3.2.2-15]: what is told is what is taken.
#[test]
fn the_maximum_packet_size_is_kept_on_every_version() {
    for version in BOTH {
        let mut desk = Desk::new(version, Store::new());
        let terms = ConnAck { maximum_packet_size: Some(20), ..ConnAck::default() };
        desk.connect(&persistent(version), &terms);
        let long = message("a", "0123456789012345", QoS::AtMostOnce);
        let error = desk.poll(&Packet::Publish(Delivery::default(), long));
        assert_eq!(error, Err(Error::Protocol(Violation::PacketTooLarge)));
    }
}

/// [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-10]
#[test]
fn messages_are_acknowledged_by_their_qos_and_in_order() {
    for version in BOTH {
        let mut desk = connected(version);
        let mut receipts = Vec::new();
        for (number, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
            match desk.poll(&publish(Some(id(number)), qos)) {
                Ok(Some(Request::Publish(message))) => receipts.extend(message.receipt),
                other => panic!("{other:?}"),
            }
        }
        for receipt in receipts.into_iter().rev() {
            let (now, success) = (desk.now, ReasonCode::Success);
            desk.peer.acknowledge(now, receipt, success, &mut desk.out).expect("in time");
        }
        let ack = Default::default();
        assert_eq!(desk.written(), [Packet::PubAck(id(1), ack), Packet::PubRec(id(2), ack)]);
        let again = desk.poll(&publish(Some(id(2)), QoS::ExactlyOnce));
        assert_eq!(again, Ok(None), "it is here already");
        assert_eq!(desk.poll(&Packet::PubRel(id(2), ack)), Ok(None));
        assert_eq!(desk.written(), [Packet::PubRec(id(2), ack), Packet::PubComp(id(2), ack)]);
    }
}

/// [MQTT-4.4.0-1]: with records, even for a client that has changed its version meanwhile.
#[test]
fn a_session_is_resumed_in_another_version() {
    for (first, second) in [(Version::V5, Version::V3_1_1), (Version::V3_1_1, Version::V5)] {
        let mut desk = Desk::new(first, Records::<4>::new());
        desk.connect(&persistent(first), &ConnAck::default());
        let sent = message("a", "x", QoS::AtLeastOnce);
        let number = desk.peer.publish(desk.now, &sent, &mut desk.out).expect("room").expect("1");
        desk.peer.closed();
        desk.out.clear();
        desk.version = second;
        desk.peer.open(desk.now);
        let terms = ConnAck { session_present: true, ..ConnAck::default() };
        desk.connect(&persistent(second), &terms);
        assert_eq!(desk.poll_bytes(&[]), Ok(Some(Request::Resend(number))));
        desk.written();
        desk.peer.publish_again(desk.now, number, &sent, &mut desk.out).expect("asked for");
        let delivery = Delivery { packet_id: Some(number), dup: true };
        assert_eq!(desk.written(), [Packet::Publish(delivery, sent)]);
        let outcome = desk.poll(&Packet::PubAck(number, Default::default()));
        assert_eq!(outcome, Ok(Some(Request::Acknowledged(number, Default::default()))));
    }
}

/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5]; and [MQTT-3.1.2-29] for a client
/// that wants no explanations.
#[test]
fn requests_are_answered_under_their_identifiers() {
    for version in BOTH {
        let mut desk = Desk::new(version, Store::new());
        let quiet = Connect { request_problem_information: false, ..persistent(version) };
        desk.connect(&quiet, &ConnAck::default());
        desk.written();
        let filter = Filter::new("a/#").expect("a filter");
        let list = [Subscription::new(filter, QoS::AtLeastOnce)];
        let request = desk.poll(&Packet::Subscribe(id(7), Subscribe::from(&list)));
        assert_eq!(request, Ok(Some(Request::Subscribe(id(7), Subscribe::from(&list)))));
        let explained = [Property::ReasonString(Text::new("because").expect("text"))];
        let properties = match version.is_v5() {
            true => Properties::from(&explained),
            false => Properties::EMPTY,
        };
        let reasons = (&[ReasonCode::GrantedQoS1]).into();
        let ack = SubAck { reasons, properties };
        desk.peer.subscribed(desk.now, id(7), &ack, &mut desk.out).expect("room");
        let plain = SubAck { reasons, properties: Properties::EMPTY };
        assert_eq!(desk.written(), [Packet::SubAck(id(7), plain)]);
        let filters = [filter];
        let request = desk.poll(&Packet::Unsubscribe(id(8), Unsubscribe::from(&filters)));
        assert!(matches!(request, Ok(Some(Request::Unsubscribe(..)))));
        let ack = UnsubAck { reasons: (&[ReasonCode::Success]).into(), properties };
        desk.peer.unsubscribed(desk.now, id(8), &ack, &mut desk.out).expect("room");
        let told = match version.is_v5() {
            true => UnsubAck { properties: Properties::EMPTY, ..ack },
            false => UnsubAck::default(),
        };
        assert_eq!(desk.written(), [Packet::UnsubAck(id(8), told)]);
    }
}

/// Section 3.14.2.2.2: a session that was to end with its connection does.
#[test]
fn disconnect_does_not_revive_a_session() {
    for (asked, legal) in [(0, false), (5, true)] {
        let mut desk = Desk::new(Version::V5, Store::new());
        let connect = Connect { session_expiry_interval: asked, ..persistent(Version::V5) };
        desk.connect(&connect, &ConnAck::default());
        let properties = Properties::from(&[Property::SessionExpiryInterval(9)]);
        let leave = Disconnect { properties, ..Disconnect::default() };
        match desk.poll(&Packet::Disconnect(leave)) {
            Ok(Some(Request::Disconnect(told))) => assert!(legal && told == leave),
            other => assert!(!legal && other == Err(Error::Protocol(Violation::Property))),
        }
        assert_eq!(desk.poll_bytes(&[]), Err(Error::NotConnected));
    }
}

/// [MQTT-3.14.2-2]; and the farewell is the last word [MQTT-3.14.4-1].
#[test]
fn a_server_does_not_change_when_a_session_expires() {
    let mut desk = connected(Version::V5);
    let properties = Properties::from(&[Property::SessionExpiryInterval(9)]);
    let wrong = Disconnect { properties, ..Disconnect::default() };
    let result = desk.peer.disconnect(desk.now, &wrong, &mut desk.out);
    assert!(matches!(result, Err(SendError::Invalid(_))));
    let kick = Disconnect::from(ReasonCode::SessionTakenOver);
    desk.peer.disconnect(desk.now, &kick, &mut desk.out).expect("room");
    assert_eq!(desk.written(), [Packet::Disconnect(kick)]);
    let late = desk.peer.publish(desk.now, &message("a", "x", QoS::AtMostOnce), &mut desk.out);
    assert!(late.is_err() && desk.out.is_empty());
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.0-6]
#[test]
fn enhanced_authentication_takes_turns() {
    let method = Text::new("SCRAM").expect("text");
    let step = |reason| {
        let list = vec![Property::AuthenticationMethod(method)].leak();
        Auth { reason, properties: Properties::from(&*list) }
    };
    let authentication = Some(Authentication { method, data: None });
    let connect = Connect { authentication, ..persistent(Version::V5) };
    let mut desk = Desk::new(Version::V5, Store::new());
    desk.poll(&Packet::Connect(Version::V5, connect)).expect("a request");
    let next = step(ReasonCode::ContinueAuthentication);
    desk.peer.authenticate(desk.now, &next, &mut desk.out).expect("our turn");
    assert!(desk.peer.authenticate(desk.now, &next, &mut desk.out).is_err(), "not our turn");
    assert_eq!(desk.peer.deadline(), Some(desk.now + 10_000));
    assert_eq!(desk.written(), [Packet::Auth(next)]);
    assert_eq!(desk.poll(&Packet::Auth(next)), Ok(Some(Request::Auth(next))));
    let bare = ConnAck::default();
    assert!(desk.peer.accept(desk.now, &bare, &mut desk.out).is_err(), "without the method");
    let terms = ConnAck { authentication, ..bare };
    desk.peer.accept(desk.now, &terms, &mut desk.out).expect("a connection");
    desk.written();
    let again = step(ReasonCode::ReAuthenticate);
    assert_eq!(desk.poll(&Packet::Auth(again)), Ok(Some(Request::Auth(again))));
    let success = step(ReasonCode::Success);
    desk.peer.authenticate(desk.now, &success, &mut desk.out).expect("our turn");
    assert_eq!(desk.written(), [Packet::Auth(success)]);
    let uninvited = desk.poll(&Packet::Auth(next));
    assert_eq!(uninvited, Err(Error::Protocol(Violation::Authentication)));
}

/// [MQTT-4.12.0-6]: who asked for none is not sent any.
#[test]
fn authentication_that_was_not_asked_for_is_a_violation() {
    let method = Property::AuthenticationMethod(Text::new("SCRAM").expect("text"));
    let list = [method];
    let auth = Auth { reason: ReasonCode::ReAuthenticate, properties: Properties::from(&list) };
    let mut desk = connected(Version::V5);
    let result = desk.poll(&Packet::Auth(auth));
    assert_eq!(result, Err(Error::Protocol(Violation::Authentication)));
}

/// What the client has told is kept to: Maximum Packet Size [MQTT-3.1.2-24], Receive Maximum
/// [MQTT-3.3.4-9].
#[test]
fn the_client_is_not_sent_more_than_it_takes() {
    let limited =
        Connect { maximum_packet_size: Some(12), receive_maximum: 1, ..persistent(Version::V5) };
    let mut desk = Desk::new(Version::V5, Store::new());
    desk.connect(&limited, &ConnAck { receive_maximum: 4, ..ConnAck::default() });
    let mut publish = |text| {
        let message = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic("a"), text) };
        desk.peer.publish(desk.now, &message, &mut desk.out)
    };
    assert_eq!(publish("0123456789"), Err(mqtt_core::PublishError::TooLarge));
    assert_eq!(publish("01"), Ok(Some(id(1))));
    assert_eq!(publish("01"), Err(mqtt_core::PublishError::InFlightFull));
}

fn topic(name: &str) -> Topic<'_> {
    Topic::new(name).expect("a topic")
}

/// [MQTT-3.1.2-22]: a packet that never comes to its end is no sign of life; one that takes its time is.
#[test]
fn a_packet_that_trickles_is_not_waited_for() {
    let long = "x".repeat(400);
    for version in BOTH {
        for (step, lives) in [(1, false), (40, false), (200, true)] {
            let mut desk = Desk::new(version, Store::new());
            desk.connect(&Connect { keep_alive: 10, ..persistent(version) }, &ConnAck::default());
            let packet = Packet::Publish(Delivery::default(), message("a", &long, QoS::AtMostOnce));
            let bytes = bytes(version, &packet);
            let mut there = 0;
            let ended = loop {
                desk.now = desk.now + 7_000;
                there += step;
                match desk.poll_bytes(&bytes[..there.min(bytes.len())]) {
                    Ok(None) => {}
                    other => break other,
                }
            };
            match ended {
                Ok(Some(Request::Publish(_))) => assert!(lives),
                Err(Error::KeepAliveTimeout) => assert!(!lives && there == 3 * step),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// So is one that is longer than what is read at once, to its last byte.
#[test]
fn a_long_message_is_a_sign_of_life_while_it_comes() {
    let long = "x".repeat(2_000);
    for version in BOTH {
        let mut desk = Desk::new(version, Store::new());
        desk.connect(&Connect { keep_alive: 10, ..persistent(version) }, &ConnAck::default());
        let packet = Packet::Publish(Delivery::default(), message("a", &long, QoS::AtMostOnce));
        for part in bytes(version, &packet).chunks(290) {
            desk.now = desk.now + 14_000;
            let heard = desk.poll_bytes(part);
            assert!(
                matches!(heard, Ok(Some(Request::Publish(_) | Request::Payload { .. }))),
                "{heard:?}"
            );
        }
        desk.now = desk.now + 14_000;
        assert_eq!(desk.poll_bytes(&[]), Ok(None), "the end, short as it was, has been one");
        desk.now = desk.now + 1_000;
        assert_eq!(desk.poll_bytes(&[]), Err(Error::KeepAliveTimeout));
    }
}
