//! rumqttc, as it is quickest: its event loop is polled by the task that waits for what it brings, and
//! publishes come from others through a long channel.

/// How many requests the channel holds.
const CHANNEL: usize = 10_000;

/// A client over one of rumqttc's modules, whose types have the same names.
macro_rules! client {
    () => {
        /// A client and its event loop.
        pub(crate) struct Peer {
            client: AsyncClient,
            events: EventLoop,
        }

        impl Peer {
            /// Polls until so many events of a kind have come.
            async fn poll(&mut self, count: usize, counts: impl Fn(&Event) -> bool) {
                let mut seen = 0;
                while seen < count {
                    let event = self.events.poll().await.expect("a connection");
                    seen += usize::from(counts(&event));
                }
            }

            async fn publish_to(client: &AsyncClient, qos: PeerQoS) {
                let payload = Bytes::from_static(PAYLOAD);
                let accepted = client.publish_bytes(TOPIC, qos, false, payload);
                accepted.await.expect("accepted");
            }
        }

        impl Subject for Peer {
            async fn connect(target: &Target) -> Self {
                let options = MqttOptions::new("bench-rumqttc", "127.0.0.1", target.port);
                let mut network = NetworkOptions::new();
                network.set_tcp_nodelay(target.nodelay);
                let (client, events) = open(options, network, target.window);
                let mut peer = Self { client, events };
                peer.poll(1, |event| matches!(event, Event::Incoming(Incoming::ConnAck(_)))).await;
                peer
            }

            async fn publish(&mut self, qos: QoS, count: usize) {
                self.publish_from(1, qos, count).await;
            }

            async fn publish_from(&mut self, tasks: usize, qos: QoS, count: usize) {
                for _ in 0..tasks {
                    let client = self.client.clone();
                    tokio::spawn(async move {
                        for _ in 0..count / tasks {
                            Self::publish_to(&client, peer_qos(qos)).await;
                        }
                    });
                }
                self.poll(count, |event| match event {
                    Event::Outgoing(Outgoing::Publish(_)) => qos == QoS::AtMostOnce,
                    Event::Incoming(Incoming::PubAck(_)) => qos == QoS::AtLeastOnce,
                    Event::Incoming(Incoming::PubComp(_)) => qos == QoS::ExactlyOnce,
                    _ => false,
                })
                .await;
            }

            async fn subscribe(&mut self, filter: &str, qos: QoS) {
                self.client.subscribe(filter, peer_qos(qos)).await.expect("accepted");
                self.poll(1, |event| matches!(event, Event::Incoming(Incoming::SubAck(_)))).await;
            }

            async fn receive(&mut self, count: usize) {
                self.poll(count, |event| match event {
                    Event::Incoming(Incoming::Publish(message)) => {
                        assert_eq!(message.payload, PAYLOAD);
                        true
                    }
                    _ => false,
                })
                .await;
            }

            async fn publish_one(&mut self) {
                Self::publish_to(&self.client, PeerQoS::AtLeastOnce).await;
                self.poll(1, |event| matches!(event, Event::Incoming(Incoming::PubAck(_)))).await;
            }

            async fn echo(&mut self) {
                Self::publish_to(&self.client, PeerQoS::AtLeastOnce).await;
                // In whichever order they come.
                self.poll(2, |event| {
                    matches!(event, Event::Incoming(Incoming::PubAck(_) | Incoming::Publish(_)))
                })
                .await;
            }
        }

        fn peer_qos(qos: QoS) -> PeerQoS {
            match qos {
                QoS::AtMostOnce => PeerQoS::AtMostOnce,
                QoS::AtLeastOnce => PeerQoS::AtLeastOnce,
                QoS::ExactlyOnce => PeerQoS::ExactlyOnce,
            }
        }
    };
}

/// It speaks 3.1.1.
pub(crate) mod v4 {
    use bytes::Bytes;
    use mqtt_core::QoS;
    use rumqttc::{
        AsyncClient, Event, EventLoop, Incoming, MqttOptions, NetworkOptions, Outgoing,
        QoS as PeerQoS,
    };

    use crate::{PAYLOAD, Subject, TOPIC, Target};

    client!();

    fn open(
        mut options: MqttOptions,
        network: NetworkOptions,
        window: u16,
    ) -> (AsyncClient, EventLoop) {
        options.set_inflight(window);
        let (client, mut events) = AsyncClient::new(options, super::CHANNEL);
        events.set_network_options(network);
        (client, events)
    }
}

/// It speaks 5.0.
pub(crate) mod v5 {
    use bytes::Bytes;
    use mqtt_core::QoS;
    use rumqttc::{
        NetworkOptions, Outgoing,
        v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, mqttbytes::QoS as PeerQoS},
    };

    use crate::{PAYLOAD, Subject, TOPIC, Target};

    client!();

    fn open(
        mut options: MqttOptions,
        network: NetworkOptions,
        window: u16,
    ) -> (AsyncClient, EventLoop) {
        options.set_outgoing_inflight_upper_limit(window).set_network_options(network);
        AsyncClient::new(options, super::CHANNEL)
    }
}
