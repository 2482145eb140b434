//! Reading, dropped: no message is lost, none comes twice, none goes unacknowledged.

use super::*;

/// Messages come one by one, and some at once; all are read, each after a cut.
async fn read(version: Version, knife: &Knife, by_hand: bool) -> Record {
    let (net, client) = meet(version).await;
    let mut messages = client.subscribe("a", ExactlyOnce).await.unwrap();
    let mut read = Vec::new();
    let arrive = async {
        for number in 0..12 {
            net.publish("a", number.to_string(), LEVELS[number % 3]);
            if number % 4 != 0 {
                sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    };
    let reader = async {
        while read.len() < 12 {
            if by_hand {
                let next = match knife.apply(messages.next_unacknowledged()).await {
                    Some(next) => next,
                    None => messages.next_unacknowledged().await,
                };
                let (message, ack) = next.unwrap();
                read.push(text(&message));
                ack.accept();
            } else {
                let next = match knife.apply(messages.next()).await {
                    Some(next) => next,
                    None => messages.next().await,
                };
                read.push(text(&next.unwrap()));
            }
        }
    };
    tokio::join!(arrive, reader);
    settle().await;
    assert!(messages.is_empty());
    drop(messages);
    let mut record = Record::of(&net, client, read).await;
    // Answers wait for each other differently, depending on when a message is read.
    record.up.sort();
    record.down.sort();
    record
}

#[tokio::test(start_paused = true)]
async fn the_next_message() {
    everywhere(1, Effect::None, async |version, knife| read(version, knife, false).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_message_to_be_acknowledged_by_hand() {
    everywhere(1, Effect::None, async |version, knife| read(version, knife, true).await).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_message() {
    everywhere(1, Effect::None, async |version, knife| {
        let (net, client) = meet(version).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        let end = async {
            sleep(std::time::Duration::from_millis(5)).await;
            net.publish("a", "last", AtMostOnce);
            settle().await;
            client.disconnect().await.unwrap();
        };
        let read = async {
            let mut read = Vec::new();
            loop {
                let next = match knife.apply(messages.next()).await {
                    Some(next) => next,
                    None => messages.next().await,
                };
                let Some(message) = next else { break read };
                read.push(text(&message));
            }
        };
        let ((), read) = tokio::join!(end, read);
        Record::of(&net, client, read).await
    })
    .await;
}
