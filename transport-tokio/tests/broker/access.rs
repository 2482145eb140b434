//! Who is let in, and what they may do.

use std::time::Duration;

use transport_tokio::{
    ConnectError, ConnectionError, PublishError,
    broker::{Access, Pass, Passing, ServeError, Wish},
};

use crate::support::*;

fn login(name: &str, password: &str) -> Options {
    Options {
        user_name: Some(name.into()),
        password: Some(password.to_owned().into()),
        ..named(name)
    }
}

/// Why the broker does not let it in.
async fn refusal(broker: &Broker, options: Options) -> ReasonCode {
    match Client::connect(&broker.urls()[0], options).await {
        Err(ConnectError::Connection(ConnectionError::Refused(refusal))) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_those_in_the_table_who_know_their_password() {
    bounded(async {
        let broker = serve(Broker::builder().users([("alice", "secret")])).await;
        connect(&broker, login("alice", "secret")).await;
        let wrong = ReasonCode::BadUserNameOrPassword;
        assert_eq!(refusal(&broker, login("alice", "guess")).await, wrong);
        assert_eq!(refusal(&broker, login("bob", "secret")).await, wrong);
        assert_eq!(refusal(&broker, named("nobody")).await, wrong);
    })
    .await;
}

#[tokio::test]
async fn others_are_served_while_it_is_found_out() {
    bounded(async {
        let (decide, decided) = tokio::sync::watch::channel(None);
        let builder = Broker::builder().authenticate(move |login: Login| {
            let mut decided = decided.clone();
            async move {
                if login.client_id == "quick" {
                    return Ok(());
                }
                let decision = *decided.wait_for(Option::is_some).await.unwrap();
                if decision == Some(true) { Ok(()) } else { Err(ReasonCode::Banned) }
            }
        });
        let broker = serve(builder).await;
        let url = broker.urls()[0].clone();
        let waiting = tokio::spawn(async move { Client::connect(&url, named("waits")).await });
        until(&broker, |now| now.connections == 1).await;
        let quick = connect(&broker, named("quick")).await;
        quick.publish("a", "b").qos(AtLeastOnce).await.unwrap();
        assert!(!waiting.is_finished());
        decide.send_replace(Some(true));
        let client = waiting.await.unwrap().unwrap();
        client.publish("a", "b").qos(AtLeastOnce).await.unwrap();
        decide.send_replace(Some(false));
        assert_eq!(refusal(&broker, named("late")).await, ReasonCode::Banned);
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_before_the_decision_is_served_after_it() {
    bounded(async {
        let builder = Broker::builder().authenticate(async |_: Login| {
            tokio::task::yield_now().await;
            Ok(())
        });
        let broker = serve(builder).await;
        let mut socket = socket(&broker).await;
        socket.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a\xc0\0\xe0\0").await.unwrap();
        assert_eq!(rest(&mut socket).await, b"\x20\x02\0\0\xd0\0");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_decides_too_late_or_panics_lets_nobody_in() {
    let builder = Broker::builder().authenticate(async |login: Login| match &login.client_id[..] {
        "panic" => panic!("for the test"),
        _ => std::future::pending::<Result<(), _>>().await,
    });
    let broker = serve(builder).await;
    assert_eq!(refusal(&broker, named("panic")).await, ReasonCode::UnspecifiedError);
    let mut late = socket(&broker).await;
    late.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a").await.unwrap();
    assert_eq!(rest(&mut late).await, b"\x20\x02\0\x03");
}

#[tokio::test]
async fn what_is_not_allowed_is_refused() {
    bounded(async {
        let builder = Broker::builder().authorize(|access: &Access<'_>| {
            assert_eq!(access.user_name, Some(access.client_id));
            match access.wish {
                Wish::Publish { topic, .. } => topic.as_str().starts_with("open"),
                Wish::Subscribe { filter, .. } => filter.as_str() != "#",
                _ => false,
            }
        });
        let broker = serve(builder).await;
        let client = connect(&broker, login("alice", "")).await;
        let mut messages = client.subscribe("+", AtLeastOnce).await.unwrap();
        assert!(client.subscribe("#", AtLeastOnce).await.is_err());
        let refused = client.publish("closed", "no").qos(AtLeastOnce).await;
        assert!(
            matches!(&refused, Err(PublishError::Refused(refusal))
                if refusal.reason == ReasonCode::NotAuthorized),
            "{refused:?}"
        );
        client.publish("open", "yes").qos(AtLeastOnce).await.unwrap();
        assert_eq!(next(&mut messages).await, "yes");
        let will = Some(Will::new("closed", "no"));
        let options = Options { will, ..login("bob", "") };
        assert_eq!(refusal(&broker, options).await, ReasonCode::NotAuthorized);
    })
    .await;
}

#[tokio::test]
async fn one_connection_too_many() {
    bounded(async {
        let broker = serve(Broker::builder().max_connections(2)).await;
        let first = hello(&broker, b'a').await;
        let _second = hello(&broker, b'b').await;
        let mut third = socket(&broker).await;
        assert_eq!(rest(&mut third).await, b"");
        assert_eq!(statistics(&broker).await.connections_refused, 1);
        drop(first);
        until(&broker, |now| now.connections == 1).await;
        hello(&broker, b'c').await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_listened_at() {
    let refused = |url: &'static str| async move { Broker::builder().listen(url).serve().await };
    assert!(matches!(refused("127.0.0.1").await, Err(ServeError::Address { .. })));
    assert!(matches!(refused("mqtt://me@127.0.0.1:0").await, Err(ServeError::Address { .. })));
    let broker = broker().await;
    let taken = Broker::builder().listen(&broker.urls()[0]).serve().await;
    assert!(matches!(taken, Err(ServeError::Bind { .. })));
    #[cfg(feature = "tls")]
    assert!(matches!(refused("mqtts://127.0.0.1:0").await, Err(ServeError::Certificate { .. })));
    broker.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn who_panics_over_a_wish_denies_it_and_harms_nobody() {
    bounded(async {
        let builder = Broker::builder()
            .authorize(|access: &Access<'_>| match access.wish {
                Wish::Publish { topic, .. } if topic.as_str() == "panic" => panic!("for the test"),
                _ => true,
            })
            .inspect(|message: &Passing<'_>| match message.payload {
                b"panic" => panic!("for the test"),
                _ => Pass::On,
            });
        let broker = serve(builder).await;
        let client = connect(&broker, named("one")).await;
        let mut messages = client.subscribe("#", AtLeastOnce).await.unwrap();
        let reasons = [
            reason(client.publish("panic", "").qos(AtLeastOnce).await),
            reason(client.publish("a", "panic").qos(AtLeastOnce).await),
        ];
        let expected = [ReasonCode::NotAuthorized, ReasonCode::ImplementationSpecificError];
        assert_eq!(reasons, expected.map(Some));
        client.publish("a", "calm").qos(AtLeastOnce).await.unwrap();
        assert_eq!(next(&mut messages).await, "calm");
    })
    .await;
}

/// Why a message was refused, if it was.
fn reason<T>(result: Result<T, PublishError>) -> Option<ReasonCode> {
    match result {
        Err(PublishError::Refused(refusal)) => Some(refusal.reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_message_that_passes_by_is_seen_dropped_or_denied() {
    bounded(async {
        let (seen, mut passed) = tokio::sync::mpsc::unbounded_channel();
        let builder = Broker::builder().inspect(move |message: &Passing<'_>| {
            let Passing { client_id, user_name, is_will, topic, payload, .. } = *message;
            let text = std::str::from_utf8(payload).unwrap();
            let user = user_name.unwrap_or_default();
            seen.send(format!("{client_id} {user} {is_will} {} {text}", topic.as_str())).unwrap();
            match text {
                "drop" => Pass::Dropped,
                "deny" => Pass::Denied(ReasonCode::QuotaExceeded),
                _ => Pass::On,
            }
        });
        let broker = serve(builder).await;
        let client = connect(&broker, login("alice", "")).await;
        let mut messages = client.subscribe("#", AtLeastOnce).await.unwrap();
        for (text, expected) in
            [("drop", None), ("deny", Some(ReasonCode::QuotaExceeded)), ("on", None)]
        {
            let message = client.publish("a", text).qos(AtLeastOnce).retain(true);
            assert_eq!(reason(message.await), expected);
            assert_eq!(passed.recv().await.unwrap(), format!("alice alice false a {text}"));
        }
        assert_eq!(next(&mut messages).await, "on");
        assert_eq!(&broker.retained("a").await.unwrap().payload[..], b"on");
        let will =
            |text: &'static str| Options { will: Some(Will::new("w", text)), ..login("bob", "") };
        assert_eq!(refusal(&broker, will("deny")).await, ReasonCode::QuotaExceeded);
        for text in ["drop", "on"] {
            let bob = connect(&broker, will(text)).await;
            assert!(broker.disconnect("bob", ReasonCode::AdministrativeAction).await);
            drop(bob);
        }
        assert_eq!(next(&mut messages).await, "on");
        assert_eq!(passed.recv().await.unwrap(), "bob bob true w deny");
    })
    .await;
}

#[tokio::test]
async fn who_hangs_up_while_it_is_found_out_frees_its_place() {
    bounded(async {
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let builder = Broker::builder().max_connections(1).authenticate(move |login: Login| {
            let alive = std::sync::Arc::new(());
            begun.send(std::sync::Arc::downgrade(&alive)).unwrap();
            async move {
                let _alive = alive;
                if login.client_id == "b" { Ok(()) } else { std::future::pending().await }
            }
        });
        let broker = serve(builder).await;
        let mut waits = socket(&broker).await;
        // And more behind it.
        waits.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a\xc0\0").await.unwrap();
        let future = begins.recv().await.unwrap();
        assert!(future.upgrade().is_some());
        drop(waits);
        until(&broker, |now| now.connections == 0).await;
        while future.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
        hello(&broker, b'b').await;
    })
    .await;
}
