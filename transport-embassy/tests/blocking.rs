//! The client without an executor, over a transport that panics if it would have to wait.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};
use mqtt_core::{
    Connect, Event, Filter, Instant, Publish, QoS, ReasonCode, Subscribe, Subscription, Text,
    Topic, Version, store::Fixed,
};
use simulation::{Manners, Note, Server, pair::End};
use transport_embassy::blocking::{Client, Error};

/// The server, and what is between.
struct Shared {
    server: Server,
    now: Instant,
    /// Repeatable, and whether the transport is ready.
    dice: u64,
    cut: bool,
}

#[derive(Clone)]
struct Pipe(Rc<RefCell<Shared>>);

impl Shared {
    fn below(&mut self, limit: u64) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99_991);
        ((self.dice >> 33) % limit) as usize
    }

    fn has_input(&mut self) -> bool {
        while self.server.poll(self.now) {}
        self.cut || !self.server.unsent().is_empty() || self.server.is_closing()
    }
}

impl ErrorType for Pipe {
    type Error = Infallible;
}

impl ReadReady for Pipe {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        let mut shared = self.0.borrow_mut();
        let likely = shared.below(3) > 0;
        Ok(shared.has_input() && likely)
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut shared = self.0.borrow_mut();
        assert!(shared.has_input() && !buf.is_empty(), "it would wait");
        if shared.cut {
            return Ok(0);
        }
        let most = shared.below(40) + 1;
        let bytes = shared.server.unsent();
        let len = bytes.len().min(buf.len()).min(most);
        buf[..len].copy_from_slice(&bytes[..len]);
        shared.server.sent(len);
        Ok(len)
    }
}

impl WriteReady for Pipe {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        let mut shared = self.0.borrow_mut();
        Ok(shared.below(2) == 0)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Infallible> {
        let mut shared = self.0.borrow_mut();
        let len = buf.len().min(shared.below(40) + 1);
        shared.server.receive(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        panic!("that would wait")
    }
}

type Device = Client<Pipe, Fixed<8, 1024>, 128, 256>;

/// What came.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Connected(bool),
    Subscribed,
    Acknowledged,
    Message(String, Vec<u8>),
    Long(usize),
}

struct Bench {
    device: Device,
    pipe: Pipe,
    said: Vec<Said>,
}

fn connect() -> Connect<'static> {
    let client_id = Text::new("device").unwrap();
    Connect {
        client_id,
        clean_start: false,
        session_expiry_interval: 600,
        keep_alive: 10,
        ..Connect::default()
    }
}

impl Bench {
    fn new() -> Self {
        let server = Server::new(1, Manners { strict: false, ..Manners::default() });
        let now = Instant::from_millis(1_000);
        let pipe = Pipe(Rc::new(RefCell::new(Shared { server, now, dice: 1, cut: false })));
        let mut bench =
            Self { device: Client::new(Version::V5, Fixed::new()), pipe, said: Vec::new() };
        bench.open();
        bench
    }

    fn now(&self) -> Instant {
        self.pipe.0.borrow().now
    }

    fn open(&mut self) {
        let now = self.now();
        {
            let mut shared = self.pipe.0.borrow_mut();
            shared.cut = false;
            shared.server.opened(now);
        }
        self.device.open(now, self.pipe.clone(), &connect()).unwrap();
    }

    fn cut(&mut self) {
        let now = self.now();
        let mut shared = self.pipe.0.borrow_mut();
        shared.cut = true;
        shared.server.lost(now);
    }

    /// Steps so often.
    fn run(&mut self, steps: usize) -> Result<(), Error<Infallible>> {
        let Self { device, pipe, said } = self;
        for _ in 0..steps {
            let now = pipe.0.borrow().now;
            device.step(now, |session, event| match event {
                Event::Connected(ack) => {
                    said.push(Said::Connected(ack.session_present));
                    if !ack.session_present {
                        let filter = Filter::new("to/#").unwrap();
                        let wanted = [Subscription::new(filter, QoS::ExactlyOnce)];
                        session.subscribe(now, &Subscribe::from(&wanted)).unwrap();
                    }
                }
                Event::Subscribed(..) => said.push(Said::Subscribed),
                Event::Acknowledged(..) => said.push(Said::Acknowledged),
                Event::Message(message) if message.remaining == 0 => {
                    let topic = message.topic.name().unwrap();
                    said.push(Said::Message(topic.as_str().into(), message.payload.into()));
                }
                Event::Message(message) => said.push(Said::Long(message.payload.len())),
                Event::Payload { bytes, .. } => match said.last_mut() {
                    Some(Said::Long(len)) => *len += bytes.len(),
                    _ => panic!("of which message?"),
                },
                other => panic!("{other:?}"),
            })?;
        }
        Ok(())
    }
}

fn note(topic: &str, payload: &[u8], qos: QoS) -> Note {
    Note::new(topic, payload, qos)
}

#[test]
fn a_step_never_waits_and_many_do_everything() {
    let mut bench = Bench::new();
    bench.run(200).unwrap();
    assert_eq!(bench.said, [Said::Connected(false), Said::Subscribed]);
    bench.said.clear();
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let now = bench.now();
        let topic = Topic::new("from").unwrap();
        let message = Publish { qos, ..Publish::new(topic, "up") };
        bench.device.session().publish(now, &message).unwrap();
        bench.pipe.0.borrow_mut().server.publish(&note("to/1", b"down", qos));
        bench.run(200).unwrap();
    }
    let down = || Said::Message("to/1".into(), b"down".into());
    let acknowledged = bench.said.iter().filter(|said| **said == Said::Acknowledged).count();
    let messages = bench.said.iter().filter(|said| **said == down()).count();
    assert_eq!((acknowledged, messages, bench.said.len()), (2, 3, 5));
    let shared = bench.pipe.0.borrow();
    assert_eq!(shared.server.accepted.len(), 3);
    assert_eq!(shared.server.undelivered(), 0);
}

#[test]
fn a_message_longer_than_the_buffer_comes_in_parts() {
    let mut bench = Bench::new();
    bench.run(200).unwrap();
    bench.said.clear();
    bench.pipe.0.borrow_mut().server.publish(&note("to/1", &[7; 10_000], QoS::AtLeastOnce));
    bench.run(5_000).unwrap();
    assert_eq!(bench.said, [Said::Long(10_000)]);
    assert_eq!(bench.pipe.0.borrow().server.undelivered(), 0);
}

#[test]
fn the_session_outlives_the_connection() {
    let mut bench = Bench::new();
    bench.run(200).unwrap();
    bench.said.clear();
    let now = bench.now();
    let message =
        Publish { qos: QoS::ExactlyOnce, ..Publish::new(Topic::new("from").unwrap(), "up") };
    bench.device.session().publish(now, &message).unwrap();
    bench.cut();
    assert_eq!(bench.run(50), Err(Error::Closed));
    assert!(bench.run(1).is_err(), "there is no connection");
    bench.pipe.0.borrow_mut().server.publish(&note("to/1", b"down", QoS::ExactlyOnce));
    bench.open();
    bench.run(300).unwrap();
    assert_eq!(bench.said[0], Said::Connected(true));
    assert!(bench.said.contains(&Said::Acknowledged));
    assert!(bench.said.contains(&Said::Message("to/1".into(), b"down".into())));
    assert_eq!(bench.pipe.0.borrow().server.accepted.len(), 1);
}

#[test]
fn a_silent_server_is_noticed() {
    let mut bench = Bench::new();
    bench.run(200).unwrap();
    bench.pipe.0.borrow_mut().server.manners.frozen = true;
    let mut seconds = 0;
    let end = loop {
        bench.pipe.0.borrow_mut().now = bench.now() + 1_000;
        seconds += 1;
        assert!(bench.device.deadline().is_some());
        if let Err(error) = bench.run(20) {
            break error;
        }
    };
    assert_eq!(end, Error::Protocol(mqtt_core::Error::KeepAliveTimeout));
    assert!((15..=16).contains(&seconds), "{seconds}");
}

#[test]
fn a_server_that_ends_the_connection_says_why() {
    let mut bench = Bench::new();
    bench.run(200).unwrap();
    let ended = |bench: &mut Bench| {
        let Bench { device, pipe, .. } = bench;
        let now = pipe.0.borrow().now;
        loop {
            if let Err(error) = device.step(now, |_, _| {}) {
                break error;
            }
        }
    };
    bench.pipe.0.borrow_mut().server.kick(ReasonCode::ServerShuttingDown);
    assert_eq!(ended(&mut bench), Error::Disconnected(ReasonCode::ServerShuttingDown));
    let now = bench.now();
    bench.pipe.0.borrow_mut().server.lost(now);
    bench.pipe.0.borrow_mut().server.manners.terms.reason = ReasonCode::Banned;
    bench.open();
    assert_eq!(ended(&mut bench), Error::Refused(ReasonCode::Banned));
}
