//! A broker for eight clients, on a device that moves their bytes: 32 subscriptions, 16 retained
//! messages, packets of up to 1 KB.

#![no_std]
#![no_main]

use mqtt_core::{
    Buffer, Instant,
    broker::{Broker, Config, ConnectionId, Host, SPARE, Small},
};
use size::{Place, choice, clock, keep_last, receive, send, sleep};

const CLIENTS: usize = 8;
const LINES: usize = CLIENTS + SPARE;
const PACKET: usize = 1024;

type Memory = Small<CLIENTS, 32, 1024, 64, { 24 * 1024 }>;

const CONFIG: Config = Config {
    maximum_packet_size: PACKET as u32,
    retained_messages: 16,
    queue_messages: 32,
    queue_bytes: 16 * 1024,
    ..Config::DEFAULT
};

const _: () = assert!(size_of::<Broker<Memory>>() <= 64 * 1024, "as small as promised");

struct Device {
    broker: Broker<Memory>,
    lines: Lines,
}

struct Lines([Line; LINES]);

struct Line {
    connection: Option<ConnectionId>,
    closing: bool,
    out: Buffer<1280>,
    received: [u8; PACKET],
    len: usize,
}

static DEVICE: Place<Device> = Place::new();

impl Lines {
    /// Numbers begin at 0 and are used again, so that there is a line for each.
    fn of(&mut self, connection: ConnectionId) -> &mut Line {
        let [first, rest @ ..] = &mut self.0;
        match connection.index().checked_sub(1) {
            Some(index) => rest.get_mut(index).unwrap_or(first),
            None => first,
        }
    }
}

impl Host for Lines {
    type Sink = Buffer<1280>;

    fn sink(&mut self, to: ConnectionId) -> &mut Buffer<1280> {
        &mut self.of(to).out
    }

    fn close(&mut self, connection: ConnectionId) {
        self.of(connection).closing = true;
    }
}

fn now() -> Instant {
    Instant::from_millis(clock())
}

#[unsafe(no_mangle)]
fn program() -> ! {
    // SAFETY: the program is started once.
    let device = unsafe {
        DEVICE.put(Device {
            broker: Broker::small(CONFIG),
            lines: Lines(
                [const {
                    Line {
                        connection: None,
                        closing: false,
                        out: Buffer::new(),
                        received: [0; PACKET],
                        len: 0,
                    }
                }; LINES],
            ),
        })
    };
    loop {
        if choice() == 1 {
            device.accept();
        }
        for index in 0..LINES {
            device.turn(index);
        }
        device.broker.tick(now(), &mut device.lines);
        sleep(device.broker.deadline().map(Instant::as_millis));
    }
}

impl Device {
    fn accept(&mut self) {
        let Ok(connection) = self.broker.open(now()) else { return };
        let line = self.lines.of(connection);
        line.connection = Some(connection);
        line.closing = false;
        line.len = 0;
        line.out.clear();
    }

    fn turn(&mut self, index: usize) {
        let Some(line) = self.lines.0.get_mut(index) else { return };
        let Some(connection) = line.connection else { return };
        line.len += receive(line.received.get_mut(line.len..).unwrap_or_default());
        // The broker writes to every line while it reads this one.
        let received = line.received;
        let mut input = received.get(..line.len).unwrap_or_default();
        let _ = self.broker.poll(now(), connection, &mut input, &mut self.lines);
        let left = input.len();
        let line = self.lines.of(connection);
        line.len = keep_last(&mut line.received, line.len, left);
        send(line.out.as_bytes());
        line.out.clear();
        if line.closing || choice() == 0 {
            line.connection = None;
            self.broker.closed(now(), connection, &mut self.lines);
        }
    }
}
