//! Messages on their way to the streams that read them.

use std::pin::pin;

use mqtt_core::{PacketId, Properties, Property, Publish, Topic, UserProperty, wire::Packet};

use crate::support::*;

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// The answers that the server has got.
fn answers(net: &Net<Server>) -> Vec<String> {
    net.sent()
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_order_whatever_the_pieces() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a/#", ExactlyOnce).await.unwrap();
        for weather in [Weather::CALM, Weather::BYTES] {
            net.wire(|wire| wire.weather = weather);
            for qos in LEVELS {
                for number in 0..40 {
                    net.publish("a/b", number.to_string(), qos);
                }
                settle().await;
                assert_eq!(read_all(&mut messages), numbers(0..40), "{qos:?}");
            }
        }
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
        assert_eq!(client.counters().received, 240);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_message_says_besides_its_payload() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let mut all = client.listen("#").unwrap();
        let pair = UserProperty::new("name", "value").unwrap();
        let list = [
            Property::PayloadFormatIndicator(true),
            Property::MessageExpiryInterval(60),
            Property::ContentType("text".try_into().unwrap()),
            Property::ResponseTopic(Topic::new("answer").unwrap()),
            Property::CorrelationData(b"7"),
            Property::UserProperty(pair),
            Property::SubscriptionIdentifier(3),
        ];
        let properties = Properties::from(&list[..]);
        let publish = Publish { retain: true, properties, ..Publish::new(topic("a"), "1") };
        net.send(&Packet::Publish(Default::default(), publish));
        let message = all.next().await.unwrap();
        assert_eq!((&*message.topic, message.retain, message.dup), ("a", true, false));
        let expected = PublishProperties {
            payload_format_indicator: Some(true),
            message_expiry_interval: Some(60),
            content_type: Some("text".into()),
            response_topic: Some("answer".into()),
            correlation_data: Some("7".into()),
            user_properties: vec![("name".into(), "value".into())],
        };
        assert_eq!(*message.properties(), expected);
        net.send(&Packet::Publish(Default::default(), Publish::new(topic("a"), "1")));
        assert_eq!(*all.next().await.unwrap().properties(), PublishProperties::default());
    })
    .await;
}

fn topic(name: &str) -> Topic<'_> {
    Topic::new(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_every_stream_that_matches_once() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut narrow =
            client.subscribe("a/b", ExactlyOnce).and("a/+", AtLeastOnce).await.unwrap();
        let mut wide = client.subscribe("#", ExactlyOnce).await.unwrap();
        let mut rest = client.unclaimed();
        for qos in LEVELS {
            net.publish("a/b", "1", qos);
            net.publish("c", "2", qos);
        }
        settle().await;
        assert_eq!(read_all(&mut narrow), ["1"; 3]);
        assert_eq!(read_all(&mut wide).len(), 6);
        assert!(rest.try_next().is_none());
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn copies_for_overlapping_filters_are_told_apart() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let mut all = client.listen("#").unwrap();
        let mut streams = Vec::new();
        let mut identifiers = Vec::new();
        for filter in ["a/b", "a/+"] {
            let mut subscribe = pin!(client.subscribe(filter, AtLeastOnce).into_future());
            assert!(poll_once(subscribe.as_mut()).is_pending());
            settle().await;
            let Packet::Subscribe(id, asked) = net.with(|script| script.packet()) else { panic!() };
            identifiers.push(asked.properties.subscription_identifier().expect("one of its own"));
            let reasons = [ReasonCode::GrantedQoS1];
            let reasons = reasons[..].into();
            net.send(&Packet::SubAck(id, mqtt_core::SubAck { reasons, ..Default::default() }));
            streams.push(subscribe.await.unwrap());
        }
        let send = |payload: &str, identifiers: &[u32]| {
            let list: Vec<_> =
                identifiers.iter().map(|id| Property::SubscriptionIdentifier(*id)).collect();
            let properties = Properties::from(&list[..]);
            let publish = Publish { properties, ..Publish::new(topic("a/b"), payload) };
            net.send(&Packet::Publish(Default::default(), publish));
        };
        send("one each", &identifiers[..1]);
        send("one each", &identifiers[1..]);
        send("both at once", &identifiers);
        settle().await;
        for messages in &mut streams {
            assert_eq!(read_all(messages), ["one each", "both at once"]);
        }
        assert_eq!(read_all(&mut all).len(), 3, "as often as it arrives");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_is_acknowledged_when_every_stream_has_read_it() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut first = client.subscribe("a", ExactlyOnce).await.unwrap();
        let mut second = client.subscribe("+", ExactlyOnce).await.unwrap();
        net.trace();
        for qos in [AtLeastOnce, ExactlyOnce] {
            net.publish("a", "1", qos);
            first.next().await.unwrap();
            settle().await;
            assert_eq!(answers(&net), [""; 0]);
            second.next().await.unwrap();
            settle().await;
            let expected: &[&str] =
                if qos == AtLeastOnce { &["PUBACK 1"] } else { &["PUBREC 2", "PUBCOMP 2"] };
            assert_eq!(answers(&net), expected);
        }
        net.publish("a", "2", AtLeastOnce);
        first.next().await.unwrap();
        drop(second); // has read all that it wants
        settle().await;
        assert!(answers(&net).contains(&"PUBACK 3".to_string()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_replaced_by_its_topic() {
    bounded(async {
        let manners = Manners { aliases: true, ..Manners::default() };
        let (net, client) = meet_on(manners, options(Version::V5)).await;
        let mut messages = client.subscribe("a/+", AtLeastOnce).await.unwrap();
        for round in 0..3 {
            for number in 0..40 {
                net.publish(&format!("a/{number}"), "1", AtMostOnce);
            }
            for number in 0..40 {
                let message = messages.next().await.unwrap();
                assert_eq!(*message.topic, format!("a/{number}"), "round {round}");
            }
        }
        net.cut();
        settle().await;
        client.connected().await.unwrap();
        net.publish("a/7", "1", AtLeastOnce);
        assert_eq!(
            *messages.next().await.unwrap().topic,
            *"a/7",
            "aliases end with the connection"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn payloads_of_a_megabyte_come_in_pieces() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        let large: Vec<_> = (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect();
        for (piece, delay) in [(usize::MAX, 0), (50_000, 3)] {
            net.wire(|wire| wire.weather = Weather { piece, delay, window: 70_000 });
            for qos in LEVELS {
                net.publish("a", large.clone(), qos);
                assert!(messages.next().await.unwrap().payload == large, "{qos:?}");
            }
            net.publish("a", "small", AtMostOnce);
            assert_eq!(text(&messages.next().await.unwrap()), "small");
        }
        pass(60).await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_large_message_that_is_cut_comes_again() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        let large = vec![b'x'; 300_000];
        for qos in [AtLeastOnce, ExactlyOnce] {
            net.wire(|wire| wire.cut_after(Direction::Down, 200_000));
            net.publish("a", large.clone(), qos);
            assert_eq!(messages.next().await.unwrap().payload, large);
            pass(1).await;
            assert!(messages.try_next().is_none(), "once");
            assert_eq!(net.with(|server| server.undelivered()), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_packet_longer_than_agreed_ends_the_connection() {
    both(async |version| {
        let options = Options { maximum_packet_size: 1_000, ..options(version) };
        let (net, client) = talk_on(ConnAck::default(), options).await;
        let mut all = client.listen("#").unwrap();
        let payload = vec![b'x'; 1_000];
        let publish = Publish::new(topic("a"), &payload[..]);
        net.send(&Packet::Publish(Default::default(), publish));
        let cause = lost(&client).await;
        assert!(matches!(cause, ConnectionError::Protocol(_)), "{cause}");
        assert!(all.try_next().is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn short_payloads_do_not_pin_the_buffer_and_long_ones_share_it() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtMostOnce).await.unwrap();
        let mut other = client.subscribe("+", AtMostOnce).await.unwrap();
        for (len, shared) in [(4_095, false), (4_096, true)] {
            net.publish("a", vec![b'x'; len], AtMostOnce);
            net.publish("a", vec![b'y'; len], AtMostOnce);
            settle().await;
            let [x, y] = [0; 2].map(|_| messages.try_next().unwrap().payload);
            assert_eq!(other.try_next().unwrap().payload.as_ptr(), x.as_ptr(), "no copy each");
            drop(other.try_next());
            let gap = (y.as_ptr() as usize).wrapping_sub(x.as_ptr() as usize);
            assert!(!shared || gap < len + 64, "one buffer, with a header in between: {gap}");
            assert_eq!(x.is_unique(), !shared);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unread_stream_withholds_acknowledgements() {
    both(async |version| {
        let options = Options { receive_maximum: 5, ..options(version) };
        let window = if version.is_v5() { u16::MAX } else { 5 }; // a 3.1.1 server is not told
        let manners = Manners { window, ..Manners::default() };
        let (net, client) = meet_on(manners, options).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        for number in 0..20 {
            net.publish("a", number.to_string(), LEVELS[1 + number % 2]);
        }
        pass(3_600).await;
        net.trace();
        assert_eq!(messages.len(), 5, "the server holds the rest back");
        assert_eq!(net.with(|server| server.undelivered()), 20);
        let mut read = Vec::new();
        while read.len() < 20 {
            read.push(text(&messages.next().await.unwrap()));
            settle().await;
            assert!(messages.len() <= 5);
        }
        assert_eq!(read, numbers(0..20));
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unread_stream_drops_qos_0_and_says_how_many() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let limits = StreamLimits { messages: 3, bytes: 100 };
        let mut few = client.subscribe("a", ExactlyOnce).limits(limits).await.unwrap();
        let mut many = client.subscribe("+", ExactlyOnce).await.unwrap();
        for number in 0..5 {
            net.publish("a", number.to_string(), AtMostOnce);
            net.publish("a", number.to_string(), AtLeastOnce);
        }
        pass(1).await; // a reader has its moment to catch up
        assert_eq!((few.dropped(), many.dropped()), (2, 0));
        assert_eq!(client.counters().dropped, 2);
        let read = read_all(&mut few);
        let count = |number: u32| read.iter().filter(|text| **text == number.to_string()).count();
        assert_eq!([0, 1, 2, 3, 4].map(count), [2, 2, 2, 1, 1], "QoS 1 is all there");
        assert_eq!(read_all(&mut many).len(), 10);

        for len in [60, 40, 1] {
            net.publish("a", vec![b'x'; len], AtMostOnce);
        }
        pass(1).await;
        assert_eq!((few.len(), few.dropped()), (2, 3));
        read_all(&mut few);
        net.publish("a", vec![b'x'; 1_000], AtMostOnce);
        pass(1).await;
        assert_eq!(few.len(), 1, "a lone one may be longer");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unread_stream_delays_nobody_else() {
    both(async |version| {
        let options = Options { keep_alive: 10, ..options(version) };
        let (net, client) = meet_on(Manners::default(), options).await;
        let unread = client.subscribe("unread", ExactlyOnce).await.unwrap();
        let mut read = client.subscribe("read", ExactlyOnce).await.unwrap();
        for round in 0..60 {
            for qos in LEVELS {
                net.publish("unread", vec![0; 1_000], qos);
                net.publish("read", round.to_string(), qos);
                assert_eq!(text(&read.next().await.unwrap()), round.to_string());
                client.publish("other", "1").qos(qos).await.unwrap();
            }
            pass(20).await;
        }
        let counters = client.counters();
        assert_eq!(counters.connections, 1, "the server asks for signs of life");
        assert!(unread.len() > 120);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_slower_than_the_network_is_given_time() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut slow = client.subscribe("a", AtMostOnce).await.unwrap();
        for _ in 0..10_000 {
            net.publish("a", "1", AtMostOnce);
        }
        for _ in 0..10_000 {
            slow.next().await.unwrap();
            for _ in 0..10 {
                tokio::task::yield_now().await; // there are others
            }
        }
        assert_eq!(slow.dropped(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_never_read_costs_bounded_memory() {
    both(async |version| {
        let receive_maximum = 10;
        let manners = Manners { window: receive_maximum, ..Manners::default() };
        let options = Options { receive_maximum, ..options(version) };
        let (net, client) = meet_on(manners, options).await;
        let limits = StreamLimits { messages: 50, ..StreamLimits::default() };
        let unread = client.subscribe("a", ExactlyOnce).limits(limits).await.unwrap();
        for number in 0..5_000 {
            net.publish("a", "1", LEVELS[number % 3]);
            if number % 500 == 0 {
                pass(1).await;
                net.cut();
                settle().await;
                client.connected().await.unwrap();
            }
        }
        pass(1).await;
        assert!(unread.len() <= 50 + 10, "{}", unread.len());
        assert!(unread.dropped() > 1_000);
        drop(unread);
        pass(60).await;
        assert_eq!(client.counters().filters, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn acknowledged_by_hand_in_any_order() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        for qos in [AtLeastOnce, ExactlyOnce, AtMostOnce, AtLeastOnce] {
            net.publish("a", "1", qos);
        }
        net.trace();
        let mut acks = Vec::new();
        for _ in 0..4 {
            acks.push(messages.next_unacknowledged().await.unwrap().1);
        }
        settle().await;
        assert_eq!(answers(&net), [""; 0]);
        let first = acks.remove(1); // one at QoS 0 has come first
        while let Some(ack) = acks.pop() {
            ack.accept();
        }
        settle().await;
        assert_eq!(answers(&net), [""; 0], "they leave in order of arrival");
        first.accept();
        settle().await;
        assert_eq!(answers(&net), ["PUBACK 1", "PUBREC 2", "PUBACK 3", "PUBCOMP 2"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refused_by_hand() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        for qos in [AtLeastOnce, ExactlyOnce] {
            net.publish("a", "1", qos);
        }
        settle().await;
        net.trace();
        while let Some((_, ack)) =
            if messages.is_empty() { None } else { messages.next_unacknowledged().await }
        {
            ack.refuse(ReasonCode::QuotaExceeded);
        }
        settle().await;
        let expected: &[&str] = if version.is_v5() {
            &["PUBACK 1 QuotaExceeded", "PUBREC 2 QuotaExceeded"]
        } else {
            &["PUBACK 1", "PUBREC 2", "PUBCOMP 2"]
        };
        assert_eq!(answers(&net), expected);
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_is_dropped_is_not_given() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        net.publish("a", "1", AtLeastOnce);
        net.publish("a", "2", AtLeastOnce);
        drop(messages.next_unacknowledged().await.unwrap());
        messages.next().await.unwrap();
        pass(3_600).await;
        assert_eq!(net.with(|server| server.undelivered()), 2);
        net.cut();
        settle().await;
        let again = messages.next().await.unwrap();
        assert_eq!((text(&again), again.dup), ("1".to_string(), true));
        assert_eq!(text(&messages.next().await.unwrap()), "2");
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unread_messages_survive_the_connection_once() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        for number in 0..6 {
            net.publish("a", number.to_string(), LEVELS[number % 3]);
        }
        settle().await;
        for _ in 0..3 {
            net.cut();
            settle().await;
            client.connected().await.unwrap();
            settle().await;
        }
        let mut read = read_all(&mut messages);
        read.sort_unstable();
        assert_eq!(read, numbers(0..6), "each once, though sent again");
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_outlives_the_connection_at_qos_2() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        net.publish("a", "1", ExactlyOnce);
        let (_, ack) = messages.next_unacknowledged().await.unwrap();
        net.cut();
        settle().await;
        client.connected().await.unwrap();
        settle().await;
        assert!(messages.try_next().is_none(), "the program has it already");
        ack.accept();
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
        assert!(messages.try_next().is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_late_acknowledgement_at_qos_1_is_no_fault() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.publish("a", "1", AtLeastOnce);
        let (_, stale) = messages.next_unacknowledged().await.unwrap();
        net.cut();
        settle().await;
        client.connected().await.unwrap();
        let (again, ack) = messages.next_unacknowledged().await.unwrap();
        assert_eq!(text(&again), "1");
        stale.accept();
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 1, "it was for another connection");
        ack.accept();
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

/// To hang up on a server that exceeds what it was told would be for ever: it would do so again.
#[tokio::test(start_paused = true)]
async fn more_than_agreed_at_qos_2_waits_until_what_was_agreed_has_been_read() {
    both(async |version| {
        let options = Options { receive_maximum: 2, ..options(version) };
        let (net, client) = talk_on(ConnAck::default(), options).await;
        let mut messages = client.listen("#").unwrap();
        for id in 1..=3 {
            let delivery = mqtt_core::wire::Delivery { packet_id: PacketId::new(id), dup: false };
            let publish = Publish { qos: ExactlyOnce, ..Publish::new(topic("a"), "1") };
            net.send(&Packet::Publish(delivery, publish));
        }
        pass(60).await;
        assert_eq!(client.counters().received, 2);
        // What would make room is behind it.
        assert_eq!(read_all(&mut messages), ["1"; 2]);
        pass(60).await;
        assert_eq!(read_all(&mut messages), ["1"]);
        assert_eq!(client.counters().connections, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_task_in_its_message_loop_publishes_and_waits() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut questions = client.subscribe("question", ExactlyOnce).await.unwrap();
        for number in 0..50 {
            net.publish("question", number.to_string(), LEVELS[number % 3]);
        }
        let mut answered = 0;
        while answered < 50 {
            let question = questions.next().await.unwrap();
            client.publish("answer", question.payload).qos(LEVELS[answered % 3]).await.unwrap();
            answered += 1;
        }
        settle().await;
        assert_eq!(net.accepted().len(), 50);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_woken_once_there_is_something() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtMostOnce).await.unwrap();
        let (net, messages) = (&net, &mut messages);
        let late = async {
            pass(3_600).await;
            net.publish("a", "1", AtMostOnce);
        };
        let (message, ()) = tokio::join!(messages.next(), late);
        assert_eq!(text(&message.unwrap()), "1");
        assert!(poll_once(pin!(messages.next())).is_pending());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_given_just_when_the_connection_fails_is_not_in_the_way() {
    both(async |version| {
        let (net, client) = talk(version).await;
        let mut messages = client.listen("#").unwrap();
        for connection in 1..=2 {
            let delivery = mqtt_core::wire::Delivery { packet_id: PacketId::new(1), dup: false };
            let publish = Publish { qos: AtLeastOnce, ..Publish::new(topic("a"), "1") };
            net.send(&Packet::Publish(delivery, publish));
            settle().await;
            // Taken and, in the driver's same turn, garbage received.
            net.with(|script| script.send_bytes(&[0xff; 4]));
            assert_eq!(text(&messages.try_next().unwrap()), "1");
            let cause = lost(&client).await;
            assert!(matches!(cause, ConnectionError::Protocol(_)), "{cause}");
            client.connected().await.unwrap();
            assert_eq!(client.counters().connections, connection + 1);
        }
    })
    .await;
}
