//! Sessions that outlive their connection.

use std::thread::sleep;
use std::time::Duration;

use mqtt_core::{Connect, Disconnect, Properties, Property, QoS, ReasonCode, Text, Version};

use super::EACH;
use crate::peer::Peer;
use crate::{Result, Setup, ensure, tools};

fn expect_session(peer: &mut Peer, connect: &Connect<'_>, wanted: bool) -> Result<()> {
    let present = peer.connect(connect)?;
    // 3.1 does not tell.
    let told = peer.driver.client.version() != Version::V3_1;
    ensure(!told || present == wanted, || format!("session present: {present}"))
}

pub(super) fn queued(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("away"), setup.topic("queued"));
    let lasting = setup.lasting(&id)?;
    let mut peer = Peer::new(setup);
    expect_session(&mut peer, &lasting, false)?;
    peer.subscribe(&topic, QoS::ExactlyOnce)?;
    for abrupt in [false, true] {
        if !abrupt {
            peer.leave(&Disconnect::default())?;
        }
        let mut other = Peer::join(setup, "other")?;
        if abrupt {
            // Nobody can send to it before the broker has noticed: a second connection does that.
            let kept = std::mem::replace(&mut peer, Peer::new(setup));
            drop(kept);
            sleep(Duration::from_millis(50));
        }
        for number in 0..20_u8 {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            other.publish(&topic, qos, &[number])?;
        }
        other.settle()?;
        tools::publish(setup, &topic, QoS::AtLeastOnce, &[20], &[])?;
        expect_session(&mut peer, &lasting, true)?;
        let messages = peer.take(21)?;
        // The order is that of one QoS: at QoS 2 they wait for PUBREL.
        let (odd, even): (Vec<u8>, Vec<u8>) =
            messages.iter().map(|message| message.payload[0]).partition(|number| number % 2 == 1);
        ensure(odd.into_iter().eq((1..21).step_by(2)), || "QoS 2 out of order".to_owned())?;
        ensure(even.into_iter().eq((0..21).step_by(2)), || "QoS 1 out of order".to_owned())?;
        peer.expect_nothing(50)?;
    }
    Ok(())
}

/// What the broker has not had before the connection ended.
pub(super) fn sent_again(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("again"), setup.topic("again"));
    let lasting = setup.lasting(&id)?;
    let mut watcher = Peer::join(setup, "w")?;
    watcher.subscribe(&topic, QoS::ExactlyOnce)?;
    let mut peer = Peer::new(setup);
    expect_session(&mut peer, &lasting, false)?;
    for round in 0..3_u8 {
        let mut ids = Vec::new();
        for (number, qos) in EACH.into_iter().chain(EACH).enumerate() {
            ids.extend(peer.queue(&topic, qos, &[round, number as u8])?);
        }
        // They are in the buffer, which goes with the connection.
        expect_session(&mut peer, &lasting, true)?;
        ids.extend(peer.publish(&topic, QoS::AtLeastOnce, &[round, 6])?);
        peer.settle()?;
        let numbers: Vec<u8> = watcher.take(5)?.iter().map(|message| message.payload[1]).collect();
        let (second, first): (Vec<u8>, Vec<u8>) = numbers.iter().partition(|&&n| n % 3 == 2);
        ensure(first == [1, 4, 6] && second == [2, 5], || format!("{numbers:?}"))?;
        let outcomes = std::mem::take(&mut peer.seen.outcomes);
        ensure(outcomes.len() == 5, || format!("{outcomes:?}"))?;
        for id in ids {
            ensure(outcomes.contains(&(id, ReasonCode::Success)), || {
                format!("no outcome of {id:?}")
            })?;
        }
    }
    Ok(())
}

pub(super) fn clean(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("clean"), setup.topic("clean"));
    let lasting = setup.lasting(&id)?;
    let mut peer = Peer::new(setup);
    expect_session(&mut peer, &lasting, false)?;
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    peer.queue(&topic, QoS::AtLeastOnce, b"lost")?;
    let clean = Connect { client_id: Text::new(&id)?, ..Connect::default() };
    expect_session(&mut peer, &clean, false)?;
    ensure(peer.flights() == 0, || "a publish outlived its session".to_owned())?;
    peer.publish(&topic, QoS::AtLeastOnce, b"nobody subscribes")?;
    peer.settle()?;
    peer.expect_nothing(50)?;
    expect_session(&mut peer, &lasting, false)
}

pub(super) fn expiry(setup: &Setup) -> Result<()> {
    let id = setup.id("expiry");
    let brief = Connect { session_expiry_interval: 1, ..setup.lasting(&id)? };
    let mut peer = Peer::new(setup);
    expect_session(&mut peer, &brief, false)?;
    expect_session(&mut peer, &brief, true)?;
    peer.queue(&setup.topic("lost"), QoS::AtLeastOnce, b"in the buffer")?;
    drop(std::mem::replace(&mut peer, Peer::new(setup)));
    sleep(Duration::from_secs(4));
    expect_session(&mut peer, &brief, false)
}

pub(super) fn expiry_at_disconnect(setup: &Setup) -> Result<()> {
    let id = setup.id("expiry");
    let lasting = setup.lasting(&id)?;
    let brief = Connect { client_id: Text::new(&id)?, ..Connect::default() };
    let mut peer = Peer::new(setup);
    expect_session(&mut peer, &lasting, false)?;
    let end = [Property::SessionExpiryInterval(0)];
    let end = Disconnect { properties: Properties::from(&end), ..Disconnect::default() };
    peer.leave(&end)?;
    expect_session(&mut peer, &lasting, false)?;
    expect_session(&mut peer, &brief, false)?;
    // It was 0: it cannot be changed any more [MQTT-3.14.2-2].
    let keep = [Property::SessionExpiryInterval(60)];
    let keep = Disconnect { properties: Properties::from(&keep), ..Disconnect::default() };
    ensure(peer.leave(&keep).is_err(), || "an illegal DISCONNECT was sent".to_owned())?;
    peer.leave(&Disconnect::default())
}
