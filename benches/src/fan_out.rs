//! One publisher, many subscribers: messages through a broker, all but the network.

use mqtt_core::{
    Connect, Instant, PacketId, Publish, QoS, Sink, Subscribe, Subscription, Text, Version,
    broker::{Broker, Config, ConnectionId, Host, Large},
    router::Limits,
    wire::{Decoded, Delivery, Packet},
};

use crate::{Case, Work, packets};

/// How many subscribers there are, and how many instructions a delivery may take at each QoS.
const GATES: [(usize, [u64; 3]); 3] =
    [(1, [3_350, 7_450, 11_600]), (100, [880, 3_150, 5_900]), (10_000, [1_900, 5_100, 7_100])];

/// All cases. A subscriber acknowledges what it gets, which counts.
pub fn cases() -> Vec<Case> {
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let each = |(subscribers, gates): (usize, [u64; 3])| {
        levels.into_iter().zip(gates).map(move |(qos, gate)| fan_out(subscribers, qos, gate))
    };
    GATES.into_iter().flat_map(each).collect()
}

/// How many deliveries are counted.
const DELIVERIES: usize = 10_000;

fn fan_out(subscribers: usize, qos: QoS, gate: u64) -> Case {
    let prepare = move || -> Work {
        let mut hall = Hall::new(subscribers, qos);
        let messages = DELIVERIES / subscribers;
        Box::new(move || assert_eq!(hall.publish(messages, qos), DELIVERIES))
    };
    Case {
        name: format!("1 to {subscribers}, QoS {}, 64 B, per delivery", qos as u8),
        by: "mqtt-core",
        count: DELIVERIES,
        bytes: DELIVERIES * 64,
        gate: Some(gate),
        prepare: Box::new(prepare),
    }
}

/// Outgoing bytes, cleared by whoever reads them.
#[derive(Default)]
struct Outgoing(Vec<u8>);

impl Sink for Outgoing {
    fn room(&self) -> usize {
        self.capacity() - self.0.len()
    }

    fn capacity(&self) -> usize {
        64 * 1024
    }

    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.0.len();
        self.0.resize(start + len, 0);
        self.0.get_mut(start..)
    }
}

struct Lines(Vec<Outgoing>);

impl Host for Lines {
    type Sink = Outgoing;

    fn sink(&mut self, to: ConnectionId) -> &mut Outgoing {
        &mut self.0[to.index()]
    }

    fn close(&mut self, connection: ConnectionId) {
        panic!("{connection:?} is closed")
    }
}

/// A broker with its clients.
struct Hall {
    broker: Broker<Large>,
    lines: Lines,
    publisher: ConnectionId,
    subscribers: Vec<ConnectionId>,
    next: u16,
}

const NOW: Instant = Instant::from_millis(1_000);

impl Hall {
    fn new(subscribers: usize, qos: QoS) -> Self {
        let lines = (0..=subscribers).map(|_| Outgoing::default()).collect();
        let mut broker = Broker::large(Config::default(), 64 << 20, 7, Limits::default());
        let publisher = broker.open(NOW).expect("room");
        let mut hall =
            Self { broker, lines: Lines(lines), publisher, subscribers: Vec::new(), next: 0 };
        hall.connect(publisher, "publisher");
        let Packet::Publish(_, Publish { topic, .. }) = packets::publish(64) else {
            unreachable!()
        };
        let filter = mqtt_core::Filter::new(topic.as_str()).expect("a filter");
        let wanted = [Subscription::new(filter, qos)];
        let subscribe = Packet::Subscribe(PacketId::FIRST, Subscribe::from(&wanted));
        for number in 0..subscribers {
            let connection = hall.broker.open(NOW).expect("room");
            hall.connect(connection, &format!("subscriber-{number}"));
            hall.send(connection, packets::bytes(Version::V3_1_1, &subscribe));
            hall.subscribers.push(connection);
        }
        hall.lines.0.iter_mut().for_each(|line| line.0.clear());
        hall
    }

    fn connect(&mut self, connection: ConnectionId, name: &str) {
        let client_id = Text::new(name).expect("text");
        let connect = Connect { client_id, ..Connect::default() };
        let version = Version::V3_1_1;
        self.send(connection, packets::bytes(version, &Packet::Connect(version, connect)));
    }

    fn send(&mut self, from: ConnectionId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.broker.poll(NOW, from, &mut bytes, &mut self.lines).expect("a connection");
        }
    }

    /// Publishes, and gives the number of messages delivered to the end.
    fn publish(&mut self, messages: usize, qos: QoS) -> usize {
        let mut delivered = 0;
        let Packet::Publish(_, publish) = packets::publish(64) else { unreachable!() };
        for _ in 0..messages {
            self.next = self.next % 1_000 + 1;
            let packet_id = PacketId::new(self.next).filter(|_| qos > QoS::AtMostOnce);
            let delivery = Delivery { packet_id, dup: false };
            let packet = Packet::Publish(delivery, Publish { qos, ..publish });
            self.send(self.publisher, packets::bytes(Version::V3_1_1, &packet));
            self.answer(self.publisher);
            for index in 0..self.subscribers.len() {
                delivered += self.answer(self.subscribers[index]);
            }
        }
        delivered
    }

    /// Answers all that a client was sent; gives the number of messages in it.
    fn answer(&mut self, client: ConnectionId) -> usize {
        let mut messages = 0;
        loop {
            let told = std::mem::take(&mut self.lines.0[client.index()].0);
            if told.is_empty() {
                return messages;
            }
            let (mut rest, mut answers) = (&told[..], [0; 64]);
            let mut to = &mut answers[..];
            while let Ok(Decoded::Packet { packet, len }) = Packet::decode(Version::V3_1_1, rest) {
                rest = &rest[len..];
                let answer = match packet {
                    Packet::Publish(delivery, publish) => {
                        messages += 1;
                        match (delivery.packet_id, publish.qos) {
                            (Some(id), QoS::AtLeastOnce) => Packet::PubAck(id, Default::default()),
                            (Some(id), _) => Packet::PubRec(id, Default::default()),
                            (None, _) => continue,
                        }
                    }
                    Packet::PubRec(id, ack) => Packet::PubRel(id, ack),
                    Packet::PubRel(id, ack) => Packet::PubComp(id, ack),
                    _ => continue,
                };
                answer.encode(Version::V3_1_1, &mut to).expect("room");
            }
            let left = to.len();
            let answered = answers.len() - left;
            self.send(client, &answers[..answered]);
            // The same memory as before.
            if self.lines.0[client.index()].0.is_empty() {
                let mut told = told;
                told.clear();
                self.lines.0[client.index()].0 = told;
                return messages;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_its_work() {
        cases().iter().for_each(|case| case.prepare()());
    }
}
