//! Full sinks, small sinks, slow peers: everything waits, nothing is lost, and no gate stays closed.

use std::collections::VecDeque;

use mqtt_core::{
    Acknowledgement, Config, ConnAck, Connect, Error, Event, MIN_SINK, Overrun, PacketId,
    PublishError, QoS, ReasonCode, Sink, Version, Violation,
    wire::{Delivery, Packet},
};
use simulation::{Manners, Note, Rng, Weather, story::*};

/// The sink was full for a moment, just when a PINGREQ was due.
#[test]
fn a_ping_that_finds_no_room_leaves_when_there_is_some() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        pair.clock.advance(10_000);
        let now = pair.clock.now();
        pair.client.out.squeezed = Some(1);
        pair.client.call(|client, out| assert_eq!(client.poll(now, &mut &[][..], out), Ok(None)));
        assert!(pair.client.out.is_empty());
        pair.client.out.squeezed = None;
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PingReq);
        pair.server.send(&Packet::PingResp);
        pair.run(9_999);
        assert_eq!(pair.client.error, None);
        assert!(pair.server.is_quiet());
    }
}

/// Everything at once, through sinks that are hardly larger than what must fit, over a wire that
/// takes a byte at a time.
#[test]
fn sinks_of_any_size_lose_nothing() {
    for version in BOTH {
        for spare in [0, 1, 2, 3, 5, 8] {
            for (seed, window) in [(1, 1), (2, 3), (3, usize::MAX)] {
                let mut pair = meet(version);
                subscribe_to_all(&mut pair);
                // The longest packet that the application sends is 10 bytes.
                pair.client.out.capacity = 10 + MIN_SINK + spare;
                pair.client.squeeze = Some(Rng::new(seed));
                pair.wire.weather = Weather { piece: 4, window, ..Weather::CALM };
                everything(&mut pair);
            }
        }
    }
}

fn everything(pair: &mut Meeting) {
    let mut outcomes = 0;
    let mut arrived = 0;
    let mut count = |event: Event<'_>| match event {
        Event::Acknowledged(..) => outcomes += 1,
        Event::Message(_) => arrived += 1,
        other => panic!("{other:?}"),
    };
    for round in 0..30 {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            pair.server.publish(&Note::new("in", "x", qos));
            loop {
                match pair.publish(&message("a", "x", qos)) {
                    Ok(_) => break,
                    Err(PublishError::NoRoom | PublishError::InFlightFull) => {
                        assert!(pair.step(), "round {round}: a closed gate");
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        pair.client.events.drain(..).for_each(&mut count);
    }
    pair.events().into_iter().for_each(count);
    assert_eq!((outcomes, arrived), (60, 90));
    assert_eq!(pair.server.accepted.len(), 90);
    assert_eq!(pair.server.undelivered(), 0);
}

/// With MIN_SINK bytes a client can do all that it does by itself: receive at every QoS, ping, end.
#[test]
fn the_smallest_sink_is_enough_to_receive() {
    for version in BOTH {
        for acknowledgement in [Acknowledgement::Automatic, Acknowledgement::Manual] {
            let config = Config { acknowledgement, ..Config::DEFAULT };
            // Before 5.0 a server cannot be told how much the store keeps.
            let manners = Manners { window: 8, ..Manners::default() };
            let mut pair = meet_on(version, Small::new(), config, manners);
            subscribe_to_all(&mut pair);
            pair.client.out.capacity = MIN_SINK;
            pair.client.squeeze = Some(Rng::new(5));
            for _ in 0..20 {
                for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    pair.server.publish(&Note::new("a", "b", qos));
                }
            }
            let mut arrived = 0;
            while pair.server.undelivered() > 0 {
                let events = pair.events();
                assert!(!events.is_empty(), "a closed gate");
                for event in events {
                    let Event::Message(message) = event else { panic!("{event:?}") };
                    arrived += 1;
                    if let Some(receipt) = message.receipt {
                        while pair.acknowledge(receipt, ReasonCode::Success).is_err() {
                            assert!(pair.step());
                        }
                    }
                }
                pair.drive();
            }
            assert_eq!(arrived, 40);
        }
    }
}

/// User data fills the sink; what the machine has to say leaves all the same.
#[test]
fn a_full_sink_holds_up_no_acknowledgement() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.client.out.capacity = 200;
        while pair.publish(&message("a", "0123456789", QoS::AtMostOnce)).is_ok() {}
        assert_eq!(pair.client.out.room().min(40), pair.client.out.room());
        let delivery = Delivery { packet_id: PacketId::new(1), dup: false };
        let publish = message("a", "b", QoS::AtLeastOnce);
        let mut bytes = [0; 20];
        let len = Packet::Publish(delivery, publish).encoded_len(version).unwrap();
        Packet::Publish(delivery, publish).encode(version, &mut &mut bytes[..]).unwrap();
        let now = pair.clock.now();
        let before = pair.client.out.as_bytes().len();
        pair.client.call(|client, out| {
            let event = client.poll(now, &mut &bytes[..len], out);
            assert!(matches!(event, Ok(Some(Event::Message(_)))));
        });
        assert_eq!(pair.client.out.as_bytes()[before..], [0x40, 2, 0, 1]);
        // And so does a goodbye.
        let goodbye =
            pair.client.call(|client, out| client.disconnect(now, &Default::default(), out));
        assert_eq!(goodbye, Ok(()));
    }
}

/// Two sides that stop reading because they cannot write would stall for ever. The server here reads
/// nothing while its own packets are on their way; the client goes on reading.
#[test]
fn reading_does_not_wait_for_our_own_messages() {
    for version in BOTH {
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        pair.client.out.capacity = 60;
        // Nothing leaves.
        pair.wire.weather.window = 0;
        while pair.publish(&message("a", "0123456789", QoS::AtMostOnce)).is_ok() {}
        for _ in 0..10 {
            pair.server.publish(&Note::new("a", "b", QoS::AtMostOnce));
        }
        pair.wire.weather.window = 1;
        let arrived = pair.events().len();
        assert_eq!(arrived, 10);
    }
}

/// Limits of all kinds are reached, and lifted again by what they wait for.
#[test]
fn no_gate_stays_closed_after_a_cut() {
    for version in BOTH {
        let mut pair = meet(version);
        for round in 0..5 {
            pair.server.manners.frozen = true;
            while pair.publish(&message("a", "0123456789", QoS::ExactlyOnce)).is_ok() {}
            let full = pair.publish(&message("a", "0123456789", QoS::AtLeastOnce));
            assert_eq!(full, Err(PublishError::InFlightFull));
            pair.drive();
            pair.cut();
            pair.server.manners.frozen = false;
            pair.connect(&persistent(version)).unwrap();
            let outcomes = pair.events().into_iter();
            let outcomes = outcomes.filter(|event| matches!(event, Event::Acknowledged(..)));
            assert_eq!(outcomes.count(), 8, "round {round}");
        }
        assert_eq!(pair.server.accepted.len(), 40);
    }
}

/// Brokers that exceed Receive Maximum can be waited for, as those are that were told of none: nothing is
/// lost, and no more than was told is unacknowledged. What only the peer itself can free is taken as long as
/// there are places.
#[test]
fn a_peer_that_sends_too_much_can_be_waited_for() {
    let acknowledgement = Acknowledgement::Manual;
    let config = Config { acknowledgement, overrun: Overrun::Wait, ..Config::DEFAULT };
    let connect = Connect { receive_maximum: 2, ..persistent(Version::V5) };
    let error = Error::Protocol(Violation::ReceiveMaximumExceeded);
    for (qos, taken, end) in [(QoS::AtLeastOnce, 9, None), (QoS::ExactlyOnce, 8, Some(error))] {
        let mut pair = talk_on(Version::V5, Small::new(), config, &connect, ConnAck::default());
        for number in 1..=9 {
            let delivery = Delivery { packet_id: PacketId::new(number), dup: false };
            pair.server.send(&Packet::Publish(delivery, message("a", "b", qos)));
        }
        let (mut receipts, mut count) = (VecDeque::new(), 0);
        loop {
            for event in pair.events() {
                if let Event::Message(message) = event {
                    receipts.push_back(message.receipt.unwrap());
                    count += 1;
                }
            }
            assert!(receipts.len() <= 2);
            let Some(receipt) = receipts.pop_front() else { break };
            pair.acknowledge(receipt, ReasonCode::Success).unwrap();
            pair.drive();
        }
        assert_eq!((count, pair.client.error), (taken, end), "{qos:?}");
    }
}
