//! What the host is told, what it can ask, and what it says itself.

use super::*;

/// What the host has been told since it was asked last.
fn told<M: Kind>(party: &mut Party<M>) -> Vec<String> {
    party.drive();
    party.desk.notices.replace(Vec::new()).unwrap_or_default()
}

#[test]
fn the_host_is_told_who_comes_and_goes() {
    both!(Config::default(), party => {
        party.desk.notices = Some(Vec::new());
        let one = party.guest(Version::V5, "one", true);
        assert_eq!(told(&mut party), ["one connected false false"]);
        party.subscribe(one, "a/+", QoS::AtLeastOnce);
        party.subscribe(one, "b", QoS::ExactlyOnce);
        assert_eq!(told(&mut party), ["one subscribed a/+ 1", "one subscribed b 2"]);
        let now = party.clock.now();
        let list = [filter("b"), filter("never")];
        let leave = Unsubscribe::from(&list);
        party.lines[one].app.command(|client, out| client.unsubscribe(now, &leave, out)).expect("room");
        assert_eq!(told(&mut party), ["one unsubscribed b"]);
        party.cut(one);
        assert_eq!(told(&mut party), ["one Lost"]);
        let other = party.guest(Version::V5, "one", true);
        assert_eq!(told(&mut party), ["one connected false true"]);
        let third = party.guest(Version::V5, "one", false);
        assert_eq!(told(&mut party), ["one TakenOver", "one ended", "one connected true false"]);
        party.lines[third].app.command(|client, out| client.disconnect(now, &Disconnect::default(), out)).expect("room");
        assert_eq!(told(&mut party), ["one Left(Success)", "one ended"]);
        party.desk.ask = |_| Verdict::Deny(ReasonCode::Banned);
        party.connect(other, &named(Version::V5, "one", false)).expect("a connection");
        assert_eq!(told(&mut party), ["Banned"]);
    });
}

#[test]
fn the_host_is_told_of_time_that_is_over() {
    both!(Config::default(), party => {
        party.desk.notices = Some(Vec::new());
        let one = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        party.come(one, &Connect { keep_alive: 10, ..named(Version::V5, "one", true) });
        party.abandon(one);
        party.run(15_200);
        assert_eq!(told(&mut party)[1..], ["one Error(KeepAliveTimeout)"]);
        party.run(3_600_000);
        assert_eq!(told(&mut party), ["one ended"]);
        assert_eq!(party.broker.statistics().sessions_expired, 1);
    });
}

#[test]
fn the_host_is_told_who_is_behind() {
    both!(Config::default(), party => {
        let [speaks, hears] = ["speaks", "hears"].map(|name| party.guest(Version::V5, name, true));
        party.subscribe(hears, "a", QoS::AtLeastOnce);
        party.desk.notices = Some(Vec::new());
        party.abandon(hears); // it takes 32 or 100 messages, and acknowledges none
        let mut waiting = 0;
        for _ in 0..110 {
            party.say(speaks, "a", "x", QoS::AtLeastOnce);
            waiting = party.broker.session(b"hears").expect("a session").waiting;
            let expected = if waiting > 0 { vec![format!("{waiting} behind")] } else { Vec::new() };
            assert_eq!(told(&mut party), expected);
        }
        assert!(waiting > 0, "nobody is behind");
    });
}

#[test]
fn the_host_publishes() {
    both!(Config { retained_messages: 1, ..Config::default() }, party => {
        let hears = party.guest(Version::V5, "hears", false);
        party.subscribe(hears, "#", QoS::AtLeastOnce);
        party.subscribe(hears, "$SYS/#", QoS::AtMostOnce);
        let now = party.clock.now();
        let mut say = |topic, retain| {
            let message = Publish { retain, ..message(topic, "hello", QoS::ExactlyOnce) };
            party.broker.publish(now, &message, &mut party.desk)
        };
        assert_eq!(say("a", false), ReasonCode::Success);
        assert_eq!(say("$other", false), ReasonCode::NoMatchingSubscribers);
        assert_eq!(say("$SYS/load", true), ReasonCode::Success);
        assert_eq!(say("b", true), ReasonCode::QuotaExceeded);
        assert_eq!(say("c\u{1}", false), ReasonCode::TopicNameInvalid);
        let heard = party.heard(hears);
        let brief: Vec<_> = heard.iter().map(|(topic, _, qos, retain)| (&topic[..], *qos, *retain)).collect();
        assert_eq!(brief, [("a", QoS::AtLeastOnce, false), ("$SYS/load", QoS::AtMostOnce, false)]);
        assert_eq!(party.broker.statistics().received, 0);
        party.say(hears, "$SYS/load", "mine", QoS::AtLeastOnce);
        assert_eq!(answer(&party.events(hears)), ReasonCode::TopicNameInvalid);
        assert_eq!(party.texts(hears), [""; 0]);
        let kept = party.broker.retained_message(now, topic("$SYS/load")).expect("a message");
        assert_eq!((kept.payload.as_bytes(), kept.qos), (&b"hello"[..], QoS::ExactlyOnce));
        assert!(party.broker.next_retained_message(now, 0).is_some_and(|(place, _)| party.broker.next_retained_message(now, place + 1).is_none()));
    });
}

#[test]
fn a_publish_that_is_dropped_looks_like_one_that_nobody_wants() {
    both!(Config::default(), party => {
        let who = party.guest(Version::V5, "one", false);
        party.subscribe(who, "#", QoS::AtMostOnce);
        party.desk.ask = |_| Verdict::Deny(ReasonCode::NoMatchingSubscribers);
        party.say(who, "a", "x", QoS::AtLeastOnce);
        assert_eq!(answer(&party.events(who)), ReasonCode::NoMatchingSubscribers);
        assert_eq!(party.broker.statistics().received, 0);
    });
}

#[test]
fn the_host_looks_around() {
    both!(Config::default(), party => {
        let one = party.guest(Version::V5, "one", true);
        party.guest(Version::V3_1_1, "two", true);
        party.subscribe(one, "a/+", QoS::AtLeastOnce);
        party.subscribe(one, "$share/us/b", QoS::AtMostOnce);
        let broker = &party.broker;
        let client = broker.session(b"one").expect("a session");
        assert_eq!(Some(client), broker.client(client.connection.expect("a connection")));
        assert_eq!((client.version, client.session_expiry_interval), (Version::V5, 3_600));
        let mut filters: Vec<_> = broker.subscriptions(b"one").map(|(filter, options)| (filter.as_str(), options.qos)).collect();
        filters.sort();
        assert_eq!(filters, [("$share/us/b", QoS::AtMostOnce), ("a/+", QoS::AtLeastOnce)]);
        assert_eq!(broker.subscriptions(b"nobody").count(), 0);
        assert_eq!((broker.subscription_count(), broker.shared_subscription_count()), (2, 1));
        let (mut names, mut next) = (Vec::new(), 0);
        while let Some((place, client)) = broker.next_session(next) {
            names.push(client.client_id);
            next = place + 1;
        }
        names.sort();
        assert_eq!(names, [b"one", b"two"]);
        party.cut(one);
        assert_eq!(party.broker.session(b"one").map(|client| client.connection), Some(None));
    });
}
