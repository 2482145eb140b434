//! Keep alive: who pings when, and when silence is judged.

use mqtt_core::{
    Buffer, Client, Config, ConnAck, Connect, Error, Event, Instant, PacketId, QoS, Version,
    store::Fixed, wire::Packet,
};
use simulation::{Manners, Note, story::*};

const SECOND: u64 = 1_000;

/// A client with a keep alive of ten seconds.
fn talk_for_ten(version: Version) -> Talk {
    let connect = Connect { keep_alive: 10, ..persistent(version) };
    talk_on(version, Small::new(), Config::default(), &connect, ConnAck::default())
}

fn hears_a_ping(pair: &mut Talk) -> bool {
    pair.drive();
    match pair.server.received.pop_front() {
        Some(Packet::PingReq) => true,
        None => false,
        other => panic!("{other:?}"),
    }
}

/// [MQTT-3.1.2-20]
#[test]
fn an_idle_client_pings_once_per_keep_alive() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        for _ in 0..3 {
            pair.run(10 * SECOND - 1);
            assert!(!hears_a_ping(&mut pair));
            pair.run(1);
            assert!(hears_a_ping(&mut pair));
            pair.server.send(&Packet::PingResp);
            pair.drive();
        }
        assert_eq!(pair.events(), []);
    }
}

/// [MQTT-3.12.4-1]: an hour with a server that closes after one and a half keep alives.
#[test]
fn an_idle_connection_stays() {
    for version in BOTH {
        for keep_alive in [1, 10, 65_535] {
            let mut pair = meet(version);
            pair.cut();
            pair.connect(&Connect { keep_alive, ..persistent(version) }).unwrap();
            pair.run(u64::from(keep_alive) * 100 * SECOND);
            assert!(pair.wire.is_open());
            assert_eq!(pair.server.log.len(), 1 + 99 + 1);
        }
    }
}

/// Packets both ways within every keep alive: nobody needs to ask.
#[test]
fn no_ping_while_packets_go_both_ways() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        for _ in 0..20 {
            pair.run(9 * SECOND);
            let id = pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap().unwrap();
            pair.drive();
            assert!(matches!(pair.server.packet(), Packet::Publish(..)));
            assert!(pair.server.is_quiet());
            pair.server.send(&Packet::PubAck(id, Default::default()));
            assert!(matches!(pair.event(), Event::Acknowledged(..)));
        }
    }
}

/// What it sends keeps it alive for the server, but tells it nothing of the server.
#[test]
fn a_publisher_at_qos_0_notices_a_frozen_server_within_one_and_a_half_keep_alives() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        let mut pinged_at = None;
        for second in 1..=15 {
            pair.run(SECOND - 1);
            assert_eq!(pair.client.error, None);
            pair.run(1);
            if second < 15 {
                pair.publish(&message("a", "b", QoS::AtMostOnce)).unwrap();
                pair.drive();
            }
            let pinged = pair.server.received.drain(..).any(|packet| packet == Packet::PingReq);
            if pinged {
                assert_eq!(pinged_at.replace(second), None);
            }
        }
        assert_eq!(pinged_at, Some(10));
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
        assert!(!pair.wire.is_open());
    }
}

/// The other half: one that only receives must still be heard.
#[test]
fn a_subscriber_that_only_receives_pings_all_the_same() {
    for version in BOTH {
        let mut pair = meet(version);
        pair.cut();
        pair.connect(&Connect { keep_alive: 10, ..persistent(version) }).unwrap();
        pair.drive();
        subscribe_to_all_at_once(&mut pair);
        for _ in 0..60 {
            pair.run(SECOND);
            pair.server.publish(&Note::new("a", "b", QoS::AtMostOnce));
            pair.drive();
        }
        assert!(pair.wire.is_open());
        let pings = pair.server.log.iter().filter(|packet| packet.starts_with("PINGREQ")).count();
        assert!((5..=6).contains(&pings), "{pings} pings");
    }
}

fn subscribe_to_all_at_once(pair: &mut Meeting) {
    pair.client.events.clear();
    subscribe_to_all(pair);
}

#[test]
fn half_a_keep_alive_is_time_enough_to_answer() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        pair.run(10 * SECOND);
        assert!(hears_a_ping(&mut pair));
        pair.run(5 * SECOND - 1);
        pair.server.send(&Packet::PingResp);
        // The next one is due a keep alive after the last, not after its answer.
        pair.run(5 * SECOND);
        assert_eq!(pair.client.error, None);
        assert!(!hears_a_ping(&mut pair));
        pair.run(1);
        assert!(hears_a_ping(&mut pair));
        pair.run(5 * SECOND);
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
    }
}

/// Any packet is a sign of life, as is a part of one that is long under way.
#[test]
fn anything_that_arrives_answers_a_ping() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        pair.run(10 * SECOND);
        assert!(hears_a_ping(&mut pair));
        let long = [&[0x30, 100, 0, 1, b'a'][..], &[0; 97]].concat();
        for byte in &long {
            pair.run(4 * SECOND);
            pair.server.send_bytes(&[*byte]);
            pair.drive();
        }
        assert_eq!(pair.client.error, None);
        assert!(matches!(pair.event(), Event::Message(_)));
    }
}

/// The application sleeps for longer than any keep alive. What the server sent meanwhile lies unread,
/// and proves that the server is alive.
#[test]
fn a_slow_application_does_not_take_the_server_for_dead() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        pair.run(10 * SECOND);
        assert!(hears_a_ping(&mut pair));
        pair.server.send(&Packet::PingResp);
        pair.client.awake = false;
        pair.run(1_000 * SECOND);
        pair.client.awake = true;
        assert_eq!(pair.events(), []);
        assert_eq!(pair.client.error, None);
        // It has sent nothing for long: if the connection is still there, it must ping at once.
        assert!(hears_a_ping(&mut pair));
        pair.server.send(&Packet::PingResp);
        pair.run(9 * SECOND);
        assert_eq!(pair.client.error, None);
    }
}

/// The application takes one event in a minute; pings do not wait for it.
#[test]
fn messages_that_lie_unread_prove_that_the_server_is_alive() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        for _ in 0..20 {
            let publish = message("a", "b", QoS::AtMostOnce);
            pair.server.send(&Packet::Publish(Default::default(), publish));
        }
        pair.client.awake = false;
        pair.drive();
        for _ in 0..20 {
            pair.run(60 * SECOND);
            (pair.client.awake, pair.client.appetite) = (true, 1);
            pair.step();
            assert_eq!(pair.client.events.drain(..).count(), 1);
            pair.client.awake = false;
        }
        assert_eq!(pair.client.error, None);
        assert!(pair.wire.is_open());
    }
}

/// [MQTT-3.2.2-21]
#[test]
fn the_servers_keep_alive_counts() {
    for (server, first_ping) in [(5, Some(5)), (20, Some(20)), (0, None)] {
        let connect = Connect { keep_alive: 10, ..persistent(Version::V5) };
        let terms = ConnAck { server_keep_alive: Some(server), ..ConnAck::default() };
        let (version, config) = (Version::V5, Config::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        let mut pinged_at = None;
        for second in 1..=24 {
            pair.run(SECOND);
            if hears_a_ping(&mut pair) {
                pinged_at = pinged_at.or(Some(second));
                pair.server.send(&Packet::PingResp);
                pair.drive();
            }
        }
        assert_eq!(pinged_at, first_ping);
    }
}

#[test]
fn a_keep_alive_of_zero_is_none() {
    for version in BOTH {
        let mut pair = talk(version);
        assert_eq!(pair.client.client.deadline(), None);
        pair.run(1_000_000 * SECOND);
        assert!(pair.server.is_quiet());
        assert_eq!(pair.client.error, None);
    }
}

/// A ping on one connection is not awaited on the next.
#[test]
fn timers_end_with_the_connection() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        pair.run(12 * SECOND);
        pair.cut();
        assert_eq!(pair.client.client.deadline(), None);
        pair.connect(&Connect { keep_alive: 10, ..persistent(version) }).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        assert_eq!(pair.client.client.deadline(), Some(pair.clock.now() + 10 * SECOND));
        pair.run(9 * SECOND);
        assert_eq!(pair.client.error, None);
    }
}

/// A clock that stands still, jumps, or runs backwards stops nothing.
#[test]
fn polling_early_late_or_twice_is_harmless() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        let start = pair.clock.now();
        pair.client.call(|client, out| {
            for millis in [0, 0, 5, 9_999, 3, 0] {
                assert_eq!(client.poll(start + millis, &mut &[][..], out), Ok(None));
                assert!(out.is_empty());
            }
            for _ in 0..3 {
                assert_eq!(client.poll(start + 10_000, &mut &[][..], out), Ok(None));
                assert_eq!(out.as_bytes(), [0xc0, 0]);
            }
        });
    }
}

/// The network freezes instead of closing: with traffic or without, it is noticed in time.
#[test]
fn a_network_that_has_gone_silent_is_noticed() {
    for version in BOTH {
        let mut pair = meet_on(version, Small::new(), Config::default(), Manners::default());
        pair.cut();
        pair.connect(&Connect { keep_alive: 4, ..persistent(version) }).unwrap();
        pair.run(100 * SECOND);
        assert!(pair.wire.is_open());
        pair.server.manners.frozen = true;
        pair.run(6 * SECOND);
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
    }
}

/// It sends, but takes nothing; what it has sent cannot be answered, so some of it lies unread.
#[test]
fn a_server_that_stops_reading_is_noticed() {
    for version in BOTH {
        let mut pair = talk_for_ten(version);
        pair.client.out.capacity = 2;
        for _ in 0..3 {
            pair.server.send(&Packet::PubRel(PacketId::FIRST, Default::default()));
        }
        pair.run(14 * SECOND);
        assert_eq!(pair.client.error, None);
        pair.run(SECOND);
        assert_eq!(pair.client.error, Some(Error::KeepAliveTimeout));
    }
}

#[test]
fn a_client_that_takes_no_input_for_a_while_blames_nobody_and_then_judges_again() {
    let connect = Connect { keep_alive: 10, ..Connect::default() };
    let mut client = Client::new(Version::V5, Fixed::<4, 256>::new());
    let mut out = Buffer::<256>::new();
    let at = |seconds: u64| Instant::from_millis(seconds * 1_000);
    client.connect(at(0), &connect, &mut out).unwrap();
    client.poll(at(0), &mut &b"\x20\x03\0\0\0"[..], &mut out).unwrap();
    out.clear();
    for seconds in 1..100 {
        assert_eq!(client.tend(at(seconds), &mut out), Ok(None));
    }
    assert_eq!(out.as_bytes(), [0xc0, 0], "asked once");
    out.clear();
    // The answer was there all the time.
    assert_eq!(client.poll(at(100), &mut &b"\xd0\0"[..], &mut out), Ok(None));
    let end = (101..200).find_map(|seconds| {
        let polled = client.poll(at(seconds), &mut &b""[..], &mut out);
        polled.err().map(|error| (seconds, error))
    });
    assert_eq!(end, Some((115, Error::KeepAliveTimeout)));
}
