//! What comes of a publish, and when.

use std::{future::IntoFuture, io, pin::pin, task::Poll};

use bytes::Bytes;
use mqtt_core::{Ack, EncodeError, PacketId, Properties, Property, Text, wire::Packet};

use crate::support::*;

const ID: PacketId = PacketId::FIRST;

/// A client whose connection is lost and does not come back until the network is told.
async fn offline(options: Options) -> (Net<Server>, Client) {
    let (net, client) = meet_on(Manners::default(), options).await;
    net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
    net.cut();
    settle().await;
    (net, client)
}

/// The network is back, and the client notices.
async fn online(net: &Net<Server>, client: &Client) {
    net.usual(Plan::Open);
    client.connected().await.expect("a connection");
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn at_qos_0_it_resolves_when_it_is_accepted() {
    both(async |version| {
        let (net, client) = talk(version).await;
        assert_eq!(client.publish("a", "1").await.map(|done| done.reason), Ok(ReasonCode::Success));
        client.publish("b", "2").retain(true).await.unwrap();
        settle().await;
        assert_eq!(net.trace(), ["PUBLISH q0 a 1", "PUBLISH retain q0 b 2"]);
        assert_eq!(client.counters().published, [2, 0, 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_qos_1_it_resolves_with_the_puback() {
    both(async |version| {
        let (net, client) = talk(version).await;
        let mut publish = pin!(client.publish("a", "1").qos(AtLeastOnce).into_future());
        assert!(poll_once(publish.as_mut()).is_pending());
        pass(3_600).await;
        assert_eq!(net.trace(), ["PUBLISH 1 q1 a 1"]);
        assert!(poll_once(publish.as_mut()).is_pending());
        assert_eq!(client.counters().in_flight, 1);
        net.send(&Packet::PubAck(ID, Ack::default()));
        assert_eq!(publish.await.map(|done| done.reason), Ok(ReasonCode::Success));
        let counters = client.counters();
        assert_eq!((counters.in_flight, counters.acknowledged), (0, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_qos_2_it_resolves_with_the_pubcomp() {
    both(async |version| {
        let (net, client) = talk(version).await;
        let mut publish = pin!(client.publish("a", "1").qos(ExactlyOnce).into_future());
        assert!(poll_once(publish.as_mut()).is_pending());
        settle().await;
        net.send(&Packet::PubRec(ID, Ack::default()));
        pass(3_600).await;
        assert_eq!(net.sent(), ["PUBLISH 1 q2 a 1", "PUBREL 1"]);
        assert!(poll_once(publish.as_mut()).is_pending());
        net.send(&Packet::PubComp(ID, Ack::default()));
        publish.await.unwrap();
        assert_eq!(client.counters().in_flight, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_to_give_it_to_is_no_failure() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        for qos in [AtLeastOnce, ExactlyOnce] {
            let delivery = client.publish("a", "1").qos(qos).accepted().await.unwrap();
            let reason = ReasonCode::NoMatchingSubscribers;
            if qos == AtLeastOnce {
                net.send(&Packet::PubAck(ID, reason.into()));
            } else {
                let id = PacketId::new(2).unwrap();
                net.send(&Packet::PubRec(id, reason.into()));
                settle().await;
                net.send(&Packet::PubComp(id, Ack::default()));
            }
            assert!(!delivery.await.unwrap().reason.is_error());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let delivery = client.publish("a", "1").qos(AtLeastOnce).accepted().await.unwrap();
        let why = [Property::ReasonString(Text::new("full up").unwrap())];
        let properties = Properties::from(&why);
        let reason = ReasonCode::QuotaExceeded;
        net.send(&Packet::PubAck(ID, Ack { reason, properties }));
        let Err(PublishError::Refused(refusal)) = delivery.await else { panic!("a refusal") };
        assert_eq!((refusal.reason, refusal.explanation.as_deref()), (reason, Some("full up")));
        assert_eq!(client.counters().undelivered, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_qos_2_ends_it_with_the_pubrec() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let result = client.publish("no/a", "1").qos(ExactlyOnce).await;
        if version.is_v5() {
            let refusal = ReasonCode::NotAuthorized.into();
            assert_eq!(result, Err(PublishError::Refused(refusal)));
            assert_eq!(net.accepted(), [""; 0]);
        } else {
            assert!(result.is_ok(), "a 3.1.1 server cannot say no");
        }
        client.publish("a", "2").qos(ExactlyOnce).await.unwrap();
        assert_eq!(client.counters().in_flight, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_would_refuse_is_not_sent() {
    bounded(async {
        let terms = ConnAck {
            maximum_qos: AtLeastOnce,
            retain_available: false,
            maximum_packet_size: Some(64),
            ..ConnAck::default()
        };
        let (net, client) = talk_on(terms, options(Version::V5)).await;
        let unsupported = |reason| Err(PublishError::Unsupported(reason));
        let result = client.publish("a", "1").qos(ExactlyOnce).await;
        assert_eq!(result, unsupported(ReasonCode::QoSNotSupported));
        let result = client.publish("a", "1").retain(true).await;
        assert_eq!(result, unsupported(ReasonCode::RetainNotSupported));
        for qos in [AtMostOnce, AtLeastOnce] {
            let result = client.publish("a", vec![b'x'; 64]).qos(qos).await;
            assert_eq!(result, Err(PublishError::TooLarge));
        }
        settle().await;
        assert_eq!(net.trace(), [""; 0]);
        assert_eq!(client.counters().undelivered, 0, "none was accepted");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_no_packet_can_hold_is_refused_with_and_without_a_connection() {
    both(async |version| {
        let (net, client) = meet(version).await;
        for connected in [true, false] {
            if !connected {
                net.usual(Plan::Hang);
                net.cut();
                settle().await;
            }
            for qos in LEVELS {
                let topic = |topic| client.publish(topic, "1").qos(qos);
                let error = |error| Err(PublishError::Invalid(Invalid::Topic(error)));
                assert_eq!(topic("a/#").await, error(TopicError::Wildcard));
                assert_eq!(topic("").await, error(TopicError::Empty));
                let result = topic("a").content_type("\0").await;
                assert!(matches!(result, Err(PublishError::Invalid(Invalid::Text(_)))));
                if !version.is_v5() && connected {
                    let error = Invalid::Packet(EncodeError::Version);
                    let result = topic("a").content_type("text").await;
                    assert_eq!(result, Err(PublishError::Invalid(error)));
                }
            }
        }
        assert_eq!(net.accepted(), [""; 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_and_is_too_large_for_the_next_server_is_told_so() {
    bounded(async {
        let (net, client) = offline(options(Version::V5)).await;
        let mut deliveries = Vec::new();
        for (payload, qos) in [(100, AtLeastOnce), (1, AtLeastOnce), (100, ExactlyOnce)] {
            let message = client.publish("a", vec![b'x'; payload]).qos(qos);
            deliveries.push(message.accepted().await.unwrap());
        }
        net.with(|server| server.manners.terms.maximum_packet_size = Some(64));
        online(&net, &client).await;
        let mut outcomes = Vec::new();
        for delivery in deliveries {
            outcomes.push(delivery.await.map(|_| ()));
        }
        let too_large = Err(PublishError::TooLarge);
        assert_eq!(outcomes, [too_large.clone(), Ok(()), too_large]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_expiry_interval_counts_while_it_waits() {
    bounded(async {
        let (net, client) = offline(options(Version::V5)).await;
        let mut deliveries = Vec::new();
        for seconds in [5, 60] {
            for qos in LEVELS {
                let message = client.publish("a", "1").qos(qos).message_expiry_interval(seconds);
                deliveries.push(message.accepted().await.unwrap());
            }
        }
        net.trace();
        pass(10).await;
        online(&net, &client).await;
        let expired = Err(PublishError::Expired);
        let mut outcomes = Vec::new();
        for delivery in deliveries {
            outcomes.push(delivery.await.map(|_| ()));
        }
        let ok = Ok(()); // at QoS 0 nobody is told
        assert_eq!(outcomes, [ok.clone(), expired.clone(), expired, ok.clone(), ok.clone(), ok]);
        let sent = net.sent();
        let published: Vec<_> = sent.iter().filter(|line| line.starts_with("PUBLISH")).collect();
        assert_eq!(published.len(), 3, "{sent:?}");
        for line in published {
            let seconds = line.split(' ').nth_back(3).unwrap().parse::<u32>().unwrap();
            assert!(seconds <= 50, "{line}");
        }
        assert_eq!(client.counters().undelivered, 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn publishes_wait_for_a_connection_in_order() {
    both(async |version| {
        let (net, client) = offline(options(version)).await;
        let mut deliveries = Vec::new();
        for number in 0..300 {
            let message = client.publish("a", number.to_string()).qos(LEVELS[number % 3]);
            deliveries.push(message.accepted().await.unwrap());
        }
        assert_eq!(client.counters().queued, 300);
        online(&net, &client).await;
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        let expected: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        assert_eq!(net.accepted(), expected);
        let counters = client.counters();
        assert_eq!((counters.queued, counters.queued_bytes, counters.in_flight), (0, 0, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_messages() {
    both(async |version| {
        let queue = QueueLimits { messages: 3, ..QueueLimits::default() };
        let (_net, client) = offline(Options { queue, ..options(version) }).await;
        for qos in LEVELS {
            client.publish("a", "1").qos(qos).try_publish().unwrap();
        }
        for qos in LEVELS {
            let refused = client.publish("a", "1").qos(qos).try_publish();
            assert_eq!(refused.unwrap_err(), PublishError::Full);
        }
        assert_eq!(client.counters().queued, 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_in_bytes() {
    both(async |version| {
        let queue = QueueLimits { bytes: 100, ..QueueLimits::default() };
        let (net, client) = offline(Options { queue, ..options(version) }).await;
        let message = |len| client.publish("a", vec![b'x'; len]).qos(AtLeastOnce);
        message(1_000).try_publish().expect("a lone one may be longer");
        assert_eq!(message(1).try_publish().unwrap_err(), PublishError::Full);
        online(&net, &client).await;

        net.usual(Plan::Hang);
        net.cut();
        settle().await;
        message(49).try_publish().unwrap();
        message(49).try_publish().expect("with their topics: 100");
        assert_eq!(message(0).try_publish().unwrap_err(), PublishError::Full);
        assert_eq!(client.counters().queued_bytes, 100);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_room_are_served_in_order() {
    both(async |version| {
        let queue = QueueLimits { messages: 1, ..QueueLimits::default() };
        let (net, client) = offline(Options { queue, ..options(version) }).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..50 {
            let client = client.clone();
            tasks.spawn(async move {
                client.publish("a", number.to_string()).qos(LEVELS[number % 3]).await
            });
        }
        settle().await;
        assert_eq!(client.counters().queued, 1);
        online(&net, &client).await;
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap().unwrap();
        }
        settle().await;
        let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(net.accepted(), expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_those_who_wait_longer() {
    both(async |version| {
        let queue = QueueLimits { messages: 1, ..QueueLimits::default() };
        let terms = ConnAck { receive_maximum: 1, ..ConnAck::default() };
        let options = Options { queue, assumed_receive_maximum: 1, ..options(version) };
        let (net, client) = talk_on(terms, options).await;
        let _sent = client.publish("a", "0").qos(AtLeastOnce).accepted().await.unwrap();
        let _queued = client.publish("a", "1").qos(AtLeastOnce).accepted().await.unwrap();
        let mut second = pin!(client.publish("a", "2").qos(AtLeastOnce).accepted());
        let mut third = pin!(client.publish("a", "3").qos(AtLeastOnce).accepted());
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(poll_once(third.as_mut()).is_pending());
        net.send(&Packet::PubAck(ID, Ack::default()));
        settle().await;
        // There is room for one, and the wrong one asks first.
        let full = client.publish("a", "4").qos(AtLeastOnce).try_publish();
        assert_eq!(full.unwrap_err(), PublishError::Full);
        assert!(poll_once(third.as_mut()).is_pending(), "it is not its turn");
        assert!(matches!(poll_once(second.as_mut()), Poll::Ready(Ok(_))));
        assert!(poll_once(third.as_mut()).is_pending());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_while_it_waits_is_not_sent() {
    both(async |version| {
        let queue = QueueLimits { messages: 1, ..QueueLimits::default() };
        let (net, client) = offline(Options { queue, ..options(version) }).await;
        client.publish("a", "first").qos(AtLeastOnce).try_publish().unwrap();
        {
            let mut dropped = pin!(client.publish("a", "dropped").qos(AtLeastOnce).into_future());
            assert!(poll_once(dropped.as_mut()).is_pending());
        }
        let last = client.publish("a", "last").qos(AtLeastOnce);
        let (last, ()) = tokio::join!(last.into_future(), online(&net, &client));
        last.unwrap();
        assert_eq!(net.accepted(), ["first", "last"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_after_it_was_accepted_is_sent() {
    both(async |version| {
        let (net, client) = meet(version).await;
        for connected in [true, false] {
            if !connected {
                net.usual(Plan::Refuse(io::ErrorKind::NetworkUnreachable));
                net.cut();
                settle().await;
            }
            for qos in LEVELS {
                let publish = client.publish("a", format!("{connected} {qos:?}")).qos(qos);
                let _ = poll_once(pin!(publish.into_future()));
            }
        }
        online(&net, &client).await;
        let expected = LEVELS.map(|qos| format!("true {qos:?}")).into_iter();
        let expected = expected.chain(LEVELS.map(|qos| format!("false {qos:?}")));
        // The first of all was at QoS 0, written to a connection that was cut.
        let mut accepted = net.accepted();
        accepted.dedup();
        let expected: Vec<_> = expected.filter(|text| text != "true AtMostOnce").collect();
        assert_eq!(accepted, expected);
        assert_eq!(client.counters().in_flight, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn accepted_is_not_delivered() {
    both(async |version| {
        let (net, client) = talk(version).await;
        let mut delivery =
            pin!(client.publish("a", "1").qos(AtLeastOnce).accepted().await.unwrap());
        drop(client.publish("a", "2").qos(AtLeastOnce).accepted().await.unwrap());
        settle().await;
        assert_eq!(net.trace(), ["PUBLISH 1 q1 a 1", "PUBLISH 2 q1 a 2"]);
        assert!(poll_once(delivery.as_mut()).is_pending());
        net.send(&Packet::PubAck(ID, Ack::default()));
        net.send(&Packet::PubAck(PacketId::new(2).unwrap(), Ack::default()));
        delivery.await.unwrap();
        assert_eq!(client.counters().acknowledged, 2, "also the one nobody waits for");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_quota_is_kept_and_the_order_too() {
    both(async |version| {
        let terms = ConnAck { receive_maximum: 3, ..ConnAck::default() };
        let manners = Manners { terms, dawdle: true, ..Manners::default() };
        let options = Options { assumed_receive_maximum: 3, ..options(version) };
        let (net, client) = meet_on(manners, options).await;
        let publishes = (0..60).map(|number| {
            client.publish("a", number.to_string()).qos(LEVELS[1 + number % 2]).accepted()
        });
        let mut deliveries = Vec::new();
        for publish in publishes {
            deliveries.push(publish.await.unwrap());
        }
        settle().await;
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        let expected: Vec<_> = (0..60).map(|number| number.to_string()).collect();
        assert_eq!(net.accepted(), expected, "the server watches the quota");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_limits_what_is_in_flight() {
    both(async |version| {
        let in_flight = InFlight { messages: 2, ..InFlight::default() };
        let (net, client) =
            talk_on(ConnAck::default(), Options { in_flight, ..options(version) }).await;
        for number in 1..=3 {
            let _ = client.publish("a", number.to_string()).qos(AtLeastOnce).accepted().await;
        }
        settle().await;
        assert_eq!(net.trace(), ["PUBLISH 1 q1 a 1", "PUBLISH 2 q1 a 2"]);
        let counters = client.counters();
        assert_eq!((counters.in_flight, counters.queued), (2, 1));
        net.send(&Packet::PubAck(ID, Ack::default()));
        settle().await;
        assert_eq!(net.sent(), ["PUBLISH 3 q1 a 3"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_tasks_publish_through_one_client() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..100 {
            let client = client.clone();
            tasks.spawn(async move {
                for number in 0..10 {
                    let message = client.publish("a", format!("{task} {number}"));
                    message.qos(LEVELS[task % 3]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        settle().await;
        let accepted = net.accepted();
        assert_eq!(accepted.len(), 1_000);
        for task in 0..100 {
            let own = accepted.iter().filter_map(|text| text.strip_prefix(&format!("{task} ")));
            assert!(own.eq((0..10).map(|number| number.to_string())), "in order: {task}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn payloads_of_a_megabyte_go_out_unchanged() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let large: Bytes = (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect();
        net.wire(|wire| wire.weather = Weather { piece: 60_000, delay: 2, window: 70_000 });
        for qos in LEVELS {
            client.publish("large", large.clone()).qos(qos).await.unwrap();
        }
        pass(60).await;
        let accepted = net.with(|server| std::mem::take(&mut server.accepted));
        assert_eq!(accepted.len(), 3);
        assert!(accepted.iter().all(|note| note.payload == large));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_the_end_nothing_is_accepted() {
    both(async |version| {
        let (net, client) = meet(version).await;
        client.disconnect().await.unwrap();
        for qos in LEVELS {
            let result = client.publish("a", "1").qos(qos).await;
            assert_eq!(result, Err(PublishError::Closed));
            let result = client.publish("a", "1").qos(qos).accepted().await;
            assert_eq!(result.unwrap_err(), PublishError::Closed);
            let result = client.publish("a", "1").qos(qos).try_publish();
            assert_eq!(result.unwrap_err(), PublishError::Closed);
        }
        assert_eq!(net.accepted(), [""; 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_one_that_waits_is_not_overtaken_by_short_ones() {
    both(async |version| {
        let queue = QueueLimits { bytes: 100, ..QueueLimits::default() };
        let (net, client) = offline(Options { queue, ..options(version) }).await;
        let message = |byte: &str, len| client.publish("a", byte.repeat(len)).qos(AtLeastOnce);
        message("1", 60).try_publish().unwrap();
        let mut long = Box::pin(message("2", 60).into_future());
        assert!(poll_once(long.as_mut()).is_pending());
        assert_eq!(message("3", 3).try_publish().unwrap_err(), PublishError::Full);
        let mut short = Box::pin(message("4", 4).into_future());
        assert!(poll_once(short.as_mut()).is_pending());
        assert_eq!(client.counters().queued, 1);
        drop(long);
        assert_eq!(client.counters().queued, 2, "now it is the short one's turn");
        online(&net, &client).await;
        short.await.unwrap();
        assert_eq!(net.accepted(), ["1".repeat(60), "4".repeat(4)]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_room_are_told_of_the_end() {
    both(async |version| {
        let queue = QueueLimits { messages: 1, ..QueueLimits::default() };
        let (net, client) = offline(Options { queue, ..options(version) }).await;
        let first = client.publish("a", "1").qos(AtLeastOnce);
        for qos in LEVELS {
            let mut first = pin!(client.publish("a", "1").qos(AtLeastOnce).into_future());
            assert!(poll_once(first.as_mut()).is_pending());
            let waiting = client.publish("a", "2").qos(qos);
            let patience = std::time::Duration::from_secs(1);
            let result = tokio::time::timeout(patience, waiting.into_future()).await;
            assert!(result.is_err(), "there is no room");
        }
        let waiting = client.publish("a", "3").qos(AtMostOnce);
        let (first, waiting, end) =
            tokio::join!(first.into_future(), waiting.into_future(), client.disconnect());
        assert_eq!(first, Err(PublishError::Closed));
        assert_eq!(waiting, Err(PublishError::Closed));
        assert_eq!(end.unwrap_err().publishes, 1);
        assert_eq!(net.accepted(), [""; 0]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_room_counts_for_the_expiry_interval() {
    bounded(async {
        let queue = QueueLimits { messages: 1, ..QueueLimits::default() };
        let (net, client) = offline(Options { queue, ..options(Version::V5) }).await;
        client.publish("a", "1").qos(AtLeastOnce).try_publish().unwrap();
        let back = async {
            pass(10).await;
            online(&net, &client).await;
        };
        let publish = |seconds| {
            let message = client.publish("a", "2").qos(AtLeastOnce);
            message.message_expiry_interval(seconds).into_future()
        };
        let (expired, fine, ()) = tokio::join!(publish(5), publish(1_000), back);
        assert_eq!(expired, Err(PublishError::Expired));
        fine.unwrap();
        assert_eq!(net.accepted(), ["1", "2"]);
    })
    .await;
}
