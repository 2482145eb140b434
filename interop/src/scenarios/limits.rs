//! What either side limits.

use mqtt_core::{Connect, Publish, PublishError, QoS, ReasonCode, Text, Topic};

use crate::broker::Broker;
use crate::peer::Peer;
use crate::{Result, Setup, ensure};

fn refusal(peer: &mut Peer, message: &Publish<'_>) -> Option<PublishError> {
    let driver = &mut *peer.driver;
    driver.client.publish(driver.now(), message, &mut driver.out).err()
}

pub(super) fn theirs(setup: &Setup) -> Result<()> {
    let limited =
        "max_packet_size 2000\nmax_inflight_messages 3\nmax_qos 1\nretain_available false";
    let broker = Broker::start(limited)?;
    let setup = setup.at(&broker.address);
    let mut peer = Peer::join(&setup, "a")?;
    let terms = peer.terms()?.clone();
    ensure(
        terms.maximum_packet_size == Some(2_000)
            && terms.receive_maximum == 3
            && terms.maximum_qos == QoS::AtLeastOnce
            && !terms.retain_available,
        || format!("{terms:?}"),
    )?;
    let topic = Topic::new("limited")?;
    let plain = Publish { qos: QoS::AtLeastOnce, ..Publish::new(topic, b"x") };
    let refused = refusal(&mut peer, &Publish { qos: QoS::ExactlyOnce, ..plain });
    let expected = PublishError::Unsupported(ReasonCode::QoSNotSupported);
    ensure(refused == Some(expected), || format!("{refused:?}"))?;
    let refused = refusal(&mut peer, &Publish { retain: true, ..plain });
    let expected = PublishError::Unsupported(ReasonCode::RetainNotSupported);
    ensure(refused == Some(expected), || format!("{refused:?}"))?;
    // 2 + 2 + 7 + 2 + 1 bytes before the payload, 1 more for the length.
    let refused = refusal(&mut peer, &Publish { payload: [0; 1_986][..].into(), ..plain });
    ensure(refused == Some(PublishError::TooLarge), || format!("{refused:?}"))?;
    for _ in 0..3 {
        ensure(refusal(&mut peer, &plain).is_none(), || "refused".to_owned())?;
    }
    let refused = refusal(&mut peer, &plain);
    ensure(refused == Some(PublishError::InFlightFull), || format!("{refused:?}"))?;
    peer.send(&Publish { payload: [0; 1_985][..].into(), ..plain })?;
    peer.settle()?;
    for _ in 0..100 {
        peer.send(&plain)?;
    }
    peer.settle()?;
    let outcomes = peer.seen.outcomes.len();
    ensure(outcomes == 104, || format!("{outcomes} outcomes"))
}

pub(super) fn our_packet_size(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("a"), setup.topic("size"));
    let mut peer = Peer::<65_536>::new(setup);
    let connect = Connect { maximum_packet_size: Some(100), ..setup.lasting(&id)? };
    peer.connect(&connect)?;
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    let mut other = Peer::join(setup, "b")?;
    // Longer ones are not sent [MQTT-3.1.2-24], and count as sent [MQTT-3.1.2-25]. mosquitto 2.0
    // does not count the packet's first byte.
    let head = 2 + 2 + topic.len() + 2 + 1;
    for (size, arrives) in [(100 - head, true), (102 - head, false), (1, true)] {
        let payload = vec![b'x'; size];
        other.publish(&topic, QoS::AtLeastOnce, &payload)?;
        other.settle()?;
        if arrives {
            peer.expect(&payload)?;
        }
    }
    peer.expect_nothing(50)
}

pub(super) fn our_receive_maximum(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("a"), setup.topic("receive"));
    let mut peer = Peer::<65_536>::manual(setup);
    let client_id = Text::new(&id)?;
    peer.connect(&Connect { client_id, receive_maximum: 5, ..Connect::default() })?;
    peer.subscribe(&topic, QoS::ExactlyOnce)?;
    let mut other = Peer::join(setup, "b")?;
    // No more than twice as many: after the first acknowledgement mosquitto 2.0 sends another five,
    // whatever is outstanding, and then another.
    for number in 0..10 {
        let qos = if number < 5 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        other.publish(&topic, qos, &[number])?;
    }
    other.settle()?;
    for numbers in [0..5, 5..10] {
        let messages = peer.take(5)?;
        peer.expect_nothing(50)?;
        let payloads = messages.iter().map(|message| message.payload[0]);
        ensure(payloads.eq(numbers), || format!("{messages:?}"))?;
        for message in messages {
            peer.acknowledge(message.receipt.ok_or("no receipt")?, ReasonCode::Success)?;
        }
    }
    peer.expect_nothing(50)
}

/// The broker insists on a shorter keep alive, at least 10 s, and the client means to keep to it.
pub(super) fn server_keep_alive(setup: &Setup) -> Result<()> {
    let broker = Broker::start("max_keepalive 10")?;
    let setup = setup.at(&broker.address);
    let peer = Peer::join(&setup, "a")?;
    let told = peer.terms()?.server_keep_alive;
    ensure(told == Some(10), || format!("{told:?}"))?;
    let due = peer.driver.client.deadline().map(|at| at.since(peer.driver.now()));
    ensure(due.is_some_and(|due| (9_000..=10_000).contains(&due)), || format!("{due:?}"))
}
