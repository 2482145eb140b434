//! Who is to blame for silence: a server that is there is never given up, whatever the application
//! does; one that is not always is, whatever was under way.
//!
//! A run that fails prints its seed; to see it again: `SEED=17 cargo test -p simulation --test silence`.

use mqtt_core::{
    Acknowledgement, Config, Connect, Error, Event, QoS, Receipt, Version,
    store::{Fixed, Records, Store},
};
use simulation::{App, Manners, Note, Pair, Rng, Server, Weather, story::*};

const RUNS: u64 = 100;
const SECOND: u64 = 1_000;
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn runs<S: Store>(store: fn() -> S, run: fn(&mut Application<S>)) {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..RUNS,
    };
    for seed in seeds {
        for version in BOTH {
            let mut application = Application::new(seed, version, store());
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run(&mut application);
            }));
            assert!(result.is_ok(), "SEED={seed}, {version:?}");
        }
    }
}

/// An application that does many things, slowly.
struct Application<S> {
    rng: Rng,
    pair: Meeting<S>,
    connect: Connect<'static>,
    receipts: Vec<Receipt>,
}

impl<S: Store> Application<S> {
    fn new(seed: u64, version: Version, store: S) -> Self {
        let mut rng = Rng::new(seed);
        let acknowledgements = [Acknowledgement::Automatic, Acknowledgement::Manual];
        let config = Config {
            whole: rng.pick(&[64, usize::MAX]),
            acknowledgement: rng.pick(&acknowledgements),
            ..Config::DEFAULT
        };
        let arrivals = store.capacity().arrivals;
        let mut app = App::new(mqtt_core::Client::with_config(version, store, config));
        app.buffer = config.whole;
        app.out.capacity = rng.pick(&[90, 150, 4_096]);
        app.appetite = rng.pick(&[1, usize::MAX]);
        let manners = Manners { strict: false, window: arrivals, ..Manners::default() };
        let mut pair = Pair::new(app, Server::new(seed, manners));
        pair.wire.weather = Weather { window: rng.pick(&[7, 64, usize::MAX]), ..Weather::CALM };
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let mut application = Self { rng, pair, connect, receipts: Vec::new() };
        application.connect();
        subscribe_to_all(&mut application.pair);
        application
    }

    fn connect(&mut self) {
        self.receipts.clear();
        self.pair.client.events.clear();
        self.pair.client.awake = true;
        self.pair.connect(&self.connect).expect("a connection");
        assert!(matches!(self.pair.event(), Event::Connected(_)));
    }

    fn act(&mut self) {
        let qos = self.rng.pick(&QOS);
        let now = self.pair.clock.now();
        match self.rng.below(10) {
            0 | 1 => {
                let _ = self.pair.publish(&message("a", "some payload", qos));
            }
            2 => {
                let (head, len) = (message("a", "", qos), self.rng.below(400) as usize);
                let begin = |client: &mut mqtt_core::Client<S>, out: &mut _| {
                    client.publish_streamed(now, &head, len, out)
                };
                let _ = self.pair.client.command(begin);
            }
            3 | 4 => self.feed(),
            5 => {
                let payload = vec![b'x'; self.rng.below(200) as usize];
                self.pair.server.publish(&Note::new("b", payload, qos));
            }
            6 => self.acknowledge(),
            7 => self.pair.client.awake = self.rng.once_in(2),
            _ => self.pair.run(0),
        }
    }

    fn feed(&mut self) {
        let bytes = [b'x'; 100];
        let len = self.rng.below(101) as usize;
        self.pair.client.call(|client, out| client.payload(&bytes[..len], out));
    }

    fn acknowledge(&mut self) {
        if let Some(receipt) = self.receipts.pop()
            && self.pair.acknowledge(receipt, Default::default()).is_err()
        {
            self.receipts.push(receipt);
        }
    }

    fn listen(&mut self) {
        while let Some(event) = self.pair.client.told() {
            match event {
                Event::Message(message) => self.receipts.extend(message.receipt),
                Event::Resend(id) => {
                    self.pair.client.client.abandon(id);
                }
                _ => {}
            }
        }
    }
}

/// The server answers at once; everybody else takes any time. It may close the connection for our own
/// silence, if we could not ping.
fn is_never_accused<S: Store>(application: &mut Application<S>) {
    for _ in 0..60 {
        application.act();
        let millis = application.rng.pick(&[0, 10, SECOND, 4 * SECOND, 9 * SECOND, 40 * SECOND]);
        application.pair.run(millis);
        application.listen();
        assert_eq!(application.pair.client.error, None);
        if !application.pair.wire.is_open() {
            application.connect();
        }
    }
}

/// From one moment on the server does nothing, and takes nothing.
fn is_always_found_out<S: Store>(application: &mut Application<S>) {
    for _ in 0..application.rng.below(40) {
        application.act();
        let millis = application.rng.pick(&[0, 10, SECOND]);
        application.pair.run(millis);
        application.listen();
        if !application.pair.wire.is_open() {
            application.connect();
        }
    }
    application.pair.client.awake = true;
    application.pair.run(0);
    if !application.pair.wire.is_open() {
        application.connect();
    }
    application.pair.server.manners.frozen = true;
    application.pair.wire.weather.window = application.rng.pick(&[0, usize::MAX]);
    for _ in 0..60 {
        application.pair.run(SECOND);
        application.listen();
        application.feed();
        application.acknowledge();
        if application.pair.client.error.is_some() {
            break;
        }
    }
    assert_eq!(application.pair.client.error, Some(Error::KeepAliveTimeout));
}

#[test]
fn a_server_that_is_there_is_never_accused() {
    runs(Fixed::<4, 200>::new, is_never_accused);
    runs(Records::<2>::new, is_never_accused);
}

#[test]
fn a_server_that_is_gone_is_always_found_out() {
    runs(Fixed::<4, 200>::new, is_always_found_out);
    runs(Records::<1>::new, is_always_found_out);
}
