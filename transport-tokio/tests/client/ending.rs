//! What a lost session loses, and how a client ends.

use std::{io, time::Duration};

use tokio::time::Instant;

use crate::support::*;

/// What a client has published and the server has not answered.
async fn unanswered(net: &Net<Server>, client: &Client) -> Vec<Delivery> {
    net.with(|server| server.manners.frozen = true);
    let mut deliveries = Vec::new();
    for number in 0..6 {
        let message = client.publish("a", number.to_string()).qos(LEVELS[1 + number % 2]);
        deliveries.push(message.accepted().await.unwrap());
    }
    settle().await;
    deliveries
}

async fn outcomes(deliveries: Vec<Delivery>) -> Vec<Result<(), PublishError>> {
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        outcomes.push(delivery.await.map(|_| ()));
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_there_loses_nothing() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let deliveries = unanswered(&net, &client).await;
        net.cut();
        net.with(|server| server.manners.frozen = false);
        assert_eq!(outcomes(deliveries).await, [const { Ok(()) }; 6]);
        assert_eq!(net.accepted(), ["0", "1", "2", "3", "4", "5"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_a_lost_session_qos_1_is_published_again_and_qos_2_reported() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut deliveries = unanswered(&net, &client).await;
        net.cut();
        net.with(|server| {
            server.forget();
            server.manners.frozen = false;
        });
        settle().await;
        deliveries.push(client.publish("a", "6").qos(AtLeastOnce).accepted().await.unwrap());
        let lost = Err(PublishError::SessionLost);
        let ok = Ok(());
        let expected =
            [ok.clone(), lost.clone(), ok.clone(), lost.clone(), ok.clone(), lost, ok.clone()];
        assert_eq!(outcomes(deliveries).await, expected);
        assert_eq!(net.accepted(), ["0", "2", "4", "6"]);
        let counters = client.counters();
        assert_eq!((counters.in_flight, counters.queued, counters.undelivered), (0, 0, 3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_released_is_lost_with_its_session() {
    both(async |version| {
        let (net, client) = talk(version).await;
        let delivery = client.publish("a", "1").qos(ExactlyOnce).accepted().await.unwrap();
        settle().await;
        let record =
            mqtt_core::wire::Packet::PubRec(mqtt_core::PacketId::FIRST, Default::default());
        net.send(&record);
        settle().await;
        assert_eq!(net.sent(), ["PUBLISH 1 q2 a 1", "PUBREL 1"]);
        net.cut();
        assert_eq!(delivery.await, Err(PublishError::SessionLost));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_session_of_its_own_every_connection_loses_it() {
    both(async |version| {
        let options = Options { clean_start: true, session_expiry_interval: 0, ..options(version) };
        let (net, client) = meet_on(Manners::default(), options).await;
        let deliveries = unanswered(&net, &client).await;
        net.cut();
        net.with(|server| server.manners.frozen = false);
        let lost = outcomes(deliveries).await.iter().filter(|outcome| outcome.is_err()).count();
        assert_eq!(lost, 3);
        assert_eq!(net.accepted(), ["0", "2", "4"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn disconnecting_sends_everything_first() {
    both(async |version| {
        for weather in [Weather::CALM, Weather { piece: 100, delay: 5, window: 500 }] {
            let (net, client) = meet(version).await;
            net.wire(|wire| wire.weather = weather);
            let mut deliveries = Vec::new();
            for number in 0..300 {
                let message = client.publish("a", number.to_string()).qos(LEVELS[number % 3]);
                deliveries.push(message.accepted().await.unwrap());
            }
            let farewell = Farewell { patience: Duration::from_secs(3_600), ..Farewell::default() };
            client.disconnect_with(farewell).await.unwrap();
            assert_eq!(outcomes(deliveries).await, [const { Ok(()) }; 300]);
            let expected: Vec<_> = (0..300).map(|number| number.to_string()).collect();
            assert_eq!(net.accepted(), expected);
            assert_eq!(net.sent().last().unwrap(), "DISCONNECT Success");
            assert!(!net.is_open());
            assert!(matches!(*client.status().borrow(), Status::Closed));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn disconnecting_acknowledges_what_was_read() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
        net.publish("a", "1", AtLeastOnce);
        messages.next().await.unwrap();
        client.disconnect().await.unwrap();
        assert_eq!(net.with(|server| server.undelivered()), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_ones_own_ends_with_the_client() {
    bounded(async {
        for (clean_start, expiry, said) in [
            (true, None, "DISCONNECT Success expiry 0"),
            (false, None, "DISCONNECT Success"),
            (true, Some(60), "DISCONNECT Success expiry 60"),
            (false, Some(0), "DISCONNECT Success expiry 0"),
        ] {
            let options = Options { clean_start, ..options(Version::V5) };
            let (net, client) = meet_on(Manners::default(), options).await;
            let farewell = Farewell { session_expiry_interval: expiry, ..Farewell::default() };
            client.disconnect_with(farewell).await.unwrap();
            assert_eq!(net.sent(), [said]);
            let kept = !said.ends_with("expiry 0");
            assert_eq!(net.with(|server| server.remembers("teller")), kept);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_will_is_for_those_who_are_lost() {
    both(async |version| {
        let will = || Some(Will { qos: AtLeastOnce, ..Will::new("will", "lost") });
        let wills = |net: &Net<Server>| net.with(|server| server.wills.len());
        let options = || Options { will: will(), ..options(version) };
        let (net, client) = meet_on(Manners::default(), options()).await;
        client.disconnect().await.unwrap();
        assert_eq!(wills(&net), 0);
        let client = net.connect(options()).await.unwrap();
        net.cut();
        settle().await;
        assert_eq!(wills(&net), 1);
        client.connected().await.unwrap();
        let reason = ReasonCode::DisconnectWithWillMessage;
        client.disconnect_with(Farewell { reason, ..Farewell::default() }).await.unwrap();
        assert_eq!(wills(&net), 1 + usize::from(version.is_v5()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_outcome_in_time_is_unfinished() {
    both(async |version| {
        for (patience, expected) in [(None, 10), (Some(3), 3)] {
            let (net, client) = meet(version).await;
            let deliveries = unanswered(&net, &client).await;
            let mut farewell = Farewell::default();
            farewell.patience = patience.map_or(farewell.patience, Duration::from_secs);
            let started = Instant::now();
            let other = client.clone();
            let (result, again) =
                tokio::join!(client.disconnect_with(farewell), other.disconnect());
            assert_eq!(result.unwrap_err().publishes, 6);
            assert_eq!(again.unwrap_err().publishes, 6, "as was told first");
            let elapsed = started.elapsed().as_secs();
            assert!((expected..=expected + 1).contains(&elapsed), "{elapsed} s");
            assert_eq!(outcomes(deliveries).await, [const { Err(PublishError::Closed) }; 6]);
            assert_eq!(client.disconnect().await.unwrap_err().publishes, 6);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn disconnecting_offline() {
    both(async |version| {
        let (net, client) = meet(version).await;
        net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
        net.cut();
        settle().await;
        let started = Instant::now();
        client.disconnect().await.unwrap();
        assert!(started.elapsed().as_millis() < 10, "there is nothing to wait for");

        for back in [true, false] {
            net.usual(Plan::Open);
            let client = net.connect(options(version)).await.unwrap();
            net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
            net.cut();
            settle().await;
            let delivery = client.publish("a", "1").qos(AtLeastOnce).accepted().await.unwrap();
            let later = async {
                pass(1).await;
                if back {
                    net.usual(Plan::Open);
                }
            };
            let patience = Duration::from_secs(120);
            let farewell = Farewell { patience, ..Farewell::default() };
            let (result, ()) = tokio::join!(client.disconnect_with(farewell), later);
            assert_eq!(result.is_ok(), back);
            assert_eq!(delivery.await.is_ok(), back);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn all_the_patience_in_the_world() {
    both(async |version| {
        for offline in [false, true] {
            let (net, client) = meet(version).await;
            let deliveries = unanswered(&net, &client).await;
            if offline {
                net.usual(Plan::Hang);
                net.cut();
            }
            let farewell = Farewell { patience: Duration::MAX, ..Farewell::default() };
            let later = async {
                pass(100).await;
                net.with(|server| server.manners.frozen = false);
                net.usual(Plan::Open);
            };
            let (result, ()) = tokio::join!(client.disconnect_with(farewell), later);
            result.unwrap();
            assert_eq!(outcomes(deliveries).await, [const { Ok(()) }; 6]);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_closes() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        let other = client.clone();
        net.trace();
        for (number, qos) in LEVELS.into_iter().enumerate() {
            let _ = client.publish("b", number.to_string()).qos(qos).accepted().await;
        }
        drop((client, other));
        pass(60).await;
        assert!(net.is_open(), "somebody still reads");
        drop(messages);
        settle().await;
        assert_eq!(net.sent().last().unwrap(), "DISCONNECT Success");
        assert!(!net.is_open());
        assert_eq!(net.accepted(), ["0", "1", "2"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_handles() {
    both(async |version| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        drop(client);
        net.cut();
        pass(10).await;
        net.publish("a", "1", AtLeastOnce);
        assert_eq!(text(&messages.next().await.unwrap()), "1");
    })
    .await;
}
