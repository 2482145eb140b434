//! What is left of a connection on the next one: messages half delivered, receipts, and publishes of
//! which only a record is kept.

use mqtt_core::{
    Acknowledgement, Buffer, Client, Config, ConnAck, Connect, Error, Event, Instant, PacketId,
    QoS, ReasonCode, Receipt, SendError, Sink, Version, Violation,
    store::{Fixed, Heap, Limits, Records, Store},
    wire::{Delivery, Packet},
};
use simulation::story::*;

const SECOND: u64 = 1_000;
const MANUAL: Config = Config { acknowledgement: Acknowledgement::Manual, ..Config::DEFAULT };

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn talk_with<S: Store>(version: Version, store: S, config: Config) -> Talk<S> {
    talk_on(version, store, config, &persistent(version), ConnAck::default())
}

/// Sends a message with this identifier.
fn send<S: Store>(pair: &mut Talk<S>, number: u16, dup: bool, qos: QoS) {
    let delivery = Delivery { packet_id: Some(id(number)), dup };
    pair.server.send(&Packet::Publish(delivery, message("a", "b", qos)));
}

/// Cuts the connection and resumes the session.
fn resume<S: Store>(pair: &mut Talk<S>, connect: &Connect<'_>) {
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
    pair.connect(connect).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
}

fn receipt<S: Store>(pair: &mut Talk<S>) -> Receipt {
    match pair.event() {
        Event::Message(message) => message.receipt.expect("a receipt"),
        other => panic!("{other:?}"),
    }
}

/// PUBREC and a repeated PUBLISH cross on the way. The message stays released by the PUBREL that
/// follows, whatever waits before it [MQTT-4.3.3-10].
#[test]
fn a_message_that_comes_again_after_its_pubrec_is_still_the_same() {
    for version in BOTH {
        let mut pair = talk_with(version, Small::new(), MANUAL);
        send(&mut pair, 1, false, QoS::ExactlyOnce);
        let first = receipt(&mut pair);
        pair.acknowledge(first, ReasonCode::Success).unwrap();
        send(&mut pair, 2, false, QoS::AtLeastOnce);
        let held = receipt(&mut pair);
        send(&mut pair, 1, true, QoS::ExactlyOnce);
        pair.server.send(&Packet::PubRel(id(1), Default::default()));
        assert_eq!(pair.events(), []);
        assert_eq!(pair.client.error, None);
        assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        pair.acknowledge(held, ReasonCode::Success).unwrap();
        pair.drive();
        let mut answers: Vec<_> = pair.server.received.drain(..).collect();
        answers.retain(|answer| *answer != Packet::PubRec(id(1), Default::default()));
        let completed = Packet::PubComp(id(1), Default::default());
        assert_eq!(answers, [completed, Packet::PubAck(id(2), Default::default())]);
        assert_eq!(pair.client.client.store().arrivals(), 0);
    }
}

/// A message that was received on an earlier connection takes no place of the new Receive Maximum
/// before it has come again, and none if only its PUBREL comes: [MQTT-4.4.0-1], [MQTT-3.3.4-9].
#[test]
fn messages_of_an_earlier_connection_do_not_count_against_receive_maximum() {
    let version = Version::V5;
    let connect = Connect { receive_maximum: 1, ..persistent(version) };
    for released in [false, true] {
        let store = Fixed::<4, 64>::new();
        let mut pair = talk_on(version, store, Config::default(), &connect, Default::default());
        send(&mut pair, 1, false, QoS::ExactlyOnce);
        assert!(matches!(pair.event(), Event::Message(_)));
        resume(&mut pair, &connect);
        send(&mut pair, 3, false, QoS::ExactlyOnce);
        assert!(matches!(pair.event(), Event::Message(_)));
        if released {
            pair.server.send(&Packet::PubRel(id(1), Default::default()));
            pair.drive();
            assert_eq!(pair.client.error, None);
        } else {
            // Two on one connection are one too many, however old.
            send(&mut pair, 1, true, QoS::ExactlyOnce);
            send(&mut pair, 4, false, QoS::ExactlyOnce);
            assert_eq!(pair.error(), Error::Protocol(Violation::ReceiveMaximumExceeded));
        }
    }
}

/// Before 5.0 the server cannot be told of a maximum: what it sends again and what it sends first fits
/// together, if there are as many places.
#[test]
fn before_5_every_place_serves_old_and_new_messages() {
    let version = Version::V3_1_1;
    let mut pair = talk_with(version, Fixed::<4, 64>::new(), Config::default());
    for number in 1..=3 {
        send(&mut pair, number, false, QoS::ExactlyOnce);
        assert!(matches!(pair.event(), Event::Message(_)));
    }
    resume(&mut pair, &persistent(version));
    for number in 1..=4 {
        send(&mut pair, number, number < 4, QoS::ExactlyOnce);
    }
    assert!(matches!(pair.event(), Event::Message(_)));
    for number in 1..=4 {
        assert_eq!(pair.server.packet(), Packet::PubRec(id(number), Default::default()));
    }
    assert_eq!(pair.client.error, None);
}

/// [MQTT-4.9.0-1]: a repeated PUBREL takes nothing of the Receive Maximum, though its PUBCOMP has to
/// wait. The message behind it waits, too, if that is for its place.
#[test]
fn a_release_without_room_does_not_count_against_receive_maximum() {
    let version = Version::V5;
    let connect = Connect { receive_maximum: 1, ..persistent(version) };
    for arrivals in [1, 2] {
        let store = Heap::with_limits(Limits { arrivals, ..Limits::default() });
        let mut pair = talk_on(version, store, Config::default(), &connect, Default::default());
        send(&mut pair, 1, false, QoS::ExactlyOnce);
        assert!(matches!(pair.event(), Event::Message(_)));
        resume(&mut pair, &connect);
        pair.client.out.capacity = 2;
        pair.server.send(&Packet::PubRel(id(1), Default::default()));
        send(&mut pair, 2, false, QoS::ExactlyOnce);
        pair.drive();
        assert_eq!(pair.client.error, None);
        pair.client.out.capacity = 4_096;
        assert!(matches!(pair.event(), Event::Message(_)));
        assert_eq!(pair.server.packet(), Packet::PubComp(id(1), Default::default()));
        assert_eq!(pair.server.packet(), Packet::PubRec(id(2), Default::default()));
        send(&mut pair, 3, false, QoS::ExactlyOnce);
        assert_eq!(pair.error(), Error::Protocol(Violation::ReceiveMaximumExceeded));
    }
}

/// The server has given it up meanwhile, for its age perhaps. What it would have sent again first does
/// not keep new messages out for ever.
#[test]
fn messages_that_never_come_again_make_place() {
    for version in BOTH {
        let mut pair = talk_with(version, Fixed::<2, 64>::new(), Config::default());
        for round in 0..10 {
            let first = 10 * round + 1;
            for number in [first, first + 1] {
                send(&mut pair, number, false, QoS::ExactlyOnce);
                assert!(matches!(pair.event(), Event::Message(_)), "{version:?}, round {round}");
                if version.is_v5() && round > 0 {
                    break; // that was all that this connection takes
                }
            }
            resume(&mut pair, &persistent(version));
        }
        assert_eq!(pair.client.error, None);
    }
}

/// An identifier that comes back for a message at another QoS has been given up by the server, or it
/// would have sent the old message again. On one connection that would be a violation [MQTT-2.2.1-4].
#[test]
fn an_identifier_may_have_a_new_use_on_a_new_connection() {
    for version in BOTH {
        for config in [Config::DEFAULT, MANUAL] {
            let mut pair = talk_with(version, Fixed::<2, 64>::new(), config);
            send(&mut pair, 1, false, QoS::ExactlyOnce);
            assert!(matches!(pair.event(), Event::Message(_)));
            resume(&mut pair, &persistent(version));
            send(&mut pair, 1, false, QoS::AtLeastOnce);
            let Event::Message(message) = pair.event() else { panic!() };
            if let Some(receipt) = message.receipt {
                pair.acknowledge(receipt, ReasonCode::Success).unwrap();
                pair.drive();
            }
            assert_eq!(pair.server.packet(), Packet::PubAck(id(1), Default::default()));
            send(&mut pair, 1, false, QoS::ExactlyOnce);
            assert!(matches!(pair.event(), Event::Message(_)));
            send(&mut pair, 1, false, QoS::AtLeastOnce);
            assert_eq!(pair.error(), Error::Protocol(Violation::PacketIdInUse));
        }
    }
}

/// It may have arrived: its identifier is given to nothing else before it is released, or a server
/// would take the next message under it for the same [MQTT-4.3.3-2].
#[test]
fn a_publish_at_qos_2_that_is_given_up_is_released_first() {
    for version in BOTH {
        let mut pair = talk_with(version, Records::<8>::new(), Config::default());
        assert_eq!(pair.publish(&message("a", "b", QoS::ExactlyOnce)), Ok(Some(id(1))));
        pair.drive(); // PUBREC is lost
        resume(&mut pair, &persistent(version));
        assert_eq!(pair.event(), Event::Resend(id(1)));
        assert!(pair.client.client.abandon(id(1)));
        assert_eq!(pair.events(), []);
        assert_eq!(pair.server.packet(), Packet::PubRel(id(1), Default::default()));
        for number in 2..=u16::MAX {
            let publish = message("a", "b", QoS::AtLeastOnce);
            assert_eq!(pair.publish(&publish), Ok(Some(id(number))));
            pair.server.send(&Packet::PubAck(id(number), Default::default()));
            assert!(matches!(pair.event(), Event::Acknowledged(..)));
            pair.server.received.clear();
        }
        assert_eq!(pair.publish(&message("a", "b", QoS::AtLeastOnce)), Ok(Some(id(2))));
        pair.server.send(&Packet::PubComp(id(1), Default::default()));
        let reason = ReasonCode::UnspecifiedError;
        assert_eq!(pair.event(), Event::Dropped(id(1), reason));
    }
}

/// ...on the next connection, if this one ends before.
#[test]
fn what_is_given_up_stays_so() {
    for version in BOTH {
        let mut pair = talk_with(version, Records::<8>::new(), Config::default());
        pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
        resume(&mut pair, &persistent(version));
        assert_eq!(pair.event(), Event::Resend(id(1)));
        assert!(pair.client.client.abandon(id(1)));
        pair.drive();
        for _ in 0..2 {
            resume(&mut pair, &persistent(version));
            assert_eq!(pair.events(), []);
            assert_eq!(pair.server.packet(), Packet::PubRel(id(1), Default::default()));
            assert!(!pair.client.client.abandon(id(1)));
        }
        pair.server.send(&Packet::PubComp(id(1), Default::default()));
        assert_eq!(pair.event(), Event::Dropped(id(1), ReasonCode::UnspecifiedError));
    }
}

/// The server remembers it after all: there is nothing to be sent again, or to be given up, and
/// PUBREL is owed [MQTT-4.3.3-4].
#[test]
fn what_was_asked_for_may_turn_out_to_have_arrived() {
    for version in BOTH {
        let mut pair = talk_with(version, Records::<8>::new(), Config::default());
        pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
        resume(&mut pair, &persistent(version));
        assert_eq!(pair.event(), Event::Resend(id(1)));
        pair.client.out.capacity = 2;
        pair.server.send(&Packet::PubRec(id(1), Default::default()));
        assert_eq!(pair.events(), []);
        assert!(!pair.client.client.abandon(id(1)));
        pair.client.out.capacity = 4_096;
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubRel(id(1), Default::default()));
        pair.server.send(&Packet::PubComp(id(1), Default::default()));
        assert!(matches!(pair.event(), Event::Acknowledged(..)));
    }
}

/// PUBCOMP was lost, and PUBREL is repeated: that the server does not know the identifier any more is
/// no refusal (section 3.7.2.1).
#[test]
fn a_release_that_the_server_has_forgotten_is_a_success() {
    let version = Version::V5;
    let mut pair = talk_with(version, Small::new(), Config::default());
    pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
    pair.server.send(&Packet::PubRec(id(1), Default::default()));
    pair.drive();
    resume(&mut pair, &persistent(version));
    assert_eq!(pair.server.packet(), Packet::PubRel(id(1), Default::default()));
    let not_found = ReasonCode::PacketIdentifierNotFound;
    pair.server.send(&Packet::PubComp(id(1), not_found.into()));
    let Event::Acknowledged(_, ack) = pair.event() else { panic!() };
    assert_eq!(ack.reason, ReasonCode::Success);
}

/// The identifier is free for another message as soon as the first is acknowledged.
#[test]
fn a_used_receipt_does_not_serve_for_the_next_message_with_its_identifier() {
    for version in BOTH {
        let mut pair = talk_with(version, Small::new(), MANUAL);
        send(&mut pair, 1, false, QoS::AtLeastOnce);
        let used = receipt(&mut pair);
        pair.acknowledge(used, ReasonCode::Success).unwrap();
        send(&mut pair, 1, false, QoS::AtLeastOnce);
        let next = receipt(&mut pair);
        assert_eq!(pair.acknowledge(used, ReasonCode::Success), Err(SendError::StaleReceipt));
        assert_eq!(pair.acknowledge(next, ReasonCode::Success), Ok(()));
    }
}

/// [MQTT-3.2.2-4]: the state went with the CONNECT that asked for a clean start, whether or not that
/// arrived. A server that still has its half must not be believed.
#[test]
fn a_session_that_was_discarded_here_alone_is_not_resumed() {
    let version = Version::V5;
    let mut pair = talk(version);
    pair.publish(&message("a", "b", QoS::ExactlyOnce)).unwrap();
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
    for _ in 0..2 {
        pair.connect(&Connect { clean_start: true, ..persistent(version) }).unwrap();
        pair.cut(); // before it has left
    }
    pair.connect(&persistent(version)).unwrap();
    assert_eq!(pair.error(), Error::Protocol(Violation::SessionPresent));
    pair.server.greeting = Some(ConnAck::default());
    pair.drive();
    pair.connect(&persistent(version)).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
    // From here on there is one again.
    resume(&mut pair, &persistent(version));
}

/// Its CONNACK does not tell whether there is a session: the client knows whether it asked for one.
#[test]
fn a_session_of_3_1_is_taken_for_present() {
    let version = Version::V3_1;
    let mut pair = talk_with(version, Small::new(), Config::default());
    for number in 1..4 {
        send(&mut pair, number, false, QoS::ExactlyOnce);
        assert!(matches!(pair.event(), Event::Message(_)));
        pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap();
        pair.cut();
        pair.server.greeting = Some(ConnAck::default());
        pair.connect(&persistent(version)).unwrap();
        assert!(matches!(pair.event(), Event::Connected(ack) if ack.session_present));
        send(&mut pair, number, true, QoS::ExactlyOnce);
        assert_eq!(pair.events(), []);
        let publishes =
            pair.server.received.iter().filter(|packet| matches!(packet, Packet::Publish(..)));
        assert_eq!(publishes.count(), usize::from(number));
    }
    pair.cut();
    pair.connect(&Connect { clean_start: true, ..persistent(version) }).unwrap();
    assert!(matches!(pair.event(), Event::Connected(ack) if !ack.session_present));
    send(&mut pair, 1, true, QoS::ExactlyOnce);
    assert!(matches!(pair.event(), Event::Message(_)));
}

/// The application reads for long what it was asked to send again. The PINGREQ that was written
/// meanwhile has not left before it returns, so the server cannot have answered it.
#[test]
fn a_ping_is_awaited_from_when_it_can_have_left() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let store = Records::<4>::new();
        let mut pair = talk_on(version, store, Config::default(), &connect, Default::default());
        pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap();
        pair.cut();
        pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
        pair.connect(&connect).unwrap();
        pair.client.appetite = 1;
        while pair.client.events.is_empty() {
            pair.step();
        }
        assert!(matches!(pair.client.told(), Some(Event::Connected(_))));
        pair.clock.advance(20 * SECOND);
        let now = pair.clock.now();
        let event = pair.client.call(|client, out| client.poll(now, &mut &[][..], out).ok());
        assert_eq!(event, Some(Some(Event::Resend(id(1)))));
        let later = now + 6 * SECOND;
        let event = pair.client.call(|client, out| client.poll(later, &mut &[][..], out));
        assert_eq!(event, Ok(None));
    }
}

/// A PUBREL on the next connection is answered when there is room again, too [MQTT-4.3.3-11].
#[test]
fn a_completion_that_found_no_room_leaves_when_there_is() {
    for version in BOTH {
        let mut client = Client::new(version, Fixed::<4, 64>::new());
        let mut out = Buffer::<64>::new();
        let now = Instant::from_millis(0);
        let greeting: &[u8] =
            if version == Version::V5 { &[0x20, 3, 1, 0, 0] } else { &[0x20, 2, 1, 0] };
        let publish: &[u8] = if version == Version::V5 {
            &[0x34, 6, 0, 1, b'a', 0, 1, 0]
        } else {
            &[0x34, 5, 0, 1, b'a', 0, 1]
        };
        for _ in 0..2 {
            client.closed();
            out.clear();
            client.connect(now, &persistent(version), &mut out).unwrap();
            out.clear();
            assert!(matches!(
                client.poll(now, &mut &*greeting, &mut out),
                Ok(Some(Event::Connected(_)))
            ));
            if client.store().arrivals() == 0 {
                assert!(matches!(
                    client.poll(now, &mut &*publish, &mut out),
                    Ok(Some(Event::Message(_)))
                ));
                assert_eq!(out.as_bytes(), [0x50, 2, 0, 1]);
            }
        }
        let room = out.room();
        out.span(room).unwrap();
        let mut input: &[u8] = &[0x62, 2, 0, 1];
        assert_eq!(client.poll(now, &mut input, &mut out), Ok(None));
        assert!(input.is_empty());
        out.clear();
        assert_eq!(client.poll(now, &mut &[][..], &mut out), Ok(None));
        assert_eq!(out.as_bytes(), [0x70, 2, 0, 1]);
    }
}
