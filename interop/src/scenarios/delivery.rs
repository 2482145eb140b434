//! Messages at each QoS, both ways.

use mqtt_core::{Connect, QoS, ReasonCode, Text};

use super::EACH;
use crate::peer::Peer;
use crate::tools::{self, Subscriber};
use crate::{Result, Setup, ensure};

/// Each QoS of the publisher with each of the subscription: the lower one counts.
pub(super) fn to_itself(setup: &Setup) -> Result<()> {
    let mut peer = Peer::join(setup, "a")?;
    for wanted in EACH {
        let topic = setup.topic(&format!("self/{}", wanted as u8));
        peer.subscribe(&topic, wanted)?;
        for qos in EACH {
            let id = peer.publish(&topic, qos, &[b'0' + qos as u8])?;
            ensure(id.is_some() == (qos > QoS::AtMostOnce), || "identifier".to_owned())?;
            let message = peer.expect(&[b'0' + qos as u8])?;
            let expected = (topic.as_str(), qos.min(wanted), false);
            let seen = (message.topic.as_str(), message.qos, message.retain);
            ensure(seen == expected, || format!("{seen:?} instead of {expected:?}"))?;
            peer.settle()?;
            let outcomes = std::mem::take(&mut peer.seen.outcomes);
            let good = outcomes.iter().map(|&(id, _)| id).eq(id);
            let success = outcomes.iter().all(|(_, reason)| *reason == ReasonCode::Success);
            ensure(good && success, || format!("outcomes {outcomes:?} of {id:?}"))?;
        }
    }
    peer.leave(&Default::default())
}

pub(super) fn to_tool(setup: &Setup) -> Result<()> {
    let topic = setup.topic("to/tool");
    let subscriber =
        Subscriber::start(setup, &setup.topic("to/#"), QoS::ExactlyOnce, 3, "%t %q %r %x")?;
    let mut peer = Peer::join(setup, "a")?;
    for qos in EACH {
        peer.publish(&topic, qos, &[qos as u8, 0xff])?;
    }
    peer.settle()?;
    let lines = subscriber.lines()?;
    let expected = EACH.map(|qos| tools::line(&topic, qos, false, &[qos as u8, 0xff]));
    ensure(lines == expected, || format!("{lines:?} instead of {expected:?}"))
}

pub(super) fn from_tool(setup: &Setup) -> Result<()> {
    let topic = setup.topic("from/tool");
    let mut peer = Peer::join(setup, "a")?;
    peer.subscribe(&setup.topic("from/+"), QoS::ExactlyOnce)?;
    for qos in EACH {
        tools::publish(setup, &topic, qos, b"from a tool", &[])?;
        let message = peer.expect(b"from a tool")?;
        ensure(message.qos == qos && message.topic == topic, || format!("{message:?}"))?;
    }
    peer.expect_nothing(50)
}

/// Acknowledged in reverse; what was not acknowledged comes again, and only that.
pub(super) fn manual(setup: &Setup) -> Result<()> {
    let id = setup.id("m");
    let mut peer = Peer::<65_536>::manual(setup);
    let lasting = setup.lasting(&id)?;
    peer.connect(&lasting)?;
    let topic = setup.topic("manual");
    peer.subscribe(&topic, QoS::ExactlyOnce)?;
    let mut other = Peer::join(setup, "o")?;
    for (number, qos) in [(b'1', 1), (b'2', 2), (b'3', 1), (b'4', 2)] {
        other.publish(&topic, QoS::from_u8(qos).unwrap_or_default(), &[number])?;
    }
    other.settle()?;
    let messages = peer.take(4)?;
    let order: Vec<u8> = messages.iter().map(|message| message.payload[0]).collect();
    ensure(order == b"1234", || format!("order {order:?}"))?;
    let receipts: Vec<_> = messages.iter().filter_map(|message| message.receipt).collect();
    for index in [1, 0] {
        peer.acknowledge(receipts[index], ReasonCode::Success)?;
    }
    peer.expect_nothing(100)?;
    // The last two were not acknowledged; of those the QoS 2 message was received all the same.
    peer.connect(&lasting)?;
    let message = peer.take(1)?.remove(0);
    ensure(message.payload == b"3", || format!("{message:?}"))?;
    let stale = peer.acknowledge(receipts[2], ReasonCode::Success);
    ensure(stale.is_err(), || "a receipt outlived its connection".to_owned())?;
    let receipt = message.receipt.ok_or("no receipt")?;
    peer.acknowledge(receipt, ReasonCode::Success)?;
    peer.acknowledge(receipts[3], ReasonCode::Success)?;
    peer.expect_nothing(100)?;
    peer.connect(&lasting)?;
    peer.expect_nothing(100)?;
    let forget = Connect { client_id: Text::new(&id)?, ..Connect::default() };
    peer.connect(&forget).map(drop)
}
