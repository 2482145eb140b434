//! A session's store that outlives the session where that loses nothing.

use mqtt_core::{
    PacketId, QoS, Topic,
    store::{Aliases, Arrival, Capacity, Flight, Full, Outgoing, Store, Unsent},
};

/// A store from which messages at QoS 1 do not vanish with the session, ours at boot or the server's: they
/// are sent again, which at QoS 1 is always allowed. Those at QoS 2 would perhaps be delivered twice.
#[derive(Clone, Debug)]
pub(crate) struct Keep<S>(pub(crate) S);

impl<S: Store> Store for Keep<S> {
    fn clear(&mut self) {
        self.0.rewind();
        for _ in 0..self.0.flights() {
            match self.0.unsent() {
                Some(Unsent { id, flight: Flight::AwaitAck, .. }) => self.0.mark_sent(id),
                Some(Unsent { id, .. }) => self.0.finish(id),
                None => break,
            }
        }
        self.0.rewind();
        self.0.retain_arrivals(|_| false);
    }

    fn capacity(&self) -> Capacity {
        self.0.capacity()
    }

    fn flight(&self, id: PacketId) -> Option<Flight> {
        self.0.flight(id)
    }

    fn flights(&self) -> usize {
        self.0.flights()
    }

    fn unsent_publishes(&self) -> usize {
        self.0.unsent_publishes()
    }

    fn push(&mut self, id: PacketId, qos: QoS, message: Option<&Outgoing<'_>>) -> Result<(), Full> {
        self.0.push(id, qos, message)
    }

    fn release(&mut self, id: PacketId, to: Flight) {
        self.0.release(id, to);
    }

    fn finish(&mut self, id: PacketId) {
        self.0.finish(id);
    }

    fn rewind(&mut self) {
        self.0.rewind();
    }

    fn unsent(&mut self) -> Option<Unsent<'_>> {
        self.0.unsent()
    }

    fn mark_sent(&mut self, id: PacketId) {
        self.0.mark_sent(id);
    }

    fn arrival(&self, id: PacketId) -> Option<Arrival> {
        self.0.arrival(id)
    }

    fn arrivals(&self) -> usize {
        self.0.arrivals()
    }

    fn oldest_unanswered(&self) -> Option<Arrival> {
        self.0.oldest_unanswered()
    }

    fn push_arrival(&mut self, arrival: Arrival) -> Result<(), Full> {
        self.0.push_arrival(arrival)
    }

    fn set_arrival(&mut self, arrival: Arrival) {
        self.0.set_arrival(arrival);
    }

    fn remove_arrival(&mut self, id: PacketId) {
        self.0.remove_arrival(id);
    }

    fn retain_arrivals(&mut self, keep: fn(&mut Arrival) -> bool) {
        self.0.retain_arrivals(keep);
    }

    fn inbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.0.inbound_aliases()
    }

    fn inbound_topic(&self, alias: u16) -> Option<Topic<'_>> {
        self.0.inbound_topic(alias)
    }

    fn outbound_aliases(&mut self) -> Option<&mut dyn Aliases> {
        self.0.outbound_aliases()
    }
}

#[cfg(all(test, feature = "v5"))]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use mqtt_core::{Publish, Version, store::Fixed};

    use super::*;

    #[test]
    fn a_lost_session_loses_no_message_at_qos_1() {
        let mut store = Keep(Fixed::<8, 512>::new());
        let topic = Topic::new("t").unwrap();
        let ids: Vec<_> = (1..=6).map(|id| PacketId::new(id).unwrap()).collect();
        for (id, qos) in ids.iter().zip([1, 2, 1, 2, 2, 1]) {
            let qos = QoS::from_u8(qos).unwrap();
            let publish = Publish { qos, ..Publish::new(topic, "payload") };
            store
                .push(*id, qos, Some(&Outgoing::new(Version::V5, *id, &publish).unwrap()))
                .unwrap();
        }
        store.release(ids[3], Flight::AwaitComp);
        store.clear();
        let mut left = Vec::new();
        while let Some(unsent) = store.unsent() {
            assert!(unsent.decode(Version::V5).is_some());
            let id = unsent.id;
            left.push(id);
            store.mark_sent(id);
        }
        assert_eq!(left, [ids[0], ids[2], ids[5]]);
        assert_eq!(store.flights(), 3);
    }
}
