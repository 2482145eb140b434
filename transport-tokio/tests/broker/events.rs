//! What the program is told about clients.

use std::sync::{Arc, Mutex};

use transport_tokio::broker::{End, Event};

use crate::support::*;

/// An event in short.
fn brief(event: &Event) -> String {
    match event {
        Event::Connected {
            client_id,
            user_name,
            version,
            keep_alive,
            clean_start,
            session_present,
            ..
        } => {
            format!(
                "{client_id} {user_name:?} {version:?} {keep_alive} {clean_start} {session_present}"
            )
        }
        Event::Refused { client_id, reason, .. } => format!("{client_id} {reason:?}"),
        Event::Disconnected { client_id, end } => format!("{client_id} {end:?}"),
        Event::Subscribed { client_id, filter, qos } => {
            format!("{client_id} + {filter} {}", *qos as u8)
        }
        Event::Unsubscribed { client_id, filter } => format!("{client_id} - {filter}"),
        Event::SessionEnded { client_id } => format!("{client_id} ends"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn everything_is_told_to_everybody_in_order() {
    bounded(async {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let builder = Broker::builder().users([("alice", "secret")]).on_event(move |event| {
            tell.lock().unwrap().push(brief(event));
            if matches!(event, Event::Unsubscribed { .. }) {
                panic!("for the test");
            }
        });
        let broker = serve(builder).await;
        let mut events = broker.events(100).await.unwrap();
        let alice = || Options {
            user_name: Some("alice".into()),
            password: Some("secret".into()),
            keep_alive: 77,
            ..named("one")
        };
        let client = connect(&broker, alice()).await;
        match events.next().await {
            Some(Event::Connected { address: Some(address), listener: Some(listener), .. }) => {
                assert!(address.ip().is_loopback());
                assert_eq!(*listener, *broker.urls()[0]);
            }
            other => panic!("{other:?}"),
        }
        let messages = client.subscribe("a/#", AtLeastOnce).await.unwrap();
        messages.unsubscribe().await.unwrap();
        client.disconnect().await.unwrap();
        assert!(Client::connect(&broker.urls()[0], named("stranger")).await.is_err());
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| !last.starts_with("stranger")) {
            heard.push(brief(&events.next().await.unwrap()));
        }
        let expected = [
            "one + a/# 1",
            "one - a/#",
            "one Left(Success)",
            "one ends",
            "stranger BadUserNameOrPassword",
        ];
        assert_eq!(heard, expected);
        assert_eq!(told.lock().unwrap()[1..], expected);
        assert_eq!(told.lock().unwrap()[0], "one Some(\"alice\") V5 77 true false");
        assert_eq!(events.missed(), 0);
    })
    .await;
}

#[tokio::test]
async fn why_a_client_is_gone() {
    bounded(async {
        let broker = broker().await;
        let mut events = broker.events(100).await.unwrap();
        let mut end = async || loop {
            if let Event::Disconnected { end, .. } = events.next().await.unwrap() {
                return end;
            }
        };
        drop(hello(&broker, b'a').await);
        assert_eq!(end().await, End::Lost);
        let _first = hello(&broker, b'a').await;
        let mut second = hello(&broker, b'a').await;
        assert_eq!(end().await, End::TakenOver);
        second.write_all(b"\0\0").await.unwrap();
        assert!(matches!(end().await, End::Error(_)));
        let _third = hello(&broker, b'a').await;
        assert!(broker.disconnect("a", ReasonCode::QuotaExceeded).await);
        assert_eq!(end().await, End::SentAway(ReasonCode::QuotaExceeded));
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_misses_what_is_newest() {
    bounded(async {
        let broker = broker().await;
        let mut events = broker.events(2).await.unwrap();
        let mut socket = hello(&broker, b'a').await;
        // SUBSCRIBE, four filters.
        socket.write_all(b"\x82\x12\0\x01\0\x01a\0\0\x01b\0\0\x01c\0\0\x01d\0").await.unwrap();
        socket.read_exact(&mut [0; 8]).await.unwrap();
        assert!(brief(&events.next().await.unwrap()).starts_with("a None"));
        assert_eq!(events.try_next().map(|event| brief(&event)).as_deref(), Some("a + a 0"));
        assert_eq!(events.try_next(), None);
        assert_eq!(events.missed(), 3);
        drop(broker);
        assert_eq!(events.next().await, None);
    })
    .await;
}
