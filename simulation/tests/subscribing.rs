//! SUBSCRIBE and UNSUBSCRIBE, and their answers.

use mqtt_core::{
    Config, ConnAck, EncodeError, Error, Event, Filter, PacketId, Property, PublishError, QoS,
    ReasonCode, RetainHandling, SendError, SubAck, Subscribe, Subscription, UnsubAck, Unsubscribe,
    UserProperty, Version, Violation, wire::Packet,
};
use simulation::{Note, story::*};

fn filter(filter: &str) -> Filter<'_> {
    Filter::new(filter).unwrap()
}

fn wanted(name: &str) -> [Subscription<'_>; 1] {
    [Subscription::new(filter(name), QoS::AtLeastOnce)]
}

fn unsubscribe<S: mqtt_core::store::Store, E: simulation::End>(
    pair: &mut simulation::Pair<simulation::App<S>, E>,
    unsubscribe: &Unsubscribe<'_>,
) -> Result<PacketId, SendError> {
    let now = pair.clock.now();
    pair.client.command(|client, out| client.unsubscribe(now, unsubscribe, out))
}

/// [MQTT-3.8.4-2], [MQTT-3.8.4-6], [MQTT-3.9.3-1]
#[test]
fn every_filter_is_answered_in_order() {
    for version in BOTH {
        let mut pair = meet(version);
        let list = [
            Subscription::new(filter("a"), QoS::AtMostOnce),
            Subscription::new(filter("no/b"), QoS::AtMostOnce),
            Subscription::new(filter("c/+"), QoS::AtLeastOnce),
            Subscription::new(filter("d/#"), QoS::ExactlyOnce),
        ];
        let id = pair.subscribe(&Subscribe::from(&list)).unwrap();
        let Event::Subscribed(answered, ack) = pair.event() else { panic!() };
        assert_eq!(answered, id);
        // Before 5.0 a failure has no reason: 0x80.
        let failed =
            if version.is_v5() { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError };
        let granted =
            [ReasonCode::Success, failed, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2];
        assert!(ack.reasons.iter().eq(granted));
        pair.server.publish(&Note::new("d/e", "x", QoS::ExactlyOnce));
        assert!(matches!(pair.event(), Event::Message(_)));
    }
}

#[test]
fn options_and_properties_reach_the_server() {
    let mut pair = talk(Version::V5);
    let list = [Subscription {
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
        ..Subscription::new(filter("a/+"), QoS::ExactlyOnce)
    }];
    let properties = [
        Property::SubscriptionIdentifier(17),
        Property::UserProperty(UserProperty::new("k", "v").unwrap()),
    ];
    let subscribe = Subscribe { subscriptions: (&list).into(), properties: (&properties).into() };
    let id = pair.subscribe(&subscribe).unwrap();
    pair.drive();
    assert_eq!(pair.server.packet(), Packet::Subscribe(id, subscribe));
    let filters = [filter("a/+")];
    let unwanted =
        Unsubscribe { filters: (&filters).into(), properties: (&properties[1..]).into() };
    let id = unsubscribe(&mut pair, &unwanted).unwrap();
    pair.drive();
    assert_eq!(pair.server.packet(), Packet::Unsubscribe(id, unwanted));
}

/// [MQTT-3.3.4-3], [MQTT-3.3.4-4]
#[test]
fn messages_tell_which_subscriptions_they_match() {
    let mut pair = meet(Version::V5);
    for (name, number) in [("a/#", 7), ("a/b", 8)] {
        let list = wanted(name);
        let properties = [Property::SubscriptionIdentifier(number)];
        let subscriptions = (&list).into();
        let subscribe = Subscribe { subscriptions, properties: (&properties).into() };
        pair.subscribe(&subscribe).unwrap();
        assert!(matches!(pair.event(), Event::Subscribed(..)));
    }
    pair.server.publish(&Note::new("a/b", "x", QoS::AtMostOnce));
    let Event::Message(message) = pair.event() else { panic!() };
    let identifiers = [7, 8].map(Property::SubscriptionIdentifier);
    assert!(message.properties.iter().eq(identifiers));
}

/// [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.11.3-1]
#[test]
fn unsubscribing_is_answered_too() {
    for version in BOTH {
        let mut pair = meet(version);
        subscribe_to_all(&mut pair);
        let filters = [filter("#"), filter("never/wanted")];
        let id = unsubscribe(&mut pair, &Unsubscribe::from(&filters)).unwrap();
        let Event::Unsubscribed(answered, ack) = pair.event() else { panic!() };
        assert_eq!(answered, id);
        if version.is_v5() {
            let reasons = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
            assert!(ack.reasons.iter().eq(reasons));
        }
        assert_eq!(pair.server.publish(&Note::new("a", "x", QoS::AtMostOnce)), 0);
    }
}

#[test]
fn what_the_server_does_not_support_is_refused() {
    let everything = ConnAck::default();
    let (wild, shared, plain) = (wanted("a/+"), wanted("$share/group/a"), wanted("a"));
    let identifier = [Property::SubscriptionIdentifier(1)];
    let cases = [
        (
            ConnAck { wildcard_subscription_available: false, ..everything },
            Subscribe::from(&wild),
            ReasonCode::WildcardSubscriptionsNotSupported,
        ),
        (
            ConnAck { shared_subscription_available: false, ..everything },
            Subscribe::from(&shared),
            ReasonCode::SharedSubscriptionsNotSupported,
        ),
        (
            ConnAck { subscription_identifier_available: false, ..everything },
            Subscribe { properties: (&identifier).into(), ..Subscribe::from(&plain) },
            ReasonCode::SubscriptionIdentifiersNotSupported,
        ),
    ];
    for (terms, subscribe, reason) in cases {
        let (version, config) = (Version::V5, Config::default());
        let connect = persistent(version);
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        assert_eq!(pair.subscribe(&subscribe), Err(SendError::Unsupported(reason)));
        assert!(pair.subscribe(&Subscribe::from(&wanted("a"))).is_ok());
        // What is not supported now may be on the next connection.
        pair.cut();
        pair.server.greeting = Some(ConnAck::default());
        pair.connect(&connect).unwrap();
        assert!(matches!(pair.event(), Event::Connected(_)));
        assert!(pair.subscribe(&subscribe).is_ok());
    }
}

/// [MQTT-3.8.3-2], [MQTT-3.8.3-4], [MQTT-3.10.3-2]
#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let no_local = Subscription { no_local: true, ..wanted("$share/group/a")[0] };
    let no_local_3 = Subscription { no_local: true, ..wanted("a")[0] };
    let identifier = [Property::SubscriptionIdentifier(1)];
    let zero = [Property::SubscriptionIdentifier(0)];
    let expiry = [Property::MessageExpiryInterval(1)];
    let plain = wanted("a");
    let with = |properties| Subscribe { properties, ..Subscribe::from(&plain) };
    let lists = ([no_local], [no_local_3]);
    let bad = [
        (Version::V5, Subscribe::from(&[]), EncodeError::Empty),
        (Version::V3_1_1, Subscribe::from(&[]), EncodeError::Empty),
        (Version::V5, Subscribe::from(&lists.0), EncodeError::SharedNoLocal),
        (Version::V3_1_1, Subscribe::from(&lists.1), EncodeError::Version),
        (Version::V3_1_1, with((&identifier).into()), EncodeError::Version),
        (Version::V5, with((&zero).into()), EncodeError::Property),
        (Version::V5, with((&expiry).into()), EncodeError::Property),
    ];
    for (version, subscribe, error) in bad {
        let mut pair = talk(version);
        assert_eq!(pair.subscribe(&subscribe), Err(SendError::Invalid(error)));
        let empty = unsubscribe(&mut pair, &Unsubscribe::from(&[]));
        assert_eq!(empty, Err(SendError::Invalid(EncodeError::Empty)));
        let id = pair.subscribe(&Subscribe::from(&wanted("a"))).unwrap();
        pair.drive();
        assert!(matches!(pair.server.packet(), Packet::Subscribe(sent, _) if sent == id));
    }
}

/// [MQTT-2.2.1-6], [MQTT-3.8.4-6]
#[test]
fn wrong_answers_are_violations() {
    let (id, other) = (PacketId::FIRST, PacketId::new(2).unwrap());
    let one = &[ReasonCode::Success][..];
    let sub_ack = |id, reasons: &'static [ReasonCode]| {
        Packet::SubAck(id, SubAck { reasons: reasons.into(), ..SubAck::default() })
    };
    let two = &[ReasonCode::Success, ReasonCode::Success][..];
    for version in BOTH {
        let reasons = if version.is_v5() { one.into() } else { Default::default() };
        let unsub_ack = |id| Packet::UnsubAck(id, UnsubAck { reasons, ..UnsubAck::default() });
        let wrong = [
            (sub_ack(other, one), Violation::WrongAcknowledgement),
            (sub_ack(id, two), Violation::ReasonCount),
            (unsub_ack(id), Violation::WrongAcknowledgement),
            (Packet::PubAck(id, Default::default()), Violation::WrongAcknowledgement),
            (Packet::PubRec(id, Default::default()), Violation::WrongAcknowledgement),
            (Packet::PubComp(id, Default::default()), Violation::WrongAcknowledgement),
        ];
        for (answer, violation) in wrong {
            let mut pair = talk(version);
            pair.subscribe(&Subscribe::from(&wanted("a"))).unwrap();
            pair.drive();
            pair.server.send(&answer);
            assert_eq!(pair.error(), Error::Protocol(violation), "{answer:?}");
        }
        let mut pair = talk(version);
        unsubscribe(&mut pair, &Unsubscribe::from(&[filter("a")])).unwrap();
        pair.drive();
        pair.server.send(&unsub_ack(other));
        assert_eq!(pair.error(), Error::Protocol(Violation::WrongAcknowledgement));
    }
}

/// The number of requests is bounded, and all identifiers differ [MQTT-2.2.1-3].
#[test]
fn requests_are_bounded_and_end_with_the_connection() {
    for version in BOTH {
        let mut pair = talk(version);
        for _ in 0..2 {
            let mut ids =
                vec![pair.publish(&message("a", "b", QoS::AtLeastOnce)).unwrap().unwrap()];
            let error = loop {
                let filters = [filter("a")];
                let result = match ids.len() % 2 {
                    0 => pair.subscribe(&Subscribe::from(&wanted("a"))),
                    _ => unsubscribe(&mut pair, &Unsubscribe::from(&filters)),
                };
                match result {
                    Ok(id) => ids.push(id),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, SendError::InFlightFull);
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count);
            pair.drive();
            pair.cut();
            pair.connect(&persistent(version)).unwrap();
            assert!(matches!(pair.event(), Event::Connected(_)));
        }
        // A publish needs no place among the requests.
        assert_ne!(
            pair.publish(&message("a", "b", QoS::AtLeastOnce)),
            Err(PublishError::InFlightFull)
        );
    }
}

/// A request is a small packet, yet it waits for room, and leaves some.
#[test]
fn requests_wait_for_room() {
    for version in BOTH {
        let mut pair = talk(version);
        pair.client.out.capacity = 40;
        let long = "a/filter/of/more/than/forty/bytes/all/in/all";
        let too_large = pair.subscribe(&Subscribe::from(&wanted(long)));
        assert_eq!(too_large, Err(SendError::TooLarge));
        let filters = [filter(long)];
        let too_large = unsubscribe(&mut pair, &Unsubscribe::from(&filters));
        assert_eq!(too_large, Err(SendError::TooLarge));
        let mut waits = 0;
        for _ in 0..6 {
            while pair.subscribe(&Subscribe::from(&wanted("a"))) == Err(SendError::NoRoom) {
                waits += 1;
                assert!(pair.step());
            }
        }
        assert!(waits > 0);
    }
}
