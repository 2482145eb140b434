//! Payloads of any size, whole and in pieces.

use mqtt_core::{Config, Connect, Publish, QoS, ReasonCode, Text, Topic};

use super::EACH;
use crate::peer::Peer;
use crate::proxy::{Budget, Proxy};
use crate::tools::{self, Subscriber};
use crate::{Result, Setup, ensure, hex};

const SIZES: [usize; 8] = [0, 1, 127, 128, 2_047, 2_048, 16_384, 1 << 20];

/// Longer than any packet here.
const LARGE: usize = 1_100_000;
const SMALL: usize = 2_048;

/// Bytes that tell where they belong.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 251) as u8).collect()
}

fn join<const N: usize>(mut peer: Peer<N>, setup: &Setup, name: &str) -> Result<Peer<N>> {
    let id = setup.id(name);
    peer.connect(&Connect { client_id: Text::new(&id)?, ..Connect::default() })?;
    Ok(peer)
}

pub(super) fn whole(setup: &Setup) -> Result<()> {
    let topic = setup.topic("payload");
    let mut peer = join(Peer::<LARGE>::large(setup), setup, "large")?;
    peer.subscribe(&topic, QoS::ExactlyOnce)?;
    for qos in EACH {
        for size in SIZES {
            let payload = pattern(size);
            peer.publish(&topic, qos, &payload)?;
            let message = peer.take(1)?.remove(0);
            ensure(message.payload == payload, || format!("{size} B garbled"))?;
            ensure(message.qos == qos, || format!("{size} B at {:?}", message.qos))?;
            peer.settle()?;
        }
    }
    ensure(peer.seen.pieces == 0, || "came in pieces".to_owned())
}

/// In and out through buffers of 2 KB, beside one that can hold everything.
pub(super) fn streamed(setup: &Setup) -> Result<()> {
    let topic = setup.topic("payload");
    let mut small = join(Peer::<SMALL>::new(setup), setup, "small")?;
    let mut large = join(Peer::<LARGE>::large(setup), setup, "large")?;
    small.subscribe(&topic, QoS::ExactlyOnce)?;
    large.subscribe(&topic, QoS::ExactlyOnce)?;
    for qos in EACH {
        for size in SIZES {
            let payload = pattern(size);
            let head = Publish { qos, ..Publish::new(Topic::new(&topic)?, b"") };
            small.stream(&head, &payload, None)?;
            for message in [small.take(1)?.remove(0), large.take(1)?.remove(0)] {
                ensure(message.payload == payload, || format!("{size} B garbled"))?;
                ensure(message.qos == qos, || format!("{size} B at {:?}", message.qos))?;
            }
            small.settle()?;
        }
    }
    ensure(small.seen.pieces > 500, || "hardly any pieces".to_owned())
}

pub(super) fn with_tools(setup: &Setup) -> Result<()> {
    let payload = pattern(1 << 20);
    let (up, down) = (setup.topic("up"), setup.topic("down"));
    let mut peer = join(Peer::<SMALL>::new(setup), setup, "small")?;
    peer.subscribe(&down, QoS::ExactlyOnce)?;
    let subscriber = Subscriber::start(setup, &up, QoS::ExactlyOnce, 3, "%x")?;
    for qos in EACH {
        tools::publish(setup, &down, qos, &payload, &[])?;
        let message = peer.take(1)?.remove(0);
        ensure(message.payload == payload && message.qos == qos, || format!("{qos:?}"))?;
        let head = Publish { qos, ..Publish::new(Topic::new(&up)?, b"") };
        peer.stream(&head, &payload, None)?;
        peer.settle()?;
    }
    let lines = subscriber.lines()?;
    let expected = hex(&payload);
    ensure(lines == [expected.as_str(); 3], || "garbled".to_owned())
}

/// The application is asked for what the store does not keep.
pub(super) fn again(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("again"), setup.topic("again"));
    let payload = pattern(20_000);
    let mut watcher = Peer::join(setup, "w")?;
    watcher.subscribe(&topic, QoS::ExactlyOnce)?;
    let proxy = Proxy::start(&setup.address)?;
    let lasting = setup.lasting(&id)?;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut peer = Peer::<SMALL>::forgetful(setup);
        peer.address.clone_from(&proxy.address);
        proxy.set(Budget { up: 10_000, ..Budget::ALL });
        peer.connect(&lasting)?;
        let head = Publish { qos, ..Publish::new(Topic::new(&topic)?, b"") };
        let cut = peer.stream(&head, &payload, None).and_then(|()| peer.settle());
        ensure(cut.is_err() && peer.flights() == 1, || "not cut".to_owned())?;
        proxy.set(Budget::ALL);
        peer.connect(&lasting)?;
        peer.until("a request to send again", |seen| !seen.resend.is_empty())?;
        let asked = peer.seen.resend.pop();
        peer.stream(&head, &payload, asked)?;
        peer.settle()?;
        let outcome = peer.seen.outcomes.pop();
        ensure(outcome == asked.map(|id| (id, ReasonCode::Success)), || format!("{outcome:?}"))?;
        ensure(watcher.take(1)?.remove(0).payload == payload, || "garbled".to_owned())?;
    }
    watcher.expect_nothing(50)
}

pub(super) fn skipped(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("small"), setup.topic("skipped"));
    let lasting = setup.lasting(&id)?;
    let mut peer = Peer::<SMALL>::with(setup, setup.store(), Config::DEFAULT);
    peer.seen.skip = true;
    peer.connect(&lasting)?;
    peer.subscribe(&topic, QoS::ExactlyOnce)?;
    // A topic that does not fit leaves no choice.
    let long = setup.topic(&format!("long/{}", "x".repeat(3_000)));
    peer.subscribe(&setup.topic("long/#"), QoS::ExactlyOnce)?;
    let mut other = join(Peer::<LARGE>::large(setup), setup, "large")?;
    for qos in EACH {
        for topic in [&topic, &long] {
            other.publish(topic, qos, &pattern(100_000))?;
            other.settle()?;
            peer.until("a message skipped", |seen| !seen.skipped.is_empty())?;
            let size = peer.seen.skipped.pop().unwrap_or(0);
            ensure((100_000..104_000).contains(&size), || format!("{size}"))?;
        }
        other.publish(&topic, qos, b"short")?;
        peer.expect(b"short")?;
    }
    peer.expect_nothing(50)?;
    // None of them comes again.
    peer.connect(&lasting)?;
    peer.expect_nothing(100)?;
    ensure(peer.seen.skipped.is_empty(), || "skipped for ever".to_owned())
}
