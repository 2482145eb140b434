//! Messages that are longer than any buffer, in and out.

use mqtt_core::{
    Acknowledgement, Config, ConnAck, Connect, EncodeError, Error, Event, MIN_SINK, PacketId,
    Property, Publish, PublishError, QoS, ReasonCode, Receipt, SendError, Topic, UserProperty,
    Version, Violation,
    store::{Heap, Limits, Records, Store},
    wire::{Delivery, Packet},
};
use simulation::{Direction, Manners, Note, Weather, story::*};

/// A receive buffer of two kilobytes.
const SMALL: Config = Config { whole: 2_048, ..Config::DEFAULT };

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn long(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

fn talk_small(version: Version, config: Config) -> Talk {
    talk_on(version, Small::new(), config, &persistent(version), ConnAck::default())
}

fn send(pair: &mut Talk, number: u16, publish: Publish<'_>) {
    let packet_id = (publish.qos > QoS::AtMostOnce).then(|| id(number));
    pair.server.send(&Packet::Publish(Delivery { packet_id, dup: false }, publish));
}

fn publish<'a>(payload: &'a [u8], qos: QoS) -> Publish<'a> {
    Publish { qos, ..Publish::new(Topic::new("long").unwrap(), payload) }
}

/// Puts the messages among the events together: their payloads and receipts.
fn assemble(events: impl IntoIterator<Item = Event<'static>>) -> Vec<(Vec<u8>, Option<Receipt>)> {
    let mut whole: Vec<(Vec<u8>, Option<Receipt>)> = Vec::new();
    let mut owed = 0;
    for event in events {
        match event {
            Event::Message(message) => {
                whole.push((message.payload.into(), message.receipt));
                owed = message.remaining;
            }
            Event::Payload { bytes, remaining } => {
                assert_eq!(owed as usize, bytes.len() + remaining as usize);
                whole.last_mut().unwrap().0.extend_from_slice(bytes);
                owed = remaining;
            }
            _ => {}
        }
    }
    whole
}

#[test]
fn a_megabyte_arrives_through_two_kilobytes() {
    let payload = long(1_000_000);
    for version in BOTH {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = talk_small(version, SMALL);
            send(&mut pair, 1, publish(&payload, qos));
            let messages = assemble(pair.events());
            assert!(messages.len() == 1 && messages[0].0 == payload);
            let answer = pair.server.received.pop_front();
            assert_eq!(
                answer,
                match qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => Some(Packet::PubAck(id(1), Default::default())),
                    QoS::ExactlyOnce => Some(Packet::PubRec(id(1), Default::default())),
                }
            );
            // What follows is whole again.
            send(&mut pair, 2, message("a", "short", QoS::AtMostOnce));
            assert!(matches!(pair.event(), Event::Message(message) if message.remaining == 0));
        }
    }
}

/// However it is divided.
#[test]
fn pieces_of_any_size_make_the_same_message() {
    let payload = long(300);
    for version in BOTH {
        for piece in 1..40 {
            let mut pair = talk_small(version, Config { whole: 32, ..Config::DEFAULT });
            pair.wire.weather = Weather { piece, ..Weather::CALM };
            send(&mut pair, 1, publish(&payload, QoS::AtLeastOnce));
            send(&mut pair, 2, publish(&payload, QoS::ExactlyOnce));
            let messages = assemble(pair.events());
            assert_eq!(messages.len(), 2);
            assert!(messages.iter().all(|(whole, _)| *whole == payload));
            assert_eq!(pair.server.packet(), Packet::PubAck(id(1), Default::default()));
            assert_eq!(pair.server.packet(), Packet::PubRec(id(2), Default::default()));
        }
    }
}

/// It is acknowledged when the application has all of it, and not before.
#[test]
fn a_long_message_is_acknowledged_at_its_end() {
    let payload = long(5_000);
    for version in BOTH {
        let manual = Config { acknowledgement: Acknowledgement::Manual, ..SMALL };
        let mut pair = talk_small(version, manual);
        pair.client.appetite = 1;
        send(&mut pair, 1, publish(&payload, QoS::AtLeastOnce));
        pair.step();
        while pair.client.events.is_empty() {
            pair.step();
        }
        let Some(Event::Message(message)) = pair.client.told() else { panic!() };
        assert!(message.remaining > 0);
        let receipt = message.receipt.expect("a receipt");
        let early = pair.acknowledge(receipt, ReasonCode::Success);
        assert_eq!(early, Err(SendError::StaleReceipt));
        pair.drive();
        assert!(pair.server.is_quiet());
        assert_eq!(pair.acknowledge(receipt, ReasonCode::Success), Ok(()));
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PubAck(id(1), Default::default()));
    }
}

#[test]
fn a_message_can_be_skipped_in_the_middle() {
    let payload = long(50_000);
    for version in BOTH {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut pair = talk_small(version, SMALL);
            pair.client.appetite = 1;
            assert!(!pair.client.client.skip());
            send(&mut pair, 1, publish(&payload, qos));
            while pair.client.events.len() < 3 {
                pair.step();
            }
            assert!(pair.client.client.skip());
            assert!(!pair.client.client.skip());
            let last = *pair.events().last().unwrap();
            let Event::Skipped { size } = last else { panic!("{last:?}") };
            assert!(size as usize > payload.len());
            assert_eq!(pair.server.received.len(), usize::from(qos > QoS::AtMostOnce));
            send(&mut pair, 2, message("a", "short", QoS::AtMostOnce));
            assert!(matches!(pair.event(), Event::Message(_)));
        }
    }
}

/// It would come again for ever, so it is acknowledged like any other.
#[test]
fn a_message_whose_head_is_too_large_is_skipped() {
    let name = "a/long/topic/".repeat(10);
    let topic = Topic::new(&name).unwrap();
    let user = [Property::UserProperty(UserProperty::new("key", &name).unwrap())];
    let config = Config { whole: 64, ..Config::DEFAULT };
    for version in BOTH {
        let properties = [&[][..], &user][usize::from(version.is_v5())];
        let named = Publish { topic, ..publish(b"payload", QoS::AtMostOnce) };
        let described =
            Publish { properties: properties.into(), ..publish(&[7; 99], QoS::AtMostOnce) };
        for publish in [named, described].into_iter().take(if version.is_v5() { 2 } else { 1 }) {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for piece in [1, 10, usize::MAX] {
                    let mut pair = talk_small(version, config);
                    pair.wire.weather = Weather { piece, ..Weather::CALM };
                    send(&mut pair, 1, Publish { qos, ..publish });
                    assert!(matches!(pair.events()[..], [Event::Skipped { .. }]));
                    assert_eq!(pair.server.received.len(), usize::from(qos > QoS::AtMostOnce));
                    send(&mut pair, 2, message("a", "short", QoS::AtMostOnce));
                    assert!(matches!(pair.event(), Event::Message(_)));
                }
            }
        }
    }
}

/// Every other packet has to fit.
#[test]
fn only_messages_come_in_pieces() {
    let config = Config { whole: 64, ..Config::DEFAULT };
    let text = "x".repeat(100);
    let properties = [Property::ReasonString(mqtt_core::Text::new(&text).unwrap())];
    let mut pair = talk_small(Version::V5, config);
    let ack = mqtt_core::Ack { properties: (&properties).into(), ..Default::default() };
    pair.server.send(&Packet::PubAck(id(1), ack));
    assert_eq!(pair.error(), Error::Protocol(Violation::PacketTooLarge));
}

/// A cut discards the part: at QoS 2 too, nothing has been received before its end.
#[test]
fn a_cut_in_the_middle_discards_the_part() {
    let payload = long(400);
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for cut in (0..).step_by(17) {
                let config = Config { whole: 64, ..Config::DEFAULT };
                let mut pair = meet_on(version, Small::new(), config, Manners::default());
                subscribe_to_all(&mut pair);
                let carried = pair.wire.carried(Direction::Down);
                pair.wire.cut_after(Direction::Down, carried + cut);
                pair.server.publish(&Note::new("long", payload.clone(), qos));
                let mut messages = assemble(pair.events());
                if pair.wire.is_open() {
                    assert!(cut > 400);
                    break;
                }
                messages.retain(|(whole, _)| *whole == payload);
                let before = messages.len();
                pair.connect(&persistent(version)).unwrap();
                messages.extend(assemble(pair.events()));
                assert!(messages.iter().all(|(whole, _)| *whole == payload));
                assert!(before <= 1 && messages.len() <= 1 + before);
                assert!(qos == QoS::AtLeastOnce || messages.len() == 1, "cut after {cut}");
                assert_eq!(pair.server.undelivered(), 0);
            }
        }
    }
}

#[test]
fn a_long_message_that_comes_again_is_not_delivered_again() {
    let payload = long(5_000);
    for version in BOTH {
        let mut pair = talk_small(version, SMALL);
        for _ in 0..3 {
            send(&mut pair, 1, publish(&payload, QoS::ExactlyOnce));
        }
        assert_eq!(assemble(pair.events()).len(), 1);
        for _ in 0..3 {
            assert_eq!(pair.server.packet(), Packet::PubRec(id(1), Default::default()));
        }
    }
}

/// Publishes `payload` in pieces.
fn stream<S: Store>(pair: &mut Meeting<S>, head: &Publish<'_>, payload: &[u8]) -> Option<PacketId> {
    let now = pair.clock.now();
    let id = pair
        .client
        .command(|client, out| client.publish_streamed(now, head, payload.len(), out))
        .unwrap();
    feed(pair, payload);
    id
}

fn feed<S: Store>(pair: &mut Meeting<S>, mut payload: &[u8]) {
    while !payload.is_empty() && pair.wire.is_open() {
        assert_eq!(pair.client.client.payload_owed(), payload.len());
        let taken = pair.client.call(|client, out| client.payload(payload, out));
        payload = &payload[taken..];
        pair.step();
    }
}

#[test]
fn a_megabyte_leaves_through_a_hundred_bytes() {
    let payload = long(1_000_000);
    for version in BOTH {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let manners = Manners::default();
            let mut pair = meet_on(version, Records::<4>::new(), SMALL, manners);
            pair.client.out.capacity = 400;
            let id = stream(&mut pair, &publish(&[], qos), &payload);
            assert_eq!(pair.client.client.payload_owed(), 0);
            let events = pair.events();
            match id {
                Some(id) => {
                    assert!(matches!(events[..], [Event::Acknowledged(done, _)] if done == id));
                }
                None => assert_eq!(events, []),
            }
            assert!(pair.server.accepted.len() == 1 && pair.server.accepted[0].payload == payload);
        }
    }
}

/// Nothing comes in between, and what arrives meanwhile is answered afterwards.
#[test]
fn while_a_payload_leaves_nothing_else_does() {
    for version in BOTH {
        let mut pair = talk(version);
        let now = pair.clock.now();
        let head = publish(b"", QoS::AtLeastOnce);
        pair.client.command(|client, out| client.publish_streamed(now, &head, 10, out)).unwrap();
        let other = pair.publish(&message("a", "b", QoS::AtMostOnce));
        assert_eq!(other, Err(PublishError::Streaming));
        send(&mut pair, 7, message("a", "b", QoS::AtLeastOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
        let goodbye =
            pair.client.call(|client, out| client.disconnect(now, &Default::default(), out));
        assert_eq!(goodbye, Err(SendError::Streaming));
        assert!(pair.server.is_quiet());
        assert_eq!(pair.client.call(|client, out| client.payload(b"01234", out)), 5);
        pair.drive();
        assert_eq!(pair.client.call(|client, out| client.payload(b"56789 too much", out)), 5);
        pair.drive();
        let Packet::Publish(_, sent) = pair.server.packet() else { panic!() };
        assert_eq!(sent.payload.as_bytes(), b"0123456789");
        assert_eq!(pair.server.packet(), Packet::PubAck(id(7), Default::default()));
        assert!(pair.publish(&message("a", "b", QoS::AtMostOnce)).is_ok());
    }
}

#[test]
fn a_payload_leaves_room_for_the_machine() {
    let mut pair = talk(Version::V5);
    pair.client.out.capacity = 100;
    let now = pair.clock.now();
    let head = publish(b"", QoS::AtMostOnce);
    pair.client.command(|client, out| client.publish_streamed(now, &head, 1_000, out)).unwrap();
    let taken = pair.client.call(|client, out| client.payload(&[0; 1_000], out));
    assert_eq!(taken, 100 - MIN_SINK - pair.client.out.as_bytes().len() + taken);
    assert_eq!(pair.client.call(|client, out| client.payload(&[0; 1_000], out)), 0);
}

/// An empty payload is complete at once.
#[test]
fn a_payload_may_be_empty() {
    for version in BOTH {
        let mut pair = meet(version);
        stream(&mut pair, &publish(b"ignored", QoS::AtLeastOnce), b"");
        assert!(matches!(pair.events()[..], [Event::Acknowledged(..)]));
        assert_eq!(pair.server.accepted[0].payload, b"");
    }
}

/// Cuts after every so many bytes; the application publishes again what it is asked for, in pieces
/// or whole, or gives it up.
fn cut_and_send_again<S: Store>(version: Version, store: S, qos: QoS, cut: usize, how: u8) -> bool {
    let payloads = [long(90), long(50)];
    let mut pair = meet_on(version, store, SMALL, Manners::default());
    let carried = pair.wire.carried(Direction::Up);
    pair.wire.cut_after(Direction::Up, carried + cut);
    let mut ids = Vec::new();
    for payload in &payloads {
        if pair.wire.is_open() {
            ids.extend(stream(&mut pair, &publish(&[], qos), payload));
        }
    }
    let mut outcomes = Vec::new();
    let mut was_cut = false;
    for _ in 0..20 {
        for event in pair.events() {
            match event {
                Event::Acknowledged(id, _) | Event::Dropped(id, _) => outcomes.push(id),
                Event::Resend(id) => {
                    let payload = &payloads[ids.iter().position(|one| *one == id).unwrap()];
                    let now = pair.clock.now();
                    let (head, whole) = (publish(&[], qos), publish(payload, qos));
                    pair.client.call(|client, out| match how {
                        0 => client.publish_again(now, id, &whole, out).unwrap(),
                        1 => client
                            .publish_again_streamed(now, id, &head, payload.len(), out)
                            .unwrap(),
                        _ => assert!(client.abandon(id)),
                    });
                    if how == 1 {
                        feed(&mut pair, payload);
                    }
                }
                _ => {}
            }
        }
        if !pair.wire.is_open() {
            was_cut = true;
            pair.connect(&persistent(version)).unwrap();
        }
    }
    assert_eq!(outcomes, ids);
    assert_eq!(pair.client.client.store().flights(), 0);
    let accepted = &pair.server.accepted;
    for (index, payload) in payloads.iter().enumerate().take(ids.len()) {
        let times = accepted.iter().filter(|note| note.payload == *payload).count();
        assert!(how == 2 || times >= 1, "{index} is lost");
        assert!(qos == QoS::AtLeastOnce || times <= 1, "{index} came {times} times");
    }
    was_cut
}

#[test]
fn what_is_kept_nowhere_is_asked_for_again() {
    for version in BOTH {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for how in 0..3 {
                let cuts = (0..400).step_by(3);
                let count = cuts
                    .take_while(|cut| {
                        let records = Heap::with_limits(Limits { bytes: 0, ..Limits::default() });
                        cut_and_send_again(version, records, qos, *cut, how);
                        cut_and_send_again(version, Records::<2>::new(), qos, *cut, how)
                    })
                    .count();
                assert!(count > 40, "{count} cuts");
            }
        }
    }
}

/// A store that keeps messages keeps no streamed one.
#[test]
fn a_streamed_message_is_asked_for_by_any_store() {
    for version in BOTH {
        let mut pair = talk(version);
        let now = pair.clock.now();
        pair.publish(&message("a", "kept", QoS::AtLeastOnce)).unwrap();
        let head = publish(b"", QoS::AtLeastOnce);
        pair.client.command(|client, out| client.publish_streamed(now, &head, 3, out)).unwrap();
        assert_eq!(pair.client.call(|client, out| client.payload(b"abc", out)), 3);
        pair.publish(&message("a", "kept, too", QoS::AtLeastOnce)).unwrap();
        pair.drive();
        pair.cut();
        pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
        pair.connect(&persistent(version)).unwrap();
        // Nothing overtakes it.
        assert_eq!(pair.events()[1..], [Event::Resend(id(2))]);
        assert_eq!(pair.server.received.len(), 1);
        let now = pair.clock.now();
        for (wrong, qos) in [(1, QoS::AtLeastOnce), (3, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
            let again = pair.client.command(|client, out| {
                client.publish_again(now, id(wrong), &publish(b"abc", qos), out)
            });
            assert_eq!(again, Err(PublishError::Invalid(EncodeError::Delivery)));
            assert!(wrong == 2 || !pair.client.client.abandon(id(wrong)));
        }
        let whole = publish(b"abc", QoS::AtLeastOnce);
        pair.client.command(|client, out| client.publish_again(now, id(2), &whole, out)).unwrap();
        pair.drive();
        assert_eq!(pair.server.received.len(), 3);
        let again =
            pair.client.command(|client, out| client.publish_again(now, id(2), &whole, out));
        assert_eq!(again, Err(PublishError::Invalid(EncodeError::Delivery)));
    }
}

/// [MQTT-3.2.2-15] counts for what leaves in pieces as well, [MQTT-3.1.2-24] for what arrives so.
#[test]
fn limits_count_for_pieces_too() {
    let terms = ConnAck { maximum_packet_size: Some(1_000), ..ConnAck::default() };
    let connect = Connect { maximum_packet_size: Some(5_000), ..persistent(Version::V5) };
    let mut pair = talk_on(Version::V5, Small::new(), SMALL, &connect, terms);
    let now = pair.clock.now();
    let head = publish(b"", QoS::AtLeastOnce);
    let too_long = pair.client.command(|client, out| client.publish_streamed(now, &head, 990, out));
    assert_eq!(too_long, Err(PublishError::TooLarge));
    assert_eq!(pair.client.client.payload_owed(), 0);
    send(&mut pair, 1, publish(&long(5_000), QoS::AtLeastOnce));
    assert_eq!(pair.error(), Error::Protocol(Violation::PacketTooLarge));
}
