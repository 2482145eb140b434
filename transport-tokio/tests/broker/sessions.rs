//! What the broker does for one or two clients.

use std::time::Duration;

use transport_tokio::broker::ServeError;

use crate::support::*;

#[tokio::test]
async fn each_qos_and_version() {
    bounded(async {
        let broker = broker().await;
        for version in VERSIONS {
            let options = Options { version, ..named("one") };
            let client = connect(&broker, options).await;
            for (published, subscribed) in LEVELS.into_iter().flat_map(|a| LEVELS.map(|b| (a, b))) {
                let mut messages = client.subscribe("a/+", subscribed).await.unwrap();
                client.publish("a/b", "hi").qos(published).await.unwrap();
                let message = messages.next().await.unwrap();
                assert_eq!(&*message.topic, "a/b");
                assert_eq!(message.qos, published.min(subscribed), "{version:?}");
                assert_eq!(message.payload, "hi");
            }
            client.disconnect().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn payloads_of_all_sizes() {
    bounded(async {
        let broker = broker().await;
        let client = connect(&broker, named("one")).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        for size in [0, 1, 127, 128, 1_023, 1_024, 4_096, 16_383, 16_384, 65_536, 1_000_000] {
            let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            client.publish("a", payload.clone()).qos(ExactlyOnce).await.unwrap();
            assert!(messages.next().await.unwrap().payload == payload, "{size} bytes");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_retained_is_there_for_those_who_come() {
    bounded(async {
        let broker = broker().await;
        let client = connect(&broker, named("one")).await;
        client.publish("state", "up").qos(AtLeastOnce).retain(true).await.unwrap();
        let before = statistics(&broker).await.retained;
        let other = connect(&broker, named("two")).await;
        let mut messages = other.subscribe("#", AtLeastOnce).await.unwrap();
        let message = messages.next().await.unwrap();
        assert!(message.retain);
        assert_eq!(message.payload, "up");
        client.publish("state", "").qos(AtLeastOnce).retain(true).await.unwrap();
        assert_eq!(statistics(&broker).await.retained, before - 1);
    })
    .await;
}

#[tokio::test]
async fn a_will_is_published_when_a_connection_is_lost() {
    bounded(async {
        let broker = broker().await;
        let client = connect(&broker, named("watcher")).await;
        let mut messages = client.subscribe("gone", AtLeastOnce).await.unwrap();
        let mut lost = socket(&broker).await;
        lost.write_all(b"\x10\x18\0\x04MQTT\x04\x06\0\0\0\x01w\0\x04gone\0\x03bye").await.unwrap();
        let mut answer = [0; 4];
        lost.read_exact(&mut answer).await.unwrap();
        drop(lost);
        assert_eq!(next(&mut messages).await, "bye");
    })
    .await;
}

#[tokio::test]
async fn a_session_is_resumed_with_what_came_meanwhile() {
    bounded(async {
        let broker = broker().await;
        for version in VERSIONS {
            let options = || Options {
                version,
                clean_start: false,
                session_expiry_interval: if version == Version::V5 { 60 } else { 0 },
                ..named(&format!("sleeper {version:?}"))
            };
            let client = connect(&broker, options()).await;
            let _messages = client.subscribe("a", ExactlyOnce).await.unwrap();
            client.disconnect().await.unwrap();
            let other = connect(&broker, named("other")).await;
            for (number, qos) in LEVELS.into_iter().enumerate() {
                other.publish("a", number.to_string()).qos(qos).await.unwrap();
            }
            let mut streams = Streams::default();
            let mut messages = streams.unclaimed();
            let client = connect(&broker, Options { streams, ..options() }).await;
            assert!(matches!(
                *client.status().borrow(),
                Status::Connected { session_present: true }
            ));
            assert_eq!([next(&mut messages).await, next(&mut messages).await], ["1", "2"]);
        }
    })
    .await;
}

#[tokio::test]
async fn the_newer_connection_takes_over() {
    bounded(async {
        let broker = broker().await;
        let older = connect(&broker, named("one")).await;
        let newer = connect(&broker, named("one")).await;
        let mut status = older.status();
        status.wait_for(|status| matches!(status, Status::TakenOver)).await.unwrap();
        newer.publish("a", "b").qos(AtLeastOnce).await.unwrap();
        until(&broker, |now| now.connections == 1).await;
        assert_eq!(statistics(&broker).await.sessions, 1);
    })
    .await;
}

/// Where nobody listens, nothing is asked of the runtime's IO.
#[test]
fn a_connection_within_the_process_of_a_runtime_without_io() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(bounded(async {
        let broker = Broker::builder().serve().await.unwrap();
        let inside = Client::connect_with(broker.connector(), named("inside")).await.unwrap();
        inside.publish("a", "b").qos(ExactlyOnce).await.unwrap();
    }));
}

#[tokio::test]
async fn a_connection_within_the_process() {
    bounded(async {
        let broker = Broker::builder().serve().await.unwrap();
        let inside = Client::connect_with(broker.connector(), named("inside")).await.unwrap();
        let mut messages = inside.subscribe("#", ExactlyOnce).await.unwrap();
        inside.publish("a", "b").qos(ExactlyOnce).await.unwrap();
        assert_eq!(next(&mut messages).await, "b");
        let connector = broker.connector();
        drop(broker);
        assert!(Client::connect_with(connector, named("late")).await.is_err());
    })
    .await;
}

#[cfg(unix)]
#[tokio::test]
async fn several_listeners_at_once() {
    bounded(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = format!("unix://{}", path.display());
        let builder = Broker::builder().listen("mqtt://127.0.0.1:0").listen(&unix);
        let broker = serve(builder).await;
        let [first, second, third] = broker.urls() else { panic!("three URLs") };
        assert_eq!(*second, unix);
        let subscriber = Client::connect(second, named("two")).await.unwrap();
        let mut messages = subscriber.subscribe("a", AtLeastOnce).await.unwrap();
        for url in [first, third] {
            let client = Client::connect(url, named("one")).await.unwrap();
            client.publish("a", url.clone()).qos(AtLeastOnce).await.unwrap();
            assert_eq!(next(&mut messages).await, *url);
        }
        broker.shutdown(Duration::from_secs(10)).await;
        assert!(!path.exists());
    })
    .await;
}

/// A broker that was killed has left its socket's name; what is in use, or no socket, stays.
#[cfg(unix)]
#[tokio::test]
async fn a_name_that_nobody_listens_at_is_free() {
    bounded(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = format!("unix://{}", path.display());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let broker = serve(Broker::builder().listen(&unix)).await;
        let second = Broker::builder().listen(&unix).serve().await;
        assert!(matches!(second, Err(ServeError::Bind { .. })), "{second:?}");
        let _client = Client::connect(&unix, named("one")).await.unwrap();
        broker.shutdown(Duration::from_secs(10)).await;

        std::fs::write(&path, "a file").unwrap();
        let on_file = Broker::builder().listen(&unix).serve().await;
        assert!(matches!(on_file, Err(ServeError::Bind { .. })), "{on_file:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    })
    .await;
}
