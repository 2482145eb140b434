//! Random runs: several tasks publish, read, subscribe and change their minds, while the wire splits,
//! delays and cuts after any byte. Then there is a calm, in which everything comes to its end, and
//! accounts are settled.
//!
//! A run that fails prints its seed; to see it again:
//! `SEED=17 cargo test -p transport-tokio --test client random`.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use simulation::Rng;
use tokio::task::JoinSet;

use crate::support::*;

/// Of each of the tests.
const RUNS: u64 = 40;

/// How many tasks publish, and how many messages each.
const PUBLISHERS: u64 = 3;
const MESSAGES: u64 = 25;

/// How many messages come for each stream.
const ARRIVALS: u64 = 40;

fn runs(version: Version, kept: bool) {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..RUNS,
    };
    for seed in seeds {
        let named = Named(seed);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
        fastrand::seed(seed);
        runtime.block_on(bounded(run(Rng::new(seed), version, kept)));
        drop(named);
    }
}

/// Prints the seed when a run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={}", self.0);
        }
    }
}

#[test]
fn sessions_kept_3_1_1() {
    runs(Version::V3_1_1, true);
}

#[test]
fn sessions_kept_5() {
    runs(Version::V5, true);
}

#[test]
fn sessions_lost_3_1_1() {
    runs(Version::V3_1_1, false);
}

#[test]
fn sessions_lost_5() {
    runs(Version::V5, false);
}

/// What a task has published.
#[derive(Debug)]
struct Sent {
    payload: String,
    qos: QoS,
    /// `None` if nobody waited for it.
    outcome: Option<Result<(), PublishError>>,
}

fn options_of(rng: &mut Rng, version: Version) -> Options {
    let small = |rng: &mut Rng, most| 1 + rng.below(most);
    Options {
        session_expiry_interval: u32::MAX,
        reconnect: Reconnect {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(200),
            ..Reconnect::default()
        },
        retry_first: true,
        keep_alive: rng.pick(&[0, 5, 60]),
        receive_maximum: if version.is_v5() { small(rng, 10) as u16 } else { 256 },
        outbound_topic_aliases: rng.pick(&[0, 2]),
        assumed_receive_maximum: small(rng, 10) as u16,
        in_flight: InFlight { messages: small(rng, 20) as u16, ..InFlight::default() },
        queue: QueueLimits { messages: small(rng, 20) as usize, bytes: 2_000 },
        ..options(version)
    }
}

fn manners(rng: &mut Rng) -> Manners {
    let terms = ConnAck {
        receive_maximum: 1 + rng.below(10) as u16,
        topic_alias_maximum: rng.pick(&[0, 1, 5]),
        ..ConnAck::default()
    };
    Manners {
        terms,
        dawdle: rng.once_in(2),
        aliases: rng.once_in(2),
        window: 1 + rng.below(20) as u16,
        strict: false, // what waits in the network is not the client's fault
        ..Manners::default()
    }
}

fn weather(rng: &mut Rng) -> Weather {
    Weather {
        piece: rng.pick(&[1, 7, 100, usize::MAX]),
        delay: rng.pick(&[0, 0, 3, 50]),
        window: rng.pick(&[10, 200, usize::MAX]),
    }
}

async fn run(mut rng: Rng, version: Version, kept: bool) {
    let options = options_of(&mut rng, version);
    // A 3.1.1 server is not told how much the client takes.
    let net = Arc::new(Net::server(manners(&mut rng), version));
    let (client, driver) = net.client(options);
    tokio::spawn(driver);
    let calm = Arc::new(AtomicBool::new(false));
    let storm = tokio::spawn(storm(Arc::clone(&net), Arc::clone(&calm), Rng::new(rng.any()), kept));

    let mut publishers = JoinSet::new();
    for name in 0..PUBLISHERS {
        publishers.spawn(publisher(client.clone(), name, Rng::new(rng.any())));
    }
    let mut readers = JoinSet::new();
    for name in ["plain", "slow", "by-hand"] {
        readers.spawn(reader(client.clone(), name, Rng::new(rng.any())));
    }
    let fickle = tokio::spawn(fickle(client.clone(), Rng::new(rng.any())));
    let arrivals = arrive(&net, &client, Rng::new(rng.any())).await;

    sleep(Duration::from_secs(20)).await;
    calm.store(true, Ordering::Relaxed);
    storm.await.expect("no panic");
    let mut sent = Vec::new();
    while let Some(published) = publishers.join_next().await {
        sent.extend(published.expect("no panic"));
    }
    fickle.await.expect("no panic");
    finish(&net, &client).await;
    check_sent(&net, &sent, kept);
    client.disconnect().await.expect("nothing is unfinished");
    while let Some(read) = readers.join_next().await {
        let (name, read) = read.expect("no panic");
        if kept {
            check_read(&arrivals, name, &read);
        }
    }
}

/// Breaks what can be broken, until there is to be calm.
async fn storm(net: Arc<Net<Server>>, calm: Arc<AtomicBool>, mut rng: Rng, kept: bool) {
    while !calm.load(Ordering::Relaxed) {
        let weather = weather(&mut rng);
        net.wire(|wire| wire.weather = weather);
        net.plan(match rng.below(6) {
            0 => Plan::Refuse(io::ErrorKind::ConnectionRefused),
            1 => Plan::Open,
            2 => Plan::Cut(Direction::Up, rng.below(100) as usize),
            3 => Plan::Cut(Direction::Down, rng.below(100) as usize),
            4 => Plan::Cut(Direction::Up, rng.below(2_000) as usize),
            _ => Plan::Cut(Direction::Down, rng.below(2_000) as usize),
        });
        sleep(Duration::from_millis(rng.below(1_000))).await;
        match rng.below(8) {
            0 => net.cut(),
            1 => {
                net.stall(true);
                sleep(Duration::from_millis(rng.below(2_000))).await;
                net.stall(false);
            }
            2 if !kept => {
                net.cut();
                net.with(Server::forget);
            }
            _ => {}
        }
    }
    net.forget_plans();
    net.wire(|wire| wire.weather = Weather::CALM);
    net.with(|server| server.manners.dawdle = false);
}

/// Publishes in every way there is. What it tells is in order.
async fn publisher(client: Client, name: u64, mut rng: Rng) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut deliveries = Vec::new();
    for number in 0..MESSAGES {
        let payload = format!("{name}-{number:03}");
        let qos = rng.pick(&LEVELS);
        let topic = format!("up/{}", rng.below(5));
        let message = client.publish(topic, payload.clone()).qos(qos);
        let mut outcome = None;
        match rng.below(5) {
            0 => outcome = Some(message.await.map(drop)),
            1 => {
                let patience = Duration::from_millis(rng.below(500));
                let in_time = tokio::time::timeout(patience, message.into_future()).await;
                outcome = in_time.ok().map(|outcome| outcome.map(drop));
            }
            2 => match message.try_publish() {
                Ok(delivery) => deliveries.push((sent.len(), delivery)),
                Err(error) => outcome = Some(Err(error)),
            },
            3 => drop(message.accepted().await.expect("it waits for room")),
            _ => deliveries.push((sent.len(), message.accepted().await.expect("it waits"))),
        }
        sent.push(Sent { payload, qos, outcome });
        if rng.once_in(3) {
            sleep(Duration::from_millis(rng.below(1_000))).await;
        }
    }
    for (index, delivery) in deliveries {
        sent[index].outcome = Some(delivery.await.map(drop));
    }
    sent
}

/// Reads until the end, in its own way.
async fn reader(client: Client, name: &'static str, mut rng: Rng) -> (&'static str, Vec<String>) {
    let filter = format!("{name}/#");
    let mut messages = client.subscribe(&filter, ExactlyOnce).await.expect("a subscription");
    drop(client); // or it would be the last handle
    let mut read = Vec::new();
    loop {
        let message = match name {
            "by-hand" => messages.next_unacknowledged().await.map(|(message, ack)| {
                ack.accept();
                message
            }),
            _ => messages.next().await,
        };
        let Some(message) = message else { return (name, read) };
        read.push(text(&message));
        if name == "slow" {
            sleep(Duration::from_millis(rng.below(500))).await;
        }
    }
}

/// Subscribes and changes its mind.
async fn fickle(client: Client, mut rng: Rng) {
    for _ in 0..15 {
        let filter = format!("fickle/{}", rng.below(3));
        let subscribe = client.subscribe(&filter, rng.pick(&LEVELS)).into_future();
        let patience = Duration::from_millis(rng.below(2_000));
        if let Ok(messages) = tokio::time::timeout(patience, subscribe).await {
            let messages = messages.expect("a subscription");
            sleep(Duration::from_millis(rng.below(500))).await;
            if rng.once_in(2) {
                let patience = Duration::from_millis(rng.below(1_000));
                let _ = tokio::time::timeout(patience, messages.unsubscribe()).await;
            }
        }
    }
}

/// The messages that were published to each stream, at each QoS but 0, in order.
type Arrivals = BTreeMap<(&'static str, QoS), Vec<String>>;

/// Lets the server publish.
async fn arrive(net: &Net<Server>, client: &Client, mut rng: Rng) -> Arrivals {
    while client.counters().filters < 3 || net.publish("plain/ready", "ready", AtMostOnce) == 0 {
        pass(1).await;
    }
    while ["slow", "by-hand"].iter().any(|name| net.publish(name, "ready", AtMostOnce) == 0) {
        pass(1).await;
    }
    let mut arrivals = Arrivals::new();
    for number in 0..ARRIVALS {
        for name in ["plain", "slow", "by-hand", "fickle"] {
            let qos = rng.pick(&LEVELS);
            let payload = format!("{number:03}");
            net.publish(&format!("{name}/{}", rng.below(3)), payload.clone(), qos);
            arrivals.entry((name, qos)).or_default().push(payload);
        }
        if rng.once_in(4) {
            sleep(Duration::from_millis(rng.below(1_000))).await;
        }
    }
    arrivals
}

/// Waits until nothing is under way any more.
async fn finish(net: &Net<Server>, client: &Client) {
    for _ in 0..600 {
        pass(1).await;
        let counters = client.counters();
        if (counters.queued, counters.in_flight, counters.filters) == (0, 0, 3)
            && net.with(|server| server.undelivered()) == 0
        {
            assert_eq!(counters.queued_bytes, 0);
            pass(1).await;
            return;
        }
    }
    let undelivered = net.with(|server| server.undelivered());
    panic!("{undelivered} messages for {:#?}, {:?}", client.counters(), client.status().borrow());
}

fn check_sent(net: &Net<Server>, sent: &[Sent], kept: bool) {
    let accepted = net.accepted();
    let mut count = BTreeMap::<&str, usize>::new();
    let mut first = Vec::new();
    for payload in &accepted {
        let count = count.entry(payload).or_default();
        *count += 1;
        if *count == 1 {
            first.push(payload.as_str());
        }
    }
    for Sent { payload, qos, outcome } in sent {
        let count = count.get(payload.as_str()).copied().unwrap_or_default();
        let right = match (outcome, qos) {
            (Some(Ok(())), AtMostOnce) | (None, AtMostOnce) => count <= 1,
            (Some(Ok(())), AtLeastOnce) => count >= 1,
            (Some(Ok(())), ExactlyOnce) => count == 1,
            (Some(Err(PublishError::Full)), _) => count == 0,
            (Some(Err(PublishError::SessionLost)), ExactlyOnce) => !kept && count <= 1,
            (Some(Err(_)), _) => false,
            (None, AtLeastOnce) => true,
            (None, ExactlyOnce) => count <= 1,
        };
        assert!(right, "{payload} at {qos:?} came {count} times, and was told {outcome:?}");
    }
    for name in 0..PUBLISHERS {
        let own = first.iter().filter(|payload| payload.starts_with(&format!("{name}-")));
        assert!(own.is_sorted(), "in order: {first:?}");
    }
}

fn check_read(arrivals: &Arrivals, name: &'static str, read: &[String]) {
    for qos in [AtLeastOnce, ExactlyOnce] {
        let expected = arrivals.get(&(name, qos)).map_or(&[][..], Vec::as_slice);
        let mut once = Vec::<&String>::new();
        let mut again = 0;
        for payload in read.iter().filter(|payload| expected.contains(payload)) {
            if once.contains(&payload) {
                again += 1;
            } else {
                once.push(payload);
            }
        }
        assert!(once.iter().copied().eq(expected), "{name} at {qos:?}: {once:?} of {expected:?}");
        assert!(qos == AtLeastOnce || again == 0, "{name}: {again} came twice at {qos:?}");
    }
}
