//! Numbered messages, and what arrives of them.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use transport_tokio::{Client, Delivery, Messages, PublishError, QoS};

use super::eventually;
use crate::{Result, ensure};

/// How many have no outcome yet, or have not arrived yet.
const WINDOW: u32 = 20;

/// At QoS 1 and 2.
pub(super) const RELIABLE: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Numbered messages of one QoS from one client to another, and their way there.
pub(super) struct Way {
    qos: QoS,
    tally: Tally,
    publisher: JoinHandle<Result<Published>>,
}

/// How many were published, and how many of them reported lost with the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) count: u32,
    pub(super) lost: u32,
}

impl Way {
    /// Publishes numbers from 0 while there are to be `more`.
    pub(super) async fn open(
        [from, to]: [&Client; 2],
        topic: String,
        qos: QoS,
        random: fastrand::Rng,
        more: impl Fn(u32) -> bool + Send + 'static,
    ) -> Result<Self> {
        let tally = Tally::of(to.subscribe(&topic, qos).await?);
        let arrived = tally.clone();
        let publisher = tokio::spawn(flow(from.clone(), topic, qos, random, arrived, more));
        Ok(Self { qos, tally, publisher })
    }

    /// What arrives.
    pub(super) fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Waits for all outcomes.
    pub(super) async fn outcomes(self) -> Result<Published> {
        self.publisher.await?
    }

    /// Waits for all outcomes, which have to be good, and until all has arrived as it should. How
    /// many.
    pub(super) async fn arrival(self) -> Result<u32> {
        let Self { qos, tally, publisher } = self;
        let Published { count, lost } = publisher.await??;
        ensure(lost == 0, || format!("{lost} lost"))?;
        // What is missing is named below.
        let _ = eventually("all", || tally.has(count)).await;
        sleep(Duration::from_millis(100)).await; // for what comes twice
        tally.check(qos, count, |_| true)?;
        Ok(count)
    }
}

async fn flow(
    client: Client,
    topic: String,
    qos: QoS,
    mut random: fastrand::Rng,
    tally: Tally,
    more: impl Fn(u32) -> bool,
) -> Result<Published> {
    let mut pending: VecDeque<Delivery> = VecDeque::new();
    let (mut count, mut lost) = (0, 0);
    let mut finish = async |delivery: Delivery| match delivery.await {
        Err(PublishError::SessionLost) => {
            lost += 1;
            Ok(())
        }
        outcome => outcome.map(drop),
    };
    while more(count) {
        let payload = payload(count, random.usize(..200));
        pending.push_back(client.publish(&topic, payload).qos(qos).accepted().await?);
        count += 1;
        while more(count) && tally.next.load(Ordering::Relaxed) + WINDOW < count {
            sleep(Duration::from_millis(1)).await;
        }
        if pending.len() >= WINDOW as usize
            && let Some(delivery) = pending.pop_front()
        {
            finish(delivery).await?;
        }
    }
    for delivery in pending {
        finish(delivery).await?;
    }
    Ok(Published { count, lost })
}

/// A number, and so many bytes in addition.
pub(super) fn payload(number: u32, more: usize) -> Vec<u8> {
    format!("{number}{}", " ".repeat(more)).into_bytes()
}

pub(super) fn number(payload: &[u8]) -> Result<u32> {
    Ok(std::str::from_utf8(payload)?.trim_end().parse()?)
}

/// What has arrived, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    arrived: Arc<Mutex<Vec<u32>>>,
    /// One more than the highest.
    next: Arc<AtomicU32>,
}

impl Tally {
    /// Of a stream, from now on.
    pub(super) fn of(mut messages: Messages) -> Self {
        let tally = Self::default();
        let Self { arrived, next } = tally.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                // What has no number is nobody's.
                let number = number(&message.payload).unwrap_or(u32::MAX - 1);
                arrived.lock().unwrap().push(number);
                next.fetch_max(number + 1, Ordering::Relaxed);
            }
        });
        tally
    }

    pub(super) fn count(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    /// The numbers that have arrived.
    pub(super) fn set(&self) -> HashSet<u32> {
        self.arrived.lock().unwrap().iter().copied().collect()
    }

    /// Whether that many different ones have arrived.
    pub(super) fn has(&self, count: u32) -> bool {
        self.count() >= count as usize && self.set().len() >= count as usize
    }

    pub(super) fn check(&self, qos: QoS, count: u32, owed: impl Fn(u32) -> bool) -> Result<()> {
        check(&self.arrived.lock().unwrap(), qos, count, owed)
    }
}

/// Of the numbers up to `count`, all that are owed have arrived and nothing else has, first in
/// order; at QoS 2 nothing twice.
pub(super) fn check(
    arrived: &[u32],
    qos: QoS,
    count: u32,
    owed: impl Fn(u32) -> bool,
) -> Result<()> {
    let mut seen = HashSet::new();
    let firsts: Vec<u32> = arrived.iter().copied().filter(|number| seen.insert(*number)).collect();
    let missing: Vec<u32> = (0..count).filter(|n| owed(*n) && !seen.contains(n)).collect();
    ensure(missing.is_empty(), || {
        let first = &missing[..missing.len().min(10)];
        format!("{qos:?}: of {count}, {} are missing: {first:?} ...", missing.len())
    })?;
    ensure(firsts.is_sorted() && firsts.last().is_none_or(|last| *last < count), || {
        let wrong = firsts.windows(2).find(|pair| pair[0] > pair[1]);
        format!("{qos:?}: out of order, or unknown: {wrong:?}, {:?}", firsts.last())
    })?;
    let doubled = arrived.len() - firsts.len();
    ensure(qos == QoS::AtLeastOnce || doubled == 0, || {
        let mut seen = HashSet::new();
        let twice = arrived.iter().find(|number| !seen.insert(**number));
        format!("{qos:?}: of {count}, {doubled} arrived twice, {twice:?} first")
    })
}
