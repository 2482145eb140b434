//! A broker that goes away in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use transport_tokio::{Client, Options, PublishError, QoS, Status};

use super::numbered::{Published, RELIABLE, Tally, Way, payload};
use super::{UNHURRIED, all_acknowledged, block_on, eventually, status};
use crate::broker::Broker;
use crate::{Result, Setup, ensure};

/// How often it goes away.
const TIMES: u64 = 3;

fn topic(setup: &Setup, qos: QoS) -> String {
    setup.topic(&format!("restart{}", qos as u8))
}

/// A client that publishes to itself meanwhile, and goes on after the last time.
async fn play(setup: &Setup, broker: &mut Broker, orderly: bool) -> Result<(Client, Vec<Way>)> {
    // A session that began with a clean start is not one that mosquitto 2.0.11 puts on disk.
    let options = Options { clean_start: false, ..setup.options("restart") };
    let client = Client::connect(&format!("mqtt://{}", broker.address), options).await?;
    let over = Arc::new(AtomicBool::new(false));
    let mut ways = Vec::new();
    for (qos, random) in RELIABLE.into_iter().zip([setup.random(1), setup.random(2)]) {
        let over = Arc::clone(&over);
        let more = move |_| !over.load(Ordering::Relaxed);
        ways.push(Way::open([&client; 2], topic(setup, qos), qos, random, more).await?);
    }
    for time in 1..=TIMES {
        sleep(Duration::from_millis(100)).await;
        broker.stop(orderly)?;
        sleep(Duration::from_millis(50)).await;
        broker.restart()?;
        eventually("a connection", || client.counters().connections > time).await?;
    }
    sleep(Duration::from_millis(100)).await;
    over.store(true, Ordering::Relaxed);
    Ok((client, ways))
}

/// The broker keeps its sessions on disk: nothing is lost, and at QoS 2 nothing doubled.
pub(super) fn session_kept(setup: &Setup) -> Result<()> {
    block_on(async {
        let lines = format!("{UNHURRIED}persistence true\npersistence_location DIRECTORY/");
        let mut broker = Broker::start(&lines)?;
        let (client, ways) = play(setup, &mut broker, true).await?;
        for way in ways {
            way.arrival().await?;
        }
        all_acknowledged(&client)
    })
}

/// The broker forgets everything: what had reached it may die with it, but the client subscribes anew
/// and tells what became of each publish.
pub(super) fn session_lost(setup: &Setup) -> Result<()> {
    block_on(async {
        let mut broker = Broker::start(UNHURRIED)?;
        let (client, ways) = play(setup, &mut broker, false).await?;
        for (way, qos) in ways.into_iter().zip(RELIABLE) {
            let tally = way.tally();
            let Published { count, lost } = way.outcomes().await?;
            ensure(qos == QoS::ExactlyOnce || lost == 0, || format!("{lost} of {count} lost"))?;
            client.publish(topic(setup, qos), payload(count, 0)).qos(qos).await?;
            eventually("the last", || tally.set().contains(&count)).await?;
            tally.check(qos, count + 1, |number| number == count)?;
        }
        Ok(())
    })
}

/// What is on its way when the session is lost is published again at QoS 1, and reported at QoS 2.
pub(super) fn published_again(setup: &Setup) -> Result<()> {
    block_on(async {
        let mut broker = Broker::start("")?;
        let client = setup.at(&broker.address).client("again").await?;
        let topic = setup.topic("again");
        let messages = client.subscribe(&topic, QoS::ExactlyOnce).await?;
        let tally = Tally::of(messages);
        broker.signal("STOP")?;
        let mut deliveries = Vec::new();
        for number in 0..20 {
            let qos = RELIABLE[number as usize % 2];
            let publish = client.publish(&topic, payload(number, 0)).qos(qos);
            deliveries.push(publish.accepted().await?);
        }
        let counters = client.counters();
        ensure(counters.in_flight == 20, || format!("{counters:?}"))?;
        broker.stop(false)?;
        broker.restart()?;
        for (number, delivery) in deliveries.into_iter().enumerate() {
            let outcome = delivery.await;
            let so = match number % 2 {
                0 => outcome.is_ok(),
                _ => outcome == Err(PublishError::SessionLost),
            };
            ensure(so, || format!("{number}: {outcome:?}"))?;
        }
        eventually("what was published again", || tally.count() >= 10).await?;
        sleep(Duration::from_millis(100)).await;
        tally.check(QoS::ExactlyOnce, 20, |number| number % 2 == 0)?;
        let now = status(&client, |status| matches!(status, Status::Connected { .. })).await?;
        ensure(matches!(now, Status::Connected { session_present: false }), || format!("{now:?}"))
    })
}
