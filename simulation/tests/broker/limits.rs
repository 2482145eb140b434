//! Limits of the broker and of its clients.

use super::*;

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]: too large for one is dropped for it alone.
#[test]
fn a_message_too_large_for_a_subscriber_is_dropped_for_it_alone() {
    both!(Config::default(), party => {
        let small = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        let connect = Connect { maximum_packet_size: Some(30), ..named(Version::V5, "small", true) };
        party.come(small, &connect);
        let large = party.guest(Version::V5, "large", false);
        let publisher = party.guest(Version::V5, "publisher", false);
        for who in [small, large] {
            party.subscribe(who, "#", QoS::AtLeastOnce);
        }
        for qos in ALL {
            for text in ["this is much too long for it", "short"] {
                party.say(publisher, "a", text, qos);
            }
            assert_eq!(party.texts(small), ["short"]);
            assert_eq!(party.texts(large).len(), 2);
        }
        assert_eq!(party.broker.statistics().dropped_too_large, 3);
        assert_eq!(party.broker.bytes(), 0, "as if it had been delivered");
    });
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
fn no_more_than_receive_maximum_are_on_their_way() {
    both!(Config::default(), party => {
        let config = ClientConfig { acknowledgement: Acknowledgement::Manual, ..ClientConfig::default() };
        let who = party.invite_with(Version::V5, Heap::new(), config);
        party.come(who, &Connect { receive_maximum: 2, ..named(Version::V5, "one", false) });
        party.subscribe(who, "#", QoS::AtLeastOnce);
        let publisher = party.guest(Version::V5, "publisher", false);
        for number in 0..5 {
            party.say(publisher, "a", &number.to_string(), QoS::AtLeastOnce);
        }
        party.say(publisher, "a", "at once", QoS::AtMostOnce);
        let mut texts = Vec::new();
        let mut held = std::collections::VecDeque::new();
        loop {
            for event in party.events(who) {
                let Event::Message(message) = event else { panic!("{event:?}") };
                texts.push(String::from_utf8_lossy(message.payload).into_owned());
                held.extend(message.receipt);
            }
            assert!(held.len() <= 2);
            let Some(receipt) = held.pop_front() else { break };
            let (now, success) = (party.clock.now(), ReasonCode::Success);
            party.lines[who].app.call(|client, out| client.acknowledge(now, receipt, success, out)).expect("room");
        }
        assert_eq!(texts, ["0", "1", "at once", "2", "3", "4"]);
    });
}

/// A named policy for what waits: count and bytes.
#[test]
fn what_waits_is_bounded_by_a_policy() {
    let policies =
        [(Overflow::DropNewest, ["0", "1", "2"]), (Overflow::DropOldest, ["7", "8", "9"])];
    for (overflow, expected) in policies {
        both!(Config { queue_messages: 3, overflow, ..Config::default() }, party => {
            let who = party.guest(Version::V3_1_1, "one", true);
            party.subscribe(who, "#", QoS::AtLeastOnce);
            party.cut(who);
            let publisher = party.guest(Version::V5, "publisher", false);
            for number in 0..10 {
                party.say(publisher, "a", &number.to_string(), QoS::AtLeastOnce);
                assert_eq!(answer(&party.events(publisher)), ReasonCode::Success, "it is taken");
            }
            assert_eq!(party.broker.statistics().dropped_overflow, 7);
            party.come(who, &named(Version::V3_1_1, "one", true));
            assert_eq!(party.texts(who), expected);
            assert_eq!(party.broker.bytes(), 0);
        });
    }
    both!(Config { queue_bytes: 1_000, ..Config::default() }, party => {
        let who = party.guest(Version::V5, "one", true);
        party.subscribe(who, "#", QoS::AtLeastOnce);
        party.cut(who);
        let text = "x".repeat(400);
        for _ in 0..5 {
            let publisher = party.guest(Version::V5, "publisher", false);
            party.say(publisher, "a", &text, QoS::AtLeastOnce);
            party.cut(publisher);
        }
        assert!(party.broker.bytes() <= 1_000);
        party.come(who, &named(Version::V5, "one", true));
        assert!((1..=2).contains(&party.texts(who).len()));
    });
}

/// Everything is told: [MQTT-3.2.2-22], Maximum Packet Size, Receive Maximum, Response Information.
#[test]
fn the_terms_are_told() {
    let config = Config {
        maximum_packet_size: 1_000,
        receive_maximum: 7,
        keep_alive_maximum: 30,
        response_information: Some(Text::new("answers/").expect("text")),
        ..Config::default()
    };
    both!(config, party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        for (keep_alive, told) in [(0, Some(30)), (60, Some(30)), (20, None)] {
            let connect = Connect { keep_alive, request_response_information: true, ..named(Version::V5, "one", false) };
            party.connect(who, &connect).expect("a connection");
            let events = party.events(who);
            let [Event::Connected(ack)] = events[..] else { panic!("{events:?}") };
            assert_eq!((ack.maximum_packet_size, ack.receive_maximum), (Some(1_000), 7));
            assert_eq!(ack.server_keep_alive, told);
            assert_eq!(ack.response_information, config.response_information);
            party.cut(who);
        }
    });
}

/// More filters than there is room for are refused one by one.
#[test]
fn subscriptions_are_bounded() {
    let mut party = Party::<Pocket>::new(Config::default());
    let who = party.guest(Version::V5, "one", false);
    let names: Vec<_> = (0..33).map(|number| format!("a/{number}")).collect();
    let list: Vec<_> =
        names.iter().map(|name| Subscription::new(filter(name), QoS::AtMostOnce)).collect();
    let subscribe =
        Subscribe { subscriptions: List::from(&list[..]), properties: Properties::EMPTY };
    party.ask(who, &subscribe).expect("room");
    let events = party.events(who);
    let [Event::Subscribed(_, ack)] = events[..] else { panic!("{events:?}") };
    let refused: Vec<_> = ack.reasons.iter().filter(|reason| reason.is_error()).collect();
    assert_eq!(refused, [ReasonCode::QuotaExceeded]);
}

/// Cannot happen: memory that runs out breaks anything.
#[test]
fn no_memory_for_a_message_drops_it() {
    let mut party = Party::<Pocket>::new(Config::default());
    let who = party.guest(Version::V5, "one", true);
    party.subscribe(who, "#", QoS::AtLeastOnce);
    party.cut(who);
    let publisher = party.guest(Version::V5, "publisher", false);
    let text = "x".repeat(1_000);
    for _ in 0..40 {
        party.say(publisher, "a", &text, QoS::AtLeastOnce);
        assert_eq!(answer(&party.events(publisher)), ReasonCode::Success);
    }
    assert!(party.broker.statistics().dropped_overflow > 0);
    party.come(who, &named(Version::V5, "one", true));
    assert!(party.texts(who).len() > 20);
    assert_eq!(party.broker.bytes(), 0);
}

/// [MQTT-3.1.2-28]: only if it is asked for.
#[test]
fn response_information_is_for_those_who_ask() {
    let information = Text::new("answers/").expect("text");
    both!(Config { response_information: Some(information), ..Config::default() }, party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        for request_response_information in [false, true] {
            let connect = Connect { request_response_information, ..named(Version::V5, "one", false) };
            party.connect(who, &connect).expect("a connection");
            let events = party.events(who);
            let [Event::Connected(ack)] = events[..] else { panic!("{events:?}") };
            let told = request_response_information.then_some(information);
            assert_eq!(ack.response_information, told);
            party.cut(who);
        }
    });
}

/// As small as promised: eight clients, 32 subscriptions, 16 retained messages, packets of 1 KB.
#[test]
fn the_small_broker_is_one_constant_value() {
    const SMALL: mqtt_core::broker::Broker<Pocket> =
        mqtt_core::broker::Broker::small(Config::DEFAULT);
    assert!(size_of_val(&SMALL) <= 64 * 1024, "{}", size_of_val(&SMALL));
}
