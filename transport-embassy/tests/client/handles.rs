use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
};

use embassy_futures::{
    join::{join, join3},
    poll_once,
    select::{Either, select},
};
use embassy_time::Duration;
use mqtt_core::{Connect, Filter, Publish, QoS, ReasonCode, Topic, Version, store::Fixed};
use transport_embassy::{AcknowledgeError, Options, PublishError, Status, SubscribeError};

use crate::{
    publishing::options,
    world::{Client, Resources, World, server, sleep, task},
};

fn topic(name: &str) -> Topic<'_> {
    Topic::new(name).unwrap()
}

fn filter(name: &str) -> Filter<'_> {
    Filter::new(name).unwrap()
}

fn message<'a>(name: &'a str, qos: QoS, payload: &'a [u8]) -> Publish<'a> {
    Publish { qos, ..Publish::new(topic(name), payload) }
}

/// Polls a future so many times, whenever it is woken, and drops it. What it gave, if it did.
async fn poll_times<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|cx: &mut Context<'_>| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        if polls == times {
            cx.waker().wake_by_ref(); // that was the last time
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Takes numbers until one of `until` comes.
async fn numbers(client: &Client<'_>, until: u8) -> Vec<u8> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&until) {
        numbers.push(client.receive().await.unwrap().payload()[0]);
    }
    numbers
}

const LAST: u8 = 255;

#[test]
fn a_publish_dropped_at_any_poll_is_sent_once_or_not_at_all() {
    let world = World::new(1);
    world.wire.borrow_mut().delay = 2;
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        client.subscribe(filter("n"), QoS::ExactlyOnce).await.unwrap();
        let mut accepted = Vec::new();
        let publishing = async {
            for number in 0..60 {
                // Every second one meets a full store, and so waits before it is accepted.
                while number % 2 == 1
                    && client.try_publish(&message("other", QoS::AtLeastOnce, b"")).is_ok()
                {
                }
                let payload = [number];
                let message = message("n", QoS::ExactlyOnce, &payload);
                let publishing = async {
                    let publication = client.send(&message).await.unwrap();
                    accepted.push(number);
                    publication.outcome().await.unwrap()
                };
                poll_times(usize::from(number) / 4, publishing).await;
            }
            client.publish(&message("n", QoS::ExactlyOnce, &[LAST])).await.unwrap();
        };
        let (_, arrived) = join(publishing, numbers(&client, LAST)).await;
        assert!(accepted.len() > 20 && accepted.len() < 60, "both happened: {accepted:?}");
        accepted.push(LAST);
        assert_eq!(arrived, accepted);
    });
}

/// As many as the broker has places for.
const COUNT: u8 = 40;

#[test]
fn a_receive_dropped_at_any_poll_loses_nothing() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        client.subscribe(filter("n"), QoS::ExactlyOnce).await.unwrap();
        let publishing = async {
            for number in 0..COUNT {
                client.publish(&message("n", QoS::ExactlyOnce, &[number])).await.unwrap();
            }
        };
        let receiving = async {
            let mut next = 0;
            while next < COUNT {
                if let Some(message) = poll_times(usize::from(next) % 3, client.receive()).await {
                    assert_eq!(message.unwrap().payload(), [next]);
                    next += 1;
                } else {
                    sleep(1).await;
                    if let Poll::Ready(message) = poll_once(client.receive()) {
                        assert_eq!(message.unwrap().payload(), [next]);
                        next += 1;
                    }
                }
            }
        };
        join(publishing, receiving).await;
    });
}

#[test]
fn a_subscription_is_made_though_nobody_waits_for_it() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        for (polls, name) in [(1, "a"), (2, "b")] {
            poll_times(polls, client.subscribe(filter(name), QoS::AtMostOnce)).await;
        }
        sleep(1_000).await;
        assert_eq!(client.granted(filter("a")), Some(QoS::AtMostOnce));
        assert_eq!(client.granted(filter("b")), Some(QoS::AtMostOnce));
        client.publish(&message("a", QoS::AtMostOnce, b"x")).await.unwrap();
        assert_eq!(client.receive().await.unwrap().topic(), "a");
        client.unsubscribe(filter("a")).await.unwrap();
        assert_eq!(client.granted(filter("a")), None);
        client.publish(&message("a", QoS::AtLeastOnce, b"x")).await.unwrap();
        assert!(poll_once(client.receive()).is_pending());
    });
}

#[test]
fn subscriptions_have_places() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        for name in ["1", "2", "3", "4", "4"] {
            client.subscribe(filter(name), QoS::AtMostOnce).await.unwrap();
        }
        let full = Err(SubscribeError::Full);
        assert_eq!(client.subscribe(filter("5"), QoS::AtMostOnce).await, full);
        client.unsubscribe(filter("1")).await.unwrap();
        let long = "longer/than/thirty-two/bytes/which/is/all";
        assert_eq!(client.subscribe(filter(long), QoS::AtMostOnce).await, full);
        client.subscribe(filter("5"), QoS::AtMostOnce).await.unwrap();
    });
}

/// Floods `alice`, who takes nothing, and lets her wait for an outcome.
fn flooded(qos: QoS, act: impl AsyncFnOnce(&Client<'_>)) {
    let world = World::new(1);
    let mut server = server();
    let mut resources = [(); 2].map(|()| Resources::new(Version::V5, Fixed::new()));
    let [first, second] = &mut resources;
    let (alice, mut runner) = first.split(options("alice"));
    let (bob, mut other_runner) = second.split(options("bob"));
    let (tcp, other_tcp, listeners) = (world.tcp(), world.tcp(), world.listeners());
    let tasks =
        [task(server.serve(listeners)), task(runner.run(tcp)), task(other_runner.run(other_tcp))];
    world.run(tasks, async {
        alice.subscribe(filter("flood"), qos).await.unwrap();
        for _ in 0..20 {
            bob.publish(&message("flood", qos, &[7; 100])).await.unwrap();
        }
        sleep(100).await;
        act(&alice).await;
    });
}

#[test]
fn unread_messages_hold_back_no_outcomes() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        flooded(qos, async |alice| {
            alice.publish(&message("t", QoS::AtLeastOnce, b"x")).await.unwrap();
            alice.publish(&message("t", QoS::ExactlyOnce, b"x")).await.unwrap();
            alice.subscribe(filter("more"), QoS::AtMostOnce).await.unwrap();
            if qos == QoS::AtMostOnce {
                return; // some were dropped for that
            }
            for _ in 0..20 {
                assert_eq!(alice.receive().await.unwrap().payload(), [7; 100]);
            }
            assert_eq!(alice.dropped(), 0);
        });
    }
}

#[test]
fn messages_that_nobody_takes_are_dropped_at_qos_0_some_time_and_counted() {
    flooded(QoS::AtMostOnce, async |alice| {
        sleep(1_000).await;
        assert_eq!(alice.dropped(), 0);
        sleep(300_000).await;
        assert_eq!(alice.dropped(), 17, "but for three in their buffers");
        assert!(matches!(alice.status(), Status::Connected { .. }));
    });
}

#[test]
fn a_message_that_is_held_is_acknowledged_by_its_receipt() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    let wire = world.wire.clone();
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        client.subscribe(filter("n"), QoS::ExactlyOnce).await.unwrap();
        let publishing = async {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                client.publish(&message("n", qos, &[qos as u8])).await.unwrap();
            }
        };
        let receiving =
            async { [(); 2].map(async |()| client.receive().await.unwrap().hold().unwrap()) };
        let (_, [first, second]) = join(publishing, receiving).await;
        let receipts = (first.await, second.await);
        // What was not acknowledged comes again at QoS 1, and does not at QoS 2.
        wire.borrow_mut().up = false;
        sleep(3_000).await;
        wire.borrow_mut().up = true;
        let again = client.receive().await.unwrap();
        assert_eq!((again.qos(), again.payload()), (QoS::AtLeastOnce, &[1][..]));
        let stale = client.acknowledge(receipts.0, ReasonCode::Success).await;
        assert_eq!(stale, Err(AcknowledgeError::Stale));
        drop(again);
        client.acknowledge(receipts.1, ReasonCode::Success).await.unwrap();
        let twice = client.acknowledge(receipts.1, ReasonCode::Success).await;
        assert_eq!(twice, Err(AcknowledgeError::Stale));
        sleep(10_000).await;
        assert!(poll_once(client.receive()).is_pending());
    });
}

#[test]
fn a_lost_session_is_rebuilt() {
    let world = World::new(1);
    let (mut first, mut second) = (server(), server());
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners, others) = (world.tcp(), world.listeners(), world.listeners());
    let wire = world.wire.clone();
    let servers = async {
        let lasts = async {
            while wire.borrow().loss < 1_000 {
                sleep(10).await;
            }
            sleep(1_000).await;
        };
        select(first.serve(listeners), lasts).await;
        wire.borrow_mut().loss = 0;
        second.serve(others).await;
    };
    world.run([task(servers), task(runner.run(tcp))], async {
        client.subscribe(filter("n"), QoS::ExactlyOnce).await.unwrap();
        wire.borrow_mut().loss = 1_000; // and then the server is another
        let least = client.send(&message("n", QoS::AtLeastOnce, &[1])).await.unwrap();
        let exact = client.send(&message("n", QoS::ExactlyOnce, &[2])).await.unwrap();
        let received = client.receive();
        let (least, exact, received) = join3(least.outcome(), exact.outcome(), received).await;
        assert_eq!(least, Ok(ReasonCode::Success));
        assert_eq!(exact, Err(PublishError::SessionLost));
        assert_eq!(received.unwrap().payload(), [1]);
        assert_eq!(client.granted(filter("n")), Some(QoS::ExactlyOnce));
        assert_eq!(client.status(), Status::Connected { session_present: false });
    });
}

#[test]
fn what_waits_is_told_of_the_end() {
    let world = World::new(1);
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let once =
        Options { retry_first: false, connect_timeout: Duration::from_secs(1), ..options("a") };
    let (client, mut runner) = resources.split(once);
    let tcp = world.tcp();
    world.run([task(runner.run(tcp))], async {
        let note = message("n", QoS::AtLeastOnce, b"");
        assert_eq!(client.try_publish(&note).unwrap_err(), PublishError::Busy);
        let waiting = join3(
            client.publish(&note),
            client.subscribe(filter("n"), QoS::AtMostOnce),
            client.receive(),
        );
        let (published, subscribed, received) = waiting.await;
        assert_eq!(published, Err(PublishError::Closed));
        assert_eq!(subscribed, Err(SubscribeError::Closed));
        assert!(received.is_none());
        assert!(!client.connected().await);
    });
}

#[test]
fn a_clean_start_discards_what_was_there_before_the_program() {
    for version in [Version::V3_1_1, Version::V5] {
        let world = World::new(1);
        let mut server = server();
        let mut resources = [(); 3].map(|()| Resources::new(version, Fixed::new()));
        let [first, second, third] = &mut resources;
        let keeps = |clean_start| Options {
            connect: Connect { clean_start, ..options("alice").connect },
            ..options("alice")
        };
        let (before, mut before_runner) = first.split(keeps(true));
        let (kept, mut kept_runner) = second.split(keeps(false));
        let (after, mut after_runner) = third.split(keeps(true));
        let (tcp, listeners) = ([(); 3].map(|()| world.tcp()), world.listeners());
        let [first_tcp, second_tcp, third_tcp] = tcp;
        world.run([task(server.serve(listeners))], async {
            let subscribing = async {
                before.subscribe(filter("n"), QoS::AtLeastOnce).await.unwrap();
                before.disconnect().await;
            };
            let _ = join(before_runner.run(first_tcp), subscribing).await;
            let present = async {
                assert!(kept.connected().await);
                kept.publish(&message("n", QoS::AtLeastOnce, b"x")).await.unwrap();
                assert!(kept.receive().await.is_some(), "the subscription of before");
                kept.disconnect().await;
            };
            let _ = join(kept_runner.run(second_tcp), present).await;
            let gone = async {
                assert!(after.connected().await);
                after.publish(&message("n", QoS::AtLeastOnce, b"x")).await.unwrap();
                match select(after.receive(), sleep(5_000)).await {
                    Either::First(_) => panic!("it should be gone"),
                    Either::Second(()) => after.disconnect().await,
                }
            };
            let _ = join(after_runner.run(third_tcp), gone).await;
        });
    }
}

#[test]
fn a_clean_start_is_for_the_first_connection_also_if_that_is_dropped() {
    for version in [Version::V3_1_1, Version::V5] {
        let world = World::new(1);
        let mut server = server();
        let mut resources = Resources::new(version, Fixed::new());
        let (client, mut runner) = resources.split(options("alice"));
        let (listeners, [first, second]) = (world.listeners(), [(); 2].map(|()| world.tcp()));
        world.run([task(server.serve(listeners))], async {
            select(runner.run(first), client.subscribe(filter("n"), QoS::AtLeastOnce)).await;
            assert_eq!(client.status(), Status::Idle);
            let connected = async {
                while !matches!(client.status(), Status::Connected { .. }) {
                    sleep(10).await;
                }
                client.status()
            };
            let Either::Second(status) = select(runner.run(second), connected).await else {
                panic!("it has ended")
            };
            assert_eq!(status, Status::Connected { session_present: true });
        });
    }
}
