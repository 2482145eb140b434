//! A timer for a deadline that moves.

use core::{future::Future, pin::pin, task::Context};

use embassy_time::Timer;
use mqtt_core::Instant;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Alarm {
    at: Option<Instant>,
    timer: Option<Timer>,
}

impl Alarm {
    /// Whether the deadline has come. If not, the task is woken then.
    pub(crate) fn has_rung(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> bool {
        if self.at != deadline {
            self.at = deadline;
            let at = |at: Instant| Timer::at(embassy_time::Instant::from_millis(at.as_millis()));
            self.timer = deadline.map(at);
        }
        self.timer.as_mut().is_some_and(|timer| pin!(timer).poll(cx).is_ready())
    }
}
