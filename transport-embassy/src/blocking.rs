//! A client without an executor: one [`step`](Client::step) that never blocks, for a super-loop or a task of an
//! RTOS.
//!
//! ```
//! use embedded_io::{Read, ReadReady, Write, WriteReady};
//! use mqtt_core::{Connect, Event, Filter, Instant, QoS, Subscribe, Subscription, Version, store::Fixed};
//! use transport_embassy::blocking::{Client, Error};
//!
//! fn run<T: Read + ReadReady + Write + WriteReady>(
//!     modem: T, // connected to the server
//!     millis: impl Fn() -> u64,
//! ) -> Result<(), Error<T::Error>> {
//!     let mut client = Client::<T, Fixed<8, 1024>, 1024, 512>::new(Version::V5, Fixed::new());
//!     client.open(Instant::from_millis(millis()), modem, &Connect::default())?;
//!     loop {
//!         let now = Instant::from_millis(millis());
//!         client.step(now, |session, event| match event {
//!             Event::Connected(ack) if !ack.session_present => {
//!                 let filter = Filter::new("lamp/7").unwrap();
//!                 let wanted = [Subscription::new(filter, QoS::AtLeastOnce)];
//!                 let _ = session.subscribe(now, &Subscribe::from(&wanted)); // there is room at first
//!             }
//!             Event::Message(_) => { /* switch the lamp, publish its state */ }
//!             _ => {}
//!         })?;
//!         // ...everything else that there is to do
//!     }
//! }
//! ```

use core::fmt;

use embedded_io::{Read, ReadReady, Write, WriteReady};
use mqtt_core::{
    Buffer, Client as Machine, Config, Connect, Disconnect, Event, Instant, PacketId, Publish,
    PublishError, ReasonCode, Receipt, SendError, Subscribe, Unsubscribe, Version, store::Store,
};

use crate::input::is_complete;

/// A client over a transport that can be asked whether it would block, with `RX` bytes to receive in and `TX` to
/// send from.
pub struct Client<T, S, const RX: usize, const TX: usize> {
    session: Session<S, TX>,
    io: Option<T>,
    rx: [u8; RX],
    /// How much of it has been received.
    end: usize,
}

/// What a client can do while it is told an event.
#[derive(Debug)]
pub struct Session<S, const TX: usize> {
    machine: Machine<S>,
    out: Buffer<TX>,
}

/// Why a connection is over. [`open`](Client::open) begins another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error<E> {
    /// The transport failed.
    Transport(E),
    /// The server has closed the connection.
    Closed,
    /// The server has refused the connection [MQTT-3.2.2-7].
    Refused(ReasonCode),
    /// The server has ended the connection (5.0).
    Disconnected(ReasonCode),
    /// The server broke the protocol, or has fallen silent.
    Protocol(mqtt_core::Error),
    /// CONNECT is not valid, or does not fit.
    Connect(SendError),
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => write!(f, "transport: {error:?}"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Refused(reason) => write!(f, "refused: {reason:?}"),
            Self::Disconnected(reason) => write!(f, "disconnected by the server: {reason:?}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for Error<E> {}

impl<S: Store, const TX: usize> Session<S, TX> {
    /// As [`Client::publish`](Machine::publish) of the core.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish(
        &mut self,
        now: Instant,
        message: &Publish<'_>,
    ) -> Result<Option<PacketId>, PublishError> {
        self.machine.publish(now, message, &mut self.out)
    }

    /// As [`Client::publish_again`](Machine::publish_again) of the core.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish_again(
        &mut self,
        now: Instant,
        id: PacketId,
        message: &Publish<'_>,
    ) -> Result<(), PublishError> {
        self.machine.publish_again(now, id, message, &mut self.out)
    }

    /// As [`Client::publish_streamed`](Machine::publish_streamed) of the core.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub fn publish_streamed(
        &mut self,
        now: Instant,
        head: &Publish<'_>,
        len: usize,
    ) -> Result<Option<PacketId>, PublishError> {
        self.machine.publish_streamed(now, head, len, &mut self.out)
    }

    /// As [`Client::payload`](Machine::payload) of the core: how much was taken.
    pub fn payload(&mut self, bytes: &[u8]) -> usize {
        self.machine.payload(bytes, &mut self.out)
    }

    /// As [`Client::subscribe`](Machine::subscribe) of the core.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn subscribe(
        &mut self,
        now: Instant,
        subscribe: &Subscribe<'_>,
    ) -> Result<PacketId, SendError> {
        self.machine.subscribe(now, subscribe, &mut self.out)
    }

    /// As [`Client::unsubscribe`](Machine::unsubscribe) of the core.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn unsubscribe(
        &mut self,
        now: Instant,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Result<PacketId, SendError> {
        self.machine.unsubscribe(now, unsubscribe, &mut self.out)
    }

    /// As [`Client::acknowledge`](Machine::acknowledge) of the core.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn acknowledge(
        &mut self,
        now: Instant,
        receipt: Receipt,
        reason: ReasonCode,
    ) -> Result<(), SendError> {
        self.machine.acknowledge(now, receipt, reason, &mut self.out)
    }

    /// As [`Client::disconnect`](Machine::disconnect) of the core. The client is to be
    /// [stepped](Client::step) until it [has nothing to send](Self::is_flushed).
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn disconnect(
        &mut self,
        now: Instant,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), SendError> {
        self.machine.disconnect(now, disconnect, &mut self.out)
    }

    /// The machine, to be asked what it knows.
    pub const fn machine(&self) -> &Machine<S> {
        &self.machine
    }

    /// Discards the rest of the message that is arriving in parts. Whether there is one.
    pub fn skip(&mut self) -> bool {
        self.machine.skip()
    }

    /// Whether everything that was written has been given to the transport.
    pub const fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }
}

impl<T, S, const RX: usize, const TX: usize> Client<T, S, RX, TX> {
    /// A client that speaks `version` and keeps its session in `store`.
    pub const fn new(version: Version, store: S) -> Self {
        Self::with_config(version, store, Config::DEFAULT)
    }

    /// A client with other than the default [`Config`]. `RX` bytes is what it can hold
    /// [whole](Config::whole).
    pub const fn with_config(version: Version, store: S, mut config: Config) -> Self {
        const { assert!(RX >= Config::MIN_WHOLE, "acknowledgements have to fit") };
        config.whole = RX;
        let machine = Machine::with_config(version, store, config);
        let session = Session { machine, out: Buffer::new() };
        Self { session, io: None, rx: [0; RX], end: 0 }
    }

    /// What it can do, between steps.
    pub const fn session(&mut self) -> &mut Session<S, TX> {
        &mut self.session
    }

    /// Gives the store back, for another client to resume.
    pub fn into_store(self) -> S {
        self.session.machine.into_store()
    }
}

impl<T, S, const RX: usize, const TX: usize> Client<T, S, RX, TX>
where
    T: Read + ReadReady + Write + WriteReady,
    S: Store,
{
    /// Begins a connection on a transport that is open.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`]; the transport is dropped.
    pub fn open(
        &mut self,
        now: Instant,
        io: T,
        connect: &Connect<'_>,
    ) -> Result<(), Error<T::Error>> {
        self.close();
        self.session
            .machine
            .connect(now, connect, &mut self.session.out)
            .map_err(Error::Connect)?;
        self.io = Some(io);
        Ok(())
    }

    /// Ends the connection where it stands, and gives the transport back. The session stays.
    pub fn close(&mut self) -> Option<T> {
        self.session.machine.closed();
        self.session.out.clear();
        self.end = 0;
        self.io.take()
    }

    /// When to step though nothing has been received.
    pub fn deadline(&self) -> Option<Instant> {
        self.session.machine.deadline()
    }

    /// Receives what is there, tells at most one event, and sends what the transport takes, all without
    /// waiting. Whether anything happened: then there may be more to do at once.
    ///
    /// # Errors
    ///
    /// [`Error`] when the connection is over, also when there is none: the transport is to be closed, and
    /// another [opened](Self::open) some time.
    pub fn step(
        &mut self,
        now: Instant,
        handle: impl FnOnce(&mut Session<S, TX>, Event<'_>),
    ) -> Result<bool, Error<T::Error>> {
        let result = self.advance(now, handle);
        if result.is_err() {
            // What was written last may tell the server why.
            let _ = self.send();
            self.session.machine.closed();
        }
        result
    }

    fn advance(
        &mut self,
        now: Instant,
        handle: impl FnOnce(&mut Session<S, TX>, Event<'_>),
    ) -> Result<bool, Error<T::Error>> {
        let received = self.receive()?;
        let Session { machine, out } = &mut self.session;
        if !machine.is_connected() && machine.deadline().is_none() {
            return self.send(); // what was written before the end
        }
        let given = self.rx.get(..self.end).unwrap_or_default();
        let mut input = given;
        let event = machine.poll(now, &mut input, out).map_err(Error::Protocol)?;
        let taken = given.len() - input.len();
        let end = match event {
            Some(Event::Refused(ack)) => Some(Error::Refused(ack.reason)),
            Some(Event::Disconnected(told)) => Some(Error::Disconnected(told.reason)),
            _ => None,
        };
        let told = event.is_some();
        if let Some(event) = event {
            handle(&mut self.session, event);
        }
        self.rx.copy_within(taken..self.end, 0);
        self.end -= taken;
        match end {
            Some(error) => Err(error),
            None => Ok(self.send()? || told || received || taken > 0),
        }
    }

    /// Whether anything was there.
    fn receive(&mut self) -> Result<bool, Error<T::Error>> {
        let Some(io) = &mut self.io else { return Err(Error::Closed) };
        let waits = is_complete(self.rx.get(..self.end).unwrap_or_default());
        let Some(free) = self.rx.get_mut(self.end..).filter(|free| !waits && !free.is_empty())
        else {
            return Ok(false);
        };
        if !io.read_ready().map_err(Error::Transport)? {
            return Ok(false);
        }
        match io.read(free).map_err(Error::Transport)? {
            0 => Err(Error::Closed),
            count => {
                self.end += count;
                Ok(true)
            }
        }
    }

    /// Whether anything was taken.
    fn send(&mut self) -> Result<bool, Error<T::Error>> {
        let (Some(io), out) = (&mut self.io, &mut self.session.out) else {
            return Err(Error::Closed);
        };
        if out.is_empty() || !io.write_ready().map_err(Error::Transport)? {
            return Ok(false);
        }
        let count = io.write(out.as_bytes()).map_err(Error::Transport)?;
        out.consume(count);
        Ok(count > 0)
    }
}

impl<T, S, const RX: usize, const TX: usize> fmt::Debug for Client<T, S, RX, TX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("open", &self.io.is_some()).finish_non_exhaustive()
    }
}
