//! The network: one connection at a time to one server.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use mqtt_core::{ConnAck, Instant, Version, wire::Packet};
use simulation::{Direction, End, Manners, Note, Script, Server, Weather, Wire};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time,
};
use transport_tokio::{Client, ConnectError, Driver, Options, QoS};

use super::trace::Trace;

/// What an attempt to connect meets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// A connection.
    Open,
    /// A connection that breaks once so many bytes have arrived in a direction.
    Cut(Direction, usize),
    /// An error.
    Refuse(io::ErrorKind),
    /// Nothing, for ever.
    Hang,
}

/// A server and the way to it. What the server does, it does in a task of its own. When the client
/// breaks a rule, the test fails, at the latest when this is dropped.
pub(crate) struct Net<E: End + Send + 'static>(Arc<Inner<E>>);

struct Inner<E> {
    place: Mutex<Place<E>>,
    /// The server's task has something to do.
    changed: Notify,
}

struct Place<E> {
    end: E,
    version: Version,
    wire: Wire,
    start: time::Instant,
    /// What the next attempts meet; after that, [`usual`](Self::usual).
    plans: VecDeque<Plan>,
    usual: Plan,
    /// How many attempts there were, and when the last was.
    attempts: u64,
    /// The connection there is, or was last.
    connection: u64,
    stalled: bool,
    /// The connection was closed, rather than cut.
    closed: bool,
    up: Trace,
    down: Trace,
    lines: Vec<String>,
    client: Vec<Waker>,
}

impl Net<Server> {
    /// A server that follows the protocol, and sees to it that the client does.
    pub(crate) fn server(manners: Manners, version: Version) -> Self {
        Self::new(Server::new(0, manners), version)
    }

    /// Lets the server publish. To how many sessions.
    pub(crate) fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, qos: QoS) -> usize {
        self.with(|server| server.publish(&Note::new(topic, payload, qos)))
    }

    /// The payloads that the server has accepted.
    pub(crate) fn accepted(&self) -> Vec<String> {
        let text = |note: &Note| String::from_utf8(note.payload.clone()).expect("text");
        self.with(|server| server.accepted.iter().map(text).collect())
    }
}

impl Net<Script> {
    /// A server that does what it is told. Before 5.0 it cannot tell its terms.
    pub(crate) fn script(mut terms: ConnAck<'static>, version: Version) -> Self {
        if !version.is_v5() {
            terms = ConnAck { reason: terms.reason, ..ConnAck::default() };
        }
        Self::new(Script::new(version, terms), version)
    }

    /// Lets the server send a packet.
    pub(crate) fn send(&self, packet: &Packet<'_>) {
        self.with(|script| script.send(packet));
    }
}

impl<E: End + Send + 'static> Net<E> {
    fn new(end: E, version: Version) -> Self {
        let place = Place {
            end,
            version,
            wire: Wire::new(0, Weather::CALM),
            start: time::Instant::now(),
            plans: VecDeque::new(),
            usual: Plan::Open,
            attempts: 0,
            connection: 0,
            stalled: false,
            closed: false,
            up: Trace::default(),
            down: Trace::default(),
            lines: Vec::new(),
            client: Vec::new(),
        };
        Self(Arc::new(Inner { place: Mutex::new(place), changed: Notify::new() }))
    }

    /// A client that connects to it.
    pub(crate) async fn connect(&self, options: Options) -> Result<Client, ConnectError> {
        Client::connect_with(self.connector(), options).await
    }

    /// A client that has not connected yet, with its driver.
    pub(crate) fn client(&self, options: Options) -> (Client, Driver) {
        Client::with_connector(self.connector(), options).expect("there is no session file")
    }

    /// Opens connections to it.
    pub(crate) fn connector(
        &self,
    ) -> impl FnMut() -> Pin<Box<dyn Future<Output = io::Result<Cable<E>>> + Send>> + Send + use<E>
    {
        let inner = Arc::clone(&self.0);
        move || Box::pin(open(Arc::clone(&inner)))
    }

    /// What the next attempt meets, after those that were planned before.
    pub(crate) fn plan(&self, plan: Plan) {
        self.0.lock().plans.push_back(plan);
    }

    /// Nothing is planned any more.
    pub(crate) fn forget_plans(&self) {
        self.0.lock().plans.clear();
    }

    /// What every attempt meets for which there is no other plan.
    pub(crate) fn usual(&self, plan: Plan) {
        self.0.lock().usual = plan;
    }

    /// Does something with the server.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut E) -> R) -> R {
        let result = act(&mut self.0.lock().end);
        self.0.changed.notify_one();
        result
    }

    /// Does something with the wire.
    pub(crate) fn wire<R>(&self, act: impl FnOnce(&mut Wire) -> R) -> R {
        let result = act(&mut self.0.lock().wire);
        self.0.changed.notify_one();
        result
    }

    /// Cuts the connection now.
    pub(crate) fn cut(&self) {
        let mut place = self.0.lock();
        place.wire.cut();
        place.over();
    }

    /// Lets nothing happen on the server's side any more, or again.
    pub(crate) fn stall(&self, stalled: bool) {
        self.0.lock().stalled = stalled;
        self.0.changed.notify_one();
    }

    /// The packets since the last time: those that have arrived at the server, and those it has
    /// sent (`<`).
    pub(crate) fn trace(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().lines)
    }

    /// The packets that have arrived at the server since the last time.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.trace().into_iter().filter(|line| !line.starts_with('<')).collect()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.lock().wire.is_open()
    }

    /// How many attempts to connect there were.
    pub(crate) fn attempts(&self) -> u64 {
        self.0.lock().attempts
    }
}

impl<E: End + Send + 'static> Drop for Net<E> {
    fn drop(&mut self) {
        let failed = self.0.place.is_poisoned() && !std::thread::panicking();
        assert!(!failed, "the server found fault with the client: see above");
    }
}

impl<E> Inner<E> {
    fn lock(&self) -> MutexGuard<'_, Place<E>> {
        self.place.lock().expect("the server found no fault with the client")
    }
}

async fn open<E: End + Send + 'static>(inner: Arc<Inner<E>>) -> io::Result<Cable<E>> {
    let plan = {
        let mut place = inner.lock();
        place.attempts += 1;
        place.plans.pop_front().unwrap_or(place.usual)
    };
    match plan {
        Plan::Refuse(error) => return Err(error.into()),
        Plan::Hang => std::future::pending().await,
        Plan::Open | Plan::Cut(..) => {}
    }
    let mut place = inner.lock();
    if place.wire.is_open() {
        place.wire.cut();
        place.over();
    }
    place.wire.open();
    if let Plan::Cut(direction, bytes) = plan {
        place.wire.cut_after(direction, bytes);
    }
    place.connection += 1;
    place.closed = false;
    place.up.clear();
    place.down.clear();
    let now = place.now();
    place.end.opened(now);
    let connection = place.connection;
    drop(place);
    tokio::spawn(serve(Arc::clone(&inner), connection));
    Ok(Cable { inner, connection })
}

/// The server's task for one connection.
async fn serve<E: End>(inner: Arc<Inner<E>>, connection: u64) {
    loop {
        let changed = inner.changed.notified();
        let pause = {
            let mut place = inner.lock();
            if place.connection != connection || !place.turn() {
                return;
            }
            place.pause()
        };
        let _ = time::timeout(pause, changed).await; // either way it is time to go on
    }
}

impl<E: End> Place<E> {
    fn now(&self) -> Instant {
        Instant::from_millis(self.start.elapsed().as_millis() as u64)
    }

    /// Does all that can be done now. Whether the connection goes on.
    fn turn(&mut self) -> bool {
        while self.wire.is_open() && !self.stalled {
            if !self.step() {
                break;
            }
        }
        self.wake();
        self.wire.is_open()
    }

    fn step(&mut self) -> bool {
        let now = self.now();
        let mut moved = false;
        let Self { end, wire, version, lines, up, down, closed, .. } = self;
        if let Some(bytes) = wire.receive(Direction::Up, now, end.room()) {
            up.read(*version, &bytes, &mut |line| lines.push(line));
            end.receive(&bytes);
            moved = true;
        }
        moved |= end.poll(now);
        let len = end.unsent().len().min(wire.room(Direction::Down));
        if len > 0 {
            let bytes = &end.unsent()[..len];
            down.read(*version, bytes, &mut |line| lines.push(format!("< {line}")));
            wire.send(Direction::Down, now, bytes);
            end.sent(len);
            moved = true;
        }
        if end.is_closing() && end.unsent().is_empty() && wire.is_open() {
            *closed = true;
            wire.finish(Direction::Down);
        }
        if !wire.is_open() {
            self.over();
        }
        moved
    }

    /// The connection has ended.
    fn over(&mut self) {
        let now = self.now();
        self.end.lost(now);
        self.wake();
    }

    /// How long nothing happens by itself.
    fn pause(&self) -> Duration {
        let moments = [self.wire.next_arrival(), self.end.deadline()];
        let next = moments.into_iter().flatten().min().filter(|_| !self.stalled);
        let millis = next.map_or(u64::from(u32::MAX), |next| next.since(self.now()).max(1));
        Duration::from_millis(millis)
    }

    /// Lets the client wait until something has happened.
    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.client.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.client.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wake(&mut self) {
        self.client.drain(..).for_each(Waker::wake);
    }
}

/// The client's end of the connection.
pub(crate) struct Cable<E: End> {
    inner: Arc<Inner<E>>,
    connection: u64,
}

impl<E: End> Cable<E> {
    /// What is left of the connection; nothing, when there is another.
    fn place(&self) -> Option<MutexGuard<'_, Place<E>>> {
        let place = self.inner.lock();
        (place.connection == self.connection).then_some(place)
    }
}

impl<E: End> AsyncRead for Cable<E> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut place) = self.place() else { return Poll::Ready(Ok(())) };
        let (now, was_open) = (place.now(), place.wire.is_open());
        let received = place.wire.receive(Direction::Down, now, buffer.remaining());
        if was_open && !place.wire.is_open() {
            place.over();
        }
        if let Some(bytes) = received {
            buffer.put_slice(&bytes);
            self.inner.changed.notify_one();
            return Poll::Ready(Ok(()));
        }
        if place.wire.is_open() {
            return place.wait(cx);
        }
        let end = if place.closed { Ok(()) } else { Err(io::ErrorKind::ConnectionReset.into()) };
        Poll::Ready(end)
    }
}

impl<E: End> AsyncWrite for Cable<E> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(mut place) = self.place() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if !place.wire.is_open() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = bytes.len().min(place.wire.room(Direction::Up));
        if len == 0 {
            return place.wait(cx);
        }
        let now = place.now();
        place.wire.send(Direction::Up, now, &bytes[..len]);
        self.inner.changed.notify_one();
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(mut place) = self.place() {
            place.hang_up();
            self.inner.changed.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl<E: End> Place<E> {
    /// The client closes: what it has sent still arrives.
    fn hang_up(&mut self) {
        if self.wire.is_open() {
            self.closed = true;
            self.wire.finish(Direction::Up);
            if !self.wire.is_open() {
                self.over();
            }
        }
    }
}

impl<E: End> Drop for Cable<E> {
    fn drop(&mut self) {
        // A poisoned lock is the test's to report.
        if let Ok(mut place) = self.inner.place.lock()
            && place.connection == self.connection
        {
            place.hang_up();
            self.inner.changed.notify_one();
        }
    }
}
