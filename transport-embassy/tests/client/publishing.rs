use embassy_futures::join::join;
use mqtt_core::{Connect, Filter, Publish, QoS, Text, Topic, Version, store::Fixed};
use transport_embassy::Options;

use crate::world::{Resources, World, server, task};

pub(crate) fn options(client_id: &str) -> Options<'_> {
    Options {
        connect: Connect {
            client_id: Text::new(client_id).unwrap(),
            session_expiry_interval: 3600,
            ..Connect::default()
        },
        ..Options::default()
    }
}

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn what_is_published_arrives_at_each_qos() {
    for version in [Version::V3_1_1, Version::V5] {
        let world = World::new(1);
        let mut server = server();
        let mut resources = Resources::new(version, Fixed::new());
        let (client, mut runner) = resources.split(options("alice"));
        let (tcp, listeners) = (world.tcp(), world.listeners());
        world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
            let filter = Filter::new("t/+").unwrap();
            assert_eq!(client.subscribe(filter, QoS::ExactlyOnce).await, Ok(QoS::ExactlyOnce));
            for qos in QOS {
                for number in 0..10_u8 {
                    let payload = [number; 3];
                    let topic = Topic::new("t/1").unwrap();
                    let message = Publish { qos, ..Publish::new(topic, &payload[..]) };
                    let published = async { client.publish(&message).await.unwrap() };
                    let received = async { client.receive().await.unwrap() };
                    let (_, received) = join(published, received).await;
                    assert_eq!((received.topic(), received.payload()), ("t/1", &payload[..]));
                    assert_eq!(received.qos(), qos);
                }
            }
        });
    }
}
