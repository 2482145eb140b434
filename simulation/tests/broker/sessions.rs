//! Sessions: how they begin, outlive their connections, and end.

use super::*;

/// [MQTT-3.1.2-5] [MQTT-3.2.2-3] [MQTT-4.1.0-1]
#[test]
fn a_session_is_resumed_with_what_has_waited() {
    both!(Config::default(), party => {
        for (first, second) in [(0, 0), (1, 1), (0, 1), (1, 0)].map(|(a, b)| (BOTH[a], BOTH[b])) {
            let who = party.guest(first, "one", true);
            let publisher = party.guest(Version::V5, "publisher", false);
            party.subscribe(who, "a", QoS::ExactlyOnce);
            party.cut(who);
            for qos in ALL {
                party.say(publisher, "a", &format!("{qos:?}"), qos);
            }
            let again = party.invite_with(second, Heap::new(), ClientConfig::default());
            assert!(party.come(again, &named(second, "one", true)), "the session is there");
            assert_eq!(party.texts(again), ["AtLeastOnce", "ExactlyOnce"], "not QoS 0");
            party.cut(again);
            party.cut(publisher);
            assert!(!party.come(again, &named(second, "one", false)), "a clean start");
            party.cut(again);
            assert_eq!((party.broker.sessions(), party.broker.bytes()), (0, 0));
        }
    });
}

/// [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.2.2-2]
#[test]
fn a_clean_start_discards_the_session() {
    both!(Config::default(), party => {
        for version in BOTH {
            let who = party.guest(version, "one", true);
            party.subscribe(who, "#", QoS::AtLeastOnce);
            party.cut(who);
            assert!(!party.come(who, &named(version, "one", false)));
            party.say(who, "a", "x", QoS::AtMostOnce);
            assert_eq!(party.texts(who), [""; 0], "the subscription has gone");
            party.cut(who);
        }
    });
}

/// [MQTT-3.1.2-23] [MQTT-4.1.0-2]: absent or 0 at the close, a number after as many seconds.
#[test]
fn a_session_ends_when_it_expires() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        party.cut(who);
        assert_eq!(party.broker.sessions(), 0);
        for (seconds, lasts, expected) in [(10, 9_000, true), (10, 11_000, false), (u32::MAX, 100_000_000, true)] {
            let connect = Connect { clean_start: false, session_expiry_interval: seconds, ..named(Version::V5, "one", true) };
            party.come(who, &connect);
            party.cut(who);
            party.run(lasts);
            assert_eq!(party.broker.sessions(), usize::from(expected), "{seconds} {lasts}");
        }
    });
}

/// Section 3.1.2.11.2, 3.2.2.3.2: the server's maximum is told; 3.1.1 gets it, too.
#[test]
fn the_server_bounds_how_long_sessions_last() {
    both!(Config { session_expiry_maximum: 60, ..Config::default() }, party => {
        for version in BOTH {
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            party.connect(who, &named(version, "one", true)).expect("a connection");
            let events = party.events(who);
            let [Event::Connected(ack)] = events[..] else { panic!("{events:?}") };
            assert_eq!(ack.session_expiry_interval, version.is_v5().then_some(60));
            party.cut(who);
            party.run(59_000);
            assert_eq!(party.broker.sessions(), 1);
            party.run(2_000);
            assert_eq!(party.broker.sessions(), 0);
        }
    });
}

/// Section 3.14.2.2.2
#[test]
fn disconnect_may_change_when_the_session_ends() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", true);
        let list = [Property::SessionExpiryInterval(5)];
        let leave = Disconnect { properties: Properties::from(&list), ..Disconnect::default() };
        let now = party.clock.now();
        party.lines[who].app.call(|client, out| client.disconnect(now, &leave, out)).expect("room");
        party.lines[who].app.hang_up();
        party.run(4_000);
        assert_eq!(party.broker.sessions(), 1);
        party.run(2_000);
        assert_eq!(party.broker.sessions(), 0);
    });
}

/// [MQTT-3.1.4-3]: told why, and the session goes over.
#[test]
fn another_connection_takes_the_session_over() {
    both!(Config::default(), party => {
        for version in BOTH {
            let old = party.guest(version, "one", true);
            party.subscribe(old, "a", QoS::AtLeastOnce);
            let new = party.invite_with(version, Heap::new(), ClientConfig::default());
            assert!(party.come(new, &named(version, "one", true)));
            let events = party.events(old);
            if version.is_v5() {
                assert!(matches!(events[..], [Event::Disconnected(why)] if why.reason == ReasonCode::SessionTakenOver));
            }
            assert!(!party.lines[old].wire.is_open());
            party.say(new, "a", "x", QoS::AtLeastOnce);
            assert_eq!(party.texts(new), ["x"]);
            party.cut(new);
            party.come(new, &named(version, "one", false));
            party.cut(new);
        }
    });
}

/// [MQTT-4.1.0-2]; 3.1.1: MQTT-3.1.2-6: the connection ends, and the session with it.
#[test]
fn a_session_that_ends_with_its_connection_is_not_taken_over() {
    both!(Config::default(), party => {
        for version in BOTH {
            let old = party.guest(version, "one", false);
            party.subscribe(old, "a", QoS::AtLeastOnce);
            let new = party.invite_with(version, Heap::new(), ClientConfig::default());
            assert!(!party.come(new, &named(version, "one", true)), "{version:?}");
            party.say(new, "a", "x", QoS::AtLeastOnce);
            assert_eq!(party.texts(new), [""; 0]);
            party.cut(new);
            party.come(new, &named(version, "one", false));
            party.cut(new);
        }
        assert_eq!(party.broker.sessions(), 0);
    });
}

/// A full table has a policy.
#[test]
fn a_full_table_refuses_or_evicts() {
    both!(Config { sessions: 2, ..Config::default() }, party => {
        for name in ["one", "two"] {
            let who = party.guest(Version::V5, name, true);
            party.cut(who);
        }
        for (version, told) in [(Version::V5, ReasonCode::QuotaExceeded), (Version::V3_1_1, ReasonCode::ServerUnavailable)] {
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            party.connect(who, &named(version, "three", true)).expect("a connection");
            let events = party.events(who);
            assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == told), "{events:?}");
        }
    });
    both!(Config { sessions: 2, crowding: Crowding::EvictOldest, ..Config::default() }, party => {
        for name in ["one", "two"] {
            let who = party.guest(Version::V5, name, true);
            party.run(10);
            party.cut(who);
        }
        let three = party.guest(Version::V5, "three", true);
        party.cut(three);
        let two = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        assert!(party.come(two, &named(Version::V5, "two", true)), "the oldest went");
    });
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7]: and in 3.1.1 without a session to be kept [MQTT-3.1.3-8].
#[test]
fn a_client_without_a_name_is_given_one() {
    both!(Config::default(), party => {
        let mut names = Vec::new();
        for _ in 0..2 {
            let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.connect(who, &named(Version::V5, "", true)).expect("a connection");
            match party.events(who)[..] {
                [Event::Connected(ack)] => names.extend(ack.assigned_client_identifier),
                ref other => panic!("{other:?}"),
            }
        }
        assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
        let old = party.invite_with(Version::V3_1_1, Heap::new(), ClientConfig::default());
        assert!(!party.come(old, &named(Version::V3_1_1, "", false)));
        // The client's machine would refuse to ask for this.
        party.open(old);
        let connection = party.lines[old].connection.expect("a connection");
        let mut bytes: &[u8] = b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0";
        let now = party.clock.now();
        let _ = party.broker.poll(now, connection, &mut bytes, &mut party.desk);
        assert_eq!(party.desk.sinks[connection.index()].as_bytes(), b"\x20\x02\0\x02");
    });
}

/// [MQTT-4.4.0-1]: QoS 2 from where it stood, in order.
#[test]
fn deliveries_go_on_where_they_stood() {
    both!(Config::default(), party => {
        for version in BOTH {
            let who = party.guest(version, "one", true);
            let publisher = party.guest(version, "publisher", false);
            party.subscribe(who, "#", QoS::ExactlyOnce);
            // It receives, but nothing of what it answers arrives.
            for number in 0..5 {
                party.publish(publisher, &message("a", &number.to_string(), QoS::ExactlyOnce)).expect("room");
            }
            party.lines[who].wire.cut_after(simulation::Direction::Up, 12);
            let mut texts = party.texts(who);
            assert!(!party.lines[who].wire.is_open());
            assert!(party.come(who, &named(version, "one", true)));
            texts.extend(party.texts(who));
            assert_eq!(texts, ["0", "1", "2", "3", "4"]);
            assert_eq!(party.broker.bytes(), 0);
            party.cut(publisher);
            party.cut(who);
            party.come(who, &named(version, "one", false));
            party.cut(who);
        }
    });
}

/// [MQTT-3.1.3-6] [MQTT-3.2.2-16]: each nameless client gets a name of its own, which those of brokers
/// with another number do not tell.
#[test]
fn assigned_names_differ() {
    let mut names = std::collections::BTreeSet::new();
    let seeds = [0, 1, 1 << 64];
    for seed in seeds {
        both!(Config { seed, ..Config::default() }, party => {
            for _ in 0..4 {
                let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
                party.connect(who, &named(Version::V5, "", false)).expect("a connection");
                let events = party.events(who);
                let [Event::Connected(ack)] = events[..] else { panic!("{events:?}") };
                let name = ack.assigned_client_identifier.expect("a name").as_str();
                assert!(name.len() <= 23 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
                names.insert(name.to_string());
            }
        });
    }
    assert_eq!(names.len(), 4 * seeds.len(), "both kinds of broker assign the same");
}

/// Cannot happen: those who say nothing, or who are gone, keep others out.
#[test]
fn idle_connections_keep_nobody_out() {
    let mut party = Party::<Pocket>::new(Config::default());
    let clients: Vec<_> =
        (0..8).map(|number| party.guest(Version::V5, &number.to_string(), true)).collect();
    clients.iter().for_each(|who| party.abandon(*who)); // and the broker does not know
    for (round, back) in clients.iter().take(3).enumerate() {
        for number in 0..SPARE {
            let idle = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.open(idle);
            party.run(10);
            assert!(round > 0 || number > 0 || party.lines[idle].wire.is_open(), "there was room");
        }
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("a place is kept");
        party.desk.begin(connection);
        party.broker.closed(now, connection, &mut party.desk);
        assert!(
            party.come(*back, &named(Version::V5, &round.to_string(), true)),
            "the session is there"
        );
        party.cut(*back);
    }
    assert_eq!(party.broker.sessions(), 8);
}

/// Who has no place at all has one soon, if it is only waited for somebody.
#[test]
fn who_takes_longest_to_connect_goes_first() {
    let mut party = Party::<Pocket>::new(Config::default());
    let now = party.clock.now();
    let mut opened = Vec::new();
    while let Ok(connection) = party.broker.open(now) {
        party.desk.begin(connection);
        opened.push(connection);
    }
    assert_eq!(opened.len(), 8 + SPARE);
    assert_eq!(party.broker.deadline(), Some(now));
    party.broker.tick(now, &mut party.desk);
    let closing: Vec<_> = opened.iter().filter(|one| party.desk.closing[one.index()]).collect();
    assert_eq!(closing, [&opened[0]]);
    party.broker.closed(now, opened[0], &mut party.desk);
    let next = party.broker.open(now).expect("room");
    assert!(next.index() == opened[0].index() && next != opened[0]);
    party.desk.begin(next);
    party.broker.tick(now, &mut party.desk);
    assert!(party.desk.closing[opened[1].index()] && !party.desk.closing[next.index()]);
}
