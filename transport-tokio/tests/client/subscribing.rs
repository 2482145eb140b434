//! Subscriptions: who has them, who needs them, and what becomes of them on the next connection.

use std::{io, pin::pin};

use mqtt_core::{PacketId, Properties, Property, SubAck, Text, wire::Packet};

use crate::support::*;

fn refused(reason: ReasonCode) -> SubscribeError {
    SubscribeError::Refused(reason.into())
}

/// What a server of this version says to filters that begin with `no/`.
fn no(version: Version) -> SubscribeError {
    let v5 = version.is_v5();
    refused(if v5 { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError })
}

/// What requests of this name were about since the last time, in whatever packets.
fn asked(net: &Net<Server>, name: &str) -> Vec<String> {
    let sent = net.sent();
    let requests = sent.iter().filter_map(|line| line.strip_prefix(name));
    let mut asked: Vec<_> =
        requests.flat_map(|rest| rest.split(' ').skip(2).map(str::to_owned)).collect();
    asked.sort_unstable();
    asked
}

/// Loses the connection, and the session too if told so.
async fn reconnect(net: &Net<Server>, client: &Client, forget: bool) {
    net.cut();
    if forget {
        net.with(Server::forget);
    }
    settle().await;
    client.connected().await.unwrap();
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn it_resolves_with_the_suback() {
    both(async |version| {
        let (net, client) = talk(version).await;
        let mut subscribe = pin!(client.subscribe("a/+", AtLeastOnce).into_future());
        assert!(poll_once(subscribe.as_mut()).is_pending());
        pass(3_600).await;
        assert_eq!(net.trace(), ["SUBSCRIBE 1 a/+ q1"]);
        assert!(poll_once(subscribe.as_mut()).is_pending());
        let reasons = [ReasonCode::Success][..].into();
        net.send(&Packet::SubAck(PacketId::FIRST, SubAck { reasons, ..SubAck::default() }));
        let messages = subscribe.await.unwrap();
        assert_eq!(messages.granted(), [AtMostOnce], "less than was asked for");
        assert!(messages.is_empty() && messages.error().is_none());
        assert_eq!(client.counters().filters, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_and_says_why() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let error = client.subscribe("no/a", AtLeastOnce).await.unwrap_err();
        assert_eq!(error, no(version));
        settle().await;
        assert_eq!(net.sent(), ["SUBSCRIBE 1 no/a q1"]);
        assert_eq!(client.counters().filters, 0);
    })
    .await;
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let mut subscribe = pin!(client.subscribe("a", AtLeastOnce).into_future());
        assert!(poll_once(subscribe.as_mut()).is_pending());
        settle().await;
        let why = [Property::ReasonString(Text::new("not you").unwrap())];
        let properties = Properties::from(&why);
        let reasons = [ReasonCode::NotAuthorized][..].into();
        net.send(&Packet::SubAck(PacketId::FIRST, SubAck { reasons, properties }));
        let Err(SubscribeError::Refused(refusal)) = subscribe.await else { panic!("a refusal") };
        assert_eq!(refusal.reason, ReasonCode::NotAuthorized);
        assert_eq!(refusal.explanation.as_deref(), Some("not you"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_would_refuse_is_not_asked() {
    bounded(async {
        let terms = ConnAck {
            wildcard_subscription_available: false,
            shared_subscription_available: false,
            maximum_packet_size: Some(64),
            ..ConnAck::default()
        };
        let (net, client) = talk_on(terms, options(Version::V5)).await;
        let error = async |filter: &str| client.subscribe(filter, AtMostOnce).await.unwrap_err();
        let wildcards = ReasonCode::WildcardSubscriptionsNotSupported;
        assert_eq!(error("a/#").await, SubscribeError::Unsupported(wildcards));
        let sharing = ReasonCode::SharedSubscriptionsNotSupported;
        assert_eq!(error("$share/g/a").await, SubscribeError::Unsupported(sharing));
        assert_eq!(error(&"a".repeat(64)).await, SubscribeError::TooLarge);
        let wildcard = SubscribeError::Invalid(Invalid::Topic(TopicError::WildcardPlacement));
        assert_eq!(error("a#").await, wildcard);
        assert!(client.listen("a#").is_err());
        settle().await;
        assert_eq!(net.trace(), [""; 0]);
        assert_eq!(client.counters().filters, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_besides_the_qos() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let plain = client.subscribe("a", AtLeastOnce);
        let choosy = client
            .subscribe("b", AtLeastOnce)
            .no_local(true)
            .retain_as_published(true)
            .retain_handling(RetainHandling::DoNotSend);
        for subscribe in [plain, choosy] {
            let mut subscribe = pin!(subscribe.into_future());
            assert!(poll_once(subscribe.as_mut()).is_pending());
            settle().await;
        }
        let asked = net.with(|script| std::mem::take(&mut script.received));
        let asked = asked.iter().filter_map(|packet| match packet {
            Packet::Subscribe(_, subscribe) => subscribe.subscriptions.iter().next(),
            _ => None,
        });
        let asked: Vec<_> = asked
            .map(|asked| (asked.no_local, asked.retain_as_published, asked.retain_handling))
            .collect();
        let expected =
            [(false, false, RetainHandling::Send), (true, true, RetainHandling::DoNotSend)];
        assert_eq!(asked, expected);
    })
    .await;
    both(async |version| {
        let (_net, client) = meet(version).await;
        let choosy = client.subscribe("a", AtLeastOnce).no_local(true).await;
        let error = SubscribeError::Invalid(Invalid::Packet(EncodeError::Version));
        assert_eq!(choosy.err(), if version.is_v5() { None } else { Some(error) });
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_stream_of_a_filter_unsubscribes() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let first = client.subscribe("a", AtLeastOnce).await.unwrap();
        let mut second = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.trace();
        drop(first);
        settle().await;
        assert_eq!(net.trace(), [""; 0], "somebody still reads it");
        net.publish("a", "1", AtLeastOnce);
        assert_eq!(text(&second.next().await.unwrap()), "1");
        settle().await;
        net.trace();
        drop(second);
        settle().await;
        assert_eq!(net.sent(), ["UNSUBSCRIBE 3 a"]);
        assert_eq!(client.counters().filters, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_asks_for_no_less_than_the_first() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut first = client.subscribe("a", ExactlyOnce).await.unwrap();
        let mut second = client.subscribe("a", AtMostOnce).await.unwrap();
        net.publish("a", "1", ExactlyOnce);
        assert_eq!(first.next().await.unwrap().qos, ExactlyOnce, "as it was promised");
        assert_eq!(text(&second.next().await.unwrap()), "1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_waits_for_the_server() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.with(|server| server.manners.frozen = true);
        let mut unsubscribe = pin!(messages.unsubscribe());
        assert!(poll_once(unsubscribe.as_mut()).is_pending());
        pass(60).await;
        assert!(poll_once(unsubscribe.as_mut()).is_pending());
        net.with(|server| server.manners.frozen = false);
        unsubscribe.await.unwrap();
        assert_eq!(net.publish("a", "1", AtLeastOnce), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_while_others_read_is_done_at_once() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let _other = client.subscribe("a", AtLeastOnce).await.unwrap();
        let messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.trace();
        assert!(poll_once(pin!(messages.unsubscribe())).is_ready());
        settle().await;
        assert_eq!(net.trace(), [""; 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn subscribing_anew_while_the_old_subscription_goes() {
    both(async |version| {
        let (net, client) = meet(version).await;
        for _ in 0..3 {
            drop(client.subscribe("a", AtLeastOnce).await.unwrap());
            let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
            assert_eq!(net.publish("a", "1", AtLeastOnce), 1);
            assert_eq!(text(&messages.next().await.unwrap()), "1");
        }
        settle().await;
        assert_eq!(net.publish("a", "1", AtLeastOnce), 0);
        assert_eq!(client.counters().filters, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn several_filters_in_one_stream() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages =
            client.subscribe("a/+", AtLeastOnce).and("b", ExactlyOnce).await.unwrap();
        let unsubscribe = if version.is_v5() {
            // Each with an identifier of its own.
            assert_eq!(net.sent(), ["SUBSCRIBE 1 a/+ q1", "SUBSCRIBE 2 b q2"]);
            "UNSUBSCRIBE 3 a/+ b"
        } else {
            assert_eq!(net.sent(), ["SUBSCRIBE 1 a/+ q1 b q2"]);
            "UNSUBSCRIBE 2 a/+ b"
        };
        for (topic, text) in [("a/1", "1"), ("b", "2"), ("c", "3"), ("a/2", "4")] {
            net.publish(topic, text, AtLeastOnce);
        }
        settle().await;
        assert_eq!(read_all(&mut messages), ["1", "2", "4"]);
        drop(messages);
        settle().await;
        assert!(net.sent().contains(&unsubscribe.to_string()));

        let error = client.subscribe("a", AtLeastOnce).and("no/b", AtLeastOnce).await.unwrap_err();
        assert_eq!(error, no(version));
        settle().await;
        assert_eq!(client.counters().filters, 0, "the one that was granted is not wanted either");
        assert_eq!(net.publish("a", "1", AtLeastOnce), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_filters_go_in_several_packets() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut subscribe = client.subscribe("0", AtLeastOnce);
        for number in 1..20 {
            subscribe = subscribe.and(&number.to_string(), AtLeastOnce);
        }
        let mut messages = subscribe.await.unwrap();
        for number in 0..20 {
            net.publish(&number.to_string(), number.to_string(), AtLeastOnce);
        }
        settle().await;
        assert_eq!(read_all(&mut messages).len(), 20);
        assert_eq!(client.counters().filters, 20);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_subscribed_to_again() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut kept = client.subscribe("a", AtLeastOnce).await.unwrap();
        let mut two = client.subscribe("b", ExactlyOnce).and("c", AtLeastOnce).await.unwrap();
        drop(client.subscribe("d", AtMostOnce).await.unwrap());
        settle().await;
        net.trace();
        reconnect(&net, &client, true).await;
        assert_eq!(asked(&net, "SUBSCRIBE"), ["a", "b", "c", "q1", "q1", "q2"]);
        for topic in ["a", "b", "c", "d"] {
            net.publish(topic, topic, AtLeastOnce);
        }
        settle().await;
        assert_eq!(read_all(&mut kept), ["a"]);
        assert_eq!(read_all(&mut two), ["b", "c"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_there_is_not_subscribed_to_again() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.trace();
        reconnect(&net, &client, false).await;
        assert_eq!(net.sent(), ["CONNECT"]);
        net.publish("a", "1", AtLeastOnce);
        assert_eq!(text(&messages.next().await.unwrap()), "1");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_answered_is_made_again() {
    both(async |version| {
        for (asked, forget) in [(true, false), (true, true), (false, false), (false, true)] {
            let (net, client) = meet(version).await;
            if asked {
                net.with(|server| server.manners.frozen = true);
            } else {
                net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
                net.cut();
                settle().await;
            }
            let mut subscribe = pin!(client.subscribe("a", AtLeastOnce).into_future());
            assert!(poll_once(subscribe.as_mut()).is_pending());
            settle().await;
            net.with(|server| server.manners.frozen = false);
            net.usual(Plan::Open);
            reconnect(&net, &client, forget).await;
            let mut messages = subscribe.await.unwrap();
            net.publish("a", "1", AtLeastOnce);
            assert_eq!(text(&messages.next().await.unwrap()), "1");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_offline_is_unsubscribed_later() {
    both(async |version| {
        for forget in [false, true] {
            let (net, client) = meet(version).await;
            let messages = client.subscribe("a", AtLeastOnce).await.unwrap();
            net.trace();
            net.cut();
            settle().await;
            let unsubscribe = messages.unsubscribe();
            let (result, ()) = tokio::join!(unsubscribe, reconnect(&net, &client, forget));
            result.unwrap();
            settle().await;
            let expected: &[&str] = if forget { &[] } else { &["UNSUBSCRIBE 2 a"] };
            let sent = net.sent();
            let sent: Vec<_> = sent.iter().filter(|line| *line != "CONNECT").collect();
            assert_eq!(sent, expected);
            assert_eq!(client.counters().filters, 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn subscriptions_that_are_given_up_offline_leave_nothing_behind() {
    both(async |version| {
        let (net, client) = meet(version).await;
        net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
        net.cut();
        settle().await;
        for number in 0..1_000 {
            let filter = number.to_string();
            let mut subscribe = pin!(client.subscribe(&filter, AtLeastOnce).into_future());
            assert!(poll_once(subscribe.as_mut()).is_pending());
        }
        assert_eq!(client.counters().filters, 0);
        net.trace();
        let mut subscribe = pin!(client.subscribe("7", AtLeastOnce).into_future());
        assert!(poll_once(subscribe.as_mut()).is_pending());
        net.usual(Plan::Open);
        subscribe.await.unwrap();
        let sent = net.sent();
        let asked = sent.iter().filter(|line| line.starts_with("SUBSCRIBE"));
        assert!(asked.eq(["SUBSCRIBE 1 7 q1"]), "once: {sent:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_resubscription_ends_the_streams_that_read_it() {
    both(async |version| {
        let net = Net::script(ConnAck { session_present: true, ..ConnAck::default() }, version);
        let client = net.connect(options(version)).await.unwrap();
        let failed =
            if version.is_v5() { ReasonCode::NotAuthorized } else { ReasonCode::UnspecifiedError };
        // Grants what has been asked for, but for this filter.
        let answer = |but: &str| {
            for asked in net.with(|script| std::mem::take(&mut script.received)) {
                let Packet::Subscribe(id, subscribe) = asked else { panic!("{asked:?}") };
                let granted = |filter| if filter == but { failed } else { ReasonCode::GrantedQoS1 };
                let filters = subscribe.subscriptions.iter().map(|asked| asked.filter.as_str());
                let reasons: Vec<_> = filters.map(granted).collect();
                let ack = SubAck { reasons: reasons[..].into(), ..SubAck::default() };
                net.send(&Packet::SubAck(id, ack));
            }
        };
        let mut streams = Vec::new();
        for filter in ["a", "b"] {
            let mut subscribe = pin!(client.subscribe(filter, AtLeastOnce).into_future());
            assert!(poll_once(subscribe.as_mut()).is_pending());
            settle().await;
            answer("");
            streams.push(subscribe.await.unwrap());
        }
        let [first, second] = &mut streams[..] else { unreachable!() };

        net.with(|script| script.greeting = Some(ConnAck::default()));
        net.cut();
        settle().await;
        client.connected().await.unwrap();
        settle().await;
        answer("a");
        assert_eq!(first.next().await, None);
        assert_eq!(first.error(), Some(refused(failed)));
        assert!(poll_once(pin!(second.next())).is_pending(), "another filter's");
        assert_eq!(second.error(), None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_declared_before_read_what_a_session_holds() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let held = client.subscribe("held/#", ExactlyOnce).await.unwrap();
        let other = client.subscribe("other", AtLeastOnce).await.unwrap();
        let farewell = Farewell { session_expiry_interval: None, ..Farewell::default() };
        client.disconnect_with(farewell).await.unwrap();
        drop((held, other));
        for (topic, text) in [("held/1", "1"), ("other", "2"), ("held/2", "3")] {
            assert_eq!(net.publish(topic, text, AtLeastOnce), 1, "the session is kept");
        }
        let mut streams = Streams::default();
        drop(streams.subscribe("never/read", AtLeastOnce).unwrap()); // first: nobody else is there yet
        let mut held = streams.subscribe("held/#", ExactlyOnce).unwrap();
        let mut rest = streams.unclaimed();
        net.trace();
        let _client = net.connect(Options { streams, ..options(version) }).await.unwrap();
        settle().await;
        assert_eq!(read_all(&mut held), ["1", "3"]);
        assert_eq!(read_all(&mut rest), ["2"]);
        let sent = net.sent();
        assert!(sent.contains(&"SUBSCRIBE 1 held/# q2".to_string()), "{sent:?}");
        assert!(!sent.iter().any(|line| line.contains("never")), "{sent:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_declared_stream_with_more_to_say() {
    both(async |version| {
        let net = Net::server(Manners::default(), version);
        let mut streams = Streams::default();
        let limits = StreamLimits { messages: 2, ..StreamLimits::default() };
        let more = SubscribeOptions { limits, ..SubscribeOptions::default() };
        assert!(streams.subscribe_with(&[("a", AtMostOnce), ("b#", AtMostOnce)], more).is_err());
        let filters = [("a", AtLeastOnce), ("b/+", ExactlyOnce)];
        let mut messages = streams.subscribe_with(&filters, more).unwrap();
        let _client = net.connect(Options { streams, ..options(version) }).await.unwrap();
        settle().await;
        assert_eq!(asked(&net, "SUBSCRIBE"), ["a", "b/+", "q1", "q2"]);
        for topic in ["a", "b/1", "a"] {
            net.publish(topic, topic, AtMostOnce);
        }
        pass(1).await; // a reader has its moment to catch up
        assert_eq!((messages.len(), messages.dropped()), (2, 1));
        messages.set_limits(StreamLimits::default());
        net.publish("b/2", "b/2", AtMostOnce);
        pass(1).await;
        assert_eq!(read_all(&mut messages), ["a", "b/1", "b/2"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_that_was_declared_before_ends() {
    both(async |version| {
        let net = Net::server(Manners::default(), version);
        let mut streams = Streams::default();
        assert!(streams.subscribe("a#", AtMostOnce).is_err());
        let mut messages = streams.subscribe("no/a", AtLeastOnce).unwrap();
        let _client = net.connect(Options { streams, ..options(version) }).await.unwrap();
        assert_eq!(messages.next().await, None);
        assert_eq!(messages.error(), Some(no(version)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_client_that_never_connects_end() {
    both(async |version| {
        let net = Net::server(Manners::default(), version);
        net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
        let mut streams = Streams::default();
        let mut messages = streams.subscribe("a", AtLeastOnce).unwrap();
        net.connect(Options { streams, ..options(version) }).await.unwrap_err();
        assert_eq!(messages.next().await, None);
        assert_eq!(messages.error(), Some(SubscribeError::Closed));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn callbacks_are_called_in_order_until_they_are_aborted() {
    both(async |version| {
        let (net, client) = meet(version).await;
        assert_eq!(client.on("no/a", AtMostOnce, drop).await.unwrap_err(), no(version));
        let (sender, mut called) = tokio::sync::mpsc::unbounded_channel();
        let callback = client
            .on("a", AtLeastOnce, move |message| drop(sender.send(text(&message))))
            .await
            .unwrap();
        for number in 0..5 {
            net.publish("a", number.to_string(), AtLeastOnce);
        }
        for number in 0..5 {
            assert_eq!(called.recv().await, Some(number.to_string()));
        }
        callback.abort();
        settle().await;
        assert_eq!(called.recv().await, None);
        assert_eq!(net.publish("a", "1", AtLeastOnce), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn listening_subscribes_to_nothing() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut all = client.listen("#").unwrap();
        let mut some = client.listen("a/+").unwrap();
        let mut unclaimed = client.unclaimed();
        let wanted = client.subscribe("a/1", AtLeastOnce).await.unwrap();
        assert_eq!(net.sent(), ["SUBSCRIBE 1 a/1 q1"]);
        net.publish("a/1", "1", AtLeastOnce);
        settle().await;
        drop(wanted);
        assert_eq!(read_all(&mut all), ["1"]);
        assert_eq!(read_all(&mut some), ["1"]);
        assert_eq!(read_all(&mut unclaimed), [""; 0]);
        drop((all, some));
        settle().await;
        assert_eq!(net.sent().last().unwrap(), "UNSUBSCRIBE 2 a/1");
        assert_eq!(client.counters().unclaimed, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_acknowledged_and_counted() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let kept = client.subscribe("a", ExactlyOnce).await.unwrap();
        client.disconnect().await.unwrap();
        drop(kept);
        for qos in [AtLeastOnce, ExactlyOnce] {
            net.publish("a", "1", qos);
        }
        let client = net.connect(options(version)).await.unwrap();
        settle().await;
        assert_eq!(net.with(|server| server.undelivered()), 0);
        assert_eq!(client.counters().unclaimed, 2);
        assert_eq!(client.counters().received, 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_subscription_brings_messages_of_its_filter() {
    bounded(async {
        let (net, client) = meet(Version::V5).await;
        let mut messages = client.subscribe("$share/group/a/+", AtLeastOnce).await.unwrap();
        // The model does not know sharing: it is told to send what a real one would.
        let _plain = client.subscribe("a/1", AtLeastOnce).await.unwrap();
        net.publish("a/1", "1", AtLeastOnce);
        assert_eq!(text(&messages.next().await.unwrap()), "1");
        drop(messages);
        settle().await;
        assert_eq!(net.sent().last().unwrap(), "UNSUBSCRIBE 3 $share/group/a/+");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_the_end_there_are_no_subscriptions() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        let leaving = client.subscribe("b", AtLeastOnce).await.unwrap();
        net.publish("a", "1", AtMostOnce);
        settle().await;
        client.disconnect().await.unwrap();
        assert_eq!(text(&messages.next().await.unwrap()), "1", "what is there can be read");
        assert_eq!(messages.next().await, None);
        assert_eq!(messages.error(), Some(SubscribeError::Closed));
        assert_eq!(leaving.unsubscribe().await, Err(SubscribeError::Closed));
        let error = client.subscribe("a", AtLeastOnce).await.unwrap_err();
        assert_eq!(error, SubscribeError::Closed);
        let mut late = client.listen("#").unwrap();
        assert_eq!(late.next().await, None);
        assert_eq!(late.error(), Some(SubscribeError::Closed));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn copies_for_overlapping_subscriptions_are_told_apart() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let mut streams = Vec::new();
        let mut identifiers = Vec::new();
        for filter in ["a/#", "a/+"] {
            let mut subscribe = pin!(client.subscribe(filter, ExactlyOnce).into_future());
            assert!(poll_once(subscribe.as_mut()).is_pending());
            settle().await;
            let asked = net.with(|script| script.packet());
            let Packet::Subscribe(id, asked) = asked else { panic!("{asked:?}") };
            identifiers.extend(asked.properties.subscription_identifier());
            let reasons = [ReasonCode::GrantedQoS2][..].into();
            net.send(&Packet::SubAck(id, SubAck { reasons, ..SubAck::default() }));
            streams.push(subscribe.await.unwrap());
        }
        let mut tap = client.listen("#").unwrap();
        let [first, second] = identifiers[..] else { panic!("{identifiers:?}") };
        let unknown = first.max(second) % 268_435_455 + 1;
        let copies: [(&str, &[u32]); 5] = [
            ("1", &[first]),
            ("1", &[second]),
            ("2", &[second, first]),
            ("3", &[unknown]), // of a program before: whoever can want it
            ("4", &[]),
        ];
        for (text, identifiers) in copies {
            let list: Vec<_> =
                identifiers.iter().copied().map(Property::SubscriptionIdentifier).collect();
            let publish = mqtt_core::Publish {
                properties: (&list[..]).into(),
                ..mqtt_core::Publish::new(mqtt_core::Topic::new("a/b").unwrap(), text)
            };
            net.send(&Packet::Publish(Default::default(), publish));
        }
        settle().await;
        for stream in &mut streams {
            assert_eq!(read_all(stream), ["1", "2", "3", "4"]);
        }
        assert_eq!(read_all(&mut tap), ["1", "1", "2", "3", "4"], "a tap shows every copy");
    })
    .await;
}
