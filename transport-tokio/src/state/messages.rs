//! Messages that have arrived, and their acknowledgements.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_core::{Instant, QoS, ReasonCode, Receipt, SendError, Topic};

use super::{Shares, State};
use crate::{
    inbox::{Delivery, Inbox, Pushed},
    message::{Identifiers, Message, PublishProperties},
    routes::Reader,
};

impl State {
    /// Gives a message to everybody who reads it.
    pub(crate) fn deliver(&mut self, now: Instant, arrived: Arrived, topic: Topic<'_>) {
        self.counters.received += 1;
        let (topic, readers) = self.routes.find(topic);
        let Arrived { payload, qos, retain, dup, properties, identifiers, receipt } = arrived;
        let message = Message { topic, payload, qos, retain, dup, properties };
        let connection = self.connection;
        // A server may send a message once for each subscription: then each stream gets its own copy.
        let told = identifiers.iter().any(|id| self.subscriptions.has_identifier(id));
        let wanted = |reader: &&Reader| !told || reader.is_meant(&identifiers);
        let count = if told { readers.iter().filter(wanted).count() } else { readers.len() };
        if count == 0 {
            return self.unclaimed(now, &message, receipt);
        }
        if let Some(receipt) = receipt.filter(|_| count > 1) {
            self.shared.insert(receipt, Shares { readers: count, qos, connection });
        }
        let mut readers = readers.iter().filter(wanted);
        for reader in readers.by_ref().take(count - 1) {
            let message = message.clone();
            self.push(&reader.inbox, Delivery { message, receipt, connection });
        }
        if let Some(last) = readers.next() {
            self.push(&last.inbox, Delivery { message, receipt, connection });
        }
    }

    /// Nobody reads it.
    fn unclaimed(&mut self, now: Instant, message: &Message, receipt: Option<Receipt>) {
        self.counters.unclaimed += 1;
        if let Some(receipt) = receipt {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    topic = %message.topic,
                    "a message that no stream reads was acknowledged; more are only counted"
                );
            }
            self.answer(now, receipt, ReasonCode::Success);
        }
    }

    fn push(&mut self, inbox: &Arc<Inbox>, delivery: Delivery) {
        match inbox.push(delivery) {
            Pushed::Kept(reader) => self.wakers.extend(reader),
            Pushed::Crowded(reader) => {
                self.wakers.extend(reader);
                self.crowded.push(Arc::clone(inbox));
            }
            Pushed::Dropped => {
                self.counters.dropped += 1;
                tracing::debug!("a stream is not read: a message at QoS 0 was dropped");
            }
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
    pub(crate) identifiers: Identifiers,
    pub(crate) receipt: Option<Receipt>,
}
