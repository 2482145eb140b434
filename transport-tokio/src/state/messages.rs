//! Messages that have arrived, and their acknowledgements.

use bytes::Bytes;
use mqtt_core::{Instant, QoS, ReasonCode, Receipt, SendError, Topic};

use super::{Shares, State};
use crate::{
    inbox::{Delivery, Inbox, Pushed},
    message::{Message, PublishProperties},
};

impl State {
    /// Gives a message to everybody who reads it.
    pub(crate) fn deliver(&mut self, now: Instant, arrived: Arrived, topic: Topic<'_>) {
        self.counters.received += 1;
        let (topic, readers) = self.routes.find(topic);
        let Arrived { payload, qos, retain, dup, properties, receipt } = arrived;
        let message = Message { topic, payload, qos, retain, dup, properties };
        let connection = self.connection;
        let Some((last, others)) = readers.split_last() else {
            self.counters.unclaimed += 1;
            if let Some(receipt) = receipt {
                self.answer(now, receipt, ReasonCode::Success);
            }
            return;
        };
        if let Some(receipt) = receipt.filter(|_| !others.is_empty()) {
            self.shared.insert(receipt, Shares { readers: readers.len(), qos, connection });
        }
        for inbox in others {
            self.push(inbox, Delivery { message: message.clone(), receipt, connection });
        }
        self.push(last, Delivery { message, receipt, connection });
    }

    fn push(&mut self, inbox: &Inbox, delivery: Delivery) {
        match inbox.push(delivery) {
            Pushed::Kept(reader) => self.wakers.extend(reader),
            Pushed::Dropped => self.counters.dropped += 1,
        }
    }

    /// Whether nobody else has still to acknowledge the message.
    pub(super) fn is_last(&mut self, receipt: Receipt) -> bool {
        let Some(shares) = self.shared.get_mut(&receipt) else { return true };
        shares.readers -= 1;
        let last = shares.readers == 0;
        if last {
            self.shared.remove(&receipt);
        }
        last
    }

    pub(super) fn answer(&mut self, now: Instant, receipt: Receipt, reason: ReasonCode) {
        match self.machine.acknowledge(now, receipt, reason, &mut self.out) {
            Err(SendError::NoRoom | SendError::Streaming) => self.answers.push((receipt, reason)),
            // What the server cannot be told, or would not take, is not refused but accepted.
            Err(SendError::Invalid(_) | SendError::TooLarge) if reason != ReasonCode::Success => {
                self.answer(now, receipt, ReasonCode::Success);
            }
            _ => {} // done, or a message that comes again
        }
    }
}

/// What has arrived, apart from its topic.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) properties: Option<Box<PublishProperties>>,
    pub(crate) receipt: Option<Receipt>,
}
