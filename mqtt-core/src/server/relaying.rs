//! What a broker does with the server's end of a connection.

use super::{Peer, Request, State};
use crate::{
    error::{Error, PublishError, SendError},
    event::Receipt,
    reason::ReasonCode,
    sink::Sink,
    store::{Stage, Store},
    time::Instant,
    wire::{Disconnect, Encode, PacketId, Relay, Reply},
};

/// For a broker, which keeps messages apart from sessions.
impl<S: Store> Peer<S> {
    /// See [`Link::relay`].
    #[inline]
    pub(crate) fn relay(
        &mut self,
        relay: &Relay<'_>,
        out: &mut impl Sink,
    ) -> Result<Option<PacketId>, PublishError> {
        self.link.relay(relay, out)
    }

    /// See [`Link::relay_again`].
    pub(crate) fn relay_again(
        &mut self,
        id: PacketId,
        relay: &Relay<'_>,
        out: &mut impl Sink,
    ) -> Result<(), PublishError> {
        self.link.relay_again(id, relay, out)
    }

    /// See [`Link::settle`].
    pub(crate) fn settle(&mut self, receipt: Receipt, reason: ReasonCode, out: &mut impl Sink) {
        self.link.settle(receipt, reason, out);
    }

    /// The packet that was taken last will be given again, with the `left` bytes behind it: forgets it,
    /// and gives the number of its bytes. While it waits for the host, the client is not to blame.
    pub(crate) fn put_back(&mut self, request: &Request<'_>, left: usize, waits: bool) -> usize {
        let receipt = match request {
            Request::Publish(message) => message.receipt,
            Request::Auth(auth) => {
                self.retract(auth.reason);
                None
            }
            _ => None,
        };
        self.link.untake(receipt, waits);
        let taken = self.taken as usize;
        self.link.leave(left + taken);
        taken
    }

    /// No more than this are on their way, whatever the client takes.
    pub(crate) fn bound(&mut self, most: u16) {
        let limits = &mut self.link.limits;
        limits.receive_maximum = limits.receive_maximum.min(most.max(1));
    }

    /// Forgets what was the connection's: messages that were not decided about, topic aliases.
    pub(crate) fn forget_connection(&mut self) {
        let session = &mut self.link.session;
        session.store_mut().retain_arrivals(|arrival| arrival.stage != Stage::Held);
        session.forget_aliases();
    }

    /// Ends the connection for an error that was found outside, if it has not ended.
    pub(crate) fn abort(&mut self, now: Instant, error: Error, out: &mut impl Sink) {
        if self.state != State::Closed {
            self.fail(now, error, &[], out);
        }
    }

    /// Ends the connection if the client has been silent for too long.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut impl Sink) -> Result<(), Error> {
        let judged = self.link.judge_client(now);
        if let Err(error) = judged {
            self.fail(now, error, &[], out);
        }
        judged
    }

    /// Answers SUBSCRIBE or UNSUBSCRIBE.
    pub(crate) fn give_reasons(
        &mut self,
        now: Instant,
        answer: &impl Encode,
        out: &mut impl Sink,
    ) -> Result<(), SendError> {
        self.check_connected()?;
        Ok(self.link.send(now, answer, 0, out)?)
    }

    /// Ends the connection in the words of a host, as far as they fit.
    pub(crate) fn dismiss(&mut self, now: Instant, reply: &Reply<'_>, out: &mut impl Sink) {
        if self.is_connected() && self.link.version.is_v5() {
            // If there is no room the client finds out by the close.
            let _ = self
                .link
                .send(now, reply, 0, out)
                .or_else(|_| self.link.send(now, &reply.brief(), 0, out))
                .or_else(|_| self.link.send(now, &Disconnect::from(reply.reason), 0, out));
        }
        self.end();
    }
}
