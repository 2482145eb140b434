//! Requests and their responses.

use mqtt_core::{
    Ack, PacketId, Properties, Property, Publish, SubAck, Topic,
    wire::{Delivery, Packet},
};

use crate::support::*;

/// A request as the server has it.
struct Request {
    id: PacketId,
    topic: String,
    payload: String,
    response_topic: String,
    correlation_data: Vec<u8>,
}

/// The requests that have come, oldest first. Subscriptions are granted on the way.
async fn requests(net: &Net<Script>) -> Vec<Request> {
    settle().await;
    let received = net.with(|script| std::mem::take(&mut script.received));
    let mut requests = Vec::new();
    for packet in received {
        match packet {
            Packet::Subscribe(id, _) => {
                let reasons = [ReasonCode::GrantedQoS1];
                let ack = SubAck { reasons: reasons[..].into(), ..SubAck::default() };
                net.send(&Packet::SubAck(id, ack));
            }
            Packet::Publish(delivery, request) => requests.push(Request {
                id: delivery.packet_id.expect("one at QoS 1"),
                topic: request.topic.as_str().into(),
                payload: String::from_utf8(request.payload.as_bytes().into()).unwrap(),
                response_topic: request.properties.response_topic().unwrap().as_str().into(),
                correlation_data: request.properties.correlation_data().unwrap().into(),
            }),
            Packet::Unsubscribe(..) => {}
            other => panic!("{other:?}"),
        }
    }
    requests
}

fn acknowledge(net: &Net<Script>, request: &Request, reason: ReasonCode) {
    net.send(&Packet::PubAck(request.id, Ack::from(reason)));
}

fn respond(net: &Net<Script>, topic: &str, correlation_data: &[u8], payload: &str) {
    let list = [Property::CorrelationData(correlation_data)];
    let properties = Properties::from(&list);
    let topic = Topic::new(topic).unwrap();
    let response = Publish { properties, ..Publish::new(topic, payload) };
    net.send(&Packet::Publish(Delivery::default(), response));
}

/// A client, its requester, and a server that answers what it is told to.
async fn asking() -> (Net<Script>, Client, Requester) {
    let (net, client) = talk(Version::V5).await;
    let requester = {
        let (requester, asked) = tokio::join!(client.requester("panel/responses"), requests(&net));
        assert!(asked.is_empty());
        requester.expect("a subscription")
    };
    net.trace();
    (net, client, requester)
}

#[tokio::test(start_paused = true)]
async fn responses_are_told_apart() {
    bounded(async {
        let (net, client, requester) = asking().await;
        let ask = |payload: &'static str| {
            requester.request(client.publish("lamp", payload).qos(AtLeastOnce))
        };
        let serve = async {
            let asked = requests(&net).await;
            assert_eq!(asked.len(), 3);
            for request in &asked {
                assert_eq!(
                    (&*request.topic, &*request.response_topic),
                    ("lamp", "panel/responses")
                );
            }
            // The last first, one before the request itself is acknowledged, and some that nobody
            // has asked for.
            let [first, second, third] = &asked[..] else { unreachable!() };
            let respond =
                |data: &[u8], payload: &str| respond(&net, "panel/responses", data, payload);
            acknowledge(&net, third, ReasonCode::Success);
            respond(&third.correlation_data, &third.payload);
            respond(b"", "nonsense");
            respond(&third.correlation_data, "once more");
            respond(&[0; 16], "somebody else's");
            respond(&first.correlation_data, &first.payload);
            acknowledge(&net, first, ReasonCode::Success);
            acknowledge(&net, second, ReasonCode::Success);
            pass(3_600).await;
            respond(&second.correlation_data, &second.payload);
        };
        let (first, second, third, ()) = tokio::join!(ask("1"), ask("2"), ask("3"), serve);
        let told = [first, second, third].map(|response| text(&response.unwrap()));
        assert_eq!(told, ["1", "2", "3"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_answered() {
    bounded(async {
        let (net, client, requester) = asking().await;
        let ask = || requester.request(client.publish("lamp", "?").qos(AtLeastOnce));
        for (reason, expected) in [
            (ReasonCode::NoMatchingSubscribers, RequestError::NobodyThere),
            (
                ReasonCode::NotAuthorized,
                RequestError::Publish(PublishError::Refused(ReasonCode::NotAuthorized.into())),
            ),
        ] {
            let serve = async { acknowledge(&net, &requests(&net).await[0], reason) };
            let (response, ()) = tokio::join!(ask(), serve);
            assert_eq!(response.unwrap_err(), expected);
        }
        let end = async {
            acknowledge(&net, &requests(&net).await[0], ReasonCode::Success);
            settle().await;
            let (result, ()) = tokio::join!(client.disconnect(), async {
                settle().await;
                net.cut();
            });
            result.unwrap();
        };
        let (response, ()) = tokio::join!(ask(), end);
        assert_eq!(response.unwrap_err(), RequestError::Closed);
        assert_eq!(ask().await.unwrap_err(), RequestError::Closed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_outlives_connections() {
    bounded(async {
        let (net, client, requester) = asking().await;
        let serve = async {
            let asked = requests(&net).await;
            net.cut(); // and the script has no memory
            settle().await;
            client.connected().await.unwrap();
            let again = requests(&net).await;
            assert_eq!(again[0].correlation_data, asked[0].correlation_data);
            acknowledge(&net, &again[0], ReasonCode::Success);
            respond(&net, "panel/responses", &again[0].correlation_data, "on");
        };
        let request = requester.request(client.publish("lamp", "?").qos(AtLeastOnce));
        let (response, ()) = tokio::join!(request, serve);
        assert_eq!(text(&response.unwrap()), "on");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_its_requester_nobody_is_subscribed() {
    bounded(async {
        let (net, client, requester) = asking().await;
        drop(requester);
        settle().await;
        assert_eq!(net.sent(), ["UNSUBSCRIBE 2 panel/responses"]);
        drop(client);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_where_the_request_says() {
    bounded(async {
        let (net, client) = talk(Version::V5).await;
        let mut all = client.listen("#").unwrap();
        let lists = [
            &[][..],
            &[Property::ResponseTopic(Topic::new("there").unwrap())],
            &[
                Property::ResponseTopic(Topic::new("there").unwrap()),
                Property::CorrelationData(b"7"),
            ],
        ];
        for (number, list) in lists.into_iter().enumerate() {
            let properties = Properties::from(list);
            let request = Publish { properties, ..Publish::new(Topic::new("a").unwrap(), "?") };
            net.send(&Packet::Publish(Delivery::default(), request));
            let request = all.next().await.unwrap();
            let Some(response) = client.respond(&request, "on") else {
                assert_eq!(number, 0, "only the first does not ask");
                continue;
            };
            response.await.unwrap();
            settle().await;
            let Packet::Publish(_, sent) = net.with(|script| script.packet()) else { panic!() };
            let expected = (number == 2).then_some(&b"7"[..]);
            assert_eq!((sent.topic.as_str(), sent.payload.as_bytes()), ("there", &b"on"[..]));
            assert_eq!(sent.properties.correlation_data(), expected);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_about_response_topics() {
    bounded(async {
        let response_information = Some(mqtt_core::Text::new("clients/7").unwrap());
        let terms = ConnAck { response_information, ..ConnAck::default() };
        let (_net, client) = talk_on(terms, options(Version::V5)).await;
        assert_eq!(client.response_information().as_deref(), Some("clients/7"));
    })
    .await;
}
