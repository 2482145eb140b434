//! All connections: what is written to them, what they may do, and who waits for whom.

use std::{collections::VecDeque, sync::Arc, task::Context, time::Duration};

use mqtt_core::{
    Instant,
    broker::{Action, Answer, Config, ConnectionId, Haste, Host, Key, Notice, Verdict},
};

use super::{
    access::Guards,
    connection::Connection,
    events::Observers,
    ledger::{Held, Holders, Ledger},
    lent::Spare,
    listener::Accepted,
    ready::Queue,
    shard::Clock,
    sockets::{News, Sockets},
    stream::Stream,
};
use crate::out::Out;

/// Bytes waiting for a connection from which on whoever sends it more is made to wait.
pub(super) const SOFT: usize = 64 * 1024;

/// Bytes waiting for a connection from which on there is no room for more.
const HARD: usize = 256 * 1024;

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

/// What has gone over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) packets_received: u64,
    pub(super) packets_sent: u64,
}

/// All connections of a shard.
pub(super) struct Connections {
    pub(super) places: Vec<Option<Box<Connection>>>,
    open: usize,
    pub(super) queue: Arc<Queue>,
    sockets: Sockets,
    pub(super) now: Instant,
    pub(super) clock: Clock,
    pub(super) guards: Guards,
    pub(super) observers: Observers,
    /// How long a decision may take.
    pub(super) patience: Duration,
    /// How much may wait for one session.
    pub(super) queue_messages: usize,
    pub(super) queue_bytes: usize,
    /// Whose input is being taken.
    pub(super) from: Option<usize>,
    /// Whose sink was given last.
    last: Option<usize>,
    /// Which are to be written to at the end of the turn.
    dirty: Vec<usize>,
    /// Which have something to do, in this order.
    pub(super) turn: VecDeque<usize>,
    /// Which have more to do in the next turn.
    pub(super) again: Vec<usize>,
    /// Which wait until something is saved.
    parked: Vec<usize>,
    /// Which others wait for.
    pub(super) blockers: Vec<usize>,
    /// Which are over for the broker, and linger.
    pub(super) closing: VecDeque<(ConnectionId, Instant)>,
    /// Which are over for the transport.
    pub(super) ended: Vec<usize>,
    spare: Spare,
    /// Bytes waiting for all connections.
    outgoing: usize,
    /// Bytes of packets that have not come whole.
    incoming: usize,
    budget: Budget,
    pub(super) traffic: Traffic,
    /// How many clients have been let in, and how many there were at most.
    pub(super) clients: usize,
    pub(super) most_clients: usize,
    /// What is written to connections that are not there.
    nowhere: Out,
    /// What has changed and is not saved, if anything is to be.
    pub(super) ledger: Option<Ledger>,
}

impl Holders for Vec<Option<Box<Connection>>> {
    fn held(&mut self, place: usize) -> Option<&mut Held> {
        self.get_mut(place)?.as_deref_mut().map(|connection| &mut connection.held)
    }
}

impl Connections {
    pub(super) fn new(
        guards: Guards,
        observers: Observers,
        config: &Config,
        budget: Budget,
        clock: Clock,
    ) -> Self {
        Self {
            places: Vec::new(),
            open: 0,
            queue: Arc::default(),
            sockets: Sockets::default(),
            now: clock.now(),
            clock,
            guards,
            observers,
            patience: Duration::from_millis(config.connect_timeout.into()),
            queue_messages: config.queue_messages,
            queue_bytes: config.queue_bytes,
            from: None,
            last: None,
            dirty: Vec::new(),
            turn: VecDeque::new(),
            again: Vec::new(),
            parked: Vec::new(),
            blockers: Vec::new(),
            closing: VecDeque::new(),
            ended: Vec::new(),
            spare: Spare::default(),
            outgoing: 0,
            incoming: 0,
            budget,
            traffic: Traffic::default(),
            clients: 0,
            most_clients: 0,
            nowhere: Out::default(),
            ledger: None,
        }
    }

    /// How many connections there are.
    pub(super) const fn len(&self) -> usize {
        self.open
    }

    /// Whether there may be much more of packets that cannot be taken yet.
    pub(super) const fn is_roomy(&self) -> bool {
        self.incoming < self.budget.incoming / 2
    }

    /// How many bytes wait for them.
    pub(super) const fn outgoing(&self) -> usize {
        self.outgoing
    }

    pub(super) fn get(&mut self, place: usize) -> Option<&mut Connection> {
        self.places.get_mut(place)?.as_deref_mut()
    }

    pub(super) fn at(&self, place: usize) -> Option<&Connection> {
        self.places.get(place)?.as_deref()
    }

    /// The first connection in a place from this one on, and its place.
    pub(super) fn next(&self, place: usize) -> Option<(usize, &Connection)> {
        let rest = self.places.get(place..)?;
        let ahead = rest.iter().position(Option::is_some)?;
        Some((place + ahead, self.at(place + ahead)?))
    }

    /// Makes place for a connection, whose turn is next.
    pub(super) fn insert(&mut self, id: ConnectionId, accepted: Accepted) {
        let place = id.index();
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        let mut connection = Connection::new(id, accepted);
        let queue = &self.queue;
        let attached = connection.stream.attach(place, &mut self.sockets, || queue.waker(place));
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(Box::new(connection));
            self.open += 1;
        }
        match attached {
            Ok(()) => self.enqueue(place),
            Err(error) => {
                tracing::warn!(%error, place, "a connection cannot be listened to");
                self.end(place);
            }
        }
    }

    /// A connection that is over for the transport, to be removed.
    pub(super) fn next_ended(&mut self) -> Option<ConnectionId> {
        loop {
            let place = self.ended.pop()?;
            if let Some(connection) = self.get(place) {
                return Some(connection.id);
            }
        }
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, place: usize) {
        self.release(place);
        let Some(mut gone) = self.places.get_mut(place).and_then(Option::take) else { return };
        if gone.is_queued {
            // Who has the place next has turns of its own.
            self.again.retain(|queued| *queued != place);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.forget(place, &gone.held);
        }
        self.open -= 1;
        self.outgoing -= gone.out.counted();
        self.incoming -= gone.kept as usize;
        gone.out.clear();
        gone.out.reclaim(&mut self.spare);
    }

    /// Keeps what a connection has sent and cannot be taken yet. When there is too much from all
    /// together, whoever has most of it goes.
    pub(super) fn keep(&mut self, place: usize, tail: Vec<u8>) {
        let Some(connection) = self.get(place) else { return };
        let len = tail.len();
        connection.tail.put(tail);
        let before = std::mem::replace(&mut connection.kept, len as u32) as usize;
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

    /// No more is left than so many bytes of what a connection had sent and could not be taken.
    pub(super) fn has_kept(&mut self, place: usize, most: usize) {
        let Some(connection) = self.get(place) else { return };
        let before = connection.kept;
        connection.kept = before.min(u32::try_from(most).unwrap_or(u32::MAX));
        let less = before - connection.kept;
        self.incoming -= less as usize;
    }

    /// Gives a connection a turn, this one or the next.
    pub(super) fn enqueue(&mut self, place: usize) {
        if self.is_to_be_queued(place) {
            self.again.push(place);
        }
    }

    /// Whether a connection was not to have a turn yet; from now on it is.
    fn is_to_be_queued(&mut self, place: usize) -> bool {
        let Some(connection) = self.get(place) else { return false };
        !std::mem::replace(&mut connection.is_queued, true)
    }

    /// Finds out whose turn it is: those first about whom there is news, which wake the task from now on.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>) {
        let mut sockets = std::mem::take(&mut self.sockets);
        sockets.poll(cx, |news| self.hear(news));
        self.sockets = sockets;
        let queue = Arc::clone(&self.queue);
        queue.take(|place| {
            if self.is_to_be_queued(place) {
                self.turn.push_back(place);
            }
        });
        self.turn.extend(self.again.drain(..));
    }

    /// Adds those to the turn of whom there is news already.
    pub(super) fn look(&mut self) {
        let mut sockets = std::mem::take(&mut self.sockets);
        sockets.look(|news| self.hear(news));
        self.sockets = sockets;
    }

    fn hear(&mut self, news: News) {
        let Some(connection) = self.get(news.place) else { return };
        if let Stream::Socket(socket) = &mut connection.stream {
            socket.hear(news);
        }
        if self.is_to_be_queued(news.place) {
            self.turn.push_back(news.place);
        }
    }

    /// A connection's input is being taken: those who cannot take what it sends make it wait.
    pub(super) const fn begin(&mut self, place: usize) {
        self.from = Some(place);
    }

    /// All has been written that was to be.
    pub(super) fn finish(&mut self) {
        self.settle();
        let from = self.from.take();
        if let Some(ledger) = &mut self.ledger {
            ledger.end_call(from, &mut self.places);
        }
    }

    /// Lets a connection wait until something is saved, if there is too much to be saved already.
    pub(super) fn park(&mut self, place: usize) -> bool {
        let is_full = self.ledger.as_ref().is_some_and(Ledger::is_full);
        if is_full {
            self.parked.push(place);
        }
        is_full
    }

    /// Sees to the sink that was given last.
    fn settle(&mut self) {
        let Some(place) = self.last.take() else { return };
        let from = self.from;
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return;
        };
        let (len, before) = (connection.out.len(), connection.out.counted());
        if let Some(ledger) = &mut self.ledger {
            ledger.wrote(place, &mut connection.held, (len - before) as u32);
        }
        self.outgoing = self.outgoing + len - before;
        connection.out.count();
        self.traffic.packets_sent += u64::from(connection.out.take_packets());
        if len == 0 {
            return connection.out.reclaim(&mut self.spare);
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

    /// Writes to a connection what there is to be written.
    pub(super) fn flush(&mut self, place: usize) {
        let Some(connection) = self.places.get_mut(place).and_then(Option::as_deref_mut) else {
            return;
        };
        let before = connection.out.len();
        let result = connection.write();
        self.traffic.bytes_sent += (before - connection.out.len()) as u64;
        if let Err(error) = result {
            tracing::debug!(%error, place, "a connection is lost");
            connection.out.clear();
            connection.held.clear();
            self.ended.push(place);
        }
        let len = connection.out.len();
        self.outgoing = self.outgoing + len - connection.out.counted();
        connection.out.count();
        if len == 0 {
            connection.out.reclaim(&mut self.spare);
        }
        if len >= SOFT || connection.out.is_full() {
            return;
        }
        let waits = !connection.blocks.is_empty() && !connection.is_behind;
        if std::mem::take(&mut connection.was_full) {
            connection.asks_again = true;
            self.enqueue(place);
        }
        if waits {
            self.release(place);
        }
    }

    /// How many have been written to.
    pub(super) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Writes to all that have been written to.
    pub(super) fn flush_all(&mut self) {
        self.flush_but(0);
    }

    /// The same, but to those that were so many.
    pub(super) fn flush_but(&mut self, first: usize) {
        while self.dirty.len() > first
            && let Some(place) = self.dirty.pop()
        {
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

    /// The places there are, taken or not.
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    fn linger(&mut self, place: usize) {
        let until = self.now + LINGER;
        let Some(connection) = self.get(place) else { return };
        connection.tail.put(Vec::new());
        connection.inquiry = None;
        let kept = std::mem::take(&mut connection.kept);
        self.incoming -= kept as usize;
        let Some(connection) = self.get(place) else { return };
        if !connection.is_closing {
            connection.is_closing = true;
            let id = connection.id;
            self.closing.push_back((id, until));
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
}

/// What becomes of what has changed.
#[cfg(feature = "persistence")]
impl Connections {
    /// What has changed is to be saved: gives the keys.
    pub(super) fn seal(&mut self) -> super::ledger::Keys {
        let ledger = self.ledger.as_mut();
        ledger.map(|ledger| ledger.seal(&mut self.places)).unwrap_or_default()
    }

    /// It is saved: what has waited for that leaves.
    pub(super) fn saved(&mut self) {
        let Some(ledger) = &mut self.ledger else { return };
        for place in ledger.saved(&mut self.places) {
            self.flush(place);
        }
        for place in std::mem::take(&mut self.parked) {
            self.enqueue(place);
        }
    }

    /// It is not: the same has to be saved once more.
    pub(super) fn unsaved(&mut self, keys: super::ledger::Keys) {
        if let Some(ledger) = &mut self.ledger {
            ledger.failed(keys);
        }
    }

    /// Whether there is something to be saved, and whether something waits for that.
    pub(super) fn is_unsaved(&self) -> Option<bool> {
        let ledger = self.ledger.as_ref().filter(|ledger| !ledger.is_empty())?;
        Some(ledger.is_urgent)
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
                let out = connection.out.lend(&mut self.spare);
                out.set_limit(if is_tight { 1 } else { HARD });
                out
            }
            _ => {
                self.nowhere.clear();
                &mut self.nowhere
            }
        }
    }

    fn keeps_records(&self) -> bool {
        self.ledger.is_some()
    }

    fn changed(&mut self, key: Key<'_>, haste: Haste) {
        if let Some(ledger) = &mut self.ledger {
            ledger.change(key, haste);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        self.settle();
        self.linger(connection.index());
    }

    fn authorize(&mut self, from: ConnectionId, action: &Action<'_>) -> Verdict {
        self.judge(from.index(), action)
    }

    /// What a client says of itself is no more than that, if nobody has asked who it is.
    fn user_name(&self, of: ConnectionId) -> Option<&[u8]> {
        let connection = self.at(of.index())?;
        let inquiry = connection.inquiry.as_ref();
        let is_known = self.guards.authenticate.is_some()
            || inquiry.is_some_and(|inquiry| inquiry.login.is_some());
        connection.user_name.as_deref().filter(|_| is_known).map(str::as_bytes)
    }

    fn notice(&mut self, notice: &Notice<'_>) {
        self.note(notice);
    }

    fn answer<R>(&mut self, to: ConnectionId, write: impl FnOnce(&mut Out, &Answer<'_>) -> R) -> R {
        let place = to.index();
        let inquiry = self.get(place).and_then(|connection| connection.inquiry.as_mut());
        let data = inquiry.and_then(|inquiry| inquiry.answer.take());
        let answer = Answer { authentication_data: data.as_deref(), ..Answer::default() };
        let result = write(self.sink(to), &answer);
        let inquiry = self.get(place).and_then(|connection| connection.inquiry.as_mut());
        if let Some(inquiry) = inquiry {
            inquiry.answer = data; // there may have been no room
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use mqtt_core::{
        broker::{Broker, Large},
        router::Limits,
    };

    use super::*;
    use crate::{broker::origin::Origin, transport::BoxedTransport};

    fn accepted() -> Accepted {
        let pipe: BoxedTransport = Box::new(tokio::io::duplex(1).0);
        Accepted { stream: pipe.into(), origin: Origin::default() }
    }

    #[test]
    fn who_takes_over_a_place_does_not_take_over_turns() {
        let (config, budget) = (Config::default(), Budget { outgoing: 1, incoming: 1 });
        let (guards, clock) = (Guards::default(), Clock::start());
        let mut host = Connections::new(guards, Observers::default(), &config, budget, clock);
        let mut core = Broker::<Large>::large(config, 1, 1, Limits::default());
        let first = core.open(host.now).unwrap();
        host.insert(first, accepted());
        core.closed(host.now, first, &mut host);
        host.remove(first.index());
        let second = core.open(host.now).unwrap();
        host.insert(second, accepted());
        assert!(first != second && first.index() == second.index());
        assert_eq!(host.again, [second.index()]);
    }
}
