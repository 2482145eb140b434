//! The program of `client` over embassy, which also connects again, subscribes again, and keeps messages
//! until somebody takes them.

#![no_std]
#![no_main]

use core::convert::Infallible;

use embassy_futures::join::join3;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::Timer;
use size::{
    Place, choice,
    line::{Line, run},
    show,
};
use transport_embassy::{
    Client, Connector, Inbox, Options, Outbox, Resources, Sizes, Subscriptions, Waiting,
    mqtt_core::{Connect, Filter, Publish, QoS, Text, Topic, Version, Will, store::Fixed},
};

struct Mqtt;

impl Sizes for Mqtt {
    type Mutex = NoopRawMutex;
    type Store = Fixed<8, 1024>;
    type Inbox = Inbox<2, 1024>;
    type Outbox = Outbox<512>;
    type Subscriptions = Subscriptions<4, 32>;
    type Waiting = Waiting<8>;
}

static RESOURCES: Place<Resources<Mqtt>> = Place::new();

const WILL: Topic<'_> = constant(Topic::new("device/7/status"));
const READINGS: Topic<'_> = constant(Topic::new("device/7/readings"));
const COMMANDS: Filter<'_> = constant(Filter::new("device/7/commands/#"));
const NAME: Text<'_> = constant(Text::new("device-7"));
const USER: Text<'_> = constant(Text::new("user"));

const fn constant<T: Copy, E: Copy>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(_) => panic!("a mistake here does not compile"),
    }
}

fn version() -> Version {
    #[cfg(all(feature = "v3", feature = "v5"))]
    return if choice() == 0 { Version::V3_1_1 } else { Version::V5 };
    #[cfg(not(feature = "v5"))]
    return Version::V3_1_1;
    #[cfg(not(feature = "v3"))]
    return Version::V5;
}

struct Registers;

impl Connector for Registers {
    type Error = Infallible;
    type Connection<'c> = (Line, Line);

    async fn connect(&mut self) -> Result<(Line, Line), Infallible> {
        Ok((Line, Line))
    }
}

#[unsafe(no_mangle)]
fn program() -> ! {
    // SAFETY: the program is started once.
    let resources = unsafe { RESOURCES.put(Resources::new(version(), Fixed::new())) };
    let connect = Connect {
        client_id: NAME,
        will: Some(Will { topic: WILL, payload: b"lost", retain: true, ..Will::default() }),
        user_name: Some(USER),
        password: Some(b"secret"),
        session_expiry_interval: 3_600,
        ..Connect::default()
    };
    let (client, mut runner) = resources.split(Options { connect, ..Options::default() });
    run(async {
        let _ = join3(runner.run(Registers), receive(client), publish(client)).await;
    })
}

async fn receive(client: Client<'static, Mqtt>) {
    let _ = client.subscribe(COMMANDS, QoS::ExactlyOnce).await;
    while let Some(message) = client.receive().await {
        show(message.topic().as_bytes());
        show(message.payload());
    }
}

async fn publish(client: Client<'static, Mqtt>) {
    while let Some(qos) = QoS::from_u8(choice() as u8) {
        let reading = choice().to_le_bytes();
        if let Ok(reason) =
            client.publish(&Publish { qos, ..Publish::new(READINGS, &reading) }).await
        {
            show(&[reason.as_u8()]);
        }
        Timer::after_secs(1).await;
    }
    client.disconnect().await;
}
