//! What does the IO: one connection after the other.

use core::{fmt, future::poll_fn, task::Poll};

use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Timer, with_timeout};
use embedded_io_async::Error as _;
use mqtt_core::{EncodeError, Error, Instant, SendError};

use crate::{
    connector::{Connection, Connector},
    error::ConnectionError,
    options::{Options, Random, Reconnect},
    receive::Receiver,
    resources::{Resources, Sizes, now},
    state::State,
    status::Status,
    transmit::Transmitter,
};

/// How long the server may take to accept the last bytes of a connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connector may take to close.
const CLOSE: Duration = Duration::from_secs(2);

/// Does the IO of a [`Client`](crate::Client) while it [runs](Self::run).
pub struct Runner<'a, R: Sizes> {
    resources: &'a Resources<R>,
    options: Options<'a>,
    receiver: Receiver<'a, R>,
    random: Random,
    /// What the server has from before is to be discarded.
    fresh: bool,
    /// How often connections have failed, or have not lasted, in a row.
    failures: u32,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Failed(ConnectionError),
    /// The client is to end, and has said so.
    Told,
    /// The old session has been discarded, in a connection of its own (before 5.0).
    Discarded,
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(error)
    }
}

impl<'a, R: Sizes> Runner<'a, R> {
    pub(crate) fn new(resources: &'a Resources<R>, options: Options<'a>) -> Self {
        Self {
            resources,
            options,
            receiver: Receiver::new(resources, options.patience),
            random: Random(options.seed),
            fresh: options.connect.clean_start,
            failures: 0,
        }
    }

    /// What the client is to do; changes count from the next connection on. For credentials that expire.
    pub const fn options_mut(&mut self) -> &mut Options<'a> {
        &mut self.options
    }

    /// Connects, and connects again, until the client is [told to end](crate::Client::disconnect).
    ///
    /// It may be dropped at any time, and called again: the session stays.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`] when trying again makes no sense: the server refuses the client for good, another
    /// client [has taken over](ConnectionError::is_takeover), the options make no CONNECT; or when there have
    /// been [attempts](Reconnect::attempts) enough, or the first one failed and is
    /// [not to be repeated](Options::retry_first).
    pub async fn run<C: Connector>(&mut self, mut connector: C) -> Result<(), ConnectionError> {
        let running = Running(self.resources);
        let mut attempt = 0;
        let result = loop {
            let connection = self.resources.with(|state| state.connection);
            let begun = now();
            let end = self.connection(&mut connector).await;
            let accepted = self.resources.with(|state| {
                state.disconnected();
                state.connection != connection
            });
            attempt = if accepted { 1 } else { attempt + 1 };
            let next = match end {
                End::Failed(cause) if self.gives_up(attempt, &cause) => Err(Err(cause)),
                End::Failed(cause) => Ok(self.wait(attempt, cause, accepted, begun)),
                End::Told => Err(Ok(())),
                End::Discarded => Ok(Duration::from_ticks(0)),
            };
            let _ = with_timeout(CLOSE, connector.close()).await;
            match next {
                Err(result) => break result,
                Ok(delay) => {
                    let wait = Timer::after(delay);
                    if let Either::Second(()) = select(wait, told(self.resources)).await {
                        break Ok(());
                    }
                }
            }
        };
        self.resources.with(|state| state.end(result.err()));
        drop(running);
        result
    }

    /// How long to wait before the next attempt, which is told.
    fn wait(
        &mut self,
        attempt: u32,
        cause: ConnectionError,
        accepted: bool,
        begun: Instant,
    ) -> Duration {
        let delay = self.delay(accepted, begun);
        #[cfg(feature = "defmt")]
        defmt::info!("not connected: {}, attempt {} in {} ms", cause, attempt, delay.as_millis());
        self.resources.with(|state| state.set_status(Status::Waiting { attempt, cause, delay }));
        delay
    }

    /// A connection that was lost at once is no success: two clients with one identifier would otherwise
    /// throw each other out for ever, and fast.
    fn delay(&mut self, accepted: bool, begun: Instant) -> Duration {
        let Reconnect { longest, .. } = self.options.reconnect;
        let stable = accepted && now().since(begun) >= longest.as_millis();
        self.failures = if stable { 1 } else { self.failures.saturating_add(1) };
        self.options.reconnect.delay(self.failures, &mut self.random)
    }

    fn gives_up(&self, attempt: u32, cause: &ConnectionError) -> bool {
        let before = self.has_connected();
        let first = !before && !self.options.retry_first;
        let often = self.options.reconnect.attempts.is_some_and(|attempts| attempt > attempts);
        first || often || cause.is_permanent(before)
    }

    /// One connection, from its opening to its end.
    async fn connection<C: Connector>(&mut self, connector: &mut C) -> End {
        if let Either::Second(()) = select(self.receiver.finish(), told(self.resources)).await {
            return End::Told;
        }
        self.resources.with(|state| state.set_status(Status::Connecting));
        let opening = with_timeout(self.options.connect_timeout, connector.connect());
        let mut connection = match select(opening, told(self.resources)).await {
            Either::First(Ok(Ok(connection))) => connection,
            Either::First(Ok(Err(error))) => {
                return ConnectionError::Transport(error.kind()).into();
            }
            Either::First(Err(_)) => return ConnectionError::Timeout.into(),
            Either::Second(()) => return End::Told,
        };
        if let Err(error) = self.begin() {
            return error.into();
        }
        let (mut reader, mut writer) = connection.split();
        let mut transmitter = Transmitter::new(self.resources);
        let discards = self.discards();
        let receiving = self.receiver.receive(&mut reader, discards);
        let end = match select(receiving, transmitter.transmit(&mut writer)).await {
            Either::First(end) => end,
            Either::Second(error) => error.into(),
        };
        self.fresh &= !matches!(end, End::Discarded);
        let gone = matches!(
            end,
            End::Failed(
                ConnectionError::Transport(_)
                    | ConnectionError::Closed
                    | ConnectionError::Protocol(Error::KeepAliveTimeout | Error::HandshakeTimeout)
            )
        );
        if !gone {
            let _ = with_timeout(FAREWELL, transmitter.drain(&mut writer)).await;
        }
        end
    }

    /// Whether there has been a connection, also if it was dropped.
    fn has_connected(&self) -> bool {
        self.resources.with(|state| state.connection > 0)
    }

    /// Whether sessions outlive their connections.
    const fn persists(&self) -> bool {
        self.options.connect.session_expiry_interval > 0
    }

    /// Whether the next connection begins a new session.
    fn is_fresh(&self) -> bool {
        self.fresh && !self.has_connected()
    }

    /// Whether the next connection is only for discarding an old session: before 5.0 a server that does
    /// so keeps none of that connection either.
    fn discards(&self) -> bool {
        let v5 = self.resources.with(|state| state.machine.version().is_v5());
        self.is_fresh() && self.persists() && !v5
    }

    /// Writes CONNECT.
    fn begin(&mut self) -> Result<(), ConnectionError> {
        let buffers = self.resources.buffers();
        let mut connect = self.options.connect;
        connect.clean_start = self.is_fresh() || !self.persists();
        connect.topic_alias_maximum = 0;
        connect.receive_maximum = connect.receive_maximum.min(buffers as u16 - 1);
        self.resources.with(|state| {
            let State { machine, out, .. } = state;
            if !machine.version().is_v5() {
                connect.session_expiry_interval = 0;
                connect.receive_maximum = u16::MAX; // nobody would be told
            }
            machine.connect(now(), &connect, out).map_err(|error| match error {
                SendError::Invalid(error) => ConnectionError::Options(error),
                _ => ConnectionError::Options(EncodeError::NoRoom),
            })
        })
    }
}

impl<R: Sizes> fmt::Debug for Runner<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

/// Resolves when the client is to end.
async fn told<R: Sizes>(resources: &Resources<R>) {
    poll_fn(|cx| {
        resources.with(|state| {
            state.runner.register(cx.waker());
            if state.closing { Poll::Ready(()) } else { Poll::Pending }
        })
    })
    .await;
}

/// However running ends, also half-way, the connection does.
struct Running<'a, R: Sizes>(&'a Resources<R>);

impl<R: Sizes> Drop for Running<'_, R> {
    fn drop(&mut self) {
        self.0.with(|state| {
            if !state.has_ended() {
                state.disconnected();
                state.set_status(Status::Idle);
            }
        });
    }
}
