//! What waits for a session, and what of it goes when there is too much.

use super::{
    Config, Host, Memory, Overflow, Statistics,
    delivering::earlier,
    memory::Queue,
    message::{MessageId, Messages, Use},
    recording::{Haste, records, release},
    session::{Delivery, Session},
};
use crate::Instant;

impl<M: Memory> Session<M> {
    /// Lets a message wait, if there are not too many already. Whether it waits.
    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        delivery: Delivery,
        messages: &mut M::Messages,
        config: &Config,
        statistics: &mut Statistics,
        host: &mut impl Host,
    ) -> bool {
        let size = messages.size(delivery.message);
        let is_full = |session: &mut Self| {
            session.waiting >= config.queue_messages
                || session.waiting_bytes + size > config.queue_bytes
                || !session.deliveries.has_room()
        };
        if is_full(self) {
            self.drop_expired(now, messages, statistics, host);
        }
        let hopeless = size > config.queue_bytes || config.queue_messages == 0;
        while config.overflow == Overflow::DropOldest
            && !hopeless
            && is_full(self)
            && let Some((_, oldest)) = self.oldest()
            && self.drop_oldest(messages, statistics, host, Some(oldest.message))
        {}
        if is_full(self) || !self.deliveries.push(delivery) {
            statistics.dropped_overflow += 1;
            return false;
        }
        self.note_delivery(self.deliveries.len() - 1, messages, host);
        let expires = messages.expires(delivery.message);
        self.expires = earlier(self.expires, expires);
        self.waiting += 1;
        self.waiting_bytes += size;
        true
    }

    /// What has waited for longest, and its index.
    pub(super) fn oldest(&self) -> Option<(usize, Delivery)> {
        let waiting = (self.sent..self.deliveries.len())
            .map_while(|index| Some((index, *self.deliveries.get(index)?)));
        waiting.into_iter().find(|(_, delivery)| delivery.counts)
    }

    /// Drops what has waited for longest, if nobody else waits for that or it is doomed. Whether it was.
    pub(super) fn drop_oldest(
        &mut self,
        messages: &mut M::Messages,
        statistics: &mut Statistics,
        host: &mut impl Host,
        doomed: Option<MessageId>,
    ) -> bool {
        let Some((index, oldest)) = self.oldest() else { return false };
        if messages.deliveries(oldest.message) != 1 && doomed != Some(oldest.message) {
            return false;
        }
        self.note_end(index, Haste::Urgent, host);
        self.take(index, messages.size(oldest.message));
        release(messages, oldest.message, Use::Sent, host);
        statistics.dropped_overflow += 1;
        true
    }

    /// Drops what has waited for too long. How many were looked at.
    pub(super) fn drop_expired<H: Host>(
        &mut self,
        now: Instant,
        messages: &mut M::Messages,
        statistics: &mut Statistics,
        host: &mut H,
    ) -> usize {
        if self.expires.is_none_or(|at| at > now) {
            return 0;
        }
        if records::<M, H>(host) {
            let is_over = |message| messages.expires(message).is_some_and(|at| at <= now);
            for index in self.sent..self.deliveries.len() {
                let delivery = self.deliveries.get(index);
                if delivery.is_some_and(|delivery| delivery.counts && is_over(delivery.message)) {
                    self.note_end(index, Haste::None, host);
                }
            }
        }
        let (count, mut index) = (self.deliveries.len(), 0);
        let Self { deliveries, sent, waiting, waiting_bytes, expires, .. } = self;
        *expires = None;
        deliveries.retain(|delivery| {
            index += 1;
            let at = messages.expires(delivery.message);
            if index <= *sent || !delivery.counts || at.is_none_or(|at| at > now) {
                *expires = earlier(*expires, at.filter(|at| *at > now));
                return true;
            }
            *waiting -= 1;
            *waiting_bytes -= messages.size(delivery.message);
            release(messages, delivery.message, Use::Sent, host);
            statistics.dropped_expired += 1;
            false
        });
        count
    }

    /// Whether so many bytes more may be on their way; if it is nothing else, any number.
    pub(super) fn takes(&self, size: usize, config: &Config) -> bool {
        self.sent == 0 || self.sent_bytes + size <= config.in_flight_bytes
    }
}
