//! What the tokio client costs beside rumqttc: CPU time per message by getrusage, user and system,
//! of this process alone. Servers are other processes: a sink, which only acknowledges, and mosquitto
//! where there is one.
//!
//! ```text
//! cargo bench -p benches --bench client                      into the sink
//! cargo bench -p benches --bench client -- mosquitto 1883    against mosquitto at this port
//! cargo bench -p benches --bench client -- profile publish-1 3 100000
//!                     one thing once, for a profiler that looks at `benches::measured`
//! ```
//!
//! Each line is the median of alternating runs, each with a runtime and a connection of its own and a
//! warm-up that is not counted. `scripts/client-speed` does all of it.

mod ours;
mod peer;
mod sink;

use std::time::{Duration, Instant};

use mqtt_core::{QoS, Version};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tokio::runtime::{Builder, Runtime};

use self::{ours::Ours, sink::Sink};

const TOPIC: &str = "plant/hall-7/temperature";
const PAYLOAD: &[u8] = &[b'x'; 64];

/// How many tasks publish where there is more than one.
const TASKS: usize = 100;

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Where to connect, and how.
#[derive(Clone, Copy)]
struct Target {
    version: Version,
    port: u16,
    /// How many publishes at QoS 1 and 2 may be unacknowledged.
    window: u16,
    /// Whether a client that does not set `TCP_NODELAY` itself is told to.
    nodelay: bool,
}

/// A server to measure against.
#[derive(Clone, Copy)]
struct Server {
    name: &'static str,
    port: u16,
    window: u16,
    /// The most messages for one run.
    messages: usize,
}

impl Server {
    const fn sink(port: u16) -> Self {
        Self { name: "sink", port, window: 1_000, messages: usize::MAX }
    }

    /// It ends connections with more QoS 2 publishes that are not complete, and writes each
    /// acknowledgement by itself.
    const fn mosquitto(port: u16) -> Self {
        Self { name: "mosquitto", port, window: 20, messages: 20_000 }
    }

    const fn target(self, version: Version, nodelay: bool) -> Target {
        Target { version, port: self.port, window: self.window, nodelay }
    }
}

/// A connected client.
trait Subject: Send + Sized + 'static {
    fn connect(target: &Target) -> impl Future<Output = Self> + Send;

    /// Publishes from one task, and waits for all outcomes there are.
    fn publish(&mut self, qos: QoS, count: usize) -> impl Future<Output = ()> + Send;

    /// Publishes from so many tasks, the same number of messages each.
    fn publish_from(
        &mut self,
        tasks: usize,
        qos: QoS,
        count: usize,
    ) -> impl Future<Output = ()> + Send;

    /// Subscribes, and waits until that is granted.
    fn subscribe(&mut self, filter: &str, qos: QoS) -> impl Future<Output = ()> + Send;

    /// Receives so many messages.
    fn receive(&mut self, count: usize) -> impl Future<Output = ()> + Send;

    /// Publishes at QoS 1 and waits for the outcome.
    fn publish_one(&mut self) -> impl Future<Output = ()> + Send;

    /// Publishes at QoS 1, and waits for the outcome and for the message, which is subscribed to.
    fn echo(&mut self) -> impl Future<Output = ()> + Send;
}

/// What is done many times.
#[derive(Clone, Copy)]
enum Task {
    Publish(QoS),
    /// From [`TASKS`] tasks.
    Tasks(QoS),
    Receive(QoS),
}

impl Task {
    /// Everything, with the name it has on the command line.
    const ALL: [(Self, &'static str); 6] = [
        (Self::Publish(QoS::AtMostOnce), "publish-0"),
        (Self::Publish(QoS::AtLeastOnce), "publish-1"),
        (Self::Publish(QoS::ExactlyOnce), "publish-2"),
        (Self::Tasks(QoS::AtLeastOnce), "tasks-1"),
        (Self::Receive(QoS::AtMostOnce), "receive-0"),
        (Self::Receive(QoS::AtLeastOnce), "receive-1"),
    ];

    async fn work(self, subject: &mut impl Subject, count: usize) {
        match self {
            Self::Publish(qos) => subject.publish(qos, count).await,
            Self::Tasks(qos) => subject.publish_from(TASKS, qos, count).await,
            Self::Receive(qos) => {
                subject.subscribe(&sink::filter(count), qos).await;
                subject.receive(count).await;
            }
        }
        // Everything before this one has been read by the server.
        subject.publish_one().await;
    }
}

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    messages: usize,
    round_trips: usize,
    /// How many round trips before.
    warm_up: usize,
    /// When there have been enough of those that take very long.
    patience: Duration,
    runs: usize,
}

impl Size {
    const FULL: Self = Self {
        messages: 200_000,
        round_trips: 2_000,
        warm_up: 20,
        patience: Duration::from_secs(3),
        runs: 7,
    };
    /// Whether it works at all.
    const TEST: Self = Self {
        messages: 2_000,
        round_trips: 20,
        warm_up: 2,
        patience: Duration::from_millis(100),
        runs: 1,
    };
}

#[derive(Clone, Copy)]
struct Threads(usize);

impl Threads {
    fn runtime(self) -> Runtime {
        let mut builder = match self.0 {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        builder.worker_threads(self.0).enable_all().build().expect("a runtime")
    }

    fn label(self) -> &'static str {
        if self.0 == 1 { "current_thread" } else { "multi_thread(2)" }
    }
}

/// What a message cost, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

/// What this process has used: user and system time, in microseconds.
fn usage() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the process is there");
    (usage.user_time() + usage.system_time()).num_microseconds() as f64
}

/// Runs in a task, as programs do.
fn run<T: Send + 'static>(threads: Threads, work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = threads.runtime();
    let done = runtime.block_on(async { tokio::time::timeout(LIMIT, tokio::spawn(work)).await });
    done.expect("in time").expect("no panic")
}

fn cost<S: Subject>(threads: Threads, target: Target, task: Task, count: usize) -> Cost {
    run(threads, async move {
        let mut subject = S::connect(&target).await;
        task.work(&mut subject, count / 10).await;
        let (before, start) = (usage(), Instant::now());
        task.work(&mut subject, count).await;
        let (wall, after) = (start.elapsed(), usage());
        let cpu = (after - before) / count as f64;
        Cost { cpu, wall: wall.as_secs_f64() * 1e6 / count as f64 }
    })
}

/// The figure in the middle.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures = Vec::from_iter(figures);
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A line of the table: ours and the other, in turn.
fn compare<Peer: Subject>(size: Size, threads: Threads, target: Target, task: Task) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        ours.push(cost::<Ours>(threads, target, task, size.messages));
        theirs.push(cost::<Peer>(threads, target, task, size.messages));
    }
    let name = match task {
        Task::Publish(qos) => format!("publish QoS {}", qos as u8),
        Task::Tasks(qos) => format!("publish QoS {}, {TASKS} tasks", qos as u8),
        Task::Receive(qos) => format!("receive QoS {}", qos as u8),
    };
    let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu));
    let wall = |costs: &[Cost]| median(costs.iter().map(|cost| cost.wall));
    println!(
        "  {name:<26} {:>5} {:>8.2} {:>8.2} {:>6.1}x {:>8.2} {:>8.2}",
        label(target.version),
        cpu(&ours),
        cpu(&theirs),
        cpu(&theirs) / cpu(&ours),
        wall(&ours),
        wall(&theirs),
    );
}

fn label(version: Version) -> &'static str {
    if version.is_v5() { "5.0" } else { "3.1.1" }
}

fn throughput(size: Size, server: Server, tasks: &[(Task, &str)]) {
    let size = Size { messages: size.messages.min(server.messages), ..size };
    for threads in [Threads(1), Threads(2)] {
        println!(
            "\n{}, {}\n  {:<32} {:>8} {:>8} {:>7} {:>8} {:>8}",
            server.name,
            threads.label(),
            "us per message",
            "CPU ours",
            "rumqttc",
            "",
            "wall",
            "rumqttc"
        );
        for version in [Version::V3_1_1, Version::V5] {
            let target = server.target(version, true);
            for &(task, _) in tasks {
                match version {
                    Version::V5 => compare::<peer::v5::Peer>(size, threads, target, task),
                    _ => compare::<peer::v4::Peer>(size, threads, target, task),
                }
            }
        }
    }
}

/// What is waited for, one after the other.
#[derive(Clone, Copy)]
enum Trip {
    Outcome,
    Echo,
}

/// How long each took, in order, and what each cost.
fn round_trips<S: Subject>(
    size: Size,
    threads: Threads,
    target: Target,
    trip: Trip,
) -> (Vec<Duration>, f64) {
    run(threads, async move {
        let mut subject = S::connect(&target).await;
        if let Trip::Echo = trip {
            subject.subscribe(TOPIC, QoS::AtLeastOnce).await;
        }
        let begun = Instant::now();
        let (mut trips, mut before) = (Vec::new(), usage());
        for number in 0..size.round_trips + size.warm_up {
            if number == size.warm_up {
                (trips, before) = (Vec::new(), usage());
            }
            if begun.elapsed() > size.patience && number > 2 * size.warm_up {
                break;
            }
            let start = Instant::now();
            match trip {
                Trip::Outcome => subject.publish_one().await,
                Trip::Echo => subject.echo().await,
            }
            trips.push(start.elapsed());
        }
        let cpu = (usage() - before) / trips.len() as f64;
        trips.sort();
        (trips, cpu)
    })
}

fn latency(size: Size, server: Server, trip: Trip) {
    let name = match trip {
        Trip::Outcome => "QoS 1 acknowledged, us",
        Trip::Echo => "QoS 1 sent and back, us",
    };
    for threads in [Threads(1), Threads(2)] {
        println!("\n{}, {}", server.name, threads.label());
        println!("  {name:<34} {:>8} {:>8} {:>8} {:>8}", "p50", "p99", "CPU", "of");
        for version in [Version::V3_1_1, Version::V5] {
            let target = server.target(version, false);
            let by_hand = server.target(version, true);
            let theirs = match version {
                Version::V5 => round_trips::<peer::v5::Peer>,
                _ => round_trips::<peer::v4::Peer>,
            };
            let ours: fn(_, _, _, _) -> _ = round_trips::<Ours>;
            let cases = [
                ("ours", ours, target),
                ("rumqttc", theirs, target),
                ("rumqttc, TCP_NODELAY by hand", theirs, by_hand),
            ];
            let mut all = [const { Vec::new() }; 3];
            for _ in 0..size.runs {
                for ((_, measure, target), runs) in cases.iter().zip(&mut all) {
                    runs.push(measure(size, threads, *target, trip));
                }
            }
            for ((name, ..), runs) in cases.iter().zip(all) {
                print_trips(name, version, runs);
            }
        }
    }
}

/// A line of the table: the run in the middle.
fn print_trips(name: &str, version: Version, mut runs: Vec<(Vec<Duration>, f64)>) {
    runs.sort_by_key(|(trips, _)| trips[trips.len() / 2]);
    let (trips, cpu) = &runs[runs.len() / 2];
    let micros = |percent: usize| trips[trips.len() * percent / 100].as_secs_f64() * 1e6;
    println!(
        "  {name:<28} {:>5} {:>8.1} {:>8.1} {cpu:>8.1} {:>8}",
        label(version),
        micros(50),
        micros(99),
        trips.len(),
    );
}

/// One task once, the same instructions every time as far as the network allows.
fn profile(name: &str, version: &str, count: &str) {
    let found = Task::ALL.into_iter().find(|(_, known)| *known == name);
    let (task, _) = found.expect("a task there is");
    let version = if version == "5" { Version::V5 } else { Version::V3_1_1 };
    let count = count.parse().expect("a number of messages");
    let sink = Sink::start().expect("a process");
    let target = Server::sink(sink.port).target(version, true);
    let runtime = Threads(1).runtime();
    let mut subject = runtime.block_on(async {
        let mut subject = Ours::connect(&target).await;
        task.work(&mut subject, 10_000).await;
        subject
    });
    benches::measured(&mut || runtime.block_on(task.work(&mut subject, count)));
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|argument| argument == "--bench");
    let size = if full { Size::FULL } else { Size::TEST };
    let arguments: Vec<_> =
        arguments.iter().map(String::as_str).filter(|argument| *argument != "--bench").collect();
    match arguments[..] {
        [sink::ARGUMENT] => sink::run().expect("sockets"),
        ["profile", name, version, count] => profile(name, version, count),
        ["mosquitto", port] => {
            let server = Server::mosquitto(port.parse().expect("a port"));
            throughput(size, server, &Task::ALL[..4]);
            latency(size, server, Trip::Outcome);
            latency(size, server, Trip::Echo);
        }
        _ => {
            let sink = Sink::start().expect("a process");
            let server = Server::sink(sink.port);
            throughput(size, server, &Task::ALL);
            latency(size, server, Trip::Outcome);
        }
    }
}
