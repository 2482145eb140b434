//! A client of a broker on the host: sends itself numbered messages at each QoS, while the broker is
//! restarted, and counts what arrives.

#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_futures::{
    join::join,
    select::{Either, select},
};
use embassy_net::Stack;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, with_timeout};
use mqtt_core::{Connect, Filter, Publish, QoS, Text, Topic, Version, store::Fixed};
use qemu::{HOST, argument, fail, say, start, succeed};
use static_cell::{ConstStaticCell, StaticCell};
use transport_embassy::{
    Client, Inbox, Options, Outbox, Reconnect, Resources, Runner, Sizes, Status, Subscriptions,
    Waiting, net::Tcp,
};

struct Mqtt;

impl Sizes for Mqtt {
    type Mutex = NoopRawMutex;
    type Store = Fixed<8, 1024>;
    type Inbox = Inbox<4, 512>;
    type Outbox = Outbox<512>;
    type Subscriptions = Subscriptions<2, 32>;
    type Waiting = Waiting<8>;
}

/// How many messages at each QoS.
const MESSAGES: u32 = 300;

/// How long the next message may take.
const PATIENCE: Duration = Duration::from_secs(20);

const LEVELS: [(&str, QoS); 3] =
    [("echo/0", QoS::AtMostOnce), ("echo/1", QoS::AtLeastOnce), ("echo/2", QoS::ExactlyOnce)];

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static RESOURCES: StaticCell<Resources<Mqtt>> = StaticCell::new();
    let port = argument(1);
    let (version, name) = match argument(2) {
        5 => (Version::V5, "device 5.0"),
        _ => (Version::V3_1_1, "device 3.1.1"),
    };
    let stack = start(spawner, 1).await;
    let options = Options {
        connect: Connect {
            client_id: Text::new(name).unwrap_or_default(),
            session_expiry_interval: 3_600,
            keep_alive: 5,
            clean_start: false, // mosquitto keeps no others on disk
            ..Connect::default()
        },
        reconnect: Reconnect { longest: Duration::from_secs(1), ..Reconnect::default() },
        ..Options::default()
    };
    let resources = RESOURCES.init_with(|| Resources::new(version, Fixed::new()));
    let (client, runner) = resources.split(options);
    match run(runner, stack, port) {
        Ok(task) => spawner.spawn(task),
        Err(error) => fail(format_args!("no task for the client: {error:?}")),
    }
    let Ok(all) = Filter::new("echo/+") else { fail(format_args!("no filter")) };
    match client.subscribe(all, QoS::ExactlyOnce).await {
        Ok(QoS::ExactlyOnce) => {}
        other => fail(format_args!("not subscribed: {other:?}")),
    }
    let told = select(tell(client), join(publish(client), receive(client))).await;
    let Either::Second(((), counts)) = told else { fail(format_args!("it ended by itself")) };
    say(format_args!("received at QoS 0, 1 and 2: {counts:?}"));
    let [fleeting, at_least_once, exactly_once] = counts;
    if fleeting == 0 || fleeting > MESSAGES || at_least_once < MESSAGES || exactly_once != MESSAGES
    {
        fail(format_args!("{MESSAGES} at each were sent"));
    }
    client.disconnect().await;
    succeed()
}

#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Mqtt>, stack: Stack<'static>, port: u32) {
    static BUFFERS: ConstStaticCell<[[u8; 2048]; 2]> = ConstStaticCell::new([[0; 2048]; 2]);
    let [rx, tx] = BUFFERS.take();
    let host = embassy_net::IpAddress::Ipv4(HOST);
    let result = runner.run(Tcp::new(stack, host, port as u16, rx, tx)).await;
    say(format_args!("the client has ended: {result:?}"));
}

/// Tells how the connection stands, until it stands no more.
async fn tell(client: Client<'static, Mqtt>) {
    let mut watch = client.watch();
    loop {
        match watch.next().await {
            Status::Ended(_) => return,
            status => say(format_args!("{status:?}")),
        }
    }
}

/// Sends all messages, at each QoS in turn, and waits in the middle until the connection is lost.
async fn publish(client: Client<'static, Mqtt>) {
    for number in 0..MESSAGES {
        if number == MESSAGES / 2 {
            say(format_args!("half"));
            let mut watch = client.watch();
            while let Status::Connected { .. } = watch.next().await {}
            client.connected().await;
        }
        for (topic, qos) in LEVELS {
            let payload = number.to_le_bytes();
            let topic = Topic::new(topic).unwrap_or_default();
            let message = Publish { qos, ..Publish::new(topic, &payload) };
            if let Err(error) = client.send(&message).await {
                fail(format_args!("message {number} at {qos:?} was not accepted: {error}"));
            }
        }
    }
}

/// Receives until all that cannot be lost is there: how many at each QoS. They are in order, but for those that
/// mosquitto itself lets overtake others when it has been restarted.
async fn receive(client: Client<'static, Mqtt>) -> [u32; 3] {
    let mut tallies = [const { Tally::new() }; 3];
    while tallies.iter().skip(1).any(|tally| tally.different < MESSAGES) {
        let message = match with_timeout(PATIENCE, client.receive()).await {
            Ok(Some(message)) => message,
            Ok(None) => fail(format_args!("no more come")),
            Err(_) => {
                fail(format_args!("no more come: {:?}", tallies.map(|tally| tally.different)))
            }
        };
        let level = message.topic().as_bytes().last().map_or(0, |digit| usize::from(digit - b'0'));
        let number = message.payload().try_into().map_or(u32::MAX, u32::from_le_bytes);
        match tallies.get_mut(level) {
            Some(tally) if number < MESSAGES => tally.count(number),
            _ => fail(format_args!("{number} at QoS {level} is none of ours")),
        }
    }
    tallies.map(|tally| tally.all)
}

/// Which messages have come.
struct Tally {
    seen: [bool; MESSAGES as usize],
    different: u32,
    all: u32,
}

impl Tally {
    const fn new() -> Self {
        Self { seen: [false; MESSAGES as usize], different: 0, all: 0 }
    }

    fn count(&mut self, number: u32) {
        if let Some(seen) = self.seen.get_mut(number as usize) {
            self.different += u32::from(!core::mem::replace(seen, true));
            self.all += 1;
        }
    }
}
