//! `mqtt bench`: measures a broker.

mod load;
mod report;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    runtime,
    task::JoinSet,
    time::{sleep, timeout},
};
use transport_tokio::{Client, Options, QoS, Reconnect, StreamLimits};

use crate::{
    connection::{Connection, Quality, Talk, Target, connect},
    failure::{Failure, say},
};
use load::{Publisher, Tally, subscriber};
use report::Report;

/// Measure a broker
///
/// Each publisher has a topic of its own; each subscriber subscribes to all of them, or with --pairs to one. It ends by itself: after so many messages, or so many seconds.
///
/// Latencies are from when a message was to be published until a subscriber has it. They include what this program itself takes; with both on one machine, they compete.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// Write the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    talk: Talk,
}

/// What is to be done.
#[derive(Clone, Debug, Args)]
struct Plan {
    /// How many publish
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    publishers: u32,
    /// How many subscribe
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    subscribers: u32,
    /// How many connect and do nothing
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    idle: u32,
    /// The first subscriber subscribes to the first publisher, and so on, instead of all to all
    #[arg(long)]
    pairs: bool,
    /// How many messages each publishes at most
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// For how many seconds each publishes at most
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration: u32,
    /// How many messages each publishes a second; 0 for as many as are taken
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    rate: u32,
    /// How long messages are, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=16_777_216))]
    size: u32,
    /// The QoS to publish and to subscribe at
    #[arg(short, long, value_name = "QOS", default_value = "0")]
    qos: Quality,
    /// How many publishes at QoS 1 and 2 each has unacknowledged
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,
}

const EXAMPLES: &str = "\
Examples:
  mqtt bench
  mqtt bench --subscribers 100 --messages 1000             fan-out
  mqtt bench --publishers 100 --subscribers 100 --pairs -q 1
  mqtt bench --rate 1000 --duration 30 -h broker.example   latency at a steady load
  mqtt bench --publishers 0 --subscribers 0 --idle 10000   connections
  mqtt bench --json | jq .latency_us.p99";

/// How many connections are made at a time.
const AT_ONCE: usize = 64;

/// How long nothing has to arrive until what has not arrived counts as lost.
const SILENCE: Duration = Duration::from_secs(3);

/// How often progress is shown.
const GLANCE: Duration = Duration::from_millis(100);

/// How long each client may take to part.
const PARTING: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.talk.begin();
    let runtime = runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Failure::other)?.block_on(measure(&arguments));
    let report = result?;
    match arguments.json {
        true => say(format!("{}\n", report.json()).as_bytes())?,
        false => say(report.to_string().as_bytes())?,
    }
    match report.lost() {
        lost if lost > 0 && arguments.plan.qos.0 > QoS::AtMostOnce => {
            Err(Failure::other(format!("{lost} messages were lost")))
        }
        _ => Ok(()),
    }
}

async fn measure(arguments: &Arguments) -> Result<Report, Failure> {
    let Arguments { plan, connection, talk, .. } = arguments;
    let target = connection.target();
    let total = plan.publishers + plan.subscribers + plan.idle;
    let tally = Arc::new(Tally::new());
    let began = Instant::now();
    let bar = progress(u64::from(total), "connecting", talk.quiet);
    let mut clients = connect_all(&target, connection, plan, &tally, &bar).await?;
    bar.finish_and_clear();
    let connecting = began.elapsed();
    let root = format!("bench/{}-{}", std::process::id(), began_at());

    let idle = clients.split_off((plan.publishers + plan.subscribers) as usize);
    let subscribers = clients.split_off(plan.publishers as usize);
    let mut readers = JoinSet::new();
    for (index, client) in (0..plan.subscribers).zip(&subscribers) {
        let filter = match plan.pairs {
            true => format!("{root}/{}", index % plan.publishers.max(1)),
            false => format!("{root}/+"),
        };
        let subscribed = client.subscribe(&filter, plan.qos.0).limits(LIMITS).await;
        let messages = subscribed.map_err(|error| Failure::subscribe(&error))?;
        readers.spawn(subscriber(messages, Arc::clone(&tally)));
    }
    let began = Instant::now();
    publish_all(&clients, &root, plan, &tally, talk.quiet).await?;
    wait_for_rest(plan, &tally).await;
    let taking = began.elapsed();
    readers.abort_all();
    while readers.join_next().await.is_some() {}
    part(clients.into_iter().chain(subscribers).chain(idle)).await;
    Ok(Report::new(&tally, total, connecting, taking))
}

/// How much waits in this program for one subscriber at QoS 0.
const LIMITS: StreamLimits = StreamLimits { messages: 10_000, bytes: 16 << 20 };

/// Something that no other run has.
fn began_at() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos())
}

fn progress(length: u64, what: &'static str, quiet: bool) -> ProgressBar {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(length) };
    let template = "{msg:>11} {wide_bar} {human_pos}/{human_len} {per_sec:>16} {eta:>4}";
    // A template that makes no sense would be shown plainly.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// Connects all clients: those that publish first, then those that subscribe, then the others.
async fn connect_all(
    target: &Target,
    connection: &Connection,
    plan: &Plan,
    tally: &Arc<Tally>,
    bar: &ProgressBar,
) -> Result<Vec<Client>, Failure> {
    let total = plan.publishers + plan.subscribers + plan.idle;
    let mut clients = Vec::with_capacity(total as usize);
    let mut connecting = JoinSet::new();
    let mut started = 0;
    while clients.len() < total as usize {
        while started < total && connecting.len() < AT_ONCE {
            let options = Options {
                reconnect: Reconnect { attempts: Some(0), ..Reconnect::default() },
                receive_maximum: u16::MAX,
                ..connection.options()
            };
            let (target, tally) = (target.clone(), Arc::clone(tally));
            connecting.spawn(async move {
                let began = Instant::now();
                let client = connect(&target, options).await;
                tally.connected(began.elapsed());
                client
            });
            started += 1;
        }
        let Some(connected) = connecting.join_next().await else { break };
        clients.push(connected.map_err(Failure::other)??);
        bar.set_position(clients.len() as u64);
    }
    Ok(clients)
}

/// Lets all publishers publish, and shows how far they and the subscribers have come.
async fn publish_all(
    clients: &[Client],
    root: &str,
    plan: &Plan,
    tally: &Arc<Tally>,
    quiet: bool,
) -> Result<(), Failure> {
    let mut publishers = JoinSet::new();
    for (index, client) in clients.iter().enumerate() {
        let publisher = Publisher {
            client: client.clone(),
            topic: format!("{root}/{index}"),
            qos: plan.qos.0,
            size: plan.size as usize,
            messages: plan.messages,
            interval: (plan.rate > 0).then(|| Duration::from_secs(1) / plan.rate),
            until: Instant::now() + Duration::from_secs(plan.duration.into()),
            in_flight: plan.in_flight.into(),
        };
        publishers.spawn(publisher.run(Arc::clone(tally)));
    }
    let bar = progress(u64::from(plan.publishers) * u64::from(plan.messages), "publishing", quiet);
    loop {
        bar.set_position(tally.published.load(Relaxed));
        match timeout(GLANCE, publishers.join_next()).await {
            Ok(Some(published)) => published.map_err(Failure::other)??,
            Ok(None) => break,
            Err(_) => {}
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Waits for what is still on its way, as long as something arrives.
async fn wait_for_rest(plan: &Plan, tally: &Tally) {
    let published = tally.published.load(Relaxed);
    let expected = match plan.pairs {
        // Not every publisher need have a subscriber, nor just one.
        true => tally.expected_in_pairs(plan.publishers, plan.subscribers),
        false => published * u64::from(plan.subscribers),
    };
    tally.expected.store(expected, Relaxed);
    let (mut seen, mut at) = (0, Instant::now());
    while seen < expected && at.elapsed() < SILENCE {
        sleep(GLANCE / 10).await;
        let now = tally.received.load(Relaxed);
        if now != seen {
            (seen, at) = (now, Instant::now());
        }
    }
}

async fn part(clients: impl Iterator<Item = Client>) {
    let mut parting = JoinSet::new();
    for client in clients {
        parting.spawn(async move {
            // It has done what it was there for.
            let _ = timeout(PARTING, client.disconnect()).await;
        });
    }
    while parting.join_next().await.is_some() {}
}
