//! The tokio client, as its documentation says to use it.

use std::collections::VecDeque;

use bytes::Bytes;
use mqtt_core::QoS;
use tokio::task::JoinSet;
use transport_tokio::{Client, Delivery, InFlight, Messages, Options, StreamLimits};

use crate::{PAYLOAD, Subject, TOPIC, Target};

/// The tokio client.
pub(crate) struct Ours {
    client: Client,
    window: usize,
    /// What [`Subject::subscribe`] has subscribed to.
    messages: Option<Messages>,
}

impl Subject for Ours {
    async fn connect(target: &Target) -> Self {
        let options = Options {
            version: target.version,
            client_id: "bench-ours".into(),
            in_flight: InFlight { messages: target.window, ..InFlight::default() },
            assumed_receive_maximum: target.window,
            ..Options::default()
        };
        let url = format!("mqtt://127.0.0.1:{}", target.port);
        let client = Client::connect(&url, options).await.expect("a connection");
        Self { client, window: target.window.into(), messages: None }
    }

    /// Keeps a window of publishes under way, and awaits their outcomes in order.
    async fn publish(&mut self, qos: QoS, count: usize) {
        let Self { client, window: limit, .. } = self;
        let mut window: VecDeque<Delivery> = VecDeque::with_capacity(*limit);
        for _ in 0..count {
            if window.len() == *limit
                && let Some(first) = window.pop_front()
            {
                first.await.expect("acknowledged");
            }
            let message = client.publish(TOPIC, Bytes::from_static(PAYLOAD)).qos(qos);
            if qos == QoS::AtMostOnce {
                message.await.expect("accepted");
            } else {
                window.push_back(message.accepted().await.expect("accepted"));
            }
        }
        for delivery in window {
            delivery.await.expect("acknowledged");
        }
    }

    /// Each task awaits the outcome of one publish before the next.
    async fn publish_from(&mut self, tasks: usize, qos: QoS, count: usize) {
        let mut running = JoinSet::new();
        for _ in 0..tasks {
            let client = self.client.clone();
            running.spawn(async move {
                for _ in 0..count / tasks {
                    let message = client.publish(TOPIC, Bytes::from_static(PAYLOAD)).qos(qos);
                    message.await.expect("acknowledged");
                }
            });
        }
        running.join_all().await;
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        // Of bursts as long as these, the default would drop what does not fit.
        let limits = StreamLimits { messages: usize::MAX, bytes: usize::MAX };
        let subscription = self.client.subscribe(filter, qos).limits(limits);
        self.messages = Some(subscription.await.expect("granted"));
    }

    async fn receive(&mut self, count: usize) {
        let messages = self.messages.as_mut().expect("subscribed");
        for _ in 0..count {
            read(messages).await;
        }
    }

    async fn publish_one(&mut self) {
        publish(&self.client).await;
    }

    async fn echo(&mut self) {
        let messages = self.messages.as_mut().expect("subscribed");
        tokio::join!(publish(&self.client), read(messages));
    }
}

async fn publish(client: &Client) {
    let message = client.publish(TOPIC, Bytes::from_static(PAYLOAD));
    message.qos(QoS::AtLeastOnce).await.expect("acknowledged");
}

async fn read(messages: &mut Messages) {
    let message = messages.next().await.expect("a message");
    assert_eq!(message.payload, PAYLOAD);
}
