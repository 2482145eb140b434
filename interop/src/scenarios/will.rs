//! The will.

use std::time::{Duration, Instant};

use mqtt_core::{
    Connect, Disconnect, Properties, Property, QoS, ReasonCode, Text, Topic, UserProperty, Will,
};

use super::EACH;
use crate::peer::Peer;
use crate::tools::{self, Subscriber};
use crate::{Result, Setup, ensure};

pub(super) fn abrupt(setup: &Setup) -> Result<()> {
    let topic = setup.topic("will");
    let mut watcher = Peer::join(setup, "w")?;
    watcher.subscribe(&topic, QoS::ExactlyOnce)?;
    let subscriber = Subscriber::start(setup, &topic, QoS::ExactlyOnce, 3, "%t %q %r %x")?;
    let id = setup.id("mortal");
    for qos in EACH {
        let retain = qos == QoS::ExactlyOnce;
        let will =
            Will { topic: Topic::new(&topic)?, payload: b"gone", qos, retain, ..Will::default() };
        let mut mortal = Peer::<65_536>::new(setup);
        let client_id = Text::new(&id)?;
        mortal.connect(&Connect { client_id, will: Some(will), ..Connect::default() })?;
        watcher.expect_nothing(20)?;
        drop(mortal);
        let message = watcher.expect(b"gone")?;
        ensure(message.qos == qos, || format!("{message:?}"))?;
    }
    let lines = subscriber.lines()?;
    let expected = EACH.map(|qos| tools::line(&topic, qos, false, b"gone"));
    ensure(lines == expected, || format!("{lines:?}"))?;
    let mut late = Peer::join(setup, "late")?;
    late.subscribe(&topic, QoS::AtMostOnce)?;
    ensure(late.expect(b"gone")?.retain, || "the will was not retained".to_owned())?;
    tools::publish(setup, &topic, QoS::AtLeastOnce, b"", &["-r"])
}

pub(super) fn graceful(setup: &Setup) -> Result<()> {
    let topic = setup.topic("will");
    let mut watcher = Peer::join(setup, "w")?;
    watcher.subscribe(&topic, QoS::ExactlyOnce)?;
    let id = setup.id("mortal");
    let will = Will { topic: Topic::new(&topic)?, payload: b"gone", ..Will::default() };
    let mut mortal = Peer::<65_536>::new(setup);
    mortal.connect(&Connect {
        client_id: Text::new(&id)?,
        will: Some(will),
        ..Connect::default()
    })?;
    mortal.leave(&Disconnect::default())?;
    watcher.expect_nothing(150)
}

pub(super) fn on_request(setup: &Setup) -> Result<()> {
    let topic = setup.topic("will");
    let mut watcher = Peer::join(setup, "w")?;
    watcher.subscribe(&topic, QoS::ExactlyOnce)?;
    let id = setup.id("mortal");
    let will = Will { topic: Topic::new(&topic)?, payload: b"gone", ..Will::default() };
    let mut mortal = Peer::<65_536>::new(setup);
    mortal.connect(&Connect {
        client_id: Text::new(&id)?,
        will: Some(will),
        ..Connect::default()
    })?;
    mortal.leave(&ReasonCode::DisconnectWithWillMessage.into())?;
    watcher.expect(b"gone").map(drop)
}

/// Published after the delay, with its properties, and not if the client is back before.
pub(super) fn delay(setup: &Setup) -> Result<()> {
    let topic = setup.topic("will");
    let mut watcher = Peer::join(setup, "w")?;
    watcher.subscribe(&topic, QoS::ExactlyOnce)?;
    let properties = [
        Property::WillDelayInterval(1),
        Property::PayloadFormatIndicator(true),
        Property::ContentType(Text::new("text/plain")?),
        Property::ResponseTopic(Topic::new("answers")?),
        Property::CorrelationData(b"\0\x01"),
        Property::UserProperty(UserProperty::new("key", "value")?),
    ];
    let will = Will {
        topic: Topic::new(&topic)?,
        payload: b"gone",
        properties: Properties::from(&properties),
        ..Will::default()
    };
    let id = setup.id("mortal");
    let mut mortal = Peer::<65_536>::new(setup);
    let connect = Connect { will: Some(will), ..setup.lasting(&id)? };
    mortal.connect(&connect)?;
    // Drops the first connection.
    mortal.connect(&connect)?;
    watcher.expect_nothing(2_500)?;
    let start = Instant::now();
    drop(mortal);
    let message = watcher.expect(b"gone")?;
    let waited = start.elapsed();
    ensure(waited > Duration::from_millis(500), || format!("after {waited:?}"))?;
    let expected: Vec<_> = properties[1..].iter().map(|property| format!("{property:?}")).collect();
    ensure(expected.iter().all(|property| message.properties.contains(property)), || {
        format!("{:?} instead of {expected:?}", message.properties)
    })
}
