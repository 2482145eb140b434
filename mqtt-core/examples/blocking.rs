//! A client over a blocking socket, with nothing but the core: publishes to itself at each QoS,
//! loses its connection on purpose, and resumes.
//!
//! `cargo run -p mqtt-core --example blocking -- 127.0.0.1:1883 [3|5]`

#![allow(missing_docs, dead_code, reason = "others use the driver alone")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant as Clock};

use mqtt_core::{
    Buffer, Client, Connect, Event, Filter, Instant, Publish, QoS, Subscribe, Subscription, Text,
    Topic, Version, store::Fixed, store::Store,
};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A client, its socket, and the bytes in between.
pub struct Driver<S> {
    pub client: Client<S>,
    pub out: Box<Buffer<65_536>>,
    socket: TcpStream,
    received: Vec<u8>,
    start: Clock,
}

impl<S: Store> Driver<S> {
    pub fn new(client: Client<S>, address: &str) -> Result<Self> {
        let (socket, out) = (open(address)?, Box::new(Buffer::new()));
        Ok(Self { client, out, socket, received: Vec::new(), start: Clock::now() })
    }

    /// Drops the connection without a word and opens another.
    pub fn reopen(&mut self, address: &str) -> Result<()> {
        self.client.closed();
        self.received.clear();
        self.out.clear();
        self.socket = open(address)?;
        Ok(())
    }

    pub fn now(&self) -> Instant {
        Instant::from_millis(self.start.elapsed().as_millis() as u64)
    }

    pub fn flush(&mut self) -> Result<()> {
        self.socket.write_all(self.out.as_bytes())?;
        self.out.clear();
        Ok(())
    }

    /// Handles every event there is, then waits for bytes or the deadline, at most `wait`.
    pub fn step(
        &mut self,
        wait: Duration,
        mut handle: impl FnMut(&mut Client<S>, Event<'_>),
    ) -> Result<()> {
        let received = std::mem::take(&mut self.received);
        let mut input = &received[..];
        loop {
            match self.client.poll(self.now(), &mut input, &mut *self.out) {
                Ok(Some(event)) => handle(&mut self.client, event),
                Ok(None) if self.out.is_empty() => break,
                Ok(None) => self.flush()?,
                Err(error) => {
                    self.flush()?;
                    return Err(error.into());
                }
            }
        }
        self.received = input.to_vec();
        let deadline = self.client.deadline().map_or(u64::MAX, |at| at.since(self.now()));
        let wait = wait.min(Duration::from_millis(deadline.max(1)));
        self.socket.set_read_timeout(Some(wait))?;
        let mut chunk = [0; 16_384];
        match self.socket.read(&mut chunk) {
            Ok(0) => return Err("the server closed the connection".into()),
            Ok(len) => self.received.extend_from_slice(&chunk[..len]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn open(address: &str) -> Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:1883".into());
    let v5 = arguments.next().is_none_or(|version| version == "5");
    let (version, expiry) = if v5 { (Version::V5, 60) } else { (Version::V3_1_1, 0) };
    let mut driver = Driver::new(Client::new(version, Fixed::<16, 4096>::new()), &address)?;
    let connect = Connect { client_id: Text::new("blocking-example")?, ..Connect::default() };
    let connect = Connect { session_expiry_interval: expiry, clean_start: false, ..connect };
    for _ in 0..2 {
        driver.client.connect(driver.now(), &connect, &mut *driver.out)?;
        while !driver.client.is_connected() {
            driver.step(Duration::from_secs(1), |_, event| println!("{event:?}"))?;
        }
        let wanted = [Subscription::new(Filter::new("example/#")?, QoS::ExactlyOnce)];
        driver.client.subscribe(driver.now(), &Subscribe::from(&wanted), &mut *driver.out)?;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let message = Publish { qos, ..Publish::new(Topic::new("example/hello")?, "hello") };
            driver.client.publish(driver.now(), &message, &mut *driver.out)?;
        }
        let mut arrived = 0;
        while arrived < 3 || driver.client.store().flights() > 0 {
            driver.step(Duration::from_secs(1), |_, event| {
                arrived += usize::from(matches!(event, Event::Message(_)));
                println!("{event:?}");
            })?;
        }
        driver.reopen(&address)?;
    }
    Ok(())
}
