//! Publishers wait for subscribers that are slower, as long as these move.

use std::time::Duration;

use crate::support::*;

const MANY: usize = 10_000;

#[tokio::test]
async fn a_slower_subscriber_at_qos_1_and_2_loses_nothing() {
    bounded(async {
        for qos in [AtLeastOnce, ExactlyOnce] {
            let broker = broker().await;
            // It takes 20 at once, and only when it is asked to.
            let reader = connect(&broker, Options { receive_maximum: 20, ..named("reader") }).await;
            let mut messages = reader.subscribe("a", qos).await.unwrap();
            let mut quick =
                connect(&broker, named("quick")).await.subscribe("a", qos).await.unwrap();
            let publisher = connect(&broker, named("publisher")).await;
            let publishes = tokio::spawn(async move {
                for number in 0..MANY {
                    let message = publisher.publish("a", number.to_string()).qos(qos);
                    drop(message.accepted().await.unwrap());
                }
                publisher
            });
            let reads = tokio::spawn(async move {
                for number in 0..MANY {
                    assert_eq!(next(&mut quick).await, number.to_string());
                }
                quick
            });
            for number in 0..MANY {
                assert_eq!(next(&mut messages).await, number.to_string());
                if number % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let ended = (publishes.await.unwrap(), reads.await.unwrap());
            let now = statistics(&broker).await;
            assert_eq!(now.dropped(), 0, "{now:?}");
            drop((ended, reader));
        }
    })
    .await;
}

#[tokio::test]
async fn one_who_acknowledges_nothing_costs_only_itself() {
    bounded(async {
        let broker = broker().await;
        let mut deaf = hello(&broker, b'd').await;
        deaf.write_all(b"\x82\x06\0\x01\0\x01a\x01").await.unwrap();
        let reader = connect(&broker, named("reader")).await;
        let mut messages = reader.subscribe("a", AtLeastOnce).await.unwrap();
        let publisher = connect(&broker, named("publisher")).await;
        let publishes = tokio::spawn(async move {
            for number in 0..MANY {
                let message = publisher.publish("a", number.to_string()).qos(AtLeastOnce);
                drop(message.accepted().await.unwrap());
            }
            publisher
        });
        for number in 0..MANY {
            assert_eq!(next(&mut messages).await, number.to_string());
        }
        let publisher = publishes.await.unwrap();
        let now = statistics(&broker).await;
        // It has 20 on their way, and 1,000 that wait.
        assert_eq!(now.messages.dropped_overflow as usize, MANY - 1_020);
        drop((publisher, deaf));
    })
    .await;
}

#[tokio::test]
async fn two_who_wait_for_each_other_go_on() {
    bounded(async {
        let broker = broker().await;
        let mut ends = Vec::new();
        for (name, other) in [("a", "b"), ("b", "a")] {
            let client = connect(&broker, named(name)).await;
            let mut messages = client.subscribe(name, AtLeastOnce).await.unwrap();
            ends.push(tokio::spawn(async move {
                let sends = async {
                    for number in 0..MANY / 5 {
                        let message = client.publish(other, number.to_string()).qos(AtLeastOnce);
                        drop(message.accepted().await.unwrap());
                    }
                    client.publish(other, "end").qos(AtLeastOnce).await.unwrap();
                };
                let hears = async { while next(&mut messages).await != "end" {} };
                tokio::join!(sends, hears);
                (client, messages)
            }));
        }
        for end in ends {
            end.await.unwrap();
        }
    })
    .await;
}

/// What a flood may say before others may say something is some 2 KiB, not all that was read of it.
#[cfg(unix)]
#[tokio::test]
async fn a_word_does_not_wait_for_a_flood() {
    bounded(async {
        let broker = broker().await;
        let mut reader = hello(&broker, b'r').await;
        reader.write_all(b"\x82\x06\0\x01\0\x01#\0").await.unwrap();
        reader.read_exact(&mut [0; 5]).await.unwrap();
        let flood = hello(&broker, b'f').await;
        let word = hello(&broker, b'w').await;
        // Both are there before the broker, which runs on this thread, has its turn.
        let message = b"\x30\x08\0\x05flood!";
        let all = message.repeat(1_600);
        assert_eq!(flood.try_write(&all).unwrap(), all.len());
        assert_eq!(word.try_write(b"\x30\x07\0\x04word!").unwrap(), 9);
        let mut got = vec![0; all.len() + 9];
        reader.read_exact(&mut got).await.unwrap();
        let before = got.windows(4).position(|four| four == b"word").unwrap() / message.len();
        assert!(before <= 3 * 1024 / message.len(), "{before} messages came before it");
    })
    .await;
}
