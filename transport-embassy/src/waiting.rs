//! Who waits for what.

use core::task::{Context, Poll, Waker};

use embassy_sync::waitqueue::MultiWakerRegistration;
use heapless::{Vec, VecView};
use mqtt_core::{PacketId, QoS, ReasonCode};

use crate::error::{PublishError, SubscribeError};

/// Room for `TASKS` outcomes of publishes and subscriptions that are awaited at once, and for as many tasks
/// that wait for anything else. Who finds no place waits for one, and the others work a little more.
#[derive(Debug)]
pub struct Waiting<const TASKS: usize> {
    outcomes: Vec<Awaited, TASKS>,
    next_key: u32,
    room: MultiWakerRegistration<TASKS>,
    readers: MultiWakerRegistration<TASKS>,
    watchers: MultiWakerRegistration<TASKS>,
}

/// How many can wait: [`Waiting`].
pub trait WaitingSize: sealed::Sealed {
    #[doc(hidden)]
    const NEW: Self;
    #[doc(hidden)]
    fn outcomes(&mut self) -> Outcomes<'_>;
    #[doc(hidden)]
    fn register(&mut self, queue: Queue, waker: &Waker);
    #[doc(hidden)]
    fn wake(&mut self, queue: Queue);
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// For what a task waits that may be others' turn.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Queue {
    /// For room, quota, or a connection.
    Room,
    /// For a message.
    Readers,
    /// For another status.
    Watchers,
}

impl<const TASKS: usize> sealed::Sealed for Waiting<TASKS> {}

impl<const TASKS: usize> WaitingSize for Waiting<TASKS> {
    const NEW: Self = {
        assert!(TASKS > 0, "somebody has to be able to wait");
        Self {
            outcomes: Vec::new(),
            next_key: 0,
            room: MultiWakerRegistration::new(),
            readers: MultiWakerRegistration::new(),
            watchers: MultiWakerRegistration::new(),
        }
    };

    fn outcomes(&mut self) -> Outcomes<'_> {
        Outcomes { awaited: self.outcomes.as_mut_view(), next_key: &mut self.next_key }
    }

    fn register(&mut self, queue: Queue, waker: &Waker) {
        match queue {
            Queue::Room => self.room.register(waker),
            Queue::Readers => self.readers.register(waker),
            Queue::Watchers => self.watchers.register(waker),
        }
    }

    fn wake(&mut self, queue: Queue) {
        match queue {
            Queue::Room => self.room.wake(),
            Queue::Readers => self.readers.wake(),
            Queue::Watchers => self.watchers.wake(),
        }
    }
}

/// Names an outcome that somebody waits for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u32);

/// What an outcome is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Publish(PacketId),
    /// A publish whose message nobody has but who waits for it.
    Streamed(PacketId),
    Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Published(Result<ReasonCode, PublishError>),
    /// A streamed publish is to be sent again. Not the last word.
    Again,
    Subscribed(Result<QoS, SubscribeError>),
}

#[derive(Debug)]
struct Awaited {
    key: Key,
    subject: Subject,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// The outcomes that somebody waits for.
#[doc(hidden)]
#[derive(Debug)]
pub struct Outcomes<'w> {
    awaited: &'w mut VecView<Awaited>,
    next_key: &'w mut u32,
}

impl Outcomes<'_> {
    pub(crate) fn has_place(&self) -> bool {
        !self.awaited.is_full()
    }

    /// A place for an outcome, if there is one.
    pub(crate) fn expect(self, subject: Subject) -> Option<Key> {
        let key = Key(*self.next_key);
        *self.next_key = self.next_key.wrapping_add(1);
        let awaited = Awaited { key, subject, outcome: None, waker: None };
        self.awaited.push(awaited).is_ok().then_some(key)
    }

    /// The outcome, once there is one; then it is forgotten, unless it is not the last.
    pub(crate) fn poll(self, key: Key, cx: &mut Context<'_>) -> Poll<Outcome> {
        let found = self.awaited.iter().position(|awaited| awaited.key == key);
        let Some((index, awaited)) = found.and_then(|i| Some((i, self.awaited.get_mut(i)?))) else {
            return Poll::Pending; // never: who asks has a place
        };
        match awaited.outcome.take() {
            Some(Outcome::Again) => Poll::Ready(Outcome::Again),
            Some(outcome) => {
                self.awaited.swap_remove(index);
                Poll::Ready(outcome)
            }
            None => {
                match &mut awaited.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    waker => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Nobody waits for it any more. What it was of, if it was awaited.
    pub(crate) fn forget(self, key: Key) -> Option<Subject> {
        let index = self.awaited.iter().position(|awaited| awaited.key == key)?;
        Some(self.awaited.swap_remove(index).subject)
    }

    pub(crate) fn complete(self, key: Key, outcome: Outcome) {
        if let Some(awaited) = self.awaited.iter_mut().find(|awaited| awaited.key == key) {
            awaited.complete(outcome);
        }
    }

    /// Completes all without an outcome for which there is one now.
    pub(crate) fn complete_where(self, mut outcome: impl FnMut(Subject) -> Option<Outcome>) {
        for awaited in self.awaited.iter_mut().filter(|awaited| awaited.is_open()) {
            if let Some(outcome) = outcome(awaited.subject) {
                awaited.complete(outcome);
            }
        }
    }

    /// Completes a publish, if somebody waits for it. Whether that is so.
    pub(crate) fn complete_publish(self, id: PacketId, outcome: Outcome) -> bool {
        let mut awaited = self.awaited.iter_mut();
        let found = awaited.find(|awaited| awaited.is_open() && awaited.subject.is_publish(id));
        match found {
            Some(awaited)
                if outcome != Outcome::Again || awaited.subject == Subject::Streamed(id) =>
            {
                awaited.complete(outcome);
                true
            }
            _ => false,
        }
    }
}

impl Subject {
    fn is_publish(self, id: PacketId) -> bool {
        self == Self::Publish(id) || self == Self::Streamed(id)
    }
}

impl Awaited {
    fn is_open(&self) -> bool {
        matches!(self.outcome, None | Some(Outcome::Again))
    }

    fn complete(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
