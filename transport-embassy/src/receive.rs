//! Reading from the transport, and what comes of it.

use core::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    task::{Context, Poll},
};

use embassy_time::Duration;
use embedded_io_async::{Error as _, ErrorKind, Read};
use mqtt_core::{Disconnect, Event, Instant, Message, QoS, wire::PacketType};

use crate::{
    alarm::Alarm,
    error::ConnectionError,
    inbox::{Delivery, InboxSize},
    input::{is_complete, packet_len},
    resources::{Guard, Resources, Sizes, now},
    runner::End,
    state::{Incoming, State},
};

/// The buffer that receives, and what is in it.
pub(crate) struct Receiver<'a, R: Sizes> {
    resources: &'a Resources<R>,
    /// How long a message may wait at QoS 0.
    patience: Duration,
    buffer: u8,
    /// Where the bytes are that the machine has not taken.
    start: usize,
    end: usize,
    /// A message, before those bytes, for which there was no other buffer to receive in.
    pending: Option<Pending>,
}

#[derive(Clone, Copy)]
struct Pending {
    delivery: Delivery,
    until: Instant,
}

/// What is next.
enum Step {
    /// To read more.
    Read,
    /// To wait for something else than bytes.
    Wait,
    End(End),
}

/// What became of reading.
enum Got {
    Bytes(usize),
    Failed(ErrorKind),
    End(End),
    /// There is something else to do.
    Interrupted,
}

impl<'a, R: Sizes> Receiver<'a, R> {
    pub(crate) const fn new(resources: &'a Resources<R>, patience: Duration) -> Self {
        Self { resources, patience, buffer: 0, start: 0, end: 0, pending: None }
    }

    fn lock(&self) -> Option<Guard<'a, R>> {
        self.resources.buffer(self.buffer)?.try_lock().ok() // nobody else has its number
    }

    /// Before a connection: discards what is left of the one before, but for a message that does not come
    /// again. That waits for its turn.
    pub(crate) async fn finish(&mut self) {
        (self.start, self.end) = (0, 0);
        self.pending = self.pending.filter(|Pending { delivery, .. }| {
            delivery.qos != QoS::AtMostOnce && delivery.remaining == 0
        });
        if self.pending.is_none_or(|pending| pending.delivery.stream.is_none()) {
            self.resources.with(State::cut);
        }
        let Some(mut guard) = self.lock() else { return };
        poll_fn(|cx| {
            self.resources.with(|state| {
                state.runner.register(cx.waker());
                state.pump(now());
                let done = self.pending.is_none() || self.hand_over(state, &mut guard);
                if done { Poll::Ready(()) } else { Poll::Pending }
            })
        })
        .await;
    }

    /// Receives until the connection is over; with `discards` only until the server has accepted it.
    pub(crate) async fn receive(&mut self, reader: &mut impl Read, discards: bool) -> End {
        let Some(mut guard) = self.lock() else { return ConnectionError::Closed.into() };
        loop {
            match self.step(&mut guard, discards) {
                Step::End(end) => return end,
                Step::Wait => self.pause().await,
                Step::Read => match self.read(&mut guard, reader, discards).await {
                    Got::Bytes(0) => return ConnectionError::Closed.into(),
                    Got::Bytes(count) => self.end += count,
                    Got::Failed(kind) => return ConnectionError::Transport(kind).into(),
                    Got::End(end) => return end,
                    Got::Interrupted => {}
                },
            }
        }
    }

    /// Does all that can be done without waiting.
    fn step(&mut self, guard: &mut Guard<'a, R>, discards: bool) -> Step {
        self.resources.with(|state| {
            let now = now();
            loop {
                self.deliver(state, guard, now);
                match self.scan(state, guard.as_ref(), now, discards) {
                    Err(end) => return Step::End(end),
                    Ok(true) => {}
                    Ok(false) => break,
                }
            }
            self.compact(guard);
            let bytes = guard.as_ref();
            let left = bytes.get(self.start..self.end).unwrap_or_default();
            let full = self.end >= bytes.len();
            if full || self.is_blocked(left) || is_complete(left) { Step::Wait } else { Step::Read }
        })
    }

    /// Looks after the machine while more is being read. What is to be done instead, if there is something.
    fn tend(
        &mut self,
        front: &[u8],
        discards: bool,
        alarm: &mut Alarm,
        cx: &mut Context<'_>,
    ) -> Option<Got> {
        // Once more when the deadline has come meanwhile.
        for _ in 0..2 {
            let deadline = self.resources.with(|state| {
                state.runner.register(cx.waker());
                let now = now();
                loop {
                    let waited = self.pending.is_some();
                    if waited && !self.copy_over(state, front) {
                        self.lose_patience(state, now);
                    }
                    match self.scan(state, front, now, discards) {
                        Err(end) => return Err(Got::End(end)),
                        // A message that had to wait for something, behind which nothing can be read.
                        Ok(true) if self.pending.is_some() && !waited => {
                            return Err(Got::Interrupted);
                        }
                        Ok(true) => {}
                        Ok(false) => return Ok(self.deadline(state)),
                    }
                }
            });
            match deadline {
                Err(got) => return Some(got),
                Ok(deadline) if !alarm.has_rung(cx, deadline) => return None,
                Ok(_) => {}
            }
        }
        None
    }

    /// Waits until something happens, or the deadline.
    async fn pause(&self) {
        let mut alarm = Alarm::default();
        let mut paused = false;
        poll_fn(|cx| {
            let deadline = self.resources.with(|state| {
                state.runner.register(cx.waker());
                self.deadline(state)
            });
            if mem::replace(&mut paused, true) || alarm.has_rung(cx, deadline) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    fn deadline(&self, state: &State<R>) -> Option<Instant> {
        let patience = self.pending.filter(Pending::is_dispensable).map(|pending| pending.until);
        [state.machine.deadline(), patience].into_iter().flatten().min()
    }

    /// Gives the bytes to the machine. Whether there may be more to do at once.
    fn scan(
        &mut self,
        state: &mut State<R>,
        bytes: &[u8],
        now: Instant,
        discards: bool,
    ) -> Result<bool, End> {
        if let Some(end) = state.ends(now) {
            return Err(end);
        }
        state.pump(now);
        let mut input = bytes.get(self.start..self.end).unwrap_or_default();
        if self.is_blocked(input) {
            let event = state.machine.tend(now, &mut state.out).map_err(ConnectionError::from)?;
            let Some(event) = event else { return Ok(false) };
            state.on_event(now, event)?;
            return Ok(true);
        }
        if self.pending.is_some() {
            let len = packet_len(input).unwrap_or(usize::MAX);
            input = input.get(..len).unwrap_or(input);
        }
        let given = input.len();
        let event = state.machine.poll(now, &mut input, &mut state.out);
        let taken = given - input.len();
        self.start += taken;
        match event.map_err(ConnectionError::from)? {
            None => return Ok(taken > 0 && self.pending.is_some()),
            Some(Event::Message(message)) => self.begin(state, bytes, &message, now),
            Some(Event::Payload { bytes: payload, remaining }) => {
                self.go_on(state, payload.len(), remaining, now);
            }
            Some(event @ Event::Connected(_)) if discards => {
                let _ = event;
                let _ = state.machine.disconnect(now, &Disconnect::default(), &mut state.out);
                return Err(End::Discarded);
            }
            Some(event) => state.on_event(now, event)?,
        }
        Ok(true)
    }

    /// A message, or the beginning of a long one, ends where the machine's input begins.
    fn begin(&mut self, state: &mut State<R>, bytes: &[u8], message: &Message<'_>, now: Instant) {
        let Some(topic) = message.topic.name() else { return }; // aliases are not accepted
        let topic = (topic.as_bytes().as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        let streamed = message.remaining > 0;
        if streamed {
            state.streams = state.streams.wrapping_add(1);
            state.incoming = Some(Incoming { number: state.streams, qos: message.qos });
        }
        let delivery = Delivery {
            buffer: self.buffer,
            start: packet_start(bytes, topic) as u32,
            end: self.start as u32,
            remaining: message.remaining,
            stream: streamed.then_some(state.streams),
            continued: false,
            qos: message.qos,
            receipt: message.receipt,
            connection: state.connection,
        };
        self.pending = Some(Pending { delivery, until: now + self.patience.as_millis() });
    }

    /// More of its payload does.
    fn go_on(&mut self, state: &mut State<R>, len: usize, remaining: u32, now: Instant) {
        let Some(Incoming { number, qos }) = state.incoming else { return };
        let delivery = Delivery {
            buffer: self.buffer,
            start: self.start.saturating_sub(len) as u32,
            end: self.start as u32,
            remaining,
            stream: Some(number),
            continued: true,
            qos,
            receipt: None,
            connection: state.connection,
        };
        self.pending = Some(Pending { delivery, until: now + self.patience.as_millis() });
    }

    /// Gives a message to the application, if there is a buffer for it or for what is behind it; one that
    /// waits too long is dropped.
    fn deliver(&mut self, state: &mut State<R>, guard: &mut Guard<'a, R>, now: Instant) {
        let Some(Pending { delivery, .. }) = self.pending else { return };
        let len = (delivery.end - delivery.start) as usize;
        let delivered = if len < self.end.saturating_sub(self.start) {
            self.copy_over(state, guard.as_ref())
        } else {
            self.hand_over(state, guard)
        };
        if !delivered {
            self.lose_patience(state, now);
        }
    }

    /// Gives the buffer with the message away, and takes another for what is behind it. Whether the message
    /// waits no more.
    fn hand_over(&mut self, state: &mut State<R>, guard: &mut Guard<'a, R>) -> bool {
        let Some((delivery, mut other)) = self.other(state) else { return self.pending.is_none() };
        let left = guard.as_ref().get(self.start..self.end).unwrap_or_default();
        if let Some(to) = other.as_mut().get_mut(..left.len()) {
            to.copy_from_slice(left);
        }
        (self.start, self.end) = (0, left.len());
        drop(mem::replace(guard, other)); // before anybody looks for it
        let buffer = mem::replace(&mut self.buffer, delivery.buffer);
        state.deliver(Delivery { buffer, ..delivery });
        true
    }

    /// Copies the message to another buffer and gives that away. Whether the message waits no more.
    fn copy_over(&mut self, state: &mut State<R>, bytes: &[u8]) -> bool {
        let Some((delivery, mut other)) = self.other(state) else { return self.pending.is_none() };
        let message = bytes.get(delivery.start as usize..delivery.end as usize).unwrap_or_default();
        if let Some(to) = other.as_mut().get_mut(..message.len()) {
            to.copy_from_slice(message);
        }
        drop(other);
        state.deliver(Delivery { start: 0, end: message.len() as u32, ..delivery });
        true
    }

    /// The message that waits, with the number of another buffer, and that buffer. Forgets one that nobody
    /// wants any more.
    fn other(&mut self, state: &mut State<R>) -> Option<(Delivery, Guard<'a, R>)> {
        let Pending { delivery, .. } = self.pending?;
        if delivery.continued && delivery.stream == state.abandoned {
            self.pending = None;
            return None;
        }
        let free = state.inbox.queues().free;
        let buffer = free.pop()?;
        match self.resources.buffer(buffer).map(|other| other.try_lock()) {
            Some(Ok(other)) => {
                self.pending = None;
                Some((Delivery { buffer, ..delivery }, other))
            }
            _ => {
                let _ = free.push(buffer); // where it was
                None
            }
        }
    }

    /// A message at QoS 0 that the application does not take is dropped some time, for something that it
    /// waits for may be behind.
    fn lose_patience(&mut self, state: &mut State<R>, now: Instant) {
        let late = self.pending.filter(|pending| pending.until <= now && pending.is_dispensable());
        if let Some(Pending { delivery, .. }) = late {
            state.dropped = state.dropped.wrapping_add(1);
            self.pending = None;
            if delivery.stream.is_some() {
                state.cut();
                state.machine.skip();
            }
        }
    }

    /// Whether what is next has to wait for the application to take what came before.
    fn is_blocked(&self, input: &[u8]) -> bool {
        let Some(Pending { delivery, .. }) = self.pending else { return false };
        delivery.stream.is_some() || is_message(input)
    }

    /// Moves what is left to the front, as far as a message allows.
    fn compact(&mut self, guard: &mut Guard<'a, R>) {
        let floor = self.pending.map_or(0, |pending| pending.delivery.end as usize);
        if self.start > floor && self.start <= self.end && self.end <= guard.as_ref().len() {
            guard.as_mut().copy_within(self.start..self.end, floor);
            self.end -= self.start - floor;
            self.start = floor;
        }
    }

    /// Reads behind what is left. Meanwhile the machine is looked after whenever the task is woken.
    async fn read(
        &mut self,
        guard: &mut Guard<'a, R>,
        reader: &mut impl Read,
        discards: bool,
    ) -> Got {
        let Some((front, back)) = guard.as_mut().split_at_mut_checked(self.end) else {
            return Got::Interrupted;
        };
        let mut reading = pin!(reader.read(back));
        let mut alarm = Alarm::default();
        poll_fn(|cx| {
            if let Poll::Ready(result) = reading.as_mut().poll(cx) {
                return Poll::Ready(match result {
                    Ok(count) => Got::Bytes(count),
                    Err(error) => Got::Failed(error.kind()),
                });
            }
            self.tend(front, discards, &mut alarm, cx).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Pending {
    const fn is_dispensable(&self) -> bool {
        matches!(self.delivery.qos, QoS::AtMostOnce)
    }
}

/// Whether a message is next, as far as can be seen.
fn is_message(input: &[u8]) -> bool {
    input.first().is_some_and(|first| first >> 4 == PacketType::Publish as u8)
}

/// Where a PUBLISH begins whose topic is there. Before that are its length, the remaining length, of which
/// each byte but the last has the highest bit set, and the first byte, which has not.
fn packet_start(bytes: &[u8], topic: usize) -> usize {
    let mut start = topic.saturating_sub(4);
    while start > 0 && bytes.get(start).is_some_and(|byte| byte & 0x80 != 0) {
        start -= 1;
    }
    start
}
