//! The task that serves connections: one at a time, with what they have sent.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mqtt_core::{
    Disconnect, Instant, ReasonCode, Version,
    broker::{Broker, Large},
    wire::{Header, PacketType},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{self, JoinSet},
    time::{self, Sleep},
};
use tracing::Span;

use super::{Statistics, host::Connections, listener::Accepted, losses::Losses, sys::Sys};

/// What is read at once, in bytes.
const READ: usize = 16 * 1024;

/// After how many bytes of one connection it is looked whether others have something to say; and how many
/// bytes they may say then.
const SHARE: usize = 2 * 1024;

/// How many commands are done before connections have their turn.
const COMMANDS: usize = 64;

/// How many connections are taken in before others have their turn.
const ARRIVALS: usize = 64;

/// How often it is seen to whoever waits for others, in milliseconds.
const TICK: u64 = 100;

/// What the broker's handles ask for.
pub(super) type Command = Box<dyn FnOnce(&mut Shard) + Send>;

/// A broker, its connections, and where they come from.
pub(super) struct Shard {
    pub(super) core: Broker<Large>,
    pub(super) host: Connections,
    pub(super) accepted: mpsc::Receiver<Accepted>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) listeners: JoinSet<()>,
    pub(super) max_connections: usize,
    buffer: Box<[u8]>,
    guest: Box<[u8]>,
    next_tick: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    arrivals: u64,
    refusals: u64,
    sys: Sys,
    losses: Losses,
    #[cfg(feature = "persistence")]
    pub(super) saver: Option<super::saver::Saver>,
    /// The last to be dropped: who waits for the end may use the file again.
    pub(super) leaving: Option<Leaving>,
}

/// How much a connection may say in its turn.
#[derive(Clone, Copy, PartialEq)]
enum Share {
    /// A buffer full, with interludes.
    Whole,
    /// A little, in somebody else's turn.
    Guest,
}

/// The broker shuts down.
pub(super) struct Leaving {
    until: Instant,
    /// Dropped with the rest, which tells those who wait for it.
    _done: Vec<oneshot::Sender<()>>,
}

/// The time that the broker is told: that of the wall when it began, so that it goes on where another
/// broker has ended, and what has passed since.
pub(super) struct Clock {
    start: time::Instant,
    pub(super) began: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = Instant::from_millis(since.as_millis() as u64);
        Self { start: time::Instant::now(), began }
    }

    pub(super) fn now(&self) -> Instant {
        self.began + self.start.elapsed().as_millis() as u64
    }

    pub(super) fn at(&self, instant: Instant) -> time::Instant {
        let after = Duration::from_millis(instant.since(self.began));
        self.start.checked_add(after).unwrap_or_else(|| time::Instant::now() + FAR)
    }
}

/// Longer than it is worth setting a timer for.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

impl Shard {
    pub(super) fn new(
        core: Broker<Large>,
        host: Connections,
        accepted: mpsc::Receiver<Accepted>,
        commands: mpsc::Receiver<Command>,
        listeners: JoinSet<()>,
        max_connections: usize,
        sys: Sys,
    ) -> Self {
        Self {
            core,
            host,
            accepted,
            commands,
            listeners,
            max_connections,
            buffer: vec![0; READ].into_boxed_slice(),
            guest: vec![0; SHARE].into_boxed_slice(),
            next_tick: None,
            timer: None,
            arrivals: 0,
            refusals: 0,
            sys,
            losses: Losses::default(),
            #[cfg(feature = "persistence")]
            saver: None,
            leaving: None,
        }
    }

    /// Serves until it is told to stop, or nobody is left to do so.
    pub(super) async fn run(mut self) {
        task::unconstrained(poll_fn(|cx| self.poll_turn(cx))).await;
    }

    /// Does what there is to do, each connection's share of it.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.host.queue.task.register(cx.waker());
        self.host.now = self.host.clock.now();
        let Some(commands) = self.poll_commands(cx) else { return Poll::Ready(()) };
        let mut more = self.poll_arrivals(cx) | commands;
        self.tick();
        self.host.gather(cx);
        while let Some(place) = self.host.turn.pop_front() {
            self.serve(place, Share::Whole);
        }
        self.save(cx);
        self.host.flush_all();
        while let Some(gone) = self.host.next_ended() {
            self.core.closed(self.host.now, gone, &mut self.host);
            self.host.finish();
            self.host.remove(gone.index());
            self.save(cx);
            self.host.flush_all();
        }
        if let Some(leaving) = &self.leaving
            && (leaving.until <= self.host.now || self.host.len() == 0)
            && self.is_saved(cx)
            && self.is_deaf(cx)
        {
            return Poll::Ready(());
        }
        more |= !self.host.again.is_empty();
        if more || self.poll_timer(cx) {
            // Not before the runtime has looked what else there is.
            let _ = pin!(task::yield_now()).poll(cx);
        }
        Poll::Pending
    }

    /// Does what the handles ask for. Whether there may be more; nothing if there are no handles.
    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        for _ in 0..COMMANDS {
            let Poll::Ready(command) = self.commands.poll_recv(cx) else { return Some(false) };
            match command {
                Some(command) => command(self),
                None => return self.leaving.is_some().then_some(false),
            }
        }
        Some(true)
    }

    /// Whether nobody listens any more, once they have been told. If not, the task is woken when nobody does.
    fn is_deaf(&mut self, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(ended) = self.listeners.poll_join_next(cx) {
            if ended.is_none() {
                return true;
            }
        }
        false
    }

    pub(super) fn statistics(&self) -> Statistics {
        let Self { core, host, .. } = self;
        Statistics {
            uptime: Duration::from_millis(host.now.since(self.host.clock.began)),
            connections: host.len(),
            connections_accepted: self.arrivals,
            connections_refused: self.refusals,
            clients: host.clients,
            clients_maximum: host.most_clients,
            sessions: core.sessions(),
            subscriptions: core.subscription_count(),
            shared_subscriptions: core.shared_subscription_count(),
            retained: core.retained(),
            kept: core.messages(),
            kept_bytes: core.bytes(),
            outgoing_bytes: host.outgoing(),
            bytes_received: host.traffic.bytes_received,
            bytes_sent: host.traffic.bytes_sent,
            packets_received: host.traffic.packets_received,
            packets_sent: host.traffic.packets_sent,
            messages: core.statistics(),
            persistence: self.persistence(),
        }
    }

    /// Takes in who has come. Whether there may be more.
    fn poll_arrivals(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..ARRIVALS {
            let Poll::Ready(Some(arrival)) = self.accepted.poll_recv(cx) else { return false };
            self.arrivals += 1;
            if self.leaving.is_some() || self.host.len() >= self.max_connections {
                self.refusals += 1;
                continue;
            }
            match self.core.open(self.host.now) {
                Ok(id) => self.host.insert(id, arrival),
                Err(_) => self.refusals += 1,
            }
        }
        true
    }

    /// Does what is due.
    fn tick(&mut self) {
        let now = self.host.now;
        self.core.tick(now, &mut self.host);
        self.host.finish();
        if self.next_tick.is_some_and(|at| at <= now) {
            self.next_tick = None;
            self.host.tick();
        }
        if self.sys.due.is_some_and(|due| due <= now) {
            let numbers = self.statistics();
            self.sys.tell(now, &numbers, &mut self.core, &mut self.host);
        }
        self.losses.trace(now, &self.core.statistics());
    }

    /// Lets the task be woken when something is due. Whether it is already.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if self.next_tick.is_none() && self.host.is_waiting() {
            self.next_tick = Some(self.host.now + TICK);
        }
        let leaving = self.leaving.as_ref().map(|leaving| leaving.until);
        let leaving = leaving.filter(|until| *until > self.host.now);
        let saving = self.save_deadline();
        let due = [self.core.deadline(), self.next_tick, self.sys.due, saving, leaving];
        let Some(due) = due.into_iter().flatten().min() else { return false };
        let at = self.host.clock.at(due);
        let timer = self.timer.get_or_insert_with(|| Box::pin(time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    /// A connection's turn.
    fn serve(&mut self, place: usize, share: Share) {
        let mut buffer = std::mem::take(self.buffer(share));
        if self.attend(place, &mut buffer) {
            self.host.enqueue(place);
        }
        *self.buffer(share) = buffer;
    }

    /// What a turn reads into. That of another turn is in use while that has an interlude.
    const fn buffer(&mut self, share: Share) -> &mut Box<[u8]> {
        match share {
            Share::Whole => &mut self.buffer,
            Share::Guest => &mut self.guest,
        }
    }

    /// Does what there is to be done for a connection. Whether there may be more.
    fn attend(&mut self, place: usize, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.host.get(place) else { return false };
        connection.is_queued = false;
        if connection.is_written() {
            self.host.flush(place);
        }
        let Some(connection) = self.host.get(place) else { return false };
        if connection.is_closing {
            return self.discard(place, buffer);
        }
        let span = connection.span.clone();
        let _entered = span.as_deref().map(Span::enter);
        let is_deciding = connection.is_deciding();
        if is_deciding && connection.poll_decision().is_ready()
            || std::mem::take(&mut connection.goes_on)
        {
            self.core.resume(connection.id);
            connection.asks_again = true;
        }
        if !connection.is_deciding() && std::mem::take(&mut connection.asks_again) {
            self.take_in(place, &[]);
        }
        !self.host.park(place) && self.read(place, buffer)
    }

    /// Takes in what a connection has sent, as much as the buffer holds. Whether there may be more. If that is
    /// much, what others are to get does not wait for it.
    fn read(&mut self, place: usize, buffer: &mut [u8]) -> bool {
        let is_roomy = self.host.is_roomy();
        let Some(connection) = self.host.get(place) else { return false };
        if !connection.is_read() || connection.is_stopped && !is_roomy {
            return false;
        }
        match connection.poll_read(buffer) {
            Poll::Pending => false,
            Poll::Ready(Ok(len @ 1..)) => {
                if len > SHARE {
                    self.host.flush_all();
                }
                self.take_in(place, &buffer[..len]);
                self.host.get(place).is_some_and(|connection| connection.stream.has_more())
            }
            // It has been stopped in the middle of what it had to say: the end is met again behind that.
            Poll::Ready(_) if connection.is_stopped => false,
            Poll::Ready(_) => {
                self.host.end(place);
                false
            }
        }
    }

    /// Takes acknowledgements that stand behind a message that waits: somebody may wait for these who is
    /// waited for. They have no order among messages of the other direction. What is left of the input.
    fn take_acknowledgements(&mut self, place: usize, input: &[u8]) -> Option<Vec<u8>> {
        let id = self.host.get(place).filter(|one| one.is_stopped && !one.is_closing)?.id;
        let (acknowledgements, others) = acknowledgements(input)?;
        let mut rest = &acknowledgements[..];
        self.core.resume(id);
        self.show(place, &mut rest);
        self.host.traffic.packets_received += packets(taken(&acknowledgements, rest));
        Some([rest, &others[..]].concat())
    }

    /// Drops what a connection sends that is over. Whether there may be more.
    fn discard(&mut self, place: usize, buffer: &mut [u8]) -> bool {
        match self.host.get(place).map(|connection| connection.poll_read(buffer)) {
            Some(Poll::Ready(Ok(1..))) => true,
            Some(Poll::Ready(_)) => {
                self.host.end(place);
                false
            }
            _ => false,
        }
    }

    /// Gives the broker what a connection has sent: what was left, and what has been received now.
    fn take_in(&mut self, place: usize, received: &[u8]) {
        self.host.traffic.bytes_received += received.len() as u64;
        let Some(connection) = self.host.get(place) else { return };
        let mut tail = connection.tail.take();
        // Seen already, and not taken.
        let mut seen = tail.len();
        if !tail.is_empty() {
            tail.extend_from_slice(received);
        }
        let all = if tail.is_empty() { received } else { &tail[..] };
        let mut input = all;
        loop {
            let (mut shown, hidden) = input.split_at(input.len().min(seen + SHARE));
            self.show(place, &mut shown);
            seen = shown.len();
            input = &input[input.len() - seen - hidden.len()..];
            if hidden.is_empty() || self.host.get(place).is_none_or(|one| one.is_closing) {
                break;
            }
            self.host.has_kept(place, input.len());
            self.interlude(place);
        }
        self.host.traffic.packets_received += packets(taken(all, input));
        let fewer = self.take_acknowledgements(place, input);
        if let Some(fewer) = &fewer {
            input = fewer;
        }
        let Self { core, host, .. } = self;
        let Some(connection) = host.get(place).filter(|one| !one.is_closing) else { return };
        // CONNECT stays until enhanced authentication is over; what counts is what comes behind it.
        connection.is_held = !connection.is_asked() && is_whole(input);
        if connection.is_behind
            && let Some(client) = core.client(connection.id)
        {
            host.catch_up(place, client.waiting, client.waiting_bytes);
        }
        let len = input.len();
        let rest = match fewer {
            Some(fewer) => fewer,
            None if tail.is_empty() => input.to_vec(),
            None => end_of(len, tail),
        };
        host.keep(place, rest);
    }

    /// Lets the broker take what a connection has sent, as far as it can now.
    fn show(&mut self, place: usize, input: &mut &[u8]) {
        let Self { core, host, .. } = self;
        loop {
            let Some(connection) = host.get(place).filter(|one| !one.is_closing) else {
                return;
            };
            let id = connection.id;
            host.begin(place);
            let result = core.poll(host.now, id, input, host);
            host.finish();
            if let Err(error) = result {
                tracing::debug!(%error, place, "a connection ends");
            }
            let Some(connection) = host.get(place) else { return };
            if !connection.is_deciding() || connection.poll_decision().is_pending() {
                return;
            }
            core.resume(id);
        }
    }

    /// While one connection has much to say, others say a little.
    fn interlude(&mut self, speaker: usize) {
        self.host.look();
        let dirty = self.host.dirty();
        for _ in 0..self.host.turn.len() {
            match self.host.turn.pop_front() {
                Some(place) if place == speaker => self.host.again.push(place),
                Some(place) => self.serve(place, Share::Guest),
                None => {}
            }
        }
        self.host.flush_but(dirty);
    }

    /// Begins to shut down: nobody comes any more, and everybody goes.
    pub(super) fn leave(&mut self, within: Duration, done: oneshot::Sender<()>) {
        let until = self.host.now + u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        if let Some(leaving) = &mut self.leaving {
            leaving.until = leaving.until.min(until);
            return leaving._done.push(done);
        }
        self.listeners.abort_all();
        self.leaving = Some(Leaving { until, _done: vec![done] });
        // Wills are for those that are still there: who leaves none goes last.
        for leaves_will in [true, false] {
            for place in 0..self.host.places() {
                self.dismiss(place, leaves_will);
            }
        }
    }

    /// Sends a connection away, if its client leaves a will, or leaves none.
    fn dismiss(&mut self, place: usize, leaves_will: bool) {
        let Some(id) = self.host.get(place).map(|connection| connection.id) else { return };
        if self.core.client(id).is_some_and(|client| client.has_will) == leaves_will {
            let goodbye = Disconnect::from(ReasonCode::ServerShuttingDown);
            // One that is over already has been told why.
            let _ = self.core.disconnect(self.host.now, id, &goodbye, &mut self.host);
            self.host.finish();
        }
    }
}

/// What has been taken off the front.
fn taken<'b>(all: &'b [u8], rest: &[u8]) -> &'b [u8] {
    all.get(..all.len() - rest.len()).unwrap_or_default()
}

/// The last bytes, so many. What was before them gives its memory back.
fn end_of(len: usize, bytes: Vec<u8>) -> Vec<u8> {
    match bytes.len() - len {
        0 => bytes,
        taken => bytes[taken..].to_vec(),
    }
}

/// How many packets these are.
fn packets(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while let Ok(Some((header, body))) = Header::decode(Version::V5, bytes) {
        bytes = body.get(header.remaining_length as usize..).unwrap_or_default();
        count += 1;
    }
    count
}

/// The acknowledgements of what was sent to a client that stand behind a message of its own, perhaps among
/// more of these and their releases, and what remains without them. Nothing if there are none.
fn acknowledgements(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut acknowledgements, mut kept) = (Vec::new(), Vec::new());
    let mut rest = input;
    while let Ok(Some((header, _))) = Header::decode(Version::V5, rest)
        && let Some((packet, after)) = rest.split_at_checked(header.packet_len())
    {
        match header.packet_type {
            PacketType::PubAck | PacketType::PubRec | PacketType::PubComp if !kept.is_empty() => {
                acknowledgements.extend_from_slice(packet);
            }
            PacketType::Publish => kept.extend_from_slice(packet),
            PacketType::PubRel if !kept.is_empty() => kept.extend_from_slice(packet),
            _ => break,
        }
        rest = after;
    }
    kept.extend_from_slice(rest);
    (!acknowledgements.is_empty()).then_some((acknowledgements, kept))
}

/// Whether there is a whole packet at the front.
fn is_whole(input: &[u8]) -> bool {
    matches!(
        Header::decode(Version::V5, input),
        Ok(Some((header, _))) if header.packet_len() <= input.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_much_is_small() {
        let mut much = vec![0; 1024 * 1024];
        much.extend(*b"rest");
        let rest = end_of(4, much);
        assert_eq!(rest, b"rest");
        assert!(rest.capacity() <= 1024, "{} bytes", rest.capacity());
        assert_eq!(end_of(4, rest), b"rest");
    }
}
