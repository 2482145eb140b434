//! The smallest program that does everything a device does: connects with a will, a user and a
//! password, subscribes, publishes and receives at each QoS, keeps the connection alive, notices
//! its end, and resumes.

#![no_std]
#![no_main]

use mqtt_core::{
    Buffer, Client, Connect, Disconnect, Event, Filter, Instant, Publish, QoS, Subscribe,
    Subscription, Text, Topic, TopicName, Version, Will, store::Fixed,
};
use size::{Place, choice, clock, keep_last, receive, send, show, sleep};

const _: () = assert!(size_of::<Client<Fixed<8, 0>>>() <= 512, "as small as promised");

struct Device {
    client: Client<Fixed<8, 1024>>,
    out: Buffer<512>,
    received: [u8; 1024],
    len: usize,
}

static DEVICE: Place<Device> = Place::new();

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

fn now() -> Instant {
    Instant::from_millis(clock())
}

#[unsafe(no_mangle)]
fn program() -> ! {
    // SAFETY: the program is started once.
    let device = unsafe {
        DEVICE.put(Device {
            client: Client::new(version(), Fixed::new()),
            out: Buffer::new(),
            received: [0; 1024],
            len: 0,
        })
    };
    loop {
        device.connect();
        while device.turn() {}
        send(device.out.as_bytes());
        device.client.closed();
        device.out.clear();
        device.len = 0;
    }
}

impl Device {
    fn connect(&mut self) {
        let connect = Connect {
            client_id: NAME,
            clean_start: false,
            will: Some(Will { topic: WILL, payload: b"lost", retain: true, ..Will::default() }),
            user_name: Some(USER),
            password: Some(b"secret"),
            session_expiry_interval: if self.client.version().is_v5() { 3_600 } else { 0 },
            ..Connect::default()
        };
        let _ = self.client.connect(now(), &connect, &mut self.out);
    }

    /// Takes what has been received, sends what is to be sent, and waits. Whether the connection
    /// lasts.
    fn turn(&mut self) -> bool {
        self.len += receive(self.received.get_mut(self.len..).unwrap_or_default());
        let mut input = self.received.get(..self.len).unwrap_or_default();
        loop {
            match self.client.poll(now(), &mut input, &mut self.out) {
                Ok(Some(Event::Connected(ack))) if !ack.session_present => {
                    let wanted = [Subscription::new(COMMANDS, QoS::ExactlyOnce)];
                    let subscribe = Subscribe::from(&wanted);
                    let _ = self.client.subscribe(now(), &subscribe, &mut self.out);
                }
                Ok(Some(Event::Message(message))) => {
                    if let TopicName::Name(topic) = message.topic {
                        show(topic.as_bytes());
                    }
                    show(message.payload);
                }
                Ok(Some(Event::Acknowledged(id, ack))) => {
                    show(&id.get().to_le_bytes());
                    show(&[ack.reason.as_u8()]);
                }
                Ok(Some(Event::Refused(_) | Event::Disconnected(_))) | Err(_) => return false,
                Ok(Some(_)) => {}
                Ok(None) if self.out.is_empty() => break,
                Ok(None) => {
                    send(self.out.as_bytes());
                    self.out.clear();
                }
            }
        }
        let left = input.len();
        self.len = keep_last(&mut self.received, self.len, left);
        if self.client.is_connected() {
            match QoS::from_u8(choice() as u8) {
                Some(qos) => {
                    let reading = choice().to_le_bytes();
                    let publish = Publish { qos, ..Publish::new(READINGS, &reading) };
                    let _ = self.client.publish(now(), &publish, &mut self.out);
                }
                None => {
                    let _ = self.client.disconnect(now(), &Disconnect::default(), &mut self.out);
                    return false;
                }
            }
        }
        sleep(self.client.deadline().map(Instant::as_millis));
        true
    }
}
