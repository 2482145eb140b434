//! The broker's numbers over HTTP.

use std::collections::BTreeMap;

use crate::support::*;

async fn served() -> (Broker, String) {
    let broker = serve(Broker::builder().metrics(0)).await;
    let url = broker.metrics_url().unwrap();
    let address = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    assert!(address.starts_with("127.0.0.1:"));
    let address = address.to_owned();
    (broker, address)
}

/// Status and headers, and the body.
async fn ask(address: &str, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8(rest(&mut socket).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// The samples by name, each with its type; as the text format has them.
fn parse(text: &str) -> BTreeMap<String, (String, f64)> {
    assert!(text.ends_with('\n'));
    let mut samples = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(help) = lines.next() {
        let (name, help) = help.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(is_name(name) && !help.is_empty() && !help.contains('\\'), "{name}");
        let of = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
        let kind = of.strip_prefix(name).unwrap().trim_start();
        assert!(["counter", "gauge"].contains(&kind), "{kind}");
        let value = lines.next().unwrap().strip_prefix(name).unwrap().trim_start();
        let sample = (kind.to_owned(), value.parse().unwrap());
        assert_eq!(samples.insert(name.to_owned(), sample), None);
    }
    samples
}

#[tokio::test]
async fn the_numbers_are_to_be_had_over_http() {
    bounded(async {
        let (broker, address) = served().await;
        let client = connect(&broker, named("one")).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        client.publish("a", "12345").qos(AtLeastOnce).await.unwrap();
        next(&mut messages).await;
        let (head, body) = ask(&address, "GET /metrics").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let samples = parse(&body);
        let expected = [
            ("mqtt_clients_connected", "gauge", 1.0),
            ("mqtt_subscriptions", "gauge", 1.0),
            ("mqtt_publish_received_total", "counter", 1.0),
            ("mqtt_publish_sent_bytes_total", "counter", 5.0),
            ("mqtt_publish_dropped_total", "counter", 0.0),
            ("mqtt_persistence_failing", "gauge", 0.0),
        ];
        for (name, kind, value) in expected {
            assert_eq!(samples[name], (kind.to_owned(), value), "{name}");
        }
        assert!(samples["mqtt_received_bytes_total"].1 > 0.0);
        assert_eq!(ask(&address, "HEAD /metrics").await.1, "");
    })
    .await;
}

#[tokio::test]
async fn nothing_else_is_answered() {
    bounded(async {
        let (broker, address) = served().await;
        assert!(ask(&address, "GET /").await.0.starts_with("http/1.1 404 "));
        let (head, _) = ask(&address, "POST /metrics").await;
        assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"), "{head}");
        let long = format!("GET /{}", "a".repeat(100_000));
        let mut socket = TcpStream::connect(&address).await.unwrap();
        // It may have been closed before all is written.
        let _ = socket.write_all(long.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200 "));
        // Those who say nothing take places, but not those of clients.
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(&address).await.unwrap());
        }
        connect(&broker, named("one")).await;
        drop(silent);
        assert!(ask(&address, "GET /metrics").await.0.starts_with("http/1.1 200 "));
        drop(broker);
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
