//! What a client takes from the allocator for each message once it runs: the packet that it keeps until
//! it is acknowledged, the payload of one that it receives, and nothing else. One test: the counts are
//! the process's.

use std::{
    alloc::System,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use mqtt_core::{
    Ack, Buffer, ConnAck, PacketId, Property, Publish, ReasonCode, SubAck, Topic,
    wire::{self, Decoded, Packet},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transport_tokio::{Client, Messages, Options, QoS, Version};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const PAYLOAD: &[u8] = &[b'x'; 64];

/// How often something is done: to get into its stride, and then to be counted.
const TIMES: usize = 1_000;

/// How many messages are on their way together.
const AT_ONCE: usize = 20;

/// A server that answers at once, and the wire to it. It allocates nothing.
struct Server {
    version: Version,
    /// The identifier of the subscription there is, at 5.0.
    subscription: Option<u32>,
    /// The identifier of the last message.
    last: PacketId,
    /// What the client has not read yet.
    down: Buffer<4096>,
    reader: Option<Waker>,
}

impl Server {
    fn send(&mut self, packet: &Packet<'_>) {
        packet.encode(self.version, &mut self.down).expect("room");
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn publish(&mut self, qos: QoS) {
        let list = self.subscription.map(Property::SubscriptionIdentifier);
        let topic = Topic::new("pump/7/commands").expect("a topic");
        let properties = list.as_slice().into();
        let publish = Publish { qos, properties, ..Publish::new(topic, PAYLOAD) };
        self.last = PacketId::new(self.last.get().wrapping_add(1)).unwrap_or(PacketId::FIRST);
        let packet_id = (qos != QoS::AtMostOnce).then_some(self.last);
        self.send(&Packet::Publish(wire::Delivery { packet_id, dup: false }, publish));
    }

    fn answer(&mut self, packet: &Packet<'_>) {
        match *packet {
            Packet::Connect(..) => self.send(&Packet::ConnAck(ConnAck::default())),
            Packet::Subscribe(id, subscribe) => {
                self.subscription = subscribe.properties.subscription_identifier();
                let reasons = (&[ReasonCode::GrantedQoS2]).into();
                self.send(&Packet::SubAck(id, SubAck { reasons, ..SubAck::default() }));
            }
            Packet::Publish(wire::Delivery { packet_id: Some(id), .. }, publish) => {
                self.send(&match publish.qos {
                    QoS::AtLeastOnce => Packet::PubAck(id, Ack::default()),
                    _ => Packet::PubRec(id, Ack::default()),
                });
            }
            Packet::PubRec(id, _) => self.send(&Packet::PubRel(id, Ack::default())),
            Packet::PubRel(id, _) => self.send(&Packet::PubComp(id, Ack::default())),
            _ => {}
        }
    }
}

/// The client's end.
#[derive(Clone)]
struct Wire(Arc<Mutex<Server>>);

impl Wire {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().expect("a server")
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut server = self.server();
        if server.down.is_empty() {
            server.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = server.down.len().min(buffer.remaining());
        buffer.put_slice(&server.down.as_bytes()[..count]);
        server.down.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut server = self.server();
        let mut rest = bytes;
        while !rest.is_empty() {
            let decoded = Packet::decode(server.version, rest).expect("a packet");
            let Decoded::Packet { packet, len } = decoded else { panic!("a part of one") };
            server.answer(&packet);
            rest = &rest[len..];
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn publish(client: &Client, qos: QoS) {
    let payload = Bytes::from_static(PAYLOAD);
    client.publish("pump/7/status", payload).qos(qos).await.expect("an outcome");
}

async fn publish_at_once(client: &Client, qos: QoS) {
    let mut deliveries = [const { None }; AT_ONCE];
    for delivery in &mut deliveries {
        let publish = client.publish("pump/7/status", Bytes::from_static(PAYLOAD)).qos(qos);
        *delivery = Some(publish.accepted().await.expect("room"));
    }
    for delivery in deliveries.into_iter().flatten() {
        delivery.await.expect("an outcome");
    }
}

async fn receive(wire: &Wire, messages: &mut Messages, qos: QoS) {
    wire.server().publish(qos);
    let message = messages.next().await.expect("a message");
    assert_eq!((message.qos, &message.payload[..]), (qos, PAYLOAD));
}

/// The allocations for [`TIMES`] times what `act` does, after as many that are not counted.
async fn count(mut act: impl AsyncFnMut()) -> usize {
    let mut repeat = async || {
        for _ in 0..TIMES {
            act().await;
            tokio::task::yield_now().await; // at QoS 0 nothing else lets the driver have its turn
        }
    };
    repeat().await;
    let region = Region::new(ALLOCATOR);
    repeat().await;
    let change = region.change();
    change.allocations + change.reallocations
}

async fn messages_in_steady_state(version: Version) {
    let server = Server {
        version,
        subscription: None,
        last: PacketId::FIRST,
        down: Buffer::new(),
        reader: None,
    };
    let wire = Wire(Arc::new(Mutex::new(server)));
    let opened = wire.clone();
    let connector = move || std::future::ready(Ok(opened.clone()));
    let options = Options { version, keep_alive: 0, ..Options::default() };
    let client = Client::connect_with(connector, options).await.expect("a connection");
    let mut messages = client.subscribe("pump/+/commands", QoS::ExactlyOnce).await.expect("it");
    let [mut published, mut at_once, mut received] = [[0; 3]; 3];
    for (index, qos) in LEVELS.into_iter().enumerate() {
        published[index] = count(async || publish(&client, qos).await).await;
        at_once[index] = count(async || publish_at_once(&client, qos).await).await;
        received[index] = count(async || receive(&wire, &mut messages, qos).await).await;
    }
    // The packet, which is kept until the server has taken it.
    assert_eq!(published, [0, TIMES, TIMES]);
    assert_eq!(at_once, [0, TIMES * AT_ONCE, TIMES * AT_ONCE]);
    // The payload.
    assert_eq!(received, [TIMES; 3]);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        for version in [Version::V3_1_1, Version::V5] {
            messages_in_steady_state(version).await;
        }
    });
    println!("messages_in_steady_state ... ok");
}
