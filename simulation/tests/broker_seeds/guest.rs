//! A client, as its application knows it.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_core::{Event, PacketId, QoS, Receipt, Version};

/// A message that a client has published at QoS 1 or 2.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) denied: bool,
    pub(crate) outcome: Option<Outcome>,
}

/// How a publish ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged,
    Refused,
    /// With the session.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) version: Version,
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet_size: Option<u32>,
    /// It has asked for a clean start, and no answer has come yet.
    pub(crate) discards: bool,
    /// How many sessions it knows to have begun.
    pub(crate) sessions: usize,
    pub(crate) sent: Vec<Sent>,
    /// Which publish has which identifier.
    live: BTreeMap<PacketId, usize>,
    requests: BTreeSet<PacketId>,
    pub(crate) receipts: Vec<(Receipt, Vec<u8>)>,
    pub(crate) refused: BTreeSet<Vec<u8>>,
    /// How often it has got what, at which QoS.
    pub(crate) got: BTreeMap<(Vec<u8>, QoS), usize>,
}

impl Guest {
    pub(crate) fn new(name: &'static str, version: Version) -> Self {
        Self {
            name,
            version,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            discards: false,
            sessions: 0,
            sent: Vec::new(),
            live: BTreeMap::new(),
            requests: BTreeSet::new(),
            receipts: Vec::new(),
            refused: BTreeSet::new(),
            got: BTreeMap::new(),
        }
    }

    /// It has published something.
    pub(crate) fn published(&mut self, id: PacketId, sent: Sent) {
        let user = self.live.insert(id, self.sent.len());
        assert!(user.is_none() && !self.requests.contains(&id), "{id} is in use [MQTT-2.2.1-3]");
        self.sent.push(sent);
    }

    /// It has asked for something.
    pub(crate) fn asked(&mut self, id: PacketId) {
        let unused = self.requests.insert(id) && !self.live.contains_key(&id);
        assert!(unused, "{id} is in use [MQTT-2.2.1-3]");
    }

    /// Its connection is gone, and what was asked for with it.
    pub(crate) fn lost(&mut self) {
        self.requests.clear();
    }

    pub(crate) fn told(&mut self, event: Event<'static>) {
        match event {
            Event::Connected(ack) => {
                self.discards = false;
                if !ack.session_present {
                    self.sessions += 1;
                    for (_, number) in std::mem::take(&mut self.live) {
                        self.end(number, Outcome::Lost);
                    }
                }
            }
            Event::Message(message) => {
                *self.got.entry((message.payload.into(), message.qos)).or_default() += 1;
                self.receipts
                    .extend(message.receipt.map(|receipt| (receipt, message.payload.into())));
            }
            Event::Acknowledged(id, ack) => {
                let number = self.live.remove(&id).expect("a publish of this identifier");
                let refused = ack.reason.is_error();
                self.end(number, if refused { Outcome::Refused } else { Outcome::Acknowledged });
            }
            Event::Subscribed(id, _) | Event::Unsubscribed(id, _) => {
                assert!(self.requests.remove(&id), "{id} was not asked for");
            }
            Event::Disconnected(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        let before = self.sent[number].outcome.replace(outcome);
        assert_eq!(before, None, "{:?} has two outcomes", self.sent[number]);
    }
}
