//! Silence.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use transport_tokio::{Client, Options, QoS, Status};

use super::{block_on, status};
use crate::broker::Broker;
use crate::{Result, Setup, ensure};

/// In seconds.
const KEEP_ALIVE: u16 = 2;

pub(super) fn listener(setup: &Setup) -> Result<()> {
    frozen(setup, false)
}

/// Its packets keep leaving, until the network takes no more.
pub(super) fn publisher(setup: &Setup) -> Result<()> {
    frozen(setup, true)
}

fn frozen(setup: &Setup, publishes: bool) -> Result<()> {
    block_on(async {
        let broker = Broker::start("")?;
        let options = Options {
            keep_alive: KEEP_ALIVE,
            connect_timeout: Duration::from_secs(1),
            ..setup.options("frozen")
        };
        let client = Client::connect(&format!("mqtt://{}", broker.address), options).await?;
        let topic = setup.topic("thawed");
        let mut messages = client.subscribe(&topic, QoS::ExactlyOnce).await?;
        let chatter = publishes.then(|| tokio::spawn(chatter(client.clone(), setup.topic("void"))));
        sleep(Duration::from_millis(500)).await;

        broker.signal("STOP")?;
        let start = Instant::now();
        let noticed = status(&client, |status| !matches!(status, Status::Connected { .. })).await;
        let seconds = start.elapsed().as_secs_f32();
        // A message of this time waits for better times.
        let waiting = client.publish(&topic, "waited").qos(QoS::ExactlyOnce).accepted().await?;
        broker.signal("CONT")?;
        if let Some(chatter) = chatter {
            chatter.abort();
        }
        let Status::Reconnecting { cause, .. } = noticed? else {
            return Err("it does not reconnect".into());
        };
        ensure(cause.to_string().contains("keep alive"), || cause.to_string())?;
        // The bound is the protocol's; the rest is for a slow machine.
        let bound = f32::from(KEEP_ALIVE) * 1.5 + 2.0;
        ensure(seconds < bound, || format!("noticed after {seconds} s"))?;

        waiting.await?;
        let message = timeout(Duration::from_secs(20), messages.next()).await?;
        ensure(message.is_some_and(|message| *message.payload == *b"waited"), || {
            "another message".to_owned()
        })?;
        let now = status(&client, |status| matches!(status, Status::Connected { .. })).await?;
        // Before 5.0 too, for it was not to be clean.
        ensure(matches!(now, Status::Connected { session_present: true }), || format!("{now:?}"))
    })
}

/// Publishes at QoS 0, and nothing else.
async fn chatter(client: Client, topic: String) {
    loop {
        // When too much waits, there is nothing to add.
        let _ = client.publish(&topic, vec![0; 10_000]).try_publish();
        sleep(Duration::from_millis(5)).await;
    }
}
