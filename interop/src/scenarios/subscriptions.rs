//! Wildcards and shared subscriptions.

use mqtt_core::{Filter, QoS, ReasonCode, Subscribe, Subscription};

use crate::peer::Peer;
use crate::{Result, Setup, ensure};

pub(super) fn wildcards(setup: &Setup) -> Result<()> {
    let mut peer = Peer::join(setup, "a")?;
    let mut other = Peer::join(setup, "b")?;
    let topics = ["sport", "sport/", "sport/tennis", "sport/tennis/score", "/sport", "sports"];
    let filters = ["sport/#", "sport/+", "+/tennis", "sport/+/score", "+", "#", "/sport", "+/+"];
    for filter in filters {
        let filter = setup.topic(filter);
        peer.subscribe(&filter, QoS::AtLeastOnce)?;
        let parsed = Filter::new(&filter)?;
        let mut expected = Vec::new();
        for topic in topics {
            let topic = setup.topic(topic);
            other.publish(&topic, QoS::AtLeastOnce, topic.as_bytes())?;
            if parsed.matches(mqtt_core::Topic::new(&topic)?) {
                expected.push(topic);
            }
        }
        other.settle()?;
        let got = peer.take(expected.len())?;
        ensure(got.iter().map(|message| &message.topic).eq(&expected), || {
            format!("{filter}: {got:?}")
        })?;
        let reasons = peer.unsubscribe(&filter)?;
        ensure(reasons.iter().all(|reason| *reason == ReasonCode::Success), || {
            format!("{reasons:?}")
        })?;
        peer.expect_nothing(20)?;
    }
    // Several in one packet are answered one by one.
    let (first, second) = (setup.topic("x/+"), setup.topic("y/#"));
    let wanted = [
        Subscription::new(Filter::new(&first)?, QoS::AtMostOnce),
        Subscription::new(Filter::new(&second)?, QoS::ExactlyOnce),
    ];
    let reasons = peer.request(&Subscribe::from(&wanted))?;
    ensure(reasons == [ReasonCode::Success, ReasonCode::GrantedQoS2], || format!("{reasons:?}"))
}

/// Each message goes to one of the members.
pub(super) fn shared(setup: &Setup) -> Result<()> {
    let (filter, topic) = (format!("$share/crew/{}", setup.topic("jobs/+")), setup.topic("jobs/1"));
    let mut members = [Peer::join(setup, "a")?, Peer::join(setup, "b")?];
    for member in &mut members {
        member.subscribe(&filter, QoS::ExactlyOnce)?;
    }
    let mut other = Peer::join(setup, "c")?;
    for number in 0..40_u8 {
        let qos = QoS::from_u8(number % 3).unwrap_or_default();
        other.publish(&topic, qos, &[number])?;
    }
    other.settle()?;
    let mut numbers = Vec::new();
    for member in &mut members {
        member.drain(150)?;
        let count = member.seen.whole();
        ensure(count > 0, || "a member got nothing".to_owned())?;
        numbers.extend(member.take(count)?.iter().map(|message| message.payload[0]));
    }
    numbers.sort_unstable();
    ensure(numbers.iter().copied().eq(0..40), || format!("{numbers:?}"))?;
    let [mut one, mut two] = members;
    one.unsubscribe(&filter)?;
    other.publish(&topic, QoS::AtLeastOnce, b"last")?;
    two.expect(b"last")?;
    one.expect_nothing(20)
}
