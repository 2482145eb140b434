//! Connecting, waiting and disconnecting, dropped; and the driver itself.

use std::io;

use super::*;

/// What a client leaves that has been dropped while it connected.
async fn left_by(net: &Net<Server>) -> Record {
    pass(600).await;
    assert!(!net.is_open(), "nobody has it any more");
    let (down, up) = net.trace().into_iter().partition(|line| line.starts_with('<'));
    Record { up, down, accepted: net.accepted(), told: Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn the_first_connection() {
    for slow in [false, true] {
        everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
            let net = Net::server(Manners::default(), version);
            if slow {
                net.wire(|wire| wire.weather = Weather { piece: 1, delay: 7, window: 5 });
            }
            drop(knife.apply(net.connect(options(version))).await);
            left_by(&net).await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_connection_that_takes_several_attempts() {
    everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
        let net = Net::server(Manners::default(), version);
        net.plan(Plan::Refuse(io::ErrorKind::ConnectionRefused));
        net.plan(Plan::Cut(Direction::Up, 5));
        let options = Options { retry_first: true, ..options(version) };
        drop(knife.apply(net.connect(options)).await);
        let mut record = left_by(&net).await;
        record.down.clear();
        record
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_first_connection_that_fails() {
    for plan in [Plan::Refuse(io::ErrorKind::ConnectionRefused), Plan::Hang] {
        everywhere(1, Effect::None, async |version, knife| {
            let net = Net::server(Manners::default(), version);
            net.plan(plan);
            drop(knife.apply(net.connect(options(version))).await);
            left_by(&net).await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_connection() {
    everywhere(1, Effect::None, async |version, knife| {
        let (net, client) = meet(version).await;
        net.plan(Plan::Refuse(io::ErrorKind::ConnectionRefused));
        net.cut();
        settle().await;
        knife.apply(client.connected()).await;
        let result = client.publish("a", "1").qos(AtLeastOnce).await;
        Record::of(&net, client, vec![told(result)]).await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn disconnecting() {
    for connected in [true, false] {
        everywhere(1, Effect::None, async |version, knife| {
            let (net, client) = meet(version).await;
            if !connected {
                net.cut();
                settle().await;
            }
            let mut deliveries = Vec::new();
            for number in 0..6 {
                let message = client.publish("a", number.to_string()).qos(LEVELS[number % 3]);
                deliveries.push(message.accepted().await.unwrap());
            }
            knife.apply(client.disconnect()).await;
            let mut outcomes = Vec::new();
            for delivery in deliveries {
                outcomes.push(told(delivery.await));
            }
            Record::of(&net, client, outcomes).await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_first_poll_it_disconnects() {
    both(async |version| {
        let (net, client) = meet(version).await;
        Knife::new(When::Then, 1).apply(client.disconnect()).await;
        assert_eq!(client.publish("a", "1").await, Err(PublishError::Closed));
        settle().await;
        assert!(!net.is_open());
    })
    .await;
}

/// A driver that is dropped takes its client with it: then everybody is told, whatever they wait for.
#[tokio::test(start_paused = true)]
async fn the_driver() {
    both(async |version| {
        for when in [When::Then, When::Woken, When::AtRest] {
            for polls in 0.. {
                let knife = Knife::new(when, polls);
                let net = Net::server(Manners::default(), version);
                let (client, driver) = net.client(options(version));
                let drive = async {
                    knife.apply(driver).await;
                };
                let work = async {
                    let (publishes, reading) =
                        tokio::join!(publish_all(&client), read(&net, &client));
                    let _ = client.disconnect().await;
                    assert!(client.status().borrow().is_final());
                    assert!(knife.has_cut.get() || publishes.iter().all(Result::is_ok));
                    assert!(knife.has_cut.get() || reading == 3);
                    let accepted = net.accepted();
                    for (number, outcome) in publishes.iter().enumerate().skip(1) {
                        let there = accepted.contains(&number.to_string());
                        assert!(outcome.is_err() || there, "{number}: {outcome:?}, {accepted:?}");
                    }
                };
                tokio::join!(drive, work);
                settle().await;
                assert!(!net.is_open());
                if !knife.has_cut.get() {
                    assert!(polls > 5, "the driver waits only {polls} times");
                    break;
                }
            }
        }
    })
    .await;
}

/// One publish at each level, at the same time.
async fn publish_all(client: &Client) -> Vec<Result<Published, PublishError>> {
    let publish =
        |number: usize| client.publish("a", number.to_string()).qos(LEVELS[number]).into_future();
    let (first, second, third) = tokio::join!(publish(0), publish(1), publish(2));
    vec![first, second, third]
}

/// How many of three messages were read.
async fn read(net: &Net<Server>, client: &Client) -> usize {
    let Ok(mut messages) = client.subscribe("b", ExactlyOnce).await else { return 0 };
    for qos in LEVELS {
        net.publish("b", "1", qos);
    }
    let mut count = 0;
    while count < 3 && messages.next().await.is_some() {
        count += 1;
    }
    count
}
