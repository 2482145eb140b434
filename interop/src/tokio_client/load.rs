//! Large messages, and many at a time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use transport_tokio::{QoS, StreamLimits};

use super::numbered::{check, number, payload};
use super::{UNHURRIED, all_acknowledged, block_on};
use crate::broker::Broker;
use crate::scenarios::EACH;
use crate::{Result, Setup, ensure};

const TASKS: usize = 100;
/// How many each task publishes.
const MESSAGES: u32 = 30;

/// Each waits for each of its publishes.
pub(super) fn hundred_tasks(setup: &Setup) -> Result<()> {
    block_on(async {
        let broker = Broker::start(UNHURRIED)?;
        let setup = &setup.at(&broker.address);
        let listener = setup.client("listener").await?;
        let client = setup.client("tasks").await?;
        let limits = StreamLimits { messages: 10_000, ..StreamLimits::default() };
        let filter = setup.topic("task/+");
        let mut messages = listener.subscribe(&filter, QoS::ExactlyOnce).limits(limits).await?;
        let mut tasks = JoinSet::new();
        for (topic, qos) in topics(setup) {
            let client = client.clone();
            tasks.spawn(async move {
                for number in 0..MESSAGES {
                    client.publish(&topic, payload(number, 0)).qos(qos).await?;
                }
                Ok::<_, transport_tokio::PublishError>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        all_acknowledged(&client)?;
        let published = client.counters().published;
        let reliable: u64 = published[1] + published[2];
        let mut arrived: HashMap<String, Vec<u32>> = HashMap::new();
        let mut count = 0;
        // At QoS 0 the broker may have dropped some.
        let patience = |count| if count < reliable { 20_000 } else { 100 };
        while let Ok(next) = timeout(Duration::from_millis(patience(count)), messages.next()).await
        {
            let message = next.ok_or("the stream has ended")?;
            let numbers = arrived.entry(message.topic.to_string()).or_default();
            numbers.push(number(&message.payload)?);
            count += u64::from(message.qos != QoS::AtMostOnce);
        }
        for (topic, qos) in topics(setup) {
            let numbers = arrived.remove(&topic).unwrap_or_default();
            check(&numbers, qos, MESSAGES, |_| qos != QoS::AtMostOnce)
                .map_err(|error| format!("{topic}: {error}"))?;
        }
        ensure(arrived.is_empty(), || format!("{arrived:?}"))
    })
}

fn topics(setup: &Setup) -> impl Iterator<Item = (String, QoS)> {
    (0..TASKS).map(|task| (setup.topic(&format!("task/{task}")), EACH[task % EACH.len()]))
}

/// To itself, all at once.
pub(super) fn megabytes(setup: &Setup) -> Result<()> {
    block_on(async {
        let client = setup.client("large").await?;
        let mut random = setup.random(1);
        let mut pending = Vec::new();
        for qos in EACH {
            let topic = setup.topic(&format!("large{}", qos as u8));
            let messages = client.subscribe(&topic, qos).await?;
            let payload: Vec<u8> = (0..1_000_000).map(|_| random.u8(..)).collect();
            let publish = client.publish(topic, payload.clone()).qos(qos).accepted().await?;
            pending.push((publish, messages, payload));
        }
        for (publish, mut messages, payload) in pending {
            publish.await?;
            let message = timeout(Duration::from_secs(20), messages.next()).await?;
            let message = message.ok_or("the stream has ended")?;
            ensure(*message.payload == *payload, || format!("damaged at {:?}", message.qos))?;
        }
        all_acknowledged(&client)
    })
}
