//! Publishers wait for subscribers that are slower, as long as these move.

use std::time::Duration;

use transport_tokio::transport::Connector;

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
    for qos in [AtLeastOnce, ExactlyOnce] {
        bounded(two_who_wait_for_each_other(qos)).await;
    }
}

async fn two_who_wait_for_each_other(qos: QoS) {
    let broker = broker().await;
    let mut ends = Vec::new();
    for (name, other) in [("a", "b"), ("b", "a")] {
        let client = connect(&broker, named(name)).await;
        let mut messages = client.subscribe(name, qos).await.unwrap();
        ends.push(tokio::spawn(async move {
            let sends = async {
                for number in 0..MANY / 5 {
                    let message = client.publish(other, number.to_string()).qos(qos);
                    drop(message.accepted().await.unwrap());
                }
                client.publish(other, "end").qos(qos).await.unwrap();
            };
            let hears = async { while next(&mut messages).await != "end" {} };
            tokio::join!(sends, hears);
            (client, messages)
        }));
    }
    for end in ends {
        end.await.unwrap();
    }
    assert_eq!(statistics(&broker).await.dropped(), 0, "{qos:?}");
}

/// A bare 3.1.1 client within the process, that subscribes to its name.
async fn listener(broker: &Broker, name: u8) -> impl AsyncReadExt + AsyncWriteExt + Unpin + use<> {
    let mut pipe = Connector::connect(&mut broker.connector()).await.unwrap();
    let connect = [&b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01"[..], &[name]].concat();
    let subscribe = [&b"\x82\x06\0\x01\0\x01"[..], &[name], b"\x01"].concat();
    pipe.write_all(&[connect, subscribe].concat()).await.unwrap();
    let mut answer = [0; 9];
    pipe.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"\x20\x02\0\0\x90\x03\0\x01\x01");
    pipe
}

/// Each has said what makes the other wait before it acknowledges anything, and acknowledges behind that: no
/// tick is waited for, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn acknowledgements_do_not_wait_behind_a_message_that_waits() {
    const COUNT: u8 = 40;
    for hangs_up in [false, true] {
        let config = Config { queue_messages: 20, ..Config::default() };
        let broker = Broker::builder().config(config).sys_interval(Duration::ZERO);
        let broker = broker.serve().await.unwrap();
        let mut ends = [listener(&broker, b'a').await, listener(&broker, b'b').await];
        for (end, other) in ends.iter_mut().zip([b'b', b'a']) {
            let says = (1..=COUNT).flat_map(|id| [0x32, 7, 0, 1, other, 0, id, b'x', id]);
            end.write_all(&says.collect::<Vec<_>>()).await.unwrap();
        }
        let began = tokio::time::Instant::now();
        let hears = ends.into_iter().map(async |mut end| {
            let (mut heard, mut told) = (0, 0);
            while heard < COUNT || told < COUNT {
                let mut header = [0; 2];
                end.read_exact(&mut header).await.unwrap();
                let mut body = vec![0; header[1].into()];
                end.read_exact(&mut body).await.unwrap();
                if header[0] == 0x40 {
                    told += 1;
                    assert_eq!(body, [0, told]);
                    continue;
                }
                heard += 1;
                assert_eq!((header[0], body[6]), (0x32, heard));
                end.write_all(&[0x40, 2, body[3], body[4]]).await.unwrap();
            }
            if hangs_up {
                end.write_all(b"\xe0\0").await.unwrap();
            }
            end
        });
        let [a, b] = <[_; 2]>::try_from(hears.collect::<Vec<_>>()).ok().unwrap();
        let ends = bounded(async { tokio::join!(a, b) }).await;
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        assert_eq!(statistics(&broker).await.dropped(), 0);
        drop(ends);
    }
}

/// Who has said all, and hung up, is heard to the end though it has to wait: its message, and that it leaves.
#[tokio::test(start_paused = true)]
async fn who_hangs_up_while_it_waits_is_heard_to_the_end() {
    let config = Config { queue_messages: 20, ..Config::default() };
    let broker = Broker::builder().config(config).sys_interval(Duration::ZERO);
    let broker = broker.serve().await.unwrap();
    let mut slow = listener(&broker, b'a').await;
    let mut witness = listener(&broker, b'w').await;
    let mut leaves = Connector::connect(&mut broker.connector()).await.unwrap();
    // CONNECT with a will, on `w`.
    leaves.write_all(b"\x10\x16\0\x04MQTT\x04\x06\0\0\0\x01l\0\x01w\0\x04will").await.unwrap();
    for id in 1..=40 {
        leaves.write_all(&[0x32, 7, 0, 1, b'a', 0, id, b'x', id]).await.unwrap();
    }
    leaves.write_all(b"\x30\x07\0\x01wlast\xe0\0").await.unwrap();
    leaves.shutdown().await.unwrap();
    // The broker has turns enough to see that.
    for _ in 0..10 {
        statistics(&broker).await;
    }
    for heard in 1..=40 {
        let mut message = [0; 9];
        bounded(slow.read_exact(&mut message)).await.unwrap();
        assert_eq!((message[0], message[8]), (0x32, heard));
        slow.write_all(&[0x40, 2, message[5], message[6]]).await.unwrap();
    }
    until(&broker, |now| now.clients == 2).await;
    let mut said = [0; 9];
    witness.read_exact(&mut said).await.unwrap();
    assert_eq!(said, *b"\x30\x07\0\x01wlast");
    let more = tokio::time::timeout(Duration::from_secs(1), witness.read_u8()).await;
    assert!(more.is_err(), "it has left, and no will follows: {more:?}");
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
