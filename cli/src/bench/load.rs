//! Those who publish and those who subscribe.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep_until,
};
use transport_tokio::{Client, Delivery, Messages, QoS};

use crate::failure::Failure;

/// What has happened so far, to all of them.
#[derive(Debug)]
pub(super) struct Tally {
    /// What times in messages are relative to.
    start: Instant,
    pub(super) published: AtomicU64,
    pub(super) received: AtomicU64,
    /// How many are to be received in the end.
    pub(super) expected: AtomicU64,
    /// Which of these were not read in time by this program.
    pub(super) dropped: AtomicU64,
    /// How much each publisher has published.
    by_publisher: Mutex<Vec<(u32, u64)>>,
    pub(super) connecting: Mutex<Times>,
    pub(super) latency: Mutex<Times>,
    pub(super) acknowledgement: Mutex<Times>,
}

/// Times in microseconds.
pub(super) type Times = Histogram<u64>;

/// How many times are gathered before they are put with the others.
const BATCH: usize = 256;

/// The longest time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

impl Tally {
    pub(super) fn new() -> Self {
        let times = || {
            let longest = LONGEST.as_micros() as u64;
            Mutex::new(Histogram::new_with_bounds(1, longest, 3).expect("bounds in order"))
        };
        Self {
            start: Instant::now(),
            published: AtomicU64::new(0),
            received: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            by_publisher: Mutex::default(),
            connecting: times(),
            latency: times(),
            acknowledgement: times(),
        }
    }

    pub(super) fn connected(&self, after: Duration) {
        lock(&self.connecting).saturating_record(after.as_micros() as u64);
    }

    /// How many messages are to arrive, if each subscriber has one publisher.
    pub(super) fn expected_in_pairs(&self, publishers: u32, subscribers: u32) -> u64 {
        let listeners = |publisher: u32| {
            let rounds = subscribers / publishers.max(1);
            u64::from(rounds + u32::from(publisher < subscribers % publishers.max(1)))
        };
        lock(&self.by_publisher).iter().map(|(who, count)| listeners(*who) * count).sum()
    }

    fn add(times: &Mutex<Times>, batch: &mut Vec<u64>) {
        let mut times = lock(times);
        batch.drain(..).for_each(|time| times.saturating_record(time));
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Publishes messages that say when they were to be published.
pub(super) struct Publisher {
    pub(super) client: Client,
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) size: usize,
    pub(super) messages: u32,
    /// From one message to the next; as fast as they are taken without.
    pub(super) interval: Option<Duration>,
    pub(super) until: Instant,
    pub(super) in_flight: usize,
}

/// A message at QoS 1 or 2 that is on its way, since when, and its place among those that may be.
type Pending = (Delivery, Instant, OwnedSemaphorePermit);

impl Publisher {
    pub(super) async fn run(self, tally: Arc<Tally>) -> Result<(), Failure> {
        let places = Arc::new(Semaphore::new(self.in_flight));
        let (pending, settling) = mpsc::channel(self.in_flight);
        let settled = tokio::spawn(settle(settling, Arc::clone(&tally)));
        let began = Instant::now();
        let mut published = 0;
        while published < self.messages {
            let mut due = Instant::now();
            if let Some(interval) = self.interval {
                due = began + interval * published;
                sleep_until(due.into()).await;
            }
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            if Instant::now() >= self.until {
                break;
            }
            let since = due.saturating_duration_since(tally.start).as_nanos() as u64;
            let delivery = self.publish(since).await?;
            tally.published.fetch_add(1, Relaxed);
            published += 1;
            // Those at QoS 0 have their outcome. The other end goes first only if it has failed.
            if self.qos > QoS::AtMostOnce && pending.send((delivery, due, place)).await.is_err() {
                break;
            }
        }
        drop(pending);
        settled.await.map_err(Failure::other)??;
        let index = self.topic.rsplit('/').next().and_then(|index| index.parse().ok());
        lock(&tally.by_publisher).push((index.unwrap_or(0), published.into()));
        Ok(())
    }

    async fn publish(&self, since: u64) -> Result<Delivery, Failure> {
        let mut payload = BytesMut::with_capacity(self.size);
        payload.put_u64(since);
        payload.resize(self.size, 0);
        let message = self.client.publish(&self.topic, Bytes::from(payload)).qos(self.qos);
        message.accepted().await.map_err(|error| Failure::publish(&error))
    }
}

/// Waits for outcomes, in the order in which they come.
async fn settle(mut pending: mpsc::Receiver<Pending>, tally: Arc<Tally>) -> Result<(), Failure> {
    let mut times = Vec::with_capacity(BATCH);
    while let Some((delivery, due, place)) = pending.recv().await {
        delivery.await.map_err(|error| Failure::publish(&error))?;
        drop(place);
        times.push(due.elapsed().as_micros() as u64);
        if times.len() >= BATCH {
            Tally::add(&tally.acknowledgement, &mut times);
        }
    }
    Tally::add(&tally.acknowledgement, &mut times);
    Ok(())
}

/// Reads until it is stopped.
pub(super) async fn subscriber(mut messages: Messages, tally: Arc<Tally>) {
    let mut times = Vec::with_capacity(BATCH);
    let mut dropped = 0;
    while let Some(message) = messages.next().await {
        if let Some(since) = message.payload.first_chunk() {
            let due = tally.start + Duration::from_nanos(u64::from_be_bytes(*since));
            times.push(due.elapsed().as_micros() as u64);
        }
        // Before it waits again, at the latest: it may be stopped then.
        if times.len() >= BATCH || messages.is_empty() {
            let count = times.len() as u64;
            Tally::add(&tally.latency, &mut times);
            tally.received.fetch_add(count, Relaxed);
            tally.dropped.fetch_add(messages.dropped() - dropped, Relaxed);
            dropped = messages.dropped();
        }
    }
}
