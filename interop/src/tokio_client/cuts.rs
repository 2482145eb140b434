//! Connections that end after any byte.

use std::sync::Arc;

use super::numbered::{RELIABLE, Way};
use super::{UNHURRIED, all_acknowledged, block_on};
use crate::broker::Broker;
use crate::proxy::{Budget, Proxy};
use crate::{Result, Setup, ensure};

/// How many connections are to be cut.
const CUTS: usize = 200;

/// A client behind a bad wire publishes to one with a good wire, and the other way round.
pub(super) fn at_random(setup: &Setup) -> Result<()> {
    block_on(async {
        let broker = Broker::start(UNHURRIED)?;
        let proxy = Arc::new(Proxy::start(&broker.address)?);
        let near = setup.at(&broker.address).client("near").await?;
        let far = setup.at(&proxy.address).client("far").await?;
        let mut ways = Vec::new();
        for ends in [[&near, &far], [&far, &near]] {
            for qos in RELIABLE {
                let number = ways.len() as u64;
                let (topic, random) = (setup.topic(&format!("way{number}")), setup.random(number));
                let wire = Arc::clone(&proxy);
                let more = move |_| wire.cuts() < CUTS;
                ways.push(Way::open(ends, topic, qos, random, more).await?);
            }
        }
        let mut random = setup.random(9);
        let wire = Arc::downgrade(&proxy);
        proxy.set_each(move || match wire.upgrade() {
            Some(wire) if wire.cuts() < CUTS => budget(&mut random),
            _ => Budget::ALL,
        });
        proxy.cut();
        let mut counts = Vec::new();
        for (number, way) in ways.into_iter().enumerate() {
            let arrival = way.arrival().await.map_err(|error| format!("way {number}: {error}"));
            counts.push(arrival?);
        }
        all_acknowledged(&near)?;
        all_acknowledged(&far)?;
        let Ok(()) = far.disconnect().await else { return Err("unfinished".into()) };
        let (cuts, connections) = (proxy.cuts(), far.counters().connections);
        println!("       {cuts} cuts, {connections} connections, {counts:?} messages");
        ensure(connections > 20, || "hardly ever connected".to_owned())
    })
}

/// Too little for a handshake, or enough for some messages.
fn budget(random: &mut fastrand::Rng) -> Budget {
    let limit = [60, 600, 6_000][random.usize(..3)];
    let bytes = random.usize(1..limit);
    if random.bool() {
        Budget { up: bytes, ..Budget::ALL }
    } else {
        Budget { down: bytes, ..Budget::ALL }
    }
}
