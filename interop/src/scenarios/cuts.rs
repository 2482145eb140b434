//! A connection that ends after any byte.

use std::collections::HashMap;

use mqtt_core::store::Store;
use mqtt_core::{Connect, QoS};

use crate::peer::Peer;
use crate::proxy::{Budget, Proxy};
use crate::{Result, Setup, ensure};

/// A client that publishes to itself, over a connection that is cut after each number of bytes in
/// turn, upwards and downwards, until the exchange gets through.
pub(super) fn every_byte(setup: &Setup) -> Result<()> {
    let proxy = Proxy::start(&setup.address)?;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for up in [true, false] {
            let mut cut_after = 1;
            loop {
                let mut budget = Budget::ALL;
                *(if up { &mut budget.up } else { &mut budget.down }) = cut_after;
                let was_cut = exchange(setup, &proxy, budget, qos)
                    .map_err(|error| format!("{qos:?} {budget:?}: {error}"))?;
                if !was_cut {
                    break;
                }
                cut_after += 1;
            }
            ensure(cut_after > 50, || format!("never cut after {cut_after}"))?;
        }
    }
    Ok(())
}

/// Whether the connection was cut.
fn exchange(setup: &Setup, proxy: &Proxy, budget: Budget, qos: QoS) -> Result<bool> {
    let (id, topic) = (setup.id("cut"), setup.topic("cut"));
    let lasting = setup.lasting(&id)?;
    let mut peer = Peer::<65_536>::new(setup);
    peer.address.clone_from(&proxy.address);
    proxy.set(Budget::ALL);
    peer.connect(&Connect { clean_start: true, ..lasting })?;
    if !setup.version.is_v5() {
        // With Clean Session the session would end with this connection.
        peer.connect(&lasting)?;
    }
    peer.subscribe(&topic, qos)?;
    proxy.set(budget);
    let mut accepted = 0;
    let first = publish_all(&mut peer, &lasting, &topic, qos, &mut accepted);
    proxy.set(Budget::ALL);
    if first.is_err() {
        publish_all(&mut peer, &lasting, &topic, qos, &mut accepted)?;
    }
    let mut outcomes = HashMap::new();
    for (id, _) in &peer.seen.outcomes {
        *outcomes.entry(*id).or_insert(0) += 1;
    }
    let numbers: Vec<u8> = peer.seen.messages.iter().map(|message| message.payload[0]).collect();
    let mut firsts = numbers.clone();
    if qos == QoS::AtLeastOnce {
        // Repeated perhaps, but first in order.
        let mut seen = [false; 3];
        firsts.retain(|&number| !std::mem::replace(&mut seen[usize::from(number)], true));
    }
    ensure(firsts == [0, 1, 2], || format!("arrived {numbers:?}"))?;
    ensure(outcomes.len() == 3 && outcomes.values().all(|&count| count == 1), || {
        format!("outcomes {:?}", peer.seen.outcomes)
    })?;
    Ok(first.is_err())
}

/// Connects, publishes those of three that were not accepted before, and waits for all.
fn publish_all(
    peer: &mut Peer,
    lasting: &Connect<'_>,
    topic: &str,
    qos: QoS,
    accepted: &mut u8,
) -> Result<()> {
    let present = peer.connect(lasting)?;
    ensure(present, || "the session was lost".to_owned())?;
    while *accepted < 3 {
        peer.queue(topic, qos, &[*accepted])?;
        *accepted += 1;
    }
    peer.settle()?;
    peer.until("three messages", |seen| {
        (0..3).all(|number| seen.messages.iter().any(|message| message.payload == [number]))
    })?;
    // The end of the receiver's exchange, too: what is still on its way up and down.
    let store = |peer: &Peer| peer.driver.client.store().arrivals();
    while qos == QoS::ExactlyOnce && store(peer) > 0 {
        peer.step(50)?;
    }
    peer.step(1)?;
    Ok(())
}
