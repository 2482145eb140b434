//! A server that is found by its name.

use std::{cell::Cell, rc::Rc};

use embassy_net::{
    Ipv4Address, Stack,
    udp::{PacketMetadata, UdpSocket},
};
use embassy_time::{Duration, Instant, with_timeout};
use embedded_io_async::ErrorKind;
use mqtt_core::{Version, store::Fixed};
use transport_embassy::{ConnectionError, Options, Reconnect, Status, Watch};

use crate::{
    publishing::options,
    world::{Mqtt, Resources, SERVER, World, leak, server, task},
};

const NAME: &str = "broker.example";

/// What a query for the address of [`NAME`] has after its header.
const QUESTION: &[u8] = b"\x06broker\x07example\0\0\x01\0\x01";

/// What the name server says. May be changed at any time.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Address(Ipv4Address),
    /// There is no such name.
    NameError,
    /// The name has no address of version 4.
    NoData,
    Silence,
}

/// A name server that knows one name, and counts how often it is asked.
#[derive(Debug)]
struct Names {
    answer: Cell<Answer>,
    asked: Cell<u32>,
}

impl Names {
    fn new(answer: Answer) -> Rc<Self> {
        Rc::new(Self { answer: Cell::new(answer), asked: Cell::new(0) })
    }

    async fn serve(self: Rc<Self>, stack: Stack<'static>) {
        let meta = || Box::leak(Box::new([PacketMetadata::EMPTY; 4]));
        let mut socket = UdpSocket::new(stack, meta(), leak(2048), meta(), leak(2048));
        socket.bind(53).unwrap();
        let mut query = [0; 512];
        loop {
            let (len, from) = socket.recv_from(&mut query).await.unwrap();
            self.asked.set(self.asked.get() + 1);
            if let Some(response) = self.respond(&query[..len]) {
                socket.send_to(&response, from).await.unwrap();
            }
        }
    }

    /// RFC 1035, section 4.
    fn respond(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (header, question) = query.split_at(12);
        assert_eq!(question, QUESTION);
        let (code, address) = match self.answer.get() {
            Answer::Address(address) => (0, Some(address)),
            Answer::NameError => (3, None),
            Answer::NoData => (0, None),
            Answer::Silence => return None,
        };
        let mut response = header[..2].to_vec();
        response.extend([0x81, 0x80 | code, 0, 1, 0, address.is_some().into(), 0, 0, 0, 0]);
        response.extend(question);
        if let Some(address) = address {
            response.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04"); // valid for a minute
            response.extend(address.octets());
        }
        Some(response)
    }
}

fn hasty() -> Options<'static> {
    Options {
        connect_timeout: Duration::from_secs(3),
        reconnect: Reconnect { longest: Duration::from_secs(2), ..Reconnect::default() },
        ..options("alice")
    }
}

/// The next failure, which comes in this time.
async fn fails(watch: &mut Watch<'_, Mqtt>, within: Duration) -> ConnectionError {
    let since = Instant::now();
    loop {
        if let Status::Waiting { cause, .. } = watch.next().await {
            assert!(since.elapsed() <= within, "{cause:?} after {:?}", since.elapsed());
            return cause;
        }
    }
}

const NOT_FOUND: ConnectionError = ConnectionError::Transport(ErrorKind::AddrNotAvailable);

/// The client connects in this time.
async fn within(time: Duration, connected: impl Future<Output = bool>) {
    assert_eq!(with_timeout(time, connected).await, Ok(true));
}

/// A delay before an attempt, the attempt, and the end of a socket.
const ATTEMPT: Duration = Duration::from_millis(2_000 + 3_000 + 200);

#[test]
fn a_name_is_asked_for_at_each_attempt() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(hasty());
    let (tcp, listeners) = (world.tcp_to(NAME), world.listeners());
    let names = Names::new(Answer::Address(SERVER));
    let (name_server, wire) = (names.clone().serve(world.server), world.wire.clone());
    let tasks = [task(server.serve(listeners)), task(name_server), task(runner.run(tcp))];
    world.run(tasks, async {
        assert!(client.connected().await);
        assert_eq!(names.asked.get(), 1);
        // The name moves to where nobody is, and back.
        names.answer.set(Answer::Address(Ipv4Address::new(10, 0, 0, 9)));
        let mut watch = client.watch();
        wire.borrow_mut().up = false;
        fails(&mut watch, Duration::from_secs(2)).await;
        wire.borrow_mut().up = true;
        for asked in 2..5 {
            assert_eq!(fails(&mut watch, ATTEMPT).await, ConnectionError::Timeout);
            assert_eq!(names.asked.get(), asked);
        }
        names.answer.set(Answer::Address(SERVER));
        within(ATTEMPT, client.connected()).await;
        assert_eq!(client.status(), Status::Connected { session_present: true });
        assert_eq!(names.asked.get(), 5);
    });
}

#[test]
fn a_name_that_is_not_there_is_told_and_asked_for_again() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(hasty());
    let (tcp, listeners) = (world.tcp_to(NAME), world.listeners());
    let names = Names::new(Answer::NameError);
    let name_server = names.clone().serve(world.server);
    let tasks = [task(server.serve(listeners)), task(name_server), task(runner.run(tcp))];
    world.run(tasks, async {
        let mut watch = client.watch();
        // It is not waited for: the answer has come.
        assert_eq!(fails(&mut watch, Duration::from_millis(100)).await, NOT_FOUND);
        // More often than the stack can have queries at once.
        for answer in [Answer::NameError, Answer::NoData].repeat(4) {
            names.answer.set(answer);
            assert_eq!(fails(&mut watch, Duration::from_millis(2_100)).await, NOT_FOUND);
        }
        names.answer.set(Answer::Address(SERVER));
        within(ATTEMPT, client.connected()).await;
    });
}

#[test]
fn a_name_that_is_not_there_ends_a_client_that_does_not_try_again() {
    let world = World::new(1);
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(Options { retry_first: false, ..hasty() });
    let tcp = world.tcp_to(NAME);
    let names = Names::new(Answer::NameError);
    let name_server = names.clone().serve(world.server);
    world.run([task(name_server)], async {
        assert_eq!(runner.run(tcp).await, Err(NOT_FOUND));
        assert_eq!(client.status(), Status::Ended(Some(NOT_FOUND)));
        assert_eq!(names.asked.get(), 1);
    });
}

#[test]
fn a_name_server_that_is_silent_takes_the_time_to_connect_and_no_more() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(hasty());
    let (tcp, listeners) = (world.tcp_to(NAME), world.listeners());
    let names = Names::new(Answer::Silence);
    let name_server = names.clone().serve(world.server);
    let tasks = [task(server.serve(listeners)), task(name_server), task(runner.run(tcp))];
    world.run(tasks, async {
        let mut watch = client.watch();
        let since = Instant::now();
        assert_eq!(fails(&mut watch, ATTEMPT).await, ConnectionError::Timeout);
        assert_eq!(since.elapsed(), hasty().connect_timeout);
        // More often than the stack can have queries at once: none is left behind.
        for _ in 0..8 {
            assert_eq!(fails(&mut watch, ATTEMPT).await, ConnectionError::Timeout);
        }
        assert!(names.asked.get() >= 9, "{names:?}");
        names.answer.set(Answer::Address(SERVER));
        within(ATTEMPT, client.connected()).await;
    });
}

#[test]
fn a_name_server_that_is_silent_is_given_up_by_the_stack_if_there_is_time() {
    let world = World::new(1);
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (_, mut runner) = resources.split(Options { retry_first: false, ..options("alice") });
    let tcp = world.tcp_to(NAME);
    let name_server = Names::new(Answer::Silence).serve(world.server);
    world.run([task(name_server)], async {
        let since = Instant::now();
        assert_eq!(runner.run(tcp).await, Err(NOT_FOUND));
        assert!(since.elapsed() < Options::default().connect_timeout);
    });
}
