//! Brokers that are killed at any moment: nothing that was acknowledged is lost, and nothing at QoS 2
//! is doubled.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};
use transport_tokio::{Durability, Reconnect};

use crate::support::*;

const KILLS: u32 = 50;
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 2;

/// How many publishes of a publisher are unacknowledged.
const WINDOW: usize = 20;

const DIRECTORY: &str = "BROKER_DIRECTORY";
const POWER: &str = "BROKER_POWER";

#[tokio::test]
#[ignore = "a program to be killed by the test below"]
async fn program() {
    let durability =
        if env::var_os(POWER).is_some() { Durability::Power } else { Durability::Process };
    let directory = env::var_os(DIRECTORY).unwrap();
    let broker = serve(Broker::builder().persistence(directory, durability)).await;
    println!("serves {}", broker.urls()[0].trim_start_matches("mqtt://"));
    // It does not outlive who has started it.
    let end = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
    end.await.unwrap().unwrap();
    drop(broker);
}

/// A broker in a process of its own.
struct Victim(Child);

impl Victim {
    /// Starts it, and gives the address at which it serves.
    fn start(directory: &Path, round: u32) -> (Self, SocketAddr) {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env_remove(POWER);
        if round.is_multiple_of(2) {
            command.env(POWER, "");
        }
        Self::run(command, directory)
    }

    /// The same, but its files cannot have more than 2 MiB.
    #[cfg(unix)]
    fn cramped(directory: &Path) -> (Self, SocketAddr) {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]);
        command.arg(env::current_exe().unwrap());
        Self::run(command, directory)
    }

    fn run(mut command: Command, directory: &Path) -> (Self, SocketAddr) {
        command.args(["--exact", "killed::program", "--ignored", "--nocapture"]);
        command.env(DIRECTORY, directory);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let victim = Self(child);
        let address = output.lines().find_map(|line| {
            line.unwrap().split_once("serves ").map(|(_, address)| address.parse().unwrap())
        });
        (victim, address.expect("it serves"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // On Unix with SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all know.
#[derive(Default)]
struct World {
    address: Mutex<Option<SocketAddr>>,
    is_over: AtomicBool,
    acknowledged: AtomicUsize,
}

impl World {
    /// A client whose session outlives it, which connects to whichever broker there is.
    async fn client(self: &Arc<Self>, client_id: &str, streams: Streams) -> Client {
        let world = Arc::clone(self);
        let connector = move || {
            let address = *world.address.lock().unwrap();
            async move { TcpStream::connect(address.expect("a broker")).await }
        };
        let reconnect = Reconnect {
            first: Duration::from_millis(5),
            longest: Duration::from_millis(50),
            ..Reconnect::default()
        };
        let options = Options {
            clean_start: false,
            session_expiry_interval: u32::MAX,
            reconnect,
            streams,
            ..named(client_id)
        };
        Client::connect_with(connector, options).await.expect("a connection")
    }
}

/// Publishes until it is over, and tells how many of each QoS were acknowledged: all.
async fn publish(world: Arc<World>, number: usize) -> usize {
    let client = world.client(&format!("publisher {number}"), Streams::default()).await;
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut publishes = JoinSet::new();
    let mut count = 0;
    while !world.is_over.load(Ordering::Relaxed) {
        let place = Arc::clone(&window).acquire_owned().await.unwrap();
        let qos = if count % 2 == 0 { AtLeastOnce } else { ExactlyOnce };
        let topic = format!("to all/{number}/{}", qos as u8);
        let publish = client.publish(&topic, count.to_string()).qos(qos).accepted().await.unwrap();
        let world = Arc::clone(&world);
        publishes.spawn(async move {
            publish.await.unwrap();
            world.acknowledged.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
        count += 1;
    }
    while let Some(publish) = publishes.join_next().await {
        publish.unwrap();
    }
    count
}

/// How often each message has come, by its topic and number.
type Received = BTreeMap<String, BTreeMap<usize, usize>>;

/// Receives until everything has come that there is, which is told when it is known.
async fn receive(mut messages: Messages, mut all: watch::Receiver<Option<usize>>) -> Received {
    let (mut received, mut different) = (Received::new(), 0);
    let mut last = BTreeMap::new();
    while (*all.borrow_and_update()).is_none_or(|all| different < all) {
        let message = tokio::select! {
            message = messages.next() => message.expect("the session goes on"),
            changed = all.changed() => { changed.unwrap(); continue }
        };
        let topic = message.topic.to_string();
        let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
        let times = received.entry(topic.clone()).or_default().entry(number).or_insert(0);
        *times += 1;
        if *times == 1 {
            different += 1;
            let before = last.insert(topic.clone(), number);
            assert!(before.is_none_or(|before| before < number), "{number} of {topic} is late");
        }
    }
    received
}

#[tokio::test]
async fn killed_at_any_moment() {
    let directory = TempDir::new().unwrap();
    let world = Arc::new(World::default());
    let (mut victim, address) = Victim::start(directory.path(), 0);
    *world.address.lock().unwrap() = Some(address);
    let (everything, known) = watch::channel(None);
    let mut receivers = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let client = world.client(&format!("subscriber {number}"), Streams::default()).await;
        let messages = client.subscribe("to all/#", ExactlyOnce).await.unwrap();
        let known = known.clone();
        receivers.spawn(async move {
            let received = receive(messages, known).await;
            drop(client);
            received
        });
    }
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        publishers.spawn(publish(Arc::clone(&world), number));
    }
    for round in 1..=KILLS {
        // While it works, and after it has done something.
        let enough = world.acknowledged.load(Ordering::Relaxed) + 1 + (round as usize * 37) % 90;
        while world.acknowledged.load(Ordering::Relaxed) < enough {
            assert!(publishers.try_join_next().is_none() && receivers.try_join_next().is_none());
            time::sleep(Duration::from_millis(1)).await;
        }
        time::sleep(Duration::from_micros(u64::from(round) * 97 % 3_000)).await;
        drop(victim);
        let address;
        (victim, address) = Victim::start(directory.path(), round);
        *world.address.lock().unwrap() = Some(address);
    }
    world.is_over.store(true, Ordering::Relaxed);
    let sent: usize = bounded(publishers.join_all()).await.into_iter().sum();
    everything.send(Some(sent)).unwrap();
    for received in bounded(receivers.join_all()).await {
        let doubled = received.iter().filter(|(topic, _)| topic.ends_with("/2"));
        for (topic, numbers) in doubled {
            assert!(numbers.values().all(|times| *times == 1), "{topic}: {numbers:?}");
        }
        assert_eq!(received.values().map(BTreeMap::len).sum::<usize>(), sent);
    }
    println!("{sent} messages");
    drop(victim);
}

/// What cannot be saved is not acknowledged, until it can be; QoS 0 goes on meanwhile.
#[cfg(unix)]
#[tokio::test]
async fn nothing_is_acknowledged_that_cannot_be_saved() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let world = Arc::new(World::default());
        let (victim, address) = Victim::cramped(directory.path());
        *world.address.lock().unwrap() = Some(address);
        let client = world.client("publisher", Streams::default()).await;
        let mut publishes = JoinSet::new();
        for number in 0..4 {
            let topic = format!("large/{number}");
            let publish = client.publish(&topic, vec![7; 900_000]).qos(AtLeastOnce).retain(true);
            publishes.spawn(publish.accepted().await.unwrap());
        }
        let options = Options { session_expiry_interval: 0, ..named("fleeting") };
        let other = Client::connect(&format!("mqtt://{address}"), options).await.unwrap();
        let mut echo = other.subscribe("echo", AtMostOnce).await.unwrap();
        for number in 0..50 {
            other.publish("echo", number.to_string()).await.unwrap();
            assert_eq!(next(&mut echo).await, number.to_string());
            time::sleep(Duration::from_millis(2)).await;
        }
        let mut done = 0;
        while publishes.try_join_next().is_some() {
            done += 1;
        }
        assert!(done < 4, "there is no room for all of them");
        drop(victim);
        let (_victim, address) = Victim::start(directory.path(), 1);
        *world.address.lock().unwrap() = Some(address);
        while let Some(publish) = publishes.join_next().await {
            publish.unwrap().unwrap();
        }
        let url = format!("mqtt://{address}");
        let reader = Client::connect(&url, named("reader")).await.unwrap();
        let mut all = reader.subscribe("large/+", AtLeastOnce).await.unwrap();
        for _ in 0..4 {
            assert_eq!(all.next().await.unwrap().payload.len(), 900_000);
        }
    })
    .await;
}
