//! What a client takes from the allocator once it runs: nothing, or with the growing store one
//! allocation for each message that it has to keep. One test: the counts are the process's.

use std::alloc::System;

#[cfg(feature = "alloc")]
use mqtt_core::store::Heap;
use mqtt_core::{
    Ack, Buffer, Client, ConnAck, Connect, Event, Instant, PacketId, Publish, QoS, Topic, Version,
    store::{Fixed, Store},
    wire::{Delivery, Packet},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 1_000;
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A client and what it writes. Its server is whoever calls [`answer`](Self::answer).
struct Pair<S> {
    client: Client<S>,
    version: Version,
    out: Buffer<256>,
    now: Instant,
}

impl<S: Store> Pair<S> {
    fn new(version: Version, store: S) -> Self {
        let client = Client::new(version, store);
        let mut pair = Self { client, version, out: Buffer::new(), now: Instant::default() };
        pair.client.connect(pair.now, &Connect::default(), &mut pair.out).unwrap();
        pair.answer(&Packet::ConnAck(ConnAck::default()));
        pair
    }

    /// The server sends this, after it has read everything.
    fn answer(&mut self, packet: &Packet<'_>) {
        let mut bytes = [0; 256];
        let mut room = &mut bytes[..];
        packet.encode(self.version, &mut room).unwrap();
        let len = 256 - room.len();
        let mut input = &bytes[..len];
        self.out.clear();
        self.now = self.now + 1;
        while !input.is_empty() {
            let event = self.client.poll(self.now, &mut input, &mut self.out).unwrap();
            assert!(!matches!(event, Some(Event::Refused(_) | Event::Disconnected(_))));
        }
    }

    fn publish(&mut self, qos: QoS) {
        let topic = Topic::new("pump/7/status").unwrap();
        let publish = Publish { qos, ..Publish::new(topic, "a reading of the pressure") };
        self.out.clear();
        let id = self.client.publish(self.now, &publish, &mut self.out).unwrap();
        match (qos, id) {
            (QoS::AtLeastOnce, Some(id)) => self.answer(&Packet::PubAck(id, Ack::default())),
            (QoS::ExactlyOnce, Some(id)) => {
                self.answer(&Packet::PubRec(id, Ack::default()));
                self.answer(&Packet::PubComp(id, Ack::default()));
            }
            _ => assert_eq!((qos, id), (QoS::AtMostOnce, None)),
        }
        assert_eq!(self.client.store().flights(), 0);
    }

    fn receive(&mut self, qos: QoS) {
        let topic = Topic::new("pump/7/commands").unwrap();
        let publish = Publish { qos, ..Publish::new(topic, "open") };
        let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::FIRST);
        self.answer(&Packet::Publish(Delivery { packet_id, dup: false }, publish));
        if qos == QoS::ExactlyOnce {
            self.answer(&Packet::PubRel(PacketId::FIRST, Ack::default()));
        }
        assert_eq!(self.client.store().arrivals(), 0);
    }
}

/// The allocations for [`MESSAGES`] messages at each QoS: those published, those received.
fn count<S: Store>(version: Version, store: S) -> [[usize; 3]; 2] {
    let mut pair = Pair::new(version, store);
    let count = |step: &mut dyn FnMut()| {
        (0..MESSAGES).for_each(|_| step());
        let region = Region::new(ALLOCATOR);
        (0..MESSAGES).for_each(|_| step());
        let change = region.change();
        assert_eq!(change.allocations, change.deallocations);
        change.allocations + change.reallocations
    };
    [
        LEVELS.map(|qos| count(&mut || pair.publish(qos))),
        LEVELS.map(|qos| count(&mut || pair.receive(qos))),
    ]
}

fn main() {
    messages_in_steady_state();
    println!("messages_in_steady_state ... ok");
}

fn messages_in_steady_state() {
    for version in [Version::V3_1_1, Version::V5] {
        assert_eq!(count(version, Fixed::<8, 1024>::new()), [[0; 3]; 2]);
        // The packet is kept until it has been acknowledged. Nothing is for those received.
        #[cfg(feature = "alloc")]
        assert_eq!(count(version, Heap::new()), [[0, MESSAGES, MESSAGES], [0; 3]]);
    }
}
