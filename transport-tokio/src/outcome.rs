//! How publishes end, and who waits for it.

use std::task::{Context, Poll, Waker};

use mqtt_core::ReasonCode;

use crate::error::PublishError;

/// A publish that the server has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// [`Success`](ReasonCode::Success), or at QoS 1
    /// [`NoMatchingSubscribers`](ReasonCode::NoMatchingSubscribers) from a 5.0 server that has nobody to
    /// give it to.
    pub reason: ReasonCode,
}

impl Published {
    pub(crate) const SUCCESS: Self = Self { reason: ReasonCode::Success };
}

pub(crate) type Outcome = Result<Published, PublishError>;

/// The publishes that have no outcome yet, and the outcomes that nobody has fetched yet.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The number of the next publish.
    next: u32,
}

/// Names one publish; stale once its outcome has been fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    number: u32,
}

#[derive(Debug)]
struct Slot {
    /// Of the publish that is here, or was last.
    number: u32,
    state: State,
}

/// For how many publishes memory is kept when there are none.
const MAX_KEPT: usize = 256;

#[derive(Debug)]
enum State {
    Free,
    Pending(Option<Waker>),
    /// Nobody wants to know.
    Detached,
    Done(Outcome),
}

impl Outcomes {
    /// Expects an outcome.
    pub(crate) fn expect(&mut self) -> Key {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let slot = Slot { number, state: State::Pending(None) };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = slot;
            return Key { index, number };
        }
        let index = self.slots.len() as u32;
        self.slots.push(slot);
        Key { index, number }
    }

    /// The publish has ended. Who is to be told.
    pub(crate) fn complete(&mut self, key: Key, outcome: Outcome) -> Option<Waker> {
        let slot = self.slot(key)?;
        match std::mem::replace(&mut slot.state, State::Done(outcome)) {
            State::Pending(waker) => waker,
            State::Detached => {
                if let State::Done(Err(error)) = &slot.state {
                    tracing::warn!(%error, "a publish that nobody waits for was not delivered");
                }
                self.release(key);
                None
            }
            before => {
                slot.state = before; // it has its outcome
                None
            }
        }
    }

    /// Fetches the outcome, once.
    pub(crate) fn poll(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(slot) = self.slot(key) else { return Poll::Ready(Err(PublishError::Closed)) };
        match &mut slot.state {
            State::Pending(Some(waker)) => waker.clone_from(cx.waker()),
            State::Pending(waker) => *waker = Some(cx.waker().clone()),
            State::Done(outcome) => {
                let outcome = outcome.clone();
                self.release(key);
                return Poll::Ready(outcome);
            }
            State::Free | State::Detached => return Poll::Ready(Err(PublishError::Closed)),
        }
        Poll::Pending
    }

    /// Fetches the outcome, if it is there and an error.
    pub(crate) fn take_error(&mut self, key: Key) -> Option<PublishError> {
        let State::Done(Err(error)) = &self.slot(key)?.state else { return None };
        let error = error.clone();
        self.release(key);
        Some(error)
    }

    /// Nobody wants to know any more.
    pub(crate) fn detach(&mut self, key: Key) {
        let Some(slot) = self.slot(key) else { return };
        match slot.state {
            State::Pending(_) => slot.state = State::Detached,
            State::Done(_) => self.release(key),
            State::Free | State::Detached => {}
        }
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.number == key.number && !matches!(slot.state, State::Free)).then_some(slot)
    }

    /// Nothing more is expected or to be fetched.
    pub(crate) fn release(&mut self, key: Key) {
        let Some(slot) = self.slot(key) else { return };
        slot.state = State::Free;
        self.free.push(key.index);
        if self.free.len() == self.slots.len() && self.slots.capacity() > MAX_KEPT {
            self.slots.clear();
            self.slots.shrink_to(MAX_KEPT);
            self.free.clear();
            self.free.shrink_to(MAX_KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_fetched_once_and_its_place_used_again() {
        let mut outcomes = Outcomes::default();
        let mut cx = Context::from_waker(Waker::noop());
        let first = outcomes.expect();
        assert!(outcomes.poll(first, &mut cx).is_pending());
        assert!(outcomes.complete(first, Ok(Published::SUCCESS)).is_some());
        assert!(outcomes.complete(first, Err(PublishError::Closed)).is_none(), "only one");
        assert_eq!(outcomes.poll(first, &mut cx), Poll::Ready(Ok(Published::SUCCESS)));

        let second = outcomes.expect();
        assert_eq!(outcomes.slots.len(), 1);
        assert!(outcomes.complete(first, Ok(Published::SUCCESS)).is_none(), "it is stale");
        assert!(outcomes.poll(second, &mut cx).is_pending());
        outcomes.detach(second);
        assert!(outcomes.free.is_empty(), "it is still under way");
        outcomes.complete(second, Err(PublishError::SessionLost));
        assert_eq!(outcomes.free.len(), 1);
    }

    #[test]
    fn memory_is_given_back_after_the_last_of_many() {
        let mut outcomes = Outcomes::default();
        let many: Vec<_> = (0..4 * MAX_KEPT).map(|_| outcomes.expect()).collect();
        for key in &many {
            outcomes.detach(*key);
            assert!(outcomes.complete(*key, Ok(Published::SUCCESS)).is_none());
        }
        assert!(outcomes.slots.capacity() <= MAX_KEPT && outcomes.free.capacity() <= MAX_KEPT);

        let mut cx = Context::from_waker(Waker::noop());
        let key = outcomes.expect();
        assert_eq!(many[0].index, key.index);
        assert!(outcomes.complete(many[0], Ok(Published::SUCCESS)).is_none(), "it is stale");
        assert!(outcomes.poll(key, &mut cx).is_pending());
    }
}
