//! What the handles and the driver have in common.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use mqtt_core::{Instant, ReasonCode, Receipt};
use tokio::{sync::watch, time};

use crate::{
    kept::{Kept, Queued},
    options::Options,
    state::State,
    status::Status,
};

/// What the handles and the driver have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Acknowledgements that have been given and not yet passed on. Apart, so that a reader does not
    /// wait for the driver.
    answers: Mutex<Vec<(Receipt, ReasonCode)>>,
    pub(crate) driver: AtomicWaker,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) durable: watch::Sender<Durable>,
    start: time::Instant,
}

/// How many are woken without a list of their own; longer ones are not kept.
const FEW: usize = 4;

/// Which changes are on disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Durable {
    /// The number of the last batch.
    pub(crate) batch: u64,
    /// There will be no more.
    pub(crate) over: bool,
}

impl Shared {
    /// A client without a connection.
    pub(crate) fn new(options: &Options, store: Kept, restored: Vec<Queued>) -> Arc<Self> {
        let state = State::new(options, store, restored);
        let shared = Self {
            state: Mutex::new(state),
            answers: Mutex::default(),
            driver: AtomicWaker::new(),
            status: watch::Sender::new(Status::Connecting),
            durable: watch::Sender::new(Durable::default()),
            start: time::Instant::now(),
        };
        Arc::new(shared)
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_millis(self.start.elapsed().as_millis() as u64)
    }

    pub(crate) fn at(&self, instant: Instant) -> time::Instant {
        self.start + Duration::from_millis(instant.as_millis())
    }

    /// Does something to the state, then wakes whom it concerns.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state);
        if state.wakers.is_empty() {
            return result;
        }
        let mut few = [const { None }; FEW];
        let mut many = Vec::new();
        if state.wakers.len() > FEW {
            many = std::mem::take(&mut state.wakers);
        } else {
            few.iter_mut().zip(state.wakers.drain(..)).for_each(|(few, waker)| *few = Some(waker));
        }
        drop(state);
        few.into_iter().flatten().chain(many).for_each(Waker::wake);
        result
    }

    /// The same, for something that the driver has to go on with.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        let result = self.with(act);
        self.driver.wake();
        result
    }

    /// The application has taken a message.
    pub(crate) fn acknowledge(&self, receipt: Receipt, reason: ReasonCode) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((receipt, reason));
        let first = answers.len() == 1;
        drop(answers);
        if first {
            self.driver.wake(); // once is enough
        }
    }

    /// What has been acknowledged since the last time, in exchange for an empty list whose memory can
    /// be used again.
    pub(crate) fn swap_answers(&self, list: &mut Vec<(Receipt, ReasonCode)>) {
        debug_assert!(list.is_empty(), "they would be given again");
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *answers, list);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
