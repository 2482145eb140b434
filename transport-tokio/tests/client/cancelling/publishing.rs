//! Publishes, dropped: those that were accepted are delivered, others are not sent.

use std::io;

use super::*;

/// Publishes without being dropped.
async fn publish(client: &Client, payload: &str) -> String {
    told(client.publish("a", payload.to_owned()).qos(AtLeastOnce).await)
}

/// Others publish before and afterwards.
async fn between(version: Version, act: impl AsyncFn(&Net<Server>, &Client)) -> Record {
    let (net, client) = meet(version).await;
    let before = publish(&client, "before").await;
    act(&net, &client).await;
    settle().await;
    client.connected().await.expect("a connection");
    settle().await;
    let after = publish(&client, "after").await;
    Record::of(&net, client, vec![before, after]).await
}

#[tokio::test(start_paused = true)]
async fn connected() {
    for qos in LEVELS {
        let waits = usize::from(qos != AtMostOnce);
        everywhere(waits, Effect::AllFrom(1), async |version, knife| {
            between(version, async |_, client| {
                knife.apply(client.publish("a", "subject").qos(qos).into_future()).await;
            })
            .await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn offline() {
    for qos in LEVELS {
        let waits = usize::from(qos != AtMostOnce);
        everywhere(waits, Effect::AllFrom(1), async |version, knife| {
            between(version, async |net, client| {
                net.plan(Plan::Refuse(io::ErrorKind::ConnectionRefused));
                net.cut();
                settle().await;
                knife.apply(client.publish("a", "subject").qos(qos).into_future()).await;
            })
            .await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_connection_is_lost() {
    for (qos, forget) in [(AtLeastOnce, false), (AtLeastOnce, true), (ExactlyOnce, false)] {
        everywhere(1, Effect::AllFrom(1), async |version, knife| {
            between(version, async |net, client| {
                net.with(|server| server.manners.frozen = true);
                let subject = knife.apply(client.publish("a", "subject").qos(qos).into_future());
                let breaks = async {
                    sleep(std::time::Duration::from_millis(5)).await;
                    net.cut();
                    net.with(|server| {
                        server.manners.frozen = false;
                        if forget {
                            server.forget();
                        }
                    });
                };
                tokio::join!(subject, breaks);
            })
            .await
        })
        .await;
    }
}

/// There is no room, until there is a connection again.
async fn crowded(version: Version, subject: impl AsyncFn(&Client)) -> Record {
    let queue = QueueLimits { messages: 1, ..QueueLimits::default() };
    let (net, client) = meet_on(Manners::default(), Options { queue, ..options(version) }).await;
    net.usual(Plan::Refuse(io::ErrorKind::ConnectionRefused));
    net.cut();
    settle().await;
    let others = async {
        let first = publish(&client, "first");
        let last = async {
            sleep(std::time::Duration::from_millis(5)).await;
            publish(&client, "last").await
        };
        let back = async {
            pass(1).await;
            net.usual(Plan::Open);
        };
        let (first, last, ()) = tokio::join!(first, last, back);
        vec![first, last]
    };
    let subject = async {
        settle().await;
        subject(&client).await;
    };
    let (told, ()) = tokio::join!(others, subject);
    net.trace(); // how often it tried to connect is another matter
    let mut record = Record::of(&net, client, told).await;
    record.up.clear();
    record
}

#[tokio::test(start_paused = true)]
async fn waiting_for_room() {
    for qos in LEVELS {
        // With one poll it stands in the line; dropped when it is woken, it has left it already.
        everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
            crowded(version, async |client| {
                knife.apply(client.publish("a", "subject").qos(qos).into_future()).await;
            })
            .await
        })
        .await;
        everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
            crowded(version, async |client| {
                knife.apply(client.publish("a", "subject").qos(qos).accepted()).await;
            })
            .await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn still_waiting_for_room() {
    for (when, qos) in LEVELS.into_iter().flat_map(|qos| [(When::Then, qos), (When::AtRest, qos)]) {
        both(async |version| {
            let knife = Knife::new(when, 1);
            let record = crowded(version, async |client| {
                knife.apply(client.publish("a", "subject").qos(qos).into_future()).await;
            });
            assert_eq!(record.await.accepted, ["first", "last"]);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn until_it_is_accepted() {
    for qos in LEVELS {
        // It is, with the first poll.
        everywhere(0, Effect::AllFrom(1), async |version, knife| {
            between(version, async |_, client| {
                drop(knife.apply(client.publish("a", "subject").qos(qos).accepted()).await);
            })
            .await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn until_it_is_delivered() {
    for (qos, cut) in LEVELS.into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        let waits = usize::from(qos != AtMostOnce);
        everywhere(waits, Effect::None, async |version, knife| {
            between(version, async |net, client| {
                let delivery = client.publish("a", "subject").qos(qos).accepted().await.unwrap();
                if cut {
                    net.cut();
                }
                knife.apply(delivery).await;
            })
            .await
        })
        .await;
    }
}
