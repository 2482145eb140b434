//! Silence: when it is broken, and what is concluded from it.

use std::time::Duration;

use mqtt_core::Error;
use tokio::time::Instant;

use crate::support::*;

const KEEP_ALIVE: u16 = 10;

fn vigilant(version: Version) -> Options {
    Options { keep_alive: KEEP_ALIVE, ..options(version) }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_where_nothing_is_said() {
    both(async |version| {
        let (net, client) = meet_on(Manners::default(), vigilant(version)).await;
        pass(1_000).await;
        let sent = net.sent();
        assert!(sent.iter().all(|line| line == "PINGREQ"), "{sent:?}");
        assert_eq!(sent.len(), 100, "the server watches that it is no less");
        assert_eq!(client.counters().connections, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_keep_alive_nobody_asks() {
    both(async |version| {
        let (net, client) = meet(version).await;
        net.with(|server| server.manners.frozen = true);
        pass(100_000).await;
        assert_eq!(net.sent(), [""; 0]);
        assert_eq!(client.counters().connections, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_keep_alive_counts() {
    bounded(async {
        let terms = ConnAck { server_keep_alive: Some(3), ..ConnAck::default() };
        let manners = Manners { terms, ..Manners::default() };
        let (net, _client) = meet_on(manners, vigilant(Version::V5)).await;
        pass(30).await;
        assert_eq!(net.sent().len(), 10);
    })
    .await;
}

/// How a server falls silent.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// It takes what is sent, and does nothing.
    Frozen,
    /// Nothing gets through, and soon no more can be written.
    Stalled,
}

/// How long it takes until a silent server is noticed by a client that publishes at this QoS every
/// so often.
async fn noticed(version: Version, silence: Silence, publishes: Option<(QoS, u64)>) -> Duration {
    let (net, client) = meet_on(Manners::default(), vigilant(version)).await;
    net.wire(|wire| wire.weather.window = 20_000);
    let program = client.clone();
    let task = tokio::spawn(async move {
        let Some((qos, millis)) = publishes else { return };
        loop {
            let _ = program.publish("a", vec![0; 1_000]).qos(qos).try_publish();
            sleep(Duration::from_millis(millis)).await;
        }
    });
    pass(25).await;
    match silence {
        Silence::Frozen => net.with(|server| server.manners.frozen = true),
        Silence::Stalled => net.stall(true),
    }
    let silent = Instant::now();
    let cause = lost(&client).await;
    let silent = silent.elapsed();
    assert!(matches!(cause, ConnectionError::Protocol(Error::KeepAliveTimeout)), "{cause}");
    task.abort();
    silent
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_noticed_within_one_and_a_half_keep_alives() {
    both(async |version| {
        for silence in [Silence::Frozen, Silence::Stalled] {
            let often = LEVELS.map(|qos| Some((qos, 1_000)));
            let seldom = LEVELS.map(|qos| Some((qos, 9_999)));
            for publishes in often.into_iter().chain(seldom).chain([None, Some((AtMostOnce, 10))]) {
                let elapsed = noticed(version, silence, publishes).await.as_millis();
                let most = u128::from(KEEP_ALIVE) * 1_500;
                assert!(elapsed <= most, "{elapsed} ms: {silence:?}, {publishes:?}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_payload_is_a_sign_of_life() {
    both(async |version| {
        let (net, client) = meet_on(Manners::default(), vigilant(version)).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.wire(|wire| wire.weather = Weather { piece: 2_000, delay: 4_000, window: 2_000 });
        net.with(|server| server.manners.strict = false);
        net.publish("a", vec![b'x'; 100_000], AtLeastOnce);
        assert_eq!(messages.next().await.unwrap().payload.len(), 100_000);
        assert_eq!(client.counters().connections, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_reads_nothing_costs_bounded_memory() {
    both(async |version| {
        let queue = QueueLimits { messages: 100, ..QueueLimits::default() };
        let (net, client) =
            meet_on(Manners::default(), Options { queue, ..options(version) }).await;
        net.wire(|wire| wire.weather.window = 10_000);
        net.stall(true);
        let mut count = 0;
        loop {
            match client.publish("a", format!("{count:01000}")).try_publish() {
                Ok(_) => count += 1,
                Err(error) => {
                    settle().await; // it may have written what it had
                    if client.publish("a", format!("{count:01000}")).try_publish().is_err() {
                        assert_eq!(error, PublishError::Full);
                        break;
                    }
                    count += 1;
                }
            }
        }
        assert_eq!(client.counters().queued, 100);
        assert!(count < 100 + 10 + 2 * 80, "{count} of 1,000 bytes each, twice 64 KiB in between");
        net.stall(false);
        settle().await;
        let accepted = net.accepted();
        assert_eq!(accepted.len(), count);
        assert!(accepted.is_sorted());
    })
    .await;
}
