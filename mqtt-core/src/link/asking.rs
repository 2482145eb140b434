//! What only a client does at its end of a connection: it asks for a sign of life, and publishes
//! payloads in pieces.

use super::{Link, Role};
use crate::{
    error::Error,
    session::Asking,
    sink::{MIN_SINK, Payload, Sink},
    store::Store,
    time::Instant,
    wire::{Bare, PacketType},
};

/// What a client has to remember for that.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pinging {
    /// Whether something has been written since `last_sent` that has no time yet.
    wrote: bool,
    /// A PINGREQ has been due, and nothing has been heard since.
    pinged: bool,
    /// There was no room for it yet.
    ping_owed: bool,
    /// How many bytes are owed of a payload that leaves in pieces.
    outgoing: usize,
    /// How many were at the last poll.
    outgoing_before: usize,
    /// When the connection is dead if nothing has been heard after a PINGREQ.
    silence: Instant,
    last_sent: Instant,
}

impl Pinging {
    pub(crate) const fn new() -> Self {
        Self {
            wrote: false,
            pinged: false,
            ping_owed: false,
            outgoing: 0,
            outgoing_before: 0,
            silence: Instant::NEVER,
            last_sent: Instant::from_millis(0),
        }
    }
}

impl Role for Pinging {
    type Requests = Asking;

    const IDENTIFIES: bool = false;

    fn reset(&mut self) {
        self.heard();
        self.wrote = false;
        self.ping_owed = false;
        self.outgoing = 0;
        self.outgoing_before = 0;
    }

    fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    fn wrote(&mut self) {
        self.wrote = true;
    }

    fn stamp(&mut self, now: Instant) {
        if self.wrote {
            self.wrote = false;
            self.last_sent = now;
        }
    }

    fn heard(&mut self) {
        self.pinged = false;
        self.silence = Instant::NEVER;
    }

    fn owe(&mut self, len: usize) {
        self.outgoing = len;
    }

    fn owed(&self) -> usize {
        self.outgoing
    }
}

impl<S: Store> Link<S, Pinging> {
    /// Appends the next part of a payload that leaves in pieces, as much as there is room for and
    /// is owed.
    pub(crate) fn payload(&mut self, bytes: &[u8], out: &mut impl Sink) -> usize {
        let owed = self.role.outgoing;
        let len = bytes.len().min(owed).min(out.room().saturating_sub(MIN_SINK));
        if let Some(bytes) = bytes.get(..len).filter(|bytes| !bytes.is_empty()) {
            out.payload(Payload::new(bytes));
            self.role.outgoing -= len;
            self.due |= self.role.outgoing == 0;
        }
        len
    }

    /// How many bytes of that payload are still owed.
    pub(crate) const fn payload_owed(&self) -> usize {
        self.role.outgoing
    }

    /// When a PINGREQ is due: one keep alive after the last packet either way. Not in the middle of a
    /// payload, where there is no place for one.
    fn ping_due(&self) -> Option<Instant> {
        let Pinging { last_sent, pinged, ping_owed, outgoing, .. } = self.role;
        let idle = last_sent.min(self.last_received);
        let possible = self.keep_alive > 0 && outgoing == 0 && !pinged && !ping_owed;
        possible.then(|| idle + u64::from(self.keep_alive) * 1_000)
    }

    /// Sends a PINGREQ if it is due [MQTT-3.1.2-20]. If there is no room for it, it leaves when there
    /// is; but the peer's silence counts from now on, for it may be the one who takes nothing.
    #[inline]
    pub(crate) fn ping(&mut self, now: Instant, out: &mut impl Sink) {
        if self.role.outgoing != self.role.outgoing_before {
            self.stream(now);
        } else if self.role.ping_owed && self.role.outgoing == 0
            || self.ping_due().is_some_and(|due| due <= now)
        {
            self.role.pinged = true;
            let owed = self.send(now, &Bare(PacketType::PingReq), 0, out).is_err();
            if self.role.ping_owed && !owed {
                self.role.silence = Instant::NEVER; // it is asked only now
            }
            self.role.ping_owed = owed;
        }
    }

    /// A payload moves on: while it does, the peer is alive, and has nothing to say.
    #[cold]
    fn stream(&mut self, now: Instant) {
        self.role.outgoing_before = self.role.outgoing;
        self.role.last_sent = now;
        self.heard(now);
    }

    /// Judges the peer's silence, once all of its complete packets have been taken: half a keep
    /// alive after a PINGREQ; one and a half without progress of a payload that it does not take.
    #[inline]
    pub(crate) fn judge(&mut self, now: Instant, out: &impl Sink) -> Result<(), Error> {
        if self.is_late(now) {
            return Err(Error::HandshakeTimeout);
        }
        let Pinging { pinged, ping_owed, outgoing, .. } = self.role;
        if (pinged || ping_owed || outgoing > 0) && self.keep_alive > 0 {
            return self.doubt(now, out);
        }
        Ok(())
    }

    /// Counts the peer's silence from the first poll that has nothing else to do: before, what asks
    /// it for a sign of life may not have left. A payload that waits for the application asks
    /// nothing.
    #[cold]
    fn doubt(&mut self, now: Instant, out: &impl Sink) -> Result<(), Error> {
        let half = u64::from(self.keep_alive) * 500;
        let patience = match self.role.outgoing {
            0 => half,
            _ if out.room() > MIN_SINK => {
                self.role.silence = Instant::NEVER;
                return Ok(());
            }
            _ => 3 * half,
        };
        let expired = self.role.silence.has_come(now);
        if expired && !self.stalled {
            return Err(Error::KeepAliveTimeout);
        }
        if expired || self.role.silence == Instant::NEVER {
            self.role.silence = now + patience;
        }
        Ok(())
    }

    /// When the clock alone will make something happen.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timer = self.handshake.min(self.role.silence);
        match (Some(timer).filter(|at| *at != Instant::NEVER), self.ping_due()) {
            (Some(timer), Some(ping)) => Some(timer.min(ping)),
            (timer, ping) => timer.or(ping),
        }
    }
}
