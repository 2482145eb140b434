//! The task that does the IO.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use mqtt_core::{Disconnect, Error, Instant, Property, ReasonCode, Receipt};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{self, Sleep},
};
use tracing::Instrument;

use crate::{
    commit::Committer,
    error::ConnectionError,
    inbox::Inbox,
    options::{Options, Reconnect},
    out::{Out, SLICES},
    receive::Received,
    shared::Shared,
    state::{Closing, State},
    status::Status,
    transport::{BoxedTransport, Connector},
};

/// Does the IO of a [`Client`](crate::Client) while it is polled, and ends with it: with an error, unless the
/// client was closed by its own side.
///
/// [`Client::connect`](crate::Client::connect) spawns it; [`Client::new`](crate::Client::new) gives it
/// to whoever wants to poll it otherwise: in a `select!`, on a `LocalSet`, beside others in one task.
#[must_use = "nothing happens unless it is polled"]
pub struct Driver(Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send>>);

impl Driver {
    pub(crate) fn new(task: Task) -> Self {
        let span = tracing::info_span!("mqtt", client_id = %task.options.client_id);
        Self(Box::pin(task.run().instrument(span)))
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Driver")
    }
}

impl Future for Driver {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// How often a turn goes on before other tasks have theirs.
const ROUNDS: usize = 16;

/// How long readers may take to catch up before more is received, in milliseconds.
const CATCH_UP: u64 = 10;

/// How long the server may take to see a connection out.
const FAREWELL: Duration = Duration::from_secs(1);

/// Everything the driver has to itself.
pub(crate) struct Task {
    shared: Arc<Shared>,
    connector: Box<dyn Connector>,
    options: Options,
    committer: Committer,
    received: Received,
    /// Why nothing more can be received.
    broken: Option<ConnectionError>,
    /// Acknowledgements that are being passed on.
    answers: Vec<(Receipt, ReasonCode)>,
    /// What is being sent: what the changes that have been committed allow.
    sending: Out,
    /// Something has been written and not flushed.
    unflushed: bool,
    timer: Timer,
    /// Readers that are given time, and until when.
    waiting: Option<(Instant, Vec<Arc<Inbox>>)>,
    /// Whether there has been a connection.
    connected: bool,
    /// Since when there is one.
    since: Option<Instant>,
    /// How often connections have failed, or have not lasted, in a row.
    failures: u32,
    /// How the client has ended.
    last: Status,
}

/// What came of it.
struct Work {
    /// There may be more to do at once.
    worked: bool,
    /// Others have something to do.
    woke: bool,
}

/// Why a connection is over.
enum End {
    /// It failed; with the transport, or so that the server may still be told.
    Failed(ConnectionError),
    /// The client is to be closed, and has said so.
    Closed,
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(error)
    }
}

impl Task {
    pub(crate) fn new(
        shared: Arc<Shared>,
        connector: Box<dyn Connector>,
        options: Options,
        committer: Committer,
    ) -> Self {
        Self {
            shared,
            connector,
            options,
            committer,
            received: Received::default(),
            broken: None,
            answers: Vec::new(),
            sending: Out::default(),
            unflushed: false,
            timer: Timer::default(),
            waiting: None,
            connected: false,
            since: None,
            failures: 0,
            last: Status::Closed,
        }
    }

    /// One connection after the other. The end is told when the task is dropped.
    async fn run(mut self) -> Result<(), ConnectionError> {
        let mut attempt = 0;
        self.last = loop {
            let end = self.connection().await;
            self.received.clear();
            (self.broken, self.waiting) = (None, None);
            self.sending.clear();
            self.shared.with(State::disconnected);
            let cause = match end {
                End::Closed => break Status::Closed,
                End::Failed(cause) => cause,
            };
            attempt = if self.since.is_some() { 1 } else { attempt + 1 };
            if let Some(last) = self.gives_up(attempt, &cause) {
                break last;
            }
            let delay = self.delay();
            tracing::info!(%cause, attempt, ?delay, "not connected");
            self.shared.status.send_replace(Status::Reconnecting { attempt, cause, delay });
            match self.offline(time::sleep(delay)).await {
                Ok(Some(())) => {}
                Ok(None) => break Status::Closed,
                Err(error) => break Status::Failed(error),
            }
        };
        // What was accepted last is to be on disk.
        if let Err(error) = self.commit().await {
            tracing::warn!(%error, "the last changes are not in the session file");
        }
        self.last.result()
    }

    /// How long to wait before the next attempt. A connection that was lost at once is no success:
    /// two clients with one identifier would otherwise throw each other out for ever, and fast.
    fn delay(&mut self) -> Duration {
        let Reconnect { longest, .. } = self.options.reconnect;
        let lasted = self.since.take().map_or(0, |since| self.shared.now().since(since));
        let stable = u128::from(lasted) >= longest.as_millis();
        self.failures = if stable { 1 } else { self.failures.saturating_add(1) };
        self.options.reconnect.delay(self.failures, fastrand::f64())
    }

    fn gives_up(&self, attempt: u32, cause: &ConnectionError) -> Option<Status> {
        if matches!(cause, ConnectionError::Disconnected(refusal)
            if refusal.reason == ReasonCode::SessionTakenOver)
        {
            return Some(Status::TakenOver);
        }
        let first = !self.connected && !self.options.retry_first;
        let often = self.options.reconnect.attempts.is_some_and(|attempts| attempt > attempts);
        (first || often || cause.is_permanent(self.connected))
            .then(|| Status::Failed(cause.clone()))
    }

    /// One connection, from its opening to its end.
    async fn connection(&mut self) -> End {
        let mut io = match self.open().await {
            Ok(Some(io)) => io,
            Ok(None) => return End::Closed,
            Err(error) => return error.into(),
        };
        let end = poll_fn(|cx| self.poll_turn(cx, &mut io)).await;
        let gone = match &end {
            End::Failed(ConnectionError::Transport(_)) => true,
            // A server that has fallen silent is not waited for.
            End::Failed(ConnectionError::Protocol(
                Error::KeepAliveTimeout | Error::HandshakeTimeout,
            )) => true,
            // What was written last does not follow from what is on disk.
            #[cfg(feature = "persistence")]
            End::Failed(ConnectionError::SessionFile(_)) => true,
            _ => false,
        };
        if !gone && time::timeout(FAREWELL, self.see_out(&mut io)).await.is_err() {
            tracing::debug!("the server does not take the last packets");
        }
        end
    }

    /// Opens a transport and writes CONNECT. `None` if the client is closed meanwhile.
    async fn open(&mut self) -> Result<Option<BoxedTransport>, ConnectionError> {
        let limit = self.options.connect_timeout;
        let mut connector = std::mem::replace(&mut self.connector, Box::new(Busy));
        let opening = time::timeout(limit, connector.connect());
        let opened = self.offline(opening).await;
        self.connector = connector;
        let Some(opened) = opened? else { return Ok(None) };
        let io = opened.map_err(|_| ConnectionError::Timeout)??;
        let clean_start = self.clean_start();
        let (shared, now) = (&self.shared, self.shared.now());
        self.options
            .connect(clean_start, |connect| {
                shared.with(|state| {
                    state.machine.connect(now, connect, &mut state.out)?;
                    state.recover_lost(now);
                    Ok(())
                })
            })
            .map_err(ConnectionError::Options)?;
        Ok(Some(io))
    }

    /// Whether the next connection begins a new session.
    fn clean_start(&self) -> bool {
        let resumes = self.options.version.is_v5()
            && self.options.session_expiry_interval > 0
            && self.connected;
        self.options.clean_start && !resumes && !self.committer.is_on_disk()
    }

    /// Waits for something while there is no connection. `None` if the client is to be closed first.
    async fn offline<T>(
        &mut self,
        wait: impl Future<Output = T>,
    ) -> Result<Option<T>, ConnectionError> {
        let mut wait = pin!(wait);
        let mut closing = pin!(closing(Arc::clone(&self.shared)));
        poll_fn(|cx| {
            self.shared.driver.register(cx.waker());
            if self.committer.poll_idle(cx)?.is_ready()
                && let Some((batch, changes)) = self.shared.with(State::take_urgent_changes)
            {
                self.committer.begin(&self.shared, batch, changes);
                let _ = self.committer.poll_idle(cx)?; // wakes this task when it is done
            }
            if let Poll::Ready(done) = wait.as_mut().poll(cx) {
                return Poll::Ready(Ok(Some(done)));
            }
            closing.as_mut().poll(cx).map(|()| Ok(None))
        })
        .await
    }

    /// Puts what has changed on disk.
    async fn commit(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.committer.poll_idle(cx)).await?;
        if let Some((batch, changes)) = self.shared.with(State::take_changes) {
            self.committer.begin(&self.shared, batch, changes);
            poll_fn(|cx| self.committer.poll_idle(cx)).await?;
        }
        Ok(())
    }

    /// Does everything that can be done now.
    fn poll_turn(&mut self, cx: &mut Context<'_>, io: &mut BoxedTransport) -> Poll<End> {
        self.shared.driver.register(cx.waker());
        for _ in 0..ROUNDS {
            let waits = self.waits(cx);
            let reads = !waits && self.broken.is_none();
            let read = match if reads { self.poll_read(cx, io) } else { Poll::Pending } {
                Poll::Ready(Ok(count)) => Some(count),
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error); // it is not told twice
                    None
                }
                Poll::Pending => None,
            };
            // Nothing may be sent before its changes are on disk, so nothing more is written either.
            if let Err(error) = ready!(self.committer.poll_idle(cx)) {
                return Poll::Ready(error.into());
            }
            let now = self.shared.now();
            let full = self.received.is_full();
            let Work { worked, woke } = match self.process(now, waits) {
                Ok(work) => work,
                Err(end) => return Poll::Ready(end),
            };
            if let Some(end) = self.ended() {
                return Poll::Ready(end);
            }
            if let Err(error) = ready!(self.committer.poll_idle(cx)) {
                return Poll::Ready(error.into());
            }
            let wrote = !self.sending.is_empty();
            let wrote = match self.poll_write(cx, io) {
                Poll::Ready(Err(error)) => return Poll::Ready(self.broken(cx, io, error)),
                written => written.is_ready() && wrote, // so there is room for more
            };
            if !worked && let Some(error) = self.broken.take() {
                return Poll::Ready(error.into());
            }
            let moved = match read {
                Some(0) if !worked => return Poll::Ready(ConnectionError::Closed.into()),
                read => worked || wrote || read.is_some() || full && !self.received.is_full(),
            };
            if woke {
                break; // whoever reads has their turn before more is received
            }
            if !moved && !self.timer.poll_expired(cx, &self.shared, now, self.deadline()) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether nothing is to be received yet, because readers are catching up.
    fn waits(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((until, inboxes)) = &mut self.waiting else { return false };
        inboxes.retain(|inbox| inbox.is_behind(cx.waker()));
        if inboxes.is_empty() || *until <= self.shared.now() {
            for inbox in inboxes {
                inbox.give_up();
            }
            self.waiting = None;
        }
        self.waiting.is_some()
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut BoxedTransport,
    ) -> Poll<Result<usize, ConnectionError>> {
        let count = ready!(self.received.poll_read(cx, io))?;
        self.shared.with(|state| state.counters.bytes_received += count as u64);
        Poll::Ready(Ok(count))
    }

    /// Understands what has been received, passes on what has been asked for, and fetches what is to be
    /// sent.
    fn process(&mut self, now: Instant, waits: bool) -> Result<Work, End> {
        let Self { shared, received, answers, options, sending, committer, waiting, .. } = self;
        shared.with(|state| {
            let mut more = false;
            if !waits {
                let processed = received.process(now, state, &mut options.authenticator);
                state.recover_lost(now);
                more = processed?;
                if !state.crowded.is_empty() {
                    *waiting = Some((now + CATCH_UP, std::mem::take(&mut state.crowded)));
                }
            }
            shared.swap_answers(answers); // only now: they are passed on whatever happens
            state.pump(now, answers);
            if let Some(closing) = state.closing.clone()
                && (closing.until <= now || state.has_finished() && sending.is_empty())
            {
                let own = options.clean_start && !committer.is_on_disk();
                say_goodbye(state, now, &closing, own && options.session_expiry_interval > 0);
                return Err(End::Closed);
            }
            let fetches = sending.is_empty() && !state.out.is_empty();
            if fetches {
                std::mem::swap(sending, &mut state.out);
            }
            let commits = state.take_urgent_changes();
            let worked = more || fetches || commits.is_some();
            let woke = !state.wakers.is_empty();
            if let Some((batch, changes)) = commits {
                committer.begin(shared, batch, changes);
            }
            Ok(Work { worked, woke })
        })
    }

    /// What the server has said about the connection.
    fn ended(&mut self) -> Option<End> {
        if let Some((session_present, assigned)) = self.received.news.connected.take() {
            tracing::info!(session_present, "connected");
            if let Some(client_id) = assigned {
                self.options.client_id = client_id;
            }
            self.connected = true;
            self.since = Some(self.shared.now());
            self.shared.status.send_replace(Status::Connected { session_present });
        }
        self.received.news.ended.take().map(End::Failed)
    }

    /// The transport takes nothing any more. What it gives may tell why.
    fn broken(&mut self, cx: &mut Context<'_>, io: &mut BoxedTransport, error: io::Error) -> End {
        loop {
            match self.poll_read(cx, io) {
                Poll::Ready(Ok(1..)) => {}
                // A TLS alert or a WebSocket's last word says more than that the pipe is broken.
                Poll::Ready(Err(ConnectionError::Transport(told)))
                    if matches!(
                        told.kind(),
                        ErrorKind::InvalidData | ErrorKind::ConnectionAborted
                    ) =>
                {
                    return ConnectionError::Transport(told).into();
                }
                _ => return ConnectionError::from(error).into(),
            }
            let now = self.shared.now();
            let Self { shared, received, options, .. } = self;
            let _ = shared.with(|state| {
                let processed = received.process(now, state, &mut options.authenticator);
                state.recover_lost(now);
                processed
            });
            if let Some(end) = self.ended() {
                return end;
            }
        }
    }

    /// Writes and flushes as much as the transport takes. Ready if that was all.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut BoxedTransport,
    ) -> Poll<io::Result<()>> {
        let mut total = 0;
        let result = loop {
            if self.sending.is_empty() {
                break Poll::Ready(Ok(()));
            }
            let mut pieces = [IoSlice::new(&[]); SLICES];
            let count = self.sending.slices(usize::MAX, &mut pieces);
            match Pin::new(&mut *io).poll_write_vectored(cx, &pieces[..count]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.sending.consume(count);
                    total += count as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if total > 0 {
            self.shared.with(|state| state.counters.bytes_sent += total);
        }
        ready!(result)?;
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn deadline(&self) -> Option<Instant> {
        if let Some((until, _)) = self.waiting {
            return Some(until); // before everything else
        }
        self.shared.with(|state| {
            let closing = state.closing.as_ref().map(|closing| closing.until);
            [state.machine.deadline(), closing].into_iter().flatten().min()
        })
    }

    /// Sends what is left, closes our side, and lets the server close its own: a socket that is closed
    /// before everything has been read from it takes back what it has sent.
    async fn see_out(&mut self, io: &mut BoxedTransport) -> Result<(), ConnectionError> {
        for _ in 0..2 {
            self.commit().await?;
            poll_fn(|cx| self.poll_write(cx, io)).await?;
            self.shared.with(|state| std::mem::swap(&mut self.sending, &mut state.out));
        }
        io.shutdown().await?;
        let mut rest = [0; 1024];
        while io.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

impl Drop for Task {
    /// However it ends, also half-way: whoever waits is told.
    fn drop(&mut self) {
        let last = std::mem::replace(&mut self.last, Status::Closed);
        tracing::info!(status = ?last, "closed");
        self.shared.with(State::close);
        self.shared.durable.send_modify(|durable| durable.over = true);
        self.shared.status.send_replace(last);
    }
}

/// Stands for the connector while it is in use.
struct Busy;

impl Connector for Busy {
    fn connect(&mut self) -> crate::transport::Connecting<'_> {
        Box::pin(async { Err(ErrorKind::ResourceBusy.into()) })
    }
}

/// Ends when the client is to be closed, and there is nothing to wait for or no time.
async fn closing(shared: Arc<Shared>) {
    let until = poll_fn(|cx| {
        shared.driver.register(cx.waker());
        shared.with(|state| match &state.closing {
            Some(_) if state.unfinished() == 0 => Poll::Ready(Instant::default()),
            Some(closing) => Poll::Ready(closing.until),
            None => Poll::Pending,
        })
    });
    let until = until.await;
    time::sleep_until(shared.at(until)).await;
}

/// Writes DISCONNECT, with as much of what it is to say as may be said: without one the server would
/// publish the will.
fn say_goodbye(state: &mut State, now: Instant, closing: &Closing, own_session: bool) {
    if !state.machine.is_connected() {
        return;
    }
    let v5 = state.machine.version().is_v5();
    let expiry = closing.session_expiry_interval.or(own_session.then_some(0)).filter(|_| v5);
    let list = Vec::from_iter(expiry.map(Property::SessionExpiryInterval));
    let reason = if v5 { closing.reason } else { ReasonCode::Success };
    let attempts = [(reason, &list[..]), (reason, &[]), (ReasonCode::Success, &[])];
    for (reason, properties) in attempts {
        let disconnect = Disconnect { reason, properties: properties.into() };
        match state.machine.disconnect(now, &disconnect, &mut state.out) {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, ?reason, "not to be said in a DISCONNECT"),
        }
    }
}

/// A timer that is set late rather than often: one that expires too early does no harm.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it expires.
    at: Option<Instant>,
}

impl Timer {
    /// Whether the deadline has come. If not, the task is woken then.
    fn poll_expired(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        now: Instant,
        deadline: Option<Instant>,
    ) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= now {
            return true;
        }
        loop {
            let at = shared.at(deadline);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(time::sleep_until(at)));
            if self.at.is_none_or(|before| deadline < before) {
                sleep.as_mut().reset(at);
                self.at = Some(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            let early = self.at.take().is_some_and(|at| at < deadline);
            if !early {
                return true;
            }
        }
    }
}
