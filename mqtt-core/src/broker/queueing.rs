//! What waits for a session, and what of it goes when there is too much.

use super::{
    Config, Host, Memory, Overflow, Statistics,
    delivering::earlier,
    memory::{Lent, Numbered, Queue},
    message::{MessageId, Messages, Use},
    recording::{Haste, records, release},
    session::{Backlog, Delivery, Session},
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
            session.backlog.make().is_none_or(|backlog| {
                backlog.waiting >= config.queue_messages
                    || backlog.waiting_bytes + size > config.queue_bytes
                    || !backlog.deliveries.has_room()
            })
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
        let full = is_full(self);
        let backlog = self.backlog.get_mut().filter(|_| !full);
        let Some(index) = backlog.and_then(|backlog| {
            let put = backlog.deliveries.append(messages.number(), delivery);
            backlog.expires = earlier(backlog.expires, messages.expires(delivery.message));
            backlog.waiting += usize::from(put);
            backlog.waiting_bytes += if put { size } else { 0 };
            put.then(|| backlog.deliveries.len() - 1)
        }) else {
            statistics.dropped_overflow += 1;
            return false;
        };
        self.note_delivery(index, messages, host);
        true
    }

    /// What has waited for longest, and its index.
    pub(super) fn oldest(&self) -> Option<(usize, Delivery)> {
        self.backlog.get()?.oldest()
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
        if let Some(backlog) = self.backlog.get_mut() {
            backlog.take(index, messages.size(oldest.message));
        }
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
        let Some(backlog) = self.backlog.get() else { return 0 };
        if backlog.expires.is_none_or(|at| at > now) {
            return 0;
        }
        if records::<M, H>(host) {
            let is_over = |message| messages.expires(message).is_some_and(|at| at <= now);
            for index in backlog.sent..backlog.deliveries.len() {
                let delivery = backlog.deliveries.get(index);
                if delivery.is_some_and(|delivery| delivery.counts && is_over(delivery.message)) {
                    self.note_end(index, Haste::None, host);
                }
            }
        }
        let Some(backlog) = self.backlog.get_mut() else { return 0 };
        let (count, mut index) = (backlog.deliveries.len(), 0);
        let Backlog { deliveries, sent, waiting, waiting_bytes, expires, .. } = backlog;
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
        self.backlog.shed(Backlog::is_empty);
        count
    }

    /// Whether so many bytes more may be on their way; if it is nothing else, any number.
    pub(super) fn takes(&self, size: usize, config: &Config) -> bool {
        self.backlog.get().is_none_or(|backlog| {
            backlog.sent == 0 || backlog.sent_bytes + size <= config.in_flight_bytes
        })
    }
}
