//! Many clients at once.

use tokio::task::JoinSet;

use crate::support::*;

/// Both ends of each connection are in this process: more than systems let one open by default.
#[cfg(unix)]
fn many_descriptors() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    let (_, most) = getrlimit(RLIMIT_NOFILE).expect("a limit");
    setrlimit(RLIMIT_NOFILE, most, most).expect("up to there");
}

#[cfg(not(unix))]
fn many_descriptors() {}

#[tokio::test]
async fn a_thousand_connections() {
    many_descriptors();
    bounded(async {
        let broker = broker().await;
        let mut clients = Vec::new();
        for number in 0..1_000 {
            let client = connect(&broker, named(&format!("client {number}"))).await;
            let messages = client.subscribe("all", LEVELS[number % 3]).await.unwrap();
            clients.push((client, messages));
        }
        let now = statistics(&broker).await;
        assert_eq!((now.connections, now.sessions), (1_000, 1_000));
        clients[0].0.publish("all", "hello").qos(ExactlyOnce).await.unwrap();
        for (_, messages) in &mut clients {
            assert_eq!(next(messages).await, "hello");
        }
        drop(clients);
        until(&broker, |now| now.connections == 0 && now.outgoing_bytes == 0).await;
    })
    .await;
}

const CROWD: usize = 100;
const EACH: usize = 10;

/// What each of 100 subscribers gets of each of 100 publishers.
async fn from_all_to_all(version: Version, qos: QoS) -> Vec<Vec<Vec<usize>>> {
    // So many that none is dropped, should one subscriber be behind with everything.
    let config = Config { queue_messages: CROWD * EACH, ..Config::default() };
    let broker = serve(Broker::builder().config(config)).await;
    let mut subscribers = JoinSet::new();
    for number in 0..CROWD {
        let options = Options { version, ..named(&format!("subscriber {number}")) };
        let client = connect(&broker, options).await;
        let mut messages = client.subscribe("from/+", qos).await.unwrap();
        let mut end = client.subscribe("end", AtLeastOnce).await.unwrap();
        subscribers.spawn(async move {
            let mut got = vec![Vec::new(); CROWD];
            let mut take = |message: transport_tokio::Message| {
                let from = message.topic.trim_start_matches("from/").parse::<usize>().unwrap();
                let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                got[from].push(number);
            };
            loop {
                tokio::select! {
                    biased;
                    message = messages.next() => take(message.unwrap()),
                    _ = end.next() => break,
                }
            }
            // What came before the end has been received before it.
            while let Some(message) = messages.try_next() {
                take(message);
            }
            drop(client);
            got
        });
    }
    let mut publishers = JoinSet::new();
    for number in 0..CROWD {
        let options = Options { version, ..named(&format!("publisher {number}")) };
        let client = connect(&broker, options).await;
        publishers.spawn(async move {
            let mut deliveries = Vec::new();
            for count in 0..EACH {
                let message = client.publish(format!("from/{number}"), count.to_string());
                deliveries.push(message.qos(qos).accepted().await.unwrap());
            }
            for delivery in deliveries {
                delivery.await.unwrap();
            }
            client.disconnect().await.unwrap();
        });
    }
    while let Some(done) = publishers.join_next().await {
        done.unwrap();
    }
    let last = connect(&broker, named("last")).await;
    // Those at QoS 1 and 2 that wait for the subscribers' answers are still to be delivered.
    until(&broker, |now| now.messages.sent as usize >= CROWD * CROWD * EACH).await;
    last.publish("end", "").qos(AtLeastOnce).await.unwrap();
    let now = statistics(&broker).await;
    assert_eq!((now.messages.dropped_unread, now.messages.dropped_overflow), (0, 0));
    subscribers.join_all().await
}

#[tokio::test]
async fn everything_from_all_to_all_in_order() {
    let all: Vec<usize> = (0..EACH).collect();
    for version in [Version::V3_1_1, Version::V5] {
        for qos in LEVELS {
            let got = bounded(from_all_to_all(version, qos)).await;
            assert_eq!(got.len(), CROWD);
            for from in got.iter().flatten() {
                assert_eq!(*from, all, "{version:?} {qos:?}");
            }
        }
    }
}
