//! Requests, dropped: they are forgotten, and others get their answers.

use mqtt_core::{
    Ack, Properties, Property, Publish, SubAck,
    wire::{Delivery, Packet},
};

use super::*;

/// Answers what has come: grants, acknowledges, and responds to requests.
fn answer(net: &Net<Script>) {
    net.with(|script| {
        while let Some(packet) = script.received.pop_front() {
            match packet {
                Packet::Subscribe(id, _) => {
                    let reasons = [ReasonCode::GrantedQoS1];
                    let reasons = reasons[..].into();
                    script.send(&Packet::SubAck(id, SubAck { reasons, ..SubAck::default() }));
                }
                Packet::Publish(delivery, request) => {
                    let id = delivery.packet_id.expect("one at QoS 1");
                    script.send(&Packet::PubAck(id, Ack::default()));
                    let topic = request.properties.response_topic().expect("a request");
                    let data = request.properties.correlation_data().expect("a request");
                    let list = [Property::CorrelationData(data)];
                    let properties = Properties::from(&list);
                    let payload = request.payload;
                    let response = Publish { payload, properties, ..Publish::new(topic, "") };
                    script.send(&Packet::Publish(Delivery::default(), response));
                }
                Packet::Disconnect(_) => script.close(),
                other => panic!("{other:?}"),
            }
        }
    });
}

/// Two requests by one requester, the second of which is not dropped.
async fn two(knife: &Knife) -> Record {
    let (net, client) = talk(Version::V5).await;
    let serve = async {
        loop {
            sleep(std::time::Duration::from_millis(5)).await;
            answer(&net);
        }
    };
    let work = async {
        let requester = client.requester("answers").await.unwrap();
        let request = |payload: &'static str| {
            requester.request(client.publish("lamp", payload).qos(AtLeastOnce))
        };
        knife.apply(request("subject")).await;
        pass(1).await;
        let response = request("other").await.unwrap();
        drop(requester);
        client.disconnect().await.unwrap();
        vec![text(&response)]
    };
    let told = tokio::select! {
        told = work => told,
        () = serve => unreachable!(),
    };
    let (down, up) = net.trace().into_iter().partition(|line| line.starts_with('<'));
    Record { up, down, accepted: Vec::new(), told }
}

#[tokio::test(start_paused = true)]
async fn a_request() {
    bounded(on(Version::V5, 1, Effect::AllFrom(1), &async |_, knife| two(knife).await)).await;
}

#[tokio::test(start_paused = true)]
async fn a_requester() {
    bounded(on(Version::V5, 1, Effect::AllOrNothing(1), &async |version, knife| {
        let (net, client) = meet(version).await;
        drop(knife.apply(client.requester("answers")).await);
        settle().await;
        assert_eq!(net.publish("answers", "1", AtLeastOnce), 0);
        assert_eq!(client.counters().filters, 0);
        Record::of(&net, client, Vec::new()).await
    }))
    .await;
}
