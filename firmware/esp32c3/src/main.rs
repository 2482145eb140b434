//! A sensor and actuator on an ESP32-C3: publishes the chip's uptime, switches an LED when it is told to, and
//! blinks it while there is no connection.
//!
//! Names and passwords come from the environment when it is built: see README.md.

#![no_std]
#![no_main]

use core::fmt::Write;

use embassy_executor::Spawner;
use embassy_futures::select::{Either, select};
use embassy_net::{Runner as NetRunner, Stack, StackResources};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, Instant, Ticker, Timer};
use esp_backtrace as _;
use esp_hal::{
    gpio::{Level, Output, OutputConfig},
    rng::Rng,
    timer::timg::TimerGroup,
};
use esp_println::println;
use esp_radio::wifi::{
    AuthenticationMethodConfig, Config, Interface, WifiController, WifiError, sta::StationConfig,
};
use mqtt_core::{Connect, Filter, Publish, QoS, Text, Topic, Version, Will, store::Fixed};
use static_cell::{ConstStaticCell, StaticCell};
use transport_embassy::{
    Client, Inbox, Options, Outbox, Resources, Runner, Sizes, Status, Subscriptions, Waiting,
    net::Tcp,
};

esp_bootloader_esp_idf::esp_app_desc!();

const SSID: &str = env!("WIFI_SSID");
const PASSWORD: &str = env!("WIFI_PASSWORD");
const BROKER: &str = env!("MQTT_BROKER");
const USER: Option<&str> = option_env!("MQTT_USER");
const SECRET: Option<&str> = option_env!("MQTT_PASSWORD");

/// How often the sensor is read.
const PERIOD: Duration = Duration::from_secs(10);

const NAME: Text<'_> = constant(Text::new("esp32c3"));
const READINGS: Topic<'_> = constant(Topic::new("esp32c3/uptime"));
const ONLINE: Topic<'_> = constant(Topic::new("esp32c3/online"));
const LED: Filter<'_> = constant(Filter::new("esp32c3/led"));

struct Mqtt;

impl Sizes for Mqtt {
    type Mutex = NoopRawMutex;
    type Store = Fixed<8, 1024>;
    type Inbox = Inbox<3, 512>;
    type Outbox = Outbox<1024>;
    type Subscriptions = Subscriptions<2, 32>;
    type Waiting = Waiting<8>;
}

type Mq = Client<'static, Mqtt>;

const fn constant<T: Copy, E: Copy>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(_) => panic!("a mistake here does not compile"),
    }
}

#[esp_rtos::main]
async fn main(spawner: Spawner) {
    static RESOURCES: ConstStaticCell<Resources<Mqtt>> =
        ConstStaticCell::new(Resources::new(Version::V5, Fixed::new()));
    let peripherals = esp_hal::init(esp_hal::Config::default());
    // For the radio's driver; MQTT and the network need none.
    esp_alloc::heap_allocator!(size: 72 * 1024);
    let timers = TimerGroup::new(peripherals.TIMG0);
    esp_rtos::start(timers.timer0, peripherals.FROM_CPU_INTR0);
    let led = Output::new(peripherals.GPIO8, Level::Low, OutputConfig::default());
    let wifi = WifiController::new(peripherals.WIFI, Default::default()).expect("a radio");
    let stack = start_network(spawner, wifi);

    let user_name = USER.map(|name| Text::new(name).expect("MQTT_USER is a text of MQTT"));
    let options = Options {
        connect: Connect {
            client_id: NAME,
            keep_alive: 30,
            session_expiry_interval: 24 * 60 * 60,
            will: Some(Will { topic: ONLINE, payload: b"no", retain: true, ..Will::default() }),
            user_name,
            password: SECRET.map(str::as_bytes),
            ..Connect::default()
        },
        seed: random(),
        ..Options::default()
    };
    let (client, runner) = RESOURCES.take().split(options);
    spawner.spawn(run(runner, stack).expect("spawned once"));
    spawner.spawn(read_sensor(client).expect("spawned once"));
    drive_led(client, led).await;
}

fn random() -> u64 {
    let rng = Rng::new();
    u64::from(rng.random()) << 32 | u64::from(rng.random())
}

fn start_network(spawner: Spawner, wifi: WifiController<'static>) -> Stack<'static> {
    static RESOURCES: StaticCell<StackResources<4>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let config = embassy_net::Config::dhcpv4(Default::default());
    let (stack, runner) = embassy_net::new(Interface::station(), config, resources, random());
    spawner.spawn(net(runner).expect("spawned once"));
    spawner.spawn(join_network(wifi).expect("spawned once"));
    stack
}

#[embassy_executor::task]
async fn net(mut runner: NetRunner<'static, Interface>) -> ! {
    runner.run().await
}

/// Keeps the chip in its Wi-Fi network.
#[embassy_executor::task]
async fn join_network(mut wifi: WifiController<'static>) {
    if let Err(error) = set_network(&mut wifi) {
        return println!("WIFI_SSID and WIFI_PASSWORD are not for this radio: {error:?}");
    }
    loop {
        match wifi.connect_async().await {
            Ok(_) => {
                println!("in the network");
                let _ = wifi.wait_for_disconnect_async().await;
                println!("out of the network");
            }
            Err(error) => println!("no network: {error:?}"),
        }
        Timer::after_secs(5).await;
    }
}

fn set_network(wifi: &mut WifiController<'static>) -> Result<(), WifiError> {
    let authentication = match PASSWORD {
        "" => AuthenticationMethodConfig::Open,
        password => AuthenticationMethodConfig::Wpa2Personal(password.try_into()?),
    };
    let station =
        StationConfig::default().with_ssid(SSID.try_into()?).with_authentication(authentication);
    wifi.set_config(&Config::Station(station))
}

/// Does the client's IO.
#[embassy_executor::task]
async fn run(mut runner: Runner<'static, Mqtt>, stack: Stack<'static>) {
    static BUFFERS: ConstStaticCell<[[u8; 1536]; 2]> = ConstStaticCell::new([[0; 1536]; 2]);
    let [rx, tx] = BUFFERS.take();
    let result = runner.run(Tcp::new(stack, BROKER, 1883, rx, tx)).await;
    println!("the client has ended: {result:?}");
}

/// Publishes a reading now and then; each is delivered, however long that takes.
#[embassy_executor::task]
async fn read_sensor(client: Mq) {
    let mut ticker = Ticker::every(PERIOD);
    loop {
        ticker.next().await;
        let mut reading = heapless::String::<20>::new();
        let _ = write!(reading, "{}", Instant::now().as_secs()); // it has room for any number
        let message =
            Publish { qos: QoS::AtLeastOnce, ..Publish::new(READINGS, reading.as_bytes()) };
        if let Err(error) = client.send(&message).await {
            println!("not accepted: {error}");
        }
    }
}

/// Shows what the LED is told to show, and blinks while nobody can tell.
async fn drive_led(client: Mq, mut led: Output<'static>) {
    let mut watch = client.watch();
    loop {
        while !matches!(client.status(), Status::Connected { .. }) {
            led.toggle();
            select(watch.next(), Timer::after_millis(200)).await;
        }
        if let Err(error) = client.subscribe(LED, QoS::AtLeastOnce).await {
            println!("not subscribed: {error}");
        }
        let online = Publish { retain: true, ..Publish::new(ONLINE, b"yes") };
        let _ = client.publish(&online).await; // it shows when there is a connection again
        while let Status::Connected { .. } = client.status() {
            match select(client.receive(), watch.next()).await {
                Either::First(Some(message)) if message.payload() == b"on" => led.set_high(),
                Either::First(Some(_)) => led.set_low(),
                Either::First(None) => return,
                Either::Second(_) => {}
            }
        }
    }
}
