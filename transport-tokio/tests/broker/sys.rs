//! The broker's numbers on `$SYS`, and for Prometheus.

use std::{collections::BTreeMap, time::Duration};

use transport_tokio::broker::{Access, Wish};

use crate::support::*;

/// All that is retained on `$SYS`.
async fn sys(broker: &Broker) -> BTreeMap<String, String> {
    let (mut all, mut from) = (BTreeMap::new(), Some(0));
    while let Some(place) = from {
        let page = broker.retained_matching("$SYS/#", place).await.unwrap();
        for message in page.items {
            let text = String::from_utf8(message.payload.to_vec()).unwrap();
            all.insert(message.topic.trim_start_matches("$SYS/broker/").to_owned(), text);
        }
        from = page.next;
    }
    all
}

#[tokio::test(start_paused = true)]
async fn numbers_are_published_at_an_interval() {
    let broker = Broker::builder().sys_interval(Duration::from_secs(10)).serve().await.unwrap();
    let start = tokio::time::Instant::now();
    let client = Client::connect_with(broker.connector(), named("one")).await.unwrap();
    let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
    for _ in 0..3 {
        client.publish("a", "12345").qos(AtLeastOnce).await.unwrap();
        next(&mut messages).await;
    }
    let early = sys(&broker).await;
    assert!(early["version"].starts_with("transport-tokio version "));
    assert_eq!((&early["uptime"][..], &early["publish/messages/received"][..]), ("0 seconds", "0"));
    tokio::time::sleep_until(start + Duration::from_secs(11)).await;
    let now = sys(&broker).await;
    let expected = [
        ("uptime", "10 seconds"),
        ("clients/connected", "1"),
        ("clients/total", "1"),
        ("clients/maximum", "1"),
        ("clients/disconnected", "0"),
        ("clients/expired", "0"),
        ("publish/messages/received", "3"),
        ("publish/messages/sent", "3"),
        ("publish/messages/dropped", "0"),
        ("publish/bytes/received", "15"),
        ("publish/bytes/sent", "15"),
        ("subscriptions/count", "1"),
        ("shared_subscriptions/count", "0"),
        // CONNECT, SUBSCRIBE, 3 PUBLISH, 3 PUBACK; and their answers.
        ("messages/received", "8"),
        ("messages/sent", "8"),
        // 3 in 10 seconds are 18 in a minute; (1 - e^(-1/6)) of that.
        ("load/publish/received/1min", "2.76"),
        ("load/publish/received/5min", "0.59"),
        ("load/publish/received/15min", "0.20"),
    ];
    for (topic, text) in expected {
        assert_eq!(now[topic], text, "{topic}");
    }
    for topic in ["bytes/received", "bytes/sent", "retained messages/count", "messages/stored"] {
        assert!(now[topic].parse::<u64>().unwrap() > 0, "{topic}");
    }
    assert!(now.contains_key("load/sockets/1min") && now.contains_key("store/messages/bytes"));
}

#[tokio::test(start_paused = true)]
async fn only_what_has_changed_is_published_and_only_to_those_who_ask_for_it() {
    let builder = Broker::builder().authorize(|access: &Access<'_>| match access.wish {
        Wish::Subscribe { filter, .. } => {
            access.client_id == "admin" || !filter.as_str().starts_with("$SYS")
        }
        _ => true,
    });
    let broker = builder.serve().await.unwrap();
    let admin = Client::connect_with(broker.connector(), named("admin")).await.unwrap();
    let mut numbers = admin.subscribe("$SYS/broker/uptime", AtMostOnce).await.unwrap();
    let mut version = admin.subscribe("$SYS/broker/version", AtMostOnce).await.unwrap();
    assert!(next(&mut version).await.starts_with("transport-tokio"));
    assert_eq!(next(&mut numbers).await, "0 seconds");
    assert_eq!(next(&mut numbers).await, "10 seconds");
    assert_eq!(next(&mut numbers).await, "20 seconds");
    assert_eq!(version.try_next(), None);
    let other = Client::connect_with(broker.connector(), named("other")).await.unwrap();
    assert!(other.subscribe("$SYS/#", AtMostOnce).await.is_err());
    let mut all = other.subscribe("#", AtMostOnce).await.unwrap();
    assert!(other.publish("$SYS/broker/uptime", "mine").qos(AtLeastOnce).await.is_err());
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(all.try_next(), None);
    assert!(next(&mut numbers).await.ends_with(" seconds"));
}

#[tokio::test]
async fn numbers_need_not_be_published() {
    bounded(async {
        let broker = Broker::builder().sys_interval(Duration::ZERO).serve().await.unwrap();
        assert_eq!(sys(&broker).await, BTreeMap::new());
        assert_eq!(statistics(&broker).await.retained, 0);
    })
    .await;
}
