//! Loads: some publish, some subscribe, as fast as the broker takes it.

use std::{
    io,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use mqtt_core::QoS;

use crate::{
    Size,
    client::{self, Client},
    subject::{Subject, own_cpu},
};

/// Who sends what to whom.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    publishers: usize,
    subscribers: usize,
    qos: QoS,
    /// How many messages of one publisher may be on their way.
    window: usize,
    /// What the broker may take for a delivery, in microseconds of CPU.
    pub(crate) aim: &'static str,
}

/// All of them. Each publisher's topic is its own, and each subscriber wants all.
pub(crate) const LOADS: &[Load] = &[
    Load::new("1 → 1, QoS 0", 1, 1, QoS::AtMostOnce, 1_000, "0.3"),
    Load::new("1 → 1, QoS 1, window 20", 1, 1, QoS::AtLeastOnce, 20, "2.2"),
    Load::new("1 → 1, QoS 1, window 100", 1, 1, QoS::AtLeastOnce, 100, "1.2"),
    Load::new("1 → 1, QoS 2, window 20", 1, 1, QoS::ExactlyOnce, 20, "5"),
    Load::new("1 → 100, QoS 0", 1, 100, QoS::AtMostOnce, 100, "0.3"),
    Load::new("100 → 1, QoS 0", 100, 1, QoS::AtMostOnce, 10, "0.9"),
];

/// What a broker did.
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// The broker's CPU time for a delivery, in microseconds.
    pub(crate) cost: f64,
    /// Deliveries a second.
    pub(crate) rate: f64,
    /// Which share of a core the load itself needed.
    pub(crate) generator: f64,
    /// How many deliveries did not come.
    pub(crate) lost: usize,
}

/// Nothing comes for so long: nothing will.
const SILENCE: Duration = Duration::from_secs(1);

impl Load {
    const fn new(
        name: &'static str,
        publishers: usize,
        subscribers: usize,
        qos: QoS,
        window: usize,
        aim: &'static str,
    ) -> Self {
        Self { name, publishers, subscribers, qos, window, aim }
    }

    pub(crate) fn run(&self, subject: &Subject, size: Size) -> io::Result<Outcome> {
        let mut field = Field::new(self, subject)?;
        let warm = Instant::now() + size.warm_up;
        field.run_while(|_| Instant::now() < warm)?;
        let (before, cpu, own) = (field.received(), subject.cpu()?, own_cpu()?);
        let start = Instant::now();
        field.run_while(|_| start.elapsed() < size.measured)?;
        let (wall, cpu, own) = (start.elapsed(), subject.cpu()? - cpu, own_cpu()? - own);
        let deliveries = (field.received() - before) as f64;
        let lost = field.drain()?;
        if lost > 0 && self.qos > QoS::AtMostOnce {
            return Err(io::Error::other(format!("{}: {lost} deliveries were lost", self.name)));
        }
        Ok(Outcome {
            cost: cpu.as_secs_f64() * 1e6 / deliveries,
            rate: deliveries / wall.as_secs_f64(),
            generator: own.as_secs_f64() / wall.as_secs_f64(),
            lost,
        })
    }
}

/// The clients of a load.
pub(crate) struct Field {
    load: Load,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    /// Those that publish come first.
    clients: Vec<Client>,
    /// Whose turn it is to publish.
    turn: usize,
    /// Deliveries that were given up.
    lost: usize,
    heard: Instant,
}

impl Field {
    pub(crate) fn new(load: &Load, subject: &Subject) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        for number in 0..load.publishers {
            let stream = client::admitted(subject.address, &format!("p{number}"), &[])?;
            let topic = format!("load/{number:03}");
            let ring = (1..=load.window).map(|id| client::publish(&topic, load.qos, id));
            clients.push(Client::new(stream, ring.collect())?);
        }
        for number in 0..load.subscribers {
            let subscribe = client::subscribe("load/+", load.qos);
            let stream = client::admitted(subject.address, &format!("s{number}"), &subscribe)?;
            clients.push(Client::new(stream, Vec::new())?);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut client.stream, Token(number), interest)?;
        }
        Ok(Self {
            load: *load,
            poll,
            events: Events::with_capacity(1_024),
            buffer: vec![0; 256 * 1024],
            clients,
            turn: 0,
            lost: 0,
            heard: Instant::now(),
        })
    }

    fn subscribers(&self) -> &[Client] {
        &self.clients[self.load.publishers..]
    }

    /// All deliveries.
    pub(crate) fn received(&self) -> usize {
        self.subscribers().iter().map(|client| client.received).sum()
    }

    fn sent(&self) -> usize {
        self.clients[..self.load.publishers].iter().map(|client| client.sent).sum()
    }

    /// How many messages are on their way to the one who has most to come.
    fn on_their_way(&self) -> usize {
        let least = self.subscribers().iter().map(|client| client.received).min();
        self.sent() - least.unwrap_or(0) - self.lost
    }

    pub(crate) fn run_while(&mut self, mut more: impl FnMut(&Self) -> bool) -> io::Result<()> {
        while more(self) {
            self.publish()?;
            self.turn()?;
            if self.heard.elapsed() > SILENCE {
                if self.load.qos > QoS::AtMostOnce {
                    return Err(io::Error::other(format!("{}: nothing comes", self.load.name)));
                }
                // What has been dropped makes room.
                self.lost += self.on_their_way();
                self.heard = Instant::now();
            }
        }
        Ok(())
    }

    /// Publishes as much as the windows allow.
    fn publish(&mut self) -> io::Result<()> {
        let Load { publishers, window, qos, .. } = self.load;
        let mut room = (publishers * window).saturating_sub(self.on_their_way());
        for _ in 0..publishers {
            let client = &mut self.clients[self.turn];
            let mut count = room.min(window);
            if qos > QoS::AtMostOnce {
                count = count.min(window - (client.sent - client.completed));
            } else if publishers > 1 && count < window {
                break; // each sends a whole window at once
            }
            if count > 0 {
                client.publish(count);
                client.write()?;
                room -= count;
            }
            self.turn = (self.turn + 1) % publishers;
        }
        Ok(())
    }

    /// Reads and writes what is ready.
    fn turn(&mut self) -> io::Result<()> {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(50)))?;
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            if event.is_readable() {
                self.heard = Instant::now();
                client.read(&mut self.buffer)?;
            }
            client.write()?;
        }
        Ok(())
    }

    /// Waits for what is on its way, and gives the number of deliveries that do not come.
    fn drain(&mut self) -> io::Result<usize> {
        self.heard = Instant::now();
        let wanted = self.sent() * self.load.subscribers;
        while self.received() < wanted && self.heard.elapsed() < SILENCE {
            self.turn()?;
        }
        Ok(wanted - self.received())
    }
}
