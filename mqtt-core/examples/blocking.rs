#![allow(missing_docs, reason = "the names of an example say enough")]
//! A client over a blocking socket, with nothing but the core: publishes to itself at each QoS,
//! loses its connection, on purpose if not otherwise, opens another and resumes. Run it with
//! `cargo run -p mqtt-core --example blocking -- 127.0.0.1:1883 [3|5]`.

use mqtt_core::{store::*, *};
use std::{io, io::ErrorKind::*, io::prelude::*, net, time};

/// A client, its socket while it has one, and at most `N` bytes in between, each way.
pub struct Driver<S, const N: usize = 4096> {
    pub client: Client<S>,
    pub out: Buffer<N>,
    socket: Option<net::TcpStream>,
    input: Vec<u8>,
    len: usize,
    start: time::Instant,
}

impl<S: Store, const N: usize> Driver<S, N> {
    pub fn new(version: Version, store: S, config: Config) -> Self {
        let client = Client::with_config(version, store, Config { whole: N, ..config });
        let (out, input, start) = (Buffer::new(), vec![0; N], time::Instant::now());
        Self { client, out, socket: None, input, len: 0, start }
    }

    /// Opens a socket for the next connection. The last one is dropped without a word.
    pub fn open(&mut self, address: &str) -> io::Result<()> {
        self.client.closed();
        self.out.clear();
        self.len = 0;
        let socket = self.socket.insert(net::TcpStream::connect(address)?);
        socket.set_write_timeout(Some(time::Duration::from_millis(100)))?; // to notice silence
        socket.set_nodelay(true)
    }

    pub fn now(&self) -> Instant {
        Instant::from_millis(self.start.elapsed().as_millis() as u64)
    }

    /// Sends what there is, waits for bytes or the deadline, at most `wait` ms, and tells all events.
    pub fn step(&mut self, wait: u64, mut on: impl FnMut(&mut Client<S>, Event)) -> io::Result<()> {
        let mut socket = self.socket.take().ok_or(NotConnected)?;
        flush(&mut socket, &mut self.out)?;
        let wait = self.client.deadline().map_or(wait, |at| at.since(self.now()).min(wait));
        socket.set_read_timeout(Some(time::Duration::from_millis(wait.max(1))))?;
        let free = &mut self.input[self.len..];
        self.len += if free.is_empty() { 0 } else { or_idle(socket.read(free))? };
        let mut input = &self.input[..self.len];
        loop {
            match self.client.poll(self.now(), &mut input, &mut self.out) {
                Ok(Some(event)) => on(&mut self.client, event),
                Ok(None) if flush(&mut socket, &mut self.out)? == 0 => break,
                Ok(None) => {}
                Err(error) => {
                    flush(&mut socket, &mut self.out)?;
                    socket.shutdown(net::Shutdown::Write)?;
                    let _ = io::copy(&mut socket, &mut io::sink()); // or a reset overtakes it
                    return Err(io::Error::other(error));
                }
            }
        }
        let taken = self.len - input.len();
        self.input.copy_within(taken..self.len, 0);
        self.len -= taken;
        self.socket = Some(socket);
        Ok(())
    }
}

fn flush<const N: usize>(socket: &mut net::TcpStream, out: &mut Buffer<N>) -> io::Result<usize> {
    let count = if out.is_empty() { 0 } else { or_idle(socket.write(out.as_bytes()))? };
    out.consume(count);
    Ok(count)
}

fn or_idle(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(UnexpectedEof.into()),
        Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => Ok(0),
        result => result,
    }
}

fn round(driver: &mut Driver<impl Store>, to: &str) -> Result<(), Box<dyn std::error::Error>> {
    let expiry = if driver.client.version().is_v5() { 60 } else { 0 };
    let connect = Connect { client_id: Text::new("blocking-example")?, ..Connect::default() };
    let connect = Connect { clean_start: false, session_expiry_interval: expiry, ..connect };
    driver.open(to)?;
    driver.client.connect(driver.now(), &connect, &mut driver.out)?;
    while !driver.client.is_connected() {
        driver.step(1000, |_, event| println!("{event:?}"))?;
    }
    let wanted = [Subscription::new(Filter::new("example/#")?, QoS::ExactlyOnce)];
    driver.client.subscribe(driver.now(), &Subscribe::from(&wanted), &mut driver.out)?;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let message = Publish { qos, ..Publish::new(Topic::new("example/hello")?, "hello") };
        driver.client.publish(driver.now(), &message, &mut driver.out)?;
    }
    let mut arrived = 0;
    while arrived < 3 || driver.client.store().flights() > 0 {
        driver.step(1000, |_, event| {
            arrived += u32::from(matches!(event, Event::Message(_)));
            println!("{event:?}");
        })?;
    }
    Ok(())
}

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".into());
    let v3 = std::env::args().nth(2).is_some_and(|version| version == "3");
    let version = if v3 { Version::V3_1_1 } else { Version::V5 };
    let mut driver = Driver::new(version, Fixed::<16, 4096>::new(), Config::DEFAULT);
    for _ in 0..2 {
        while let Err(error) = round(&mut driver, &address) {
            println!("{error}; again in a second");
            std::thread::sleep(time::Duration::from_secs(1));
        }
    }
}
