//! What went wrong once.

use super::*;

/// A message that cannot be retained is not lost for those who subscribe now.
#[test]
fn what_cannot_be_retained_is_delivered() {
    both!(Config { retained_messages: 0, ..Config::default() }, party => {
        let subscriber = party.guest(Version::V5, "subscriber", false);
        party.subscribe(subscriber, "#", QoS::AtLeastOnce);
        for (version, qos, count) in [
            (Version::V3_1_1, QoS::AtLeastOnce, 1),
            (Version::V5, QoS::AtMostOnce, 1),
            (Version::V5, QoS::AtLeastOnce, 0), // refused, and told so
        ] {
            let publisher = party.guest(version, "publisher", false);
            party.publish(publisher, &Publish { retain: true, ..message("a", "x", qos) }).expect("room");
            assert_eq!(party.texts(subscriber).len(), count, "{version:?} {qos:?}");
            party.cut(publisher);
        }
        assert_eq!(party.broker.statistics().not_retained, 3);
    });
}

/// A message that could never wait takes nothing else's place.
#[test]
fn a_message_larger_than_the_queue_drops_itself_alone() {
    let config = Config { queue_bytes: 300, overflow: Overflow::DropOldest, ..Config::default() };
    both!(config, party => {
        let who = party.guest(Version::V5, "one", true);
        party.subscribe(who, "#", QoS::AtLeastOnce);
        party.cut(who);
        let publisher = party.guest(Version::V5, "publisher", false);
        party.say(publisher, "a", "small", QoS::AtLeastOnce);
        party.say(publisher, "a", &"x".repeat(400), QoS::AtLeastOnce);
        party.come(who, &named(Version::V5, "one", true));
        assert_eq!(party.texts(who), ["small"]);
    });
}

/// [MQTT-4.6.0-5]: a retained message that waits for room does not come after a newer one.
#[test]
fn what_was_retained_comes_before_what_is_newer() {
    both!(Config::default(), party => {
        let publisher = party.guest(Version::V5, "publisher", false);
        let old = "o".repeat(150);
        let sent = Publish { retain: true, ..message("a", &old, QoS::AtMostOnce) };
        party.publish(publisher, &sent).expect("room");
        party.drive();
        party.desk.capacity = 250;
        let now = party.clock.now();
        let late = party.broker.open(now).expect("room");
        party.desk.begin(late);
        let mut input: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01l\x82\x06\0\x01\0\x01b\0";
        party.broker.poll(now, late, &mut input, &mut party.desk).expect("a connection");
        party.say(publisher, "b", &"b".repeat(100), QoS::AtMostOnce);
        let mut input: &[u8] = b"\x82\x06\0\x02\0\x01a\0";
        party.broker.poll(now, late, &mut input, &mut party.desk).expect("a connection");
        // There is room for this, but not for what is before it.
        party.say(publisher, "a", "new", QoS::AtMostOnce);
        let sink = &mut party.desk.sinks[late.index()];
        assert!(sink.as_bytes().len() < 130);
        sink.clear();
        party.broker.poll(now, late, &mut &[][..], &mut party.desk).expect("a connection");
        let written = party.desk.sinks[late.index()].as_bytes();
        assert!(written.starts_with(b"\x31\x99\x01\0\x01aooo") && written.ends_with(b"\0\x01anew"));
        party.desk.sinks[late.index()].clear();
        party.broker.closed(now, late, &mut party.desk);
    });
}

/// Two groups of one topic have their turns each for itself.
#[test]
fn each_group_has_its_own_turns() {
    both!(Config::default(), party => {
        let mut members = Vec::new();
        for (group, name) in [("a", "one"), ("a", "two"), ("b", "three"), ("b", "four")] {
            let who = party.guest(Version::V5, name, false);
            party.subscribe(who, &format!("$share/{group}/jobs"), QoS::AtMostOnce);
            members.push(who);
        }
        let publisher = party.guest(Version::V5, "publisher", false);
        for _ in 0..10 {
            party.say(publisher, "jobs", "x", QoS::AtMostOnce);
        }
        for who in members {
            assert_eq!(party.texts(who).len(), 5);
        }
    });
}

/// [MQTT-4.3.3-7]: a message whose delivery has begun does not expire.
#[test]
fn a_message_that_was_sent_does_not_expire() {
    both!(Config::default(), party => {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let who = party.guest(Version::V5, "one", true);
            party.subscribe(who, "#", qos);
            let list = [Property::MessageExpiryInterval(2)];
            let sent = Publish { properties: Properties::from(&list), ..message("a", "x", qos) };
            let publisher = party.guest(Version::V5, "publisher", false);
            party.lines[who].app.awake = false; // it is lost on its way
            party.publish(publisher, &sent).expect("room");
            party.drive();
            party.cut(who);
            party.lines[who].app.awake = true;
            party.run(5_000);
            party.come(who, &named(Version::V5, "one", true));
            assert_eq!(party.texts(who), ["x"], "{qos:?}");
            assert_eq!(party.broker.bytes(), 0);
            party.cut(who);
            party.cut(publisher);
        }
    });
}

/// [MQTT-3.8.3-3] [MQTT-3.3.4-3]: the identifier of a subscription that is not for it goes with no
/// message.
#[test]
fn a_no_local_subscription_does_not_lend_its_identifier() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        for (name, no_local, identifier) in [("a", true, 1), ("+", false, 2), ("#", false, 3)] {
            let list = [Subscription { no_local, ..Subscription::new(filter(name), QoS::AtMostOnce) }];
            let properties = [Property::SubscriptionIdentifier(identifier)];
            let properties = Properties::from(&properties);
            party.ask(who, &Subscribe { properties, ..Subscribe::from(&list) }).expect("room");
        }
        party.events(who);
        party.say(who, "a", "x", QoS::AtMostOnce);
        let events = party.events(who);
        let [Event::Message(message)] = events[..] else { panic!("{events:?}") };
        let mut identifiers: Vec<_> = message.properties.iter().collect();
        identifiers.sort_by_key(|property| format!("{property:?}"));
        let expected = [2, 3].map(Property::SubscriptionIdentifier);
        assert_eq!(identifiers, expected);
    });
}

/// A client that takes 65,535 at once is sent no more than the broker means to keep for it.
#[test]
fn what_is_on_its_way_is_bounded() {
    both!(Config { in_flight: 3, queue_messages: 2, ..Config::default() }, party => {
        let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
        let who = party.invite_with(Version::V5, Heap::new(), config);
        party.come(who, &named(Version::V5, "one", false));
        party.subscribe(who, "#", QoS::AtLeastOnce);
        let publisher = party.guest(Version::V5, "publisher", false);
        for number in 0..9 {
            party.say(publisher, "a", &number.to_string(), QoS::AtLeastOnce);
        }
        assert_eq!(party.texts(who), ["0", "1", "2"]);
        assert_eq!(party.broker.statistics().dropped_overflow, 4);
    });
}

/// [MQTT-3.10.4-4] [MQTT-3.11.3-1] [MQTT-3.11.3-2]: of however many filters, each is told what became of it.
#[test]
fn each_of_many_filters_is_told_whether_it_was_there() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        for name in ["f/3", "f/290", "f/299"] {
            party.subscribe(who, name, QoS::AtMostOnce);
        }
        let names: Vec<_> = (0..300).map(|number| format!("f/{number}")).collect();
        let filters: Vec<_> = names.iter().map(|name| filter(name)).chain([filter("f/299")]).collect();
        let unsubscribe = Unsubscribe { filters: List::from(&filters[..]), properties: Properties::EMPTY };
        let now = party.clock.now();
        party.lines[who].app.call(|client, out| client.unsubscribe(now, &unsubscribe, out)).expect("room");
        let events = party.events(who);
        let [Event::Unsubscribed(_, ack)] = events[..] else { panic!("{events:?}") };
        let were_there = ack.reasons.iter().enumerate().filter(|(_, reason)| *reason == ReasonCode::Success);
        assert_eq!(were_there.map(|(index, _)| index).collect::<Vec<_>>(), [3, 290, 299]);
        assert_eq!((ack.reasons.iter().count(), party.broker.subscription_count()), (301, 0));
    });
}

/// [MQTT-3.1.3-9]: a client that is refused has not come back: its will is not forgotten, and whoever has
/// its session keeps it.
#[test]
fn a_client_that_is_refused_changes_nothing() {
    both!(Config::default(), party => {
        let heir = party.guest(Version::V5, "heir", false);
        party.subscribe(heir, "wills/#", QoS::AtMostOnce);
        // What may be kept of wills and retained messages is taken.
        let now = party.clock.now();
        let text = "x".repeat(3_000);
        for number in 0..400 {
            let name = format!("r/{number}");
            let kept = Publish { retain: true, ..message(&name, &text, QoS::AtMostOnce) };
            party.broker.publish(now, &kept, &mut party.desk);
        }
        let delays = [Property::WillDelayInterval(10)];
        let payload = vec![b'x'; 5_000];
        let will = |payload| Will { topic: topic("wills/one"), payload, properties: (&delays).into(), ..Will::default() };
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(who, &Connect { will: Some(will(b"gone")), ..named(Version::V5, "one", true) });
        let other = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        for cut in [false, true] {
            if cut {
                party.cut(who);
            }
            party.connect(other, &Connect { will: Some(will(&payload)), ..named(Version::V5, "one", true) }).expect("a connection");
            let events = party.events(other);
            assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == ReasonCode::QuotaExceeded), "{events:?}");
            party.cut(other);
            assert_eq!(party.lines[who].connection.is_some(), !cut);
        }
        party.run(11_000);
        assert_eq!(party.texts(heir), ["gone"]);
    });
}

/// Cannot happen: what a client asks for again and again is looked for each time, in all that is retained.
#[test]
fn what_is_far_away_is_looked_for_by_the_clock() {
    let mut party = Party::<Large>::new(Config::default());
    party.broker = Broker::large(Config::default(), 64 << 20, 7, RouterLimits::default());
    let now = party.clock.now();
    for number in 0..25_000 {
        let name = format!("{}/{number}", if number == 24_999 { "wanted" } else { "other" });
        let kept = Publish { retain: true, ..message(&name, "x", QoS::AtMostOnce) };
        party.broker.publish(now, &kept, &mut party.desk);
    }
    let who = party.guest(Version::V5, "one", false);
    party.subscribe(who, "wanted/+", QoS::AtMostOnce);
    for _ in 0..10 {
        party.say(who, "ping", "x", QoS::AtMostOnce);
    }
    assert_eq!(party.texts(who), [""; 0], "nobody waits while it is looked for");
    party.run(300);
    assert_eq!(party.texts(who), ["x"]);
}
