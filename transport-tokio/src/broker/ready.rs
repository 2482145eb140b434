//! Which connections have something to do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use atomic_waker::AtomicWaker;

/// The connections that have been woken since the last turn. Each is in it once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    woken: Mutex<Vec<usize>>,
    /// The task that serves them.
    pub(super) task: AtomicWaker,
}

impl Queue {
    /// Adds what has been woken to `turn`.
    pub(super) fn take(&self, turn: &mut Vec<usize>) {
        turn.append(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What wakes one connection.
#[derive(Debug)]
pub(super) struct Ready {
    queue: Arc<Queue>,
    place: usize,
    queued: AtomicBool,
}

impl Ready {
    pub(super) fn new(queue: &Arc<Queue>, place: usize) -> Arc<Self> {
        Arc::new(Self { queue: Arc::clone(queue), place, queued: AtomicBool::new(false) })
    }

    /// Whether it was not to have a turn already.
    pub(super) fn enqueue(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Its turn has come: what wakes it from now on is for the next.
    pub(super) fn begin(&self) {
        self.queued.store(false, Ordering::Release);
    }

    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.enqueue() {
            self.queue.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.place);
            self.queue.task.wake();
        }
    }
}
