//! What a program does and learns without a connection.

use transport_tokio::{
    Message, PublishProperties,
    broker::{BrokerPublishError, Page},
};

use crate::support::*;

fn message(topic: &str, payload: &str, retain: bool) -> Message {
    let properties = PublishProperties {
        content_type: Some("text/plain".into()),
        ..PublishProperties::default()
    };
    let mut message = Message::new(topic, payload.to_owned(), properties);
    (message.qos, message.retain) = (AtLeastOnce, retain);
    message
}

#[tokio::test]
async fn a_program_publishes_and_looks_up() {
    bounded(async {
        let broker = serve(Broker::builder().sys_interval(std::time::Duration::ZERO)).await;
        let client = connect(&broker, named("one")).await;
        let mut messages = client.subscribe("a/#", AtLeastOnce).await.unwrap();
        assert_eq!(broker.publish(message("a/b", "hello", true)).await, Ok(true));
        assert_eq!(broker.publish(message("$other", "hidden", true)).await, Ok(false));
        let heard = messages.next().await.unwrap();
        assert_eq!((&heard.payload[..], heard.qos), (&b"hello"[..], AtLeastOnce));
        assert_eq!(heard.properties().content_type.as_deref(), Some("text/plain"));
        let wrong = broker.publish(message("a/#", "", false)).await;
        assert_eq!(wrong, Err(BrokerPublishError::Invalid));
        let kept = broker.retained("a/b").await.unwrap();
        assert_eq!((&kept.payload[..], kept.retain), (&b"hello"[..], true));
        assert_eq!(kept.properties().content_type.as_deref(), Some("text/plain"));
        assert_eq!(broker.retained("a").await, None);
        for number in 0..120 {
            broker.publish(message(&format!("many/{number}"), "x", true)).await.unwrap();
        }
        let first = broker.retained_matching("many/+", 0).await.unwrap();
        let second = broker.retained_matching("many/+", first.next.unwrap()).await.unwrap();
        assert_eq!((first.items.len(), second.items.len(), second.next), (100, 20, None));
        assert_eq!(broker.retained_matching("a/#/b", 0).await, None);
        let ended = broker.clone();
        broker.shutdown(std::time::Duration::ZERO).await;
        let late = ended.publish(message("a", "late", false)).await;
        assert_eq!(late, Err(BrokerPublishError::Ended));
    })
    .await;
}

#[tokio::test]
async fn who_is_there() {
    bounded(async {
        let broker = broker().await;
        let options = Options { keep_alive: 55, user_name: Some("alice".into()), ..named("one") };
        let one = connect(&broker, options).await;
        let _messages = one.subscribe("a/+", ExactlyOnce).await.unwrap();
        let inside = Client::connect_with(broker.connector(), named("two")).await.unwrap();
        let _unnamed = socket(&broker).await;
        until(&broker, |now| now.connections == 3).await;
        let Page { items, next, .. } = broker.connections(0).await.unwrap();
        assert_eq!(next, None);
        let [first, second] = &items[..] else { panic!("{items:?}") };
        assert_eq!(
            (&first.client_id[..], first.keep_alive, first.version),
            ("one", 55, Version::V5)
        );
        assert_eq!(first.user_name.as_deref(), Some("alice"));
        assert_eq!(first.listener.as_deref(), Some(&broker.urls()[0][..]));
        assert!(first.address.is_some() && first.since.elapsed().is_ok());
        assert_eq!((&second.client_id[..], second.address, &second.listener), ("two", None, &None));
        let subscriptions = broker.subscriptions("one", 0).await.unwrap().items;
        let [subscription] = &subscriptions[..] else { panic!("{subscriptions:?}") };
        assert_eq!((&subscription.filter[..], subscription.qos), ("a/+", ExactlyOnce));
        assert_eq!(broker.subscriptions("nobody", 0).await.unwrap().items, []);
        let sessions = broker.sessions(0).await.unwrap().items;
        assert_eq!(sessions.len(), 2);
        assert!(broker.session("two").await.unwrap().is_connected);
        assert_eq!(broker.session("nobody").await, None);
        drop(inside);
    })
    .await;
}

#[tokio::test]
async fn a_client_is_sent_away() {
    bounded(async {
        let broker = broker().await;
        let mut new = socket(&broker).await;
        new.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01n").await.unwrap();
        until(&broker, |now| now.clients == 1).await;
        assert!(broker.disconnect("n", ReasonCode::AdministrativeAction).await);
        assert!(rest(&mut new).await.ends_with(&[0xe0, 1, 0x98]));
        drop(new);
        until(&broker, |now| now.connections == 0).await;
        assert!(!broker.disconnect("n", ReasonCode::AdministrativeAction).await);
    })
    .await;
}

#[tokio::test]
async fn pages_hold_a_hundred() {
    bounded(async {
        let broker = broker().await;
        let mut sockets = Vec::new();
        for _ in 0..130 {
            // 5.0, without a name.
            let mut socket = socket(&broker).await;
            socket.write_all(b"\x10\x0d\0\x04MQTT\x05\x02\0\0\0\0\0").await.unwrap();
            sockets.push(socket);
        }
        until(&broker, |now| now.clients == 130).await;
        let first = broker.connections(0).await.unwrap();
        let second = broker.connections(first.next.unwrap()).await.unwrap();
        assert_eq!((first.items.len(), second.items.len(), second.next), (100, 30, None));
        let now = statistics(&broker).await;
        assert_eq!((now.clients, now.clients_maximum), (130, 130));
        drop(sockets);
        until(&broker, |now| now.clients == 0 && now.clients_maximum == 130).await;
    })
    .await;
}
