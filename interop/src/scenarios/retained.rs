//! Retained messages.

use mqtt_core::{Filter, Publish, QoS, RetainHandling, Subscribe, Subscription, Topic};

use super::EACH;
use crate::peer::Peer;
use crate::tools::{self, Subscriber};
use crate::{Result, Setup, ensure};

fn retained<'a>(topic: &'a str, qos: QoS, payload: &'a [u8]) -> Result<Publish<'a>> {
    Ok(Publish { qos, retain: true, ..Publish::new(Topic::new(topic)?, payload) })
}

pub(super) fn life(setup: &Setup) -> Result<()> {
    let topic = setup.topic("retained");
    let mut peer = Peer::join(setup, "a")?;
    for qos in EACH {
        peer.send(&retained(&topic, qos, b"first")?)?;
        peer.send(&retained(&topic, qos, b"second")?)?;
        peer.settle()?;
        let mut late = Peer::join(setup, "late")?;
        late.subscribe(&topic, QoS::ExactlyOnce)?;
        let message = late.expect(b"second")?;
        ensure(message.retain && message.qos == qos, || format!("{message:?}"))?;
        // One that was there before gets it as a new message.
        peer.send(&retained(&topic, qos, b"third")?)?;
        peer.settle()?;
        let message = late.expect(b"third")?;
        ensure(!message.retain, || "RETAIN on a new message".to_owned())?;
        let subscriber = Subscriber::start(setup, &topic, qos, 2, "%t %q %r %x")?;
        tools::publish(setup, &topic, qos, b"", &["-r"])?;
        let lines = subscriber.lines()?;
        let (kept, empty) =
            (tools::line(&topic, qos, true, b"third"), tools::line(&topic, qos, false, b""));
        ensure(lines == [kept, empty], || format!("{lines:?}"))?;
        late.expect(b"")?;
        let mut later = Peer::join(setup, "later")?;
        later.subscribe(&topic, QoS::ExactlyOnce)?;
        later.expect_nothing(50)?;
    }
    tools::publish(setup, &topic, QoS::AtLeastOnce, b"from a tool", &["-r"])?;
    peer.subscribe(&topic, QoS::AtMostOnce)?;
    ensure(peer.expect(b"from a tool")?.retain, || "RETAIN lost".to_owned())?;
    peer.send(&retained(&topic, QoS::AtMostOnce, b"")?)?;
    peer.expect(b"").map(drop)
}

pub(super) fn options(setup: &Setup) -> Result<()> {
    let topic = setup.topic("options");
    let mut peer = Peer::join(setup, "a")?;
    let mut other = Peer::join(setup, "b")?;
    peer.send(&retained(&topic, QoS::AtLeastOnce, b"kept")?)?;
    peer.settle()?;
    let plain = Subscription::new(Filter::new(&topic)?, QoS::AtLeastOnce);
    let handling = |retain_handling| Subscription { retain_handling, ..plain };

    peer.request(&Subscribe::from(&[handling(RetainHandling::DoNotSend)]))?;
    peer.expect_nothing(50)?;
    peer.request(&Subscribe::from(&[handling(RetainHandling::SendIfNew)]))?;
    peer.expect_nothing(50)?;
    peer.unsubscribe(&topic)?;
    peer.request(&Subscribe::from(&[handling(RetainHandling::SendIfNew)]))?;
    peer.expect(b"kept")?;
    for _ in 0..2 {
        peer.request(&Subscribe::from(&[handling(RetainHandling::Send)]))?;
        ensure(peer.expect(b"kept")?.retain, || "RETAIN lost".to_owned())?;
    }

    let retain_handling = RetainHandling::DoNotSend;
    // Anew: mosquitto 2.0.11 takes no more than the QoS from a subscription that it has already.
    peer.unsubscribe(&topic)?;
    let flagged = Subscription { retain_as_published: true, retain_handling, ..plain };
    peer.request(&Subscribe::from(&[flagged]))?;
    other.send(&retained(&topic, QoS::AtLeastOnce, b"new")?)?;
    other.settle()?;
    ensure(peer.expect(b"new")?.retain, || "RETAIN not as published".to_owned())?;
    other.publish(&topic, QoS::AtLeastOnce, b"plain")?;
    ensure(!peer.expect(b"plain")?.retain, || "RETAIN not as published".to_owned())?;

    let deaf = Subscription { no_local: true, retain_handling, ..plain };
    peer.unsubscribe(&topic)?;
    peer.request(&Subscribe::from(&[deaf]))?;
    peer.publish(&topic, QoS::AtLeastOnce, b"own")?;
    peer.settle()?;
    other.publish(&topic, QoS::AtLeastOnce, b"another's")?;
    peer.expect(b"another's")?;
    other.send(&retained(&topic, QoS::AtMostOnce, b"")?)?;
    other.settle()?;
    peer.expect(b"").map(drop)
}
