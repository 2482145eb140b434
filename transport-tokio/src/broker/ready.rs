//! Which connections have something to do.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use atomic_waker::AtomicWaker;

/// What has been woken since the last turn. Each is in it once.
#[derive(Debug, Default)]
pub(super) struct Queue {
    woken: Mutex<Vec<Place>>,
    /// The task that serves them.
    pub(super) task: AtomicWaker,
}

impl Queue {
    /// Tells the places of the connections that have been woken. What wakes them from now on is for the next
    /// turn.
    pub(super) fn take(&self, mut told: impl FnMut(usize)) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        for Place { place, is_woken } in woken.drain(..) {
            is_woken.store(false, Ordering::Release);
            told(place);
        }
    }

    /// What wakes the connection in this place.
    pub(super) fn waker(self: &Arc<Self>, place: usize) -> Waker {
        let place = Place { place, is_woken: Arc::default() };
        Waker::from(Arc::new(Ready { queue: Arc::clone(self), place }))
    }
}

/// What wakes one connection.
#[derive(Debug)]
struct Ready {
    queue: Arc<Queue>,
    place: Place,
}

/// A connection's place, and whether it is among those that have been woken.
#[derive(Clone, Debug)]
struct Place {
    place: usize,
    is_woken: Arc<AtomicBool>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.place.is_woken.swap(true, Ordering::AcqRel) {
            let woken = self.queue.woken.lock();
            woken.unwrap_or_else(PoisonError::into_inner).push(self.place.clone());
            self.queue.task.wake();
        }
    }
}
