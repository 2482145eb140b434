//! One connection: its bytes on their way, and whom it keeps waiting.

use std::{
    io::{self, ErrorKind, IoSlice},
    mem,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use mqtt_core::{Instant, Version, broker::ConnectionId};
use tracing::Span;

use super::ledger::Held;
use super::{
    access::Login,
    exchange::{Deciding, Decision, Talk},
    lent::Lent,
    listener::Accepted,
    origin::{Address, Origin},
    seldom::Seldom,
    stream::Stream,
};
use crate::out::SLICES;

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) stream: Stream,
    address: Address,
    listener: Option<Arc<Arc<str>>>,
    /// It is to have a turn.
    pub(super) is_queued: bool,
    /// What has been received and not been understood: not much more than a packet, nor is `out`, so that
    /// they are counted in 32 bits.
    pub(super) tail: Seldom<u8>,
    /// How much of it is in the sum of all.
    pub(super) kept: u32,
    /// There is a whole packet in it, which waits for room or for a decision.
    pub(super) is_held: bool,
    pub(super) out: Lent,
    /// It is among those to be written to at the end of the turn.
    pub(super) is_dirty: bool,
    /// How much of `out` waits for what has to be saved before.
    pub(super) held: Held,
    /// It had no room for more. It is to be asked again once it has.
    pub(super) was_full: bool,
    pub(super) asks_again: bool,
    /// Who the client is, while that is being found out.
    pub(super) inquiry: Option<Box<Inquiry>>,
    pub(super) user_name: Option<Arc<str>>,
    /// How it has been let in.
    pub(super) admitted: Option<Admitted>,
    /// What happens to it, for those who trace that.
    pub(super) span: Option<Box<Span>>,
    /// Publishers that wait until it has taken what they sent.
    pub(super) blocks: Seldom<ConnectionId>,
    /// How many it waits for itself.
    pub(super) blocked_by: u32,
    /// It waits with a message at the front of its input.
    pub(super) is_stopped: bool,
    /// It waits no longer.
    pub(super) goes_on: bool,
    /// Others would rather wait than let more messages wait for it.
    pub(super) is_behind: bool,
    pub(super) pace: Pace,
    /// It has come to its end, and is there until then for the client to take notice.
    pub(super) is_closing: bool,
    /// Something has been written and not flushed.
    is_unflushed: bool,
    is_shut: bool,
}

/// What is known on the way to who a client is.
#[derive(Default)]
pub(super) struct Inquiry {
    /// The certificates that the client has shown, its own first.
    pub(super) certificates: Vec<Vec<u8>>,
    /// What is being found out, and wakes the connection then; and what came of it.
    pub(super) deciding: Option<(Deciding, Waker)>,
    pub(super) decision: Option<Decision>,
    /// Enhanced authentication that it is the client's turn in.
    pub(super) talk: Option<Talk>,
    /// What to begin another with.
    pub(super) login: Option<Login>,
    /// What is said besides the verdict.
    pub(super) answer: Option<Vec<u8>>,
}

/// How a client has been let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) version: Version,
    pub(super) keep_alive: u16,
    pub(super) clean_start: bool,
    pub(super) since: Instant,
}

/// What is kept of a client's input while it is being found out who it is, or behind a message that waits, in
/// bytes. Who sends more is not read from, and not known to have hung up, until then.
const FORETOLD: usize = 64 * 1024;

/// How a connection takes what is written to it, while others wait for that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    moved: bool,
    /// Its ticks are counted.
    pub(super) is_watched: bool,
    /// For how many ticks nothing has moved, and for how many others have waited.
    still: u8,
    waited: u8,
    /// It is not waited for, until it has taken everything.
    pub(super) is_slow: bool,
}

/// After so many ticks without progress a connection is not waited for.
const MAX_STILL: u8 = 2;

/// After so many ticks it is not waited for, however steady its progress.
const MAX_WAITED: u8 = 10;

impl Pace {
    /// Others begin to wait.
    pub(super) const fn begin(&mut self) {
        (self.moved, self.still, self.waited) = (false, 0, 0);
    }

    /// A tick has passed. Whether it is slow.
    pub(super) const fn tick(&mut self) -> bool {
        self.still = if self.moved { 0 } else { self.still + 1 };
        self.waited += 1;
        self.moved = false;
        self.is_slow = self.still >= MAX_STILL || self.waited >= MAX_WAITED;
        self.is_slow
    }
}

impl Connection {
    pub(super) fn new(id: ConnectionId, Accepted { stream, origin }: Accepted) -> Self {
        let span = span(&origin);
        let Origin { address, listener, certificates } = origin;
        let inquiry = (!certificates.is_empty())
            .then(|| Box::new(Inquiry { certificates, ..Inquiry::default() }));
        Self {
            id,
            stream,
            span,
            address: Address::new(address),
            listener,
            is_queued: false,
            tail: Seldom::default(),
            kept: 0,
            is_held: false,
            out: Lent::default(),
            is_dirty: false,
            held: Held::default(),
            was_full: false,
            asks_again: false,
            inquiry,
            user_name: None,
            admitted: None,
            blocks: Seldom::default(),
            blocked_by: 0,
            is_stopped: false,
            goes_on: false,
            is_behind: false,
            pace: Pace::default(),
            is_closing: false,
            is_unflushed: false,
            is_shut: false,
        }
    }

    /// The other end, if that is on a network.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.address.get()
    }

    /// The URL that it has come by; none within the process.
    pub(super) fn listener(&self) -> Option<Arc<str>> {
        self.listener.as_deref().cloned()
    }

    /// Where it comes from. The certificates are of no use afterwards.
    pub(super) fn origin(&mut self) -> Origin {
        let inquiry = self.inquiry.as_mut();
        let certificates = inquiry.map(|inquiry| mem::take(&mut inquiry.certificates));
        Origin {
            address: self.address(),
            listener: self.listener.clone(),
            certificates: certificates.unwrap_or_default(),
        }
    }

    /// Whether there is something to be done to the transport before it is read from.
    pub(super) fn is_written(&self) -> bool {
        !self.out.is_empty() || self.is_unflushed || self.is_closing
    }

    /// Whether all that is to be written waits for something to be saved.
    pub(super) fn is_held_back(&self) -> bool {
        self.held.bytes() > 0 && self.held.bytes() == self.out.len()
    }

    /// Whether more is to be read from it now.
    pub(super) fn is_read(&self) -> bool {
        match self.is_deciding() || self.is_stopped {
            // It may hang up meanwhile, or acknowledge what others wait for.
            true => !self.is_closing && self.tail.len() < FORETOLD,
            false => !self.is_closing && self.blocked_by == 0 && !self.is_held,
        }
    }

    pub(super) fn poll_read(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_read(buffer)
    }

    /// Writes as much as the transport takes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while self.out.len() > self.held.bytes() {
            let mut pieces = [IoSlice::new(&[]); SLICES];
            let most = self.out.len() - self.held.bytes();
            let count = self.out.slices(most, &mut pieces);
            match self.stream.poll_write(&pieces[..count]) {
                Poll::Ready(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.out.consume(count);
                    self.pace.moved = true;
                    self.is_unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        self.pace.is_slow &= self.is_behind;
        if self.is_unflushed {
            match self.stream.poll_flush() {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
            self.is_unflushed = false;
        }
        if self.is_closing && !self.is_shut && self.out.is_empty() {
            match self.stream.poll_shutdown() {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
            self.is_shut = true;
        }
        Ok(())
    }

    /// Who the client is: found out, or it wakes the connection when it is.
    pub(super) fn poll_decision(&mut self) -> Poll<()> {
        let Some(inquiry) = &mut self.inquiry else { return Poll::Ready(()) };
        let Some((deciding, waker)) = &mut inquiry.deciding else { return Poll::Ready(()) };
        let decision = ready!(deciding.as_mut().poll(&mut Context::from_waker(waker)));
        (inquiry.deciding, inquiry.decision) = (None, Some(decision));
        Poll::Ready(())
    }

    /// Whether that is being found out.
    pub(super) fn is_deciding(&self) -> bool {
        self.inquiry.as_ref().is_some_and(|inquiry| inquiry.deciding.is_some())
    }

    /// Whether it is the client's turn to say something about it.
    pub(super) fn is_asked(&self) -> bool {
        self.inquiry.as_ref().is_some_and(|inquiry| inquiry.talk.is_some())
    }
}

/// What is traced of a connection, if anything is.
fn span(origin: &Origin) -> Option<Box<Span>> {
    let span = tracing::debug_span!(
        "connection",
        address = origin.address.map(tracing::field::display),
        listener = origin.listener.as_ref().map(|url| &***url),
        client_id = tracing::field::Empty,
    );
    (!span.is_disabled()).then(|| Box::new(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_idle_is_small() {
        assert!(size_of::<Connection>() <= 184, "{} bytes", size_of::<Connection>());
    }
}
