//! Clients that do not behave, and what they cost others.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::*;

/// SUBSCRIBE to `#`, at this QoS.
const fn subscribe(qos: u8) -> [u8; 8] {
    [0x82, 6, 0, 1, 0, 1, b'#', qos]
}

/// More than sockets and the broker can hold of what nobody reads, in messages of 8 KiB.
const FLOOD: usize = 4_000;

/// How many get all of it.
const READERS: usize = 3;

/// Publishes a flood to some who read and one who does not.
async fn flood(qos: QoS) {
    let config = Config { queue_messages: 100, queue_bytes: 1024 * 1024, ..Config::default() };
    let broker = serve(Broker::builder().config(config)).await;
    let mut deaf = hello(&broker, b'd').await;
    deaf.write_all(&subscribe(qos as u8)).await.unwrap();
    until(&broker, |now| now.sessions == 1).await;
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        let reader = connect(&broker, named(&format!("reader {number}"))).await;
        let mut messages = reader.subscribe("a", qos).await.unwrap();
        readers.spawn(async move {
            for number in 0..FLOOD {
                let message = messages.next().await.unwrap();
                let (count, _) = message.payload.split_first_chunk().unwrap();
                assert_eq!(u64::from_be_bytes(*count), number as u64);
            }
            drop(reader);
        });
    }
    let publisher = connect(&broker, named("publisher")).await;
    let mut payload = vec![0; 8 * 1024];
    let mut most = 0;
    let mut deliveries = std::collections::VecDeque::new();
    for number in 0..FLOOD {
        payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let message = publisher.publish("a", payload.clone()).qos(qos);
        deliveries.push_back(message.accepted().await.unwrap());
        if deliveries.len() > 100 {
            deliveries.pop_front().unwrap().await.unwrap();
        }
        if number % 100 == 0 {
            most = most.max(statistics(&broker).await.outgoing_bytes);
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    // Each connection 256 KiB, a packet, and what the broker itself has to say.
    assert!(most <= (1 + READERS) * (256 + 8 + 8) * 1024, "{most} bytes waited");
    let now = statistics(&broker).await;
    assert!(now.kept_bytes <= 2 * 1024 * 1024, "{} bytes are kept", now.kept_bytes);
    let dropped = now.messages.dropped_unread + now.messages.dropped_overflow;
    assert!(dropped > 0, "{now:?}");
    drop(deaf);
    until(&broker, |now| now.connections == 1 && now.outgoing_bytes == 0).await;
}

#[tokio::test]
async fn one_who_never_reads_harms_nobody_at_qos_0() {
    bounded(flood(AtMostOnce)).await;
}

#[tokio::test]
async fn one_who_never_reads_harms_nobody_at_qos_1() {
    bounded(flood(AtLeastOnce)).await;
}

#[tokio::test]
async fn one_who_never_reads_harms_nobody_at_qos_2() {
    bounded(flood(ExactlyOnce)).await;
}

#[tokio::test]
async fn one_who_never_reads_the_answers() {
    bounded(async {
        let broker = broker().await;
        let mut deaf = hello(&broker, b'd').await;
        let pings = b"\xc0\0".repeat(64 * 1024);
        let writes = tokio::spawn(async move {
            // Until nothing more is taken, and then until the connection is dropped.
            while deaf.write_all(&pings).await.is_ok() {}
        });
        until(&broker, |now| now.outgoing_bytes >= 256 * 1024).await;
        let other = connect(&broker, named("other")).await;
        for _ in 0..100 {
            other.publish("a", "b").qos(AtLeastOnce).await.unwrap();
        }
        assert!(statistics(&broker).await.outgoing_bytes <= (256 + 8) * 1024);
        writes.abort();
        until(&broker, |now| now.connections == 1).await;
    })
    .await;
}

#[tokio::test]
async fn packets_in_pieces() {
    bounded(async {
        let broker = broker().await;
        let mut socket = socket(&broker).await;
        let packets =
            b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a\x82\x06\0\x01\0\x01#\0\x30\x05\0\x01thi\xe0\0";
        for byte in packets {
            socket.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let expected = b"\x20\x02\0\0\x90\x03\0\x01\0\x30\x05\0\x01thi";
        assert_eq!(rest(&mut socket).await, expected);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_packet_ends_the_connection() {
    bounded(async {
        let broker = broker().await;
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0", b"\x10\xff\xff\xff\xff\xff"] {
            let mut socket = socket(&broker).await;
            socket.write_all(garbage).await.unwrap();
            assert_eq!(rest(&mut socket).await, b"", "{garbage:?}");
        }
        let mut giant = hello(&broker, b'g').await;
        giant.write_all(b"\x30\xff\xff\xff\x7f").await.unwrap();
        assert_eq!(rest(&mut giant).await, b"");
    })
    .await;
}

#[tokio::test]
async fn halves_of_packets_are_bounded_together() {
    bounded(async {
        let broker = serve(Broker::builder().incoming_bytes(120_000)).await;
        let mut sockets = Vec::new();
        // PUBLISH of 65,535 bytes, of which less and less comes: two are not too much, three are.
        for name in [b'a', b'b', b'c'] {
            let mut socket = hello(&broker, name).await;
            socket.write_all(b"\x30\xff\xff\x03\0\x01t").await.unwrap();
            socket.write_all(&vec![0; 60_000 - usize::from(name) * 100]).await.unwrap();
            sockets.push(socket);
        }
        until(&broker, |now| now.connections == 2).await;
        let mut rest_of_largest = Vec::new();
        // Closed with what it sent unread, or after it was read.
        let _ = sockets[0].read_to_end(&mut rest_of_largest).await;
        assert!(rest_of_largest.is_empty());
        let other = connect(&broker, named("other")).await;
        other.publish("a", "b").qos(AtLeastOnce).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_does_not_come() {
    let broker = broker().await;
    let mut silent = socket(&broker).await;
    let mut slow = socket(&broker).await;
    let trickle = async {
        for byte in b"\x10\x0d\0\x04MQTT\x04\x02\0\0" {
            slow.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        rest(&mut slow).await
    };
    let (silent, slow) = tokio::join!(rest(&mut silent), trickle);
    assert_eq!((silent, slow), (vec![], vec![]));
}

/// How many descriptors the broker has at its port: the system knows who holds each socket.
#[cfg(target_os = "linux")]
fn descriptors(broker: &Broker) -> usize {
    let (_, port) = broker.urls()[0].rsplit_once(':').expect("a port");
    let local = format!(":{:04X}", port.parse::<u16>().expect("a number"));
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("a table");
    let is_ours = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&local) && fields[9] != "0"
    };
    table.lines().skip(1).filter(is_ours).count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_descriptor_is_leaked() {
    bounded(async {
        let broker = broker().await;
        for round in 0..50_u8 {
            let mut half = socket(&broker).await;
            half.write_all(b"\x10\x0d\0\x04MQ").await.unwrap();
            drop(half);
            drop(hello(&broker, b'a' + round % 20).await);
            let mut polite = hello(&broker, b'z').await;
            polite.write_all(b"\xe0\0").await.unwrap();
            assert_eq!(rest(&mut polite).await, b"");
            let mut wrong = socket(&broker).await;
            wrong.write_all(b"\0\0").await.unwrap();
            assert_eq!(rest(&mut wrong).await, b"");
        }
        until(&broker, |now| now.connections == 0).await;
        assert_eq!(statistics(&broker).await.connections_accepted, 200);
        let stays = hello(&broker, b's').await;
        assert_eq!(descriptors(&broker), 2); // so it is no wonder
        drop(stays);
        until(&broker, |now| now.connections == 0).await;
        assert_eq!(descriptors(&broker), 1);
        broker.shutdown(Duration::from_secs(1)).await;
        assert_eq!(descriptors(&broker), 0);
    })
    .await;
}
