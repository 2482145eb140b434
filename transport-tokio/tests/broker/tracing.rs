//! What is traced, and what is not.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use ::tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::set_default,
};

use crate::support::*;

/// Everything that is traced, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Log {
    fn add(&self, line: Line) {
        self.0.lock().unwrap().push(line.0);
    }

    /// Whether one line has all these.
    fn has(&self, texts: &[&str]) -> bool {
        let lines = self.0.lock().unwrap();
        lines.iter().any(|line| texts.iter().all(|text| line.contains(text)))
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("transport_tokio::broker")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut lines = self.0.lock().unwrap();
        let id = lines.len() as u64 + 1;
        let mut line = Line(format!("span {id} {}", span.metadata().name()));
        span.record(&mut line);
        lines.push(line.0);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut line = Line(format!("span {}", span.into_u64()));
        values.record(&mut line);
        self.add(line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}", event.metadata().level()));
        if let Some(parent) = event.parent() {
            let _ = write!(line.0, " in {}", parent.into_u64());
        }
        event.record(&mut line);
        self.add(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn connections_are_traced_and_secrets_are_not() {
    let log = Log::default();
    let _default = set_default(log.clone());
    // With a single one, a place in the code is asked for by the thread that comes there first, which may be
    // that of another test; and is silent from then on.
    let _other = Dispatch::new(Log::default());
    bounded(async {
        let config = Config { retained_messages: 0, ..Config::default() };
        let broker = serve(Broker::builder().config(config).users([("alice", "hunter2")])).await;
        let login = |password: &'static str| Options {
            user_name: Some("alice".into()),
            password: Some(password.into()),
            ..named("sensor")
        };
        let client = connect(&broker, login("hunter2")).await;
        let message = client.publish("a", "confidential").qos(AtLeastOnce).retain(true);
        assert!(message.await.is_err());
        client.disconnect().await.unwrap();
        assert!(Client::connect(&broker.urls()[0], login("hunter3")).await.is_err());
        until(&broker, |now| now.connections == 0).await;
    })
    .await;
    assert!(log.has(&["span 2 connection", "address=127.0.0.1:", "listener=\"mqtt://127.0.0.1:"]));
    assert!(log.has(&["span 2", "client_id=\"sensor\""]));
    assert!(log.has(&["DEBUG in 2", "connected"]));
    assert!(log.has(&["DEBUG in 2", "disconnected", "reason=Success"]));
    assert!(log.has(&["DEBUG in", "refused", "BadUserNameOrPassword"]));
    assert!(log.has(&["WARN", "messages were dropped", "not_retained=1"]));
    for secret in ["hunter", "confidential"] {
        assert!(!log.has(&[secret]), "{:?}", log.0);
    }
}
