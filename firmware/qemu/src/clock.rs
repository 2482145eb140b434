//! Time, from the processor's own timer: an interrupt each millisecond.

use core::{cell::RefCell, task::Waker};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

/// How often the processor's clock beats in a millisecond: 25 MHz.
const BEATS: u32 = 25_000;

struct Clock(Mutex<RefCell<State>>);

struct State {
    millis: u64,
    next: u64,
    queue: Queue,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock(Mutex::new(RefCell::new(State {
    millis: 0,
    next: u64::MAX,
    queue: Queue::new(),
}))));

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.0.borrow_ref(cs).millis)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let mut state = self.0.borrow_ref_mut(cs);
            if state.queue.schedule_wake(at, waker) {
                state.wake();
            }
        });
    }
}

impl State {
    /// Wakes those whose time has come.
    fn wake(&mut self) {
        self.next = self.queue.next_expiration(self.millis);
    }
}

/// Lets the time begin.
pub(crate) fn start() {
    // SAFETY: nobody else uses this timer.
    let mut timer = unsafe { cortex_m::Peripherals::steal() }.SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(BEATS - 1);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let mut state = CLOCK.0.borrow_ref_mut(cs);
        state.millis += 1;
        if state.millis >= state.next {
            state.wake();
        }
    });
}
