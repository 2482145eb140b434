//! Publishes, from their acceptance to their outcome.

use std::task::{Context, Poll, Waker};

use mqtt_core::{
    Instant, PacketId, QoS, Version,
    store::{Flight, Outgoing, Store},
};

use super::State;
use crate::{
    error::{Invalid, PublishError},
    kept::{self, QUEUED},
    outcome::{Key, Outcome, Published},
    queue::{Draft, Queued, Waiter},
};

/// The first number in the queue: there is room before it, for messages that are to be sent again.
pub(super) const FIRST_NUMBER: u64 = 1 << 32;

/// Publishing.
impl State {
    /// Accepts a message, for which an outcome is then due at QoS 1 and 2. `None` if there is no room.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        draft: &mut Draft<'_>,
    ) -> Result<Option<Accepted>, PublishError> {
        if self.closed || self.closing.is_some() {
            return Err(PublishError::Closed);
        }
        if self.queue.is_empty() && !self.queue.has_line() {
            let expiry = draft.expiry();
            if let Some(sent) = self.send(now, draft, expiry)? {
                self.counters.published[draft.qos as usize] += 1;
                let key = sent.map(|id| self.expect(id));
                return Ok(Some(Accepted { key }));
            }
        } else {
            draft.with_packet(None, |_| ())?; // or it would be refused when its turn comes
        }
        if !self.queue.admits(draft.len()) {
            return Ok(None);
        }
        let key = (draft.qos != QoS::AtMostOnce).then(|| self.outcomes.expect());
        let until = expires(now, draft);
        self.enqueue(draft.take(), until, key);
        Ok(Some(Accepted { key }))
    }

    /// Lets a message for which there is no room wait for it.
    pub(crate) fn wait(&mut self, now: Instant, draft: &mut Draft<'_>, waker: Waker) -> Ticket {
        let key = self.outcomes.expect();
        let until = expires(now, draft);
        let number = self.queue.wait(Waiter { draft: draft.take(), until, key, waker });
        Ticket { number, key }
    }

    /// Whether a message that waited has been accepted. Its key then has an outcome at every QoS.
    pub(crate) fn poll_ticket(
        &mut self,
        ticket: Ticket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Accepted, PublishError>> {
        if let Some(waiter) = self.queue.waiter(ticket.number) {
            waiter.waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(match self.outcomes.take_error(ticket.key) {
            Some(error) => Err(error),
            None => Ok(Accepted { key: Some(ticket.key) }),
        })
    }

    /// Takes a message back, if it has not been accepted.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) {
        if self.queue.leave(ticket.number).is_some() {
            self.outcomes.release(ticket.key);
            self.admit();
        } else {
            self.outcomes.detach(ticket.key);
        }
    }

    /// Accepts the messages that have waited longest, as far as there is room. Whether there were any.
    fn admit(&mut self) -> bool {
        let mut admitted = false;
        while let Some(Waiter { draft, until, key, waker }) = self.queue.next_admitted() {
            admitted = true;
            self.wakers.push(waker);
            if draft.qos == QoS::AtMostOnce {
                self.wakers.extend(self.outcomes.complete(key, Ok(Published::SUCCESS)));
                self.enqueue(draft, until, None);
            } else {
                self.enqueue(draft, until, Some(key));
            }
        }
        admitted
    }

    /// Refuses all messages that wait for room.
    pub(super) fn dismiss(&mut self) {
        for Waiter { key, waker, .. } in self.queue.dismiss() {
            self.wakers.extend(self.outcomes.complete(key, Err(PublishError::Closed)));
            self.wakers.push(waker);
        }
    }

    fn expect(&mut self, id: PacketId) -> Key {
        let key = self.outcomes.expect();
        self.flights.insert(id, key);
        key
    }

    fn enqueue(&mut self, draft: Draft<'static>, until: Option<Instant>, key: Option<Key>) {
        let number = self.next_number;
        self.next_number += 1;
        if draft.qos != QoS::AtMostOnce {
            self.keep_queued(number, &draft);
        }
        self.queue.push(Queued { draft, key, until, number });
    }

    /// Notes a message that waits in the journal. One that makes no packet will be told so when its
    /// turn comes.
    fn keep_queued(&mut self, number: u64, draft: &Draft<'_>) {
        let version = self.machine.version();
        let kept = self.machine.store_mut();
        if !kept.has_journal() {
            return;
        }
        let _ = draft.with_packet(draft.expiry(), |publish| {
            if let Ok(outgoing) = Outgoing::new(version, QUEUED, publish) {
                kept.queue(number, &outgoing);
            }
        });
    }

    /// Gives a message to the machine. `None` if it has to wait.
    fn send(
        &mut self,
        now: Instant,
        draft: &Draft<'_>,
        expiry: Option<u32>,
    ) -> Result<Option<Option<PacketId>>, PublishError> {
        let Self { machine, out, .. } = self;
        let sent = draft.with_packet(expiry, |publish| machine.publish(now, publish, out))?;
        match sent {
            Ok(id) => Ok(Some(id)),
            Err(mqtt_core::PublishError::TooLarge) => Err(PublishError::TooLarge),
            Err(mqtt_core::PublishError::Unsupported(reason)) => {
                Err(PublishError::Unsupported(reason))
            }
            Err(mqtt_core::PublishError::Invalid(error)) => {
                Err(PublishError::Invalid(Invalid::Packet(error)))
            }
            Err(_) => Ok(None),
        }
    }

    /// Sends what waits, as far as it may be.
    pub(super) fn drain(&mut self, now: Instant) {
        while self.drain_queue(now) && self.admit() {}
        self.admit();
    }

    /// Whether nothing is left in the queue.
    fn drain_queue(&mut self, now: Instant) -> bool {
        while let Some(queued) = self.queue.front() {
            let remaining = queued.until.map(|until| until.since(now).div_ceil(1_000) as u32);
            let Some(queued) = self.queue.pop() else { break };
            let result = match remaining {
                Some(0) => Err(PublishError::Expired),
                _ => self.send(now, &queued.draft, remaining),
            };
            match result {
                Ok(None) => {
                    self.queue.put_back(std::iter::once(queued));
                    return false;
                }
                Ok(Some(id)) => {
                    self.counters.published[queued.draft.qos as usize] += 1;
                    if let (Some(id), Some(key)) = (id, queued.key) {
                        self.flights.insert(id, key);
                    }
                }
                Err(error) => self.complete(queued.key, Err(error)),
            }
            if queued.draft.qos != QoS::AtMostOnce {
                self.machine.store_mut().unqueue(queued.number);
            }
        }
        true
    }

    /// A publish has ended.
    pub(super) fn complete(&mut self, key: Option<Key>, outcome: Outcome) {
        let counter = match outcome {
            Ok(_) => &mut self.counters.acknowledged,
            Err(_) => &mut self.counters.undelivered,
        };
        *counter += 1;
        match key {
            Some(key) => self.wakers.extend(self.outcomes.complete(key, outcome)),
            None => {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "a publish was not delivered");
                }
            }
        }
    }

    /// The server has answered a publish, or it was given up.
    pub(crate) fn outcome(&mut self, id: PacketId, outcome: Outcome) {
        let key = self.flights.remove(&id);
        self.complete(key, outcome);
    }

    /// Whether everything has been sent and has its outcome.
    pub(crate) fn has_finished(&self) -> bool {
        self.machine.is_connected() && self.unfinished() == 0 && self.out.is_empty()
    }

    /// How many publishes have no outcome yet.
    pub(crate) fn unfinished(&self) -> usize {
        self.machine.store().flights() + self.queue.len()
    }
}

/// Again.
impl State {
    /// What waited when the program ended waits again.
    pub(super) fn restore(&mut self, version: Version, restored: Vec<kept::Queued>) {
        let mut queued = Vec::with_capacity(restored.len());
        for kept in restored {
            self.first_number = self.first_number.min(kept.number);
            self.next_number = self.next_number.max(kept.number + 1);
            if let Some(publish) = kept.publish(version) {
                let draft = Draft::from_packet(&publish);
                // Nobody knows how long the program was away.
                let until = expires(Instant::default(), &draft);
                queued.push(Queued { draft, key: None, until, number: kept.number });
            }
        }
        self.queue.put_back(queued.into_iter());
    }

    /// What was on its way when the server lost the session: QoS 1 is published again as new messages,
    /// QoS 2 reported.
    pub(crate) fn recover_lost(&mut self, now: Instant) {
        let version = self.machine.version();
        let lost = self.machine.store_mut().take_lost();
        // They come before all that waits already, in the file, too.
        if self.queue.is_empty() {
            self.first_number = self.next_number;
        }
        self.first_number = self.first_number.saturating_sub(lost.len() as u64);
        let mut again = Vec::new();
        for (number, lost) in (self.first_number..).zip(lost) {
            let key = self.flights.remove(&lost.id);
            match lost.publish(version) {
                Some(publish) if lost.flight == Flight::AwaitAck => {
                    let draft = Draft::from_packet(&publish);
                    self.keep_queued(number, &draft);
                    let until = expires(now, &draft);
                    again.push(Queued { draft, key, until, number });
                }
                _ => self.complete(key, Err(PublishError::SessionLost)),
            }
        }
        self.queue.put_back(again.into_iter());
    }
}

/// A message that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// Names its outcome. There is none at QoS 0.
    pub(crate) key: Option<Key>,
}

/// A message that waits to be accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    number: u64,
    key: Key,
}
/// When a message that begins to wait now is no longer worth delivering.
fn expires(now: Instant, draft: &Draft<'_>) -> Option<Instant> {
    draft.expiry().map(|seconds| now + u64::from(seconds) * 1_000)
}
