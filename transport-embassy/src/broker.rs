//! A broker for a few clients: `mqtt-core`'s, of fixed capacity, with transports. One task, no heap.

use core::{
    cell::RefCell,
    fmt,
    future::{Future, pending, poll_fn},
    mem,
    pin::pin,
    task::{Context, Poll},
};

use embassy_futures::{
    join::{join, join_array},
    select::{Either, select},
};
use embassy_sync::waitqueue::WakerRegistration;
use embassy_time::{Duration, Timer, with_timeout};
use embedded_io_async::{Read, Write};
use mqtt_core::{
    Buffer, Sink,
    broker::{
        Action, Broker as Machine, Config, ConnectionId, Host, Memory, Small, Statistics, Verdict,
    },
};

use crate::{
    alarm::Alarm,
    connector::{Connection, Connector},
    input::is_complete,
    resources::now,
};

/// Who may do what. Users who are let in [as somebody](Verdict::AllowAs) have their sessions to themselves.
///
/// ```
/// use mqtt_core::{ReasonCode, broker::{Action, ConnectionId, Verdict}};
/// use transport_embassy::broker::Access;
///
/// /// Whoever knows the password may do everything.
/// struct Password(&'static [u8]);
///
/// impl Access for Password {
///     fn authorize(&mut self, _: ConnectionId, action: &Action<'_>) -> Verdict {
///         match action {
///             Action::Connect(_, connect) if connect.password != Some(self.0) => {
///                 Verdict::Deny(ReasonCode::BadUserNameOrPassword)
///             }
///             action => action.everyone(),
///         }
///     }
/// }
/// ```
pub trait Access {
    /// Whether a client may do something. [`Verdict::Later`] is for nobody here: there is nothing to wait
    /// for.
    fn authorize(&mut self, from: ConnectionId, action: &Action<'_>) -> Verdict;
}

/// Everybody may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everyone;

impl Access for Everyone {
    fn authorize(&mut self, _: ConnectionId, action: &Action<'_>) -> Verdict {
        action.everyone()
    }
}

/// A broker and the buffers of its `CONNECTIONS` connections: packets of up to `RX` bytes are received, and of up
/// to `TX` sent. One or two connections more than clients let one come back whose old connection nobody has missed
/// yet, up to [`SPARE`](mqtt_core::broker::SPARE).
///
/// ```
/// use mqtt_core::broker::{Config, Small};
/// use transport_embassy::broker::{Broker, Everyone};
///
/// // Eight clients, 32 subscriptions, 64 messages in 16 KB: all the memory there is.
/// type Mqtt = Broker<Small<8, 32, 1024, 64, { 16 * 1024 }>, Everyone, 9, 1024, 1280>;
/// assert!(size_of::<Mqtt>() <= 80 * 1024);
/// let broker: Mqtt = Broker::new(Config::default(), Everyone);
/// # let _ = broker;
/// ```
pub struct Broker<M: Memory, A, const CONNECTIONS: usize, const RX: usize, const TX: usize> {
    inner: RefCell<Inner<M, A, CONNECTIONS, TX>>,
    buffers: [[u8; RX]; CONNECTIONS],
}

struct Inner<M: Memory, A, const CONNECTIONS: usize, const TX: usize> {
    machine: Machine<M>,
    host: Connections<A, CONNECTIONS, TX>,
}

impl<
    A,
    const CONNECTIONS: usize,
    const CLIENTS: usize,
    const SUBSCRIPTIONS: usize,
    const FILTERS: usize,
    const MESSAGES: usize,
    const BYTES: usize,
    const RX: usize,
    const TX: usize,
> Broker<Small<CLIENTS, SUBSCRIPTIONS, FILTERS, MESSAGES, BYTES>, A, CONNECTIONS, RX, TX>
{
    /// A broker that nobody is connected to. The [maximum packet
    /// size](Config::maximum_packet_size) is lowered to `RX`.
    pub const fn new(mut config: Config, access: A) -> Self {
        if config.maximum_packet_size as usize > RX {
            config.maximum_packet_size = RX as u32;
        }
        let host = Connections {
            outgoing: [const { Outgoing::NEW }; CONNECTIONS],
            nowhere: Outgoing::NEW,
            access,
        };
        let inner = RefCell::new(Inner { machine: Machine::small(config), host });
        Self { inner, buffers: [[0; RX]; CONNECTIONS] }
    }
}

impl<M: Memory, A: Access, const CONNECTIONS: usize, const RX: usize, const TX: usize>
    Broker<M, A, CONNECTIONS, RX, TX>
{
    /// Serves clients on as many transports as there can be, each of which is
    /// [opened](Connector::connect) anew when a client has gone: for TCP, `net::Listener`.
    ///
    /// Dropping the future ends all connections; sessions and retained messages stay.
    pub async fn serve<C: Connector>(&mut self, transports: [C; CONNECTIONS]) {
        let Self { inner, buffers } = self;
        let inner = &*inner;
        let mut buffers = buffers.iter_mut();
        let all = transports
            .map(|transport| serve(inner, transport, buffers.next().map(<[u8; RX]>::as_mut_slice)));
        join(join_array(all), tick(inner)).await;
    }

    /// What has happened so far.
    pub fn statistics(&self) -> Statistics {
        self.inner.borrow().machine.statistics()
    }
}

impl<M: Memory, A, const CONNECTIONS: usize, const RX: usize, const TX: usize> fmt::Debug
    for Broker<M, A, CONNECTIONS, RX, TX>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("machine", &self.inner.borrow().machine)
            .finish_non_exhaustive()
    }
}

/// How long to wait when a transport cannot be opened.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a client may take for the last bytes.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much is written at once.
const CHUNK: usize = 256;

/// A broker that is shared by the futures of one task.
type Shared<M, A, const CONNECTIONS: usize, const TX: usize> =
    RefCell<Inner<M, A, CONNECTIONS, TX>>;

/// Does what the clock makes due. Polled after all connections, it sees what they have made due.
async fn tick<M: Memory, A: Access, const CONNECTIONS: usize, const TX: usize>(
    inner: &Shared<M, A, CONNECTIONS, TX>,
) {
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        // Once more if that makes something due at once.
        for _ in 0..2 {
            let Inner { machine, host } = &mut *inner.borrow_mut();
            machine.tick(now(), host);
            if !alarm.has_rung(cx, machine.deadline()) {
                break;
            }
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Serves one client after the other on a transport.
async fn serve<C: Connector, M: Memory, A: Access, const CONNECTIONS: usize, const TX: usize>(
    inner: &Shared<M, A, CONNECTIONS, TX>,
    mut transport: C,
    buffer: Option<&mut [u8]>,
) {
    let Some(buffer) = buffer else { return };
    loop {
        match transport.connect().await {
            Ok(mut open) => {
                let (mut reader, mut writer) = open.split();
                connection(inner, &mut reader, &mut writer, buffer).await;
            }
            Err(_) => Timer::after(AGAIN).await,
        }
        transport.close().await;
    }
}

/// Serves one client.
async fn connection<M: Memory, A: Access, const CONNECTIONS: usize, const TX: usize>(
    inner: &Shared<M, A, CONNECTIONS, TX>,
    reader: &mut impl Read,
    writer: &mut impl Write,
    buffer: &mut [u8],
) {
    let opened = {
        let Inner { machine, host } = &mut *inner.borrow_mut();
        let opened = machine.open(now());
        if let Ok(id) = opened {
            let outgoing = host.sink(id);
            outgoing.bytes.clear();
            outgoing.closing = false;
        }
        opened
    };
    let Ok(id) = opened else { return }; // more transports than the machine takes
    let open = Open { inner, id };
    let mut sending = Sending { chunk: [0; CHUNK], start: 0, end: 0 };
    let receiving = open.receive(reader, buffer);
    if let Either::First(()) = select(receiving, open.transmit(writer, &mut sending)).await {
        let _ = with_timeout(FAREWELL, open.drain(writer, &mut sending)).await;
    }
}

/// A connection that is open, until it is dropped.
struct Open<'b, M: Memory, A: Access, const CONNECTIONS: usize, const TX: usize> {
    inner: &'b Shared<M, A, CONNECTIONS, TX>,
    id: ConnectionId,
}

/// Bytes that have been taken out of a sink.
struct Sending {
    chunk: [u8; CHUNK],
    start: usize,
    end: usize,
}

impl<M: Memory, A: Access, const CONNECTIONS: usize, const TX: usize>
    Open<'_, M, A, CONNECTIONS, TX>
{
    /// Receives until the connection is over.
    async fn receive(&self, reader: &mut impl Read, buffer: &mut [u8]) {
        let mut end = 0;
        loop {
            let mut input = buffer.get(..end).unwrap_or_default();
            if !self.take(&mut input) {
                return;
            }
            let left = input.len();
            let waits = is_complete(input) || left >= buffer.len();
            buffer.copy_within(end - left..end, 0);
            end = left;
            let Some((front, back)) = buffer.split_at_mut_checked(end) else { return };
            let mut reading = pin!(async {
                if waits { pending().await } else { reader.read(back).await.unwrap_or_default() }
            });
            let mut polled = false;
            let read = poll_fn(|cx| {
                if let Poll::Ready(count) = reading.as_mut().poll(cx) {
                    return Poll::Ready(Some(count));
                }
                self.register(cx);
                // What is written by now makes room for more.
                let again = mem::replace(&mut polled, true);
                if waits && again {
                    return Poll::Ready(None);
                }
                if again && !self.take(&mut &*front) {
                    return Poll::Ready(Some(0));
                }
                Poll::Pending
            });
            match read.await {
                Some(0) => return,
                Some(count) => end += count,
                None => {}
            }
        }
    }

    /// Gives what was received to the machine. Whether the connection goes on.
    fn take(&self, input: &mut &[u8]) -> bool {
        let Inner { machine, host } = &mut *self.inner.borrow_mut();
        let result = machine.poll(now(), self.id, input, host);
        result.is_ok() && !host.sink(self.id).closing
    }

    fn register(&self, cx: &Context<'_>) {
        self.inner.borrow_mut().host.sink(self.id).waker.register(cx.waker());
    }

    /// Sends what there is to send, until that fails.
    async fn transmit(&self, writer: &mut impl Write, sending: &mut Sending) {
        while self.drain(writer, sending).await.is_some() {
            poll_fn(|cx| {
                self.register(cx);
                let empty = self.inner.borrow_mut().host.sink(self.id).bytes.is_empty();
                if empty { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
        }
    }

    /// Sends what there is now. `None` if that fails.
    async fn drain(&self, writer: &mut impl Write, sending: &mut Sending) -> Option<()> {
        let mut wrote = false;
        loop {
            while let Some(bytes @ [_, ..]) = sending.chunk.get(sending.start..sending.end) {
                let count = writer.write(bytes).await.ok().filter(|count| *count > 0)?;
                sending.start += count;
                wrote = true;
            }
            let taken = self.inner.borrow_mut().host.sink(self.id).take(&mut sending.chunk);
            (sending.start, sending.end) = (0, taken);
            if taken == 0 {
                break;
            }
        }
        if wrote {
            writer.flush().await.ok()?;
        }
        Some(())
    }
}

impl<M: Memory, A: Access, const CONNECTIONS: usize, const TX: usize> Drop
    for Open<'_, M, A, CONNECTIONS, TX>
{
    fn drop(&mut self) {
        let Inner { machine, host } = &mut *self.inner.borrow_mut();
        machine.closed(now(), self.id, host);
    }
}

/// All connections, as the machine sees them.
struct Connections<A, const CONNECTIONS: usize, const TX: usize> {
    outgoing: [Outgoing<TX>; CONNECTIONS],
    /// What is written to connections that are not there.
    nowhere: Outgoing<TX>,
    access: A,
}

/// What is to be sent on a connection.
struct Outgoing<const TX: usize> {
    bytes: Buffer<TX>,
    /// Wakes the task when there is something.
    waker: WakerRegistration,
    /// It has come to its end.
    closing: bool,
}

impl<A: Access, const CONNECTIONS: usize, const TX: usize> Host
    for Connections<A, CONNECTIONS, TX>
{
    type Sink = Outgoing<TX>;

    fn sink(&mut self, to: ConnectionId) -> &mut Outgoing<TX> {
        self.outgoing.get_mut(to.index()).unwrap_or(&mut self.nowhere)
    }

    fn close(&mut self, connection: ConnectionId) {
        let outgoing = self.sink(connection);
        outgoing.closing = true;
        outgoing.waker.wake();
    }

    fn authorize(&mut self, from: ConnectionId, action: &Action<'_>) -> Verdict {
        self.access.authorize(from, action)
    }
}

impl<const TX: usize> Outgoing<TX> {
    const NEW: Self =
        Self { bytes: Buffer::new(), waker: WakerRegistration::new(), closing: false };

    /// Moves as much as fits to the front of `to`. How much.
    fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.bytes.len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), self.bytes.as_bytes().get(..count)) {
            to.copy_from_slice(from);
        }
        self.bytes.consume(count);
        if count > 0 {
            self.waker.wake(); // there may be more to say
        }
        count
    }
}

impl<const TX: usize> Sink for Outgoing<TX> {
    fn room(&self) -> usize {
        self.bytes.room()
    }

    fn capacity(&self) -> usize {
        TX
    }

    fn span(&mut self, len: usize) -> Option<&mut [u8]> {
        self.waker.wake();
        self.bytes.span(len)
    }
}
