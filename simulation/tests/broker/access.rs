//! Who may do what.

use super::*;
use mqtt_core::broker::access::{Rights, Table, User};

/// [MQTT-3.1.4-2] [MQTT-3.3.5-2] [MQTT-3.8.4-6]: each is asked for, and denied for a reason.
#[test]
fn the_host_decides_what_clients_may_do() {
    both!(Config::default(), party => {
        party.desk.ask = |action| match action {
            Action::Connect(_, connect) if connect.client_id.as_str() == "stranger" => {
                Verdict::Deny(ReasonCode::NotAuthorized)
            }
            Action::Publish { topic, .. } if topic.as_str().starts_with("no/") => {
                Verdict::Deny(ReasonCode::QuotaExceeded)
            }
            Action::Subscribe { subscription, .. } if subscription.filter.as_str().starts_with("no/") => {
                Verdict::Deny(ReasonCode::NotAuthorized)
            }
            _ => Verdict::Allow,
        };
        for version in BOTH {
            let stranger = party.invite_with(version, Heap::new(), ClientConfig::default());
            party.connect(stranger, &named(version, "stranger", false)).expect("a connection");
            let events = party.events(stranger);
            assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == ReasonCode::NotAuthorized));
            let who = party.guest(version, "one", false);
            let list = ["no/a", "a"].map(|name| Subscription::new(filter(name), QoS::AtLeastOnce));
            party.ask(who, &Subscribe::from(&list)).expect("room");
            let events = party.events(who);
            let [Event::Subscribed(_, ack)] = events[..] else { panic!("{events:?}") };
            let refusal = if version.is_v5() { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError };
            assert_eq!(ack.reasons, List::from(&[refusal, ReasonCode::GrantedQoS1]));
            party.say(who, "no/a", "x", QoS::AtLeastOnce);
            let told = if version.is_v5() { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
            assert_eq!(answer(&party.events(who)), told);
            party.cut(who);
        }
    });
}

/// Now or later: what waits for an answer keeps its place, and all behind it.
#[test]
fn the_host_may_decide_later() {
    both!(Config::default(), party => {
        for version in BOTH {
            let later: fn(&Action<'_>) -> Verdict = |_| Verdict::Later;
            let allow: fn(&Action<'_>) -> Verdict = |_| Verdict::Allow;
            party.desk.ask = later;
            let who = party.invite_with(version, Heap::new(), ClientConfig { handshake_timeout: u32::MAX, ..ClientConfig::default() });
            party.connect(who, &named(version, "one", false)).expect("a connection");
            party.run(60_000);
            assert_eq!(party.events(who), []);
            party.desk.ask = allow;
            assert!(party.resume(who));
            assert!(!party.resume(who), "once");
            assert!(matches!(party.events(who)[..], [Event::Connected(_)]));
            party.desk.ask = later;
            let list = [Subscription::new(filter("#"), QoS::ExactlyOnce)];
            party.ask(who, &Subscribe::from(&list)).expect("room");
            for qos in ALL {
                party.publish(who, &message("a", &format!("{qos:?}"), qos)).expect("room");
            }
            party.run(1_000);
            assert_eq!(party.events(who), []);
            party.desk.ask = |action| match action {
                Action::Publish { qos: QoS::ExactlyOnce, .. } => Verdict::Later,
                _ => Verdict::Allow,
            };
            assert_eq!(party.events(who), [], "the answer is not known to be there");
            assert!(party.resume(who));
            assert_eq!(party.texts(who), ["AtMostOnce", "AtLeastOnce"]);
            party.desk.ask = allow;
            assert!(party.resume(who));
            assert_eq!(party.texts(who), ["ExactlyOnce"]);
            party.cut(who);
        }
    });
}

/// Control characters are refused, unless they are welcome.
#[test]
fn control_characters_are_refused_by_default() {
    for control_characters in [false, true] {
        both!(Config { control_characters, ..Config::default() }, party => {
            let who = party.guest(Version::V5, "one", false);
            let list = [Subscription::new(filter("a\u{1}"), QoS::AtLeastOnce)];
            party.ask(who, &Subscribe::from(&list)).expect("room");
            let events = party.events(who);
            let [Event::Subscribed(_, ack)] = events[..] else { panic!("{events:?}") };
            let granted = if control_characters { ReasonCode::GrantedQoS1 } else { ReasonCode::TopicFilterInvalid };
            assert_eq!(ack.reasons, List::from(&[granted]));
            party.say(who, "a\u{1}", "x", QoS::AtLeastOnce);
            let refused = party.events(who).iter().any(|event| {
                matches!(event, Event::Acknowledged(_, ack) if ack.reason == ReasonCode::TopicNameInvalid)
            });
            assert_eq!(refused, !control_characters);
        });
    }
}

/// [MQTT-4.13.1-1]: who breaks the rules is told and goes; nobody else notices.
#[test]
fn a_hostile_client_disturbs_nobody() {
    let wrongs: [&[u8]; 8] = [
        b"\xc0\x00",                             // PINGREQ comes first
        b"\x10\x0c\0\x04MQTX\x04\x02\0\0\0\0",   // not MQTT
        b"\x10\x0c\0\x04MQTT\x09\x02\0\0\0\0",   // nor such a version
        b"\x10\x0d\0\x04MQTT\x05\x03\0\0\0\0\0", // a reserved flag
        b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0", // twice
        b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0\x20\x03\0\0\0", // CONNACK
        b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0\x30\x05\0\x01+\0x", // a wildcard
        b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0\x36\x05\0\x01a\0\x01", // QoS 3
    ];
    both!(Config::default(), party => {
        let witness = party.guest(Version::V5, "witness", false);
        party.subscribe(witness, "#", QoS::AtLeastOnce);
        for wrong in wrongs {
            let now = party.clock.now();
            let connection = party.broker.open(now).expect("room");
            party.desk.begin(connection);
            let mut input = wrong;
            let result = party.broker.poll(now, connection, &mut input, &mut party.desk);
            assert!(result.is_err(), "{wrong:02x?}");
            assert!(party.desk.closing[connection.index()]);
            let after = party.broker.poll(now, connection, &mut input, &mut party.desk);
            assert_eq!(after, Err(mqtt_core::Error::NotConnected));
            party.broker.closed(now, connection, &mut party.desk);
            party.say(witness, "a", "x", QoS::AtLeastOnce);
            assert_eq!(party.texts(witness), ["x"]);
        }
        assert_eq!(party.broker.sessions(), 1);
    });
}

/// CONNECT and AUTH have a timeout.
#[test]
fn who_does_not_connect_in_time_is_sent_away() {
    both!(Config { connect_timeout: 5_000, ..Config::default() }, party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.open(who);
        party.run(4_900);
        assert!(party.lines[who].wire.is_open());
        party.run(200);
        assert!(!party.lines[who].wire.is_open());
    });
}

/// [MQTT-3.1.4-6]: nothing that comes behind a CONNECT that is refused is heard.
#[test]
fn nothing_is_heard_of_who_is_refused() {
    both!(Config::default(), party => {
        let witness = party.guest(Version::V5, "witness", false);
        party.subscribe(witness, "#", QoS::AtLeastOnce);
        party.desk.ask = |_| Verdict::Deny(ReasonCode::Banned);
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        let mut input: &[u8] = b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0\x30\x06\0\x01a\0hi";
        let _ = party.broker.poll(now, connection, &mut input, &mut party.desk);
        assert_eq!(party.desk.sinks[connection.index()].as_bytes(), b"\x20\x03\0\x8a\0");
        party.broker.closed(now, connection, &mut party.desk);
        assert_eq!(party.texts(witness), [""; 0]);
    });
}

/// Cannot happen: whoever is late with a connection that is over does something to somebody else's.
#[test]
fn a_connection_that_is_over_is_nobody_else() {
    both!(Config::default(), party => {
        let now = party.clock.now();
        let over = party.broker.open(now).expect("room");
        party.desk.begin(over);
        party.broker.closed(now, over, &mut party.desk);
        let who = party.guest(Version::V5, "one", false);
        let heir = party.lines[who].connection.expect("a connection");
        assert!(over.index() == heir.index() && over != heir);
        party.desk.ask = |_| Verdict::Later;
        party.publish(who, &message("a", "x", QoS::AtLeastOnce)).expect("room");
        party.drive();
        assert!(!party.broker.resume(over));
        let result = party.broker.poll(now, over, &mut &b"\xe0\0"[..], &mut party.desk);
        assert_eq!(result, Err(mqtt_core::Error::NotConnected));
        party.broker.closed(now, over, &mut party.desk);
        party.desk.ask = |_| Verdict::Allow;
        assert!(party.resume(who));
        assert_eq!(answer(&party.events(who)), ReasonCode::NoMatchingSubscribers);
    });
}

const fn given(text: &str) -> Filter<'_> {
    match Filter::new(text) {
        Ok(filter) => filter,
        Err(_) => panic!("not a filter"),
    }
}

/// Who may do what.
const ACCESS: Table<'static> = Table {
    users: &[
        User { name: "admin", password: b"correct", rights: Rights::ALL },
        User {
            name: "sensor",
            password: b"battery",
            rights: Rights {
                publish: &[given("%u/%c/#"), given("news")],
                subscribe: &[given("%u/%c/+"), given("all/#")],
            },
        },
        User {
            name: "+",
            password: b"",
            rights: Rights { publish: &[], subscribe: &[given("%u/%c")] },
        },
    ],
    anonymous: Some(Rights {
        publish: &[],
        subscribe: &[given("news"), given("%u/x"), given("%c/x")],
    }),
};

/// A table lets in who knows the password; what it does not allow is denied.
#[test]
fn a_table_decides_who_comes_and_what_they_do() {
    both!(Config::default(), party => {
        party.desk.ask = |action| ACCESS.authorize(action);
        for version in BOTH {
            for (name, password, reason) in [
                (Some("admin"), Some(&b"correct"[..]), None),
                (Some("admin"), Some(b"battery"), Some(ReasonCode::BadUserNameOrPassword)),
                (Some("admin"), None, Some(ReasonCode::BadUserNameOrPassword)),
                (Some("nobody"), Some(b"correct"), Some(ReasonCode::BadUserNameOrPassword)),
                (Some("nobody"), None, Some(ReasonCode::BadUserNameOrPassword)),
                (None, None, None),
            ] {
                let who = party.invite_with(version, Heap::new(), ClientConfig::default());
                let connect = Connect { user_name: name.map(text), password, ..named(version, "one", false) };
                party.connect(who, &connect).expect("a connection");
                let events = party.events(who);
                match events[..] {
                    [Event::Connected(_)] => assert_eq!(reason, None),
                    [Event::Refused(ack)] => assert_eq!(Some(ack.reason), reason),
                    ref other => panic!("{other:?}"),
                }
                party.cut(who);
            }
        }
    });
}

/// A user name, a client identifier; what is allowed, and what is not.
type Case<'a> = (Option<&'a str>, &'a str, &'a [&'a str], &'a [&'a str]);

/// Names stand in their places, and never for more than one level.
#[test]
fn a_table_has_places_for_names() {
    let cases: [Case<'_>; 6] = [
        (
            Some("sensor"),
            "c",
            &["sensor/c", "sensor/c/a/b", "news"],
            &["news/a", "sensor/d", "%u/c", "a"],
        ),
        (Some("sensor"), "a/b", &["news"], &["sensor/a/b", "sensor/a"]),
        (Some("sensor"), "$x", &["news"], &["sensor/$x/a"]),
        (Some("admin"), "c", &["a", "a/b"], &["$SYS/a"]),
        (Some("+"), "c", &[], &["a/c", "a"]),
        (None, "c", &[], &["news", "/x"]),
    ];
    let subscriptions: [Case<'_>; 5] = [
        (
            Some("sensor"),
            "c",
            &["sensor/c/+", "sensor/c/a", "$share/g/all/+", "all/#", "all"],
            &["sensor/+/a", "#", "sensor/c/#", "+/#", "$share/g/#"],
        ),
        (Some("sensor"), "+", &[], &["sensor/a/b", "sensor/#"]),
        (Some("admin"), "c", &["#", "+/#", "a/+"], &["$SYS/#"]),
        (Some("+"), "c", &[], &["+/c", "a/c", "+/+"]),
        (None, "$SYS", &["news", "$share/g/news"], &["/x", "+/x", "$SYS/x", "a/x", "#"]),
    ];
    both!(Config::default(), party => {
        party.desk.ask = |action| ACCESS.authorize(action);
        let enter = |party: &mut Party<_>, name: Option<&str>, client_id| {
            let password = name.map(|name| match name {
                "admin" => &b"correct"[..],
                "sensor" => b"battery",
                _ => b"",
            });
            let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.come(who, &Connect { user_name: name.map(text), password, ..named(Version::V5, client_id, false) });
            who
        };
        for (name, client_id, allowed, denied) in cases {
            let who = enter(&mut party, name, client_id);
            for (topics, expected) in [(allowed, true), (denied, false)] {
                for topic in topics {
                    party.say(who, topic, "x", QoS::AtLeastOnce);
                    let reason = answer(&party.events(who));
                    assert_eq!(!reason.is_error(), expected, "{name:?} {client_id} {topic} {reason:?}");
                }
            }
            party.cut(who);
        }
        for (name, client_id, allowed, denied) in subscriptions {
            let who = enter(&mut party, name, client_id);
            for (filters, expected) in [(allowed, true), (denied, false)] {
                for name in filters {
                    party.ask(who, &Subscribe::from(&[Subscription::new(filter(name), QoS::AtMostOnce)])).expect("room");
                    let events = party.events(who);
                    let [Event::Subscribed(_, ack)] = events[..] else { panic!("{events:?}") };
                    let granted = !ack.reasons.iter().any(|reason| reason.is_error());
                    assert_eq!(granted, expected, "{client_id} {name}");
                }
            }
            party.cut(who);
        }
    });
}

/// A will is a publish; enhanced authentication is not for tables; a table in short supply lets
/// nobody do anything.
#[test]
fn a_table_looks_at_wills_and_methods() {
    both!(Config::default(), party => {
        party.desk.ask = |action| ACCESS.authorize(action);
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        let sensor = Connect { user_name: Some(text("sensor")), password: Some(b"battery"), ..named(Version::V5, "c", false) };
        for (name, allowed) in [("sensor/c/gone", true), ("sensor/d/gone", false)] {
            let will = Will { topic: topic(name), payload: b"x", ..Will::default() };
            party.connect(who, &Connect { will: Some(will), ..sensor }).expect("a connection");
            let events = party.events(who);
            assert_eq!(matches!(events[..], [Event::Connected(_)]), allowed, "{events:?}");
            party.cut(who);
        }
        let authentication = Some(mqtt_core::Authentication { method: text("SCRAM"), data: None });
        party.connect(who, &Connect { authentication, ..sensor }).expect("a connection");
        let events = party.events(who);
        assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == ReasonCode::BadAuthenticationMethod));
        party.desk.ask = |action| Table::default().authorize(action);
        party.connect(who, &named(Version::V5, "c", false)).expect("a connection");
        let events = party.events(who);
        assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == ReasonCode::NotAuthorized));
    });
    assert!(
        !format!("{ACCESS:?}").contains("battery") && !format!("{ACCESS:?}").contains("98, 97")
    );
}
