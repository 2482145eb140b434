//! From publishers to subscribers.

use super::*;

/// [MQTT-3.8.4-8]: at the lower of the two QoS.
#[test]
fn a_message_comes_at_the_qos_that_was_granted() {
    both!(Config::default(), party => {
        for (to, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let subscriber = party.guest(BOTH[to], "subscriber", false);
            let publisher = party.guest(BOTH[from], "publisher", false);
            for granted in ALL {
                party.subscribe(subscriber, "a/+", granted);
                for qos in ALL {
                    party.say(publisher, "a/b", "x", qos);
                    let expected = ("a/b".into(), "x".into(), qos.min(granted), false);
                    assert_eq!(party.heard(subscriber), [expected]);
                    assert_eq!(party.events(publisher).len(), usize::from(qos > QoS::AtMostOnce));
                }
            }
            assert_eq!(party.broker.bytes(), 0, "nothing is kept of what was acknowledged");
            party.cut(subscriber);
            party.cut(publisher);
        }
    });
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[test]
fn order_is_kept() {
    both!(Config::default(), party => {
        for qos in ALL {
            let subscriber = party.guest(Version::V5, "subscriber", true);
            let publisher = party.guest(Version::V3_1_1, "publisher", false);
            party.subscribe(subscriber, "#", QoS::ExactlyOnce);
            let texts: Vec<_> = (0..15).map(|number| number.to_string()).collect();
            for text in &texts {
                party.publish(publisher, &message("a", text, qos)).expect("room");
            }
            assert_eq!(party.texts(subscriber), texts);
            party.cut(subscriber);
            party.cut(publisher);
        }
    });
}

/// [MQTT-4.5.0-1]; and where nobody subscribes, 5.0 is told so (section 3.4.2.1).
#[test]
fn a_message_for_nobody_is_taken() {
    both!(Config::default(), party => {
        for (version, told) in
            [(Version::V3_1_1, ReasonCode::Success), (Version::V5, ReasonCode::NoMatchingSubscribers)]
        {
            let publisher = party.guest(version, "publisher", false);
            party.say(publisher, "a", "x", QoS::AtLeastOnce);
            assert_eq!(answer(&party.events(publisher)), told);
            party.cut(publisher);
        }
    });
}

/// [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn overlapping_subscriptions_bring_one_copy_with_every_identifier() {
    both!(Config::default(), party => {
        let subscriber = party.guest(Version::V5, "subscriber", true);
        let publisher = party.guest(Version::V5, "publisher", false);
        let wanted = [("a/#", QoS::AtMostOnce, 7), ("a/+", QoS::ExactlyOnce, 9), ("a/b", QoS::AtLeastOnce, 8)];
        for (name, qos, identifier) in wanted {
            let subscription = [Subscription::new(filter(name), qos)];
            let properties = [Property::SubscriptionIdentifier(identifier)];
            let properties = Properties::from(&properties);
            let subscribe = Subscribe { properties, ..Subscribe::from(&subscription) };
            party.ask(subscriber, &subscribe).expect("room");
        }
        party.events(subscriber);
        let identified = |events: Vec<Event<'static>>| {
            let [Event::Message(message)] = events[..] else { panic!("{events:?}") };
            let mut identifiers: Vec<_> = message.properties.iter().filter_map(|property| {
                match property {
                    Property::SubscriptionIdentifier(identifier) => Some(identifier),
                    _ => None,
                }
            }).collect();
            identifiers.sort();
            (message.qos, identifiers)
        };
        party.say(publisher, "a/b", "x", QoS::ExactlyOnce);
        assert_eq!(identified(party.events(subscriber)), (QoS::ExactlyOnce, vec![7, 8, 9]));
        // The same for one that has waited.
        party.cut(subscriber);
        party.say(publisher, "a/b", "y", QoS::ExactlyOnce);
        assert!(party.come(subscriber, &named(Version::V5, "subscriber", true)));
        assert_eq!(identified(party.events(subscriber)), (QoS::ExactlyOnce, vec![7, 8, 9]));
    });
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_keeps_a_client_from_hearing_itself() {
    both!(Config::default(), party => {
        let one = party.guest(Version::V5, "one", false);
        let two = party.guest(Version::V5, "two", false);
        for who in [one, two] {
            let list = [Subscription { no_local: true, ..Subscription::new(filter("a"), QoS::AtLeastOnce) }];
            party.ask(who, &Subscribe::from(&list)).expect("room");
            party.events(who);
        }
        party.say(one, "a", "x", QoS::AtLeastOnce);
        assert_eq!(party.texts(two), ["x"]);
        assert_eq!(party.texts(one), [""; 0]);
    });
}

/// [MQTT-4.7.2-1]; and such topics are not for clients to publish to.
#[test]
fn dollar_topics_are_the_servers() {
    both!(Config::default(), party => {
        let subscriber = party.guest(Version::V5, "subscriber", false);
        party.subscribe(subscriber, "#", QoS::AtLeastOnce);
        party.subscribe(subscriber, "$SYS/#", QoS::AtLeastOnce);
        let publisher = party.guest(Version::V5, "publisher", false);
        party.say(publisher, "$SYS/a", "x", QoS::AtLeastOnce);
        assert_eq!(answer(&party.events(publisher)), ReasonCode::TopicNameInvalid);
        assert_eq!(party.texts(subscriber), [""; 0]);
    });
}

/// [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.11.3-1]
#[test]
fn an_unsubscription_ends_what_has_exactly_that_filter() {
    both!(Config::default(), party => {
        for version in BOTH {
            let who = party.guest(version, "one", false);
            party.subscribe(who, "a/+", QoS::AtLeastOnce);
            party.subscribe(who, "a/b", QoS::AtLeastOnce);
            let filters = [filter("a/+"), filter("a/#")];
            let now = party.clock.now();
            let unsubscribe = Unsubscribe::from(&filters);
            party.lines[who].app.command(|client, out| client.unsubscribe(now, &unsubscribe, out)).expect("room");
            let events = party.events(who);
            let [Event::Unsubscribed(_, ack)] = events[..] else { panic!("{events:?}") };
            if version.is_v5() {
                let told = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
                assert_eq!(ack.reasons, List::from(&told));
            }
            party.say(who, "a/b", "x", QoS::AtMostOnce);
            party.say(who, "a/c", "y", QoS::AtMostOnce);
            assert_eq!(party.texts(who), ["x"]);
            party.cut(who);
        }
    });
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
/// [MQTT-3.3.2-20]: unaltered and in order, directly and after waiting; none before 5.0.
#[test]
fn properties_are_relayed_as_they_are() {
    both!(Config::default(), party => {
        let subscriber = party.guest(Version::V5, "subscriber", true);
        let old = party.guest(Version::V3_1_1, "old", false);
        let publisher = party.guest(Version::V5, "publisher", false);
        party.subscribe(subscriber, "#", QoS::AtLeastOnce);
        party.subscribe(old, "#", QoS::AtLeastOnce);
        let pair = |name, value| Property::UserProperty(UserProperty::new(name, value).expect("text"));
        let list = [
            Property::PayloadFormatIndicator(true),
            pair("b", "1"),
            Property::ContentType(text("text/plain")),
            Property::ResponseTopic(topic("answers")),
            Property::CorrelationData(b"17"),
            pair("a", "2"),
        ];
        let sent = Publish { properties: Properties::from(&list), ..message("a", "x", QoS::AtLeastOnce) };
        for waits in [false, true] {
            if waits {
                party.cut(subscriber);
            }
            party.publish(publisher, &sent).expect("room");
            party.drive();
            if waits {
                party.come(subscriber, &named(Version::V5, "subscriber", true));
            }
            let events = party.events(subscriber);
            let [Event::Message(message)] = events[..] else { panic!("{events:?}") };
            assert_eq!(message.properties, sent.properties);
            assert_eq!(party.texts(old), ["x"]);
        }
    });
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn messages_expire_while_they_wait() {
    both!(Config::default(), party => {
        let subscriber = party.guest(Version::V5, "subscriber", true);
        party.subscribe(subscriber, "#", QoS::AtLeastOnce);
        party.cut(subscriber);
        let publisher = party.guest(Version::V5, "publisher", false);
        for (seconds, text) in [(5, "short"), (20, "long")] {
            let list = [Property::MessageExpiryInterval(seconds)];
            let sent = Publish { properties: Properties::from(&list), ..message("a", text, QoS::AtLeastOnce) };
            party.publish(publisher, &sent).expect("room");
        }
        party.run(8_000);
        party.come(subscriber, &named(Version::V5, "subscriber", true));
        let events = party.events(subscriber);
        let [Event::Message(message)] = events[..] else { panic!("{events:?}") };
        assert_eq!((message.payload, message.properties.message_expiry_interval()), (&b"long"[..], Some(12)));
        assert_eq!(party.broker.statistics().dropped_expired, 1);
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-12]: each side numbers topics for itself, and nobody else's.
#[test]
fn topic_aliases_hold_for_one_connection() {
    both!(Config::default(), party => {
        let store = || Heap::with_limits(Limits { inbound_aliases: 4, outbound_aliases: 4, ..Limits::default() });
        let config = ClientConfig { topic_aliases: true, ..ClientConfig::default() };
        let subscriber = party.invite_with(Version::V5, store(), config);
        let publisher = party.invite_with(Version::V5, store(), config);
        for (who, name) in [(subscriber, "subscriber"), (publisher, "publisher")] {
            party.come(who, &Connect { topic_alias_maximum: 4, ..named(Version::V5, name, true) });
        }
        party.subscribe(subscriber, "#", QoS::AtLeastOnce);
        for round in ["first", "second", "third"] {
            for name in ["one/of/two", "two/of/two"] {
                party.say(publisher, name, round, QoS::AtLeastOnce);
                let expected = (name.to_string(), round.to_string(), QoS::AtLeastOnce, false);
                assert_eq!(party.heard(subscriber), [expected]);
            }
        }
        // What was sent by an alias comes again by its name.
        party.lines[subscriber].app.awake = false;
        party.say(publisher, "one/of/two", "fourth", QoS::AtLeastOnce);
        party.cut(subscriber);
        party.lines[subscriber].app.awake = true;
        party.come(subscriber, &named(Version::V5, "subscriber", true));
        let expected = ("one/of/two".to_string(), "fourth".to_string(), QoS::AtLeastOnce, false);
        assert_eq!(party.heard(subscriber), [expected]);
    });
}

/// [MQTT-4.3.3-10] [MQTT-4.3.3-12]: it is routed once, however often it comes.
#[test]
fn a_message_at_qos_2_that_comes_again_is_not_routed_again() {
    both!(Config::default(), party => {
        for version in BOTH {
            let subscriber = party.guest(version, "subscriber", false);
            party.subscribe(subscriber, "#", QoS::ExactlyOnce);
            let publisher = party.guest(version, "publisher", true);
            party.publish(publisher, &message("a", "x", QoS::ExactlyOnce)).expect("room");
            // The PUBREC is lost.
            party.lines[publisher].app.awake = false;
            party.drive();
            party.cut(publisher);
            party.lines[publisher].app.awake = true;
            assert!(party.come(publisher, &named(version, "publisher", true)));
            assert_eq!(answer(&party.events(publisher)), ReasonCode::Success);
            assert_eq!(party.texts(subscriber), ["x"]);
            party.cut(publisher);
            party.come(publisher, &named(version, "publisher", false));
            party.cut(publisher);
            party.cut(subscriber);
        }
    });
}

/// Cannot happen: a slow subscriber stalls the others, or the publisher.
#[test]
fn a_subscriber_that_does_not_read_stalls_nobody() {
    both!(Config { queue_messages: 4, ..Config::default() }, party => {
        party.desk.capacity = 64;
        let slow = party.guest(Version::V3_1_1, "slow", false);
        party.desk.capacity = 4_096;
        let fast = party.guest(Version::V5, "fast", false);
        let publisher = party.guest(Version::V5, "publisher", false);
        for who in [slow, fast] {
            party.subscribe(who, "#", QoS::AtLeastOnce);
        }
        party.lines[slow].wire.weather.window = 0;
        for number in 0..20 {
            party.say(publisher, "a", &format!("{number:20}"), QoS::AtLeastOnce);
            assert_eq!(answer(&party.events(publisher)), ReasonCode::Success);
            assert_eq!(party.texts(fast).len(), 1);
        }
        assert!(party.broker.statistics().dropped_overflow > 0);
        party.lines[slow].wire.weather.window = usize::MAX;
        let texts = party.texts(slow);
        assert!(texts.len() >= 5 && texts.is_sorted(), "{texts:?}");
    });
}

/// A payload that many share is in memory once.
#[test]
fn a_message_is_kept_once_for_all_who_wait() {
    both!(Config::default(), party => {
        let names = ["one", "two", "three", "four"];
        let guests = names.map(|name| {
            let who = party.guest(Version::V5, name, true);
            party.subscribe(who, "#", QoS::AtLeastOnce);
            party.cut(who);
            who
        });
        let publisher = party.guest(Version::V5, "publisher", false);
        let payload = vec![b'x'; 700];
        let sent = Publish { payload: Payload::new(&payload), ..message("a", "", QoS::AtLeastOnce) };
        party.publish(publisher, &sent).expect("room");
        party.drive();
        assert!((700..1_400).contains(&party.broker.bytes()), "{}", party.broker.bytes());
        for (who, name) in guests.into_iter().zip(names) {
            party.come(who, &named(Version::V5, name, true));
            assert_eq!(party.texts(who).len(), 1);
        }
        assert_eq!(party.broker.bytes(), 0);
    });
}

/// A client that asks for acknowledgements of its own does not lose what it has not acknowledged.
#[test]
fn what_is_not_acknowledged_comes_again() {
    both!(Config::default(), party => {
        for version in BOTH {
            let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
            let who = party.invite_with(version, Heap::new(), config);
            party.come(who, &named(version, "one", true));
            party.subscribe(who, "#", QoS::AtLeastOnce);
            party.say(who, "a", "x", QoS::AtLeastOnce);
            assert_eq!(party.texts(who), ["x"]);
            party.cut(who);
            assert!(party.come(who, &named(version, "one", true)));
            let events = party.events(who);
            assert!(matches!(events[..], [Event::Message(message)] if message.dup), "{events:?}");
            party.cut(who);
            party.come(who, &named(version, "one", false));
            party.cut(who);
        }
    });
}

/// [MQTT-3.10.4-3]
#[test]
fn what_is_on_its_way_is_delivered_after_an_unsubscription() {
    both!(Config::default(), party => {
        for version in BOTH {
            let who = party.guest(version, "one", true);
            party.subscribe(who, "a", QoS::ExactlyOnce);
            let publisher = party.guest(version, "publisher", false);
            // The PUBLISH is lost, and the UNSUBSCRIBE comes through.
            party.lines[who].app.awake = false;
            party.say(publisher, "a", "x", QoS::ExactlyOnce);
            party.cut(who);
            party.lines[who].app.awake = true;
            party.connect(who, &named(version, "one", true)).expect("a connection");
            while !party.lines[who].app.client.is_connected() {
                assert!(party.step());
            }
            let (now, filters) = (party.clock.now(), [filter("a")]);
            let unsubscribe = Unsubscribe::from(&filters);
            party.lines[who].app.command(|client, out| client.unsubscribe(now, &unsubscribe, out)).expect("room");
            assert_eq!(party.texts(who), ["x"]);
            assert_eq!(party.broker.bytes(), 0);
            party.cut(who);
            party.come(who, &named(version, "one", false));
            party.cut(who);
            party.cut(publisher);
        }
    });
}
