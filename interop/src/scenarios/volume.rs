//! Many messages.

use std::time::{Duration, Instant};

use mqtt_core::QoS;

use crate::peer::Peer;
use crate::tools::{self, Subscriber};
use crate::{Result, Setup, ensure};

const COUNT: usize = 10_000;

pub(super) fn qos_0(setup: &Setup) -> Result<()> {
    to_itself(setup, QoS::AtMostOnce)
}

pub(super) fn qos_1(setup: &Setup) -> Result<()> {
    to_itself(setup, QoS::AtLeastOnce)
}

pub(super) fn qos_2(setup: &Setup) -> Result<()> {
    to_itself(setup, QoS::ExactlyOnce)
}

fn to_itself(setup: &Setup, qos: QoS) -> Result<()> {
    let topic = setup.topic("volume");
    let mut peer = Peer::join(setup, "a")?;
    peer.subscribe(&topic, qos)?;
    for number in 0..COUNT {
        peer.queue(&topic, qos, number.to_string().as_bytes())?;
        // The broker drops QoS 0 messages for those who do not keep up.
        while qos == QoS::AtMostOnce && number >= peer.seen.whole() + 100 {
            peer.step(50)?;
        }
    }
    peer.settle()?;
    in_order(&mut peer)?;
    let expected = if qos == QoS::AtMostOnce { 0 } else { COUNT };
    ensure(peer.seen.outcomes.len() == expected, || {
        format!("{} outcomes", peer.seen.outcomes.len())
    })
}

fn in_order(peer: &mut Peer) -> Result<()> {
    let messages = peer.take(COUNT)?;
    for (number, message) in messages.iter().enumerate() {
        ensure(message.payload == number.to_string().as_bytes(), || {
            format!("{} in place of {number}", String::from_utf8_lossy(&message.payload))
        })?;
    }
    peer.expect_nothing(50)
}

fn lines() -> String {
    (0..COUNT).map(|number| format!("{number}\n")).collect()
}

/// mosquitto 2.0.11 does not keep to the Receive Maximum, nor to its own `max_inflight_messages`, when
/// messages wait: after an acknowledgement it sends a full window, whatever is outstanding. For a
/// small store that is a reason to hang up, to connect again, and to miss and repeat nothing.
pub(super) fn from_tool(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("a"), setup.topic("volume"));
    let lasting = setup.lasting(&id)?;
    let mut peer = Peer::<65_536>::new(setup);
    peer.connect(&lasting)?;
    peer.subscribe(&topic, QoS::ExactlyOnce)?;
    let lines = lines();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let published = tools::publish_lines(setup, &topic, QoS::ExactlyOnce, &lines);
            published.map_err(|error| error.to_string())
        });
        let start = Instant::now();
        let mut result = peer.until("all", |seen| seen.whole() >= COUNT);
        while let Err(error) = result {
            let window = error.to_string().contains("receive maximum");
            ensure(window && start.elapsed() < Duration::from_secs(20), || error.to_string())?;
            result = peer.connect(&lasting).and_then(|present| {
                ensure(present, || "the session was lost".to_owned())?;
                peer.until("all", |seen| seen.whole() >= COUNT)
            });
        }
        publisher.join().map_err(|_| "panicked")??;
        in_order(&mut peer)
    })
}

pub(super) fn to_tool(setup: &Setup) -> Result<()> {
    let topic = setup.topic("volume");
    let subscriber = Subscriber::start(setup, &topic, QoS::AtLeastOnce, COUNT, "%p")?;
    std::thread::scope(|scope| {
        let printed = scope.spawn(|| subscriber.lines().map_err(|error| error.to_string()));
        let mut peer = Peer::join(setup, "a")?;
        for number in 0..COUNT {
            peer.queue(&topic, QoS::AtLeastOnce, number.to_string().as_bytes())?;
        }
        peer.settle()?;
        let printed = printed.join().map_err(|_| "panicked")??;
        ensure(printed.iter().map(String::as_str).eq(lines().lines()), || {
            "not all in order".to_owned()
        })
    })
}
