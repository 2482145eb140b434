//! What only a server does at its end of a connection: it asks for no sign of life, but waits for
//! one.

use super::Link;
use crate::{error::Error, store::Store, time::Instant, timer::Timer};

impl<S: Store> Link<S> {
    /// When the client has been silent for too long: one and a half times the keep alive
    /// [MQTT-3.1.2-22]. Not while what it sent waits for the application.
    fn silence_due(&self) -> Option<Instant> {
        let patience = u64::from(self.keep_alive) * 3 / 2;
        (patience > 0 && !self.stalled).then(|| self.last_received + patience)
    }

    /// Judges the client's silence, once all of its complete packets have been taken.
    #[inline]
    pub(crate) fn judge_client(&self, now: Instant) -> Result<(), Error> {
        if self.timers.has_expired(Timer::Handshake, now) {
            return Err(Error::HandshakeTimeout);
        }
        match self.silence_due() {
            Some(due) if due <= now => Err(Error::KeepAliveTimeout),
            _ => Ok(()),
        }
    }

    /// A step of the handshake is the client's, and has to come in time.
    pub(crate) fn await_step(&mut self, now: Instant) {
        self.timers.arm(Timer::Handshake, now + u64::from(self.config.handshake_timeout));
    }

    /// It has come, and the next one is ours.
    pub(crate) fn step_taken(&mut self) {
        self.timers.disarm(Timer::Handshake);
    }

    /// When the clock alone will end the connection.
    pub(crate) fn patience(&self) -> Option<Instant> {
        let deadlines = [self.timers.deadline(), self.silence_due()];
        deadlines.into_iter().flatten().min()
    }
}
