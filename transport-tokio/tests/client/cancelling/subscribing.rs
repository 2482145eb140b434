//! Subscribing and unsubscribing, dropped: the server has the subscriptions that somebody reads.

use super::*;

/// Who reads the same filter as the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Nobody,
    Somebody,
}

/// Others read and publish, before and afterwards.
async fn beside(
    version: Version,
    other: Other,
    act: impl AsyncFn(&Net<Server>, &Client),
) -> Record {
    let (net, client) = meet(version).await;
    let filter = if other == Other::Somebody { "subject" } else { "other" };
    let mut messages = client.subscribe(filter, ExactlyOnce).await.unwrap();
    act(&net, &client).await;
    settle().await;
    client.connected().await.unwrap();
    settle().await;
    let readers = net.publish("subject", "1", AtLeastOnce);
    assert_eq!(readers, usize::from(other == Other::Somebody));
    net.publish("other", "2", AtLeastOnce);
    settle().await;
    let mut told = read_all(&mut messages);
    assert_eq!(client.counters().filters, 1);
    drop(messages);
    settle().await;
    assert_eq!(client.counters().filters, 0);
    told.push(client.counters().received.to_string());
    Record::of(&net, client, told).await
}

#[tokio::test(start_paused = true)]
async fn it_is_gone_again() {
    for other in [Other::Nobody, Other::Somebody] {
        everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
            beside(version, other, async |_, client| {
                drop(knife.apply(client.subscribe("subject", AtLeastOnce).into_future()).await);
            })
            .await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn several_filters() {
    // One of them has to wait for the other's answer.
    everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
        beside(version, Other::Nobody, async |_, client| {
            let mut subscribe = client.subscribe("subject", AtLeastOnce);
            for number in 0..20 {
                subscribe = subscribe.and(&number.to_string(), ExactlyOnce);
            }
            drop(knife.apply(subscribe.into_future()).await);
        })
        .await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn refused() {
    everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
        beside(version, Other::Nobody, async |_, client| {
            let subscribe = client.subscribe("no/subject", AtLeastOnce).and("x", AtMostOnce);
            drop(knife.apply(subscribe.into_future()).await);
        })
        .await
    })
    .await;
}

/// What the server is asked for differs with the moment at which it is asked; what it has in the end
/// does not.
async fn in_the_end(record: impl Future<Output = Record>) -> Record {
    let record = record.await;
    Record { up: Vec::new(), down: Vec::new(), ..record }
}

#[tokio::test(start_paused = true)]
async fn while_the_connection_is_lost() {
    for (other, forget) in [Other::Nobody, Other::Somebody]
        .into_iter()
        .flat_map(|other| [(other, false), (other, true)])
    {
        everywhere(1, Effect::None, async |version, knife| {
            in_the_end(beside(version, other, async |net, client| {
                net.with(|server| server.manners.frozen = true);
                let subject = knife.apply(client.subscribe("subject", AtLeastOnce).into_future());
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
                let (subject, ()) = tokio::join!(subject, breaks);
                drop(subject);
            }))
            .await
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_messages_arrive() {
    for other in [Other::Nobody, Other::Somebody] {
        everywhere(1, Effect::None, async |version, knife| {
            let mut record = in_the_end(beside(version, other, async |net, client| {
                let subject = async {
                    drop(knife.apply(client.subscribe("subject", ExactlyOnce).into_future()).await);
                };
                let arrive = async {
                    for number in 0..50 {
                        net.publish("subject", number.to_string(), LEVELS[number % 3]);
                        tokio::task::yield_now().await;
                    }
                };
                tokio::join!(subject, arrive);
            }))
            .await;
            record.told.pop(); // how many came depends on when it was subscribed
            record
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback() {
    everywhere(1, Effect::AllOrNothing(1), async |version, knife| {
        beside(version, Other::Nobody, async |_, client| {
            if let Some(callback) = knife.apply(client.on("subject", AtLeastOnce, drop)).await {
                callback.unwrap().abort();
            }
        })
        .await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unsubscribing() {
    for (other, waits) in [(Other::Nobody, 1), (Other::Somebody, 0)] {
        everywhere(waits, Effect::None, async |version, knife| {
            beside(version, other, async |net, client| {
                let messages = client.subscribe("subject", ExactlyOnce).await.unwrap();
                for qos in LEVELS {
                    net.publish("subject", "unread", qos);
                }
                settle().await;
                knife.apply(messages.unsubscribe()).await;
            })
            .await
        })
        .await;
    }
}
