use embassy_futures::{join::join, select::select};
use embassy_net::tcp::TcpSocket;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embedded_io_async::{ErrorType, Read, Seek, SeekFrom, Write};
use mqtt_core::{Connect, Publish, QoS, ReasonCode, Topic, Version, store::Fixed};
use transport_embassy::{
    Cut, Inbox, Options, Outbox, PublishError, Resources, Sizes, Subscriptions, Waiting,
};

use crate::{
    publishing::options,
    world::{World, leak, sleep, task},
};

/// Two kilobytes to receive in, and half of one to send from.
struct Narrow;

impl Sizes for Narrow {
    type Mutex = NoopRawMutex;
    type Store = Fixed<4, 256>;
    type Inbox = Inbox<2, 1024>;
    type Outbox = Outbox<512>;
    type Subscriptions = Subscriptions<1, 16>;
    type Waiting = Waiting<4>;
}

const MEGABYTE: usize = 1024 * 1024;

const fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// A server that says what it is told to.
struct Script(TcpSocket<'static>);

impl Script {
    async fn accept(world: &World) -> Self {
        let mut socket = TcpSocket::new(world.server, leak(4096), leak(4096));
        socket.accept(1883).await.unwrap();
        let mut script = Self(socket);
        assert_eq!(script.packet().await[0], 0x10);
        script.say(b"\x20\x03\x01\0\0").await; // the session is present
        script
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The fixed header of what comes next: its first byte, and how much is behind it.
    async fn header(&mut self) -> (u8, usize) {
        let (mut byte, mut remaining, mut shift) = ([0], 0, 0);
        self.0.read_exact(&mut byte).await.unwrap();
        let first = byte[0];
        loop {
            self.0.read_exact(&mut byte).await.unwrap();
            remaining |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                return (first, remaining);
            }
        }
    }

    async fn packet(&mut self) -> Vec<u8> {
        let (first, len) = self.header().await;
        let mut packet = vec![0; len + 1];
        packet[0] = first;
        self.0.read_exact(&mut packet[1..]).await.unwrap();
        packet
    }

    /// Sends a message of a megabyte, or its first bytes.
    async fn send_long(&mut self, first: u8, bytes: usize) {
        let mut head = vec![first];
        let mut remaining = 3 + 2 * usize::from(first & 6 != 0) + 1 + MEGABYTE;
        while remaining > 0 {
            let more = if remaining > 0x7f { 0x80 } else { 0 };
            head.push((remaining & 0x7f) as u8 | more);
            remaining >>= 7;
        }
        head.extend(b"\0\x01t");
        if first & 6 != 0 {
            head.extend(b"\0\x09");
        }
        head.push(0); // no properties
        self.say(&head).await;
        for at in (0..bytes).step_by(1000) {
            let piece: Vec<_> = (at..bytes.min(at + 1000)).map(byte).collect();
            self.say(&piece).await;
        }
    }

    /// Takes a long message, or so many bytes of its payload. Its first byte.
    async fn take_long(&mut self, qos: QoS, bytes: usize) -> u8 {
        let (first, len) = self.header().await;
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        assert_eq!(len, 3 + id + 1 + MEGABYTE);
        let mut head = vec![0; 4 + id];
        self.0.read_exact(&mut head).await.unwrap();
        let mut buffer = [0; 1000];
        let mut at = 0;
        while at < bytes {
            let len = self.0.read(&mut buffer[..1000.min(bytes - at)]).await.unwrap();
            for (i, got) in buffer[..len].iter().enumerate() {
                assert_eq!(*got, byte(at + i), "at {}", at + i);
            }
            at += len;
        }
        first
    }
}

fn world<T>(act: impl AsyncFnOnce(&World, &transport_embassy::Client<'_, Narrow>) -> T) -> T {
    let mut world = World::new(1);
    let nets = std::mem::take(&mut world.net);
    let mut resources = Resources::<Narrow>::new(Version::V5, Fixed::new());
    let connect = Connect { clean_start: false, ..options("alice").connect };
    let (client, mut runner) = resources.split(Options { connect, ..options("alice") });
    let running = runner.run(world.tcp());
    let tasks: Vec<_> = nets.into_iter().chain([task(running)]).collect();
    crate::world::block_on(tasks, act(&world, &client))
}

#[test]
fn a_megabyte_comes_through_two_kilobytes() {
    for (first, qos) in
        [(0x30, QoS::AtMostOnce), (0x32, QoS::AtLeastOnce), (0x34, QoS::ExactlyOnce)]
    {
        world(async |world, client| {
            let mut server = Script::accept(world).await;
            let serving = async {
                server.send_long(first, MEGABYTE).await;
                server.say(b"\x30\x05\0\x01u\0!").await; // and a short one
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => assert_eq!(server.packet().await, b"\x40\0\x09"),
                    QoS::ExactlyOnce => assert_eq!(server.packet().await, b"\x50\0\x09"),
                }
            };
            let receiving = async {
                let message = client.receive().await.unwrap();
                assert_eq!((message.topic(), message.qos()), ("t", qos));
                assert!(message.payload().len() < 1024 && message.remaining() > 0);
                assert_eq!(message.payload().len() + message.remaining() as usize, MEGABYTE);
                let mut payload = message.into_payload();
                let mut at = 0;
                while let Some(part) = payload.next().await.unwrap() {
                    assert!(part.iter().enumerate().all(|(i, got)| *got == byte(at + i)));
                    at += part.len();
                }
                assert_eq!(at, MEGABYTE);
                drop(payload); // acknowledged
                assert_eq!(client.receive().await.unwrap().payload(), b"!");
            };
            join(serving, receiving).await;
        });
    }
}

#[test]
fn a_payload_can_be_read() {
    world(async |world, client| {
        let mut server = Script::accept(world).await;
        let receiving = async {
            let mut payload = client.receive().await.unwrap().into_payload();
            let mut all = vec![0; MEGABYTE];
            payload.read_exact(&mut all).await.unwrap();
            assert!(all.iter().enumerate().all(|(at, got)| *got == byte(at)));
            assert_eq!(payload.read(&mut all).await, Ok(0));
        };
        join(server.send_long(0x32, MEGABYTE), receiving).await;
    });
}

#[test]
fn what_is_not_wanted_of_a_long_message_is_passed_over_and_acknowledged() {
    world(async |world, client| {
        let mut server = Script::accept(world).await;
        let serving = async {
            for _ in 0..3 {
                server.send_long(0x32, MEGABYTE).await;
                assert_eq!(server.packet().await, b"\x40\0\x09");
            }
        };
        let receiving = async {
            drop(client.receive().await.unwrap());
            assert!(client.receive().await.unwrap().hold().is_none());
            let mut payload = client.receive().await.unwrap().into_payload();
            for _ in 0..10 {
                payload.next().await.unwrap().unwrap();
            }
        };
        join(serving, receiving).await;
    });
}

#[test]
fn a_long_message_that_is_cut_off_comes_again() {
    world(async |world, client| {
        let mut server = Script::accept(world).await;
        let receiving = async {
            let mut payload = client.receive().await.unwrap().into_payload();
            let mut at = 0;
            let end = loop {
                match payload.next().await {
                    Ok(Some(part)) => at += part.len(),
                    end => break end.map(drop),
                }
            };
            assert_eq!(end, Err(Cut));
            assert!(at > 400_000 && at <= 500_000);
            drop(payload);
            let mut again = client.receive().await.unwrap().into_payload();
            while again.next().await.unwrap().is_some() {}
            assert_eq!(again.remaining(), 0);
        };
        let serving = async {
            server.send_long(0x34, 500_000).await;
            sleep(1_000).await;
            server.0.abort();
            let mut server = Script::accept(world).await;
            server.send_long(0x3c, MEGABYTE).await;
            assert_eq!(server.packet().await, b"\x50\0\x09");
        };
        join(serving, receiving).await;
    });
}

/// What is to be sent.
struct Pattern {
    at: usize,
    end: usize,
}

impl ErrorType for Pattern {
    type Error = core::convert::Infallible;
}

impl Read for Pattern {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let len = buf.len().min(self.end - self.at).min(77);
        for byte_of in &mut buf[..len] {
            *byte_of = byte(self.at);
            self.at += 1;
        }
        Ok(len)
    }
}

impl Seek for Pattern {
    async fn seek(&mut self, pos: SeekFrom) -> Result<u64, Self::Error> {
        let SeekFrom::Start(at) = pos else { panic!("only to the start") };
        self.at = at as usize;
        Ok(at)
    }
}

fn head(qos: QoS) -> Publish<'static> {
    Publish { qos, ..Publish::new(Topic::new("t").unwrap(), "") }
}

#[test]
fn a_megabyte_leaves_through_half_a_kilobyte_and_again_if_it_must() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        world(async |world, client| {
            let mut server = Script::accept(world).await;
            let source = Pattern { at: 0, end: MEGABYTE };
            let head = head(qos);
            let publishing = client.publish_streamed(&head, MEGABYTE, source);
            let serving = async {
                server.take_long(qos, 300_000).await;
                server.0.abort(); // in the middle
                let mut server = Script::accept(world).await;
                assert_ne!(server.take_long(qos, MEGABYTE).await & 8, 0, "it is a duplicate");
                server.0.abort(); // before the acknowledgement
                let mut server = Script::accept(world).await;
                server.take_long(qos, MEGABYTE).await;
                if qos == QoS::AtLeastOnce {
                    server.say(b"\x40\x02\0\x01").await;
                } else {
                    server.say(b"\x50\x02\0\x01").await;
                    assert_eq!(server.packet().await, b"\x62\0\x01");
                    server.say(b"\x70\x02\0\x01").await;
                }
                sleep(100).await;
            };
            let (published, ()) = join(publishing, serving).await;
            assert_eq!(published, Ok(ReasonCode::Success));
        });
    }
}

#[test]
fn others_wait_while_a_payload_leaves() {
    world(async |world, client| {
        let mut server = Script::accept(world).await;
        let source = Pattern { at: 0, end: MEGABYTE };
        let head = head(QoS::AtMostOnce);
        let streaming = client.publish_streamed(&head, MEGABYTE, source);
        let other = async {
            sleep(1).await;
            client.publish(&Publish::new(Topic::new("u").unwrap(), "!")).await
        };
        let serving = async {
            server.take_long(QoS::AtMostOnce, MEGABYTE).await;
            assert_eq!(server.packet().await, b"\x30\0\x01u\0!");
        };
        let ((streamed, other), ()) = join(join(streaming, other), serving).await;
        assert_eq!((streamed, other), (Ok(ReasonCode::Success), Ok(ReasonCode::Success)));
    });
}

#[test]
fn a_payload_left_half_way_takes_the_connection_with_it_and_nothing_else() {
    world(async |world, client| {
        let mut server = Script::accept(world).await;
        // One that ends too early, and one whose future is dropped.
        let source = Pattern { at: 0, end: 1_000 };
        let short = head(QoS::AtLeastOnce);
        let failed = client.publish_streamed(&short, MEGABYTE, source).await;
        assert_eq!(failed, Err(PublishError::Source));
        drop(server);
        server = Script::accept(world).await;
        let source = Pattern { at: 0, end: MEGABYTE };
        let streaming = client.publish_streamed(&short, MEGABYTE, source);
        assert!(select(streaming, sleep(20)).await.is_second());
        drop(server);
        server = Script::accept(world).await;
        // Neither is asked for again, and others go on.
        let other =
            Publish { qos: QoS::AtLeastOnce, ..Publish::new(Topic::new("u").unwrap(), "!") };
        let serving = async {
            assert_eq!(server.packet().await, b"\x32\0\x01u\0\x03\0!");
            server.say(b"\x40\x02\0\x03").await;
        };
        let (published, ()) = join(client.publish(&other), serving).await;
        assert_eq!(published, Ok(ReasonCode::Success));
    });
}
