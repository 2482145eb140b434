//! Silence.

use std::time::{Duration, Instant};

use mqtt_core::{Connect, QoS, Text};

use crate::broker::Broker;
use crate::peer::Peer;
use crate::{Result, Setup, ensure};

fn join(setup: &Setup, name: &str) -> Result<Peer> {
    let id = setup.id(name);
    let mut peer = Peer::new(setup);
    peer.connect(&Connect { client_id: Text::new(&id)?, keep_alive: 1, ..Connect::default() })?;
    Ok(peer)
}

/// The broker would end it after one and a half seconds.
pub(super) fn idle(setup: &Setup) -> Result<()> {
    let mut peer = join(setup, "idle")?;
    peer.expect_nothing(3_000)?;
    let topic = setup.topic("awake");
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    peer.publish(&topic, QoS::AtLeastOnce, b"still here")?;
    peer.expect(b"still here")?;
    // One that only listens says something, too.
    let mut other = Peer::join(setup, "other")?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) {
        other.publish(&topic, QoS::AtMostOnce, b"tick")?;
        other.step(10)?;
        peer.step(50)?;
    }
    Ok(())
}

pub(super) fn frozen_idle(setup: &Setup) -> Result<()> {
    frozen(setup, |peer| peer.step(50))
}

/// Its packets keep leaving, until the network takes no more.
pub(super) fn frozen_publisher(setup: &Setup) -> Result<()> {
    let topic = setup.topic("void");
    frozen(setup, |peer| {
        peer.publish(&topic, QoS::AtMostOnce, &[0; 10_000])?;
        peer.step(5)
    })
}

fn frozen(setup: &Setup, mut act: impl FnMut(&mut Peer) -> Result<()>) -> Result<()> {
    let broker = Broker::start("")?;
    let setup = setup.at(&broker.address);
    let mut peer = join(&setup, "frozen")?;
    let mut start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_200) {
        act(&mut peer)?;
    }
    broker.signal("STOP")?;
    start = Instant::now();
    let error = loop {
        ensure(start.elapsed() < Duration::from_secs(5), || "not noticed".to_owned())?;
        if let Err(error) = act(&mut peer) {
            break error.to_string();
        }
    };
    let noticed = start.elapsed();
    broker.signal("CONT")?;
    ensure(error.contains("keep alive"), || error.clone())?;
    // Up to one and a half from the last sign of life, and what the driver's waits add.
    ensure(noticed < Duration::from_millis(1_800), || format!("after {noticed:?}"))?;
    let mut peer = join(&setup, "thawed")?;
    let topic = setup.topic("thawed");
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    peer.publish(&topic, QoS::AtLeastOnce, b"again")?;
    peer.expect(b"again").map(drop)
}
