//! An application around a [`Client`]: the loop that every adapter writes, with a watchful sink.

use std::collections::VecDeque;

use mqtt_core::{
    Client, Connect, Error, Event, Instant, MIN_SINK, PacketId, Publish, PublishError, ReasonCode,
    Receipt, SendError, Sink, Subscribe, store::Store,
};

use crate::{
    event::keep,
    pair::{End, Pair},
    rng::Rng,
};

/// A sink of any capacity, which may pretend to be fuller than it is.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// How many bytes fit.
    pub capacity: usize,
    /// How much room it admits to, if not all.
    pub squeezed: Option<usize>,
    bytes: Vec<u8>,
    /// What was written since the last check.
    fresh: usize,
    /// How many bytes of the packet written last are still owed.
    owed: usize,
}

impl Outbox {
    /// An empty sink of this capacity.
    pub const fn new(capacity: usize) -> Self {
        Self { capacity, squeezed: None, bytes: Vec::new(), fresh: 0, owed: 0 }
    }

    /// The bytes that were written and not sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether everything was sent.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written since the last [`check`](Self::check).
    pub fn fresh(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.fresh..]
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        (self.fresh, self.owed) = (0, 0);
        self.bytes.clear();
    }

    /// The first bytes are gone, as many as there are.
    pub fn clear_sent(&mut self, len: usize) {
        self.consume(len.min(self.bytes.len()));
    }

    /// The first bytes are gone.
    pub fn consume(&mut self, len: usize) {
        self.bytes.drain(..len);
    }

    /// As [`check`](Self::check) when the connection ends, which spares the rest of a payload.
    pub fn check_last(&mut self) {
        assert!(self.owed == 0 || self.fresh == 0, "a packet within another");
        let owed = self.owed;
        self.check(owed);
        self.owed = 0;
    }

    /// Asserts that what was written since last time are whole packets, but for the `owed` bytes of
    /// a payload that is being streamed. Gives the number of packets begun.
    pub fn check(&mut self, owed: usize) -> usize {
        let mut fresh = &self.bytes[self.bytes.len() - self.fresh..];
        let mut packets = 0;
        while !fresh.is_empty() {
            if self.owed == 0 {
                self.owed = packet_len(fresh).expect("half a fixed header");
                packets += 1;
            }
            let len = self.owed.min(fresh.len());
            self.owed -= len;
            fresh = &fresh[len..];
        }
        self.fresh = 0;
        assert_eq!(self.owed, owed, "half a packet");
        packets
    }
}

/// Whether this is the last that a connection tells.
pub const fn is_last(result: &Result<Option<Event<'_>>, Error>) -> bool {
    matches!(result, Err(_) | Ok(Some(Event::Refused(_) | Event::Disconnected(_))))
}

/// The length of the packet at the front, if its fixed header is there.
pub fn packet_len(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (place, byte) in bytes.get(1..)?.iter().enumerate().take(4) {
        len |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(2 + place + len);
        }
    }
    None
}

impl Sink for Outbox {
    fn room(&self) -> usize {
        (self.capacity - self.bytes.len()).min(self.squeezed.unwrap_or(usize::MAX))
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > self.room() {
            return None;
        }
        if let Some(room) = &mut self.squeezed {
            *room -= len;
        }
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0xee);
        self.fresh += len;
        self.bytes.get_mut(start..)
    }
}

/// A [`Client`], its buffers, and what it has told.
#[derive(Debug)]
pub struct App<S> {
    /// The machine.
    pub client: Client<S>,
    /// What it writes to.
    pub out: Outbox,
    /// What it has told, oldest first.
    pub events: VecDeque<Event<'static>>,
    /// How the connection ended, if by an error.
    pub error: Option<Error>,
    /// Whether it polls: a slow application does not, for a while.
    pub awake: bool,
    /// How many events it takes in one go.
    pub appetite: usize,
    /// How many bytes it can hold; see [`Config::whole`](mqtt_core::Config::whole).
    pub buffer: usize,
    /// If set, some polls find hardly any room in the sink.
    pub squeeze: Option<Rng>,
    rx: Vec<u8>,
    closing: bool,
}

impl<S: Store> App<S> {
    /// An application with room for everything.
    pub fn new(client: Client<S>) -> Self {
        Self {
            client,
            out: Outbox::new(4 << 20),
            events: VecDeque::new(),
            error: None,
            awake: true,
            appetite: usize::MAX,
            buffer: usize::MAX,
            squeeze: None,
            rx: Vec::new(),
            closing: false,
        }
    }

    /// Calls the machine, and checks what it wrote.
    pub fn call<R>(&mut self, f: impl FnOnce(&mut Client<S>, &mut Outbox) -> R) -> R {
        let result = f(&mut self.client, &mut self.out);
        self.out.check(self.client.payload_owed());
        result
    }

    /// A command: what it writes leaves room for the machine's own packets.
    pub fn command<T, E>(
        &mut self,
        f: impl FnOnce(&mut Client<S>, &mut Outbox) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.out.bytes.len();
        let result = self.call(f);
        match &result {
            Ok(_) => assert!(self.out.room() >= MIN_SINK, "no room for acknowledgements"),
            Err(_) => assert_eq!(self.out.bytes.len(), before, "an error wrote something"),
        }
        result
    }

    /// The oldest event that was not asked for yet.
    pub fn told(&mut self) -> Option<Event<'static>> {
        self.events.pop_front()
    }

    /// Lets the connection be closed once everything is sent.
    pub const fn hang_up(&mut self) {
        self.closing = true;
    }

    /// Nothing was told, and nothing is to be sent: nothing more happens, now.
    fn check_rest(&mut self, now: Instant) {
        if self.out.is_empty() {
            let before = self.rx.len();
            assert_eq!(self.poll_once(now), Ok(None), "it was not at rest");
            assert_eq!((self.rx.len(), self.out.bytes.len()), (before, 0), "it was not at rest");
            let deadline = self.client.deadline();
            assert!(deadline.is_none_or(|at| at > now), "{deadline:?} is past at {now:?}");
        }
    }

    fn poll_once(&mut self, now: Instant) -> Result<Option<Event<'static>>, Error> {
        let version = self.client.version();
        let mut input = &self.rx[..];
        let result = self.client.poll(now, &mut input, &mut self.out);
        let result = result.map(|event| event.map(|event| keep(version, event)));
        let read = self.rx.len() - input.len();
        self.rx.drain(..read);
        if is_last(&result) {
            self.out.check_last();
        } else {
            self.out.check(self.client.payload_owed());
        }
        result
    }
}

impl<S: Store> End for App<S> {
    fn opened(&mut self, _: Instant) {
        self.error = None;
    }

    fn room(&self) -> usize {
        self.buffer - self.rx.len()
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.rx.extend_from_slice(bytes);
    }

    fn poll(&mut self, now: Instant) -> bool {
        if !self.awake || self.closing {
            return false;
        }
        let before = (self.rx.len(), self.out.bytes.len(), self.events.len());
        let mut eaten = 0;
        while eaten < self.appetite {
            if let Some(rng) = &mut self.squeeze
                && rng.once_in(2)
            {
                self.out.squeezed = Some(rng.below(9) as usize);
            }
            let result = self.poll_once(now);
            let squeezed = self.out.squeezed.take().is_some();
            match result {
                Ok(Some(event)) => {
                    eaten += 1;
                    self.closing = matches!(event, Event::Refused(_) | Event::Disconnected(_));
                    self.events.push_back(event);
                    if self.closing {
                        break;
                    }
                }
                Ok(None) if squeezed => {}
                Ok(None) => {
                    self.check_rest(now);
                    break;
                }
                Err(Error::NotConnected) => break,
                Err(error) => {
                    self.error = Some(error);
                    self.closing = true;
                    break;
                }
            }
        }
        before != (self.rx.len(), self.out.bytes.len(), self.events.len()) || self.closing
    }

    fn unsent(&self) -> &[u8] {
        self.out.as_bytes()
    }

    fn sent(&mut self, len: usize) {
        self.out.consume(len);
    }

    fn is_closing(&self) -> bool {
        self.closing
    }

    fn deadline(&self) -> Option<Instant> {
        if self.awake && !self.closing { self.client.deadline() } else { None }
    }

    fn lost(&mut self, _: Instant) {
        self.client.closed();
        self.rx.clear();
        self.out.clear();
        self.closing = false;
    }
}

/// What an application does, at the time of the pair's clock. Nothing is sent before the pair is
/// driven.
impl<S: Store, E: End> Pair<App<S>, E> {
    /// Opens a new connection and sends CONNECT.
    ///
    /// # Errors
    ///
    /// Those of [`Client::connect`].
    pub fn connect(&mut self, connect: &Connect<'_>) -> Result<(), SendError> {
        let now = self.clock.now();
        self.open();
        self.client.call(|client, out| client.connect(now, connect, out))
    }

    /// Publishes.
    ///
    /// # Errors
    ///
    /// Those of [`Client::publish`].
    pub fn publish(&mut self, message: &Publish<'_>) -> Result<Option<PacketId>, PublishError> {
        let now = self.clock.now();
        self.client.command(|client, out| client.publish(now, message, out))
    }

    /// Subscribes.
    ///
    /// # Errors
    ///
    /// Those of [`Client::subscribe`].
    pub fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<PacketId, SendError> {
        let now = self.clock.now();
        self.client.command(|client, out| client.subscribe(now, subscribe, out))
    }

    /// Acknowledges a message.
    ///
    /// # Errors
    ///
    /// Those of [`Client::acknowledge`].
    pub fn acknowledge(&mut self, receipt: Receipt, reason: ReasonCode) -> Result<(), SendError> {
        let now = self.clock.now();
        self.client.call(|client, out| client.acknowledge(now, receipt, reason, out))
    }

    /// Drives, and gives the next event.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn event(&mut self) -> Event<'static> {
        self.drive();
        let error = self.client.error;
        self.client.told().unwrap_or_else(|| panic!("no event, error: {error:?}"))
    }

    /// Drives, and gives all events there are.
    pub fn events(&mut self) -> Vec<Event<'static>> {
        self.drive();
        self.client.events.drain(..).collect()
    }

    /// Drives, and gives the error that ended the connection.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn error(&mut self) -> Error {
        self.drive();
        self.client.error.take().expect("an error")
    }
}
