//! Retained messages.

use super::*;

fn retained<'a>(name: &'a str, payload: &'a str) -> Publish<'a> {
    Publish { retain: true, ..message(name, payload, QoS::AtLeastOnce) }
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT-3.3.1-9]
#[test]
fn retained_messages_are_set_replaced_and_cleared() {
    both!(Config::default(), party => {
        for version in BOTH {
            let publisher = party.guest(version, "publisher", false);
            let late = |party: &mut Party<_>, expected: &[&str]| {
                let who = party.guest(version, "late", false);
                party.subscribe(who, "a/#", QoS::AtLeastOnce);
                let heard = party.heard(who);
                assert!(heard.iter().all(|(.., retain)| *retain), "{heard:?}");
                let mut texts: Vec<_> = heard.into_iter().map(|(_, text, ..)| text).collect();
                texts.sort();
                assert_eq!(texts, expected);
                party.cut(who);
            };
            party.publish(publisher, &retained("a/b", "one")).expect("room");
            party.publish(publisher, &retained("a/c", "other")).expect("room");
            late(&mut party, &["one", "other"]);
            party.publish(publisher, &retained("a/b", "two")).expect("room");
            late(&mut party, &["other", "two"]);
            party.publish(publisher, &message("a/b", "not kept", QoS::AtLeastOnce)).expect("room");
            late(&mut party, &["other", "two"]);
            party.publish(publisher, &retained("a/b", "")).expect("room");
            late(&mut party, &["other"]);
            party.publish(publisher, &retained("a/c", "")).expect("room");
            late(&mut party, &[]);
            assert_eq!((party.broker.retained(), party.broker.bytes()), (0, 0));
            party.cut(publisher);
        }
    });
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[test]
fn retain_handling_is_as_asked() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        party.publish(who, &retained("a", "x")).expect("room");
        party.events(who);
        let cases = [
            (RetainHandling::DoNotSend, 0),
            (RetainHandling::SendIfNew, 0), // it is there already
            (RetainHandling::Send, 1),
            (RetainHandling::Send, 1),
        ];
        for (wanted, count) in cases {
            party.ask(who, &Subscribe::from(&[handling("a", wanted)])).expect("room");
            assert_eq!(party.texts(who).len(), count, "{wanted:?}");
        }
        party.ask(who, &Subscribe::from(&[handling("+", RetainHandling::SendIfNew)])).expect("room");
        assert_eq!(party.texts(who).len(), 1);
    });
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-13]
#[test]
fn retain_is_kept_as_published_where_wanted() {
    both!(Config::default(), party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        for keeps in [false, true] {
            let who = party.guest(Version::V5, "one", false);
            let list = [Subscription { retain_as_published: keeps, ..Subscription::new(filter("a"), QoS::AtLeastOnce) }];
            party.ask(who, &Subscribe::from(&list)).expect("room");
            party.events(who);
            party.publish(publisher, &retained("a", "x")).expect("room");
            let heard = party.heard(who);
            assert!(matches!(&heard[..], [(.., retain)] if *retain == keeps), "{heard:?}");
            party.publish(publisher, &retained("a", "")).expect("room");
            party.cut(who);
        }
    });
}

/// As many as there are come, however few are taken at a time, and none counts as waiting.
#[test]
fn retained_messages_come_as_the_client_takes_them() {
    both!(Config { queue_messages: 1, ..Config::default() }, party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        for number in 0..16 {
            let name = format!("a/{number:02}");
            party.publish(publisher, &retained(&name, "x")).expect("room");
            party.events(publisher);
        }
        for version in BOTH {
            party.desk.capacity = 48;
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            let receive_maximum = if version.is_v5() { 2 } else { u16::MAX };
            party.come(who, &Connect { receive_maximum, ..named(version, "late", false) });
            party.subscribe(who, "#", QoS::AtLeastOnce);
            let mut topics: Vec<_> = party.heard(who).into_iter().map(|(name, ..)| name).collect();
            topics.sort();
            let expected: Vec<_> = (0..16).map(|number| format!("a/{number:02}")).collect();
            assert_eq!(topics, expected);
            party.cut(who);
        }
        assert_eq!(party.broker.statistics().dropped_overflow, 0);
    });
}

/// A limit with a policy: one more is refused.
#[test]
fn retained_messages_are_bounded() {
    both!(Config { retained_messages: 2, ..Config::default() }, party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        for (name, told) in [
            ("a", ReasonCode::NoMatchingSubscribers),
            ("b", ReasonCode::NoMatchingSubscribers),
            ("c", ReasonCode::QuotaExceeded),
            ("b", ReasonCode::NoMatchingSubscribers),
        ] {
            party.publish(publisher, &retained(name, "x")).expect("room");
            assert_eq!(answer(&party.events(publisher)), told);
        }
        assert_eq!(party.broker.retained(), 2);
    });
}

/// A limit in bytes: who can be told is refused, and what is there stays; of others the message is
/// delivered, and nothing is retained for its topic.
#[test]
fn retained_messages_are_bounded_in_bytes() {
    both!(Config { retained_bytes: 1_000, ..Config::default() }, party => {
        let hears = party.guest(Version::V5, "hears", false);
        party.subscribe(hears, "#", QoS::AtMostOnce);
        let large = "x".repeat(1_000);
        for (version, told, kept) in [
            (Version::V5, ReasonCode::QuotaExceeded, 1),
            (Version::V3_1_1, ReasonCode::Success, 0),
        ] {
            let publisher = party.guest(version, "publisher", false);
            for text in ["small", &large] {
                party.publish(publisher, &retained("a", text)).expect("room");
            }
            let events = party.events(publisher);
            let Event::Acknowledged(_, ack) = events[1] else { panic!("{events:?}") };
            assert_eq!(ack.reason, told);
            assert_eq!((party.broker.retained(), party.texts(hears).len()), (kept, 2 - kept));
            party.cut(publisher);
        }
        assert_eq!(party.broker.statistics().not_retained, 2);
        let publisher = party.guest(Version::V5, "publisher", false);
        for _ in 0..10 {
            party.publish(publisher, &retained("a", &large[..500])).expect("room");
            assert_eq!(answer(&party.events(publisher)), ReasonCode::Success, "in place of the same");
        }
    });
}

/// The same for what a will retains.
#[test]
fn a_will_that_cannot_be_retained_takes_the_old_away() {
    both!(Config { retained_bytes: 500, ..Config::default() }, party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        party.publish(publisher, &retained("a", "old")).expect("room");
        let large = "x".repeat(500);
        let will = Will { topic: topic("a"), payload: large.as_bytes(), qos: QoS::AtMostOnce, retain: true, properties: Properties::EMPTY };
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(who, &Connect { will: Some(will), ..named(Version::V5, "one", false) });
        party.cut(who);
        party.drive();
        assert_eq!(party.broker.retained(), 0);
        assert_eq!(party.broker.statistics().not_retained, 1);
    });
}

/// [MQTT-3.8.3-3] is about what is forwarded while it is published. What is retained is the topic's, whoever
/// it was from: [MQTT-3.3.1-9].
#[test]
fn no_local_does_not_withhold_what_is_retained() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        party.publish(who, &retained("a", "before")).expect("room");
        party.events(who);
        let list = [Subscription { no_local: true, ..Subscription::new(filter("a"), QoS::AtLeastOnce) }];
        party.ask(who, &Subscribe::from(&list)).expect("room");
        assert_eq!(party.texts(who), ["before"]);
        party.publish(who, &retained("a", "after")).expect("room");
        assert_eq!(party.texts(who), [""; 0]);
    });
}
