//! All connections: what is written to them, what they may do, and who waits for whom.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use mqtt_core::{
    Disconnect, Instant, ReasonCode, Version,
    broker::{Action, ConnectionId, Host, Verdict},
    wire::{Connect, Packet},
};
use tokio::{task::JoinSet, time};

use super::{
    access::{Access, Deciding, Guards, Login, Wish},
    connection::Connection,
    listener::Accepted,
    ready::Queue,
};
use crate::out::Out;

/// Bytes waiting for a connection from which on whoever sends it more is made to wait.
const SOFT: usize = 64 * 1024;

/// Bytes waiting for a connection from which on there is no room for more.
const HARD: usize = 256 * 1024;

/// How many buffers are kept for the next to need one, and up to which capacity.
const SPARE: usize = 64;
const SPARE_BYTES: usize = 2 * SOFT;

/// How long a client may take to notice that its connection is over, in milliseconds.
const LINGER: u64 = 1_000;

/// How many bytes there may be for all connections together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Waiting to be written.
    pub(super) outgoing: usize,
    /// Of packets that have not come whole, or cannot be taken yet.
    pub(super) incoming: usize,
}

/// All connections of a shard.
pub(super) struct Connections {
    places: Vec<Option<Box<Connection>>>,
    open: usize,
    serial: u64,
    pub(super) queue: Arc<Queue>,
    pub(super) now: Instant,
    guards: Guards,
    /// How long a decision may take.
    patience: Duration,
    /// Whose input is being taken.
    from: Option<usize>,
    /// Whose sink was given last.
    last: Option<usize>,
    /// Which are to be written to at the end of the turn.
    dirty: Vec<usize>,
    /// Which have more to do in the next turn.
    pub(super) again: Vec<usize>,
    /// Which others wait for.
    blockers: Vec<usize>,
    /// Which are over for the broker, and linger.
    closing: VecDeque<usize>,
    /// Which are over for the transport.
    ended: Vec<usize>,
    spare: Vec<Vec<u8>>,
    /// Bytes waiting for all connections.
    outgoing: usize,
    /// Bytes of packets that have not come whole.
    incoming: usize,
    budget: Budget,
    /// What is written to connections that are not there.
    nowhere: Out,
}

impl Connections {
    pub(super) fn new(guards: Guards, patience: Duration, budget: Budget) -> Self {
        Self {
            places: Vec::new(),
            open: 0,
            serial: 0,
            queue: Arc::default(),
            now: Instant::default(),
            guards,
            patience,
            from: None,
            last: None,
            dirty: Vec::new(),
            again: Vec::new(),
            blockers: Vec::new(),
            closing: VecDeque::new(),
            ended: Vec::new(),
            spare: Vec::new(),
            outgoing: 0,
            incoming: 0,
            budget,
            nowhere: Out::default(),
        }
    }

    /// How many connections there are.
    pub(super) const fn len(&self) -> usize {
        self.open
    }

    /// How many bytes wait for them.
    pub(super) const fn outgoing(&self) -> usize {
        self.outgoing
    }

    pub(super) fn get(&mut self, place: usize) -> Option<&mut Connection> {
        self.places.get_mut(place)?.as_deref_mut()
    }

    /// Makes place for a connection, whose turn is next.
    pub(super) fn insert(&mut self, id: ConnectionId, (stream, address): Accepted) {
        let place = id.index();
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        self.serial += 1;
        let connection = Connection::new(id, self.serial, stream, address, &self.queue);
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(Box::new(connection));
            self.open += 1;
        }
        self.enqueue(place);
    }

    /// Takes a connection out that is over for the transport.
    pub(super) fn remove(&mut self) -> Option<ConnectionId> {
        while let Some(place) = self.ended.pop() {
            self.release(place);
            let Some(mut gone) = self.places.get_mut(place).and_then(Option::take) else {
                continue;
            };
            self.open -= 1;
            self.outgoing -= gone.counted;
            self.incoming -= gone.kept;
            gone.out.clear();
            keep(&mut self.spare, gone.out.reclaim());
            return Some(gone.id);
        }
        None
    }

    /// Keeps what a connection has sent and cannot be taken yet. When there is too much from all
    /// together, whoever has most of it goes.
    pub(super) fn keep(&mut self, place: usize, tail: Vec<u8>) {
        let Some(connection) = self.get(place) else { return };
        let len = tail.len();
        connection.tail = tail;
        let before = std::mem::replace(&mut connection.kept, len);
        self.incoming = self.incoming + len - before;
        if self.incoming > self.budget.incoming && len > before {
            let kept = |place: &usize| self.places.get(*place)?.as_ref().map(|one| one.kept);
            let most = (0..self.places.len()).max_by_key(kept);
            if let Some(most) = most {
                tracing::warn!(place = most, "too much has been sent by halves");
                self.ended.push(most);
            }
        }
    }

    /// Gives a connection a turn, this one or the next.
    pub(super) fn enqueue(&mut self, place: usize) {
        if self.get(place).is_some_and(|connection| connection.ready.enqueue()) {
            self.again.push(place);
        }
    }

    /// A connection's input is being taken: those who cannot take what it sends make it wait.
    pub(super) const fn begin(&mut self, place: usize) {
        self.from = Some(place);
    }

    /// All has been written that was to be.
    pub(super) fn finish(&mut self) {
        self.settle();
        self.from = None;
    }

    /// Sees to the sink that was given last.
    fn settle(&mut self) {
        let Some(place) = self.last.take() else { return };
        let from = self.from;
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return;
        };
        let len = connection.out.len();
        self.outgoing = self.outgoing + len - connection.counted;
        connection.counted = len;
        if len == 0 {
            return keep(&mut self.spare, connection.out.reclaim());
        }
        connection.was_full |= connection.out.is_full();
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(place);
        }
        if len >= SOFT && from != Some(place) {
            self.flush(place);
            self.block(place);
        }
    }

    /// Lets the connection whose input is being taken wait for another, if that has too much to take.
    fn block(&mut self, place: usize) {
        let Some(from) = self.from else { return };
        let Some(serial) = self.get(from).map(|publisher| publisher.serial) else { return };
        let Some(connection) = self.get(place) else { return };
        let is_over = connection.out.len() < SOFT || connection.closing.is_some();
        // It is the last of those that wait, if it does so already: all its input is taken at once.
        if is_over || connection.pace.is_slow || connection.blocks.last() == Some(&(from, serial)) {
            return;
        }
        if connection.blocks.is_empty() {
            connection.pace.begin();
            self.blockers.push(place);
        }
        if let Some(connection) = self.get(place) {
            connection.blocks.push((from, serial));
        }
        if let Some(publisher) = self.get(from) {
            publisher.blocked_by += 1;
        }
    }

    /// Those who wait for a connection wait no longer; not for this one.
    fn release(&mut self, place: usize) {
        let Some(connection) = self.get(place) else { return };
        for (from, serial) in std::mem::take(&mut connection.blocks) {
            let Some(publisher) = self.get(from).filter(|publisher| publisher.serial == serial)
            else {
                continue;
            };
            publisher.blocked_by = publisher.blocked_by.saturating_sub(1);
            if publisher.blocked_by == 0 {
                self.enqueue(from);
            }
        }
    }

    /// Writes to a connection what there is to be written.
    pub(super) fn flush(&mut self, place: usize) {
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return;
        };
        if let Err(error) = connection.write() {
            tracing::debug!(%error, place, "a connection is lost");
            connection.out.clear();
            self.ended.push(place);
        }
        let len = connection.out.len();
        self.outgoing = self.outgoing + len - connection.counted;
        connection.counted = len;
        if len == 0 {
            keep(&mut self.spare, connection.out.reclaim());
        }
        if len >= SOFT || connection.out.is_full() {
            return;
        }
        let waits = !connection.blocks.is_empty();
        if std::mem::take(&mut connection.was_full) {
            connection.asks_again = true;
            self.enqueue(place);
        }
        if waits {
            self.release(place);
        }
    }

    /// Writes to all that have been written to.
    pub(super) fn flush_all(&mut self) {
        while let Some(place) = self.dirty.pop() {
            if let Some(connection) = self.get(place) {
                connection.is_dirty = false;
                self.flush(place);
            }
        }
    }

    /// A connection is over for the transport.
    pub(super) fn end(&mut self, place: usize) {
        self.ended.push(place);
    }

    /// Whether a [`tick`](Self::tick) is wanted.
    pub(super) fn is_waiting(&self) -> bool {
        !self.blockers.is_empty() || !self.closing.is_empty()
    }

    /// Stops waiting for those that do not move.
    pub(super) fn tick(&mut self) {
        for place in std::mem::take(&mut self.blockers) {
            let Some(connection) = self.get(place) else { continue };
            if connection.blocks.is_empty() {
                continue;
            }
            if connection.pace.tick() {
                tracing::debug!(place, "a connection takes too little of what is sent to it");
                self.release(place);
            } else {
                self.blockers.push(place);
            }
        }
        while let Some(place) = self.closing.front().copied() {
            match self.get(place).and_then(|connection| connection.closing) {
                Some(until) if until > self.now => break,
                Some(_) => self.ended.push(place),
                None => {}
            }
            self.closing.pop_front();
        }
    }

    /// Says goodbye to a connection that the broker has forgotten, because it shuts down.
    pub(super) fn dismiss(&mut self, place: usize) {
        self.settle();
        let Some(connection) = self.get(place) else { return };
        if connection.closing.is_none() && connection.admitted.is_some_and(Version::is_v5) {
            let goodbye = Disconnect::from(ReasonCode::ServerShuttingDown);
            // Without room, the close has to say it.
            let _ = Packet::Disconnect(goodbye).encode(Version::V5, &mut connection.out);
        }
        connection.deciding = None;
        self.linger(place);
        self.flush(place);
    }

    /// The places there are, taken or not.
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    fn linger(&mut self, place: usize) {
        let until = self.now + LINGER;
        let Some(connection) = self.get(place) else { return };
        connection.tail = Vec::new();
        let kept = std::mem::take(&mut connection.kept);
        self.incoming -= kept;
        let Some(connection) = self.get(place) else { return };
        if connection.closing.is_none() {
            connection.closing = Some(until);
            self.closing.push_back(place);
        }
        if let Some(connection) = self.get(place)
            && !connection.is_dirty
        {
            connection.is_dirty = true;
            self.dirty.push(place);
        }
        self.release(place);
        // What it still sends is read, and dropped.
        self.enqueue(place);
    }

    fn may_connect(&mut self, place: usize, version: Version, connect: &Connect<'_>) -> Verdict {
        if connect.authentication.is_some() {
            return Verdict::Deny(ReasonCode::BadAuthenticationMethod);
        }
        let patience = self.patience;
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return Verdict::Deny(ReasonCode::UnspecifiedError);
        };
        match (connection.decision.take(), &self.guards.authenticate) {
            (Some(Err(reason)), _) => return Verdict::Deny(reason),
            (Some(Ok(())), _) | (None, None) => {}
            (None, Some(authenticate)) => {
                let login = Login::new(version, connect, connection.address);
                connection.deciding = Some(decide(authenticate(login), patience));
                return Verdict::Later;
            }
        }
        let user_name = connect.user_name.as_ref().map(|name| name.as_str());
        connection.admitted = Some(version);
        if self.guards.authorize.is_some() {
            connection.user_name = user_name.map(Box::from);
        }
        Verdict::Allow
    }
}

impl Host for Connections {
    type Sink = Out;

    fn sink(&mut self, to: ConnectionId) -> &mut Out {
        let place = to.index();
        if self.last != Some(place) {
            self.settle();
            self.last = Some(place);
        }
        let is_tight = self.outgoing >= self.budget.outgoing;
        match self.places.get_mut(place) {
            Some(Some(connection)) => {
                connection.out.lend(&mut self.spare);
                connection.out.set_limit(if is_tight { 1 } else { HARD });
                &mut connection.out
            }
            _ => {
                self.nowhere.clear();
                &mut self.nowhere
            }
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        self.settle();
        self.linger(connection.index());
    }

    fn authorize(&mut self, from: ConnectionId, action: &Action<'_>) -> Verdict {
        let wish = match *action {
            Action::Connect(version, connect) => {
                return self.may_connect(from.index(), version, connect);
            }
            Action::Publish { topic, qos, retain, payload, .. } => {
                Wish::Publish { topic, qos, retain, payload }
            }
            Action::Subscribe { subscription, .. } => {
                Wish::Subscribe { filter: subscription.filter, qos: subscription.qos }
            }
            _ => return Verdict::Deny(ReasonCode::NotAuthorized),
        };
        let (Action::Publish { client_id, .. } | Action::Subscribe { client_id, .. }) = action
        else {
            return Verdict::Deny(ReasonCode::NotAuthorized);
        };
        if self.guards.authorize.is_none() {
            return Verdict::Allow;
        }
        let place = self.places.get(from.index()).and_then(Option::as_deref);
        let user_name = place.and_then(|connection| connection.user_name.as_deref());
        let client_id = std::str::from_utf8(client_id).unwrap_or_default();
        match self.guards.allows(&Access::new(client_id, user_name, wish)) {
            true => Verdict::Allow,
            false => Verdict::Deny(ReasonCode::NotAuthorized),
        }
    }
}

/// Keeps a buffer for the next to need one.
fn keep(spare: &mut Vec<Vec<u8>>, buffer: Option<Vec<u8>>) {
    if let Some(buffer) = buffer
        && buffer.capacity() <= SPARE_BYTES
        && spare.len() < SPARE
    {
        spare.push(buffer);
    }
}

/// Finds out whether a client may connect, in a task by itself: it may take long, or panic.
fn decide(decision: Deciding, patience: Duration) -> Deciding {
    Box::pin(async move {
        let mut task = JoinSet::new();
        task.spawn(decision);
        match time::timeout(patience, task.join_next()).await {
            Ok(Some(Ok(decision))) => decision,
            Ok(_) => Err(ReasonCode::UnspecifiedError),
            Err(_) => Err(ReasonCode::ServerBusy),
        }
    })
}
