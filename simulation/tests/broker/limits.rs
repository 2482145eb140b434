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
        assert!(party.broker.bytes() <= 1_200);
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
        maximum_qos: QoS::AtLeastOnce,
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
            assert_eq!(ack.maximum_qos, QoS::AtLeastOnce);
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

/// A session has no more than it may, in count and in bytes of filters; what it has it may change,
/// and what it gives up makes room.
#[test]
fn subscriptions_of_one_session_are_bounded() {
    const OK: ReasonCode = ReasonCode::Success;
    const FULL: ReasonCode = ReasonCode::QuotaExceeded;
    fn asks(party: &mut Party<impl Kind>, who: usize, names: &[&str]) -> Vec<ReasonCode> {
        let list: Vec<_> =
            names.iter().map(|name| Subscription::new(filter(name), QoS::AtMostOnce)).collect();
        let subscribe =
            Subscribe { subscriptions: List::from(&list[..]), properties: Properties::EMPTY };
        party.ask(who, &subscribe).expect("room");
        match party.events(who)[..] {
            [Event::Subscribed(_, ack)] => ack.reasons.iter().collect(),
            ref other => panic!("{other:?}"),
        }
    }
    fn leave(party: &mut Party<impl Kind>, who: usize, name: &str) {
        let now = party.clock.now();
        let filters = [filter(name)];
        let unsubscribe = Unsubscribe::from(&filters);
        party.lines[who]
            .app
            .call(|client, out| client.unsubscribe(now, &unsubscribe, out))
            .expect("room");
        party.events(who);
    }
    both!(Config { subscriptions: 3, filter_bytes: 40, ..Config::default() }, party => {
        let who = party.guest(Version::V5, "one", true);
        let names = ["$share/a/#", "$share/b/#", "a", "$share/c/#", "a"];
        assert_eq!(asks(&mut party, who, &names), [OK, OK, OK, FULL, OK]);
        leave(&mut party, who, "no such thing");
        assert_eq!(asks(&mut party, who, &["b"]), [FULL]);
        leave(&mut party, who, "a");
        assert_eq!(asks(&mut party, who, &["a/name/of/21/bytes/it", "a/name/of/20/bytes/i"]), [FULL, OK]);
        party.cut(who);
        party.come(who, &named(Version::V5, "one", true));
        assert_eq!(asks(&mut party, who, &["b"]), [FULL], "they are the session's");
        let other = party.guest(Version::V3_1_1, "other", false);
        assert_eq!(asks(&mut party, other, &["a", "b", "c", "d"])[3], ReasonCode::UnspecifiedError);
    });
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
    assert!(party.texts(who).len() > 12);
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
    const SMALL: Broker<Pocket> = Broker::small(Config::DEFAULT);
    assert!(size_of_val(&SMALL) <= 64 * 1024, "{}", size_of_val(&SMALL));
}

/// [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-11]: told, granted and kept to.
#[test]
fn nobody_publishes_above_the_maximum_qos() {
    for maximum_qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        both!(Config { maximum_qos, ..Config::default() }, party => {
            let witness = party.guest(Version::V5, "witness", false);
            for version in BOTH {
                let list = ALL.map(|qos| Subscription::new(filter("a"), qos));
                let who = party.guest(version, "one", true);
                party.ask(who, &Subscribe::from(&list)).expect("room");
                let events = party.events(who);
                let [Event::Subscribed(_, ack)] = events[..] else { panic!("{events:?}") };
                let granted: Vec<_> = ack.reasons.iter().map(ReasonCode::as_u8).collect();
                assert_eq!(granted, ALL.map(|qos| qos.min(maximum_qos) as u8));
                party.say(witness, "a", "as high as may be", maximum_qos);
                assert_eq!(party.heard(who)[0].2, maximum_qos);
                party.cut(who);

                let hello = Packet::Connect(version, named(version, "intruder", true));
                let number = PacketId::new(1);
                let delivery = Delivery { packet_id: number, ..Delivery::default() };
                let publish = Packet::Publish(delivery, message("a", "too high", QoS::ExactlyOnce));
                let written = break_in(&mut party, &[hello, publish].map(|packet| bytes(version, &packet)));
                match version.is_v5() {
                    true => assert!(written.ends_with(&[0xe0, 1, 0x9b]), "{written:02x?}"),
                    false => assert_eq!(written, [0x20, 2, 0, 0]),
                }
                party.come(who, &named(version, "one", true));
                assert_eq!(party.texts(who), [""; 0], "nobody has heard it");
                party.cut(who);
            }
        });
    }
}

/// [MQTT-3.2.2-12]
#[test]
fn a_will_above_the_maximum_qos_is_refused() {
    both!(Config { maximum_qos: QoS::AtMostOnce, ..Config::default() }, party => {
        for version in BOTH {
            let will = |qos| Will { topic: topic("a"), payload: b"gone", qos, retain: false, properties: Properties::EMPTY };
            let low = Connect { will: Some(will(QoS::AtMostOnce)), ..named(version, "one", false) };
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            party.come(who, &low);
            let high = Connect { will: Some(will(QoS::AtLeastOnce)), ..named(version, "two", false) };
            let written = break_in(&mut party, &[bytes(version, &Packet::Connect(version, high))]);
            let told: &[u8] = if version.is_v5() { &[0x20, 3, 0, 0x9b, 0] } else { &[] };
            assert_eq!(written, told);
            party.cut(who);
        }
    });
}

/// [MQTT-3.2.2-17]: what is told is what is taken, the highest included.
#[test]
fn topic_aliases_are_bounded() {
    for topic_alias_maximum in [0, 3, 100] {
        both!(Config { topic_alias_maximum, ..Config::default() }, party => {
            let who = party.guest(Version::V5, "one", false);
            party.subscribe(who, "#", QoS::AtMostOnce);
            let publisher = party.guest(Version::V5, "publisher", false);
            let most = party.lines[publisher].app.client.limits().topic_alias_maximum;
            assert!([0, topic_alias_maximum].contains(&most), "{most}");
            let hello = bytes(Version::V5, &Packet::Connect(Version::V5, named(Version::V5, "two", false)));
            let publish = |alias: u16, topic: &[u8]| {
                let [high, low] = alias.to_be_bytes();
                let len = topic.len() as u8;
                [&[0x30, 7 + len, 0, len], topic, &[3, 0x23, high, low, b'x']].concat()
            };
            let mut input = vec![hello];
            if most > 0 {
                input.extend([publish(most, b"long/name"), publish(most, b"")]);
            }
            input.push(publish(most + 1, b"b"));
            let written = break_in(&mut party, &input);
            assert!(written.ends_with(&[0xe0, 1, 0x94]), "{written:02x?}");
            let heard: Vec<_> = party.heard(who).into_iter().map(|(topic, ..)| topic).collect();
            assert_eq!(heard, vec!["long/name"; if most > 0 { 2 } else { 0 }]);
        });
    }
}

/// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.10.4-6] [MQTT-3.11.3-1]: as many filters as there are in a
/// packet, each has its reason; those beyond what there is room for are refused.
#[test]
fn a_packet_has_as_many_filters_as_fit() {
    let names: Vec<_> = (0..3_000).map(|number| format!("{number}")).collect();
    let filters: Vec<_> = names.iter().map(|name| filter(name)).collect();
    let wanted: Vec<_> =
        filters.iter().map(|filter| Subscription::new(*filter, QoS::ExactlyOnce)).collect();
    let id = PacketId::FIRST;
    let subscribe = Subscribe { subscriptions: List::from(&wanted[..]), ..Subscribe::default() };
    let subscribe = Packet::Subscribe(id, subscribe);
    let unsubscribe = Unsubscribe { filters: List::from(&filters[..]), ..Unsubscribe::default() };
    let unsubscribe = Packet::Unsubscribe(id, unsubscribe);
    both!(Config { subscriptions: 3_000, ..Config::default() }, party => {
        for version in BOTH {
            let now = party.clock.now();
            let connection = party.broker.open(now).expect("room");
            party.desk.begin(connection);
            let mut granted = 0;
            for packet in [Packet::Connect(version, named(version, "one", false)), subscribe, unsubscribe] {
                let mut bytes = vec![0; packet.encoded_len(version).expect("a packet")];
                packet.encode(version, &mut &mut bytes[..]).expect("room");
                let mut input = &bytes[..];
                party.broker.poll(now, connection, &mut input, &mut party.desk).expect("an answer");
                assert_eq!(input, []);
                let sink = &mut party.desk.sinks[connection.index()];
                let Ok(Decoded::Packet { packet, len }) = Packet::decode(version, sink.as_bytes()) else { panic!() };
                assert_eq!(len, sink.as_bytes().len());
                match packet {
                    Packet::SubAck(_, ack) => {
                        let reasons: Vec<_> = ack.reasons.iter().collect();
                        assert_eq!(reasons.len(), 3_000);
                        granted = reasons.iter().filter(|reason| **reason == ReasonCode::GrantedQoS2).count();
                        let refused = if version.is_v5() { ReasonCode::QuotaExceeded } else { ReasonCode::UnspecifiedError };
                        assert!(reasons[granted..].iter().all(|reason| *reason == refused));
                        assert!([32, 3_000].contains(&granted));
                    }
                    Packet::UnsubAck(_, ack) if version.is_v5() => {
                        let gone: Vec<_> = ack.reasons.iter().map(|reason| !reason.is_error()).collect();
                        assert_eq!(gone, [true; 3_000]);
                        let first = ack.reasons.iter().take_while(|reason| *reason == ReasonCode::Success);
                        assert_eq!(first.count(), granted);
                    }
                    Packet::UnsubAck(_, ack) => assert!(ack.reasons.is_empty()),
                    _ => {}
                }
                sink.clear();
            }
            party.broker.closed(now, connection, &mut party.desk);
            assert_eq!(party.broker.sessions(), 0);
        }
    });
}

/// [MQTT-3.1.2-22]: who cannot be told of another keep alive is held to its own; so is who dribbles.
#[test]
fn a_client_is_held_to_a_keep_alive_that_it_knows() {
    both!(Config { keep_alive_maximum: 30, ..Config::default() }, party => {
        for (version, keep_alive, lasts) in [
            (Version::V5, 60, Some(45)),
            (Version::V5, 0, Some(45)),
            (Version::V3_1_1, 60, Some(90)),
            (Version::V3_1_1, 0, None),
            (Version::V3_1_1, 20, Some(30)),
        ] {
            let now = party.clock.now();
            let connection = party.broker.open(now).expect("room");
            party.desk.begin(connection);
            let connect = Connect { keep_alive, ..named(version, "one", false) };
            let connect = Packet::Connect(version, connect);
            let mut bytes = vec![0; connect.encoded_len(version).expect("a packet")];
            connect.encode(version, &mut &mut bytes[..]).expect("room");
            party.broker.poll(now, connection, &mut &bytes[..], &mut party.desk).expect("a connection");
            let dribble = [0x30; 64];
            for second in 1..120 {
                party.desk.sinks[connection.index()].clear();
                party.run(1_000);
                let is_over = party.desk.closing[connection.index()];
                assert_eq!(is_over, lasts.is_some_and(|lasts| second > lasts), "{version:?} {keep_alive} {second}");
                if is_over {
                    break;
                }
                let len = if second % 10 == 0 { second / 10 } else { 0 };
                let mut input = &dribble[..len.min(1)];
                let _ = party.broker.poll(party.clock.now(), connection, &mut input, &mut party.desk);
            }
            party.broker.closed(party.clock.now(), connection, &mut party.desk);
        }
    });
}

/// A client cannot name more topics than are kept for it.
#[test]
fn topic_aliases_are_bounded_in_bytes() {
    let mut party = Party::<Large>::new(Config { topic_alias_bytes: 1_000, ..Config::default() });
    let limits = Limits { outbound_aliases: 4, ..Limits::default() };
    let config = ClientConfig { topic_aliases: true, ..ClientConfig::default() };
    let who = party.invite_with(Version::V5, Heap::with_limits(limits), config);
    for round in ["a", "b"] {
        party.come(who, &named(Version::V5, "one", true));
        let names = [400, 500, 100].map(|len| round.repeat(len));
        for name in [&names[0], &names[1], &names[0]] {
            party.say(who, name, "x", QoS::AtMostOnce);
        }
        assert!(party.lines[who].connection.is_some(), "they are the connection's");
        party.say(who, &names[2], "x", QoS::AtMostOnce);
        party.say(who, "a", "x", QoS::AtMostOnce);
        let events = party.events(who);
        assert!(
            matches!(events[..], [Event::Disconnected(bye)] if bye.reason == ReasonCode::TopicAliasInvalid),
            "{events:?}"
        );
        party.cut(who);
    }
}

/// [MQTT-3.1.3-5]: as long as required, and as allowed.
#[test]
fn client_identifiers_are_bounded() {
    both!(Config { client_id_bytes: 30, ..Config::default() }, party => {
        for version in BOTH {
            party.guest(version, &"x".repeat(30), false);
            let who = party.invite_with(version, Heap::new(), ClientConfig::default());
            let name = "x".repeat(31);
            party.connect(who, &named(version, &name, false)).expect("a connection");
            let events = party.events(who);
            assert!(matches!(events[..], [Event::Refused(ack)] if ack.reason == ReasonCode::ClientIdentifierNotValid), "{events:?}");
            party.cut(0);
            party.lines.clear();
        }
    });
}

/// [MQTT-3.2.2-22]'s kin: who asks for more than there is, is told what there is.
#[test]
fn the_longest_session_is_told() {
    both!(Config::default(), party => {
        let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
        for (asked, told) in [(60, None), (u32::MAX, Some(604_800))] {
            let connect = Connect { session_expiry_interval: asked, ..named(Version::V5, "one", true) };
            party.connect(who, &connect).expect("a connection");
            let events = party.events(who);
            let [Event::Connected(ack)] = events[..] else { panic!("{events:?}") };
            assert_eq!(ack.session_expiry_interval, told);
            party.cut(who);
        }
    });
}

/// No will takes what others leave messages and wills in.
#[test]
fn wills_are_bounded_in_bytes() {
    both!(Config { will_bytes: 200, ..Config::default() }, party => {
        for (len, refused) in [(100, false), (200, true)] {
            let payload = vec![b'x'; len];
            let will = Will { topic: topic("will"), payload: &payload, ..Will::default() };
            let who = party.invite_with(Version::V5, Heap::new(), ClientConfig::default());
            party.connect(who, &Connect { will: Some(will), ..named(Version::V5, "one", false) }).expect("a connection");
            let events = party.events(who);
            match events[..] {
                [Event::Connected(_)] => assert!(!refused),
                [Event::Refused(ack)] => assert!(refused && ack.reason == ReasonCode::QuotaExceeded),
                _ => panic!("{events:?}"),
            }
            party.cut(who);
        }
    });
}

/// Cannot happen: sessions whose clients release nothing take memory without end; but a few messages are
/// anybody's to leave unreleased.
#[test]
fn what_is_not_released_is_bounded_for_all_together() {
    let mut party = Party::<Large>::new(Config::default()); // an eighth of 1 MiB
    let mut arrive = |version: Version, name: &str, count: u16| {
        let now = party.clock.now();
        let connection = party.broker.open(now).expect("room");
        party.desk.begin(connection);
        let mut sent = bytes(version, &Packet::Connect(version, named(version, name, true)));
        let mut answers = Vec::new();
        for number in 0..=count {
            let ended =
                party.broker.poll(now, connection, &mut &sent[..], &mut party.desk).is_err();
            let sink = &mut party.desk.sinks[connection.index()];
            if number > 0 {
                answers.push(sink.as_bytes().get(4).copied().unwrap_or(0));
            }
            sink.clear();
            if ended {
                answers.push(1);
                break;
            }
            let delivery = Delivery { packet_id: PacketId::new(number + 1), dup: false };
            sent = bytes(version, &Packet::Publish(delivery, message("a", "x", QoS::ExactlyOnce)));
        }
        party.broker.closed(now, connection, &mut party.desk);
        answers
    };
    let taken = |answers: &[u8]| answers.iter().filter(|answer| **answer == 0x10).count();
    let refused = ReasonCode::QuotaExceeded.as_u8();
    let all: Vec<_> =
        (0..8).map(|number| arrive(Version::V5, &format!("greedy {number}"), 250)).collect();
    assert_eq!(taken(&all[0]), 250);
    assert_eq!(all[7].last(), Some(&refused));
    assert_eq!(taken(&all[7]), 32);
    assert_eq!(taken(&arrive(Version::V5, "modest", 32)), 32);
    let answers = arrive(Version::V3_1_1, "greedy", 40);
    assert_eq!((answers.len(), answers.last()), (34, Some(&1)), "{answers:?}");
}
