//! What is known of a client, connected or not.

use super::{
    ConnectionId,
    memory::{Lent, Noting, Queue, Sealed},
    message::MessageId,
};
use crate::{
    Instant,
    router::{GroupId, Packed},
    server::Peer,
    wire::{PacketId, QoS},
};

/// A session.
pub struct Session<M: Sealed> {
    pub(super) peer: Peer<M::Store>,
    pub(super) name: M::Name,
    pub(super) place: u32,
    pub(super) connection: Option<ConnectionId>,
    /// Who the host says it is, and whose it is therefore.
    pub(super) identity: u32,
    /// What is to be sent to it.
    pub(super) backlog: M::Backlog,
    /// How many subscriptions it has, and how many bytes their filters.
    pub(super) subscriptions: u32,
    pub(super) filter_bytes: u32,
    /// How many unfinished messages that have arrived are known to be kept.
    pub(super) arrivals: u16,
    /// Seconds that it outlives its connection; `u32::MAX` for ever.
    pub(super) expiry: u32,
    /// When it has lost its connection, if it has none.
    pub(super) lost: Option<Instant>,
    pub(super) will: Option<Will>,
    /// The publish that it was found for last, and how it wants that.
    pub(super) stamp: u32,
    pub(super) wanted: Packed,
    /// Where the last of the identifiers is that its subscriptions have which match.
    pub(super) identified: u32,
    /// All of it is on record, because it outlives its connection.
    pub(super) recorded: bool,
    /// It is known whose it is: it was made, or taken, by somebody when that counted.
    pub(super) owned: bool,
}

/// What is to be sent to a client: on its way, waiting, or owed. Most of the time there is nothing.
pub struct Backlog<M: Sealed> {
    /// Messages on their way, in the order of sending, and behind them those that wait.
    pub(super) deliveries: M::Deliveries,
    /// How many are on their way, and how many bytes these have.
    pub(super) sent: usize,
    pub(super) sent_bytes: usize,
    /// How many of the waiting ones count, and how many bytes these have.
    pub(super) waiting: usize,
    pub(super) waiting_bytes: usize,
    /// None of these expires before.
    pub(super) expires: Option<Instant>,
    /// Retained messages that are owed for new subscriptions.
    pub(super) replays: M::Replays,
    /// No more of them are looked for before.
    pub(super) rests_until: Instant,
    /// A message that is to be sent again when there is room.
    pub(super) resend: Option<PacketId>,
}

/// A will.
#[derive(Clone, Copy, Debug)]
pub(super) struct Will {
    pub(super) message: MessageId,
    /// Seconds after the connection is lost.
    pub(super) delay: u32,
    /// Seconds that it is worth delivering once it is published.
    pub(super) expiry: Option<u32>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) session: u32,
    pub(super) connection: ConnectionId,
}

/// A message for a session, on its way or waiting.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub(super) message: MessageId,
    /// Given when it is sent.
    pub(super) id: Option<PacketId>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// It counts against the limits of the queue while it waits.
    pub(super) counts: bool,
    /// Of the subscription, or 0. If there are several, they are kept with the message.
    pub(super) identifier: u32,
    /// Whom it goes to when the session ends.
    pub(super) group: Option<GroupId>,
}

/// Retained messages that are owed for a new subscription.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// The subscription's filter, by its key.
    pub(super) filter: u32,
    /// The next retained message to look at, by its place.
    pub(super) next: u32,
}

impl<M: Sealed> Default for Backlog<M> {
    fn default() -> Self {
        Self {
            deliveries: Default::default(),
            sent: 0,
            sent_bytes: 0,
            waiting: 0,
            waiting_bytes: 0,
            expires: None,
            replays: Default::default(),
            rests_until: Instant::default(),
            resend: None,
        }
    }
}

impl<M: Sealed> Backlog<M> {
    /// The delivery under this identifier, by its number.
    pub(super) fn find(&self, id: PacketId) -> Option<usize> {
        (0..self.sent).find(|index| {
            self.deliveries.get(*index).is_some_and(|delivery| delivery.id == Some(id))
        })
    }

    /// Takes a delivery out.
    pub(super) fn take(&mut self, index: usize, size: usize) -> Option<Delivery> {
        let delivery = self.deliveries.remove(index)?;
        if index < self.sent {
            self.sent -= 1;
            self.sent_bytes -= size;
        } else {
            self.no_longer_waits(&delivery, size);
        }
        Some(delivery)
    }

    /// The delivery of so many bytes behind those on their way is on its way, too.
    pub(super) fn is_on_its_way(&mut self, size: usize) {
        self.sent += 1;
        self.sent_bytes += size;
    }

    /// A delivery of so many bytes waits no longer.
    pub(super) fn no_longer_waits(&mut self, delivery: &Delivery, size: usize) {
        if delivery.counts {
            self.waiting -= 1;
            self.waiting_bytes -= size;
        }
    }

    /// The first that waits.
    pub(super) fn next(&self) -> Option<&Delivery> {
        self.deliveries.get(self.sent)
    }

    /// What has waited for longest, and its index.
    pub(super) fn oldest(&self) -> Option<(usize, Delivery)> {
        let waiting = (self.sent..self.deliveries.len())
            .map_while(|index| Some((index, *self.deliveries.get(index)?)));
        waiting.into_iter().find(|(_, delivery)| delivery.counts)
    }

    /// Whether something waits that is to be sent before anything new.
    pub(super) fn is_behind(&self) -> bool {
        self.sent < self.deliveries.len()
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.len() == 0 && self.replays.len() == 0 && self.resend.is_none()
    }
}

impl<M: Sealed> Session<M> {
    /// Gives back what is not in use.
    pub(super) fn rest(&mut self) {
        self.backlog.shed(Backlog::is_empty);
        self.peer.store_mut().rest();
    }

    /// All retained messages of a subscription have been sent, by its index among those that are owed any.
    pub(super) fn is_owed_no_more(&mut self, index: usize) {
        if let Some(backlog) = self.backlog.get_mut() {
            backlog.replays.remove(index);
        }
        self.backlog.shed(Backlog::is_empty);
    }

    /// How many messages wait, as they count, and how many bytes they have.
    pub(super) fn waiting(&self) -> (usize, usize) {
        self.backlog.get().map_or((0, 0), |backlog| (backlog.waiting, backlog.waiting_bytes))
    }

    /// A message that is to be sent again when there is room.
    pub(super) fn resend(&self) -> Option<PacketId> {
        self.backlog.get()?.resend
    }

    /// When it ends, without a connection.
    pub(super) fn ends(&self) -> Option<Instant> {
        let lost = self.lost.filter(|_| self.expiry < u32::MAX);
        lost.map(|lost| lost + u64::from(self.expiry) * 1_000)
    }

    /// When its will is to be published, without a connection.
    pub(super) fn will_due(&self) -> Option<Instant> {
        let (lost, will) = self.lost.zip(self.will)?;
        Some(lost + u64::from(will.delay) * 1_000)
    }

    /// Whether what waits begins with a retained message at QoS 0, which a newer one is not to overtake.
    pub(super) fn is_behind_fleeting(&self) -> bool {
        let first = self.backlog.get().and_then(Backlog::next);
        self.connection.is_some() && first.is_some_and(|first| first.qos == QoS::AtMostOnce)
    }

    /// Whether something waits that is to be sent before anything new.
    pub(super) fn is_behind(&self) -> bool {
        self.backlog.get().is_some_and(Backlog::is_behind)
    }
}
