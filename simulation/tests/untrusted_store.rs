//! What is read back from a store is not believed: it may be another program's, or a worn flash's.

use mqtt_core::{
    Config, ConnAck, Event, PacketId, Payload, QoS, ReasonCode,
    store::{Arrival, Capacity, Fixed, Flight, Full, Outgoing, Store, Unsent},
    wire::Packet,
};
use simulation::story::*;

/// A store that gives back something else than it was given.
struct Forged {
    store: Fixed<4, 512>,
    forge: fn(&mut Vec<u8>),
    /// How much of it is given as the first part.
    head: usize,
    packet: Vec<u8>,
}

impl Forged {
    fn new(head: usize, forge: fn(&mut Vec<u8>)) -> Self {
        Self { store: Fixed::new(), forge, head, packet: Vec::new() }
    }
}

impl Store for Forged {
    fn unsent(&mut self) -> Option<Unsent<'_>> {
        let unsent = self.store.unsent()?;
        let (head, payload) = unsent.packet;
        self.packet = [head, payload.as_bytes()].concat();
        if !self.packet.is_empty() {
            (self.forge)(&mut self.packet);
        }
        let (head, rest) = self.packet.split_at(self.head.min(self.packet.len()));
        Some(Unsent { packet: (head, Payload::new(rest)), ..unsent })
    }

    fn capacity(&self) -> Capacity {
        self.store.capacity()
    }

    fn clear(&mut self) {
        self.store.clear();
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        self.store.flight(id)
    }

    fn flights(&self) -> usize {
        self.store.flights()
    }

    fn unsent_publishes(&self) -> usize {
        self.store.unsent_publishes()
    }

    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        self.store.push(id, qos, message)
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        self.store.release(id, to);
    }

    fn finish(&mut self, id: PacketId) {
        self.store.finish(id);
    }

    fn rewind(&mut self) {
        self.store.rewind();
    }

    fn mark_sent(&mut self, id: PacketId) {
        self.store.mark_sent(id);
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.store.arrival(id)
    }

    fn arrivals(&self) -> usize {
        self.store.arrivals()
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.store.oldest_unanswered()
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.store.push_arrival(arrival)
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        self.store.set_arrival(arrival);
    }

    fn remove_arrival(&mut self, id: PacketId) {
        self.store.remove_arrival(id);
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        self.store.retain_arrivals(keep);
    }
}

/// Publishes, resumes, and tells what became of it: sent again, or dropped.
fn is_sent_again(store: Forged, qos: QoS) -> bool {
    let version = mqtt_core::Version::V5;
    let (connect, terms) = (persistent(version), ConnAck::default());
    let mut pair = talk_on(version, store, Config::default(), &connect, terms);
    let id = pair.publish(&message("topic", "payload", qos)).unwrap().unwrap();
    pair.cut();
    pair.server.greeting = Some(ConnAck { session_present: true, ..ConnAck::default() });
    pair.connect(&connect).unwrap();
    assert!(matches!(pair.event(), Event::Connected(_)));
    // Of what may have arrived before it is told when it is released [MQTT-4.3.3-4].
    let sent = pair.server.received.pop_front();
    if let Some(Packet::PubRel(..)) = sent {
        pair.server.send(&Packet::PubComp(id, Default::default()));
    }
    let events = pair.events();
    match sent {
        Some(Packet::Publish(delivery, publish)) => {
            assert_eq!(events, []);
            assert_eq!(delivery.packet_id, Some(id));
            assert_eq!(publish, message("topic", "payload", qos));
            true
        }
        None | Some(Packet::PubRel(..)) => {
            assert_eq!(events, [Event::Dropped(id, ReasonCode::ImplementationSpecificError)]);
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_packet_is_sent_again_if_its_first_part_has_its_whole_head() {
    // Fixed header, topic, identifier, no properties: 2 + 7 + 2 + 1 bytes.
    for head in 0..20 {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let sent = is_sent_again(Forged::new(head, |_| {}), qos);
            assert_eq!(sent, head >= 12, "{head} bytes at {qos:?}");
        }
    }
}

/// [MQTT-3.2.2-18], [MQTT-2.2.1-3], [MQTT-3.3.2-2]
#[test]
fn what_is_not_the_packet_is_dropped() {
    let forgeries: [fn(&mut Vec<u8>); 11] = [
        |packet| packet[0] = 0xc0,
        |packet| packet[0] ^= 0b110, // the other QoS
        |packet| packet[0] &= !0b110,
        |packet| packet[1] += 1,
        |packet| packet[10] += 1, // the identifier
        |packet| packet[5] = b'#',
        |packet| packet[5] = 0xff,
        |packet| packet.truncate(packet.len() - 1),
        |packet| packet.push(0),
        |packet| *packet = vec![packet[0], 11, 0, 1, b't', 0, 1, 3, 0x23, 0, 9, b'x', b'y'],
        |packet| *packet = vec![packet[0], 10, 0, 1, b't', 0, 1, 2, 0x0b, 1, b'x', b'y'],
    ];
    for forge in forgeries {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert!(!is_sent_again(Forged::new(usize::MAX, forge), qos));
        }
    }
}

/// A store that contradicts itself in every answer.
struct Liar;

impl Store for Liar {
    fn capacity(&self) -> Capacity {
        Capacity { flights: 1, arrivals: 1 }
    }

    fn clear(&mut self) {}

    fn flight(&self, _: PacketId) -> Option<Flight> {
        None
    }

    fn flights(&self) -> usize {
        0
    }

    fn unsent_publishes(&self) -> usize {
        1
    }

    fn push(&mut self, _: PacketId, _: QoS, _: Option<&Outgoing<'_>>) -> Result<(), Full> {
        Ok(())
    }

    fn release(&mut self, _: PacketId, _: Flight) {}

    fn finish(&mut self, _: PacketId) {}

    fn rewind(&mut self) {}

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        None
    }

    fn mark_sent(&mut self, _: PacketId) {}

    fn arrival(&self, _: PacketId) -> Option<Arrival> {
        None
    }

    fn arrivals(&self) -> usize {
        usize::MAX
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        None
    }

    fn push_arrival(&mut self, _: Arrival) -> Result<(), Full> {
        Ok(())
    }

    fn set_arrival(&mut self, _: Arrival) {}

    fn remove_arrival(&mut self, _: PacketId) {}

    fn retain_arrivals(&mut self, _: fn(&mut Arrival) -> bool) {}
}

#[test]
fn a_store_that_contradicts_itself_harms_nobody() {
    for version in BOTH {
        let (connect, terms) = (persistent(version), ConnAck::default());
        let mut pair = talk_on(version, Liar, Config::default(), &connect, terms);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let _ = pair.publish(&message("a", "b", qos));
            let delivery =
                mqtt_core::wire::Delivery { packet_id: Some(PacketId::FIRST), dup: false };
            pair.server.send(&Packet::Publish(delivery, message("a", "b", qos)));
            pair.server.send(&Packet::PubRel(PacketId::FIRST, Default::default()));
            pair.server.send(&Packet::PubRec(PacketId::FIRST, Default::default()));
            pair.server.send(&Packet::PubComp(PacketId::FIRST, Default::default()));
            pair.drive();
        }
    }
}
